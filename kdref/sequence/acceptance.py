"""How good a draft model is: the probability that speculative decoding accepts its tokens, and what that saves.

Source: Leviathan, Kalman and Matias, "Fast Inference from Transformers via Speculative Decoding", ICML 2023,
https://arxiv.org/abs/2211.17192 (Section 3). The decoding itself is in speculative.py.
Lesson: notebooks/12_reasoning.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: K drafted tokens, V vocabulary; ``...`` is any number of leading axes.
"""

import numbers

import torch
from torch import Tensor

__all__ = ["expected_tokens_per_call", "speculative_acceptance"]


def speculative_acceptance(
    student_probabilities: Tensor,  # (..., V)
    teacher_probabilities: Tensor,  # (..., V)
) -> Tensor:  # (...)
    r"""Probability that speculative decoding accepts a token which the student drafts: one minus total variation.

    .. math::
        \alpha = \sum_v \min(p_v, q_v) = 1 - \tfrac12 \sum_v |p_v - q_v|

    Pass probabilities at the temperature of decoding, not logits. A draft model is as good as this number on the
    prefixes that *it* is asked about; no KL divergence gives it.

    Args:
        student_probabilities: The draft model's, :math:`q`, shape ``(..., V)``. Receives the gradient.
        teacher_probabilities: The model's whose text is wanted, :math:`p`, same shape. Treated as a constant. Where its
            vocabulary is the larger one, give the student probability 0 there.

    Returns:
        Acceptance per position, shape ``(...)``, in [0, 1].

    Raises:
        TypeError: If they are not floating-point tensors.
        ValueError: If the shapes differ, there is no vocabulary axis or (looked at on the CPU only) a number is not in
            [0, 1].

    Example:
        >>> speculative_acceptance(torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.75, 0.0, 0.25]))
        tensor(0.5000)

    Source: Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023,
    https://arxiv.org/abs/2211.17192, Section 3.2; as a loss to distil with: Zhou et al., "DistillSpec", ICLR 2024,
    https://arxiv.org/abs/2310.08461.
    """
    _check_probabilities(student_probabilities)
    _check_probabilities(teacher_probabilities)
    _check_same_shape(student_probabilities, teacher_probabilities)
    dtype = torch.promote_types(student_probabilities.dtype, torch.float32)
    teacher = teacher_probabilities.detach().to(dtype).clone()  # inference mode's own can't be kept for backward
    return torch.minimum(student_probabilities.to(dtype), teacher).sum(dim=-1)


def expected_tokens_per_call(
    acceptance: Tensor,  # (...)
    *,
    num_drafts: int,
) -> Tensor:  # (...)
    r"""Tokens that one call of the teacher yields on average, if every draft is accepted with the same probability.

    .. math::
        \sum_{k=0}^{K} \alpha^k = \frac{1 - \alpha^{K+1}}{1 - \alpha}

    In real text some tokens are easier to draft than others, so measure as well.

    Args:
        acceptance: :math:`\alpha`, probability that a draft is accepted, in [0, 1]. Receives a gradient.
        num_drafts: K, tokens drafted per call, at least 0.

    Returns:
        Expected tokens, same shape, from 1 to K + 1.

    Raises:
        TypeError: If the acceptance is not a floating-point tensor or ``num_drafts`` no number.
        ValueError: If ``num_drafts`` is negative.

    Example:
        >>> expected_tokens_per_call(torch.tensor([0.0, 0.5, 1.0]), num_drafts=2)  # 1, 1 + ½ + ¼, 3
        tensor([1.0000, 1.7500, 3.0000])

    Source: Leviathan et al. 2023, equation 1.
    """
    _check_tensors(acceptance=acceptance)
    _check_numbers(num_drafts=num_drafts)
    if not acceptance.is_floating_point():
        raise TypeError(f"acceptance must be floating point, got {acceptance.dtype}")
    if num_drafts < 0:
        raise ValueError(f"num_drafts must be at least 0, got {num_drafts}")
    acceptance = acceptance.to(torch.promote_types(acceptance.dtype, torch.float32))
    return sum((acceptance**k for k in range(1, num_drafts + 1)), torch.ones_like(acceptance))


def _check_probabilities(probabilities: Tensor) -> None:
    _check_tensors(probabilities=probabilities)
    if not probabilities.is_floating_point():
        raise TypeError(f"probabilities must be floating point, got {probabilities.dtype}")
    if probabilities.dim() == 0 or probabilities.shape[-1] == 0:
        raise ValueError(f"probabilities need a vocabulary axis at the end, got shape {tuple(probabilities.shape)}")
    if probabilities.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
        wrong = probabilities[~((probabilities >= 0) & (probabilities <= 1.01))]
        if len(wrong):
            raise ValueError(f"probabilities must be in [0, 1], got {wrong[0].item()}: logits need .softmax(-1) first")


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have the same shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


def _check_tensors(**tensors: object) -> None:
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            whole = hasattr(value, "keys") or isinstance(value, tuple)
            hint = "take its .logits or .hidden_states" if whole else "use torch.as_tensor"
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
