"""The explorer of divergences answers when a slider is moved; forward KL covers, reverse KL chooses."""

import re

import pytest
import torch
from torch.testing import assert_close

from kdref.lab.widgets.language import DIVERGENCES, best_hump, divergence_explorer, hump
from kdref.language.tokens import KINDS, token_divergence
from tests import checks

TEACHER = torch.logaddexp(hump(3, 1, words=15), hump(10, 1, words=15) + 0.7)


def test_a_hump_is_a_normal_distribution_over_words() -> None:
    probabilities = hump(7, 2.0, words=15).softmax(-1)
    words = torch.arange(15.0, dtype=torch.float64)
    mean = (probabilities * words).sum()
    assert_close(mean.item(), 7.0)
    assert_close((probabilities * (words - mean) ** 2).sum().sqrt().item(), 2.0, rtol=0.01, atol=0)
    assert hump(torch.zeros(4, 1), torch.ones(3), words=15).shape == (4, 3, 15)


def test_every_divergence_of_the_course_is_there() -> None:
    assert {settings["kind"] for settings in DIVERGENCES.values()} == set(KINDS)


def test_the_nearest_hump_is_nearer_than_any_other() -> None:
    for settings in DIVERGENCES.values():
        least = token_divergence(best_hump(token_divergence, TEACHER, settings), TEACHER, **settings)
        for position in (2.5, 3.0, 7.0, 9.9, 10.0):
            for width in (0.7, 1.0, 3.0, 5.5):
                assert token_divergence(hump(position, width, words=15), TEACHER, **settings) >= least


def test_forward_covers_both_humps_and_reverse_takes_the_higher_one() -> None:
    covering, choosing = (
        best_hump(token_divergence, TEACHER, DIVERGENCES[name]).softmax(-1) for name in ("forward KL", "reverse KL")
    )
    between = slice(5, 8)  # where the teacher hardly goes
    assert covering[between].sum() > 5 * TEACHER.softmax(-1)[between].sum()
    assert choosing.argmax() == 10
    assert choosing[:6].sum() < 0.01


def test_moving_a_slider_changes_picture_and_table_and_back() -> None:
    checks.check_sliders_answer(divergence_explorer(token_divergence, TEACHER), {0: 3.0, 1: 1.0})


def test_the_numbers_are_those_of_the_function() -> None:
    place, width, _, table = divergence_explorer(token_divergence, TEACHER).children
    place.value, width.value = 10.0, 1.0
    student = hump(10.0, 1.0, words=15)
    found = dict(re.findall(r"<tr><td>([^<]+)</td><td>([\d.]+)</td>", table.value))
    assert list(found) == list(DIVERGENCES)
    for name, settings in DIVERGENCES.items():
        assert float(found[name]) == pytest.approx(token_divergence(student, TEACHER, **settings).item(), abs=6e-4)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"one position's logits \(V,\), got shape \(2, 15\)"):
        divergence_explorer(token_divergence, TEACHER.expand(2, -1))


def test_readers_without_a_kernel_get_a_sentence() -> None:
    panel = divergence_explorer(token_divergence, TEACHER)
    assert panel._repr_mimebundle_()[0]["text/plain"].startswith("Divergence explorer: run this cell")
