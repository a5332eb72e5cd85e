"""The loop's updates: several batches for one, gradients cut short, and how seldom the device is read."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.lab.training.means import LOOK_EVERY, Means
from tests import checks

X, Y = checks.randn(14, 3, seed=1), checks.labels_for(14, 2)


def linear() -> nn.Linear:
    model = nn.Linear(3, 2).double()
    with torch.no_grad():
        model.weight.copy_(checks.randn(2, 3, seed=2))
        model.bias.zero_()
    return model


def trained(batch_size: int, **settings: Any) -> tuple[nn.Linear, list[dict[str, float]], int]:
    """The model after two epochs, the rows, and the number of updates."""
    model, updates = linear(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    rows = fit(
        lambda b: {"loss": F.cross_entropy(model(b[0]), b[1])},
        model,
        Batches(X, Y, batch_size=batch_size, seed=3),
        optimizer,
        epochs=2,
        after_step=lambda: updates.append(1),
        **settings,
    )
    return model, rows, len(updates)


@pytest.mark.parametrize(("batch_size", "accumulate", "whole"), [(2, 3, 6), (3, 2, 6), (1, 14, 14), (4, 9, 14)])
def test_accumulated_batches_are_one_large_batch_also_where_the_last_is_smaller(batch_size, accumulate, whole) -> None:
    # 14 in batches of 3, by two: 3 + 3, 3 + 3, 2; in batches of 4, by nine: 4 + 4 + 4 + 2
    several, rows, updates = trained(batch_size, accumulate=accumulate)
    one, expected, expected_updates = trained(whole)
    torch.testing.assert_close(several.weight, one.weight, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(several.bias, one.bias, rtol=1e-10, atol=1e-12)
    assert updates == expected_updates
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in expected], rel=1e-10)


@pytest.mark.parametrize("norm", [0.1, 1.0])
def test_the_whole_gradient_is_cut_to_its_length(norm: float) -> None:
    model = linear()
    before = torch.cat([model.weight.detach().flatten(), model.bias.detach()])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)  # the update is the gradient
    fit(lambda b: {"loss": 9 * F.cross_entropy(model(X), Y)}, model, [X], optimizer, epochs=1, clip_norm=norm)
    moved = torch.cat([model.weight.detach().flatten(), model.bias.detach()]) - before
    assert moved.norm().item() == pytest.approx(norm, rel=1e-5)
    start = linear()
    (9 * F.cross_entropy(start(X), Y)).backward()
    whole = torch.cat([start.weight.grad.flatten(), start.bias.grad])
    torch.testing.assert_close(moved / moved.norm(), -whole / whole.norm())


def test_a_gradient_that_is_short_enough_is_left_alone() -> None:
    plain, _, _ = trained(5)
    cut, _, _ = trained(5, clip_norm=1e3)
    assert torch.equal(plain.weight, cut.weight)


def test_accumulated_gradients_are_cut_once_as_a_whole() -> None:
    several, _, _ = trained(2, accumulate=3, clip_norm=0.05)
    one, _, _ = trained(6, clip_norm=0.05)
    torch.testing.assert_close(several.weight, one.weight, rtol=1e-10, atol=1e-12)


def test_terms_read_seldom_give_the_same_rows_and_weights() -> None:
    model, rows, _ = trained(3)
    for every in (1, 2, 3, 100):
        seldom, others, _ = trained(3, look_every=every)
        assert others == rows
        assert torch.equal(seldom.weight, model.weight)


class CountReadings(TorchDispatchMode):
    """Counts how often a number is read out of a tensor: on an accelerator each time waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_step_reads_a_number_but_those_whose_turn_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = Means.look
    monkeypatch.setattr(Means, "look", lambda self: (looks.append(len(self._unread)), look(self))[1])
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)  # Adam on the CPU reads its own count of steps

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        loss = F.cross_entropy(model(batch[0]), batch[1])
        return {"loss": loss, "half": loss / 2, "third": loss / 3}

    batches = Batches(X, Y, batch_size=1)
    with CountReadings() as each:
        fit(step, model, batches, optimizer, epochs=1)
    assert each.count == 3 * 14
    looks.clear()
    with CountReadings() as seldom:
        fit(step, model, batches, optimizer, epochs=1, look_every=5, clip_norm=1.0)
    assert seldom.count == 0  # tolist is one transfer, and no such reading
    assert looks == [5, 5, 4]
    assert LOOK_EVERY >= 10


def test_a_term_is_what_it_was_in_its_step_though_read_later() -> None:
    temperature = nn.Parameter(torch.tensor(4.0))
    optimizer = torch.optim.SGD([temperature], lr=1.0)

    def step(batch: Tensor) -> dict[str, Tensor]:
        return {"loss": temperature * 1.0, "temperature": temperature}

    rows = fit(step, nn.Identity(), [X, X], optimizer, epochs=1, look_every=10)  # 4, then 3
    assert rows[0]["temperature"] == rows[0]["loss"] == 3.5


def test_a_loss_that_is_not_finite_and_read_later_says_that_the_weights_are_spoilt() -> None:
    model, losses = linear(), iter([1.0, math.nan, 1.0, 1.0])

    def step(batch: Tensor) -> dict[str, Tensor]:
        return {"loss": model.weight.sum() * 0 + next(losses)}

    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(FloatingPointError, match=r"epoch 1: term 'loss' is nan\. It was read 2 steps later, and the"):
        fit(step, model, [X] * 4, optimizer, epochs=1, look_every=4)


@pytest.mark.parametrize("name", ["accumulate", "checkpoint_every", "look_every", "clip_norm"])
@pytest.mark.parametrize("value", [0, -1])
def test_settings_out_of_range_are_named(name: str, value: int) -> None:
    least = "positive" if name == "clip_norm" else "at least 1"
    with pytest.raises(ValueError, match=f"{name} must be {least}, got {value}"):
        trained(3, **{name: value})
