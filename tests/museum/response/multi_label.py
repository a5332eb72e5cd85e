"""Wrong versions of the loss for several labels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.response import multi_label
from tests.museum import exhibit

MULTI_LABEL = "kdref.response.multi_label:multi_label_loss"
right_loss = multi_label.multi_label_loss  # as it was before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/response/test_multi_label.py::test_{test}" for test in tests)


def widened(logits: Tensor, temperature: float | Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature


@exhibit(
    replaces=MULTI_LABEL,
    seen_in="penghui-yang/L2D, mld.py: sigmoids clipped to [1e-8, 1 - 1e-8], which is [1e-8, 1] in float32",
    killed_by=killed_by("a_student_that_is_sure_and_wrong_pays_its_logit", "extreme_logits_stay_finite[10000.0]"),
)
def clipped_sigmoids(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """log(1 - 1) is -∞: infinite at a student's logit of 17."""
    q, p = (widened(z, temperature).sigmoid().clamp(1e-8, 1 - 1e-8) for z in (student_logits, teacher_logits.detach()))
    terms = F.kl_div(q.log(), p, reduction="none") + F.kl_div((1 - q).log(), 1 - p, reduction="none")
    return (terms * temperature**2).mean()


@exhibit(
    replaces=MULTI_LABEL,
    seen_in="penghui-yang/L2D, mld.py: reduction='batchmean'",
    killed_by=killed_by("it_matches_the_definition", "known_values", "it_is_soft_targets_of_yes_and_no"),
)
def summed_over_labels(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Grows with the number of labels: 80 times as heavy on COCO."""
    return right_loss(student_logits, teacher_logits, temperature=temperature) * student_logits[0].numel()


@exhibit(
    replaces=MULTI_LABEL,
    seen_in="hunto/DIST_KD #4: the softmax of the divergence replaced by a sigmoid, for RetinaNet",
    killed_by=killed_by("it_matches_the_definition", "labels_are_apart_and_yes_and_no_may_change_places"),
)
def yes_without_no(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """p log(p/q) alone is no divergence: it may be negative, and a student that says yes to everything pays least."""
    log_q, log_p = (F.logsigmoid(widened(z, temperature)) for z in (student_logits, teacher_logits.detach()))
    return (log_p.exp() * (log_p - log_q) * temperature**2).mean()


@exhibit(
    replaces=MULTI_LABEL,
    seen_in="PITFALLS 33: soft targets of outputs that a sigmoid follows",
    killed_by=killed_by(
        "one_sigmoid_output_learns_where_a_softmax_over_it_could_not",
        "labels_are_apart_and_yes_and_no_may_change_places",
        "known_values",
    ),
)
def softmax_over_labels(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Labels that go together become rivals, and a single one is always right."""
    log_q, log_p = (F.log_softmax(widened(z, temperature), dim=-1) for z in (student_logits, teacher_logits.detach()))
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1).mean() * temperature**2


@exhibit(
    replaces=MULTI_LABEL,
    seen_in="fschmid56/EfficientAT #18: binary cross-entropy with the teacher's sigmoids",
    killed_by=killed_by("it_is_zero_where_they_agree_and_positive_elsewhere", "it_matches_the_definition"),
)
def cross_entropy_of_sigmoids(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 1.0
) -> Tensor:
    """PITFALLS 4: the gradient is right, the value is the teacher's entropy too high, so not 0 where they agree."""
    q, p = (widened(z, temperature) for z in (student_logits, teacher_logits.detach()))
    return (F.binary_cross_entropy_with_logits(q, p.sigmoid(), reduction="none") * temperature**2).mean()


@exhibit(
    replaces=MULTI_LABEL,
    seen_in="PITFALLS 2: a temperature without its square",
    killed_by=killed_by("it_matches_the_definition[4.0]", "the_gradient_is_temperature_times_the_difference[4.0]"),
)
def without_the_square(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Its gradient falls as 1/τ²."""
    return right_loss(student_logits, teacher_logits, temperature=temperature) / temperature**2


@exhibit(
    replaces=MULTI_LABEL,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=killed_by("gradients_reach_the_student_only"),
)
def teacher_not_detached(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """The teacher learns to agree with its student."""
    p, s = widened(teacher_logits, temperature), widened(student_logits, temperature)
    yes = p.sigmoid() * (F.logsigmoid(p) - F.logsigmoid(s))
    no = (-p).sigmoid() * (F.logsigmoid(-p) - F.logsigmoid(-s))
    return (yes + no).mean() * temperature**2
