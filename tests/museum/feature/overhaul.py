"""Wrong versions of overhaul, activation boundaries, knowledge review and the reused classifier."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.feature import overhaul, reuse, review
from tests.museum import exhibit

RELU, MARGIN, OVERHAUL, BOUNDARY = (
    f"kdref.feature.overhaul:{name}"
    for name in ("margin_relu", "negative_margin", "overhaul_loss", "activation_boundary_loss")
)
REVIEW, FUSION = (f"kdref.feature.review:{name}" for name in ("hierarchical_context_loss", "ReviewFusion"))
REUSED = "kdref.feature.reuse:ReusedClassifier"
right_overhaul, right_boundary = overhaul.overhaul_loss, overhaul.activation_boundary_loss  # as before any swap
right_review, RightFusion, RightReused = review.hierarchical_context_loss, review.ReviewFusion, reuse.ReusedClassifier


def overhaul_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/feature/test_overhaul.py::test_{test}" for test in tests)


def review_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/feature/test_review.py::test_{test}" for test in tests)


def reuse_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/feature/test_reuse.py::test_{test}" for test in tests)


def per_channel(margin: Tensor, features: Tensor) -> Tensor:
    return margin.detach().view(-1, *[1] * (features.dim() - 2))


@exhibit(
    replaces=RELU,
    seen_in="a likely slip: broadcasting joins (C,) to the last axis, and no error if W equals C",
    killed_by=overhaul_tests("margin_relu_is_the_larger_of_value_and_channel_margin"),
)
def margin_of_columns(x: Tensor, margin: Tensor) -> Tensor:
    """One margin for each column of the map."""
    return torch.maximum(x, margin)


@exhibit(
    replaces=RELU,
    seen_in="a likely slip: leaky",
    killed_by=overhaul_tests("margin_relu_is_the_larger_of_value_and_channel_margin"),
)
def zero_below_the_margin(x: Tensor, margin: Tensor) -> Tensor:
    """What is below the margin becomes 0, not the margin."""
    return x * (x > per_channel(margin, x))


@exhibit(
    replaces=MARGIN,
    seen_in="a likely slip: running statistics are what comes before the layer",
    killed_by=overhaul_tests(
        "the_margin_is_the_expected_negative_response", "the_margin_is_the_mean_of_sampled_negative_responses"
    ),
)
def statistics_before_the_layer(batchnorm: nn.Module) -> Tensor:
    """The mean after batch norm is its bias, the deviation its weight."""
    mean, deviation = batchnorm.running_mean.double(), batchnorm.running_var.double().sqrt()
    hazard = math.sqrt(2 / math.pi) / torch.special.erfcx(mean / deviation / math.sqrt(2))
    return (mean - deviation * hazard).clamp(max=0.0)


@exhibit(
    replaces=MARGIN,
    seen_in="clovaai/overhaul-distillation get_margin_from_BN",
    killed_by=overhaul_tests("the_margin_stays_finite_and_negative_where_a_channel_is_never_or_always_negative"),
)
def three_deviations_below(batchnorm: nn.Module) -> Tensor:
    """Where a channel is hardly ever negative the margin jumps to -3σ, ten times the expected value."""
    mean, deviation = batchnorm.bias.detach().double(), batchnorm.weight.detach().double().abs().clamp(min=1e-30)
    ratio = mean / deviation
    below = 0.5 * torch.erfc(ratio / math.sqrt(2))
    density = torch.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    return torch.where(below > 0.001, mean - deviation * density / below.clamp(min=1e-300), -3 * deviation)


@exhibit(
    replaces=MARGIN,
    seen_in="a likely slip: batch norm's weight taken for a deviation, sign included",
    killed_by=overhaul_tests("the_margin_is_the_expected_negative_response"),
)
def negative_deviation(batchnorm: nn.Module) -> Tensor:
    """A weight may be negative, a deviation not."""
    mean, deviation = batchnorm.bias.detach().double(), batchnorm.weight.detach().double()
    hazard = math.sqrt(2 / math.pi) / torch.special.erfcx(mean / deviation / math.sqrt(2))
    return (mean - deviation * hazard).clamp(max=0.0)


@exhibit(
    replaces=OVERHAUL,
    seen_in="a likely slip: the mask of the partial distance left out",
    killed_by=overhaul_tests(
        "the_gradient_is_exactly_zero_where_both_are_silent_and_not_elsewhere", "overhaul_matches_the_definition"
    ),
)
def full_distance(student_features: Tensor, teacher_features: Tensor, margin: Tensor) -> Tensor:
    """A student that is rightly silent is pulled up to the margin."""
    target = torch.maximum(teacher_features.detach(), per_channel(margin, teacher_features))
    return F.mse_loss(student_features, target)


@exhibit(
    replaces=OVERHAUL,
    seen_in="a likely slip: student below 0 for student below the target",
    killed_by=overhaul_tests("overhaul_matches_the_definition"),
)
def silent_below_zero(student_features: Tensor, teacher_features: Tensor, margin: Tensor) -> Tensor:
    """Between margin and 0 the student gets no gradient either."""
    teacher = teacher_features.detach()
    target = torch.maximum(teacher, per_channel(margin, teacher))
    keep = ~((teacher <= 0) & (student_features <= 0))
    return ((student_features - target).square() * keep).mean()


@exhibit(
    replaces=OVERHAUL,
    seen_in="clovaai/overhaul-distillation: the sum over elements",
    killed_by=overhaul_tests("overhaul_matches_the_definition", "known_values"),
)
def sum_of_elements(student_features: Tensor, teacher_features: Tensor, margin: Tensor) -> Tensor:
    """PITFALLS 6: divided by B only, so that the weight depends on the map's size."""
    return right_overhaul(student_features, teacher_features, margin) * student_features[0].numel()


@exhibit(
    replaces=OVERHAUL,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=overhaul_tests("gradients_reach_the_student_only"),
)
def overhaul_trains_the_teacher(student_features: Tensor, teacher_features: Tensor, margin: Tensor) -> Tensor:
    """The target is not detached."""
    target = torch.maximum(teacher_features, per_channel(margin, teacher_features))
    keep = ~((teacher_features <= 0) & (student_features <= target))
    return ((student_features - target).square() * keep).mean()


@exhibit(
    replaces=BOUNDARY,
    seen_in="a likely slip: the margin around the teacher's value",
    killed_by=overhaul_tests("boundary_loss_matches_the_definition", "boundaries_know_only_the_teachers_sign"),
)
def margin_around_the_teacher(student_features: Tensor, teacher_features: Tensor, *, margin: float = 1.0) -> Tensor:
    """The teacher's size matters: a hint with a dead zone, not a boundary."""
    return F.relu((student_features - teacher_features.detach()).abs() - margin).square().mean()


@exhibit(
    replaces=BOUNDARY,
    seen_in="a likely slip: a hinge, not squared",
    killed_by=overhaul_tests("boundary_loss_matches_the_definition", "known_values"),
)
def hinge_not_squared(student_features: Tensor, teacher_features: Tensor, *, margin: float = 1.0) -> Tensor:
    """The alternative loss of the paper is squared."""
    side = torch.where(teacher_features.detach() > 0, 1.0, -1.0).to(student_features.dtype)
    return F.relu(margin - side * student_features).mean()


@exhibit(
    replaces=BOUNDARY,
    seen_in="a likely slip: sign(0) = 0",
    killed_by=overhaul_tests("known_values", "boundary_loss_matches_the_definition"),
)
def no_side_without_a_margin(student_features: Tensor, teacher_features: Tensor, *, margin: float = 1.0) -> Tensor:
    """Only wrong signs are punished: a student at 0 is right everywhere."""
    side = torch.where(teacher_features.detach() > 0, 1.0, -1.0).to(student_features.dtype)
    return F.relu(-side * student_features).square().mean()


@exhibit(
    replaces=REVIEW,
    seen_in="a likely slip: the weights not normalised",
    killed_by=review_tests("context_loss_matches_the_definition[8]", "known_value"),
)
def weights_not_normalised(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """1.875 times too large where all levels are used, less where fewer are."""
    side = min(student_maps.shape[2:])
    return right_review(student_maps, teacher_maps) * sum(0.5**k for k in range(1 + sum(n < side for n in (4, 2, 1))))


@exhibit(
    replaces=REVIEW,
    seen_in="a likely slip: adaptive max pooling",
    killed_by=review_tests("context_loss_matches_the_definition[8]", "known_value"),
)
def largest_for_average(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """The largest of a block for its average."""
    s, t = student_maps.flatten(3), teacher_maps.detach().flatten(3)
    loss, weight, total = F.mse_loss(s, t), 1.0, 1.0
    for level in (4, 2, 1):
        if level < min(s.shape[2:]):
            weight /= 2
            loss = loss + weight * F.mse_loss(F.adaptive_max_pool2d(s, level), F.adaptive_max_pool2d(t, level))
            total += weight
    return loss / total


@exhibit(
    replaces=REVIEW,
    seen_in="a likely slip: levels that are larger than the map",
    killed_by=review_tests("the_weights_used_are_halves_that_sum_to_one[2-weights3]"),
)
def enlarged_maps(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Adaptive pooling enlarges without a word, so a 2×2 map counts again at 4×4."""
    s, t = student_maps, teacher_maps.detach()
    levels = [
        F.mse_loss(F.adaptive_avg_pool2d(s, n), F.adaptive_avg_pool2d(t, n)) / 2**k for k, n in enumerate((4, 2, 1), 1)
    ]
    return (F.mse_loss(s, t) + sum(levels)) / 1.875


@exhibit(
    replaces=FUSION,
    seen_in="a likely slip: the loop over the stages forwards",
    killed_by=review_tests("shallow_guesses_review_the_deeper_maps_and_not_the_other_way_round"),
)
class NothingReviewed(RightFusion):
    """Each stage stands alone: a hint with more layers."""

    def forward(self, student_maps, *, sizes=None):
        sizes = [maps.shape[2:] for maps in student_maps] if sizes is None else sizes
        own = [narrow(maps) for narrow, maps in zip(self.narrow, student_maps, strict=True)]
        return [g(F.interpolate(o, list(n))) for g, o, n in zip(self.guess, own, sizes, strict=True)]


@exhibit(
    replaces=FUSION,
    seen_in="a likely slip: the sigmoid forgotten",
    killed_by=review_tests("fusion_matches_the_definition"),
)
class GatesWithoutBounds(RightFusion):
    """The two learnt weights may be negative, or grow: the gates are open or shut at random when training starts."""

    def forward(self, student_maps, *, sizes):
        guesses, deeper = [], None
        for stage in reversed(range(len(self.narrow))):
            fused = self.narrow[stage](student_maps[stage])
            if deeper is not None:
                deeper = F.interpolate(deeper, fused.shape[2:])
                own, below = self.mix[stage](torch.cat([fused, deeper], dim=1)).split(1, dim=1)
                fused = own * fused + below * deeper
            deeper = F.interpolate(fused, list(sizes[stage]))
            guesses.insert(0, self.guess[stage](deeper))
        return guesses


@exhibit(
    replaces=REUSED,
    seen_in="neuralmagic/sparseml #2191, and teachers that are sub-modules",
    killed_by=reuse_tests("training_the_student_never_switches_the_classifiers_dropout_on"),
)
class TrainedWithTheStudent(RightReused):
    """PITFALLS 20: student.train() puts the teacher's classifier in train mode."""

    def __init__(self, projector: nn.Module, teacher_classifier: nn.Module) -> None:
        super().__init__(projector, teacher_classifier)
        self.classifier = self.classifier.module


@exhibit(
    replaces=REUSED,
    seen_in="a likely slip: the teacher's own layer, frozen in place",
    killed_by=reuse_tests("the_classifier_is_a_frozen_copy_and_the_teacher_is_left_alone"),
)
class TheTeachersOwnLayer(RightReused):
    """The teacher can no longer be trained, and whatever trains it changes the student."""

    def __init__(self, projector: nn.Module, teacher_classifier: nn.Module) -> None:
        super().__init__(projector, teacher_classifier)
        self.classifier.module = teacher_classifier.requires_grad_(False).eval()


@exhibit(
    replaces=REUSED,
    seen_in="a likely slip: pooling before the projector's non-linearity is not pooling after it",
    killed_by=reuse_tests("equal_features_give_the_teachers_predictions", "known_value"),
)
class LargestForAverage(RightReused):
    """The teacher's classifier was trained on averages of places."""

    def classify(self, projected: Tensor) -> Tensor:
        return self.classifier(projected.flatten(2).amax(dim=2) if projected.dim() > 2 else projected)


@exhibit(
    replaces=BOUNDARY,
    seen_in="kdref itself: a comparison with NaN is False, so a broken teacher was on the silent side",
    killed_by=("heart/feature/test_input.py::test_every_function_passes[activation_boundary_loss-check_nan]",),
)
def nan_is_silent(student_features: Tensor, teacher_features: Tensor, *, margin: float = 1.0) -> Tensor:
    """A NaN of the teacher's becomes a finite and plausible loss."""
    return right_boundary(student_features, teacher_features.nan_to_num(nan=-1.0), margin=margin)
