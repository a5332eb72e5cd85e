"""Contrast with a memory: the embeddings of one example are told from those of others, remembered from earlier batches.

Source: Tian, Krishnan and Isola, "Contrastive Representation Distillation", ICLR 2020, https://arxiv.org/abs/1910.10699
(CRD). Lesson: notebooks/05_relation_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, D features of an embedding, N examples of the training set, K negatives.
"""

import math
import numbers

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ContrastiveMemory", "crd_loss"]


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
        labels: Classes of the training examples, shape ``(N,)``, int64. Where given, examples of the anchor's class are
            no negatives, as in the authors' experiments; else, or for a label of -100, only the anchor itself is none.

    Raises:
        TypeError, ValueError: If a size is not a positive whole number, the momentum is out of range, or the labels are
            not int64 ``(N,)``.

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
        _check_counts(student_features=student_features, teacher_features=teacher_features)
        _check_counts(num_examples=num_examples, width=width)
        _check_numbers(momentum=momentum)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}: at 1 the memory never changes")
        groups = alone = torch.arange(num_examples)
        if labels is not None:
            _check_rows(num_examples, labels=labels)
            groups = torch.where(labels == -100, -101 - alone.to(labels.device), labels)
        self.momentum = momentum
        self.student_head = nn.Linear(student_features, width)
        self.teacher_head = nn.Linear(teacher_features, width)
        self.register_buffer("student_bank", _unit_length(torch.randn(num_examples, width)))
        self.register_buffer("teacher_bank", _unit_length(torch.randn(num_examples, width)))
        self.register_buffer("groups", groups)

    def forward(self, student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
        """Embed both (B, ...) at length 1, (B, D). Gradients reach the student and both heads, not the teacher."""
        embeddings = []
        _check_activations(student_features, "the student's features")
        _check_activations(teacher_features, "the teacher's features")
        teacher_features = teacher_features.detach().clone()  # of inference mode, it could not be kept for the head
        for features, head in ((student_features, self.student_head), (teacher_features, self.teacher_head)):
            rows = features.flatten(min(1, features.dim() - 1))
            if rows.dim() < 2 or rows.shape[1] != head.in_features:
                raise ValueError(f"expected {head.in_features} features per example, got {tuple(features.shape)}")
            embedded = head(rows.to(head.weight.dtype))
            embeddings.append(_unit_length(embedded.to(torch.promote_types(embedded.dtype, torch.float32))))
        return embeddings[0], embeddings[1]

    def draw(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``count`` examples, with replacement, as negatives for a whole batch: indices (K,)."""
        _check_counts(count=count)
        return torch.randint(len(self.groups), (count,), generator=generator, device=self.groups.device)

    @torch.no_grad()
    def update(self, student_embeddings: Tensor, teacher_embeddings: Tensor, indices: Tensor) -> None:
        """Move the banks towards the new embeddings (B, D) of the examples ``indices`` (B,), each named once.

        Raises TypeError or ValueError if there is not one row of the banks' width for each index.
        """
        _check_pair(student_embeddings, teacher_embeddings)
        if student_embeddings.shape[1] != self.student_bank.shape[1]:
            raise ValueError(f"expected embeddings of the memory's width, got {tuple(student_embeddings.shape)}")
        _check_rows(len(student_embeddings), len(self.groups), indices=indices)
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
        TypeError, ValueError: If embeddings are not floating point, indices not int64 or (looked at on the CPU only)
            out of range, shapes don't fit, or the temperature is no number or below 0.0001.

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
    _check_numbers(temperature=temperature)
    if not 1e-4 <= temperature < math.inf:
        raise ValueError(f"temperature must be in [0.0001, inf), got {temperature}: c is a sum of 2/temperature terms")
    if not isinstance(memory, nn.Module):
        raise TypeError(f"memory must be a ContrastiveMemory, got {type(memory).__name__}")
    width = memory.student_bank.shape[1]
    if student_embeddings.shape[1] != width:
        raise ValueError(
            f"expected embeddings (B, {width}) of the memory's width, got {tuple(student_embeddings.shape)}"
        )
    _check_rows(len(student_embeddings), len(memory.groups), indices=indices)
    _check_rows(None, len(memory.groups), negatives=negatives)
    if len(negatives) == 0:
        raise ValueError("negatives must not be empty: use memory.draw(K)")
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
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs))


def _unit_length(rows: Tensor) -> Tensor:  # (..., N)
    """Rows of L2 norm 1; zeros stay zeros, with a finite gradient, and nothing over- or underflows."""
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)  # a constant: the result does not depend on the scale
    scaled = rows / largest.masked_fill(largest == 0, 1.0)
    return F.normalize(scaled, dim=-1, eps=0.5)  # the norm is at least 1 unless the row is zero


def _full_product(rows: Tensor, columns: Tensor) -> Tensor:  # (..., M, D), (..., N, D) -> (..., M, N)
    """Inner products in the precision of the input, also where autocast would round them."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ columns.mT


def _check_pair(student: Tensor, teacher: Tensor) -> None:
    for side, embeddings in (("student", student), ("teacher", teacher)):
        _check_activations(embeddings, f"the {side}'s embeddings")
    if student.shape != teacher.shape or student.dim() != 2 or student.numel() == 0:
        raise ValueError(
            f"student's and teacher's embeddings must both be (B, D), not empty, got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}: put a linear layer on the student, or use rkd_distance_loss, where widths differ"
        )


def _check_rows(count: int | None, examples: int | None = None, **indices: object) -> None:
    for name, rows in indices.items():
        if not isinstance(rows, Tensor) or rows.dtype != torch.int64:
            kind = rows.dtype if isinstance(rows, Tensor) else type(rows).__name__
            raise TypeError(
                f"{name} must be a tensor of int64, got {kind}: use torch.as_tensor(..., dtype=torch.int64)"
            )
        if rows.dim() != 1 or count not in (None, len(rows)):
            raise ValueError(f"{name} must be one number for each of {count or 'K'} rows, got {tuple(rows.shape)}")
        if examples and rows.device.type == "cpu" and not torch.compiler.is_compiling():  # else it would cost a sync
            wrong = rows[(rows < 0) | (rows >= examples)]
            if len(wrong):
                raise ValueError(f"{name} must be in [0, {examples}), got {wrong[0].item()}")


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


def _check_counts(**counts: object) -> None:
    for name, value in counts.items():
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if int(value) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
