"""Every loss of lessons 01 to 05 side by side, from the stored runs of ``choose_signals`` and ``choose_images``.

``python -m kdref.lab.experiments.choose_side_by_side`` prints the table of docs/benchmarks.md.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

import itertools
from typing import TYPE_CHECKING

from kdref.lab.experiments._choose import MODES
from kdref.lab.experiments._choose import STUDENTS as PLANS
from kdref.lab.experiments._choose_features import METHODS as FEATURES
from kdref.lab.experiments._choose_grids import WHERE
from kdref.lab.experiments._choose_relations import METHODS as RELATIONS
from kdref.lab.experiments._response import METHODS as LOGITS
from kdref.lab.experiments.choose_tuning import PAIRS, Pair, chosen, searched, stored_means
from kdref.lab.experiments.store import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = [
    "ATTENTION",
    "BASELINES",
    "MODES",
    "STUDENTS",
    "all_tables",
    "arms_of",
    "carried_over",
    "columns",
    "ends",
    "figure",
    "fitted",
    "helping",
    "kinds",
    "longer",
    "runs",
    "settings",
    "verdicts_of",
]

STUDENTS = {name: f"{plan.task}, {plan.family}" for name, plan in PLANS.items()}  # each is a setting of the benchmark
BASELINES = ("cross-entropy", "soft targets")  # no distillation, plain distillation: both tuned
ATTENTION = "attention (AT)"
SIGNS = {"helps": "↑", "hurts": "↓"}


def kinds() -> dict[str, str]:
    """Each method's kind, in the order of the lessons: logits, features, attention, relations."""
    inside = {name: "attention" if name == ATTENTION else "features" for name in FEATURES}
    return {**dict.fromkeys(LOGITS, "logits"), **inside, **dict.fromkeys(RELATIONS, "relations")}


def runs(student: str) -> "DataFrame":
    """Stored runs of one student, whose arms are "method" for logits and "method, mode" for the others."""
    names = {str(pair): _arm(pair) for pair in PAIRS if pair.student == student}
    found = load(f"choose_{PLANS[student].task}")
    mine = found[found["arm"].isin(list(names))]
    return mine.assign(arm=mine["arm"].map(names)).reset_index(drop=True)


def arms_of(method: str) -> dict[str, str]:
    """A method's arms by mode: losses on logits have one, they meet the labels and nothing else."""
    modes = MODES[:1] if kinds()[method] == "logits" else MODES
    return {mode: _arm(Pair("", method, mode)) for mode in modes}


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


def helping(baseline: str = "soft targets") -> "DataFrame":
    """In how many of the settings, and of how many that it fits, each arm helps or hurts against a baseline.

    One row per arm, the most helpful first: ``helps``, ``hurts``, ``settings``, and a column per student with the
    verdict, "-" where the loss does not fit it.
    """
    import pandas as pd

    found = pd.DataFrame({student: verdicts_of(student, baseline) for student in STUDENTS})
    order = [arm for method in kinds() for arm in arms_of(method).values() if arm in found.index]
    found = found.loc[order]
    counts = pd.DataFrame({word: (found == word).sum(axis=1) for word in SIGNS})
    counts["settings"] = found.notna().sum(axis=1)
    whole = counts.join(found.fillna("-")).rename_axis("arm")
    return whole.sort_values(["helps", "hurts"], ascending=[False, True], kind="stable")


def carried_over(baseline: str = "cross-entropy") -> "DataFrame":
    """Whether one setting's ranking is another's: Spearman's correlation of the mean differences from a baseline.

    One row per pair of settings: over all arms that both have (``arms``), the baseline left out, its ``correlation``.
    """
    import pandas as pd

    means = {student: runs(student).groupby("arm")["accuracy"].mean() for student in STUDENTS}
    rows = {}
    for one, other in itertools.combinations(STUDENTS, 2):
        both = pd.DataFrame({one: means[one], other: means[other]}).dropna().drop(index=baseline)
        ranks = both.rank()  # a baseline taken off all of them leaves their order as it is
        rows[f"{one} and {other}"] = {"arms": len(both), "correlation": ranks[one].corr(ranks[other])}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("settings").astype({"arms": int})


def ends() -> "DataFrame":
    """Where the chosen settings lie, a row per student and one for all: how many inside, flat, border and end.

    Inside: among those tried, both neighbours are worse. Flat: at an end whose last step gained less than half a point.
    Border: at an end beyond which there is nothing, such as weight decay 0. End: the list was too short.
    """
    import pandas as pd

    means, rows = stored_means(), {}
    for student in STUDENTS:
        found = [climb.where for pair in PAIRS if pair.student == student for climb in searched(pair, means).climbs]
        rows[student] = {where: found.count(where) for where in WHERE}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(WHERE)).rename_axis("student")
    table.loc["all"] = table.sum()
    return table


def fitted() -> dict[str, float]:
    """Share of its examples that each student fits by cross-entropy without weight decay: whether the budget is enough.

    From the tuning's runs; the mean over its seeds.
    """
    stored = load("choose_tuning").groupby("arm")["training_accuracy"].mean()
    return {student: float(stored[f"{Pair(student, 'cross-entropy')} | 0 | 0"]) for student in STUDENTS}


def longer(student: str) -> "DataFrame":
    """As ``runs``, with both baselines at four times the epochs beside the others: "soft targets, longer" and so on."""
    import pandas as pd

    names = {str(Pair(student, name)): f"{name}, longer" for name in BASELINES}
    found = load("choose_longer")
    mine = found[found["arm"].isin(list(names))]
    return pd.concat([runs(student), mine.assign(arm=mine["arm"].map(names))], ignore_index=True)


def settings(student: str) -> "DataFrame":
    """What was chosen for each of a student's arms: its own ``setting`` and its weight ``decay``."""
    import pandas as pd

    found = {_arm(pair): chosen(pair)._asdict() for pair in PAIRS if pair.student == student}
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("arm")


def figure() -> "Figure":
    """Each method's difference from cross-entropy over all seeds, with its interval: a panel for each student."""
    from kdref.lab.report.style import COLORS, MARKERS, new_figure
    from kdref.lab.report.tables import widened
    from kdref.lab.training.seeds import compare

    names = list(kinds())[1:]  # cross-entropy is what all are compared with
    looks = dict(zip(MODES, zip(COLORS, MARKERS, (-0.17, 0.17), strict=False), strict=True))
    with new_figure(13, 0.29 * len(names) + 1.6, columns=len(STUDENTS)) as (drawn, axes):
        for ax, (student, setting) in zip(axes, STUDENTS.items(), strict=True):
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
            ax.set(title=f"{student}\n{setting}", xlabel=label, ylim=(len(names) - 0.4, -0.6))
            ax.set_yticks(range(len(names)), names if ax is axes[0] else [])
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return drawn


def all_tables() -> str:
    """All students' tables in one, as docs/benchmarks.md has it."""
    shown = {student: columns(student) for student in STUDENTS}
    heads = [f"`{student}` ({STUDENTS[student]}), {mode}" for student in STUDENTS for mode in MODES]
    lines = ["| loss | kind | " + " | ".join(heads) + " |", "|---|---|" + "---|" * len(heads)]
    for method, kind in kinds().items():
        cells = [shown[student].loc[method, mode] for student in STUDENTS for mode in MODES]
        lines.append(f"| {method} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _arm(pair: Pair) -> str:
    return pair.name if pair.name in LOGITS else f"{pair.name}, {pair.mode}"


if __name__ == "__main__":
    print(all_tables())
