"""The explorer of several teachers follows its sliders, in its picture and in words."""

import pytest
import torch
from torch.testing import assert_close

from kdref.lab.report import style
from kdref.lab.widgets.multi_teacher import both_means, draw_views, teachers_explorer
from kdref.multi_teacher import average_logits, average_probabilities, disagreement
from tests import checks

LOG3 = torch.tensor(3.0).log()
MIRRORED = {"A": torch.stack([LOG3, LOG3 * 0]), "<B>": torch.stack([LOG3 * 0, LOG3])}  # (3/4, 1/4) and (1/4, 3/4)


def test_both_means_are_those_of_the_methods() -> None:
    z = checks.randn(3, 5, seed=1)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    shown = both_means(dict(zip("abc", z, strict=True)), weights=(10 * weights).tolist())
    assert list(shown) == ["a", "b", "c", "arithmetic mean", "geometric mean"]
    assert_close(shown["b"], z[1].softmax(dim=-1))
    assert_close(shown["arithmetic mean"], average_probabilities(z[:, None], weights=weights)[0])
    assert_close(shown["geometric mean"], average_logits(z[:, None], weights=weights)[0].softmax(dim=-1))
    assert_close(both_means({"a": z[0], "b": z[1]})["arithmetic mean"], average_probabilities(z[:2, None])[0])


def test_sliders_move_the_picture_and_the_words() -> None:
    first_row, second_row, chart, line = teachers_explorer(MIRRORED, class_names=["x", "<y>"]).children
    start = bytes(chart.value)
    assert start.startswith(b"\x89PNG")
    apart = disagreement(torch.stack(list(MIRRORED.values()))[:, None]).item()
    assert line.value.endswith(f"weighted disagreement {apart:.2f} of at most 0.69 nats")
    _, weight, loudness = second_row.children
    assert second_row.children[0].value == "&lt;B&gt;"
    weight.value = 0.0
    assert bytes(chart.value) != start
    assert line.value == (
        "arithmetic mean: x first, with 75.0 %; geometric mean: x first, with 75.0 %; "
        "weighted disagreement 0.00 of at most 0.00 nats"
    )
    weight.value, loudness.value = 1.0, 10.0
    assert "arithmetic mean: &lt;y&gt; first, with 62.5 %" in line.value  # (1/4 + 1)/2, for 3¹⁰ to 1 is 1
    assert "geometric mean: &lt;y&gt; first, with 99.3 %" in line.value  # 3^4.5 to 1
    loudness.value = 1.0
    assert bytes(chart.value) == start
    before = bytes(chart.value)
    first_row.children[1].value = weight.value = 0.0
    assert line.value == "nobody is asked: give one of them a weight"
    first_row.children[1].value = weight.value = 1.0
    assert bytes(chart.value) == before


def test_shows_the_same_words_everywhere() -> None:
    bundle, _ = teachers_explorer(MIRRORED)._repr_mimebundle_()
    expected = "Explorer of several teachers: run this cell, then move their weights and their loudness."
    assert bundle["text/plain"] == expected


def test_refuses_one_teacher_and_other_classes() -> None:
    with pytest.raises(ValueError, match=r"two teachers or more .* got \['A'\]"):
        teachers_explorer({"A": MIRRORED["A"]})
    with pytest.raises(ValueError, match=r"shapes \[\(2,\), \(3,\)\]"):
        teachers_explorer({"A": MIRRORED["A"], "B": torch.zeros(3)})
    with pytest.raises(ValueError, match="2 classes need as many names, got 3"):
        teachers_explorer(MIRRORED, class_names=["a", "b", "c"])


def test_each_view_is_drawn_with_its_numbers() -> None:
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    views = {
        "Fourier": lambda x: torch.arange(40.0)[None],
        "rows": lambda x: x[:, 0].sum(2),
        "columns": lambda x: x[:, 0].sum(1),
    }
    with style.new_figure(8, 2, columns=4) as (_, axes):
        draw_views(axes, image, views)
    assert [ax.get_title(loc="left") for ax in axes] == ["pixels", "Fourier", "rows", "columns"]
    assert (axes[0].images[0].get_array() == image[0, 0].numpy()).all()
    assert axes[1].images[0].get_array().shape == (8, 5)
    assert [bar.get_width() for bar in axes[2].patches] == image[0, 0].sum(1).tolist()
    assert [bar.get_height() for bar in axes[3].patches] == image[0, 0].sum(0).tolist()
