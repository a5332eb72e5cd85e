"""Wrong versions of contrastive losses and of the memory bank."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.relation import contrastive, contrastive_memory
from tests.museum import exhibit

INFO_NCE = "kdref.relation.contrastive:info_nce_loss"
CRD, MEMORY = (f"kdref.relation.contrastive_memory:{name}" for name in ("crd_loss", "ContrastiveMemory"))
right_info_nce, right_crd = contrastive.info_nce_loss, contrastive_memory.crd_loss
RightMemory = contrastive_memory.ContrastiveMemory


def batch_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/relation/test_contrastive.py::test_{test}" for test in tests)


def memory_tests(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/relation/test_contrastive_memory.py::test_{test}" for test in tests)


def cosines(student: Tensor, teacher: Tensor) -> Tensor:
    dtype = torch.promote_types(student.dtype, torch.float32)
    return F.normalize(student.to(dtype), dim=1) @ F.normalize(teacher.detach().to(dtype), dim=1).mT


@exhibit(
    replaces=INFO_NCE,
    seen_in="a likely slip: one direction only",
    killed_by=batch_tests(
        "info_nce_matches_the_definition", "rotation_of_both_and_length_change_nothing_but_rotation_of_one_does"
    ),
)
def one_direction(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, temperature: float | Tensor = 0.07
) -> Tensor:
    """A student that all look alike may still be told apart by the teachers: not symmetric."""
    logits = cosines(student_embeddings, teacher_embeddings) / temperature
    return F.cross_entropy(logits, torch.arange(len(logits)))


@exhibit(
    replaces=INFO_NCE,
    seen_in="a likely slip: the temperature multiplied",
    killed_by=batch_tests("info_nce_matches_the_definition", "info_nce_is_a_lower_bound_of_the_mutual_information"),
)
def times_the_temperature(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, temperature: float | Tensor = 0.07
) -> Tensor:
    """Logits of at most 0.07 say nothing."""
    return right_info_nce(student_embeddings, teacher_embeddings, temperature=1 / temperature)


@exhibit(
    replaces=INFO_NCE,
    seen_in="a likely slip: embeddings not at length 1",
    killed_by=batch_tests(
        "rotation_of_both_and_length_change_nothing_but_rotation_of_one_does", "info_nce_matches_the_definition"
    ),
)
def products_for_cosines(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, temperature: float | Tensor = 0.07
) -> Tensor:
    """The student can lower the loss by growing."""
    logits = student_embeddings @ teacher_embeddings.detach().mT / temperature
    order = torch.arange(len(logits))
    return (F.cross_entropy(logits, order) + F.cross_entropy(logits.mT, order)) / 2


@exhibit(
    replaces=INFO_NCE,
    seen_in="a likely slip: the positive left out of the denominator",
    killed_by=batch_tests("known_values", "info_nce_certifies_at_most_log_batch_of_information"),
)
def positive_not_in_the_denominator(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, temperature: float | Tensor = 0.07
) -> Tensor:
    """The loss falls below 0, and certifies more than log B of information."""
    logits = cosines(student_embeddings, teacher_embeddings) / temperature
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -1e4)
    return (others.logsumexp(dim=1) + others.logsumexp(dim=0) - 2 * logits.diagonal()).mean() / 2


@exhibit(
    replaces=INFO_NCE,
    seen_in="a likely slip: exp before log",
    killed_by=batch_tests("extreme_embeddings_stay_finite"),
)
def log_of_exp(student_embeddings: Tensor, teacher_embeddings: Tensor, *, temperature: float | Tensor = 0.07) -> Tensor:
    """PITFALLS 15: exp(1/0.01) overflows in float32."""
    weights = (cosines(student_embeddings, teacher_embeddings) / temperature**2).exp() ** temperature
    rows, columns = (weights.diagonal() / weights.sum(dim=dim) for dim in (1, 0))
    return -(rows.log() + columns.log()).mean() / 2


@exhibit(
    replaces=INFO_NCE,
    seen_in="PITFALLS 21: the teacher is part of the graph",
    killed_by=batch_tests("gradients_reach_the_student_only"),
)
def teacher_not_detached(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, temperature: float | Tensor = 0.07
) -> Tensor:
    """The loss trains the teacher."""
    logits = F.normalize(student_embeddings, dim=1) @ F.normalize(teacher_embeddings, dim=1).mT / temperature
    order = torch.arange(len(logits))
    return (F.cross_entropy(logits, order) + F.cross_entropy(logits.mT, order)) / 2


def guesses(anchors: Tensor, bank: Tensor, indices: Tensor, negatives: Tensor, temperature: float) -> tuple:
    positive = (anchors * bank[indices].to(anchors.dtype)).sum(dim=1) / temperature
    return positive, anchors @ bank[negatives].to(anchors.dtype).mT / temperature


def crd_with(noise: float, others: Tensor, scores: list, *, mean: bool = False, eps: float = 0.0) -> Tensor:
    """CRD by probabilities, with what is wrong as an argument."""
    total = 0.0
    for positive, negative in scores:
        h, wrong = (x.exp() / (x.exp() + noise + eps) for x in (positive, negative))
        rejected = -((1 - wrong).log() * others).sum(dim=1) / others.sum(dim=1).clamp(min=1)
        total = total + (rejected * (1 if mean else others.shape[1]) - h.log()).mean()
    return total


def crd_parts(s: Tensor, t: Tensor, indices: Tensor, negatives: Tensor, memory, temperature: float) -> tuple:
    others = memory.groups[indices][:, None] != memory.groups[negatives]
    log_mean = contrastive_memory._log_mean_on_sphere(s.shape[1], 1 / temperature)
    scores = [
        guesses(*pair, indices, negatives, temperature) for pair in ((s, memory.teacher_bank), (t, memory.student_bank))
    ]
    return len(negatives) * math.exp(log_mean), others, scores


@exhibit(
    replaces=CRD,
    seen_in="a likely slip: the mean over negatives without the factor K",
    killed_by=memory_tests("crd_matches_the_definition", "crd_is_the_authors_form_with_negatives_for_each_example"),
)
def negatives_averaged(s: Tensor, t: Tensor, indices: Tensor, negatives: Tensor, memory, *, temperature: float = 0.07):
    """One positive weighs as much as all negatives: h is no longer calibrated."""
    return crd_with(*crd_parts(s, t, indices, negatives, memory, temperature), mean=True)


@exhibit(
    replaces=CRD,
    seen_in="the paper's N/M taken literally, which no exp(cos/τ) is normalised for",
    killed_by=memory_tests("guesses_are_calibrated_when_the_memory_is_random", "crd_matches_the_definition"),
)
def no_normaliser(s: Tensor, t: Tensor, indices: Tensor, negatives: Tensor, memory, *, temperature: float = 0.07):
    """Without Z = N c the noise is K/N: nearly every negative is taken for a positive when training starts."""
    _, others, scores = crd_parts(s, t, indices, negatives, memory, temperature)
    return crd_with(len(negatives) / len(memory.groups), others, scores)


@exhibit(
    replaces=CRD,
    seen_in="a likely slip: negatives drawn from all examples, and left as they are",
    killed_by=memory_tests(
        "the_anchor_itself_is_no_negative_and_none_left_costs_nothing", "crd_matches_the_definition"
    ),
)
def anchor_among_its_negatives(
    s: Tensor, t: Tensor, indices: Tensor, negatives: Tensor, memory, *, temperature: float = 0.07
):
    """An example that is drawn pushes itself away."""
    noise, others, scores = crd_parts(s, t, indices, negatives, memory, temperature)
    return crd_with(noise, torch.ones_like(others), scores)


@exhibit(
    replaces=CRD,
    seen_in="a likely slip: each side against its own bank",
    killed_by=memory_tests("crd_matches_the_definition", "far_guesses_keep_their_logarithm"),
)
def own_bank(s: Tensor, t: Tensor, indices: Tensor, negatives: Tensor, memory, *, temperature: float = 0.07):
    """PITFALLS 8: the student learns to be near its own past, nothing of the teacher."""
    return right_crd(t, s, indices, negatives, memory, temperature=temperature)


@exhibit(
    replaces=CRD,
    seen_in="a likely slip: the teacher's side left out",
    killed_by=memory_tests("known_value_of_two_alike", "crd_matches_the_definition"),
)
def students_side_only(s: Tensor, t: Tensor, indices: Tensor, negatives: Tensor, memory, *, temperature: float = 0.07):
    """The teacher's head is never trained, and stays a random projection."""
    noise, others, scores = crd_parts(s, t, indices, negatives, memory, temperature)
    return crd_with(noise, others, scores[:1])


@exhibit(
    replaces=CRD,
    seen_in="HobbitLong/RepDistiller ContrastLoss: exp before log, and 1e-7 in the denominator",
    killed_by=memory_tests("extreme_features_stay_finite[1.0-0.01]"),
)
def probabilities_first(s: Tensor, t: Tensor, indices: Tensor, negatives: Tensor, memory, *, temperature: float = 0.07):
    """PITFALLS 15: exp(1/0.01) overflows in float32."""
    s, t = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (s, t))
    return crd_with(*crd_parts(s, t, indices, negatives, memory, temperature), eps=1e-7)


@exhibit(
    replaces=MEMORY,
    seen_in="a likely slip: the momentum's weights swapped",
    killed_by=memory_tests("momentum_is_the_share_of_the_old"),
)
class MomentumInverted(RightMemory):
    """PITFALLS 21: the share of the new is taken for that of the old."""

    @torch.no_grad()
    def update(self, student_embeddings: Tensor, teacher_embeddings: Tensor, indices: Tensor) -> None:
        for bank, new in ((self.student_bank, student_embeddings), (self.teacher_bank, teacher_embeddings)):
            mixed = (1 - self.momentum) * bank[indices] + self.momentum * new
            bank.index_copy_(0, indices, F.normalize(mixed, dim=1))


@exhibit(
    replaces=MEMORY,
    seen_in="a likely slip: averages of unit vectors are shorter than 1",
    killed_by=memory_tests(
        "the_loss_leaves_the_memory_and_the_update_moves_it", "banks_start_at_length_one_and_stay_there"
    ),
)
class NotBackToLengthOne(RightMemory):
    """Examples seen more often have shorter embeddings in the bank."""

    @torch.no_grad()
    def update(self, student_embeddings: Tensor, teacher_embeddings: Tensor, indices: Tensor) -> None:
        for bank, new in ((self.student_bank, student_embeddings), (self.teacher_bank, teacher_embeddings)):
            bank.index_copy_(0, indices, self.momentum * bank[indices] + (1 - self.momentum) * new)


@exhibit(
    replaces=MEMORY,
    seen_in="a likely slip: positions in the batch for positions in the training set",
    killed_by=memory_tests("the_loss_leaves_the_memory_and_the_update_moves_it"),
)
class BatchPositions(RightMemory):
    """PITFALLS 22: the first rows of the bank are written, whichever examples the batch holds."""

    def update(self, student_embeddings: Tensor, teacher_embeddings: Tensor, indices: Tensor) -> None:
        super().update(student_embeddings, teacher_embeddings, torch.arange(len(indices)))


@exhibit(
    replaces=MEMORY,
    seen_in="a likely slip: the teacher's features with their graph",
    killed_by=memory_tests("gradients_reach_the_student_and_the_heads_only"),
)
class TeacherNotDetached(RightMemory):
    """PITFALLS 21: the head passes its gradient on to the teacher."""

    def forward(self, student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
        teacher = F.normalize(self.teacher_head(teacher_features.flatten(1)), dim=1)
        return super().forward(student_features, teacher_features)[0], teacher


@exhibit(
    replaces=MEMORY,
    seen_in="HobbitLong/RepDistiller: np.random.choice(..., replace=False) for each example",
    killed_by=memory_tests("a_step_gathers_the_negatives_once_and_never_waits_for_the_device"),
)
class WholePermutation(RightMemory):
    """All of the training set is permuted to draw a few."""

    def draw(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.randperm(len(self.groups), generator=generator)[:count]


@exhibit(
    replaces=MEMORY,
    seen_in="kdref itself: one row was written to all the indices",
    killed_by=("heart/relation/test_input.py::test_an_update_needs_rows_for_each_index",),
)
class UpdateThatBroadcasts(RightMemory):
    """A batch of one student and many indices: torch makes the rows up."""

    @torch.no_grad()
    def update(self, student_embeddings: Tensor, teacher_embeddings: Tensor, indices: Tensor) -> None:
        rows = (len(indices), self.student_bank.shape[1])
        student, teacher = (x[:1].expand(rows) for x in (student_embeddings, teacher_embeddings))
        super().update(student, teacher, indices)
