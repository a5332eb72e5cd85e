"""Wrong versions of the losses of a discriminator and of the student that deceives it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.museum import exhibit

DISCRIMINATOR, STUDENT, PAIRED = (
    f"kdref.adversarial:{name}_loss" for name in ("discriminator", "student_adversarial", "paired_discriminator")
)
KNOWN, SAME, OTHER = "known_values", "what_changes_nothing", "what_changes_something"
EVEN, FAR = "who_cannot_tell_them_apart_loses_two_log_two", "one_that_is_always_right_loses_nothing_and_teaches_a_line"
BEST = "the_best_discriminator_measures_the_jensen_shannon_divergence"
SHARED, COSTS = "the_two_steps_of_the_game_share_their_terms", "scores_that_are_far_off_cost_what_they_are_off"
FINITE = "extreme_scores_stay_finite[10000.0]"


def killed_by(*tests: str, training: tuple[str, ...] = (), far_off: tuple[str, ...] = ()) -> tuple[str, ...]:
    files = (("", tests), ("_training", training), ("_input", far_off))
    return tuple(f"heart/test_adversarial{file}.py::test_{test}" for file, names in files for test in names)


def floats(*tensors: Tensor) -> list[Tensor]:
    return [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]


# The discriminator's loss
DEFINED, BOTH_SIDES = "the_discriminators_loss_matches_the_definition", "a_discriminator_learns_from_both_sides"
DECEIVED = "a_student_that_deceives_a_discriminator_finds_the_teachers_mean"


@exhibit(
    replaces=DISCRIMINATOR,
    seen_in="a likely slip: real and fake swapped",
    killed_by=killed_by(DEFINED, KNOWN, BEST, OTHER, SHARED, FAR, training=(BOTH_SIDES, DECEIVED), far_off=(COSTS,)),
)
def real_and_fake_swapped(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """The student is called real: its own loss, which wants to be called real, then drives it away."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid(d_s).mean() - F.logsigmoid(-d_t).mean()


@exhibit(
    replaces=DISCRIMINATOR,
    seen_in="a likely slip: one mean over all scores of both sides",
    killed_by=killed_by(DEFINED, KNOWN, BEST, EVEN, SAME, SHARED, training=(BOTH_SIDES,), far_off=(COSTS,)),
)
def one_mean_over_both(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Half as large, and where one side has more examples it counts for more."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid(torch.cat([d_t.flatten(), -d_s.flatten()])).mean()


@exhibit(
    replaces=DISCRIMINATOR,
    seen_in="junyanz/pytorch-CycleGAN-and-pix2pix: the sum of the two, times 0.5, in place of the paper's sum",
    killed_by=killed_by(DEFINED, KNOWN, BEST, EVEN, SHARED, training=(BOTH_SIDES,), far_off=(COSTS,)),
)
def halved(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """A discriminator at a loss shows log 2, which reads as one that has learnt something."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return (-F.logsigmoid(d_t).mean() - F.logsigmoid(-d_s).mean()) * 0.5


@exhibit(
    replaces=DISCRIMINATOR,
    seen_in="a likely slip: the mean score goes into the logarithm",
    killed_by=killed_by(DEFINED, KNOWN, BEST, training=(BOTH_SIDES,)),
)
def mean_before_the_logarithm(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Only the mean score is judged: one example that is found out pays for all others."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid(d_t.mean()) - F.logsigmoid(-d_s.mean())


@exhibit(
    replaces=DISCRIMINATOR,
    seen_in="a likely slip, asked about often: BCEWithLogitsLoss on a network that ends with a sigmoid",
    killed_by=killed_by(DEFINED, KNOWN, BEST, EVEN, FAR, training=(BOTH_SIDES,), far_off=(COSTS,)),
)
def sigmoid_twice(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """It never falls below 1.006, so a perfect discriminator looks undecided, and far off no gradient is left."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid(d_t.sigmoid()).mean() - F.logsigmoid(-d_s.sigmoid()).mean()


@exhibit(
    replaces=DISCRIMINATOR,
    seen_in="a likely slip: the critic's loss of WGAN, which needs a Lipschitz bound, without one",
    killed_by=killed_by(DEFINED, KNOWN, BEST, EVEN, SHARED, training=(BOTH_SIDES,), far_off=(COSTS,)),
)
def difference_of_means(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """No bound below: the scores grow for ever."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return d_s.mean() - d_t.mean()


@exhibit(
    replaces=DISCRIMINATOR,
    seen_in="torch's binary_cross_entropy on probabilities: its logarithm is clamped at -100",
    killed_by=killed_by(far_off=(COSTS,)),
)
def clamped_probabilities(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """What is further off than 100 costs 100 and gets no gradient."""
    q, p = (scores.sigmoid() for scores in floats(student_scores, teacher_scores))
    return F.binary_cross_entropy(p, torch.ones_like(p)) + F.binary_cross_entropy(q, torch.zeros_like(q))


@exhibit(
    replaces=DISCRIMINATOR,
    seen_in="a likely slip: the teacher detached by habit, here its scores",
    killed_by=killed_by(BEST, training=(BOTH_SIDES, DECEIVED)),
)
def teachers_scores_detached(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """The discriminator learns from fakes only: it calls everything one, and its loss falls for a while."""
    d_s, d_t = floats(student_scores, teacher_scores.detach())
    return -F.logsigmoid(d_t).mean() - F.logsigmoid(-d_s).mean()


# The student's loss
DEFINED = "the_students_loss_matches_the_definition"
FOUND_OUT = "the_students_gradient_is_largest_where_it_is_found_out"


@exhibit(
    replaces=STUDENT,
    seen_in="Goodfellow et al. 2014, equation 1 as it stands: the saturating form, which their Section 3 replaces",
    killed_by=killed_by(DEFINED, KNOWN, EVEN, FAR, SHARED, training=(FOUND_OUT,), far_off=(COSTS,)),
)
def saturating(student_scores: Tensor) -> Tensor:
    """Where the student is found out, log(1 - σ(d)) is flat."""
    (d,) = floats(student_scores)
    return F.logsigmoid(-d).mean()


@exhibit(
    replaces=STUDENT,
    seen_in="a likely slip: the discriminator's label for the student, fake",
    killed_by=killed_by(DEFINED, KNOWN, FAR, SHARED, training=(FOUND_OUT, DECEIVED), far_off=(COSTS,)),
)
def wants_to_be_found_out(student_scores: Tensor) -> Tensor:
    """It helps the discriminator, and runs from the teacher."""
    (d,) = floats(student_scores)
    return -F.logsigmoid(-d).mean()


@exhibit(
    replaces=STUDENT,
    seen_in="a likely slip: the mean score goes into the logarithm",
    killed_by=killed_by(DEFINED, SHARED, training=(FOUND_OUT,)),
)
def students_mean_first(student_scores: Tensor) -> Tensor:
    """All outputs get the same gradient, found out or not."""
    (d,) = floats(student_scores)
    return -F.logsigmoid(d.mean())


@exhibit(
    replaces=STUDENT,
    seen_in="a likely slip, asked about often: BCEWithLogitsLoss on a network that ends with a sigmoid",
    killed_by=killed_by(DEFINED, KNOWN, EVEN, FAR, SHARED, training=(FOUND_OUT,), far_off=(COSTS,)),
)
def students_sigmoid_twice(student_scores: Tensor) -> Tensor:
    """The loss stays between 0.31 and 0.69, and a student that is found out gets no gradient."""
    (d,) = floats(student_scores)
    return -F.logsigmoid(d.sigmoid()).mean()


@exhibit(
    replaces=STUDENT,
    seen_in="pytorch/rl PR 1328 and CarperAI/trlx #308, losses of a reward: log(sigmoid(x)); PITFALLS 15",
    killed_by=killed_by(far_off=(FINITE, COSTS)),
)
def logarithm_of_a_sigmoid(student_scores: Tensor) -> Tensor:
    """Infinite, with a gradient that is no number, from -104 on in float32."""
    (d,) = floats(student_scores)
    return -torch.log(torch.sigmoid(d)).mean()


@exhibit(
    replaces=STUDENT,
    seen_in="PITFALLS 18: log(1 + exp(x)) in place of softplus",
    killed_by=killed_by(far_off=(FINITE, COSTS)),
)
def exponential_overflows(student_scores: Tensor) -> Tensor:
    """Infinite from -89 on in float32."""
    (d,) = floats(student_scores)
    return torch.log(1 + torch.exp(-d)).mean()


@exhibit(
    replaces=STUDENT,
    seen_in="a likely slip: the student's scores taken from the discriminator's step, where they were detached",
    killed_by=killed_by(training=(FOUND_OUT,)),
)
def students_scores_detached(student_scores: Tensor) -> Tensor:
    """A number to be logged, from which nobody learns."""
    (d,) = floats(student_scores)
    return -F.logsigmoid(d.detach()).mean() + 0 * d.sum()


# The paired loss
DEFINED, ALIKE = "the_paired_loss_matches_the_definition", "a_comparison_learns_from_both_sides_alike"
PREFERRED = "a_comparison_finds_what_the_teachers_answers_have_more_of"


@exhibit(
    replaces=PAIRED,
    seen_in="tensorflow/ranking #23, in their paper: the sign of the pairwise logistic loss; here, sides swapped",
    killed_by=killed_by(DEFINED, KNOWN, OTHER, SHARED, FAR, training=(ALIKE, PREFERRED), far_off=(COSTS,)),
)
def student_preferred(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """A reward for being unlike the teacher."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid(d_s - d_t).mean()


@exhibit(
    replaces=PAIRED,
    seen_in="a likely slip: the size of the difference, not its sign",
    killed_by=killed_by(DEFINED, KNOWN, OTHER, training=(ALIKE,), far_off=(COSTS,)),
)
def absolute_difference(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Rewards a difference in either direction."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid((d_t - d_s).abs()).mean()


@exhibit(
    replaces=PAIRED,
    seen_in="modelscope/ms-swift PR 9927: (B, 1) less (B,) is (B, B), in the loss of a reward model",
    killed_by=killed_by(DEFINED, KNOWN, EVEN, SAME, OTHER, training=(ALIKE, PREFERRED)),
)
def every_answer_against_every_other(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Answers to different prompts are compared, and what makes a prompt easy no longer cancels."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid(d_t.flatten() - d_s.flatten()[:, None]).mean()


@exhibit(
    replaces=PAIRED,
    seen_in="a likely slip: the loss of two separate batches",
    killed_by=killed_by(DEFINED, KNOWN, EVEN, SAME, OTHER, SHARED, training=(ALIKE, PREFERRED)),
)
def unpaired(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """A hard prompt's good answer must score below an easy prompt's bad one."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid(d_t).mean() - F.logsigmoid(-d_s).mean()


@exhibit(
    replaces=PAIRED,
    seen_in="a likely slip: the mean difference goes into the logarithm",
    killed_by=killed_by(DEFINED, KNOWN, OTHER, training=(ALIKE,)),
)
def mean_difference(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Which answer belongs to which prompt no longer matters."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid((d_t - d_s).mean())


@exhibit(
    replaces=PAIRED,
    seen_in="a likely slip: the difference of two probabilities, not of logits",
    killed_by=killed_by(DEFINED, KNOWN, FAR, SAME, SHARED, training=(ALIKE, PREFERRED), far_off=(COSTS,)),
)
def difference_of_probabilities(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Never below 0.31, and flat where both answers are good or both bad."""
    d_s, d_t = floats(student_scores, teacher_scores)
    return -F.logsigmoid(d_t.sigmoid() - d_s.sigmoid()).mean()


@exhibit(
    replaces=PAIRED,
    seen_in="a likely slip: float32 after the difference, not before",
    killed_by=killed_by(far_off=(COSTS + "[dtype2]",)),
)
def difference_in_half_precision(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Infinite in float16 for two scores that are not."""
    (difference,) = floats(teacher_scores - student_scores)
    return -F.logsigmoid(difference).mean()
