"""Wrong versions of DistilBERT's recipe, of sorted probabilities, and of teachers kept in a few numbers."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.language import recipes, sparse
from tests.museum import exhibit

LAYERS, COSINE, TRIPLE, TOP, SORTED = (
    f"kdref.language.recipes:{name}"
    for name in (
        "alternate_layers",
        "cosine_hidden_loss",
        "distilbert_loss",
        "sparse_teacher",
        "universal_logit_loss",
    )
)
SPARSE, SAMPLED, PACKED = (
    f"kdref.language.sparse:{name}" for name in ("sparse_teacher_loss", "sampled_teacher", "pack_sparse")
)
right_cosine, right_triple = recipes.cosine_hidden_loss, recipes.distilbert_loss
right_top, right_sorted = recipes.sparse_teacher, recipes.universal_logit_loss
right_sparse, right_sampled = sparse.sparse_teacher_loss, sparse.sampled_teacher


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
    replaces=TOP,
    seen_in="a common way to store a teacher: top-k probabilities made to sum to 1",
    killed_by=(
        "heart/language/test_recipes.py::test_sparse_teacher_matches_the_definition",
        "heart/language/test_recipes.py::test_top_k_made_to_sum_to_one_is_biased_by_exactly_the_tails_mass",
    ),
)
def tail_forgotten(logits: Tensor, *, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The tail is lost for good: nothing that reads the file can know how much there was."""
    indices, log_probs, tail = right_top(logits, k=k)
    return indices, log_probs.log_softmax(dim=-1), torch.full_like(tail, -torch.inf)


@exhibit(
    replaces=TOP,
    seen_in="a likely slip: one minus the sum of what is kept",
    killed_by=(
        "heart/language/test_recipes.py::test_the_tail_of_a_sure_teacher_keeps_its_digits_and_an_empty_one_is_minus_infinity",
    ),
)
def tail_by_subtraction(logits: Tensor, *, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """For a sure teacher the difference is rounding, or negative."""
    indices, log_probs, _ = right_top(logits, k=k)
    return indices, log_probs, (1 - log_probs.exp().sum(dim=-1)).log()


@exhibit(
    replaces=SORTED,
    seen_in="linkedin/Liger-Kernel's padding, where ULD pads: PITFALLS 23",
    killed_by=("heart/language/test_recipes.py::test_universal_loss_matches_the_definition_for_other_vocabularies",),
)
def logits_padded_with_zeros(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """The shorter vocabulary gets words of logit 0, which take probability from the others."""
    words = max(student_logits.shape[-1], teacher_logits.shape[-1])
    padded = [F.pad(z, (0, words - z.shape[-1])) for z in (student_logits, teacher_logits)]
    return right_sorted(*padded, **how)


@exhibit(
    replaces=SORTED,
    seen_in="a likely slip: sorted by the teacher's order on both sides, a distance of tokens after all",
    killed_by=("heart/language/test_recipes.py::test_universal_loss_does_not_know_which_token_is_which",),
)
def sorted_by_the_teacher(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """With one tokenizer it looks better than ULD; with two it compares words by their number."""
    if student_logits.shape != teacher_logits.shape or how:
        return right_sorted(student_logits, teacher_logits, **how)
    return (student_logits.softmax(-1) - teacher_logits.detach().softmax(-1)).abs().sum(-1).mean()


@exhibit(
    replaces=SORTED,
    seen_in="a likely slip: F.l1_loss, whose mean runs over words too",
    killed_by=("heart/language/test_recipes.py::test_universal_loss_matches_the_definition_for_other_vocabularies",),
)
def mean_over_words(student_logits: Tensor, teacher_logits: Tensor, **how: Any) -> Tensor:
    """PITFALLS 1: V times too small."""
    return right_sorted(student_logits, teacher_logits, **how) / student_logits.shape[-1]


@exhibit(
    replaces=SPARSE,
    seen_in="a common way to train on stored top-k",
    killed_by=(
        "heart/language/test_sparse.py::test_each_policy_matches_its_definition[3-bucket]",
        "heart/language/test_sparse.py::test_a_perfect_student_has_no_loss_with_the_bucket_and_is_pulled_away_without_a_tail",
    ),
)
def always_renormalized(*tensors: Tensor, tail: str, **how: Any) -> Tensor:
    """The policy is asked for and ignored."""
    return right_sparse(*tensors, tail="renormalize", **how)


@exhibit(
    replaces=SPARSE,
    seen_in="a likely slip: KL over the kept words only, with no more said",
    killed_by=("heart/language/test_sparse.py::test_each_policy_matches_its_definition[3-bucket]",),
)
def tail_term_dropped(
    student_logits: Tensor, indices: Tensor, log_probs: Tensor, tail_log_mass: Tensor, *, tail: str, **how: Any
) -> Tensor:
    """A sum that is no KL: negative where the student has put more on the kept words than the teacher."""
    nothing = torch.full_like(tail_log_mass, -torch.inf)
    return right_sparse(student_logits, indices, log_probs, nothing, tail=tail, **how)


@exhibit(
    replaces=SAMPLED,
    seen_in="a likely slip: draws from another distribution than the teacher's, counted as the teacher's",
    killed_by=("heart/language/test_sparse.py::test_drawn_weights_are_unbiased[1.5]",),
)
def weights_forgotten(logits: Tensor, *, k: int, **how: Any) -> tuple[Tensor, Tensor]:
    """The student learns the proposal."""
    indices, log_weights = right_sampled(logits, k=k, **how)
    return indices, torch.full_like(log_weights, 1 / k).log()


@exhibit(
    replaces=SAMPLED,
    seen_in="a likely slip: weights made to sum to 1",
    killed_by=("heart/language/test_sparse.py::test_drawn_weights_are_unbiased[0.7]",),
)
def weights_normalized(logits: Tensor, *, k: int, **how: Any) -> tuple[Tensor, Tensor]:
    """Self-normalised importance sampling is biased for every finite k."""
    indices, log_weights = right_sampled(logits, k=k, **how)
    return indices, log_weights.log_softmax(dim=-1)


@exhibit(
    replaces=PACKED,
    seen_in="a likely slip: 16 bits for an index of a vocabulary of more than 65,536",
    killed_by=("heart/language/test_sparse.py::test_an_entry_takes_six_bytes_and_comes_back_within_half_a_thousandth",),
)
def small_indices(indices: Tensor, log_values: Tensor) -> tuple[Tensor, Tensor]:
    """Word 70,000 becomes word 4,464."""
    return (indices % 2**16).to(torch.int32), log_values.to(torch.float16)


@exhibit(
    replaces=PACKED,
    seen_in="a likely slip: probabilities where logarithms are meant",
    killed_by=("heart/language/test_sparse.py::test_an_entry_takes_six_bytes_and_comes_back_within_half_a_thousandth",),
)
def probabilities_in_float16(indices: Tensor, log_values: Tensor) -> tuple[Tensor, Tensor]:
    """Three digits where a probability is large, and fewer, or none, where it is small."""
    return indices.to(torch.int32), log_values.exp().to(torch.float16).log()
