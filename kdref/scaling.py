"""Scaling laws: the loss that a language model of N parameters reaches with D tokens, alone or taught.

Source: Busbridge et al., "Distillation Scaling Laws", ICML 2025, https://arxiv.org/abs/2502.08606; its supervised law
is Hoffmann et al.'s of 2022, https://arxiv.org/abs/2203.15556, with γ added. Lesson: notebooks/13_scaling_laws.ipynb.

The constants were fitted to one family of networks on one set of texts (C4, 143 million to 7.75 billion parameters,
teachers with a loss above about 1.8 nats): elsewhere fit the form anew. Parameters are those without embeddings.

Needs only torch: copy this file into your project as it is.
Shapes: ``...`` is any shape; arguments broadcast.
"""

import functools
import math
import numbers
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "APPLE_DISTILLATION",
    "APPLE_SUPERVISED",
    "DistillationLaw",
    "SupervisedLaw",
    "capacity_gap_teacher_loss",
    "distillation_loss_law",
    "supervised_loss_law",
    "training_flops",
]


class SupervisedLaw(NamedTuple):
    """The constants of ``supervised_loss_law``: numbers, or tensors (that broadcast) to be fitted or to draw a band.

    Example:
        >>> APPLE_SUPERVISED._replace(E=0.0).gamma  # the same law without what no size removes
        0.452

    Source: Busbridge et al. 2025, equation 1; Table 6 has the values of ``APPLE_SUPERVISED`` and 90 % intervals.
    """

    A: float | Tensor
    B: float | Tensor
    E: float | Tensor
    alpha: float | Tensor
    beta: float | Tensor
    gamma: float | Tensor


class DistillationLaw(NamedTuple):
    """The constants of ``distillation_loss_law``: numbers, or tensors (that broadcast) to be fitted or to draw a band.

    Example:
        >>> round(APPLE_DISTILLATION.c1 * APPLE_DISTILLATION.f1)  # the power of the bracket
        47

    Source: Busbridge et al. 2025, equation 8; Table 6 has the values of ``APPLE_DISTILLATION`` and 90 % intervals.
    """

    A: float | Tensor
    B: float | Tensor
    alpha: float | Tensor
    beta: float | Tensor
    gamma: float | Tensor
    c0: float | Tensor
    c1: float | Tensor
    d1: float | Tensor
    f1: float | Tensor


APPLE_SUPERVISED = SupervisedLaw(3355.0, 18186.0, 1.220, 0.408, 0.431, 0.452)
APPLE_DISTILLATION = DistillationLaw(2243.0, 24181.0, 0.321, 0.637, 0.764, c0=2.549, c1=522.6, d1=1.315, f1=0.090)


def supervised_loss_law(
    parameters: Tensor,  # (...)
    tokens: Tensor,  # (...)
    *,
    law: SupervisedLaw = APPLE_SUPERVISED,
) -> Tensor:  # (...)
    r"""The loss of a model trained on data alone: what no size removes, and what parameters and tokens leave.

    .. math::
        L(N, D) = E + \Big(\frac{A}{N^\alpha} + \frac{B}{D^\beta}\Big)^\gamma

    Args:
        parameters: :math:`N > 0`, without embeddings, any shape. Receives the gradient, as all tensors here do.
        tokens: :math:`D > 0`, tokens seen in training; broadcasts against N.
        law: The constants.

    Returns:
        Cross-entropy with the data in nats per token, the broadcast shape, above E.

    Raises:
        TypeError: If an argument is no tensor of numbers, or the law another one.
        ValueError: If shapes don't broadcast or (looked at on the CPU only) a value is not positive and finite.

    Example:
        >>> supervised_loss_law(torch.tensor(143e6), torch.tensor(20 * 143e6))
        tensor(2.8892)

    Source: Busbridge et al. 2025, equation 1.
    """
    _check_laws(law)
    n, d = _in_float64(parameters=parameters, tokens=tokens)
    return (law.E + _shortage(n, d, law)).to(_dtype(parameters, tokens))


def distillation_loss_law(
    teacher_loss: Tensor,  # (...)
    parameters: Tensor,  # (...)
    tokens: Tensor,  # (...)
    *,
    law: DistillationLaw = APPLE_DISTILLATION,
    supervised: SupervisedLaw = APPLE_SUPERVISED,
) -> Tensor:  # (...)
    r"""The loss of a student: its teacher's, plus what the student can't imitate.

    .. math::
        L_S = L_T + \frac{1}{L_T^{c_0}} \Big(1 + \Big(\frac{L_T}{\tilde L_S\,d_1}\Big)^{1/f_1}\Big)^{-c_1 f_1}
        \Big(\frac{A}{N^\alpha} + \frac{B}{D^\beta}\Big)^\gamma

    :math:`\tilde L_S` is the loss of the same student trained on data alone. A better teacher lowers the first term
    and raises the second: over :math:`L_T` the loss is U-shaped. Trust no teacher better than those it was fitted to
    (about 1.8 nats): as :math:`L_T \to 0` the law diverges. Nor do the rounded constants say whether distilling or
    training wins as :math:`D \to \infty`.

    Args:
        teacher_loss: :math:`L_T > 0`, the teacher's own cross-entropy with the data, in nats. Its size and its tokens
            count through this alone.
        parameters: :math:`N > 0` of the student, without embeddings; broadcasts.
        tokens: :math:`D > 0`, tokens that the student is distilled on; broadcasts.
        law: The constants.
        supervised: The constants of :math:`\tilde L_S`.

    Returns:
        The student's cross-entropy with the *data*, not with its teacher, in nats per token, the broadcast shape.
        For :math:`N, D \to \infty`, and for :math:`L_T \to \infty`, it is :math:`L_T`.

    Raises:
        TypeError, ValueError: As in ``supervised_loss_law``.

    Example:
        >>> n = torch.tensor(143e6)
        >>> distillation_loss_law(torch.tensor([2.5, 1.9, 1.3]), n, 20 * n)  # better, best, too good a teacher
        tensor([2.7253, 2.5944, 3.1656])

    Source: Busbridge et al. 2025, equation 8, with plain distillation (no labels) at temperature 1.
    """
    _check_laws(supervised, law)
    t, n, d = _in_float64(teacher_loss=teacher_loss, parameters=parameters, tokens=tokens)
    alone = supervised.E + _shortage(n, d, supervised)
    ratio = t / (alone * law.d1)
    bracket = torch.exp(law.c1 * law.f1 * F.logsigmoid(-ratio.log() / law.f1))  # (1 + r^(1/f₁))^(-c₁f₁) in log space
    student = t + t**-law.c0 * bracket * _shortage(n, d, law)
    return student.to(_dtype(teacher_loss, parameters, tokens))


def capacity_gap_teacher_loss(
    parameters: Tensor,  # (...)
    tokens: Tensor,  # (...)
    *,
    law: DistillationLaw = APPLE_DISTILLATION,
    supervised: SupervisedLaw = APPLE_SUPERVISED,
) -> Tensor:  # (...)
    r"""The teacher's loss at which the law changes its regime: with a better teacher the student is the weaker learner.

    .. math::
        L_T = d_1\,\tilde L_S(N, D)

    What can't be imitated goes as :math:`L_T^{-c_0 - c_1}` far above and as :math:`L_T^{-c_0}` far below. The best
    teacher, which minimises ``distillation_loss_law``, is another: 1.91 and not 3.80 for 143 million parameters.

    Args:
        parameters: :math:`N > 0` of the student, without embeddings, any shape.
        tokens: :math:`D > 0`, tokens that the student is distilled on; broadcasts.
        law, supervised: The constants; of the first only :math:`d_1` counts.

    Returns:
        A teacher's loss in nats per token, the broadcast shape: no loss to train with, for all its name.

    Raises:
        TypeError, ValueError: As in ``supervised_loss_law``.

    Example:
        >>> capacity_gap_teacher_loss(torch.tensor(143e6), torch.tensor(20 * 143e6))  # 1.315 · 2.8892
        tensor(3.7993)

    Source: Busbridge et al. 2025, Section 4.3.
    """
    _check_laws(supervised, law)
    n, d = _in_float64(parameters=parameters, tokens=tokens)
    return (law.d1 * (supervised.E + _shortage(n, d, supervised))).to(_dtype(parameters, tokens))


def training_flops(
    parameters: Tensor,  # (...)
    tokens: Tensor,  # (...)
    *,
    teacher_parameters: Tensor | None = None,  # (...)
    teacher_tokens: Tensor | None = None,  # (...)
    logits_share: float = 1.0,
    pretraining_share: float = 1.0,
    context: int = 0,
    vocabulary: int = 0,
) -> Tensor:  # (...)
    r"""What a student costs: its own training, its teacher's answers, and its part in the teacher's training.

    .. math::
        3\,F(N)\,D + F(N_T)\,(\delta_L\,D + 3\,\delta_P\,D_T), \quad
        F(N) = 2 N + 2\,l \Big(\frac{N^2}{128 \cdot 12^2}\Big)^{1/3} + 2\,v \Big(\frac{128\,N}{12}\Big)^{1/3}

    F is a forward pass per token; a backward pass costs two of it. Without context l and vocabulary v it is the usual
    2N, so that training on data costs 6ND; the paper's model of 143 million parameters costs 1.56 times as much.

    Args:
        parameters: :math:`N > 0` of the student, without embeddings, any shape.
        tokens: :math:`D > 0`, tokens that the student is trained on; broadcasts.
        teacher_parameters: :math:`N_T`, broadcasts; left out, there is no teacher, or its answers are free.
        teacher_tokens: :math:`D_T`, tokens that the teacher is trained on; left out, it exists already.
        logits_share: :math:`\delta_L` in [0, 1] of the teacher's forward passes; 0 if stored logits are used again.
        pretraining_share: :math:`\delta_P` in [0, 1] of the teacher's training; 1/k if k students share it.
        context: l, the sequence length, for the cost of attention: 4096 in the paper.
        vocabulary: v, its size, for the cost of the output layer: 32,768 in the paper. Both estimates hold for its
            shape of Transformer, as wide as 128 times its depth, with 12 weights per layer and squared width.

    Returns:
        Floating-point operations, the broadcast shape.

    Raises:
        TypeError, ValueError: As in ``supervised_loss_law``; for a share outside [0, 1]; for tokens of no teacher.

    Example:
        >>> n, d = torch.tensor(1e6), torch.tensor(1e7)
        >>> training_flops(n, d, teacher_parameters=10 * n, teacher_tokens=10 * d) / (n * d)  # 6 + 20 + 600
        tensor(626.)

    Source: Busbridge et al. 2025, equation 9 and Table 2; F is equation 69 (Appendix H.1), shapes from Appendix I.
    """
    _check_costs(1, logits_share=logits_share, pretraining_share=pretraining_share)
    _check_costs(math.inf, context=context, vocabulary=vocabulary)
    if teacher_parameters is None and teacher_tokens is not None:
        raise ValueError("teacher_tokens need teacher_parameters: training costs the product of both")
    teacher = {"teacher_parameters": teacher_parameters, "teacher_tokens": teacher_tokens}
    given = {"parameters": parameters, "tokens": tokens, **{k: v for k, v in teacher.items() if v is not None}}
    n, d, n_t, d_t, *_ = (*_in_float64(**given), torch.zeros(()), torch.zeros(()))  # no teacher costs nothing
    own, teachers = (_forward_flops(count, context, vocabulary) for count in (n, n_t))
    flops = 3 * own * d + teachers * (logits_share * d + 3 * pretraining_share * d_t)
    return flops.to(_dtype(*given.values()))


def _shortage(n: Tensor, d: Tensor, law: SupervisedLaw | DistillationLaw) -> Tensor:
    return (law.A / n**law.alpha + law.B / d**law.beta) ** law.gamma


def _forward_flops(n: Tensor, context: int, vocabulary: int) -> Tensor:
    return 2 * n + 2 * context * (n**2 / (128 * 12**2)) ** (1 / 3) + 2 * vocabulary * (128 * n / 12) ** (1 / 3)


def _dtype(*amounts: Tensor) -> torch.dtype:
    return functools.reduce(torch.promote_types, (amount.dtype for amount in amounts), torch.float32)


def _in_float64(**amounts: Tensor) -> list[Tensor]:
    """Checked, and in float64, which Apple's GPUs lack: the law's exponents make rounding errors 500 times larger."""
    for name, amount in amounts.items():
        if not isinstance(amount, Tensor) or amount.dtype == torch.bool or amount.is_complex():
            found = amount.dtype if isinstance(amount, Tensor) else f"{type(amount).__name__}: use torch.as_tensor"
            raise TypeError(f"{name} must be a tensor of numbers, got {found}")
        if amount.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
            wrong = amount[~((amount > 0) & (amount < math.inf))]
            if len(wrong):
                raise ValueError(f"{name} must be positive and finite, got {wrong[0].item()}")
    shapes = [tuple(amount.shape) for amount in amounts.values()]
    try:
        torch.broadcast_shapes(*shapes)
    except RuntimeError:
        raise ValueError(f"{', '.join(amounts)} must broadcast, got shapes {shapes}") from None
    return [amount.to(torch.float32 if amount.device.type == "mps" else torch.float64) for amount in amounts.values()]


def _check_laws(supervised: object, law: object = APPLE_DISTILLATION) -> None:
    for given, kind in ((supervised, SupervisedLaw), (law, DistillationLaw)):
        if not isinstance(given, kind):
            raise TypeError(f"the law must be a {kind.__name__}, got {type(given).__name__}")


def _check_costs(most: float, **costs: float) -> None:
    _check_numbers(**costs)
    for name, value in costs.items():
        if not 0 <= value <= most:
            raise ValueError(f"{name} must be in [0, {most}], got {value}")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
