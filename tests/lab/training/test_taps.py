"""Taps: named activations, the model untouched."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.models import make
from kdref.lab.training.taps import taps


class Branching(nn.Module):
    """Control flow that depends on data: torch.fx can't follow it."""

    def __init__(self, *, inplace: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.fc1, self.relu, self.fc2 = nn.Linear(3, 4), nn.ReLU(inplace=inplace), nn.Linear(4, 2)
        self.unused, self.twice = nn.Linear(3, 4), twice

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            raise AssertionError
        x = self.relu(self.fc1(x))
        return self.fc2(self.relu(x) if self.twice else x)


class Straight(nn.Module):
    """The same without the branch, and with functional dropout."""

    def __init__(self, *, inplace: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.fc1, self.relu, self.fc2 = nn.Linear(3, 4), nn.ReLU(inplace=inplace), nn.Linear(4, 2)
        self.twice = twice

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.fc1(x))
        x = F.dropout(x, 0.5, training=self.training)
        return self.fc2(self.relu(x) if self.twice else x)


BOTH = pytest.mark.parametrize("kind", [Branching, Straight])


@BOTH
def test_activations_are_those_of_the_layers(kind: type[nn.Module]) -> None:
    model, x = kind().eval(), torch.randn(5, 3)
    found = taps(model, ["fc2", "fc1"])(x)
    assert list(found) == ["fc2", "fc1"]
    torch.testing.assert_close(found["fc1"], model.fc1(x))
    torch.testing.assert_close(found["fc2"], model(x))


def test_what_can_be_followed_is_followed_and_stops_at_the_last_tap() -> None:
    model = make("cnn2d-8", seed=0)
    tapped = taps(model, ["features.relu1"])
    assert tapped.followed
    assert not taps(Branching(), ["fc1"]).followed
    model.features.conv2.register_forward_hook(lambda *_: pytest.fail("computed what no tap needs"))
    tapped(torch.zeros(2, 1, 8, 8))


@BOTH
def test_the_model_stays_as_it_is(kind: type[nn.Module]) -> None:
    model = nn.Sequential(kind(), nn.BatchNorm1d(2)).train()
    model[1].eval()  # a frozen BatchNorm in a model that trains
    before = copy.deepcopy(model.state_dict())
    tapped = taps(model, ["0.fc1", "1"])
    tapped(torch.randn(5, 3))
    assert [module.training for module in model.modules()] == [True] * (len(list(model.modules())) - 1) + [False]
    assert all(not module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@BOTH
def test_training_through_taps_trains_the_model(kind: type[nn.Module]) -> None:
    model = kind().eval()
    taps(model, ["fc1"])(torch.randn(5, 3))["fc1"].square().mean().backward()
    assert model.fc1.weight.grad is not None
    assert model.fc2.weight.grad is None


def test_taps_follow_the_mode_that_the_model_is_in() -> None:
    model, x = Straight(), torch.randn(50, 3)
    tapped = taps(model, ["fc2"])
    model.eval()
    torch.testing.assert_close(tapped(x)["fc2"], model(x))
    model.train()
    assert not torch.equal(tapped(x)["fc2"], tapped(x)["fc2"])  # dropout is on
    model.eval()
    torch.testing.assert_close(tapped(x)["fc2"], model(x))


def test_batch_norm_statistics_move_in_train_mode_only() -> None:
    model = make("cnn2d-8", seed=0)
    tapped, x = taps(model, ["features.relu1"]), torch.randn(4, 1, 8, 8)
    start = model.features.norm1.running_mean.clone()
    model.eval()
    tapped(x)
    assert torch.equal(model.features.norm1.running_mean, start)
    model.train()
    tapped(x)
    assert not torch.equal(model.features.norm1.running_mean, start)


@BOTH
def test_an_activation_that_is_overwritten_in_place_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"'fc1' is overwritten in place: tap the layer after it"):
        taps(kind(inplace=True), ["fc1", "fc2"])(torch.randn(5, 3))
    taps(kind(inplace=True), ["relu"])(torch.randn(5, 3))


@BOTH
def test_a_module_that_runs_twice_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="'relu' runs several times"):
        taps(kind(twice=True), ["relu", "fc2"])(torch.randn(5, 3))


def test_a_module_that_never_runs_is_named() -> None:
    with pytest.raises(ValueError, match="did not run 'unused'"):
        taps(Branching(), ["unused"])(torch.randn(5, 3))


@pytest.mark.parametrize("names", [[], ["fc1", "fc1"], ["fc9"], [""]])
def test_names_that_are_no_modules_are_refused_with_those_there_are(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"names must be sub-modules.*there are fc1, relu, fc2"):
        taps(Straight(), names)


def test_a_torchvision_network_is_followed() -> None:
    from torchvision.models import resnet18

    model = resnet18(weights=None).eval()
    tapped, x = taps(model, ["layer1", "fc"]), torch.randn(1, 3, 32, 32)
    assert tapped.followed
    torch.testing.assert_close(tapped(x)["fc"], model(x))
    with pytest.raises(ValueError, match=r"'layer1\.0\.bn1' is overwritten"):
        taps(model, ["layer1.0.bn1", "fc"])
