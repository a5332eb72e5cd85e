"""What the pages under docs/ say is so: the table of lessons, the translation of weights, the stored accuracies."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import soft_targets
from kdref.lab.experiments import choose_side_by_side
from kdref.lab.experiments._choose import STUDENTS as PLANS
from kdref.lab.experiments.choose_side_by_side import MODES
from kdref.lab.training.seeds import compare
from tests.course.test_readme import NOTEBOOKS, links, read, table

ROOT = Path(__file__).resolve().parents[2]
LESSONS, WEIGHTS, BENCHMARKS = (
    (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("lessons", "weights", "benchmarks")
)
LOGITS, HINT, SIMKD, SP = "standardised logits", "hint (FitNets)", "reused classifier (SimKD)", "similarity (SP), alone"
LIBRARIES = ["torchdistill", "RepDistiller", "mdistiller", "KD_Lib", "TextBrewer", "TRL", "Liger-Kernel", "modelopt"]
LIBRARIES += ["torchtune", "Keras", "PyTorch tutorial"]


# Lessons --------------------------------------------------------------------------------------------------------------


def heart_of(stem: str) -> list[str]:
    """The heart files that name a lesson as theirs, as ``relation/rkd``."""
    paths = [path for path in sorted(ROOT.glob("kdref/**/[a-z]*.py")) if "lab" not in path.parts]
    files = [path for path in paths if f"notebooks/{stem}.ipynb" in path.read_text(encoding="utf-8")]
    return [path.relative_to(ROOT / "kdref").with_suffix("").as_posix() for path in files]


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_lesson_has_a_row_that_says_what_is_so(stem: str) -> None:
    rows = [row for row in table(LESSONS, "# The lessons in full") if row[0].startswith(stem[:2])]
    assert len(rows) == 1, f"lesson {stem} needs a row in docs/lessons.md"
    _, notebook, modules, tests, papers, minutes, helps = rows[0]
    assert links(notebook) == [f"../notebooks/{stem}.ipynb"]
    assert sorted(links(modules)) == sorted(f"../kdref/{name}.py" for name in heart_of(stem))
    wanted = [
        Path("../tests/heart", name).with_name(f"test_{Path(name).name}.py").as_posix() for name in heart_of(stem)
    ]
    assert set(wanted) <= set(links(tests))
    assert bool(links(papers)) == bool(heart_of(stem))
    assert minutes == str(read(NOTEBOOKS[stem])["metadata"]["kdref"]["minutes"])
    assert helps


def test_the_table_has_the_lessons_there_are() -> None:
    assert [row[0][:2] for row in table(LESSONS, "# The lessons in full")] == [stem[:2] for stem in NOTEBOOKS]


# Methods and their weights --------------------------------------------------------------------------------------------


ROWS = table(WEIGHTS, "# Weights: our convention, and everyone else's")


def test_the_table_names_every_library_once() -> None:
    assert [next((name for name in LIBRARIES if row[0].startswith(name)), row[0]) for row in ROWS] == LIBRARIES
    assert {len(row) for row in ROWS} == {6}


A, H, W, TAU = 0.3, 0.2, 0.6, 4.0


def kl(s: Tensor, t: Tensor, tau: float) -> Tensor:
    p, q = torch.softmax(t / tau, dim=1), torch.softmax(s / tau, dim=1)
    return (p * (p.log() - q.log())).sum() / len(s)


def cross_entropy(s: Tensor, t: Tensor, tau: float) -> Tensor:
    return -(torch.softmax(t / tau, dim=1) * torch.log_softmax(s / tau, dim=1)).sum(dim=1).mean()


def kl_div(s: Tensor, t: Tensor, tau: float, reduction: str) -> Tensor:
    return F.kl_div(torch.log_softmax(s / tau, dim=-1), torch.softmax(t / tau, dim=-1), reduction=reduction)


ce = F.cross_entropy
THEIRS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {  # what each library computes, written out
    "torchdistill": lambda s, t, y: A * ce(s, y) + (1 - A) * TAU**2 * kl_div(s, t, TAU, "batchmean"),
    "RepDistiller": lambda s, t, y: H * ce(s, y) + W * kl_div(s, t, TAU, "sum") * TAU**2 / len(s),
    "mdistiller": lambda s, t, y: H * ce(s, y) + W * kl_div(s, t, TAU, "none").sum(1).mean() * TAU**2,
    "KD_Lib": lambda s, t, y: (1 - W) * ce(s, y) + W * TAU**2 * kl(s, t, TAU),  # not theirs, but the paper's
    "TextBrewer": lambda s, t, y: W * cross_entropy(s, t, TAU) + H * ce(s, y),
    "TRL": lambda s, t, y: kl_div(s, t, TAU, "sum") / len(s),
    "Liger-Kernel": lambda s, t, y: H * ce(s, y) + W * kl_div(s, t, TAU, "none").sum(-1).sum() / len(s),
    "modelopt": lambda s, t, y: W * TAU**2 * kl_div(s, t, TAU, "batchmean") + (1 - W) * ce(s, y),
    "torchtune": lambda s, t, y: (1 - W) * ce(s, y) + W * cross_entropy(s, t, 1.0),
    "Keras": lambda s, t, y: A * ce(s, y) + (1 - A) * TAU**2 * kl(s, t, TAU),
    "PyTorch tutorial": lambda s, t, y: W * kl(s, t, TAU) * TAU**2 + H * ce(s, y),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_translation_gives_what_the_library_computes(library: str) -> None:
    (cell,) = [row[5] for row in ROWS if row[0].startswith(library)]
    (code,) = re.findall(r"`([^`]+)`", cell)
    generator = torch.Generator().manual_seed(0)
    s, t = (3 * torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    y = torch.randint(5, (6,), generator=generator)
    ours, theirs = s.clone().requires_grad_(), s.clone().requires_grad_()
    value = eval(code, {**vars(soft_targets), "CE": ce, "s": ours, "t": t, "y": y, "a": A, "h": H, "w": W, "τ": TAU})
    expected = THEIRS[library](theirs, t, y)
    if "same gradient" not in cell:
        torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


# Benchmarks -----------------------------------------------------------------------------------------------------------


def test_the_table_of_accuracies_is_that_of_the_stored_runs() -> None:
    assert f"\n\n{choose_side_by_side.all_tables()}\n\n" in BENCHMARKS


def test_the_page_says_what_four_times_the_epochs_gain_and_which_losses_still_help() -> None:
    text = " ".join(BENCHMARKS.split())
    said = {  # student: gains of soft targets and cross-entropy, and the arms that help against the former
        "cnn1d-8": ("3.2", "5.5", {"review (ReviewKD), alone", "review (ReviewKD), with soft targets", LOGITS}),
        "mlp-100x100": (None, "1.3", {f"{name}, {mode}" for name in (HINT, SIMKD) for mode in MODES} | {SP}),
        "cnn2d-8": ("7.6", None, {LOGITS, "correlation (DIST)", "overhaul (OFD), alone", f"{SIMKD}, {MODES[1]}"}),
    }
    for student, (*gains, helping) in said.items():
        runs = choose_side_by_side.longer(student)
        for name, gain in zip(("soft targets", "cross-entropy"), gains, strict=True):
            both = runs[runs["arm"].isin([name, f"{name}, longer"])]
            row = compare(both, baseline=name, metric="accuracy").loc[f"{name}, longer"]
            assert (row["verdict"] == "helps") == (gain is not None)
            assert gain is None or (
                f"{100 * row['difference']:.1f}" == gain and f"{gain} for" in text.replace(" points", "")
            )
        found = compare(runs, baseline="soft targets, longer", metric="accuracy")["verdict"]
        assert set(found[found == "helps"].index) == helping


def test_the_page_says_where_the_chosen_settings_lie_and_what_the_budgets_are() -> None:
    text, found = " ".join(BENCHMARKS.split()), choose_side_by_side.ends().loc["all"]
    assert (
        f"{found['inside']} of {found.sum()} chosen settings lie inside, {found['flat']} at an end that gains" in text
    )
    assert f"{found['border']} at a natural border" in text
    assert found["end"] == 0
    carried = [f"{value:.2f}" for value in choose_side_by_side.carried_over()["correlation"]]
    assert f"({carried[0]} and {carried[2]} of 28)" in text
    assert f"correlation {carried[1]} of 42 arms" in text
    shares = [f"{100 * share:.0f}" for share in choose_side_by_side.fitted().values()]
    assert f"labels alone fit {shares[0]}, {shares[1]} and {shares[2]} % of the students' examples" in text
    short = {name: (plan.examples, plan.epochs) for name, plan in PLANS.items()}
    assert short == {"cnn1d-8": (500, 120), "mlp-100x100": (500, 40), "cnn2d-8": (200, 80)}, "then the text is another"
