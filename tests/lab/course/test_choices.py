"""The table of recommendations says what the stored runs, the lessons and the heart say today."""

import itertools
import re
from pathlib import Path

import pytest

from kdref.lab.course.choices import (
    CHOICES,
    KINDS,
    QUESTIONS,
    Choice,
    Evidence,
    case_of,
    command,
    compared,
    conditions,
    fitting,
    rows,
    said,
    sentence,
)
from kdref.lab.course.choices.cases import ADVICE, CASES
from kdref.lab.course.copying import copy
from kdref.lab.exercises import lesson_18

ROOT = Path(__file__).resolve().parents[3]
EVIDENCE = [evidence for choice in CHOICES for evidence in choice.evidence]


def name(choice: Choice) -> str:
    return f"{choice.lesson} {choice.advice[:40]}"


# What each line says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", EVIDENCE, ids=lambda e: f"{e.experiment} {e.arm}")
def test_the_stored_runs_bear_the_verdict_out(evidence: Evidence) -> None:
    found = compared(evidence)
    assert found["verdict"] == evidence.verdict
    assert found["low"] < found["difference"] < found["high"]
    assert found["seeds"] >= 5
    assert sentence(evidence).endswith(f"{found['seeds']} seeds: {evidence.verdict}")


@pytest.mark.parametrize("choice", CHOICES, ids=name)
def test_what_is_recommended_can_be_copied(choice: Choice, tmp_path: Path) -> None:
    written = copy(choice.copy, to=tmp_path)
    assert written
    assert command(choice) == f"python -m kdref copy {choice.copy}"


@pytest.mark.parametrize("choice", CHOICES, ids=name)
def test_its_lesson_is_there_and_tells_of_it(choice: Choice) -> None:
    (lesson,) = ROOT.glob(f"notebooks/src/{choice.lesson}_*.py")
    text = lesson.read_text(encoding="utf-8")
    for experiment in {part for evidence in choice.evidence for part in evidence.experiment.split(" + ")}:
        used = [path.name for path in ROOT.glob("notebooks/src/*.py") if experiment in path.read_text(encoding="utf-8")]
        assert used, f"no lesson loads {experiment}"
    assert "When to use" in text


@pytest.mark.parametrize("choice", CHOICES, ids=name)
def test_it_has_evidence_or_says_why_not(choice: Choice) -> None:
    assert choice.kind in KINDS
    assert bool(choice.evidence) != bool(choice.without)
    assert said(choice).startswith("no evidence here: ") == bool(choice.without)
    assert all(set(wanted) <= set(QUESTIONS[key].answers) and wanted for key, wanted in choice.when.items())
    assert choice.when


def test_a_start_is_not_advised_on_the_strength_of_a_harm() -> None:
    for choice in CHOICES:
        verdicts = [evidence.verdict for evidence in choice.evidence]
        if choice.kind == "start" and verdicts:
            assert verdicts[0] == "helps", choice.advice


# Which ones fit -------------------------------------------------------------------------------------------------------


def test_every_answer_makes_a_difference() -> None:
    for key, question in QUESTIONS.items():
        for answer in question.answers:
            others = [tuple(choice for choice in CHOICES if answer in choice.when.get(key, question.answers))]
            others += [
                tuple(choice for choice in CHOICES if other in choice.when.get(key, question.answers))
                for other in question.answers
                if other != answer
            ]
            assert others[0] not in others[1:], f"{key}: {answer} is nowhere told from another answer"


def test_a_choice_fits_its_own_conditions_and_no_case_that_breaks_one() -> None:
    for choice in CHOICES:
        case = case_of(**{key: wanted[0] for key, wanted in choice.when.items()})
        assert choice in fitting(CHOICES, case)
        for key, wanted in choice.when.items():
            for answer in set(QUESTIONS[key].answers) - set(wanted):
                assert choice not in fitting(CHOICES, case | {key: answer})


def test_what_fits_comes_in_the_order_of_the_headings() -> None:
    keys = ("gives", "labels", "harm")
    for answers in itertools.product(*(QUESTIONS[key].answers for key in keys)):
        kinds = [choice.kind for choice in fitting(CHOICES, case_of(**dict(zip(keys, answers, strict=True))))]
        assert kinds == sorted(kinds, key=list(KINDS).index)


def test_known_cases() -> None:
    def lessons(**answers: str) -> list[tuple[str, str]]:
        return [(choice.kind, choice.copy) for choice in fitting(CHOICES, case_of(**answers))]

    assert lessons()[0] == ("start", "distillation_loss")
    small = lessons(student="is too small for them")
    assert ("start", "distillation_loss") not in small
    assert ("beware", "distillation_loss") in small
    assert lessons(labels="none", inputs="many")[0] == ("start", "soft_target_loss")
    assert lessons(teachers="none")[0] == ("start", "label_smoothing_loss")
    assert lessons(gives="embeddings only", task="embeddings")[0] == ("start", "relation")
    assert lessons(inputs="no data at all")[0] == ("start", "data_free")
    assert lessons(task="text", gives="answers or text only")[0] == ("start", "rejection_sample")
    assert ("then", "likelihood_matching_loss") in lessons(task="text", tokeniser="different")
    assert ("beware", "universal_logit_loss") in lessons(task="text", tokeniser="different")
    assert ("then", "likelihood_matching_loss") not in lessons(task="text", tokeniser="the same")
    assert ("then", "hint_loss") in lessons(labels="few", family="two families")
    assert ("then", "response.standardized") in lessons(labels="few")
    assert ("then", "response.standardized") not in lessons(labels="few", family="two families")
    assert ("measure", "provenance.watermark") in lessons(harm="a broken licence")


# Words ----------------------------------------------------------------------------------------------------------------


def test_conditions_leave_out_what_holds_at_rest() -> None:
    plain = Choice("start", "a", {"task": ("classes",)}, "01", "soft_targets", without="b")
    assert conditions(plain) == "the plain case"
    few = plain._replace(when={"task": ("classes",), "labels": ("few", "none"), "teachers": ("several",)})
    assert conditions(few) == "labels: few or none; teachers: several"


def test_the_table_has_a_row_for_each() -> None:
    table = rows(CHOICES[:3])
    assert list(table.columns) == ["if", "do", "evidence", "lesson", "copy"]
    assert list(table["do"]) == [f"**{KINDS[choice.kind]}** {choice.advice}" for choice in CHOICES[:3]]
    assert table["lesson"][0] == "[01](01_soft_targets.ipynb)"
    assert list(table["evidence"]) == [said(choice) for choice in CHOICES[:3]]


def test_figures_are_written_in_points_or_nats() -> None:
    found = Evidence("soft_targets_temperature", "mixed-10", "hard", "helps", "MNIST-1D")
    assert re.fullmatch(
        r"MNIST-1D: mixed-10 against hard \+\d\.\d points \[\d\.\d, \d\.\d\], 24 seeds: helps", sentence(found)
    )
    worse = found._replace(arm="short-soft", baseline="short-hard", metric="nll", words="soft against hard")
    assert re.fullmatch(r"MNIST-1D: soft against hard \+0\.\d\d nats of NLL \[.*\], 24 seeds: hurts", sentence(worse))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"colour": "red"}, "no question 'colour': there are task, "),
        ({"labels": "some"}, "labels can be 'many', .*, not 'some'"),
    ],
)
def test_a_case_of_unknown_words_is_refused(answers: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case_of(**answers)


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(ValueError, match="soft_targets_temperature has no arm 'x': there are "):
        compared(Evidence("soft_targets_temperature", "x", "hard", "helps", "MNIST-1D"))


# The cases of exercise 18.3 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", CASES)
def test_the_answer_to_a_case_is_what_the_table_says_first(letter: str) -> None:
    words, answers = CASES[letter]
    fits = fitting(CHOICES, case_of(**answers))
    starts = [choice.copy for choice in fits if choice.kind == "start"]
    chosen = lesson_18.EXERCISES["18.3"].solution[letter]
    assert words
    if chosen == "labels alone":
        assert starts == []
        assert any("labels alone" in choice.advice for choice in fits)
    else:
        assert starts[0] == ADVICE[chosen]
