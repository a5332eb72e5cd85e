"""Fit a law to measured losses: robust on logarithms, from many starts, with bootstrap intervals.

As Hoffmann et al. 2022 (https://arxiv.org/abs/2203.15556) and Busbridge et al. 2025 (https://arxiv.org/abs/2502.08606,
Appendix F) fit theirs. SciPy searches, with torch's gradients. Lesson: notebooks/13_scaling_laws.ipynb.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["bootstrap_laws", "fit_law", "law_intervals", "relative_error", "starts"]

Law = TypeVar("Law", bound=tuple[Any, ...])  # a NamedTuple of positive constants


def fit_law(predict: Callable[[Law], Tensor], observed: Tensor, begin: Sequence[Law], *, delta: float = 1e-3) -> Law:
    """The constants under which a law comes nearest to what was observed.

    The distance of each run is Huber's of the difference of logarithms, so a run that went wrong pulls no harder than
    one that is a little off. Constants are sought as logarithms: all are positive.

    Args:
        predict: From the law, whose constants are tensors, to its prediction for each run (R,), differentiable.
        observed: What each run reached (R,), positive.
        begin: Laws to start from; the least distance of all ends wins.
        delta: Where Huber's square becomes a line, in units of log loss.

    Raises:
        ValueError: If there is no start, fewer runs than constants, or an observation that is not positive.
    """
    from scipy.optimize import minimize

    if not begin:
        raise ValueError("begin holds no law to start from: see starts")
    constants = len(begin[0])
    if len(observed) < constants:
        raise ValueError(f"{len(observed)} runs can't fix {constants} constants: measure more, or fit a simpler law")
    if not (observed > 0).all():
        raise ValueError(f"observed must be positive, got {observed.min().item():g}: a law is fitted to logarithms")
    kind, target = type(begin[0]), observed.double().log()

    def distance(logs: Any) -> tuple[float, Any]:
        x = torch.tensor(logs, requires_grad=True)
        loss = F.huber_loss(predict(kind(*x.exp())).log(), target, delta=delta) / delta  # nearly the mean difference
        loss.backward()
        return loss.item(), x.grad.numpy()  # type: ignore[union-attr]

    ends = [
        minimize(distance, np.log(np.array(law, dtype=float)), jac=True, method="L-BFGS-B", options=_PATIENT)
        for law in begin
    ]
    return kind(*np.exp(min(ends, key=lambda end: float(end.fun)).x).tolist())


_PATIENT = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-9, "maxcor": 30}


def starts(kind: Callable[..., Law], grid: Mapping[str, Sequence[float]], *, most: int, seed: int = 0) -> list[Law]:
    """Laws to start from: all combinations of a grid, or so many of them drawn without repetition.

    Args:
        kind: The law's class.
        grid: Each constant's values to try.
        most: How many laws at most.
        seed: Of the draw.
    """
    every = [kind(**dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())]
    if len(every) <= most:
        return every
    chosen = np.random.default_rng(seed).choice(len(every), size=most, replace=False)
    return [every[place] for place in sorted(chosen)]


def bootstrap_laws(
    predict: Callable[[Law], Tensor],
    observed: Tensor,
    law: Law,
    *,
    resamples: int = 200,
    delta: float = 1e-3,
    seed: int = 0,
) -> list[Law]:
    """The law fitted anew to runs drawn with replacement, so many times, each from where the fit to all runs ended.

    Args:
        predict: As for ``fit_law``.
        observed: As for ``fit_law``.
        law: Fitted to all runs.
        resamples: How many times; the paper took 4,096.
        delta: As for ``fit_law``.
        seed: Of the draws.
    """
    generator, laws = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = generator.integers(len(observed), size=len(observed))

        def some(found: Law, at: Any = drawn) -> Tensor:
            return predict(found)[at]

        laws.append(fit_law(some, observed[drawn], [law], delta=delta))
    return laws


def law_intervals(law: Law, laws: Sequence[Law], *, level: float = 0.9) -> pd.DataFrame:
    """A row per constant: its value, and the range of the middle ``level`` of bootstrap laws."""
    values = np.array(laws, dtype=float)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    names = law._fields  # type: ignore[attr-defined]
    return pd.DataFrame({"value": np.array(law, dtype=float), "low": low, "high": high}, index=list(names))


def relative_error(predicted: Tensor, observed: Tensor) -> float:
    """How far off predictions are, as a share of what was observed, in the mean."""
    return float(((predicted.double() - observed.double()).abs() / observed.double()).mean())
