"""Named activations of a model that stays as it is, and how alike they are: what feature-based distillation compares.

Lesson: notebooks/03_feature_based.ipynb.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from kdref.lab.training.forward import first_tensor

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Taps", "layer_table", "taps"]


def taps(model: nn.Module, names: Sequence[str]) -> "Taps":
    """Tap a model: the result, called like the model, gives the named activations instead of the output.

    The model is not edited and shares its weights with the taps, so training through them trains it. All of it runs, as
    it always does, while forward hooks listen. (torchvision's ``create_feature_extractor`` stops at the last tap, but
    of a block that runs twice it gives one run, of a block its last operation, not what it returned, and it leaves out
    ``y.relu_()``: wrong numbers without a word.)

    Args:
        model: Any model. Its own mode counts: put it in train or eval mode before you call the taps.
        names: Sub-modules as ``model.named_modules()`` names them, such as ``"features.relu2"``. The model's output is
            the activation of its last layer.

    Returns:
        Taps: ``taps(model, names)(x)`` is a dictionary, name to activation, in the order asked for. Of a module that
        returns several tensors the first is taken: an LSTM's outputs, what an attention layer gives (not its weights),
        the last hidden state of a Hugging Face encoder.

    Raises:
        ValueError: If a name is unknown or given twice; and when the taps are called, if the module does not run or
            runs several times, gives no tensor, or a later layer overwrites its activation in place.

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


def layer_table(
    rows: Mapping[str, Tensor], columns: Mapping[str, Tensor], *, measure: Callable[[Tensor, Tensor], Tensor]
) -> "DataFrame":
    """How alike every layer of one network is to every layer of another, on the same examples.

    Args:
        rows: Features by layer, as taps give them.
        columns: The other network's.
        measure: Of two layers' features one number, such as ``kdref.fidelity.centered_kernel_alignment``.

    Returns:
        A row for each layer of the first, a column for each of the second.

    Example:
        >>> from torch import ones
        >>> two = {"first": ones(3, 2), "second": 2 * ones(3, 2)}
        >>> layer_table(two, {"only": ones(3, 2)}, measure=lambda x, y: (x - y).abs().mean())
                only
        first    0.0
        second   1.0
    """
    import pandas as pd

    values = [[float(measure(first, second)) for second in columns.values()] for first in rows.values()]
    return pd.DataFrame(values, index=list(rows), columns=list(columns))


class Taps:
    """What ``taps`` returns: call it like the model."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        """See ``taps``."""
        self.model, self.names = model, tuple(names)

    def __call__(self, *inputs: Any, **keywords: Any) -> dict[str, Tensor]:
        """Run the model, in the mode it is in."""
        found: dict[str, Tensor] = {}
        versions: dict[str, int] = {}

        def listener(name: str) -> Any:
            def hook(module: nn.Module, arguments: Any, output: Any) -> None:
                if name in found:
                    raise ValueError(
                        f"{name!r} runs several times in one forward pass: tap a module that runs once, such as its "
                        "parent"
                    )
                activation = first_tensor(output)
                if activation is None:
                    raise ValueError(f"{name!r} gives a {type(output).__name__} and no tensor: tap another module")
                if activation.is_inference():  # has no version to compare: keep what it is now
                    activation = activation.clone()
                else:
                    versions[name] = activation._version
                found[name] = activation

            return hook

        handles = [self.model.get_submodule(name).register_forward_hook(listener(name)) for name in self.names]
        try:
            self.model(*inputs, **keywords)
        finally:
            for handle in handles:
                handle.remove()
        for name in self.names:
            if name not in found:
                raise ValueError(f"the forward pass did not run {name!r}: tap a module that it calls")
            if name in versions and found[name]._version != versions[name]:
                raise ValueError(
                    f"the activation of {name!r} is overwritten in place: tap the layer after it, or build that with "
                    "inplace=False"
                )
        return {name: found[name] for name in self.names}
