"""Wrong versions of DistilBERT's recipe and of sorted probabilities."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.language import recipes, universal
from tests.museum import exhibit

LAYERS, COSINE, TRIPLE = (
    f"kdref.language.recipes:{name}" for name in ("alternate_layers", "cosine_hidden_loss", "distilbert_loss")
)
SORTED = "kdref.language.universal:universal_logit_loss"
right_cosine, right_triple = recipes.cosine_hidden_loss, recipes.distilbert_loss
right_sorted = universal.universal_logit_loss


@exhibit(
    replaces=LAYERS,
    seen_in="a likely slip, and common advice: the first S layers",
    killed_by=("heart/language/test_recipes.py::test_half_the_depth_takes_every_other_layer",),
)
def first_layers(num_teacher_layers: int, num_student_layers: int, *, keep_last: bool = False) -> list[int]:
    """The student starts from the lower half of the teacher."""
    return list(range(num_student_layers))


@exhibit(
    replaces=LAYERS,
    seen_in="a likely slip: a step of T // S",
    killed_by=("heart/language/test_recipes.py::test_with_the_last_layer_it_is_what_the_authors_script_copies",),
)
def never_the_last(num_teacher_layers: int, num_student_layers: int, *, keep_last: bool = False) -> list[int]:
    """The layer that was trained for the output is left out."""
    return [i * (num_teacher_layers // num_student_layers) for i in range(num_student_layers)]


@exhibit(
    replaces=COSINE,
    seen_in="PITFALLS 10: the sign of a similarity",
    killed_by=(
        "heart/language/test_recipes.py::test_cosine_loss_matches_the_definition",
        "heart/language/test_recipes.py::test_cosine_loss_ignores_lengths_and_a_common_rotation_but_not_one_sides",
    ),
)
def cosine_itself(student_hidden: Tensor, teacher_hidden: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """The student is trained to point the other way."""
    return 1 - right_cosine(student_hidden, teacher_hidden, mask=mask)


@exhibit(
    replaces=COSINE,
    seen_in="a likely slip: the mean over all positions, padded ones included",
    killed_by=(
        "heart/language/test_recipes.py::test_cosine_loss_matches_the_definition",
        "heart/language/test_recipes.py::test_what_stands_in_the_padding_does_not_matter[0.0-hidden]",
    ),
)
def padded_states_count(student_hidden: Tensor, teacher_hidden: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """PITFALLS 25: the student learns the teacher's padding."""
    return right_cosine(student_hidden, teacher_hidden)


@exhibit(
    replaces=COSINE,
    seen_in="PITFALLS 16: F.cosine_similarity in half precision, where its epsilon of 1e-8 is 0",
    killed_by=("heart/language/test_recipes.py::test_gradients_reach_the_student_only_and_stay_finite[hidden]",),
)
def epsilon_vanishes(student_hidden: Tensor, teacher_hidden: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """A row of zeros is divided by zero."""
    if mask is not None:
        return right_cosine(student_hidden, teacher_hidden, mask=mask)
    teacher = teacher_hidden.detach()
    lengths = student_hidden.norm(dim=-1) * teacher.norm(dim=-1) + student_hidden.new_tensor(1e-8)
    value = 1 - ((student_hidden * teacher).sum(-1) / lengths).mean()
    return value.to(torch.promote_types(value.dtype, torch.float32))


@exhibit(
    replaces=TRIPLE,
    seen_in="huggingface/transformers #12299 and others: PITFALLS 2, the missing τ²",
    killed_by=(
        "heart/language/test_recipes.py::test_triple_loss_of_a_language_model_matches_the_definition",
        "heart/language/test_recipes.py::test_the_labels_are_met_at_temperature_one_and_the_soft_term_keeps_its_scale",
    ),
)
def without_the_square(*tensors: Tensor, soft_weight: float = 5.0, temperature: float = 2.0, **how: Any) -> Tensor:
    """At temperature 3 the soft term is a ninth of what was asked for."""
    return right_triple(*tensors, soft_weight=soft_weight / temperature**2, temperature=temperature, **how)


@exhibit(
    replaces=TRIPLE,
    seen_in="a likely slip: 5, 2, 1 in the order in which the paper names the losses",
    killed_by=("heart/language/test_recipes.py::test_each_weight_weighs_its_own_term",),
)
def weights_in_another_order(
    *tensors: Tensor, soft_weight: float = 5.0, hard_weight: float = 2.0, hidden_weight: float = 1.0, **how: Any
) -> Tensor:
    """The cosine gets the labels' weight, and they its."""
    return right_triple(*tensors, soft_weight=soft_weight, hard_weight=hidden_weight, hidden_weight=hard_weight, **how)


@exhibit(
    replaces=TRIPLE,
    seen_in="a likely slip: labels of -100 taken as class -100, or 0",
    killed_by=("heart/language/test_recipes.py::test_triple_loss_of_a_language_model_matches_the_definition",),
)
def unknown_labels_are_class_0(
    student_logits: Tensor, teacher_logits: Tensor, student: Tensor, teacher: Tensor, labels: Tensor, **how: Any
) -> Tensor:
    """Where nothing was masked the student learns to say word 0."""
    return right_triple(student_logits, teacher_logits, student, teacher, labels.clamp(min=0), **how)


@exhibit(
    replaces=TRIPLE,
    seen_in="pytorch/torchtune: PITFALLS 24, a constant where nothing counts",
    killed_by=("heart/language/test_recipes.py::test_nothing_that_counts_gives_zero_with_a_way_back[triple]",),
)
def constant_for_nothing(*tensors: Tensor, mask: Tensor | None = None, **how: Any) -> Tensor:
    """backward() fails on the one batch that is all padding."""
    return torch.tensor(0.0) if mask is not None and not mask.any() else right_triple(*tensors, mask=mask, **how)


@exhibit(
    replaces=TRIPLE,
    seen_in="a teacher with fewer words, F.kl_div(..., log_target=True): PITFALLS 27",
    killed_by=(
        "heart/language/test_recipes.py::test_a_word_that_the_teacher_lacks_counts_nothing_and_one_that_only_the_student_lacks_is_infinite",
    ),
)
def nothing_times_infinity(student_logits: Tensor, teacher_logits: Tensor, *rest: Tensor, **how: Any) -> Tensor:
    """A teacher's -inf makes the soft term NaN: 0 · ∞."""
    tau = how.get("temperature", 2.0)
    log_q, log_p = (F.log_softmax(z / tau, dim=-1) for z in (student_logits, teacher_logits.detach()))
    soft = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean() * tau**2
    others = right_triple(student_logits, student_logits.detach(), *rest, **how)
    return how.get("soft_weight", 5.0) * soft + others


@exhibit(
    replaces=TRIPLE,
    seen_in="float32 at a high temperature: τ² times a difference of nearly equal logarithms",
    killed_by=("heart/language/test_recipes.py::test_the_soft_term_at_a_high_temperature_is_that_of_float64",),
)
def rounding_errors_times_the_square(
    student_logits: Tensor, teacher_logits: Tensor, *rest: Tensor, **how: Any
) -> Tensor:
    """Negative at τ = 10,000, where the limit is positive."""
    tau = how.get("temperature", 2.0)
    log_q, log_p = (F.log_softmax(z / tau, dim=-1) for z in (student_logits, teacher_logits.detach()))
    soft = (log_p.exp() * (log_p - log_q)).sum(-1).mean() * tau**2
    return how.get("soft_weight", 5.0) * soft + right_triple(student_logits, student_logits.detach(), *rest, **how)


@exhibit(
    replaces=SORTED,
    seen_in="linkedin/Liger-Kernel's padding, where ULD pads: PITFALLS 23",
    killed_by=("heart/language/test_universal.py::test_universal_loss_matches_the_definition_for_other_vocabularies",),
)
def logits_padded_with_zeros(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """The shorter vocabulary gets words of logit 0, which take probability from the others."""
    words = max(student_logits.shape[-1], teacher_logits.shape[-1])
    padded = [F.pad(z, (0, words - z.shape[-1])) for z in (student_logits, teacher_logits)]
    return right_sorted(*padded, **how)


@exhibit(
    replaces=SORTED,
    seen_in="a likely slip: sorted by the teacher's order on both sides, a distance of tokens after all",
    killed_by=("heart/language/test_universal.py::test_universal_loss_does_not_know_which_token_is_which",),
)
def sorted_by_the_teacher(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """With one tokenizer it looks better than ULD; with two it compares words by their number."""
    if student_logits.shape != teacher_logits.shape or how:
        return right_sorted(student_logits, teacher_logits, **how)
    return (student_logits.softmax(-1) - teacher_logits.detach().softmax(-1)).abs().sum(-1).mean()


@exhibit(
    replaces=SORTED,
    seen_in="a likely slip: F.l1_loss, whose mean runs over words too",
    killed_by=("heart/language/test_universal.py::test_universal_loss_matches_the_definition_for_other_vocabularies",),
)
def mean_over_words(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 1: V times too small."""
    return right_sorted(student_logits, teacher_logits, **how) / student_logits.shape[-1]
