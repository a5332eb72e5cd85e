"""How long a notebook is said to take: words, lines, exercises, the quiz, and what can be skipped apart."""

from typing import Any

import nbformat
from nbformat import NotebookNode

from kdref.lab.course.notebook_source import minutes_in_depth, minutes_to_read

v4: Any = nbformat.v4


def notebook(*cells: NotebookNode) -> NotebookNode:
    made: NotebookNode = v4.new_notebook(cells=list(cells))
    return made


def prose(words: int, heading: str = "") -> NotebookNode:
    cell: NotebookNode = v4.new_markdown_cell(f"{heading}\n\n" + "word " * words)
    return cell


def code(source: str, *tags: str) -> NotebookNode:
    cell: NotebookNode = v4.new_code_cell(source, metadata={"tags": list(tags)})
    return cell


def test_minutes_are_words_lines_exercises_and_the_quiz() -> None:
    lines = code("a = 1\n\n" * 130)
    assert minutes_to_read(notebook(prose(1800))) == 15  # at 120 a minute
    assert minutes_to_read(notebook(prose(1800), lines)) == 25  # and 130 lines at 13 a minute
    exercise = code("lab.check('01.1', my_kl)", "check"), code('lab.quiz("01")')
    assert minutes_to_read(notebook(*exercise)) == 10  # 6 and 3, and two lines
    assert minutes_in_depth(notebook(prose(1800), lines)) == 0


def test_sections_in_depth_are_counted_apart_with_what_lies_under_them() -> None:
    deep = prose(2300, "## 2. B (in depth)"), code("a = 1\n" * 130), prose(1100, "### C")
    around = prose(1150, "## 1. A"), *deep, prose(1150, "## 3. D"), prose(550, "### E (in depth)")
    assert minutes_to_read(notebook(*around)) == 20  # 2 times 1,150 words
    assert minutes_in_depth(notebook(*around)) == 45  # 3,950 words and 130 lines
