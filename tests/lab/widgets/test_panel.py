"""The box that every widget is."""

import torch

from kdref.lab import widgets

LOGITS = torch.tensor([3.0, 1.0, 0.0])
VIEW = "application/vnd.jupyter.widget-view+json"


def test_panel_shows_its_sentence_and_no_pixels() -> None:
    bundle = widgets.temperature_explorer(LOGITS)._repr_mimebundle_()
    assert bundle["text/plain"] == "Temperature explorer: run this cell, then move the slider."
    assert set(bundle) == {"text/plain", VIEW}
