"""The same losses in published packages (requirements-bench.txt), as functions of tensors like ours.

Nothing is imported before a loss is asked for; a package that is not there then raises ``ImportError``.
"""

import ast
import importlib
import importlib.util
import itertools
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "Loss",
    "liger",
    "mmrazor",
    "present",
    "skipped",
    "textbrewer",
    "timm",
    "torchdistill",
    "torchdistill_contrast",
    "trl",
]

Loss = Callable[..., Tensor]


def torchdistill(name: str, *arguments: Any, **settings: Any) -> Loss:
    """A loss of torchdistill, which takes its inputs out of dictionaries of hooked modules' outputs.

    There, the features are the "output" of the module "", and their first axis is that of the module "maps".
    """
    criterion = getattr(_bare_import("torchdistill.losses.mid_level"), name)(*arguments, **settings)

    def loss(student: Any, teacher: Tensor, *labels: Tensor) -> Tensor:
        sides = ({"": {"output": features}, "maps": features} for features in (student, teacher))
        value: Tensor = criterion(*sides, *labels)
        return value

    return loss


def torchdistill_contrast(num_examples: int = 50_000) -> Loss:
    """torchdistill's CRD. It updates its memory too, and draws no negatives: all examples get those of the batch."""
    build = _bare_import("torchdistill.losses.mid_level").CRDLoss
    kept: dict[tuple[int, int], Any] = {}

    def loss(student: Tensor, teacher: Tensor, indices: Tensor, negatives: Tensor) -> Tensor:
        size = (student.shape[1], len(negatives))
        if size not in kept:
            kept[size] = build("", "drawn", "", size[0], num_examples, size[1], num_examples)
        drawn = torch.cat([indices[:, None], negatives.expand(len(indices), size[1])], dim=1)
        extra = {"drawn": {"input": {"pos_idx": indices, "contrast_idx": drawn}}}
        value: Tensor = kept[size]({"": {"output": student}, **extra}, {"": {"output": teacher}})
        return value.sum()

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


def liger(beta: float, *, compiled: bool = False) -> Loss:
    """Liger-Kernel's chunked Jensen-Shannon loss of hidden states, without its cross-entropy."""
    module = _bare_import("liger_kernel.chunked_loss.jsd_loss")
    settings = {"weight_hard_loss": 0.0, "weight_soft_loss": 1.0, "beta": beta, "compiled": compiled}
    criterion = module.LigerFusedLinearJSDLoss(**settings)

    def loss(student: Tensor, weight: Tensor, teacher: Tensor, teacher_weight: Tensor) -> Tensor:
        labels = torch.zeros(len(student), dtype=torch.int64, device=student.device)
        value: Tensor = criterion(student, weight, teacher, teacher_weight, labels)
        return value

    return loss


def trl(beta: float) -> Loss:
    """TRL's generalised Jensen-Shannon loss: the function's own text, since its module imports a whole trainer."""
    name, method = "trl.experimental.gkd.gkd_trainer", "generalized_jsd_loss"
    spec = importlib.util.find_spec("trl")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("No module named 'trl'")
    file = Path(spec.submodule_search_locations[0]).joinpath(*name.split(".")[1:]).with_suffix(".py")
    found = [x for x in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if getattr(x, "name", "") == method]
    if not found or not isinstance(found[0], ast.FunctionDef):
        raise ImportError(f"{name} has no {method}")
    found[0].decorator_list = []
    variables: dict[str, Any] = {"torch": torch, "F": F}
    exec(compile(ast.Module([found[0]], []), str(file), "exec"), variables)

    def loss(student: Tensor, weight: Tensor, teacher: Tensor, teacher_weight: Tensor) -> Tensor:
        with torch.no_grad():
            targets = teacher @ teacher_weight.T
        labels = torch.zeros(1, len(student), dtype=torch.int64)
        value: Tensor = variables[method]((student @ weight.T)[None], targets[None], labels, beta=beta)
        return value

    return loss


def present(others: Mapping[str, Callable[[], Loss]], missing: dict[str, str]) -> dict[str, Loss]:
    """Build the losses of the packages that are there, and note why the rest is missing."""
    losses = {}
    for name, build in others.items():
        try:
            losses[name] = build()
        except ImportError as error:
            missing[name] = str(error)
    return losses


def skipped(missing: Mapping[str, str]) -> list[str]:
    """What a table says above itself of the packages that are not there."""
    return [f"{name} is skipped: {why} (see requirements-bench.txt)\n" for name, why in missing.items()]


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
