"""The experiments of lesson 12: what every arm learns from, and what is measured."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.data import sums
from kdref.lab.experiments import _sequence, sequence_reasoning

ASKED = sums.problems(40, length=_sequence.LENGTH, seed=1)
WRITTEN = torch.stack([sums.completions(sums.traces(ASKED, slip=0.6, seed=k)) for k in range(4)], dim=1)


def writer(slip: float):
    """A model that goes through the sums, and takes a share of the sixes, the first ones of a batch, for fives."""

    def model(tokens: Tensor) -> Tensor:
        asked, step = tokens[:, : _sequence.LENGTH], tokens.shape[1] - _sequence.LENGTH - 1
        steps = sums.traces(asked) if slip == 0 else sums.traces(asked, slip=slip)
        right = sums.completions(steps)[:, step]
        return 1e4 * F.one_hot(right, sums.VOCABULARY).float()[:, None].expand(-1, tokens.shape[1], -1)

    return model


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_reasoning, "samples", lambda seed: (ASKED, WRITTEN))
    monkeypatch.setattr(sequence_reasoning, "PROBLEMS", 40)


@pytest.mark.usefixtures("small")
def test_every_arm_learns_from_what_its_name_says() -> None:
    right = sums.is_right(ASKED, WRITTEN)
    sets = {arm: sequence_reasoning.training_set(0, arm) for arm in sequence_reasoning.ARMS[:-1]}
    for arm in sequence_reasoning.ARMS[:2]:
        asked, completions = sets[arm]
        assert torch.equal(completions[:, 0], sums.answers(asked))
        assert completions.shape[1] == 2
    asked, completions = sets["the algorithm's traces"]
    assert sums.is_right(asked, completions).all()
    assert torch.equal(completions[:, :-1], sums.traces(asked))
    assert torch.equal(sets["the teacher's traces"][1], WRITTEN[:, 0])
    asked, completions = sets["checked traces"]
    assert len(asked) == right.any(dim=1).sum() < 40
    assert sums.is_right(asked, completions).all()
    for problem, completion in zip(asked, completions, strict=True):
        (place,) = (problem == ASKED).all(dim=1).nonzero()[0].tolist()
        assert torch.equal(completion, WRITTEN[place, right[place].int().argmax()])
    few = sets["as few, unchecked"]
    assert len(few[0]) == len(asked)
    assert torch.equal(few[1], WRITTEN[: len(asked), 0])


@pytest.mark.parametrize(("slip", "accuracy", "slips"), [(0.0, 1.0, 0.0), (1.0, (6 / 7) ** 6, 1.0)])
def test_accuracy_and_slips_are_those_of_the_text(slip: float, accuracy: float, slips: float) -> None:
    found = _sequence.measured(writer(slip), seed=3)
    assert found["slips"] == slips
    assert found["accuracy"] == found["greedy"] == pytest.approx(accuracy, abs=0.05)


def test_parts_share_no_seed_and_students_of_a_seed_start_alike() -> None:
    parts = [_sequence.problems(30, 5, part) for part in range(3)]
    assert not any(torch.equal(parts[a], parts[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    one, other = (_sequence.network(_sequence.STUDENT, seed=7) for _ in range(2))
    assert torch.equal(one.scores.weight, other.scores.weight)


def test_training_teaches_the_completions_and_not_the_problems() -> None:
    asked = sums.problems(8, length=_sequence.LENGTH, seed=2)
    completions = sums.completions(sums.traces(asked))
    model = _sequence.train(
        _sequence.network(_sequence.STUDENT, seed=0), asked, completions, steps=150, seed=0, rate=1e-2
    )
    assert not model.training
    assert torch.equal(_sequence.write(model, asked, seed=0, temperature=0.0), completions)
    tokens = torch.cat([sums.prompts(asked), completions], dim=1)
    log_probs = model(tokens[:, :-1]).log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
    assert log_probs[:, _sequence.LENGTH :].mean() > -0.1
    assert log_probs[:, : _sequence.LENGTH].mean() < -1.0
