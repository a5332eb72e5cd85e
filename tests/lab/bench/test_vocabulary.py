"""The benchmark of vocabulary-sized losses compares equals, and says so where it does not. No test looks at a clock."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.lab.bench import __main__ as command
from kdref.lab.bench import peers, timing, vocabulary
from kdref.lab.bench.vocabulary import ANOTHER, OURS
from kdref.language import fused_linear_loss

SMALL = (12, 4, 30)


@pytest.fixture
def instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which ours takes half a second and others one; memory in which ours takes 2 MB and others 50."""

    def interleaved(functions: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
        return {name: [0.5 if name == OURS else 1.0] * repeats for name in functions}

    monkeypatch.setattr(timing, "interleaved", interleaved)
    sizes = iter([2_000_000, 50_000_000, 50_000_000] * 4)
    monkeypatch.setattr(timing, "peak_extra_memory", lambda function: next(sizes))
    monkeypatch.setattr(timing, "multiplication_rate", lambda: 1e-4)
    monkeypatch.setattr(timing, "rates", lambda: "rates")
    monkeypatch.setattr(vocabulary, "SHAPES", (SMALL,))


def absent(beta: float) -> peers.Loss:
    raise ImportError("No module named 'absent'")


@pytest.mark.parametrize(("kind", "mix", "beta"), vocabulary.KINDS.values())
def test_the_dense_form_has_our_value_and_our_gradients(kind: str, mix: float | None, beta: float) -> None:
    inputs = [x.double() for x in vocabulary.layers(*SMALL)]
    ours = vocabulary.value_and_gradients(lambda *x: fused_linear_loss(*x, kind=kind, mix=mix), *inputs)
    plain = vocabulary.value_and_gradients(lambda *x: vocabulary.dense(*x, kind=kind, mix=mix), *inputs)
    assert_close(plain, ours, rtol=1e-9, atol=1e-12)
    assert ours[2].norm() > 1e-3
    assert vocabulary._is_ours(plain, ours)
    assert not vocabulary._is_ours((plain[0], plain[1], 1.01 * plain[2]), ours)
    assert not vocabulary._is_ours((plain[0] * torch.nan, *plain[1:]), ours)
    if mix is not None:
        assert mix == beta


def test_the_shapes_are_those_of_the_targets() -> None:
    assert vocabulary.SHAPES == ((1024, 512, 32_000), (2048, 256, 128_000))
    assert [x.shape for x in vocabulary.layers(*SMALL)] == [(12, 4), (30, 4), (12, 4), (30, 4)]


@pytest.mark.usefixtures("instruments")
def test_the_table_has_ratios_the_rate_and_a_mark_for_what_is_another_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "liger", absent)
    monkeypatch.setattr(peers, "trl", lambda beta: lambda *x: 2 * vocabulary.dense(*x, kind="forward", mix=None))
    skipped, _, legend, _, head, _, forward, jensen_shannon, _, rates = vocabulary.run(20).splitlines()
    assert skipped == "liger is skipped: No module named 'absent' (see requirements-bench.txt)"
    assert ANOTHER in legend
    assert head == "| loss | (N, H, V) | ours, s | ours, MB | ours, GFLOP/s (of the machine's) | dense | trl |"
    # 4 products · 2 · 12 · 4 · 30 operations in half a second are 23,040 a second, of 100,000
    cells = f"(12, 4, 30) | 0.50 | 2 | 0 (23%) | 2.00 / 25.0 | 2.00 / 25.0 {ANOTHER} |"
    assert forward == f"| forward KL | {cells}"
    assert jensen_shannon == f"| Jensen-Shannon, 1/2 | {cells}"
    assert rates == "rates"


def test_a_round_is_one_in_ten_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    monkeypatch.setattr(vocabulary, "SHAPES", (SMALL,))
    monkeypatch.setattr(vocabulary, "_measure", lambda *arguments: rounds.append(arguments[2]) or {})
    monkeypatch.setattr(timing, "rates", lambda: "rates")
    monkeypatch.setattr(timing, "multiplication_rate", lambda: 1.0)
    for repeats in (1, 20, 50):
        vocabulary.run(repeats)
    assert rounds == [1, 1, 2, 2, 5, 5]


def test_peers_get_what_their_losses_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = """
class LigerFusedLinearJSDLoss:
    def __init__(self, **settings):
        assert settings == {"weight_hard_loss": 0.0, "weight_soft_loss": 1.0, "beta": 0.25, "compiled": False}
    def __call__(self, student, weight, teacher, teacher_weight, labels):
        assert labels.tolist() == [0] * len(student)
        return (student @ weight.T - teacher @ teacher_weight.T).sum()
"""
    trainer = """
from trl.nowhere import everything
class GKDTrainer:
    @staticmethod
    def generalized_jsd_loss(student_logits, teacher_logits, labels=None, beta=0.5, temperature=1.0):
        assert student_logits.shape == teacher_logits.shape == (1, 12, 30) and labels.tolist() == [[0] * 12]
        return beta * F.relu(student_logits - teacher_logits).sum() + torch.zeros(())
"""
    files = {"liger_kernel/chunked_loss/jsd_loss.py": kernel, "trl/experimental/gkd/gkd_trainer.py": trainer}
    for name, code in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(code, encoding="utf-8")
        (path.parents[-len(tmp_path.parts) - 2] / "__init__.py").write_text("raise RuntimeError", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    inputs = vocabulary.layers(*SMALL)
    student, weight, teacher, teacher_weight = inputs
    difference: Tensor = student @ weight.T - teacher @ teacher_weight.T
    assert_close(peers.liger(0.25)(*inputs), difference.sum())
    assert_close(peers.trl(0.25)(*inputs), 0.25 * difference.relu().sum())


def test_the_command_knows_it() -> None:
    assert "vocabulary" in command.names()
    assert vocabulary.THREADS == (1, 2)
