"""Every loss of lessons 01 to 05 side by side, from the stored runs of ``few_labels``.

``python -m kdref.lab.experiments.side_by_side`` prints the README's table. Lesson: notebooks/05_relation_based.ipynb.
"""

from typing import TYPE_CHECKING

from kdref.lab.experiments._inside import MODES, STUDENTS
from kdref.lab.experiments._losses import METHODS as LOGITS
from kdref.lab.experiments._sites import FEATURES, RELATIONS
from kdref.lab.experiments.store import load

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ATTENTION", "BASELINES", "columns", "kinds", "readme_table", "runs"]

BASELINES = ("cross-entropy", "soft targets")  # no distillation, plain distillation: both tuned
ATTENTION = "attention (AT)"


def kinds() -> dict[str, str]:
    """Each method's kind, in the order of the lessons: logits, features, attention, relations."""
    inside = {name: "attention" if name == ATTENTION else "features" for name in FEATURES}
    return {**dict.fromkeys(LOGITS, "logits"), **inside, **dict.fromkeys(RELATIONS, "relations")}


def runs(student: str) -> "DataFrame":
    """Stored runs of one student, whose arms are "method" for logits and "method, mode" for the others."""
    found = load("few_labels")
    parts = found["arm"].str.split(" | ", regex=False)
    mine = found[parts.str[0] == student]
    arms = [method if method in LOGITS else f"{method}, {mode}" for _, method, mode in parts[mine.index]]
    return mine.assign(arm=arms)


def columns(student: str) -> "DataFrame":
    """The student's table: for each method and mode its accuracy, and the verdicts against both baselines.

    ``↑`` or ``↓``: helps or hurts in every group of eight seeds. Left of the stroke against cross-entropy, right of it
    against soft targets; ``·``: no verdict that all groups share.
    """
    import pandas as pd

    from kdref.lab.report import verdicts

    stored = runs(student)
    accuracy = stored.groupby("arm")["accuracy"].mean()
    marks = {baseline: _marks(verdicts(stored, baseline=baseline)) for baseline in BASELINES}
    rows = {}
    for method, kind in kinds().items():
        arms = {"alone": method} if kind == "logits" else {mode: f"{method}, {mode}" for mode in MODES}
        rows[method] = {
            mode: f"{100 * accuracy[arm]:.1f} % {marks['cross-entropy'].get(arm, '=')}/"
            f"{marks['soft targets'].get(arm, '=')}"
            for mode, arm in arms.items()
            if arm in accuracy.index
        }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(MODES)).fillna("-").rename_axis("loss")


def _marks(found: "DataFrame") -> dict[str, str]:
    signs = {"helps": "↑", "hurts": "↓"}
    return {arm: signs.get(row.iloc[0], "·") if row.nunique() == 1 else "·" for arm, row in found.iterrows()}


def readme_table() -> str:
    """Both students' tables in one, as the README has it."""
    shown = {student: columns(student) for student in STUDENTS}
    heads = [f"`{student}` ({STUDENTS[student]}), {mode}" for student in STUDENTS for mode in MODES]
    lines = ["| loss | kind | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(heads)]
    for method, kind in kinds().items():
        cells = [shown[student].loc[method, mode] for student in STUDENTS for mode in MODES]
        lines.append(f"| {method} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(readme_table())
