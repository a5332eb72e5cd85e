"""Scaling laws, checked against Busbridge et al. 2025: equations, published constants, limits."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref import scaling
from kdref.scaling import (
    APPLE_DISTILLATION,
    APPLE_SUPERVISED,
    DistillationLaw,
    SupervisedLaw,
    capacity_gap_teacher_loss,
    distillation_loss_law,
    supervised_loss_law,
    training_flops,
)
from tests import checks

TABLE_6 = {"A": 3355, "B": 18186, "E": 1.220, "alpha": 0.408, "beta": 0.431, "gamma": 0.452}
TABLE_6_TAUGHT = {"A": 2243, "B": 24181, "alpha": 0.321, "beta": 0.637, "gamma": 0.764}
TABLE_6_TAUGHT |= {"c0": 2.549, "c1": 522.6, "f1": 0.090, "d1": 1.315}
SIZES, TOKENS = (1.5e8, 2e9, 6e10), (1e9, 3e11, 2e13)
EXACT = {"rel": 1e-9, "abs": 0}


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def shortage(n: float, d: float, law: dict[str, float]) -> float:
    return float((law["A"] / n ** law["alpha"] + law["B"] / d ** law["beta"]) ** law["gamma"])


def alone(n: float, d: float) -> float:
    """Equation 1 in plain Python."""
    return TABLE_6["E"] + shortage(n, d, TABLE_6)


def taught(loss: float, n: float, d: float) -> float:
    """Equation 8 in plain Python, as it is printed."""
    law = TABLE_6_TAUGHT
    bracket = 1 + (loss / (alone(n, d) * law["d1"])) ** (1 / law["f1"])
    return loss + loss ** -law["c0"] * bracket ** (-law["c1"] * law["f1"]) * shortage(n, d, law)


def best_teacher(n: float) -> tuple[float, float]:
    """The teacher's loss with the best student of this size on 20 tokens per parameter, and that student's."""
    losses = torch.arange(1.0, 4.0, 0.0005, dtype=torch.float64)
    found = distillation_loss_law(losses, double(n), double(20 * n))
    return losses[found.argmin()].item(), found.min().item()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("d", TOKENS)
def test_both_laws_match_the_definition(n: float, d: float) -> None:
    assert supervised_loss_law(double(n), double(d)).item() == pytest.approx(alone(n, d), **EXACT)
    for loss in (0.7, 1.8, 2.4, 3.1, 4.4, 9.0):
        found = distillation_loss_law(double(loss), double(n), double(d))
        assert found.item() == pytest.approx(taught(loss, n, d), **EXACT)


def test_the_published_constants_are_those_of_table_6() -> None:
    assert APPLE_SUPERVISED._asdict() == TABLE_6
    assert APPLE_DISTILLATION._asdict() == TABLE_6_TAUGHT


def test_anchors_computed_beforehand() -> None:
    small, large = double(143e6), double(546e6)
    assert_close(supervised_loss_law(small, 20 * small), double(2.8892), rtol=0, atol=6e-5)
    assert_close(supervised_loss_law(large, 20 * large), double(2.5149), rtol=0, atol=6e-5)
    found = distillation_loss_law(double(2.5, 2.2, 1.9), small, 20 * small)
    assert_close(found, double(2.7253, 2.6380, 2.5944), rtol=0, atol=6e-5)


def test_known_values_by_hand() -> None:
    # √16 = 4 and √81 = 9: 1 + 4/4 + 9/9 = 3
    law = SupervisedLaw(A=4.0, B=9.0, E=1.0, alpha=0.5, beta=0.5, gamma=1.0)
    n, d = torch.tensor(16.0), torch.tensor(81.0)
    assert_close(supervised_loss_law(n, d, law=law), torch.tensor(3.0))
    # a teacher with 6 = 2 · 3, the gap: 6 + 6⁻² · (1 + 1)⁻³ · 2, with c₁f₁ = 6 · ½ = 3
    other = DistillationLaw(A=4.0, B=9.0, alpha=0.5, beta=0.5, gamma=1.0, c0=2.0, c1=6.0, d1=2.0, f1=0.5)
    laws = {"law": other, "supervised": law}
    assert_close(capacity_gap_teacher_loss(n, d, **laws), torch.tensor(6.0))
    assert_close(distillation_loss_law(torch.tensor(6.0), n, d, **laws), torch.tensor(6 + 2 / (36 * 8)))
    # one with 3: (3/6)² = ¼, so 3 + 3⁻² · 1.25⁻³ · 2
    assert_close(distillation_loss_law(torch.tensor(3.0), n, d, **laws), torch.tensor(3 + 2 / (9 * 1.25**3)))


def test_a_student_without_limits_equals_its_teacher_and_alone_reaches_the_floor() -> None:
    teachers, endless = double(1.9, 2.5, 3.5), double(1e90)
    assert_close(distillation_loss_law(teachers, endless, endless), teachers, rtol=1e-9, atol=0)
    assert_close(supervised_loss_law(endless, endless), double(TABLE_6["E"]), rtol=1e-9, atol=0)
    for n, d in ((double(1e9), endless), (endless, double(1e10))):  # one of the two is not enough
        assert (distillation_loss_law(teachers[:1], n, d) > teachers[:1] + 1e-4).all()
        assert (supervised_loss_law(n, d) > TABLE_6["E"] + 0.01).all()


def test_a_teacher_that_knows_nothing_makes_students_that_know_nothing() -> None:
    teachers = double(10.0, 100.0, 1e4, 1e8)
    assert_close(distillation_loss_law(teachers, double(143e6), double(3e9)), teachers, rtol=1e-9, atol=0)


def test_the_law_diverges_for_a_teacher_without_loss() -> None:
    losses = distillation_loss_law(double(1.0, 0.1, 0.01), double(143e6), double(3e9))
    assert losses[0] > 4
    assert (losses[1:] > 100 * losses[:-1]).all()


@pytest.mark.parametrize(("n", "teacher", "student"), [(143e6, 1.912, 2.5943), (546e6, 1.776, 2.3541)])
def test_over_the_teachers_loss_it_is_a_u_with_the_best_teacher_where_it_should_be(
    n: float, teacher: float, student: float
) -> None:
    found, loss = best_teacher(n)
    assert found == pytest.approx(teacher, abs=1.1e-3)
    assert loss == pytest.approx(student, abs=6e-5)
    steps = distillation_loss_law(torch.arange(0.5, 6.0, 0.01, dtype=torch.float64), double(n), double(20 * n)).diff()
    falling = (steps < 0).long()
    assert falling.diff().tolist().count(-1) == 1
    assert falling.diff().tolist().count(1) == 0
    assert student < alone(n, 20 * n), "at 20 tokens per parameter the best teacher beats none"


def test_a_larger_student_wants_a_better_teacher() -> None:
    teachers = [best_teacher(n)[0] for n in (143e6, 546e6, 2e9, 7.75e9)]
    assert teachers == sorted(teachers, reverse=True)


@given(seed=st.integers(0, 10**6))
def test_more_parameters_or_tokens_never_hurt(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    n, d = (10 ** (low + 5 * torch.rand(20, generator=draw, dtype=torch.float64)) for low in (7, 9))
    loss = 1.5 + 2 * torch.rand(20, generator=draw, dtype=torch.float64)
    for more in ((2 * n, d), (n, 2 * d)):
        assert (supervised_loss_law(*more) < supervised_loss_law(n, d)).all()
        assert (distillation_loss_law(loss, *more) <= distillation_loss_law(loss, n, d)).all()
    assert (distillation_loss_law(loss, n, d) >= loss).all()
    assert (supervised_loss_law(n, d) > TABLE_6["E"]).all()


def test_at_the_gap_the_law_changes_from_one_power_to_another() -> None:
    n, d = double(2e9), double(4e10)
    gap = capacity_gap_teacher_loss(n, d)
    assert_close(gap, 1.315 * supervised_loss_law(n, d), rtol=1e-12, atol=0)
    for factor, slope in ((0.2, -2.549), (1.0, -2.549 - 522.6 / 2), (1.6, -2.549 - 522.6)):
        loss = (factor * gap).requires_grad_()
        # what can't be imitated, with its size taken out: near the gap it is below a rounding error of the loss
        rest = DistillationLaw(**{**TABLE_6_TAUGHT, "A": 1e200, "B": 1e200})
        logarithm = (distillation_loss_law(loss, n, d, law=rest) - loss).log()
        (found,) = torch.autograd.grad(logarithm.sum(), loss)
        assert (found * loss).item() == pytest.approx(slope, rel=0.01)


def test_training_costs_as_in_the_four_settings_of_table_2() -> None:
    n, d, n_t, d_t = double(3.0), double(5.0), double(7.0), double(11.0)
    own, answers, training = 6 * 3 * 5, 2 * 7 * 5, 6 * 7 * 11
    teacher = {"teacher_parameters": n_t, "teacher_tokens": d_t}
    for settings, expected in (
        ({}, own),
        ({"teacher_parameters": n_t}, own + answers),
        ({**teacher, "logits_share": 0.0}, own + training),
        (teacher, own + answers + training),
        ({**teacher, "pretraining_share": 0.25, "logits_share": 0.5}, own + answers / 2 + training / 4),
        ({**teacher, "pretraining_share": 0.0, "logits_share": 0.0}, own),
    ):
        assert_close(training_flops(n, d, **settings), double(expected))


def test_attention_and_vocabulary_cost_what_table_13_says() -> None:
    n = double(0.1434e9, 0.546e9, 1.821e9, 7.747e9)
    forward = training_flops(n, double(1.0), context=4096, vocabulary=32768) / 3
    assert_close(forward, double(0.4471e9, 1.415e9, 4.28e9, 16.99e9), rtol=2e-3, atol=0)
    # by hand: N = 12 · 128² · 8 = 128 · 12288, so the depth is 2 and the width 256; 2N + 2 · l · 2 · 256 + 2 · v · 256
    found = training_flops(double(1572864.0), double(1.0), context=10, vocabulary=100) / 3
    assert_close(found, double(2 * 1572864.0 + 2 * 10 * 2 * 256 + 2 * 100 * 256))
    with_teacher = training_flops(n, double(1.0), teacher_parameters=n, context=4096, vocabulary=32768)
    assert_close(with_teacher, 4 * forward)


GRADIENTS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "supervised": (supervised_loss_law, (double(3.0, 20.0), double(5.0, 7.0))),
    "distillation": (distillation_loss_law, (double(2.1, 3.8, 4.6), double(30.0, 9.0, 2.0), double(5.0, 7.0, 9.0))),
    "gap": (capacity_gap_teacher_loss, (double(3.0, 20.0), double(5.0, 7.0))),
    "flops": (
        lambda *x: training_flops(*x[:2], teacher_parameters=x[2], teacher_tokens=x[3], context=2, vocabulary=3),
        (double(3.0, 20.0), double(5.0, 7.0), double(4.0, 6.0), double(2.0, 3.0)),
    ),
}
SMALL = {"supervised": SupervisedLaw(4.0, 9.0, 1.0, 0.5, 0.6, 0.7)}
SMALL["law"] = DistillationLaw(4.0, 9.0, 0.5, 0.6, 0.7, c0=2.0, c1=9.0, d1=1.2, f1=0.4)


@pytest.mark.parametrize("name", GRADIENTS)
def test_every_argument_receives_its_gradient_twice_over(name: str) -> None:
    function, given = GRADIENTS[name]
    laws = {"law": SMALL["supervised"]} if name == "supervised" else {} if name == "flops" else SMALL
    leaves = [amount.clone().requires_grad_() for amount in given]
    assert torch.autograd.gradcheck(lambda *x: function(*x, **laws), leaves, raise_exception=False)
    assert torch.autograd.gradgradcheck(lambda *x: function(*x, **laws), leaves, raise_exception=False)


def test_the_constants_receive_gradients_and_can_be_many() -> None:
    amounts = double(2.1, 3.0, 4.5), double(30.0, 9.0, 2.0), double(5.0, 7.0, 9.0)
    constants = [double(value).requires_grad_() for law in SMALL.values() for value in law]

    def loss(*values: Tensor) -> Tensor:
        laws = {"supervised": SupervisedLaw(*values[:6]), "law": DistillationLaw(*values[6:])}
        return distillation_loss_law(*amounts, **laws)

    assert torch.autograd.gradcheck(loss, constants, raise_exception=False)
    band = SMALL["supervised"]._replace(E=double(1.0, 1.5)[:, None])
    found = supervised_loss_law(amounts[1], amounts[2], law=band)
    plain = supervised_loss_law(amounts[1], amounts[2], law=SMALL["supervised"])
    assert_close(found, torch.stack([plain, plain + 0.5]))


def test_a_law_is_found_again_from_losses_that_it_made() -> None:
    n, d = double(1e3, 1e4, 1e5)[:, None], double(1e4, 1e5, 1e6, 1e7)
    law = SupervisedLaw(A=20.0, B=50.0, E=0.5, alpha=0.4, beta=0.4, gamma=1.0)
    losses = supervised_loss_law(n, d, law=law)
    logs = double(2.0, 5.0, 0.0).requires_grad_()
    optimizer = torch.optim.LBFGS([logs], max_iter=200, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        a, b, e = logs.exp()
        misfit = (supervised_loss_law(n, d, law=law._replace(A=a, B=b, E=e)).log() - losses.log()).square().sum()
        misfit.backward()
        return misfit

    optimizer.step(closure)
    assert_close(logs.exp().detach(), double(20.0, 50.0, 0.5), rtol=1e-3, atol=0)


def test_the_laws_compile_to_one_graph() -> None:
    t, n, d = torch.tensor([1.9, 2.5]), torch.tensor([[1e8], [1e9]]), torch.tensor([2e9, 3e10])
    checks.check_compiles(lambda x: scaling.distillation_loss_law(x, n, d), t)
    checks.check_compiles(lambda x: scaling.supervised_loss_law(x, d), n)
    checks.check_compiles(lambda x: scaling.training_flops(x, d, teacher_parameters=2 * n, context=8), n)
