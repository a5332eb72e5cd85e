"""The loss of students of five sizes after six amounts of data, from each of seven teachers and nothing else.

Lesson: notebooks/13_scaling_laws.ipynb.
"""

import time

from kdref.lab.experiments._scaling import SIGNALS, STUDENTS, learn, measures, parameters, signals, tuned
from kdref.lab.experiments._scaling_teachers import TEACHERS, said, teacher_loss

SEEDS = (0, 1, 2)
ARMS = tuple(f"{width} | {count} | {name}" for name in TEACHERS for width in STUDENTS for count in SIGNALS)


def run(seed: int, arm: str) -> dict[str, float]:
    width, count = map(int, arm.split(" | ")[:2])
    name = arm.split(" | ")[2]
    x, t = signals(seed)[0][:count], said(name, seed)[:count]
    began = time.process_time()
    model = learn(width, x, t, rate=tuned("scaling_taught_tuning", width, count), seed=seed)
    seconds = time.process_time() - began
    found = {"parameters": parameters(width), "signals": count, "teacher_loss": teacher_loss(name, seed)}
    return {**found, **measures(model), "seconds": seconds}
