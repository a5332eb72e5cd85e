"""Wrong versions of the averaged teacher and of DINO."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.self_distillation import self_supervised
from tests.museum import exhibit

EMA, CENTER, DINO, INFORMATION = (
    f"kdref.self_distillation.self_supervised:{name}"
    for name in ("EmaTeacher", "DinoCenter", "dino_loss", "output_information")
)
RightEma, RightCenter, right_dino = (
    self_supervised.EmaTeacher,
    self_supervised.DinoCenter,
    self_supervised.dino_loss,
)  # as they were before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/self_distillation/test_self_supervised.py::test_{test}" for test in tests)


def killed_by_dino(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/self_distillation/test_self_supervised_dino.py::test_{test}" for test in tests)


@exhibit(
    replaces=EMA,
    seen_in="SforAiDl/KD_Lib MeanTeacher: min(1e-3, ...) where the decay should be 1 - 1e-3",
    killed_by=killed_by("known_value_of_two_updates", "limits_of_the_decay_are_exact"),
)
class WeightInverted(RightEma):
    """PITFALLS 21: the teacher is the student of this step."""

    def update(self, student: nn.Module) -> None:
        decay, self.decay = self.decay, 1 - self.decay
        super().update(student)
        self.decay = decay


@exhibit(
    replaces=EMA,
    seen_in="facebookresearch/dino main_dino.py, KD_Lib MeanTeacher: parameters() only",
    killed_by=killed_by("limits_of_the_decay_are_exact"),
)
class BuffersForgotten(RightEma):
    """Batch norm keeps the statistics of the first step. (The authors' teacher, in train mode, gathers its own.)"""

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        for average, new in zip(self.module.parameters(), student.parameters(), strict=True):
            average.lerp_(new, 1 - self.decay)


@exhibit(
    replaces=EMA,
    seen_in="a likely slip: every entry of the state averaged, counts too",
    killed_by=killed_by("a_count_of_batches_is_copied_not_averaged"),
)
class CountsAveraged(RightEma):
    """A whole number times 0.99, rounded down: a teacher that goes on training would count wrong."""

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        before = [count.clone() for count in self.module.buffers()]
        super().update(student)
        for average, old, new in zip(self.module.buffers(), before, student.buffers(), strict=True):
            if not average.is_floating_point():
                average.copy_(self.decay * old + (1 - self.decay) * new)


@exhibit(
    replaces=EMA,
    seen_in="SforAiDl/KD_Lib BANN: one object passed as student and as teacher",
    killed_by=killed_by("known_value_of_two_updates", "limits_of_the_decay_are_exact"),
)
class TeacherIsTheStudent(RightEma):
    """PITFALLS 21: no copy, so the two agree whatever happens, as in "born-again" training without a first birth."""

    def __init__(self, student: nn.Module, *, decay: float) -> None:
        super().__init__(student, decay=decay)
        object.__setattr__(self, "_student", student)
        del self.module

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["_student"] if name == "module" else super().__getattr__(name)

    def update(self, student: nn.Module) -> None:
        """Average a thing with itself."""


@exhibit(
    replaces=EMA,
    seen_in="PITFALLS 20: the teacher is a sub-module, and model.train() reaches it",
    killed_by=killed_by("the_teacher_is_a_frozen_copy_in_eval_mode_for_good"),
)
class PutInTrainMode(RightEma):
    """Dropout and batch statistics in the teacher, which drift even under no_grad."""

    def train(self, mode: bool = True) -> "PutInTrainMode":
        nn.Module.train(self, mode)
        return self


@exhibit(
    replaces=EMA,
    seen_in="PITFALLS 21: the teacher's forward pass outside no_grad",
    killed_by=killed_by("the_teacher_is_a_frozen_copy_in_eval_mode_for_good"),
)
class GradientThroughTheTeacher(RightEma):
    """Its parameters collect gradients."""

    def __init__(self, student: nn.Module, *, decay: float) -> None:
        super().__init__(student, decay=decay)
        self.module.requires_grad_()

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)


@exhibit(
    replaces=CENTER,
    seen_in="a likely slip: momentum and its complement exchanged",
    killed_by=killed_by_dino("known_values_of_dino_and_its_center", "limits_of_the_momentum"),
)
class MomentumInverted(RightCenter):
    """The center jumps with every batch."""

    def update(self, teacher_outputs: Tensor) -> None:
        momentum, self.momentum = self.momentum, 1 - self.momentum
        super().update(teacher_outputs)
        self.momentum = momentum


@exhibit(
    replaces=CENTER,
    seen_in="a likely slip: the sign of the center",
    killed_by=killed_by_dino(
        "known_values_of_dino_and_its_center",
        "a_constant_added_to_all_teacher_outputs_is_centred_away",
        "both_collapses_are_seen_and_centring_with_sharpening_avoids_them",
    ),
)
class CenterAdded(RightCenter):
    """The leading output is helped, and wins at once."""

    def forward(self, teacher_outputs: Tensor) -> Tensor:
        return teacher_outputs + self.value.to(torch.promote_types(teacher_outputs.dtype, torch.float32))


@exhibit(
    replaces=CENTER,
    seen_in="Aditya-Shandilya1182/DINO dino_loss.py: the softmax is overwritten before the center sees it",
    killed_by=killed_by_dino("known_values_of_dino_and_its_center", "limits_of_the_momentum"),
)
class MeanOfProbabilities(RightCenter):
    """Probabilities are at most 1: outputs that lead by more are never centred."""

    def update(self, teacher_outputs: Tensor) -> None:
        super().update(teacher_outputs.softmax(dim=-1))


@exhibit(
    replaces=CENTER,
    seen_in="a likely slip: the mean over outputs for the mean over examples",
    killed_by=killed_by_dino("known_values_of_dino_and_its_center", "limits_of_the_momentum"),
)
class MeanOverOutputs(RightCenter):
    """A constant for all outputs, which softmax ignores: no centring."""

    @torch.no_grad()
    def update(self, teacher_outputs: Tensor) -> None:
        mean = teacher_outputs.to(self.value.dtype).mean().expand_as(self.value)
        self.value.lerp_(mean, 1 - self.momentum)


def dino(student: Tensor, teacher: Tensor, student_temperature: Any, teacher_temperature: Any) -> Tensor:
    dtype = torch.promote_types(student.dtype, torch.float32)
    p = F.softmax(teacher.to(dtype) / teacher_temperature, dim=-1)
    return -(p * F.log_softmax(student.to(dtype) / student_temperature, dim=-1)).sum(dim=-1).mean()


@exhibit(
    replaces=DINO,
    seen_in="a likely slip: the center kept and never subtracted",
    killed_by=killed_by_dino(
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
    killed_by=killed_by_dino("dino_matches_the_definition", "known_values_of_dino_and_its_center"),
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
    killed_by=killed_by_dino("the_loss_leaves_the_center_and_the_update_sees_raw_outputs"),
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
    killed_by=killed_by_dino(
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
    killed_by=killed_by_dino("gradient_reaches_the_student_only"),
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
    killed_by=killed_by_dino("information_is_nothing_after_either_collapse_and_at_most_a_logarithm"),
)
def entropy_of_the_mean_only(outputs: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Highest exactly at the uniform collapse."""
    p = F.softmax(outputs.detach().flatten(0, -2) / temperature, dim=-1).mean(dim=0)
    return -(p * p.clamp(min=1e-30).log()).sum()
