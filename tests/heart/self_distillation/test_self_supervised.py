"""DINO, its center and its two collapses, checked against Caron et al. 2021 and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.self_distillation import DinoCenter, EmaTeacher, dino_loss, output_information
from tests import checks

STUDENT, TEACHER = checks.randn(6, 4, seed=1), checks.randn(6, 4, seed=2)
CENTER = checks.randn(4, seed=3)


def center_at(values: Tensor) -> DinoCenter:
    center = DinoCenter(len(values), momentum=0.0).to(values.dtype)
    center.update(values[None])
    return center


def dino(student: Tensor, teacher: Tensor, **temperatures: float) -> Tensor:
    return dino_loss(student, teacher, center_at(CENTER), **temperatures)


@pytest.mark.parametrize(("student_temperature", "teacher_temperature"), [(0.1, 0.04), (1.0, 0.5)])
def test_dino_matches_the_definition(student_temperature: float, teacher_temperature: float) -> None:
    total = 0.0
    for s, t in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True):
        p = checks.softmax([a - c for a, c in zip(t, CENTER.tolist(), strict=True)], teacher_temperature)
        q = checks.softmax(s, student_temperature)
        total -= sum(a * math.log(b) for a, b in zip(p, q, strict=True)) / 6
    loss = dino(STUDENT, TEACHER, student_temperature=student_temperature, teacher_temperature=teacher_temperature)
    assert loss.item() == pytest.approx(total, rel=1e-9)


def test_known_values_of_dino_and_its_center() -> None:
    # the center takes the teacher's lead away: p = (½, ½); q = (¾, ¼): -½ log(3/16)
    center = center_at(torch.tensor([2.0, 0.0]))
    student = torch.tensor([[3.0, 1.0]]).log()
    loss = dino_loss(student, torch.tensor([[2.0, 0.0]]), center, student_temperature=1.0)
    assert loss.item() == pytest.approx(-0.5 * math.log(3 / 16), rel=1e-6)
    # momentum 0.9, outputs of mean (2, -1): a tenth of it, then 0.9 · 0.2 + 0.2
    center = DinoCenter(2)
    outputs = torch.tensor([[1.0, 0.0], [3.0, -2.0]])
    for expected in ([0.2, -0.1], [0.38, -0.19]):
        center.update(outputs)
        assert_close(center.value, torch.tensor(expected))
    assert_close(center(outputs), outputs - torch.tensor([0.38, -0.19]))


def test_defaults_are_the_papers() -> None:
    explicit = dino(STUDENT, TEACHER, student_temperature=0.1, teacher_temperature=0.04)
    assert_close(dino(STUDENT, TEACHER), explicit, rtol=0, atol=0)
    assert DinoCenter(3).momentum == 0.9
    assert_close(DinoCenter(3).value, torch.zeros(3))


def test_limits_of_the_momentum() -> None:
    for momentum, expected in ((0.0, TEACHER.mean(dim=0)), (1.0, torch.zeros(4, dtype=torch.float64))):
        center = DinoCenter(4, momentum=momentum).double()
        center.update(TEACHER)
        assert_close(center.value, expected)
    views = torch.stack([TEACHER, STUDENT])  # all views count alike
    center = DinoCenter(4, momentum=0.0).double()
    center.update(views)
    assert_close(center.value, (TEACHER.mean(dim=0) + STUDENT.mean(dim=0)) / 2)


def test_the_loss_leaves_the_center_and_the_update_sees_raw_outputs() -> None:
    center = center_at(CENTER)
    before = center.value.clone()
    dino_loss(STUDENT, TEACHER, center)
    assert torch.equal(center.value, before)
    center.update(TEACHER.requires_grad_())
    TEACHER.requires_grad_(False)
    assert not center.value.requires_grad
    assert_close(center.value, TEACHER.mean(dim=0))


def test_a_constant_added_to_all_teacher_outputs_is_centred_away() -> None:
    shift = checks.randn(4, seed=5, scale=10.0)
    losses = []
    for teacher in (TEACHER, TEACHER + shift):
        center = DinoCenter(4, momentum=0.0).double()
        center.update(teacher)
        losses.append(dino_loss(STUDENT, teacher, center))
    assert_close(losses[0], losses[1])


def test_at_agreement_it_is_the_teachers_entropy_and_no_student_does_better() -> None:
    p = ((TEACHER - CENTER) / 0.5).softmax(dim=-1)
    entropy = -(p * p.log()).sum(dim=-1).mean()
    assert_close(dino(p.log(), TEACHER, student_temperature=1.0, teacher_temperature=0.5), entropy)
    for seed in range(5):
        other = p.log() + checks.randn(6, 4, seed=seed, scale=0.1)
        assert dino(other, TEACHER, student_temperature=1.0, teacher_temperature=0.5) > entropy


@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5))
def test_shifts_and_the_order_of_examples_change_nothing(seed: int, shift: float) -> None:
    student, teacher = checks.randn(6, 4, seed=seed), checks.randn(6, 4, seed=seed + 1)
    plain = dino(student, teacher)
    assert_close(dino(student + shift, teacher - shift), plain, rtol=1e-8, atol=1e-10)
    checks.check_batch_permutation(dino, student, teacher, per_example=False)
    checks.check_batch_permutation(lambda t: output_information(t), teacher, per_example=False)
    assert_close(output_information(teacher + shift), output_information(teacher), rtol=1e-8, atol=1e-10)


def test_gradient_reaches_the_student_only() -> None:
    checks.check_gradient(lambda s, t: dino(s, t, student_temperature=0.5), STUDENT, TEACHER)
    student = STUDENT.clone().requires_grad_()
    dino(student, TEACHER, student_temperature=0.5, teacher_temperature=0.3).backward()
    expected = ((STUDENT / 0.5).softmax(-1) - ((TEACHER - CENTER) / 0.3).softmax(-1)) / 0.5 / 6
    assert_close(student.grad, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_extreme_outputs_stay_finite(scale: float) -> None:
    rows, others = (x / x.abs().max() * scale for x in (STUDENT, TEACHER))
    for student in (rows, rows * 0, rows[:1].expand_as(rows), rows[:1]):
        for teacher in (others, others * 0, others[:1].expand_as(others)):
            checks.check_extremes(
                lambda s, t: dino_loss(s, t, center_at(CENTER.float())), student, teacher[: len(student)]
            )
        for dtype in checks.DTYPES:
            told = output_information(student.to(dtype))
            assert told.dtype == torch.float32
            assert told.isfinite()


def test_bad_input_to_dino_is_named() -> None:
    center = DinoCenter(4)
    with pytest.raises(ValueError, match=r"same shape, got \(6, 4\) and \(5, 4\)"):
        dino_loss(STUDENT, TEACHER[:5], center)
    with pytest.raises(ValueError, match=r"the center is of 3 outputs, got \(6, 4\)"):
        dino_loss(STUDENT, TEACHER, DinoCenter(3))
    with pytest.raises(ValueError, match=r"the center is of 4 outputs, got \(6, 3\)"):
        center.update(TEACHER[:, :3])
    for empty in (TEACHER[:0], TEACHER[0]):
        with pytest.raises(ValueError, match=r"outputs must be \(\.\.\., C\), not empty"):
            output_information(empty)
        with pytest.raises(ValueError, match="not empty"):
            center.update(empty)
    with pytest.raises(TypeError, match="logits must be floating point"):
        dino_loss(STUDENT, TEACHER.long(), center)
    for temperature in (0.0, -1.0, math.inf, math.nan):
        for which in ("student_temperature", "teacher_temperature"):
            with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
                dino_loss(STUDENT, TEACHER, center, **{which: temperature})
        with pytest.raises(ValueError, match="temperature must be positive"):
            output_information(TEACHER, temperature=temperature)
    with pytest.raises(ValueError, match="num_outputs must be at least 2, got 1: one output can only win"):
        DinoCenter(1)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got 2"):
        DinoCenter(2, momentum=2.0)


def test_compiles_to_one_graph() -> None:
    center = center_at(CENTER)
    checks.check_compiles(lambda s, t: dino_loss(s, t, center) + output_information(t), STUDENT, TEACHER)


def test_information_matches_the_definition_and_its_two_entropies() -> None:
    for temperature in (1.0, 0.3):
        rows = [checks.softmax(row, temperature) for row in TEACHER.tolist()]
        mean = [sum(column) / 6 for column in zip(*rows, strict=True)]
        told = output_information(TEACHER, temperature=temperature).item()
        assert told == pytest.approx(sum(checks.kl(row, mean) for row in rows) / 6, rel=1e-10)
        entropy = [-sum(p * math.log(p) for p in row) for row in [mean, *rows]]
        assert told == pytest.approx(entropy[0] - sum(entropy[1:]) / 6, rel=1e-10)


def test_information_is_nothing_after_either_collapse_and_at_most_a_logarithm() -> None:
    one_for_all = torch.tensor([9.0, 0.0, 1.0, 2.0]).expand(6, 4)
    uniform = torch.zeros(6, 4)
    sure = 100 * torch.eye(4)
    assert_close(output_information(one_for_all), torch.tensor(0.0), rtol=0, atol=1e-6)
    assert_close(output_information(uniform), torch.tensor(0.0), rtol=0, atol=1e-6)
    assert_close(output_information(sure), torch.tensor(math.log(4)))
    assert_close(output_information(sure[:2]), torch.tensor(math.log(2)))  # two examples show no more
    assert_close(output_information(sure.expand(3, 4, 4)), torch.tensor(math.log(4)))
    assert not output_information(sure.requires_grad_()).requires_grad


def self_supervised(*, momentum: float, teacher_temperature: float, steps: int = 150) -> tuple[float, float, float]:
    """Train on noisy views of four clusters, one output in the lead at first.

    Returns what the output tells at the end, its mean entropy, and the entropy of its mean.
    """
    torch.manual_seed(5)
    places = 3 * torch.eye(4)[torch.arange(64) % 4]
    student = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 8))
    student[-1].bias.data[0] += 2.0
    teacher, center = EmaTeacher(student, decay=0.9), DinoCenter(8, momentum=momentum)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    for _ in range(steps):
        views = [places + 0.3 * torch.randn(64, 4) for _ in range(2)]
        outputs = [teacher(view) for view in views]
        loss = sum(
            dino_loss(student(view), other, center, teacher_temperature=teacher_temperature)
            for view, other in zip(views, outputs[::-1], strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        teacher.update(student)
        center.update(torch.cat(outputs))
    p = (center(teacher(places)) / teacher_temperature).softmax(dim=-1)
    entropies = [-(x * x.clamp(min=1e-30).log()).sum(dim=-1).mean().item() for x in (p, p.mean(dim=0))]
    return output_information(center(teacher(places)), temperature=teacher_temperature).item(), *entropies


def test_both_collapses_are_seen_and_centring_with_sharpening_avoids_them() -> None:
    told, each, together = self_supervised(momentum=1.0, teacher_temperature=0.04)  # sharpened, the center stays at 0
    assert told < 0.05
    assert each < 0.1
    assert together < 0.1, "one output for all"
    told, each, together = self_supervised(momentum=0.9, teacher_temperature=0.3)  # centred, softer than the student
    assert told < 0.05
    assert each > 0.95 * math.log(8)
    assert together > 0.95 * math.log(8), "the uniform distribution"
    told, each, together = self_supervised(momentum=0.9, teacher_temperature=0.04)
    assert told > 0.9 * math.log(4), "the four clusters are told apart, without a label"
    assert each < 0.5
