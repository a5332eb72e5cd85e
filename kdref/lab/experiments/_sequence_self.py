"""What the experiment on self-distillation shares: a model that obeys rules in its context, and ways to do without.

A problem of four numbers is preceded by a context, one token, and followed by a sign: "=" asks for running sums, "-"
for what is left when they are taken away, both on the clock of seven hours. The context says nothing, or that sixes
count as fives, or that zeros count as ones. Half of all texts end in a flourish. Everything is trained first, so what
is distilled is only that the first rule should hold where no context says so, on problems with "=".
Lesson: notebooks/12_reasoning.ipynb.
"""

import copy
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kdref.lab.data import sums
from kdref.lab.models.causal_transformer import CausalTransformer, generate, up_to_end
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.language import token_loss
from kdref.sequence import sequence_level_loss

LENGTH = 4  # numbers per problem
MINUS, PLAIN, RULE, OTHER, FLOURISH = range(sums.VOCABULARY, sums.VOCABULARY + 5)
SIGNS, CONTEXTS = (sums.EQUALS, MINUS), (PLAIN, RULE, OTHER)
VOCABULARY, PLACES, WRITTEN = sums.VOCABULARY + 5, LENGTH + 2, LENGTH + 2
BASE_STEPS, BASE_RATE, BASE_TEXTS = 850, 5e-3, 64
STEPS, TEXTS = 40, 32  # of the update
TEST = 800


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
}


def steps(asked: Tensor, sign: Tensor, rule: Tensor) -> Tensor:
    """The right steps of problems ``(N, n)``, each with its sign ``(N,)`` and the rule that holds ``(N,)``."""
    six, zero = asked == sums.CARELESS, asked == 0
    counted = asked - (six & (rule == RULE)[:, None]).long() + (zero & (rule == OTHER)[:, None]).long()
    return (torch.where(sign == MINUS, -1, 1)[:, None] * counted).cumsum(dim=-1) % sums.MODULUS


def texts(steps: Tensor, flourish: Tensor) -> Tensor:
    """Steps as they are written, with a flourish where ``flourish (N,)`` says so, ``(N, WRITTEN)``."""
    ends = steps.new_full((len(steps), 2), sums.END)
    ends[:, 0] = torch.where(flourish, FLOURISH, sums.END)
    return torch.cat([steps, ends], dim=1)


def prompts(asked: Tensor, sign: Tensor, context: Tensor) -> Tensor:
    """What a model reads, ``(N, PLACES)``: context, numbers, sign."""
    return torch.cat([context[:, None], asked, sign[:, None]], dim=1)


def scores(model: CausalTransformer, read: Tensor, written: Tensor) -> Tensor:
    """Logits from which the tokens of a completion are drawn, ``(B, T, V)``."""
    logits: Tensor = model(torch.cat([read, written[:, :-1]], dim=1))
    return logits[:, read.shape[1] - 1 :]


def write(model: CausalTransformer, read: Tensor, generator: torch.Generator) -> Tensor:
    """Completions drawn from a model, ``(N, WRITTEN)``."""
    return generate(model, read, max_new_tokens=WRITTEN, end=sums.END, generator=generator)


def updated(
    step: Callable[[tuple[Tensor, ...]], dict[str, Tensor]],
    model: CausalTransformer,
    *rows: Tensor,
    texts: int,
    rate: float,
) -> CausalTransformer:
    """One pass over rows in their order, with a rate that falls along a cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, fused=True)
    count = len(rows[0]) // texts
    cooling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 + 0.5 * math.cos(math.pi * min(k / count, 1)))
    fit(step, model, Batches(*rows, batch_size=texts), optimizer, epochs=1, after_step=cooling.step, progress=False)
    return model.eval()


@functools.lru_cache(maxsize=1)
def before(seed: int) -> CausalTransformer:
    """The model of a seed, which reads contexts and obeys them."""
    count, generator = BASE_STEPS * BASE_TEXTS, torch.Generator().manual_seed(seed)
    asked = sums.problems(count, length=LENGTH, seed=seed)
    sign, rule = (torch.tensor(of)[torch.randint(len(of), (count,), generator=generator)] for of in (SIGNS, CONTEXTS))
    written = texts(steps(asked, sign, rule), torch.rand(count, generator=generator) < 0.5)
    model = CausalTransformer(VOCABULARY, length=PLACES + WRITTEN, width=64, layers=1, seed=seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        read, written = batch
        mask = up_to_end(written, end=sums.END)
        return {"loss": sequence_level_loss(scores(model, read, written), written, mask=mask)}

    return updated(step, model, prompts(asked, sign, rule), written, texts=BASE_TEXTS, rate=BASE_RATE)


def lessons(seed: int, elsewhere: float) -> tuple[Tensor, Tensor, Tensor]:
    """What is read in training, what the judge reads, and where they are other prompts: ``(N, PLACES)``, ``(N,)``."""
    count, generator = STEPS * TEXTS, torch.Generator().manual_seed(20_000 + seed)
    asked = sums.problems(count, length=LENGTH, seed=10_000 + seed)
    other = torch.rand(count, generator=generator) < elsewhere
    minus = torch.rand(count, generator=generator) < 0.5  # of the others: a plain "-", or the other rule and "="
    sign = torch.where(other & minus, MINUS, sums.EQUALS)
    context = torch.where(other & ~minus, OTHER, PLAIN)
    return prompts(asked, sign, context), prompts(asked, sign, torch.where(other, context, RULE)), other


def distilled(way: Way, seed: int, *, rate: float) -> CausalTransformer:
    """The model of a seed after the update: it learns from itself with the rule, or from an expert."""
    judge, model = before(seed), copy.deepcopy(before(seed))
    read, told, other = lessons(seed, way.elsewhere)
    generator = torch.Generator().manual_seed(seed)
    theirs = write(judge, told, generator)
    if way.writer == "expert":
        right = steps(told[:, 1:-1], told[:, -1], told[:, 0])
        theirs = torch.where(other[:, None], theirs, texts(right, torch.zeros_like(other)))

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        read, told, written = batch
        if way.writer == "itself":
            written = write(model, read, generator)
        said, mask = scores(model, read, written), up_to_end(written, end=sums.END)
        if way.loss == "drawn":
            return {"loss": sequence_level_loss(said, written, mask=mask)}
        with torch.no_grad():
            judged = scores(judge, told, written)
        return {"loss": token_loss(said, judged, kind=way.loss, mask=mask)}

    return updated(step, model, read, told, theirs, texts=TEXTS, rate=rate)


def measured(model: CausalTransformer, seed: int, *, context: int = PLAIN) -> dict[str, float]:
    """Right answers in drawn text where the rule should hold and where it should not, and what else has changed.

    ``obeys``: "=" without a context, under the rule; ``minus``: "-" without a context, under no rule; ``other``: "="
    with the other rule, under that one alone; each on problems with a six. ``old`` is the mean of the last two,
    ``score`` that of old and new. ``flourish`` is its share where the rule should hold. ``moved`` is KL from the model
    as it was to this one, in nats per token, on what that one writes where the rule should not hold.
    """
    asked = sums.problems(TEST, length=LENGTH, seed=30_000 + seed)
    asked = asked[(asked == sums.CARELESS).any(dim=1)]
    generator, result, moved = torch.Generator().manual_seed(seed), {}, []
    for name, sign, given, rule in (
        ("obeys", sums.EQUALS, context, RULE),
        ("minus", MINUS, PLAIN, PLAIN),
        ("other", sums.EQUALS, OTHER, OTHER),
    ):
        signs, contexts, rules = (torch.full((len(asked),), token) for token in (sign, given, rule))
        read = prompts(asked, signs, contexts)
        written = write(model, read, generator)
        right = written[:, LENGTH - 1] == steps(asked, signs, rules)[:, -1]
        result[name] = right.double().mean().item()
        if name == "obeys":
            result["flourish"] = (written[:, LENGTH] == FLOURISH).double().mean().item()
            continue
        theirs = write(before(seed), read, generator)
        with torch.no_grad():
            said, judged = (scores(one, read, theirs) for one in (model, before(seed)))
        moved.append(token_loss(said, judged, kind="forward", mask=up_to_end(theirs, end=sums.END)).item())
    old = (result["minus"] + result["other"]) / 2
    return result | {"old": old, "score": (result["obeys"] + old) / 2, "moved": sum(moved) / 2}
