"""DistilBERT's recipe in seconds: few and short sentences, and a teacher of its own for every seed.

Lesson 11 runs one seed of it anew. Learning rates as in ``distilbert``; one epoch for all, the teacher too.
Lesson: notebooks/11_language_models.ipynb.
"""

from torch import Tensor, nn

from kdref.lab.data.sentences import snippets
from kdref.lab.experiments._language import STUDENTS, TEACHER, TEACHER_LEARNING_RATE, numbered, taught
from kdref.lab.experiments.language_distilbert_tuning import chosen
from kdref.lab.models.sentence_encoder import SentenceClassifier, outputs
from kdref.lab.training.measure import measure

SEEDS = tuple(range(8))
SENTENCES, TESTED = 480, 500  # the first so many that are short
ARMS = ("teacher", "labels only", "triple loss", "random, triple loss")


def run(seed: int, arm: str) -> dict[str, float]:
    whole = teacher(seed)
    model = whole if arm == "teacher" else student(seed, arm, lessons(whole))
    ids, y = tested()
    found = measure(nn.Identity(), outputs(model, ids).logits, y)
    return {"accuracy": found["accuracy"], "nll": found["nll"]}


def teacher(seed: int) -> SentenceClassifier:
    """All layers, fine-tuned on the labels."""
    return taught(seed, TEACHER._replace(epochs=1), learning_rate=TEACHER_LEARNING_RATE, tensors=_short("train"))[0]


def lessons(whole: SentenceClassifier) -> tuple[Tensor, ...]:
    """What students learn from: sentences, labels, and the teacher's logits and hidden states."""
    ids, y = _short("train")
    return ids, y, *outputs(whole, ids, hidden=True)


def student(seed: int, arm: str, learned_from: tuple[Tensor, ...]) -> SentenceClassifier:
    """Half the layers, and what the arm learns from."""
    return taught(seed, STUDENTS[arm], learning_rate=chosen(arm), tensors=learned_from)[0]


def tested() -> tuple[Tensor, Tensor]:
    """Test sentences and their labels."""
    return _short("test")


def _short(part: str) -> tuple[Tensor, Tensor]:
    ids, y = numbered()[part]
    known = snippets()
    short, count = {"train": (known.train.of("short"), SENTENCES), "test": (known.test.of("short"), TESTED)}[part]
    return ids[short][:count], y[short][:count]
