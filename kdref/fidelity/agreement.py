"""Do student and teacher give the same answers, and are they wrong together?

Source: Stanton et al., "Does Knowledge Distillation Really Work?", NeurIPS 2021, https://arxiv.org/abs/2106.05945;
Geirhos, Meding and Wichmann, "Beyond Accuracy: Quantifying Trial-by-Trial Behaviour of CNNs and Humans by Measuring
Error Consistency", NeurIPS 2020, https://arxiv.org/abs/2006.16736. Lesson: notebooks/15_fidelity.ipynb.

Measures and no losses: no gradient reaches either side. Two networks that never met agree too, where both are right and
on what is easily mixed up: beside each number put that of a student of *another* teacher. An example labelled -100 has
no label and is left out. The first of equal scores is the choice; a row whose largest score is NaN or infinite makes
none, and what depends on it is NaN.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of axes. Classes are on the last axis, or on ``class_dim``: 1 for
images ``(B, C, H, W)``, where every place is an example.
"""

import math
import numbers

import torch
from torch import Tensor

__all__ = ["error_consistency", "top1_agreement", "wrong_answer_agreement"]


def top1_agreement(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    class_dim: int = -1,
) -> Tensor:  # (...)
    r"""Do both choose the same class? Its mean over a test set is the top-1 agreement.

    .. math::
        [\, \hat y^s_i = \hat y^t_i \,], \quad \hat y_i = \arg\max_c z_{ic}

    Args:
        student_logits: Raw scores :math:`z^s`, or probabilities, shape ``(B, C)``, or more axes. No gradient.
        teacher_logits: The teacher's, same shape. No gradient.
        class_dim: The axis of the classes.

    Returns:
        1 or 0 per example, shape ``(B,)``, as floating-point numbers; NaN where one of the two makes no choice.

    Raises:
        TypeError, ValueError: If the logits are not floating-point tensors ``(..., C)`` of one shape.

    Example:
        >>> student = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
        >>> top1_agreement(student, torch.tensor([[9.0, 0.0], [0.3, 0.2]]))
        tensor([1., 0.])

    Source: Stanton et al. 2021, equation 2, before its mean.
    """
    _check_both(student_logits, teacher_logits, class_dim)
    student, teacher, none = _choices(student_logits, teacher_logits, class_dim)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    return (student == teacher).to(dtype).masked_fill(none, math.nan)


def error_consistency(
    student_logits: Tensor,  # (B, ..., C)
    teacher_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Are both right, and both wrong, on the same examples, beyond what their accuracies make so? Cohen's kappa of it.

    .. math::
        \kappa = \frac{o - e}{1 - e}, \quad e = a_s a_t + (1 - a_s)(1 - a_t)

    :math:`o` is the share of examples on which both are right or both are wrong, :math:`a` an accuracy. *Which* wrong
    answer they give does not count: that is ``wrong_answer_agreement``.

    Args:
        student_logits: Raw scores, or probabilities, shape ``(B, C)``, or more axes. No gradient.
        teacher_logits: The teacher's, same shape. No gradient.
        labels: Class indices, int64, each in [0, C) or -100 for no label, the logits' shape without the classes.
        class_dim: The axis of the classes.

    Returns:
        Scalar in [-1, 1]: 1 for the same errors, 0 for as many common ones as chance makes. Where chance alone would
        agree always (both always right, or both always wrong, or no label), kappa is 0/0, and here 0.

    Raises:
        TypeError, ValueError: If the logits are not floating-point tensors of one shape, there are none, or the labels
            are of another type or shape or (looked at on the CPU only) out of range.

    Example:
        >>> student, teacher = torch.eye(2)[[0, 0, 0, 1]], torch.eye(2)[[0, 0, 1, 1]]  # right 3 and 2 times of 4
        >>> error_consistency(student, teacher, torch.tensor([0, 0, 0, 0]))  # o = ¾, e = ⅜ + ⅛
        tensor(0.5000)

    Source: Geirhos et al. 2020, Section 2.
    """
    _check_both(student_logits, teacher_logits, class_dim)
    _check_not_empty(student_logits)
    _check_labels(student_logits, labels, class_dim, missing=True)
    student, teacher, none = _choices(student_logits, teacher_logits, class_dim)
    known = labels != -100
    right_s, right_t = ((choice == labels) & known for choice in (student, teacher))
    n, n_s, n_t, same = (where.sum() for where in (known, right_s, right_t, (right_s == right_t) & known))
    chance = n_s * n_t + (n - n_s) * (n - n_t)  # n² e: in whole numbers 0/0 is exactly that
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    kappa = (n * same - chance).to(dtype) / (n * n - chance).clamp(min=1)
    return kappa.masked_fill((none & known).any(), math.nan)


def wrong_answer_agreement(
    student_logits: Tensor,  # (B, ..., C)
    teacher_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Which share of the teacher's mistakes does the student make too, with the *same* wrong answer?

    .. math::
        \frac{\sum_i [\, \hat y^t_i \ne y_i \,]\,[\, \hat y^s_i = \hat y^t_i \,]}{\sum_i [\, \hat y^t_i \ne y_i \,]}

    Args:
        student_logits: Raw scores, or probabilities, shape ``(B, C)``, or more axes. No gradient.
        teacher_logits: The teacher's, same shape. No gradient.
        labels: Class indices :math:`y`, int64, each in [0, C) or -100, the logits' shape without the classes.
        class_dim: The axis of the classes.

    Returns:
        Scalar in [0, 1]; 0 where the teacher makes no mistake.

    Raises:
        TypeError, ValueError: As in ``error_consistency``.

    Example:
        >>> student, teacher = torch.eye(3)[[1, 2, 0]], torch.eye(3)[[1, 1, 0]]  # the teacher errs twice
        >>> wrong_answer_agreement(student, teacher, torch.tensor([0, 0, 0]))
        tensor(0.5000)

    Source: Mason-Williams et al., "A Functional Perspective on Knowledge Distillation in Neural Networks", 2025,
    https://arxiv.org/abs/2510.12615, for the question whether mistakes are passed on; this share is ours.
    """
    _check_both(student_logits, teacher_logits, class_dim)
    _check_not_empty(student_logits)
    _check_labels(student_logits, labels, class_dim, missing=True)
    student, teacher, none = _choices(student_logits, teacher_logits, class_dim)
    known = labels != -100
    mistakes = (teacher != labels) & known
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    share = (mistakes & (student == teacher)).sum().to(dtype) / mistakes.sum().clamp(min=1)
    return share.masked_fill((none & known).any(), math.nan)


def _choices(student: Tensor, teacher: Tensor, class_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """The place of each row's largest score, of both sides, and where there is no such place."""
    (largest_s, choice_s), (largest_t, choice_t) = (z.detach().max(dim=class_dim) for z in (student, teacher))
    return choice_s, choice_t, ~(largest_s.isfinite() & largest_t.isfinite())


def _check_both(student: Tensor, teacher: Tensor, class_dim: int) -> None:
    _check_logits(student, class_dim)
    _check_logits(teacher, class_dim)
    _check_same_shape(student, teacher)


def _check_logits(logits: object, class_dim: int = -1) -> None:
    if not isinstance(logits, Tensor):
        hint = "take its .logits" if hasattr(logits, "keys") or isinstance(logits, tuple) else "use torch.as_tensor"
        raise TypeError(f"logits must be a tensor, got {type(logits).__name__}: {hint}")
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not class indices")
    _check_numbers(class_dim=class_dim)
    shape, where = tuple(logits.shape), "at the end" if class_dim == -1 else f"at {class_dim}"
    if not -len(shape) <= class_dim < len(shape) or shape[class_dim] == 0:
        raise ValueError(f"logits need a class axis {where}, got shape {shape}")
    if shape[class_dim] == 1:
        one = f"one class can only be right, got shape {shape}: give a sigmoid's output z its other class on both sides"
        raise ValueError(f"{one}, torch.cat([z, torch.zeros_like(z)], dim={class_dim}), or use multi_label_loss")


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have the same shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


def _check_not_empty(student: Tensor) -> None:
    if student.numel() == 0:
        raise ValueError(f"the batch is empty (shape {tuple(student.shape)}), and the mean of nothing is undefined")


def _check_labels(logits: Tensor, labels: Tensor, class_dim: int = -1, *, missing: bool = False) -> None:
    _check_indices(labels, logits.shape[class_dim], missing=missing)
    if logits.dim() < 2 or labels.shape != logits.select(class_dim, 0).shape:
        shapes = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"expected logits (B, C) and labels (B,), got {shapes}")


def _check_indices(labels: object, classes: int, *, missing: bool = False) -> None:
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor, got {type(labels).__name__}: use torch.as_tensor")
    if labels.dtype != torch.int64:
        soft = "soft ones need the logits' shape" if missing else "soft ones name no one class, which is needed here"
        hint = soft if labels.is_floating_point() else "convert them with labels.long()"
        raise TypeError(f"labels must be int64 class indices, got {labels.dtype}: {hint}")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
        wrong = labels[((labels < 0) | (labels >= classes)) & ~((labels == -100) & missing)]
        if len(wrong):
            none = ", or -100 for no label" if missing else ""
            raise ValueError(f"labels must be in [0, {classes}){none}, got {wrong[0].item()}")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
