"""The experiments of lesson 14: what is rounded, pruned and shown to whom, and that opponents are fair."""

import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab import edge
from kdref.lab.experiments import _edge, edge_longer, edge_pruned, edge_quantised, edge_tuning
from kdref.lab.models import make
from tests.lab.edge.test_files import random_statistics


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[nn.Module, Tensor, int, int]]]:
    """Nothing is trained: each network that would be, what it would be told, with which seed and how many steps."""
    seen: list[tuple[nn.Module, Tensor, int, int]] = []

    def look(model: nn.Module, x: Tensor, said: Tensor, *, seed: int, steps: int, rate: float) -> nn.Module:
        assert torch.equal(x, _edge.parts().train_x)
        seen.append((model, said, seed, steps))
        return model.eval()

    for module in (_edge, edge_quantised):
        monkeypatch.setattr(module, "learn", look)
    for module in (edge_quantised, edge_pruned, edge_longer):
        monkeypatch.setattr(module, "chosen", lambda kind, by: 0.01)
        monkeypatch.setattr(module, "right", lambda model, **_: {"accuracy": 0.5})
    monkeypatch.setattr(edge_quantised, "choices", lambda seed: torch.zeros(4000))
    caches = (_edge.large, _edge.logits)
    for cached in caches:
        cached.cache_clear()
    yield seen
    for cached in caches:
        cached.cache_clear()


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def network(seed: int = 0) -> nn.Sequential:
    return edge.fold_batch_norm(make("cnn1d-8", seed=seed))


def test_settings_are_chosen_on_signals_and_seeds_that_are_not_reported() -> None:
    tuning, reported = _edge.parts(tuning=True), _edge.parts()
    assert torch.equal(tuning.train_x, reported.train_x)
    for one, other in ((tuning.test_x, reported.test_x), (reported.test_x, reported.train_x)):
        assert (torch.cdist(one.flatten(1), other.flatten(1)) > 1e-3).all()
    assert not {seed // 1000 for seed in edge_tuning.SEEDS} & {0, 1, 2}


def test_no_grid_of_learning_rates_is_too_short() -> None:
    for kind in edge_tuning.KINDS:
        rates = edge_tuning.rates(kind)
        for by in ("labels", "teacher"):
            assert rates[0] < edge_tuning.chosen(kind, by) < rates[-1], (kind, by)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_weights_lie_on_grids_of_their_bits_and_the_ends_keep_eight(bits: int) -> None:
    model, by_name = network(), dict(_edge.rounded(network(), bits).named_parameters())
    assert _edge.bits_of(model, bits) == {
        "features.conv1.weight": 8,
        "features.conv2.weight": bits,
        "features.conv3.weight": bits,
        "classifier.weight": 8,
    }
    for name, value in by_name.items():
        channels = value.flatten(1) if value.ndim > 1 else value[:, None]
        levels = max(len(row.unique()) for row in channels)
        if "bias" in name:
            assert torch.equal(value, dict(model.named_parameters())[name])
        elif "conv2" in name or "conv3" in name:
            assert levels <= 2**bits
    assert torch.equal(weights(model), weights(network())), "the network itself was rounded"


def test_teaching_begins_where_rounding_after_training_ends_and_leaves_weights_on_the_learnt_grid() -> None:
    x, model = torch.randn(5, 1, 40), _edge.rounding(network(), 3)
    before = model(x)
    assert_close(before, _edge.rounded(network(), 3)(x))
    steps = [value for name, value in model.named_parameters() if name.endswith("0.step")]
    assert len(steps) == 4
    with torch.no_grad():
        for step in steps:
            step.mul_(1.3)
    taught = model(x)
    assert not torch.equal(taught, before)
    found = _edge.settled(model)
    assert torch.equal(model(x), taught)
    assert not any("parametrizations" in name for name, _ in model.named_parameters())
    for name, step in found.items():
        whole = dict(model.named_parameters())[name].flatten(1) / step[:, None]
        assert_close(whole, whole.round(), rtol=0, atol=1e-4)


def test_who_is_taught_by_the_teacher_never_sees_a_label_and_the_others_never_its_logits(looks: list) -> None:
    labels = _edge.parts().train_y
    for module in (edge_quantised, edge_pruned):
        for arm in module.ARMS:
            _edge.logits(3)  # of the large network, which learns its labels here if it is not known yet
            looks.clear()
            module.run(3, arm)
            said = [targets for _, targets, *_ in looks]
            if arm.endswith(("labels", "teacher")):
                wanted = labels if arm.endswith("labels") else _edge.logits(3)
                assert len(said) == 1, arm
                assert torch.equal(said[0], wanted), arm
            else:
                assert said == [], arm


def test_arms_start_alike_and_take_as_many_steps(looks: list) -> None:
    seen = {}
    for arm in edge_quantised.ARMS[1:]:
        _edge.logits(3)
        looks.clear()
        edge_quantised.run(3, arm)
        if looks:
            model, _, seed, steps = looks[0]
            seen[arm] = (weights(model), seed, steps)
    assert {seed for _, seed, _ in seen.values()} == {103}
    for arm, (start, _, steps) in seen.items():
        other = arm.replace("teacher", "labels")
        assert torch.equal(start, seen[other][0])
        opponent = _edge.STEPS + _edge.FINE
        assert steps == (opponent * (4 if "longer" in arm else 1) if "narrow" in arm else _edge.FINE)
    assert _edge.STEPS + _edge.FINE == _edge.ANEW


def test_longer_arms_differ_from_their_shorter_twins_in_their_steps_only(looks: list) -> None:
    for arm, bits in edge_longer.BITS.items():
        edge_longer.run(3, arm)
        edge_quantised.run(3, arm.replace(", longer", ""))
        (longer, said, seed, steps), (shorter, other_said, other_seed, other_steps) = looks[-2:]
        assert str(bits) in arm
        assert torch.equal(weights(longer), weights(shorter))
        assert torch.equal(said, other_said)
        assert (seed, steps) == (other_seed, 4 * other_steps)


def test_a_narrow_opponent_has_no_fewer_bytes_and_one_channel_less_would() -> None:
    model = edge.fold_batch_norm(make(_edge.LARGE))
    for bits, width in edge_quantised.WIDTHS.items():
        ours = edge_quantised.size(f"{bits} bits | labels", model)
        theirs, less = (edge.weight_bytes(edge.fold_batch_norm(make(f"cnn1d-{w}"))) for w in (width, width - 1))
        assert less < ours <= theirs
    inner = 2 * 32 * 32 * 3  # by hand: two layers of 4 bits, a step and a bias for each of 32 channels, the rest
    ends = 5 * 32 + 32 * 10
    assert edge_quantised.size("4 bits | labels", model) == inner // 2 + ends + 2 * 4 * (3 * 32 + 10)


def test_pruning_nothing_changes_nothing_and_channels_that_say_nothing_cost_nothing() -> None:
    torch.manual_seed(0)
    x, model = torch.randn(6, 1, 40), make("cnn1d-32", seed=0)
    random_statistics(model)
    assert_close(_edge.pruned(model, 32).eval()(x), model.eval()(x))
    silent = torch.randperm(32)[:20]
    for number in (1, 2, 3):
        for name in ("weight", "bias"):
            model.get_submodule(f"features.norm{number}").get_parameter(name).data[silent] = 0.0
    small = _edge.pruned(model, 12).eval()
    assert_close(small(x), model(x), rtol=1e-4, atol=1e-5)
    assert (weights(_edge.pruned(model, 8)).numel()) == weights(make("cnn1d-8")).numel()


def test_importance_by_hand() -> None:
    model = make("cnn1d-2")
    model.get_submodule("features.norm1").get_parameter("weight").data = torch.tensor([-2.0, 1.0])
    reader = torch.zeros(2, 2, 3)
    reader[:, 0, 0] = torch.tensor([3.0, 4.0])  # length 5
    reader[1, 1, 2] = 7.0
    model.get_submodule("features.conv2").get_parameter("weight").data = reader
    assert_close(_edge.importance(model, 1).detach(), torch.tensor([10.0, 7.0]))


def test_random_channels_are_drawn_by_the_seed_and_are_others_than_the_important_ones() -> None:
    model = make("cnn1d-32", seed=0)
    drawn = functools.partial(_edge.pruned, model, 8)
    first, again, other = (weights(drawn(generator=torch.Generator().manual_seed(seed))) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, weights(drawn()))
