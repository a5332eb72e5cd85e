"""The nasty teacher's loss: accurate for itself, misleading for others."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref import provenance
from kdref.provenance import nasty_teacher_loss
from tests import checks

Z, A, Y = checks.randn(6, 4, seed=1, scale=2.0), checks.randn(6, 4, seed=2, scale=2.0), checks.labels_for(6, 4)
SETTINGS = {"weight": 0.3, "temperature": 3.0}


def oracle(logits: Tensor, adversary: Tensor, labels: Tensor, weight: float, temperature: float) -> float:
    total = 0.0
    for z, a, y in zip(logits.tolist(), adversary.tolist(), labels.tolist(), strict=True):
        total -= math.log(checks.softmax(z)[y])
        total -= weight * temperature**2 * checks.kl(checks.softmax(z, temperature), checks.softmax(a, temperature))
    return total / len(labels)


@pytest.mark.parametrize("temperature", [3.0, 40.0])
@pytest.mark.parametrize("weight", [0.04, 2.0])
def test_the_loss_matches_the_definition(weight: float, temperature: float) -> None:
    found = nasty_teacher_loss(Z, A, Y, weight=weight, temperature=temperature)
    assert found.item() == pytest.approx(oracle(Z, A, Y, weight, temperature), rel=1e-9)


def test_a_value_known_by_hand() -> None:
    """A fair coin that should be heads: log 2. Its divergence from odds of 3 : 1 is (log 2/3 + log 2) / 2 = 0.1438."""
    z, a = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    divergence = (math.log(2 / 3) + math.log(2)) / 2
    found = nasty_teacher_loss(z, a, torch.tensor([0]), weight=2.0, temperature=1.0)
    assert_close(found.item(), math.log(2) - 2 * divergence)


def test_where_both_agree_or_the_weight_is_zero_it_is_the_cross_entropy() -> None:
    honest = F.cross_entropy(Z, Y)
    assert_close(nasty_teacher_loss(Z, Z + 5, Y, **SETTINGS), honest)
    assert_close(nasty_teacher_loss(Z, A, Y, weight=0, temperature=3.0), honest)
    assert nasty_teacher_loss(Z, A, Y, **SETTINGS) < honest


def test_order_of_examples_and_shifts_of_logits_change_nothing() -> None:
    checks.check_batch_permutation(lambda z, a, y: nasty_teacher_loss(z, a, y, **SETTINGS), Z, A, Y, per_example=False)
    shift = checks.randn(6, 1, seed=3, scale=10.0)
    assert_close(nasty_teacher_loss(Z + shift, A - shift, Y, **SETTINGS), nasty_teacher_loss(Z, A, Y, **SETTINGS))


def test_images_with_their_classes_last_or_first_are_a_batch_of_places() -> None:
    z, a, y = Z.reshape(1, 2, 3, 4), A.reshape(1, 2, 3, 4), Y.reshape(1, 2, 3)
    flat = nasty_teacher_loss(Z, A, Y, **SETTINGS)
    assert_close(nasty_teacher_loss(z, a, y, **SETTINGS), flat)
    assert_close(nasty_teacher_loss(z.movedim(-1, 1), a.movedim(-1, 1), y, class_dim=1, **SETTINGS), flat)


def test_the_gradient_is_the_closed_form_and_goes_to_the_one_that_learns_only() -> None:
    checks.check_gradient(lambda z, a: provenance.nasty_teacher_loss(z, a, Y, **SETTINGS), Z, A)
    z = Z.clone().requires_grad_()
    nasty_teacher_loss(z, A, Y, **SETTINGS).backward()
    q, p, log_ratio = Z.softmax(-1), (Z / 3).softmax(-1), (Z / 3).log_softmax(-1) - (A / 3).log_softmax(-1)
    divergence = (p * log_ratio).sum(-1, keepdim=True)
    expected = (q - F.one_hot(Y, 4) - 0.3 * 3.0 * p * (log_ratio - divergence)) / 6
    assert_close(z.grad, expected)


def test_at_a_high_temperature_it_is_the_squared_distance_of_centred_logits() -> None:
    """τ² KL → ‖z - a‖² / 2C, both centred."""
    distance = ((Z - Z.mean(-1, keepdim=True)) - (A - A.mean(-1, keepdim=True))).square().sum(-1).mean() / 8
    found = nasty_teacher_loss(Z, A, Y, weight=0.3, temperature=1e5)
    assert_close(found, F.cross_entropy(Z, Y) - 0.3 * distance, rtol=1e-4, atol=1e-4)


def test_it_punishes_what_the_honest_network_deems_likely_and_not_what_it_deems_impossible() -> None:
    """KL of the learner from the fixed network and not the reverse: mass where the honest one has none pays."""
    honest = torch.tensor([[0.0, -20.0, 0.0]], dtype=torch.float64)
    z, y = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0])
    gain = F.cross_entropy(z, y) - nasty_teacher_loss(z, honest, y, weight=1.0, temperature=1.0)
    assert gain > 5  # a third of the mass at odds of e^20; the reverse divergence is below 0.5


def test_extreme_logits_stay_finite_in_three_dtypes() -> None:
    for scale in (1.0, 1e4):
        z, a = checks.randn(3, 4, seed=4, scale=scale), checks.randn(3, 4, seed=5, scale=scale)
        checks.check_extremes(lambda s, t: nasty_teacher_loss(s, t, Y[:3], weight=0.04, temperature=4.0), z, a)
    equal = torch.zeros(1, 4)
    checks.check_extremes(lambda s, t: nasty_teacher_loss(s, t, Y[:1], weight=0.04, temperature=4.0), equal, equal)


def test_it_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda z, a: provenance.nasty_teacher_loss(z, a, Y, **SETTINGS), Z.float(), A.float())


def test_a_teacher_learns_to_be_right_and_unlike_the_honest_one() -> None:
    """As often right, while its soft targets move away; without the weight they stay."""
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(120, 5, generator=generator)
    labels = x[:, :3].argmax(-1)
    divergences = {}
    for weight in (0.0, 0.05):
        torch.manual_seed(7)
        honest = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 6))
        nasty = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 6))
        for network, omega in ((honest, 0.0), (nasty, weight)):
            optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
            for _ in range(250):
                optimizer.zero_grad()
                nasty_teacher_loss(network(x), honest(x), labels, weight=omega, temperature=4.0).backward()
                optimizer.step()
        assert (nasty(x).argmax(-1) == labels).double().mean() > 0.95
        p, a = (F.log_softmax(network(x).detach() / 4, dim=-1) for network in (nasty, honest))
        divergences[weight] = F.kl_div(a, p, log_target=True, reduction="batchmean").item()
    assert divergences[0.05] > 3 * divergences[0.0]
