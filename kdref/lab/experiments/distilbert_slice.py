"""DistilBERT's recipe in seconds: few sentences, and a teacher of its own for every seed.

Lesson 11 runs one seed of it anew. Learning rates as in ``distilbert``; one epoch for all, the teacher too.
Lesson: notebooks/11_language_models.ipynb.
"""

from torch import nn

from kdref.lab.encoder import SentenceClassifier, outputs
from kdref.lab.experiments._snippets import STUDENTS, TEACHER, TEACHER_LEARNING_RATE, numbered, taught
from kdref.lab.experiments.distilbert_tuning import chosen
from kdref.lab.measure import measure

SEEDS = tuple(range(8))
SENTENCES, TESTED = 320, 500  # the first so many
ARMS = ("teacher", "labels only", "triple loss", "random, triple loss")


def run(seed: int, arm: str) -> dict[str, float]:
    whole = teacher(seed)
    return judged(whole if arm == "teacher" else student(seed, arm, whole))


def teacher(seed: int) -> SentenceClassifier:
    """All layers, fine-tuned on the labels of a few sentences."""
    ids, y = numbered()["train"]
    few = ids[:SENTENCES], y[:SENTENCES]
    return taught(seed, TEACHER._replace(epochs=1), learning_rate=TEACHER_LEARNING_RATE, tensors=few)[0]


def student(seed: int, arm: str, whole: SentenceClassifier) -> SentenceClassifier:
    """Half the layers, and what the arm learns from, on the same sentences."""
    ids, y = numbered()["train"]
    few = ids[:SENTENCES], y[:SENTENCES], *outputs(whole, ids[:SENTENCES], hidden=True)
    return taught(seed, STUDENTS[arm], learning_rate=chosen(arm), tensors=few)[0]


def judged(model: SentenceClassifier) -> dict[str, float]:
    """Accuracy and negative log-likelihood on the first test sentences."""
    ids, y = numbered()["test"]
    found = measure(nn.Identity(), outputs(model, ids[:TESTED]).logits, y[:TESTED])
    return {"accuracy": found["accuracy"], "nll": found["nll"]}
