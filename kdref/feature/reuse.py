"""Reusing the teacher's classifier: the student learns features that the teacher's last layer can read.

Source: Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
https://arxiv.org/abs/2203.14001 (SimKD). Lesson: notebooks/03_feature_based.ipynb.

Needs only torch: copy this file into your project as it is.
Shapes: B examples, C classes, D features of the teacher's last layer; maps are (B, D, H, W) or (B, D, L).
"""

import copy

from torch import Tensor, nn

__all__ = ["ReusedClassifier"]


class ReusedClassifier(nn.Module):
    r"""The student's new head: a projector to the teacher's features, then the teacher's own classifier, frozen.

    .. math::
        z = W^t\,\overline{r(f^s)} + b^t

    The bar is the average over places. Train student and projector by the mean squared error (``hint_loss``) between
    :meth:`project` and the teacher's features alone, without labels; where the two are equal the predictions are the
    teacher's. Unlike a hint's regressor, projector and classifier *stay* at inference: their parameters and their time
    are part of the student's, so count them.

    Args:
        projector: Module from the student's features to the teacher's, maps or vectors. The authors' has 1×1, 3×3 and
            1×1 convolutions, each with batch norm and ReLU, half the teacher's width inside.
        teacher_classifier: The teacher's last layer, from ``(B, D)`` to ``(B, C)``. It is copied: the teacher is
            neither changed nor frozen.

    Raises:
        TypeError: If one of the two is no module.

    Example:
        >>> import torch
        >>> teacher_classifier = nn.Linear(64, 10)
        >>> head = ReusedClassifier(nn.Conv2d(16, 64, 1), teacher_classifier)
        >>> head(torch.zeros(2, 16, 5, 5)).shape
        torch.Size([2, 10])
        >>> [name for name, parameter in head.named_parameters() if parameter.requires_grad]
        ['projector.weight', 'projector.bias']

    Source: Chen et al. 2022, Section 3.2 and equation 4.
    """

    def __init__(self, projector: nn.Module, teacher_classifier: nn.Module) -> None:
        """Keep the projector, and a frozen copy of the classifier."""
        super().__init__()
        for name, module in (("projector", projector), ("teacher_classifier", teacher_classifier)):
            if not isinstance(module, nn.Module):
                raise TypeError(f"{name} must be a module, got {type(module).__name__}")
        self.projector = projector
        self.classifier = _Frozen(teacher_classifier)

    def project(self, student_features: Tensor) -> Tensor:
        """Predict the teacher's features: what the loss compares.

        Args:
            student_features: What the projector takes. Receives a gradient, as do the projector's parameters.

        Returns:
            The projector's output, of the teacher's shape ``(B, D, ...)``.
        """
        projected: Tensor = self.projector(student_features)
        return projected

    def classify(self, projected: Tensor) -> Tensor:  # (B, C)
        """Read projected features, or the teacher's, with the teacher's classifier.

        Args:
            projected: Maps ``(B, D, H, W)``, averaged over places first, or vectors ``(B, D)``.

        Returns:
            Logits, shape ``(B, C)``.

        Raises:
            TypeError: If the features are no floating-point tensor.
            ValueError: If they have no features on axis 1.
        """
        _check_activations(projected, "projected features")
        if projected.dim() < 2:
            raise ValueError(f"projected features must be (B, D) or (B, D, ...), got shape {tuple(projected.shape)}")
        logits: Tensor = self.classifier(projected.flatten(2).mean(dim=2) if projected.dim() > 2 else projected)
        return logits

    def forward(self, student_features: Tensor) -> Tensor:  # (B, C)
        """Classify the student's features.

        Args:
            student_features: What the projector takes. Receives a gradient.

        Returns:
            Logits, shape ``(B, C)``.
        """
        return self.classify(self.project(student_features))


class _Frozen(nn.Module):
    """A copy of a module that never trains: no gradient for its parameters, eval mode for good."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False).eval()

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.module(features)
        return output

    def train(self, mode: bool = True) -> "_Frozen":
        super().train(False)  # whatever the student's mode: dropout would blur the teacher's reading
        return self


def _check_activations(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        hint = "take one of its tensors" if isinstance(value, tuple | dict) else "use torch.as_tensor"
        fields = f" ({', '.join(f'.{key}' for key in value)})" if isinstance(value, dict) else ""
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}: {hint}{fields}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}: take activations")
