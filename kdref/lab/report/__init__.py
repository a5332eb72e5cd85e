"""What a lesson reports: figures with alternative text, tables, intervals, verdicts.

Everything is displayed in forms that stay the same from machine to machine, except for the pixels of figures, which
nbval doesn't compare.

Lesson: notebooks/01_soft_targets.ipynb.
"""

from kdref.lab.report.figures import figure, png
from kdref.lab.report.plots import bars, curve, examples, grid, intervals, matrix
from kdref.lab.report.tables import comparison, interval, table, tally, verdict, verdicts

__all__ = [
    "bars",
    "comparison",
    "curve",
    "examples",
    "figure",
    "grid",
    "interval",
    "intervals",
    "matrix",
    "png",
    "table",
    "tally",
    "verdict",
    "verdicts",
]
