"""One network with several classifiers, checked against the papers and against what others got wrong."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.self_distillation import deep_supervision_loss, gated_ensemble_logits
from tests import checks
from tests.heart.self_distillation.test_online import OWN, PEERS, mean_kl, net

LABELS, GATE = checks.labels_for(6, 4, seed=3), checks.randn(6, 3, seed=4)


def mean_ce(logits: Tensor) -> float:
    return -sum(math.log(checks.softmax(z)[y]) for z, y in zip(logits.tolist(), LABELS.tolist(), strict=True)) / 6


@pytest.mark.parametrize(("soft_weight", "temperature"), [(0.3, 3.0), (1.0, 1.0)])
def test_deep_supervision_matches_the_definition(soft_weight: float, temperature: float) -> None:
    expected = mean_ce(OWN)
    for branch in PEERS:
        soft = temperature**2 * mean_kl(OWN, branch, temperature)
        expected += (1 - soft_weight) * mean_ce(branch) + soft_weight * soft
    loss = deep_supervision_loss(PEERS, OWN, LABELS, soft_weight=soft_weight, temperature=temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_gated_ensemble_matches_the_definition() -> None:
    ensemble = gated_ensemble_logits(PEERS, GATE)
    for b in range(6):
        gate = checks.softmax(GATE[b].tolist())
        for c in range(4):
            expected = sum(g * z for g, z in zip(gate, PEERS[:, b, c].tolist(), strict=True))
            assert ensemble[b, c].item() == pytest.approx(expected, rel=1e-12)


def test_known_values() -> None:
    fair, three_to_one = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 1.0]]).log()
    # KL((3/4, 1/4) ‖ (1/2, 1/2)) = 3/4 log(3/2) + 1/4 log(1/2)
    away = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    # final (3/4, 1/4), branches fair, label 0: log 4/3 + 2 · (½ log 2 + ½ · away)
    loss = deep_supervision_loss(
        torch.stack([fair, fair]), three_to_one, torch.tensor([0]), soft_weight=0.5, temperature=1
    )
    assert loss.item() == pytest.approx(math.log(4 / 3) + math.log(2) + away, rel=1e-6)
    # gate (3/4, 1/4): ¾ · 4 + ¼ · 0 and ¾ · 0 + ¼ · 8
    branches = torch.tensor([[[4.0, 0.0]], [[0.0, 8.0]]])
    assert_close(gated_ensemble_logits(branches, three_to_one), torch.tensor([[3.0, 2.0]]))


def test_defaults_are_the_papers() -> None:
    explicit = deep_supervision_loss(PEERS, OWN, LABELS, soft_weight=0.3, temperature=3.0)
    assert_close(deep_supervision_loss(PEERS, OWN, LABELS), explicit, rtol=0, atol=0)


def test_where_the_branches_agree_only_the_last_classifiers_labels_are_left() -> None:
    loss = deep_supervision_loss(OWN.expand(3, 6, 4), OWN, LABELS, soft_weight=1.0)
    assert_close(loss, F.cross_entropy(OWN, LABELS))


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_shifts_and_the_order_of_batch_and_branches_change_nothing(seed: int, shift: float) -> None:
    own, branches = checks.randn(6, 4, seed=seed), checks.randn(3, 6, 4, seed=seed + 1)
    plain = deep_supervision_loss(branches, own, LABELS)
    assert_close(deep_supervision_loss(branches.flip(0) + shift, own, LABELS), plain, rtol=1e-8, atol=1e-10)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    assert_close(deep_supervision_loss(branches[:, order], own[order], LABELS[order]), plain)
    ensemble = gated_ensemble_logits(branches, GATE)
    assert_close(gated_ensemble_logits(branches[:, order], GATE[order]), ensemble[order])
    assert_close(gated_ensemble_logits(branches.flip(0), GATE.flip(1) + shift), ensemble)


def test_limits_of_the_gate_and_of_one_branch() -> None:
    assert_close(gated_ensemble_logits(PEERS, 0 * GATE), PEERS.mean(dim=0))
    only = torch.tensor([0.0, 200.0, 0.0], dtype=torch.float64).expand(6, 3)
    assert_close(gated_ensemble_logits(PEERS, only), PEERS[1])
    assert_close(gated_ensemble_logits(PEERS[:1], GATE[:, :1]), PEERS[0])
    labels_only = sum(F.cross_entropy(z, LABELS) for z in (OWN, *PEERS))
    assert_close(deep_supervision_loss(PEERS, OWN, LABELS, soft_weight=0.0), labels_only)


def test_gradients_reach_who_learns_only() -> None:
    checks.check_gradient(lambda b, t, y: deep_supervision_loss(b, t.detach(), y), PEERS, OWN, LABELS)
    final = OWN.clone().requires_grad_()
    deep_supervision_loss(PEERS, final, LABELS).backward()
    assert_close(final.grad, (OWN.softmax(-1) - F.one_hot(LABELS, 4)) / 6, rtol=1e-9, atol=1e-14)
    assert torch.autograd.gradcheck(
        gated_ensemble_logits, (PEERS.clone().requires_grad_(), GATE.clone().requires_grad_())
    )


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    rows, branches = OWN / OWN.abs().max() * scale, PEERS / PEERS.abs().max() * scale
    for own, others in (
        (rows, branches),
        (rows * 0, branches),
        (rows, branches * 0),
        (rows[:1], branches[:, :1]),
        (rows, -rows.expand(3, 6, 4)),
    ):
        size = len(own)
        checks.check_extremes(lambda b, f, y: deep_supervision_loss(b, f, y), others, own, LABELS[:size])
        checks.check_extremes(lambda b, g: gated_ensemble_logits(b, g), others, GATE[:size] * scale)


def test_bad_input_is_named() -> None:
    for branches in (PEERS[:, :5], PEERS[..., :3], PEERS[None]):
        with pytest.raises(ValueError, match=r"own logits \(B, C\) and others \(B, C\) or \(K, B, C\), got \(6, 4\)"):
            deep_supervision_loss(branches, OWN, LABELS)
    with pytest.raises(ValueError, match="the batch is empty"):
        deep_supervision_loss(PEERS[:0], OWN, LABELS)
    for branches, gate in ((PEERS, GATE.T), (PEERS[0], GATE), (PEERS[:0], GATE[:, :0])):
        with pytest.raises(ValueError, match=r"expected branches \(K, B, C\) and a gate \(B, K\), got"):
            gated_ensemble_logits(branches, gate)
    with pytest.raises(ValueError, match=r"expected logits \(B, C\) and labels \(B,\)"):
        deep_supervision_loss(PEERS, OWN, LABELS[:5])
    with pytest.raises(ValueError, match=r"soft_weight must be in \[0, 1\], got 1.1"):
        deep_supervision_loss(PEERS, OWN, LABELS, soft_weight=1.1)
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="temperature must be positive"):
            deep_supervision_loss(PEERS, OWN, LABELS, temperature=temperature)


def test_compiles_to_one_graph() -> None:
    def both(own: Tensor, gate: Tensor, labels: Tensor) -> Tensor:
        stack = torch.stack([own, own])
        return deep_supervision_loss(stack, gated_ensemble_logits(stack, gate[:, :2]), labels)

    checks.check_compiles(both, OWN, GATE, LABELS)


def test_branches_learn_from_labels_and_from_the_last_classifier() -> None:
    x = checks.randn(48, 5, seed=20, dtype=torch.float32)
    labels = (x @ checks.randn(5, 3, seed=22, dtype=torch.float32)).argmax(dim=1)
    early, last = nn.Linear(5, 3), net(3)
    optimizer = torch.optim.Adam([*early.parameters(), *last.parameters()], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        deep_supervision_loss(early(x)[None], last(x), labels, soft_weight=0.9).backward()
        optimizer.step()
    assert (last(x).argmax(dim=1) == labels).all()
    assert (early(x).argmax(dim=1) == labels).float().mean() > 0.9
