"""Every loss of lessons 01 to 05, each with a small student, for the tests of data parallelism."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdref import attention, feature, relation, response, soft_targets
from tests import checks

BATCH, STEPS, CLASSES = 12, 5, 4
EXAMPLES = BATCH * STEPS
LOGITS, MAPS, VECTORS, SCORES = (CLASSES,), (4, 4, 4), (6,), (2, 5, 5)


@dataclass(frozen=True)
class Case:
    """One loss. The head is trained too; what the loss takes is gathered, or not, before it is called."""

    lesson: int
    student: tuple[int, ...]  # the student's output for one example
    teacher: tuple[int, ...]
    loss: Callable[..., Tensor]  # of head, student, teacher, and a batch's labels, rows, mask and number
    head: Callable[[], nn.Module] = nn.Identity
    after: Callable[..., None] | None = None  # a memory's update, of what the loss took


Extra = Mapping[str, Any]


def of_logits(function: Callable[..., Tensor], *, labels: bool = False, **settings: Any) -> Case:
    def loss(head: Any, student: Tensor, teacher: Tensor, extra: Extra) -> Tensor:
        last = (extra["labels"],) if labels else ()
        return function(student, teacher, *last, **settings).mean()

    return Case(lesson=2, student=LOGITS, teacher=LOGITS, loss=loss)


def of_features(lesson: int, shape: tuple[int, ...], function: Callable[..., Tensor], *rest: Any) -> Case:
    return Case(lesson, shape, shape, lambda head, student, teacher, extra: function(student, teacher, *rest).mean())


def in_lesson(lesson: int, case: Case) -> Case:
    return Case(lesson, case.student, case.teacher, case.loss, case.head, case.after)


def partly_labelled(head: Any, student: Tensor, teacher: Tensor, extra: Extra) -> Tensor:
    labels = extra["labels"].masked_fill(extra["rows"] % 12 < 5, -100)  # more of them on the first process
    return soft_targets.distillation_loss(student, teacher, labels)


def masked_scores(head: Any, student: Tensor, teacher: Tensor, extra: Extra) -> Tensor:
    return attention.attention_score_loss(student, teacher, mask=extra["mask"])


def pair(maps: Tensor) -> tuple[Tensor, Tensor]:
    return maps[:, :2], maps[:, 2:]


def negatives(extra: Extra, head: Any) -> Tensor:
    return head.draw(40, generator=torch.Generator().manual_seed(extra["number"]))  # the same on all processes


def contrast(head: Any, student: Tensor, teacher: Tensor, extra: Extra) -> Tensor:
    drawn = negatives(extra, head)
    return relation.crd_loss(*head(student, teacher), extra["rows"], drawn, head)


def remember(head: Any, student: Tensor, teacher: Tensor, extra: Extra) -> None:
    head.update(*head(student, teacher), extra["rows"])


def memory() -> nn.Module:
    return relation.ContrastiveMemory(6, 6, num_examples=EXAMPLES, width=4)


def projector() -> nn.Module:
    return feature.ReusedClassifier(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), nn.Linear(4, 3))


MARGIN = torch.tensor([-0.5, -0.2, -0.3, -0.1], dtype=torch.float64)
CASES: dict[str, Case] = {
    "distillation_loss": in_lesson(1, of_logits(soft_targets.distillation_loss, labels=True)),
    "distillation_loss, labels of -100": Case(1, LOGITS, LOGITS, partly_labelled),
    "soft_target_loss": in_lesson(1, of_logits(soft_targets.soft_target_loss)),
    "kl_divergence": in_lesson(1, of_logits(soft_targets.kl_divergence, temperature=2.0)),
    "dkd_loss": of_logits(response.dkd_loss, labels=True),
    "hard_label_loss": of_logits(response.hard_label_loss),
    "label_smoothing_loss": of_logits(lambda s, t, y: response.label_smoothing_loss(s, y), labels=True),
    "logit_matching_loss": of_logits(response.logit_matching_loss),
    "multi_label_loss": of_logits(response.multi_label_loss),
    "nkd_loss": of_logits(response.nkd_loss, labels=True),
    "nontarget_class_divergence": of_logits(response.nontarget_class_divergence, labels=True),
    "target_class_divergence": of_logits(response.target_class_divergence, labels=True),
    "standardized_kd_loss": of_logits(response.standardized_kd_loss),
    "virtual_teacher_logits": of_logits(
        lambda s, t, y: soft_targets.soft_target_loss(s, response.virtual_teacher_logits(y, num_classes=CLASSES)),
        labels=True,
    ),
    "LearnableTemperature": Case(
        2,
        LOGITS,
        LOGITS,
        lambda head, student, teacher, extra: soft_targets.soft_target_loss(student, teacher, temperature=head()),
        response.LearnableTemperature,
    ),
    "dist_loss": of_logits(response.dist_loss),
    "dist_loss, inter alone": of_logits(response.dist_loss, intra_weight=0.0),
    "hint_loss, HintRegressor": Case(
        3,
        MAPS,
        MAPS,
        lambda head, student, teacher, extra: feature.hint_loss(head(student), teacher),
        partial(feature.HintRegressor, 4, 4),
    ),
    "activation_boundary_loss": of_features(3, MAPS, feature.activation_boundary_loss),
    "channel_wise_loss": of_features(3, MAPS, feature.channel_wise_loss),
    "factor_transfer_loss, Translator": Case(
        3,
        MAPS,
        (3, 4, 4),
        lambda head, student, teacher, extra: feature.factor_transfer_loss(head(student), teacher),
        partial(feature.Translator, 4, 3),
    ),
    "Paraphraser": Case(
        3,
        MAPS,
        MAPS,
        lambda head, student, teacher, extra: head.reconstruction_loss(teacher) + 0 * student.sum(),
        partial(feature.Paraphraser, 4, 2),
    ),
    "fsp_loss": Case(3, MAPS, MAPS, lambda head, s, t, extra: feature.fsp_loss(pair(s), pair(t))),
    "hierarchical_context_loss": of_features(3, MAPS, feature.hierarchical_context_loss),
    "neuron_selectivity_loss": of_features(3, MAPS, feature.neuron_selectivity_loss),
    "overhaul_loss": of_features(3, MAPS, feature.overhaul_loss, MARGIN),
    "VariationalRegressor": Case(
        3,
        MAPS,
        MAPS,
        lambda head, student, teacher, extra: head.loss(student, teacher),
        partial(feature.VariationalRegressor, 4, 4),
    ),
    "MaskedGeneration, nothing masked": Case(
        3,
        MAPS,
        MAPS,
        lambda head, student, teacher, extra: head.loss(student, teacher),
        partial(feature.MaskedGeneration, 4, 4, mask_ratio=0.0),
    ),
    "ReviewFusion, its BatchNorm": Case(
        3,
        MAPS,
        MAPS,
        lambda head, student, teacher, extra: feature.hierarchical_context_loss(head([student])[0], teacher),
        partial(feature.ReviewFusion, [4], [4]),
    ),
    "ReusedClassifier, its BatchNorm": Case(
        3,
        MAPS,
        MAPS,
        lambda head, student, teacher, extra: feature.hint_loss(head.project(student), teacher),
        projector,
    ),
    "attention_transfer_loss": of_features(4, MAPS, attention.attention_transfer_loss),
    "attention_score_loss": of_features(4, SCORES, attention.attention_score_loss),
    "attention_score_loss, a mask": Case(4, SCORES, SCORES, masked_scores),
    "attention_relation_divergence": Case(
        4,
        SCORES,
        SCORES,
        lambda head, s, t, extra: attention.attention_relation_divergence(
            attention.value_relation(s), attention.value_relation(t), mask=extra["mask"]
        ).mean(),
    ),
    "correlation_congruence_loss": of_features(5, VECTORS, relation.correlation_congruence_loss),
    "info_nce_loss": of_features(5, VECTORS, partial(relation.info_nce_loss, temperature=0.5)),
    "probabilistic_transfer_loss": of_features(5, VECTORS, relation.probabilistic_transfer_loss),
    "rkd_angle_loss": of_features(5, VECTORS, relation.rkd_angle_loss),
    "rkd_distance_loss": of_features(5, VECTORS, relation.rkd_distance_loss),
    "similarity_preserving_loss": of_features(5, VECTORS, relation.similarity_preserving_loss),
    "crd_loss, a memory of all rows": Case(5, VECTORS, VECTORS, contrast, memory, remember),
    "crd_loss, a memory of own rows": Case(5, VECTORS, VECTORS, contrast, memory, remember),
}
ALL_ROWS = ("crd_loss, a memory of all rows",)
"""Cases whose memory is given the rows of all processes, whatever the loss is given."""
X = checks.randn(EXAMPLES, 5, seed=1)
LABELS = checks.labels_for(EXAMPLES, CLASSES)
MASK = torch.arange(5) <= torch.arange(EXAMPLES)[:, None] % 12 % 5  # one to five tokens, unequal between processes


def targets(case: Case) -> Tensor:
    return checks.randn(EXAMPLES, *case.teacher, seed=2)


class Student(nn.Module):
    """A small network, and the head that a loss brings along."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            size = torch.Size(case.student).numel()
            self.body = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, size), nn.Unflatten(1, case.student))
            self.head = case.head()
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)
