"""Two controls for lesson 07, on the runs of ``cross_modal``: the same seeds, folds, teachers, first weights and order.

*Argmax:* the teacher's first choice as a label, at weight 1 and nothing tuned; what is left when all that is soft is
gone. *Selected, τ = 1:* selection by agreement at the temperature that soft targets chose, where ``cross_modal`` has it
at 2; its threshold is the one chosen there. Lesson: notebooks/07_cross_modal.ipynb.
"""

import torch.nn.functional as F

from kdref.cross_modal import select_agreeing, selected_soft_target_loss
from kdref.lab.experiments._cross_modal import Method, _train, by_person, people, taught_by_labels
from kdref.lab.experiments.cross_modal_tuning import FOLDS, chosen

SENSOR, TEACHER = "gyroscope", "accelerometer"
CONTROLS = {
    "argmax": Method("nothing", (1.0,), lambda s, t, a: a * F.cross_entropy(s.logits, t.logits.argmax(dim=-1))),
    "selected, τ = 1": Method(
        "threshold",
        (0.0, 0.3, 0.6),
        lambda s, t, a: selected_soft_target_loss(
            s.logits, t.logits, select_agreeing(s.logits, t.logits, threshold=a), temperature=1.0
        ),
    ),
}
ARMS = tuple(f"{SENSOR} | {TEACHER} | {name}" for name in CONTROLS)


def run(seed: int, arm: str) -> dict[str, float]:
    method = CONTROLS[arm.split(" | ")[2]]
    people_accuracy: dict[int, float] = {}
    for number in range(FOLDS):
        fold = people(seed, number)
        teacher = taught_by_labels(TEACHER, seed, number, decay=chosen(f"{TEACHER} | nobody | labels", fold.test))
        setting = 1.0 if method.tuned == "nothing" else chosen(f"{SENSOR} | {TEACHER} | selected", fold.test)
        model = _train(SENSOR, seed, fold, guide=(teacher, TEACHER, method, setting))
        people_accuracy |= by_person(model, SENSOR, fold.test)
    accuracy = sum(people_accuracy.values()) / len(people_accuracy)
    return {"accuracy": accuracy} | {
        f"person_{subject}": people_accuracy[subject] for subject in sorted(people_accuracy)
    }
