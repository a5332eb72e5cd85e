"""Wrong versions of the scaling laws."""

from typing import Any

import torch
from torch import Tensor

from kdref import scaling
from kdref.scaling import APPLE_DISTILLATION, APPLE_SUPERVISED, DistillationLaw, SupervisedLaw
from tests.museum import exhibit

ALONE, TAUGHT, GAP, FLOPS = (
    f"kdref.scaling:{name}"
    for name in ("supervised_loss_law", "distillation_loss_law", "capacity_gap_teacher_loss", "training_flops")
)
DEFINITION, HAND, ANCHORS = "both_laws_match_the_definition", "known_values_by_hand", "anchors_computed_beforehand"
BEST = "over_the_teachers_loss_it_is_a_u_with_the_best_teacher_where_it_should_be"
LIMIT = "a_student_without_limits_equals_its_teacher_and_alone_reaches_the_floor"
POWERS, TABLE_2 = (
    "at_the_gap_the_law_changes_from_one_power_to_another",
    "training_costs_as_in_the_four_settings_of_table_2",
)
right_alone, right_taught, right_flops = (
    scaling.supervised_loss_law,
    scaling.distillation_loss_law,
    scaling.training_flops,
)


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/test_scaling.py::test_{test}" for test in tests)


def shortage(n: Tensor, d: Tensor, law: SupervisedLaw | DistillationLaw) -> Tensor:
    return (law.A / n**law.alpha + law.B / d**law.beta) ** law.gamma


@exhibit(
    replaces=ALONE,
    seen_in="a likely slip: Chinchilla's law, whose terms stand alone, with the new exponent on each",
    killed_by=killed_by(DEFINITION, ANCHORS),
)
def power_of_each_term(parameters: Tensor, tokens: Tensor, *, law: SupervisedLaw = APPLE_SUPERVISED) -> Tensor:
    """Too pessimistic: a root of a sum is less than the sum of roots."""
    n, d = parameters, tokens
    return law.E + (law.A / n**law.alpha) ** law.gamma + (law.B / d**law.beta) ** law.gamma


@exhibit(
    replaces=ALONE,
    seen_in="a likely slip: the two exponents swapped, which are nearly equal",
    killed_by=killed_by(DEFINITION, ANCHORS),
)
def exponents_swapped(parameters: Tensor, tokens: Tensor, *, law: SupervisedLaw = APPLE_SUPERVISED) -> Tensor:
    """Parameters fall with the exponent of tokens."""
    return right_alone(parameters, tokens, law=law._replace(alpha=law.beta, beta=law.alpha))


@exhibit(
    replaces=ALONE,
    seen_in="a likely slip: what no size removes put under the power",
    killed_by=killed_by(DEFINITION, LIMIT),
)
def floor_under_the_power(parameters: Tensor, tokens: Tensor, *, law: SupervisedLaw = APPLE_SUPERVISED) -> Tensor:
    """A model without limits reaches E to the power of gamma, less than E."""
    return (law.E + law.A / parameters**law.alpha + law.B / tokens**law.beta) ** law.gamma


def with_bracket(bracket: Any) -> Any:
    """The student's law, with another bracket: a function of ratio and law."""

    def wrong(
        teacher_loss: Tensor,
        parameters: Tensor,
        tokens: Tensor,
        *,
        law: DistillationLaw = APPLE_DISTILLATION,
        supervised: SupervisedLaw = APPLE_SUPERVISED,
    ) -> Tensor:
        ratio = teacher_loss / (right_alone(parameters, tokens, law=supervised) * law.d1)
        return teacher_loss + teacher_loss**-law.c0 * bracket(ratio, law) * shortage(parameters, tokens, law)

    return wrong


def hang(bracket: Any, name: str, doc: str, seen_in: str, tests: tuple[str, ...]) -> None:
    wrong = with_bracket(bracket)
    wrong.__name__, wrong.__doc__ = name, doc
    exhibit(replaces=TAUGHT, seen_in=seen_in, killed_by=tests)(wrong)


hang(
    lambda ratio, law: (1 + ratio**law.f1) ** (-law.c1 * law.f1),
    "exponent_not_inverted",
    "No break at all: the bracket hardly depends on the teacher.",
    "a likely slip: f₁ for 1/f₁",
    killed_by(HAND, ANCHORS, BEST),
)
hang(
    lambda ratio, law: (1 + ratio ** (-1 / law.f1)) ** (-law.c1 * law.f1),
    "ratio_upside_down",
    "The student imitates strong teachers and not weak ones.",
    "a likely slip: the student's loss over the teacher's",
    killed_by(DEFINITION, ANCHORS, HAND),
)
hang(
    lambda ratio, law: (1 + (ratio * law.d1**2) ** (1 / law.f1)) ** (-law.c1 * law.f1),
    "constant_on_the_wrong_side",
    "The regimes change too early, and the best teacher is another.",
    "a likely slip: d₁ multiplied where it divides",
    killed_by(ANCHORS, HAND, POWERS, BEST),
)
hang(
    lambda ratio, law: (1 + ratio ** (1 / law.f1)) ** -law.c1,
    "power_without_its_factor",
    "The capacity gap sets in far too late.",
    "a likely slip: c₁ for c₁f₁",
    killed_by(ANCHORS, HAND, POWERS, BEST),
)


@exhibit(
    replaces=TAUGHT,
    seen_in="a likely slip: one set of constants for both laws",
    killed_by=killed_by(DEFINITION, ANCHORS, BEST),
)
def constants_of_the_other_law(
    teacher_loss: Tensor,
    parameters: Tensor,
    tokens: Tensor,
    *,
    law: DistillationLaw = APPLE_DISTILLATION,
    supervised: SupervisedLaw = APPLE_SUPERVISED,
) -> Tensor:
    """A student's shortage is that of a model without a teacher."""
    s = supervised
    mixed = law._replace(A=s.A, B=s.B, alpha=s.alpha, beta=s.beta, gamma=s.gamma)
    return right_taught(teacher_loss, parameters, tokens, law=mixed, supervised=supervised)


@exhibit(
    replaces=TAUGHT,
    seen_in="a likely slip: the formula as printed, in float32",
    killed_by=(
        "heart/test_scaling_input.py::test_what_can_not_be_imitated_keeps_its_digits_in_float32",
        "heart/test_scaling_input.py::test_extreme_teachers_and_sharp_breaks_have_finite_values_and_gradients",
    ),
)
def as_printed(
    teacher_loss: Tensor,
    parameters: Tensor,
    tokens: Tensor,
    *,
    law: DistillationLaw = APPLE_DISTILLATION,
    supervised: SupervisedLaw = APPLE_SUPERVISED,
) -> Tensor:
    """The exponents multiply rounding errors, and with a weak teacher the power overflows: NaN gradients."""
    ratio = teacher_loss / (right_alone(parameters, tokens, law=supervised) * law.d1)
    bracket = (1 + ratio ** (1 / law.f1)) ** (-law.c1 * law.f1)
    found = teacher_loss + teacher_loss**-law.c0 * bracket * shortage(parameters, tokens, law)
    return found.to(torch.promote_types(teacher_loss.dtype, torch.float32))


@exhibit(replaces=GAP, seen_in="a likely slip: divided by d₁", killed_by=killed_by(HAND, POWERS))
def divided_by_the_constant(
    parameters: Tensor,
    tokens: Tensor,
    *,
    law: DistillationLaw = APPLE_DISTILLATION,
    supervised: SupervisedLaw = APPLE_SUPERVISED,
) -> Tensor:
    """A teacher better than the student would be alone: nowhere near the break."""
    return right_alone(parameters, tokens, law=supervised) / law.d1


@exhibit(
    replaces=GAP,
    seen_in="a likely slip: the gap sought where the student equals its teacher, without d₁",
    killed_by=killed_by(HAND, POWERS),
)
def where_both_are_equal(
    parameters: Tensor,
    tokens: Tensor,
    *,
    law: DistillationLaw = APPLE_DISTILLATION,
    supervised: SupervisedLaw = APPLE_SUPERVISED,
) -> Tensor:
    """The gap opens earlier: with teachers that are worse than the student alone."""
    return right_alone(parameters, tokens, law=supervised)


@exhibit(
    replaces=GAP,
    seen_in="a likely slip: the student's own loss without the part that no size removes",
    killed_by=killed_by(HAND, POWERS),
)
def without_the_floor(
    parameters: Tensor,
    tokens: Tensor,
    *,
    law: DistillationLaw = APPLE_DISTILLATION,
    supervised: SupervisedLaw = APPLE_SUPERVISED,
) -> Tensor:
    """For a large student it goes to 0."""
    return law.d1 * shortage(parameters, tokens, supervised)


@exhibit(
    replaces=FLOPS,
    seen_in="a likely slip: the forward pass alone, 2ND",
    killed_by=killed_by(TABLE_2),
)
def no_backward_pass(parameters: Tensor, tokens: Tensor, **settings: Any) -> Tensor:
    """Training costs a third of what it should, and answers seem dear beside it."""
    return right_flops(parameters, tokens, **settings) - 4 * parameters * tokens


@exhibit(
    replaces=FLOPS,
    seen_in="a likely slip: a teacher that answers is counted as one that learns",
    killed_by=killed_by(TABLE_2),
)
def answers_at_the_price_of_training(parameters: Tensor, tokens: Tensor, **settings: Any) -> Tensor:
    """The teacher's forward pass at three times its price."""
    extra = 4 * settings.get("teacher_parameters", 0 * tokens) * tokens * settings.get("logits_share", 1.0)
    return right_flops(parameters, tokens, **settings) + extra


@exhibit(
    replaces=FLOPS,
    seen_in="a likely slip: the two shares swapped",
    killed_by=killed_by(TABLE_2),
)
def shares_swapped(parameters: Tensor, tokens: Tensor, **settings: Any) -> Tensor:
    """A teacher that five students share costs a fifth of its answers and all of its training."""
    logits, pretraining = settings.pop("logits_share", 1.0), settings.pop("pretraining_share", 1.0)
    return right_flops(parameters, tokens, **settings, logits_share=pretraining, pretraining_share=logits)


@exhibit(
    replaces=FLOPS,
    seen_in="a likely slip: 6ND for a small model with a large vocabulary and a long context",
    killed_by=killed_by("attention_and_vocabulary_cost_what_table_13_says"),
)
def twice_the_parameters_whatever_the_shape(parameters: Tensor, tokens: Tensor, **settings: Any) -> Tensor:
    """A third of the small model's cost is missing."""
    return right_flops(parameters, tokens, **{**settings, "context": 0, "vocabulary": 0})
