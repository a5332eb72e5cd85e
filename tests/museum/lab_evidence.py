"""Wrong versions of the lab: what makes the evidence, and what checks a learner's answer."""

import copy

import pandas as pd
import torch
from torch import Tensor

from kdref.lab.exercises import attempt
from kdref.lab.models.small import make
from kdref.lab.report.tables import ALL_SEEDS
from kdref.lab.training.batches import Batches
from kdref.lab.training.seeds import compare
from tests.museum import exhibit

PAIRING = (
    "test_arms_of_a_seed_share_examples_first_weights_and_order[response_teachers]",
    "test_arms_of_a_seed_share_examples_first_weights_and_order[choose_signals]",
    "test_arms_of_the_sensors_share_people_first_weights_and_order",
)


@exhibit(
    replaces="kdref.lab.training.seeds:run_many",
    seen_in="a planted bug that kdref's whole suite let through",
    killed_by=("lab/training/test_seeds.py::test_every_run_gets_the_seed_and_the_arm_that_its_row_names",),
)
def one_seed_for_all(run, pairs, *, jobs=None):  # type: ignore[no-untyped-def]
    """Every run gets the first seed: the intervals are of nothing, and narrow."""
    return ({"arm": arm, "seed": seed, **run(pairs[0][0], arm)} for seed, arm in pairs)


@exhibit(
    replaces="kdref.lab.training.seeds:run_many",
    seen_in="a planted bug that a doctest alone noticed",
    killed_by=("lab/training/test_seeds.py::test_every_run_gets_the_seed_and_the_arm_that_its_row_names",),
)
def seeds_that_depend_on_the_arm(run, pairs, *, jobs=None):  # type: ignore[no-untyped-def]
    """Each arm draws its own split, weights and order: the differences are not paired."""
    arms = list(dict.fromkeys(arm for _, arm in pairs))
    return ({"arm": arm, "seed": seed, **run(seed + arms.index(arm), arm)} for seed, arm in pairs)


@exhibit(
    replaces="kdref.lab.training.seeds:compare",
    seen_in="kdref's own, before: forty losses met one baseline, each with an interval for one",
    killed_by=(
        "lab/training/test_seeds.py::test_intervals_are_widened_for_the_number_of_arms[6-None-6]",
        "lab/training/test_seeds.py::test_intervals_are_widened_for_the_number_of_arms[2-True-2]",
        "lab/training/test_seeds.py::test_what_helps_by_itself_may_be_undecided_among_many",
    ),
)
def never_widened(table, *, corrected=None, **keywords):  # type: ignore[no-untyped-def]
    """Of many arms that do nothing one in twenty is said to help or hurt."""
    return compare(table, corrected=False, **keywords)


@exhibit(
    replaces="kdref.lab.report.tables:verdicts",
    seen_in="kdref's own, before: four losses that gain called no better than soft targets",
    killed_by=(
        "lab/report/test_tables.py::test_the_verdict_is_over_all_seeds_and_the_groups_stand_beside_it",
        "lab/report/test_tables.py::test_groups_that_say_the_opposite_are_refused_by_name",
    ),
)
def groups_outvote_the_whole(runs, *, baseline, metric="accuracy", higher_is_better=True):  # type: ignore[no-untyped-def]
    """A verdict counts if every group of eight seeds gives it by itself, and groups that differ are let pass."""
    how = {"baseline": baseline, "metric": metric, "higher_is_better": higher_is_better}
    shown = {
        f"seeds {group['seed'].min()} to {group['seed'].max()}": compare(group, corrected=False, **how)["verdict"]
        for _, group in runs.groupby(runs["seed"] // 1000)
    }
    found = pd.DataFrame(shown).drop(index=baseline)
    return found.assign(
        **{ALL_SEEDS: [row.iloc[0] if row.nunique() == 1 else "undecided" for _, row in found.iterrows()]}
    )


@exhibit(
    replaces="kdref.lab.training.batches:Batches",
    seen_in="a likely slip: a shuffling loader draws from the global generator",
    killed_by=tuple(f"lab/experiments/test_pairing.py::{test}" for test in PAIRING),
)
class OrderOfItsOwn(Batches):
    """Every arm sees the examples in another order: what is compared is luck as well."""

    def __init__(self, *tensors: Tensor, batch_size: int, seed: int | None = None, drop_last: bool = False) -> None:
        drawn = None if seed is None else int(torch.randint(10**9, ()))
        super().__init__(*tensors, batch_size=batch_size, seed=drawn, drop_last=drop_last)


@exhibit(
    replaces="kdref.lab.models.small:make",
    seen_in="a likely slip: a network is built without a seed",
    killed_by=tuple(f"lab/experiments/test_pairing.py::{test}" for test in PAIRING),
)
def weights_of_its_own(name, *, seed=None, **keywords):  # type: ignore[no-untyped-def]
    """Every arm begins with other weights."""
    return make(name, **keywords)


@exhibit(
    replaces="kdref.lab.exercises:gradient_reaches",
    seen_in="kdref's own, before",
    killed_by=("lab/course/test_check_hostile.py::test_a_check_says_what_a_function_did[01.2]",),
)
def any_gradient_will_do(function, arguments):  # type: ignore[no-untyped-def]
    """A tensor made anew from the right value, which needs a gradient itself, passes for a loss."""
    first, *rest = copy.deepcopy(arguments)
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return False
    return bool(getattr(attempt(function, (first.requires_grad_(), *rest)), "requires_grad", False))


@exhibit(
    replaces="kdref.lab.exercises:_version",
    seen_in="kdref's own, before: s /= temperature at temperature 1 passed, then raised on a leaf",
    killed_by=("lab/course/test_check_hostile.py::test_a_check_says_what_a_function_did[01.4]",),
)
def changes_that_change_nothing(value) -> int:  # type: ignore[no-untyped-def]
    """An argument that is overwritten with its own values is not noticed."""
    return 0
