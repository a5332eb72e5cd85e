"""Relational distillation, checked against Park et al. 2019 and against what others got wrong."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from kdref.relation import rkd_angle_loss, rkd_distance_loss
from tests import checks

STUDENT, TEACHER = checks.randn(7, 3, seed=1), checks.randn(7, 5, seed=2)
TWINS = STUDENT[[0, 0, 2, 3, 3, 3, 6]]  # some rows equal


def every():
    """Both losses, looked up when a test asks, so that the museum can put a wrong one in place."""
    return rkd_distance_loss, rkd_angle_loss


def huber(gap: float) -> float:
    return 0.5 * gap**2 if abs(gap) <= 1 else abs(gap) - 0.5


def oracle_distance(student: Tensor, teacher: Tensor) -> float:
    """The definition, pair by pair."""

    def relative(rows: list[list[float]]) -> list[float]:
        distances = [math.dist(a, b) for a in rows for b in rows]
        mean = sum(distances) / (len(rows) * (len(rows) - 1))
        return [d / mean if mean else 0.0 for d in distances]

    pairs = zip(relative(student.tolist()), relative(teacher.tolist()), strict=True)
    return sum(huber(s - t) for s, t in pairs) / len(student) ** 2


def oracle_angle(student: Tensor, teacher: Tensor) -> float:
    """The definition, triple by triple; a cosine with an edge of length 0 is 0."""

    def cosine(vertex: list[float], one: list[float], other: list[float]) -> float:
        lengths = math.dist(one, vertex) * math.dist(other, vertex)
        product = sum((a - v) * (b - v) for v, a, b in zip(vertex, one, other, strict=True))
        return product / lengths if lengths else 0.0

    s, t, count = student.tolist(), teacher.tolist(), range(len(student))
    gaps = [cosine(s[i], s[j], s[k]) - cosine(t[i], t[j], t[k]) for i in count for j in count for k in count]
    return sum(map(huber, gaps)) / len(gaps)


def broadcast_form(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both losses as most codes write them, with a B×B×D tensor of differences."""
    distances, cosines = [], []
    off_diagonal = ~torch.eye(len(student), dtype=torch.bool)
    for rows in (student, teacher):
        edges = rows[None] - rows[:, None]
        lengths = edges.square().sum(dim=2).where(off_diagonal, 1.0).sqrt().where(off_diagonal, 0.0)
        distances.append(lengths / lengths[off_diagonal].mean())
        unit = F.normalize(edges, dim=2)
        cosines.append(torch.bmm(unit, unit.mT))
    return F.smooth_l1_loss(*distances), F.smooth_l1_loss(*cosines)


def rotation(width: int, seed: int) -> Tensor:
    return torch.linalg.qr(checks.randn(width, width, seed=seed)).Q


@pytest.mark.parametrize("student", [STUDENT, TWINS], ids=["all differ", "some equal"])
def test_both_match_the_definition(student: Tensor) -> None:
    teacher = TEACHER[[0, 1, 1, 3, 4, 4, 6]]
    for other in (TEACHER, teacher):
        assert rkd_distance_loss(student, other).item() == pytest.approx(oracle_distance(student, other), rel=1e-12)
        assert rkd_angle_loss(student, other).item() == pytest.approx(oracle_angle(student, other), rel=1e-9)


def test_value_and_gradient_are_those_of_the_broadcast_form() -> None:
    for index, loss in enumerate(every()):
        results = []
        for function in (loss, lambda s, t, index=index: broadcast_form(s, t)[index]):
            leaf = STUDENT.clone().requires_grad_()
            value = function(leaf, TEACHER)
            value.backward()
            results.append((value.detach(), leaf.grad))
        assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_known_values_of_a_line_and_a_triangle() -> None:
    line, triangle = torch.tensor([[0.0], [1.0], [2.0]]), torch.eye(3)
    # distances 1, 1, 2 with mean 4/3 become 3/4, 3/4, 3/2; the triangle's 1, 1, 1; gaps 1/4, 1/4, 1/2, each twice, of 9
    assert rkd_distance_loss(line, triangle).item() == pytest.approx(2 * (1 / 16 + 1 / 16 + 1 / 4) / 2 / 9, rel=1e-6)
    # cosines at the three vertices 1, -1, 1 against 1/2; gaps 1/2, -3/2, 1/2, each twice, of 27; j = k agrees
    assert rkd_angle_loss(line, triangle).item() == pytest.approx(2 * (1 / 8 + (3 / 2 - 1 / 2) + 1 / 8) / 27, rel=1e-6)


def test_a_large_gap_counts_linearly() -> None:
    # four equal students and one at distance 1: 4 pairs of 1 and 6 of 0, mean 0.4, so 2.5 and 0; five equidistant
    # teachers: all 1. Gaps 1.5, worth 1.5 - 0.5, and 1, worth 0.5; each pair stands twice among the 25
    student = torch.tensor([[0.0], [0.0], [0.0], [0.0], [1.0]])
    assert rkd_distance_loss(student, torch.eye(5)).item() == pytest.approx(2 * (4 * 1.0 + 6 * 0.5) / 25, rel=1e-6)


def test_zero_where_they_agree_and_positive_elsewhere() -> None:
    for loss in every():
        assert_close(loss(TEACHER, TEACHER), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-14)
        assert loss(STUDENT, TEACHER) > 0.01
        assert loss(STUDENT, TEACHER).item() == pytest.approx(loss(TEACHER, STUDENT).item(), rel=1e-12)


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_rotation_translation_and_scale_of_either_side_change_nothing(seed: int, scale: float, shift: float) -> None:
    student, teacher = checks.randn(6, 4, seed=seed), checks.randn(6, 3, seed=seed + 1)
    moved = scale * (student @ rotation(4, seed) + shift)
    moved_teacher = (teacher @ rotation(3, seed + 2) - shift) / scale
    for loss in every():
        plain = loss(student, teacher)
        assert_close(loss(moved, teacher), plain, rtol=0, atol=1e-10)
        assert_close(loss(student, moved_teacher), plain, rtol=0, atol=1e-10)
        wider = torch.cat([student @ rotation(4, seed), student * 0], dim=1)
        assert_close(loss(wider, student), plain * 0, rtol=0, atol=1e-10)
        stretched = student * torch.tensor([5.0, 1.0, 1.0, 1.0])  # one axis only: this does change relations
        assert (loss(stretched, teacher) - plain).abs() > 1e-6


def test_the_gradient_cannot_move_or_scale_the_student() -> None:
    for loss in every():
        leaf = STUDENT.clone().requires_grad_()
        loss(leaf, TEACHER).backward()
        assert_close(leaf.grad.sum(dim=0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
        assert (leaf.grad * STUDENT).sum().abs() < 1e-12


def test_batch_permutation() -> None:
    for loss in every():
        checks.check_batch_permutation(loss, STUDENT, TEACHER, per_example=False)


def test_gradients_reach_the_student_only() -> None:
    for loss in every():
        checks.check_gradient(loss, STUDENT, TEACHER)
        checks.check_gradient(loss, 100 + STUDENT, 0.01 * TEACHER)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_embeddings_stay_finite(scale: float) -> None:
    student, teacher = (x / x.abs().max() * scale for x in (STUDENT, TEACHER))
    collapsed = student[:1].expand_as(student)
    for rows in (student, student[:1], student[:2], student * 0, collapsed, TWINS * scale / 3):
        for other in (teacher, teacher * 0, teacher[:1].expand_as(teacher)):
            for loss in every():
                checks.check_extremes(lambda s, t, loss=loss: loss(s, t), rows, other[: len(rows)])


@pytest.mark.parametrize("dtype", checks.DTYPES)
def test_a_collapsed_student_has_the_loss_of_zeros_and_no_gradient(dtype: torch.dtype) -> None:
    student = torch.full((7, 3), 0.37).to(dtype).requires_grad_()
    for loss, oracle in zip(every(), (oracle_distance, oracle_angle), strict=True):
        value = loss(student, TEACHER)
        assert value.item() == pytest.approx(oracle(student.detach().double() * 0, TEACHER), rel=1e-5)
        assert_close(torch.autograd.grad(value, student)[0], torch.zeros_like(student))


def test_what_rounding_alone_tells_apart_counts_as_equal() -> None:
    nearly = TWINS + 1e-9 * checks.randn(7, 3, seed=3)
    for loss in every():
        assert_close(loss(nearly, TEACHER), loss(TWINS, TEACHER), rtol=1e-7, atol=0)


def test_one_example_has_no_pair_and_two_have_no_triple() -> None:
    for loss, count in ((rkd_distance_loss, 1), (rkd_distance_loss, 2), (rkd_angle_loss, 1), (rkd_angle_loss, 2)):
        student = STUDENT[:count].clone().requires_grad_()
        value = loss(student, TEACHER[:count])
        value.backward()
        assert_close(value.detach(), torch.zeros((), dtype=torch.float64))
        assert_close(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_float32_is_wide_enough_for_any_scale(scale: float) -> None:
    for loss in every():
        plain = loss(STUDENT, TEACHER).item()
        for student_scale, teacher_scale in ((scale, 1.0), (1.0, scale), (scale, scale)):
            student = (student_scale * STUDENT).float().requires_grad_()
            value = loss(student, (teacher_scale * TEACHER).float())
            assert value.item() == pytest.approx(plain, rel=1e-5)
            assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_features_far_from_zero_keep_their_precision() -> None:
    student, teacher = (checks.randn(32, 64, seed=s).add(1000).float() for s in (3, 4))
    for loss in every():
        results = []
        for dtype in (torch.float32, torch.float64):
            leaf = student.detach().to(dtype).requires_grad_()
            value = loss(leaf, teacher.to(dtype))
            value.backward()
            results.append((value.detach().double(), leaf.grad.double()))
        (value, gradient), (exact, exact_gradient) = results
        assert_close(value, exact, rtol=1e-5, atol=0)
        assert (gradient - exact_gradient).norm() < 1e-5 * exact_gradient.norm()
        assert_close(loss(STUDENT + 1e7, TEACHER - 1e7), loss(STUDENT, TEACHER), rtol=1e-7, atol=0)


def test_autocast_does_not_round_the_products() -> None:
    for loss in every():
        student = STUDENT.float().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(student, TEACHER.float())
        assert value.dtype == torch.float32
        assert_close(value, loss(student, TEACHER.float()), rtol=1e-6, atol=0)


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_of_all_differences_is_made() -> None:
    batch, width = 12, 50
    student, teacher = checks.randn(batch, width, seed=5).requires_grad_(), checks.randn(batch, width, seed=6)
    for loss, most in zip(every(), (batch * width, batch**3), strict=True):
        with LargestTensor() as largest:
            loss(student, teacher).backward()
        assert largest.elements == most < batch**2 * width


@pytest.mark.parametrize("loss", every())
def test_bad_input_is_named(loss) -> None:
    with pytest.raises(ValueError, match="need the same examples, got 7 and 6 of them"):
        loss(STUDENT, TEACHER[:6])
    with pytest.raises(ValueError, match=r"the teacher's embeddings must be \(B, D\), not empty, got \(7, 5, 1\): use"):
        loss(STUDENT, TEACHER[..., None])
    with pytest.raises(ValueError, match=r"the student's embeddings must be \(B, D\), not empty, got \(0, 3\)"):
        loss(STUDENT[:0], TEACHER[:0])
    with pytest.raises(TypeError, match=r"the student's embeddings must be floating point, got torch\.int64"):
        loss(STUDENT.long(), TEACHER)


def test_second_derivatives_are_those_of_finite_differences() -> None:
    for loss in every():
        assert torch.autograd.gradgradcheck(lambda s, loss=loss: loss(s, TEACHER), (STUDENT.clone().requires_grad_(),))


def test_second_derivatives_stay_finite() -> None:
    for loss, rows in itertools.product(every(), (TWINS, STUDENT[:1].expand_as(STUDENT), STUDENT[:2], STUDENT[:1])):
        student = rows.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(student, TEACHER[: len(rows)]), student, create_graph=True)
        assert torch.autograd.grad((gradient * STUDENT[: len(rows)]).sum(), student)[0].isfinite().all()


def test_a_teacher_may_be_of_another_dtype_or_from_inference_mode() -> None:
    with torch.inference_mode():
        teacher = TEACHER + 0
    for loss, dtype in itertools.product(every(), checks.DTYPES):
        student = STUDENT.to(dtype).requires_grad_()
        value = loss(student, teacher)
        value.backward()
        assert value.dtype == torch.float32
        assert student.grad is not None


def test_compiles_to_one_graph() -> None:
    for loss in every():
        checks.check_compiles(lambda s, t, loss=loss: loss(s, t), STUDENT, TEACHER)


@pytest.mark.parametrize("loss", every())
def test_a_tiny_student_learns_a_tiny_teacher(loss) -> None:
    checks.check_learns_relations(loss, factor=100)
