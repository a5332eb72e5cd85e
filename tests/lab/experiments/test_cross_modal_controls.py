"""Lesson 07's controls: what the teacher's first choice teaches, and the same seeds as the runs they stand beside."""

import pytest
import torch

from kdref.lab.experiments import load
from kdref.lab.experiments._cross_modal import Outputs
from kdref.lab.experiments.cross_modal_controls import ARMS, CONTROLS

SAID = Outputs(torch.zeros(2, 1), torch.tensor([[1.0, 9.0, 2.0], [5.0, 0.0, 4.0]]))


def test_argmax_asks_for_the_first_choice_and_not_how_sure_it_is() -> None:
    uniform = Outputs(torch.zeros(2, 1), torch.tensor([[0.0, 0.0, 0.0], [3.0, 1.0, 4.0]]).exp().log())
    expected = (torch.tensor(3.0).log() - torch.log_softmax(torch.tensor([3.0, 1.0, 4.0]), 0)[0]) / 2
    for scale in (1.0, 10.0):
        found = CONTROLS["argmax"].term(uniform, Outputs(SAID.hidden, scale * SAID.logits), 1.0)
        assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_selection_is_at_temperature_1() -> None:
    own = torch.tensor([[3.0, 2.0, 1.0]])
    said = torch.tensor([[9.0, 1.0, 0.0]])  # ranked alike, so it is selected
    found = CONTROLS["selected, τ = 1"].term(Outputs(own, own), Outputs(said, said), 0.0)
    p, log_q = said.softmax(-1), own.log_softmax(-1)
    assert found.item() == pytest.approx((p * (p.log() - log_q)).sum().item(), abs=1e-6)


def test_controls_have_the_seeds_of_the_runs_that_they_are_compared_with() -> None:
    controls, runs = load("cross_modal_controls"), load("cross_modal")
    assert sorted(controls["arm"].unique()) == sorted(ARMS)
    assert not set(ARMS) & set(runs["arm"])
    for arm in ARMS:
        assert sorted(controls.loc[controls["arm"] == arm, "seed"]) == sorted(runs["seed"].unique())
