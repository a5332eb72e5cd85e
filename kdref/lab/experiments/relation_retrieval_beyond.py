"""Smaller temperatures for the two contrastive losses, on four more seeds, and the settings that every loss gets.

``relation_retrieval_tuning`` has two seeds, which differ by more than its rates do; so the rate is one for all losses,
the best on their mean, and both temperatures are tried anew where they came out at an end. Signals and seeds that no
report uses. Lesson: notebooks/05_relation_based.ipynb.
"""

import functools

from kdref.lab.experiments import relation_retrieval_tuning
from kdref.lab.experiments._relation_retrieval import LOSSES, Settings, taught
from kdref.lab.experiments.store import load

SEEDS = (5002, 5003, 5004, 5005)
TEMPERATURES = (0.0125, 0.025, 0.05, 0.1, 0.2)
PLANS = {
    f"{name} | temperature {temperature:g}": (name, Settings(temperature=temperature))
    for name in relation_retrieval_tuning.CONTRASTIVE
    for temperature in TEMPERATURES
}
ARMS = tuple(PLANS)


def run(seed: int, arm: str) -> dict[str, float]:
    name, settings = PLANS[arm]
    return taught(name, settings, seed=seed, tuning=True)


@functools.cache
def rates() -> dict[float, float]:
    """Recall on new classes by rate, the mean over all losses."""
    stored = load("relation_retrieval_tuning").groupby("arm")["accuracy"].mean()
    plans = [relation_retrieval_tuning.tried(name, "rate") for name in LOSSES]
    values = relation_retrieval_tuning.TRIED["rate"]
    by_rate = {
        rate: [float(stored[arm]) for plan in plans for arm, s in plan.items() if s.rate == rate] for rate in values
    }
    return {rate: sum(found) / len(found) for rate, found in by_rate.items()}


@functools.cache
def given(name: str) -> Settings:
    """The rate that is best for all, and the loss's own best temperature."""
    best = Settings(rate=max(rates(), key=lambda rate: rates()[rate]))
    plans = {arm: settings for arm, (other, settings) in PLANS.items() if other == name}
    if not plans:
        return best
    mean = load("relation_retrieval_beyond").groupby("arm")["accuracy"].mean()
    return best._replace(temperature=plans[max(plans, key=lambda arm: float(mean[arm]))].temperature)
