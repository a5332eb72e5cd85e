"""The small architectures: their sizes, seeds and named layers."""

import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from kdref.lab import data, models
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure

# Worked out by hand: weights + biases of linear layers; weights of convolutions; two values per normalised channel.
PARAMETERS = {
    "mlp-32": 40 * 32 + 32 + 32 * 10 + 10,
    "mlp-100x100": 40 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10,
    "cnn1d-4": 5 * 4 + 2 * 3 * 4 * 4 + 3 * 2 * 4 + 4 * 10 + 10,
    "cnn1d-16": 5 * 16 + 2 * 3 * 16 * 16 + 3 * 2 * 16 + 16 * 10 + 10,
    "cnn1d-32": 5 * 32 + 2 * 3 * 32 * 32 + 3 * 2 * 32 + 32 * 10 + 10,
    "cnn2d-8": 9 * 8 + 2 * 9 * 8 * 8 + 3 * 2 * 8 + 8 * 10 + 10,
    "cnn2d-16": 9 * 16 + 2 * 9 * 16 * 16 + 3 * 2 * 16 + 16 * 10 + 10,
}


def shape_of(name: str) -> tuple[int, ...]:
    return (1, 8, 8) if name.startswith("cnn2d") else (1, 40)


def test_parameters_are_those_worked_out_by_hand() -> None:
    assert dict(models.table()) == PARAMETERS
    assert [name for name, _ in models.table()] == list(models.NAMES)


def test_frozen_values_and_buffers_are_not_counted() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert models.count_parameters(model) == 3 * 2 + 2 + 2 + 2
    model[0].requires_grad_(False)
    assert models.count_parameters(model) == 4


@pytest.mark.parametrize("name", models.NAMES)
def test_every_model_maps_a_batch_to_logits_and_every_parameter_learns(name: str) -> None:
    model = models.make(name, num_classes=7, seed=0)
    logits = model(torch.randn(3, *shape_of(name), generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize("name", models.NAMES)
def test_equal_seeds_give_equal_weights_and_the_global_generator_stays(name: str) -> None:
    before = torch.get_rng_state()
    one, again, other = (models.make(name, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.get_rng_state().equal(before)
    assert all(value.equal(again[key]) for key, value in one.items())
    assert not one["classifier.weight"].equal(other["classifier.weight"])


def test_without_a_seed_the_global_generator_draws() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        drawn = models.make("cnn1d-4")
    assert drawn.classifier.weight.equal(models.make("cnn1d-4", seed=3).classifier.weight)


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("mlp-100x100", "features.relu2", (100,)),
        ("cnn1d-16", "features.conv1", (16, 19)),  # (40 + 2 - 5) // 2 + 1
        ("cnn1d-16", "features.norm2", (16, 10)),
        ("cnn1d-16", "features.relu3", (16, 5)),
        ("cnn2d-8", "features.conv1", (8, 8, 8)),
        ("cnn2d-8", "features.relu2", (8, 4, 4)),
        ("cnn2d-8", "features.relu3", (8, 2, 2)),
        ("cnn2d-8", "flatten", (8,)),
    ],
)
def test_layers_can_be_tapped_by_name(name: str, layer: str, shape: tuple[int, ...]) -> None:
    model = models.make(name, seed=0).eval()
    tapped = create_feature_extractor(model, [layer, "classifier"]).eval()
    x = torch.randn(2, *shape_of(name), generator=torch.Generator().manual_seed(1))
    outputs = tapped(x)
    assert outputs[layer].shape == (2, *shape)
    assert outputs["classifier"].equal(model(x))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mlp-8x9x10", (3, 7)), ("cnn1d-25", (3, 128)), ("cnn2d-5", (1, 28, 28)), ("cnn2d-5", (3, 9, 7))],
)
def test_other_widths_and_input_shapes_work(name: str, shape: tuple[int, ...]) -> None:
    assert models.make(name, shape=shape, seed=0)(torch.zeros(2, *shape)).shape == (2, 10)


def test_a_split_names_the_shape_it_needs() -> None:
    split = data.digits()
    model = models.make("mlp-32", shape=split.shape, num_classes=split.classes, seed=0)
    assert model(split.test_x[:2]).shape == (2, 10)


def test_no_hidden_layer_is_a_linear_classifier() -> None:
    model = models.mlp(4, 3, hidden=())
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    assert model(x).equal(model.classifier(x))


@pytest.mark.parametrize("build", [models.cnn1d, models.cnn2d])
def test_without_batch_norm_the_convolutions_have_a_bias(build) -> None:
    with_norm, without = build(10, channels=6), build(10, channels=6, batch_norm=False)
    assert not any("norm" in name for name, _ in without.named_modules())
    assert models.count_parameters(with_norm) - models.count_parameters(without) == 3 * 6  # two values v one bias
    assert list(without.features._modules) == ["conv1", "relu1", "conv2", "relu2", "conv3", "relu3"]


@pytest.mark.parametrize("name", ["resnet-18", "mlp", "mlp-", "mlp-0", "mlp-3x", "cnn1d-wide", "cnn1d--4", ""])
def test_unknown_names_are_refused_with_those_that_exist(name: str) -> None:
    with pytest.raises(ValueError, match=f"no model is named '{name}'.*mlp-32, .*cnn2d-16"):
        models.make(name)


def test_a_convolutional_network_has_one_width() -> None:
    with pytest.raises(ValueError, match="cnn1d has one width, as in 'cnn1d-16', got 'cnn1d-4x4'"):
        models.make("cnn1d-4x4")


def test_a_convolution_learns_mnist1d_far_better_than_a_perceptron() -> None:
    split = data.mnist1d()
    accuracy = {}
    for name in ("cnn1d-16", "mlp-100x100"):
        model = models.make(name, seed=0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        batches = Batches(split.train_x, split.train_y, batch_size=100, seed=0)

        def step(batch, model=model):
            return {"loss": nn.functional.cross_entropy(model(batch[0]), batch[1])}

        fit(step, model, batches, optimizer, epochs=6, progress=False)
        accuracy[name] = measure(model, split.validation_x, split.validation_y)["accuracy"]
    assert accuracy["cnn1d-16"] > accuracy["mlp-100x100"] + 0.1
    assert accuracy["cnn1d-16"] > 0.75
