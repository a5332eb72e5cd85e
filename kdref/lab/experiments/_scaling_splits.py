"""How a budget of computation is split best between a teacher, its answers and a student, by the published law.

Every teacher on a grid is tried; what it costs is taken from the budget, and the rest buys the student's tokens. Costs
are those of the paper's Transformers. Lesson: notebooks/13_scaling_laws.ipynb.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kdref.scaling import distillation_loss_law, supervised_loss_law, training_flops

PAYERS = {  # shares of the teacher's answers and of its training that this student pays for
    "the teacher exists, with stored answers": (0.0, 0.0),
    "the teacher exists, and has to answer": (1.0, 0.0),
    "ten students share the teacher": (1.0, 0.1),
    "the teacher is made for this student": (1.0, 1.0),
}
CONTEXT, VOCABULARY = 4096, 32_768
TRUSTED = 1.8  # nats: the law was fitted to no better teacher
TEACHER_PARAMETERS = torch.logspace(math.log10(143e6), math.log10(20e9), 45, dtype=torch.float64)
TEACHER_TOKENS = torch.logspace(9, 13.5, 91, dtype=torch.float64)


class Split(NamedTuple):
    """The best use of a budget: what the student reaches, and what it was spent on."""

    loss: float
    tokens: float
    teacher_parameters: float
    teacher_tokens: float
    teacher_loss: float
    shares: tuple[float, float, float]  # of the budget: the student's training, the teacher's answers, its training


def flops(parameters: float, tokens: float) -> float:
    """What training alone costs."""
    return _flops(torch.tensor(parameters, dtype=torch.float64), torch.tensor(tokens)).item()


def alone(parameters: float, budget: float) -> float:
    """The loss of a student that spends the whole budget on training with data."""
    n = torch.tensor(parameters, dtype=torch.float64)
    return supervised_loss_law(n, budget / _flops(n, torch.tensor(1.0))).item()


def best_split(parameters: float, budget: float, payer: str) -> Split | None:
    """The best student of this size for a budget in floating-point operations; None where no teacher can be paid.

    Args:
        parameters: Of the student, without embeddings.
        budget: Floating-point operations.
        payer: One of ``PAYERS``.
    """
    answers, training = PAYERS[payer]
    n = torch.tensor(parameters, dtype=torch.float64)
    n_t, d_t = torch.meshgrid(TEACHER_PARAMETERS, TEACHER_TOKENS, indexing="ij")
    teacher_loss = supervised_loss_law(n_t, d_t)
    one = torch.ones_like(n_t)
    own = _flops(n, torch.tensor(1.0))  # per token of the student
    answering = answers * _flops(n_t, one) / 3  # a forward pass is a third of a training step
    teaching = training * _flops(n_t, d_t)
    tokens = (budget - teaching) / (own + answering)
    possible = (tokens > 1) & (teacher_loss >= TRUSTED)
    if not possible.any():
        return None
    loss = torch.where(possible, distillation_loss_law(teacher_loss, n, tokens.clamp(min=1)), math.inf)
    at = loss.argmin()
    student, answer, teacher = (float(part.flatten()[at]) for part in (own * tokens, answering * tokens, teaching))
    found, bought, *made = (float(axis.flatten()[at]) for axis in (loss, tokens, n_t, d_t, teacher_loss))
    return Split(found, bought, made[0], made[1], made[2], (student / budget, answer / budget, teacher / budget))


def _flops(parameters: Tensor, tokens: Tensor) -> Tensor:
    return training_flops(parameters, tokens, context=CONTEXT, vocabulary=VOCABULARY)
