"""Losses on features: what people hand to them, besides two tensors that fit."""

import pytest
import torch
from torch import Tensor, nn

from kdref import feature
from tests import inner, inputs
from tests.inner import CHANNELS, Call

PLAIN = [
    Call(feature, name, tensors, students=2 if name == "fsp_matrix" else 1)
    for name, tensors in {
        "hint_loss": "ff",
        "fsp_matrix": "ff",
        "neuron_selectivity_loss": "ff",
        "overhaul_loss": "ffc",
        "activation_boundary_loss": "ff",
        "margin_relu": "fc",
        "factor_transfer_loss": "ff",
        "hierarchical_context_loss": "ff",
        "channel_wise_loss": "ff",
    }.items()
]
FSP = Call(feature, "fsp_loss", "ffff", how=lambda a, b, c, d: feature.fsp_loss((a, b), (c, d)), students=2)


def built(name: str, *sizes: int) -> nn.Module:
    module: nn.Module = getattr(feature, name)(*sizes)
    return module.double()


def fused(maps: Tensor) -> Tensor:
    guesses = feature.ReviewFusion([CHANNELS], [2]).double()([maps])
    return guesses[0]


def reused() -> nn.Module:
    return feature.ReusedClassifier(nn.Identity(), nn.Linear(CHANNELS, 2, dtype=torch.float64))


MODULES = [
    Call(feature, "HintRegressor", "f", how=lambda s: built("HintRegressor", CHANNELS, 2)(s)),
    Call(feature, "VariationalRegressor", "f", how=lambda s: built("VariationalRegressor", CHANNELS, 2)(s)),
    Call(feature, "Paraphraser", "f", how=lambda t: built("Paraphraser", CHANNELS, 2)(t), students=0),
    Call(feature, "Translator", "f", how=lambda s: built("Translator", CHANNELS, 2)(s)),
    Call(feature, "ReviewFusion", "f", how=fused),
    Call(feature, "MaskedGeneration", "f", how=lambda s: built("MaskedGeneration", CHANNELS, 2)(s)),
    Call(feature, "ReusedClassifier", "f", how=lambda f: reused().classify(f)),
]
LOSSES_OF_MODULES = [
    Call(
        feature,
        "VariationalRegressor.loss",
        "ff",
        how=lambda s, t: built("VariationalRegressor", CHANNELS, CHANNELS).loss(s, t),
    ),
    Call(
        feature,
        "MaskedGeneration.loss",
        "ff",
        how=lambda s, t: built("MaskedGeneration", CHANNELS, CHANNELS).loss(s, t),
    ),
    Call(
        feature,
        "Paraphraser.reconstruction_loss",
        "f",
        how=lambda t: built("Paraphraser", CHANNELS, 2).reconstruction_loss(t),
        students=0,
    ),
]
CALLS = [*PLAIN, FSP, *MODULES, *LOSSES_OF_MODULES]
PAIRS = [call for call in CALLS if call.tensors.startswith("ff")]
WITHOUT_SCALE = [call for call in PLAIN if call.name in ("neuron_selectivity_loss", "factor_transfer_loss")]


def test_no_name_is_forgotten() -> None:
    assert {call.name.split(".")[0] for call in CALLS} == set(feature.__all__) - {"negative_margin"}  # takes a layer


@pytest.mark.parametrize("check", inner.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_function_passes(check, call: Call) -> None:
    if check not in (inner.check_numbers, inputs.check_temperature) or call in PLAIN:
        check(call)


@pytest.mark.parametrize("call", PAIRS, ids=str)
def test_sides_of_different_examples_are_refused(call: Call) -> None:
    inner.check_examples(call)


@pytest.mark.parametrize("call", [call for call in [*PLAIN, FSP] if call.name != "margin_relu"], ids=str)
def test_mixed_precision_rounds_nothing(call: Call) -> None:
    inner.check_autocast(call)


@pytest.mark.parametrize("call", WITHOUT_SCALE, ids=str)
def test_a_scale_that_means_nothing_means_nothing_at_any_size(call: Call) -> None:
    inner.check_scale(call)


@pytest.mark.parametrize("call", [call for call in PAIRS if call.name.endswith("loss")], ids=str)
def test_huge_features_give_no_silent_zero(call: Call) -> None:
    if call not in LOSSES_OF_MODULES:  # whose layers run in their own precision
        inner.check_no_silent_zero(call)
