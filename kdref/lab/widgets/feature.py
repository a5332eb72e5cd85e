"""A picker of two layers for CKA heat maps: what are they to each other, before and after training?

Lesson: notebooks/03_feature_based.ipynb.
"""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import ipywidgets

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["layer_picker"]


def layer_picker(tables: Mapping[str, "DataFrame"]) -> Panel:
    """Choose a layer of the student and one of the teacher; the cell is marked in every heat map, and said in words.

    Args:
        tables: Title, such as ``"before"``, to a table of CKA: student's layers as rows, teacher's as columns.

    Returns:
        A panel whose children are the two choices, the heat maps (PNG) and a line of text.

    Raises:
        ValueError: If there is no table, or their layers differ.
    """
    from matplotlib.patches import Rectangle

    from kdref.lab import report
    from kdref.lab.report import plots

    shapes = {(tuple(table.index), tuple(table.columns)) for table in tables.values()}
    if len(shapes) != 1:
        raise ValueError(
            f"tables must be given and have the same layers, got {len(shapes)} kinds: compare like to like"
        )
    students, teachers = shapes.pop()
    figures = [
        plots.grid(table, x_label="teacher's layer", y_label="student's layer", title=title, width=5)
        for title, table in tables.items()
    ]
    marks = []
    for figure in figures:
        mark = Rectangle((0, 0), 1, 1, fill=False, edgecolor="#D55E00", linewidth=5)
        figure.axes[0].add_patch(mark)
        figure.set_layout_engine("none")
        marks.append(mark)

    style, layout = {"description_width": "9em"}, {"width": "30em"}
    student_choice, teacher_choice = (
        ipywidgets.Dropdown(options=list(names), value=names[0], description=text, style=style, layout=layout)
        for names, text in ((students, "student's layer"), (teachers, "teacher's layer"))
    )
    charts = [ipywidgets.Image(format="png", layout={"width": "480px", "max_width": "50%"}) for _ in figures]
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        student, teacher = student_choice.value, teacher_choice.value
        for figure, mark, chart in zip(figures, marks, charts, strict=True):
            mark.set_xy((teachers.index(teacher) - 0.5, students.index(student) - 0.5))
            chart.value = report.png(figure)
        values = ", ".join(f"{escape(title)} {table.loc[student, teacher]:.2f}" for title, table in tables.items())
        nearest = {title: table.loc[student].idxmax() for title, table in tables.items()}
        names = ", ".join(f"{escape(title)} {escape(str(name))}" for title, name in nearest.items())
        line.value = (
            f"CKA of the student's {escape(str(student))} and the teacher's {escape(str(teacher))}: {values}. "
            f"The teacher's layer most like the student's: {names}."
        )

    draw()
    student_choice.observe(draw, names="value")
    teacher_choice.observe(draw, names="value")
    text = "Layer picker: run this cell, then choose a layer of each network."
    return Panel([student_choice, teacher_choice, ipywidgets.HBox(charts), line], text=text)
