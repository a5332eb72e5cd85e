"""What the experiment on distillation and reinforcement learning shares: one student, and ways to go on from there.

The student of lesson 12's slipping teacher goes on with a number of drawn texts: a checker of answers rewards its own,
or picks among its own or its teacher's; or a teacher, the slipping one or a good one, judges every token of its own.
Lesson: notebooks/12_reasoning.ipynb.
"""

import copy
import functools

import torch
from torch import Tensor

from kdref.lab.data import sums
from kdref.lab.experiments import _sequence
from kdref.lab.experiments._sequence_self import updated
from kdref.lab.models.causal_transformer import CausalTransformer, generate, up_to_end
from kdref.language import token_loss
from kdref.sequence import on_policy_loss, sequence_level_loss

TEXTS, GROUP, ROUNDS = 64, 8, 5  # texts per step; of one problem, where a checker compares; rounds of writing
BUDGETS = {"few": 1_280, "many": 3_840}  # texts that are drawn
METHODS = (
    "own text, rewarded",
    "own right texts",
    "the teacher's right texts",
    "own text, judged by the teacher",
    "own text, judged by a good teacher",
)


@functools.lru_cache(maxsize=1)
def student(seed: int) -> CausalTransformer:
    """The student of the slipping teacher's text, as it is, with which all begin."""
    asked = _sequence.problems(_sequence.PROBLEMS, seed, 1)
    written = _sequence.write(_sequence.teacher(seed), asked, seed=seed)
    model = _sequence.network(_sequence.STUDENT, seed=100_000 + seed)
    return _sequence.train(model, asked, written, steps=_sequence.STUDENT_STEPS, seed=seed)


@functools.lru_cache(maxsize=1)
def good_teacher(seed: int) -> CausalTransformer:
    """A teacher that never saw a slip, otherwise like the other."""
    asked = _sequence.problems(_sequence.TEACHER_PROBLEMS, seed, 0)
    right = sums.completions(sums.traces(asked))
    return _sequence.train(
        _sequence.network(_sequence.TEACHER, seed=seed), asked, right, steps=_sequence.TEACHER_STEPS, seed=seed
    )


def advantages(right: Tensor) -> Tensor:
    """A reward of 1 for a right answer, less the mean of the problem's group: ``(B,)``, groups side by side."""
    reward = right.float().unflatten(0, (-1, GROUP))
    above: Tensor = reward - reward.mean(dim=1, keepdim=True)
    return above.flatten()


def on(model: CausalTransformer, method: str, seed: int, *, texts: int, rate: float) -> CausalTransformer:
    """Let a model go on, in place, by one of the methods, with that many drawn texts in all."""
    asked = sums.problems(texts, length=_sequence.LENGTH, seed=40_000 + seed)
    generator = torch.Generator().manual_seed(seed)
    if method.endswith("right texts"):
        writer = _sequence.teacher(seed) if "teacher" in method else model
        return _on_right_texts(model, writer, asked, generator, rate)
    if method == "own text, rewarded":
        asked = asked[: texts // GROUP].repeat_interleave(GROUP, dim=0)
        judge = None
    else:
        judge = good_teacher(seed) if "good" in method else _sequence.teacher(seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        (rows,) = batch
        written = draw(model, rows, generator)
        said, mask = _sequence.scores(model, rows, written), up_to_end(written, end=sums.END)
        if judge is None:  # log-ratios of zero: all of the advantage is the checker's
            reward = advantages(sums.is_right(rows, written))[:, None]
            return {"loss": on_policy_loss(said, said, written, mask=mask, baseline=reward)}
        with torch.no_grad():
            judged = _sequence.scores(judge, rows, written)
        return {"loss": token_loss(said, judged, kind="reverse", mask=mask)}

    return updated(step, model, asked, texts=TEXTS, rate=rate)


def draw(model: CausalTransformer, asked: Tensor, generator: torch.Generator) -> Tensor:
    """Completions drawn from a model."""
    length = _sequence.LENGTH + 1
    return generate(model, sums.prompts(asked), max_new_tokens=length, end=sums.END, generator=generator)


def _on_right_texts(
    model: CausalTransformer, writer: CausalTransformer, asked: Tensor, generator: torch.Generator, rate: float
) -> CausalTransformer:
    """In rounds: write, keep what the checker finds right, and fine-tune for as many steps as texts were drawn."""

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        rows, written = batch
        said, mask = _sequence.scores(model, rows, written), up_to_end(written, end=sums.END)
        return {"loss": sequence_level_loss(said, written, mask=mask)}

    for rows in asked.chunk(ROUNDS):
        written = draw(writer, rows, generator)
        kept = sums.is_right(rows, written).nonzero().squeeze(1)
        if not len(kept):
            continue  # too high a rate, and nothing is right any more
        chosen = kept[torch.randint(len(kept), (len(rows),), generator=generator)]
        updated(step, model, rows[chosen], written[chosen], texts=TEXTS, rate=rate)
    return model


def after(method: str, seed: int, *, texts: int, rate: float) -> CausalTransformer:
    """The student after it went on."""
    return on(copy.deepcopy(student(seed)), method, seed, texts=texts, rate=rate)
