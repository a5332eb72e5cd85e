"""A temperature that is learned together with the student, against it.

Source: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023, https://arxiv.org/abs/2211.16231
(CTKD, the global version). Lesson: notebooks/02_response_based.ipynb.

Needs only torch: copy this file into your project as it is.
"""

import math
import numbers

import torch
from torch import Tensor, nn

__all__ = ["LearnableTemperature"]


class LearnableTemperature(nn.Module):
    r"""A temperature that learns to make distillation harder for the student: its gradient is reversed.

    .. math::
        \tau = \tau_{\min} + (\tau_{\max} - \tau_{\min})\,\sigma(\rho), \qquad
        \frac{\partial L}{\partial \rho} \to -\lambda\,\frac{\partial L}{\partial \rho}

    Give its parameter to the optimiser beside the student's, and pass ``module(reversal=...)`` to any loss with a
    temperature, on finite logits: one of -inf gives the temperature a gradient of NaN, from :math:`\infty \cdot 0`.
    The authors raise :math:`\lambda` from 0 to 1 along a cosine in the first 10 epochs; they start at
    :math:`\tau = 15.6` in the range (1, 21), their code adding the range to the minimum. Their layer does not negate,
    so their :math:`\lambda` is negative; ours is not.

    Args:
        initial: :math:`\tau` at the start, strictly between minimum and maximum.
        minimum: :math:`\tau_{\min} > 0`, never reached.
        maximum: :math:`\tau_{\max}`, never reached.

    Raises:
        TypeError, ValueError: If not 0 < minimum < initial < maximum < infinity.

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
        _check_numbers(initial=initial, minimum=minimum, maximum=maximum)
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
            TypeError, ValueError: If the reversal is no number, negative, or a tensor of another shape than ().
        """
        if isinstance(reversal, Tensor):  # looking at its value would cost a sync
            if reversal.dim() > 0:
                raise ValueError(
                    f"reversal must be a number, got shape {tuple(reversal.shape)}: there is one temperature"
                )
        else:
            _check_numbers(reversal=reversal)
            if not 0 <= reversal < math.inf:
                raise ValueError(f"reversal must be 0 or more and finite, got {reversal}: the sign is turned already")
        temperature = self.minimum + (self.maximum - self.minimum) * torch.sigmoid(self.raw)
        constant = temperature.detach()
        return constant - reversal * (temperature - constant)  # the difference is 0, its gradient is not


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
