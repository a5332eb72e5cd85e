"""Wrong versions of the losses of data-free distillation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.museum import exhibit

ONE_HOT, ACTIVATION, ENTROPY, ZERO_SHOT, STATISTICS, VARIATION = (
    f"kdref.transfer_data.data_free:{name}"
    for name in (
        "one_hot_loss",
        "activation_loss",
        "information_entropy_loss",
        "zero_shot_generator_loss",
        "batchnorm_statistics_loss",
        "total_variation_loss",
    )
)
LEAST, KNOWN, GRADIENT = "where_the_losses_are_least", "known_values", "the_gradient_goes_through_all_of_them"
KEPT = "the_statistics_that_training_kept_cost_nothing"


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/transfer_data/test_data_free.py::test_{test}" for test in tests)


def of_channels(layer_input: Tensor, batchnorm: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    x = layer_input.to(torch.promote_types(layer_input.dtype, torch.float32)).transpose(0, 1).flatten(1)
    return x, batchnorm.running_mean.to(x.dtype), batchnorm.running_var.to(x.dtype)


@exhibit(
    replaces=ONE_HOT,
    seen_in="a likely slip: the choice is taken as a soft label, the entropy of each output",
    killed_by=killed_by("one_hot_matches_the_definition", KNOWN),
)
def entropy_of_each(logits: Tensor) -> Tensor:
    """Small for sure outputs too, but weaker on what is nearly uniform."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()


@exhibit(
    replaces=ONE_HOT,
    seen_in="a likely slip: cross_entropy of probabilities, a second softmax",
    killed_by=killed_by("one_hot_matches_the_definition", LEAST),
)
def softmax_twice(logits: Tensor) -> Tensor:
    """Never near zero, however sure the teacher is."""
    return F.cross_entropy(logits.softmax(-1).flatten(0, -2), logits.flatten(0, -2).argmax(-1))


@exhibit(
    replaces=ONE_HOT,
    seen_in="a likely slip: the teacher called under no_grad, as for a student",
    killed_by=killed_by(GRADIENT),
)
def one_hot_detached(logits: Tensor) -> Tensor:
    """The generator gets no gradient, and nothing says so."""
    z = logits.detach().flatten(0, -2)
    return F.cross_entropy(z, z.argmax(-1)) + 0 * logits.sum()


@exhibit(
    replaces=ENTROPY,
    seen_in="DAFL's script and its copies: log10 beside losses in nats",
    killed_by=killed_by("entropy_matches_the_definition", KNOWN, LEAST),
)
def in_log10(logits: Tensor) -> Tensor:
    """2.3 times weaker than the formula says, under the same weight."""
    mean = logits.softmax(-1).flatten(0, -2).mean(0)
    return (mean * mean.clamp(min=1e-30).log10()).sum()


@exhibit(
    replaces=ENTROPY,
    seen_in="a likely slip: the mean of entropies for the entropy of the mean",
    killed_by=killed_by("entropy_matches_the_definition", LEAST),
)
def mean_of_entropies(logits: Tensor) -> Tensor:
    """Asks each output to be uniform, the opposite of the one-hot loss."""
    log_p = logits.log_softmax(-1)
    return (log_p.exp() * log_p).sum(-1).mean()


@exhibit(
    replaces=ENTROPY,
    seen_in="a likely slip: an entropy where a loss is wanted",
    killed_by=killed_by("entropy_matches_the_definition", LEAST),
)
def entropy_with_the_wrong_sign(logits: Tensor) -> Tensor:
    """Drives the generator to one class."""
    mean = logits.softmax(-1).flatten(0, -2).mean(0)
    return -(mean * mean.clamp(min=1e-30).log()).sum()


@exhibit(
    replaces=ACTIVATION,
    seen_in="a likely slip: the sign, as of a penalty",
    killed_by=killed_by(KNOWN, "activation_and_total_variation_match_the_definitions"),
)
def activations_made_small(features: Tensor) -> Tensor:
    """Images that excite no filter."""
    return features.abs().mean()


@exhibit(
    replaces=ACTIVATION,
    seen_in="a likely slip: the paper's sum over features under the weight of the mean",
    killed_by=killed_by(KNOWN, "activation_and_total_variation_match_the_definitions"),
)
def activations_summed(features: Tensor) -> Tensor:
    """As many times too strong as there are features."""
    return -features.flatten(1).abs().sum(1).mean()


@exhibit(
    replaces=ACTIVATION,
    seen_in="a likely slip: the mean before the absolute value",
    killed_by=killed_by(KNOWN, "activation_and_total_variation_match_the_definitions"),
)
def activations_cancel(features: Tensor) -> Tensor:
    """Positive and negative features cancel."""
    return -features.mean().abs()


@exhibit(
    replaces=ZERO_SHOT,
    seen_in="ZSKT's solver.py: kl_div's default divides by B · C, under a weight of 250 on attention",
    killed_by=killed_by("zero_shot_matches_the_definition", KNOWN),
)
def divided_by_the_classes(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """C times too small beside every other term."""
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    return -(log_p.exp() * (log_p - log_q)).mean()


@exhibit(
    replaces=ZERO_SHOT,
    seen_in="a likely slip: the student's loss handed to the generator",
    killed_by=killed_by("zero_shot_matches_the_definition", "the_generator_of_zskt_looks_where_the_student_is_wrong"),
)
def generator_helps_the_student(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """It looks for what the student knows already, and the student learns nothing more."""
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


@exhibit(
    replaces=ZERO_SHOT,
    seen_in="a likely slip: the teacher detached by habit",
    killed_by=killed_by(GRADIENT),
)
def teacher_detached(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Half of the generator's gradient is missing."""
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.detach().log_softmax(-1)
    return -(log_p.exp() * (log_p - log_q)).sum(-1).mean()


@exhibit(
    replaces=STATISTICS,
    seen_in="DeepInversion's hooks: a biased batch variance against the running one, which is unbiased",
    killed_by=killed_by("batchnorm_statistics_match_the_definition", KEPT, KNOWN),
)
def biased_variance(layer_input: Tensor, batchnorm: nn.Module) -> Tensor:
    """Not zero on the very batch whose statistics the layer keeps; half in the least case."""
    x, mean, variance = of_channels(layer_input, batchnorm)
    return (x.mean(1) - mean).norm() + (x.var(1, correction=0) - variance).norm()


@exhibit(
    replaces=STATISTICS,
    seen_in="a likely slip: norms squared, as of a mean squared error",
    killed_by=killed_by("batchnorm_statistics_match_the_definition", KNOWN),
)
def norms_squared(layer_input: Tensor, batchnorm: nn.Module) -> Tensor:
    """Far from the statistics one layer drowns all others, near to them nothing pulls."""
    x, mean, variance = of_channels(layer_input, batchnorm)
    return (x.mean(1) - mean).square().sum() + (x.var(1) - variance).square().sum()


@exhibit(
    replaces=STATISTICS,
    seen_in="a likely slip: statistics over the batch, place by place",
    killed_by=killed_by("batchnorm_statistics_match_the_definition", KEPT),
)
def place_by_place(layer_input: Tensor, batchnorm: nn.Module) -> Tensor:
    """Each pixel is asked to have the statistics of the whole map."""
    x = layer_input.to(torch.promote_types(layer_input.dtype, torch.float32)).flatten(2)
    mean, variance = (t.to(x.dtype)[:, None] for t in (batchnorm.running_mean, batchnorm.running_var))
    return (x.mean(0) - mean).norm() + (x.var(0) - variance).norm()


@exhibit(
    replaces=STATISTICS,
    seen_in="a likely slip: a standard deviation beside a variance",
    killed_by=killed_by("batchnorm_statistics_match_the_definition", KEPT, KNOWN),
)
def deviation_for_variance(layer_input: Tensor, batchnorm: nn.Module) -> Tensor:
    """Right only where the variance is 1."""
    x, mean, variance = of_channels(layer_input, batchnorm)
    return (x.mean(1) - mean).norm() + (x.std(1) - variance).norm()


@exhibit(
    replaces=VARIATION,
    seen_in="a likely slip: differences of all consecutive numbers, from row to row too",
    killed_by=killed_by("activation_and_total_variation_match_the_definitions", KNOWN),
)
def rows_run_on(images: Tensor) -> Tensor:
    """The end of a row is no neighbour of the next one's beginning."""
    return images.flatten(2).diff(dim=2).abs().mean() + images.diff(dim=2).abs().mean()


@exhibit(
    replaces=VARIATION,
    seen_in="a likely slip: one direction only",
    killed_by=killed_by("activation_and_total_variation_match_the_definitions", KNOWN),
)
def horizontal_only(images: Tensor) -> Tensor:
    """Stripes cost nothing."""
    return images.diff(dim=3).abs().mean()


@exhibit(
    replaces=VARIATION,
    seen_in="a likely slip: differences without their absolute value",
    killed_by=killed_by("activation_and_total_variation_match_the_definitions", KNOWN),
)
def ups_and_downs_cancel(images: Tensor) -> Tensor:
    """Only the first and the last pixel of a row count."""
    return images.diff(dim=3).mean() + images.diff(dim=2).mean()
