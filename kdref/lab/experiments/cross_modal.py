"""A gyroscope learns from an accelerometer, labels of three people, five-fold over people.

Lesson: notebooks/07_cross_modal.ipynb. Settings were chosen by ``cross_modal_tuning`` before these runs. A run is five
folds: each of the ten people is tested once, by a network that never saw that person. Controls: *argmax*, the
teacher's first choice as a label; *selected, τ = 1*, at a temperature like soft targets'.
"""

import torch

from kdref.lab.experiments._cross_modal import (
    METHODS,
    by_person,
    people,
    taught_by_labels,
    train,
    windows,
)
from kdref.lab.experiments.cross_modal_tuning import FOLDS, PAIRS, chosen
from kdref.lab.training.batches import teacher_outputs

ARMS = (*PAIRS, *(f"{sensor} | nobody | all labels" for sensor in ("accelerometer", "gyroscope")))


def run(seed: int, arm: str) -> dict[str, float]:
    sensor, teacher_sensor, method = arm.split(" | ")
    labels_of = "{} | nobody | labels"
    people_accuracy: dict[int, float] = {}
    more: dict[str, list[float]] = {"nll": [], "fitted": [], "teacher_accuracy": [], "agreement": []}
    known, x = windows()
    for number in range(FOLDS):
        fold = people(seed, number)
        rows, unlabelled, labelled = known.of(fold.test), known.of(fold.unlabelled), known.of(fold.labelled)
        if teacher_sensor == "nobody":
            decay = chosen(labels_of.format(sensor), fold.test).decay
            model = taught_by_labels(sensor, seed, number, decay=decay, all_labels=method == "all labels")
        else:
            decay = chosen(labels_of.format(teacher_sensor), fold.test).decay
            teacher = taught_by_labels(teacher_sensor, seed, number, decay=decay)
            choice = chosen(arm, fold.test)
            guide = (teacher, teacher_sensor, METHODS[method], choice.setting)
            model = train(sensor, seed, fold, decay=choice.decay, guide=guide)
            said = teacher_outputs(teacher, x[teacher_sensor])
            more["teacher_accuracy"].append((said[unlabelled].argmax(-1) == known.y[unlabelled]).double().mean().item())
            own = teacher_outputs(model, x[sensor][rows])
            more["agreement"].append((own.argmax(-1) == said[rows].argmax(-1)).double().mean().item())
        people_accuracy |= by_person(model, sensor, fold.test)
        logits = teacher_outputs(model, x[sensor])
        more["nll"].append(torch.nn.functional.cross_entropy(logits[rows], known.y[rows]).item())
        more["fitted"].append((logits[labelled].argmax(-1) == known.y[labelled]).double().mean().item())
    result = {"accuracy": sum(people_accuracy.values()) / len(people_accuracy)}
    result |= {name: sum(values) / len(values) for name, values in more.items() if values}
    return result | {f"person_{subject}": people_accuracy[subject] for subject in sorted(people_accuracy)}
