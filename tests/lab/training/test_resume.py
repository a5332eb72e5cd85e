"""A training that is interrupted, wherever, goes on from its checkpoint to the same result, bit for bit."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.self_distillation import EmaTeacher
from tests import checks

X, Y = checks.randn(10, 3, seed=1, dtype=torch.float32), checks.labels_for(10, 2)


class Jittered(Dataset[tuple[Tensor, Tensor]]):
    """Draws from all three global generators, as augmentations do."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(3) + random.random() + np.random.rand()  # noqa: NPY002
        return X[index] + 0.1 * noise, Y[index]


BATCHES: dict[str, Callable[[], Any]] = {
    "index slices": lambda: Batches(X, Y, batch_size=3, seed=5),
    "a DataLoader": lambda: DataLoader(Jittered(), batch_size=3, shuffle=True),
    "a DataLoader with its own generator": lambda: DataLoader(
        Jittered(), batch_size=3, shuffle=True, generator=torch.Generator().manual_seed(7)
    ),
    "a DataLoader with a worker": lambda: DataLoader(Jittered(), batch_size=3, shuffle=True, num_workers=1),
    "a list": lambda: [(X[:3], Y[:3]), (X[3:6], Y[3:6]), (X[6:9], Y[6:9]), (X[9:], Y[9:])],
}


class Interrupted(Exception):
    """Somebody stopped it."""


def train(
    checkpoint: Path | None, *, batches: str = "index slices", stop_after: int | None = None, **settings: Any
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Train a network with everything that has a state; return what it is then, and the rows."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    ema, own = EmaTeacher(model, decay=0.5), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    by_epoch = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    done = 0

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, y = batch[0] + 0.1 * torch.randn(3, generator=own), batch[1]
        return {"loss": F.cross_entropy(model(x), y) if len(x) > 1 else 0 * model[0].weight.sum(), "mean": x.mean()}

    def after_step() -> None:
        nonlocal done
        ema.update(model)
        done += 1
        if done == stop_after:
            raise Interrupted

    rows = fit(
        step,
        model,
        BATCHES[batches](),
        optimizer,
        epochs=3,
        scheduler=by_epoch,
        after_step=after_step,
        after_epoch=lambda epoch: {"rate": optimizer.param_groups[0]["lr"]},
        checkpoint=checkpoint,
        also={"ema": ema, "own": own},
        **settings,
    )
    drawn = {"torch": torch.rand(1), "numpy": np.random.rand(), "python": random.random()}  # noqa: NPY002
    state = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict()}
    return state | {"by_epoch": by_epoch.state_dict(), "drawn": drawn}, rows


def assert_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("every", [None, 1, 3])
@pytest.mark.parametrize("batches", BATCHES)
def test_an_interrupted_training_goes_on_to_the_same_result(tmp_path: Path, batches: str, every: int | None) -> None:
    uninterrupted, rows = train(None, batches=batches)
    stops = [6] if "worker" in batches else range(1, 13, 1 if every == 1 else 3)  # three epochs of four updates
    for stop in stops:
        path = tmp_path / f"{stop}.pt"
        with pytest.raises(Interrupted):
            train(path, batches=batches, stop_after=stop, checkpoint_every=every)
        state, again = train(path, batches=batches, checkpoint_every=every)
        assert_same(state, uninterrupted)
        assert again == rows


def test_it_may_be_interrupted_again_and_again(tmp_path: Path) -> None:
    uninterrupted, rows = train(None, accumulate=2, clip_norm=0.5)
    for _ in range(5):  # six updates: each call comes one further
        with pytest.raises(Interrupted):
            train(tmp_path / "c.pt", accumulate=2, clip_norm=0.5, checkpoint_every=1, stop_after=2)
    state, again = train(tmp_path / "c.pt", accumulate=2, clip_norm=0.5, checkpoint_every=1)
    assert_same(state, uninterrupted)
    assert again == rows
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_checkpoint_changes_nothing_in_a_training_that_is_not_interrupted(tmp_path: Path) -> None:
    uninterrupted, rows = train(None, batches="a DataLoader")
    for every in (None, 2):
        state, others = train(tmp_path / f"{every}.pt", batches="a DataLoader", checkpoint_every=every)
        assert_same(state, uninterrupted)
        assert others == rows


def test_a_training_that_is_done_is_not_done_again_but_goes_on_if_asked_for_more(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = []

    def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        steps.append(1)
        return {"loss": F.cross_entropy(model(batch[0]), batch[1])}

    def call(epochs: int) -> list[dict[str, float]]:
        return fit(step, model, [(X, Y)], optimizer, epochs=epochs, checkpoint=tmp_path / "c.pt")

    first = call(2)
    nn.init.zeros_(model.weight)
    assert call(2) == first
    assert len(steps) == 2
    assert model.weight.abs().sum() > 0
    assert [row["epoch"] for row in call(3)] == [1, 2, 3]
    assert len(steps) == 3


def test_a_scheduler_that_is_called_after_each_step_is_kept_without_being_named(tmp_path: Path) -> None:
    def rates(stop: int, checkpoint: Path | None) -> list[float]:
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        seen: list[float] = []

        def step(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            if len(seen) == stop:
                raise Interrupted
            seen.append(optimizer.param_groups[0]["lr"])
            return {"loss": F.cross_entropy(model(batch[0]), batch[1])}

        with contextlib.suppress(Interrupted):
            fit(
                step,
                model,
                BATCHES["a list"](),
                optimizer,
                epochs=2,
                after_step=scheduler.step,
                checkpoint=checkpoint,
                checkpoint_every=1,
            )
        return seen

    assert rates(3, tmp_path / "c.pt") + rates(99, tmp_path / "c.pt") == rates(99, None)


SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from kdref.lab.training import resume
from tests.lab.training.test_resume import train
path, kill_at = Path(sys.argv[1]), int(sys.argv[2])
save = torch.save
def saved(content, file):
    if content["updates"] == kill_at:
        file.write(b"half of it")
        file.flush()
        os.kill(os.getpid(), 9)
    save(content, file)
torch.save = saved
train(path, checkpoint_every=1)
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows kills otherwise")
def test_a_process_that_is_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", SCRIPT, str(path), "6"], cwd=root, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert torch.load(path, weights_only=True)["updates"] == 5
    state, rows = train(path, checkpoint_every=1)
    uninterrupted, expected = train(None)
    assert_same(state, uninterrupted)
    assert rows == expected
    assert [left.name for left in tmp_path.iterdir()] == ["c.pt"]  # nor is the half left


def simple(path: Path, *, model: nn.Module | None = None, batches: Any = None, **settings: Any) -> None:
    model = nn.Linear(3, 2) if model is None else model
    settings = {"epochs": 3, **settings}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = BATCHES["index slices"]() if batches is None else batches
    fit(lambda b: {"loss": F.cross_entropy(model(b[0]), b[1])}, model, batches, optimizer, checkpoint=path, **settings)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": nn.Linear(3, 3)}, "size mismatch"),
        ({"accumulate": 2}, "made with .*'accumulate': 1.* and this is .*'accumulate': 2"),
        ({"also": {"own": torch.Generator()}}, r"holds the state of \[\], and \['own'\] are to be restored"),
        ({"batches": [(X, Y)]}, "draw from 0 generators, and drew from 1"),
    ],
    ids=["another network", "other accumulation", "more to keep", "other batches"],
)
def test_the_checkpoint_of_another_training_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    simple(tmp_path / "c.pt", epochs=1)
    with pytest.raises(ValueError, match=f"of another training .*{reason}.*: delete it to start anew"):
        simple(tmp_path / "c.pt", **change)


def test_batches_that_have_become_fewer_are_refused(tmp_path: Path) -> None:
    def stop() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        simple(
            tmp_path / "c.pt", batches=BATCHES["a list"](), checkpoint_every=2, also={}, after_epoch=lambda _: stop()
        )
    with pytest.raises(ValueError, match="batches gave 1, and 4 were trained on: these are others"):
        simple(tmp_path / "c.pt", batches=[(X, Y)], checkpoint_every=2)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"text", lambda b: b[9:]])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "c.pt"
    simple(path, epochs=1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"c\.pt is no checkpoint of fit, or damaged .*: delete it to start anew"):
        simple(path)


def test_the_checkpoint_before_is_replaced_and_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    simple(path, epochs=1)
    before = path.read_bytes()
    with path.open("rb") as opened:
        simple(path, epochs=2)
        assert opened.read() == before
    assert path.read_bytes() != before


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "random": subprocess.run}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="is no checkpoint of fit, or damaged"):
        simple(tmp_path / "c.pt")


def test_what_has_no_state_to_keep_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a checkpoint can't hold bank: state_dict and load_state_dict are missing"):
        simple(tmp_path / "c.pt", also={"bank": []})
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_don_t_replace_those_that_were(tmp_path: Path) -> None:
    model, path = nn.Linear(3, 2), tmp_path / "c.pt"
    simple(path, model=model, epochs=1)
    good = path.read_bytes()

    def spoil(epoch: int) -> None:
        nn.init.constant_(model.bias, float("nan"))

    with pytest.raises(FloatingPointError, match=r"epoch 2: bias not finite: .*c\.pt stays as it was"):
        simple(path, model=model, after_epoch=spoil)
    assert path.read_bytes() == good
