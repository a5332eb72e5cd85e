"""Figures as a notebook shows them: with alternative text, as small pictures.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import io
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from kdref.lab.course.source import display_as

__all__ = ["figure", "png"]

_DPI = 144


def figure(fig: Figure, alt: str) -> None:
    """Display a figure, with its alternative text as a caption that everyone can read.

    The figure is closed afterwards, so a notebook doesn't show it a second time.

    Args:
        fig: A matplotlib figure, from this module or your own.
        alt: What there is to see, in a sentence: what is on the axes, and what follows. No number that changes from
            machine to machine, for this text is compared when the notebook is tested.

    Raises:
        ValueError: If ``alt`` has fewer than five words: it must replace the picture for those who can't see it.
    """
    if len(alt.split()) < 5:
        raise ValueError(f"alt text must say what the figure shows, in five words or more; got {alt!r}")
    width, height = (round(inches * 96) for inches in fig.get_size_inches())
    shown = {"image/png": png(fig), "text/plain": f"Figure: {alt}"}
    about = {"image/png": {"width": width, "height": height, "alt": alt}}
    display_as(shown, about)
    caption = alt.replace("*", "\\*")
    display_as({"text/markdown": f"*Figure: {caption}*", "text/plain": f"Figure: {alt}"})
    plt.close(fig)


def png(fig: Figure, *, dpi: int = _DPI) -> bytes:
    """A figure as PNG bytes of at most 256 colours, a third of the usual size: notebooks are kept in git.

    Args:
        fig: A matplotlib figure.
        dpi: Dots per inch.
    """
    canvas, before = fig.canvas, fig.dpi
    try:
        fig.dpi = dpi
        drawing: Any = FigureCanvasAgg(fig)
        drawing.draw()  # once; savefig draws twice, and writes a file that would have to be read again
        picture = Image.fromarray(np.asarray(drawing.buffer_rgba())).convert("RGB")
    finally:
        fig.dpi = before
        fig.set_canvas(canvas)
    small = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(small, format="PNG", optimize=True)
    return small.getvalue()
