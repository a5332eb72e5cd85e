"""Self-distillation: a network learns from an earlier copy of itself.

Source: Furlanello et al., "Born-Again Neural Networks", ICML 2018, https://arxiv.org/abs/1805.04770; the other papers
stand at their functions. A born-again student needs no loss of its own: soft targets from a frozen copy of the last
generation. The case that can be solved is in ridge.py; networks that teach one another, or themselves, while they learn
in online.py; a moving average as the teacher in ema.py; learning without labels in self_supervised.py.
Lesson: notebooks/08_self_distillation.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of axes. Classes are on the last axis, or on ``class_dim``: 1 for
images ``(B, C, H, W)``.
"""

import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["confidence_weighted_loss", "permuted_dark_knowledge", "progressive_targets", "progressive_weight"]


def confidence_weighted_loss(
    student_logits: Tensor,  # (B, ..., C)
    teacher_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Cross-entropy with the labels, each example weighted by how sure the teacher is: no dark knowledge (CWTM).

    .. math::
        -\sum_i w_i \log \mathrm{softmax}(z^s_i)_{y_i}, \qquad w_i = \frac{\max_c p_{ic}}{\sum_j \max_c p_{jc}}

    An ablation: does born-again training help by ranking wrong classes, or by weighing examples? It keeps the weights
    alone. They are those of the teacher's first choice, also where that is not the label.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape, :math:`p` their softmax. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C). Select the examples that have one first.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss in nats, at least 0. A teacher equally sure everywhere gives plain cross-entropy.

    Raises:
        TypeError, ValueError: If a tensor is of another type or shape, the labels (looked at on the CPU only) are out
            of range or the batch is empty.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0], [50.0, 0.0]]), torch.tensor([[50.0, 0.0], [0.0, 0.0]])
        >>> confidence_weighted_loss(student, teacher, torch.tensor([0, 0]))  # ⅔ log 2 + ⅓ · 0
        tensor(0.4621)

    Source: Furlanello et al. 2018 (confidence weighted by teacher max).
    """
    _check_logits(student_logits, class_dim)
    _check_logits(teacher_logits, class_dim)
    _check_same_shape(student_logits, teacher_logits)
    _check_labels(student_logits, labels, class_dim)
    _check_not_empty(student_logits)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    sure = F.softmax(teacher_logits.detach().to(dtype), dim=class_dim).amax(dim=class_dim)
    surprise = F.cross_entropy(student_logits.to(dtype).movedim(class_dim, 1), labels, reduction="none")
    return (sure / sure.sum() * surprise).sum()


def permuted_dark_knowledge(
    teacher_logits: Tensor,  # (..., C)
    *,
    generator: torch.Generator | None = None,
    class_dim: int = -1,
) -> Tensor:  # (..., C)
    r"""Logits of a teacher whose first choice stays, and whose other classes are shuffled, each example anew (DKPP).

    .. math::
        z'_m = z^t_m \ \text{ for } m = \arg\max_c z^t_c, \qquad
        z'_c = z^t_{\pi(c)} \ \text{ with a random permutation } \pi \text{ of the others}

    The other ablation: confidence and entropy are kept, which wrong class is likely is not. Draw it anew in every step;
    a permutation drawn once is a label noise that the student can learn by heart.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(..., C)``.
        generator: Where the permutations come from; torch's global generator by default.
        class_dim: The axis of the classes.

    Returns:
        Logits of the same shape and dtype, without gradient: hand them to ``soft_target_loss`` as the teacher's.

    Raises:
        TypeError, ValueError: If the logits are not a floating-point tensor of two classes or more.

    Example:
        >>> shuffled = permuted_dark_knowledge(torch.tensor([[2.0, 7.0, 1.0]]))
        >>> shuffled[0, 1], shuffled.sort().values
        (tensor(7.), tensor([[1., 2., 7.]]))

    Source: Furlanello et al. 2018 (dark knowledge with permuted predictions).
    """
    _check_logits(teacher_logits, class_dim)
    logits = teacher_logits.detach().movedim(class_dim, -1)
    first = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    keys = torch.rand(logits.shape, generator=generator, device=logits.device)
    places = torch.arange(logits.shape[-1], device=logits.device).expand(logits.shape)
    sources, slots = (x.masked_fill(first, -1).argsort(dim=-1) for x in (keys, places))  # both begin with the first
    return logits.scatter(-1, slots, logits.gather(-1, sources)).movedim(-1, class_dim)


def progressive_targets(
    previous_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    weight: float,
    class_dim: int = -1,
) -> Tensor:  # (B, ..., C)
    r"""Targets that trust the labels less as training goes on, and the network's own last answer more (PS-KD).

    .. math::
        (1 - a)\,\mathrm{onehot}(y_i) + a\,\mathrm{softmax}(z^{\text{prev}}_i)

    The previous logits are those of the *same* examples one epoch earlier: store them by index, as they come, and use
    the labels alone in the first epoch (weight 0). The loss is ``F.cross_entropy(logits, targets)``, which takes
    classes on axis 1.

    Args:
        previous_logits: Logits of the network an epoch ago, shape ``(B, C)``, or more axes. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C). Select the examples that have one first.
        weight: :math:`a` in [0, 1], the share of the network's own answer: ``progressive_weight`` gives it.
        class_dim: The axis of the classes.

    Returns:
        Probabilities, the logits' shape, summing to 1 over classes, without gradient.

    Raises:
        TypeError, ValueError: If a tensor is of another type or shape, the labels (looked at on the CPU only) are out
            of range or the weight is outside [0, 1].

    Example:
        >>> progressive_targets(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), weight=0.4)
        tensor([[0.2000, 0.8000]])

    Source: Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV 2021,
    https://arxiv.org/abs/2006.12000, Section 3.1, at temperature 1 as in the authors' code.
    """
    _check_logits(previous_logits, class_dim)
    _check_labels(previous_logits, labels, class_dim)
    _check_share("weight", weight)
    dtype = torch.promote_types(previous_logits.dtype, torch.float32)
    previous = F.softmax(previous_logits.detach().to(dtype), dim=class_dim)
    right = F.one_hot(labels, previous_logits.shape[class_dim]).movedim(-1, class_dim)
    return weight * previous + (1 - weight) * right.to(dtype)


def progressive_weight(*, epoch: int, epochs: int, final_weight: float = 0.8) -> float:
    r"""Weight of the network's own answer in an epoch: it grows in proportion to the epoch's number (PS-KD).

    .. math::
        a_t = a_T\,\frac{t}{T}

    Args:
        epoch: :math:`t`, counted from 1.
        epochs: :math:`T`, how many there will be.
        final_weight: :math:`a_T` in [0, 1]. The paper's 0.8.

    Returns:
        The weight, in [0, 1]. In the first epoch there is no earlier answer: use the labels then.

    Raises:
        TypeError, ValueError: If the epoch is not from 1 to ``epochs`` or the final weight is outside [0, 1].

    Example:
        >>> progressive_weight(epoch=50, epochs=100)
        0.4

    Source: Kim et al. 2021, Section 3.1.
    """
    _check_numbers(epoch=epoch, epochs=epochs)
    if not 1 <= epoch <= epochs:
        raise ValueError(f"epoch must be from 1 to epochs = {epochs}, got {epoch}: the first epoch is 1")
    _check_share("final_weight", final_weight)
    return final_weight * epoch / epochs


def _check_share(name: str, share: float) -> None:
    _check_numbers(**{name: share})
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {share}: it is a share, and the rest has 1 less it")


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
