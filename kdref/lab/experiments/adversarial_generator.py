"""One generator in the plane, two ways to teach it: by matching scores, and against a discriminator; with controls.

Rates were chosen by ``adversarial_generator_tuning`` before these runs. Lesson: notebooks/09_adversarial.ipynb.
"""

from kdref.lab.experiments._adversarial_generator import LEAST_LEVEL, Plan, played
from kdref.lab.experiments.adversarial_generator_tuning import chosen

ARMS = (
    "distribution matching",
    "distribution matching, little noise",
    "adversarial",
    "adversarial, saturating",
    "adversarial, too strong",
)


def plan(arm: str) -> Plan:
    """What an arm does; a control has its way's rate and one thing changed."""
    matching = Plan(adversarial=False, rate=chosen("distribution matching"))
    adversarial = Plan(adversarial=True, rate=chosen("adversarial"))
    plans = {
        "distribution matching": matching,
        "distribution matching, little noise": matching._replace(levels=(LEAST_LEVEL, LEAST_LEVEL)),
        "adversarial": adversarial,
        "adversarial, saturating": adversarial._replace(saturating=True),
        "adversarial, too strong": adversarial._replace(discriminator_speed=10.0),
    }
    return plans[arm]


def run(seed: int, arm: str) -> dict[str, float]:
    return played(plan(arm), seed)
