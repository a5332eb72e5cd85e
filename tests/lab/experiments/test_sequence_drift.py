"""Drift: the walks' exact sums against counting out, and what each way of learning reads."""

import pytest
import torch
from torch.testing import assert_close

from kdref.lab.experiments import _sequence_drift as drift
from kdref.lab.experiments import sequence_drift, sequence_drift_tuning
from kdref.sequence import enumerate_sequences, sequence_kl_divergence
from tests import checks

SHORT = 4


def along(logits: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Logits at the places that walks pass, in plain Python."""
    rows = []
    for walk in moves.tolist():
        height, row = drift.REACH, []
        for time, move in enumerate(walk):
            row.append(logits[time, height])
            height = min(max(height + move - 1, 0), drift.HEIGHTS - 1)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def some_logits(seed: int) -> torch.Tensor:
    return checks.randn(SHORT, drift.HEIGHTS, drift.MOVES, seed=seed)


def test_divergence_of_walks_is_that_of_the_language_counted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "TOKENS", SHORT)
    tokens = enumerate_sequences(vocabulary=drift.MOVES, length=SHORT)
    one, other = some_logits(1), some_logits(2)
    counted = sequence_kl_divergence(along(other, tokens), along(one, tokens), tokens)
    assert drift.divergence(one, other) == pytest.approx(counted.item(), rel=1e-12)
    assert drift.divergence(one, one) == 0


def test_places_are_visited_as_often_as_walks_pass_them() -> None:
    logits = drift.Walker(seed=3)().detach() * 3
    heights, moves = drift.walk(logits, 20_000, generator=torch.Generator().manual_seed(0))
    exact = drift.visited(logits)
    assert_close(exact.sum(-1), torch.ones(drift.TOKENS + 1, dtype=torch.float64))
    for time in (0, 1, 17, drift.TOKENS - 1):
        counted = heights[:, time].bincount(minlength=drift.HEIGHTS) / len(heights)
        assert_close(counted.double(), exact[time], rtol=0, atol=0.015)
    assert_close(along(logits, moves[:5]), logits[drift.TIMES, heights[:5]])


def test_the_edge_holds_and_a_stray_share_moves_anywhere() -> None:
    up = torch.zeros(drift.TOKENS, drift.HEIGHTS, drift.MOVES)
    up[..., 2] = 50.0
    heights, moves = drift.walk(up, 4, generator=torch.Generator().manual_seed(0))
    assert (moves == 2).all()
    assert (heights[:, drift.REACH :] == drift.HEIGHTS - 1).all()
    assert drift.visited(up)[-1, -1].item() == pytest.approx(1.0)
    _, moves = drift.walk(up, 2_000, generator=torch.Generator().manual_seed(1), stray=0.3)
    assert (moves != 2).float().mean().item() == pytest.approx(0.2, abs=0.01)


def test_the_guide_goes_along_the_road_or_back_to_it() -> None:
    for seed in (0, 7, 2003):
        heights = drift.road(seed)
        assert heights[0] == 0
        assert (heights.diff().abs() <= 1).all()
        assert heights.abs().max() <= 4
        best = drift.guide(seed).argmax(-1) - 1
        for time in range(drift.TOKENS):
            for height in range(-drift.REACH, drift.REACH + 1):
                ahead = int(heights[time + 1]) - height
                assert best[time, height + drift.REACH] == max(-1, min(1, ahead))
    assert not torch.equal(drift.road(0), drift.road(7))
    always = drift.guide(7) * 50
    assert drift.compared(always, 7)["accuracy"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", drift.WAYS)
def test_every_way_reads_whose_text_its_name_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    way, written, right = drift.WAYS[name], [], drift.walk

    def spy(logits: torch.Tensor, count: int, **options) -> tuple[torch.Tensor, torch.Tensor]:
        written.append((logits.requires_grad, options["stray"]))
        assert count == drift.WALKS
        return right(logits, count, **options)

    monkeypatch.setattr(drift, "walk", spy)
    before = drift.compared(drift.Walker(seed=100_001)().detach(), 1)
    walker = drift.train(way, 1, steps=40, rate=0.02)
    own = sum(by_walker for by_walker, _ in written)
    assert len(written) == 40
    expected = {(0.0, 0.0): (0, 0), (1.0, 1.0): (40, 40), (0.5, 0.5): (11, 29), (0.0, 1.0): (11, 29)}[way.own]
    assert expected[0] <= own <= expected[1]
    assert {stray for by_walker, stray in written if not by_walker} <= {way.stray}
    assert {stray for by_walker, stray in written if by_walker} <= {0.0}
    if way.own == (0.0, 1.0):
        assert sum(by for by, _ in written[:10]) < sum(by for by, _ in written[-10:])
    if way.loss != "ratios":  # whose noise is the lesson's point
        assert drift.compared(walker().detach(), 1)["reverse"] < before["reverse"]


def test_log_ratios_to_the_end_have_a_baseline_of_the_other_walks_only() -> None:
    said, judged = (checks.randn(drift.WALKS, 5, 3, seed=seed, dtype=torch.float32) for seed in (1, 2))
    moves = checks.labels_for(drift.WALKS * 5, 3, seed=3).reshape(-1, 5)
    leaf = said.clone().requires_grad_()
    drift.LOSSES["ratios"](leaf, judged, moves).backward()
    ratio = (said.log_softmax(-1) - judged.log_softmax(-1)).gather(-1, moves[..., None]).squeeze(-1)
    rest = ratio.flip(-1).cumsum(-1).flip(-1)
    for i in range(drift.WALKS):
        others = torch.cat([rest[:i], rest[i + 1 :]]).mean(0)
        score = torch.nn.functional.one_hot(moves[i], 3) - said[i].softmax(-1)
        assert_close(leaf.grad[i], (rest[i] - others)[:, None] * score / moves.numel())


def test_chosen_rates_are_of_other_seeds_than_those_reported() -> None:
    assert min(sequence_drift_tuning.SEEDS) >= 5000
    assert len(sequence_drift.ARMS) == len(set(sequence_drift.ARMS)) == 2 * len(drift.WAYS) + 1
