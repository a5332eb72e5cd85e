"""The box that every widget is.

A factory returns a ``Panel``; put it at the end of a cell. Everything is joined by ``observe``, so a test can set
``.value`` and look at the picture's bytes, and nothing needs a front end or a network.
"""

from collections.abc import Sequence
from typing import Any

import ipywidgets

__all__ = ["Panel"]


class Panel(ipywidgets.VBox):  # type: ignore[misc]
    """A column of widgets with a sentence for readers without a running kernel (GitHub, print, a screen reader).

    The plain ``VBox`` writes its children's contents there, picture bytes included, which differ between machines.

    Args:
        children: Widgets, from top to bottom.
        text: Shown where widgets can't be, and compared when the notebook is tested.
    """

    def __init__(self, children: Sequence[Any], *, text: str) -> None:
        """See the class."""
        super().__init__(list(children))
        self.text = text

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**super()._repr_mimebundle_(**kwargs), "text/plain": self.text}
