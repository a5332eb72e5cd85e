"""A network as the loss: a discriminator that tells student from teacher, and its heir, the matching of scores.

Source: Belagiannis, Farshad and Galasso, "Adversarial Network Compression", ECCV Workshops 2018,
https://arxiv.org/abs/1803.10750; Goodfellow et al., "Generative Adversarial Networks", NeurIPS 2014,
https://arxiv.org/abs/1406.2661; Ye et al., "Black-Box On-Policy Distillation of Large Language Models", 2025,
https://arxiv.org/abs/2511.10643 (GAD); Yin et al., "One-step Diffusion with Distribution Matching Distillation",
CVPR 2024, https://arxiv.org/abs/2311.18828 (DMD). Lesson: notebooks/09_adversarial.ipynb.

Two steps take turns, and neither may train the other's network. The discriminator's step sees the student's output
detached. The student's step needs the gradient *through* the discriminator, whose own parameters are left out of the
student's optimiser; zero their gradients before the discriminator's next step.

Needs only torch: copy this file into your project as it is.
Shapes: B examples of the student, B' of the teacher, D features; ``...`` is any number of axes. A discriminator's
score is a logit: large where it says "teacher", and σ(score) is the probability that it gives to that.
"""

import numbers

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "FeatureDiscriminator",
    "discriminator_loss",
    "distribution_matching_loss",
    "paired_discriminator_loss",
    "student_adversarial_loss",
]


def discriminator_loss(
    student_scores: Tensor,  # (B,)
    teacher_scores: Tensor,  # (B',)
) -> Tensor:  # ()
    r"""Binary cross-entropy of a discriminator to which the teacher is real and the student a fake.

    .. math::
        -\frac1{B'} \sum_i \log \sigma(d^t_i) - \frac1B \sum_i \log\big(1 - \sigma(d^s_i)\big),
        \quad 1 - \sigma(d) = \sigma(-d)

    For the laws P of the teacher and Q of the student the best discriminator is :math:`d = \log p/q`. It leaves
    :math:`2 \log 2 - 2\,\mathrm{JSD}(P, Q)`: a loss of 2 log 2 = 1.386 says that it can't tell them apart (or has not
    learnt to), a loss near 0 that it always can, and then the student learns nothing from it that is of use.

    Args:
        student_scores: :math:`d^s`, one logit for each output of the student, shape ``(B,)``, or any other. They
            receive the gradient: compute them from *detached* outputs, or this step trains the student to be found out.
        teacher_scores: :math:`d^t`, likewise of the teacher's outputs; their number may differ. Receive the gradient.

    Returns:
        Scalar loss in nats, at least 0; 2 log 2 where all scores are 0.

    Raises:
        TypeError, ValueError: If scores are no floating-point tensors, or empty.

    Example:
        >>> discriminator_loss(torch.tensor([0.0, 0.0]), torch.tensor([50.0]))  # log 2 of the student's, 0 of the rest
        tensor(0.6931)

    Source: Goodfellow et al. 2014, equation 1; Belagiannis et al. 2018, the adversarial loss.
    """
    d_s, d_t = _scores(student_scores, "student_scores"), _scores(teacher_scores, "teacher_scores")
    return -F.logsigmoid(d_t).mean() - F.logsigmoid(-d_s).mean()


def student_adversarial_loss(
    student_scores: Tensor,  # (B,)
) -> Tensor:  # ()
    r"""What the discriminator says of the student: small where it is taken for the teacher (non-saturating).

    .. math::
        -\frac1B \sum_i \log \sigma(d^s_i)

    Its gradient with respect to a score is :math:`-\sigma(-d)/B`, largest where the student is found out. The
    saturating form :math:`\log(1 - \sigma(d))` has :math:`-\sigma(d)/B` instead: nothing, just where help is needed.
    Add it with a weight to a loss on logits or labels; alone it says nothing of which output belongs to which input.

    Args:
        student_scores: :math:`d^s`, the discriminator's logits for the student's outputs, *not* detached, shape
            ``(B,)``, or any other. Receive the gradient, and so do the discriminator's parameters: don't step them.

    Returns:
        Scalar loss in nats, at least 0; log 2 where all scores are 0.

    Raises:
        TypeError, ValueError: If the scores are no floating-point tensor, or empty.

    Example:
        >>> student_adversarial_loss(torch.tensor([0.0, 50.0]))  # (log 2 + 0) / 2
        tensor(0.3466)

    Source: Goodfellow et al. 2014, Section 3; Belagiannis et al. 2018, the student's part.
    """
    return -F.logsigmoid(_scores(student_scores, "student_scores")).mean()


def paired_discriminator_loss(
    student_scores: Tensor,  # (B,)
    teacher_scores: Tensor,  # (B,)
) -> Tensor:  # ()
    r"""Bradley-Terry loss of a discriminator that compares two answers to one prompt: the teacher's is preferred.

    .. math::
        -\frac1B \sum_i \log \sigma(d^t_i - d^s_i)

    Only differences count, so what makes a prompt easy for both cancels. The trained score of an answer is then the
    student's *reward*. Go on training it beside the student: one that stands still is soon exploited.

    Args:
        student_scores: :math:`d^s`, the score of the student's answer to each prompt, shape ``(B,)``. Receives the
            gradient: the answer is text, and no gradient goes on to the student.
        teacher_scores: :math:`d^t`, of the teacher's answers to the *same* prompts, same shape. Receives the gradient.

    Returns:
        Scalar loss in nats, at least 0; log 2 where each pair is equal.

    Raises:
        TypeError, ValueError: If scores are no floating-point tensors, are empty, or their shapes differ.

    Example:
        >>> paired_discriminator_loss(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 50.0]))  # (log 2 + 0) / 2
        tensor(0.3466)

    Source: Ye et al. 2025, the discriminator's objective.
    """
    d_s, d_t = _scores(student_scores, "student_scores"), _scores(teacher_scores, "teacher_scores")
    _check_same_shape(d_s, d_t)
    return -F.logsigmoid(d_t - d_s).mean()


def distribution_matching_loss(
    samples: Tensor,  # (B, D)
    student_score: Tensor,  # (B, D)
    teacher_score: Tensor,  # (B, D)
) -> Tensor:  # ()
    r"""A surrogate whose gradient moves a generator's samples from its own law Q towards the teacher's law P (DMD).

    .. math::
        \nabla_{x_i} L = \frac1B \big(s_q(x_i) - s_p(x_i)\big), \quad s(x) = \nabla_x \log \text{density}(x)

    For samples :math:`x_i = G_\theta(\epsilon_i)` that is the gradient of :math:`\mathrm{KL}(Q \,\|\, P)` with respect
    to :math:`\theta`: no discriminator, but both *scores* are needed (here: gradients of log densities, not a
    discriminator's logits). The value itself means nothing, since :math:`L = \frac1B \sum_i \langle s_q - s_p, x_i
    \rangle` depends on where the origin lies: watch the samples instead.

    Args:
        samples: :math:`x`, what the generator made, shape ``(B, D)`` or ``(B, ...)``. Receives the gradient.
        student_score: :math:`s_q` at the samples, the score of the generator's own law *now*, same shape. A constant.
        teacher_score: :math:`s_p` at the samples, same shape. A constant.

    Returns:
        Scalar surrogate without unit or meaning; 0, and without gradient, where the scores agree.

    Raises:
        TypeError, ValueError: If the arguments are no floating-point tensors ``(B, ...)``, are empty, or their shapes
            differ.

    Example:
        >>> x = torch.tensor([[2.0], [4.0]], requires_grad=True)
        >>> distribution_matching_loss(x, -x, torch.zeros(2, 1)).backward()
        >>> x.grad  # (s_q - s_p) / B: gradient descent spreads these samples out
        tensor([[-1.],
                [-2.]])

    Source: Yin et al. 2024, Section 3.2, without the noise levels and their weights. The authors' code of DMD2
    takes half a mean squared error over all elements: a gradient D times smaller.
    """
    _check_filled(samples=samples, student_score=student_score, teacher_score=teacher_score)
    if samples.dim() < 2 or not samples.shape == student_score.shape == teacher_score.shape:
        shapes = f"{tuple(samples.shape)}, {tuple(student_score.shape)} and {tuple(teacher_score.shape)}"
        raise ValueError(f"samples and both scores must have one shape (B, ...), got {shapes}: a score is a vector too")
    dtype = torch.promote_types(samples.dtype, torch.float32)
    x, s_q, s_p = samples.to(dtype), student_score.to(dtype), teacher_score.to(dtype)
    return ((s_q - s_p).detach() * x).flatten(1).sum(dim=1).mean()


class FeatureDiscriminator(nn.Module):
    r"""A small network that says for each feature vector whether it is the teacher's: one logit an example.

    .. math::
        d(f) = w_3^\top \rho\big(W_2 \, \rho(W_1 f + b_1) + b_2\big) + b_3

    :math:`\rho` is the leaky ReLU (slope 0.2 below zero), so that a score that is far off still has a gradient.
    Thrown away after training. Student and teacher must have equally many features: put a ``HintRegressor`` before it
    otherwise. If it always wins, weaken it: smaller weights (the paper's penalty is ``weight_decay`` of its optimiser),
    a lower learning rate, or the student's features labelled as the teacher's now and then.

    Args:
        num_features: D, features of an example, at least 1.
        width: Units of each of the two hidden layers, at least 1.

    Raises:
        TypeError, ValueError: If a number is not a positive whole number.

    Example:
        >>> FeatureDiscriminator(16)(torch.zeros(8, 16)).shape
        torch.Size([8])

    Source: Belagiannis et al. 2018, Section 3.
    """

    def __init__(self, num_features: int, *, width: int = 64) -> None:
        """Draw the weights as torch draws those of linear layers."""
        super().__init__()
        _check_counts(num_features=num_features, width=width)
        self.layers = nn.Sequential(
            nn.Linear(num_features, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Score each example.

        Args:
            features: Shape ``(B, num_features)``, or ``(..., num_features)``. Receives a gradient, as do the
                parameters: detach the student's for the discriminator's own step. Maps are pooled before.

        Returns:
            Logits, shape ``(B,)`` or ``(...)``, in the parameters' dtype; large for "teacher".

        Raises:
            TypeError, ValueError: If the features are no floating-point tensor, or their last axis is not num_features.
        """
        _check_activations(features, "features")
        first = next(self.parameters())  # (width, num_features)
        if features.dim() < 2 or features.shape[-1] != first.shape[1]:
            raise ValueError(f"features must be (B, {first.shape[1]}), got {tuple(features.shape)}: pool maps before")
        kept = features.to(first.dtype).clone()  # what inference mode made can't be kept for the backward pass
        scores: Tensor = self.layers(kept).squeeze(-1)
        return scores


def _scores(scores: Tensor, name: str) -> Tensor:
    _check_filled(**{name: scores})
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _check_same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher must have the same shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


def _check_filled(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        _check_activations(tensor, name)
        if tensor.numel() == 0:
            raise ValueError(f"{name} must not be empty, got shape {tuple(tensor.shape)}: nothing has no mean")


def _check_activations(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        hint = "take one of its tensors" if isinstance(value, tuple | dict) else "use torch.as_tensor"
        fields = f" ({', '.join(f'.{key}' for key in value)})" if isinstance(value, dict) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}{fields}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: take activations")


def _check_counts(**counts: object) -> None:
    for name, value in counts.items():
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if int(value) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
