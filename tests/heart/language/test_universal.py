"""Sorted probabilities of two tokenizers, checked against the definition."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from kdref.language import universal_logit_loss
from tests import checks

STUDENT, TEACHER = checks.randn(3, 4, 5, seed=1, scale=2.0), checks.randn(3, 4, 5, seed=2, scale=2.0)
MASK = torch.arange(4) < torch.tensor([4, 1, 3])[:, None]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_universal_loss_matches_the_definition_for_other_vocabularies() -> None:
    for words in (2, 5, 9):
        teacher = checks.randn(3, 4, words, seed=6, scale=2.0)
        values = []
        for s, t in zip(STUDENT.flatten(0, 1).tolist(), teacher.flatten(0, 1).tolist(), strict=True):
            q, p = sorted(checks.softmax(s, 2.0), reverse=True), sorted(checks.softmax(t, 2.0), reverse=True)
            length = max(len(q), len(p))
            q, p = q + [0.0] * (length - len(q)), p + [0.0] * (length - len(p))
            values.append(sum(abs(a - b) for a, b in zip(q, p, strict=True)))
        loss = universal_logit_loss(STUDENT, teacher, temperature=2.0)
        assert loss.item() == pytest.approx(mean(values), rel=1e-10)


def test_universal_loss_does_not_know_which_token_is_which() -> None:
    assert_close(universal_logit_loss(TEACHER.flip(-1), TEACHER).item(), 0.0)
    assert_close(universal_logit_loss(STUDENT[..., [3, 1, 4, 0, 2]], TEACHER), universal_logit_loss(STUDENT, TEACHER))
    assert universal_logit_loss(STUDENT, TEACHER) > 0.1


def test_a_word_of_no_probability_adds_nothing() -> None:
    padded = F.pad(STUDENT, (0, 3), value=-torch.inf)
    assert_close(universal_logit_loss(padded, TEACHER), universal_logit_loss(STUDENT, TEACHER))
    assert_close(universal_logit_loss(STUDENT, padded).item(), 0.0)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"both logits need the same tokens, got \(3, 4, 5\) and \(3, 5\)"):
        universal_logit_loss(STUDENT, TEACHER[:, 0])
    for pair in ((STUDENT.long(), TEACHER), (STUDENT, TEACHER.long())):
        with pytest.raises(TypeError, match=r"must be floating point, got torch\.int64"):
            universal_logit_loss(*pair)
    with pytest.raises(TypeError, match=r"mask must be a bool tensor \(3, 4\), one per token, got torch\.int64"):
        universal_logit_loss(STUDENT, TEACHER, mask=MASK.long())
    with pytest.raises(
        ValueError, match=r"mask must be a bool tensor \(3, 4\), one per token, got torch\.bool \(3, 3\)"
    ):
        universal_logit_loss(STUDENT, TEACHER, mask=MASK[:, :3])
    with pytest.raises(ValueError, match="batch is empty"):
        universal_logit_loss(STUDENT[:0], TEACHER[:0])
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        universal_logit_loss(STUDENT, TEACHER, temperature=0.0)
