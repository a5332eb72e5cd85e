"""Self-distillation: a network learns from an earlier copy of itself.

Source: Furlanello et al., "Born-Again Neural Networks", ICML 2018, https://arxiv.org/abs/1805.04770; the other papers
stand at their functions. A born-again student needs no loss of its own: soft targets from a frozen copy of the last
generation. Networks that teach one another, or themselves, while they learn are in online.py; a moving average as the
teacher, and learning without labels, in self_supervised.py.
Lesson: notebooks/08_self_distillation.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes, N training examples, D outputs; ``...`` is any number of leading axes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "confidence_weighted_loss",
    "permuted_dark_knowledge",
    "progressive_targets",
    "progressive_weight",
    "ridge_self_distillation",
]


def ridge_self_distillation(
    gram: Tensor,  # (N, N)
    targets: Tensor,  # (N, D)
    *,
    penalty: float,
    rounds: int,
    label_weight: float = 0.0,
) -> Tensor:  # (rounds, N, D)
    r"""Kernel ridge regression, fitted again and again to its own fitted values: self-distillation that can be solved.

    .. math::
        Y_1 = S\,Y, \quad Y_t = S\,\big[(1 - a)\,Y_{t-1} + a\,Y\big], \quad S = G\,(G + c I)^{-1}

    Without labels :math:`Y_t = S^t\,Y`: along an eigenvector of G with eigenvalue :math:`\lambda` a round multiplies by
    :math:`\lambda / (\lambda + c)`, so small eigenvalues die first, and in the end all. With labels at weight a it
    converges, to ridge regression with the penalty :math:`c / a`.

    Args:
        gram: :math:`G_{ij} = k(x_i, x_j)`, symmetric, without negative eigenvalues: ``x @ x.T`` is the linear model.
        targets: :math:`Y`, the labels as numbers; subtract their mean if the model has no constant.
        penalty: :math:`c > 0`, of the squared norm beside the *sum* of squared errors; for their mean it is c/N.
        rounds: How many fits, at least 1.
        label_weight: :math:`a` in [0, 1], the labels' share of the targets from the second round on.

    Returns:
        Fitted values of each round, shape ``(rounds, N, D)``, the first one ordinary ridge regression. Elsewhere the
        prediction of round t is :math:`k(x, X)\,(T_t - Y_t)/c`, with :math:`T_t` that round's targets.

    Raises:
        TypeError: If the tensors are not floating point.
        ValueError: If shapes don't fit, the penalty is not positive, there is no round or the weight is out of range.

    Example:
        >>> gram, labels = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [1.0]])  # S is diag(¾, ½)
        >>> ridge_self_distillation(gram, labels, penalty=1.0, rounds=2)[1]
        tensor([[0.5625],
                [0.2500]])

    Source: Mobahi, Farajtabar and Bartlett, "Self-Distillation Amplifies Regularization in Hilbert Space", NeurIPS
    2020, https://arxiv.org/abs/2002.05715 (there c is chosen anew in each round, so that the training error is a given
    one); with labels: Borup and Andersen, "Even your Teacher Needs Guidance", NeurIPS 2021,
    https://arxiv.org/abs/2102.13088.
    """
    if not gram.is_floating_point() or not targets.is_floating_point():
        raise TypeError(f"gram and targets must be floating point, got {gram.dtype} and {targets.dtype}: use .float()")
    if gram.dim() != 2 or targets.dim() != 2 or gram.shape != (len(targets), len(targets)) or not len(targets):
        raise ValueError(f"expected gram (N, N) and targets (N, D), got {tuple(gram.shape)} and {tuple(targets.shape)}")
    if not 0 < penalty < float("inf"):
        raise ValueError(f"penalty must be positive and finite, got {penalty}: without it every round is the same")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}: the first is ordinary ridge regression")
    _check_share("label_weight", label_weight)
    dtype = torch.promote_types(gram.dtype, torch.float32)
    gram, labels = gram.to(dtype), targets.to(dtype)
    eye = torch.eye(len(gram), dtype=dtype, device=gram.device)
    factor, pivots = torch.linalg.lu_factor(gram + penalty * eye)
    fits = [gram @ torch.linalg.lu_solve(factor, pivots, labels)]
    for _ in range(rounds - 1):
        mixed = (1 - label_weight) * fits[-1] + label_weight * labels
        fits.append(gram @ torch.linalg.lu_solve(factor, pivots, mixed))
    return torch.stack(fits)


def confidence_weighted_loss(
    student_logits: Tensor,  # (B, C)
    teacher_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,)
) -> Tensor:  # ()
    r"""Cross-entropy with the labels, each example weighted by how sure the teacher is: no dark knowledge (CWTM).

    .. math::
        -\sum_i w_i \log \mathrm{softmax}(z^s_i)_{y_i}, \qquad w_i = \frac{\max_c p_{ic}}{\sum_j \max_c p_{jc}}

    An ablation: does born-again training help by ranking wrong classes, or by weighing examples? It keeps the weights
    alone. They are those of the teacher's first choice, also where that is not the label.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape, :math:`p` their softmax. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).

    Returns:
        Scalar loss in nats, at least 0. A teacher equally sure everywhere gives plain cross-entropy.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If the shapes don't fit or the batch is empty.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0], [50.0, 0.0]]), torch.tensor([[50.0, 0.0], [0.0, 0.0]])
        >>> confidence_weighted_loss(student, teacher, torch.tensor([0, 0]))  # ⅔ log 2 + ⅓ · 0
        tensor(0.4621)

    Source: Furlanello et al. 2018 (confidence weighted by teacher max).
    """
    _check_logits(student_logits)
    _check_logits(teacher_logits)
    _check_same_shape(student_logits, teacher_logits)
    _check_labels(student_logits, labels)
    _check_not_empty(student_logits)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    sure = F.softmax(teacher_logits.detach().to(dtype), dim=-1).amax(dim=-1)
    return F.cross_entropy(student_logits.to(dtype), labels, reduction="none") @ (sure / sure.sum())


def permuted_dark_knowledge(
    teacher_logits: Tensor,  # (..., C)
    *,
    generator: torch.Generator | None = None,
) -> Tensor:  # (..., C)
    r"""Logits of a teacher whose first choice stays, and whose other classes are shuffled, each example anew (DKPP).

    .. math::
        z'_m = z^t_m \ \text{ for } m = \arg\max_c z^t_c, \qquad
        z'_c = z^t_{\pi(c)} \ \text{ with a random permutation } \pi \text{ of the others}

    The other ablation: confidence and entropy are kept, which wrong class is likely is not. Draw it anew in every step;
    a permutation drawn once is a label noise that the student can learn by heart.

    Args:
        teacher_logits: Raw scores :math:`z^t`, shape ``(..., C)``.
        generator: Where the permutations come from; torch's global generator by default.

    Returns:
        Logits of the same shape and dtype, without gradient: hand them to ``soft_target_loss`` as the teacher's.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If there is no class axis.

    Example:
        >>> shuffled = permuted_dark_knowledge(torch.tensor([[2.0, 7.0, 1.0]]))
        >>> shuffled[0, 1], shuffled.sort().values
        (tensor(7.), tensor([[1., 2., 7.]]))

    Source: Furlanello et al. 2018 (dark knowledge with permuted predictions).
    """
    _check_logits(teacher_logits)
    logits = teacher_logits.detach()
    first = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).bool()
    keys = torch.rand(logits.shape, generator=generator, device=logits.device)
    places = torch.arange(logits.shape[-1], device=logits.device).expand(logits.shape)
    sources, slots = (x.masked_fill(first, -1).argsort(dim=-1) for x in (keys, places))  # both begin with the first
    return logits.scatter(-1, slots, logits.gather(-1, sources))


def progressive_targets(
    previous_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,)
    *,
    weight: float,
) -> Tensor:  # (B, C)
    r"""Targets that trust the labels less as training goes on, and the network's own last answer more (PS-KD).

    .. math::
        (1 - a)\,\mathrm{onehot}(y_i) + a\,\mathrm{softmax}(z^{\text{prev}}_i)

    The previous logits are those of the *same* examples one epoch earlier: store them by index, as they come, and use
    the labels alone in the first epoch (weight 0). The loss is ``F.cross_entropy(logits, targets)``.

    Args:
        previous_logits: Logits of the network an epoch ago, shape ``(B, C)``. Treated as a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).
        weight: :math:`a` in [0, 1], the share of the network's own answer: ``progressive_weight`` gives it.

    Returns:
        Probabilities, shape ``(B, C)``, summing to 1 over classes, without gradient.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If the shapes don't fit or the weight is outside [0, 1].

    Example:
        >>> progressive_targets(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), weight=0.4)
        tensor([[0.2000, 0.8000]])

    Source: Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV 2021,
    https://arxiv.org/abs/2006.12000, Section 3.1, at temperature 1 as in the authors' code.
    """
    _check_logits(previous_logits)
    _check_labels(previous_logits, labels)
    _check_share("weight", weight)
    dtype = torch.promote_types(previous_logits.dtype, torch.float32)
    previous = F.softmax(previous_logits.detach().to(dtype), dim=-1)
    return weight * previous + (1 - weight) * F.one_hot(labels, previous.shape[-1]).to(dtype)


def progressive_weight(*, epoch: int, epochs: int, final_weight: float = 0.8) -> float:
    r"""Weight of the network's own answer in an epoch: it grows in proportion to the epoch's number (PS-KD).

    .. math::
        a_t = a_T\,\frac{t}{T}

    Args:
        epoch: :math:`t`, counted from 1.
        epochs: :math:`T`, how many there will be.
        final_weight: :math:`a_T` in [0, 1]. The paper's 0.8.

    Returns:
        The weight, in [0, 1]. In the first epoch there is no earlier answer: use the labels then.

    Raises:
        ValueError: If the epoch is not from 1 to ``epochs`` or the final weight is outside [0, 1].

    Example:
        >>> progressive_weight(epoch=50, epochs=100)
        0.4

    Source: Kim et al. 2021, Section 3.1.
    """
    if not 1 <= epoch <= epochs:
        raise ValueError(f"epoch must be from 1 to epochs = {epochs}, got {epoch}: the first epoch is 1")
    _check_share("final_weight", final_weight)
    return final_weight * epoch / epochs


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {share}: it is a share, and the rest has 1 less it")


def _check_logits(logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}: pass raw scores, not class indices")
    if logits.dim() == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need a class axis at the end, got shape {tuple(logits.shape)}")


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have the same shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


def _check_not_empty(student: Tensor) -> None:
    if student.numel() == 0:
        raise ValueError(f"the batch is empty (shape {tuple(student.shape)}), and the mean of nothing is undefined")


def _check_labels(student_logits: Tensor, labels: Tensor) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64 class indices, got {labels.dtype}: convert them with labels.long()")
    if student_logits.dim() != 2 or labels.shape != student_logits.shape[:1]:
        raise ValueError(
            f"expected logits (B, C) and labels (B,), got {tuple(student_logits.shape)} and {tuple(labels.shape)}"
        )
