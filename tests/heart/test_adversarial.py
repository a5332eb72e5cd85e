"""A discriminator's losses and the matching of scores, checked against their definitions and what they converge to."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.adversarial import (
    FeatureDiscriminator,
    discriminator_loss,
    distribution_matching_loss,
    paired_discriminator_loss,
    student_adversarial_loss,
)
from tests import checks

STUDENT, TEACHER = checks.randn(6, seed=1, scale=2.0), checks.randn(6, seed=2, scale=2.0) + 1.5
MANY = checks.randn(9, seed=3, scale=2.0)  # of the teacher's outputs there may be more
SAMPLES, OWN, TARGET = (checks.randn(5, 3, seed=seed) for seed in (4, 5, 6))


def log_sigmoid(score: float) -> float:
    return math.log(1 / (1 + math.exp(-score)))


def grown(width: int = 4, *, seed: int = 0, num_features: int = 3) -> FeatureDiscriminator:
    """A discriminator whose hidden units are at work on both sides of zero."""
    torch.manual_seed(seed)
    return FeatureDiscriminator(num_features, width=width).double()


# What they are


def test_the_discriminators_loss_matches_the_definition() -> None:
    real = -sum(log_sigmoid(d) for d in MANY.tolist()) / 9
    fake = -sum(math.log(1 - 1 / (1 + math.exp(-d))) for d in STUDENT.tolist()) / 6
    assert discriminator_loss(STUDENT, MANY).item() == pytest.approx(real + fake, rel=1e-9)


def test_the_students_loss_matches_the_definition() -> None:
    expected = -sum(log_sigmoid(d) for d in STUDENT.tolist()) / 6
    assert student_adversarial_loss(STUDENT).item() == pytest.approx(expected, rel=1e-9)


def test_the_paired_loss_matches_the_definition() -> None:
    pairs = zip(STUDENT.tolist(), TEACHER.tolist(), strict=True)
    expected = -sum(log_sigmoid(t - s) for s, t in pairs) / 6
    assert paired_discriminator_loss(STUDENT, TEACHER).item() == pytest.approx(expected, rel=1e-9)


def test_distribution_matching_matches_the_definition() -> None:
    rows = zip(SAMPLES.tolist(), OWN.tolist(), TARGET.tolist(), strict=True)
    expected = sum((q - p) * x for row in rows for x, q, p in zip(*row, strict=True)) / 5
    assert distribution_matching_loss(SAMPLES, OWN, TARGET).item() == pytest.approx(expected, rel=1e-9)
    flat = distribution_matching_loss(SAMPLES, OWN, TARGET)
    maps = (x.reshape(5, 3, 1, 1).expand(5, 3, 2, 2) for x in (SAMPLES, OWN, TARGET))
    assert_close(distribution_matching_loss(*maps), 4 * flat)


def test_the_feature_discriminator_matches_the_definition() -> None:
    network = grown()
    features = checks.randn(7, 3, seed=7)
    numbers = [parameter.tolist() for parameter in network.parameters()]
    weights = list(zip(numbers[::2], numbers[1::2], strict=True))
    expected = []
    for example in features.tolist():
        hidden = example
        for number, (matrix, bias) in enumerate(weights):
            pairs = zip(matrix, bias, strict=True)
            hidden = [b + sum(w * h for w, h in zip(row, hidden, strict=True)) for row, b in pairs]
            if number < 2:
                hidden = [h if h > 0 else 0.2 * h for h in hidden]
        expected.append(hidden[0])
    assert_close(network(features), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert [len(bias) for _, bias in weights] == [4, 4, 1]
    sizes = [tuple(parameter.shape) for parameter in FeatureDiscriminator(3).parameters()]
    assert sizes[::2] == [(64, 3), (64, 64), (1, 64)]


def test_known_values() -> None:
    # σ(log 3) = ¾: of a fooled student and of a found one, the discriminator's -log ¼ and -log ¾, the student's other
    fooled, found = torch.tensor([math.log(3.0)]), torch.tensor([-math.log(3.0)])
    assert student_adversarial_loss(fooled).item() == pytest.approx(math.log(4 / 3), rel=1e-6)
    assert student_adversarial_loss(found).item() == pytest.approx(math.log(4), rel=1e-6)
    assert discriminator_loss(found, fooled).item() == pytest.approx(2 * math.log(4 / 3), rel=1e-6)
    assert discriminator_loss(fooled, found).item() == pytest.approx(2 * math.log(4), rel=1e-6)
    # means, not sums: (log 4 + log 4/3)/2 for the student's two, log 2 for the teacher's three
    loss = discriminator_loss(torch.cat([fooled, found]), torch.zeros(3))
    assert loss.item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2 + math.log(2), rel=1e-6)
    # the teacher's less the student's: -log 3, log 3 and log 3
    of_student = torch.tensor([math.log(3.0), 5.0, -2.0])
    loss = paired_discriminator_loss(of_student, of_student + math.log(3.0) * torch.tensor([-1.0, 1.0, 1.0]))
    assert loss.item() == pytest.approx((math.log(4) + 2 * math.log(4 / 3)) / 3, rel=1e-6)
    # (1 - 3)·2 + (0 - 1)·1 and (2 - 0)·4 + (1 - 1)·7, over two examples
    x, q, p = torch.tensor([[[2.0, 1.0], [4.0, 7.0]], [[1.0, 0.0], [2.0, 1.0]], [[3.0, 1.0], [0.0, 1.0]]])
    assert distribution_matching_loss(x, q, p).item() == 1.5


# Where they are least, and what they are there


def jensen_shannon(p: list[float], q: list[float]) -> float:
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (checks.kl(p, middle) + checks.kl(q, middle)) / 2


def outcomes(scores: Tensor, counts: list[int]) -> Tensor:
    """The scores of a law's outcomes, each as often as it comes up: the batch's mean is the law's."""
    return scores.repeat_interleave(torch.tensor(counts))


def test_the_best_discriminator_measures_the_jensen_shannon_divergence() -> None:
    for teacher, student in (([3, 2, 1], [1, 1, 4]), ([1, 1, 2], [2, 1, 5]), ([1, 2, 3], [1, 2, 3])):
        p, q = ([n / sum(law) for n in law] for law in (teacher, student))
        best = torch.tensor([math.log(a / b) for a, b in zip(p, q, strict=True)], dtype=torch.float64).requires_grad_()
        least = discriminator_loss(outcomes(best, student), outcomes(best, teacher))
        assert least.item() == pytest.approx(2 * math.log(2) - 2 * jensen_shannon(p, q), rel=1e-9)
        least.backward()
        assert_close(best.grad, torch.zeros_like(best))
        for seed in range(20):
            other = best.detach() + checks.randn(3, seed=seed)
            assert discriminator_loss(outcomes(other, student), outcomes(other, teacher)) > least


def test_who_cannot_tell_them_apart_loses_two_log_two() -> None:
    nothing = torch.zeros(4, dtype=torch.float64)
    assert discriminator_loss(nothing, torch.zeros(7, dtype=torch.float64)).item() == pytest.approx(2 * math.log(2))
    assert paired_discriminator_loss(STUDENT, STUDENT.clone()).item() == pytest.approx(math.log(2))
    assert student_adversarial_loss(nothing).item() == pytest.approx(math.log(2))
    for seed in range(10):  # the same examples on both sides: no scores do better, and the losses stay positive
        scores, others = checks.randn(5, seed=seed, scale=3.0), checks.randn(5, seed=seed + 50, scale=3.0)
        assert discriminator_loss(scores, scores) > 2 * math.log(2)
        assert min(discriminator_loss(scores, others), paired_discriminator_loss(scores, others)) > 0
        assert student_adversarial_loss(scores) > 0
    assert distribution_matching_loss(SAMPLES, OWN, OWN.clone()).item() == 0


def test_one_that_is_always_right_loses_nothing_and_teaches_a_line() -> None:
    far = torch.full((4,), -40.0, dtype=torch.float64)
    assert 0 < discriminator_loss(far, -far) < 1e-16
    assert 0 < paired_discriminator_loss(far, -far) < 1e-16
    assert 0 < student_adversarial_loss(-far) < 1e-16
    assert_close(student_adversarial_loss(far), -far[0])  # -log σ(d) → -d: as steep however far off


def test_the_two_steps_of_the_game_share_their_terms() -> None:
    both = discriminator_loss(STUDENT, MANY)
    assert_close(both, student_adversarial_loss(MANY) + student_adversarial_loss(-STUDENT))
    assert_close(paired_discriminator_loss(torch.zeros_like(TEACHER), TEACHER), student_adversarial_loss(TEACHER))


# What changes nothing


@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5))
def test_what_changes_nothing(seed: int, shift: float) -> None:
    s, t = checks.randn(6, seed=seed), checks.randn(6, seed=seed + 1)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    assert_close(discriminator_loss(s[order], t), discriminator_loss(s, t))
    assert_close(discriminator_loss(s, t[order]), discriminator_loss(s, t))
    assert_close(discriminator_loss(s, t.repeat(3)), discriminator_loss(s, t))
    assert_close(discriminator_loss(s.view(2, 3), t.view(3, 2)), discriminator_loss(s, t))
    checks.check_batch_permutation(student_adversarial_loss, s, per_example=False)
    checks.check_batch_permutation(paired_discriminator_loss, s, t, per_example=False)
    easy = shift * torch.arange(6.0, dtype=torch.float64)  # each prompt by its own amount
    assert_close(paired_discriminator_loss(s + easy, t + easy), paired_discriminator_loss(s, t), rtol=1e-8, atol=1e-10)
    x, q, p = (checks.randn(5, 3, seed=seed + i) for i in range(3))
    plain = distribution_matching_loss(x, q, p)
    checks.check_batch_permutation(distribution_matching_loss, x, q, p, per_example=False)
    turn = torch.linalg.qr(checks.randn(3, 3, seed=seed))[0]
    assert_close(distribution_matching_loss(x @ turn, q @ turn, p @ turn), plain)
    assert_close(distribution_matching_loss(x, q + shift, p + shift), plain, rtol=1e-8, atol=1e-10)


def test_what_changes_something() -> None:
    plain, paired = discriminator_loss(STUDENT, TEACHER), paired_discriminator_loss(STUDENT, TEACHER)
    assert (discriminator_loss(STUDENT + 1, TEACHER + 1) - plain).abs() > 0.1
    assert (paired_discriminator_loss(STUDENT.roll(1), TEACHER) - paired).abs() > 0.1
    assert discriminator_loss(TEACHER, STUDENT) > plain + 0.1
    assert paired_discriminator_loss(TEACHER, STUDENT) > paired + 0.1
    assert (student_adversarial_loss(STUDENT + 1) - student_adversarial_loss(STUDENT)).abs() > 0.1
    moved = distribution_matching_loss(SAMPLES - 7, OWN, TARGET)  # another value, but see its gradient
    assert (moved - distribution_matching_loss(SAMPLES, OWN, TARGET)).abs() > 0.1
