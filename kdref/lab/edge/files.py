"""From a PyTorch network to an ONNX file, its int8 form, and the answers that ONNX Runtime gives.

Tools that are well kept do the work: ``torch.export``, ``torch.onnx``, ONNX Runtime, torchao. What is ours: the number
of examples stays free, one thread, and no path or source line of this machine in the file. Lesson:
notebooks/14_edge.ipynb.
"""

import copy
import importlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdref.lab.training.forward import evaluating
from kdref.lab.training.remarks import quiet_torchao

__all__ = ["INSTALL", "PACKAGES", "answers", "int8_weights", "missing", "quantized", "session", "to_onnx"]

PACKAGES = ("onnx", "onnxscript", "onnxruntime", "torchao")
INSTALL = 'pip install "kdref[edge]"'
OPSET = 21  # the first with whole numbers of 4 bits
BITS = {8: "QInt8", 4: "QInt4"}  # ONNX Runtime's names


def missing() -> str:
    """Which packages of ``kdref[edge]`` are not installed, and how to install them; empty if all are here."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}. Install with: {INSTALL}" if absent else ""


def to_onnx(model: nn.Module, example: Tensor, path: str | Path, *, free: Sequence[int] = (0,)) -> Path:
    """Export a network to an ONNX file that takes any number of examples.

    ``torch.export`` records the operations that the example runs through; a branch on values can't be recorded. Batch
    normalisation is folded into the convolution before it. Fake-quantised modules are refused or become many small
    operations: put the rounded weights in place first, as fp32 numbers on their grid.

    Args:
        model: Takes one tensor; exported in eval mode, its mode restored. If it gives a dictionary, its first value
            is the file's first output.
        example: A batch that the model takes, two examples or more, for an axis of length 1 counts as fixed.
        path: Where to write.
        free: Axes of any length, the examples' first; a sentence's length, say, is another.

    Returns:
        The path.

    Raises:
        ImportError: If a package of ``kdref[edge]`` is missing; says how to install it.
        ValueError: If the example holds fewer than two examples.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = to_onnx(nn.Linear(3, 2), torch.zeros(2, 3), Path(folder) / "linear.onnx")
        ...     answers(path, torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """
    _need()
    if len(example) < 2:
        raise ValueError(f"an example batch needs two examples or more, got {len(example)}: one would stay one")
    with evaluating(model), torch.no_grad():
        axes = dict.fromkeys(free, torch.export.Dim.DYNAMIC)  # an error where an axis is not free after all
        program = torch.export.export(model, (example,), dynamic_shapes=(axes,))
        exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    assert exported is not None, "torch.onnx.export gives a program where no file is named"
    proto = exported.model_proto
    for node in proto.graph.node:  # they hold source lines with the paths of this machine, and are half of a small file
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del proto.graph.metadata_props[:], proto.metadata_props[:]
    tools = importlib.import_module("onnxruntime.quantization.quant_utils")
    tools.add_pre_process_metadata(proto)  # shapes are known and constants folded: it need not be done again
    Path(path).write_bytes(proto.SerializeToString())
    return Path(path)


def quantized(
    path: str | Path,
    calibration: Tensor,
    target: str | Path,
    *,
    bits: int = 8,
    scales: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write the static int8 form of an ONNX file: weights and activations are whole numbers, their scales constants.

    The form is QDQ: a pair of QuantizeLinear and DequantizeLinear marks what is rounded, and the runtime puts integer
    arithmetic in place of what stands between. Weights have one scale per output channel, symmetric around 0;
    activations are of 8 bits, in the range that the calibration inputs showed.

    Args:
        path: Of the fp32 file, from ``to_onnx``.
        calibration: Inputs like those to come; a few hundred. No labels are needed.
        target: Where to write.
        bits: Of the weights, 8 or 4.
        scales: Name of a weight to its scales ``(out,)``, for weights that lie on a grid already. Without them the
            scale is the largest value over the largest whole number, which is another grid unless that one is in use.

    Returns:
        The path of the new file.

    Raises:
        ImportError: If a package of ``kdref[edge]`` is missing; says how to install it.
        ValueError: If the bits are neither 8 nor 4, or no weight has a name for which there are scales.
    """
    _need()
    if bits not in BITS:
        raise ValueError(f"ONNX Runtime knows weights of 8 and 4 bits, got {bits}")
    import onnx

    quantization: Any = importlib.import_module("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            name = session(path).get_inputs()[0].name
            self.batches = iter([{name: batch.numpy()} for batch in calibration.split(64)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    kind = quantization.QuantType[BITS[bits]]
    known = {weight.name for weight in onnx.load(path).graph.initializer}
    if unknown := sorted(set(scales or {}) - known):
        raise ValueError(f"{Path(path).name} has no weights named {unknown}: there are {sorted(known)}")
    given = {name: [_grid(float(s), kind, bits) for s in values] for name, values in (scales or {}).items()}
    quantization.quantize_static(
        path,
        target,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        weight_type=kind,
        activation_type=quantization.QuantType.QInt8,
        per_channel=True,
        extra_options={"TensorQuantOverrides": given},
    )
    return Path(target)


def session(path: str | Path) -> Any:
    """An ONNX file, loaded by ONNX Runtime for one thread of this processor.

    Raises:
        ImportError: If a package of ``kdref[edge]`` is missing; says how to install it.
    """
    _need()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1")  # without VNNI sums of int8 products would clip
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


def answers(path: str | Path, inputs: Tensor, *, batch_size: int = 1024) -> Tensor:
    """What an ONNX file says of all inputs: its first output.

    Raises:
        ImportError: If a package of ``kdref[edge]`` is missing; says how to install it.
    """
    run = session(path)
    name, said = run.get_inputs()[0].name, run.get_outputs()[0].name
    return torch.cat([torch.from_numpy(run.run([said], {name: x.numpy()})[0]) for x in inputs.split(batch_size)])


def int8_weights(model: nn.Module) -> nn.Module:
    """A copy of a network whose linear layers keep their weights as int8, inside PyTorch, by torchao.

    Weights only: a row is multiplied by its scale when it is used, so memory shrinks, and arithmetic stays fp32.

    Raises:
        ImportError: If a package of ``kdref[edge]`` is missing; says how to install it.

    Example:
        >>> small = int8_weights(nn.Linear(64, 8))
        >>> small.weight.qdata.dtype
        torch.int8
    """
    _need()
    with quiet_torchao():
        quantization = importlib.import_module("torchao.quantization")
    changed = copy.deepcopy(model)
    quantization.quantize_(changed, quantization.Int8WeightOnlyConfig())
    return changed


def _need() -> None:
    if problem := missing():
        raise ImportError(f"lesson 14 needs packages that are {problem}")


def _grid(scale: float, kind: Any, bits: int) -> dict[str, Any]:
    import numpy as np

    whole: Any = np.int8
    if bits == 4:
        from ml_dtypes import int4 as whole  # onnx brings it
    return {"quant_type": kind, "scale": np.array(scale, np.float32), "zero_point": np.array(0, whole), "axis": 0}
