"""What to report about a classifier besides its accuracy.

Lesson: notebooks/01_soft_targets.ipynb.
"""

import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab.training.batches import teacher_outputs
from kdref.lab.training.forward import Inputs, calls, evaluating, examples_in, first_tensor, forward, logits_of

__all__ = ["latency", "measure"]


def measure(
    model: nn.Module,
    inputs: Inputs,  # (B, ...)
    labels: Tensor,  # (B,)
    *,
    teacher_logits: Tensor | None = None,  # (B, C)
    batch_size: int = 1024,
) -> dict[str, float]:
    """Accuracy, negative log-likelihood, calibration error, agreement with the teacher, and parameters.

    Args:
        model: Gives logits ``(B, C)``, or something that holds them as ``logits``; evaluated in eval mode without
            gradient, its mode restored.
        inputs: Examples first: a tensor; a dictionary of tensors, passed by keyword; or a tuple, by position.
        labels: Class indices, shape ``(B,)``.
        teacher_logits: The teacher's logits on the same inputs, shape ``(B, C)``; adds ``"agreement"``.
        batch_size: Examples per forward pass.

    Returns:
        ``accuracy``, ``agreement`` (share of examples on which both choose the same class) and
        ``calibration_error`` (15 bins, largest-probability confidence) in [0, 1]; ``nll`` in nats; ``parameters``,
        the number of trainable values.

    Raises:
        ValueError: If the numbers of inputs, labels and teacher logits differ, labels are no class indices, or logits
            are not of shape ``(B, C)`` with two classes or more, or nan.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> result = measure(model, torch.eye(2), torch.tensor([0, 0]))
        >>> result["accuracy"], result["parameters"]
        (0.5, 4.0)
    """
    said = None if teacher_logits is None else logits_of(teacher_logits, of="teacher_logits")
    lengths = [examples_in(inputs), len(labels)] + ([] if said is None else [len(said)])
    if len(set(lengths)) != 1:
        raise ValueError(f"inputs, labels and teacher logits must be equally many, got {lengths}")
    logits = teacher_outputs(model, inputs, batch_size=batch_size)
    _check(logits, labels, said)
    # on the CPU there is float64, which not every device has; and in half precision nll would have three digits
    logits, labels = logits.cpu().to(torch.promote_types(logits.dtype, torch.float32)), labels.cpu()
    choice = logits.argmax(dim=-1)
    result = {
        "accuracy": (choice == labels).double().mean().item(),
        "nll": F.cross_entropy(logits, labels).item(),
        "calibration_error": _calibration_error(logits, labels),
        "parameters": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
    }
    if said is not None:
        result["agreement"] = (choice == said.cpu().argmax(dim=-1)).double().mean().item()
    return result


@torch.no_grad()
def latency(model: nn.Module, example: Inputs, *, repeats: int = 50) -> float:
    """Median milliseconds of one forward pass in eval mode, after a warm-up.

    Args:
        model: Left in the mode it was in, sub-module by sub-module.
        example: A batch of inputs; its size is part of the answer (1 for latency, many for throughput). A tensor, a
            dictionary or a tuple, as for ``measure``.
        repeats: Timed passes, at least 1.

    Returns:
        Milliseconds per call. Compare models within one run only: machines and moments differ.

    Raises:
        ValueError: If ``repeats`` is not positive, or the example holds no tensor.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    batch = next(calls(example, examples_in(example)))
    found = first_tensor(batch)
    device = None if found is None or found.device.type in ("cpu", "meta") else found.device
    with evaluating(model):
        times = []
        for _ in range(3 + repeats):
            start = time.perf_counter()
            forward(model, batch)
            if device is not None:  # an accelerator goes on by itself: wait for it
                torch.accelerator.synchronize(device)
            times.append(time.perf_counter() - start)
    return statistics.median(times[3:]) * 1000


def _check(logits: Tensor, labels: Tensor, said: Tensor | None) -> None:
    """Refuse what would be compared by broadcasting, or is no choice between classes: the numbers would look right."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"logits must be of shape (B, C), two classes or more, got {tuple(logits.shape)}: of one sigmoid's z make "
            "two with torch.cat([torch.zeros_like(z), z], dim=1)"
        )
    if said is not None and said.shape != logits.shape:
        raise ValueError(f"teacher logits of shape {tuple(said.shape)} are not of the model's {tuple(logits.shape)}")
    if labels.shape != logits.shape[:1] or labels.is_floating_point():
        raise ValueError(f"labels must be class indices of shape (B,), got {labels.dtype} of {tuple(labels.shape)}")
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= logits.shape[1]:
        raise ValueError(f"labels must be from 0 to {logits.shape[1] - 1}, got {least} to {most}: drop the unlabelled")
    for name, values in (("logits", logits), ("teacher logits", said)):
        if values is not None and values.isnan().any():
            raise ValueError(f"{name} hold nan: no choice can be read from them")


def _calibration_error(logits: Tensor, labels: Tensor) -> float:
    from torchmetrics.functional.classification import multiclass_calibration_error  # seconds to import

    return multiclass_calibration_error(logits.softmax(dim=-1), labels, num_classes=logits.shape[-1], n_bins=15).item()
