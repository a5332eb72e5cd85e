"""The ROC curve of a score that is to tell the guilty from the innocent.

Lesson: notebooks/16_provenance.ipynb.
"""

from typing import Any

import numpy as np

__all__ = ["roc"]


def roc(own: Any, others: Any) -> tuple[np.ndarray, np.ndarray]:
    """Accuse everybody whose score reaches a bar, and lower the bar from above all scores to the lowest.

    Args:
        own: Scores of the guilty, of any shape.
        others: Scores of the innocent, of any shape.

    Returns:
        The shares of the innocent accused and of the guilty found, both from 0 to 1, one for each bar.

    Raises:
        ValueError: If there are no scores of one of them, or one is not a number.
    """
    guilty, innocent = (np.sort(np.asarray(scores, dtype=float).ravel()) for scores in (own, others))
    if not len(guilty) or not len(innocent):
        raise ValueError(f"both need scores, got {len(guilty)} of the guilty and {len(innocent)} of the innocent")
    if np.isnan(guilty).any() or np.isnan(innocent).any():
        raise ValueError("a score is not a number")
    bars = np.concatenate([[np.inf], np.unique(np.concatenate([guilty, innocent]))[::-1]])
    accused, found = (1 - np.searchsorted(scores, bars) / len(scores) for scores in (innocent, guilty))
    return accused, found
