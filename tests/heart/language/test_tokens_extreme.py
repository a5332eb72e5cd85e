"""Which tokens count: masks, padding, micro-batches, in the dense loss and in the fused one."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.language import fused_linear_loss, token_loss
from tests import checks

STUDENT, TEACHER = checks.randn(4, 6, 5, seed=1, scale=2.0), checks.randn(4, 6, 5, seed=2, scale=2.0)
LENGTHS = torch.tensor([6, 1, 4, 2])
MASK = torch.arange(6) < LENGTHS[:, None]
WORDS = torch.eye(5, dtype=torch.float64)
CASES = (
    ("forward", None),
    ("reverse", None),
    ("total_variation", None),
    ("jensen_shannon", 0.3),
    ("skew_reverse", 0.1),
)


def dense(student: Tensor, teacher: Tensor, **settings: object) -> Tensor:
    return token_loss(student, teacher, **settings)


def fused(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, **settings: object) -> Tensor:
    """The same through an output layer that changes nothing."""
    flat = None if mask is None else mask.flatten()
    rows = (student.reshape(-1, 5), WORDS.to(student.dtype), teacher.reshape(-1, 5), WORDS.to(teacher.dtype))
    return fused_linear_loss(*rows, mask=flat, chunk_size=2, **settings)


both = pytest.mark.parametrize("loss", [dense, fused])
every_kind = pytest.mark.parametrize(("kind", "mix"), CASES)


def value_and_gradient(loss: Callable[..., Tensor], student: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
    leaf = student.detach().clone().requires_grad_()
    value = loss(leaf, *rest)
    assert value.requires_grad, "the loss has no path back to the student"
    value.backward()
    return value.detach(), leaf.grad


@both
@every_kind
def test_the_loss_is_the_mean_over_tokens_that_count(loss: Callable[..., Tensor], kind: str, mix: float | None) -> None:
    alone = [
        token_loss(STUDENT[i, j], TEACHER[i, j], kind=kind, mix=mix).item() for i in range(4) for j in range(LENGTHS[i])
    ]
    assert len(alone) == 13
    value = loss(STUDENT, TEACHER, kind=kind, mix=mix, mask=MASK)
    assert value.item() == pytest.approx(sum(alone) / 13, rel=1e-10)


@both
def test_without_a_mask_all_tokens_count(loss: Callable[..., Tensor]) -> None:
    full = loss(STUDENT, TEACHER, kind="forward", mask=torch.ones_like(MASK))
    assert_close(loss(STUDENT, TEACHER, kind="forward"), full, rtol=1e-12, atol=0)


@both
@every_kind
@pytest.mark.parametrize("filler", [0.0, 7.0, torch.inf, torch.nan])
def test_what_stands_in_the_padding_does_not_matter(
    loss: Callable[..., Tensor], kind: str, mix: float | None, filler: float
) -> None:
    masked = functools.partial(loss, kind=kind, mix=mix, mask=MASK)
    expected = value_and_gradient(masked, STUDENT, TEACHER)
    filled = [z.masked_fill(~MASK[..., None], filler) for z in (STUDENT, TEACHER)]
    value, gradient = value_and_gradient(masked, *filled)
    assert_close((value, gradient), expected)
    assert (gradient[~MASK] == 0).all()


@both
def test_the_length_of_the_padding_does_not_matter(loss: Callable[..., Tensor]) -> None:
    more = [torch.cat([z, torch.full((4, 3, 5), torch.nan)], dim=1) for z in (STUDENT, TEACHER)]
    mask = torch.cat([MASK, torch.zeros(4, 3, dtype=torch.bool)], dim=1)
    expected = loss(STUDENT, TEACHER, kind="forward", mask=MASK)
    assert_close(loss(*more, kind="forward", mask=mask), expected)


@both
@every_kind
def test_micro_batches_add_up_however_a_batch_is_split(
    loss: Callable[..., Tensor], kind: str, mix: float | None
) -> None:
    expected = value_and_gradient(functools.partial(loss, kind=kind, mix=mix, mask=MASK), STUDENT, TEACHER)
    for count in (int(MASK.sum()), float(MASK.sum()), MASK.sum()):
        for sizes in ([4], [1, 3], [2, 2], [1, 1, 1, 1]):
            student, total = STUDENT.clone().requires_grad_(), torch.zeros((), dtype=torch.float64)
            for s, t, m in zip(student.split(sizes), TEACHER.split(sizes), MASK.split(sizes), strict=True):
                part = loss(s, t, kind=kind, mix=mix, mask=m, num_tokens=count)
                part.backward()
                total += part.detach()
            assert_close((total, student.grad), expected)


@both
def test_a_count_replaces_the_number_of_tokens_and_nothing_else_divides(loss: Callable[..., Tensor]) -> None:
    mean = loss(STUDENT, TEACHER, kind="forward")
    assert_close(loss(STUDENT, TEACHER, kind="forward", num_tokens=1), 24 * mean)
    assert_close(loss(STUDENT, TEACHER, kind="forward", num_tokens=48), mean / 2)


@both
@every_kind
def test_nothing_that_counts_gives_zero_with_a_way_back(
    loss: Callable[..., Tensor], kind: str, mix: float | None
) -> None:
    nothing = torch.zeros_like(MASK)
    for count in (None, 13):
        masked = functools.partial(loss, kind=kind, mix=mix, mask=nothing, num_tokens=count)
        value, gradient = value_and_gradient(masked, STUDENT * torch.nan, TEACHER)
        assert value.item() == 0
        assert (gradient == 0).all()


@both
def test_an_end_of_sequence_token_that_also_pads_counts_where_the_mask_says_so(loss: Callable[..., Tensor]) -> None:
    # word 0 ends the sequence and pads it: the first of them counts, and the mask of lengths keeps it
    tokens = torch.tensor([[3, 2, 0, 0, 0, 0]])
    by_length = torch.tensor([[True, True, True, False, False, False]])
    right = loss(STUDENT[:1], TEACHER[:1], kind="forward", mask=by_length)
    assert_close(right, loss(STUDENT[:1, :3], TEACHER[:1, :3], kind="forward"))
    assert not torch.isclose(right, loss(STUDENT[:1], TEACHER[:1], kind="forward", mask=tokens != 0))


@both
def test_bad_masks_and_counts_are_named(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(TypeError, match=r"mask must be a bool tensor .* got torch\.int64"):
        loss(STUDENT, TEACHER, kind="forward", mask=MASK.long())
    with pytest.raises(ValueError, match=r"mask must be a bool tensor .*, one per token"):
        loss(STUDENT, TEACHER, kind="forward", mask=MASK[:, :5])
    for count in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"num_tokens must be positive and finite, got {count}"):
            loss(STUDENT, TEACHER, kind="forward", num_tokens=count)
    with pytest.raises(ValueError, match="there is no token"):
        loss(STUDENT[:0], TEACHER[:0], kind="forward")
