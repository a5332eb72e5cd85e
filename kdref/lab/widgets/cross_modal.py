"""Two sensors' view of the same moment, with what their networks make of it, softened.

Lesson: notebooks/07_cross_modal.ipynb.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_moment", "sensor_explorer", "sensor_figure"]


def sensor_figure(
    signals: Mapping[str, Tensor],
    logits: Mapping[str, Tensor],
    labels: Tensor,  # (N,)
    *,
    number: int,
    temperature: float,
    class_names: Sequence[str],
    seconds: float,
) -> "Figure":
    """A window of each sensor above, every network's softened probabilities below.

    Args:
        signals: Unit of the sensor to its windows ``(N, 3, T)``; the keys are the axes' labels.
        logits: Network's name to its logits ``(N, C)``.
        labels: The right classes.
        number: Which window.
        temperature: Of the softmax, positive.
        class_names: Names of the classes.
        seconds: Length of a window.
    """
    from kdref.lab.report import style

    with style.new_figure(10, 6.4, rows=2, columns=2) as (figure, axes):
        place = axes[2].get_subplotspec()
        assert place is not None
        for ax in axes[2:]:
            ax.remove()
        below = figure.add_subplot(place.get_gridspec()[1, :])  # of the same grid, or the layout lets them overlap
        draw_moment(
            [*axes[:2], below],
            signals,
            logits,
            labels,
            number=number,
            temperature=temperature,
            class_names=class_names,
            seconds=seconds,
        )
    return figure


def draw_moment(
    axes: Sequence["Axes"],
    signals: Mapping[str, Tensor],
    logits: Mapping[str, Tensor],
    labels: Tensor,
    *,
    number: int,
    temperature: float,
    class_names: Sequence[str],
    seconds: float,
) -> None:
    """Draw on given axes: one per sensor, then one for the probabilities; see ``sensor_figure``."""
    from kdref.lab.report import plots, style

    for ax, (unit, windows) in zip(axes, signals.items(), strict=False):
        ax.clear()
        time = torch.arange(windows.shape[-1]) * seconds / windows.shape[-1]
        for line, (name, values) in enumerate(zip("xyz", windows[number], strict=True)):
            ax.plot(time, values, color=style.COLORS[line], linestyle=("-", "--", ":")[line], label=name)
        largest = float(windows.abs().flatten().quantile(0.999))  # the same scale for all windows
        ax.set(xlabel="seconds", ylabel=unit, ylim=(-largest, largest))
        ax.legend(loc="upper right", ncols=3)
    below = axes[-1]
    below.clear()
    series = {
        name: torch.softmax(scores[number].detach().cpu().double() / temperature, -1) for name, scores in logits.items()
    }
    plots.draw_bars(below, series, names=[name.replace(" ", "\n") for name in class_names])
    below.set(ylim=(0, 1), ylabel="softened probability")
    below.set_title(f"the right class is {class_names[int(labels[number])]}", fontweight="normal")
    below.legend(loc="upper right")


def sensor_explorer(
    signals: Mapping[str, Tensor],
    logits: Mapping[str, Tensor],
    labels: Tensor,  # (N,)
    *,
    class_names: Sequence[str],
    seconds: float,
) -> Panel:
    """Choose a window and a temperature; see both sensors' signals and what each network says.

    Args:
        signals: As for ``sensor_figure``.
        logits: As for ``sensor_figure``; the first one is the teacher.
        labels: The right classes.
        class_names: Names of the classes.
        seconds: Length of a window.

    Returns:
        A panel whose children are the window, the temperature, the picture (PNG) and a line of text.

    Raises:
        ValueError: If the numbers of windows differ.
    """
    from kdref.lab import report

    lengths = {len(labels), *(len(part) for part in (*signals.values(), *logits.values()))}
    if len(lengths) != 1:
        raise ValueError(f"signals, logits and labels must be of the same windows, got lengths {sorted(lengths)}")
    known = {"class_names": class_names, "seconds": seconds}
    figure = sensor_figure(signals, logits, labels, number=0, temperature=1.0, **known)  # type: ignore[arg-type]
    figure.set_layout_engine("none")
    style, layout = {"description_width": "8em"}, {"width": "36em"}
    window = ipywidgets.IntSlider(value=0, min=0, max=len(labels) - 1, description="window", style=style, layout=layout)
    temperature = ipywidgets.FloatSlider(
        value=1.0, min=0.5, max=8.0, step=0.5, description="temperature τ", style=style, layout=layout
    )
    chart = ipywidgets.Image(format="png", layout={"width": "960px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        number, tau = window.value, temperature.value
        draw_moment(figure.axes, signals, logits, labels, number=number, temperature=tau, **known)  # type: ignore[arg-type]
        chart.value = report.png(figure)
        said = []
        for name, scores in logits.items():
            p = torch.softmax(scores[number].detach().cpu().double() / tau, -1)
            said.append(f"{escape(name)} {escape(class_names[int(p.argmax())])} ({100 * float(p.max()):.0f} %)")
        right = escape(class_names[int(labels[number])])
        line.value = f"window {number}, {right}, τ = {tau:g}: " + ", ".join(said)

    draw()
    for choice in (window, temperature):
        choice.observe(draw, names="value")
    text = "Sensor explorer: run this cell, then choose a window and a temperature."
    return Panel([window, temperature, chart, line], text=text)
