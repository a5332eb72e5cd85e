"""The embedded data sets, offline, split into train, validation and test. Sources and licences: data/README.md.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import functools
import gzip
import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdref.lab.data import mnist1d_generator
from kdref.lab.data.files import FILES, data_file

__all__ = ["Split", "digits", "mnist1d", "mnist1d_fresh", "mnist5k", "shuffled", "verify"]

DIGITS_SIZES = (1000, 297, 500)  # train, validation, test
MNIST5K_SIZES = (3000, 500, 1500)
MNIST1D_TRAIN = 4000  # of 5,000; the rest is the test set
# SHA-256 of the canonical signals in thousandths and their labels: the same wherever arithmetic is IEEE double
MNIST1D_FINGERPRINT = "a21ccdf463c19eeabb1d4a789c3c0708a1b5f8709cc21397ddcbcd14085b1ca8"


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """A data set in three parts. The tensors are yours: every call of a loader makes new ones.

    ``validation`` is for choosing (a temperature, a learning rate, an epoch), ``test`` for reporting, once.
    """

    name: str
    classes: int
    train_x: Tensor  # (N, ...) float32
    train_y: Tensor  # (N,) int64
    validation_x: Tensor
    validation_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input, channels first."""
        return tuple(self.train_x.shape[1:])

    def __repr__(self) -> str:
        """Sizes instead of values."""
        sizes = f"{len(self.train_x)} train, {len(self.validation_x)} validation, {len(self.test_x)} test"
        return f"{self.name}: {sizes}; inputs {self.shape}, {self.classes} classes"


def digits(seed: int = 0) -> Split:
    """1,797 handwritten digits, 8 × 8 pixels, ten classes: 1,000 train, 297 validation, 500 test.

    The seed picks the split, so that experiments can pair it with their other seeds. The parts share their writers:
    accuracy on new handwriting would be lower.

    Args:
        seed: Any whole number from 0 to 2³² - 1.

    Returns:
        Inputs ``(N, 1, 8, 8)`` in [0, 1], labels 0 to 9.

    Raises:
        FileNotFoundError: If the embedded file is missing; says how to restore it.
        ValueError: If it is damaged; says how to restore it.

    Example:
        >>> digits()
        digits: 1000 train, 297 validation, 500 test; inputs (1, 8, 8), 10 classes
    """
    table = torch.from_numpy(np.load(data_file("digits.npy"), allow_pickle=False))
    return shuffled("digits", table, DIGITS_SIZES, (1, 8, 8), classes=10, largest=16, seed=seed)


def mnist5k(seed: int = 0) -> Split:
    """5,000 images of MNIST, 28 × 28 pixels, ten classes: 3,000 train, 500 validation, 1,500 test.

    The seed picks the split, so that experiments can pair it with their other seeds.

    Args:
        seed: Any whole number from 0 to 2³² - 1.

    Returns:
        Inputs ``(N, 1, 28, 28)`` in [0, 1], labels 0 to 9.

    Raises:
        FileNotFoundError: If the embedded file is missing; says how to restore it.
        ValueError: If it is damaged; says how to restore it.

    Example:
        >>> mnist5k()
        mnist5k: 3000 train, 500 validation, 1500 test; inputs (1, 28, 28), 10 classes
    """
    return shuffled("mnist5k", _mnist5k_table(), MNIST5K_SIZES, (1, 28, 28), classes=10, largest=255, seed=seed)


def mnist1d(*, validation: int = 500) -> Split:
    """The canonical MNIST-1D: 40-sample signals of ten classes, 4,000 to learn from and 1,000 to test on.

    Generated in a fraction of a second, equal value by value to the package ``mnist1d`` (seed 42).

    Args:
        validation: How many of the 4,000, the last ones, are set aside for tuning. 0 keeps all for training.

    Returns:
        Inputs ``(N, 1, 40)``, standardised over the whole set, labels 0 to 9.

    Raises:
        ValueError: If ``validation`` is not from 0 to 3,999.

    Example:
        >>> mnist1d()
        mnist1d: 3500 train, 500 validation, 1000 test; inputs (1, 40), 10 classes
    """
    if not 0 <= validation < MNIST1D_TRAIN:
        raise ValueError(f"validation must be from 0 to {MNIST1D_TRAIN - 1}, got {validation}")
    signals, labels, _, _ = mnist1d_generator.canonical()
    x, y = _tensors(signals, labels)
    train, end = MNIST1D_TRAIN - validation, MNIST1D_TRAIN
    return Split("mnist1d", 10, x[:train], y[:train], x[train:end], y[train:end], x[end:], y[end:])


def mnist1d_fresh(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """As many new MNIST-1D examples as wanted, on the scale of the canonical set.

    Args:
        count: How many; 100,000 take about a second.
        seed: Any whole number from 0 to 2³² - 1; another seed gives other examples, none of them canonical.

    Returns:
        Inputs ``(count, 1, 40)`` and labels ``(count,)``, drawn uniformly from the ten classes.

    Raises:
        ValueError: If the count is not positive or the seed out of range.

    Example:
        >>> x, y = mnist1d_fresh(3, seed=0)
        >>> x.shape, y.shape
        (torch.Size([3, 1, 40]), torch.Size([3]))
    """
    return _tensors(*mnist1d_generator.fresh(count, seed=seed))


def verify() -> dict[str, str]:
    """Check every embedded file and the MNIST-1D generator.

    Returns:
        For each, by name, ``"ok"`` or the problem and its remedy.
    """
    result = {}
    for name in FILES:
        try:
            data_file(name)
            result[name] = "ok"
        except (OSError, ValueError) as problem:
            result[name] = str(problem)
    signals, labels, _, _ = mnist1d_generator.canonical()
    thousandths = np.concatenate([signals.ravel() * 1000, labels]).round().astype("<i4")
    found = hashlib.sha256(thousandths.tobytes()).hexdigest()
    result["mnist1d"] = (
        "ok"
        if found == MNIST1D_FINGERPRINT
        else (
            f"the generator gives other signals than it should: expected SHA-256 {MNIST1D_FINGERPRINT}, found {found}. "
            "Install NumPy and SciPy anew: pip install --force-reinstall numpy scipy"
        )
    )
    return result


def shuffled(
    name: str,
    table: Tensor,
    sizes: tuple[int, int, int],
    shape: tuple[int, ...],
    *,
    classes: int,
    largest: int,
    seed: int,
) -> Split:
    """Shuffle rows of whole numbers and a label, and cut them into the three parts.

    Args:
        name: Of the data set.
        table: A row per example, the label last.
        sizes: Of train, validation and test.
        shape: Of one input.
        classes: How many there are.
        largest: The number that becomes 1.
        seed: Of the shuffling.
    """
    table = table[torch.from_numpy(np.random.RandomState(seed).permutation(len(table)))]
    x, y = table[:, :-1].reshape(-1, *shape).float() / largest, table[:, -1].long()
    (train_x, validation_x, test_x), (train_y, validation_y, test_y) = x.split(sizes), y.split(sizes)
    return Split(name, classes, train_x, train_y, validation_x, validation_y, test_x, test_y)


@functools.lru_cache(maxsize=1)
def _mnist5k_table() -> Tensor:
    """784 grey values from 0 to 255 and the label, per image; parsed once, never handed out."""
    with gzip.open(data_file("mnist5k.csv.gz"), "rt", encoding="ascii") as lines:
        return torch.from_numpy(np.loadtxt(lines, delimiter=",", dtype=np.uint8))


def _tensors(signals: "np.typing.NDArray[np.float64]", labels: "np.typing.NDArray[np.int64]") -> tuple[Tensor, Tensor]:
    return torch.tensor(signals, dtype=torch.float32)[:, None], torch.tensor(labels, dtype=torch.int64)
