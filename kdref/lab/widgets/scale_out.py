"""How much of a training step goes into exchanging gradients: a calculation, by size, batch, processes and network.

Lesson: notebooks/17_scale_out.ipynb.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import ipywidgets

from kdref.lab.widgets.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Cost", "communication_explorer", "communication_figure", "cost"]

NETWORKS = {
    "Ethernet, 1 Gbit/s": 0.125e9,
    "Ethernet, 10 Gbit/s": 1.25e9,
    "InfiniBand, 400 Gbit/s": 50e9,
    "between GPUs, 450 GB/s": 450e9,
}
"""Bytes per second in one direction, as sellers count them."""
SPEED = 100e12  # operations per second that a process gets done
START = (8.0, 13, 3, "Ethernet, 10 Gbit/s")  # log10 of parameters, log2 of tokens, log2 of processes, network
TOKENS = range(6, 21)


class Cost(NamedTuple):
    """Of one step, in seconds."""

    compute: float
    exchange: float
    share: float  # of the step, if nothing overlaps
    hidden: float  # share left, if all of the backward pass is used for exchanging


def cost(parameters: float, tokens: float, processes: int, bandwidth: float, *, speed: float = SPEED) -> Cost:
    """Work out a step of a dense network: 6 operations per parameter and token, and a ring that sums float32 gradients.

    Args:
        parameters: Trainable ones.
        tokens: Per process and step; for other networks, how often an example uses each weight, times examples.
        processes: At least 1.
        bandwidth: Bytes per second that each process can send, while it receives as many.
        speed: Operations per second of one process.

    Raises:
        ValueError: If a value is out of its range.
    """
    for name, value in {"parameters": parameters, "tokens": tokens, "bandwidth": bandwidth, "speed": speed}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value:g}")
    if processes < 1 or processes != int(processes):
        raise ValueError(f"processes must be a whole number, at least 1, got {processes}")
    compute = 6 * parameters * tokens / speed
    exchange = 2 * (processes - 1) / processes * 4 * parameters / bandwidth
    waits = max(0.0, exchange - 2 / 3 * compute)  # two thirds of the operations are the backward pass's
    return Cost(compute, exchange, exchange / (compute + exchange), waits / (compute + waits))


def communication_figure(log_parameters: float, log_tokens: int, log_processes: int, network: str) -> "Figure":
    """Share of a step that goes into exchanging gradients, against the tokens of a process.

    Args:
        log_parameters: Trainable parameters, logarithm to base 10.
        log_tokens: Tokens per process and step, logarithm to base 2: where the mark is.
        log_processes: Processes, logarithm to base 2.
        network: One of NETWORKS.
    """
    from kdref.lab.report import style

    with style.new_figure(7.5, 4.2) as (figure, (ax,)):
        _draw(ax, log_parameters, log_tokens, log_processes, network)
    return figure


def communication_explorer() -> Panel:
    """Choose sizes and the network, and see how much of a step is spent on exchanging gradients.

    Returns:
        A panel whose children are the four controls, the picture (PNG) and a line of text.
    """
    from kdref.lab import report

    figure = communication_figure(*START)
    figure.set_layout_engine("none")
    style, layout = {"description_width": "16em"}, {"width": "42em"}
    both = {"style": style, "layout": layout}
    controls = [
        ipywidgets.FloatSlider(
            value=START[0], min=5, max=11, step=0.5, description="parameters, power of 10", readout_format=".1f", **both
        ),
        ipywidgets.IntSlider(
            value=START[1], min=TOKENS[0], max=TOKENS[-1], description="tokens a process, power of 2", **both
        ),
        ipywidgets.IntSlider(value=START[2], min=0, max=10, description="processes, power of 2", **both),
        ipywidgets.Dropdown(value=START[3], options=list(NETWORKS), description="network", **both),
    ]
    chart = ipywidgets.Image(format="png", layout={"width": "720px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        chosen = [control.value for control in controls]
        _draw(figure.axes[0], *chosen)
        chart.value = report.png(figure)
        line.value = _words(*chosen)

    draw()
    for control in controls:
        control.observe(draw, names="value")
    text = "Communication explorer: run this cell, then choose how large the student is and how it is trained."
    return Panel([*controls, chart, line], text=text)


def _of(log_parameters: float, log_tokens: int, log_processes: int, network: str) -> Cost:
    return cost(10**log_parameters, 2**log_tokens, 2**log_processes, NETWORKS[network])


def _words(log_parameters: float, log_tokens: int, log_processes: int, network: str) -> str:
    found = _of(log_parameters, log_tokens, log_processes, network)
    return (
        f"{2**log_processes} processes · computing {_time(found.compute)} · exchanging {_time(found.exchange)} · "
        f"{100 * found.share:.0f} % of the step, {100 * found.hidden:.0f} % if hidden behind the backward pass"
    )


def _time(seconds: float) -> str:
    milliseconds = float(f"{1000 * seconds:.2g}")  # two digits
    return f"{milliseconds / 1000:,.10g} s" if milliseconds >= 1000 else f"{milliseconds:.10g} ms"


def _draw(ax: "Axes", log_parameters: float, log_tokens: int, log_processes: int, network: str) -> None:
    from kdref.lab.report import style

    ax.clear()
    tokens = [2.0**power for power in TOKENS]
    found = [_of(log_parameters, power, log_processes, network) for power in TOKENS]
    ax.plot(tokens, [one.share for one in found], color=style.COLORS[0], label="nothing overlaps")
    ax.plot(tokens, [one.hidden for one in found], "--", color=style.COLORS[1], label="hidden behind the backward pass")
    here = _of(log_parameters, log_tokens, log_processes, network)
    ax.plot([2.0**log_tokens], [here.share], style.MARKERS[0], color=style.COLORS[0])
    ax.plot([2.0**log_tokens], [here.hidden], style.MARKERS[1], color=style.COLORS[1])
    ax.set_xscale("log", base=2)
    ax.set(xlabel="tokens per process and step", ylabel="share of the step", ylim=(-0.02, 1.02))
    ax.legend(loc="lower left")
    style.percent_axis(ax.yaxis)
