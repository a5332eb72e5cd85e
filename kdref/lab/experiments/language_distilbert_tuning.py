"""Choosing each kind of student's learning rate on the validation sentences.

The same effort with and without teacher: two learning rates, one seed that is used nowhere else. What leaves out a term
takes the learning rate of the whole loss. The weights of the terms are DistilBERT's, not tuned.
Lesson: notebooks/11_language_models.ipynb.
"""

import functools

from torch import nn

from kdref.lab.experiments._language import STUDENTS, numbered, taught
from kdref.lab.experiments.store import load
from kdref.lab.models.sentence_encoder import outputs
from kdref.lab.training.measure import measure

SEEDS = (5000,)
RATES = {True: (1e-4, 3e-4), False: (3e-4, 1e-3)}  # with pre-trained weights, and with random ones
TUNED = ("labels only", "triple loss", "random, labels only", "random, triple loss")
ARMS = tuple(f"{arm} | {rate:g}" for arm in TUNED for rate in RATES[STUDENTS[arm].pretrained])


def run(seed: int, arm: str) -> dict[str, float]:
    name, rate = arm.split(" | ")
    model, _ = taught(seed, STUDENTS[name], learning_rate=float(rate))
    ids, y = numbered()["validation"]
    found = measure(nn.Identity(), outputs(model, ids).logits, y)
    return {"accuracy": found["accuracy"], "nll": found["nll"]}


@functools.cache
def chosen(arm: str) -> float:
    """The learning rate of the highest accuracy on the validation sentences."""
    student = STUDENTS[arm]
    base = "labels only" if student.terms is None else "triple loss"
    group = base if student.pretrained else f"random, {base}"
    accuracy = load("language_distilbert_tuning").groupby("arm")["accuracy"].mean()
    return max(RATES[student.pretrained], key=lambda rate: float(accuracy[f"{group} | {rate:g}"]))
