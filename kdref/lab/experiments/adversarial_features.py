"""A discriminator on the last features beside soft targets and hints, with controls, on MNIST-1D with few labels.

Settings were chosen by ``adversarial_features_tuning`` before these runs. Lesson: notebooks/09_adversarial.ipynb.
"""

from kdref.lab.experiments._adversarial_features import Plan, played
from kdref.lab.experiments.adversarial_features_tuning import against, chosen

ARMS = (
    "labels",
    "soft targets",
    "soft targets, weight decay",
    "soft targets, longer",
    "hints",
    "hints, shuffled",
    "discriminator",
    "discriminator, never trained",
    "discriminator, too strong",
    "discriminator, no regulariser",
    "discriminator, shuffled",
    "discriminator, untrained teacher",
)


def plan(arm: str) -> Plan:
    """What an arm does; hints and discriminators come on top of soft targets."""
    soft = Plan(temperature=chosen("soft targets | temperature"))
    hints = soft._replace(hint_weight=chosen("hints | weight"))
    adversarial = against(**{name: chosen(f"discriminator | {name}") for name in ("weight", "rate", "decay")})
    plans = {
        "labels": Plan(labels=True, decay=chosen("labels | weight decay")),
        "soft targets": soft,
        "soft targets, weight decay": soft._replace(decay=0.3),  # the best in tuning, but for none at all
        "soft targets, longer": soft._replace(longer=3),  # more seconds than the discriminator's arm
        "hints": hints,
        "hints, shuffled": hints._replace(features="shuffled"),
        "discriminator": adversarial,
        "discriminator, never trained": adversarial._replace(discriminator_steps=0),
        "discriminator, too strong": adversarial._replace(
            discriminator_steps=5, discriminator_rate=0.01, discriminator_decay=0.0
        ),
        "discriminator, no regulariser": adversarial._replace(discriminator_decay=0.0),
        "discriminator, shuffled": adversarial._replace(features="shuffled"),
        "discriminator, untrained teacher": adversarial._replace(features="untrained"),
    }
    return plans[arm]


def run(seed: int, arm: str) -> dict[str, float]:
    return played(plan(arm), seed)
