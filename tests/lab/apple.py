"""A stand-in for tensors on Apple's GPU, which has no float64: it computes on the CPU and says "mps"."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map


class Apple(Tensor):
    """What becomes of it is on "mps" too, until ``cpu()``; float64 there is a TypeError, as it is on the device."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function == Tensor.device.__get__:
            return torch.device("mps")
        if function == Tensor.cpu:
            return args[0].as_subclass(Tensor)
        result = super().__torch_function__(function, types, args, kwargs)

        def refuse(value: Any) -> Any:
            if isinstance(value, Apple) and value.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework has no float64.")
            return value

        return tree_map(refuse, result)


def on_apple(values: Tensor) -> Tensor:
    """The values on that device."""
    return values.as_subclass(Apple)
