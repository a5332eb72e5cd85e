"""The best split of a budget spends all of it, is better than other splits, and costs more the more is to be paid."""

import math

import pytest
import torch

from kdref.lab.experiments._scaling_splits import (
    CONTEXT,
    PAYERS,
    TEACHER_PARAMETERS,
    TEACHER_TOKENS,
    TRUSTED,
    VOCABULARY,
    alone,
    best_split,
    flops,
)
from kdref.scaling import distillation_loss_law, supervised_loss_law, training_flops

SIZES, BUDGETS = (143e6, 546e6, 7.75e9), (1e20, 1e21, 1e23)


def cost(n: float, d: float, n_t: float, d_t: float, payer: str) -> float:
    """By the heart's equation 9."""
    answers, training = PAYERS[payer]
    amounts = [torch.tensor(amount, dtype=torch.float64) for amount in (n, d, n_t, d_t)]
    return training_flops(
        *amounts[:2],
        teacher_parameters=amounts[2],
        teacher_tokens=amounts[3],
        logits_share=answers,
        pretraining_share=training,
        context=CONTEXT,
        vocabulary=VOCABULARY,
    ).item()


@pytest.mark.parametrize("payer", PAYERS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_the_budget_is_spent_and_the_loss_is_the_laws(size: float, budget: float, payer: str) -> None:
    best = best_split(size, budget, payer)
    assert best is not None
    assert cost(size, best.tokens, best.teacher_parameters, best.teacher_tokens, payer) == pytest.approx(budget)
    assert sum(best.shares) == pytest.approx(1)
    assert best.shares[0] == pytest.approx(flops(size, best.tokens) / budget)
    assert best.teacher_loss >= TRUSTED
    teacher = supervised_loss_law(*(torch.tensor(amount) for amount in (best.teacher_parameters, best.teacher_tokens)))
    assert best.teacher_loss == pytest.approx(teacher.item(), rel=1e-5)
    loss = distillation_loss_law(*(torch.tensor(amount) for amount in (best.teacher_loss, size, best.tokens)))
    assert best.loss == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("payer", PAYERS)
def test_no_teacher_of_the_grid_would_have_been_better(payer: str) -> None:
    size, budget = 546e6, 1e21
    best = best_split(size, budget, payer)
    assert best is not None
    for n_t in TEACHER_PARAMETERS[::6].tolist():
        for d_t in TEACHER_TOKENS[::9].tolist():
            left = budget - cost(size, 1e-30, n_t, d_t, payer)
            tokens = left / cost(size, 1.0, n_t, 1e-30, payer)
            teacher = supervised_loss_law(torch.tensor(n_t), torch.tensor(d_t))
            if tokens > 1 and teacher >= TRUSTED:
                loss = distillation_loss_law(teacher, torch.tensor(size), torch.tensor(tokens))
                assert best.loss <= loss.item() + 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_who_pays_more_reaches_less(size: float) -> None:
    losses = [split.loss for payer in PAYERS if (split := best_split(size, 1e21, payer))]
    assert losses == sorted(losses)
    assert len(losses) == len(PAYERS)
    richer = best_split(size, 1e22, "the teacher is made for this student")
    assert richer is not None
    assert richer.loss < losses[-1]


def test_a_budget_that_no_teacher_can_be_paid_from_has_no_split() -> None:
    assert best_split(143e6, 1e17, "the teacher is made for this student") is None
    assert best_split(143e6, 1e17, "the teacher exists, with stored answers") is not None


def test_alone_all_of_the_budget_is_training() -> None:
    budget = flops(143e6, 20 * 143e6)
    assert alone(143e6, budget) == pytest.approx(2.8892, abs=1e-4)
    assert budget == pytest.approx(1.56 * 6 * 143e6 * 20 * 143e6, rel=0.01)
    assert math.isfinite(alone(143e6, 1e30))
