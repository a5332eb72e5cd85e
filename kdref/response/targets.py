"""Response-based distillation: targets made from a teacher's logits, or from no teacher at all.

Source: Ba and Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014, https://arxiv.org/abs/1312.6184; the other
papers stand at their functions. Decoupled losses are in decoupled.py, losses up to scale in standardized.py.
Lesson: notebooks/02_response_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of axes. Classes are on the last axis, or on ``class_dim``: 1 for
images ``(B, C, H, W)``.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["hard_label_loss", "label_smoothing_loss", "logit_matching_loss", "virtual_teacher_logits"]


def logit_matching_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Half the mean squared difference of the centred logits: soft targets at an infinite temperature.

    .. math::
        \frac1B \sum_i \frac{1}{2C} \sum_c \big((z^s_{ic} - \bar z^s_i) - (z^t_{ic} - \bar z^t_i)\big)^2

    The paper regresses on raw logits and sums over classes. Raw logits penalise a shift that softmax ignores, so
    each example is centred here; divided by C, the loss is the limit of ``soft_target_loss`` for large temperatures.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(..., C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss in squared logits, at least 0; 0 exactly where the logits differ by a constant per example, NaN
        where a logit is infinite: leave a class that is masked with -inf out on both sides.

    Raises:
        TypeError, ValueError: If the logits are not floating-point tensors of one shape, there are fewer than two
            classes or the batch is empty.

    Example:
        >>> logit_matching_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[7.0, 5.0]]))  # centred: (-1, 1), (1, -1)
        tensor(2.)

    Source: Ba and Caruana 2014, equation 1; its place as a limit: Hinton et al. 2015, Section 2.1.
    """
    _check_logits(student_logits, class_dim)
    _check_logits(teacher_logits, class_dim)
    _check_same_shape(student_logits, teacher_logits)
    _check_not_empty(student_logits)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    difference = student_logits.to(dtype) - teacher_logits.detach().to(dtype)
    return (difference - difference.mean(dim=class_dim, keepdim=True)).square().mean() / 2


def hard_label_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
    *,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Cross-entropy with the class that the teacher finds most likely: pseudo-labels, no temperature.

    .. math::
        \frac1B \sum_i -\log \mathrm{softmax}(z^s_i)_{\hat y_i}, \quad \hat y_i = \arg\max_c z^t_{ic}

    It passes on what the teacher decides and drops how sure it was; the gradient does not vanish where the two agree.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(..., C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Only the place of the maximum is used; the first of equals.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss in nats, at least 0. NaN where the teacher's largest logit is NaN or infinite: that is no choice.

    Raises:
        TypeError, ValueError: As in ``logit_matching_loss``.

    Example:
        >>> hard_label_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.1, 0.0]]))
        tensor(0.6931)

    Source: Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021,
    https://arxiv.org/abs/2012.12877, equation 3: the paper averages this term and the cross-entropy with the labels.
    """
    _check_logits(student_logits, class_dim)
    _check_logits(teacher_logits, class_dim)
    _check_same_shape(student_logits, teacher_logits)
    _check_not_empty(student_logits)
    largest, choice = teacher_logits.detach().max(dim=class_dim, keepdim=True)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_q = F.log_softmax(student_logits.to(dtype), dim=class_dim)
    return -log_q.gather(class_dim, choice).masked_fill(~largest.isfinite(), math.nan).mean()


def label_smoothing_loss(
    student_logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...) or (B, ..., C)
    *,
    smoothing: float = 0.1,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""Cross-entropy with labels that give a little to every class: distillation from a teacher that knows nothing.

    .. math::
        (1 - \varepsilon)\,\mathrm{CE}(y, q) + \varepsilon\,\big[\mathrm{KL}(u \,\|\, q) + \log C\big], \quad
        u_c = \tfrac1C

    The second term is distillation from a uniform teacher plus a constant, so the loss never reaches 0. The label
    itself keeps :math:`1 - \varepsilon + \varepsilon / C`; code that spreads :math:`\varepsilon` over the C - 1 others
    (Teacher-free-KD's) smooths C/(C - 1) times as much. Class weights stay outside.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``, or more axes. Receives the gradient.
        labels: Class indices :math:`y`, int64, each in [0, C) or -100 for no label, the logits' shape without the
            classes; or soft labels (mixup), the logits' shape, which are smoothed the same way.
        smoothing: :math:`\varepsilon` in [0, 1]. 0 is plain cross-entropy.
        class_dim: The axis of the classes.

    Returns:
        Scalar loss in nats, the mean over examples that have a label, at least the entropy of the smoothed label.

    Raises:
        TypeError, ValueError: If a tensor is of another type or shape, the labels (on the CPU) are out of range, the
            batch is empty or the smoothing is outside [0, 1].

    Example:
        >>> label_smoothing_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(0.6931)

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
    https://arxiv.org/abs/1512.00567, Section 7; as a teacher: Yuan et al. 2020 (see ``virtual_teacher_logits``).
    """
    _check_logits(student_logits, class_dim)
    soft = isinstance(labels, Tensor) and labels.is_floating_point() and labels.shape == student_logits.shape
    if not soft:
        _check_labels(student_logits, labels, class_dim, missing=True)
    _check_not_empty(student_logits)
    _check_numbers(smoothing=smoothing)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be in [0, 1], got {smoothing}: it is the share of the uniform distribution")
    logits = student_logits.to(torch.promote_types(student_logits.dtype, torch.float32))
    if soft:
        targets = (1 - smoothing) * labels.detach().to(logits.dtype) + smoothing / logits.shape[class_dim]
        terms = targets * F.log_softmax(logits, dim=class_dim)
        return -terms.masked_fill(targets == 0, 0).sum(class_dim).mean()  # 0 · ∞ would be NaN
    total = F.cross_entropy(logits.movedim(class_dim, 1), labels, reduction="sum", label_smoothing=smoothing)
    return total / (labels != -100).sum().clamp(min=1)


def virtual_teacher_logits(
    labels: Tensor,  # (...)
    *,
    num_classes: int,
    confidence: float = 0.99,
    class_dim: int = -1,
) -> Tensor:  # (..., C)
    r"""Logits of an imagined teacher that is always right and always equally sure.

    .. math::
        z_c = \log a \ \text{ if } c = y, \qquad z_c = \log \frac{1 - a}{C - 1} \ \text{ otherwise}

    They are log-probabilities: at temperature 1 softmax gives back a exactly, and higher temperatures soften it as
    in the paper's equation. The authors' code softens the probabilities themselves, which leaves the label 0.0105 of
    100 classes at its temperature 20: all but uniform.

    Args:
        labels: Class indices :math:`y`, any shape ``(...)``, int64, each in [0, C): an example without one has no
            virtual teacher.
        num_classes: :math:`C`, at least 2.
        confidence: :math:`a` in (0, 1), the label's probability; the paper asks for 0.9 or more.
        class_dim: Where the classes' axis goes: 1 gives ``(B, C, H, W)`` for labels ``(B, H, W)``.

    Returns:
        Logits in nats, shape ``(..., C)``, in torch's default dtype, on the labels' device.

    Raises:
        TypeError, ValueError: If the labels are no int64 tensor or (on the CPU) out of range, there are fewer than two
            classes or the confidence is not strictly between 0 and 1.

    Example:
        >>> virtual_teacher_logits(torch.tensor([2]), num_classes=3, confidence=0.9).softmax(dim=-1)
        tensor([[0.0500, 0.0500, 0.9000]])

    Source: Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020,
    https://arxiv.org/abs/1909.11723, equation 9 and the distribution defined before it.
    """
    _check_numbers(num_classes=num_classes, confidence=confidence, class_dim=class_dim)
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}: there must be a wrong class to share in")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be strictly between 0 and 1, got {confidence}: a logit would be infinite")
    _check_indices(labels, num_classes)
    others = math.log((1 - confidence) / (num_classes - 1))
    logits = torch.full((*labels.shape, num_classes), others, device=labels.device)
    return logits.scatter(-1, labels.unsqueeze(-1), math.log(confidence)).movedim(-1, class_dim)


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")


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
