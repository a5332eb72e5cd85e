"""What the experiment on distillation and reinforcement learning shares: one student, and ways to go on from there.

Sums of four numbers. The student of a teacher that takes six sixes of ten for fives goes on with a number of drawn
texts: a checker of answers rewards its own, or picks among its own or its teacher's; or a teacher, the slipping one or
a good one, judges every token of its own. Lesson: notebooks/12_reasoning.ipynb.
"""

import copy
import functools

import torch
from torch import Tensor

from kdref.lab.data import sums
from kdref.lab.experiments._sequence import SLIP
from kdref.lab.experiments._sequence import train as fine_tuned
from kdref.lab.experiments._sequence_self import scores, updated
from kdref.lab.models.causal_transformer import CausalTransformer, generate, up_to_end
from kdref.language import token_loss
from kdref.sequence import on_policy_loss, sequence_level_loss

LENGTH, PROBLEMS, TEST = 4, 16_000, 1_000
TEACHER, TEACHER_STEPS = {"width": 64, "layers": 1}, 250
STUDENT, STUDENT_STEPS = {"width": 32, "layers": 1}, 400
TEXTS, GROUP, ROUNDS = 64, 8, 5  # texts per step; of one problem, where a checker compares; rounds of writing
BUDGETS = {"few": 640, "many": 2_560}  # texts that are drawn
METHODS = (
    "own text, rewarded",
    "own right texts",
    "the teacher's right texts",
    "own text, judged by the teacher",
    "own text, judged by a good teacher",
)


def problems(count: int, seed: int, part: int) -> Tensor:
    """Problems of a part: 0 the teachers' own, 1 and 2 those that the student begins and goes on with, 3 to test on."""
    return sums.problems(count, length=LENGTH, seed=10_000 * part + seed)


def draw(model: CausalTransformer, asked: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
    """Completions drawn from a model."""
    read, count = sums.prompts(asked), LENGTH + 1
    return generate(model, read, max_new_tokens=count, end=sums.END, temperature=temperature, generator=generator)


def _trained(size: dict[str, int], first: int, asked: Tensor, written: Tensor, steps: int) -> CausalTransformer:
    model = CausalTransformer(sums.VOCABULARY, length=2 * LENGTH + 2, seed=first, **size)
    return fine_tuned(model, asked, written, steps=steps, seed=first)


@functools.lru_cache(maxsize=2)
def teacher(seed: int, slip: float = SLIP) -> CausalTransformer:
    """The teacher of a seed, trained on traces that slip."""
    asked = problems(PROBLEMS, seed, 0)
    written = sums.completions(sums.traces(asked, slip=slip, seed=seed))
    return _trained(TEACHER, seed, asked, written, TEACHER_STEPS)


def good_teacher(seed: int) -> CausalTransformer:
    """A teacher that never saw a slip, otherwise like the other."""
    return teacher(seed, 0.0)


@functools.lru_cache(maxsize=1)
def student(seed: int) -> CausalTransformer:
    """The student of the slipping teacher's text, as it is, with which all begin."""
    asked = problems(PROBLEMS // 8, seed, 1)
    written = draw(teacher(seed), asked, torch.Generator().manual_seed(seed))
    return _trained(STUDENT, 100_000 + seed, asked, written, STUDENT_STEPS)


def advantages(right: Tensor) -> Tensor:
    """A reward of 1 for a right answer, less the mean of the problem's group: ``(B,)``, groups side by side."""
    reward = right.float().unflatten(0, (-1, GROUP))
    above: Tensor = reward - reward.mean(dim=1, keepdim=True)
    return above.flatten()


def after(method: str, seed: int, *, texts: int, rate: float) -> CausalTransformer:
    """The student after it went on by one of the methods, with that many drawn texts in all."""
    model, asked = copy.deepcopy(student(seed)), problems(texts, seed, 2)
    generator = torch.Generator().manual_seed(seed)
    if method.endswith("right texts"):
        writer = teacher(seed) if "teacher" in method else model
        return _on_right_texts(model, writer, asked, generator, rate)
    judge = None
    if method == "own text, rewarded":
        asked = asked[: texts // GROUP].repeat_interleave(GROUP, dim=0)
    else:
        judge = good_teacher(seed) if "good" in method else teacher(seed)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        (rows,) = batch
        read, written = sums.prompts(rows), draw(model, rows, generator)
        said, mask = scores(model, read, written), up_to_end(written, end=sums.END)
        if judge is None:  # log-ratios of zero: all of the advantage is the checker's
            reward = advantages(sums.is_right(rows, written))[:, None]
            return {"loss": on_policy_loss(said, said, written, mask=mask, baseline=reward)}
        with torch.no_grad():
            judged = scores(judge, read, written)
        return {"loss": token_loss(said, judged, kind="reverse", mask=mask)}

    return updated(step, model, asked, texts=TEXTS, rate=rate)


def _on_right_texts(
    model: CausalTransformer, writer: CausalTransformer, asked: Tensor, generator: torch.Generator, rate: float
) -> CausalTransformer:
    """In rounds: write, keep what the checker finds right, and fine-tune for as many steps as texts were drawn."""

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        rows, written = batch
        said = scores(model, sums.prompts(rows), written)
        return {"loss": sequence_level_loss(said, written, mask=up_to_end(written, end=sums.END))}

    for rows in asked.chunk(ROUNDS):
        written = draw(writer, rows, generator)
        kept = sums.is_right(rows, written).nonzero().squeeze(1)
        if not len(kept):
            continue  # too high a rate, and nothing is right any more
        chosen = kept[torch.randint(len(kept), (len(rows),), generator=generator)]
        updated(step, model, rows[chosen], written[chosen], texts=TEXTS, rate=rate)
    return model


def measured(model: CausalTransformer, seed: int) -> dict[str, float]:
    """Share of right answers on new problems, of drawn and of likeliest text."""
    asked, generator = problems(TEST, seed, 3), torch.Generator().manual_seed(seed)
    names = {"accuracy": 1.0, "greedy": 0.0}
    return {
        name: sums.is_right(asked, draw(model, asked, generator, temperature)).double().mean().item()
        for name, temperature in names.items()
    }
