"""The last exam of the laws for students: runs beyond the grid, made when the laws' forms were settled.

Learning rates are those of the largest student and the most signals of the grid.
Lesson: notebooks/13_scaling_laws.ipynb.
"""

import time

from kdref.lab.experiments._scaling import SIGNALS, STUDENTS, learn, measures, parameters, signals, tuned
from kdref.lab.experiments._scaling_beyond import MOST
from kdref.lab.experiments._scaling_teachers import teacher, teacher_loss
from kdref.lab.training.batches import teacher_outputs

SEEDS = (0, 1, 2)
TAUGHT = ("470 | 300000", "175 | 1000000", "290 | 1000000")
ARMS = tuple(f"{point} | {name}" for name in ("60 of 100000", "105 of 300000", "290 of 1000000") for point in TAUGHT)


def run(seed: int, arm: str) -> dict[str, float]:
    width, count = map(int, arm.split(" | ")[:2])
    name = arm.split(" | ")[2]
    x = signals(seed, MOST)[0][:count]
    said = teacher_outputs(teacher(name, seed), x)
    rate = tuned("scaling_taught_tuning", STUDENTS[-1] if width > STUDENTS[-1] else width, SIGNALS[-1])
    began = time.process_time()
    model = learn(width, x, said, rate=rate, seed=seed)
    seconds = time.process_time() - began
    found = {"parameters": parameters(width), "signals": count, "teacher_loss": teacher_loss(name, seed)}
    return {**found, **measures(model), "seconds": seconds}
