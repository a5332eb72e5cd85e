"""MNIST-1D: ten digit-like signals that are padded, stretched, scaled, shifted, sheared and buried in noise.

The data set and its generator are Greydanus and Kobak's, "Scaling Down Deep Learning with MNIST-1D", ICML 2024,
https://arxiv.org/abs/2011.14439 (package ``mnist1d``, Apache License 2.0). This is our own code for the same
arithmetic, all examples at once; tests hold it equal to theirs. Lesson: notebooks/01_soft_targets.ipynb.
"""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws", "canonical", "fresh", "templates", "transform"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PADDING = (36, 60)  # zeros appended to the template: fewest and most
LENGTH = 72  # samples while noise is added: 12 of the template and the most padding
FINAL_LENGTH = 40
SCALE, SHEAR = 0.4, 0.75  # widths of the ranges of the random scale and slope
MAX_SHIFT = 48
SMOOTH_NOISE, WHITE_NOISE = 0.25, 0.02  # standard deviations before smoothing
OFFSET = 1e-8  # lifts the template off zero, because the smooth noise goes where the signal is exactly zero
CANONICAL_SEED, CANONICAL_COUNT = 42, 5000
CHUNK = 10_000  # examples drawn at once: bounds the memory to some tens of megabytes


class Draws(NamedTuple):
    """What chance decides about N signals, in the order in which the original draws it for each of them."""

    labels: Ints  # (N,) rows of the templates
    padding: Floats  # (N,) in [0, 1)
    scale: Floats  # (N,) in [0, 1)
    shift: Ints  # (N,) 0 to 47
    smooth_noise: Floats  # (N, 72) standard normal
    white_noise: Floats  # (N, 72) standard normal
    shear: Floats  # (N,) in [0, 1)


def templates() -> Floats:
    """The ten clean digits, shape ``(10, 12)``, row c for digit c; each starts at 0.

    Example:
        >>> templates()[1, :3].round(2)
        array([ 0.  , -0.37, -0.37])
    """
    digits = np.array(
        [
            [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
            [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
            [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
            [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
            [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
            [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
            [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
            [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
            [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
            [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
        ]
    )
    digits -= digits.mean(axis=1, keepdims=True)
    digits /= digits.std(axis=1, keepdims=True)
    digits -= digits[:, :1].copy()
    digits /= 6.0
    return digits


def transform(templates: Floats, draws: Draws) -> Floats:
    """Turn templates into noisy signals: pad, stretch, scale, shift, add noise, shear, resample.

    Smooth noise fills the padding, white noise lies on everything. Nothing is random here but the draws.

    Args:
        templates: Clean signals, shape ``(C, 12)``.
        draws: What chance decided, N of each.

    Returns:
        Signals, shape ``(N, 40)``, not standardised.
    """
    from scipy.ndimage import gaussian_filter1d

    fewest, most = PADDING
    stretched = np.stack(
        [_resample(np.pad(templates + OFFSET, ((0, 0), (0, zeros))), LENGTH) for zeros in range(fewest, most + 1)]
    )
    signals = stretched[(draws.padding * len(stretched)).astype(np.int64), draws.labels]
    signals = signals * (1 + SCALE * (draws.scale - 0.5))[:, None]
    signals = np.take_along_axis(signals, (np.arange(LENGTH) - draws.shift[:, None]) % LENGTH, axis=1)
    signals = np.where(signals == 0, gaussian_filter1d(SMOOTH_NOISE * draws.smooth_noise, 2), signals)
    signals += WHITE_NOISE * draws.white_noise
    signals -= (SHEAR * (draws.shear - 0.5))[:, None] * np.linspace(-0.5, 0.5, LENGTH)
    return _resample(signals, FINAL_LENGTH)


@functools.cache
def canonical() -> tuple[Floats, Ints, float, float]:
    """The published 5,000 examples: standardised signals ``(5000, 40)``, labels, and the raw mean and deviation.

    The first 4,000 are the training set, the rest the test set. The arrays are read-only, since they are shared.
    """
    random = np.random.RandomState(CANONICAL_SEED)
    rand = random.rand
    labels = np.repeat(np.arange(10), CANONICAL_COUNT // 10)
    rows = [
        (rand(), rand(), random.randint(MAX_SHIFT), random.randn(LENGTH), random.randn(LENGTH), rand()) for _ in labels
    ]
    raw = transform(templates(), Draws(labels, *map(np.array, zip(*rows, strict=True))))
    order = random.permutation(CANONICAL_COUNT)
    raw, labels = raw[order], labels[order]
    mean, deviation = float(raw.mean()), float(raw.std())
    signals = (raw - mean) / deviation
    signals.flags.writeable = labels.flags.writeable = False
    return signals, labels, mean, deviation


def fresh(count: int, *, seed: int) -> tuple[Floats, Ints]:
    """New examples from the same distribution, on the canonical set's scale.

    NumPy guarantees the stream of ``RandomState``: the same seed gives the same examples in every version.

    Args:
        count: How many.
        seed: 0 to 2³² - 1. Seeds give unrelated examples; none repeats a canonical one.

    Returns:
        Signals ``(count, 40)``, standardised with the canonical mean and deviation, and labels, drawn uniformly.

    Raises:
        ValueError: If the count is not positive or the seed out of range.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    random = np.random.RandomState([CANONICAL_SEED, seed])  # a list, so that not even seed 42 is the canonical stream
    _, _, mean, deviation = canonical()
    signals, labels = np.empty((count, FINAL_LENGTH)), np.empty(count, dtype=np.int64)
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        draws = _draw(random, part.stop - part.start)
        signals[part] = (transform(templates(), draws) - mean) / deviation
        labels[part] = draws.labels
    return signals, labels


def _draw(random: np.random.RandomState, count: int) -> Draws:
    return Draws(
        labels=random.randint(10, size=count).astype(np.int64),
        padding=random.rand(count),
        scale=random.rand(count),
        shift=random.randint(MAX_SHIFT, size=count).astype(np.int64),
        smooth_noise=random.randn(count, LENGTH),
        white_noise=random.randn(count, LENGTH),
        shear=random.rand(count),
    )


def _resample(rows: Floats, count: int) -> Floats:
    """Linear interpolation of every row to ``count`` points, in the same arithmetic as ``numpy.interp``."""
    old, new = np.linspace(0, 1, rows.shape[1]), np.linspace(0, 1, count)
    left = (np.searchsorted(old, new, side="right") - 1).clip(max=len(old) - 2)
    slope = (rows[:, left + 1] - rows[:, left]) / (old[left + 1] - old[left])
    result: Floats = slope * (new - old[left]) + rows[:, left]
    result[:, -1] = rows[:, -1]
    return result
