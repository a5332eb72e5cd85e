"""The benchmark's lines of losses inside the network: on features, attention and relations."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdref.attention import attention_transfer_loss
from kdref.feature import VariationalRegressor, fsp_loss, neuron_selectivity_loss, overhaul_loss
from kdref.lab.bench import peers, plain_feature_losses, plain_relation_losses
from kdref.lab.bench.peers import Loss
from kdref.lab.bench.row import Row
from kdref.relation import (
    ContrastiveMemory,
    correlation_congruence_loss,
    crd_loss,
    probabilistic_transfer_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)

__all__ = ["ROWS", "embedded", "features", "features_and_margin", "stacked"]

EXAMPLES = 50_000  # in the contrastive memory
EMBEDDINGS = ((128, 128), (128, 512), (128, 2048))
MAPS = ((128, 64, 16, 16),)
OUTPUT = {"io": "output", "path": ""}
PAIR = {"": {"student": OUTPUT, "teacher": OUTPUT}}
ROLES = [("first", 0), ("second", 1)]
FLOW = {"": {f"{side}_{role}": {"io": at, "path": "maps"} for side in ("student", "teacher") for role, at in ROLES}}


def features(*size: int) -> tuple[Tensor, Tensor]:
    """A student's and a teacher's features after a ReLU."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(*size, generator=generator).relu() for _ in range(2))
    return student, teacher


def features_and_margin(*size: int) -> tuple[Tensor, ...]:
    """Features before the ReLU, and a margin for each channel."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(*size, generator=generator) for _ in range(2))
    return student, teacher, torch.linspace(-1.0, -0.5, size[1])


def stacked(*size: int) -> tuple[Tensor, Tensor]:
    """Features of two layers, stacked."""
    return features(2, *size)


def embedded(batch: int, negatives: int, width: int) -> tuple[Tensor, ...]:
    """Embeddings at length 1, their indices, and indices of negatives."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(batch, width, generator=generator) for _ in range(2))
    student, teacher = (x / x.norm(dim=1, keepdim=True) for x in (student, teacher))
    indices = torch.randperm(EXAMPLES, generator=generator)[:batch]
    return student, teacher, indices, torch.randint(EXAMPLES, (negatives,), generator=generator)


@functools.cache
def memory(width: int) -> ContrastiveMemory:
    """A memory of random banks; the same one at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ContrastiveMemory(1, 1, num_examples=EXAMPLES, width=width)


@functools.cache
def regressor(channels: int, dtype: torch.dtype) -> VariationalRegressor:
    """A regressor between equal channels; the same one at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VariationalRegressor(channels, channels).to(dtype)


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD's distances and angles, 1 : 2."""
    return rkd_distance_loss(student, teacher) + 2 * rkd_angle_loss(student, teacher)


def flow(student: Tensor, teacher: Tensor) -> Tensor:
    """FSP of two stacked layers."""
    (s, s_next), (t, t_next) = student.unbind(), teacher.unbind()  # backward is one copy; indexing would fill zeros
    return fsp_loss((s, s_next), (t, t_next))


def variational(student: Tensor, teacher: Tensor) -> Tensor:
    """VID, the layers of its regressor included."""
    return regressor(student.shape[1], student.dtype).loss(student, teacher)


def plain_variational(student: Tensor, teacher: Tensor) -> Tensor:
    """VID with the same regressor."""
    return plain_feature_losses.variational(student, teacher, regressor(student.shape[1], student.dtype))


def contrastive(student: Tensor, teacher: Tensor, indices: Tensor, negatives: Tensor) -> Tensor:
    """CRD without its heads."""
    return crd_loss(student, teacher, indices, negatives, memory(student.shape[1]))


def plain_contrastive(student: Tensor, teacher: Tensor, indices: Tensor, negatives: Tensor) -> Tensor:
    """CRD by a gather."""
    return plain_relation_losses.contrastive(student, teacher, indices, negatives, memory(student.shape[1]))


def published_variational() -> Loss:
    """torchdistill's VID, which takes a mean and a variance."""
    loss = peers.torchdistill("VIDLoss", PAIR)

    def with_regressor(student: Tensor, teacher: Tensor) -> Tensor:
        layers = regressor(student.shape[1], student.dtype)
        return loss((layers(student), layers.variance.reshape(1, -1, 1, 1)), teacher)

    return with_regressor


def published_overhaul() -> Loss:
    """mmrazor's OFD, which takes the teacher's features after the margin."""
    loss = peers.mmrazor("ofd_loss", "OFDLoss")
    return lambda student, teacher, margin: loss(student, torch.maximum(teacher, margin[:, None, None]))


def _torchdistill(name: str, *arguments: Any, **settings: Any) -> dict[str, Callable[[], Loss]]:
    return {"torchdistill": functools.partial(peers.torchdistill, name, *arguments, **settings)}


RELATIONAL = _torchdistill("RKDLoss", "", "", dist_factor=1.0, angle_factor=2.0, reduction="mean")
KERNEL = {"type": "gaussian", "gamma": 0.4, "max_p": 2}

ROWS = (
    Row(
        "RKD",
        relational,
        plain_relation_losses.relational,
        features,
        ((64, 256), (128, 256)),
        RELATIONAL,
        "at least 3 / 1",
    ),
    Row(
        "RKD",
        relational,
        plain_relation_losses.relational,
        features,
        ((256, 256),),
        RELATIONAL,
        "at least 2 / 1",
    ),
    Row(
        "RKD",
        relational,
        plain_relation_losses.relational,
        features,
        ((256, 2048),),
        RELATIONAL,
        "at least 2 / 4",
        share=10,
    ),
    Row(
        "NST",
        neuron_selectivity_loss,
        plain_feature_losses.selectivity,
        features,
        ((16, 64, 8, 8),),
        target="at least 15 / 1",
    ),
    Row(
        "NST",
        neuron_selectivity_loss,
        plain_feature_losses.selectivity,
        features,
        ((32, 256, 16, 16),),  # the plain form takes 6 GB
        target="at least 80 / 1",
        share=20,
    ),
    Row(
        "FSP",
        flow,
        plain_feature_losses.flow,
        stacked,
        ((16, 32, 16, 16),),
        _torchdistill("FSPLoss", FLOW),
        "at least 5 / 1",
    ),
    Row(
        "SP",
        similarity_preserving_loss,
        plain_relation_losses.similarity,
        features,
        EMBEDDINGS,
        _torchdistill("SPKDLoss", "", "", reduction="batchmean"),
    ),
    Row(
        "CC",
        correlation_congruence_loss,
        plain_relation_losses.congruence,
        features,
        EMBEDDINGS,
        _torchdistill("CCKDLoss", "", "", kernel_config=KERNEL, reduction="batchmean"),
    ),
    Row(
        "PKT",
        probabilistic_transfer_loss,
        plain_relation_losses.transfer,
        features,
        EMBEDDINGS,
        _torchdistill("PKTLoss", "", "output", "", "output"),
    ),
    Row("AT", attention_transfer_loss, plain_feature_losses.attention, features, MAPS, _torchdistill("ATLoss", PAIR)),
    Row("VID", variational, plain_variational, features, MAPS, {"torchdistill": published_variational}),
    Row(
        "OFD",
        overhaul_loss,
        plain_feature_losses.overhaul,
        features_and_margin,
        MAPS,
        {"mmrazor": published_overhaul},
    ),
    Row(
        "CRD",
        contrastive,
        plain_contrastive,
        embedded,
        ((64, 16384, 128),),
        {"torchdistill": peers.torchdistill_contrast},
        "at least 3 / 4",
        share=5,
    ),
)
