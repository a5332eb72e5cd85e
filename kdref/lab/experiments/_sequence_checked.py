"""What the experiment on distillation and reinforcement learning shares: one student, and ways to go on from there.

Running sums of six numbers by writers who read the sum so far and the next number, so that a writer is a table of 49
laws, and its chance to be right is summed exactly. The student of a teacher that takes six sixes of ten for fives goes
on with a number of drawn texts: a checker of answers rewards its own, or picks among its own or its teacher's; or a
teacher, the slipping one or a good one, judges every token of its own. Lesson: notebooks/12_reasoning.ipynb.
"""

import copy
import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kdref.lab.data.sums import CARELESS, MODULUS
from kdref.lab.experiments._sequence_self import Writer, learns
from kdref.language import token_loss
from kdref.sequence import on_policy_loss, sequence_level_loss

LENGTH, SLIP = 6, 0.6
SURE = 7.0  # logit of the teachers' step; those of the others are 0
TEXTS, GROUP, ROUNDS = 64, 8, 5  # texts per step; of one problem, where a checker compares; rounds of writing
WIDTH, START_TEXTS, START_RATE = 32, 12_800, 0.01
BUDGETS = {"few": 640, "more": 2_560, "many": 10_240}  # texts that are drawn
METHODS = (
    "own text, rewarded",
    "own right texts",
    "the teacher's right texts",
    "own text, judged by the teacher",
    "own text, judged by a good teacher",
)


def teacher(slip: float = SLIP) -> Tensor:
    """Logits of a teacher who takes that share of sixes for fives, ``(7, 7, 7)``."""
    so_far, number = torch.arange(MODULUS)[:, None], torch.arange(MODULUS)
    law = one_hot((so_far + number) % MODULUS, MODULUS).double()
    wrong = one_hot((so_far[:, 0] + CARELESS - 1) % MODULUS, MODULUS)
    law[:, CARELESS] = (1 - slip) * law[:, CARELESS] + slip * wrong
    return (law * math.exp(SURE) + (1 - law)).log().float()


def problems(count: int, generator: torch.Generator) -> Tensor:
    """Numbers, ``(count, LENGTH)``."""
    return torch.randint(MODULUS, (count, LENGTH), generator=generator)


def draw(logits: Tensor, asked: Tensor, generator: torch.Generator) -> Tensor:
    """Sums that a writer draws for problems, ``(N, LENGTH)``."""
    below = logits.detach().softmax(-1).cumsum(-1)[..., :-1].numpy()
    chance, numbers = torch.rand(asked.shape, generator=generator).numpy(), asked.numpy()
    written, here = np.empty_like(numbers), np.zeros(len(numbers), dtype=np.int64)
    for place in range(numbers.shape[1]):  # in NumPy, whose small steps take a third of the time
        here = (chance[:, place, None] > below[here, numbers[:, place]]).sum(-1)
        written[:, place] = here
    return torch.from_numpy(written)


def said(logits: Tensor, asked: Tensor, written: Tensor) -> Tensor:
    """Logits from which the sums of a text are drawn, ``(N, LENGTH, 7)``."""
    return logits[torch.cat([torch.zeros_like(written[:, :1]), written[:, :-1]], dim=1), asked]


def is_right(asked: Tensor, written: Tensor) -> Tensor:
    """Whether the answer, the last sum, is right: the steps before it are not looked at, ``(N,)``."""
    return written[:, -1] == asked.sum(dim=-1) % MODULUS


def measured(logits: Tensor) -> dict[str, float]:
    """The chance to answer right, over all problems and all that can be drawn, and that of a six to be taken for five.

    What is followed is how likely each pair is of the right sum and the written one; numbers are uniform.
    """
    law = logits.double().softmax(-1)
    joint = torch.zeros(MODULUS, MODULUS, dtype=torch.float64)  # of the right sum and the written one
    joint[0, 0] = 1.0
    for _ in range(LENGTH):
        moved = torch.einsum("rw,wnv->rnv", joint, law) / MODULUS  # the right sum before, the number, the written after
        joint = torch.zeros_like(joint)
        for number in range(MODULUS):
            joint += moved[:, number].roll(number, dims=0)
    sums = torch.arange(MODULUS)
    slips = law[sums, CARELESS, (sums + CARELESS - 1) % MODULUS].mean()
    return {"accuracy": joint.diagonal().sum().item(), "slips": slips.item()}


def _fine_tuned(writer: Writer, asked: Tensor, written: Tensor, rate: float) -> Writer:
    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": sequence_level_loss(said(writer(), *batch), batch[1])}

    return learns(step, writer, asked, written, texts=TEXTS, rate=rate)


@functools.lru_cache(maxsize=1)
def student(seed: int) -> Writer:
    """The student of the slipping teacher's text, as it is, with which all begin."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    asked = problems(START_TEXTS, generator)
    return _fine_tuned(
        Writer((MODULUS, MODULUS), MODULUS, width=WIDTH, seed=100_000 + seed),
        asked,
        draw(teacher(), asked, generator),
        START_RATE,
    )


def advantages(right: Tensor) -> Tensor:
    """A reward of 1 for a right answer, less the mean of the problem's group: ``(B,)``, groups side by side."""
    reward = right.float().unflatten(0, (-1, GROUP))
    above: Tensor = reward - reward.mean(dim=1, keepdim=True)
    return above.flatten()


def after(method: str, seed: int, *, texts: int, rate: float) -> Writer:
    """The student after it went on by one of the methods, with that many drawn texts in all."""
    writer, generator = copy.deepcopy(student(seed)), torch.Generator().manual_seed(seed)
    asked = problems(texts, generator)
    if method.endswith("right texts"):
        for rows in asked.chunk(ROUNDS):
            written = draw(teacher() if "teacher" in method else writer(), rows, generator)
            kept = is_right(rows, written).nonzero().squeeze(1)
            chosen = kept[torch.randint(len(kept), (len(rows),), generator=generator)]  # a step for 64 drawn
            _fine_tuned(writer, rows[chosen], written[chosen], rate)
        return writer
    judge = teacher(0.0) if "good" in method else teacher()
    if method == "own text, rewarded":
        asked = asked[: texts // GROUP].repeat_interleave(GROUP, dim=0)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        (rows,), logits = batch, writer()
        written = draw(logits, rows, generator)
        own = said(logits, rows, written)
        if method == "own text, rewarded":  # log-ratios of zero: all of the advantage is the checker's
            return {"loss": on_policy_loss(own, own, written, baseline=advantages(is_right(rows, written))[:, None])}
        return {"loss": token_loss(own, said(judge, rows, written), kind="reverse")}

    return learns(step, writer, asked, texts=TEXTS, rate=rate)
