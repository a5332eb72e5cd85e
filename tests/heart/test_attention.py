"""Attention transfer, checked against Zagoruyko and Komodakis 2017 and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.attention import attention_map, attention_transfer_loss
from tests import checks

STUDENT, TEACHER = checks.randn(4, 3, 2, 5, seed=1), checks.randn(4, 6, 2, 5, seed=2)


def oracle_map(example: Tensor, power: float) -> list[float]:
    places = [sum(abs(x) ** power for x in column) for column in example.flatten(1).T.tolist()]
    length = math.sqrt(sum(place**2 for place in places))
    return [place / length for place in places]


@pytest.mark.parametrize("power", [1, 1.5, 2, 3, 4])
def test_attention_map_matches_the_definition(power: float) -> None:
    expected = torch.tensor([oracle_map(example, power) for example in STUDENT], dtype=torch.float64)
    assert_close(attention_map(STUDENT, power=power), expected)
    assert_close(attention_map(STUDENT, power=power).norm(dim=1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("power", [1, 2, 3])
def test_attention_transfer_matches_code_and_paper(power: float) -> None:
    squares = [
        [(a - b) ** 2 for a, b in zip(oracle_map(s, power), oracle_map(t, power), strict=True)]
        for s, t in zip(STUDENT, TEACHER, strict=True)
    ]
    code = sum(map(sum, squares)) / (4 * 10)
    assert attention_transfer_loss(STUDENT, TEACHER, power=power).item() == pytest.approx(code, rel=1e-12)
    paper = sum(math.sqrt(sum(row)) for row in squares) / 4
    loss = attention_transfer_loss(STUDENT, TEACHER, power=power, squared=False)
    assert loss.item() == pytest.approx(paper, rel=1e-12)


def test_known_values() -> None:
    # two channels (1, 2) and (-1, 0): squares add up to (2, 4), absolute values to (2, 2); lengths √20 and √8
    features = torch.tensor([[[1.0, 2.0], [-1.0, 0.0]]])
    assert_close(attention_map(features), torch.tensor([[2.0, 4.0]]) / math.sqrt(20))
    assert_close(attention_map(features, power=1), torch.tensor([[1.0, 1.0]]) / math.sqrt(2))
    # maps (1, 0) and (0, 1): squares 1 and 1, their mean over 2 places is 1, their root √2
    left, right = torch.tensor([[[9.0, 0.0]]]), torch.tensor([[[0.0, -0.1]]])
    assert attention_transfer_loss(left, right).item() == pytest.approx(1.0)
    assert attention_transfer_loss(left, right, squared=False).item() == pytest.approx(math.sqrt(2))


def test_defaults_are_those_of_the_authors_code() -> None:
    assert_close(attention_map(STUDENT), attention_map(STUDENT, power=2))
    explicit = attention_transfer_loss(STUDENT, TEACHER, power=2, squared=True)
    assert_close(attention_transfer_loss(STUDENT, TEACHER), explicit, rtol=0, atol=0)


@pytest.mark.parametrize("squared", [True, False])
def test_zero_where_they_agree_and_positive_elsewhere(squared: bool) -> None:
    assert attention_transfer_loss(TEACHER, TEACHER, squared=squared) == 0
    assert attention_transfer_loss(STUDENT, TEACHER, squared=squared) > 0


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), power=st.sampled_from([1, 2, 3, 4]))
def test_scale_sign_and_order_of_channels_are_forgotten(seed: int, scale: float, power: int) -> None:
    student, teacher = checks.randn(3, 4, 6, seed=seed), checks.randn(3, 2, 6, seed=seed + 1)
    plain = attention_transfer_loss(student, teacher, power=power)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).view(4, 1)
    changed = scale * (student * signs)[:, order]
    assert_close(attention_transfer_loss(changed, teacher / scale, power=power), plain)
    assert_close(attention_transfer_loss(torch.cat([student, student], 1), teacher, power=power), plain)
    assert not torch.isclose(attention_transfer_loss(student.flip(-1), teacher, power=power), plain, rtol=1e-6)
    assert not torch.isclose(attention_transfer_loss(student * (signs + 2), teacher, power=power), plain, rtol=1e-6)


@pytest.mark.parametrize("squared", [True, False])
def test_maps_of_other_sizes_are_averaged_after_the_channels_are_summed(squared: bool) -> None:
    small, large = checks.randn(2, 3, 2, 4, seed=6), checks.randn(2, 5, 4, 8, seed=7)
    activity = large.square().sum(1, keepdim=True).unflatten(3, (4, 2)).unflatten(2, (2, 2)).mean(dim=(3, 5))
    expected = attention_transfer_loss(small, activity.sqrt(), squared=squared)
    assert_close(attention_transfer_loss(small, large, squared=squared), expected)
    assert_close(attention_transfer_loss(large, small, squared=squared), expected)
    # signs that cancel in an average of features do not here
    chess = torch.tensor([[[1.0, -1.0, 0.1, 0.1]]]), torch.tensor([[[1.0, 0.1]]])
    assert attention_transfer_loss(*chess, squared=squared) < 1e-6
    tall, wide = checks.randn(2, 3, 4, 2, seed=8), checks.randn(2, 3, 2, 4, seed=9)
    assert attention_transfer_loss(tall, wide, squared=squared).isfinite()


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda f: attention_map(f), STUDENT, per_example=True)
    for squared in (True, False):
        checks.check_batch_permutation(
            lambda s, t, q=squared: attention_transfer_loss(s, t, squared=q), STUDENT, TEACHER, per_example=False
        )


def test_gradients_reach_the_student_only() -> None:
    for power in (1, 2, 3):
        checks.check_gradient(lambda f, p=power: attention_map(f, power=p), STUDENT)
    checks.check_gradient(lambda s, t: attention_transfer_loss(s, t), STUDENT, TEACHER)
    checks.check_gradient(lambda s, t: attention_transfer_loss(s, t, squared=False), STUDENT, TEACHER[..., :3])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("power", [1, 2, 4])
def test_extreme_features_stay_finite(scale: float, power: float) -> None:
    student, teacher = (maps / maps.abs().max() * scale for maps in (STUDENT, TEACHER))
    for maps in (student, student[:1], torch.zeros_like(student), torch.ones_like(student)):
        for squared in (True, False):
            checks.check_extremes(
                lambda s, t, q=squared: attention_transfer_loss(s, t, power=power, squared=q),
                maps,
                teacher[: len(maps)],
            )
        checks.check_extremes(lambda f: attention_map(f, power=power), maps)
    same = teacher.float().requires_grad_()  # at agreement the root's derivative is infinite
    attention_transfer_loss(same, teacher.float(), power=power, squared=False).backward()
    assert (same.grad == 0).all()


def test_a_silent_student_gets_a_gradient_and_small_or_large_features_their_maps() -> None:
    for features in (torch.zeros(2, 3, 4, requires_grad=True), torch.full((2, 3, 4), 1e-3, requires_grad=True)):
        attention_transfer_loss(features, checks.randn(2, 5, 4, seed=10).float()).backward()
        assert features.grad.isfinite().all()
    assert (attention_map(torch.zeros(2, 3, 4)) == 0).all()
    for scale in (1e-15, 1e15):  # squares of squares would under- and overflow in float32
        scaled = attention_map((STUDENT * scale).float())
        assert_close(scaled.double(), attention_map(STUDENT), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("squared", [True, False])
def test_features_far_from_zero_keep_their_precision(squared: bool) -> None:
    student, teacher = (checks.randn(32, c, 6, 6, seed=s).add(1000).float() for c, s in ((8, 11), (12, 12)))
    exact = attention_transfer_loss(student.double(), teacher.double(), squared=squared)
    assert_close(attention_transfer_loss(student, teacher, squared=squared).double(), exact, rtol=1e-4, atol=0)


def test_bad_input_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"student and teacher maps need the same examples .* got \(4, 3, 2, 5\) and \(2, 6"
    ):
        attention_transfer_loss(STUDENT, TEACHER[:2])
    with pytest.raises(ValueError, match=r"same examples and number of axes"):
        attention_transfer_loss(STUDENT, TEACHER.flatten(2))
    with pytest.raises(ValueError, match=r"must be \(B, C, H, W\) or \(B, C, L\), .* got shape \(4, 3\): vectors"):
        attention_map(STUDENT[..., 0, 0])
    with pytest.raises(ValueError, match=r"not empty, got shape \(0, 3, 2, 5\)"):
        attention_map(STUDENT[:0])
    with pytest.raises(TypeError, match=r"the teacher maps must be floating point, got torch\.int64"):
        attention_transfer_loss(STUDENT, TEACHER.long())
    for power in (0.5, 0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"power must be at least 1 and finite, got {power}"):
            attention_transfer_loss(STUDENT, TEACHER, power=power)


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: attention_transfer_loss(s, t), STUDENT, TEACHER[..., :4])
    checks.check_compiles(lambda s, t: attention_transfer_loss(s, t, power=1, squared=False), STUDENT, TEACHER)


def test_a_tiny_student_learns_where_a_tiny_teacher_looks() -> None:
    torch.manual_seed(13)
    x = checks.randn(16, 1, 6, 6, seed=14)
    teacher = nn.Conv2d(1, 8, 3, padding=1).double()(x).relu().detach()
    student = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()).double()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    first = attention_transfer_loss(student(x), teacher).item()
    for _ in range(200):
        loss = attention_transfer_loss(student(x), teacher)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 4
