"""Self-distillation of a ridge regression to move: round, penalty and the labels' share, with the curve that follows.

Lesson: notebooks/08_self_distillation.ipynb.
"""

from collections.abc import Callable
from typing import Any

import ipywidgets
import torch
from torch import Tensor

from kdref.lab.widgets.panel import Panel

__all__ = ["draw_fit", "gaussian_kernel", "noisy_sine", "ridge_explorer", "ridge_rounds", "sine"]

_GRID = torch.linspace(0, 1, 201, dtype=torch.float64)


def sine(x: Tensor) -> Tensor:
    """One period on [0, 1]: what is to be learned."""
    return torch.sin(2 * torch.pi * x)


def noisy_sine(count: int, *, seed: int, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """Draw places in [0, 1] and noisy values of ``sine`` there, both ``(count,)``, in float64.

    Args:
        count: How many.
        seed: Draws places and noise.
        noise: Standard deviation.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, generator=generator, dtype=torch.float64)
    return x, sine(x) + noise * torch.randn(count, generator=generator, dtype=torch.float64)


def gaussian_kernel(first: Tensor, second: Tensor, *, width: float = 0.1) -> Tensor:  # (N,), (M,) -> (N, M)
    """Similarity of two places: 1 where they are equal, next to nothing some widths apart."""
    return torch.exp(-((first[:, None] - second) ** 2) / (2 * width**2))


def ridge_rounds(
    fit: Callable[..., Tensor],
    x: Tensor,  # (N,)
    y: Tensor,  # (N,)
    places: Tensor,  # (M,)
    *,
    penalty: float,
    rounds: int,
    label_weight: float = 0.0,
) -> tuple[Tensor, Tensor]:  # (rounds, N), (rounds, M)
    """Fit a ridge regression with a Gaussian kernel to its own fitted values, and predict elsewhere.

    Args:
        fit: ``ridge_self_distillation``.
        x: Where labels are known.
        y: The labels.
        places: Where to predict.
        penalty: c.
        rounds: How many.
        label_weight: The labels' share from the second round on.

    Returns:
        Fitted values of each round, and predictions k(place, X) (T - Y)/c, with T the round's targets.
    """
    fits = fit(gaussian_kernel(x, x), y[:, None], penalty=penalty, rounds=rounds, label_weight=label_weight)[..., 0]
    targets = torch.cat([y[None], (1 - label_weight) * fits[:-1] + label_weight * y])
    return fits, (targets - fits) / penalty @ gaussian_kernel(x, places)


def draw_fit(ax: Any, x: Tensor, y: Tensor, curves: dict[str, Tensor]) -> None:
    """Draw the labels, the sine, and named curves over [0, 1].

    Args:
        ax: Where to draw.
        x: Where labels are known.
        y: The labels.
        curves: Name to values on 201 places from 0 to 1.
    """
    from kdref.lab.report import style

    ax.scatter(x, y, s=18, color="#999999", label="labels")
    ax.plot(_GRID, sine(_GRID), color="#555555", linestyle="--", label="truth")
    for index, (name, values) in enumerate(curves.items()):
        color, marker = style.COLORS[index], style.MARKERS[index]
        ax.plot(_GRID, values, color=color, marker=marker, markevery=25, label=name)
    ax.set(xlim=(0, 1), ylim=(-2.2, 3.2), xlabel="x", ylabel="y")
    ax.legend(loc="upper right", ncols=2)


def ridge_explorer(fit: Callable[..., Tensor], *, seed: int = 0, rounds: int = 60) -> Panel:
    """Move round, penalty and the labels' share of a self-distilled ridge regression on 40 noisy values of a sine.

    Args:
        fit: ``ridge_self_distillation``.
        seed: Draws the labels.
        rounds: The last round that can be chosen.

    Returns:
        A panel whose children are sliders of the round, the penalty (logarithmic) and the labels' share, the picture
        (PNG) and a line of text.
    """
    from kdref.lab import report
    from kdref.lab.report import style

    x, y = noisy_sine(40, seed=seed)
    named, layout = {"description_width": "8em"}, {"width": "36em"}
    turn = ipywidgets.IntSlider(1, 1, rounds, description="round", style=named, layout=layout)
    penalty = ipywidgets.FloatLogSlider(
        0.1, base=10, min=-2, max=1, step=0.1, description="penalty c", style=named, layout=layout, readout_format=".2f"
    )
    share = ipywidgets.FloatSlider(
        0.0, min=0, max=1, step=0.05, description="labels' share a", style=named, layout=layout
    )
    chart = ipywidgets.Image(format="png", layout={"width": "960px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def solve() -> tuple[Tensor, Tensor, Tensor]:
        settings = {"penalty": penalty.value, "rounds": rounds, "label_weight": share.value}
        fits, predictions = ridge_rounds(fit, x, y, _GRID, **settings)
        return predictions, (fits - y).square().mean(dim=1), (predictions - sine(_GRID)).square().mean(dim=1)

    with style.new_figure(9, 3.6, columns=2) as (figure, (left, right)):
        predictions, *errors = solve()
        draw_fit(left, x, y, {"ridge": predictions[0]})
        curves, points = [], []
        for index, (name, values) in enumerate(zip(("labels", "truth"), errors, strict=True)):
            color, marker = style.COLORS[index + 1], style.MARKERS[index + 1]
            curves += right.plot(range(1, rounds + 1), values, color=color, label=f"squared error, {name}")
            points += right.plot([1], [values[0].item()], color=color, marker=marker)
        right.set(xlabel="round", yscale="log", ylim=(0.008, 2))
        right.legend(loc="upper right")
    figure.set_layout_engine("none")

    def draw(_: object = None) -> None:
        predictions, labels, truth = solve()
        now = turn.value - 1
        left.lines[-1].set_ydata(predictions[now])
        for curve, point, values in zip(curves, points, (labels, truth), strict=True):
            curve.set_ydata(values)
            point.set_data([turn.value], [values[now].item()])
        chart.value = report.png(figure)
        line.value = (
            f"Round {turn.value}: squared error of the labels {labels[now]:.3f}, of the truth {truth[now]:.3f}. "
            f"Best round: {truth.argmin().item() + 1}, with {truth.min():.3f}."
        )

    draw()
    for slider in (turn, penalty, share):
        slider.observe(draw, names="value")
    text = "Ridge explorer: run this cell, then move the round, the penalty and the labels' share."
    return Panel([turn, penalty, share, chart, line], text=text)
