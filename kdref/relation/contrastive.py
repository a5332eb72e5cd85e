"""Contrastive distillation: the student's embedding of an example is nearer to the teacher's of it than to others'.

Source: Tian, Krishnan and Isola, "Contrastive Representation Distillation", ICLR 2020, https://arxiv.org/abs/1910.10699
(CRD); van den Oord, Li and Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018,
https://arxiv.org/abs/1807.03748 (InfoNCE). Lesson: notebooks/05_relation_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, D features of an embedding, N examples of the training set, K negatives.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ContrastiveMemory", "crd_loss", "info_nce_loss"]


def info_nce_loss(
    student_embeddings: Tensor,  # (B, D)
    teacher_embeddings: Tensor,  # (B, D)
    *,
    temperature: float | Tensor = 0.07,
) -> Tensor:  # ()
    r"""Cross-entropy of finding one's partner in the batch, from the student's side and from the teacher's (InfoNCE).

    .. math::
        \frac{1}{2B} \sum_i \Big[ -\log \frac{e^{c_{ii}/\tau}}{\sum_j e^{c_{ij}/\tau}}
        - \log \frac{e^{c_{ii}/\tau}}{\sum_j e^{c_{ji}/\tau}} \Big], \quad c_{ij} = \cos(x^s_i, x^t_j)

    The log of B minus the expected loss is a lower bound of the mutual information of the two embeddings, so a batch of
    B can never certify more than log B. Examples of one class are each other's negatives too.

    Args:
        student_embeddings: :math:`x^s`, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t`, same shape. Treated as a constant.
        temperature: :math:`\tau > 0`. The smaller, the more the nearest negatives count.

    Returns:
        Scalar loss in nats, at least 0. A batch of one gives 0. The lengths of rows don't matter; a row of zeros has
        cosine 0 with all others.

    Raises:
        TypeError: If the embeddings are not floating point.
        ValueError: If they are not both ``(B, D)``, or empty, or the temperature is not positive.

    Example:
        >>> x = torch.eye(2)
        >>> info_nce_loss(x, x, temperature=1.0)  # log(1 + 1/e)
        tensor(0.3133)

    Source: van den Oord et al. 2018, equation 4, with cosines at a temperature, in both directions.
    """
    _check_pair(student_embeddings, teacher_embeddings)
    _check_temperature(temperature)
    dtype = torch.promote_types(student_embeddings.dtype, torch.float32)
    student, teacher = (_unit_length(x.to(dtype)) for x in (student_embeddings, teacher_embeddings.detach()))
    logits = _full_product(student, teacher) / temperature
    partners = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, partners) + F.cross_entropy(logits.mT, partners)) / 2


class ContrastiveMemory(nn.Module):
    """The memory bank of CRD: for each training example its last embeddings, and the two heads that make them.

    A step embeds, takes the loss, and updates::

        student, teacher = memory(student_features, teacher_features)
        loss = crd_loss(student, teacher, indices, memory.draw(16384), memory)
        memory.update(student, teacher, indices)

    Hand ``memory.parameters()`` to the optimiser: both heads are learned. Banks and heads are thrown away afterwards.
    The data loader must give each example's index in the training set.

    Args:
        student_features: Number of the student's features per example, after flattening.
        teacher_features: Number of the teacher's.
        num_examples: Size N of the training set.
        width: D of the embeddings.
        momentum: Share of the old embedding in an update, in [0, 1); the rest is the new one.
        labels: Classes of the training examples, shape ``(N,)``. Where given, examples of the anchor's class are no
            negatives, as in the authors' experiments; else only the anchor itself is none.

    Raises:
        ValueError: If a size is not positive, the momentum is out of range, or the labels are not ``(N,)``.

    Example:
        >>> memory = ContrastiveMemory(64, 256, num_examples=1000)
        >>> student, teacher = memory(torch.randn(8, 64), torch.randn(8, 256))
        >>> student.shape, teacher.shape, memory.draw(100).shape
        (torch.Size([8, 128]), torch.Size([8, 128]), torch.Size([100]))

    Source: Tian et al. 2020, and the authors' code, whose defaults these are.
    """

    student_bank: Tensor
    teacher_bank: Tensor
    groups: Tensor

    def __init__(
        self,
        student_features: int,
        teacher_features: int,
        *,
        num_examples: int,
        width: int = 128,
        momentum: float = 0.5,
        labels: Tensor | None = None,
    ) -> None:
        """Draw heads, and random banks on the unit sphere, from torch's global generator."""
        super().__init__()
        if min(student_features, teacher_features, num_examples, width) < 1:
            sizes = (student_features, teacher_features, num_examples, width)
            raise ValueError(f"features, num_examples and width must be positive, got {sizes}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}: at 1 the memory never changes")
        if labels is not None and labels.shape != (num_examples,):
            raise ValueError(f"labels must be (N,) = ({num_examples},), got {tuple(labels.shape)}")
        self.momentum = momentum
        self.student_head = nn.Linear(student_features, width)
        self.teacher_head = nn.Linear(teacher_features, width)
        self.register_buffer("student_bank", _unit_length(torch.randn(num_examples, width)))
        self.register_buffer("teacher_bank", _unit_length(torch.randn(num_examples, width)))
        self.register_buffer("groups", torch.arange(num_examples) if labels is None else labels.clone())

    def forward(self, student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
        """Embed both (B, ...) at length 1, (B, D). Gradients reach the student and both heads, not the teacher."""
        embeddings = []
        for features, head in ((student_features, self.student_head), (teacher_features.detach(), self.teacher_head)):
            rows = features.flatten(1)
            if rows.shape[1] != head.in_features:
                raise ValueError(f"expected {head.in_features} features per example, got {tuple(features.shape)}")
            embedded = head(rows.to(head.weight.dtype))
            embeddings.append(_unit_length(embedded.to(torch.promote_types(embedded.dtype, torch.float32))))
        return embeddings[0], embeddings[1]

    def draw(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``count`` examples, with replacement, as negatives for a whole batch: indices (K,)."""
        return torch.randint(len(self.groups), (count,), generator=generator, device=self.groups.device)

    @torch.no_grad()
    def update(self, student_embeddings: Tensor, teacher_embeddings: Tensor, indices: Tensor) -> None:
        """Move the banks towards the new embeddings (B, D) of the examples ``indices`` (B,), each named once."""
        for bank, new in ((self.student_bank, student_embeddings), (self.teacher_bank, teacher_embeddings)):
            mixed = self.momentum * bank[indices] + (1 - self.momentum) * new.to(bank.dtype)
            bank.index_copy_(0, indices, _unit_length(mixed))


def crd_loss(
    student_embeddings: Tensor,  # (B, D)
    teacher_embeddings: Tensor,  # (B, D)
    indices: Tensor,  # (B,)
    negatives: Tensor,  # (K,)
    memory: ContrastiveMemory,
    *,
    temperature: float = 0.07,
) -> Tensor:  # ()
    r"""Contrastive representation distillation (CRD): is this the embedding of the same example, or a random one?

    .. math::
        \frac1B \sum_i \Big[ -\log h(x^s_i, m^t_i) - K \, \operatorname*{mean}_{k \not\sim i} \log(1 - h(x^s_i, m^t_k))
        \Big] + \text{the same with } s, t \text{ exchanged}, \quad
        h(x, m) = \frac{e^{x^\top m/\tau}}{e^{x^\top m/\tau} + K c}

    with m the memory's embeddings, k over the negatives that are not of the anchor's own group, and c the mean of
    :math:`e^{x^\top m/\tau}` over the unit sphere, which makes h a calibrated guess when training starts. The batch
    shares its negatives: one product of matrices, where a draw for each example gathers B·K·D numbers. The first part
    trains the student and its head, the second the teacher's head.

    Args:
        student_embeddings: :math:`x^s` at length 1, from ``memory(...)``, shape ``(B, D)``. Receives the gradient.
        teacher_embeddings: :math:`x^t` likewise. Receives a gradient too, which ends in the memory's head.
        indices: Which training examples these are, shape ``(B,)``, int64.
        negatives: Indices of the negatives, shape ``(K,)``, int64, from ``memory.draw(K)``. The authors' K is 16,384.
        memory: The banks. The loss leaves them as they are: call ``memory.update`` afterwards.
        temperature: :math:`\tau > 0`.

    Returns:
        Scalar loss in nats, at least 0; about 2 (log K + log c + 1) at the start, 23 with the authors' settings. Their
        weight for it is 0.8.

    Raises:
        TypeError: If embeddings are not floating point, or indices not int64.
        ValueError: If shapes don't fit or the temperature is not positive.

    Example:
        >>> memory = ContrastiveMemory(2, 2, num_examples=2, width=1)
        >>> _ = memory.student_bank.fill_(1.0), memory.teacher_bank.fill_(1.0)
        >>> x = torch.tensor([[1.0]])  # K = 1 and c = cosh 1: h = e / (e + cosh 1) = 0.6379
        >>> crd_loss(x, x, torch.tensor([0]), torch.tensor([1]), memory, temperature=1.0)  # -2 log h - 2 log(1 - h)
        tensor(2.9308)

    Source: Tian et al. 2020, Section 3. The paper's h has K/N for K c. The authors' code has K c, with c from the first
    batch, when the banks are random: the mean over the sphere that is used here. It draws negatives for each example,
    without replacement by permuting the training set, and adds 1e-7 to the denominator.
    """
    _check_pair(student_embeddings, teacher_embeddings)
    _check_temperature(temperature)
    if indices.dtype != torch.int64 or negatives.dtype != torch.int64:
        raise TypeError(f"indices and negatives must be int64, got {indices.dtype} and {negatives.dtype}")
    width = memory.student_bank.shape[1]
    if student_embeddings.shape != (len(indices), width) or indices.dim() != 1:
        raise ValueError(
            f"expected embeddings (B, {width}) of the memory's width and indices (B,), "
            f"got {tuple(student_embeddings.shape)} and {tuple(indices.shape)}"
        )
    if negatives.dim() != 1 or len(negatives) == 0:
        raise ValueError(f"negatives must be (K,), not empty, got {tuple(negatives.shape)}: use memory.draw(K)")
    count, log_noise = len(negatives), math.log(len(negatives)) + _log_mean_on_sphere(width, 1 / temperature)
    others = memory.groups[indices][:, None] != memory.groups[negatives]
    allowed = others.sum(dim=1).clamp(min=1)
    total = []
    for anchors, bank in ((student_embeddings, memory.teacher_bank), (teacher_embeddings, memory.student_bank)):
        anchors = anchors.to(torch.promote_types(anchors.dtype, torch.float32))
        positive = (anchors * bank[indices].to(anchors.dtype)).sum(dim=1) / temperature
        negative = _full_product(anchors / temperature, bank[negatives].to(anchors.dtype)) - log_noise
        accepted = F.softplus(log_noise - positive)  # -log h
        rejected = F.softplus(negative)  # -log(1 - h)
        total.append((accepted + count * (rejected * others).sum(dim=1) / allowed).mean())
    return total[0] + total[1]


def _log_mean_on_sphere(width: int, sharpness: float) -> float:
    """Log of the mean of exp(κ cos) over the unit sphere, log Σ_k (κ²/4)ᵏ / (k! · D/2 · (D/2 + 1) ··· (D/2 + k-1))."""
    half, terms = width / 2, int(2 * sharpness) + 60
    logs = [
        2 * k * math.log(sharpness / 2) - math.lgamma(k + 1) - math.lgamma(half + k) + math.lgamma(half)
        for k in range(terms)
    ]
    return max(logs) + math.log(sum(math.exp(value - max(logs)) for value in logs))


def _unit_length(rows: Tensor) -> Tensor:  # (B, N)
    """Rows of L2 norm 1; zeros stay zeros, with a finite gradient, and nothing over- or underflows."""
    largest = rows.detach().abs().amax(dim=1, keepdim=True)  # a constant: the result does not depend on the scale
    scaled = rows / largest.masked_fill(largest == 0, 1.0)
    return F.normalize(scaled, dim=1, eps=0.5)  # the norm is at least 1 unless the row is zero


def _full_product(rows: Tensor, columns: Tensor) -> Tensor:  # (..., M, D), (..., N, D) -> (..., M, N)
    """Inner products in the precision of the input, also where autocast would round them."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.mT


def _check_pair(student: Tensor, teacher: Tensor) -> None:
    for side, embeddings in (("student", student), ("teacher", teacher)):
        if not embeddings.is_floating_point():
            raise TypeError(f"the {side}'s embeddings must be floating point, got {embeddings.dtype}: take activations")
    if student.shape != teacher.shape or student.dim() != 2 or student.numel() == 0:
        raise ValueError(
            f"student's and teacher's embeddings must both be (B, D), not empty, got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}: put a linear layer on the student, or use rkd_distance_loss, where widths differ"
        )


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
