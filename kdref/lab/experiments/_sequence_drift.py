"""What the experiments on drift share: a winding road, a guide who knows it, and a walker that learns from the guide.

A walk is a text of 60 tokens, each of them down, straight on or up; what has been written so far gives the place, by
its number of tokens and their running sum. So every sum over all of the 3**60 walks can be taken exactly, place by
place, and nothing that is measured is drawn. Lesson: notebooks/12_reasoning.ipynb.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.language import token_loss
from kdref.sequence import on_policy_loss, sequence_level_loss

TOKENS, REACH = 60, 7  # of a walk; its height stays within -7 and 7
HEIGHTS, MOVES = 2 * REACH + 1, 3
SURE = 4.0  # logit of the guide's move; those of the two others are 0
WALKS, WIDTH = 8, 16  # walks per step of training; features and hidden units of the walker
TIMES = torch.arange(TOKENS)


class Way(NamedTuple):
    """Whose text is learned from, and how."""

    own: tuple[float, float] = (0.0, 0.0)  # share of batches that the walker writes, at the first and the last step
    stray: float = 0.0  # share of the guide's moves that are replaced by any move; what it says of the place stays
    loss: str = "forward"  # or "reverse", of all three probabilities; "drawn": the token; "ratio", "ratios": of log q/p


WAYS = {
    "guide's text, drawn tokens": Way(loss="drawn"),
    "guide's text": Way(),
    "guide's text, disturbed": Way(stray=0.2),
    "own text": Way(own=(1.0, 1.0)),
    "half and half": Way(own=(0.5, 0.5)),
    "first the guide's, then own": Way(own=(0.0, 1.0)),
    "own text, reverse": Way(own=(1.0, 1.0), loss="reverse"),
    "own text, log-ratio of the token": Way(own=(1.0, 1.0), loss="ratio"),
    "own text, log-ratios to the end": Way(own=(1.0, 1.0), loss="ratios"),
}


def road(seed: int) -> Tensor:
    """The road's height before each token and at the end, ``(TOKENS + 1,)``: it turns at random, within ±4."""
    generator = torch.Generator().manual_seed(seed)
    turns, slopes = torch.rand(TOKENS, generator=generator) < 0.35, torch.randint(-1, 2, (TOKENS,), generator=generator)
    heights, slope = [0], 0
    for turn, new in zip(turns.tolist(), slopes.tolist(), strict=True):
        slope = new if turn else slope
        slope = -slope if abs(heights[-1] + slope) > 4 else slope
        heights.append(heights[-1] + slope)
    return torch.tensor(heights)


def guide(seed: int) -> Tensor:
    """Logits of the guide at every place, ``(TOKENS, HEIGHTS, MOVES)``: along the road, or back to it by one step."""
    wanted = road(seed)[1:, None] - torch.arange(-REACH, REACH + 1)
    return SURE * F.one_hot(wanted.clamp(-1, 1) + 1, MOVES).float()


class Walker(nn.Module):
    """The student: a learnt vector for each time and each height, added, and one hidden layer."""

    def __init__(self, *, seed: int) -> None:
        """New weights, which the seed draws."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.times, self.heights = nn.Embedding(TOKENS, WIDTH), nn.Embedding(HEIGHTS, WIDTH)
            self.scores = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, MOVES))

    def forward(self) -> Tensor:
        """Logits at every place, ``(TOKENS, HEIGHTS, MOVES)``."""
        scores: Tensor = self.scores(self.times.weight[:, None] + self.heights.weight)
        return scores


def walk(logits: Tensor, count: int, *, generator: torch.Generator, stray: float = 0.0) -> tuple[Tensor, Tensor]:
    """Draw walks: the heights that they pass and the tokens written there, each ``(count, TOKENS)``."""
    law = (1 - stray) * logits.detach().softmax(-1) + stray / MOVES
    chance, below = torch.rand(count, TOKENS, generator=generator).numpy(), law.cumsum(-1)[..., :-1].numpy()
    heights, moves = np.empty((count, TOKENS), dtype=np.int64), np.empty((count, TOKENS), dtype=np.int64)
    here = np.full(count, REACH)
    for time in range(TOKENS):  # in NumPy, whose small steps take a third of the time
        move = (chance[:, time, None] > below[time, here]).sum(-1)
        heights[:, time], moves[:, time] = here, move
        here = np.minimum(np.maximum(here + move - 1, 0), HEIGHTS - 1)
    return torch.from_numpy(heights), torch.from_numpy(moves)


def visited(logits: Tensor) -> Tensor:
    """How likely a writer is at each height before each token and at the end, ``(TOKENS + 1, HEIGHTS)``, exactly."""
    law, start = logits.double().softmax(-1), torch.zeros(HEIGHTS, dtype=torch.float64)
    after = (torch.arange(HEIGHTS)[:, None] + torch.arange(MOVES) - 1).clamp(0, HEIGHTS - 1).flatten()
    start[REACH], rows = 1.0, []
    for time in range(TOKENS):
        rows.append(start)
        start = torch.zeros_like(start).index_add(0, after, (start[:, None] * law[time]).flatten())
    return torch.stack([*rows, start])


def divergence(logits: Tensor, other: Tensor) -> float:
    """KL of whole walks, from the first writer to the other, in nats: the chain rule over places."""
    log_a, log_b = logits.double().log_softmax(-1), other.double().log_softmax(-1)
    return float((visited(logits)[:-1] * (log_a.exp() * (log_a - log_b)).sum(-1)).sum())


def on_road(logits: Tensor, seed: int) -> Tensor:
    """Share of walks that are on the road or one beside it, before each token and at the end, ``(TOKENS + 1,)``."""
    beside = (torch.arange(-REACH, REACH + 1) - road(seed)[:, None]).abs() <= 1
    return (visited(logits) * beside).sum(-1)


def compared(logits: Tensor, seed: int) -> dict[str, float]:
    """Walks that end on the road, and the divergences from the guide both ways, in nats per walk."""
    theirs, shares = guide(seed), on_road(logits, seed)
    return {
        "accuracy": float(shares[-1]),
        "on_road": float(shares.mean()),
        "forward": divergence(theirs, logits),
        "reverse": divergence(logits, theirs),
    }


def train(way: Way, seed: int, *, steps: int, rate: float) -> Walker:
    """Let a walker learn: in every step the guide is asked once about each place of eight walks, whoever wrote them."""
    theirs, walker = guide(seed), Walker(seed=100_000 + seed)
    generator = torch.Generator().manual_seed(seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        logits, done = walker(), batch[0].item() / steps
        share = way.own[0] + done * (way.own[1] - way.own[0])
        by_walker = float(torch.rand((), generator=generator)) < share
        writer, stray = (logits, 0.0) if by_walker else (theirs, way.stray)
        heights, moves = walk(writer, WALKS, generator=generator, stray=stray)
        said, judged = logits[TIMES, heights], theirs[TIMES, heights]
        return {"loss": LOSSES[way.loss](said, judged, moves)}

    optimizer = torch.optim.AdamW(walker.parameters(), lr=rate, weight_decay=0.0, fused=True)
    cooling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 + 0.5 * math.cos(math.pi * min(k / steps, 1)))
    batches = Batches(torch.arange(steps), batch_size=1)
    fit(step, walker, batches, optimizer, epochs=1, after_step=cooling.step, progress=False)
    return walker.eval()


def _to_the_end(said: Tensor, judged: Tensor, moves: Tensor) -> Tensor:
    """Log-ratios of what follows, less the mean of the other walks': a baseline that knows nothing of this one."""
    ratio = (said.detach().log_softmax(-1) - judged.log_softmax(-1)).gather(-1, moves[..., None]).squeeze(-1)
    rest = ratio.flip(-1).cumsum(-1).flip(-1)
    return on_policy_loss(said, judged, moves, baseline=(rest.sum(0) - rest) / (WALKS - 1))


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "drawn": lambda said, judged, moves: sequence_level_loss(said, moves),
    "forward": lambda said, judged, moves: token_loss(said, judged, kind="forward"),
    "reverse": lambda said, judged, moves: token_loss(said, judged, kind="reverse"),
    "ratio": lambda said, judged, moves: on_policy_loss(said, judged, moves, whole_sequence=False),
    "ratios": _to_the_end,
}
