"""The box that every widget is.

A factory returns a ``Panel``; put it at the end of a cell. Everything is joined by ``observe``, so a test can set
``.value`` and look at the picture's bytes, and nothing needs a front end or a network.
"""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import ipywidgets

__all__ = ["Panel"]


class Panel(ipywidgets.VBox):  # type: ignore[misc]
    """A column of widgets with a sentence and a picture for readers without a running kernel (GitHub, the site, print).

    The plain ``VBox`` writes its children's contents there, picture bytes included, which differ between machines.

    Args:
        children: Widgets, from top to bottom.
        text: Shown where widgets can't be, and compared when the notebook is tested; the picture is not compared.
    """

    def __init__(self, children: Sequence[Any], *, text: str) -> None:
        """See the class."""
        super().__init__(list(children))
        self.text = text

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle = {**super()._repr_mimebundle_(**kwargs), "text/plain": self.text}
        picture = next((child for child in _inside(self) if isinstance(child, ipywidgets.Image)), None)
        if picture is None:
            return bundle, {}
        alt = f"{self.text.partition(':')[0]}, at rest: the picture that its controls change"
        return {**bundle, "image/png": base64.b64encode(picture.value).decode()}, {"image/png": {"alt": alt}}


def _inside(box: Any) -> Iterator[Any]:
    for child in getattr(box, "children", ()):
        yield child
        yield from _inside(child)
