"""Adversarial distillation: what people hand to it, besides scores that fit, and scores that are far off."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers.modeling_outputs import SequenceClassifierOutput

from kdref import adversarial
from kdref.adversarial import (
    FeatureDiscriminator,
    discriminator_loss,
    distribution_matching_loss,
    paired_discriminator_loss,
    student_adversarial_loss,
)
from tests import checks, inner, inputs
from tests.heart.test_adversarial import MANY, OWN, SAMPLES, STUDENT, TARGET, TEACHER, grown
from tests.inner import CHANNELS, Call

PAIRS = [
    Call(adversarial, "paired_discriminator_loss", "ee", students=2),
    Call(adversarial, "distribution_matching_loss", "eee"),
]
LOSSES = [
    *PAIRS,
    Call(adversarial, "discriminator_loss", "ee", students=2),
    Call(adversarial, "student_adversarial_loss", "e"),
]


def scored(features: Tensor) -> Tensor:
    scores: Tensor = adversarial.FeatureDiscriminator(CHANNELS, width=8).double()(features)
    return scores


NETWORKS = [Call(adversarial, "FeatureDiscriminator", "e", how=scored, students=students) for students in (0, 1)]
CALLS = [*LOSSES, *NETWORKS]


def test_no_name_is_forgotten() -> None:
    assert {call.name for call in CALLS} == set(adversarial.__all__)


@pytest.mark.parametrize("check", inner.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_function_passes(check: Callable[[Call], None], call: Call) -> None:
    if check not in (inner.check_numbers, inputs.check_temperature) or call in LOSSES:
        check(call)


@pytest.mark.parametrize("call", PAIRS, ids=str)
def test_sides_of_different_examples_are_refused(call: Call) -> None:
    inner.check_examples(call)


@pytest.mark.parametrize("call", LOSSES, ids=str)
def test_mixed_precision_rounds_nothing_and_huge_scores_give_no_silent_zero(call: Call) -> None:
    inner.check_autocast(call)
    inner.check_no_silent_zero(call)


# Far off


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e4])
def test_extreme_scores_stay_finite(scale: float) -> None:
    student, teacher, many = (scale * x / x.abs().max() for x in (STUDENT, TEACHER, MANY))
    for s in (student, -student, student[:1].expand_as(student)):
        checks.check_extremes(lambda s: student_adversarial_loss(s), s)
        for t in (teacher, -teacher, s, teacher * 0):
            checks.check_extremes(lambda s, t: paired_discriminator_loss(s, t), s, t)
            checks.check_extremes(lambda t, s: paired_discriminator_loss(s, t), t, s)
        for t in (many, -many, many[:1]):
            checks.check_extremes(lambda s, t: discriminator_loss(s, t), s, t)
            checks.check_extremes(lambda t, s: discriminator_loss(s, t), t, s)
    x, own, target = (scale * x / x.abs().max() for x in (SAMPLES, OWN, TARGET))
    for batch in (5, 1):
        checks.check_extremes(lambda *g: distribution_matching_loss(*g), x[:batch], own[:batch], target[:batch])


@pytest.mark.parametrize("dtype", checks.DTYPES)
def test_scores_that_are_far_off_cost_what_they_are_off(dtype: torch.dtype) -> None:
    # log(1 + exp(40960)) = 40960, and each score's gradient is 1; in float16 the difference of the two would overflow
    for far in (10240.0, 40960.0):
        wrong, right = torch.full((4,), -far, dtype=dtype), torch.full((4,), far, dtype=dtype)
        assert student_adversarial_loss(wrong).item() == far
        assert discriminator_loss(right, wrong).item() == paired_discriminator_loss(right, wrong).item() == 2 * far
        assert student_adversarial_loss(right).item() == discriminator_loss(wrong, right).item() == 0
        assert paired_discriminator_loss(wrong, right).item() == 0
        leaves = [tensor.clone().requires_grad_() for tensor in (wrong, right)]
        loss = student_adversarial_loss(leaves[0]) + discriminator_loss(leaves[1], leaves[0])
        (loss + paired_discriminator_loss(leaves[1], leaves[0])).backward()
        assert_close(leaves[0].grad, torch.full_like(wrong, -3 / 4))
        assert_close(leaves[1].grad, torch.full_like(wrong, 2 / 4))


def test_one_example_and_many_axes_are_scored_like_others() -> None:
    network, features = grown(), checks.randn(2, 4, 3, seed=13)
    found = network(features)
    assert found.shape == (2, 4)
    assert_close(network(features[0, :1]), found[0, :1])  # (1,): a batch of one stays a batch
    assert_close(network(features[:1]), found[:1])
    assert_close(network(features.flatten(0, 1)), found.flatten())
    assert_close(grown(1)(features[0])[2:3], grown(1)(features[0, 2:3]))
    single = grown().float()
    for dtype in checks.DTYPES:
        scores = single(features.to(dtype))
        assert scores.dtype == torch.float32
        assert_close(scores, single(features.to(dtype).float()))
    assert grown().to(torch.bfloat16)(features).dtype == torch.bfloat16


def test_extreme_features_are_scored_without_a_bound() -> None:
    network = grown()
    for dtype in checks.DTYPES:
        features = (1e4 * checks.randn(6, 3, seed=14).sign()).to(dtype).requires_grad_()
        scores = network.float()(features)
        student_adversarial_loss(scores).backward()
        assert scores.isfinite().all()
        assert scores.abs().max() > 10, "a logit has no bounds"
        assert features.grad is not None
        assert features.grad.isfinite().all()


# Wrong


def test_bad_scores_are_named() -> None:
    good = torch.zeros(3)
    calls: dict[str, list[Callable[[Any], Any]]] = {
        "student_scores": [
            lambda bad: student_adversarial_loss(bad),
            lambda bad: discriminator_loss(bad, good),
            lambda bad: paired_discriminator_loss(bad, good),
        ],
        "teacher_scores": [lambda bad: discriminator_loss(good, bad), lambda bad: paired_discriminator_loss(good, bad)],
        "samples": [lambda bad: distribution_matching_loss(bad, good[None], good[None])],
        "student_score": [lambda bad: distribution_matching_loss(good[None], bad, good[None])],
        "teacher_score": [lambda bad: distribution_matching_loss(good[None], good[None], bad)],
    }
    cases: list[tuple[Any, type[Exception], str]] = [
        ([1.0, 2.0, 3.0], TypeError, r"{} must be a tensor, got list: use torch\.as_tensor"),
        (None, TypeError, "{} must be a tensor, got NoneType"),
        ((good, good), TypeError, "{} must be a tensor, got tuple: take one of its tensors"),
        (SequenceClassifierOutput(logits=good), TypeError, r"{} must be a tensor, .* its tensors \(\.logits\)"),
        (good > 0, TypeError, r"{} must be floating point, got torch\.bool: take activations"),
        (good.long(), TypeError, r"{} must be floating point, got torch\.int64"),
        (good[:0], ValueError, r"{} must not be empty, got shape \(0,\): nothing has no mean"),
    ]
    for name, functions in calls.items():
        for function in functions:
            for bad, error, message in cases:
                with pytest.raises(error, match=message.format(name)):
                    function(bad)


def test_bad_shapes_are_named() -> None:
    scores, rows = torch.zeros(3), torch.zeros(3, 2)
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: paired_discriminator_loss(scores, scores[:2]), r"the same shape, got \(3,\) and \(2,\)"),
        (lambda: paired_discriminator_loss(scores[:, None], scores), r"the same shape, got \(3, 1\) and \(3,\)"),
        (lambda: paired_discriminator_loss(scores, scores[:1]), r"the same shape, got \(3,\) and \(1,\)"),
        (
            lambda: distribution_matching_loss(scores, scores, scores),
            r"samples and both scores must have one shape \(B, \.\.\.\), got \(3,\), \(3,\) and \(3,\)",
        ),
        (
            lambda: distribution_matching_loss(rows, rows[:1], rows),
            r"got \(3, 2\), \(1, 2\) and \(3, 2\): a score is a",
        ),
        (lambda: distribution_matching_loss(rows, rows, rows[:, :1]), r"got \(3, 2\), \(3, 2\) and \(3, 1\)"),
        (
            lambda: FeatureDiscriminator(2)(torch.zeros(3, 4)),
            r"features must be \(B, 2\), got \(3, 4\): pool maps before",
        ),
        (lambda: FeatureDiscriminator(2)(torch.zeros(2)), r"features must be \(B, 2\), got \(2,\)"),
        (lambda: FeatureDiscriminator(2)(torch.zeros(3, 2, 4, 4)), r"features must be \(B, 2\), got \(3, 2, 4, 4\)"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_bad_sizes_of_a_discriminator_are_named() -> None:
    values: list[Any] = [2.0, "2", None, [2], torch.zeros(2)]
    for value in values:
        with pytest.raises(TypeError, match="num_features must be a whole number, got"):
            FeatureDiscriminator(value)
        with pytest.raises(TypeError, match="width must be a whole number, got"):
            FeatureDiscriminator(2, width=value)
    for number in (0, -3):
        with pytest.raises(ValueError, match=f"num_features must be at least 1, got {number}"):
            FeatureDiscriminator(number)
        with pytest.raises(ValueError, match=f"width must be at least 1, got {number}"):
            FeatureDiscriminator(2, width=number)
    with pytest.raises(TypeError):
        FeatureDiscriminator(2, 64)  # type: ignore[call-arg]


def test_a_score_that_is_infinite_or_nan_is_not_hidden() -> None:
    sure = torch.tensor([math.inf, -math.inf])
    assert student_adversarial_loss(sure[:1]).item() == discriminator_loss(sure[1:], sure[:1]).item() == 0
    assert student_adversarial_loss(sure).item() == discriminator_loss(sure[:1], sure[1:]).item() == math.inf
    assert paired_discriminator_loss(sure, sure).isnan()
