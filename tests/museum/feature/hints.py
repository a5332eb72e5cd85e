"""Wrong versions of hints and variational hints."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref import feature
from tests.museum import exhibit

HINT, REGRESSOR, VARIATIONAL = (
    f"kdref.feature.hints:{name}" for name in ("hint_loss", "HintRegressor", "VariationalRegressor")
)
RightRegressor, RightVariational = feature.HintRegressor, feature.VariationalRegressor  # as they were before any swap


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/feature/test_hints.py::test_{test}" for test in tests)


@exhibit(
    replaces=HINT,
    seen_in="open-mmlab/mmrazor: batchmean on maps",
    killed_by=killed_by(
        "hint_loss_matches_the_definition",
        "hint_loss_is_the_mean_over_every_element_whatever_the_size",
        "known_value_of_hints_and_of_a_variational_hint",
    ),
)
def divided_by_the_batch_alone(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """PITFALLS 6: C·H·W times the mean over elements, so the weight depends on the map's size."""
    return (student_features - teacher_features.detach()).square().sum() / len(student_features)


@exhibit(
    replaces=HINT,
    seen_in="a likely slip: the paper's factor ½ kept beside the mean",
    killed_by=killed_by("hint_loss_matches_the_definition", "known_value_of_hints_and_of_a_variational_hint"),
)
def halved(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Half the mean squared error: neither the paper's sum nor anyone's mean."""
    return 0.5 * F.mse_loss(student_features, teacher_features.detach())


@exhibit(
    replaces=HINT,
    seen_in="a likely slip: 'L2 distance' read as a root",
    killed_by=killed_by("hint_loss_matches_the_definition", "extreme_features_stay_finite"),
)
def root_of_the_mean_square(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """PITFALLS 16: the root's derivative is infinite where the two agree."""
    dtype = torch.promote_types(student_features.dtype, torch.float32)
    return F.mse_loss(student_features.to(dtype), teacher_features.detach().to(dtype)).sqrt()


@exhibit(
    replaces=HINT,
    seen_in="a likely slip: a teacher that is trained by its student's loss",
    killed_by=killed_by("gradients_reach_the_student_and_the_regressor_only"),
)
def teacher_not_detached(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """PITFALLS 21: the loss sends a gradient to the teacher."""
    return F.mse_loss(student_features, teacher_features)


@exhibit(
    replaces=HINT,
    seen_in="half-precision training with the mean taken before the conversion",
    killed_by=killed_by("extreme_features_stay_finite[10000.0]"),
)
def squared_in_half_precision(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """PITFALLS 17: squares beyond 65,504 overflow in float16."""
    loss = (student_features - teacher_features.detach()).square().mean()
    return loss.to(torch.promote_types(loss.dtype, torch.float32))


@exhibit(
    replaces=REGRESSOR,
    seen_in="a likely slip: view(-1, C) on (B, C, H, W)",
    killed_by=killed_by("regressor_matches_the_definition_at_every_place"),
)
class PlacesTakenForChannels(RightRegressor):
    """Rows of C neighbouring places are mapped, not the C channels of a place."""

    def forward(self, student_features: Tensor) -> Tensor:
        rows = student_features.reshape(-1, student_features.shape[1], 1)
        return self.projection(rows).reshape(len(student_features), -1, *student_features.shape[2:])


@exhibit(
    replaces=REGRESSOR,
    seen_in="HobbitLong/RepDistiller ConvReg, megvii-research/mdistiller ConvReg",
    killed_by=killed_by("regressor_matches_the_definition_at_every_place"),
)
class ReluAfterwards(RightRegressor):
    """Cuts off negative predictions: right for features after a ReLU only."""

    def forward(self, student_features: Tensor) -> Tensor:
        return super().forward(student_features).relu()


@exhibit(
    replaces=VARIATIONAL,
    seen_in="HobbitLong/RepDistiller VID, and torchdistill, megvii-research/mdistiller after it",
    killed_by=killed_by("the_variance_never_falls_below_eps_and_never_overflows"),
)
class LogOfOnePlusExp(RightVariational):
    """PITFALLS 18: log(1 + exp(x)) is infinite from x = 89 on, where softplus is x."""

    @property
    def variance(self) -> Tensor:
        return torch.log(1 + torch.exp(self.raw_variance)) + self.eps


class _OwnLoss(RightVariational):
    """What the wrong losses below share."""

    def parts(self, student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
        mean = self(student_features)
        variance = self.variance.view(1, -1, *[1] * (mean.dim() - 2))
        return (teacher_features.detach() - mean).square(), variance


@exhibit(
    replaces=VARIATIONAL,
    seen_in="a likely slip: log σ where ½ log σ² is halved once more",
    killed_by=killed_by(
        "variational_loss_matches_the_definition",
        "for_a_fixed_mean_the_best_variance_is_the_mean_squared_residual",
        "a_confident_and_right_variational_hint_is_negative",
    ),
)
class LogOfTheDeviation(_OwnLoss):
    """½ (log σ + r²/σ²): the optimum is twice the residual variance."""

    def loss(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        squared, variance = self.parts(student_features, teacher_features)
        return 0.5 * (variance.sqrt().log() + squared / variance).mean()


@exhibit(
    replaces=VARIATIONAL,
    seen_in="a likely slip: a parameter called 'log_scale' used as a deviation",
    killed_by=killed_by(
        "variational_loss_matches_the_definition", "for_a_fixed_mean_the_best_variance_is_the_mean_squared_residual"
    ),
)
class DividedByTheDeviation(_OwnLoss):
    """The residual is divided by σ, not σ²."""

    def loss(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        squared, variance = self.parts(student_features, teacher_features)
        return 0.5 * (variance.log() + squared / variance.sqrt()).mean()


@exhibit(
    replaces=VARIATIONAL,
    seen_in="a likely slip: broadcasting joins (C,) to the last axis, and no error if W equals C",
    killed_by=killed_by("a_channels_weight_is_one_over_its_own_variance"),
)
class VarianceOfColumns(_OwnLoss):
    """One variance for each column of the map instead of each channel."""

    def loss(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        squared, _ = self.parts(student_features, teacher_features)
        return 0.5 * (self.variance.log() + squared / self.variance).mean()


@exhibit(
    replaces=VARIATIONAL,
    seen_in="a likely slip: the sum over channels of the paper beside the mean over places",
    killed_by=killed_by("variational_loss_matches_the_definition", "known_value_of_hints_and_of_a_variational_hint"),
)
class SummedOverChannels(_OwnLoss):
    """C times too large."""

    def loss(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        squared, variance = self.parts(student_features, teacher_features)
        return 0.5 * (variance.log() + squared / variance).sum(dim=1).mean()


@exhibit(
    replaces=VARIATIONAL,
    seen_in="a likely slip: a fixed variance, or a parameter missing from the optimiser",
    killed_by=killed_by("gradients_reach_the_student_and_the_regressor_only"),
)
class VarianceNotLearnt(_OwnLoss):
    """With the variance detached this is a hint with odd weights."""

    def loss(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        squared, variance = self.parts(student_features, teacher_features)
        return 0.5 * (variance.log().detach() + squared / variance.detach()).mean()


@exhibit(
    replaces=VARIATIONAL,
    seen_in="a likely slip: the initial variance put in without undoing softplus",
    killed_by=killed_by(
        "the_initial_variance_is_what_was_asked_for", "a_confident_and_right_variational_hint_is_negative"
    ),
)
class SoftplusNotUndone(RightVariational):
    """An initial variance of 0.01 becomes log(1 + exp(0.01)) = 0.70."""

    def __init__(
        self, student_channels: int, teacher_channels: int, *, initial_variance: float = 5.0, eps: float = 1e-6
    ) -> None:
        super().__init__(student_channels, teacher_channels, eps=eps)
        self.raw_variance = nn.Parameter(torch.full((teacher_channels,), initial_variance))


@exhibit(
    replaces=VARIATIONAL,
    seen_in="a likely slip: no floor under the variance",
    killed_by=killed_by("the_variance_never_falls_below_eps_and_never_overflows"),
)
class NoLeastVariance(RightVariational):
    """A channel that is predicted exactly divides by zero."""

    @property
    def variance(self) -> Tensor:
        return F.softplus(self.raw_variance)
