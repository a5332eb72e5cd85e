"""The attention explorer follows its three choices, in its pictures and in words."""

import pytest
import torch

from kdref.attention import attention_map
from kdref.lab.widgets.attention import attention_explorer

IMAGES = torch.eye(4).reshape(2, 1, 2, 4)
LEFT, RIGHT = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
SIDES = {
    "teacher": {"one": torch.cat([LEFT, LEFT]), "two": torch.cat([LEFT, torch.tensor([[[[2.0, 1.0]]]])])},
    "stu<dent": {"one": torch.cat([-3 * LEFT, RIGHT]), "two": torch.cat([RIGHT, LEFT])},
}


def test_choices_move_the_pictures_and_the_words() -> None:
    image, layer, power, chart, line = attention_explorer(IMAGES, SIDES, attention_map).children
    first = bytes(chart.value)
    assert first.startswith(b"\x89PNG")
    assert line.value == "image 0, one, power 2; distance from teacher: stu&lt;dent 0.00"
    image.value = 1
    second = bytes(chart.value)
    assert second != first
    assert line.value.endswith("image 1, one, power 2; distance from teacher: stu&lt;dent 1.41")
    layer.value = "two"
    third = bytes(chart.value)
    assert third != second
    assert line.value.endswith("stu&lt;dent 0.24")  # (4, 1)/√17 from (1, 0): √(2 - 8/√17)
    power.value = 1.0
    assert bytes(chart.value) != third
    assert line.value.endswith("stu&lt;dent 0.46")  # (2, 1)/√5 from (1, 0): √(2 - 4/√5)
    image.value, layer.value, power.value = 0, "one", 2.0
    assert bytes(chart.value) == first


def test_shows_the_same_words_everywhere() -> None:
    bundle, _ = attention_explorer(IMAGES, SIDES, attention_map)._repr_mimebundle_()
    assert bundle["text/plain"] == "Attention explorer: run this cell, then choose an image, a layer and a power."


def test_refuses_one_network_and_other_layers() -> None:
    with pytest.raises(ValueError, match="got \\['teacher'\\]"):
        attention_explorer(IMAGES, {"teacher": SIDES["teacher"]}, attention_map)
    with pytest.raises(ValueError, match="the same layers"):
        attention_explorer(IMAGES, {"a": {"one": IMAGES}, "b": {"two": IMAGES}}, attention_map)
