"""Attention: the student looks where the teacher looks, at places of an image or at words of a sentence.

Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, https://arxiv.org/abs/1612.03928 (AT);
Wang et al., "MiniLM: Deep Self-Attention Distillation", NeurIPS 2020, https://arxiv.org/abs/2002.10957; Jiao et al.,
"TinyBERT: Distilling BERT for Natural Language Understanding", EMNLP Findings 2020, https://arxiv.org/abs/1909.10351.
Lesson: notebooks/04_attention_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C channels, H W a map's size (or L); for transformers A heads, L tokens, D features of one head.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "attention_map",
    "attention_relation_divergence",
    "attention_score_loss",
    "attention_transfer_loss",
    "value_relation",
]


def attention_map(
    features: Tensor,  # (B, C, H, W)
    *,
    power: float = 2,
) -> Tensor:  # (B, H*W)
    r"""Where a convolutional layer is active: the channels' absolute values, powered, summed, brought to length 1.

    .. math::
        Q_{hw} = \sum_c |A_{chw}|^p, \qquad \frac{Q}{\|Q\|_2}

    Without the absolute value an odd power lets channels cancel. A higher power prefers the strongest places.

    Args:
        features: Activations :math:`A`, shape ``(B, C, H, W)``. Receives a gradient; detach a teacher's yourself.
        power: :math:`p \ge 1`. The paper used 2 and compared 1 and 4.

    Returns:
        Maps of length 1, shape ``(B, H*W)``, no unit, at least 0; zeros for an example of zeros. Squared, features
        beyond 1e18 give NaN and those below 1e-19 count as 0.

    Raises:
        TypeError, ValueError: If the features are not floating-point maps, are empty, or the power is below 1.

    Example:
        >>> attention_map(torch.tensor([[[1.0, 2.0], [-1.0, 0.0]]]))  # (1 + 1, 4 + 0) / √20
        tensor([[0.4472, 0.8944]])

    Source: Zagoruyko and Komodakis 2017, Section 3.1; the mean over channels in their code is undone by the length.
    """
    _check_maps(features, features, sides=("feature", "feature"))
    _check_power(power)
    return _unit_length(_activity(features, power).flatten(1))


def attention_transfer_loss(
    student_maps: Tensor,  # (B, C, H, W)
    teacher_maps: Tensor,  # (B, C', H', W')
    *,
    power: float = 2,
    squared: bool = True,
) -> Tensor:  # ()
    r"""Distance of the student's attention map from the teacher's.

    .. math::
        \frac{1}{B\,HW} \sum_{b,hw} (m^s_{bhw} - m^t_{bhw})^2 \;\text{(squared)}, \qquad
        \frac1B \sum_b \|m^s_b - m^t_b\|_2 \;\text{(not squared)}

    The authors' code is the squared form, 1,000 times, over maps of 32, 16 and 8: at most 41. Equation 2 is the other.
    Channels may differ. The larger *map* is averaged down; RepDistiller averages the features, whose signs can cancel.

    Args:
        student_maps: Activations, shape ``(B, C, H, W)``. Receives the gradient.
        teacher_maps: Activations, shape ``(B, C', H', W')``. Treated as a constant.
        power: :math:`p \ge 1` of :func:`attention_map`.
        squared: True for the authors' code, False for the paper's equation.

    Returns:
        Scalar loss, no unit, at least 0. Neither side's scale matters, nor its order of channels.

    Raises:
        TypeError, ValueError: As in :func:`attention_map`; if the maps differ in batch size or number of axes.

    Example:
        >>> left, right = torch.tensor([[[9.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
        >>> attention_transfer_loss(left, right), attention_transfer_loss(left, right, squared=False)
        (tensor(1.), tensor(1.4142))

    Source: Zagoruyko and Komodakis 2017, equation 2, and their code; the difference is issue 34 of its repository.
    """
    _check_maps(student_maps, teacher_maps)
    _check_power(power)
    size = [min(sizes) for sizes in zip(student_maps.shape[2:], teacher_maps.shape[2:], strict=True)]
    activities = (_activity(maps, power) for maps in (student_maps, teacher_maps.detach()))
    student, teacher = (_unit_length(F.interpolate(a, size, mode="area").flatten(1)) for a in activities)
    if squared:
        return F.mse_loss(student, teacher)
    distance: Tensor = torch.linalg.vector_norm(student - teacher, dim=1)  # its gradient at 0 is 0, a root's infinite
    return distance.mean()


def attention_relation_divergence(
    student_attention: Tensor,  # (B, A, L, L)
    teacher_attention: Tensor,  # (B, A, L, L)
    *,
    mask: Tensor | None = None,  # (B, L)
) -> Tensor:  # (B,)
    r"""Kullback-Leibler divergence of the student's attention rows from the teacher's, averaged over heads and rows.

    .. math::
        \frac{1}{A\,L} \sum_{a,l} \sum_k p_{alk} \,(\log p_{alk} - \log q_{alk})

    Rows are probabilities, of attention or of :func:`value_relation`; MiniLM adds the two. Numbers of heads must agree.
    Padding counts unless masked: the divergence then depends on how a batch was filled up.

    Args:
        student_attention: Rows :math:`q`, each summing to 1, shape ``(B, A, L, L)``. Receives the gradient.
        teacher_attention: Rows :math:`p`, same shape. Treated as a constant.
        mask: Booleans, shape ``(B, L)``, True for real tokens. Rows of other tokens are left out, whatever they hold.

    Returns:
        Divergence per example, shape ``(B,)``, in nats, at least 0; 0 for an example without real tokens. Where q is
        below the least normal number it counts as that, so p > 0 = q gives about 87 p, not infinity.

    Raises:
        TypeError, ValueError: If the attention is not floating point, the mask not boolean, or shapes don't fit.

    Example:
        >>> attention_relation_divergence(torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.0]]]))
        tensor([0.6931])

    Source: Wang et al. 2020, Sections 3.1 and 3.2.
    """
    _check_attention(student_attention, teacher_attention)
    dtype = torch.promote_types(student_attention.dtype, torch.float32)
    q, p = student_attention.to(dtype), teacher_attention.detach().to(dtype).clone()  # may be of inference mode
    if mask is not None:
        real = _token_mask(mask, q).expand(q.shape[:-1])  # (B, A, L)
        q, p = (attention.masked_fill(~real.unsqueeze(-1), 1.0) for attention in (q, p))  # 1 · log(1/1) = 0
    rows = F.kl_div(q.clamp(min=torch.finfo(dtype).tiny).log(), p, reduction="none").sum(dim=-1).flatten(1)
    return rows.mean(dim=1) if mask is None else rows.sum(dim=1) / real.flatten(1).sum(dim=1).clamp(min=1)


def value_relation(
    values: Tensor,  # (B, A, L, D)
    *,
    mask: Tensor | None = None,  # (B, L)
) -> Tensor:  # (B, A, L, L)
    r"""Relation of a layer's value vectors: each token's softmax over its scaled products with all tokens.

    .. math::
        \mathrm{softmax}\!\left(V V^\top / \sqrt{D}\right)

    The width D drops out, so a narrow student can follow a wide teacher; a rotation does too, the scale does not.
    Queries and keys serve as well: MiniLMv2 relates each of the three to itself, split into equally many heads.

    Args:
        values: :math:`V`, one row for each token, shape ``(B, A, L, D)``. Receives a gradient; detach a teacher's.
        mask: Booleans, shape ``(B, L)``, True for real tokens. Other tokens get probability 0.

    Returns:
        Probabilities, shape ``(B, A, L, L)``, rows summing to 1.

    Raises:
        TypeError, ValueError: If the values are not floating point, have fewer than three axes or are empty, or the
            mask is not boolean or not ``(B, L)``.

    Example:
        >>> value_relation(torch.tensor([[[0.0], [1.0]]]))[0, 1]  # the second token's products are 0 and 1
        tensor([0.2689, 0.7311])

    Source: Wang et al. 2020, Section 3.2; for queries and keys Wang et al. 2021, https://arxiv.org/abs/2012.15828.
    """
    _check_activations(values, "values")
    _check_attention(values, values)
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    with torch.autocast(values.device.type, enabled=False):  # which would round the products
        scores = values @ values.mT / math.sqrt(values.shape[-1])
    if mask is not None:
        real = _token_mask(mask, values).unsqueeze(-2)  # (B, 1, 1, L)
        scores = scores.masked_fill(~real, torch.finfo(scores.dtype).min)  # -inf would be NaN where nothing is real
    return F.softmax(scores, dim=-1)


def attention_score_loss(
    student_scores: Tensor,  # (B, A, L, L)
    teacher_scores: Tensor,  # (B, A, L, L)
    *,
    mask: Tensor | None = None,  # (B, L)
) -> Tensor:  # ()
    r"""Mean squared error of attention scores before the softmax.

    .. math::
        \frac{1}{B\,A\,L^2} \sum_{b,a,l,k} (S^s_{balk} - S^t_{balk})^2, \quad S = Q K^\top / \sqrt{D}

    Softmax ignores a shift of a row, this loss does not. Padding has scores of -10000 or -inf: give the mask, and only
    pairs of real tokens count. (TinyBERT's code sets it to 0 and divides by all pairs, so padding lowers its loss.)

    Args:
        student_scores: Scores :math:`S^s`, shape ``(B, A, L, L)``. Receives the gradient.
        teacher_scores: Scores :math:`S^t`, same shape. Treated as a constant.
        mask: Booleans, shape ``(B, L)``, True for real tokens.

    Returns:
        Scalar loss, in squared units of the scores, averaged over heads and pairs of tokens; 0 if no token is real.

    Raises:
        TypeError, ValueError: As in :func:`attention_relation_divergence`.

    Example:
        >>> attention_score_loss(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, 4.0]]]))
        tensor(2.)

    Source: Jiao et al. 2020, equation 7.
    """
    _check_attention(student_scores, teacher_scores)
    dtype = torch.promote_types(student_scores.dtype, torch.float32)
    difference = student_scores.to(dtype) - teacher_scores.detach().to(dtype)
    if mask is None:
        return difference.square().mean()
    if difference.shape[-1] != difference.shape[-2]:
        raise ValueError(f"a mask of tokens needs scores (B, A, L, L), got {tuple(difference.shape)}")
    real = _token_mask(mask, difference).unsqueeze(-1)  # (B, 1, L, 1)
    pairs = (real & real.mT).expand_as(difference)
    return difference.masked_fill(~pairs, 0.0).square().sum() / pairs.sum().clamp(min=1)


def _activity(features: Tensor, power: float) -> Tensor:  # (B, C, H, W) -> (B, 1, H, W)
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    if power == 2:
        return features.square().sum(dim=1, keepdim=True)
    largest = features.detach().abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (features.dim() - 1))
    unit = features.abs() / largest.masked_fill(largest == 0, 1.0)  # high powers over- and underflow soon
    return unit.pow(power).sum(dim=1, keepdim=True)


def _unit_length(rows: Tensor) -> Tensor:  # (..., N)
    """Rows of L2 norm 1; zeros stay zeros, with a finite gradient, and nothing over- or underflows."""
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)  # a constant: the result does not depend on the scale
    scaled = rows / largest.masked_fill(largest == 0, 1.0)
    return F.normalize(scaled, dim=-1, eps=0.5)  # the norm is at least 1 unless the row is zero


def _token_mask(mask: Tensor, tokens: Tensor) -> Tensor:  # (B, L), (B, A, L, ...) -> (B, 1, L)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"the mask must be a boolean tensor, True for real tokens, got {kind}: use mask.bool()")
    if mask.shape != (tokens.shape[0], tokens.shape[-2]):
        raise ValueError(f"the mask must be (B, L) = {(tokens.shape[0], tokens.shape[-2])}, got {tuple(mask.shape)}")
    return mask.reshape(len(mask), *[1] * (tokens.dim() - 3), -1)


def _check_attention(student: Tensor, teacher: Tensor) -> None:
    for side, tensor in (("student", student), ("teacher", teacher)):
        _check_activations(tensor, f"the {side}'s attention")
        if tensor.dim() < 3 or tensor.numel() == 0:
            raise ValueError(f"expected (B, heads, tokens, ...), not empty, got shape {tuple(tensor.shape)}")
    if student.shape != teacher.shape:
        hint = "split queries, keys and values anew into equally many heads (any width), or average over heads"
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"heads and tokens must be the same, got {shapes}: {hint}")


def _check_power(power: float) -> None:
    _check_numbers(power=power)
    if not 1 <= power < math.inf:
        raise ValueError(f"power must be at least 1 and finite, got {power}: below 1 the gradient at 0 is infinite")


def _check_maps(student: Tensor, teacher: Tensor, sides: tuple[str, str] = ("student", "teacher")) -> None:
    for side, maps in zip(sides, (student, teacher), strict=True):
        _check_activations(maps, f"the {side} maps")
        if not 3 <= maps.dim() <= 5 or maps.numel() == 0:
            hint = "vectors have no places to look at, use hint_loss or similarity_preserving_loss for them"
            form = f"(B, C, H, W) or (B, C, L), not empty, got shape {tuple(maps.shape)}"
            raise ValueError(f"the {side} maps must be {form}: {hint}")
    if student.dim() != teacher.dim() or len(student) != len(teacher):
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"{sides[0]} and {sides[1]} maps need the same examples and number of axes, got {shapes}")


def _check_activations(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        hint = "take one of its tensors" if isinstance(value, tuple | dict) else "use torch.as_tensor"
        fields = f" ({', '.join(f'.{key}' for key in value)})" if isinstance(value, dict) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}{fields}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: take activations")


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
