"""What holds back over-fitting in three epochs: the triple loss, its terms one by one, and what needs no teacher.

On few and short sentences, with a teacher for every seed. Settings were chosen by
``language_distilbert_controls_tuning`` before these runs. Lesson: notebooks/11_language_models.ipynb.
"""

import functools

from kdref.lab.experiments._language_controls import (
    LABELS,
    SMOOTHED,
    STOPPING,
    TERMS,
    TRIPLE,
    Numbers,
    Part,
    found,
    sentences,
    teacher,
    trained,
)
from kdref.lab.experiments.language_distilbert_controls_tuning import chosen, chosen_smoothing
from kdref.lab.models.sentence_encoder import SentenceClassifier

STOPPED = {  # an arm, whose training it is, and by which number it stops
    "early stopping": (LABELS, "nll"),
    "early stopping, by accuracy": (LABELS, "accuracy"),
    "triple loss, early stopping": (TRIPLE, "nll"),
}
ARMS = ("teacher", *TERMS, *STOPPED)


def run(seed: int, arm: str) -> dict[str, float]:
    data = sentences(seed)
    if arm == "teacher":
        return of_the_end(found(teacher(seed), data.test), found(teacher(seed), data.train))
    if arm in (LABELS, TRIPLE):
        _, test, train = by_epoch(seed, arm)
        return of_the_end(test[-1], train)
    if arm in STOPPED:
        name, metric = STOPPED[arm]
        stopping, test, _ = by_epoch(seed, name)
        best = max(range(len(test)), key=lambda epoch: stopping[epoch][metric] * (-1 if metric == "nll" else 1))
        return test[best] | {"epoch": best + 1.0}
    model = trained(seed, arm, chosen(arm), chosen_smoothing() if arm == SMOOTHED else 0.0)
    return of_the_end(found(model, data.test), found(model, data.train))


def of_the_end(test: Numbers, train: Numbers) -> Numbers:
    """Numbers on test sentences, and how far the sentences learned are known by heart."""
    return test | {"train_accuracy": train["accuracy"], "train_nll": train["nll"]}


@functools.lru_cache(maxsize=2)
def by_epoch(seed: int, name: str) -> tuple[list[Numbers], list[Numbers], Numbers]:
    """After each epoch on the sentences that say when to stop, and on those to test on; in the end on those learned."""
    data = sentences(seed)
    few, stopping, test = Part(*(tensor[:STOPPING] for tensor in data.validation)), list[Numbers](), list[Numbers]()

    def look(model: SentenceClassifier) -> None:
        stopping.append(found(model, few))
        test.append(found(model, data.test))

    model = trained(seed, name, chosen(name), 0.0, after_epoch=look)
    return stopping, test, found(model, data.train)
