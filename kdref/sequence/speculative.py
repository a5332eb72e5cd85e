"""Speculative decoding: a student drafts, the teacher checks, and what comes out is the teacher's, in fewer calls.

Source: Leviathan, Kalman and Matias, "Fast Inference from Transformers via Speculative Decoding", ICML 2023,
https://arxiv.org/abs/2211.17192 (Algorithm 1). The acceptance that a draft model is distilled for is in acceptance.py.
Lesson: notebooks/12_reasoning.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B sequences, K drafted tokens, L tokens, V vocabulary; ``...`` is any number of leading axes.
"""

import math
import numbers
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["speculative_decoding", "speculative_sample"]


def speculative_sample(
    draft_tokens: Tensor,  # (B, K)
    student_probabilities: Tensor,  # (B, K, V)
    teacher_probabilities: Tensor,  # (B, K + 1, V)
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:  # (B, K + 1), (B,)
    r"""Keep drafted tokens up to the first that is rejected, and add one: together a draw from the teacher.

    .. math::
        P(\text{accept } v) = \min\!\Big(1, \frac{p_v}{q_v}\Big), \qquad
        \text{after a rejection } v \sim \frac{\max(0, p_v - q_v)}{\sum_u \max(0, p_u - q_u)}

    When all are accepted, the added token is drawn from the teacher. The result is exact only if every draft was drawn
    from the very q that is given here: same temperature, same truncation, same precision. A greedy draft has q = 1 on
    its token.

    Args:
        draft_tokens: What the student drew, one after the other, shape ``(B, K)``, int64. K may be 0.
        student_probabilities: The distributions :math:`q` it drew them from, shape ``(B, K, V)``.
        teacher_probabilities: The teacher's :math:`p` at the same positions and at the one after them, shape
            ``(B, K + 1, V)``. Where its vocabulary is the larger one, give the student probability 0 there.
        generator: Draws the decisions; on the device of the tensors. None uses torch's global one.

    Returns:
        Tokens, shape ``(B, K + 1)``, int64, and how many of them count, shape ``(B,)``, from 1 to K + 1. What stands
        after those is -1.

    Raises:
        TypeError: If the probabilities are not floating point or the tokens not int64.
        ValueError: If the shapes don't fit or (looked at on the CPU only) a probability is not in [0, 1], NaN among
            them, or a token is out of range.

    Example:
        >>> student, teacher = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
        >>> speculative_sample(torch.tensor([[1]]), student, teacher)  # accepted: p > q; then one of the teacher's
        (tensor([[1, 0]]), tensor([2]))
        >>> speculative_sample(torch.tensor([[0]]), student, teacher)  # rejected: p = 0; replaced
        (tensor([[ 1, -1]]), tensor([1]))

    Source: Leviathan et al. 2023, Algorithm 1.
    """
    _check_probabilities(student_probabilities)
    _check_probabilities(teacher_probabilities)
    _check_drafts(draft_tokens, student_probabilities, teacher_probabilities)
    dtype = torch.promote_types(teacher_probabilities.dtype, torch.float32)
    q, p = student_probabilities.detach().to(dtype), teacher_probabilities.detach().to(dtype)
    at_draft = draft_tokens[..., None]
    q_drafted, p_drafted = q.gather(-1, at_draft).squeeze(-1), p[:, :-1].gather(-1, at_draft).squeeze(-1)
    chance = torch.rand(q_drafted.shape, generator=generator, dtype=dtype, device=p.device)
    accepted = (chance * q_drafted < p_drafted).cumprod(dim=-1).sum(dim=-1, keepdim=True)  # (B, 1): 0 to K
    place = accepted[..., None].expand(-1, 1, p.shape[-1])
    p_next = p.gather(1, place).squeeze(1)
    q_next = F.pad(q, (0, 0, 0, 1)).gather(1, place).squeeze(1)  # nothing was drafted at the last position
    residual = (p_next - q_next).clamp(min=0)
    residual = torch.where(residual.sum(dim=-1, keepdim=True) == 0, p_next, residual)  # p = q up to rounding
    added = torch.multinomial(residual, 1, generator=generator)
    position = torch.arange(p.shape[1], device=p.device)
    tokens = torch.where(position < accepted, F.pad(draft_tokens, (0, 1)), -1)
    return torch.where(position == accepted, added, tokens), accepted.squeeze(-1) + 1


def speculative_decoding(
    student: Callable[[Tensor], Tensor],
    teacher: Callable[[Tensor], Tensor],
    prompt: Tensor,  # (L,)
    *,
    max_new_tokens: int,
    num_drafts: int = 4,
    temperature: float = 1.0,
    end: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, int]:  # (new tokens,), teacher calls
    r"""Text drawn from the teacher, with fewer calls of the teacher than tokens.

    The law of the text is the teacher's own whatever the student is; a better student makes it cheaper, not better.
    Every call here reads the whole sequence anew, so it shows the number of calls, not the time that a cache saves.

    Args:
        student: Maps tokens ``(1, L)`` to logits ``(1, L, V)``, where those at position t are for the token after t.
        teacher: The same. Both are called without gradient; put them in eval mode first.
        prompt: Tokens to go on from, shape ``(L,)``, int64, at least one: a language model needs something to read.
        max_new_tokens: How many to write at most, at least 1.
        num_drafts: Tokens drafted per call of the teacher, at least 0. 0 is plain sampling.
        temperature: :math:`\tau > 0`, of both.
        end: Token after which to stop; it is part of the result. None never stops early.
        generator: Draws everything. None uses torch's global one.

    Returns:
        The new tokens, shape ``(T,)``, int64, and the number of calls of the teacher.

    Raises:
        TypeError: If the prompt is not int64, a model gives no logits or a setting is no number.
        ValueError: If the prompt is not one sequence, or a number is out of range.

    Example:
        >>> def counts_up(tokens):  # the token after v is v + 1
        ...     return 1e4 * torch.nn.functional.one_hot(tokens + 1, 10)
        >>> speculative_decoding(counts_up, counts_up, torch.tensor([0]), max_new_tokens=5)
        (tensor([1, 2, 3, 4, 5]), 1)

    Source: Leviathan et al. 2023, Algorithm 1, repeated; Chen et al., "Accelerating Large Language Model Decoding with
    Speculative Sampling", 2023, https://arxiv.org/abs/2302.01318, found the same at the same time.
    """
    _check_temperature(temperature)
    _check_tensors(prompt=prompt)
    _check_numbers(max_new_tokens=max_new_tokens, num_drafts=num_drafts)
    if prompt.dtype != torch.int64:
        raise TypeError(f"tokens must be int64 ids, got {prompt.dtype}: convert them with tokens.long()")
    if prompt.dim() != 1 or len(prompt) == 0:
        raise ValueError(f"prompt must be one sequence (L,) of at least one token, got {tuple(prompt.shape)}")
    if max_new_tokens < 1 or num_drafts < 0:
        raise ValueError(
            f"max_new_tokens must be at least 1 and num_drafts at least 0, got {max_new_tokens} and {num_drafts}"
        )
    tokens, calls = prompt[None], 0
    while tokens.shape[1] - len(prompt) < max_new_tokens:
        drafts = min(num_drafts, max_new_tokens - (tokens.shape[1] - len(prompt)) - 1)
        drafted, student_rows = tokens, []
        for _ in range(drafts):
            student_rows.append(_next_probabilities(student, drafted, temperature, 1))
            drafted = torch.cat([drafted, torch.multinomial(student_rows[-1][:, 0], 1, generator=generator)], dim=1)
        p = _next_probabilities(teacher, drafted, temperature, drafts + 1)
        q = torch.cat([p[:, :0], *student_rows], dim=1)
        new, count = speculative_sample(drafted[:, tokens.shape[1] :], q, p, generator=generator)
        written = new[:, : int(count)]
        calls = calls + 1
        stop = (written[0] == end).nonzero() if end is not None else written[0, :0]
        if len(stop):
            return torch.cat([tokens, written[:, : int(stop[0]) + 1]], dim=1)[0, len(prompt) :], calls
        tokens = torch.cat([tokens, written], dim=1)
    return tokens[0, len(prompt) :], calls


@torch.no_grad()
def _next_probabilities(
    model: Callable[[Tensor], Tensor], tokens: Tensor, temperature: float, positions: int
) -> Tensor:
    """A model's distributions at the last positions, in at least float32, so that draw and check use the same."""
    logits = model(tokens)
    _check_logits(logits)
    logits = logits[:, -positions:]
    return F.softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, dim=-1)


def _check_drafts(draft_tokens: Tensor, student: Tensor, teacher: Tensor) -> None:
    _check_tensors(draft_tokens=draft_tokens)
    if draft_tokens.dtype != torch.int64:
        raise TypeError(f"draft_tokens must be int64 ids, got {draft_tokens.dtype}: convert them with tokens.long()")
    right = student.dim() == teacher.dim() == 3 and student.shape[:2] == draft_tokens.shape
    if not right or teacher.shape != (student.shape[0], student.shape[1] + 1, student.shape[2]):
        raise ValueError(
            f"expected drafts (B, K), the student's probabilities (B, K, V) and the teacher's (B, K + 1, V), got "
            f"{tuple(draft_tokens.shape)}, {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    _check_ids("draft_tokens", draft_tokens, student.shape[-1], hint="each was drawn from these words")


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


def _check_temperature(temperature: object, logits: Tensor | None = None, class_dim: int = -1) -> None:
    if isinstance(temperature, Tensor):  # looking at its value would cost a sync
        shape, one_each = tuple(temperature.shape), () if logits is None else logits.narrow(class_dim, 0, 1).shape
        fits = len(shape) == len(one_each) and all(size in (1, n) for size, n in zip(shape, one_each, strict=True))
        if shape and not fits:
            each = f", or one per example {tuple(one_each)}" if one_each else ""
            raise ValueError(f"temperature must be a number{each}, got shape {shape}")
    elif not isinstance(temperature, numbers.Real):
        raise TypeError(f"temperature must be a number, got {temperature!r}")
    elif not 0 < float(temperature) < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")


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


def _check_ids(name: str, ids: Tensor, words: int, *, hint: str) -> None:
    if ids.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere looking would cost a sync
        wrong = ids[(ids < 0) | (ids >= words)]
        if len(wrong):
            raise ValueError(f"{name} must be in [0, {words}), got {wrong[0].item()}: {hint}")


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
