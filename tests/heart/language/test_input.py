"""Language models: what people hand to the losses, besides tensors that fit."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from kdref import language
from kdref.language import fused_linear_loss, sampled_teacher, sparse_teacher, token_loss
from tests import checks, words
from tests.heart.language.test_tokens import CASES
from tests.words import Call

STUDENT, TEACHER = checks.randn(3, 4, 5, seed=1, scale=2.0), checks.randn(3, 4, 5, seed=2, scale=2.0)
HIDDEN, TARGET = checks.randn(3, 4, 6, seed=3), checks.randn(3, 4, 6, seed=4)
LABELS = checks.labels_for(12, 4, seed=5).reshape(3, 4)
MASK = {"mask": torch.arange(4) < torch.tensor([4, 3, 2])[:, None]}
LOGITS = {"student_logits": STUDENT, "teacher_logits": TEACHER}
STATES = {"student_hidden": HIDDEN, "teacher_hidden": TARGET}
KEPT = dict(zip(("indices", "log_probs", "tail_log_mass"), sparse_teacher(TEACHER, k=3), strict=True))
DRAWN = dict(
    zip(
        ("indices", "log_weights"),
        sampled_teacher(TEACHER, k=3, generator=torch.Generator().manual_seed(0)),
        strict=True,
    )
)
PLANES = {
    "student_hidden": HIDDEN[0],
    "student_weight": checks.randn(5, 6, seed=6),
    "teacher_hidden": TARGET[0],
    "teacher_weight": checks.randn(5, 6, seed=7),
}
MIXED = {"kind": "jensen_shannon", "mix": 0.3}
LOSSES = [
    Call(language, "token_divergence", LOGITS, {"kind": "forward"}),
    Call(language, "token_divergence", LOGITS, MIXED, "token_divergence, mixed"),
    Call(language, "token_loss", LOGITS, {"kind": "forward", **MASK}),
    Call(language, "token_loss", LOGITS, {**MIXED, **MASK}, "token_loss, mixed"),
    Call(language, "distilbert_loss", {**LOGITS, **STATES, "labels": LABELS}, MASK),
    Call(language, "universal_logit_loss", LOGITS, MASK),
]
LISTS = [
    Call(language, "sparse_teacher_loss", {"student_logits": STUDENT, **KEPT}, {"tail": "bucket", **MASK}),
    Call(
        language,
        "sparse_teacher_loss",
        {"student_logits": STUDENT, **KEPT},
        {"tail": "bucket", **MIXED, **MASK},
        "sparse_teacher_loss, mixed",
    ),
    Call(language, "sampled_teacher_loss", {"student_logits": STUDENT, **DRAWN}, MASK),
]
FUSED = Call(language, "fused_linear_loss", PLANES, {**MIXED, "mask": MASK["mask"][0], "chunk_size": 2})
OTHERS = [
    FUSED,
    Call(language, "cosine_hidden_loss", STATES, MASK),
    Call(language, "sparse_teacher", {"logits": TEACHER}, {"k": 2}),
]
CALLS = [*LOSSES, *LISTS, *OTHERS]


@pytest.mark.parametrize("check", words.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", [call for call in CALLS if call is not FUSED], ids=str)
def test_every_function_passes(check, call: Call) -> None:
    check(call)


@pytest.mark.parametrize("check", words.ALWAYS[:-2], ids=lambda check: check.__name__)
def test_the_fused_loss_passes(check) -> None:  # in autocast its products are in autocast's dtype, as in nn.Linear
    check(FUSED)


def test_the_fused_loss_takes_a_teacher_of_inference_mode() -> None:
    with torch.inference_mode():
        teacher = {name: PLANES[name].clone() for name in ("teacher_hidden", "teacher_weight")}
    leaf = PLANES["student_hidden"].clone().requires_grad_()
    FUSED(student_hidden=leaf, **teacher).backward()
    assert leaf.grad is not None


@pytest.mark.parametrize("call", LOSSES, ids=str)
def test_a_word_that_the_teacher_lacks_makes_no_nan(call: Call) -> None:
    words.check_missing_words(call)


@pytest.mark.parametrize(("kind", "mix"), CASES)
def test_a_nan_is_heard_in_every_kind_of_divergence(kind: str, mix: float | None) -> None:
    for call in (LOSSES[2], LISTS[0], FUSED):
        words.check_nan(replace(call, settings={**call.settings, "kind": kind, "mix": mix}))


WITHOUT_LOGITS = {"align_spans", "likelihood_matching_loss", "span_log_probs"}  # test_alignment_input.py
WITHOUT_LOGITS |= {"alternate_layers", "pack_sparse", "sampled_teacher", "unpack_sparse"}


def test_every_public_name_is_swept() -> None:
    swept = {call.name for call in CALLS}
    assert set(language.__all__) - swept == WITHOUT_LOGITS


def test_what_has_no_scores_names_bad_input_too() -> None:
    indices, log_weights = DRAWN.values()
    for bad in (None, TEACHER.tolist(), TEACHER.numpy(), (TEACHER,)):
        for call in (
            lambda bad=bad: language.sampled_teacher(bad, k=1),
            lambda bad=bad: language.pack_sparse(bad, log_weights),
            lambda bad=bad: language.pack_sparse(indices, bad),
            lambda bad=bad: language.unpack_sparse(bad, log_weights),
            lambda bad=bad: language.unpack_sparse(indices, bad),
        ):
            with pytest.raises(TypeError, match=f"must be a tensor, got {type(bad).__name__}: "):
                call()
    for name, call in {
        "k": lambda: language.sampled_teacher(TEACHER, k="3"),
        "proposal_temperature": lambda: language.sampled_teacher(TEACHER, k=1, proposal_temperature="1"),
        "num_teacher_layers": lambda: language.alternate_layers("12", 6),
        "num_student_layers": lambda: language.alternate_layers(12, None),
    }.items():
        with pytest.raises(TypeError, match=f"{name} must be a number, got"):
            call()
    spoiled = TEACHER.clone()
    spoiled[0, 1, 2] = math.nan
    with pytest.raises(RuntimeError, match="nan"):
        language.sampled_teacher(spoiled, k=1)


def test_a_learned_temperature_is_refused_where_it_would_get_no_gradient() -> None:
    temperature = torch.tensor(2.0, requires_grad=True)
    with pytest.raises(ValueError, match=r"temperature gets no gradient here: use token_loss or temperature\.detach"):
        fused_linear_loss(**PLANES, kind="forward", temperature=temperature)
    assert_close(
        fused_linear_loss(**PLANES, kind="forward", temperature=temperature.detach()),
        fused_linear_loss(**PLANES, kind="forward", temperature=2.0),
    )


def test_weights_cut_to_the_words_that_both_have_give_the_right_number() -> None:
    wide = torch.cat([PLANES["teacher_weight"], checks.randn(2, 6, seed=8)])
    planes = {**PLANES, "teacher_weight": wide}
    with pytest.raises(ValueError, match=r"got \[\(4, 5\), \(4, 7\)\]: cut weight and bias to the words they share"):
        fused_linear_loss(**planes, kind="forward")
    loss = fused_linear_loss(**{**planes, "teacher_weight": wide[:5]}, kind="forward")
    dense = [PLANES[f"{side}_hidden"] @ PLANES[f"{side}_weight"].T for side in ("student", "teacher")]
    assert_close(loss, token_loss(*dense, kind="forward"))


def test_a_compiled_loss_looks_at_no_index() -> None:
    def loss(student: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kept = sparse_teacher(TEACHER, k=3)
        sparse = language.sparse_teacher_loss(student, *kept, tail="bucket", kind="reverse")
        return sparse + language.distilbert_loss(student, TEACHER, HIDDEN, TARGET, labels)

    checks.check_compiles(loss, STUDENT, LABELS)
