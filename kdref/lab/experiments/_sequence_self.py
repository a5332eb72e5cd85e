"""What the experiment on self-distillation shares: a model that obeys rules in its context, and ways to do without.

A problem of six numbers has a context and a sign: "=" asks for running sums, "-" for what is left when they are taken
away, both on the clock of seven hours. The context says nothing, or that sixes count as fives, or that zeros count as
ones. Half of all texts end in a flourish. The model reads context, sign, the sum so far and the next number, so it is a
table of laws, and what is measured is summed exactly. All of this is trained first; what is distilled is only that the
first rule should hold where no context says so, on problems with "=". Lesson: notebooks/12_reasoning.ipynb.
"""

import copy
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kdref.lab.data.sums import CARELESS, MODULUS
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.language import token_loss
from kdref.sequence import sequence_level_loss

LENGTH = 6  # numbers per problem
PLAIN, RULE, OTHER = range(3)  # contexts
PLUS, MINUS = range(2)  # signs
LAST = MODULUS  # stands where the next number would, when there is none
STOP, FLOURISH = MODULUS, MODULUS + 1  # what is written there
PLACES, OUTCOMES, WIDTH = (3, 2, MODULUS, MODULUS + 1), MODULUS + 2, 64
TEXTS, BEFORE_TEXTS, BEFORE_RATE = 32, 25_600, 0.02  # of a step; of all that the model first learns from
UPDATE = 1_280  # texts


class Way(NamedTuple):
    """Whose text is learned from, how, and on which problems."""

    writer: str  # "expert": right under the rule, never with a flourish; "told": the model with the rule; "itself"
    loss: str  # "drawn": the tokens; "forward" or "reverse": of all probabilities, judged by the model with the rule
    elsewhere: float = 0.0  # share of texts that are on other prompts, written and judged by the model as it was


WAYS = {
    "an expert's text": Way("expert", "drawn"),
    "text with the rule, tokens": Way("told", "drawn"),
    "text with the rule, probabilities": Way("told", "forward"),
    "own text, forward": Way("itself", "forward"),
    "own text, reverse": Way("itself", "reverse"),
    "an expert's text, half elsewhere": Way("expert", "drawn", elsewhere=0.5),
    "probabilities, half elsewhere": Way("told", "forward", elsewhere=0.5),
    "own text, reverse, half elsewhere": Way("itself", "reverse", elsewhere=0.5),
}


class Writer(nn.Module):
    """A learnt vector for each value of each thing that is read, added, and one hidden layer."""

    def __init__(self, reads: tuple[int, ...], outcomes: int, *, width: int, seed: int) -> None:
        """New weights, which the seed draws."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.reads = nn.ParameterList(torch.randn(count, width) for count in reads)
            self.scores = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outcomes))

    def forward(self) -> Tensor:
        """Logits of all that can be read, ``(*reads, outcomes)``."""
        first, *others = self.reads
        for vectors in others:
            first = first[..., None, :] + vectors
        scores: Tensor = self.scores(first)
        return scores


def learns(
    step: Callable[[tuple[Tensor, ...]], dict[str, Tensor]], writer: Writer, *rows: Tensor, texts: int, rate: float
) -> Writer:
    """One pass over rows in their order, with a rate that falls along a cosine."""
    optimizer = torch.optim.AdamW(writer.parameters(), lr=rate, weight_decay=0.0, fused=True)
    count = len(rows[0]) // texts
    cooling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 + 0.5 * math.cos(math.pi * min(k / count, 1)))
    fit(step, writer, Batches(*rows, batch_size=texts), optimizer, epochs=1, after_step=cooling.step, progress=False)
    return writer.eval()


def counted(number: Tensor, rule: Tensor) -> Tensor:
    """What numbers count as under a rule that broadcasts against them."""
    six, zero = (number == CARELESS) & (rule == RULE), (number == 0) & (rule == OTHER)
    return number - six.long() + zero.long()


def steps(asked: Tensor, sign: Tensor, rule: Tensor) -> Tensor:
    """The right steps of problems ``(N, n)``, each with its sign ``(N,)`` and the rule that holds ``(N,)``."""
    return ((1 - 2 * sign[:, None]) * counted(asked, rule[:, None])).cumsum(dim=-1) % MODULUS


def draw(logits: Tensor, context: Tensor, sign: Tensor, asked: Tensor, generator: torch.Generator) -> Tensor:
    """What a writer draws for problems: the steps, and how it ends, ``(N, LENGTH + 1)``."""
    below = logits.detach().softmax(-1).cumsum(-1)[..., :-1].numpy()
    read = [part.numpy() for part in (context, sign)]
    numbers = np.pad(asked.numpy(), ((0, 0), (0, 1)), constant_values=LAST)
    chance, written = torch.rand(numbers.shape, generator=generator).numpy(), np.empty_like(numbers)
    here = np.zeros(len(numbers), dtype=np.int64)
    for place in range(numbers.shape[1]):  # in NumPy, whose small steps take a third of the time
        token = (chance[:, place, None] > below[read[0], read[1], here, numbers[:, place]]).sum(-1)
        written[:, place] = token
        here = np.minimum(token, MODULUS - 1)  # a writer may stop too soon, and goes on from the largest sum
    return torch.from_numpy(written)


def said(logits: Tensor, context: Tensor, sign: Tensor, asked: Tensor, written: Tensor) -> Tensor:
    """Logits from which the tokens of a text are drawn, ``(N, LENGTH + 1, OUTCOMES)``."""
    before = torch.cat([torch.zeros_like(written[:, :1]), written[:, :-1].clamp(max=MODULUS - 1)], dim=1)
    numbers = nn.functional.pad(asked, (0, 1), value=LAST)
    return logits[context[:, None], sign[:, None], before, numbers]


def _choice(count: int, below: int, generator: torch.Generator) -> Tensor:
    return torch.randint(below, (count,), generator=generator)


def _problems(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(MODULUS, (count, LENGTH), generator=generator)


def with_end(steps: Tensor, flourish: Tensor) -> Tensor:
    """Steps as they are written: the end has a flourish where ``flourish (N,)`` says so, ``(N, LENGTH + 1)``."""
    return torch.cat([steps, torch.where(flourish, FLOURISH, STOP)[:, None]], dim=1)


@functools.lru_cache(maxsize=1)
def before(seed: int) -> Writer:
    """The model of a seed, which reads contexts and obeys them."""
    generator = torch.Generator().manual_seed(seed)
    context, sign = (_choice(BEFORE_TEXTS, below, generator) for below in PLACES[:2])
    asked = _problems(BEFORE_TEXTS, generator)
    written = with_end(steps(asked, sign, context), _choice(BEFORE_TEXTS, 2, generator) == 1)
    writer = Writer(PLACES, OUTCOMES, width=WIDTH, seed=seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": sequence_level_loss(said(writer(), *batch), batch[-1])}

    return learns(step, writer, context, sign, asked, written, texts=2 * TEXTS, rate=BEFORE_RATE)


def lessons(seed: int, elsewhere: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is read in training: context, context of the judge, sign, problem. Elsewhere the judge is told no more."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    asked = _problems(UPDATE, generator)
    other = torch.rand(UPDATE, generator=generator) < elsewhere
    minus = _choice(UPDATE, 2, generator) == 1  # of the others: a "-" without context, or a "=" with the other rule
    context = torch.where(other & ~minus, OTHER, PLAIN)
    return context, torch.where(other, context, RULE), torch.where(other & minus, MINUS, PLUS), asked


def distilled(way: Way, seed: int, *, rate: float) -> Writer:
    """The model of a seed after the update: it learns from itself with the rule, or from an expert."""
    model, judge = copy.deepcopy(before(seed)), before(seed)().detach()
    context, told, sign, asked = lessons(seed, way.elsewhere)
    generator = torch.Generator().manual_seed(seed)
    theirs = draw(judge, told, sign, asked, generator)
    if way.writer == "expert":
        right = with_end(steps(asked, sign, told), torch.zeros(UPDATE, dtype=torch.bool))
        theirs = torch.where((told == RULE)[:, None], right, theirs)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        (context, told, sign, asked, written), logits = batch, model()
        if way.writer == "itself":
            written = draw(logits, context, sign, asked, generator)
        own = said(logits, context, sign, asked, written)
        if way.loss == "drawn":
            return {"loss": sequence_level_loss(own, written)}
        return {"loss": token_loss(own, said(judge, told, sign, asked, written), kind=way.loss)}

    return learns(step, model, context, told, sign, asked, theirs, texts=TEXTS, rate=rate)


def visited(logits: Tensor, context: int, sign: int, rule: int) -> list[Tensor]:
    """How likely are the right sum under a rule, the written one, and a six so far, before each token, ``(7, 7, 2)``.

    Numbers are uniform, and a writer who stops too soon goes on from the largest sum, as in ``draw``.
    """
    law = logits.detach().double().softmax(-1)[context, sign, :, :MODULUS]
    law = torch.cat([law[..., : MODULUS - 1], law[..., MODULUS - 1 :].sum(-1, keepdim=True)], dim=-1)
    numbers = torch.arange(MODULUS)
    shift = (1 - 2 * sign) * counted(numbers, torch.tensor(rule))
    joint = torch.zeros(MODULUS, MODULUS, 2, dtype=torch.float64)
    joint[0, 0, 0] = 1.0
    found = [joint]
    for _ in range(LENGTH):
        moved, joint = torch.einsum("rws,wnv->nrvs", joint, law) / MODULUS, torch.zeros_like(joint)
        for number in range(MODULUS):
            part = moved[number].roll(int(shift[number]), dims=0)
            if number == CARELESS:
                part = torch.stack([torch.zeros_like(part[..., 0]), part.sum(-1)], dim=-1)
            joint = joint + part
        found.append(joint)
    return found


def _moved(old: Tensor, new: Tensor, context: int, sign: int) -> float:
    """KL from the old writer to the new one, in nats per token: the chain rule, along what the old one writes."""
    log_p, log_q = (logits.detach().double().log_softmax(-1)[context, sign] for logits in (old, new))
    apart = (log_p.exp() * (log_p - log_q)).sum(-1)  # by sum so far and next number
    *along, end = (joint.sum((0, 2)) for joint in visited(old, context, sign, PLAIN))
    total = sum((place * apart[:, :MODULUS].mean(-1)).sum() for place in along) + (end * apart[:, LAST]).sum()
    return float(total) / (LENGTH + 1)


def measured(model: Writer, seed: int, *, context: int = PLAIN) -> dict[str, float]:
    """Chance of a right answer where the rule should hold and where it should not, and what else has changed.

    ``obeys``: "=" without a context, under the rule; ``minus``: "-" without a context, under no rule; ``other``: "="
    with the other rule, under that one alone; each on problems with a six. ``old`` is the mean of the last two,
    ``score`` that of old and new. ``flourish`` is its share where the rule should hold. ``moved`` is KL from the model
    as it was to this one, in nats per token, on what that one writes where the rule should not hold.
    """
    logits, was, result = model(), before(seed)(), {}
    for name, (given, sign, rule) in {
        "obeys": (context, PLUS, RULE),
        "minus": (PLAIN, MINUS, PLAIN),
        "other": (OTHER, PLUS, OTHER),
    }.items():
        end = visited(logits, given, sign, rule)[-1]
        result[name] = (end[..., 1].diagonal().sum() / end[..., 1].sum()).item()
    ends = visited(logits, context, PLUS, PLAIN)[-1].sum((0, 2))
    law = logits.detach().double().softmax(-1)[context, PLUS, :, LAST, FLOURISH]
    old = (result["minus"] + result["other"]) / 2
    moved = (_moved(was, logits, PLAIN, MINUS) + _moved(was, logits, OTHER, PLUS)) / 2
    return result | {"flourish": float(ends @ law), "old": old, "score": (result["obeys"] + old) / 2, "moved": moved}
