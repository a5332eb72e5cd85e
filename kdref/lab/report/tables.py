"""Tables, intervals and verdicts as a lesson shows them. Lesson: notebooks/01_soft_targets.ipynb."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from kdref.lab.course.source import display_as

__all__ = ["comparison", "interval", "table", "tally", "verdict", "verdicts"]

ALL_SEEDS = "all seeds"  # the column of ``verdicts`` that counts


def table(
    frame: pd.DataFrame,
    *,
    caption: str | None = None,
    percent: Sequence[str] = (),
    decimals: int = 3,
) -> None:
    """Display a frame as a plain, legible table: numbers to the right, whole numbers without decimals.

    Args:
        frame: What to show. Its index becomes the first column, unless it only counts the rows.
        caption: A line above the table.
        percent: Names of columns that hold fractions, to be shown in per cent with one decimal.
        decimals: Of all other fractional numbers.

    Raises:
        ValueError: If ``percent`` names a column that isn't there.
    """
    missing = [name for name in percent if name not in frame.columns]
    if missing:
        raise ValueError(f"no columns {missing} to show in per cent: there are {list(frame.columns)}")
    shown = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
    numeric = [pd.api.types.is_numeric_dtype(shown[name]) for name in shown.columns]
    rows = [[str(name) for name in shown.columns], ["---:" if number else ":---" for number in numeric]]
    for row in shown.astype(object).itertuples(index=False):  # as objects, or a row of numbers becomes all floats
        rows.append([_cell(v, n in percent, decimals) for n, v in zip(shown.columns, row, strict=True)])
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    text = "\n".join([f"**{caption}**\n", *lines] if caption else lines)
    display_as({"text/markdown": text, "text/plain": text})


def comparison(
    result: pd.DataFrame,
    *,
    metric: str = "accuracy",
    caption: str | None = None,
    percent: bool = True,
) -> None:
    """Display what ``lab.compare`` returned: mean, paired difference with its interval, and verdict of each arm.

    Args:
        result: From ``lab.compare``.
        metric: What was compared: the heading of the column of means.
        caption: A line above the table. It also says so where the intervals are widened for the number of arms.
        percent: The metric is a fraction, to be shown in per cent, its differences in points.
    """
    shown = pd.DataFrame({"arm": list(result.index), metric: list(result["mean"])})
    shown[f"difference{', points' if percent else ''} [95 % interval]"] = [
        "" if row["verdict"] == "baseline" else _bracket(row["difference"], row["low"], row["high"], percent, "+")
        for _, row in result.iterrows()
    ]
    shown["seeds"] = list(result["seeds"])
    shown["verdict"] = list(result["verdict"])
    caption = "; ".join(part for part in (caption, widened(result)) if part)
    table(shown, caption=caption or None, percent=[metric] if percent else [])


def widened(result: pd.DataFrame) -> str:
    """Say for how many comparisons the intervals of ``lab.compare`` are widened; nothing where they are not."""
    comparisons = int(result["comparisons"].max()) if "comparisons" in result else 1
    return f"intervals widened for {comparisons} comparisons" if comparisons > 1 else ""


def interval(mean: float, low: float, high: float, *, percent: bool = True) -> str:
    """Write a mean and its 95 % interval.

    Args:
        mean: The mean.
        low: The interval's lower end.
        high: Its upper end.
        percent: The values are fractions, to be shown in per cent.

    Example:
        >>> interval(0.705, 0.701, 0.709)
        '70.5 % [70.1, 70.9]'
        >>> interval(1.25, 1.2, 1.3, percent=False)
        '1.250 [1.200, 1.300]'
    """
    return _bracket(mean, low, high, percent, "", " %" if percent else "")


def verdict(result: pd.DataFrame, arm: str) -> str:
    """The verdict on one arm of ``lab.compare``'s result, without any number that differs between machines.

    Args:
        result: From ``lab.compare``.
        arm: The arm's name.

    Example:
        >>> verdict(pd.DataFrame({"verdict": ["helps"]}, index=["soft targets"]), "soft targets")
        'soft targets: helps'
    """
    return f"{arm}: {result.loc[arm, 'verdict']}"


def verdicts(
    runs: pd.DataFrame, *, baseline: str, metric: str = "accuracy", higher_is_better: bool = True
) -> pd.DataFrame:
    """The verdict on every arm over all seeds, and beside it those of each group of seeds by itself.

    What may be claimed is in the last column: all seeds, paired, and as ``lab.compare`` does it, with intervals widened
    for more than five arms. A group has a third of the seeds, so it is often undecided where the whole is not; it is
    there to be looked at, as it is. None may say the opposite. (Of many arms one group does so by luck: with more than
    five arms it counts as the opposite if it stands with intervals that are widened too.)

    Args:
        runs: Stored runs. Seeds 0 to 7 make a group, 1000 to 1007 another, and so on.
        baseline: The arm that the others are compared with.
        metric: The column to compare.
        higher_is_better: False for a loss or an error.

    Returns:
        One row per arm but the baseline, in the order of the runs; one column per group, named after its seeds, and
        "all seeds".

    Raises:
        ValueError: If an arm helps in one group of seeds and hurts in another, or over all: then nothing holds.
    """
    from kdref.lab.training.seeds import compare

    how: dict[str, Any] = {"baseline": baseline, "metric": metric, "higher_is_better": higher_is_better}
    shown, judged = {}, {}
    for _, group in runs.groupby(runs["seed"] // 1000):
        name = f"seeds {group['seed'].min()} to {group['seed'].max()}"
        shown[name] = compare(group, corrected=False, **how)["verdict"]
        judged[name] = compare(group, **how)["verdict"]
    shown[ALL_SEEDS] = judged[ALL_SEEDS] = compare(runs, **how)["verdict"]
    for arm, row in pd.DataFrame(judged).iterrows():
        sides = {word: [name for name, said in row.items() if said == word] for word in ("helps", "hurts")}
        if all(sides.values()):
            found = " and ".join(f"{word} for {', '.join(names)}" for word, names in sides.items())
            raise ValueError(
                f"{arm!r} against {baseline!r}, {metric}: {found}. The opposite of what another group says"
            )
    arms = [arm for arm in dict.fromkeys(runs["arm"]) if arm != baseline]
    return pd.DataFrame(shown).loc[arms].rename_axis("arm")


def tally(found: pd.DataFrame) -> pd.Series:
    """Count the verdicts of each arm over the groups of seeds, in a few words.

    Args:
        found: From ``verdicts``; its column for all seeds is not counted.

    Example:
        >>> tally(pd.DataFrame({"seeds 0 to 7": ["helps"], "seeds 1000 to 1007": ["helps"]}, index=["a"]))["a"]
        'helps ×2'
    """
    groups = found.drop(columns=ALL_SEEDS, errors="ignore")
    words = {arm: row.value_counts(sort=False) for arm, row in groups.iterrows()}
    return pd.Series(
        {arm: ", ".join(f"{word} ×{n}" if n > 1 else word for word, n in w.items()) for arm, w in words.items()}
    )


def _bracket(mean: float, low: float, high: float, percent: bool, sign: str = "", unit: str = "") -> str:
    scale, decimals = (100, 1) if percent else (1, 3)
    middle, left, right = (f"{round(scale * value, decimals) + 0.0:{sign}.{decimals}f}" for value in (mean, low, high))
    return f"{middle}{unit} [{left}, {right}]"


def _number(value: float, percent: bool, decimals: int = 3) -> str:
    if math.isnan(value):
        return "-"
    return f"{round(100 * value, 1) + 0.0:.1f} %" if percent else f"{round(value, decimals) + 0.0:.{decimals}f}"


def _cell(value: Any, percent: bool, decimals: int) -> str:
    if not isinstance(value, float):  # NumPy's floats are floats too
        return str(value)
    return _number(value, percent, decimals)
