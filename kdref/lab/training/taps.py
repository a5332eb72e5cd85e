"""Named activations of a model that stays as it is: what feature-based distillation compares.

Lesson: notebooks/03_feature_based.ipynb.
"""

import operator
from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx, nn

__all__ = ["Taps", "taps"]


def taps(model: nn.Module, names: Sequence[str]) -> "Taps":
    """Tap a model: the result, called like the model, gives the named activations instead of the output.

    The model is not edited and shares its weights with the taps, so training through them trains it. Where
    torchvision's ``create_feature_extractor`` can follow the forward pass, only what the taps need is computed; where
    it can't (control flow that depends on data), the whole model runs and forward hooks listen.

    Args:
        model: Any model. Its own mode counts: put it in train or eval mode before you call the taps.
        names: Sub-modules as ``model.named_modules()`` names them, such as ``"features.relu2"``. The model's output is
            the activation of its last layer.

    Returns:
        Taps: ``taps(model, names)(x)`` is a dictionary, name to activation, in the order asked for.

    Raises:
        ValueError: If a name is unknown or given twice, or its activation is not one tensor: the module runs several
            times, or the next layer overwrites it in place. Some of this shows only when the taps are called.

    Example:
        >>> import torch
        >>> from kdref.lab.models import make
        >>> tapped = taps(make("cnn2d-8", seed=0), ["features.relu1", "classifier"])
        >>> {name: tuple(activation.shape) for name, activation in tapped(torch.zeros(2, 1, 8, 8)).items()}
        {'features.relu1': (2, 8, 8, 8), 'classifier': (2, 10)}
    """
    there = [name for name, _ in model.named_modules() if name]
    if not names or len(set(names)) != len(names) or not set(names) <= set(there):
        raise ValueError(f"names must be sub-modules, each once, got {list(names)}: there are {', '.join(there)}")
    return Taps(model, names)


class Taps:
    """What ``taps`` returns: call it like the model."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        """Follow the forward pass once, if it can be followed."""
        self.model, self.names = model, tuple(names)
        self._graphs = _follow(model, self.names)

    @property
    def followed(self) -> bool:
        """Whether only what the taps need is computed; if not, the whole model runs, with hooks."""
        return self._graphs is not None

    def __call__(self, *inputs: Any) -> dict[str, Tensor]:
        """Run the model, in the mode it is in."""
        found = self._listen(inputs) if self._graphs is None else self._graphs[self.model.training](*inputs)
        return {name: found[name] for name in self.names}

    def _listen(self, inputs: tuple[Any, ...]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        versions: dict[str, int] = {}

        def listener(name: str) -> Any:
            def hook(module: nn.Module, arguments: Any, output: Tensor) -> None:
                if name in found:
                    raise ValueError(_several(name))
                found[name], versions[name] = output, output._version

            return hook

        handles = [self.model.get_submodule(name).register_forward_hook(listener(name)) for name in self.names]
        try:
            self.model(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        for name in self.names:
            if name not in found:
                raise ValueError(f"the forward pass did not run {name!r}: tap a module that it calls")
            if found[name]._version != versions[name]:
                raise ValueError(_overwritten(name))
        return found


def _follow(model: nn.Module, names: Sequence[str]) -> dict[bool, fx.GraphModule] | None:
    """A graph for each mode, since what is functional (dropout) is frozen into it; None if it can't be followed."""
    from torchvision.models.feature_extraction import create_feature_extractor

    modes = {module: module.training for module in model.modules()}
    try:
        both: Any = create_feature_extractor(model, list(names), suppress_diff_warning=True)
    except Exception:  # torch.fx lets anything through that the model raises when it meets a stand-in for a tensor
        return None
    finally:
        for module, training in modes.items():
            module.training = training
    for name in names:
        _check(both, both.train_graph, name)
    return {True: fx.GraphModule(both, both.train_graph), False: fx.GraphModule(both, both.eval_graph)}


def _check(model: nn.Module, graph: fx.Graph, name: str) -> None:
    """Refuse an activation that a graph would give wrongly."""
    if sum(node.op == "call_module" and node.target == name for node in graph.nodes) > 1:
        raise ValueError(_several(name))
    returned = next(node for node in graph.nodes if node.op == "output").args[0][name]
    for user in returned.users:
        layer = model.get_submodule(str(user.target)) if user.op == "call_module" else None
        method = user.op == "call_method" and str(user.target).endswith("_")
        if getattr(layer, "inplace", False) or method or user.kwargs.get("inplace") or user.target in _IN_PLACE:
            raise ValueError(_overwritten(name))


_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)


def _several(name: str) -> str:
    return f"{name!r} runs several times in one forward pass: tap a module that runs once, such as its parent"


def _overwritten(name: str) -> str:
    return (
        f"the activation of {name!r} is overwritten in place: tap the layer after it, or build that with inplace=False"
    )
