"""Does a classifier know how often it is right? The calibration error, and the temperature that mends it.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, https://arxiv.org/abs/1706.04599; the error
is that of Naeini, Cooper and Hauskrecht, AAAI 2015. Lesson: notebooks/15_fidelity.ipynb.

Measures and no losses: no gradient reaches the input. With the *teacher's* choice in place of the labels,
``teacher_logits.argmax(-1)``, both speak of the student's calibration to its teacher. An example labelled -100 has no
label and is left out.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of axes. Classes are on the last axis, or on ``class_dim``: 1 for
images ``(B, C, H, W)``, where every place is an example.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["expected_calibration_error", "fitted_temperature"]


def expected_calibration_error(
    probabilities: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    bins: int = 15,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""How far confidence is from accuracy, on average, among examples of like confidence.

    .. math::
        \sum_{m=1}^{M} \frac{|B_m|}{n} \,\big|\mathrm{acc}(B_m) - \mathrm{conf}(B_m)\big|, \quad
        B_m = \{\, i : \tfrac{m-1}{M} < \max_c p_{ic} \le \tfrac{m}{M} \,\}

    Few examples in a bin make it larger than it is for many: compare values of equal numbers of examples only. A
    classifier that says the classes' frequencies whatever it sees has no error. (torchmetrics gives a confidence on the
    border of two bins to the upper one, and a confidence of exactly 1 a bin of its own.)

    Args:
        probabilities: :math:`p`, after the softmax, shape ``(B, C)``, or more axes. No gradient.
        labels: Class indices, int64, each in [0, C) or -100 for no label, the shape without the classes.
        bins: M, at least 1, of equal width.
        class_dim: The axis of the classes.

    Returns:
        Scalar in [0, 1], a share; 0 where no example has a label.

    Raises:
        TypeError, ValueError: If probabilities are no floating-point tensor ``(B, C)`` of two classes or more, are
            empty or (looked at on the CPU only) outside [0, 1]; if labels are of another type or shape, or out of
            range; if there is no bin.

    Example:
        >>> sure = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
        >>> expected_calibration_error(sure, torch.tensor([0, 1, 1]))  # ⅔ |½ - 0.9| + ⅓ |1 - 0.6|
        tensor(0.4000)

    Source: Guo et al. 2017, equations 2 to 4; 15 bins in its Table 1.
    """
    _check_distributions(probabilities, class_dim)
    _check_labels(probabilities, labels, class_dim, missing=True)
    _check_numbers(bins=bins)
    if not (1 <= bins < math.inf and bins == int(bins)):
        raise ValueError(f"bins must be a whole number, at least 1, got {bins}")
    p = probabilities.detach().to(torch.promote_types(probabilities.dtype, torch.float32))
    confidence, choice = p.max(dim=class_dim)
    known = labels != -100
    excess = ((choice == labels).to(p.dtype) - confidence).masked_fill(~known, 0).flatten()
    borders = torch.linspace(0, 1, int(bins) + 1, dtype=p.dtype, device=p.device)
    in_bin = torch.bucketize(confidence.flatten(), borders[1:-1]) == torch.arange(int(bins), device=p.device)[:, None]
    return (in_bin * excess).sum(dim=1).abs().sum() / known.sum().clamp(min=1)  # a bin's |acc - conf| times its size


def fitted_temperature(
    logits: Tensor,  # (B, ..., C)
    labels: Tensor,  # (B, ...)
    *,
    class_dim: int = -1,
) -> Tensor:  # ()
    r"""The temperature whose softened outputs fit the labels best: above 1 the classifier was too sure, below too meek.

    .. math::
        \arg\min_{\tau > 0} \frac1n \sum_i -\log \mathrm{softmax}(z_i / \tau)_{y_i}

    One number for all examples: it changes no choice and no accuracy. Fit it on examples that the classifier was not
    trained on, and measure on others. In :math:`1/\tau` the loss is convex, and bisection finds where its derivative,
    the mean of :math:`\mathrm{E}_p[z] - z_y`, is 0: no step size, and the same digits everywhere.

    Args:
        logits: Raw scores :math:`z`, shape ``(B, C)``, or more axes. No gradient.
        labels: Class indices :math:`y`, int64, each in [0, C) or -100 for no label, the shape without the classes.
        class_dim: The axis of the classes.

    Returns:
        Scalar :math:`\tau`, in the logits' unit. 0 where every example is right: the surer, the better, and nothing is
        fitted. ``inf`` where nothing is better than equal probabilities (or there is no label). NaN from a row of NaN,
        or without a finite score.

    Raises:
        TypeError, ValueError: If the logits are no floating-point tensor ``(B, C)`` of two classes or more, or empty,
            or the labels of another type or shape or (looked at on the CPU only) out of range.

    Example:
        >>> fitted_temperature(torch.tensor([[4.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1]))  # ¾ is σ(4/τ): 4 / log 3
        tensor(3.6410)

    Source: Guo et al. 2017, Section 4.2, temperature scaling.
    """
    _check_logits(logits, class_dim)
    _check_not_empty(logits)
    _check_labels(logits, labels, class_dim, missing=True)
    dtype = torch.float32 if logits.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    known = (labels != -100).unsqueeze(class_dim)
    z = logits.detach().to(dtype).masked_fill(~known, 0)  # equal scores, which pull to no side
    z = z - z.amax(dim=class_dim, keepdim=True)
    scale = z.masked_fill(z == -math.inf, 0).abs().amax().clamp(min=torch.finfo(dtype).tiny)
    z, y = z / scale, labels.clamp(min=0).unsqueeze(class_dim)

    def slope(log_sharpness: Tensor) -> Tensor:  # of the loss, over 1/τ
        p = F.softmax(z * log_sharpness.exp(), dim=class_dim)
        return ((p * z).masked_fill(p == 0, 0).sum(dim=class_dim, keepdim=True) - z.gather(class_dim, y)).sum()

    low, high = (torch.full((), end, dtype=dtype, device=z.device) for end in (-30.0, 30.0))
    all_right, all_alike = slope(high) <= 0, slope(low) >= 0
    for _ in range(56):
        middle = (low + high) / 2
        beyond = slope(middle) > 0
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    found = (scale * (-middle).exp()).masked_fill(all_right, 0).masked_fill(all_alike, math.inf)
    return found.to(torch.promote_types(logits.dtype, torch.float32))


def _check_distributions(probabilities: object, class_dim: int) -> None:
    if not isinstance(probabilities, Tensor):
        raise TypeError(f"probabilities must be a tensor, got {type(probabilities).__name__}: use torch.as_tensor")
    if not probabilities.is_floating_point():
        raise TypeError(f"probabilities must be floating point, got {probabilities.dtype}")
    _check_numbers(class_dim=class_dim)
    shape = tuple(probabilities.shape)
    if len(shape) < 2 or not -len(shape) <= class_dim < len(shape) or shape[class_dim] < 2 or not math.prod(shape):
        raise ValueError(f"probabilities must be (B, C), two classes or more at {class_dim}, not empty, got {shape}")
    if probabilities.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
        wrong = probabilities[(probabilities < 0) | (probabilities > 1.01)]
        if len(wrong):
            raise ValueError(f"probabilities must be in [0, 1], got {wrong[0].item()}: logits need .softmax(-1) first")


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
