"""A network leaves PyTorch: exported, quantised, and measured as a file. Needs ``pip install "kdref[edge]"``.

Lesson: notebooks/14_edge.ipynb.
"""

from kdref.lab.edge.files import answers, int8_weights, missing, quantized, session, to_onnx
from kdref.lab.edge.sizes import Timings, file_bytes, fold_batch_norm, front, multiply_adds, timings, weight_bytes

__all__ = [
    "Timings",
    "answers",
    "file_bytes",
    "fold_batch_norm",
    "front",
    "int8_weights",
    "missing",
    "multiply_adds",
    "quantized",
    "session",
    "timings",
    "to_onnx",
    "weight_bytes",
]
