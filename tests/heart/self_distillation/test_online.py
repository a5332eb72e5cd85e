"""Networks that learn together, checked against the papers and against what others got wrong."""

import math
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.self_distillation import class_consistency_loss, mutual_learning_loss
from tests import checks

OWN, PEERS = checks.randn(6, 4, seed=1, scale=2.0), checks.randn(3, 6, 4, seed=2, scale=2.0)


def pairwise() -> list[Callable[..., Tensor]]:
    """Losses of two sets of logits, looked up when a test asks, so that the museum can put a wrong one in place."""
    return [mutual_learning_loss, class_consistency_loss]


def mean_kl(teacher: Tensor, student: Tensor, temperature: float) -> float:
    rows = zip(teacher.tolist(), student.tolist(), strict=True)
    total = [checks.kl(checks.softmax(t, temperature), checks.softmax(s, temperature)) for t, s in rows]
    return sum(total) / len(total)


@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_divergences_match_the_definition(temperature: float) -> None:
    for loss in pairwise():
        expected = temperature**2 * mean_kl(PEERS[0], OWN, temperature)
        assert loss(OWN, PEERS[0], temperature=temperature).item() == pytest.approx(expected, rel=1e-12)
    several = sum(mean_kl(peer, OWN, temperature) for peer in PEERS) / 3 * temperature**2
    assert mutual_learning_loss(OWN, PEERS, temperature=temperature).item() == pytest.approx(several, rel=1e-12)


def test_known_values() -> None:
    fair, three_to_one = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 1.0]]).log()
    # KL((3/4, 1/4) ‖ (1/2, 1/2)) = 3/4 log(3/2) + 1/4 log(1/2)
    away = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert mutual_learning_loss(fair, three_to_one).item() == pytest.approx(away, rel=1e-6)
    assert mutual_learning_loss(fair, torch.stack([three_to_one, fair])).item() == pytest.approx(away / 2, rel=1e-6)
    assert class_consistency_loss(fair, three_to_one, temperature=1.0).item() == pytest.approx(away, rel=1e-6)


def test_defaults_are_the_papers() -> None:
    assert_close(mutual_learning_loss(OWN, PEERS), mutual_learning_loss(OWN, PEERS, temperature=1.0), rtol=0, atol=0)
    assert_close(
        class_consistency_loss(OWN, OWN[:1].expand(6, 4)),
        class_consistency_loss(OWN, OWN[:1].expand(6, 4), temperature=4.0),
    )


def test_zero_where_they_agree_and_positive_elsewhere() -> None:
    for loss in pairwise():
        assert_close(loss(OWN, OWN), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-15)
        assert loss(OWN, PEERS[0]) > 1e-3


@given(seed=st.integers(0, 10**6), shift=st.floats(-50, 50))
def test_shifts_and_the_order_of_batch_and_peers_change_nothing(seed: int, shift: float) -> None:
    own, peers = checks.randn(6, 4, seed=seed), checks.randn(3, 6, 4, seed=seed + 1)
    for loss in pairwise():
        plain = loss(own, peers[0])
        assert_close(loss(own + shift, peers[0] - shift), plain, rtol=1e-8, atol=1e-12)
        checks.check_batch_permutation(loss, own, peers[0], per_example=False)
    assert_close(mutual_learning_loss(own, peers.flip(0)), mutual_learning_loss(own, peers))


def test_the_average_of_divergences_pulls_like_the_average_peer_and_differs_by_a_constant() -> None:
    average, gradients, values = PEERS.softmax(-1).mean(dim=0), [], []
    for peers in (PEERS, average.log()):
        own = OWN.clone().requires_grad_()
        values.append(mutual_learning_loss(own, peers))
        gradients.append(torch.autograd.grad(values[-1], own)[0])
    assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)
    apart = sum(mean_kl(peer, average.log(), 1.0) for peer in PEERS) / 3
    assert (values[0] - values[1]).item() == pytest.approx(apart, rel=1e-10)


def test_gradients_reach_who_learns_only() -> None:
    for loss in pairwise():
        checks.check_gradient(lambda s, t, loss=loss: loss(s, t, temperature=2.0), OWN, PEERS[0])
        own = OWN.clone().requires_grad_()
        loss(own, PEERS[0], temperature=3.0).backward()
        expected = 3.0 / 6 * ((OWN / 3).softmax(-1) - (PEERS[0] / 3).softmax(-1))
        assert_close(own.grad, expected, rtol=1e-9, atol=1e-14)
    checks.check_gradient(lambda s, t: mutual_learning_loss(s, t), OWN, PEERS)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_extreme_logits_stay_finite(scale: float) -> None:
    rows, peers = OWN / OWN.abs().max() * scale, PEERS / PEERS.abs().max() * scale
    for own, others in (
        (rows, peers),
        (rows * 0, peers),
        (rows, peers * 0),
        (rows[:1], peers[:, :1]),
        (rows, -rows.expand(3, 6, 4)),
    ):
        for loss in pairwise():
            checks.check_extremes(lambda s, t, loss=loss: loss(s, t), own, others[0])
        checks.check_extremes(lambda s, t: mutual_learning_loss(s, t), own, others)


def test_bad_input_is_named() -> None:
    for peers in (PEERS[:, :5], PEERS[..., :3], PEERS[None], PEERS[0, 0]):
        with pytest.raises(ValueError, match=r"own logits \(B, C\) and others \(B, C\) or \(K, B, C\), got \(6, 4\)"):
            mutual_learning_loss(OWN, peers)
    with pytest.raises(ValueError, match=r"same shape, got \(6, 4\) and \(5, 4\)"):
        class_consistency_loss(OWN, PEERS[0, :5])
    with pytest.raises(ValueError, match="the batch is empty"):
        mutual_learning_loss(OWN, PEERS[:0])
    for temperature in (0.0, -1.0, math.inf, math.nan):
        for loss in pairwise():
            with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
                loss(OWN, PEERS[0], temperature=temperature)
    for loss in pairwise():
        with pytest.raises(TypeError, match=r"logits must be floating point, got torch.int64"):
            loss(OWN, PEERS[0].long())


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda own, peers: mutual_learning_loss(own, peers), OWN, PEERS)
    checks.check_compiles(lambda own, other: class_consistency_loss(own, other), OWN, PEERS[0])


X, Y = checks.randn(48, 5, seed=20, dtype=torch.float32), checks.labels_for(48, 3, seed=21)


def train_two(first: nn.Module, second: nn.Module, *, in_turn: bool, steps: int = 30) -> list[float]:
    """Mutual learning of two networks on the same batches; the sum of both mutual terms, step by step."""
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9) for net in (first, second)]
    terms = []
    for _ in range(steps):
        logits = [net(X) for net in (first, second)]
        mutual = 0.0
        for k, (net, optimizer) in enumerate(zip((first, second), optimizers, strict=True)):
            own, peer = logits[k], logits[1 - k]
            if in_turn:
                own, peer = net(X), (second, first)[k](X)
            term = mutual_learning_loss(own, peer)
            mutual += term.item()
            optimizer.zero_grad()
            (F.cross_entropy(own, Y) + term).backward()
            if in_turn:
                optimizer.step()
        if not in_turn:
            for optimizer in optimizers:
                optimizer.step()
        terms.append(mutual)
    return terms


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))


def test_equal_peers_that_update_together_never_teach_each_other() -> None:
    first = net(1)
    second = deepcopy(first)
    assert train_two(first, second, in_turn=False) == [0.0] * 30
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_equal_peers_that_update_in_turn_do() -> None:
    first = net(1)
    assert max(train_two(first, deepcopy(first), in_turn=True)) > 1e-3


def test_different_peers_grow_alike() -> None:
    first, second = net(1), net(2)
    before = mutual_learning_loss(first(X), second(X)).item()
    optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=0.01)
    for _ in range(100):
        one, other = first(X), second(X)
        optimizer.zero_grad()
        (mutual_learning_loss(one, other) + mutual_learning_loss(other, one)).backward()
        optimizer.step()
    assert before > 0.01
    assert mutual_learning_loss(first(X), second(X)).item() < before / 20
