"""The training loop: what it promises about modes, means, failures and interruptions."""

import dataclasses
import math
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.soft_targets import soft_target_loss
from tests import checks

X, Y = checks.randn(10, 3, seed=1, dtype=torch.float32), checks.labels_for(10, 2)


def net(*, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))


def supervised(model: nn.Module):
    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": F.cross_entropy(model(x), y)}

    return step


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


def test_equals_a_loop_written_by_hand() -> None:
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    rows = fit(supervised(ours), ours, Batches(X, Y, batch_size=4, seed=3), sgd(ours), epochs=3)
    optimizer, batches = sgd(theirs), Batches(X, Y, batch_size=4, seed=3)
    for epoch in range(3):
        losses = []
        for x, y in batches:
            loss = F.cross_entropy(theirs(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(x)
        assert rows[epoch]["loss"] == pytest.approx(sum(losses) / 10, rel=1e-6)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_means_are_weighted_by_examples() -> None:
    model = nn.Linear(1, 1)
    values = torch.tensor([[1.0], [1.0], [1.0], [5.0]])  # batches of 3 and 1: mean 2, not (1 + 5) / 2 = 3

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": batch[0].mean() + 0 * model.weight.sum()}

    rows = fit(step, model, Batches(values, batch_size=3), sgd(model), epochs=1)
    assert rows == [{"epoch": 1.0, "loss": pytest.approx(2.0)}]


@dataclasses.dataclass
class Pair:
    name: str
    x: Tensor


Named = namedtuple("Named", ["text", "x"])
IMAGES = torch.zeros(10, 3, 4, 4)
TEN = {
    "a tensor": X,
    "a pair": (X, Y),
    "a list": [X, Y],
    "a dictionary": {"x": X, "y": Y},
    "views of the inputs": ((IMAGES, IMAGES, IMAGES), Y),
    "three images each": (IMAGES, IMAGES, IMAGES),
    "strings first": (["film"] * 10, Y),
    "a string first": ("film", Y),
    "a dictionary of text": {"text": ["film"] * 10, "label": Y},
    "a named tuple": Named("film", X),
    "a model's output": OrderedDict(loss=torch.tensor(0.0), logits=X),  # Hugging Face's are such dictionaries
    "a dataclass": Pair("film", X),
    "a number first": (torch.tensor(3.0), 7, None, X),
    "NumPy": (np.zeros((10, 2), dtype=np.float32), np.zeros(10)),
}


@pytest.mark.parametrize("batch", TEN.values(), ids=TEN)
def test_a_batch_is_counted_by_the_first_axis_of_its_first_tensor(batch: object) -> None:
    # ten examples of loss 2 and two of loss 8: the mean is 3
    model, losses = nn.Linear(1, 1), iter([2.0, 8.0])
    rows = fit(lambda _: {"loss": model.weight.sum() * 0 + next(losses)}, model, [batch, X[:2]], sgd(model), epochs=1)
    assert rows[0]["loss"] == pytest.approx(3.0)


@pytest.mark.parametrize("batch", ["film", ["film", "book"], {"text": "film"}, 3, None, (), torch.tensor(1.0), zip()])
def test_a_batch_without_a_tensor_is_refused_before_it_trains(batch: object) -> None:
    model, seen = nn.Linear(1, 1), []
    message = f"counted by its first tensor, and this {type(batch).__name__} holds none: let batches be tensors"
    with pytest.raises(ValueError, match=message):
        fit(seen.append, model, [batch], sgd(model), epochs=1)  # type: ignore[arg-type]
    assert seen == []


def test_a_term_that_some_batches_lack_is_a_mean_over_the_others() -> None:
    model = nn.Linear(1, 1)

    def step(batch: Tensor) -> dict[str, Tensor]:
        loss = 0 * model.weight.sum() + 1
        return {"loss": loss, "soft": 3 * loss} if len(batch) == 10 else {"loss": loss}

    rows = fit(step, model, [X, X[:5]], sgd(model), epochs=1)
    assert rows == [{"epoch": 1.0, "loss": pytest.approx(1.0), "soft": pytest.approx(3.0)}]


def test_the_student_is_in_train_mode_in_every_epoch() -> None:
    model, modes = net(), []

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        modes.append(model.training and model[1].training)
        return supervised(model)(batch)

    def validate(epoch: int) -> None:
        model.eval()

    fit(step, model, Batches(X, Y, batch_size=10), sgd(model), epochs=3, after_epoch=validate)
    assert modes == [True, True, True]


def test_a_frozen_teacher_is_bit_identical_afterwards() -> None:
    teacher, student = net(seed=1).eval(), net(seed=2)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        with torch.no_grad():
            targets = teacher(batch[0])
        return {"loss": soft_target_loss(student(batch[0]), targets)}

    fit(step, student, Batches(X, Y, batch_size=5), sgd(student), epochs=2)
    after = teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not teacher.training


def test_several_modules_are_trained_together() -> None:
    body, head = nn.Linear(3, 3), nn.Linear(3, 2)
    for module in (body, head):
        module.eval()
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
    fit(lambda b: {"loss": F.cross_entropy(head(body(b[0])), b[1])}, [body, head], [(X, Y)], optimizer, epochs=1)
    assert body.training
    assert head.training


def test_scheduler_and_hooks_are_called_when_they_should_be() -> None:
    model, calls = nn.Linear(3, 2), []
    optimizer = sgd(model, lr=1.0)
    rows = fit(
        supervised(model),
        model,
        Batches(X, Y, batch_size=5),
        optimizer,
        epochs=3,
        scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
        after_step=lambda: calls.append("step"),
        after_epoch=lambda epoch: calls.append("epoch") or {"rate": optimizer.param_groups[0]["lr"], "half": epoch / 2},
    )
    assert calls == ["step", "step", "epoch"] * 3
    assert [row["rate"] for row in rows] == [0.5, 0.25, 0.125]
    assert [row["half"] for row in rows] == [0.5, 1.0, 1.5]
    assert [row["epoch"] for row in rows] == [1.0, 2.0, 3.0]


def test_a_rate_that_falls_on_a_plateau_sees_the_loss_of_each_epoch() -> None:
    model, losses = nn.Linear(1, 1), iter([3.0, 1.0, 2.0, 2.0])
    optimizer = sgd(model, lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
    rows = fit(
        lambda _: {"loss": 0 * model.weight.sum() + next(losses)},
        model,
        [X],
        optimizer,
        epochs=4,
        scheduler=scheduler,
        after_epoch=lambda _: {"rate": optimizer.param_groups[0]["lr"]},
    )
    assert [row["rate"] for row in rows] == pytest.approx([1.0, 1.0, 0.1, 0.01])  # no better after the second epoch


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_epoch_and_term(bad: float) -> None:
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    epochs_seen: list[int] = []

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        hard = F.cross_entropy(model(batch[0]), batch[1]) * 0
        soft = hard + (bad if epochs_seen else 0.0)
        return {"loss": hard + soft, "hard": hard, "soft": soft}

    rows: list[dict[str, float]] = []
    with pytest.raises(FloatingPointError, match=f"epoch 2: term 'soft' is {bad}"):
        fit(step, model, [(X, Y)], sgd(model), epochs=3, after_epoch=lambda e: epochs_seen.append(e), rows=rows)
    assert torch.equal(model.weight, before)
    assert len(rows) == 1


def test_an_interrupt_goes_on_and_the_rows_so_far_are_kept() -> None:
    model, rows = nn.Linear(3, 2), []

    def interrupt(epoch: int) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(supervised(model), model, [(X, Y)], sgd(model), epochs=5, after_epoch=interrupt, rows=rows)
    assert [row["epoch"] for row in rows] == [1.0, 2.0]


def test_bad_input_is_named() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        fit(supervised(model), model, [(X, Y)], sgd(model), epochs=0)
    with pytest.raises(ValueError, match=r"a term named 'loss', got \['hard'\]"):
        fit(lambda b: {"hard": model(b[0]).sum()}, model, [(X, Y)], sgd(model), epochs=1)
    once = iter([(X, Y)])
    with pytest.raises(ValueError, match="no batch in this epoch: pass something that can be iterated anew"):
        fit(supervised(model), model, once, sgd(model), epochs=2)


def test_progress_shows_a_text_bar_on_a_terminal_and_can_be_silenced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Linear(3, 2)
    fit(supervised(model), model, [(X, Y)], sgd(model), epochs=2, progress=True)
    assert "epoch" in capsys.readouterr().err
    monkeypatch.setenv("KDREF_PROGRESS", "off")
    fit(supervised(model), model, [(X, Y)], sgd(model), epochs=2)
    assert capsys.readouterr().err == ""
