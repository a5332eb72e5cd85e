"""An explorer of attention maps: choose an image, a layer and a power; all networks' maps stand side by side.

Lesson: notebooks/04_attention_based.ipynb.
"""

from collections.abc import Callable, Mapping
from html import escape

import ipywidgets
from torch import Tensor

from kdref.lab.widgets.panel import Panel

__all__ = ["attention_explorer"]

_POWERS = (1.0, 2.0, 4.0, 8.0)


def attention_explorer(
    images: Tensor,  # (N, 1, H, W)
    activations: Mapping[str, Mapping[str, Tensor]],
    attention_map: Callable[..., Tensor],
) -> Panel:
    """Choose an image, a layer and a power; see each network's attention map, and its distance from the first's.

    Args:
        images: What the networks saw.
        activations: Network's name to its layers' activations, each ``(N, C, h, w)``. The layers' names and the sizes
            of their maps are the same for all networks; numbers of channels may differ.
        attention_map: From activations and ``power=`` to maps ``(N, h*w)``.

    Returns:
        A panel whose children are the three choices, the pictures (PNG) and a line of text.

    Raises:
        ValueError: If there are fewer than two networks, or their layers differ.
    """
    from kdref.lab import report
    from kdref.lab.report import plots, style

    names = list(activations)
    if len(names) < 2 or any(list(layers) != list(activations[names[0]]) for layers in activations.values()):
        raise ValueError(f"two networks or more with the same layers are needed to compare maps, got {names}")
    with style.new_figure(2.4 * (1 + len(names)), 2.9, columns=1 + len(names)) as (figure, axes):
        for ax, title in zip(axes, ["input", *names], strict=True):
            ax.set_axis_off()
            ax.set_title(title, loc="center")
            plots.draw_example(ax, images[0])
    figure.set_layout_engine("none")

    labels, layout = {"description_width": "6em"}, {"width": "30em"}
    image_choice = ipywidgets.IntSlider(
        value=0, min=0, max=len(images) - 1, description="image", style=labels, layout=layout
    )
    layer_choice, power_choice = (
        ipywidgets.Dropdown(options=options, value=value, description=name, style=labels, layout=layout)
        for name, options, value in (
            ("layer", list(activations[names[0]]), next(iter(activations[names[0]]))),
            ("power", [(f"{power:g}", power) for power in _POWERS], 2.0),
        )
    )
    chart = ipywidgets.Image(format="png", layout={"width": f"{230 * (1 + len(names))}px", "max_width": "100%"})
    line = ipywidgets.HTML()

    def draw(_: object = None) -> None:
        number, layer, power = image_choice.value, layer_choice.value, power_choice.value
        seen = {name: layers[layer][number : number + 1].detach() for name, layers in activations.items()}
        maps = {name: attention_map(features, power=power)[0] for name, features in seen.items()}
        for ax in axes:
            ax.images[0].remove()
        plots.draw_example(axes[0], images[number])
        for ax, name in zip(axes[1:], names, strict=True):
            ax.imshow(maps[name].reshape(seen[name].shape[2:]).numpy(), cmap=style.SEQUENTIAL, vmin=0)
        chart.value = report.png(figure)
        first, *others = names
        distances = ", ".join(f"{escape(name)} {float((maps[name] - maps[first]).norm()):.2f}" for name in others)
        line.value = f"image {number}, {escape(layer)}, power {power:g}; distance from {escape(first)}: {distances}"

    draw()
    for choice in (image_choice, layer_choice, power_choice):
        choice.observe(draw, names="value")
    text = "Attention explorer: run this cell, then choose an image, a layer and a power."
    return Panel([image_choice, layer_choice, power_choice, chart, line], text=text)
