"""A teacher's distributions computed once and kept in a few numbers per token: the top k words, with their tail.

Source: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025,
https://arxiv.org/abs/2503.16870. Words drawn instead, and what is stored, are in sampled.py.
Lesson: notebooks/19_writing_models.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: V words of the vocabulary, k words kept; ``...`` is any number of leading axes.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["sparse_teacher", "sparse_teacher_loss"]

MIXED = ("jensen_shannon", "skew_forward", "skew_reverse")
KINDS = ("forward", "reverse", "total_variation", *MIXED)


def sparse_teacher(
    logits: Tensor,  # (..., V)
    *,
    k: int,
) -> tuple[Tensor, Tensor, Tensor]:  # (..., k), (..., k), (...)
    r"""The teacher's k likeliest words, and how much probability all others have together.

    .. math::
        \log p_v \text{ for the } k \text{ largest}, \qquad \log t = \log \sum_{v \text{ not kept}} p_v

    The tail's mass is kept, so that a loss can say what it does about it. Top-k probabilities made to sum to 1, as is
    common, are biased by exactly t, in total variation: the student learns that the tail is empty.

    Args:
        logits: The teacher's raw scores, shape ``(..., V)``. No gradient.
        k: Words to keep, from 1 to V.

    Returns:
        Their indices, int64, likeliest first; their log-probabilities, in float32 or the logits' wider type; and the
        tail's log mass, -inf where nothing is left. ``pack_sparse`` (sampled.py) stores an entry in 6 bytes.

    Raises:
        TypeError: If the logits are not a floating-point tensor.
        ValueError: If there is no word axis or k is out of range.

    Example:
        >>> indices, log_probs, tail = sparse_teacher(torch.tensor([0.5, 0.1, 0.3, 0.1]).log(), k=2)
        >>> indices, log_probs.exp(), tail.exp()
        (tensor([0, 2]), tensor([0.5000, 0.3000]), tensor(0.2000))

    Source: Anshumann et al., "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", ACL 2025,
    https://arxiv.org/abs/2503.16870, which shows the bias.
    """
    _check_logits(logits)
    _check_numbers(k=k)
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"need logits (..., V) and k from 1 to V, got {tuple(logits.shape)} and {k}")
    log_probs = F.log_softmax(logits.detach().to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
    kept, indices = log_probs.topk(k, dim=-1)
    rest = log_probs.scatter(-1, indices, -torch.inf)  # summing the rest is exact where 1 - the sum of the kept is not
    return indices, kept, rest.logsumexp(dim=-1)


def sparse_teacher_loss(
    student_logits: Tensor,  # (..., V)
    indices: Tensor,  # (..., k)
    log_probs: Tensor,  # (..., k)
    tail_log_mass: Tensor,  # (...)
    *,
    tail: str,
    kind: str = "forward",
    mix: float | None = None,
    mask: Tensor | None = None,  # (...)
) -> Tensor:  # ()
    r"""Mean divergence from a teacher of whom the k likeliest words are known, with a policy for all others.

    .. math::
        \text{bucket: } D\big((p_v)_{v \in K}, t; \; (q_v)_{v \in K}, 1 - \textstyle\sum_{v \in K} q_v\big), \text{ as }
        \sum_{v \in K} p_v \log \frac{p_v}{q_v} + t \log \frac{t}{1 - \sum_{v \in K} q_v} \\
        \text{renormalize: } \sum_{v \in K} \frac{p_v}{1 - t} \log \frac{p_v}{(1 - t)\, q_v}

    The bucket is the divergence D of the same distributions with the tail's words taken together as one: never more
    than the whole divergence, that itself where K is every word, and right about how much the tail gets, if not who in
    it. Renormalised, the target gives the tail nothing, and its total variation from the teacher is t.

    Args:
        student_logits: Raw scores, shape ``(..., V)``. Receives the gradient.
        indices: The words kept, shape ``(..., k)``, int64, each once, from ``sparse_teacher``.
        log_probs: :math:`\log p` of these, same shape. -inf is no word, whatever its index: it ends a shorter list.
        tail_log_mass: :math:`\log t`, shape ``(...)``.
        tail: "bucket" or "renormalize"; the latter for forward KL only, since only that ignores what has no target.
        kind, mix: :math:`D`, as in ``token_divergence``: forward KL by default.
        mask: True where a token counts, shape ``(...)``, bool. What stands elsewhere does not matter.

    Returns:
        Scalar loss, at least 0, in nats per token; of total variation without a unit. 0, with a gradient of 0, where
        nothing counts. Infinite like ``token_divergence``: the tail counts as one word.

    Raises:
        TypeError: If logits or logarithms are not floating point, the indices not int64 or the mask not bool.
        ValueError: If policy or kind are unknown or don't go together, shapes don't fit, or an index is (looked at on
            the CPU only) out of range.

    Example:
        >>> kept = torch.tensor([[0]]), torch.tensor([[0.5]]).log(), torch.tensor([0.5]).log()
        >>> sparse_teacher_loss(torch.zeros(1, 4), *kept, tail="bucket")  # (1/2, 1/2) from (1/4, 3/4)
        tensor(0.1438)
        >>> sparse_teacher_loss(torch.zeros(1, 4), *kept, tail="bucket", kind="total_variation")
        tensor(0.2500)

    Source: the bias: Anshumann et al. 2025, Section 3; the bucket: merging words never adds divergence (data processing
    inequality); the divergences: see tokens.py.
    """
    _check_logits(student_logits)
    _check_kind(kind, mix)
    if tail not in ("bucket", "renormalize"):
        raise ValueError(f"tail must be 'bucket' or 'renormalize', got {tail!r}: say what becomes of the other words")
    if tail == "renormalize" and kind != "forward":
        raise ValueError(
            f"tail must be 'bucket' for {kind}, got 'renormalize': the student's tail would face no target"
        )
    _check_list(student_logits, indices, log_probs)
    _check_tensors(tail_log_mass=tail_log_mass)
    if not tail_log_mass.is_floating_point() or tail_log_mass.shape != indices.shape[:-1]:
        kind_of = TypeError if not tail_log_mass.is_floating_point() else ValueError
        got = f"{tail_log_mass.dtype} {tuple(tail_log_mass.shape)}"
        raise kind_of(f"tail_log_mass must be floating point {tuple(indices.shape[:-1])}, one per token, got {got}")
    _check_mask(mask, indices.shape[:-1])
    log_q, indices, log_p, absent = _listed(student_logits, indices, log_probs, mask)
    log_t = _kept(tail_log_mass.detach().unsqueeze(-1), mask).to(log_q.dtype)
    if tail == "renormalize":
        log_p, log_t = log_p.log_softmax(dim=-1), torch.full_like(log_t, -torch.inf)
    lowest, words = torch.finfo(log_q.dtype).min, log_q.shape[-1]  # lowest is log 0: its product with 0 is 0
    listed = log_q.new_zeros((*log_q.shape[:-1], words + 1), dtype=torch.bool)
    listed = listed.scatter(-1, indices.masked_fill(absent, words), True)[..., :words]
    rest = log_q.masked_fill(listed, lowest).logsumexp(dim=-1, keepdim=True)
    picked = log_q.gather(-1, indices).masked_fill(absent, lowest)
    log_q, log_p = (torch.cat(x, dim=-1).clamp(min=lowest) for x in ((picked, rest), (log_p, log_t)))
    return _mean_over(_divergence(log_q, log_p, kind, mix), mask)


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


def _divergence(log_q: Tensor, log_p: Tensor, kind: str, mix: float | None) -> Tensor:
    """Of Q from P, along the last axis; a probability of 0 stands there as the lowest number."""
    if kind == "total_variation":
        return (log_p.exp() - log_q.exp()).abs().sum(dim=-1) / 2
    if kind == "jensen_shannon" and mix is not None:
        log_m = _log_mixture(mix, log_p, log_q)
        return mix * _kl_of_words(log_p, log_m) + (1 - mix) * _kl_of_words(log_q, log_m)
    own, other = (log_p, log_q) if "forward" in kind else (log_q, log_p)
    value = _kl_of_words(own, other if mix is None else _log_mixture(mix, own, other))
    return value.masked_fill(value > 1e18, math.inf)  # a word that the other side lacks


def _kl_of_words(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(dim=-1)


def _log_mixture(share: float, log_a: Tensor, log_b: Tensor) -> Tensor:
    """The logarithm of ``share`` times one distribution and the rest times the other."""
    log_share, log_rest = (math.log(weight) if weight > 0 else -math.inf for weight in (share, 1 - share))
    return torch.logaddexp(log_a + log_share, log_b + log_rest)


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


def _check_kind(kind: object, mix: object) -> None:
    share = 0 if mix is None else mix
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not isinstance(share, numbers.Real):
        raise TypeError(f"mix must be a number, got {mix!r}")
    if (kind in MIXED) != (mix is not None) or not 0 <= float(share) <= 1:
        raise ValueError(f"mix must be in [0, 1] for {', '.join(MIXED)}, and None for others, got {mix} for {kind!r}")


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
