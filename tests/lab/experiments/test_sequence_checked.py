"""Reward and judgement on sums: what each method reads, and what its gradient is."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.lab.experiments import _sequence_checked as checked
from kdref.lab.experiments import sequence_checked, sequence_checked_tuning
from kdref.sequence import on_policy_loss
from tests import checks


def test_teachers_take_their_share_of_sixes_for_fives() -> None:
    for slip in (0.0, 0.6):
        law = checked.teacher(slip).softmax(-1)
        for so_far in range(7):
            for number in range(7):
                share = law[so_far, number, (so_far + number) % 7].item()
                assert share == pytest.approx(1 - slip if number == 6 else 1.0, abs=0.006)
            assert law[so_far, 6, (so_far + 5) % 7].item() == pytest.approx(slip, abs=0.006)
        sure = (6 / 7 + (1 - slip) / 7) ** checked.LENGTH
        assert checked.measured(checked.teacher(slip))["accuracy"] == pytest.approx(sure, abs=0.04)


def test_the_chance_to_be_right_is_that_of_drawn_texts() -> None:
    logits, generator = (
        checked.teacher() * 0.3 + checks.randn(7, 7, 7, seed=1).float(),
        torch.Generator().manual_seed(0),
    )
    asked = checked.problems(40_000, generator)
    written = checked.draw(logits, asked, generator)
    found = checked.measured(logits)
    assert checked.is_right(asked, written).double().mean().item() == pytest.approx(found["accuracy"], abs=0.008)
    assert found["slips"] == pytest.approx(
        logits.softmax(-1)[torch.arange(7), 6, (torch.arange(7) + 5) % 7].mean().item()
    )
    random = checks.randn(7, 7, 7, seed=2)
    read = checked.said(random, asked[:2], written[:2])
    for i in range(2):
        for place in range(checked.LENGTH):
            before = 0 if place == 0 else int(written[i, place - 1])
            assert torch.equal(read[i, place], random[before, asked[i, place]])


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
    assert_close(said.grad, log_q.grad)


@pytest.mark.parametrize("method", checked.METHODS)
def test_every_method_draws_as_many_texts_and_asks_whom_its_name_says(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, asked, writers, judges = 2 * checked.TEXTS * checked.ROUNDS, [], set(), set()
    before = checked.measured(checked.student(5000)().detach())
    draw, said = checked.draw, checked.said
    known = {"teacher": checked.teacher(), "good": checked.teacher(0.0)}

    def name(logits: Tensor) -> str:
        return next((key for key, table in known.items() if torch.equal(logits, table)), "itself")

    def spy(logits: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        asked.append(rows)
        writers.add(name(logits))
        return draw(logits, rows, generator)

    def read(logits: Tensor, rows: Tensor, written: Tensor) -> Tensor:
        judges.add(name(logits))
        return said(logits, rows, written)

    monkeypatch.setattr(checked, "draw", spy)
    monkeypatch.setattr(checked, "said", read)
    after = checked.measured(checked.after(method, 5000, texts=texts, rate=3e-3)().detach())
    assert checked.measured(checked.student(5000)().detach()) == before
    assert sum(len(rows) for rows in asked) == texts
    assert writers == {"teacher" if method == "the teacher's right texts" else "itself"}
    extra = {"own text, judged by the teacher": {"teacher"}, "own text, judged by a good teacher": {"good"}}
    assert judges == {"itself"} | extra.get(method, set())
    if method == "own text, rewarded":
        groups = torch.cat(asked).unflatten(0, (-1, checked.GROUP))
        assert (groups == groups[:, :1]).all()
        assert len(groups[:, 0].unique(dim=0)) > 0.9 * len(groups)
    if method != "own text, judged by the teacher":
        assert after["accuracy"] > before["accuracy"] + 0.03
        assert after["slips"] < before["slips"]


@pytest.mark.parametrize("method", ["own right texts", "the teacher's right texts"])
def test_only_right_texts_are_learned(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learned, right = [], checked.sequence_level_loss
    checked.student(5000)

    def spy(said: Tensor, written: Tensor) -> Tensor:
        learned.append(written)
        return right(said, written)

    def half(logits: Tensor, asked: Tensor, generator: torch.Generator) -> Tensor:
        sums = asked.cumsum(-1) % 7
        return torch.where((torch.arange(len(asked)) % 2 == 0)[:, None], sums, (sums + 1) % 7)

    drawn = [half(Tensor(), rows, torch.Generator()) for rows in rounds()]
    monkeypatch.setattr(checked, "sequence_level_loss", spy)
    monkeypatch.setattr(checked, "draw", half)
    checked.after(method, 5000, texts=checked.TEXTS * checked.ROUNDS, rate=1e-3)
    assert len(learned) == checked.ROUNDS
    for tokens, texts in zip(learned, drawn, strict=True):
        kept = {tuple(row) for row in texts[::2].tolist()}
        assert {tuple(row) for row in tokens.tolist()} <= kept


def rounds() -> tuple[Tensor, ...]:
    """The problems of each round of writing."""
    asked = checked.problems(checked.TEXTS * checked.ROUNDS, torch.Generator().manual_seed(5000))
    return asked.chunk(checked.ROUNDS)


def test_rates_are_chosen_on_other_seeds_than_those_reported() -> None:
    assert min(sequence_checked_tuning.SEEDS) >= 5000
    assert len(set(sequence_checked.ARMS)) == 3 * len(checked.METHODS) + 3
    assert all(texts % (checked.TEXTS * checked.ROUNDS) == 0 for texts in checked.BUDGETS.values())
