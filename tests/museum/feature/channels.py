"""Wrong versions of channel-wise distillation and of masked generation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref import feature
from tests.museum import exhibit

CHANNELS = "kdref.feature.channels:channel_wise_loss"
GENERATION = "kdref.feature.generation:MaskedGeneration"
right_channels, RightGeneration = feature.channel_wise_loss, feature.MaskedGeneration  # as they were before any swap


def channel_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/feature/test_channels.py::test_{test}" for test in tests)


def generation_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/feature/test_generation.py::test_{test}" for test in tests)


def divergences(student: Tensor, teacher: Tensor, temperature: float, dim: int) -> Tensor:
    """KL summed over one axis of (B, C, places)."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    log_q, log_p = (F.log_softmax(x.to(dtype).flatten(2) / temperature, dim) for x in (student, teacher.detach()))
    return (log_p.exp() * (log_p - log_q)).sum(dim)


@exhibit(
    replaces=CHANNELS,
    seen_in="norm_type='spatial' in the authors' code and its copies, softmax(dim=1)",
    killed_by=channel_tests(
        "matches_the_definition", "known_values", "zero_where_they_agree_but_for_a_level_and_positive_elsewhere"
    ),
)
def softmax_over_channels(student_maps: Tensor, teacher_maps: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Soft targets at every place: another loss under this one's name."""
    return divergences(student_maps, teacher_maps, temperature, dim=1).mean() * temperature**2


@exhibit(
    replaces=CHANNELS,
    seen_in="a likely slip: PITFALLS 2",
    killed_by=channel_tests(
        "matches_the_definition[4.0]", "known_values", "the_gradient_is_the_difference_of_the_distributions"
    ),
)
def without_the_squared_temperature(student_maps: Tensor, teacher_maps: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Sixteen times too small at the default temperature."""
    return divergences(student_maps, teacher_maps, temperature, dim=2).mean()


@exhibit(
    replaces=CHANNELS,
    seen_in="a likely slip: F.kl_div(..., reduction='batchmean') on (B, C, HW)",
    killed_by=channel_tests("matches_the_definition", "known_values"),
)
def divided_by_the_batch_alone(student_maps: Tensor, teacher_maps: Tensor, *, temperature: float = 4.0) -> Tensor:
    """C times too large: the sum over channels."""
    return divergences(student_maps, teacher_maps, temperature, dim=2).sum(1).mean() * temperature**2


@exhibit(
    replaces=CHANNELS,
    seen_in="a likely slip: F.kl_div(..., reduction='mean'), PITFALLS 1",
    killed_by=channel_tests("matches_the_definition", "known_values"),
)
def divided_by_the_places_too(student_maps: Tensor, teacher_maps: Tensor, *, temperature: float = 4.0) -> Tensor:
    """H·W times too small: 1,024 times on a map of 32 × 32."""
    places = student_maps[0, 0].numel()
    return divergences(student_maps, teacher_maps, temperature, dim=2).mean() * temperature**2 / places


@exhibit(
    replaces=CHANNELS,
    seen_in="a likely slip: student and teacher exchanged, PITFALLS 8",
    killed_by=channel_tests("matches_the_definition", "known_values"),
)
def reversed_divergence(student_maps: Tensor, teacher_maps: Tensor, *, temperature: float = 4.0) -> Tensor:
    """KL of the teacher from the student."""
    dtype = torch.promote_types(student_maps.dtype, torch.float32)
    log_q, log_p = (
        F.log_softmax(x.to(dtype).flatten(2) / temperature, 2) for x in (student_maps, teacher_maps.detach())
    )
    return (log_q.exp() * (log_q - log_p)).sum(2).mean() * temperature**2


@exhibit(
    replaces=CHANNELS,
    seen_in="copies of the authors' CriterionCWD: softmax, then log()",
    killed_by=channel_tests("extreme_maps_stay_finite[10000.0]"),
)
def logarithm_of_a_softmax(student_maps: Tensor, teacher_maps: Tensor, *, temperature: float = 4.0) -> Tensor:
    """PITFALLS 15: -inf where a place's probability underflows."""
    dtype = torch.promote_types(student_maps.dtype, torch.float32)
    q, p = ((x.to(dtype).flatten(2) / temperature).softmax(2) for x in (student_maps, teacher_maps.detach()))
    return F.kl_div(q.log(), p, reduction="sum") / p.shape[0] / p.shape[1] * temperature**2


@exhibit(
    replaces=CHANNELS,
    seen_in="a likely slip: a teacher that is trained by its student's loss",
    killed_by=channel_tests("the_gradient_is_the_difference_of_the_distributions"),
)
def teacher_not_detached(student_maps: Tensor, teacher_maps: Tensor, *, temperature: float = 4.0) -> Tensor:
    """PITFALLS 21: the loss sends a gradient to the teacher."""
    dtype = torch.promote_types(student_maps.dtype, torch.float32)
    log_q, log_p = (F.log_softmax(x.to(dtype).flatten(2) / temperature, 2) for x in (student_maps, teacher_maps))
    return (log_p.exp() * (log_p - log_q)).sum(2).mean() * temperature**2


class _Own(RightGeneration):
    """What the wrong versions below share: the maps as images, aligned."""

    def images(self, student_maps: Tensor) -> Tensor:
        images = student_maps.unsqueeze(2) if student_maps.dim() == 3 else student_maps
        return self.align(images.to(next(self.parameters()).dtype))

    def kept(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        return torch.rand(shape, generator=generator) >= self.mask_ratio


@exhibit(
    replaces=GENERATION,
    seen_in="a likely slip: the roles exchanged, as in an autoencoder",
    killed_by=generation_tests(
        "loss_matches_the_definition[0.3]", "the_mask_is_on_the_student_and_the_whole_of_the_teacher_counts"
    ),
)
class MaskOnTheTeacher(_Own):
    """The whole student guesses the teacher's masked map: hidden places teach it to be 0."""

    def loss(self, student_maps: Tensor, teacher_maps: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        guess = self.generation(self.images(student_maps))
        teacher = teacher_maps.detach().reshape(guess.shape)
        kept = self.kept((len(guess), 1, *guess.shape[2:]), generator)
        return (guess - teacher * kept).square().mean()


@exhibit(
    replaces=GENERATION,
    seen_in="a likely slip: torch.rand_like(maps)",
    killed_by=generation_tests(
        "loss_matches_the_definition[0.3]", "a_place_is_hidden_in_all_channels_and_for_each_example_anew"
    ),
)
class MaskOfItsOwnForEachChannel(_Own):
    """A dropout: what a channel hides another one still shows."""

    def forward(self, student_maps: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        images = self.images(student_maps)
        return self.generation(images * self.kept(tuple(images.shape), generator)).reshape(
            len(student_maps), -1, *student_maps.shape[2:]
        )


@exhibit(
    replaces=GENERATION,
    seen_in="yzd-v/MGD, classification: torch.rand((N, C, 1, 1))",
    killed_by=generation_tests(
        "loss_matches_the_definition[0.3]", "a_place_is_hidden_in_all_channels_and_for_each_example_anew"
    ),
)
class WholeChannelsHidden(_Own):
    """Another method under this one's name: no place has to be guessed from its neighbours."""

    def forward(self, student_maps: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        images = self.images(student_maps)
        return self.generation(images * self.kept((*images.shape[:2], 1, 1), generator)).reshape(
            len(student_maps), -1, *student_maps.shape[2:]
        )


@exhibit(
    replaces=GENERATION,
    seen_in="a likely slip: one mask for the batch",
    killed_by=generation_tests("a_place_is_hidden_in_all_channels_and_for_each_example_anew"),
)
class OneMaskForTheBatch(_Own):
    """A place that is hidden in one example is hidden in all."""

    def forward(self, student_maps: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        images = self.images(student_maps)
        return self.generation(images * self.kept((1, 1, *images.shape[2:]), generator)).reshape(
            len(student_maps), -1, *student_maps.shape[2:]
        )


@exhibit(
    replaces=GENERATION,
    seen_in="a likely slip: the ratio taken for the share that stays",
    killed_by=generation_tests("the_ratio_is_the_share_that_is_hidden[0.1]", "loss_matches_the_definition[0.3]"),
)
class RatioOfWhatStays(_Own):
    """At 0.9 a tenth is hidden."""

    def kept(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        return torch.rand(shape, generator=generator) < self.mask_ratio

    def forward(self, student_maps: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        images = self.images(student_maps)
        return self.generation(images * self.kept((len(images), 1, *images.shape[2:]), generator)).reshape(
            len(student_maps), -1, *student_maps.shape[2:]
        )


@exhibit(
    replaces=GENERATION,
    seen_in="a likely slip: the loss on hidden places alone, as masked autoencoders have it",
    killed_by=generation_tests("loss_matches_the_definition[0.3]", "known_value"),
)
class HiddenPlacesAlone(_Own):
    """The places that stay teach nothing."""

    def loss(self, student_maps: Tensor, teacher_maps: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        images = self.images(student_maps)
        kept = self.kept((len(images), 1, *images.shape[2:]), generator)
        guess = self.generation(images * kept)
        squared = (guess - teacher_maps.detach().reshape(guess.shape)).square() * ~kept
        return squared.sum() / (~kept).sum().clamp(min=1) / guess.shape[1]


@exhibit(
    replaces=GENERATION,
    seen_in="yzd-v/MGD: the sum over elements divided by the batch, and a weight of 2e-5",
    killed_by=generation_tests("loss_matches_the_definition[0.3]", "known_value"),
)
class DividedByTheBatchAlone(RightGeneration):
    """C·H·W times the mean: a weight tuned for one size of map fits no other."""

    def loss(self, student_maps: Tensor, teacher_maps: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return super().loss(student_maps, teacher_maps, generator=generator) * teacher_maps[0].numel()
