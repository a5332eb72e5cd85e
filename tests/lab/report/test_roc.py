"""The ROC curve: by hand, and its area against the comparison of every pair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdref.lab.report.roc import roc

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=12)


def test_by_hand() -> None:
    accused, found = roc([0.5, 0.9], [[0.1], [0.5]])
    assert accused.tolist() == [0, 0, 0.5, 1]
    assert found.tolist() == [0, 0.5, 1, 1]


@given(SCORES, SCORES)
def test_its_area_is_how_often_a_guilty_one_scores_above_an_innocent_one(own: list[int], others: list[int]) -> None:
    accused, found = roc(own, others)
    assert (accused[0], found[0], accused[-1], found[-1]) == (0, 0, 1, 1)
    area = np.sum(np.diff(accused) * (found[1:] + found[:-1]) / 2)
    wins = [(a > b) + (a == b) / 2 for a in own for b in others]
    assert area == pytest.approx(np.mean(wins))


@pytest.mark.parametrize(
    ("own", "others", "message"),
    [
        ([], [1.0], "both need scores, got 0 of the guilty and 1 of the innocent"),
        ([1.0], [], "both need scores, got 1 of the guilty and 0 of the innocent"),
        ([1.0], [float("nan")], "a score is not a number"),
    ],
)
def test_what_is_missing_is_said(own: list[float], others: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roc(own, others)
