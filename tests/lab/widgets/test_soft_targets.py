"""The slider of the temperature, moved without a front end."""

import re

import ipywidgets
import pytest
import torch

from kdref.lab import widgets

LOGITS = torch.tensor([3.0, 1.0, 0.0])


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
