"""The divergence of next-token distributions over a whole vocabulary, without ever holding the logits.

Source: the idea: Hsu et al., "Liger Kernel", 2024, https://arxiv.org/abs/2410.10989; the divergences: Agarwal et al.,
ICLR 2024, https://arxiv.org/abs/2306.13649, and Ko et al., ICML 2024, https://arxiv.org/abs/2402.03898.
Lesson: notebooks/19_writing_models.ipynb.

Needs only torch: copy this file into your project as it is. The formula is in ``token_loss``, which is short and holds
everything; this file computes the same gradient by hand, in place, a few tokens at a time.
Shapes: N tokens, V words of the vocabulary, H features.
"""

import functools
import math
import numbers
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["fused_linear_loss"]

MIXED = ("jensen_shannon", "skew_forward", "skew_reverse")
KINDS = ("forward", "reverse", "total_variation", *MIXED)
GPU_TOKENS = 512  # at a time: enough that products run at the card's rate
CPU_LOGITS = 2**23  # at a time: enough that each step outlasts the wait for the slowest thread
NOT_COMPILED: set[str] = set()  # kinds whose compilation failed


def fused_linear_loss(
    student_hidden: Tensor,  # (N, H)
    student_weight: Tensor,  # (V, H)
    teacher_hidden: Tensor,  # (N, H')
    teacher_weight: Tensor,  # (V, H')
    *,
    kind: str,
    student_bias: Tensor | None = None,  # (V,)
    teacher_bias: Tensor | None = None,  # (V,)
    mask: Tensor | None = None,  # (N,)
    num_tokens: float | Tensor | None = None,
    temperature: float | Tensor = 1.0,
    mix: float | None = None,
    chunk_size: int | None = None,
) -> Tensor:  # ()
    r"""``token_loss`` of projected hidden states, in the memory of a few tokens' logits.

    .. math::
        \texttt{token\_loss}(h^s W_s^\top + b_s, \; h^t W_t^\top + b_t)

    Each chunk is projected and compared, and its gradient computed, in the forward pass: no ``(N, V)`` tensor ever
    exists. So it can be differentiated only once. Logits are never rounded to bfloat16, in which two sides that nearly
    agree differ by rounding alone; their gradient is, and so is the weight's sum over chunks (0.4 % off after sixteen).
    float16 is computed in float32: small probabilities vanish in it. Under autocast hidden states and weight are in its
    dtype, like in ``nn.Linear``. On a GPU the first call compiles, once for each kind.

    Args:
        student_hidden, student_weight: :math:`h^s, W_s`, shapes ``(N, H)``, ``(V, H)``. They receive gradients.
        teacher_hidden, teacher_weight: :math:`h^t, W_t`, shapes ``(N, H')``, ``(V, H')``. Treated as constants.
        student_bias, teacher_bias: :math:`b`, shape ``(V,)``, likewise. Cut words that a side lacks off the other.
        mask: As in ``token_loss``, shape ``(N,)``. Tokens that don't count are not even projected.
        kind, num_tokens, temperature, mix: As in ``token_loss``; no gradient reaches the temperature.
        chunk_size: Tokens at a time, by default 512 on a GPU and those of 2²³ logits on a CPU. Two blocks of their
            logits in float32 are held, and on a CPU up to three more of the same size.

    Returns:
        Scalar loss in nats per token, as ``token_loss``.

    Raises:
        TypeError, ValueError: As in ``token_loss``; if shapes don't fit, or the chunk size is not positive.

    Example:
        >>> hidden, words = torch.tensor([[1.0]]), torch.tensor([[0.0], [0.0]])
        >>> fused_linear_loss(hidden, words, hidden, torch.tensor([[50.0], [0.0]]), kind="forward")
        tensor(0.6931)

    Source: the idea: Hsu et al., "Liger Kernel", 2024, https://arxiv.org/abs/2410.10989.
    """
    student = _linear(student_hidden, student_weight, student_bias)
    teacher = _linear(teacher_hidden, teacher_weight, teacher_bias)
    sizes = [(len(side[0]), len(side[1])) for side in (student, teacher)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"both sides need the same (N, V), got {sizes}: cut weight and bias to the words they share")
    if not len(student_hidden):
        raise ValueError("there is no token (shape (0,)), and the mean of nothing is undefined")
    _check_mask(mask, student_hidden.shape[:1])
    _check_count(num_tokens)
    _check_kind(kind, mix)
    _check_temperature(temperature)
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        raise ValueError("temperature gets no gradient here: use token_loss or temperature.detach()")
    if chunk_size is not None and not (isinstance(chunk_size, int) and chunk_size >= 1):
        raise ValueError(f"chunk_size must be a whole number, at least 1, got {chunk_size!r}")
    hidden, targets = (side[0] if mask is None else side[0][mask] for side in (student, teacher))
    chunk = chunk_size or (max(1, CPU_LOGITS // sizes[0][1]) if hidden.device.type == "cpu" else GPU_TOKENS)
    shares = mix or 0.0, 1 - (mix or 0.0)
    logs = [math.log(share) if share > 0 else -math.inf for share in shares]
    how = kind, (temperature, *shares, *logs), chunk, torch.is_grad_enabled()
    with torch.autocast(hidden.device.type, enabled=False):
        total: Tensor = _FusedLinear.apply(how, hidden, *student[1:], targets, *teacher[1:])
    return total / (max(len(hidden), 1) if num_tokens is None else num_tokens)


class _FusedLinear(torch.autograd.Function):
    """The sum over tokens, whose gradients are made beside it."""

    @staticmethod
    def forward(ctx: Any, how: Any, *tensors: Any) -> Tensor:
        kind, settings, chunk, grad = how
        hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias = tensors
        wanted = [grad and needed for needed in ctx.needs_input_grad[1:4]]
        sums = [torch.zeros_like(x) if want else None for x, want in zip(tensors, wanted, strict=False)]
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        if hidden.device.type == "cpu":
            chunk = max(1, min(chunk, len(hidden)))
        made_in = hidden.dtype if any(wanted) else None
        students, teachers = (hidden.new_empty((chunk, len(weight)), dtype=dtype) for _ in range(2))
        total: Tensor = hidden.new_zeros((), dtype=dtype)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            h, t = hidden[rows], teacher_hidden[rows]
            _project(h, weight, bias, students[: len(h)])
            _project(t, teacher_weight, teacher_bias, teachers[: len(h)])
            values, gradient = _compare_rows(kind, settings, students, teachers, len(h), made_in)
            total += values.sum()
            if sums[0] is not None:
                torch.mm(gradient, weight, out=sums[0][rows])
            if sums[1] is not None:
                sums[1].addmm_(gradient.T, h)
            if sums[2] is not None:
                sums[2] += gradient.sum(dim=0)
        ctx.temperature = settings[0]
        ctx.save_for_backward(*sums)
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("fused_linear_loss can't be differentiated twice (create_graph=True): use token_loss")
        scale = upstream / ctx.temperature
        return None, *(g if g is None else g * scale for g in ctx.saved_tensors), None, None, None


def _project(hidden: Tensor, weight: Tensor, bias: Tensor | None, logits: Tensor) -> None:
    """Write the logits, in float32 for bfloat16 too: its products are rounded only when they are stored."""
    if hidden.dtype == logits.dtype:
        torch.mm(hidden, weight.T, out=logits)
    elif hidden.is_cuda and logits.dtype == torch.float32 and not torch.compiler.is_compiling():
        torch.mm(hidden, weight.T, out_dtype=torch.float32, out=logits)
    else:  # torch has no such product there: convert the weight, some words at a time
        words = max(1, 2**22 // weight.shape[1])
        for some, columns in zip(weight.split(words), logits.split(words, dim=1), strict=True):
            columns.copy_(hidden.to(logits.dtype) @ some.to(logits.dtype).T)
    if bias is not None:
        logits += bias


def _compare_rows(
    kind: str, settings: Any, students: Tensor, teachers: Tensor, rows: int, made_in: torch.dtype | None
) -> tuple[Tensor, Any]:
    """Compare the first rows of both blocks: in place on a CPU, compiled elsewhere if there is a compiler.

    The compiled function gets all rows, whatever stands after the last token, and its numbers as tensors: so it is
    compiled once, for a short last chunk and for a temperature that changes too.
    """
    if _compiles_on(students.device) and kind not in NOT_COMPILED:
        scalars = [torch.full((), x, dtype=students.dtype, device=students.device) for x in settings]
        try:
            values, gradient = _compiled(kind)(kind, scalars, students, teachers, made_in, False)
            return values[:rows], None if gradient is None else gradient[:rows]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # no Triton, no C compiler, a Python that torch does not compile for ...
            NOT_COMPILED.add(kind)
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            warnings.warn(f"fused_linear_loss runs uncompiled, which takes longer: {reason}", stacklevel=2)
    return _compare(kind, settings, students[:rows], teachers[:rows], made_in, True)


def _compiles_on(device: torch.device) -> bool:
    """On a CPU in-place steps are as quick, and inside a caller's compilation all is compiled anyway."""
    return device.type != "cpu" and not torch.compiler.is_compiling()


@functools.cache
def _compiled(kind: str) -> Callable[..., tuple[Tensor, Any]]:
    """``_compare`` compiled for one kind: a copy, because torch keeps at most eight compilations of a function."""
    code = _compare.__code__.replace(co_name=f"_compare_{kind}")
    return torch.compile(types.FunctionType(code, globals()))


def _compare(
    kind: str, settings: Any, z: Tensor, y: Tensor, made_in: torch.dtype | None, in_place: bool
) -> tuple[Tensor, Any]:
    """Divergence of each token, and its gradient with respect to the student's softened logits, made in a dtype if any.

    With Q the softmax of z, the chain rule makes of t = q ∂D/∂q, word by word, the gradient t - q Σ t. What is no
    longer needed is overwritten, z and y only if ``in_place``.
    """
    temperature, share, rest, log_share, log_rest = settings
    log_q, log_p = (_log_softmax(x, temperature, x if in_place else None) for x in (z, y))
    if kind == "forward":  # D = Σ p log p/q, t = -p
        p = log_p.exp()
        value = log_p.sub_(log_q).mul_(p)
        q, t = log_q.exp_(), p.neg_()
    elif kind == "reverse":  # D = Σ q log q/p, t = q log q/p, but for a multiple of q, which cancels
        q = log_q.exp()
        value = t = log_q.sub_(log_p).mul_(q)
    elif kind == "total_variation":  # D = Σ |q - p| / 2, t = q sign(q - p) / 2
        q = log_q.exp_()
        gap = log_p.exp_().sub_(q).div_(-2)
        t = gap.sign().mul_(q).div_(2)
        value = gap.abs_()
    else:
        own, other = (log_q, log_p) if kind == "skew_reverse" else (log_p, log_q)
        log_m = torch.logaddexp(own + log_share, other + log_rest)
        q = log_q.exp()
        if kind == "jensen_shannon":  # D = β Σ p log p/m + (1-β) Σ q log q/m, t = (1-β) q log q/m
            t = log_q.sub_(log_m).mul_(q).mul_(rest)
            value = log_m.neg_().add_(log_p).mul_(log_p.exp_()).mul_(share).add_(t)
        elif kind == "skew_forward":  # D = Σ p log p/m, t = -(1-α) p q/m
            t = log_q.add_(log_p).sub_(log_m).exp_().mul_(-rest)
            value = log_m.neg_().add_(log_p).mul_(log_p.exp_())
        else:  # D = Σ q log q/m, t = q log q/m - α q q/m
            log_ratio = log_q.sub_(log_m)
            value = q * log_ratio
            t = log_ratio.add_(log_share).exp_().mul_(q).neg_().add_(value)
    values = value.sum(dim=-1)
    if kind != "jensen_shannon":
        values = values.masked_fill(values > 1e18, math.inf)  # a word that the other side lacks
    if made_in is None:
        return values, None
    return values, t.addcmul_(q, t.sum(dim=-1, keepdim=True), value=-1).to(made_in)


def _log_softmax(logits: Tensor, temperature: Any, out: Tensor | None) -> Tensor:
    """-inf becomes the lowest number, whose product with a probability of 0 is 0."""
    if out is None or temperature != 1:
        logits = torch.div(logits, temperature, out=out)
    return torch.log_softmax(logits, dim=-1, out=out).clamp_(min=torch.finfo(logits.dtype).min)


def _check_kind(kind: object, mix: object) -> None:
    share = 0 if mix is None else mix
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not isinstance(share, numbers.Real):
        raise TypeError(f"mix must be a number, got {mix!r}")
    if (kind in MIXED) != (mix is not None) or not 0 <= float(share) <= 1:
        raise ValueError(f"mix must be in [0, 1] for {', '.join(MIXED)}, and None for others, got {mix} for {kind!r}")


def _linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> list[Any]:
    """What ``nn.Linear`` would compute with under autocast, but float32 for float16."""
    tensors = [hidden, weight] if bias is None else [hidden, weight, bias]
    kinds = [x.dtype if isinstance(x, Tensor) else type(x).__name__ for x in tensors]
    if not all(getattr(kind, "is_floating_point", False) for kind in kinds):
        what = "take .hidden_states[-1] of a model's output, not .logits"
        raise TypeError(f"hidden states, weight and bias must be floating point, got {kinds}: {what}")
    given = [hidden, weight, weight.new_zeros(len(weight)) if bias is None else bias]
    if hidden.dim() != 2 or weight.shape != (len(given[2]), hidden.shape[1]) or given[2].dim() != 1 or not len(weight):
        raise ValueError(f"need hidden (N, H), weight (V, H), bias (V,), got {[tuple(x.shape) for x in given]}")
    device, dtype = hidden.device.type, hidden.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    dtype = torch.float32 if dtype == torch.float16 else dtype
    return [None if x is None else x.to(dtype) for x in (hidden, weight, bias)]


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
