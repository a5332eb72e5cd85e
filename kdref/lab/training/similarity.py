"""How alike two sets of features are, whatever their channels, rotation and scale.

Lesson: notebooks/03_feature_based.ipynb.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdref.lab.training.forward import in_float64

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pandas import DataFrame

__all__ = ["cka", "cka_table"]


def cka(
    x: Tensor,  # (B, ...)
    y: Tensor,  # (B, ...)
) -> float:
    r"""Linear centred kernel alignment: how alike two networks see the relations between the same examples.

    .. math::
        \frac{\langle \tilde x \tilde x^\top, \tilde y \tilde y^\top\rangle_F}
        {\|\tilde x \tilde x^\top\|_F \, \|\tilde y \tilde y^\top\|_F}

    Each example's features are flattened, and each feature's mean over the examples subtracted. The estimate is biased
    upwards where examples are few and features many: take several times more examples than features if you can, and
    compare only values of equal sizes.

    Args:
        x: Features of B examples, of any shape.
        y: Features of the same examples in the same order; may have another shape.

    Returns:
        From 0 to 1; 1 where one is a rotation, reflection, shift or scale of the other. 0 if either is constant.

    Raises:
        ValueError: If there are not equally many examples, at least two.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> round(cka(x, 3 * x.flip(1) + 5), 3)
        1.0
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"needs features of the same examples, two or more, got {len(x)} and {len(y)}")
    return float((_relations(x) * _relations(y)).sum())


def cka_table(rows: "Mapping[str, Tensor]", columns: "Mapping[str, Tensor]") -> "DataFrame":
    """CKA of every layer of one network with every layer of another, on the same examples.

    Args:
        rows: Features by layer, as ``lab.taps`` gives them.
        columns: The other network's.

    Returns:
        A row for each layer of the first, a column for each of the second.
    """
    import pandas as pd

    of_rows, of_columns = ([_relations(features) for features in side.values()] for side in (rows, columns))
    values = [[float((first * second).sum()) for second in of_columns] for first in of_rows]
    return pd.DataFrame(values, index=list(rows), columns=list(columns))


@torch.no_grad()
def _relations(features: Tensor) -> Tensor:  # (B, B)
    """Inner products of the examples' centred features, as a matrix of length 1; zeros where all are equal."""
    flat = in_float64(features.flatten(1))
    centred = flat - flat.mean(dim=0)
    gram = centred @ centred.T
    unit: Tensor = gram / gram.norm().clamp(min=torch.finfo(torch.float64).tiny)
    return unit
