"""Things to move: a slider or a choice beside the picture or text that follows it. A module per lesson's topic."""

from kdref.lab.widgets.panel import Panel
from kdref.lab.widgets.quiz import quiz_panel
from kdref.lab.widgets.response import balance_explorer, balance_grid
from kdref.lab.widgets.soft_targets import temperature_explorer

__all__ = ["Panel", "balance_explorer", "balance_grid", "quiz_panel", "temperature_explorer"]
