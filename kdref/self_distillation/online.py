"""Online distillation: networks teach one another, or a network itself, while they learn; no teacher comes first.

Source: Zhang et al., "Deep Mutual Learning", CVPR 2018, https://arxiv.org/abs/1706.00384; the other papers stand at
their functions. Learning from an earlier copy of oneself is in generations.py.
Lesson: notebooks/08_self_distillation.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes, K peers or branches.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["class_consistency_loss", "deep_supervision_loss", "gated_ensemble_logits", "mutual_learning_loss"]


def mutual_learning_loss(
    own_logits: Tensor,  # (B, C)
    peer_logits: Tensor,  # (B, C) or (K, B, C)
    *,
    temperature: float | Tensor = 1.0,
) -> Tensor:  # ()
    r"""Mean divergence of a network from its peers, who are learning too (DML): add cross-entropy for the whole loss.

    .. math::
        \tau^2 \cdot \frac1K \sum_k \frac1B \sum_i \mathrm{KL}(p^k_i \,\|\, q_i), \quad
        p^k = \mathrm{softmax}(z^k / \tau), \; q = \mathrm{softmax}(z^{\text{own}} / \tau)

    Peers that start equal, see the same batches and update at the same time stay equal: the loss is exactly 0, and so
    is its effect. Updating in turn, as the paper's Algorithm 1 does, breaks the tie; different first weights are surer.

    Args:
        own_logits: This network's raw scores, shape ``(B, C)``. Receives the gradient.
        peer_logits: The scores of one other network, same shape, or of K stacked, ``(K, B, C)``. Treated as a constant:
            a peer learns from its own loss.
        temperature: :math:`\tau > 0`. The paper's 1.

    Returns:
        Scalar loss, in nats times :math:`\tau^2`, at least 0.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes don't fit, the batch is empty or the temperature is not positive.

    Example:
        >>> mutual_learning_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[[50.0, 0.0]], [[0.0, 0.0]]]))  # ½ log 2
        tensor(0.3466)

    Source: Zhang et al. 2018, equations 2 and 7. The gradient is that of the divergence from the average peer, their
    DML_e, so whatever they found between the two is not in the loss.
    """
    _check_logits(own_logits)
    _check_stacked(own_logits, peer_logits)
    _check_not_empty(peer_logits)
    _check_temperature(temperature)
    return _soft_divergence(own_logits.expand_as(peer_logits), peer_logits, temperature).mean() * temperature**2


def gated_ensemble_logits(
    branch_logits: Tensor,  # (K, B, C)
    gate_logits: Tensor,  # (B, K)
) -> Tensor:  # (B, C)
    r"""Logits of the branches of one network, averaged with weights that a gate gives per example (ONE).

    .. math::
        z_i = \sum_k g_{ik}\,z^k_i, \qquad g_i = \mathrm{softmax}(\text{gate}_i)

    The ensemble is trained by cross-entropy, and teaches its branches: ``soft_target_loss`` of each from the ensemble
    at temperature 3, added. A gradient reaches branches and gate; ``soft_target_loss`` stops it where the ensemble
    teaches.

    Args:
        branch_logits: Raw scores of each branch, shape ``(K, B, C)``. Receives a gradient.
        gate_logits: Raw scores of the gate, shape ``(B, K)``. Receives a gradient. The authors' gate is a linear layer
            on the shared features, batch norm and ReLU.

    Returns:
        The ensemble's logits, shape ``(B, C)``. One branch gives itself, whatever the gate.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes don't fit.

    Example:
        >>> branches = torch.tensor([[[4.0, 0.0]], [[0.0, 8.0]]])
        >>> gated_ensemble_logits(branches, torch.tensor([[0.0, 0.0]]))  # halves
        tensor([[2., 4.]])

    Source: Lan, Zhu and Gong, "Knowledge Distillation by On-the-Fly Native Ensemble", NeurIPS 2018,
    https://arxiv.org/abs/1806.04606, Section 3, and the authors' code.
    """
    _check_logits(branch_logits)
    _check_logits(gate_logits)
    if branch_logits.dim() != 3 or gate_logits.shape != (branch_logits.shape[1], branch_logits.shape[0]):
        raise ValueError(
            f"expected branches (K, B, C) and a gate (B, K), got {tuple(branch_logits.shape)} and "
            f"{tuple(gate_logits.shape)}"
        )
    dtype = torch.promote_types(branch_logits.dtype, torch.float32)
    gate = F.softmax(gate_logits.to(dtype), dim=-1)
    return (gate.mT[..., None] * branch_logits.to(dtype)).sum(dim=0)


def deep_supervision_loss(
    branch_logits: Tensor,  # (K, B, C)
    final_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,)
    *,
    soft_weight: float = 0.3,
    temperature: float | Tensor = 3.0,
) -> Tensor:  # ()
    r"""Classifiers on early layers learn from the labels and from the last classifier, the last from labels (BYOT).

    .. math::
        \mathrm{CE}(y, q) + \sum_k \big[(1 - w)\,\mathrm{CE}(y, q^k) + w\,\tau^2\,\mathrm{KL}(q \,\|\, q^k)\big]

    The divergence at :math:`\tau`, all terms means over examples. The branches are thrown away after training, or kept
    as early exits. What the network itself gains comes through the shared layers, and a branch trained on labels alone
    gives much of it: compare with ``soft_weight=0``. The paper's third term, hints, is ``hint_loss``.

    Args:
        branch_logits: Raw scores of the early classifiers, stacked, shape ``(K, B, C)``. Receives a gradient.
        final_logits: The last classifier's, shape ``(B, C)``. Receives the gradient of its labels only: as a teacher it
            is a constant.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).
        soft_weight: :math:`w` in [0, 1], the last classifier's share in teaching the branches.
        temperature: :math:`\tau > 0`, of the divergence only.

    Returns:
        Scalar loss in nats, at least 0: a sum over classifiers, so it grows with K.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If the shapes don't fit, the batch is empty, the weight is outside [0, 1] or the temperature is not
            positive.

    Example:
        >>> agree = torch.tensor([[0.0, 0.0]])
        >>> deep_supervision_loss(agree[None], agree, torch.tensor([0]))  # log 2 + 0.7 log 2
        tensor(1.1784)

    Source: Zhang et al., "Be Your Own Teacher", ICCV 2019, https://arxiv.org/abs/1905.08094, Section 3. A widely used
    reimplementation weighs the last classifier's labels by 1 - w too, and takes a cross-entropy for the divergence.
    """
    _check_logits(final_logits)
    _check_stacked(final_logits, branch_logits)
    _check_labels(final_logits, labels)
    _check_not_empty(branch_logits)
    _check_temperature(temperature)
    if not 0 <= soft_weight <= 1:
        raise ValueError(
            f"soft_weight must be in [0, 1], got {soft_weight}: it is the soft term's share, the labels get the rest"
        )
    dtype = torch.promote_types(final_logits.dtype, torch.float32)
    branches = branch_logits.reshape(-1, *final_logits.shape)
    hard = F.cross_entropy(branches.flatten(0, 1).to(dtype), labels.repeat(len(branches)))
    soft = _soft_divergence(branches, final_logits.expand_as(branches), temperature).mean() * temperature**2
    taught = (1 - soft_weight) * hard + soft_weight * soft
    return F.cross_entropy(final_logits.to(dtype), labels) + len(branches) * taught


def class_consistency_loss(
    logits: Tensor,  # (B, C)
    same_class_logits: Tensor,  # (B, C)
    *,
    temperature: float | Tensor = 4.0,
) -> Tensor:  # ()
    r"""Temperature squared times the divergence from the network's own answer to another example of the class (CS-KD).

    .. math::
        \tau^2 \cdot \frac1B \sum_i \mathrm{KL}\big(p(x'_i) \,\|\, p(x_i)\big), \quad y(x'_i) = y(x_i)

    No gradient reaches the second example. The pairs must be of one class: that is the caller's work. Add it to the
    cross-entropy of the first example, at weight 1 in the paper.

    Args:
        logits: The network's raw scores of :math:`x`, shape ``(B, C)``. Receives the gradient.
        same_class_logits: Its scores of :math:`x'`, same shape. Treated as a constant.
        temperature: :math:`\tau > 0`. The paper's 4.

    Returns:
        Scalar loss, in nats times :math:`\tau^2`, at least 0.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes differ, the batch is empty or the temperature is not positive.

    Example:
        >>> class_consistency_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[200.0, 0.0]]))  # 16 log 2
        tensor(11.0904)

    Source: Yun et al., "Regularizing Class-wise Predictions via Self-knowledge Distillation", CVPR 2020,
    https://arxiv.org/abs/2003.13964, equation 2.
    """
    _check_logits(logits)
    _check_logits(same_class_logits)
    _check_same_shape(logits, same_class_logits)
    _check_not_empty(logits)
    _check_temperature(temperature)
    return _soft_divergence(logits, same_class_logits, temperature).mean() * temperature**2


def _soft_divergence(own: Tensor, constant: Tensor, temperature: float | Tensor) -> Tensor:  # (..., C) -> (...)
    """KL(constant‖own) of the softened distributions, with a gradient to the first only."""
    dtype = torch.promote_types(own.dtype, torch.float32)
    log_q = F.log_softmax(own.to(dtype) / temperature, dim=-1)
    log_p = F.log_softmax(constant.detach().to(dtype) / temperature, dim=-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)


def _check_stacked(own: Tensor, others: Tensor) -> None:
    if not others.is_floating_point():
        raise TypeError(f"logits must be floating point, got {others.dtype}: pass raw scores, not class indices")
    if own.dim() != 2 or others.shape[-2:] != own.shape or others.dim() not in (2, 3):
        raise ValueError(
            f"expected own logits (B, C) and others (B, C) or (K, B, C), got {tuple(own.shape)} and "
            f"{tuple(others.shape)}"
        )


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


def _check_temperature(temperature: float | Tensor) -> None:
    if not isinstance(temperature, Tensor) and not 0 < temperature < float("inf"):  # a tensor's value costs a sync
        raise ValueError(f"temperature must be positive and finite, got {temperature}: 1 leaves the logits unchanged")


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
