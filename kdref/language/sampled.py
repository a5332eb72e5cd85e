"""A teacher's distributions kept as words drawn from them, right on average, and what is stored of words.

Source: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025,
https://arxiv.org/abs/2503.16870. The top k words, with their tail, are in sparse.py.
Lesson: notebooks/19_writing_models.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: V words of the vocabulary, k words kept; ``...`` is any number of leading axes.
"""

import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["pack_sparse", "sampled_teacher", "sampled_teacher_loss", "unpack_sparse"]


def sampled_teacher(
    logits: Tensor,  # (..., V)
    *,
    k: int,
    proposal_temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:  # (..., k), (..., k)
    r"""k words drawn from the teacher with replacement, weighted so that their mean is the teacher, tail and all.

    .. math::
        v_j \sim r \propto p^{1/\theta}, \quad w_j = \frac{p_{v_j}}{k\, r_{v_j}}, \qquad
        \mathbb{E} \sum_j w_j \, [v_j = v] = p_v

    Where top-k is wrong in the same way in every epoch, this is right on average. Don't make the weights sum to 1:
    that is where the bias comes back, but for θ = 1, where they do by themselves, all being 1/k.

    Args:
        logits: The teacher's raw scores, shape ``(..., V)``. No gradient.
        k: Draws per token. A word may be drawn more than once.
        proposal_temperature: :math:`\theta > 0`. Above 1 the tail is seen more often, with smaller weights.
        generator: For reproducible draws.

    Returns:
        Indices, int64, and log-weights :math:`\log w`, both ``(..., k)``, for ``sampled_teacher_loss``.

    Raises:
        TypeError: If the logits are not a floating-point tensor, or a setting is no number.
        ValueError: If there is no word axis, k is not positive or the temperature is not.

    Example:
        >>> indices, log_weights = sampled_teacher(torch.tensor([50.0, 0.0, 0.0]), k=4)
        >>> indices, log_weights.exp()
        (tensor([0, 0, 0, 0]), tensor([0.2500, 0.2500, 0.2500, 0.2500]))

    Source: Anshumann et al. 2025, random sampling knowledge distillation.
    """
    _check_logits(logits)
    _check_numbers(k=k, proposal_temperature=proposal_temperature)
    if k < 1:
        raise ValueError(f"need logits (..., V) and at least one draw, got {tuple(logits.shape)} and k = {k}")
    if not 0 < proposal_temperature < float("inf"):
        raise ValueError(f"proposal_temperature must be positive and finite, got {proposal_temperature}")
    scores = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
    log_p, log_r = F.log_softmax(scores, dim=-1), F.log_softmax(scores / proposal_temperature, dim=-1)
    rows = log_r.exp().reshape(-1, logits.shape[-1])
    indices = rows.multinomial(k, replacement=True, generator=generator).reshape(*logits.shape[:-1], k)
    share = torch.tensor(float(k), dtype=log_p.dtype, device=log_p.device).log()
    return indices, log_p.gather(-1, indices) - log_r.gather(-1, indices) - share


def sampled_teacher_loss(
    student_logits: Tensor,  # (..., V)
    indices: Tensor,  # (..., k)
    log_weights: Tensor,  # (..., k)
    *,
    mask: Tensor | None = None,  # (...)
) -> Tensor:  # ()
    r"""Mean cross-entropy with sampled words: on average over draws, the gradient of the whole forward KL.

    .. math::
        \frac{1}{n} \sum_i m_i \sum_j -w_{ij} \log q_{i v_{ij}}

    Its value is no KL: a perfect student is left with the teacher's entropy. Compare gradients and accuracies, not
    this number.

    Args:
        student_logits: Raw scores, shape ``(..., V)``. Receives the gradient.
        indices: The words drawn, shape ``(..., k)``, int64.
        log_weights: Their log-weights, same shape. -inf is no word, whatever its index.
        mask: True where a token counts, shape ``(...)``, bool. What stands elsewhere does not matter.

    Returns:
        Scalar loss in nats per token. 0, with a gradient of 0, where nothing counts.

    Raises:
        TypeError: If logits or weights are not floating point, the indices not int64 or the mask not bool.
        ValueError: If shapes don't fit or an index is (looked at on the CPU only) out of range.

    Example:
        >>> drawn = torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]).log()
        >>> sampled_teacher_loss(torch.zeros(1, 2), *drawn)
        tensor(0.6931)

    Source: Anshumann et al. 2025, random sampling knowledge distillation.
    """
    _check_logits(student_logits)
    _check_list(student_logits, indices, log_weights)
    _check_mask(mask, indices.shape[:-1])
    log_q, indices, log_weights, _ = _listed(student_logits, indices, log_weights, mask)
    weights = log_weights.exp()
    return _mean_over(-(weights * log_q.gather(-1, indices)).masked_fill(weights == 0, 0).sum(dim=-1), mask)


def pack_sparse(
    indices: Tensor,  # (..., k)
    log_values: Tensor,  # (..., k)
) -> tuple[Tensor, Tensor]:
    r"""Six bytes per entry to store: an int32 index, since vocabularies pass 65,536, and a float16 logarithm.

    .. math::
        4 + 2 \text{ bytes}, \qquad |\Delta \log p| \le 2^{-11}\, |\log p|

    Logarithms, because probabilities below 6e-8 would become 0.

    Args:
        indices: int64, below 2³¹.
        log_values: Log-probabilities or log-weights, same shape. Pack a tail's beside them, ``tail.to(torch.float16)``.

    Returns:
        The same in int32 and float16; ``unpack_sparse`` gives them back.

    Raises:
        TypeError: If the indices are not int64 or the logarithms not floating point.
        ValueError: If the shapes differ or an index (looked at on the CPU only) is 2³¹ or more.

    Example:
        >>> packed = pack_sparse(torch.tensor([[151935]]), torch.tensor([[0.5]]).log())
        >>> [x.element_size() for x in packed]
        [4, 2]

    Source: plain arithmetic; 50 entries of 151,936 words are 300 bytes where the float16 row is 303,872.
    """
    _check_tensors(indices=indices, log_values=log_values)
    if indices.dtype != torch.int64 or not log_values.is_floating_point():
        raise TypeError(f"need int64 indices and floating-point logarithms, got {indices.dtype} and {log_values.dtype}")
    if indices.shape != log_values.shape:
        raise ValueError(f"need a logarithm per index, got {tuple(indices.shape)} and {tuple(log_values.shape)}")
    ends = indices.clamp(min=0)  # a negative one may end a shorter list
    _check_ids("indices", ends, 2**31, hint="int32 cannot hold it")
    return indices.to(torch.int32), log_values.to(torch.float16)


def unpack_sparse(
    indices: Tensor,  # (..., k)
    log_values: Tensor,  # (..., k)
) -> tuple[Tensor, Tensor]:
    r"""What ``pack_sparse`` stored, ready for a loss.

    .. math::
        \text{int32} \to \text{int64}, \qquad \text{float16} \to \text{float32}

    Probabilities no longer sum to 1 exactly: the errors of ``pack_sparse`` stay.

    Args:
        indices: int32.
        log_values: float16.

    Returns:
        int64 indices and float32 logarithms.

    Raises:
        TypeError: If the indices are not whole numbers or the logarithms not floating point.

    Example:
        >>> unpack_sparse(torch.tensor([7], dtype=torch.int32), torch.tensor([-0.5], dtype=torch.float16))
        (tensor([7]), tensor([-0.5000]))

    Source: see ``pack_sparse``.
    """
    _check_tensors(indices=indices, log_values=log_values)
    if indices.is_floating_point() or not log_values.is_floating_point():
        raise TypeError(f"need whole indices and floating-point logarithms, got {indices.dtype} and {log_values.dtype}")
    return indices.to(torch.int64), log_values.to(torch.float32)


def _listed(
    logits: Tensor, indices: Tensor, logarithms: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The student's log-probabilities, the list's and which of its entries are none; indices that can be looked up."""
    log_q = F.log_softmax(_kept(logits, mask), dim=-1)
    values = _kept(logarithms.detach(), mask).to(log_q.dtype)
    absent = values == -torch.inf
    indices = indices.masked_fill(absent if mask is None else absent | ~mask.unsqueeze(-1), 0)
    hint = "a shorter list ends in -inf, and a larger teacher is cut to the student's words first, [..., :V]"
    _check_ids("indices", indices, logits.shape[-1], hint=hint)
    return log_q, indices, values, absent


def _kept(x: Tensor, mask: Tensor | None) -> Tensor:
    """In at least float32, with zeros where nothing counts, so that not even NaN gets through."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)


def _mean_over(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.mean() if mask is None else values.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def _check_list(logits: Tensor, indices: Tensor, logarithms: Tensor) -> None:
    """Words (..., k) and their logarithms, beside logits (..., V)."""
    _check_tensors(indices=indices, logarithms=logarithms)
    if indices.dtype != torch.int64 or not logarithms.is_floating_point():
        kinds = f"{indices.dtype} and {logarithms.dtype}"
        raise TypeError(f"need int64 indices and floating-point logarithms, got {kinds}: unpack_sparse makes them so")
    same = logits.shape[:-1] == indices.shape[:-1] and indices.shape == logarithms.shape
    if not same or indices.dim() == 0 or indices.numel() == 0:
        shapes = [tuple(x.shape) for x in (logits, indices, logarithms)]
        raise ValueError(f"need logits (..., V), indices (..., k) and as many logarithms, none empty, got {shapes}")


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


def _check_mask(mask: object, shape: torch.Size) -> None:
    if mask is not None and not (isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == shape):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        kind = ValueError if isinstance(mask, Tensor) and mask.dtype == torch.bool else TypeError
        raise kind(f"mask must be a bool tensor {tuple(shape)}, one per token, got {got}: torch.as_tensor(mask).bool()")


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


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
