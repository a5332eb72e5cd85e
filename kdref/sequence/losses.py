"""Sequence-level distillation: learning from sequences that the teacher, or the student itself, has drawn.

Source: Kim and Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016, https://arxiv.org/abs/1606.07947; the other
papers stand at their functions. Exact divergences are in enumeration.py. Lesson: notebooks/12_reasoning.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B sequences, L tokens, V vocabulary, K samples per problem; ``...`` is any number of leading axes.
Logits at position t are those from which token t is drawn: shift a language model's output by one position first.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["on_policy_loss", "rejection_sample", "sequence_level_loss"]


def sequence_level_loss(
    student_logits: Tensor,  # (..., L, V)
    teacher_tokens: Tensor,  # (..., L)
    *,
    mask: Tensor | None = None,  # (..., L)
    num_tokens: float | Tensor | None = None,
) -> Tensor:  # ()
    r"""Cross-entropy with sequences that the teacher wrote (sequence-level KD): fine-tuning on generated text.

    .. math::
        \frac1N \sum_{i,t} -\log q(y_{it} \mid y_{i,<t}), \qquad y_i \sim P

    For sequences *drawn* from the teacher, N times this estimates the sequences' divergence KL(P‖Q) plus the teacher's
    entropy. Kim and Rush took the best sequence of a beam instead, which teaches the teacher's mode. No logits of the
    teacher are needed: this is how the distilled DeepSeek-R1 models were made.

    Args:
        student_logits: Raw scores of the student reading the teacher's tokens, shape ``(..., L, V)``. Receives the
            gradient.
        teacher_tokens: What the teacher wrote, shape ``(..., L)``, int64.
        mask: True where a token counts (the answer with its end-of-sequence token, not the prompt or padding), bool.
            What stands at the other positions, even NaN, does not matter.
        num_tokens: What the sum is divided by, a positive number. None takes this batch's unmasked tokens; give the
            whole batch's number when it is split into micro-batches, so that their losses add up.

    Returns:
        Scalar loss in nats per token, at least 0; 0 with a gradient path where no token counts.

    Raises:
        TypeError: If the logits are not floating point, the tokens not int64, the mask not bool or the count no number.
        ValueError: If the shapes don't fit, there is no token, or (looked at on the CPU only) a token is out of range
            or the count not positive.

    Example:
        >>> sequence_level_loss(torch.zeros(1, 3, 4), torch.tensor([[0, 3, 1]]))  # log 4
        tensor(1.3863)

    Source: Kim and Rush 2016, Section 3.2; DeepSeek-AI, "DeepSeek-R1", 2025, https://arxiv.org/abs/2501.12948,
    Section 2.4 (of version 1).
    """
    return _mean_over_drawn(-_drawn_log_probs(student_logits, teacher_tokens, mask, 1.0), mask, num_tokens)


def on_policy_loss(
    student_logits: Tensor,  # (..., L, V)
    teacher_logits: Tensor,  # (..., L, V)
    student_tokens: Tensor,  # (..., L)
    *,
    mask: Tensor | None = None,  # (..., L)
    num_tokens: float | Tensor | None = None,
    temperature: float | Tensor = 1.0,
    whole_sequence: bool = True,
    length_normalization: bool = False,
    baseline: float | Tensor = 0.0,
) -> Tensor:  # ()
    r"""Log-ratio of sequences that the student drew, with the gradient of the reverse divergence KL(Q‖P).

    .. math::
        r_t = \log q(y_t \mid y_{<t}) - \log p(y_t \mid y_{<t}), \qquad A_{it} = b - \sum_{u \ge t} r_{iu}, \qquad
        \nabla = -\frac1N \sum_{i,t} A_{it}\, \nabla \log q(y_{it} \mid y_{i,<t}), \qquad y_i \sim Q

    Differentiating the sampled :math:`r_t` itself has an expected gradient of exactly zero: the student's tokens depend
    on its weights, and autograd does not see that. Here the advantage A, high where the teacher likes what was drawn,
    is a constant, so this loss can't be differentiated twice: what A would add is missing. The value is the mean of r,
    an estimate of the divergence per token that single batches may push below 0.

    Args:
        student_logits: The student's raw scores on its own sequences, shape ``(..., L, V)``. Receives the gradient.
        teacher_logits: The teacher's on the same, same shape. Treated as a constant. A drawn token that it excludes
            with -inf makes the loss infinite, like the divergence, and gets no gradient: none leads out.
        student_tokens: What the student drew at this temperature and with these weights, shape ``(..., L)``, int64.
        mask: True where a token counts (with the end-of-sequence token, without prompt and padding), bool.
        num_tokens: As in ``sequence_level_loss``. Where the student decides on the length, the expected gradient of a
            batch's own mean is not exactly the divergence's; any fixed number's is.
        temperature: :math:`\tau > 0`, of both.
        whole_sequence: True: a token answers for all that follows it, which gives the gradient of the sequences'
            divergence. False: for itself only, which gives that of the tokens' divergences with the prefixes held
            fixed; less noise, and blind to where a token leads.
        length_normalization: True divides the advantage's sum by its number of tokens, the remaining length: a mean,
            so that texts are not kept short. It is no divergence's gradient. MiniLLM's code does so, and adds reverse
            KL per token; the paper (equation 6) leaves token t out of the sum, and divides T - t terms by T - t - 1.
        baseline: :math:`b`, in nats, the sum to be expected: a number, or a tensor that broadcasts to ``(..., L)``. It
            must not depend on the token that it is for; then it changes the noise and not the expected gradient.

    Returns:
        Scalar loss in nats per token; 0 with a gradient path where no token counts.

    Raises:
        TypeError, ValueError: As in ``sequence_level_loss``; if the temperature is not positive, the baseline doesn't
            broadcast, or lengths are to be normalised without a whole sequence.

    Example:
        >>> student = torch.zeros(1, 1, 2, requires_grad=True)
        >>> on_policy_loss(student, torch.tensor([[[1.0, 3.0]]]).log(), torch.tensor([[0]])).backward()
        >>> student.grad  # it drew token 0, and log ½ - log ¼ = log 2 is too much: away from it
        tensor([[[ 0.3466, -0.3466]]])

    Source: Gu et al., "MiniLLM", ICLR 2024, https://arxiv.org/abs/2306.08543, Section 2.2, and the authors' code
    (whole sequences, lengths); Agarwal et al., "On-Policy Distillation of Language Models", ICLR 2024,
    https://arxiv.org/abs/2306.13649 (prefixes held fixed).
    """
    _check_words(student_logits, teacher_logits)
    if length_normalization and not whole_sequence:
        raise ValueError("length_normalization needs whole_sequence=True: there is no sum to divide by its length")
    log_q = _drawn_log_probs(student_logits, student_tokens, mask, temperature)
    ratio = log_q.detach() - _drawn_log_probs(teacher_logits.detach(), student_tokens, mask, temperature)
    surprise = _sum_from_here(ratio) if whole_sequence else ratio
    if length_normalization:
        counts = torch.ones_like(ratio) if mask is None else mask.to(ratio.dtype)
        surprise = surprise / _sum_from_here(counts).clamp(min=1)
    advantage = (_baseline(baseline, ratio) - surprise).masked_fill(surprise == torch.inf, 0)
    carrier = log_q - log_q.detach()  # zero, with the gradient of log q
    return _mean_over_drawn(ratio - advantage * carrier, mask, num_tokens)


def rejection_sample(
    accepted: Tensor,  # (..., K)
    *,
    keep: int = 1,
) -> Tensor:  # (..., K)
    r"""Which of K samples per problem to learn from: the first few that were accepted.

    A kept sample follows the teacher's own distribution given that it is accepted, since samples are drawn
    independently and nothing but acceptance decides. Choosing the shortest or the likeliest would not. Problems without
    an accepted sample drop out, so those that are left are easier: compare their number with the problems'.

    Args:
        accepted: Whether each sample passed the check (a right final answer, say), shape ``(..., K)``, bool.
        keep: How many to keep of each problem at most, at least 1; K keeps all, and lets easy problems outweigh hard
            ones.

    Returns:
        Mask of the kept samples, shape ``(..., K)``, bool.

    Raises:
        TypeError: If ``accepted`` is not bool.
        ValueError: If there is no sample axis or ``keep`` is below 1.

    Example:
        >>> rejection_sample(torch.tensor([[False, True, True], [False, False, False]]))
        tensor([[False,  True, False],
                [False, False, False]])

    Source: DeepSeek-AI, "DeepSeek-R1", 2025, https://arxiv.org/abs/2501.12948, Section 2.3.3 (of version 1): several
    responses per prompt, only the correct ones retained. How many to keep of each is our parameter.
    """
    _check_tensors(accepted=accepted)
    _check_numbers(keep=keep)
    if accepted.dtype != torch.bool:
        raise TypeError(f"accepted must be bool, got {accepted.dtype}: compare the answers first")
    if accepted.dim() == 0:
        raise ValueError("accepted needs an axis of samples at the end, got a single value")
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}: it is how many samples of a problem may stay")
    return accepted & (accepted.cumsum(dim=-1) <= keep)


def _drawn_log_probs(logits: Tensor, tokens: Tensor, mask: Tensor | None, temperature: float | Tensor) -> Tensor:
    """Log-probability of each drawn token, (..., L); 0 where the mask is false, whatever stands there."""
    _check_logits(logits)
    _check_drawn(logits, tokens, mask)
    _check_temperature(temperature, logits)
    logits, tokens = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature, tokens.clone()
    if mask is not None:  # before the softmax: a NaN that is multiplied by zero stays NaN, also in the gradient
        logits, tokens = logits.masked_fill(~mask[..., None], 0.0), tokens.masked_fill(~mask, 0)
    _check_ids("tokens", tokens, logits.shape[-1], hint="mask what does not count")
    log_probs = F.log_softmax(logits, dim=-1).gather(-1, tokens[..., None]).squeeze(-1)
    return log_probs if mask is None else log_probs.masked_fill(~mask, 0.0)


def _sum_from_here(values: Tensor) -> Tensor:  # (..., L), to the end
    return values.flip(-1).cumsum(dim=-1).flip(-1)


def _baseline(baseline: float | Tensor, ratio: Tensor) -> float | Tensor:
    if not isinstance(baseline, Tensor):
        _check_numbers(baseline=baseline)
        return baseline
    sizes = zip(baseline.shape[::-1], ratio.shape[::-1], strict=False)
    if baseline.dim() > ratio.dim() or any(size not in (1, n) for size, n in sizes):
        raise ValueError(f"baseline must broadcast to {tuple(ratio.shape)}, got shape {tuple(baseline.shape)}")
    return baseline.detach()


def _mean_over_drawn(values: Tensor, mask: Tensor | None, num_tokens: float | Tensor | None) -> Tensor:
    """Sum over tokens by their number; masked ones are zero already."""
    if values.numel() == 0:
        raise ValueError(f"there is no token (shape {tuple(values.shape)}), and the mean of nothing is undefined")
    _check_count(num_tokens)
    if num_tokens is None:
        num_tokens = values.numel() if mask is None else mask.sum().clamp(min=1)
    return values.sum() / num_tokens


def _check_drawn(logits: Tensor, tokens: Tensor, mask: Tensor | None) -> None:
    _check_tensors(tokens=tokens)
    if tokens.dtype != torch.int64:
        raise TypeError(f"tokens must be int64 ids, got {tokens.dtype}: convert them with tokens.long()")
    if logits.shape[:-1] != tokens.shape or tokens.dim() == 0:
        shapes = f"{tuple(logits.shape)} and {tuple(tokens.shape)}"
        raise ValueError(f"expected logits (..., L, V) and tokens (..., L), got {shapes}")
    _check_mask(mask, tokens.shape)


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


def _check_words(student: Tensor, teacher: Tensor) -> None:
    _check_logits(student)
    _check_logits(teacher)
    if student.shape != teacher.shape:
        n = min(student.shape[-1], teacher.shape[-1])
        cut = f": cut both to shared words, [..., :{n}], not -inf" if student.shape[:-1] == teacher.shape[:-1] else ""
        raise ValueError(f"both logits must be (..., V), got {tuple(student.shape)} and {tuple(teacher.shape)}{cut}")


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")


def _check_mask(mask: object, shape: torch.Size) -> None:
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == shape):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        kind = ValueError if isinstance(mask, Tensor) and mask.dtype == torch.bool else TypeError
        raise kind(f"mask must be a bool tensor {tuple(shape)}, one per token, got {got}: torch.as_tensor(mask).bool()")


def _check_count(num_tokens: object) -> None:
    if isinstance(num_tokens, Tensor) and num_tokens.dim() > 0:
        raise ValueError(f"num_tokens must be one number, got shape {tuple(num_tokens.shape)}: take its .sum()")
    unseen = isinstance(num_tokens, Tensor) and (num_tokens.device.type != "cpu" or torch.compiler.is_compiling())
    if num_tokens is None or unseen:  # looking would cost a sync
        return
    if not isinstance(num_tokens, numbers.Real | Tensor):
        raise TypeError(f"num_tokens must be a number, got {num_tokens!r}")
    if not 0 < float(num_tokens) < math.inf:
        raise ValueError(f"num_tokens must be positive and finite, got {float(num_tokens)}")


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
