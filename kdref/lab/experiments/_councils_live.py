"""What lesson 06 makes of its stored councils: runs at two budgets, and one way to compare them at both.

Lesson: notebooks/06_multi_teacher.ipynb.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from kdref.lab.experiments import store
from kdref.lab.experiments._councils import EPOCHS
from kdref.lab.report.tables import ALL_SEEDS, verdicts
from kdref.lab.training.seeds import compare

LONGER = 4 * EPOCHS


def by_budget() -> dict[int, pd.DataFrame]:
    """Stored runs of the councils by their epochs, 10 and 40; an arm has one name at both."""
    both = [store.load(name) for name in ("multi_teacher_councils", "multi_teacher_longer")]
    runs = pd.concat(both, ignore_index=True)
    longer = runs["arm"].str.endswith(", longer")
    named = runs[longer].assign(arm=runs["arm"].str.removesuffix(", longer"))
    return {EPOCHS: runs[~longer], LONGER: named}


def against(
    baseline: str, arms: Sequence[str], *, runs: Mapping[int, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare arms with a baseline.

    Args:
        baseline: An arm.
        arms: The others; with more than five, intervals are widened.
        runs: From ``by_budget``.

    Returns:
        The differences after 40 epochs; and the verdicts, after 40 epochs by group of seeds and over all seeds, after
        10 over all where that was run.
    """
    early, late = (found[found["arm"].isin([baseline, *arms])] for found in (runs[EPOCHS], runs[LONGER]))
    said = verdicts(late, baseline=baseline)
    if set(early["arm"]) == {baseline, *arms}:
        said[f"{EPOCHS} epochs"] = verdicts(early, baseline=baseline)[ALL_SEEDS]
    return compare(late, baseline=baseline, metric="accuracy").loc[[baseline, *arms]], said.loc[[*arms]]
