"""What a network costs, against numbers worked out by hand."""

import time

import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from kdref.lab import edge, models
from tests.lab.edge.test_files import random_statistics


def test_multiply_adds_are_those_worked_out_by_hand() -> None:
    assert edge.multiply_adds(models.make("mlp-100x100"), torch.zeros(3, 1, 40)) == 40 * 100 + 100 * 100 + 100 * 10
    # padding 1, stride 2: of 40 samples come 19, then 10, then 5
    convolutions = 19 * 5 * 8 + 10 * 3 * 8 * 8 + 5 * 3 * 8 * 8
    assert edge.multiply_adds(models.make("cnn1d-8"), torch.zeros(2, 1, 40)) == convolutions + 8 * 10


def test_counting_leaves_the_model_as_it_was() -> None:
    model = models.make("cnn1d-8").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    edge.multiply_adds(model, torch.randn(4, 1, 40))
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_bytes_of_weights_by_hand() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 5), nn.Linear(4, 2))
    assert edge.weight_bytes(model) == 4 * (30 + 3 + 8 + 2)
    assert edge.weight_bytes(model, {"0.weight": 8}) == 30 + 4 * 3 + 4 * (3 + 8 + 2)
    assert edge.weight_bytes(model, {"0.weight": 3}) == 12 + 4 * 3 + 4 * (3 + 8 + 2)  # 90 bits are 12 bytes
    with pytest.raises(ValueError, match=r"no weights \['2.weight'\]: there are \['0.bias'"):
        edge.weight_bytes(model, {"2.weight": 8})


@pytest.mark.parametrize("name", ["cnn1d-8", "cnn2d-8", "mlp-32"])
def test_folded_networks_say_the_same_and_have_no_normalisation(name: str) -> None:
    torch.manual_seed(0)
    shape = (1, 8, 8) if name == "cnn2d-8" else (1, 40)
    model = random_statistics(models.make(name, shape=shape, seed=0)).train()
    inputs = torch.randn(6, *shape)
    assert isinstance(model, nn.Sequential)
    folded = edge.fold_batch_norm(model)
    assert not any("norm" in kept for kept, _ in folded.named_modules())
    assert model.training
    assert not folded.training
    assert_close(folded(inputs), model.eval()(inputs), rtol=1e-4, atol=1e-5)
    if name == "cnn1d-8":
        assert [kept for kept, _ in folded.features.named_children()][:3] == ["conv1", "relu1", "conv2"]


def test_timings_are_of_one_call_in_milliseconds_and_the_warm_up_is_left_out() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        if len(calls) <= 10:
            time.sleep(0.02)
        time.sleep(0.008 if len(calls) % 10 == 0 else 0.001)

    found = edge.timings(call, repeats=40)
    assert len(calls) == 50
    assert 1 <= found.median < 4
    assert 8 <= found.p95 < 18
    with pytest.raises(ValueError, match="20 repeats or more, got 19"):
        edge.timings(call, repeats=19)


def test_the_front_holds_what_nobody_beats_in_both() -> None:
    rows = [(1, 0.5), (2, 0.7), (2, 0.6), (3, 0.7), (4, 0.9), (1, 0.5), (5, 0.8)]
    frame = pd.DataFrame(rows, columns=["bytes", "accuracy"], index=list("abcdefg"))
    found = edge.front(frame, cost="bytes", gain="accuracy")
    assert found[found].index.tolist() == ["a", "b", "e", "f"]
    turned = edge.front(frame.assign(bytes=-frame["bytes"]), cost="bytes", gain="accuracy")
    assert turned[turned].index.tolist() == ["e", "g"]
