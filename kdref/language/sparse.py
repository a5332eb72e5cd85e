"""A teacher's distributions computed once and kept in a few numbers per token: top-k with its tail, or samples.

Source: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025,
https://arxiv.org/abs/2503.16870. ``sparse_teacher``, which picks the top k, is in recipes.py.
Lesson: notebooks/11_language_models.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: V words of the vocabulary, k words kept; ``...`` is any number of leading axes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["pack_sparse", "sampled_teacher", "sampled_teacher_loss", "sparse_teacher_loss", "unpack_sparse"]


def sparse_teacher_loss(
    student_logits: Tensor,  # (..., V)
    indices: Tensor,  # (..., k)
    log_probs: Tensor,  # (..., k)
    tail_log_mass: Tensor,  # (...)
    *,
    tail: str,
    mask: Tensor | None = None,  # (...)
) -> Tensor:  # ()
    r"""Mean forward KL from a teacher of whom the k likeliest words are known, with a policy for all others.

    .. math::
        \text{bucket: } \sum_{v \in K} p_v \log \frac{p_v}{q_v} + t \log \frac{t}{1 - \sum_{v \in K} q_v} \qquad
        \text{renormalize: } \sum_{v \in K} \frac{p_v}{1 - t} \log \frac{p_v}{(1 - t)\, q_v}

    The bucket is the KL of the same distributions with the tail's words taken together: never more than the whole KL,
    and right about how much the tail gets, if not who in it. Renormalised, the target gives the tail nothing, and its
    total variation from the teacher is t.

    Args:
        student_logits: Raw scores, shape ``(..., V)``. Receives the gradient.
        indices: The words kept, shape ``(..., k)``, int64, each once, from ``sparse_teacher``.
        log_probs: :math:`\log p` of these, same shape.
        tail_log_mass: :math:`\log t`, shape ``(...)``.
        tail: "bucket" or "renormalize".
        mask: True where a token counts, shape ``(...)``, bool. What stands elsewhere does not matter.

    Returns:
        Scalar loss in nats per token, at least 0. 0, with a gradient of 0, where nothing counts.

    Raises:
        TypeError: If the logits are not floating point, the indices not int64 or the mask not bool.
        ValueError: If the policy is unknown or shapes don't fit.

    Example:
        >>> kept = torch.tensor([[0]]), torch.tensor([[0.5]]).log(), torch.tensor([0.5]).log()
        >>> sparse_teacher_loss(torch.zeros(1, 4), *kept, tail="bucket")  # (1/2, 1/2) from (1/4, 3/4)
        tensor(0.1438)

    Source: the bias: Anshumann et al. 2025, Section 3; the bucket: a coarser KL is a smaller one (log sum inequality).
    """
    _check_sparse(student_logits, indices, mask)
    if tail not in ("bucket", "renormalize"):
        raise ValueError(f"tail must be 'bucket' or 'renormalize', got {tail!r}: say what becomes of the other words")
    if log_probs.shape != indices.shape or tail_log_mass.shape != indices.shape[:-1]:
        shapes = [tuple(x.shape) for x in (indices, log_probs, tail_log_mass)]
        raise ValueError(f"need indices (..., k), log_probs (..., k), tail_log_mass (...), got {shapes}")
    log_q, picked = _log_probs_at(student_logits, indices, mask)
    lowest = torch.finfo(log_q.dtype).min  # for -inf: its product with a probability of 0 is 0
    log_p = _kept(log_probs.detach(), mask).to(log_q.dtype).clamp(min=lowest)
    log_t = _kept(tail_log_mass.detach().unsqueeze(-1), mask).to(log_q.dtype).squeeze(-1).clamp(min=lowest)
    if tail == "renormalize":
        log_p = log_p.log_softmax(dim=-1)
    values = F.kl_div(picked, log_p, reduction="none", log_target=True).sum(dim=-1)
    if tail == "bucket" and indices.shape[-1] < log_q.shape[-1]:
        rest = log_q.scatter(-1, indices, -torch.inf).logsumexp(dim=-1)
        values = values + log_t.exp() * (log_t - rest)
    return _mean_over(values, mask)


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
        TypeError: If the logits are not floating point.
        ValueError: If there is no word axis, k is not positive or the temperature is not.

    Example:
        >>> indices, log_weights = sampled_teacher(torch.tensor([50.0, 0.0, 0.0]), k=4)
        >>> indices, log_weights.exp()
        (tensor([0, 0, 0, 0]), tensor([0.2500, 0.2500, 0.2500, 0.2500]))

    Source: Anshumann et al. 2025, random sampling knowledge distillation.
    """
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not token ids")
    if logits.dim() == 0 or logits.shape[-1] == 0 or k < 1:
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
        log_weights: Their log-weights, same shape.
        mask: True where a token counts, shape ``(...)``, bool. What stands elsewhere does not matter.

    Returns:
        Scalar loss in nats per token. 0, with a gradient of 0, where nothing counts.

    Raises:
        TypeError: If the logits are not floating point, the indices not int64 or the mask not bool.
        ValueError: If shapes don't fit.

    Example:
        >>> drawn = torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]).log()
        >>> sampled_teacher_loss(torch.zeros(1, 2), *drawn)
        tensor(0.6931)

    Source: Anshumann et al. 2025, random sampling knowledge distillation.
    """
    _check_sparse(student_logits, indices, mask)
    if log_weights.shape != indices.shape:
        raise ValueError(f"need a weight per index, got {tuple(indices.shape)} and {tuple(log_weights.shape)}")
    log_q, picked = _log_probs_at(student_logits, indices, mask)
    weights = _kept(log_weights.detach(), mask).to(log_q.dtype).exp()
    return _mean_over(-(weights * picked).sum(dim=-1), mask)


def pack_sparse(
    indices: Tensor,  # (..., k)
    log_values: Tensor,  # (..., k)
) -> tuple[Tensor, Tensor]:
    r"""Six bytes per entry to store: an int32 index, since vocabularies pass 65,536, and a float16 logarithm.

    .. math::
        4 + 2 \text{ bytes}, \qquad |\Delta \log p| \le 2^{-11}\, |\log p|

    Logarithms, because probabilities below 6e-8 would become 0. Pack a tail's log mass beside the log-probabilities.

    Args:
        indices: int64, below 2³¹.
        log_values: Log-probabilities or log-weights, same shape.

    Returns:
        The same in int32 and float16; ``unpack_sparse`` gives them back.

    Raises:
        TypeError: If the indices are not int64 or the logarithms not floating point.

    Example:
        >>> packed = pack_sparse(torch.tensor([[151935]]), torch.tensor([[0.5]]).log())
        >>> [x.element_size() for x in packed]
        [4, 2]

    Source: plain arithmetic; 50 entries of 151,936 words are 300 bytes where the float16 row is 303,872.
    """
    if indices.dtype != torch.int64 or not log_values.is_floating_point():
        raise TypeError(f"need int64 indices and floating-point logarithms, got {indices.dtype} and {log_values.dtype}")
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

    Example:
        >>> unpack_sparse(torch.tensor([7], dtype=torch.int32), torch.tensor([-0.5], dtype=torch.float16))
        (tensor([7]), tensor([-0.5000]))

    Source: see ``pack_sparse``.
    """
    return indices.to(torch.int64), log_values.to(torch.float32)


def _log_probs_at(logits: Tensor, indices: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """All log-probabilities, and those at the indices."""
    log_q = F.log_softmax(_kept(logits, mask), dim=-1)
    return log_q, log_q.gather(-1, indices)


def _kept(x: Tensor, mask: Tensor | None) -> Tensor:
    """In at least float32, with zeros where nothing counts, so that not even NaN gets through."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)


def _mean_over(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.mean() if mask is None else (values * mask).sum() / mask.sum().clamp(min=1)


def _check_sparse(student_logits: Tensor, indices: Tensor, mask: Tensor | None) -> None:
    if not student_logits.is_floating_point() or indices.dtype != torch.int64:
        kinds = f"{student_logits.dtype} and {indices.dtype}"
        raise TypeError(f"need floating-point logits and int64 indices, got {kinds}: unpack_sparse makes them so")
    if student_logits.dim() != indices.dim() or student_logits.shape[:-1] != indices.shape[:-1] or not indices.numel():
        raise ValueError(f"need logits (..., V), indices (..., k), got {student_logits.shape} and {indices.shape}")
    if mask is not None and (mask.dtype != torch.bool or mask.shape != indices.shape[:-1]):
        kind = TypeError if mask.dtype != torch.bool else ValueError
        raise kind(f"mask must be bool {tuple(indices.shape[:-1])}, got {mask.dtype} {tuple(mask.shape)}")
