"""The DeepSeek-R1 recipe in miniature: answers, traces, and a slipping teacher's traces with and without a check.

Lesson: notebooks/12_reasoning.ipynb. All students of a seed have the same first weights, optimiser and problems.
"""

import copy
import functools

from torch import Tensor

from kdref.lab.data import sums
from kdref.lab.experiments._sequence import (
    LENGTH,
    PROBLEMS,
    STUDENT,
    STUDENT_STEPS,
    compared,
    continued,
    measured,
    network,
    problems,
    samples,
    teacher,
    train,
)
from kdref.lab.models.causal_transformer import CausalTransformer
from kdref.sequence import rejection_sample

ARMS = (
    "answers only",
    "answers only, equal tokens",
    "the algorithm's traces",
    "the teacher's traces",
    "longer, teacher's text",
    "longer, teacher's text, tokens",
    "longer, own text, tokens",
    "longer, own text, log-ratios",
    "as few, unchecked",
    "checked traces",
    "the teacher itself",
)
TOKENS = {"answers only, equal tokens": (LENGTH + 1) / 2}  # a trace has that many times an answer's tokens
MORE_STEPS, MORE_RATE = 100, 1e-3  # of those that go on where "the teacher's traces" ends


def training_set(seed: int, arm: str) -> tuple[Tensor, Tensor]:
    """Problems and completions that an arm learns from."""
    if arm.startswith("answers"):
        asked = problems(PROBLEMS, seed, 1)
        return asked, sums.completions(sums.answers(asked)[:, None])
    if arm == "the algorithm's traces":
        asked = problems(PROBLEMS, seed, 1)
        return asked, sums.completions(sums.traces(asked))
    asked, written = samples(seed)
    kept = rejection_sample(sums.is_right(asked, written))
    if arm == "checked traces":
        return asked[kept.any(dim=1)], written[kept]
    count = int(kept.sum()) if arm == "as few, unchecked" else len(asked)
    return asked[:count], written[:count, 0]


def run(seed: int, arm: str) -> dict[str, float]:
    if arm == "the teacher itself":
        return measured(teacher(seed), seed) | compared(teacher(seed), seed)
    longer = arm.startswith("longer")
    student = _student(seed, "the teacher's traces" if longer else arm)
    if longer:
        student, (asked, written) = copy.deepcopy(student), samples(seed)
        if arm == "longer, teacher's text":
            train(student, asked, written[:, 0], steps=MORE_STEPS, seed=seed + 1, rate=MORE_RATE)
        else:
            method = arm.removeprefix("longer, ")
            continued(
                student, teacher(seed), asked, written[:, 0], method, steps=MORE_STEPS, seed=seed + 1, rate=MORE_RATE
            )
    result = measured(student, seed) | compared(student, seed)
    if arm.startswith("answers"):
        del result["slips"]  # there are no steps to look at
    return result


@functools.lru_cache(maxsize=1)
def _student(seed: int, arm: str) -> CausalTransformer:
    asked, completions = training_set(seed, arm)
    steps = round(STUDENT_STEPS * TOKENS.get(arm, 1))
    return train(network(STUDENT, seed=100_000 + seed), asked, completions, steps=steps, seed=seed)
