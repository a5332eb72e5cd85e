"""Wrong versions of logit matching, hard labels, label smoothing, the virtual teacher and the learnable temperature."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import response
from tests.museum import exhibit

MATCHING, HARD, SMOOTHING, VIRTUAL = (
    f"kdref.response.targets:{name}"
    for name in ("logit_matching_loss", "hard_label_loss", "label_smoothing_loss", "virtual_teacher_logits")
)
TEMPERATURE = "kdref.response.temperature:LearnableTemperature"
Right = response.LearnableTemperature  # as it was before any swap
right_matching = response.logit_matching_loss


@exhibit(
    replaces=MATCHING,
    seen_in="AberHu/Knowledge-Distillation-Zoo, Logits: F.mse_loss of the raw logits",
    killed_by=(
        "heart/response/test_targets.py::test_logit_matching_ignores_what_softmax_ignores",
        "heart/response/test_targets.py::test_logit_matching_is_zero_up_to_a_constant_per_example_and_positive_elsewhere",
        "heart/response/test_targets.py::test_logit_matching_is_soft_targets_at_an_infinite_temperature",
    ),
)
def raw_logits(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """A shift that softmax ignores is penalised."""
    return F.mse_loss(student_logits, teacher_logits.detach()) / 2


@exhibit(
    replaces=MATCHING,
    seen_in="a likely slip: the mean along the wrong axis",
    killed_by=(
        "heart/response/test_targets.py::test_logit_matching_matches_the_definition",
        "heart/response/test_targets.py::test_the_gradient_of_logit_matching_is_the_centred_difference",
    ),
)
def centred_over_the_batch(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Each class is centred over the examples, so that a constant bias of a class costs nothing."""
    difference = student_logits - teacher_logits.detach()
    return (difference - difference.mean(dim=0)).square().mean() / 2


@exhibit(
    replaces=MATCHING,
    seen_in="a likely slip: the paper's sum over classes is kept, the limit's 1/C is not",
    killed_by=(
        "heart/response/test_targets.py::test_known_value_of_logit_matching",
        "heart/response/test_targets.py::test_logit_matching_is_soft_targets_at_an_infinite_temperature",
    ),
)
def summed_over_classes(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """C times the limit of the soft-target loss."""
    return right_matching(student_logits, teacher_logits) * student_logits.shape[-1]


@exhibit(
    replaces=MATCHING,
    seen_in="a likely slip: F.mse_loss has no half",
    killed_by=("heart/response/test_targets.py::test_logit_matching_matches_the_definition",),
)
def without_the_half(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Twice the paper's loss."""
    return 2 * right_matching(student_logits, teacher_logits)


@exhibit(
    replaces=MATCHING,
    seen_in="a likely slip: autocast's half-precision logits are squared as they come",
    killed_by=("heart/response/test_targets.py::test_extreme_logits_stay_finite[10000.0]",),
)
def squared_in_half_precision(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """PITFALLS 17: a difference of 300 overflows float16 when squared."""
    difference = student_logits - teacher_logits.detach()
    value = (difference - difference.mean(dim=-1, keepdim=True)).square().mean() / 2
    return value.to(torch.promote_types(value.dtype, torch.float32))


@exhibit(
    replaces=HARD,
    seen_in="a likely slip after a refactoring, as in labmlai/annotated_deep_learning_paper_implementations #66",
    killed_by=(
        "heart/response/test_targets.py::test_hard_label_loss_matches_the_definition",
        "heart/response/test_targets.py::test_known_value_of_hard_labels",
    ),
)
def the_students_own_choice(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """PITFALLS 8: the student's argmax is the label, so it confirms itself."""
    return F.cross_entropy(student_logits, student_logits.argmax(dim=-1))


@exhibit(
    replaces=HARD,
    seen_in="a likely slip: the teacher's probabilities where its decision was meant",
    killed_by=(
        "heart/response/test_targets.py::test_hard_labels_use_only_the_teachers_first_choice",
        "heart/response/test_targets.py::test_hard_label_loss_matches_the_definition",
    ),
)
def soft_label(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy with the softmax: the teacher's scale leaks in."""
    return F.cross_entropy(student_logits, teacher_logits.detach().softmax(dim=-1))


@exhibit(
    replaces=HARD,
    seen_in="PITFALLS 3 (yuanli2333/Teacher-free-KD #24): the temperature on a hard term",
    killed_by=("heart/response/test_targets.py::test_known_value_of_hard_labels",),
)
def softened_student(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The student meets the label at temperature 4."""
    return F.cross_entropy(student_logits / 4, teacher_logits.argmax(dim=-1))


@exhibit(
    replaces=HARD,
    seen_in="PITFALLS 15: log and softmax one after the other (yzd-v/cls_KD #13)",
    killed_by=("heart/response/test_targets.py::test_extreme_logits_stay_finite[10000.0]",),
)
def log_of_softmax(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """PITFALLS 15: log(softmax(x)) is -inf once a probability underflows."""
    logits = student_logits.to(torch.promote_types(student_logits.dtype, torch.float32))
    q = logits.softmax(dim=-1)
    return -q.gather(-1, teacher_logits.argmax(dim=-1, keepdim=True)).log().mean()


@exhibit(
    replaces=SMOOTHING,
    seen_in="yuanli2333/Teacher-free-Knowledge-Distillation, loss_label_smoothing",
    killed_by=(
        "heart/response/test_targets.py::test_label_smoothing_matches_the_definition",
        "heart/response/test_targets.py::test_label_smoothing_is_cross_entropy_and_a_uniform_teacher[0.1]",
    ),
)
def shared_by_the_others(student_logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """The share goes to the C - 1 wrong classes only: C/(C - 1) times the smoothing that was asked for."""
    classes = student_logits.shape[-1]
    return F.cross_entropy(student_logits, labels, label_smoothing=smoothing * classes / (classes - 1))


@exhibit(
    replaces=SMOOTHING,
    seen_in="a likely slip: the label keeps 1 - ε, every other class gets ε/C, and ε/C is lost",
    killed_by=(
        "heart/response/test_targets.py::test_label_smoothing_is_cross_entropy_and_a_uniform_teacher[0.5]",
        "heart/response/test_targets.py::test_label_smoothing_matches_the_definition",
    ),
)
def does_not_sum_to_one(student_logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """The targets sum to less than 1, so the loss is smaller and its gradient does not sum to 0."""
    classes = student_logits.shape[-1]
    targets = torch.full_like(student_logits, smoothing / classes).scatter(1, labels[:, None], 1 - smoothing)
    return -(targets * student_logits.log_softmax(dim=-1)).sum(dim=-1).mean()


@exhibit(
    replaces=SMOOTHING,
    seen_in="a likely slip: the same number means the label's share elsewhere",
    killed_by=(
        "heart/response/test_targets.py::test_label_smoothing_is_cross_entropy_and_a_uniform_teacher[0.0]",
        "heart/response/test_targets.py::test_known_value_of_label_smoothing",
    ),
)
def shares_swapped(student_logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """The uniform distribution gets 1 - ε."""
    return F.cross_entropy(student_logits, labels, label_smoothing=1 - smoothing)


@exhibit(
    replaces=SMOOTHING,
    seen_in="yuanli2333/Teacher-free-KD #5: nn.KLDivLoss() with its default reduction",
    killed_by=("heart/response/test_targets.py::test_label_smoothing_is_cross_entropy_and_a_uniform_teacher[0.5]",),
)
def uniform_term_averaged(student_logits: Tensor, labels: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """PITFALLS 1: the teacher's term is divided by the number of classes."""
    hard, uniform = (F.cross_entropy(student_logits, labels, label_smoothing=share) for share in (0.0, 1.0))
    return (1 - smoothing) * hard + smoothing * uniform / student_logits.shape[-1]


@exhibit(
    replaces=VIRTUAL,
    seen_in="yuanli2333/Teacher-free-Knowledge-Distillation, loss_kd_regularization",
    killed_by=(
        "heart/response/test_targets.py::test_the_virtual_teacher_matches_the_definition",
        "heart/response/test_targets.py::test_a_temperature_softens_the_virtual_teacher_as_in_the_paper",
        "heart/response/test_targets.py::test_a_virtual_teacher_of_the_right_confidence_is_label_smoothing",
    ),
)
def probabilities_for_logits(labels: Tensor, *, num_classes: int, confidence: float = 0.99) -> Tensor:
    """A softmax of probabilities: at temperature 20 the label's share is 0.0105 of 100 classes."""
    others = (1 - confidence) / (num_classes - 1)
    return torch.full((*labels.shape, num_classes), others).scatter(-1, labels.unsqueeze(-1), confidence)


@exhibit(
    replaces=VIRTUAL,
    seen_in="a likely slip: the rest is shared by C classes, as in label smoothing",
    killed_by=("heart/response/test_targets.py::test_the_virtual_teachers_logits_are_log_probabilities",),
)
def rest_shared_by_all(labels: Tensor, *, num_classes: int, confidence: float = 0.99) -> Tensor:
    """The probabilities sum to less than 1, so softmax does not give the confidence back."""
    logits = torch.full((*labels.shape, num_classes), math.log((1 - confidence) / num_classes))
    return logits.scatter(-1, labels.unsqueeze(-1), math.log(confidence))


@exhibit(
    replaces=VIRTUAL,
    seen_in="a likely slip: right for two classes only",
    killed_by=("heart/response/test_targets.py::test_the_virtual_teacher_matches_the_definition",),
)
def log_odds_of_two_classes(labels: Tensor, *, num_classes: int, confidence: float = 0.99) -> Tensor:
    """The label's logit is log(a / (1 - a)), which C - 1 others at 0 outvote."""
    logits = torch.zeros(*labels.shape, num_classes)
    return logits.scatter(-1, labels.unsqueeze(-1), math.log(confidence / (1 - confidence)))


@exhibit(
    replaces=TEMPERATURE,
    seen_in="zhengli97/CTKD's layer, which does not negate, with the positive strength of its paper",
    killed_by=(
        "heart/response/test_temperature.py::test_the_gradient_is_reversed_with_the_given_strength",
        "heart/response/test_temperature.py::test_descent_on_the_temperature_makes_the_loss_larger",
    ),
)
class NotReversed(Right):
    """The temperature makes the task easier instead of harder."""

    def forward(self, *, reversal: float | Tensor = 1.0) -> Tensor:
        temperature = super().forward(reversal=1.0)
        return temperature.detach() - reversal * (temperature - temperature.detach())


@exhibit(
    replaces=TEMPERATURE,
    seen_in="a likely slip: the curriculum's strength never arrives",
    killed_by=("heart/response/test_temperature.py::test_the_gradient_is_reversed_with_the_given_strength",),
)
class AlwaysAtFullStrength(Right):
    """The reversal is fixed at 1, so the curriculum starts at its end."""

    def forward(self, *, reversal: float | Tensor = 1.0) -> Tensor:
        return super().forward(reversal=1.0)


@exhibit(
    replaces=TEMPERATURE,
    seen_in="a likely slip: the loss is scaled instead of the gradient",
    killed_by=("heart/response/test_temperature.py::test_the_reversal_leaves_value_and_student_alone",),
)
class StrengthInTheValue(Right):
    """The temperature itself is multiplied, so the student sees another task."""

    def forward(self, *, reversal: float | Tensor = 1.0) -> Tensor:
        return super().forward(reversal=1.0) * (1 + reversal)


@exhibit(
    replaces=TEMPERATURE,
    seen_in="zhengli97/CTKD, helper/loops.py: t_start + t_end * sigmoid",
    killed_by=(
        "heart/response/test_temperature.py::test_the_temperature_starts_where_it_is_told_and_stays_in_its_range",
    ),
)
class RangeAddedToTheMinimum(Right):
    """The maximum is added to the minimum, so the end of the range is 21."""

    def forward(self, *, reversal: float | Tensor = 1.0) -> Tensor:
        return super().forward(reversal=reversal) + self.minimum * torch.sigmoid(self.raw)


@exhibit(
    replaces=TEMPERATURE,
    seen_in="a likely slip: float(temperature) on the way to the loss",
    killed_by=("heart/response/test_temperature.py::test_descent_on_the_temperature_makes_the_loss_larger",),
)
class NeverLearns(Right):
    """The gradient is cut."""

    def forward(self, *, reversal: float | Tensor = 1.0) -> Tensor:
        return super().forward(reversal=reversal).detach() + 0 * self.raw


@exhibit(
    replaces=HARD,
    seen_in="kdref 0.1, and any argmax: the place of a NaN is a class like others",
    killed_by=("heart/response/test_input.py::test_hard_labels_need_a_choice",),
)
def choice_of_a_nan(student_logits: Tensor, teacher_logits: Tensor, *, class_dim: int = -1) -> Tensor:
    """A teacher that has diverged teaches its first NaN's class, and the loss looks well."""
    return F.cross_entropy(student_logits.float(), teacher_logits.argmax(dim=class_dim))
