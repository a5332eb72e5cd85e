"""Every loss of lessons 01 to 05 side by side, from the stored runs of ``few_labels``.

``python -m kdref.lab.experiments.relation_side_by_side`` prints the table of docs/benchmarks.md.

Lesson: notebooks/05_relation_based.ipynb.
"""

from typing import TYPE_CHECKING

from kdref.lab.experiments._inside import MODES, STUDENTS
from kdref.lab.experiments._response import METHODS as LOGITS
from kdref.lab.experiments._sites import FEATURES, RELATIONS
from kdref.lab.experiments.store import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = [
    "ATTENTION",
    "BASELINES",
    "MODES",
    "STUDENTS",
    "arms_of",
    "both_tables",
    "columns",
    "figure",
    "kinds",
    "runs",
    "verdicts_of",
]

BASELINES = ("cross-entropy", "soft targets")  # no distillation, plain distillation: both tuned
ATTENTION = "attention (AT)"
SIGNS = {"helps": "↑", "hurts": "↓"}


def kinds() -> dict[str, str]:
    """Each method's kind, in the order of the lessons: logits, features, attention, relations."""
    inside = {name: "attention" if name == ATTENTION else "features" for name in FEATURES}
    return {**dict.fromkeys(LOGITS, "logits"), **inside, **dict.fromkeys(RELATIONS, "relations")}


def runs(student: str) -> "DataFrame":
    """Stored runs of one student, whose arms are "method" for logits and "method, mode" for the others."""
    found = load("relation_few_labels")
    parts = found["arm"].str.split(" | ", regex=False)
    mine = found[parts.str[0] == student]
    arms = [method if method in LOGITS else f"{method}, {mode}" for _, method, mode in parts[mine.index]]
    return mine.assign(arm=arms)


def verdicts_of(student: str, baseline: str) -> dict[str, str]:
    """The verdict of each arm against one of ``BASELINES``, over all seeds; raises where two groups contradict."""
    from kdref.lab.report.tables import ALL_SEEDS, verdicts

    return {str(arm): str(found) for arm, found in verdicts(runs(student), baseline=baseline)[ALL_SEEDS].items()}


def columns(student: str) -> "DataFrame":
    """The student's table: for each method and mode its accuracy, and the verdicts against both baselines.

    ``↑`` or ``↓``: helps or hurts over all seeds, with intervals widened for the number of arms. Left of the stroke
    against cross-entropy, right of it against soft targets; ``·``: undecided, or no useful difference.
    """
    import pandas as pd

    accuracy = runs(student).groupby("arm")["accuracy"].mean()
    marks = {
        baseline: {baseline: "=", **{arm: SIGNS.get(said, "·") for arm, said in verdicts_of(student, baseline).items()}}
        for baseline in BASELINES
    }
    rows = {}
    for method in kinds():
        rows[method] = {
            mode: f"{100 * accuracy[arm]:.1f} % {'/'.join(marks[baseline][arm] for baseline in BASELINES)}"
            for mode, arm in arms_of(method).items()
            if arm in accuracy.index
        }
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(MODES)).fillna("-").rename_axis("loss")


def arms_of(method: str) -> dict[str, str]:
    """A method's arms by mode: losses on logits have one, they meet the labels and nothing else."""
    return {"alone": method} if kinds()[method] == "logits" else {mode: f"{method}, {mode}" for mode in MODES}


def figure() -> "Figure":
    """Each method's difference from cross-entropy over all seeds, with its interval: a panel for each student."""
    from kdref.lab.report.style import COLORS, MARKERS, new_figure
    from kdref.lab.report.tables import widened
    from kdref.lab.training.seeds import compare

    names = list(kinds())[1:]  # cross-entropy is what all are compared with
    looks = dict(zip(MODES, zip(COLORS, MARKERS, (-0.17, 0.17), strict=False), strict=True))
    with new_figure(11, 0.29 * len(names) + 1.6, columns=len(STUDENTS)) as (drawn, axes):
        for ax, (student, family) in zip(axes, STUDENTS.items(), strict=True):
            compared = compare(runs(student), baseline="cross-entropy", metric="accuracy")
            result = 100 * compared[["difference", "low", "high"]]
            ax.axvline(0, color="#555555", lw=1.5)
            ax.axvline(result.loc["soft targets", "difference"], color="#555555", ls=":", label="soft targets")
            for place, name in enumerate(names):
                arms = {mode: arm for mode, arm in arms_of(name).items() if arm in result.index}
                for mode, arm in arms.items():
                    color, marker, shift = looks[mode]
                    difference, low, high = result.loc[arm]
                    error = [[difference - low], [high - difference]]
                    y = place + shift * (len(arms) - 1)
                    ax.errorbar(difference, y, xerr=error, color=color, marker=marker, ms=5, lw=1.6)
            for mode, (color, marker, _) in looks.items():
                ax.plot([], [], color=color, marker=marker, label=mode)
            label = "\n".join(filter(None, ("points against cross-entropy", widened(compared))))
            ax.set(title=f"{student}, {family}", xlabel=label, ylim=(len(names) - 0.4, -0.6))
            ax.set_yticks(range(len(names)), names if ax is axes[0] else [])
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawn


def both_tables() -> str:
    """Both students' tables in one, as docs/benchmarks.md has it."""
    shown = {student: columns(student) for student in STUDENTS}
    heads = [f"`{student}` ({STUDENTS[student]}), {mode}" for student in STUDENTS for mode in MODES]
    lines = ["| loss | kind | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(heads)]
    for method, kind in kinds().items():
        cells = [shown[student].loc[method, mode] for student in STUDENTS for mode in MODES]
        lines.append(f"| {method} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(both_tables())
