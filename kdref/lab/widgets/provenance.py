"""How many green words a student writes that learnt from marked text, and how often the test finds it.

Lesson: notebooks/16_provenance.ipynb.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import ipywidgets

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Detection", "detection", "detection_explorer", "detection_figure"]

START = (200, 0.2, 2.0)  # pairs, the share of marked text, the strength of the mark
LEVEL, FRACTION = 0.01, 0.5
MOST = 1000


class Detection(NamedTuple):
    """What a text of so many different pairs will show."""

    green: float  # the share of green words to expect
    needed: int  # green words from which on the p-value is below LEVEL; one more than there are pairs if none is enough
    found: float  # how often it has so many
    p_value: float  # of a text with the median number of green words


def detection(pairs: int, share: float, strength: float) -> Detection:
    """Work out the test's chances for a writer without preferences, half of whose words are green.

    Args:
        pairs: Different pairs of neighbouring words in the text that is tested, at least 1.
        share: The share of marked text in what the student learnt from, from 0 to 1.
        strength: The watermark's bonus for green words, in nats, at least 0.

    Raises:
        ValueError: If a value is out of its range.
    """
    from scipy.stats import binom

    if pairs < 1 or pairs != int(pairs):
        raise ValueError(f"pairs must be a whole number, at least 1, got {pairs}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share:g}")
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength must be finite and at least 0, got {strength:g}")
    marked = math.exp(strength) / (math.exp(strength) + 1)
    green = FRACTION + share * (marked - FRACTION)
    needed = int(binom.isf(LEVEL, pairs, FRACTION)) + 1  # the most green words that are still too few, and one
    found, middle = float(binom.sf(needed - 1, pairs, green)), int(binom.median(pairs, green))
    return Detection(green, needed, found, float(binom.sf(middle - 1, pairs, FRACTION)))


def detection_figure(pairs: int, share: float, strength: float) -> "Figure":
    """Green words of an unmarked and of a marked student, and how often longer texts give it away.

    Args:
        pairs: Different pairs of neighbouring words in the text that is tested.
        share: The share of marked text in what the student learnt from.
        strength: The watermark's bonus for green words, in nats.
    """
    from kdref.lab.report import style

    with style.new_figure(11.5, 4.0, columns=2) as (figure, axes):
        _draw(axes, pairs, share, strength)
    return figure


def detection_explorer() -> Panel:
    """Choose the text's length, the share of marked text and the mark's strength, and see what the test sees.

    Returns:
        A panel whose children are the three sliders, the picture (PNG) and a line of text.
    """
    from kdref.lab import report

    figure = detection_figure(*START)
    figure.set_layout_engine("none")
    style, layout = {"description_width": "14em"}, {"width": "40em"}
    sliders = [
        ipywidgets.IntSlider(
            value=START[0], min=10, max=MOST, step=10, description="different pairs", style=style, layout=layout
        ),
        ipywidgets.FloatSlider(
            value=START[1], min=0, max=1, step=0.05, description="share of marked text", style=style, layout=layout
        ),
        ipywidgets.FloatSlider(
            value=START[2], min=0, max=4, step=0.25, description="strength of the mark", style=style, layout=layout
        ),
    ]
    chart = ipywidgets.Image(format="png", layout={"width": "1080px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        pairs, share, strength = (slider.value for slider in sliders)
        _draw(figure.axes, pairs, share, strength)
        chart.value = report.png(figure)
        line.value = _words(pairs, share, strength)

    draw()
    for slider in sliders:
        slider.observe(draw, names="value")
    text = "Detection explorer: run this cell, then choose how long the text is and how much of the mark is in it."
    return Panel([*sliders, chart, line], text=text)


def _words(pairs: int, share: float, strength: float) -> str:
    found = detection(pairs, share, strength)
    return (
        f"green words {100 * found.green:.1f} % · found (p below 1 %) in {100 * found.found:.1f} % of such texts · "
        f"p-value of a middling one {found.p_value:.2g}"
    )


def _draw(axes: Sequence["Axes"], pairs: int, share: float, strength: float) -> None:
    from scipy.stats import binom

    from kdref.lab.report import style

    found = detection(pairs, share, strength)
    counts, power = axes
    counts.clear()
    _draw_counts(counts, pairs, found)
    power.clear()
    lengths = [*range(10, 100, 5), *range(100, MOST + 1, 20)]
    power.plot(lengths, binom.sf(binom.isf(LEVEL, lengths, FRACTION), lengths, found.green), color=style.COLORS[1])
    power.plot([pairs], [found.found], "o", color=style.COLORS[1], label=f"{pairs} pairs")
    power.axhline(LEVEL, color="black", linestyle="--", linewidth=1.5, label="false alarms, at most")
    power.set(title="how often it is found", xlabel="different pairs in the text", xlim=(0, MOST), ylim=(-0.02, 1.05))
    power.legend(loc="center right")
    style.percent_axis(power.yaxis)


def _draw_counts(ax: "Axes", pairs: int, found: Detection) -> None:
    from scipy.stats import binom

    from kdref.lab.report import style

    hits = range(pairs + 1)
    shares = [hit / pairs for hit in hits]
    for green, color, line, label in (
        (FRACTION, style.COLORS[0], "--", "never saw the mark"),
        (found.green, style.COLORS[1], "-", "this student"),
    ):
        heights = binom.pmf(hits, pairs, green)
        ax.plot(shares, heights, line, color=color, label=label, drawstyle="steps-mid")
    ax.set(title=f"green words among {pairs} pairs", xlabel="share of green words", ylabel="probability", xlim=(0.2, 1))
    ax.set_ylim(0, 1.5 * ax.dataLim.y1)  # room for the legend
    ax.axvline((found.needed - 0.5) / pairs, color="black", linewidth=1.5, label="from here on p is below 1 %")
    ax.legend(loc="upper right")
    style.percent_axis(ax.xaxis)
