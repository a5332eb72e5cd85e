"""Sequences: what people hand to the functions, besides tensors that fit."""

import math

import pytest
import torch
from torch.testing import assert_close

from kdref import sequence
from kdref.sequence import (
    enumerate_sequences,
    markov_logits,
    on_policy_loss,
    rejection_sample,
    sequence_kl_divergence,
    sequence_level_loss,
    speculative_acceptance,
    speculative_decoding,
    speculative_sample,
)
from tests import checks, words
from tests.words import Call

STUDENT, TEACHER = checks.randn(4, 5, 3, seed=1, scale=1.5), checks.randn(4, 5, 3, seed=2, scale=1.5)
TOKENS = checks.labels_for(20, 2, seed=3).reshape(4, 5)
MASK = {"mask": torch.arange(5) < torch.tensor([5, 3, 2, 4])[:, None]}
LOGITS = {"student_logits": STUDENT, "teacher_logits": TEACHER}
P, Q = TEACHER.softmax(-1), STUDENT.softmax(-1)
LEVEL = Call(sequence, "sequence_level_loss", {"student_logits": STUDENT, "teacher_tokens": TOKENS}, MASK)
POLICY = Call(sequence, "on_policy_loss", {**LOGITS, "student_tokens": TOKENS}, MASK)
CALLS = [
    LEVEL,
    POLICY,
    Call(sequence, "sequence_log_prob", {"logits": STUDENT, "tokens": TOKENS}, MASK),
    Call(sequence, "sequence_kl_divergence", {**LOGITS, "tokens": TOKENS}, MASK),
    Call(
        sequence,
        "markov_logits",
        {"initial_logits": STUDENT[0, 0], "transition_logits": STUDENT[1, :3], "tokens": TOKENS},
    ),
    Call(sequence, "speculative_acceptance", {"student_probabilities": Q, "teacher_probabilities": P}),
    Call(
        sequence,
        "speculative_sample",
        {"draft_tokens": TOKENS[:, :4], "student_probabilities": Q[:, :4], "teacher_probabilities": P},
    ),
    Call(sequence, "expected_tokens_per_call", {"acceptance": torch.tensor([0.1, 0.9])}, {"num_drafts": 2}),
    Call(sequence, "rejection_sample", {"accepted": MASK["mask"]}, {"keep": 1}),
]


@pytest.mark.parametrize("check", words.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_function_passes(check, call: Call) -> None:
    torch.manual_seed(0)
    if call.name == "speculative_sample" and check in (words.check_inference_mode, words.check_autocast):
        call = Call(call.module, call.name, call.tensors, {"generator": None})
        with torch.inference_mode():
            made = {name: tensor.clone() for name, tensor in call.tensors.items()}
        found = []
        for tensors in (call.tensors, made):
            torch.manual_seed(1)
            found.append(call(**tensors))
        assert_close(found[0], found[1])
        return
    check(call)


def test_every_public_name_is_swept() -> None:
    swept = {call.name for call in CALLS}
    assert set(sequence.__all__) - swept == {"enumerate_sequences", "speculative_decoding"}


@pytest.mark.parametrize("call", [LEVEL, POLICY, *CALLS[2:4]], ids=str)
def test_a_word_that_the_teacher_lacks_makes_no_nan(call: Call) -> None:
    words.check_missing_words(call)


@pytest.mark.parametrize("call", [LEVEL, POLICY], ids=str)
def test_counts_are_positive_numbers(call: Call) -> None:
    words.check_counts(call)


@pytest.mark.parametrize("call", CALLS[:4], ids=str)
def test_tokens_out_of_range_are_named_where_they_count(call: Call) -> None:
    name = next(name for name in call.tensors if name.endswith("tokens"))
    for value in (3, -1, -100):
        tokens = TOKENS.clone()
        tokens[0, 1] = value
        with pytest.raises(ValueError, match=rf"tokens must be in \[0, 3\), got {value}: mask what does not count"):
            call(**{name: tokens})
        tokens = TOKENS.masked_fill(~MASK["mask"], value)
        assert_close(call(**{name: tokens}), call())


def test_tokens_out_of_range_are_named_where_scores_are_looked_up() -> None:
    for value in (3, -1):  # -1 would be the last word
        tokens = TOKENS.clone()
        tokens[1, 2] = value
        with pytest.raises(ValueError, match=rf"tokens must be in \[0, 3\), got {value}"):
            markov_logits(STUDENT[0, 0], STUDENT[1, :3], tokens)
        with pytest.raises(ValueError, match=rf"draft_tokens must be in \[0, 3\), got {value}"):
            speculative_sample(tokens[:, :4], Q[:, :4], P)
    last = TOKENS.clone()
    last[:, -1] = -100  # which is not used
    assert_close(
        markov_logits(STUDENT[0, 0], STUDENT[1, :3], last), markov_logits(STUDENT[0, 0], STUDENT[1, :3], TOKENS)
    )


def test_logits_are_not_taken_for_probabilities() -> None:
    for pair in ((STUDENT, P), (Q, TEACHER)):
        with pytest.raises(ValueError, match=r"probabilities must be in \[0, 1\], got .*: logits need \.softmax\(-1\)"):
            speculative_acceptance(*pair)
    with pytest.raises(ValueError, match=r"probabilities must be in \[0, 1\]"):
        speculative_sample(TOKENS[:, :4], STUDENT[:, :4], P)


def test_a_nan_is_heard_wherever_it_stands() -> None:
    for place in ((0, 0, 0), (0, 3, 2), (3, 4, 1)):
        spoiled = P.clone()
        spoiled[place] = math.nan
        with pytest.raises(ValueError, match=r"probabilities must be in \[0, 1\], got nan"):
            speculative_sample(TOKENS[:, :4], Q[:, :4], spoiled)
    torch.manual_seed(0)
    for model in (0, 1):
        scores = [lambda tokens: torch.zeros(*tokens.shape, 3), lambda tokens: torch.zeros(*tokens.shape, 3)]
        scores[model] = lambda tokens: torch.full((*tokens.shape, 3), math.nan)
        with pytest.raises((ValueError, RuntimeError), match="nan"):
            speculative_decoding(*scores, TOKENS[0], max_new_tokens=3)


def test_a_residual_of_nan_is_no_reason_to_draw_from_the_teacher(monkeypatch) -> None:
    # as on a GPU, where values are not looked at: a rejected draft whose q is NaN at another word
    teacher, student = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.tensor([[[0.5, math.nan]]])
    monkeypatch.setattr("kdref.sequence.speculative._check_probabilities", lambda probabilities: None)
    with pytest.raises(RuntimeError, match="nan"):
        speculative_sample(torch.tensor([[0]]), student, teacher)


def test_baselines_that_would_make_another_loss_are_refused() -> None:
    for shape in ((4, 1), (5,), (1, 5), (), (4, 5)):
        on_policy_loss(STUDENT, TEACHER, TOKENS, baseline=torch.ones(shape))
    for shape in ((4, 1, 1), (4,), (2, 5), (1, 4, 5)):
        with pytest.raises(ValueError, match=r"baseline must broadcast to \(4, 5\), got shape"):
            on_policy_loss(STUDENT, TEACHER, TOKENS, baseline=torch.ones(shape))


def test_settings_of_whole_numbers_are_named() -> None:
    for name, call in {
        "vocabulary": lambda: enumerate_sequences(vocabulary="3", length=2),
        "length": lambda: enumerate_sequences(vocabulary=3, length=None),
        "max_new_tokens": lambda: speculative_decoding(None, None, TOKENS[0], max_new_tokens="3"),
        "num_drafts": lambda: speculative_decoding(None, None, TOKENS[0], max_new_tokens=3, num_drafts="4"),
        "keep": lambda: rejection_sample(MASK["mask"], keep="1"),
    }.items():
        with pytest.raises(TypeError, match=f"{name} must be a number, got"):
            call()
    for prompt in ([0, 1], TOKENS[0].numpy(), None):
        with pytest.raises(TypeError, match=f"prompt must be a tensor, got {type(prompt).__name__}"):
            speculative_decoding(None, None, prompt, max_new_tokens=3)


def test_a_model_that_gives_its_whole_output_is_told_to_take_logits() -> None:
    with pytest.raises(TypeError, match=r"logits must be a tensor, got dict: take its \.logits"):
        speculative_decoding(lambda tokens: {"logits": 0}, lambda tokens: {"logits": 0}, TOKENS[0], max_new_tokens=3)


def test_text_written_under_inference_mode_can_be_learned() -> None:
    with torch.inference_mode():
        tokens = TOKENS.clone()
    student = STUDENT.clone().requires_grad_()
    sequence_level_loss(student, tokens).backward()
    expected = STUDENT.clone().requires_grad_()
    sequence_level_loss(expected, TOKENS).backward()
    assert_close(student.grad, expected.grad)


def test_a_sequence_of_probability_0_counts_nothing_whatever_the_student_says_of_it() -> None:
    tokens = enumerate_sequences(vocabulary=2, length=1)
    for gone in (-math.inf, -200.0):  # by its logit, or because exp(-200) is 0 in float32
        teacher = torch.tensor([0.0, gone]).expand(2, 1, 2)
        student = torch.tensor([0.0, -math.inf]).repeat(2, 1, 1).requires_grad_()
        value = sequence_kl_divergence(student, teacher, tokens)
        assert value.item() == 0
        value.backward()
        assert student.grad.isfinite().all()
    assert sequence_kl_divergence(student, torch.zeros(2, 1, 2), tokens).item() == math.inf
