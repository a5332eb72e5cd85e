"""The discriminator explorer follows its two sliders, in its picture and in words."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.lab.widgets import adversarial
from kdref.lab.widgets.adversarial import (
    GRID,
    STEPS,
    covers,
    discriminator_explorer,
    humps_figure,
    path,
    student_law,
    teacher_law,
)
from tests import checks


def forward(log_q: Tensor, log_p: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum()


def reverse(log_q: Tensor, log_p: Tensor) -> Tensor:
    return (log_q.exp() * (log_q - log_p)).sum()


LOSSES = {"forward": forward, "reverse": reverse}


def test_the_laws_are_probabilities_with_the_stated_moments() -> None:
    p, q = teacher_law(4.0).exp(), student_law(torch.tensor(1.0), torch.tensor(0.5).log()).exp()
    assert_close(torch.stack([p.sum(), q.sum()]), torch.ones(2))
    assert (p * GRID).sum().item() == pytest.approx(0.6 * 2 - 0.4 * 2, abs=1e-4)
    assert (q * GRID).sum().item() == pytest.approx(1.0, abs=1e-4)
    assert (q * (GRID - 1).square()).sum().item() == pytest.approx(0.25, abs=1e-3)


def test_the_path_ends_where_the_forward_divergence_is_least() -> None:
    # for one hump that is the teacher's own mean and deviation
    mean, log_deviation = path(forward, 3.0)[-1]
    assert mean.item() == pytest.approx(0.2 * 1.5, abs=0.02)
    assert log_deviation.exp().item() == pytest.approx(math.sqrt(0.6**2 + 1.5**2 * 0.96), abs=0.02)
    assert path(forward, 3.0).shape == (STEPS + 1, 2)
    assert path(forward, 3.0)[0].tolist() == list(adversarial.START)


def test_what_covers_and_what_does_not() -> None:
    assert covers(torch.tensor(0.0), torch.tensor(0.0), 3.9)
    assert not covers(torch.tensor(0.0), torch.tensor(0.0), 4.1)
    assert not covers(torch.tensor(1.0), torch.tensor(0.0), 3.0)  # the left hump is 2.5 away
    assert not covers(torch.tensor(-1.0), torch.tensor(0.0), 3.0)


def test_sliders_move_the_picture_and_the_words() -> None:
    panel = discriminator_explorer(LOSSES)
    apart, steps, chart, line = panel.children
    assert bytes(chart.value).startswith(b"\x89PNG")
    assert (apart.value, steps.value) == (3.0, STEPS)
    assert line.value == "humps 3 apart, after 150 steps · forward: covers both · reverse: covers both"
    apart.value = 5.0
    assert line.value.endswith("forward: covers both · reverse: sits on one or between")
    steps.value = 0
    assert line.value.startswith("humps 5 apart, after 0 steps · forward: sits on one or between")
    checks.check_sliders_answer(panel, {0: 2.0, 1: 50})


def test_the_static_figure_has_a_panel_a_loss_and_draws_the_best_discriminator() -> None:
    figure = humps_figure(LOSSES, distance=2.0, columns=2)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["forward", "reverse"]
    for ax, loss in zip(figure.axes, LOSSES.values(), strict=True):
        q = student_law(*path(loss, 2.0)[-1]).exp()
        drawn, said = (torch.as_tensor(line.get_ydata()) for line in ax.lines)
        assert_close(drawn, q)
        p = teacher_law(2.0).exp()
        assert_close(said, adversarial.TOP * p / (p + q), rtol=1e-4, atol=1e-6)


def test_shows_the_same_words_everywhere_and_refuses_nothing_to_draw() -> None:
    bundle, _ = discriminator_explorer(LOSSES)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Discriminator explorer: run this cell, then move")
    with pytest.raises(ValueError, match="losses must hold one loss at least, got none"):
        discriminator_explorer({})
