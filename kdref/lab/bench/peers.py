"""The same losses in published packages (requirements-bench.txt), as functions of tensors like ours.

Nothing is imported before a loss is asked for; a package that is not there then raises ``ImportError``.
"""

import importlib
import importlib.util
import itertools
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["Loss", "mmrazor", "textbrewer", "timm", "torchdistill"]

Loss = Callable[..., Tensor]


def torchdistill(name: str, **settings: Any) -> Loss:
    """A loss of torchdistill, which takes its inputs out of dictionaries of hooked modules' outputs."""
    criterion = getattr(_bare_import("torchdistill.losses.mid_level"), name)("", "output", "", "output", **settings)

    def loss(student: Tensor, teacher: Tensor, *labels: Tensor) -> Tensor:
        value: Tensor = criterion({"": {"output": student}}, {"": {"output": teacher}}, *labels)
        return value

    return loss


def mmrazor(file: str, name: str, **settings: Any) -> Loss:
    """A loss module of mmrazor."""
    registry: Any = types.ModuleType("mmrazor.registry")
    registry.MODELS = types.SimpleNamespace(register_module=lambda: lambda registered: registered)
    module = _bare_import(f"mmrazor.models.losses.{file}", registry)
    loss: Loss = getattr(module, name)(**settings)
    return loss


def textbrewer(name: str, **settings: Any) -> Loss:
    """A loss function of TextBrewer."""
    function = getattr(_bare_import("textbrewer.losses"), name)

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        value: Tensor = function(student, teacher, **settings)
        return value

    return loss


def timm(name: str, **settings: Any) -> Loss:
    """A loss module of timm."""
    loss: Loss = getattr(_bare_import("timm.loss.cross_entropy"), name)(**settings)
    return loss


def _bare_import(name: str, *stubs: types.ModuleType) -> Any:
    """Import a module with empty packages above it.

    The packages themselves import much that their losses don't need, old binary builds of mmcv among it.
    """
    top, *below = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"No module named {top!r}")
    before = _forget(top)
    folder = Path(spec.submodule_search_locations[0])
    try:
        for parent in itertools.accumulate([top, *below[:-1]], "{}.{}".format):
            package = types.ModuleType(parent)
            package.__path__ = [str(folder.joinpath(*parent.split(".")[1:]))]
            sys.modules[parent] = package
        sys.modules.update({stub.__name__: stub for stub in stubs})
        return importlib.import_module(name)
    finally:
        _forget(top)
        sys.modules.update(before)


def _forget(top: str) -> dict[str, types.ModuleType]:
    """Take a package and what is below it out of the imported modules."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == top}
