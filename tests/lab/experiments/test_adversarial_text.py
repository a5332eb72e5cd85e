"""Text by reward: what the discriminator reads and trains, what the student's step is, and that arms are paired."""

import copy
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab.data import sums
from kdref.lab.experiments import _adversarial_text as by_reward
from kdref.lab.experiments import _sequence, adversarial_text, adversarial_text_beyond, adversarial_text_tuning
from kdref.lab.models.causal_transformer import CausalTransformer, up_to_end

ASKED = sums.problems(64, length=_sequence.LENGTH, seed=1)
THEIRS = sums.completions(sums.traces(ASKED))
REWARDED = [arm for arm in adversarial_text.ARMS if arm.startswith("reward")]


def new(seed: int = 0) -> CausalTransformer:
    return _sequence.network(_sequence.STUDENT, seed=seed).eval()


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def short() -> Tensor:
    """Completions that end at different places, what follows filled up with the end."""
    written = THEIRS.clone()
    for row in range(len(written)):
        written[row, 1 + row % _sequence.LENGTH :] = sums.END
    return written


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A teacher that goes through the sums, a student that was never taught, and few problems."""
    monkeypatch.setattr(by_reward, "text", lambda seed: (ASKED, THEIRS))
    monkeypatch.setattr(by_reward, "start", functools.cache(new))  # one and the same, as in earnest
    monkeypatch.setattr(by_reward, "WARM_UP_STEPS", 3)
    monkeypatch.setattr(by_reward, "measured", lambda student, seed: {"accuracy": float(weights(student).sum()) + seed})
    monkeypatch.setattr(by_reward, "compared", lambda student, seed: {"forward": 0.0})
    by_reward.warmed_up.cache_clear()
    yield
    by_reward.warmed_up.cache_clear()


# The discriminator ----------------------------------------------------------------------------------------------------


def test_a_new_discriminator_knows_the_students_features_and_has_no_opinion() -> None:
    student = new()
    judge, _ = by_reward.duel_for(student)
    assert torch.equal(by_reward.judged(judge, ASKED, THEIRS), torch.zeros(64))
    assert torch.equal(judge.blocks[0].linear1.weight, student.blocks[0].linear1.weight)
    shared = {parameter.data_ptr() for parameter in judge.parameters()}
    assert not shared & {parameter.data_ptr() for parameter in student.parameters()}


def test_a_score_is_the_sum_over_the_tokens_up_to_the_end() -> None:
    judge, written = new(3), short()
    expected = torch.zeros(64)
    logits = judge(torch.cat([sums.prompts(ASKED), written], dim=1))
    for row in range(64):
        for place in range(2 + row % _sequence.LENGTH):
            expected[row] += logits[row, _sequence.LENGTH + place, written[row, place]].detach()
    assert_close(by_reward.judged(judge, ASKED, written), expected)


def test_what_stands_after_the_end_counts_neither_in_the_score_nor_in_the_loss() -> None:
    judge, written = new(3), short()
    other = torch.where(up_to_end(written, end=sums.END), written, 4)
    assert not torch.equal(other, written)
    assert_close(by_reward.judged(judge, ASKED, other), by_reward.judged(judge, ASKED, written))
    advantage = torch.randn(64)
    first, second = (
        by_reward.policy_loss(_sequence.scores(judge, ASKED, text), text, advantage) for text in (other, written)
    )
    assert_close(first, second)


def test_a_discriminator_learns_to_prefer_the_teachers_text() -> None:
    duel = by_reward.duel_for(new())
    own = sums.completions(sums.traces(ASKED, slip=1.0))  # the student takes every six for a five
    differ = (own != THEIRS).any(dim=1)
    before = by_reward.compare_texts(duel, ASKED, own, THEIRS)
    assert torch.equal(before, torch.zeros(64))
    for _ in range(80):
        by_reward.compare_texts(duel, ASKED, own, THEIRS)
    reward = by_reward.compare_texts(duel, ASKED, own, THEIRS)
    assert (reward[differ] < 0).double().mean() > 0.9
    assert torch.equal(reward[~differ], torch.zeros(int((~differ).sum())))


def test_a_frozen_discriminator_stays_as_it_is_and_a_reward_has_no_gradient() -> None:
    duel = by_reward.Duel(new(3), torch.optim.SGD(new(3).parameters(), lr=0.1))
    before = weights(duel.judge)
    frozen = by_reward.compare_texts(duel, ASKED, short(), THEIRS, moving=False)
    assert torch.equal(weights(duel.judge), before)
    assert all(parameter.grad is None for parameter in duel.judge.parameters())
    assert not frozen.requires_grad
    duel = by_reward.Duel(duel.judge, torch.optim.SGD(duel.judge.parameters(), lr=0.1))
    moving = by_reward.compare_texts(duel, ASKED, short(), THEIRS)
    assert not moving.requires_grad
    assert_close(moving, frozen), "the reward is what it said before its step"
    assert not torch.equal(weights(duel.judge), before)


# The student's step ---------------------------------------------------------------------------------------------------


def test_an_advantage_is_counted_from_the_mean_of_the_same_problem() -> None:
    reward = torch.tensor([1.0, 2.0, 3.0, 6.0, 100.0, 100.0, 100.0, 104.0])
    expected = torch.tensor([-2.0, -1.0, 0.0, 3.0, -1.0, -1.0, -1.0, 3.0])
    assert_close(by_reward.advantages(reward), expected)


def test_the_steps_gradient_is_that_of_the_log_probabilities_alone() -> None:
    logits = torch.randn(4, 3, sums.VOCABULARY, requires_grad=True, dtype=torch.float64)
    written = torch.tensor([[1, 2, sums.END], [3, sums.END, sums.END], [4, 4, 4], [sums.END] * 3])
    weight = torch.randn((), dtype=torch.float64, requires_grad=True)
    advantage = weight * torch.tensor([2.0, -1.0, 0.0, 0.5], dtype=torch.float64)
    by_reward.policy_loss(logits, written, advantage).backward()
    assert weight.grad is None, "the reward is a constant"
    lengths = [3, 2, 3, 1]
    expected = torch.zeros_like(logits)
    for row, length in enumerate(lengths):  # A (q - 1) at each token, a mean over nine tokens
        for place in range(length):
            chosen = F.one_hot(written[row, place], sums.VOCABULARY)
            expected[row, place] = advantage[row].detach() * (logits[row, place].softmax(-1).detach() - chosen) / 9
    assert_close(logits.grad, expected)


@pytest.mark.usefixtures("quick")
def test_what_is_rewarded_is_written_more_often() -> None:
    """A discriminator whose score is known: it wants the token 2."""

    class Wanted(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return F.one_hot(torch.tensor(2), sums.VOCABULARY).float().expand(*tokens.shape, -1)

    student, generator = new(), torch.Generator().manual_seed(0)
    before = (by_reward.draw(student, ASKED, generator) == 2).double().mean()
    duel: Any = by_reward.Duel(Wanted(), torch.optim.SGD(new().parameters(), lr=0.1))
    rewards = by_reward.rewarded(student, duel, 0, steps=60, rate=3e-3, moving=False)
    assert rewards.shape == (60,)
    assert rewards[-10:].mean() > rewards[:10].mean() + 1
    assert (by_reward.draw(student, ASKED, generator) == 2).double().mean() > before + 0.3
    student = new()
    rewards = by_reward.rewarded(student, duel, 0, steps=60, rate=3e-3, moving=False, shuffled=True)
    assert rewards[-10:].mean() < rewards[:10].mean() + 1, "a reward for another's text teaches nothing"


# Arms -----------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("arm", adversarial_text.ARMS)
def test_an_arm_starts_where_the_others_do_and_is_the_same_twice(arm: str) -> None:
    first, again = (by_reward.continued(arm, 3, steps=25, rate=1e-3, tests=2) for _ in range(2))
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert ("reward" in first) == (arm in REWARDED)
    untouched = float(weights(new(3)).sum()) + 3 + 25  # the mean of the seeds 3 and 53
    assert (first["accuracy"] == untouched) == (arm == "the start")


@pytest.mark.usefixtures("quick")
def test_arms_differ_in_the_discriminator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, tuple[Tensor, Tensor, Tensor, bool, bool]] = {}

    def look(student: Any, duel: Any, seed: int, *, steps: int, rate: float, moving: bool, shuffled: bool) -> Tensor:
        own = by_reward.draw(student, ASKED, torch.Generator().manual_seed(0))
        found[arm] = (weights(student), weights(duel.judge), own, moving, shuffled)
        held = {id(parameter) for group in duel.optimizer.param_groups for parameter in group["params"]}
        assert held == {id(parameter) for parameter in duel.judge.parameters()}
        return torch.zeros(steps)

    monkeypatch.setattr(by_reward, "rewarded", look)
    for arm in REWARDED:
        by_reward.continued(arm, 3, steps=25, rate=1e-3)
    moving = found["reward, moving"]
    for arm, (student, judge, own, *ways) in found.items():
        assert torch.equal(student, weights(new(3)))
        assert torch.equal(own, moving[2])
        assert torch.equal(judge, moving[1]) == (arm != "reward, not warmed up")
        assert ways == [arm != "reward, frozen", arm == "reward, shuffled"]
    unborn = by_reward.duel_for(new(3)).judge
    assert torch.equal(found["reward, not warmed up"][1], weights(unborn))
    assert not torch.equal(moving[1], weights(unborn))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("moving", [False, True])
def test_the_steps_of_the_student_leave_a_frozen_discriminator_alone(moving: bool) -> None:
    duel, student = by_reward.duel_for(new()), new()
    duel.judge.load_state_dict(by_reward.warmed_up(0)[0].state_dict())
    before, kept = weights(duel.judge), copy.deepcopy(student)
    by_reward.rewarded(student, duel, 0, steps=25, rate=1e-3, moving=moving)
    assert torch.equal(weights(duel.judge), before) == (not moving)
    assert not torch.equal(weights(student), weights(kept))


def test_an_unknown_arm_is_refused(quick: None) -> None:
    with pytest.raises(ValueError, match="no arm is named 'praise'"):
        by_reward.continued("praise", 0, steps=25, rate=1e-3)


def test_settings_come_from_other_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    best = {"reward, moving | 0.0001 | 80": 0.6, "goes on with the text | 0.001 | 80": 0.6}
    best |= {"goes on with the text | 0.0003 | 40": 0.9, "reward, frozen | 0.001 | 40": 0.9}
    rows = [{"arm": arm, "accuracy": best.get(arm, 0.5)} for arm in adversarial_text_tuning.ARMS]
    monkeypatch.setattr(adversarial_text_tuning, "load", lambda name: pd.DataFrame(rows))
    adversarial_text_tuning.chosen.cache_clear()
    assert adversarial_text_tuning.chosen("goes on with the text") == (1e-3, 80)
    assert {adversarial_text_tuning.chosen(arm) for arm in REWARDED} == {(1e-4, 80)}
    adversarial_text_tuning.chosen.cache_clear()
    assert not {seed // 1000 for seed in adversarial_text_tuning.SEEDS} & {0, 1, 2}
    assert adversarial_text_beyond.SEEDS == adversarial_text_tuning.SEEDS
    assert not set(adversarial_text_beyond.ARMS) & set(adversarial_text_tuning.ARMS)
