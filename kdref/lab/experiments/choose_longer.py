"""Both baselines with four times the epochs and the settings chosen for one time: did they only need more of them?

Lesson: notebooks/18_choose_your_method.ipynb.
"""

from torch import Tensor

from kdref.lab.experiments._choose import STUDENTS, _measured, _train, known
from kdref.lab.experiments._response import METHODS as LOGITS
from kdref.lab.experiments.choose_tuning import CROSS_ENTROPY, SOFT_TARGETS, Pair, chosen
from kdref.lab.models import make

TIMES = 4
PLANS = {
    str(pair): pair for student in STUDENTS for pair in (Pair(student, CROSS_ENTROPY), Pair(student, SOFT_TARGETS))
}
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    pair, choice = PLANS[arm], chosen(PLANS[arm])
    plan = STUDENTS[pair.student]
    longer = plan._replace(epochs=TIMES * plan.epochs)
    all_known = known(plan.task, plan.examples, seed)
    student = make(pair.student, shape=all_known.split.shape, seed=100 + seed)
    loss, also = LOGITS[pair.name].build(choice.setting)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, targets = batch
        return {"loss": loss(student(x), targets, y)}

    targets = all_known.activations["logits"]
    _train(step, student, targets, longer, all_known.split, seed, choice.decay, also)
    return {**_measured(student, all_known), "setting": choice.setting, "decay": choice.decay}
