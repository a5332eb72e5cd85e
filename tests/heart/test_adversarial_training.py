"""The gradients of adversarial distillation, and what the two games and the matching of scores converge to."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.adversarial import (
    FeatureDiscriminator,
    discriminator_loss,
    distribution_matching_loss,
    paired_discriminator_loss,
    student_adversarial_loss,
)
from tests import checks
from tests.heart.test_adversarial import MANY, OWN, SAMPLES, STUDENT, TARGET, TEACHER, grown


def gradients(loss: Callable[..., Tensor], *tensors: Tensor) -> list[Tensor | None]:
    """What each of them receives."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    loss(*leaves).backward()
    return [leaf.grad for leaf in leaves]


def standard_normal(count: int) -> Tensor:
    """Draws whose mean is 0 and whose mean square is 1, exactly: gradients of a Gaussian have no sampling error."""
    drawn = checks.randn(count, 1, seed=11)
    return (drawn - drawn.mean()) / drawn.std(correction=0)


# Gradients of scores


def test_a_discriminator_learns_from_both_sides() -> None:
    of_student, of_teacher = gradients(lambda s, t: discriminator_loss(s, t), STUDENT, MANY)
    assert of_student is not None, "the student's scores receive no gradient"
    assert of_teacher is not None, "the teacher's scores receive no gradient"
    assert_close(of_student, STUDENT.sigmoid() / 6, rtol=1e-9, atol=1e-14)
    assert_close(of_teacher, -(-MANY).sigmoid() / 9, rtol=1e-9, atol=1e-14)
    both = (STUDENT.clone().requires_grad_(), MANY.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda s, t: discriminator_loss(s, t), both, raise_exception=False)


def test_a_comparison_learns_from_both_sides_alike() -> None:
    of_student, of_teacher = gradients(lambda s, t: paired_discriminator_loss(s, t), STUDENT, TEACHER)
    assert of_student is not None, "the student's scores receive no gradient"
    assert of_teacher is not None, "the teacher's scores receive no gradient"
    assert_close(of_student, (STUDENT - TEACHER).sigmoid() / 6, rtol=1e-9, atol=1e-14)
    assert_close(of_teacher, -of_student, rtol=1e-9, atol=1e-14)
    both = (STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda s, t: paired_discriminator_loss(s, t), both, raise_exception=False)


def test_the_students_gradient_is_largest_where_it_is_found_out() -> None:
    scores = torch.tensor([-30.0, -2.0, 0.0, 2.0, 30.0], dtype=torch.float64)
    (found,) = gradients(lambda s: student_adversarial_loss(s), scores)
    assert found is not None, "the student receives no gradient"
    assert_close(found, -(-scores).sigmoid() / 5, rtol=1e-9, atol=1e-14)
    (saturating,) = gradients(lambda s: F.logsigmoid(-s).mean(), scores)  # log(1 - σ(d)), which it stands for
    assert saturating is not None
    assert_close(saturating, -scores.sigmoid() / 5, rtol=1e-9, atol=1e-14)
    assert saturating[0].abs() < 1e-13 < 0.19 < found[0].abs()  # at a score of -30: nothing, and all of 1/5
    assert_close(found[2], saturating[2])  # both 1/2 where the discriminator is at a loss
    checks.check_gradient(lambda s: student_adversarial_loss(s), STUDENT)


def test_distribution_matching_hands_the_difference_of_scores_to_the_samples_only() -> None:
    of_samples, of_own, of_target = gradients(lambda *given: distribution_matching_loss(*given), SAMPLES, OWN, TARGET)
    assert of_samples is not None, "the samples receive no gradient"
    assert_close(of_samples, (OWN - TARGET) / 5, rtol=1e-9, atol=1e-14)
    assert of_own is None, "the student's score received a gradient"
    assert of_target is None, "the teacher's score received a gradient"
    (moved,) = gradients(lambda x: distribution_matching_loss(x + 7, OWN, TARGET), SAMPLES)
    assert_close(moved, of_samples)  # only the value depends on the origin
    (agreed,) = gradients(lambda x: distribution_matching_loss(x, OWN, OWN.clone()), SAMPLES)
    assert_close(agreed, torch.zeros_like(SAMPLES))
    checks.check_gradient(lambda *given: distribution_matching_loss(*given), SAMPLES, OWN, TARGET)


def test_scores_that_were_computed_from_the_samples_are_constants() -> None:
    x = SAMPLES.clone().requires_grad_()
    distribution_matching_loss(x, -3 * x, -(x - 1) / 4).backward()
    assert_close(x.grad, (-3 * SAMPLES + (SAMPLES - 1) / 4) / 5, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("mean", "deviation"), [(0.5, 2.0), (-1.0, 0.3), (3.0, 1.0)])
def test_a_gaussian_generator_gets_the_gradient_of_its_divergence(mean: float, deviation: float) -> None:
    # KL(N(m, s²) ‖ N(3, 2²)) = log 2/s + (s² + (m - 3)²)/8 - 1/2: its gradient is (m - 3)/4 for m, s/4 - 1/s for s
    m, s = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (mean, deviation))
    x = m + s * standard_normal(50)
    own, target = -(x - m) / s**2, -(x - 3) / 4
    distribution_matching_loss(x, own, target).backward()
    assert_close(m.grad, torch.full_like(m, (mean - 3) / 4), rtol=1e-9, atol=1e-12)
    assert_close(s.grad, torch.full_like(s, deviation / 4 - 1 / deviation), rtol=1e-9, atol=1e-12)


# Gradients through a discriminator


def test_the_students_step_goes_through_the_discriminator() -> None:
    network, features = grown(), checks.randn(7, 3, seed=8)
    checks.check_gradient(lambda f: student_adversarial_loss(network(f)), features)
    parameters = [parameter.grad for parameter in network.parameters()]
    assert all(grad is not None for grad in parameters), "they get one too: zero it before their own step"
    student = features.clone().requires_grad_()
    network(student.detach()).sum().backward()
    assert student.grad is None


def test_a_discriminator_receives_the_gradient_of_finite_differences() -> None:
    network, features = grown(), checks.randn(5, 3, seed=9)
    parameters = [parameter.detach().requires_grad_() for parameter in network.parameters()]
    names = [name for name, _ in network.named_parameters()]

    def score(*values: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(network, dict(zip(names, values, strict=True)), (features,))
        return found

    assert torch.autograd.gradcheck(score, parameters, raise_exception=False)


def test_a_score_that_is_far_off_still_has_a_gradient() -> None:
    network = grown()
    with torch.no_grad():
        for bias in list(network.parameters())[1:4:2]:
            bias.fill_(-100.0)  # every hidden unit is far below zero
    (found,) = gradients(lambda f: network(f).sum(), checks.randn(4, 3, seed=10))
    assert found is not None
    assert (found.abs().sum(dim=1) > 1e-6).all(), f"dead: {found}"


def test_features_made_in_inference_mode_are_used_like_any_other() -> None:
    features = checks.randn(5, 3, seed=12)
    plain, network = grown(), grown()
    with torch.inference_mode():
        made = features.clone()
    scores = plain(features), network(made)
    assert_close(scores[1], scores[0])
    for found in scores:
        discriminator_loss(STUDENT, found).backward()
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        assert_close(ours.grad, theirs.grad)
    with torch.inference_mode():
        tensors = [tensor.clone() for tensor in (STUDENT, MANY, OWN, TARGET)]
    learning = STUDENT.clone().requires_grad_(), SAMPLES.clone().requires_grad_()
    (discriminator_loss(learning[0], tensors[1]) + paired_discriminator_loss(learning[0], tensors[0])).backward()
    distribution_matching_loss(learning[1], *tensors[2:]).backward()
    assert_close(learning[1].grad, (OWN - TARGET) / 5)


# One graph


def test_each_loss_compiles_to_one_graph() -> None:
    student, teacher, many = STUDENT.float(), TEACHER.float(), MANY.float()
    checks.check_compiles(lambda s: student_adversarial_loss(s), student)
    checks.check_compiles(lambda s, t: discriminator_loss(s, t), student, many)
    checks.check_compiles(lambda s, t: paired_discriminator_loss(s, t), student, teacher)
    checks.check_compiles(
        lambda *given: distribution_matching_loss(*given), SAMPLES.float(), OWN.float(), TARGET.float()
    )
    network = grown().float()
    checks.check_compiles(lambda f: student_adversarial_loss(network(f)), SAMPLES.float())


# What they teach


def test_a_student_that_deceives_a_discriminator_finds_the_teachers_mean() -> None:
    """A Gaussian that may only be moved ends up at the teacher's, and the discriminator at 2 log 2."""
    torch.manual_seed(3)
    mean = torch.zeros(1, requires_grad=True)
    discriminator = FeatureDiscriminator(1, width=16)
    of_student = torch.optim.Adam([mean], lr=0.02, betas=(0.5, 0.9))
    of_discriminator = torch.optim.AdamW(discriminator.parameters(), lr=0.02, betas=(0.5, 0.9), weight_decay=0.1)
    means, losses = [], []
    for _ in range(300):
        student, teacher = torch.randn(64, 1) + mean, torch.randn(64, 1) + 2
        of_discriminator.zero_grad()
        loss = discriminator_loss(discriminator(student.detach()), discriminator(teacher))
        loss.backward()
        assert mean.grad is None or (mean.grad == 0).all(), "the discriminator's step trains the student"
        of_discriminator.step()
        of_student.zero_grad()
        student_adversarial_loss(discriminator(student)).backward()
        of_student.step()
        of_student.zero_grad()
        means.append(mean.item())
        losses.append(loss.item())
    assert max(means[:5]) < 0.15
    assert sum(means[-100:]) / 100 == pytest.approx(2, abs=0.15)
    assert min(losses[:100]) < 1.2
    assert sum(losses[-100:]) / 100 == pytest.approx(2 * math.log(2), abs=0.06)


def test_a_comparison_finds_what_the_teachers_answers_have_more_of() -> None:
    """Prompts differ far more than the two answers to one; only the answers' difference reaches the reward."""
    torch.manual_seed(4)
    prompts, reward = 3 * torch.randn(1000, 2), nn.Linear(2, 1)
    student, teacher = (prompts + 0.5 * torch.randn(1000, 2) for _ in range(2))
    teacher[:, 0] += 1
    optimizer = torch.optim.Adam(reward.parameters(), lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        paired_discriminator_loss(reward(student).squeeze(-1), reward(teacher).squeeze(-1)).backward()
        optimizer.step()
    # differences δ ~ N(1, ½) in the first feature: log p(δ)/p(-δ) = 2δ/½, a weight of 4, and 0 for the second
    assert reward.weight[0].tolist() == pytest.approx([4, 0], abs=0.8)


def test_matched_scores_move_a_gaussian_to_the_target_in_mean_and_variance() -> None:
    """N(0, 1) becomes N(2, 0.5²); with the teacher's score alone all samples would end at the mode."""
    mean, log_deviation = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.Adam([mean, log_deviation], lr=0.05)
    noise = standard_normal(40)
    for _ in range(300):
        optimizer.zero_grad()
        x = mean + log_deviation.exp() * noise
        own, target = -(x - mean) / (2 * log_deviation).exp(), -(x - 2) / 0.25
        distribution_matching_loss(x, own, target).backward()
        optimizer.step()
    assert mean.item() == pytest.approx(2, abs=0.01)
    assert log_deviation.exp().item() == pytest.approx(0.5, abs=0.01)
