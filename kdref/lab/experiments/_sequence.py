"""What the experiments of lesson 12 share: a teacher of running sums that slips, what it writes, and one way to train.

The teacher is really trained, on traces in which six sixes of ten are taken for fives; so its fault has a system, and a
check of the final answer finds it. Students are smaller: one layer of the teacher's two, half its width.
Lesson: notebooks/12_reasoning.ipynb.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from kdref.lab.data import sums
from kdref.lab.models.causal_transformer import CausalTransformer, generate, up_to_end
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.language import token_loss
from kdref.sequence import on_policy_loss, sequence_level_loss, speculative_acceptance

LENGTH = 6  # numbers per problem
SLIP = 0.6  # of the teacher's training traces, per six
TEACHER_PROBLEMS, PROBLEMS, TEST = 20_000, 2_000, 1_000
SAMPLES = 4  # that the teacher writes of each problem
BATCH_SIZE = 64
TEACHER_STEPS, STUDENT_STEPS = 250, 400
RATE, WARM_UP = 3e-3, 20
TEACHER, STUDENT = {"width": 64, "layers": 2}, {"width": 32, "layers": 1}


def network(size: dict[str, int], *, seed: int) -> CausalTransformer:
    """A transformer with new weights."""
    return CausalTransformer(sums.VOCABULARY, length=2 * LENGTH + 2, seed=seed, **size)


def problems(count: int, seed: int, part: int) -> Tensor:
    """Problems of a part: 0 the teacher's own, 1 those that it writes on, 2 those to test on."""
    return sums.problems(count, length=LENGTH, seed=10_000 * part + seed)


def train(
    model: CausalTransformer, asked: Tensor, completions: Tensor, *, steps: int, seed: int, rate: float = RATE
) -> CausalTransformer:
    """Fine-tune on problems and completions; the problems are read, the completions learned."""
    tokens, start = torch.cat([sums.prompts(asked), completions], dim=1), asked.shape[1]
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-steps * BATCH_SIZE // len(tokens))
    order = torch.cat([torch.randperm(len(tokens), generator=generator) for _ in range(epochs)])[: steps * BATCH_SIZE]

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        (text,) = batch
        written = text[:, start + 1 :]
        logits = model(text[:, :-1])[:, start:]
        return {"loss": sequence_level_loss(logits, written, mask=up_to_end(written, end=sums.END))}

    return _fitted(step, model, tokens[order], rate)


def write(model: CausalTransformer, asked: Tensor, *, seed: int, temperature: float = 1.0) -> Tensor:
    """Completions drawn from a model."""
    return generate(
        model,
        sums.prompts(asked),
        max_new_tokens=LENGTH + 1,
        end=sums.END,
        temperature=temperature,
        generator=torch.Generator().manual_seed(seed),
    )


@functools.lru_cache(maxsize=1)
def teacher(seed: int) -> CausalTransformer:
    """The teacher of a seed, trained on traces that slip."""
    asked = problems(TEACHER_PROBLEMS, seed, 0)
    slipping = sums.completions(sums.traces(asked, slip=SLIP, seed=seed))
    return train(network(TEACHER, seed=seed), asked, slipping, steps=TEACHER_STEPS, seed=seed)


@functools.lru_cache(maxsize=1)
def samples(seed: int) -> tuple[Tensor, Tensor]:
    """Problems, and what the teacher writes on them: ``(N, n)`` and ``(N, K, n + 1)``."""
    asked = problems(PROBLEMS, seed, 1)
    written = write(teacher(seed), asked.repeat_interleave(SAMPLES, dim=0), seed=seed)
    return asked, written.unflatten(0, (PROBLEMS, SAMPLES))


def continued(
    model: CausalTransformer,
    guide: CausalTransformer,
    asked: Tensor,
    theirs: Tensor,
    method: str,
    *,
    steps: int,
    seed: int,
    rate: float,
) -> CausalTransformer:
    """Go on training with a guide that judges every token.

    Args:
        model: Changed in place.
        guide: The teacher.
        asked: Problems to write on.
        theirs: What the teacher wrote on them.
        method: ``"teacher's text, tokens"``: the reverse divergence at every token of the teacher's text; ``"own text,
            tokens"``: the same on what the model itself writes; ``"own text, log-ratios"``: of whole sequences there.
        steps: How many.
        seed: Draws problems and text.
        rate: Learning rate at the start.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randint(len(asked), (steps * BATCH_SIZE,), generator=generator)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        (chosen,) = batch
        rows, written = asked[chosen], theirs[chosen]
        if method.startswith("own"):
            written = generate(model, sums.prompts(rows), max_new_tokens=LENGTH + 1, end=sums.END, generator=generator)
        said, mask = scores(model, rows, written), up_to_end(written, end=sums.END)
        with torch.no_grad():
            judged = scores(guide, rows, written)
        if method.endswith("tokens"):
            return {"loss": token_loss(said, judged, kind="reverse", mask=mask)}
        return {"loss": on_policy_loss(said, judged, written, mask=mask)}

    return _fitted(step, model, order, rate)


def scores(model: CausalTransformer, asked: Tensor, written: Tensor) -> Tensor:
    """Logits from which the tokens of a completion are drawn, ``(B, T, V)``."""
    text = torch.cat([sums.prompts(asked), written[:, :-1]], dim=1)
    logits: Tensor = model(text)
    return logits[:, LENGTH:]


@functools.lru_cache(maxsize=1)
def _teachers_text(seed: int) -> Tensor:
    return write(teacher(seed), problems(TEST, seed, 2), seed=seed + 1)


def compared(model: CausalTransformer, seed: int) -> dict[str, float]:
    """How like its teacher a model is: divergences per token, and how often a token that it drafts is accepted.

    ``forward`` and ``acceptance`` are on the teacher's text, ``reverse`` is on the model's own.
    """
    guide, asked = teacher(seed), problems(TEST, seed, 2)
    theirs, own = _teachers_text(seed), write(model, asked, seed=seed + 1)
    result = {}
    for name, written, kind in (("forward", theirs, "forward"), ("reverse", own, "reverse")):
        mask = up_to_end(written, end=sums.END)
        with torch.no_grad():
            said, judged = (scores(one, asked, written) for one in (model, guide))
        result[name] = token_loss(said, judged, kind=kind, mask=mask).item()
        if name == "forward":
            result["acceptance"] = speculative_acceptance(said.softmax(-1), judged.softmax(-1))[mask].mean().item()
    return result


def measured(model: CausalTransformer, seed: int) -> dict[str, float]:
    """Share of right answers on new problems, of drawn and of likeliest text, and of sixes taken for fives."""
    asked = problems(TEST, seed, 2)
    drawn, likeliest = (write(model, asked, seed=seed, temperature=temperature) for temperature in (1.0, 0.0))
    sixes = asked == sums.CARELESS
    sums_before = torch.cat([torch.zeros_like(drawn[:, :1]), drawn[:, : LENGTH - 1]], dim=1)
    taken_for_five = (drawn[:, :LENGTH] - sums_before) % sums.MODULUS == sums.CARELESS - 1
    return {
        "accuracy": sums.is_right(asked, drawn).double().mean().item(),
        "greedy": sums.is_right(asked, likeliest).double().mean().item(),
        "slips": taken_for_five[sixes].double().mean().item(),
    }


def _fitted(
    step: Callable[[tuple[Tensor, ...]], dict[str, Tensor]], model: CausalTransformer, rows: Tensor, rate: float
) -> CausalTransformer:
    """One pass over rows that are in order already, with a rate that rises for some steps and falls along a cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, fused=True)
    cooling = len(rows) // BATCH_SIZE - WARM_UP

    def share(count: int) -> float:
        return min((count + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * max(count - WARM_UP, 0) / cooling))

    after = torch.optim.lr_scheduler.LambdaLR(optimizer, share).step
    batches = Batches(rows, batch_size=BATCH_SIZE)
    fit(step, model, batches, optimizer, epochs=1, after_step=after, progress=False)
    return model.eval()
