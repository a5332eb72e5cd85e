"""What the experiments of lesson 14 share: a network that learnt MNIST-1D, ways to make it smaller, one way to learn.

The large network is folded before it is rounded: a file has no batch normalisation. Weights are rounded, with a step
per channel; the first and the last layer keep 8 bits, as in Esser et al. 2020. Lesson: notebooks/14_edge.ipynb.
"""

import copy
import functools
import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kdref.lab import edge
from kdref.lab.data import mnist1d, mnist1d_fresh
from kdref.lab.experiments._fidelity import batches
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs
from kdref.quantization import LearnedStepSize, calibrated_scale, fake_quantize
from kdref.soft_targets import soft_target_loss

LARGE = "cnn1d-32"
STEPS, FINE, ANEW, BATCH_SIZE, LEARNING_RATE = 500, 150, 650, 100, 0.01  # forty steps go through the training set
TEST, TEST_SEED, TUNING_SEED = 4_000, 141, 142  # fresh signals: nobody learns from them
ENDS = 8  # bits of the first and the last layer


class Parts(NamedTuple):
    """The canonical training set, and fresh signals to measure on."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@functools.lru_cache(maxsize=2)
def parts(tuning: bool = False) -> Parts:
    """Settings are chosen on other fresh signals than those that are reported."""
    split = mnist1d(validation=0)
    return Parts(split.train_x, split.train_y, *mnist1d_fresh(TEST, seed=TUNING_SEED if tuning else TEST_SEED))


def learn(model: nn.Module, x: Tensor, said: Tensor, *, seed: int, steps: int, rate: float) -> nn.Module:
    """Take so many steps on what is said of the inputs: labels, or a teacher's logits and then nothing else."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for inputs, targets in itertools.islice(batches(x, said, seed=seed, size=BATCH_SIZE), steps):
        logits = model(inputs)
        if targets.is_floating_point():
            loss = soft_target_loss(logits, targets, temperature=1.0)
        else:
            loss = F.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return model.eval()


@functools.lru_cache(maxsize=2)
def large(seed: int) -> nn.Sequential:
    """The network to be made smaller: it learnt the labels. Take a copy."""
    known, model = parts(), make(LARGE, seed=seed)
    learn(model, known.train_x, known.train_y, seed=seed, steps=STEPS, rate=LEARNING_RATE)
    return model.requires_grad_(False)


@functools.lru_cache(maxsize=2)
def logits(seed: int) -> Tensor:
    """What it says of the training signals."""
    return teacher_outputs(large(seed), parts().train_x)


def folded(seed: int) -> nn.Sequential:
    """A copy of it as a file would hold it, to go on with."""
    return edge.fold_batch_norm(large(seed)).requires_grad_(True)


def weighted(model: nn.Module) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name, in their order."""
    kinds = nn.Conv1d | nn.Conv2d | nn.Linear
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


def bits_of(model: nn.Module, bits: int) -> dict[str, int]:
    """Bits of each weight, by name: the first and the last layer keep more."""
    names = list(weighted(model))
    return {f"{name}.weight": max(bits, ENDS) if name in (names[0], names[-1]) else bits for name in names}


@torch.no_grad()
def rounded(model: nn.Sequential, bits: int) -> nn.Sequential:
    """A copy with rounded weights, each channel by the step that changes it least: quantisation after training."""
    changed = copy.deepcopy(model)
    wanted = bits_of(changed, bits)
    for name, layer in weighted(changed).items():
        b, weight = wanted[f"{name}.weight"], layer.get_parameter("weight")
        weight.copy_(fake_quantize(weight, calibrated_scale(weight, bits=b, method="mse", dim=0), bits=b, dim=0))
    return changed


def rounding(model: nn.Sequential, bits: int) -> nn.Sequential:
    """A copy whose weights are rounded in every pass, with steps that learn and begin where ``rounded`` ends."""
    changed = copy.deepcopy(model)
    wanted = bits_of(changed, bits)
    for name, layer in weighted(changed).items():
        b, weight = wanted[f"{name}.weight"], layer.get_parameter("weight")
        quantizer = LearnedStepSize(weight, bits=b, dim=0)
        quantizer.step.data.copy_(calibrated_scale(weight, bits=b, method="mse", dim=0))
        parametrize.register_parametrization(layer, "weight", quantizer)
    return changed


def settled(model: nn.Sequential) -> dict[str, Tensor]:
    """Leave fp32 weights on the learnt grids in place, ready for a file; their steps by name."""
    steps = {}
    for name, layer in weighted(model).items():
        steps[f"{name}.weight"] = layer.get_parameter("parametrizations.weight.0.step").detach().abs()
        parametrize.remove_parametrizations(layer, "weight")
    return steps


def importance(model: nn.Sequential, number: int) -> Tensor:
    """How much of a convolution's channel goes on: its normalisation's factor times the weights that read it."""
    factor = model.get_submodule(f"features.norm{number}").get_parameter("weight").abs()
    reader = model.get_submodule(f"features.conv{number + 1}" if number < 3 else "classifier")
    score: Tensor = factor * reader.get_parameter("weight").transpose(0, 1).flatten(1).norm(dim=1)
    return score


@torch.no_grad()
def pruned(model: nn.Sequential, width: int, *, generator: torch.Generator | None = None) -> nn.Sequential:
    """A narrower network of the channels that matter most, layer by layer; or of random ones, drawn by the generator.

    What read the channels that go loses its weights for them: nothing is put in their place.
    """
    narrow, kept = make(f"cnn1d-{width}"), torch.arange(1)  # of the signal's one channel
    for number in (1, 2, 3):
        before = kept
        score = (
            importance(model, number)
            if generator is None
            else torch.rand(len(importance(model, number)), generator=generator)
        )
        kept = score.topk(width).indices.sort().values
        own, theirs = (m.get_submodule(f"features.conv{number}").get_parameter("weight") for m in (narrow, model))
        own.copy_(theirs[kept][:, before])
        own_norm, norm = (m.get_submodule(f"features.norm{number}").state_dict() for m in (narrow, model))
        for name, value in own_norm.items():
            value.copy_(norm[name][kept] if value.ndim else norm[name])
    own_last, last = narrow.get_submodule("classifier"), model.get_submodule("classifier")
    own_last.get_parameter("weight").copy_(last.get_parameter("weight")[:, kept])
    own_last.get_parameter("bias").copy_(last.get_parameter("bias"))
    return narrow


def quantised(seed: int, bits: int, by: str, *, rate: float) -> nn.Sequential:
    """The large network, rounded and then taught with the rounding in place: by the labels, or by itself unrounded."""
    known, model = parts(), rounding(folded(seed), bits)
    said = known.train_y if by == "labels" else logits(seed)
    learn(model, known.train_x, said, seed=100 + seed, steps=FINE, rate=rate)
    settled(model)
    return model


def narrow(seed: int, width: int, by: str, *, rate: float, steps: int = ANEW, start: str = "anew") -> nn.Sequential:
    """A narrow network, begun anew or as what is left of the large one, taught by the labels or by the large one."""
    known, model = parts(), make(f"cnn1d-{width}", seed=100 + seed)
    if start != "anew":
        generator = torch.Generator().manual_seed(seed) if start == "random channels" else None
        model = pruned(large(seed), width, generator=generator)
    said = known.train_y if by == "labels" else logits(seed)
    learn(model, known.train_x, said, seed=100 + seed, steps=steps, rate=rate)
    return model


def right(model: nn.Module, *, tuning: bool = False) -> dict[str, float]:
    """Accuracy on the signals to measure on, and on the training set."""
    known = parts(tuning)
    found = {"accuracy": (known.test_x, known.test_y), "training_accuracy": (known.train_x, known.train_y)}
    return {name: (teacher_outputs(model, x).argmax(-1) == y).double().mean().item() for name, (x, y) in found.items()}
