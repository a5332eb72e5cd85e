"""Losses on features: what people hand to them, besides two tensors that fit."""

import math

import pytest
import torch
from torch import Tensor, nn

from kdref import feature
from tests import checks, inner, inputs
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


ONE_CHANNEL = [
    lambda: feature.HintRegressor(3, 1)(torch.ones(2, 3, 4, 4)),
    lambda: feature.HintRegressor(1, 3)(torch.ones(2, 1, 4, 4)),
    lambda: feature.VariationalRegressor(3, 1)(torch.ones(2, 3, 4, 4)),
    lambda: feature.VariationalRegressor(1, 3)(torch.ones(2, 1, 4, 4)),
    lambda: feature.Translator(3, 1)(torch.ones(2, 3, 4, 4)),
    lambda: feature.Translator(1, 3)(torch.ones(2, 1, 4, 4)),
    lambda: feature.Paraphraser(3, 1)(torch.ones(2, 3, 4, 4)),
    lambda: feature.Paraphraser(1, 3)(torch.ones(2, 1, 4, 4)),
    lambda: feature.ReviewFusion([3], [1], mid_channels=1)([torch.ones(2, 3, 4, 4)])[0],
    lambda: feature.ReviewFusion([1], [3])([torch.ones(2, 1, 4, 4)])[0],
]


@pytest.mark.parametrize("index", range(len(ONE_CHANNEL)))
def test_one_channel_is_enough(index: int) -> None:
    assert ONE_CHANNEL[index]().shape == (2, 3 if index % 2 else 1, 4, 4)


@pytest.mark.parametrize(
    "name", ["HintRegressor", "VariationalRegressor", "MaskedGeneration", "Paraphraser", "Translator"]
)
def test_channels_are_whole_numbers_from_one_on(name: str) -> None:
    for wrong in (0, -1):
        for channels in ((wrong, 3), (3, wrong)):
            with pytest.raises(ValueError, match=f"channels must be at least 1, got {wrong}"):
                getattr(feature, name)(*channels)
    for value in ("3", None, 2.5, [3], torch.ones(2)):
        for sizes in ((value, 3), (3, value)):
            with pytest.raises(TypeError, match="channels must be a whole number, got"):
                getattr(feature, name)(*sizes)


def test_settings_of_the_variational_regressor_are_named() -> None:
    for eps, initial in ((0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (1e-6, math.inf), (math.inf, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match=rf"need 0 < eps < initial_variance < inf, got {eps} and {initial}"):
            feature.VariationalRegressor(3, 4, initial_variance=initial, eps=eps)
    for name in ("initial_variance", "eps"):
        for value in ("1", None, torch.tensor(1.0)):
            with pytest.raises(TypeError, match=f"{name} must be a number, got"):
                feature.VariationalRegressor(3, 4, **{name: value})


def test_a_pair_of_maps_is_two_maps() -> None:
    maps = checks.randn(2, 3, 4, 4)  # two images, which would be taken for a pair
    pair = (maps, maps)
    for wrong, got in ((maps, "Tensor"), ((maps,), "tuple of 1"), ([maps] * 3, "list of 3"), (None, "NoneType")):
        for side, pairs in (("student", (wrong, pair)), ("teacher", (pair, wrong))):
            with pytest.raises(TypeError, match=rf"the {side}'s maps must be a pair, \(first, second\), got {got}"):
                feature.fsp_loss(*pairs)
    assert feature.fsp_loss([maps, maps], pair) == 0


def test_stages_are_lists() -> None:
    fusion, maps = feature.ReviewFusion([2, 3], [4, 5]), [torch.ones(2, 2, 4, 4), torch.ones(2, 3, 2, 2)]
    with pytest.raises(TypeError, match=r"one item for each stage, \[first, \.\.\., last\], got Tensor"):
        fusion(maps[0])
    with pytest.raises(TypeError, match=r"the student's maps of stage 1 must be a tensor, got NoneType"):
        fusion([maps[0], None])
    with pytest.raises(TypeError, match=r"sizes must hold maps\.shape\[2:\] for each stage, got \[4, 2\]"):
        fusion(maps, sizes=[4, 2])
    with pytest.raises(TypeError, match=r"student_channels must be one number for each stage, got 3"):
        feature.ReviewFusion(3, [4])
    with pytest.raises(TypeError, match=r"teacher_channels\[1\] must be a whole number, got '5'"):
        feature.ReviewFusion([2, 3], [4, "5"])
    with pytest.raises(ValueError, match="mid_channels must be at least 1, got 0"):
        feature.ReviewFusion([2], [4], mid_channels=0)


def test_a_reused_classifier_takes_modules_and_features() -> None:
    layer = nn.Linear(4, 2)
    for name, modules in (("projector", (None, layer)), ("teacher_classifier", (layer, layer.weight))):
        with pytest.raises(TypeError, match=f"{name} must be a module, got"):
            feature.ReusedClassifier(*modules)
    with pytest.raises(ValueError, match=r"must be \(B, D\) or \(B, D, \.\.\.\), got shape \(4,\)"):
        feature.ReusedClassifier(nn.Identity(), layer).classify(torch.ones(4))
    with torch.inference_mode():
        made = nn.Linear(4, 2)  # a classifier from inference mode works too
    student = torch.ones(3, 4, requires_grad=True)
    feature.ReusedClassifier(nn.Identity(), made)(student).sum().backward()
    assert student.grad is not None


def test_the_margin_of_boundaries_is_a_number() -> None:
    features = checks.randn(2, 3)
    for value in (math.nan, -0.5, 0.0):
        with pytest.raises(ValueError, match=f"margin must be positive and finite, got {value}"):
            feature.activation_boundary_loss(features, features, margin=value)


def test_a_margin_from_inference_mode_and_one_that_learns() -> None:
    features, margin = checks.randn(3, 4, seed=1).requires_grad_(), -torch.ones(4, dtype=torch.float64)
    with torch.inference_mode():
        constant = margin.clone()
    feature.margin_relu(features, constant).sum().backward()
    assert features.grad is not None
    learning = margin.clone().requires_grad_()
    assert not feature.margin_relu(features.detach(), learning).requires_grad


def test_a_margin_above_zero_is_named_where_looking_costs_nothing() -> None:
    features, margin = checks.randn(3, 4, seed=1), torch.tensor([-1.0, 0.0, 0.25, -2.0], dtype=torch.float64)
    for loss in (feature.margin_relu, lambda x, m: feature.overhaul_loss(x, x, m)):
        with pytest.raises(ValueError, match=r"the margin must be at most 0, got 0\.25: it is an expected negative"):
            loss(features, margin)
        assert loss(features, margin.clamp(max=0)).isfinite().all()
    checks.check_compiles(lambda x: feature.overhaul_loss(x, features, margin.clamp(max=0)), features + 1)


def test_a_batch_norm_with_a_nan_has_a_margin_of_nan() -> None:
    layer = nn.BatchNorm1d(3)
    for parameter in (layer.weight, layer.bias):
        with torch.no_grad():
            parameter[1] = math.nan
        assert feature.negative_margin(layer).isnan().tolist() == [False, True, False]
        nn.init.ones_(parameter)
