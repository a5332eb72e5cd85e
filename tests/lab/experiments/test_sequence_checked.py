"""Reward and judgement on sums: what each method reads, and what its gradient is."""

import pytest
import torch
from torch import Tensor

from kdref.lab.data import sums
from kdref.lab.experiments import _sequence_checked as checked
from kdref.lab.experiments import sequence_checked, sequence_checked_tuning
from kdref.sequence import on_policy_loss
from tests import checks


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that know nothing yet, without training."""
    names = ("teacher", "good", "pupil")
    fresh = {
        name: checked.CausalTransformer(sums.VOCABULARY, length=10, width=8, seed=i) for i, name in enumerate(names)
    }
    monkeypatch.setattr(checked, "teacher", lambda seed: fresh["teacher"])
    monkeypatch.setattr(checked, "good_teacher", lambda seed: fresh["good"])
    monkeypatch.setattr(checked, "student", lambda seed: fresh["pupil"])


def test_advantages_are_rewards_less_the_mean_of_their_own_group() -> None:
    right = torch.zeros(2 * checked.GROUP, dtype=torch.bool)
    right[0] = right[1] = True
    found = checked.advantages(right)
    share = 2 / checked.GROUP
    assert found[:3].tolist() == pytest.approx([1 - share, 1 - share, -share])
    assert (found[checked.GROUP :] == 0).all()


def test_log_ratios_of_zero_leave_the_policy_gradient_of_the_reward() -> None:
    said = checks.randn(3, 5, 4, seed=1).requires_grad_()
    written, advantage = checks.labels_for(15, 4, seed=2).reshape(3, 5), torch.tensor([0.5, -0.25, 0.0])
    on_policy_loss(said, said, written, baseline=advantage[:, None]).backward()
    log_q = said.detach().clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(3):
        for t in range(5):
            total = total - advantage[i] * log_q[i, t].log_softmax(-1)[written[i, t]]
    (total / 15).backward()
    torch.testing.assert_close(said.grad, log_q.grad)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("method", checked.METHODS)
def test_every_method_draws_as_many_texts_and_asks_whom_its_name_says(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, writers, judges, asked, right = 2 * checked.TEXTS * checked.ROUNDS, [], set(), [], checked.draw

    def spy(model: torch.nn.Module, rows: Tensor, generator: torch.Generator) -> Tensor:
        writers.append("teacher" if model is checked.teacher(0) else "itself")
        asked.append(rows)
        return right(model, rows, generator)

    def scores(model: torch.nn.Module, read: Tensor, written: Tensor) -> Tensor:
        known = {id(checked.teacher(0)): "teacher", id(checked.good_teacher(0)): "good"}
        judges.add(known.get(id(model), "itself"))
        return compared(model, read, written)

    compared = checked.scores
    monkeypatch.setattr(checked, "draw", spy)
    monkeypatch.setattr(checked, "scores", scores)
    before = checked.student(0).scores.weight.clone()
    after = checked.after(method, 0, texts=texts, rate=1e-3)
    assert torch.equal(before, checked.student(0).scores.weight)
    assert not torch.equal(before, after.scores.weight)
    assert sum(len(rows) for rows in asked) == texts
    assert set(writers) == {"teacher" if method == "the teacher's right texts" else "itself"}
    extra = {"own text, judged by the teacher": {"teacher"}, "own text, judged by a good teacher": {"good"}}
    assert judges == {"itself"} | extra.get(method, set())
    if method == "own text, rewarded":
        groups = torch.cat(asked).unflatten(0, (-1, checked.GROUP))
        assert (groups == groups[:, :1]).all()
        assert len(groups[:, 0].unique(dim=0)) > 0.9 * len(groups)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("method", ["own right texts", "the teacher's right texts"])
def test_only_right_texts_are_learned(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learned, right = [], checked.sequence_level_loss

    def spy(said: Tensor, written: Tensor, **options: Tensor) -> Tensor:
        learned.append(written)
        return right(said, written, **options)

    monkeypatch.setattr(checked, "sequence_level_loss", spy)
    true = sums.completions(sums.traces(checked.problems(checked.TEXTS * checked.ROUNDS, 0, 2)))
    mixed = torch.where((torch.arange(len(true)) % 3 == 0)[:, None], true, 0)
    texts = iter(mixed.chunk(checked.ROUNDS))
    monkeypatch.setattr(checked, "draw", lambda *_: next(texts))
    checked.after(method, 0, texts=len(true), rate=1e-3)
    assert len(learned) == checked.ROUNDS
    for written in torch.cat(learned):
        assert (written == true).all(dim=1).any()


def test_rates_are_chosen_on_other_seeds_than_those_reported() -> None:
    assert min(sequence_checked_tuning.SEEDS) >= 5000
    assert len(set(sequence_checked.ARMS)) == 2 * len(checked.METHODS) + 3
    assert all(texts % (checked.TEXTS * checked.ROUNDS) == 0 for texts in checked.BUDGETS.values())


def test_what_is_measured_is_the_share_of_right_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(model: object, asked: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        right = sums.completions(sums.traces(asked))
        return right if temperature == 0 else torch.where((torch.arange(len(asked)) % 2 == 0)[:, None], right, sums.END)

    monkeypatch.setattr(checked, "draw", half)
    assert checked.measured(torch.nn.Identity(), 3) == {"accuracy": 0.5, "greedy": 1.0}
