"""Six wrong losses as they were published, and six properties by which a loss of one's own is tested.

Each loss is a soft-target loss with one thing wrong: the kind of thing that trains, falls, and is not noticed. A
property is a function of a loss; it returns what it saw where the loss betrays itself, None where all is well.
Lesson: notebooks/15_fidelity.ipynb.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from kdref.soft_targets import kl_divergence

__all__ = ["LOSSES", "PROPERTIES", "right_loss"]

Loss = Callable[..., Tensor]  # (student_logits, teacher_logits, temperature, mask) -> ()


def right_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float, mask: Tensor) -> Tensor:
    """The mean of τ² KL over the rows that the mask keeps: no property has anything to say of it."""
    divergence = kl_divergence(student_logits, teacher_logits, temperature=temperature)
    return temperature**2 * (divergence * mask).sum() / mask.sum()


def cross_entropy_of_soft_targets(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, mask: Tensor
) -> Tensor:
    """The teacher's entropy is left in: the gradient is right, the value never reaches 0."""
    p = (teacher_logits / temperature).softmax(dim=-1)
    rows = -(p * (student_logits / temperature).log_softmax(dim=-1)).sum(dim=-1)
    return temperature**2 * (rows * mask).sum() / mask.sum()


def squares_of_raw_logits(student_logits: Tensor, teacher_logits: Tensor, temperature: float, mask: Tensor) -> Tensor:
    """Two networks that say the same may differ by a number added to all logits: here they are pulled together."""
    rows = (student_logits - teacher_logits).square().sum(dim=-1) / 2
    return (rows * mask).sum() / mask.sum()


def weights_of_another_order(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, mask: Tensor
) -> Tensor:
    """A weight for each example, taken by its place in the batch: the loader has shuffled meanwhile."""
    weights = mask * torch.tensor([0.5, 1.5], dtype=mask.dtype).repeat(len(mask))[: len(mask)]
    rows = kl_divergence(student_logits, teacher_logits, temperature=temperature)
    return temperature**2 * (rows * weights).sum() / mask.sum()


def without_tau_squared(student_logits: Tensor, teacher_logits: Tensor, temperature: float, mask: Tensor) -> Tensor:
    """The gradient shrinks as 1/τ², so a hotter teacher is a weaker one."""
    return right_loss(student_logits, teacher_logits, temperature, mask) / temperature**2


def mean_over_classes(student_logits: Tensor, teacher_logits: Tensor, temperature: float, mask: Tensor) -> Tensor:
    """kl_div with reduction="mean": divided by the number of classes too."""
    return right_loss(student_logits, teacher_logits, temperature, mask) / student_logits.shape[-1]


def padding_counted(student_logits: Tensor, teacher_logits: Tensor, temperature: float, mask: Tensor) -> Tensor:
    """Masked rows add nothing above the line, and one each below: more padding, less loss."""
    return right_loss(student_logits, teacher_logits, temperature, mask) * mask.mean()


LOSSES: dict[str, Loss] = {
    "A": mean_over_classes,
    "B": squares_of_raw_logits,
    "C": padding_counted,
    "D": cross_entropy_of_soft_targets,
    "E": without_tau_squared,
    "F": weights_of_another_order,
}


def zero_at_agreement(loss: Loss) -> str | None:
    _, teacher, mask = _example()
    value = loss(teacher, teacher, 2.0, mask).item()
    return _unless_equal(value, 0.0, "student and teacher say the same, and the loss is")


def shift_of_logits(loss: Loss) -> str | None:
    student, teacher, mask = _example()
    shifted = loss(student + 3, teacher, 2.0, mask).item()
    before = loss(student, teacher, 2.0, mask).item()
    return _unless_equal(shifted, before, f"3 added to all of the student's logits turns {before:.3f} into")


def order_of_the_batch(loss: Loss) -> str | None:
    student, teacher, mask = _example()
    turned = loss(student.flip(0), teacher.flip(0), 2.0, mask.flip(0)).item()
    before = loss(student, teacher, 2.0, mask).item()
    return _unless_equal(turned, before, f"the same batch from its last row to its first turns {before:.3f} into")


def scale_of_the_gradient(loss: Loss) -> str | None:
    """For large τ the gradient of τ² KL tends to (z^s - z^t)/C: from τ = 50 to τ = 100 it hardly moves."""
    student, teacher, mask = _example()
    lengths = []
    for temperature in (50.0, 100.0):
        leaf = student.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, teacher, temperature, mask), leaf)
        lengths.append(gradient.norm().item())
    ratio = lengths[1] / lengths[0]
    return None if 0.9 < ratio < 1.1 else f"from τ = 50 to τ = 100 the gradient's length is multiplied by {ratio:.2f}"


def two_values_of_c(loss: Loss) -> str | None:
    """Classes that neither of the two thinks possible are no classes."""
    student, teacher, mask = _example()
    impossible = torch.full((len(student), 5), -1e4, dtype=student.dtype)
    wider = loss(torch.cat([student, impossible], 1), torch.cat([teacher, impossible], 1), 2.0, mask).item()
    before = loss(student, teacher, 2.0, mask).item()
    return _unless_equal(wider, before, f"five more classes that both give no chance turn {before:.3f} into")


def a_masked_row(loss: Loss) -> str | None:
    student, teacher, mask = _example()
    more = [torch.cat([rows, 7 * rows[:2]]) for rows in (student, -teacher)]
    padded = loss(more[0], torch.cat([teacher, more[1][-2:]]), 2.0, torch.cat([mask, torch.zeros_like(mask[:2])]))
    before = loss(student, teacher, 2.0, mask).item()
    return _unless_equal(padded.item(), before, f"two more rows, both masked, turn {before:.3f} into")


PROPERTIES: dict[str, Callable[[Loss], str | None]] = {
    "zero at agreement": zero_at_agreement,
    "shift of logits": shift_of_logits,
    "order of the batch": order_of_the_batch,
    "scale of the gradient": scale_of_the_gradient,
    "two values of C": two_values_of_c,
    "a masked row": a_masked_row,
}


def _example() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of student and teacher, (4, 3) each, and a mask that keeps all rows."""
    draws = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(4, 3, generator=draws, dtype=torch.float64) for _ in range(2))
    return student, teacher, torch.ones(4, dtype=torch.float64)


def _unless_equal(value: float, expected: float, words: str) -> str | None:
    return None if abs(value - expected) < 1e-6 else f"{words} {value:.3f}"
