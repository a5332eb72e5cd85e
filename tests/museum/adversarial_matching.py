"""Wrong versions of the matching of scores, and of the network that tells features apart."""

from torch import Tensor, nn

from kdref import adversarial
from tests.museum import exhibit
from tests.museum.adversarial import KNOWN, OTHER, floats, killed_by

MATCHING, NETWORK = "kdref.adversarial:distribution_matching_loss", "kdref.adversarial:FeatureDiscriminator"
right_network = adversarial.FeatureDiscriminator
ONLY, CONSTANTS = (
    "distribution_matching_hands_the_difference_of_scores_to_the_samples_only",
    "scores_that_were_computed_from_the_samples_are_constants",
)
GAUSSIAN = "a_gaussian_generator_gets_the_gradient_of_its_divergence"
MOVED = "matched_scores_move_a_gaussian_to_the_target_in_mean_and_variance"

# The matching of scores
DEFINED = "distribution_matching_matches_the_definition"


@exhibit(
    replaces=MATCHING,
    seen_in="a likely slip: scores computed from the samples with a graph, and not detached",
    killed_by=killed_by(training=(ONLY, CONSTANTS, GAUSSIAN, MOVED)),
)
def scores_not_detached(samples: Tensor, student_score: Tensor, teacher_score: Tensor) -> Tensor:
    """The gradient of the scores themselves is added: another direction, and it trains the score networks."""
    x, s_q, s_p = floats(samples, student_score, teacher_score)
    return ((s_q - s_p) * x).flatten(1).sum(1).mean()


@exhibit(
    replaces=MATCHING,
    seen_in="a likely slip: the teacher's score less the student's, as of a step and not of a gradient",
    killed_by=killed_by(DEFINED, KNOWN, training=(ONLY, CONSTANTS, GAUSSIAN, MOVED)),
)
def sign_swapped(samples: Tensor, student_score: Tensor, teacher_score: Tensor) -> Tensor:
    """The samples leave the teacher's law."""
    x, s_q, s_p = floats(samples, student_score, teacher_score)
    return ((s_p - s_q).detach() * x).flatten(1).sum(1).mean()


@exhibit(
    replaces=MATCHING,
    seen_in="a likely slip: a sum over the batch",
    killed_by=killed_by(DEFINED, KNOWN, training=(ONLY, CONSTANTS, GAUSSIAN)),
)
def summed_over_the_batch(samples: Tensor, student_score: Tensor, teacher_score: Tensor) -> Tensor:
    """Steps grow with the batch."""
    x, s_q, s_p = floats(samples, student_score, teacher_score)
    return ((s_q - s_p).detach() * x).sum()


@exhibit(
    replaces=MATCHING,
    seen_in="tianweiy/DMD2, sd_guidance.py: the mean over all elements, B and D",
    killed_by=killed_by(DEFINED, KNOWN, training=(ONLY, CONSTANTS)),
)
def mean_over_all_elements(samples: Tensor, student_score: Tensor, teacher_score: Tensor) -> Tensor:
    """D times too small beside any other loss, and a weight that was tuned at one size fails at another."""
    x, s_q, s_p = floats(samples, student_score, teacher_score)
    return ((s_q - s_p).detach() * x).mean()


@exhibit(
    replaces=MATCHING,
    seen_in="a likely slip: the mean square to a moved target without its half",
    killed_by=killed_by(DEFINED, KNOWN, OTHER, training=(ONLY, CONSTANTS, GAUSSIAN)),
)
def square_without_the_half(samples: Tensor, student_score: Tensor, teacher_score: Tensor) -> Tensor:
    """Twice the gradient."""
    x, s_q, s_p = floats(samples, student_score, teacher_score)
    return (x - (x - (s_q - s_p)).detach()).square().flatten(1).sum(1).mean()


@exhibit(
    replaces=MATCHING,
    seen_in="score distillation sampling (DreamFusion, 2209.14988): no score of the generator's own law",
    killed_by=killed_by(DEFINED, KNOWN, training=(ONLY, CONSTANTS, GAUSSIAN, MOVED)),
)
def without_the_students_score(samples: Tensor, student_score: Tensor, teacher_score: Tensor) -> Tensor:
    """All samples end at the teacher's mode."""
    x, s_p = floats(samples, teacher_score)
    return (-s_p.detach() * x).flatten(1).sum(1).mean()


@exhibit(
    replaces=MATCHING,
    seen_in="a likely slip: the scores as features to be matched, by their mean squared error",
    killed_by=killed_by(DEFINED, KNOWN, training=(ONLY, CONSTANTS, GAUSSIAN)),
)
def scores_regressed(samples: Tensor, student_score: Tensor, teacher_score: Tensor) -> Tensor:
    """Zero where it should be, with the gradient of something else (a Fisher divergence)."""
    x, s_q, s_p = floats(samples, student_score, teacher_score)
    return (s_q - s_p).square().flatten(1).sum(1).mean() + 0 * x.sum()


# The network
DEFINED = "the_feature_discriminator_matches_the_definition"
FAR, ONE = "a_score_that_is_far_off_still_has_a_gradient", "one_example_and_many_axes_are_scored_like_others"
THROUGH, UNBOUNDED = "the_students_step_goes_through_the_discriminator", "extreme_features_are_scored_without_a_bound"
INFERENCE = "features_made_in_inference_mode_are_used_like_any_other"


@exhibit(
    replaces=NETWORK,
    seen_in="a likely slip, asked about often: a last sigmoid before losses that take logits",
    killed_by=killed_by(DEFINED, far_off=(UNBOUNDED,)),
)
class EndsWithASigmoid(right_network):
    """Scores between 0 and 1: σ of them says 0.73 at best, and the loss never falls below 1.006."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).sigmoid()


@exhibit(
    replaces=NETWORK,
    seen_in="a likely slip: squeeze() without an axis",
    killed_by=killed_by(far_off=(ONE,)),
)
class SqueezesAllAxes(right_network):
    """The last batch of an epoch, of one example, loses its axis."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).squeeze()


@exhibit(
    replaces=NETWORK,
    seen_in="a likely slip: the last axis kept, a score of shape (B, 1)",
    killed_by=killed_by(DEFINED, far_off=(ONE,)),
)
class KeepsTheLastAxis(right_network):
    """Beside scores (B,) it broadcasts to (B, B)."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).unsqueeze(-1)


@exhibit(
    replaces=NETWORK,
    seen_in="a likely slip, and common in discriminators: ReLU, whose units die",
    killed_by=killed_by(DEFINED, training=(FAR,)),
)
class ReluDies(right_network):
    """No gradient reaches the student from where all units are below zero."""

    def __init__(self, num_features: int, *, width: int = 64) -> None:
        super().__init__(num_features, width=width)
        self.layers[1], self.layers[3] = nn.ReLU(), nn.ReLU()


@exhibit(
    replaces=NETWORK,
    seen_in="a likely slip: leaky_relu's own slope, 0.01",
    killed_by=killed_by(DEFINED),
)
class AnotherSlope(right_network):
    """Two such layers leave a gradient 400 times smaller."""

    def __init__(self, num_features: int, *, width: int = 64) -> None:
        super().__init__(num_features, width=width)
        self.layers[1], self.layers[3] = nn.LeakyReLU(), nn.LeakyReLU()


@exhibit(
    replaces=NETWORK,
    seen_in="a likely slip: layers without anything between them",
    killed_by=killed_by(DEFINED),
)
class IsLinear(right_network):
    """Sees the mean of the features, and nothing of how they are spread."""

    def __init__(self, num_features: int, *, width: int = 64) -> None:
        super().__init__(num_features, width=width)
        self.layers[1], self.layers[3] = nn.Identity(), nn.Identity()


@exhibit(
    replaces=NETWORK,
    seen_in="a likely slip: features detached inside, as the discriminator's own step needs them",
    killed_by=killed_by(training=(THROUGH,)),
)
class DetachesItsFeatures(right_network):
    """The student's step trains the discriminator, and nobody else."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.detach()) + 0 * features.sum()


@exhibit(
    replaces=NETWORK,
    seen_in="a likely slip: BatchNorm in a discriminator, which scores a batch and not an example",
    killed_by=killed_by(DEFINED, far_off=(ONE,)),
)
class LooksAtTheWholeBatch(right_network):
    """A score depends on who else is in the batch; student and teacher come in batches of their own."""

    def forward(self, features: Tensor) -> Tensor:
        f = features.flatten(0, -2)
        spread = f.std(0, correction=0) + 1e-5
        return super().forward(((f - f.mean(0)) / spread).view_as(features))


@exhibit(
    replaces=NETWORK,
    seen_in="a likely slip: the batch pooled before the last layer",
    killed_by=killed_by(DEFINED, far_off=(ONE,)),
)
class ScoresTheMeanExample(right_network):
    """One score for all."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.mean(0, keepdim=True).expand_as(features))
