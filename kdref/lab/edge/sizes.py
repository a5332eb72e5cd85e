"""What a network costs: bytes, multiply-adds, milliseconds; and which of several are worth their price.

Lesson: notebooks/14_edge.ipynb.
"""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from kdref.lab.training.forward import evaluating

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["Timings", "file_bytes", "fold_batch_norm", "front", "multiply_adds", "timings", "weight_bytes"]

WARM_UP = 10


class Timings(NamedTuple):
    """Milliseconds of one call."""

    median: float
    p95: float


def timings(call: Callable[[], object], *, repeats: int = 200) -> Timings:
    """Median and 95th percentile of the milliseconds that a call takes, after a warm-up.

    Args:
        call: What to time: one pass.
        repeats: Timed calls, 20 or more, or there is no 95th percentile to speak of.

    Returns:
        Both. Compare within one run only: machines and moments differ.

    Raises:
        ValueError: If the repeats are fewer than 20.
    """
    if repeats < 20:
        raise ValueError(f"a 95th percentile needs 20 repeats or more, got {repeats}")
    taken = []
    for _ in range(WARM_UP + repeats):
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    found = torch.tensor(taken[WARM_UP:], dtype=torch.float64) / 1e6
    return Timings(found.median().item(), found.quantile(0.95).item())


def multiply_adds(model: nn.Module, example: Tensor) -> int:
    """Multiply-adds of convolutions, linear layers and attention for one example; what is not a product isn't counted.

    Args:
        model: Counted in eval mode, its mode restored.
        example: A batch of any size.

    Example:
        >>> multiply_adds(nn.Linear(3, 2), torch.zeros(5, 3))
        6
    """
    counter = FlopCounterMode(display=False)
    with evaluating(model), torch.no_grad(), counter:
        model(example[:1])
    return int(counter.get_total_flops()) // 2  # a multiplication and an addition are two operations


def file_bytes(path: str | Path) -> int:
    """Bytes of a file on disk."""
    return Path(path).stat().st_size


def weight_bytes(model: nn.Module, bits: dict[str, int] | None = None) -> int:
    """Bytes that a network's values need: 4 each, but for weights of fewer bits, which need a 4-byte scale per channel.

    Args:
        model: Counted as it is; fold batch normalisation first, as a file does.
        bits: Name of a weight to its bits; packed without gaps, one scale per row of its first axis.

    Raises:
        ValueError: If there is no weight of a name.

    Example:
        >>> weight_bytes(nn.Linear(64, 8)), weight_bytes(nn.Linear(64, 8), {"weight": 4})
        (2080, 320)
    """
    values, bits = dict(model.named_parameters()), bits or {}
    if unknown := sorted(set(bits) - set(values)):
        raise ValueError(f"there are no weights {unknown}: there are {sorted(values)}")
    total = 0
    for name, value in values.items():
        total += -(-value.numel() * bits[name] // 8) + 4 * len(value) if name in bits else 4 * value.numel()
    return total


def fold_batch_norm(model: nn.Sequential) -> nn.Sequential:
    """A copy of a small network of the lab in which each normalisation is part of the convolution before it.

    In eval mode it says the same. Its weights are those that a file holds, so these are what to round.

    Args:
        model: From ``models.make``: ``features`` with convolutions, each followed by its normalisation.

    Returns:
        The copy, in eval mode, its layers named as before.
    """
    changed = copy.deepcopy(model).eval()
    features = changed.get_submodule("features")
    before, names = None, list(dict(features.named_children()))
    for name in names:
        layer = features.get_submodule(name)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and before is not None:
            convolution: Any = features.get_submodule(before)
            setattr(features, before, fuse_conv_bn_eval(convolution, layer))
            delattr(features, name)
        before = name
    return changed


def front(frame: "DataFrame", *, cost: str, gain: str) -> "Series":
    """Which rows are on the Pareto front: no other row costs as little, or less, and gains more; or the reverse.

    Args:
        frame: One row per candidate.
        cost: The column of which less is better.
        gain: The column of which more is better.

    Returns:
        A boolean per row, in the frame's order. Of equal rows all are on it, or none.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"bytes": [1, 2, 3], "accuracy": [0.7, 0.9, 0.8]})
        >>> front(frame, cost="bytes", gain="accuracy").tolist()
        [True, True, False]
    """
    import pandas as pd

    own, gains = frame[cost].to_numpy(), frame[gain].to_numpy()
    cheap, good = own[:, None] - own, gains - gains[:, None]  # a row per candidate: what each other saves, and has more
    beaten = (cheap >= 0) & (good >= 0) & ((cheap > 0) | (good > 0))
    return pd.Series(~beaten.any(axis=1), index=frame.index)
