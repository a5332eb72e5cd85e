"""The benchmark of losses compares equals: plain forms are oracles of ours, peers are told apart or skipped."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.lab.bench import __main__ as command
from kdref.lab.bench import losses, peers, plain_losses, timing
from kdref.lab.bench.losses import ANOTHER, Row
from kdref.soft_targets import soft_target_loss

SIZE = (6, 5)
SOFT_TARGETS = Row("soft targets", soft_target_loss, plain_losses.soft_targets, losses.logits, sizes=[SIZE])


def in_double(row: Row, seed: int) -> tuple[Tensor, ...]:
    """The row's inputs at a small size, in float64, other ones for each seed."""
    tensors = [x.double() if x.is_floating_point() else x for x in row.inputs(8, 5)]
    return tuple(x.roll(seed, 0) if place else x for place, x in enumerate(tensors))


def assert_plain_form_is_ours(row: Row) -> None:
    for seed in (0, 1, 2):
        inputs = in_double(row, seed)
        ours, plain = (losses.value_and_gradient(loss, *inputs) for loss in (row.ours, row.plain))
        assert_close(plain, ours, rtol=2e-6, atol=1e-8)  # a learned temperature is float32
        assert ours[1].norm() > 1e-3


@pytest.fixture
def instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which everything but ours takes 6 ms, and ours 4; memory in which ours takes 2 MB and others 3."""

    def interleaved(functions: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
        assert next(iter(functions)) == losses.OURS
        return {name: [0.004 if name == losses.OURS else 0.006] * repeats for name in functions}

    sizes = iter([2_000_000, 3_000_000, 3_000_000, 3_000_000])
    monkeypatch.setattr(timing, "interleaved", interleaved)
    monkeypatch.setattr(timing, "peak_extra_memory", lambda function: next(sizes))
    monkeypatch.setattr(timing, "rates", lambda: "rates")


@pytest.mark.parametrize("row", losses.ROWS, ids=lambda row: row.loss)
def test_the_plain_form_has_our_value_and_our_gradient(row: Row) -> None:
    assert_plain_form_is_ours(row)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda s, t: plain_losses.soft_targets(t, s),
        lambda s, t: plain_losses.soft_targets(s, t, temperature=3.9),
        lambda s, t: plain_losses.soft_targets(s, t) + 0.01,
        lambda s, t: plain_losses.soft_targets(s.detach(), t) + 0 * s.sum(),
    ],
)
def test_a_plain_form_that_is_not_ours_is_noticed(wrong: Callable[..., Tensor]) -> None:
    with pytest.raises(AssertionError):
        assert_plain_form_is_ours(SOFT_TARGETS._replace(plain=wrong))


def test_every_loss_on_logits_has_a_row_at_both_sizes() -> None:
    names = [row.loss for row in losses.ROWS]
    assert len(names) == len(set(names)) == 11
    assert all(row.sizes == ((256, 1000), (64, 21843)) for row in losses.ROWS)
    assert {row.loss: row.target for row in losses.ROWS}["decoupled (DKD)"] == "at least 1.2 / 0.8"


def test_value_and_gradient_leave_the_student_as_it_was() -> None:
    student, weight = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    for _ in range(2):  # a second call must not add to the first one's gradient
        value, gradient = losses.value_and_gradient(lambda s, w: (s * w).sum(), student, weight)
        assert (value.item(), gradient.tolist()) == (13.0, [3.0, 5.0])
    assert student.grad is None
    assert not student.requires_grad
    assert not value.requires_grad


def test_a_multiple_of_ours_is_told_from_another_loss() -> None:
    student, teacher = losses.logits(*SIZE)
    ours = losses.value_and_gradient(soft_target_loss, student, teacher)

    def compare(loss: Callable[..., Tensor]) -> bool:
        return losses._is_multiple(losses.value_and_gradient(loss, student, teacher), ours)

    assert compare(lambda s, t: soft_target_loss(s, t) / 16)
    assert not compare(lambda s, t: -soft_target_loss(s, t))
    assert not compare(lambda s, t: soft_target_loss(s, t) + 1)  # a cross-entropy, say: the gradient alone is ours
    assert not compare(lambda s, t: soft_target_loss(s, t, temperature=2.0))
    assert not compare(lambda s, t: 0 * s.sum() + soft_target_loss(s, t).detach())  # no gradient
    assert not compare(lambda s, t: soft_target_loss(s, t) * torch.nan)


@pytest.mark.usefixtures("instruments")
def test_the_table_has_a_cell_for_every_loss_and_marks_what_is_another_one() -> None:
    def absent() -> peers.Loss:
        raise ImportError("No module named 'absent'")

    others = {"same": lambda: plain_losses.soft_targets, "other": lambda: plain_losses.logit_matching, "absent": absent}
    skipped, _, legend, _, head, _, row, _, rates = losses.run(3, [SOFT_TARGETS._replace(others=others)]).splitlines()
    assert skipped == "absent is skipped: No module named 'absent' (see requirements-bench.txt)"
    assert ANOTHER in legend
    assert head == "| loss | shape | ours, ms | ours, MB | plain form | same | other | target |"
    cells = f"4.00 | 2.0 | 1.50 / 1.50 | 1.50 / 1.50 | 1.50 / 1.50 {ANOTHER} | at least 0.9 / 0.9 |"
    assert row == f"| soft targets | (6, 5) | {cells}"
    assert rates == "rates"


def test_a_row_without_a_peer_has_a_dash_where_another_row_has_one() -> None:
    others = {"same": lambda: plain_losses.soft_targets}
    lines = losses.run(1, [SOFT_TARGETS, SOFT_TARGETS._replace(others=others)]).splitlines()
    assert [line.split(" | ")[5] == "-" for line in lines[-4:-2]] == [True, False]


def test_peers_are_imported_without_the_packages_around_their_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dkd = "from mmrazor.registry import MODELS\n@MODELS.register_module()\nclass DKDLoss(dict): pass"
    wrapped = "class KDLoss:\n def __init__(self, *ios, scale): self.scale = scale\n"
    wrapped += " def __call__(self, s, t, y=None): return self.scale * (s['']['output'] - t['']['output']), y"
    files = {
        "textbrewer/losses.py": "from .compatibility import two\ndef kd(s, t, add): return s + t + two + add",
        "textbrewer/compatibility.py": "two = 2",
        "mmrazor/models/losses/decoupled_kd.py": dkd,
        "timm/loss/cross_entropy.py": "class Smooth(dict): pass",
        "torchdistill/losses/mid_level.py": wrapped,
    }
    for name, code in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")
        for package in list(path.relative_to(tmp_path).parents)[:-1]:
            (tmp_path / package / "__init__.py").write_text("raise RuntimeError('all of it')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    assert peers.textbrewer("kd", add=3)(10, 20) == 35
    assert peers.mmrazor("decoupled_kd", "DKDLoss", tau=4.0) == {"tau": 4.0}
    assert peers.timm("Smooth", smoothing=0.1) == {"smoothing": 0.1}
    assert peers.torchdistill("KDLoss", "", scale=2)(5, 3, "labels") == (4, "labels")
    packages = {name.split("/")[0] for name in files}
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in packages}


def test_a_package_that_is_not_there_raises_import_error() -> None:
    with pytest.raises(ImportError, match="No module named 'no_such_peer'"):
        peers._bare_import("no_such_peer.losses")


def test_the_command_takes_both_numbers_of_threads_and_names_no_helper(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "losses" in command.names()
    assert not {"peers", "plain_losses", "timing"} & set(command.names())
    monkeypatch.setattr(losses, "run", lambda repeats: f"{torch.get_num_threads()} of {repeats}")
    command.main(["losses", "--repeats", "4"])
    command.main(["losses", "--repeats", "4", "--threads", "1"])
    assert capsys.readouterr().out.splitlines()[::4] == ["1 of 4", "2 of 4", "1 of 4"]
