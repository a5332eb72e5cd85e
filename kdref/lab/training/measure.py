"""What to report about a classifier besides its accuracy.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.training.batches import teacher_outputs

__all__ = ["latency", "measure"]


def measure(
    model: nn.Module,
    inputs: Tensor,  # (B, ...)
    labels: Tensor,  # (B,)
    *,
    teacher_logits: Tensor | None = None,  # (B, C)
    batch_size: int = 1024,
) -> dict[str, float]:
    """Accuracy, negative log-likelihood, calibration error, agreement with the teacher, and parameters.

    Args:
        model: Gives logits ``(B, C)``; evaluated in eval mode without gradient, its mode restored.
        inputs: Examples first.
        labels: Class indices, shape ``(B,)``.
        teacher_logits: The teacher's logits on the same inputs; adds ``"agreement"``.
        batch_size: Examples per forward pass.

    Returns:
        ``accuracy``, ``agreement`` (share of examples on which both choose the same class) and
        ``calibration_error`` (15 bins, largest-probability confidence) in [0, 1]; ``nll`` in nats; ``parameters``,
        the number of trainable values.

    Raises:
        ValueError: If the numbers of inputs, labels and teacher logits differ.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> result = measure(model, torch.eye(2), torch.tensor([0, 0]))
        >>> result["accuracy"], result["parameters"]
        (0.5, 4.0)
    """
    lengths = [len(inputs), len(labels)] + ([] if teacher_logits is None else [len(teacher_logits)])
    if len(set(lengths)) != 1:
        raise ValueError(f"inputs, labels and teacher logits must be equally many, got {lengths}")
    logits = teacher_outputs(model, inputs, batch_size=batch_size)
    choice = logits.argmax(dim=-1)
    result = {
        "accuracy": (choice == labels).double().mean().item(),
        "nll": F.cross_entropy(logits, labels).item(),
        "calibration_error": _calibration_error(logits, labels),
        "parameters": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
    }
    if teacher_logits is not None:
        result["agreement"] = (choice == teacher_logits.argmax(dim=-1)).double().mean().item()
    return result


@torch.no_grad()
def latency(model: nn.Module, example: Tensor, *, repeats: int = 50) -> float:
    """Median milliseconds of one forward pass in eval mode, after a warm-up.

    Args:
        model: Left in the mode it was in.
        example: A batch of inputs; its size is part of the answer (1 for latency, many for throughput).
        repeats: Timed passes, at least 1.

    Returns:
        Milliseconds per call. Compare models within one run only: machines and moments differ.

    Raises:
        ValueError: If ``repeats`` is not positive.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    training = model.training
    model.eval()
    try:
        times = []
        for _ in range(3 + repeats):
            start = time.perf_counter()
            model(example)
            if example.is_cuda:
                torch.cuda.synchronize(example.device)
            times.append(time.perf_counter() - start)
    finally:
        model.train(training)
    return statistics.median(times[3:]) * 1000


def _calibration_error(logits: Tensor, labels: Tensor) -> float:
    from torchmetrics.functional.classification import multiclass_calibration_error  # seconds to import

    return multiclass_calibration_error(logits.softmax(dim=-1), labels, num_classes=logits.shape[-1], n_bins=15).item()
