"""Wrong versions of flow matrices, neuron selectivity and factor transfer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.feature import factors, flow
from tests.museum import exhibit

MATRIX, FLOW, SELECTIVITY = (
    f"kdref.feature.flow:{name}" for name in ("fsp_matrix", "fsp_loss", "neuron_selectivity_loss")
)
TRANSFER, PARAPHRASER, TRANSLATOR = (
    f"kdref.feature.factors:{name}" for name in ("factor_transfer_loss", "Paraphraser", "Translator")
)
right_matrix, right_flow = flow.fsp_matrix, flow.fsp_loss  # as they were before any swap
right_selectivity, right_transfer = flow.neuron_selectivity_loss, factors.factor_transfer_loss
RightParaphraser, RightTranslator = factors.Paraphraser, factors.Translator


def flow_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/feature/test_flow.py::test_{test}" for test in tests)


def factor_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/feature/test_factors.py::test_{test}" for test in tests)


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


@exhibit(
    replaces=MATRIX,
    seen_in="a likely slip: the sum over places",
    killed_by=flow_tests("fsp_matrix_matches_the_definition", "known_values"),
)
def sum_over_places(first: Tensor, second: Tensor) -> Tensor:
    """H·W times too large, so that the weight depends on the layer's size."""
    places = min(first[0, 0].numel(), second[0, 0].numel())
    return right_matrix(first, second) * places


@exhibit(
    replaces=MATRIX,
    seen_in="a likely slip: the mean over space taken before the product",
    killed_by=flow_tests("fsp_matrix_matches_the_definition", "known_values"),
)
def product_of_means(first: Tensor, second: Tensor) -> Tensor:
    """Which channels are active at the same place is lost."""
    return first.flatten(2).mean(dim=2)[:, :, None] * second.flatten(2).mean(dim=2)[:, None]


@exhibit(
    replaces=MATRIX,
    seen_in="a likely slip: bmm's operands exchanged",
    killed_by=flow_tests("fsp_matrix_matches_the_definition", "known_values"),
)
def transposed(first: Tensor, second: Tensor) -> Tensor:
    """(B, C2, C1) for (B, C1, C2)."""
    return right_matrix(second, first)


@exhibit(
    replaces=MATRIX,
    seen_in="a likely slip: averages where the paper takes the largest",
    killed_by=flow_tests("a_larger_second_or_first_map_is_max_pooled"),
)
def averaged_down(first: Tensor, second: Tensor) -> Tensor:
    """The larger map is averaged to the smaller, not max-pooled."""
    size = [min(sizes) for sizes in zip(first.shape[2:], second.shape[2:], strict=True)]
    return right_matrix(*(F.adaptive_avg_pool2d(maps, size) for maps in (first, second)))


@exhibit(
    replaces=FLOW,
    seen_in="torchdistill FSPLoss",
    killed_by=flow_tests("fsp_loss_matches_the_definition_also_where_sizes_differ", "known_values"),
)
def unsquared_columns(student_pair: tuple[Tensor, Tensor], teacher_pair: tuple[Tensor, Tensor]) -> Tensor:
    """Norms of columns are added up: another loss, whose root has no gradient where a column agrees."""
    gap = right_matrix(*student_pair) - right_matrix(*(maps.detach() for maps in teacher_pair))
    return gap.norm(dim=1).sum() / len(gap)


@exhibit(
    replaces=FLOW,
    seen_in="a likely slip: the sum over entries kept beside the mean over the batch",
    killed_by=flow_tests("fsp_loss_matches_the_definition_also_where_sizes_differ", "known_values"),
)
def sum_over_entries(student_pair: tuple[Tensor, Tensor], teacher_pair: tuple[Tensor, Tensor]) -> Tensor:
    """PITFALLS 6: C1·C2 times the mean."""
    return right_flow(student_pair, teacher_pair) * student_pair[0].shape[1] * student_pair[1].shape[1]


@exhibit(
    replaces=FLOW,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=flow_tests("gradients_reach_the_student_only"),
)
def flow_trains_the_teacher(student_pair: tuple[Tensor, Tensor], teacher_pair: tuple[Tensor, Tensor]) -> Tensor:
    """The teacher's maps are not detached."""
    return F.mse_loss(right_matrix(*student_pair), right_matrix(*teacher_pair))


def patterns(maps: Tensor) -> Tensor:
    return F.normalize(at_least_float32(maps).flatten(2), dim=2)


def mmd(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared MMD of patterns of one size, pair by pair of channels."""

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return torch.bmm(one, other.mT).square().mean(dim=(1, 2))

    return kernel(student, student) + kernel(teacher, teacher) - 2 * kernel(student, teacher)


@exhibit(
    replaces=SELECTIVITY,
    seen_in="the authors' code and HobbitLong/RepDistiller NSTLoss",
    killed_by=flow_tests(
        "zero_where_they_agree_and_positive_elsewhere", "neuron_selectivity_is_the_mmd_of_the_channels"
    ),
)
def without_the_teachers_own_term(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """PITFALLS 4: it lacks a constant, is negative where the two agree, and its size says nothing."""
    s, t = patterns(student_maps), patterns(teacher_maps.detach())
    return (mmd(s, t) - torch.bmm(t, t.mT).square().mean(dim=(1, 2))).mean()


@exhibit(
    replaces=SELECTIVITY,
    seen_in="a likely slip: the linear kernel",
    killed_by=flow_tests("neuron_selectivity_is_the_mmd_of_the_channels", "channels_are_a_set_without_sign_or_scale"),
)
def linear_kernel(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """With k(x, y) = xᵀy only the mean patterns are compared."""
    s, t = patterns(student_maps), patterns(teacher_maps.detach())
    return (s.mean(dim=1) - t.mean(dim=1)).square().sum(dim=1).mean()


@exhibit(
    replaces=SELECTIVITY,
    seen_in="a likely slip: patterns of channels at a place for patterns of places of a channel",
    killed_by=flow_tests("channels_are_a_set_without_sign_or_scale", "neuron_selectivity_is_the_mmd_of_the_channels"),
)
def normalised_over_channels(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """F.normalize takes axis 1 unless told otherwise."""
    s, t = (F.normalize(at_least_float32(maps).flatten(2)) for maps in (student_maps, teacher_maps.detach()))
    return mmd(s, t).mean()


@exhibit(
    replaces=SELECTIVITY,
    seen_in="a likely slip: F.normalize(x, 2) has p = 2, not axis 2",
    killed_by=flow_tests("channels_are_a_set_without_sign_or_scale", "known_values"),
)
def not_normalised(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Channels with large activations rule."""
    return mmd(at_least_float32(student_maps).flatten(2), at_least_float32(teacher_maps.detach()).flatten(2)).mean()


@exhibit(
    replaces=SELECTIVITY,
    seen_in="HobbitLong/RepDistiller NSTLoss: products of all pairs of channels, place by place",
    killed_by=flow_tests("no_tensor_of_all_channel_pairs_times_all_places_is_made"),
)
def every_pair_times_every_place(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Right, with a tensor (B, C, C, HW) that fills the memory."""
    s, t = patterns(student_maps), patterns(teacher_maps.detach())

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (one[:, :, None] * other[:, None]).sum(dim=3).square().mean(dim=(1, 2))

    return (kernel(s, s) + kernel(t, t) - 2 * kernel(s, t)).mean()


@exhibit(
    replaces=TRANSFER,
    seen_in="HobbitLong/RepDistiller FactorTransfer: squares averaged over channels, then normalised",
    killed_by=factor_tests("loss_matches_the_definition", "zero_where_they_agree_and_positive_elsewhere"),
)
def attention_for_factors(student_factors: Tensor, teacher_factors: Tensor) -> Tensor:
    """An attention map: the channels, and all signs, are lost."""
    s, t = (F.normalize(x.square().mean(dim=1).flatten(1), dim=1) for x in (student_factors, teacher_factors.detach()))
    return F.l1_loss(s, t)


@exhibit(
    replaces=TRANSFER,
    seen_in="a likely slip: F.normalize's axis 1 is the channels",
    killed_by=factor_tests("loss_matches_the_definition"),
)
def normalised_at_each_place(student_factors: Tensor, teacher_factors: Tensor) -> Tensor:
    """Each place at length 1, not each example: where factors are large no longer counts."""
    s, t = (F.normalize(at_least_float32(x), dim=1) for x in (student_factors, teacher_factors.detach()))
    return F.l1_loss(s, t)


@exhibit(
    replaces=TRANSFER,
    seen_in="PITFALLS 5: the second argument of F.normalize is p",
    killed_by=factor_tests("loss_matches_the_definition", "known_value"),
)
def length_in_l1(student_factors: Tensor, teacher_factors: Tensor) -> Tensor:
    """Factors are divided by the sum of their absolute values."""
    s, t = (F.normalize(x.flatten(1), 1) for x in (student_factors, teacher_factors.detach()))
    return F.l1_loss(s, t)


@exhibit(
    replaces=TRANSFER,
    seen_in="a likely slip: the squared distance, p = 2 in the paper's notation",
    killed_by=factor_tests("loss_matches_the_definition", "known_value"),
)
def squared_distance(student_factors: Tensor, teacher_factors: Tensor) -> Tensor:
    """The paper compares both and takes the absolute one."""
    s, t = (F.normalize(x.flatten(1), dim=1) for x in (student_factors, teacher_factors.detach()))
    return F.mse_loss(s, t)


@exhibit(
    replaces=TRANSFER,
    seen_in="a likely slip: a norm in float16, with an epsilon that vanishes there",
    killed_by=factor_tests("a_silent_student_gets_a_gradient_of_ordinary_size"),
)
def norm_in_half_precision(student_factors: Tensor, teacher_factors: Tensor) -> Tensor:
    """PITFALLS 16: 1e-12 is 0 in float16, so a silent student is 0/0; and squares beyond 65,504 overflow."""
    s, t = (
        x.flatten(1) / (x.flatten(1).square().sum(dim=1, keepdim=True).sqrt() + 1e-12)
        for x in (student_factors, teacher_factors.detach())
    )
    return F.l1_loss(at_least_float32(s), at_least_float32(t))


@exhibit(
    replaces=PARAPHRASER,
    seen_in="PITFALLS 21: the paraphraser trains the teacher",
    killed_by=factor_tests("the_reconstruction_loss_is_the_mean_absolute_error_of_the_whole_autoencoder"),
)
class NotDetached(RightParaphraser):
    """The reconstruction's gradient goes on into the teacher."""

    def reconstruction_loss(self, teacher_maps: Tensor) -> Tensor:
        return F.l1_loss(self.decoder(self.encoder(teacher_maps)), teacher_maps)


@exhibit(
    replaces=PARAPHRASER,
    seen_in="a likely slip: mean squared error",
    killed_by=factor_tests("the_reconstruction_loss_is_the_mean_absolute_error_of_the_whole_autoencoder"),
)
class SquaredReconstruction(RightParaphraser):
    """The authors' is the absolute error."""

    def reconstruction_loss(self, teacher_maps: Tensor) -> Tensor:
        return F.mse_loss(self.decoder(self.encoder(teacher_maps.detach())), teacher_maps.detach())


@exhibit(
    replaces=TRANSLATOR,
    seen_in="a likely slip: ReLU, PyTorch's default slope 0.01, or none",
    killed_by=factor_tests("the_layers_are_those_of_the_authors"),
)
class WithoutTheSlopes(RightTranslator):
    """One 3×3 convolution: a hint's regressor, not the authors' three."""

    def __init__(self, student_channels: int, factor_channels: int) -> None:
        super().__init__(student_channels, factor_channels)
        self.encoder = nn.Sequential(nn.Conv2d(student_channels, factor_channels, 3, padding=1))


@exhibit(
    replaces=SELECTIVITY,
    seen_in="kdref itself: F.normalize, whose squares overflow at 1e19 and whose eps is 1e-12",
    killed_by=(
        "heart/feature/test_input.py::test_a_scale_that_means_nothing_means_nothing_at_any_size[neuron_selectivity_loss]",
    ),
)
def length_by_plain_squares(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Channels of 1e30, or of 1e-30, become zeros, and two such networks agree."""
    student, teacher = (
        F.normalize(at_least_float32(maps).flatten(2), dim=2) for maps in (student_maps, teacher_maps.detach())
    )
    gap = student.mT @ student / student.shape[1] - teacher.mT @ teacher / teacher.shape[1]
    return gap.square().sum(dim=(1, 2)).mean()
