"""Wrong versions of centred kernel alignment."""

import torch
from torch import Tensor

from kdref import fidelity
from tests.museum import exhibit

CKA = "kdref.fidelity.alignment:centered_kernel_alignment"
DEFINITION, HAND = "equals_its_definition_in_loops", "worked_by_hand"
STRANGERS = "few_examples_of_many_features_look_alike_to_the_biased_form_only"
right_alignment = fidelity.centered_kernel_alignment


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/fidelity/test_alignment.py::test_{test}" for test in tests)


def rows_of(features: Tensor) -> Tensor:
    rows = features.flatten(1).double()
    return rows - rows.mean(0)


def song(k: Tensor, t: Tensor) -> Tensor:
    n = len(k)
    rows = 2 * (k.sum(0) * t.sum(0)).sum() / (n - 2)
    return (k * t.mT).sum() + k.sum() * t.sum() / ((n - 1) * (n - 2)) - rows


@exhibit(
    replaces=CKA,
    seen_in="a likely slip: features as they are, kernel alignment without the centring",
    killed_by=killed_by("ignores_rotation_shift_and_scale_but_not_a_general_linear_map", HAND),
)
def not_centred(student_features: Tensor, teacher_features: Tensor, *, unbiased: bool = True) -> Tensor:
    """After a ReLU all means are positive, and all layers look alike."""
    grams = [rows @ rows.T for rows in (f.flatten(1).double() for f in (student_features, teacher_features))]
    k, t = (gram / gram.norm() for gram in grams)
    return (k * t).sum().to(student_features.dtype)


@exhibit(
    replaces=CKA,
    seen_in="Project-MONAI/MONAI #9129: called unbiased, with the diagonal in it",
    killed_by=(
        *(f"heart/fidelity/test_alignment.py::test_equals_its_definition_in_loops[{n}-True]" for n in (4, 5, 9)),
        *killed_by(HAND, STRANGERS),
    ),
)
def biased_all_the_same(student_features: Tensor, teacher_features: Tensor, *, unbiased: bool = True) -> Tensor:
    """Each example is most like itself, on both sides: strangers look alike."""
    return right_alignment(student_features, teacher_features, unbiased=False)


@exhibit(
    replaces=CKA,
    seen_in="dmarx/cka_pytorch #2: K - torch.diag(K), which takes the diagonal from every row",
    killed_by=(
        *(f"heart/fidelity/test_alignment.py::test_equals_its_definition_in_loops[{n}-True]" for n in (4, 5, 9)),
        *killed_by(STRANGERS),
    ),
)
def diagonal_taken_from_all_rows(
    student_features: Tensor, teacher_features: Tensor, *, unbiased: bool = True
) -> Tensor:
    """Negative estimates under the root: NaN."""
    if not unbiased:
        return right_alignment(student_features, teacher_features, unbiased=False)
    grams = [rows @ rows.T for rows in map(rows_of, (student_features, teacher_features))]
    k, t = (gram - gram.diag() for gram in grams)
    return (song(k, t) / (song(k, k) * song(t, t)).sqrt()).to(student_features.dtype)


@exhibit(
    replaces=CKA,
    seen_in="ahwillia/netrep #19: no root in the denominator",
    killed_by=killed_by(DEFINITION, HAND, "ignores_rotation_shift_and_scale_but_not_a_general_linear_map"),
)
def no_root(student_features: Tensor, teacher_features: Tensor, *, unbiased: bool = True) -> Tensor:
    """Not 1 of a layer with itself, and it depends on the scale."""
    grams = [rows @ rows.T for rows in map(rows_of, (student_features, teacher_features))]
    k, t = (gram - gram.diag().diag() if unbiased else gram for gram in grams)
    product = song if unbiased else lambda a, b: (a * b).sum()
    return (product(k, t) / (product(k, k) * product(t, t))).to(student_features.dtype)


@exhibit(
    replaces=CKA,
    seen_in="a likely slip: each example's own mean taken off, over its features",
    killed_by=killed_by(DEFINITION, "ignores_rotation_shift_and_scale_but_not_a_general_linear_map"),
)
def mean_of_each_example(student_features: Tensor, teacher_features: Tensor, *, unbiased: bool = True) -> Tensor:
    """A layer norm instead of a centring."""
    sides = (f.flatten(1).double() for f in (student_features, teacher_features))
    grams = [rows @ rows.T for rows in (side - side.mean(1, keepdim=True) for side in sides)]
    k, t = (gram / gram.norm() for gram in grams)
    return (k * t).sum().to(torch.promote_types(student_features.dtype, torch.float32))
