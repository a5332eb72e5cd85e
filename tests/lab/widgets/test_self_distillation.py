"""The ridge explorer answers when a slider is moved, and its numbers are those of ridge regression."""

import re
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from kdref.lab.report import style
from kdref.lab.widgets.self_distillation import (
    draw_fit,
    gaussian_kernel,
    noisy_sine,
    ridge_explorer,
    ridge_rounds,
    sine,
)
from kdref.self_distillation import ridge_self_distillation
from tests import checks

PLACES = torch.linspace(0, 1, 201, dtype=torch.float64)


def said(line: Any) -> tuple[float, float, int, float]:
    found = re.fullmatch(
        r"Round \d+: squared error of the labels ([\d.]+), of the truth ([\d.]+)\. Best round: (\d+), with ([\d.]+)\.",
        line.value,
    )
    labels, truth, best, least = found.groups()
    return float(labels), float(truth), int(best), float(least)


def test_predictions_at_the_labels_places_are_the_fitted_values() -> None:
    x, y = noisy_sine(30, seed=1)
    fits, there = ridge_rounds(ridge_self_distillation, x, y, x, penalty=0.2, rounds=5, label_weight=0.3)
    assert_close(there, fits, rtol=0, atol=1e-10)
    kernel = gaussian_kernel(x, x)
    first = kernel @ torch.linalg.solve(kernel + 0.2 * torch.eye(30, dtype=torch.float64), y)
    assert_close(fits[0], first, rtol=0, atol=1e-10)


def test_the_kernel_and_the_data_are_what_they_say() -> None:
    places = torch.tensor([0.0, 0.1, 1.0])
    assert_close(gaussian_kernel(places, places)[0], torch.exp(-torch.tensor([0.0, 0.5, 50.0])))
    x, y = noisy_sine(5000, seed=2)
    assert 0 <= x.min() < x.max() <= 1
    assert (y - sine(x)).std().item() == pytest.approx(0.5, abs=0.03)
    assert_close(noisy_sine(7, seed=3)[1], noisy_sine(7, seed=3)[1], rtol=0, atol=0)
    assert_close(sine(torch.tensor([0.0, 0.25, 0.75])), torch.tensor([0.0, 1.0, -1.0]))


def test_moving_a_slider_changes_picture_and_text_and_back() -> None:
    checks.check_sliders_answer(ridge_explorer(ridge_self_distillation), {0: 20, 1: 1.0, 2: 0.5})


def test_too_small_a_penalty_has_a_best_round_and_too_large_a_one_gains_nothing() -> None:
    turn, penalty, share, _, line = ridge_explorer(ridge_self_distillation).children
    penalty.value = 0.1
    labels, truth, best, least = said(line)
    assert 1 < best < 60
    assert least < truth
    turn.value = 60
    assert said(line)[1] > truth > least
    assert said(line)[0] > labels
    penalty.value = 10.0
    assert said(line)[2] == 1
    penalty.value, share.value = 0.1, 1.0
    assert said(line)[0] == labels  # labels alone: round 60 is round 1


def test_the_numbers_are_those_of_the_function_it_was_given() -> None:
    turn, penalty, share, _, line = ridge_explorer(ridge_self_distillation, seed=4).children
    turn.value, penalty.value, share.value = 7, 0.5, 0.25
    x, y = noisy_sine(40, seed=4)
    settings = {"penalty": penalty.value, "rounds": 60, "label_weight": 0.25}
    fits, predictions = ridge_rounds(ridge_self_distillation, x, y, PLACES, **settings)
    errors = (fits[6] - y).square().mean().item(), (predictions[6] - sine(PLACES)).square().mean().item()
    assert said(line)[:2] == pytest.approx(errors, abs=5e-4)


def test_curves_are_drawn_with_labels_and_truth() -> None:
    x, y = noisy_sine(10, seed=0)
    with style.new_figure(4, 3) as (_, (ax,)):
        draw_fit(ax, x, y, {"one": sine(PLACES), "two": 0 * PLACES})
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["labels", "truth", "one", "two"]


def test_readers_without_a_kernel_get_a_sentence() -> None:
    shown = ridge_explorer(ridge_self_distillation)
    assert shown._repr_mimebundle_()[0]["text/plain"].startswith("Ridge explorer: run this cell")
