"""Six wrong losses, six properties: each loss is betrayed by one property alone, and the right loss by none."""

import pytest
import torch

from kdref.lab.experiments._wrong_losses import LOSSES, PROPERTIES, right_loss
from kdref.soft_targets import soft_target_loss

BETRAYED_BY = {
    "A": "two values of C",
    "B": "shift of logits",
    "C": "a masked row",
    "D": "zero at agreement",
    "E": "scale of the gradient",
    "F": "order of the batch",
}


def test_the_right_loss_is_the_one_of_lesson_01_and_has_all_properties() -> None:
    draws = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(5, 4, generator=draws) for _ in range(2))
    expected = soft_target_loss(student, teacher, temperature=3.0)
    assert right_loss(student, teacher, 3.0, torch.ones(5)).item() == pytest.approx(expected.item(), rel=1e-6)
    assert [name for name, holds in PROPERTIES.items() if holds(right_loss) is not None] == []


@pytest.mark.parametrize("letter", LOSSES)
def test_each_wrong_loss_is_betrayed_by_one_property_alone(letter: str) -> None:
    seen = [name for name, holds in PROPERTIES.items() if holds(LOSSES[letter]) is not None]
    assert seen == [BETRAYED_BY[letter]]


def test_what_is_seen_is_said_in_numbers() -> None:
    seen = PROPERTIES["scale of the gradient"](LOSSES["E"])
    assert seen == "from τ = 50 to τ = 100 the gradient's length is multiplied by 0.25"
    assert "turn 2.907 into 1.938" in str(PROPERTIES["a masked row"](LOSSES["C"]))  # six rows for four: two thirds
