"""Model compression as of 2006: make more examples like those there are, let the large model label them.

Source: Bucilă, Caruana and Niculescu-Mizil, "Model Compression", KDD 2006,
https://doi.org/10.1145/1150402.1150464 (MUNGE, Algorithm 1). Lesson: notebooks/10_transfer_data.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: N examples, D attributes.
"""

import math
import numbers

import torch
from torch import Tensor

__all__ = ["munge"]


def munge(
    examples: Tensor,  # (N, D)
    *,
    copies: int,
    swap_probability: float,
    local_variance: float,
    generator: torch.Generator,
    nominal: Tensor | None = None,  # (D,)
) -> Tensor:  # (N * copies, D)
    r"""New examples near the old ones: each exchanges attributes with its nearest neighbour, with some noise (MUNGE).

    For each example e in turn, with its nearest neighbour e', and for each attribute a with probability p:

    .. math::
        \sigma = \frac{|e_a - e'_a|}{s}, \quad
        e_a \leftarrow \mathcal N(e'_a, \sigma), \quad e'_a \leftarrow \mathcal N(e_a, \sigma)

    Both sides of an arrow hold *old* values, so both members change, each centred on what the other had; a nominal
    attribute is exchanged as it is. What the paper leaves open: neighbours are found once, among the given examples,
    by the squared Euclidean distance of continuous attributes scaled to [0, 1], plus one for each nominal attribute
    that differs; of equally near ones the first counts; later examples of a copy see what earlier ones changed, and
    copies don't see each other.

    The examples made have no labels: that is the large model's part.

    Args:
        examples: e, floating point, shape ``(N, D)``, N at least 2. Left as they are. Nominal attributes hold codes.
        copies: How many times N examples to make, at least 1. The paper's k.
        swap_probability: p in [0, 1]. At 0 the copies are exact.
        local_variance: s > 0, which *divides* the standard deviation: the larger, the less noise. The paper's name.
        generator: Draws attributes and noise, on the examples' device.
        nominal: True for attributes without an order, shape ``(D,)``, bool. None: all are continuous.

    Returns:
        Shape ``(N * copies, D)``, copy after copy, each in the order of the examples, in the examples' unit.
        Differentiable nowhere. A nominal attribute has the same values, as often, in every copy.

    Raises:
        TypeError: If examples are no floating-point tensor, nominal is not bool, a setting is no number, or there is
            no generator.
        ValueError: If a shape does not fit, a setting is out of range, an example holds nan or infinity, or the
            generator is on another device.

    Example:
        >>> names, draws = torch.tensor([[7.0], [8.0], [9.0]]), torch.Generator().manual_seed(0)
        >>> settings = {"swap_probability": 1.0, "local_variance": 1.0, "nominal": torch.tensor([True])}
        >>> munge(names, copies=1, generator=draws, **settings).flatten()  # 7 ↔ 8, back again, then 9 ↔ 7
        tensor([9., 8., 7.])

    Source: Bucilă et al. 2006, Algorithm 1.
    """
    _check_examples(examples, nominal)
    _check_settings(copies, swap_probability, local_variance)
    _check_generator(generator, examples)
    given = examples.detach().to(torch.promote_types(examples.dtype, torch.float32))
    named = torch.zeros_like(given[0], dtype=torch.bool) if nominal is None else nominal.to(given.device)
    rows = [example.expand(copies, -1) for example in given]  # N times (copies, D): all copies at once
    for i, j in enumerate(_nearest_neighbors(given, named)):
        own, other = rows[i], rows[j]
        chosen = torch.rand(own.shape, generator=generator, device=own.device) < swap_probability
        sd = ((own - other).abs() / local_variance).masked_fill(named, 0)
        noise = sd * torch.randn(2, *own.shape, generator=generator, dtype=own.dtype, device=own.device)
        rows[i], rows[j] = torch.where(chosen, other + noise[0], own), torch.where(chosen, own + noise[1], other)
    return torch.stack(rows, dim=1).flatten(0, 1)


def _nearest_neighbors(examples: Tensor, nominal: Tensor) -> list[int]:
    """The index of each example's neighbour, never its own."""
    low, high = examples.aminmax(dim=0)
    scaled = ((examples - low) / (high - low).masked_fill(high == low, 1))[:, ~nominal]
    names, found = examples[:, nominal], list[int]()
    for rows in torch.arange(len(examples), device=examples.device).split(256):  # 256 × N distances at a time
        far = torch.cdist(scaled[rows], scaled, compute_mode="donot_use_mm_for_euclid_dist").square()
        far = far + (names[rows, None] != names).sum(dim=-1)
        own = rows[:, None] == torch.arange(len(examples), device=examples.device)
        found.extend(far.masked_fill(own, math.inf).argmin(dim=1).tolist())
    return found


def _check_examples(examples: object, nominal: object) -> None:
    if not isinstance(examples, Tensor):
        raise TypeError(f"examples must be a tensor, got {type(examples).__name__}: use torch.as_tensor")
    if not examples.is_floating_point():
        raise TypeError(f"examples must be floating point, got {examples.dtype}: the noise has fractions, use .float()")
    if examples.dim() != 2 or len(examples) < 2 or examples.shape[1] == 0:
        raise ValueError(f"examples must be (N, D), two or more, got {tuple(examples.shape)}: flatten(1) makes rows")
    if not examples.isfinite().all():
        raise ValueError("examples hold nan or infinity, which has no neighbour: fill in or drop what is missing")
    if nominal is None:
        return
    if not isinstance(nominal, Tensor) or nominal.dtype != torch.bool:
        kind = nominal.dtype if isinstance(nominal, Tensor) else type(nominal).__name__
        raise TypeError(f"nominal must be a bool tensor (D,), got {kind}: True where values are names")
    if nominal.shape != examples.shape[1:]:
        raise ValueError(f"nominal must be {tuple(examples.shape[1:])}, one per attribute, got {tuple(nominal.shape)}")


def _check_settings(copies: object, swap_probability: float, local_variance: float) -> None:
    if not isinstance(copies, int) or isinstance(copies, bool):
        raise TypeError(f"copies must be a whole number, got {copies!r}")
    if copies < 1:
        raise ValueError(f"copies must be at least 1, got {copies}")
    _check_numbers(swap_probability=swap_probability, local_variance=local_variance)
    if not 0 <= swap_probability <= 1:
        raise ValueError(f"swap_probability must be in [0, 1], got {swap_probability}: at 0 nothing is exchanged")
    if not 0 < local_variance < math.inf:
        raise ValueError(
            f"local_variance must be positive and finite, got {local_variance}: it divides the noise, so that a "
            "large one leaves little"
        )


def _check_generator(generator: object, examples: Tensor) -> None:
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}: pass a seeded one")
    if generator.device.type != examples.device.type:
        raise ValueError(
            f"generator is on {generator.device}, the examples are on {examples.device}: "
            f"use torch.Generator(device={examples.device.type!r})"
        )


def _check_numbers(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")
