"""Widgets draw on the CPU: logits may lie on Apple's GPU, which has no float64."""

from collections.abc import Callable

import pytest
from torch import Tensor

from kdref.lab.widgets import Panel
from kdref.lab.widgets.cross_modal import sensor_explorer
from kdref.lab.widgets.language import divergence_explorer
from kdref.lab.widgets.multi_teacher import teachers_explorer
from kdref.lab.widgets.sequence import speculative_explorer
from kdref.lab.widgets.soft_targets import temperature_explorer
from kdref.language import token_divergence
from kdref.sequence import expected_tokens_per_call, speculative_acceptance
from tests.lab.apple import on_apple
from tests.lab.widgets import test_cross_modal, test_language, test_multi_teacher, test_panel, test_sequence

MADE: dict[str, Callable[[Callable[[Tensor], Tensor]], Panel]] = {
    "temperature": lambda on: temperature_explorer(on(test_panel.LOGITS)),
    "teachers": lambda on: teachers_explorer({name: on(z) for name, z in test_multi_teacher.MIRRORED.items()}),
    "divergence": lambda on: divergence_explorer(token_divergence, on(test_language.TEACHER.float())),
    "sensors": lambda on: sensor_explorer(
        test_cross_modal.SIGNALS,
        {name: on(z) for name, z in test_cross_modal.LOGITS.items()},
        test_cross_modal.LABELS,
        class_names=["up", "row"],
        seconds=2.0,
    ),
    "drafts": lambda on: speculative_explorer(
        speculative_acceptance, expected_tokens_per_call, on(test_sequence.STUDENT), on(test_sequence.TEACHER)
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_an_apple_shows_what_the_cpu_shows(name: str) -> None:
    (*_, picture, line), (*_, same_picture, same_line) = (MADE[name](on).children for on in (on_apple, lambda z: z))
    assert bytes(picture.value) == bytes(same_picture.value)
    assert line.value == same_line.value
