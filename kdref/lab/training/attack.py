"""The attack by which robustness is measured, and trained: projected gradient descent on the input.

Lesson: notebooks/09_adversarial.ipynb.
"""

import math
import numbers
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.training.forward import evaluating, logits_of

__all__ = ["pgd"]


def pgd(
    model: nn.Module,
    images: Tensor,  # (B, ...)
    labels: Tensor,  # (B,)
    *,
    radius: float,
    step_size: float,
    steps: int,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    generator: torch.Generator | None = None,
    clip: tuple[float, float] | None = (0, 1),
) -> Tensor:  # (B, ...)
    r"""Change each pixel by at most a radius, so that the loss rises (PGD, in the ball of the largest change).

    .. math::
        x^{(k+1)} = \Pi\big(x^{(k)} + \eta \, \operatorname{sign} \nabla_x L(f(x^{(k)}), y)\big)

    Π clips to :math:`[x - \epsilon, x + \epsilon]` and to the pixels that there are. What withstands this attack may
    fall to a better one: a gradient that has vanished says nothing about robustness. Try several starts, and another
    loss. With ``steps * step_size`` below the radius the attack can't reach the ball's border.

    Args:
        model: Gives logits, or something that holds them as ``logits``. Run in eval mode, its mode restored; it gets no
            gradient, and BatchNorm's statistics stay as they are.
        images: :math:`x`, what the changes are counted from, floating point, within ``clip``.
        labels: :math:`y`, passed on to the loss: class indices, usually.
        radius: :math:`\epsilon`, at least 0, in the pixels' unit. 0 returns the images.
        step_size: :math:`\eta`, positive.
        steps: How many, at least 1.
        loss: From logits and labels to what is to rise, one number or one per example.
        generator: Draws the start, uniform in the ball; on the images' device. None starts at the images.
        clip: The least and the largest pixel. None for inputs without bounds, such as standardised ones.

    Returns:
        Attacked images, same shape, dtype and device, without gradient: the last ones, which need not be the worst.

    Raises:
        TypeError: If the images are not floating point, or a number is none.
        ValueError: If a number is out of range, there are not as many labels as images, or a pixel is outside ``clip``.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> pgd(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), radius=0.25, step_size=0.25, steps=1)
        tensor([[0.2500, 0.7500]])

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018,
    https://arxiv.org/abs/1706.06083, Section 2.1.
    """
    _check(images, labels, clip, radius=radius, step_size=step_size, steps=steps)
    low, high = images - radius, images + radius
    if clip is not None:
        low, high = low.clamp(min=clip[0]), high.clamp(max=clip[1])
    attacked = images
    if generator is not None:
        share = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        attacked = (images + radius * (2 * share - 1)).clamp(low, high)
    with evaluating(model), torch.enable_grad():
        for _ in range(steps):
            attacked = attacked.detach().requires_grad_()
            risen = loss(logits_of(model(attacked)), labels).sum()
            (gradient,) = torch.autograd.grad(risen, attacked)  # of the input alone: parameters get none
            attacked = (attacked + step_size * gradient.sign()).clamp(low, high)
    return attacked.detach()


def _check(images: Tensor, labels: Tensor, clip: tuple[float, float] | None, **settings: object) -> None:
    for name, value in settings.items():
        kind, words = (numbers.Integral, "a whole number") if name == "steps" else (numbers.Real, "a number")
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be {words}, got {value!r}")
        least = {"radius": 0.0, "steps": 1.0}.get(name, math.ulp(0.0))
        if not least <= float(value) < math.inf:
            raise ValueError(
                f"{name} must be {'positive' if least not in (0, 1) else f'at least {least:g}'}, got {value}"
            )
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point, got {images.dtype}: divide bytes by 255")
    if not images.numel() or not labels.ndim or len(images) != len(labels):
        raise ValueError(f"images and labels must be equally many, got {tuple(images.shape)} and {tuple(labels.shape)}")
    if clip is None:
        return
    if not clip[0] < clip[1]:
        raise ValueError(f"clip must be the least and the largest pixel, got {clip}")
    if images.min() < clip[0] or images.max() > clip[1]:
        span = f"{images.min().item():g} to {images.max().item():g}"
        raise ValueError(
            f"pixels are {span}, clip is {clip}: give their own bounds, or clip=None for standardised ones"
        )
