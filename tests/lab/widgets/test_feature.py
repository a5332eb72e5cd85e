"""The layer picker follows both choices, in its pictures and in words."""

import pandas as pd
import pytest

from kdref.lab.widgets.feature import layer_picker

BEFORE = pd.DataFrame([[0.5, 0.4], [0.1, 0.2]], index=["s1", "s<2>"], columns=["t1", "t2"])
AFTER = pd.DataFrame([[0.6, 0.7], [0.3, 0.9]], index=["s1", "s<2>"], columns=["t1", "t2"])


def test_choosing_layers_moves_the_marks_and_the_words() -> None:
    student, teacher, box, line = layer_picker({"before": BEFORE, "after": AFTER}).children
    first, words = [bytes(chart.value) for chart in box.children], line.value
    assert all(picture.startswith(b"\x89PNG") for picture in first)
    assert words == (
        "CKA of the student's s1 and the teacher's t1: before 0.50, after 0.60. "
        "The teacher's layer most like the student's: before t1, after t2."
    )
    student.value, teacher.value = "s<2>", "t2"
    assert "student's s&lt;2&gt; and the teacher's t2: before 0.20, after 0.90." in line.value
    assert all(bytes(chart.value) != picture for chart, picture in zip(box.children, first, strict=True))
    student.value, teacher.value = "s1", "t1"
    assert [bytes(chart.value) for chart in box.children] == first
    assert line.value == words


def test_shows_the_same_words_everywhere() -> None:
    bundle, _ = layer_picker({"before": BEFORE})._repr_mimebundle_()
    assert bundle["text/plain"] == "Layer picker: run this cell, then choose a layer of each network."


def test_refuses_tables_of_other_layers_and_none() -> None:
    with pytest.raises(ValueError, match="got 2 kinds"):
        layer_picker({"before": BEFORE, "after": AFTER.T})
    with pytest.raises(ValueError, match="got 0 kinds"):
        layer_picker({})
