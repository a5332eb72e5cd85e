"""What the page for instructors says is so: minutes, sums, links, commands, and the mistakes that checks know."""

import json
import re
from pathlib import Path

import pytest
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager
from traitlets.config import Config

from kdref.lab.course import server
from kdref.lab.course.check import exercises_of
from tests import rules
from tests.course.test_readme import commands, fault, table

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
PAGE = (NOTEBOOKS / "INSTRUCTORS.md").read_text(encoding="utf-8")
LESSONS = {path.stem[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def measured(number: str) -> list[str]:
    found = json.loads(LESSONS[number].read_text(encoding="utf-8"))["metadata"]["kdref"]
    return [str(found["minutes"]), str(found["seconds"])]


def rows(page: str) -> dict[str, list[str]]:
    """The table of lessons, by number."""
    return {re.sub(r"\W*(\d\d).*", r"\1", row[0]): row for row in table(page, "## The lessons")}


def wrong_rows(page: str) -> list[str]:
    """Lessons whose row is missing, or says what is not so, each with what it should say."""
    found, faults = rows(page), []
    for number, path in LESSONS.items():
        row = found.get(number, ["", "", "", ""])
        if row[1:3] != measured(number) or f"]({path.name})" not in row[0] or len(row[3]) < 10:
            faults.append(f"[{number} ...]({path.name}) | {' | '.join(measured(number))} | what to leave out")
    return faults + sorted(set(found) - set(LESSONS))


def wrong_sums(page: str) -> list[str]:
    """Plans whose minutes are not those of their lessons."""
    minutes = {number: int(row[1]) for number, row in rows(page).items()}
    plans = table(page, "## Plans")
    return [plan for plan, lessons, total in plans if sum(map(minutes.__getitem__, lessons.split(", "))) != int(total)]


def test_every_lesson_has_its_measured_minutes_and_seconds_and_what_to_skip() -> None:
    assert wrong_rows(PAGE) == [], "bring the table of notebooks/INSTRUCTORS.md up to date"


def test_the_minutes_of_a_plan_are_those_of_its_lessons() -> None:
    assert wrong_sums(PAGE) == []
    plans = {plan: lessons.split(", ") for plan, lessons, _ in table(PAGE, "## Plans")}
    assert list(plans) == ["half a day", "a day", "a semester"]
    assert plans["a semester"] == list(rows(PAGE))


def test_stale_minutes_and_sums_are_noticed() -> None:
    minutes, seconds = measured("01")
    stale = wrong_rows(PAGE.replace(f"| {minutes} | {seconds} | in section 3", "| 1 | 1 | in section 3"))
    assert [row for row in stale if row.startswith("[01 ") and f"| {minutes} | {seconds} |" in row]
    assert wrong_sums(PAGE.replace("| half a day | 00, ", "| half a day | ")) == ["half a day"]


@pytest.mark.parametrize("row", table(PAGE, "## Where learners get stuck"), ids=lambda row: " ".join(row[:2]))
def test_the_checks_know_the_mistake(row: list[str]) -> None:
    number, mistake, _ = row
    assert mistake in exercises_of(number[:2])[number].mistakes


def test_every_lesson_has_a_mistake_and_the_exercises_named_are_there() -> None:
    assert {row[0][:2] for row in table(PAGE, "## Where learners get stuck")} >= set(LESSONS)
    named = set(re.findall(r"(?<![\d.])\b\d\d\.\d\b", PAGE))
    assert named <= {number for lesson in LESSONS for number in exercises_of(lesson)}


def test_links_and_commands_lead_somewhere() -> None:
    assert rules.dead_links(PAGE, NOTEBOOKS) == []
    said = commands(PAGE)
    assert any("kdref.lab.course.classroom" in command for command in said)
    assert [problem for command in said if (problem := fault(command))] == []
    links = {page: (NOTEBOOKS.parent / page).read_text(encoding="utf-8") for page in ("README.md", "CONTRIBUTING.md")}
    assert [page for page, text in links.items() if "(notebooks/INSTRUCTORS.md)" not in text] == []


def test_the_page_says_how_kernels_are_closed_to_others_and_what_a_hub_needs_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server.os, "name", "posix")
    monkeypatch.setattr(server, "_holds_sockets", lambda folder: True)
    (option,) = server._private_kernels()
    assert f"`{option}`" in PAGE
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    config = Config(json.loads(text))
    manager = MappingKernelManager(config=config).kernel_manager_factory(config=config)
    assert manager.transport == option.partition("=")[2]
    assert 0 < PAGE.index("pip install -c constraints.txt jupyterhub") < PAGE.index("jupyterhub-singleuser")
