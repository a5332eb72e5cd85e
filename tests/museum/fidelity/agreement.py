"""Wrong versions of agreement and common mistakes."""

import math

import torch
from torch import Tensor

from kdref import fidelity
from tests.museum import exhibit

AGREEMENT, CONSISTENCY, SHARED = (
    f"kdref.fidelity.agreement:{name}" for name in ("top1_agreement", "error_consistency", "wrong_answer_agreement")
)
DEFINITION, HAND = "common_errors_match_their_definitions", "known_values_by_hand"
NO_CHANCE = "where_chance_alone_would_agree_always_kappa_is_zero"
NO_MISTAKE = "where_the_teacher_makes_no_mistake_there_is_none_to_share"
NO_CHOICE = "a_row_without_a_choice_is_nan_unless_it_has_no_label"
SAME_ANSWERS = "the_same_errors_need_not_be_the_same_answers"
right_consistency = fidelity.error_consistency


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/fidelity/test_agreement.py::test_{test}" for test in tests)


def rightness(logits: Tensor, labels: Tensor, class_dim: int) -> Tensor:
    return logits.argmax(class_dim)[labels != -100] == labels[labels != -100]


def kappa(observed: Tensor, expected: Tensor) -> Tensor:
    return (observed - expected) / (1 - expected).clamp(min=1e-30)


@exhibit(
    replaces=AGREEMENT,
    seen_in="a likely slip: argmax over the first axis",
    killed_by=killed_by("agreement_matches_the_definition", HAND),
)
def choice_of_an_example_per_class(student_logits: Tensor, teacher_logits: Tensor, *, class_dim: int = -1) -> Tensor:
    """For each class, the example that has most of it."""
    return (student_logits.argmax(0) == teacher_logits.argmax(0)).to(student_logits.dtype)


@exhibit(
    replaces=AGREEMENT,
    seen_in="a likely slip: the mean within, as of a loss",
    killed_by=killed_by("agreement_matches_the_definition", HAND),
)
def mean_within(student_logits: Tensor, teacher_logits: Tensor, *, class_dim: int = -1) -> Tensor:
    """A mean over batches of unequal size is then another mean, and nothing can be selected."""
    return (student_logits.argmax(class_dim) == teacher_logits.argmax(class_dim)).float().mean()


@exhibit(
    replaces=AGREEMENT,
    seen_in="a likely slip: a network that has diverged, compared by argmax: NaN is the largest of all",
    killed_by=killed_by(NO_CHOICE),
)
def nan_is_a_choice(student_logits: Tensor, teacher_logits: Tensor, *, class_dim: int = -1) -> Tensor:
    """Two networks that are NaN everywhere agree on all examples."""
    return (student_logits.argmax(class_dim) == teacher_logits.argmax(class_dim)).to(student_logits.dtype)


@exhibit(
    replaces=CONSISTENCY,
    seen_in="a likely slip: the observed share, before chance is taken out",
    killed_by=killed_by(DEFINITION, HAND, "independent_errors_are_at_chance"),
)
def chance_left_in(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1) -> Tensor:
    """Two strangers of 90 % accuracy have 82 %."""
    sides = (rightness(logits, labels, class_dim) for logits in (student_logits, teacher_logits))
    return torch.eq(*sides).to(student_logits.dtype).mean()


@exhibit(
    replaces=CONSISTENCY,
    seen_in="a likely slip: chance agreement of the right answers alone",
    killed_by=killed_by(DEFINITION, HAND, "independent_errors_are_at_chance", NO_CHANCE),
)
def both_wrong_forgotten(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1
) -> Tensor:
    """Networks that err often and independently seem alike."""
    s, t = (rightness(logits, labels, class_dim) for logits in (student_logits, teacher_logits))
    dtype = student_logits.dtype
    return kappa((s == t).to(dtype).mean(), s.to(dtype).mean() * t.to(dtype).mean())


@exhibit(
    replaces=CONSISTENCY,
    seen_in="a likely slip: Cohen's kappa of the answers, scikit-learn's cohen_kappa_score of two predictions",
    killed_by=killed_by(DEFINITION, HAND, SAME_ANSWERS),
)
def kappa_of_the_answers(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1
) -> Tensor:
    """Counts who answers alike, not who errs where."""
    s, t = (logits.argmax(class_dim)[labels != -100] for logits in (student_logits, teacher_logits))
    counts = [torch.bincount(side, minlength=student_logits.shape[class_dim]).double() / len(s) for side in (s, t)]
    return kappa((s == t).double().mean(), (counts[0] * counts[1]).sum()).to(student_logits.dtype)


@exhibit(
    replaces=CONSISTENCY,
    seen_in="a likely slip: an example without a label is an example where both are wrong",
    killed_by=("heart/fidelity/test_agreement.py::test_common_errors_match_their_definitions[13]",),
)
def unlabelled_is_wrong(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1
) -> Tensor:
    """The more padding, the more alike the two are."""
    never = torch.where(labels == -100, (student_logits + teacher_logits).argmin(class_dim), labels)
    return right_consistency(student_logits, teacher_logits, never, class_dim=class_dim)


@exhibit(
    replaces=CONSISTENCY,
    seen_in="a likely slip: 0/0 where both are always right",
    killed_by=killed_by(NO_CHANCE),
)
def nothing_over_nothing(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1
) -> Tensor:
    """NaN on an easy test set, and in every mean over seeds."""
    s, t = (rightness(logits, labels, class_dim).double() for logits in (student_logits, teacher_logits))
    expected = s.mean() * t.mean() + (1 - s.mean()) * (1 - t.mean())
    return ((s == t).double().mean() - expected) / (1 - expected)


@exhibit(
    replaces=SHARED,
    seen_in="a likely slip: both wrong, whatever they answer",
    killed_by=killed_by(DEFINITION, HAND, SAME_ANSWERS),
)
def any_wrong_answer(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1) -> Tensor:
    """Hard examples are hard for all: that is no sign of a copy."""
    s, t = (~rightness(logits, labels, class_dim) for logits in (student_logits, teacher_logits))
    return (s & t).to(student_logits.dtype).sum() / t.sum().clamp(min=1)


@exhibit(
    replaces=SHARED,
    seen_in="a likely slip: divided by the student's mistakes",
    killed_by=killed_by(DEFINITION, "whose_mistakes_are_counted_matters_and_for_kappa_it_does_not"),
)
def share_of_the_students_mistakes(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1
) -> Tensor:
    """A good student that copies every mistake is told from a bad one that copies none by its accuracy."""
    s, t = (logits.argmax(class_dim) for logits in (student_logits, teacher_logits))
    mistakes = (s != labels) & (labels != -100)
    return (mistakes & (s == t)).to(student_logits.dtype).sum() / mistakes.sum().clamp(min=1)


@exhibit(
    replaces=SHARED,
    seen_in="a likely slip: divided by all examples",
    killed_by=killed_by(DEFINITION, HAND, "a_network_agrees_with_itself_in_everything"),
)
def share_of_all_examples(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1
) -> Tensor:
    """The better the teacher, the less its mistakes seem to be passed on."""
    s, t = (logits.argmax(class_dim) for logits in (student_logits, teacher_logits))
    known = labels != -100
    return ((t != labels) & known & (s == t)).to(student_logits.dtype).sum() / known.sum().clamp(min=1)


@exhibit(
    replaces=SHARED,
    seen_in="a likely slip: the mean over a selection that may be empty",
    killed_by=killed_by(NO_MISTAKE),
)
def mean_of_no_mistake(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, class_dim: int = -1
) -> Tensor:
    """NaN with a teacher that makes none."""
    s, t = (logits.argmax(class_dim) for logits in (student_logits, teacher_logits))
    mistakes = (t != labels) & (labels != -100)
    same = (s == t)[mistakes].to(student_logits.dtype)
    return same.mean() if len(same) else torch.tensor(math.nan)
