"""DistilBERT's recipe on film reviews once more with three epochs instead of one: does the teacher help with patience?

Everything but the number of epochs is as in ``distilbert``, learning rates too. Lesson:
notebooks/11_language_models.ipynb.
"""

from kdref.lab.experiments._language import STUDENTS, numbered, taught
from kdref.lab.experiments.language_distilbert import judged
from kdref.lab.experiments.language_distilbert_tuning import chosen
from kdref.lab.models.sentence_encoder import outputs

SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 3
ARMS = ("labels only", "triple loss")


def run(seed: int, arm: str) -> dict[str, float]:
    model, seconds = taught(seed, STUDENTS[arm]._replace(epochs=EPOCHS), learning_rate=chosen(arm))
    return judged(outputs(model, numbered()["test"][0]).logits) | {"seconds": seconds, "learning_rate": chosen(arm)}
