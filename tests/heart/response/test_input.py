"""Losses on logits: what people hand to them, besides two tensors that fit."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from kdref import response
from kdref.response import (
    LearnableTemperature,
    dist_loss,
    dkd_loss,
    hard_label_loss,
    label_smoothing_loss,
    logit_matching_loss,
    nkd_loss,
    nontarget_class_divergence,
    standardize_logits,
    standardized_kd_loss,
    target_class_divergence,
    virtual_teacher_logits,
)
from kdref.soft_targets import kl_divergence, soft_target_loss
from tests import checks, inputs
from tests.inputs import Call

DIVERGENCES = [Call(response, name, "zzy") for name in ("target_class_divergence", "nontarget_class_divergence")]
WITH_TEMPERATURE = [
    *(Call(response, name, "zzy") for name in ("dkd_loss", "nkd_loss")),
    Call(response, "standardized_kd_loss", "zz"),
]
FINITE = [Call(response, "logit_matching_loss", "zz"), Call(response, "standardize_logits", "z"), WITH_TEMPERATURE[2]]
OTHERS = [Call(response, "hard_label_loss", "zz"), Call(response, "label_smoothing_loss", "zy", {"smoothing": 0.0})]
DIST, MULTI_LABEL = Call(response, "dist_loss", "zz"), Call(response, "multi_label_loss", "zz")
VIRTUAL = Call(response, "virtual_teacher_logits", "y", {"num_classes": inputs.CLASSES})
CALLS = [*DIVERGENCES, *WITH_TEMPERATURE, *FINITE[:2], *OTHERS, DIST]
AXES = (inputs.check_class_dim, inputs.check_one_class, inputs.check_class_axis)


@pytest.mark.parametrize("check", inputs.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", [*CALLS, MULTI_LABEL, VIRTUAL], ids=str)
def test_every_function_passes(check, call: Call) -> None:
    if call not in (MULTI_LABEL, VIRTUAL) or check not in AXES:
        check(call)


def test_the_virtual_teacher_puts_its_classes_where_it_is_told() -> None:
    inputs.check_class_dim(VIRTUAL)
    logits = virtual_teacher_logits(torch.tensor([[[2, 0]]]), num_classes=3, confidence=0.9, class_dim=1)
    assert logits.shape == (1, 3, 1, 2)
    assert_close(logits.softmax(dim=1)[0, :, 0], torch.tensor([[0.05, 0.9], [0.05, 0.05], [0.9, 0.05]]))


@pytest.mark.parametrize("call", [*DIVERGENCES, *WITH_TEMPERATURE, MULTI_LABEL], ids=str)
def test_a_temperature_may_differ_per_example(call: Call) -> None:
    inputs.check_temperature_per_example(call)


@pytest.mark.parametrize("call", [*WITH_TEMPERATURE, DIST, MULTI_LABEL], ids=str)
def test_large_temperatures(call: Call) -> None:
    inputs.check_large_temperature(call)


@pytest.mark.parametrize("call", [call for call in [*CALLS, MULTI_LABEL] if call not in FINITE], ids=str)
def test_a_class_that_a_teacher_lacks_makes_no_nan(call: Call) -> None:
    inputs.check_missing_class(call)


@pytest.mark.parametrize("call", FINITE, ids=str)
def test_where_only_finite_logits_have_a_value_others_give_nan(call: Call) -> None:
    assert all(call(*tensors).isnan().any() for tensors in inputs.lacking(call))


@pytest.mark.parametrize("call", [*CALLS, MULTI_LABEL, VIRTUAL], ids=str)
def test_an_empty_batch_is_no_nan(call: Call) -> None:
    inputs.check_empty(call, refused=call.name.endswith("loss"))


@pytest.mark.parametrize("call", [*DIVERGENCES, *WITH_TEMPERATURE[:2], OTHERS[1], VIRTUAL], ids=str)
def test_labels_out_of_range_are_named(call: Call) -> None:
    inputs.check_labels(call)


@pytest.mark.parametrize("call", [*DIVERGENCES, *WITH_TEMPERATURE[:2], VIRTUAL], ids=str)
def test_where_no_label_means_nothing_it_is_refused(call: Call) -> None:
    index = call.tensors.index("y")
    unlabelled = call.rows()[index].masked_fill(torch.arange(inputs.EXAMPLES) == 5, -100)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\), got -100"):
        call(*call.replaced(index, unlabelled))
    with pytest.raises(TypeError, match=r"got torch\.float64: soft ones name no one class"):
        call(*call.replaced(index, checks.randn(inputs.EXAMPLES, inputs.CLASSES).softmax(-1)))


# A class that one side lacks


def test_the_parts_of_dkd_without_a_class() -> None:
    # teacher (½, ½, 0), student thirds, label 0: ½ log(½ / ⅓) + ½ log(½ / ⅔); the others are (1, 0) and (½, ½): log 2
    fair, teacher = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -math.inf]])
    target, others = (math.log(1.5) + math.log(0.75)) / 2, math.log(2)
    assert target_class_divergence(fair, teacher, torch.tensor([0])).item() == pytest.approx(target, abs=1e-6)
    assert nontarget_class_divergence(fair, teacher, torch.tensor([0])).item() == pytest.approx(others, abs=1e-6)
    loss = dkd_loss(fair, teacher, torch.tensor([0]), temperature=1.0)
    assert loss.item() == pytest.approx(target + 8 * others, abs=1e-5)
    # label 2, which the teacher lacks: TCKD = log(1 / ⅔), and the others agree
    assert target_class_divergence(fair, teacher, torch.tensor([2])).item() == pytest.approx(math.log(1.5), abs=1e-6)
    assert nontarget_class_divergence(fair, teacher, torch.tensor([2])).item() == pytest.approx(0.0, abs=1e-6)


def test_a_teacher_who_knows_only_the_label_says_nothing_of_the_others() -> None:
    certain, labels = torch.tensor([[0.0, -math.inf, -math.inf]]), torch.tensor([0])
    student = torch.tensor([[0.0, 1.0, -1.0]], requires_grad=True)
    assert nontarget_class_divergence(student, certain, labels).tolist() == [0.0]
    loss = dkd_loss(student, certain, labels, temperature=1.0)
    assert_close(loss, F.cross_entropy(student, labels))
    assert_close(nkd_loss(student, certain, labels), F.cross_entropy(student, labels))
    (loss + nkd_loss(student, certain, labels)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_normalised_distillation_without_a_class() -> None:
    # teacher (½, ½, 0), student thirds, label 0: ½ log 3 + 1.5 · log 2; a label that the teacher lacks: 1.5 · log 2
    fair, teacher = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -math.inf]])
    for label, expected in ((0, 0.5 * math.log(3) + 1.5 * math.log(2)), (2, 1.5 * math.log(2))):
        assert nkd_loss(fair, teacher, torch.tensor([label])).item() == pytest.approx(expected, abs=1e-6)
    # one that both lack is no 0 · ∞
    assert nkd_loss(teacher, teacher, torch.tensor([2])).item() == pytest.approx(1.5 * math.log(2), abs=1e-6)


def test_hard_labels_need_a_choice() -> None:
    student, teacher = torch.zeros(1, 3), torch.tensor([[0.0, -math.inf, 1.0]])
    assert hard_label_loss(student, teacher).item() == pytest.approx(math.log(3))
    for value in (math.nan, math.inf):
        assert hard_label_loss(student, torch.tensor([[0.0, value, 1.0]])).isnan()
    assert hard_label_loss(student, torch.full((1, 3), -math.inf)).isnan()


# Labels


def test_smoothing_drops_examples_without_a_label() -> None:
    student, labels = checks.randn(5, 4, seed=1), torch.tensor([3, -100, 0, -100, 1])
    expected = label_smoothing_loss(student[labels >= 0], labels[labels >= 0])
    assert_close(label_smoothing_loss(student, labels), expected)
    assert label_smoothing_loss(student, torch.full((5,), -100)).item() == 0.0


def test_soft_labels_are_smoothed_like_others() -> None:
    student, labels = checks.randn(5, 4, seed=1), checks.labels_for(5, 4)
    one_hot = F.one_hot(labels, 4).double()
    assert_close(label_smoothing_loss(student, one_hot), label_smoothing_loss(student, labels))
    mixed = 0.7 * one_hot + 0.3 * one_hot.flip(0)
    expected = 0.7 * label_smoothing_loss(student, labels) + 0.3 * label_smoothing_loss(student, labels.flip(0))
    assert_close(label_smoothing_loss(student, mixed), expected)
    leaf = mixed.clone().requires_grad_()
    label_smoothing_loss(student.requires_grad_(), leaf).backward()
    assert leaf.grad is None
    # a label's 0 on a class that the student lacks counts nothing, where nothing is smoothed
    student = torch.tensor([[0.0, 0.0, -math.inf]])
    assert label_smoothing_loss(student, torch.tensor([[0.5, 0.5, 0.0]]), smoothing=0.0).item() == pytest.approx(
        math.log(2)
    )


# Scales


def test_z_scores_have_their_value_at_any_scale() -> None:
    expected = torch.tensor([[-1.0, 0.0, 1.0]])
    for scale in (1e-20, 1.0, 1e19, 1e30, 1e37):
        assert_close(
            standardize_logits(scale * torch.tensor([[1.0, 2.0, 3.0]]), eps=0.0), expected, rtol=1e-5, atol=1e-6
        )
    student = torch.tensor([[1.0, 3.0, 2.0]])
    plain = standardized_kd_loss(student, expected)
    assert_close(standardized_kd_loss(student, 1e30 * expected), plain)
    assert_close(standardized_kd_loss(1e30 * student, expected), plain)
    leaf = (1e30 * student).requires_grad_()
    standardized_kd_loss(leaf, expected).backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_equal_rows_of_any_sign_have_scores_of_zero() -> None:
    for value in (-3.0, -0.1, 0.0, 0.1, -1e30):  # the mean of ten -0.1s is not -0.1
        assert (standardize_logits(torch.full((2, 10), value), eps=0.0) == 0).all()


def test_logit_matching_at_1e30_is_no_silent_zero() -> None:
    assert logit_matching_loss(torch.tensor([[1e30, 0.0]]), torch.zeros(1, 2)).item() == math.inf


def test_dist_relates_all_places_of_the_images() -> None:
    student, teacher = checks.randn(2, 4, 3, 3, seed=1), checks.randn(2, 4, 3, 3, seed=2)
    whole = dist_loss(student, teacher, inter_weight=0.0, class_dim=1)
    apart = [dist_loss(s[None], t[None], inter_weight=0.0, class_dim=1) for s, t in zip(student, teacher, strict=True)]
    assert not torch.isclose(whole, torch.stack(apart).mean(), rtol=1e-3)
    authors = (z.transpose(1, 3).reshape(-1, 4) for z in (student, teacher))  # hunto/DIST_KD, segmentation
    assert_close(dist_loss(*authors, inter_weight=0.0), whole)


# Settings


def test_weights_per_example_must_fit_the_labels() -> None:
    call = WITH_TEMPERATURE[0]
    for name in ("target_weight", "nontarget_weight"):
        with pytest.raises(ValueError, match=rf"{name} must be a number or \(12,\), got shape \(12, 1\)"):
            call(*call.rows(), **{name: torch.ones(12, 1)})
    weights = torch.rand(12, dtype=torch.float64)
    images = call(*call.maps(), class_dim=1, nontarget_weight=weights.reshape(inputs.IMAGES))
    assert_close(images, call(*call.rows(), nontarget_weight=weights))


def test_settings_of_the_learnable_temperature_are_named() -> None:
    for name in ("initial", "minimum", "maximum"):
        with pytest.raises(TypeError, match=f"{name} must be a number, got '4'"):
            LearnableTemperature(**{name: "4"})
    with pytest.raises(TypeError, match="reversal must be a number, got None"):
        LearnableTemperature()(reversal=None)
    with pytest.raises(ValueError, match=r"reversal must be a number, got shape \(2,\): there is one temperature"):
        LearnableTemperature()(reversal=torch.ones(2))
    assert LearnableTemperature()(reversal=torch.tensor(0.5)).item() == pytest.approx(4.0)


def test_dense_losses_compile_to_one_graph() -> None:
    student, teacher = checks.randn(2, 4, 3, 3, seed=1), checks.randn(2, 4, 3, 3, seed=2)
    labels = checks.labels_for(18, 4).reshape(2, 3, 3)

    def all_of_them(s: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        total = sum(loss(s, t, y, class_dim=1) for loss in (dkd_loss, nkd_loss))
        total += sum(loss(s, t, class_dim=1) for loss in (dist_loss, standardized_kd_loss, hard_label_loss))
        smooth = virtual_teacher_logits(y, num_classes=4, class_dim=1)
        return total + label_smoothing_loss(s, y, class_dim=1) + soft_target_loss(s, smooth.double(), class_dim=1)

    checks.check_compiles(all_of_them, student, teacher, labels)
    assert kl_divergence(student, teacher, class_dim=1).shape == (2, 3, 3)
