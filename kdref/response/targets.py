"""Response-based distillation: targets and temperatures made from a teacher's logits, or from no teacher at all.

Source: Ba and Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014, https://arxiv.org/abs/1312.6184; the other
papers stand at their functions. Decoupled losses are in decoupled.py, losses up to scale in standardized.py.
Lesson: notebooks/02_response_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes; ``...`` is any number of leading axes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "LearnableTemperature",
    "hard_label_loss",
    "label_smoothing_loss",
    "logit_matching_loss",
    "virtual_teacher_logits",
]


def logit_matching_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
) -> Tensor:  # ()
    r"""Half the mean squared difference of the centred logits: soft targets at an infinite temperature.

    .. math::
        \frac1B \sum_i \frac{1}{2C} \sum_c \big((z^s_{ic} - \bar z^s_i) - (z^t_{ic} - \bar z^t_i)\big)^2

    The paper regresses on raw logits and sums over classes. Raw logits penalise a shift that softmax ignores, so
    each example is centred here; divided by C, the loss is the limit of ``soft_target_loss`` for large temperatures.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(..., C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Treated as a constant.

    Returns:
        Scalar loss in squared logits, at least 0; 0 exactly where the logits differ by a constant per example.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes differ, there is no class axis or the batch is empty.

    Example:
        >>> logit_matching_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[7.0, 5.0]]))  # centred: (-1, 1), (1, -1)
        tensor(2.)

    Source: Ba and Caruana 2014, equation 1; its place as a limit: Hinton et al. 2015, Section 2.1.
    """
    _check_logits(student_logits)
    _check_logits(teacher_logits)
    _check_same_shape(student_logits, teacher_logits)
    _check_not_empty(student_logits)
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    student, teacher = student_logits.to(dtype), teacher_logits.detach().to(dtype)
    shift = student.mean(dim=-1, keepdim=True) - teacher.mean(dim=-1, keepdim=True)
    return F.mse_loss(student - shift, teacher) / 2


def hard_label_loss(
    student_logits: Tensor,  # (..., C)
    teacher_logits: Tensor,  # (..., C)
) -> Tensor:  # ()
    r"""Cross-entropy with the class that the teacher finds most likely: pseudo-labels, no temperature.

    .. math::
        \frac1B \sum_i -\log \mathrm{softmax}(z^s_i)_{\hat y_i}, \quad \hat y_i = \arg\max_c z^t_{ic}

    It passes on what the teacher decides and drops how sure it was; the gradient does not vanish where the two agree.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(..., C)``. Receives the gradient.
        teacher_logits: Raw scores :math:`z^t`, same shape. Only the place of the maximum is used; the first of equals.

    Returns:
        Scalar loss in nats, at least 0.

    Raises:
        TypeError: If the logits are not floating point.
        ValueError: If the shapes differ, there is no class axis or the batch is empty.

    Example:
        >>> hard_label_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.1, 0.0]]))
        tensor(0.6931)

    Source: Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021,
    https://arxiv.org/abs/2012.12877, equation 3: the paper averages this term and the cross-entropy with the labels.
    """
    _check_logits(student_logits)
    _check_logits(teacher_logits)
    _check_same_shape(student_logits, teacher_logits)
    _check_not_empty(student_logits)
    logits = student_logits.to(torch.promote_types(student_logits.dtype, torch.float32))
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), teacher_logits.argmax(dim=-1).reshape(-1))


def label_smoothing_loss(
    student_logits: Tensor,  # (B, C)
    labels: Tensor,  # (B,)
    *,
    smoothing: float = 0.1,
) -> Tensor:  # ()
    r"""Cross-entropy with labels that give a little to every class: distillation from a teacher that knows nothing.

    .. math::
        (1 - \varepsilon)\,\mathrm{CE}(y, q) + \varepsilon\,\big[\mathrm{KL}(u \,\|\, q) + \log C\big], \quad
        u_c = \tfrac1C

    The second term is distillation from a uniform teacher plus a constant, so the loss never reaches 0. The label
    itself keeps :math:`1 - \varepsilon + \varepsilon / C`; code that spreads :math:`\varepsilon` over the C - 1 others
    (Teacher-free-KD's) smooths C/(C - 1) times as much.

    Args:
        student_logits: Raw scores :math:`z^s`, shape ``(B, C)``. Receives the gradient.
        labels: Class indices :math:`y`, shape ``(B,)``, int64, each in [0, C).
        smoothing: :math:`\varepsilon` in [0, 1]. 0 is plain cross-entropy.

    Returns:
        Scalar loss in nats, at least the entropy of the smoothed label.

    Raises:
        TypeError: If the logits are not floating point or the labels are not int64.
        ValueError: If the shapes don't fit, the batch is empty or the smoothing is outside [0, 1].

    Example:
        >>> label_smoothing_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(0.6931)

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
    https://arxiv.org/abs/1512.00567, Section 7; as a teacher: Yuan et al. 2020 (see ``virtual_teacher_logits``).
    """
    _check_logits(student_logits)
    _check_labels(student_logits, labels)
    _check_not_empty(student_logits)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be in [0, 1], got {smoothing}: it is the share of the uniform distribution")
    logits = student_logits.to(torch.promote_types(student_logits.dtype, torch.float32))
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def virtual_teacher_logits(
    labels: Tensor,  # (...)
    *,
    num_classes: int,
    confidence: float = 0.99,
) -> Tensor:  # (..., C)
    r"""Logits of an imagined teacher that is always right and always equally sure.

    .. math::
        z_c = \log a \ \text{ if } c = y, \qquad z_c = \log \frac{1 - a}{C - 1} \ \text{ otherwise}

    They are log-probabilities: at temperature 1 softmax gives back a exactly, and higher temperatures soften it as
    in the paper's equation. The authors' code softens the probabilities themselves, which leaves the label 0.0105 of
    100 classes at its temperature 20: all but uniform.

    Args:
        labels: Class indices :math:`y`, any shape ``(...)``, int64, each in [0, C).
        num_classes: :math:`C`, at least 2.
        confidence: :math:`a` in (0, 1), the label's probability; the paper asks for 0.9 or more.

    Returns:
        Logits in nats, shape ``(..., C)``, in torch's default dtype, on the labels' device.

    Raises:
        TypeError: If the labels are not int64.
        ValueError: If there are fewer than two classes or the confidence is not strictly between 0 and 1.

    Example:
        >>> virtual_teacher_logits(torch.tensor([2]), num_classes=3, confidence=0.9).softmax(dim=-1)
        tensor([[0.0500, 0.0500, 0.9000]])

    Source: Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020,
    https://arxiv.org/abs/1909.11723, equation 9 and the distribution defined before it.
    """
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64 class indices, got {labels.dtype}: convert them with labels.long()")
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}: there must be a wrong class to share in")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be strictly between 0 and 1, got {confidence}: a logit would be infinite")
    others = math.log((1 - confidence) / (num_classes - 1))
    logits = torch.full((*labels.shape, num_classes), others, device=labels.device)
    return logits.scatter(-1, labels.unsqueeze(-1), math.log(confidence))


class LearnableTemperature(nn.Module):
    r"""A temperature that learns to make distillation harder for the student: its gradient is reversed.

    .. math::
        \tau = \tau_{\min} + (\tau_{\max} - \tau_{\min})\,\sigma(\rho), \qquad
        \frac{\partial L}{\partial \rho} \to -\lambda\,\frac{\partial L}{\partial \rho}

    Give its parameter to the optimiser beside the student's, and pass ``module(reversal=...)`` to any loss with a
    temperature. The authors raise :math:`\lambda` from 0 to 1 along a cosine in the first 10 epochs; they start at
    :math:`\tau = 15.6` in the range (1, 21), their code adding the range to the minimum. Their layer does not negate,
    so their :math:`\lambda` is negative; ours is not.

    Args:
        initial: :math:`\tau` at the start, strictly between minimum and maximum.
        minimum: :math:`\tau_{\min} > 0`, never reached.
        maximum: :math:`\tau_{\max}`, never reached.

    Raises:
        ValueError: If not 0 < minimum < initial < maximum < infinity.

    Example:
        >>> temperature = LearnableTemperature(initial=4.0)
        >>> temperature().backward()  # a loss that grows with the temperature by 1 per unit
        >>> temperature.raw.grad  # -(20 - 1) * s * (1 - s), s = 3/19: descent on it raises the temperature
        tensor(-2.5263)

    Source: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023, https://arxiv.org/abs/2211.16231
    (the global version).
    """

    def __init__(self, *, initial: float = 4.0, minimum: float = 1.0, maximum: float = 20.0) -> None:
        """Place the parameter so that the first temperature is the initial one."""
        super().__init__()
        if not 0 < minimum < initial < maximum < math.inf:
            raise ValueError(
                f"need 0 < minimum < initial < maximum < inf, got {minimum}, {initial} and {maximum}: "
                "the sigmoid never reaches its ends"
            )
        self.minimum, self.maximum = minimum, maximum
        self.raw = nn.Parameter(torch.tensor(math.log((initial - minimum) / (maximum - initial))))

    def forward(self, *, reversal: float | Tensor = 1.0) -> Tensor:  # ()
        r"""Give the temperature now; going back, its gradient is multiplied by minus the reversal.

        Args:
            reversal: :math:`\lambda \ge 0`. 0 leaves the temperature where it is.

        Returns:
            Scalar :math:`\tau`, no unit.

        Raises:
            ValueError: If the reversal is negative.
        """
        if not isinstance(reversal, Tensor) and not 0 <= reversal < math.inf:
            raise ValueError(f"reversal must be 0 or more and finite, got {reversal}: the sign is turned here already")
        temperature = self.minimum + (self.maximum - self.minimum) * torch.sigmoid(self.raw)
        constant = temperature.detach()
        return constant - reversal * (temperature - constant)  # the difference is 0, its gradient is not


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
