"""Widgets answer when they are moved, and show the same words everywhere to readers without a kernel."""

import importlib
import pkgutil
import re

import ipywidgets
import pandas as pd
import pytest
import torch

from kdref.lab import exercises, widgets
from kdref.lab.course.check import quiz
from kdref.lab.exercises.lesson_01 import QUIZ

LOGITS = torch.tensor([3.0, 1.0, 0.0])
VIEW = "application/vnd.jupyter.widget-view+json"


def parts(panel: widgets.Panel) -> tuple[ipywidgets.FloatLogSlider, ipywidgets.Image, ipywidgets.HTML]:
    slider, chart, line = panel.children
    return slider, chart, line


def test_moving_the_slider_changes_picture_and_text() -> None:
    slider, chart, line = parts(widgets.temperature_explorer(LOGITS))
    cold, words = bytes(chart.value), line.value
    slider.value = 20
    hot = bytes(chart.value)
    assert hot.startswith(b"\x89PNG")
    assert cold.startswith(b"\x89PNG")
    assert hot != cold
    assert line.value != words
    slider.value = 1
    assert (bytes(chart.value), line.value) == (cold, words)


def test_text_has_the_entropy_and_the_largest_probability() -> None:
    slider, _, line = parts(widgets.temperature_explorer(torch.tensor([0.0, 0.0]), class_names=["a", "<b>"]))
    assert line.value == "τ = 1.00: largest probability 50.0 % (a), entropy 0.69 of at most 0.69 nats"
    _, _, line = parts(widgets.temperature_explorer(torch.tensor([0.0, 2.0]), class_names=["a", "<b>"]))
    assert "largest probability 88.1 % (&lt;b&gt;), entropy 0.37 of" in line.value  # 1 / (1 + e^-2); H(0.881)
    slider.value = 0.5


def test_softening_flattens() -> None:
    slider, _, line = parts(widgets.temperature_explorer(LOGITS))
    shares = []
    for temperature in (0.5, 1, 4, 20):
        slider.value = temperature
        shares.append(float(re.findall(r"probability ([\d.]+) %", line.value)[0]))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 40


def test_slider_reaches_from_a_half_to_twenty() -> None:
    slider, _, _ = parts(widgets.temperature_explorer(LOGITS))
    for beyond, end in ((0.01, 0.5), (1000, 20)):
        slider.value = beyond
        assert slider.value == pytest.approx(end)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 40)])
def test_example_and_true_label_are_drawn(shape: tuple[int, ...]) -> None:
    plain, marked, with_image = (
        bytes(parts(widgets.temperature_explorer(LOGITS, **options))[1].value)
        for options in ({}, {"true_label": 1}, {"true_label": 1, "image": torch.rand(shape)})
    )
    assert len({plain, marked, with_image}) == 3


def test_explorer_leaves_the_logits_alone_and_takes_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    slider, _, _ = parts(widgets.temperature_explorer(logits))
    slider.value = 2
    assert torch.equal(logits, LOGITS)


def test_explorer_refuses_a_batch_and_missing_names() -> None:
    with pytest.raises(ValueError, match=r"expected one example's logits \(C,\), got shape \(2, 3\)"):
        widgets.temperature_explorer(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="3 classes need as many names, got 2"):
        widgets.temperature_explorer(LOGITS, class_names=["a", "b"])


def test_panel_shows_its_sentence_and_no_pixels() -> None:
    bundle = widgets.temperature_explorer(LOGITS)._repr_mimebundle_()
    assert bundle["text/plain"] == "Temperature explorer: run this cell, then move the slider."
    assert set(bundle) == {"text/plain", VIEW}


# The loss balance -----------------------------------------------------------------------------------------------------

MEANS = {(0, 1): 0.6, (0.5, 1): 0.61, (0.5, 4): 0.7, (1, 1): 0.62, (1, 4): 0.65}
RUNS = pd.DataFrame(
    [(f"{w:g} | {t:g}", seed, mean + 0.004 * (seed % 2) * w) for (w, t), mean in MEANS.items() for seed in range(8)],
    columns=["arm", "seed", "accuracy"],
)


def test_balance_grid_has_the_means_and_one_value_for_weight_zero() -> None:
    grid = widgets.balance_grid(RUNS)
    assert (list(grid.index), list(grid.columns)) == (["0", "0.5", "1"], ["1", "4"])
    assert grid.loc["0"].tolist() == pytest.approx([0.6, 0.6])
    assert grid.loc["0.5"].tolist() == pytest.approx([0.611, 0.701])


def test_choosing_a_cell_moves_the_mark_and_the_words() -> None:
    weight, temperature, chart, line = widgets.balance_explorer(RUNS).children
    weight.value, temperature.value = 0.5, 4.0
    best = bytes(chart.value)
    assert best.startswith(b"\x89PNG")
    # differences of 10.0 and 10.2 points by turns: the half width is 2.365 * 0.107 / sqrt(8) = 0.09 points
    assert (
        line.value
        == "soft weight 0.5, τ = 4: accuracy 70.1 %, +10.1 [+10.0, +10.2] points against labels alone (8 seeds)"
    )
    temperature.value = 1.0
    assert "τ = 1: accuracy 61.1 %, +1.1 [+1.0, +1.2] points" in line.value
    assert bytes(chart.value) != best
    weight.value = 0.0
    assert (
        line.value
        == "soft weight 0, τ = 1: accuracy 60.0 %, from labels alone; the temperature means nothing here (8 seeds)"
    )
    weight.value, temperature.value = 0.5, 4.0
    assert bytes(chart.value) == best


def test_balance_explorer_shows_the_same_words_everywhere() -> None:
    bundle = widgets.balance_explorer(RUNS)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Loss-balance explorer: run this cell")
    assert set(bundle) == {"text/plain", VIEW}


def test_balance_explorer_refuses_a_grid_with_holes() -> None:
    with pytest.raises(ValueError, match="missing: weight 0"):
        widgets.balance_explorer(RUNS[RUNS["arm"] != "0 | 1"])
    with pytest.raises(ValueError, match=r"missing: \[\(1.0, 4.0\)\]"):
        widgets.balance_explorer(RUNS[RUNS["arm"] != "1 | 4"])


# The quiz -------------------------------------------------------------------------------------------------------------


def test_quiz_says_right_and_not_quite_and_why() -> None:
    panel = quiz("01")
    boxes = panel.children[1:]
    assert len(boxes) == len(QUIZ) == 3
    for box, question in zip(boxes, QUIZ, strict=True):
        text, choices, feedback = box.children
        assert question.text in text.value.replace("&#x27;", "'")
        assert choices.value is None
        assert feedback.value == ""
        for option, why in question.options.items():
            choices.value = option
            said = feedback.value.replace("&#x27;", "'")
            assert said == f"<b>{'Right.' if option == question.right else 'Not quite.'}</b> {why}"


def test_quiz_can_be_read_without_a_kernel_but_not_its_answers() -> None:
    text = quiz("01")._repr_mimebundle_()["text/plain"]
    for number, question in enumerate(QUIZ, 1):
        assert f"{number}. {question.text}" in text
        assert all(f"( ) {option}" in text for option in question.options)
        assert not any(why in text for why in question.options.values())


def test_the_right_answer_is_not_always_in_the_same_place() -> None:
    places = []
    lessons = sorted(name.name for name in pkgutil.iter_modules(exercises.__path__) if name.name.startswith("lesson_"))
    for lesson in lessons:
        questions = importlib.import_module(f"kdref.lab.exercises.{lesson}").QUIZ
        for box, question in zip(quiz(lesson.removeprefix("lesson_")).children[1:], questions, strict=True):
            places.append(box.children[1].options.index(question.right))
    assert max(places.count(place) for place in range(3)) < len(places) / 2


def test_quiz_feedback_goes_when_the_choice_goes() -> None:
    _, choices, feedback = quiz("01").children[1].children
    choices.value = QUIZ[0].right
    choices.value = None
    assert feedback.value == ""
