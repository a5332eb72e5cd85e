"""Distillation without data: losses for a generator, or for images themselves, that only the teacher supervises.

Source: Chen et al., "DAFL: Data-Free Learning of Student Networks", ICCV 2019, https://arxiv.org/abs/1904.01186;
Micaelli and Storkey, "Zero-shot Knowledge Transfer via Adversarial Belief Matching", NeurIPS 2019,
https://arxiv.org/abs/1905.09768 (ZSKT); Yin et al., "Dreaming to Distill", CVPR 2020,
https://arxiv.org/abs/1912.08795 (DeepInversion). Lesson: notebooks/10_transfer_data.ipynb.

The gradient of all of them goes *through* the networks to the input, so nothing is detached: give only the generator's
(or the images') parameters to the optimiser, put the teacher in eval mode and ``requires_grad_(False)``.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes or channels, H × W pixels; ``...`` is any number of axes.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "activation_loss",
    "batchnorm_statistics_loss",
    "information_entropy_loss",
    "one_hot_loss",
    "total_variation_loss",
    "zero_shot_generator_loss",
]


def one_hot_loss(
    logits: Tensor,  # (..., C)
) -> Tensor:  # ()
    r"""Cross-entropy of the teacher's output with its own choice: small where the teacher is sure (DAFL).

    .. math::
        -\frac1B \sum_i \log p_i(\hat y_i), \quad p_i = \mathrm{softmax}(z_i), \; \hat y_i = \arg\max_c z_{ic}

    It asks for images that the teacher takes for *something*. The same image for all noise satisfies it:
    ``information_entropy_loss`` is there against that.

    Args:
        logits: The teacher's :math:`z` on generated examples, shape ``(..., C)``. Receives the gradient; the choice is
            a constant.

    Returns:
        Scalar loss in nats, from 0 (each output is sure) to log C (each is uniform).

    Raises:
        TypeError, ValueError: If logits are no floating-point tensor ``(..., C)`` of two classes or more, or empty.

    Example:
        >>> one_hot_loss(torch.tensor([[0.0, 0.0], [50.0, 0.0]]))  # (log 2 + 0) / 2
        tensor(0.3466)

    Source: Chen et al. 2019, the one-hot loss (weight 1).
    """
    _check_batch(logits)
    z = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, -2)
    return F.cross_entropy(z, z.argmax(dim=-1))


def activation_loss(
    features: Tensor,  # (B, ...)
) -> Tensor:  # ()
    r"""Minus the mean absolute feature: real images excite the teacher's filters more than noise does (DAFL).

    .. math::
        -\frac1n \sum_{i} |f_i|, \quad n = \text{the number of features of the whole batch}

    It has no lower bound: the weight must be small. (The paper sums over an example's features; its weight of 0.1
    belongs to the mean, as in the authors' code.)

    Args:
        features: What enters the teacher's classifier, shape ``(B, ...)``. Receives the gradient.

    Returns:
        Scalar loss, in the features' unit, at most 0.

    Raises:
        TypeError, ValueError: If features are no floating-point tensor, or empty.

    Example:
        >>> activation_loss(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))
        tensor(-1.5000)

    Source: Chen et al. 2019, the activation loss (weight 0.1).
    """
    _check_input(features, "features")
    return -features.to(torch.promote_types(features.dtype, torch.float32)).abs().mean()


def information_entropy_loss(
    logits: Tensor,  # (..., C)
) -> Tensor:  # ()
    r"""Minus the entropy of the batch's mean output: smallest where all classes come up equally often (DAFL).

    .. math::
        \sum_c \bar p_c \log \bar p_c, \quad \bar p = \frac1B \sum_i \mathrm{softmax}(z_i)

    It looks at the mean alone: a batch of uniform outputs satisfies it as well as a balanced batch of sure ones. (The
    authors' code has log10 here, 2.3 times less than these nats, under its weight of 5.)

    Args:
        logits: The teacher's :math:`z` on a batch, shape ``(..., C)``. Receives the gradient. A batch of fewer than C
            sure outputs can't be balanced.

    Returns:
        Scalar loss in nats, from -log C (balanced) to 0 (one class only).

    Raises:
        TypeError, ValueError: If logits are no floating-point tensor ``(..., C)`` of two classes or more, or empty.

    Example:
        >>> information_entropy_loss(50 * torch.eye(4))  # -log 4
        tensor(-1.3863)

    Source: Chen et al. 2019, the information entropy loss (weight 5).
    """
    _check_batch(logits)
    log_p = F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1).flatten(0, -2)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(log_p))
    return (log_mean.exp() * log_mean).sum()


def zero_shot_generator_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
) -> Tensor:  # ()
    r"""Minus the divergence of teacher and student: the generator looks for what the student has not learnt (ZSKT).

    .. math::
        -\frac1B \sum_i \mathrm{KL}(p_i \,\|\, q_i), \quad
        p = \mathrm{softmax}(z^t), \; q = \mathrm{softmax}(z^s)

    The generator minimises it, the student minimises ``kl_divergence(...).mean()`` on the same images, in turn: one
    step of the generator to ten of the student, in the authors' script. The gradient reaches *both* networks on its
    way to the generator: zero the student's before its own step. (Their code's KL divides by B · C, so their weight of
    250 on attention is 250 · C beside this mean over examples.)

    Args:
        student_logits: :math:`z^s` on generated examples, shape ``(..., C)``. Receives the gradient.
        teacher_logits: :math:`z^t`, same shape. Receives the gradient too.

    Returns:
        Scalar loss in nats, at most 0; 0 where the two agree.

    Raises:
        TypeError, ValueError: If logits are no floating-point tensors ``(..., C)`` of two classes or more, are empty,
            or their shapes differ.

    Example:
        >>> zero_shot_generator_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[50.0, 0.0]]))  # -log 2
        tensor(-0.6931)

    Source: Micaelli and Storkey 2019, the generator's loss, temperature 1.
    """
    _check_batch(student_logits)
    _check_batch(teacher_logits)
    _check_same_shape(student_logits, teacher_logits)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    log_q, log_p = (F.log_softmax(z.to(dtype), dim=-1) for z in (student_logits, teacher_logits))
    return -_kl(log_q, log_p, -1).mean()


def batchnorm_statistics_loss(
    layer_input: Tensor,  # (B, C, ...)
    batchnorm: nn.Module,
) -> Tensor:  # ()
    r"""How far a batch's statistics are from those that a BatchNorm layer kept of its training data (DeepInversion).

    .. math::
        \|\mu(x) - \hat\mu\|_2 + \|\sigma^2(x) - \hat\sigma^2\|_2

    Norms over channels, not squared. :math:`\sigma^2(x)` is the unbiased variance, because the running one is. Sum it
    over the teacher's BatchNorm layers, each with its own input; a forward pre-hook hands that over. The teacher is in
    eval mode: in train mode its statistics would follow the images.

    Args:
        layer_input: What enters the layer, shape ``(B, C)`` or ``(B, C, ...)``, two values per channel or more.
            Receives the gradient.
        batchnorm: The layer: ``nn.BatchNorm1d``, ``2d`` or ``3d``, with running statistics.

    Returns:
        Scalar loss, in the input's unit plus its square, at least 0; 0 where the batch has the running statistics.

    Raises:
        TypeError: If the input is no floating-point tensor, or the layer is no BatchNorm.
        ValueError: If the layer keeps no statistics, the channels differ, or a channel has one value only.

    Example:
        >>> layer = nn.BatchNorm1d(1)  # running mean 0, running variance 1
        >>> batchnorm_statistics_loss(torch.tensor([[2.0], [4.0]]), layer)  # mean 3, variance 2
        tensor(4.)

    Source: Yin et al. 2020, the feature regulariser (weight 100 in the authors' CIFAR code).
    """
    _check_input(layer_input, "layer_input")
    mean, variance = _running_statistics(layer_input, batchnorm)
    x = layer_input.to(torch.promote_types(layer_input.dtype, torch.float32)).transpose(0, 1).flatten(1)
    return torch.dist(x.mean(dim=1), mean.to(x.dtype)) + torch.dist(x.var(dim=1, correction=1), variance.to(x.dtype))


def total_variation_loss(
    images: Tensor,  # (B, C, H, W)
) -> Tensor:  # ()
    r"""Mean absolute difference of neighbouring pixels, of horizontal plus of vertical neighbours: 0 for one colour.

    .. math::
        \mathrm{mean}\,|x_{h,w+1} - x_{h,w}| + \mathrm{mean}\,|x_{h+1,w} - x_{h,w}|

    (DeepInversion's CIFAR code takes the Euclidean norm over all pixels of the batch instead, diagonals included: its
    weight of 2.5e-5 belongs to that sum and not to this mean.)

    Args:
        images: Shape ``(B, C, H, W)``, at least 2 × 2 pixels. Receives the gradient.

    Returns:
        Scalar loss, in the pixels' unit, at least 0.

    Raises:
        TypeError, ValueError: If images are no floating-point tensor ``(B, C, H, W)``, empty, or less than 2 × 2.

    Example:
        >>> total_variation_loss(torch.tensor([[[[0.0, 1.0], [0.0, 3.0]]]]))  # (1 + 3) / 2 + (0 + 2) / 2
        tensor(3.)

    Source: Yin et al. 2020, the image prior.
    """
    _check_input(images, "images")
    if images.dim() != 4 or min(images.shape[2:]) < 2:
        raise ValueError(f"images must be (B, C, H, W), 2 × 2 pixels or more, got {tuple(images.shape)}")
    x = images.to(torch.promote_types(images.dtype, torch.float32))
    return x.diff(dim=3).abs().mean() + x.diff(dim=2).abs().mean()


def _running_statistics(layer_input: Tensor, batchnorm: object) -> tuple[Tensor, Tensor]:
    if not isinstance(batchnorm, nn.modules.batchnorm._BatchNorm):
        raise TypeError(f"batchnorm must be an nn.BatchNorm1d, 2d or 3d, got {type(batchnorm).__name__}")
    mean, variance, shape = batchnorm.running_mean, batchnorm.running_var, tuple(layer_input.shape)
    if mean is None or variance is None:
        raise ValueError("batchnorm keeps no running statistics (track_running_stats=False): there is nothing to match")
    if len(shape) < 2 or shape[1] != len(mean):
        raise ValueError(f"layer_input must be (B, {len(mean)}, ...), the layer's channels, got {shape}")
    if layer_input.numel() == len(mean):
        raise ValueError(f"one value per channel has no variance, got {shape}: take a larger batch")
    return mean, variance


def _check_batch(logits: Tensor) -> None:
    _check_logits(logits)
    if logits.dim() < 2 or logits.numel() == 0:
        raise ValueError(f"logits must be (..., C), not empty, got {tuple(logits.shape)}")


def _check_input(tensor: object, name: str) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {tensor.dtype}")
    if tensor.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(tensor.shape)}: the mean of nothing is undefined")


def _kl(log_q: Tensor, log_p: Tensor, dim: int) -> Tensor:
    """KL(p ‖ q) along an axis. A class with p = 0 counts nothing, whatever q says of it (0 · ∞ would be NaN)."""
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill(p == 0, 0).sum(dim)


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
