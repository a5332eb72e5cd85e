"""The box that every widget is."""

import base64

import ipywidgets
import torch

from kdref.lab import widgets
from kdref.lab.widgets.panel import Panel

LOGITS = torch.tensor([3.0, 1.0, 0.0])
VIEW = "application/vnd.jupyter.widget-view+json"


def test_panel_shows_its_sentence_and_pixels_nowhere_but_in_its_picture() -> None:
    panel = widgets.temperature_explorer(LOGITS)
    bundle, about = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "Temperature explorer: run this cell, then move the slider."
    assert set(bundle) == {"text/plain", "image/png", VIEW}
    (chart,) = [child for child in panel.children if isinstance(child, ipywidgets.Image)]
    assert base64.b64decode(bundle["image/png"]) == chart.value
    assert about["image/png"]["alt"].startswith("Temperature explorer, at rest")


def test_a_panel_without_a_picture_has_none_to_show() -> None:
    bundle, _ = Panel([ipywidgets.HTML("x")], text="A sentence.")._repr_mimebundle_()
    assert set(bundle) == {"text/plain", VIEW}


def test_a_picture_within_a_row_is_found() -> None:
    row = ipywidgets.HBox([ipywidgets.Image(value=b"one"), ipywidgets.Image(value=b"two")])
    bundle, _ = Panel([ipywidgets.HTML("x"), row], text="Two: charts.")._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == b"one"
