"""A gyroscope learns from an accelerometer, labels of three people, five-fold over people.

Lesson: notebooks/07_cross_modal.ipynb. Settings were chosen by ``cross_modal_tuning`` before these runs. A run is five
folds: each of the ten people is tested once, by a network that never saw that person.
"""

import torch

from kdref.lab.experiments._cross_modal import by_person, people, taught_by_labels, taught_by_teacher, windows
from kdref.lab.experiments.cross_modal_tuning import FOLDS, PAIRS, chosen
from kdref.lab.training.batches import teacher_outputs

ARMS = (*PAIRS, *(f"{sensor} | nobody | all labels" for sensor in ("accelerometer", "gyroscope")))


def run(seed: int, arm: str) -> dict[str, float]:
    sensor, teacher_sensor, method = arm.split(" | ")
    labels_of = "{} | nobody | labels"
    people_accuracy: dict[int, float] = {}
    more: dict[str, list[float]] = {"nll": [], "teacher_accuracy": [], "agreement": []}
    known, x = windows()
    for number in range(FOLDS):
        fold = people(seed, number)
        rows, unlabelled = known.of(fold.test), known.of(fold.unlabelled)
        if teacher_sensor == "nobody":
            decay = chosen(labels_of.format(sensor), fold.test)
            model = taught_by_labels(sensor, seed, number, decay=decay, all_labels=method == "all labels")
        else:
            decay = chosen(labels_of.format(teacher_sensor), fold.test)
            teacher = taught_by_labels(teacher_sensor, seed, number, decay=decay)
            setting = chosen(arm, fold.test)
            model = taught_by_teacher(sensor, teacher, teacher_sensor, method, setting, seed=seed, fold=fold)
            said = teacher_outputs(teacher, x[teacher_sensor])
            more["teacher_accuracy"].append((said[unlabelled].argmax(-1) == known.y[unlabelled]).double().mean().item())
            own = teacher_outputs(model, x[sensor][rows])
            more["agreement"].append((own.argmax(-1) == said[rows].argmax(-1)).double().mean().item())
        people_accuracy |= by_person(model, sensor, fold.test)
        logits = teacher_outputs(model, x[sensor][rows])
        more["nll"].append(torch.nn.functional.cross_entropy(logits, known.y[rows]).item())
    result = {"accuracy": sum(people_accuracy.values()) / len(people_accuracy)}
    result |= {name: sum(values) / len(values) for name, values in more.items() if values}
    return result | {f"person_{subject}": people_accuracy[subject] for subject in sorted(people_accuracy)}
