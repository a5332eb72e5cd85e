"""Wrong versions of MUNGE."""

import math

import torch
from torch import Tensor

from tests.museum import exhibit

MUNGE = "kdref.transfer_data.compression:munge"
CENTRES = "each_member_is_centred_on_the_others_old_value_with_their_distance_over_s"
DEFINITION = "matches_the_papers_algorithm"
SELF = "a_neighbour_is_never_the_example_itself"


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/transfer_data/test_compression.py::test_{test}" for test in tests)


def munged(
    examples: Tensor,
    copies: int,
    swap_probability: float,
    local_variance: float,
    generator: torch.Generator,
    nominal: Tensor | None,
    *,
    spans: Tensor | None = None,
    own_too: bool = False,
    first_only: bool = False,
    new_values: bool = False,
    times: bool = False,
) -> Tensor:
    """The right algorithm, with a switch for each slip."""
    x = examples.detach().to(torch.promote_types(examples.dtype, torch.float32))
    names = torch.zeros_like(x[0], dtype=torch.bool) if nominal is None else nominal
    span = x.amax(0) - x.amin(0) if spans is None else spans
    scaled = ((x - x.amin(0)) / span.masked_fill(span == 0, 1))[:, ~names]
    far = (scaled[:, None] - scaled).square().sum(-1) + (x[:, None, names] != x[:, names]).sum(-1)
    near = (far if own_too else far.masked_fill(torch.eye(len(x)).bool(), math.inf)).argmin(1).tolist()
    rows = [row.expand(copies, -1) for row in x]
    for i, j in enumerate(near):
        e, f = rows[i], rows[j]
        chosen = torch.rand(e.shape, generator=generator) < swap_probability
        scale = local_variance if times else 1 / local_variance
        noise = torch.randn(2, *e.shape, generator=generator, dtype=x.dtype)
        sd = ((e - f).abs() * scale).masked_fill(names, 0)
        rows[i] = torch.where(chosen, f + sd * noise[0], e)
        if new_values:
            e = rows[i]
            sd = ((e - f).abs() * scale).masked_fill(names, 0)
        if not first_only:
            rows[j] = torch.where(chosen, e + sd * noise[1], f)
    return torch.stack(rows, dim=1).flatten(0, 1)


@exhibit(
    replaces=MUNGE,
    seen_in="a likely slip: only the example is changed, its neighbour is not",
    killed_by=killed_by(DEFINITION, CENTRES, "nominal_attributes_keep_their_values_as_often_as_they_were"),
)
def one_member_changed(
    examples: Tensor,
    *,
    copies: int,
    swap_probability: float,
    local_variance: float,
    generator: torch.Generator,
    nominal: Tensor | None = None,
) -> Tensor:
    """Values are copied instead of exchanged: some multiply, others are lost."""
    return munged(examples, copies, swap_probability, local_variance, generator, nominal, first_only=True)


@exhibit(
    replaces=MUNGE,
    seen_in="a likely slip: the second line of the update reads what the first one wrote",
    killed_by=killed_by(DEFINITION, CENTRES, "nominal_attributes_keep_their_values_as_often_as_they_were"),
)
def centred_on_the_new_value(
    examples: Tensor,
    *,
    copies: int,
    swap_probability: float,
    local_variance: float,
    generator: torch.Generator,
    nominal: Tensor | None = None,
) -> Tensor:
    """The neighbour is drawn around itself: nothing of the example reaches it."""
    return munged(examples, copies, swap_probability, local_variance, generator, nominal, new_values=True)


@exhibit(
    replaces=MUNGE,
    seen_in="PITFALLS 35: a partner that is the example itself",
    killed_by=killed_by(DEFINITION, SELF, CENTRES),
)
def its_own_neighbor(
    examples: Tensor,
    *,
    copies: int,
    swap_probability: float,
    local_variance: float,
    generator: torch.Generator,
    nominal: Tensor | None = None,
) -> Tensor:
    """Every distance is least to oneself: all that comes out are copies."""
    return munged(examples, copies, swap_probability, local_variance, generator, nominal, own_too=True)


@exhibit(
    replaces=MUNGE,
    seen_in="a likely slip: a parameter named variance that is multiplied",
    killed_by=killed_by(DEFINITION, CENTRES),
)
def noise_times_s(
    examples: Tensor,
    *,
    copies: int,
    swap_probability: float,
    local_variance: float,
    generator: torch.Generator,
    nominal: Tensor | None = None,
) -> Tensor:
    """s divides: at the paper's values the noise is s² times what it should be."""
    return munged(examples, copies, swap_probability, local_variance, generator, nominal, times=True)


@exhibit(
    replaces=MUNGE,
    seen_in="alperengormez munge.py: scaling is left to the caller, as its docstring says",
    killed_by=killed_by(DEFINITION, "attributes_count_alike_in_the_distance_whatever_their_unit"),
)
def raw_distances(
    examples: Tensor,
    *,
    copies: int,
    swap_probability: float,
    local_variance: float,
    generator: torch.Generator,
    nominal: Tensor | None = None,
) -> Tensor:
    """The attribute in the smallest unit chooses the neighbour alone."""
    ones = torch.ones(examples.shape[1], dtype=examples.dtype)
    return munged(examples, copies, swap_probability, local_variance, generator, nominal, spans=ones)


@exhibit(
    replaces=MUNGE,
    seen_in="a likely slip: the copies' axis flattened after the examples'",
    killed_by=killed_by("copies_come_one_after_the_other_and_differ"),
)
def example_after_example(
    examples: Tensor,
    *,
    copies: int,
    swap_probability: float,
    local_variance: float,
    generator: torch.Generator,
    nominal: Tensor | None = None,
) -> Tensor:
    """All copies of the first example, then of the second: rows don't match their originals."""
    made = munged(examples, copies, swap_probability, local_variance, generator, nominal)
    return made.unflatten(0, (copies, len(examples))).transpose(0, 1).flatten(0, 1)
