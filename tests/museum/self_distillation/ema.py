"""Wrong versions of the averaged teacher."""

from typing import Any

import torch
from torch import nn

from kdref.self_distillation import ema
from tests.museum import exhibit

EMA = "kdref.self_distillation.ema:EmaTeacher"
RightEma = ema.EmaTeacher  # as it was before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/self_distillation/test_ema.py::test_{test}" for test in tests)


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
