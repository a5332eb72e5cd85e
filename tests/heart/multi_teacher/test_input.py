"""Several teachers: what people hand to them, besides tensors that fit."""

import math

import pytest
import torch
from torch.testing import assert_close

from kdref import multi_teacher
from kdref.multi_teacher import (
    average_logits,
    average_probabilities,
    confidence_weights,
    disagreement,
    entropy_weights,
    multi_teacher_loss,
    triplet_dissimilarity_loss,
)
from kdref.soft_targets import soft_target_loss
from tests import checks, inputs
from tests.inputs import Call

LOSS = Call(multi_teacher, "multi_teacher_loss", "zk")
SOFTENED = Call(multi_teacher, "average_probabilities", "k")
WEIGHTS = [Call(multi_teacher, "confidence_weights", "ky"), Call(multi_teacher, "entropy_weights", "k")]
CALLS = [LOSS, SOFTENED, Call(multi_teacher, "average_logits", "k"), Call(multi_teacher, "disagreement", "k"), *WEIGHTS]
STUDENT, TEACHERS = checks.randn(5, 4, seed=1), checks.randn(3, 5, 4, seed=2)


@pytest.mark.parametrize("check", [*inputs.ALWAYS, inputs.check_missing_class], ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_function_passes(check, call: Call) -> None:
    check(call)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_an_empty_batch_is_named(call: Call) -> None:
    inputs.check_empty(call, refused=True)


def test_temperatures_and_labels() -> None:
    inputs.check_temperature_per_example(LOSS)
    inputs.check_temperature_per_example(SOFTENED)
    inputs.check_large_temperature(LOSS)
    inputs.check_labels(WEIGHTS[0])
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\), got -100"):
        confidence_weights(TEACHERS, torch.tensor([0, 1, -100, 2, 3]))


def test_the_stack_counts_for_nothing_in_the_axis_of_the_classes() -> None:
    # (K, B, C, H, W): the classes are on axis 1 of one network, which is axis 2 of the stack
    student, teachers = checks.randn(1, 2, 1, 1, seed=1), checks.randn(3, 1, 2, 1, 1, seed=2)
    expected = multi_teacher_loss(student.reshape(1, 2), teachers.reshape(3, 1, 2))
    assert_close(multi_teacher_loss(student, teachers, class_dim=1), expected)
    assert average_logits(teachers, class_dim=1).shape == student.shape


# A class that a teacher lacks


def test_known_values_of_a_teacher_that_lacks_a_class() -> None:
    # teachers (½, ½, 0) and thirds: the mean is (5/12, 5/12, 2/12)
    teachers = torch.tensor([[[0.0, 0.0, -math.inf]], [[0.0, 0.0, 0.0]]])
    mean = torch.tensor([5 / 12, 5 / 12, 2 / 12])
    assert_close(average_probabilities(teachers)[0], mean)
    # KL from the mean: log(½ / 5/12) for the first; (2 log(⅓ / 5/12) + log(⅓ / 2/12)) / 3 for the second
    apart = [math.log(6 / 5), (2 * math.log(4 / 5) + math.log(2)) / 3]
    assert disagreement(teachers).item() == pytest.approx(sum(apart) / 2, abs=1e-6)
    # against thirds: log(½ / ⅓) and 0
    assert multi_teacher_loss(torch.zeros(1, 3), teachers).item() == pytest.approx(math.log(1.5) / 2, abs=1e-6)
    # entropies log 2 and log 3: weights exp(-H) to 3 : 2
    assert_close(entropy_weights(teachers), torch.tensor([[0.6], [0.4]]))
    # and without the class, exp(ℓ) is 2 and 3: 1 - 2/5 and 1 - 3/5
    assert_close(confidence_weights(teachers, torch.tensor([1])), torch.tensor([[0.6], [0.4]]))
    assert average_logits(teachers).tolist() == [[0.0, 0.0, -math.inf]]  # a veto


def test_a_teacher_who_gives_the_label_nothing_has_no_say() -> None:
    # exp(ℓ) is ∞, 1/p = 2 and 4: of an infinite sum the first has all, so its weight is 0, the others' ½
    teachers = torch.tensor([[[-math.inf, 0.0, 0.0]], [[0.0, 0.0, -math.inf]], [[0.0, math.log(3.0), -math.inf]]])
    assert_close(confidence_weights(teachers, torch.tensor([0])), torch.tensor([[0.0], [0.5], [0.5]]))
    # two who give it nothing share the blame: (1 - ½)/2 each; all of them, a third each
    assert_close(confidence_weights(teachers[[0, 0, 1]], torch.tensor([0])), torch.tensor([[0.25], [0.25], [0.5]]))
    assert_close(confidence_weights(teachers[[0, 0, 0]], torch.tensor([0])), torch.full((3, 1), 1 / 3))
    assert_close(confidence_weights(teachers[:1], torch.tensor([0])), torch.ones(1, 1))


def test_a_teacher_of_weight_zero_vetoes_nothing() -> None:
    teachers = TEACHERS.clone()
    teachers[1, :, 2] = -math.inf
    student = STUDENT.clone()
    student[:, 3] = -math.inf  # which teachers 0 and 1 have
    teachers[2, :, 3] = -math.inf
    for weights in (torch.tensor([0.0, 0.0, 1.0]), torch.tensor([[0.0], [0.0], [1.0]]).expand(3, 5)):
        assert_close(average_logits(teachers, weights=weights), teachers[2])
        leaf = student.clone().requires_grad_()
        loss = multi_teacher_loss(leaf, teachers, weights=weights)
        assert_close(loss, soft_target_loss(student, teachers[2], temperature=1.0))
        loss.backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
    assert multi_teacher_loss(student, teachers).item() == math.inf


def test_learned_weights_get_a_finite_gradient_past_a_missing_class() -> None:
    teachers, scores = TEACHERS.clone(), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    teachers[1, :, 2] = -math.inf
    average = average_logits(teachers, weights=scores.softmax(0))
    torch.nn.functional.cross_entropy(average, torch.tensor([0, 1, 3, 0, 1])).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_a_nan_weight_is_heard() -> None:
    weights = torch.tensor([0.5, math.nan, 0.5])
    for found in (average_logits(TEACHERS, weights=weights), average_probabilities(TEACHERS, weights=weights)):
        assert found.isnan().all()
    assert multi_teacher_loss(STUDENT, TEACHERS, weights=weights).isnan()
    silent = torch.tensor([0.5, 0.0, 0.5])  # 0 silences -inf, not NaN: select teachers instead
    assert average_logits(TEACHERS * torch.tensor([1.0, math.nan, 1.0])[:, None, None], weights=silent).isnan().all()


# Weights


def test_weights_of_other_types_and_shapes_are_named() -> None:
    for weights in ([0.5, 0.2, 0.3], (0.5, 0.2, 0.3), torch.ones(3).numpy()):
        with pytest.raises(
            TypeError, match=f"weights must be a tensor, got {type(weights).__name__}: use torch.as_tensor"
        ):
            average_logits(TEACHERS, weights=weights)
    for weights in (torch.tensor(0.5), torch.ones(3, 4), torch.ones(3, 5, 4), torch.ones(5, 3)):
        with pytest.raises(ValueError, match=r"weights must be \(K,\) = \(3,\) or \(K, B\) = \(3, 5\), got"):
            average_probabilities(TEACHERS, weights=weights)


@pytest.mark.parametrize("seed", [1, 2])
def test_weights_may_differ_per_place_of_an_image(seed: int) -> None:
    maps, rows = LOSS.maps(), LOSS.rows()
    weights = checks.randn(inputs.NETWORKS, inputs.EXAMPLES, seed=seed).softmax(dim=0)
    dense = weights.reshape(inputs.NETWORKS, *inputs.IMAGES)
    expected = multi_teacher_loss(*rows, weights=weights)
    assert_close(multi_teacher_loss(*maps, weights=dense, class_dim=1), expected)
    per_image = dense.mean(dim=(2, 3))
    spread = per_image.repeat_interleave(inputs.EXAMPLES // 2, dim=1)
    for average in (average_logits, average_probabilities):
        found = average(maps[1], weights=per_image, class_dim=1).movedim(1, -1).reshape(-1, inputs.CLASSES)
        assert_close(found, average(rows[1], weights=spread))


def test_weights_made_under_inference_mode_can_be_used() -> None:
    with torch.inference_mode():
        teachers = TEACHERS.clone()
        weights = entropy_weights(teachers)
    student = STUDENT.clone().requires_grad_()
    multi_teacher_loss(student, teachers, weights=weights).backward()
    assert student.grad is not None


# Triplets


def test_triplets_hear_no_teacher_that_cannot_be_heard() -> None:
    student, teachers = checks.randn(5, 3, seed=1), checks.randn(3, 5, 2, seed=2)
    for value in (math.nan, math.inf):
        broken = teachers.clone()
        broken[1, 2, 0] = value
        assert triplet_dissimilarity_loss(student, broken, margin=1.0).isnan()
    broken = student.clone()
    broken[2, 0] = math.nan
    assert triplet_dissimilarity_loss(broken, teachers, margin=1.0).isnan()
    assert triplet_dissimilarity_loss(1e30 * student, teachers, margin=1.0).item() > 1e29


def test_what_triplets_refuse_is_named() -> None:
    student, teachers = checks.randn(5, 3, seed=1), checks.randn(3, 5, 2, seed=2)
    for value in (None, student.tolist(), student.numpy(), (student,)):
        with pytest.raises(
            TypeError, match=rf"student's embeddings must be a tensor \(B, D\), got {type(value).__name__}"
        ):
            triplet_dissimilarity_loss(value, teachers, margin=1.0)
    with pytest.raises(TypeError, match=r"teacher's embeddings must be a tensor \(K, B, D\), got list: torch\.stack"):
        triplet_dissimilarity_loss(student, list(teachers), margin=1.0)
    for pair in ((student.long(), teachers), (student, teachers.long())):
        with pytest.raises(TypeError, match=r"embeddings must be floating point, got torch\.int64"):
            triplet_dissimilarity_loss(*pair, margin=1.0)
    for margin in ("1", None, torch.tensor(1.0)):
        with pytest.raises(TypeError, match="margin must be a number, got"):
            triplet_dissimilarity_loss(student, teachers, margin=margin)
    with pytest.raises(ValueError, match="not empty"):
        triplet_dissimilarity_loss(student[:0], teachers[:, :0], margin=1.0)


def test_triplets_take_inference_mode_and_autocast() -> None:
    student, teachers = checks.randn(5, 3, seed=1, dtype=torch.float32), checks.randn(3, 5, 2, seed=2)
    plain = triplet_dissimilarity_loss(student, teachers, margin=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(triplet_dissimilarity_loss(student, teachers, margin=1.0), plain, rtol=0, atol=0)
    with torch.inference_mode():
        teachers = teachers.clone()
    triplet_dissimilarity_loss(student.requires_grad_(), teachers, margin=1.0).backward()


def test_dense_losses_compile_to_one_graph() -> None:
    labels = checks.labels_for(inputs.EXAMPLES, inputs.CLASSES).reshape(inputs.IMAGES)

    def all_of_them(s: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        weights = entropy_weights(t, class_dim=1) * confidence_weights(t, y, class_dim=1)
        loss = multi_teacher_loss(s, t, weights=weights, class_dim=1)
        return loss + (s * average_logits(t, weights=weights, class_dim=1)).mean()

    checks.check_compiles(all_of_them, *LOSS.maps(), labels)
