"""Wrong versions of DINO."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.self_distillation import self_supervised
from tests.museum import exhibit

CENTER, DINO, INFORMATION = (
    f"kdref.self_distillation.self_supervised:{name}" for name in ("DinoCenter", "dino_loss", "output_information")
)
RightCenter, right_dino = self_supervised.DinoCenter, self_supervised.dino_loss  # as they were before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/self_distillation/test_self_supervised.py::test_{test}" for test in tests)


@exhibit(
    replaces=CENTER,
    seen_in="a likely slip: momentum and its complement exchanged",
    killed_by=killed_by("known_values_of_dino_and_its_center", "limits_of_the_momentum"),
)
class MomentumInverted(RightCenter):
    """The center jumps with every batch."""

    def update(self, teacher_outputs: Tensor, *, class_dim: int = -1) -> None:
        momentum, self.momentum = self.momentum, 1 - self.momentum
        super().update(teacher_outputs)
        self.momentum = momentum


@exhibit(
    replaces=CENTER,
    seen_in="a likely slip: the sign of the center",
    killed_by=killed_by(
        "known_values_of_dino_and_its_center",
        "a_constant_added_to_all_teacher_outputs_is_centred_away",
        "both_collapses_are_seen_and_centring_with_sharpening_avoids_them",
    ),
)
class CenterAdded(RightCenter):
    """The leading output is helped, and wins at once."""

    def forward(self, teacher_outputs: Tensor, *, class_dim: int = -1) -> Tensor:
        return teacher_outputs + self.value.to(torch.promote_types(teacher_outputs.dtype, torch.float32))


@exhibit(
    replaces=CENTER,
    seen_in="Aditya-Shandilya1182/DINO dino_loss.py: the softmax is overwritten before the center sees it",
    killed_by=killed_by("known_values_of_dino_and_its_center", "limits_of_the_momentum"),
)
class MeanOfProbabilities(RightCenter):
    """Probabilities are at most 1: outputs that lead by more are never centred."""

    def update(self, teacher_outputs: Tensor, *, class_dim: int = -1) -> None:
        super().update(teacher_outputs.softmax(dim=-1))


@exhibit(
    replaces=CENTER,
    seen_in="a likely slip: the mean over outputs for the mean over examples",
    killed_by=killed_by("known_values_of_dino_and_its_center", "limits_of_the_momentum"),
)
class MeanOverOutputs(RightCenter):
    """A constant for all outputs, which softmax ignores: no centring."""

    @torch.no_grad()
    def update(self, teacher_outputs: Tensor, *, class_dim: int = -1) -> None:
        mean = teacher_outputs.to(self.value.dtype).mean().expand_as(self.value)
        self.value.lerp_(mean, 1 - self.momentum)


def dino(student: Tensor, teacher: Tensor, student_temperature: Any, teacher_temperature: Any) -> Tensor:
    dtype = torch.promote_types(student.dtype, torch.float32)
    p = F.softmax(teacher.to(dtype) / teacher_temperature, dim=-1)
    return -(p * F.log_softmax(student.to(dtype) / student_temperature, dim=-1)).sum(dim=-1).mean()


@exhibit(
    replaces=DINO,
    seen_in="a likely slip: the center kept and never subtracted",
    killed_by=killed_by(
        "dino_matches_the_definition", "both_collapses_are_seen_and_centring_with_sharpening_avoids_them"
    ),
)
def without_centring(
    student_outputs: Tensor,
    teacher_outputs: Tensor,
    center: nn.Module,
    *,
    student_temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
) -> Tensor:
    """One output wins for all examples, and the loss looks well."""
    return dino(student_outputs, teacher_outputs.detach(), student_temperature, teacher_temperature)


@exhibit(
    replaces=DINO,
    seen_in="a likely slip: the student centred too",
    killed_by=killed_by("dino_matches_the_definition", "known_values_of_dino_and_its_center"),
)
def student_centred_too(
    student_outputs: Tensor,
    teacher_outputs: Tensor,
    center: nn.Module,
    *,
    student_temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
) -> Tensor:
    """The lead that centring takes from the teacher is taken from the student as well: nothing is balanced."""
    centred = center(student_outputs), center(teacher_outputs.detach())
    return dino(*centred, student_temperature, teacher_temperature)


@exhibit(
    replaces=DINO,
    seen_in="facebookresearch/dino main_dino.py and its copies: the update is part of the loss",
    killed_by=killed_by("the_loss_leaves_the_center_and_the_update_sees_raw_outputs"),
)
def center_updated_inside(
    student_outputs: Tensor,
    teacher_outputs: Tensor,
    center: Any,
    *,
    student_temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
) -> Tensor:
    """A side effect: a validation loss, or a second pair of views, moves the center."""
    temperatures = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
    loss = right_dino(student_outputs, teacher_outputs, center, **temperatures)
    center.update(teacher_outputs)
    return loss


@exhibit(
    replaces=DINO,
    seen_in="a likely slip: the temperatures exchanged",
    killed_by=killed_by(
        "dino_matches_the_definition", "both_collapses_are_seen_and_centring_with_sharpening_avoids_them"
    ),
)
def temperatures_swapped(
    student_outputs: Tensor,
    teacher_outputs: Tensor,
    center: Any,
    *,
    student_temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
) -> Tensor:
    """The teacher is softer than the student, and the two go to the uniform distribution."""
    temperatures = {"student_temperature": teacher_temperature, "teacher_temperature": student_temperature}
    return right_dino(student_outputs, teacher_outputs, center, **temperatures)


@exhibit(
    replaces=DINO,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=killed_by("gradient_reaches_the_student_only"),
)
def teacher_not_detached(
    student_outputs: Tensor,
    teacher_outputs: Tensor,
    center: nn.Module,
    *,
    student_temperature: float | Tensor = 0.1,
    teacher_temperature: float | Tensor = 0.04,
) -> Tensor:
    """The teacher learns to be predictable, which is a collapse."""
    return dino(student_outputs, center(teacher_outputs), student_temperature, teacher_temperature)


@exhibit(
    replaces=INFORMATION,
    seen_in="a likely slip: the entropy of the mean as the only sign",
    killed_by=killed_by("information_is_nothing_after_either_collapse_and_at_most_a_logarithm"),
)
def entropy_of_the_mean_only(outputs: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Highest exactly at the uniform collapse."""
    p = F.softmax(outputs.detach().flatten(0, -2) / temperature, dim=-1).mean(dim=0)
    return -(p * p.clamp(min=1e-30).log()).sum()
