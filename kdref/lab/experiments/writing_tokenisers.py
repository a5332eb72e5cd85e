"""Students whose pieces of text are not the teacher's: what a teacher can give them, in bits per byte.

Beside them, students of the same sentences in the teacher's own pieces, for whom a divergence over words is possible.
Lesson: notebooks/19_writing_models.ipynb.
"""

from kdref.lab.experiments._writing_tokenisers import SORTED, WAYS, student, validated
from kdref.lab.experiments.writing_tokenisers_tuning import RATE, chosen
from kdref.lab.models import writer

TEACHER, WEIGHT_ONE = "the teacher itself", f"{SORTED}, weight 1"
ARMS = (*WAYS, WEIGHT_ONE, TEACHER)


def run(seed: int, arm: str) -> dict[str, float]:
    if arm == TEACHER:
        return {"bits": validated(writer.teacher(), name="test")}
    way, (rate, weight) = (SORTED, (RATE, 1.0)) if arm == WEIGHT_ONE else (arm, chosen(arm))
    model, found = student(seed, way, rate=rate, weight=weight)
    return {"bits": validated(model, name="test"), **found}
