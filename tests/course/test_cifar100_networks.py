"""The networks of the CIFAR-100 example are those of the published tables."""

from types import ModuleType

import pytest
import torch

from tests.course.scripts import imported


@pytest.fixture(scope="module")
def networks() -> ModuleType:
    return imported("cifar100_networks")


@pytest.mark.parametrize(
    ("name", "parameters", "sizes", "width"),
    [  # as RepDistiller's networks have them
        ("resnet32x4", 7_433_860, [(64, 32), (128, 16), (256, 8)], 256),
        ("resnet8x4", 1_233_540, [(64, 32), (128, 16), (256, 8)], 256),
        ("vgg13", 9_462_180, [(128, 16), (256, 8), (512, 4)], 512),
        ("MobileNetV2", 812_836, [(12, 16), (16, 8), (48, 4)], 1280),
    ],
)
def test_a_network_has_the_published_size_and_shows_three_maps(
    networks: ModuleType, name: str, parameters: int, sizes: list[tuple[int, int]], width: int
) -> None:
    network = networks.make(name, seed=0).eval()
    seen = network(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert [tuple(m.shape[1:]) for m in seen.maps] == [(channels, side, side) for channels, side in sizes]
    assert seen.pooled.shape == (2, width)
    assert seen.logits.shape == (2, 100)
    last = seen.maps[-1]
    expected = seen.before if name == "MobileNetV2" else seen.before.relu()  # its blocks end without a ReLU
    assert torch.equal(last, expected)
    assert (seen.before < 0).any()


def test_first_weights_depend_on_the_seed_alone(networks: ModuleType) -> None:
    one, same, other = (networks.make("resnet8x4", seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])
