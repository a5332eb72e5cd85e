"""Students cut from the teacher: what is kept, by importance or by chance, and how it learns on.

Lesson: notebooks/19_writing_models.ipynb.
"""

import time

from kdref.lab.experiments._writing import DRAWN, STEPS, divergence, labels, said, train
from kdref.lab.models import writer
from kdref.lab.models.causal_transformer import CausalTransformer
from kdref.lab.models.pruning import cut, importance, shuffled

IMPORTANT, RANDOM = "cut by importance", "cut at random"
STARTS = (*(f"{IMPORTANT} | {by}" for by in ("forward", "reverse", "labels")), f"{RANDOM} | forward")


def pruned(way: str, seed: int) -> CausalTransformer:
    """The teacher cut to the size of a student: two of three layers, half the heads, neurons and channels."""
    scores = importance(writer.teacher(), writer.rows("train")[:DRAWN, :-1])
    if way == RANDOM:
        scores = shuffled(scores, seed=seed)
    size = writer.STUDENT
    return cut(writer.teacher(), scores, width=size["width"], layers=size["layers"])


def student(seed: int, start: str, *, rate: float, steps: int = STEPS) -> tuple[CausalTransformer, float]:
    """A pruned student that has learned on, and the seconds of its training without the teacher's part."""
    way, by = start.split(" | ")
    model, loss = pruned(way, seed), labels if by == "labels" else divergence(by)
    said()
    began = time.process_time()
    train(model, writer.rows("train"), loss, seed=seed, rate=rate, steps=steps)
    return model, time.process_time() - began
