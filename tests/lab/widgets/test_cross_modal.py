"""The sensor explorer follows its two choices, in its picture and in words."""

import pytest
import torch

from kdref.lab.widgets.cross_modal import sensor_explorer, sensor_figure

SIGNALS = {
    "g": torch.sin(torch.arange(60.0)).reshape(2, 3, 10),
    "rad/s": torch.cos(torch.arange(60.0)).reshape(2, 3, 10),
}
LOGITS = {"teach<er": torch.tensor([[2.0, 0.0], [0.0, 0.0]]), "student": torch.tensor([[0.0, 1.0], [4.0, 0.0]])}
KNOWN = {"class_names": ["up & down", "row"], "seconds": 2.0}
LABELS = torch.tensor([0, 1])


def test_choices_move_the_picture_and_the_words() -> None:
    window, temperature, chart, line = sensor_explorer(SIGNALS, LOGITS, LABELS, **KNOWN).children
    first = bytes(chart.value)
    assert first.startswith(b"\x89PNG")
    # 1 / (1 + exp(-2)) is 88 %, 1 / (1 + exp(-1)) is 73 %
    assert line.value == "window 0, up &amp; down, τ = 1: teach&lt;er up &amp; down (88 %), student row (73 %)"
    temperature.value = 2.0
    second = bytes(chart.value)
    assert second != first
    assert line.value == "window 0, up &amp; down, τ = 2: teach&lt;er up &amp; down (73 %), student row (62 %)"
    window.value = 1
    assert bytes(chart.value) not in (first, second)
    assert line.value.startswith("window 1, row, τ = 2: teach&lt;er up &amp; down (50 %)")
    assert window.max == 1
    window.value, temperature.value = 0, 1.0
    assert bytes(chart.value) == first


def test_the_static_figure_shows_both_sensors_and_all_networks() -> None:
    figure = sensor_figure(SIGNALS, LOGITS, LABELS, number=1, temperature=1.0, **KNOWN)
    left, right, below = figure.axes
    assert [ax.get_ylabel() for ax in (left, right)] == ["g", "rad/s"]
    for ax, windows in ((left, SIGNALS["g"]), (right, SIGNALS["rad/s"])):
        drawn = [line.get_ydata().tolist() for line in ax.lines]
        assert drawn == windows[1].tolist()
        assert ax.lines[0].get_xdata()[-1] == pytest.approx(1.8)  # ten samples in two seconds
    heights = [bar.get_height() for bar in below.patches]
    assert heights == pytest.approx([0.5, 0.5, 0.982, 0.018], abs=1e-3)
    assert below.get_title(loc="left") == "the right class is row"


def test_shows_the_same_words_everywhere_and_refuses_what_is_not_paired() -> None:
    bundle, _ = sensor_explorer(SIGNALS, LOGITS, LABELS, **KNOWN)._repr_mimebundle_()
    assert bundle["text/plain"] == "Sensor explorer: run this cell, then choose a window and a temperature."
    with pytest.raises(ValueError, match=r"the same windows, got lengths \[2, 3\]"):
        sensor_explorer(SIGNALS, LOGITS, torch.tensor([0, 1, 1]), **KNOWN)
