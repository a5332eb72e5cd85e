"""DistilBERT's recipe, the top of a teacher, and sorted probabilities, checked against definitions and slips."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.language import alternate_layers, cosine_hidden_loss, distilbert_loss, sparse_teacher, universal_logit_loss
from tests import checks

STUDENT, TEACHER = checks.randn(3, 4, 5, seed=1, scale=2.0), checks.randn(3, 4, 5, seed=2, scale=2.0)
HIDDEN, TARGET = checks.randn(3, 4, 6, seed=3), checks.randn(3, 4, 6, seed=4)
MASK = torch.arange(4) < torch.tensor([4, 1, 3])[:, None]
LABELS = checks.labels_for(12, 5).reshape(3, 4).masked_fill(torch.arange(4) % 2 == 1, -100)


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def oracle_soft(student: Tensor, teacher: Tensor, temperature: float) -> list[float]:
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    return [checks.kl(checks.softmax(t, temperature), checks.softmax(s, temperature)) for s, t in rows]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# Layers ---------------------------------------------------------------------------------------------------------------


def test_half_the_depth_takes_every_other_layer() -> None:
    assert alternate_layers(12, 6) == [0, 2, 4, 6, 8, 10]
    assert alternate_layers(6, 3) == [0, 2, 4]


def test_with_the_last_layer_it_is_what_the_authors_script_copies() -> None:
    assert alternate_layers(12, 6, keep_last=True) == [0, 2, 4, 7, 9, 11]


@given(teacher=st.integers(1, 60), share=st.floats(0, 1), keep_last=st.booleans())
def test_layers_ascend_and_start_at_the_first(teacher: int, share: float, keep_last: bool) -> None:
    student = 1 + round(share * (teacher - 1))
    layers = alternate_layers(teacher, student, keep_last=keep_last)
    assert len(layers) == len(set(layers)) == student
    assert layers == sorted(layers)
    assert 0 == layers[0] <= layers[-1] < teacher
    if keep_last and student > 1:
        assert layers[-1] == teacher - 1
    assert alternate_layers(teacher, teacher, keep_last=keep_last) == list(range(teacher))


def test_a_deeper_student_is_refused() -> None:
    for student in (0, 7):
        with pytest.raises(ValueError, match=f"need 1 to 6 student layers, got {student}"):
            alternate_layers(6, student)


# Hidden states --------------------------------------------------------------------------------------------------------


def test_cosine_loss_matches_the_definition() -> None:
    rows = list(zip(HIDDEN.flatten(0, 1).tolist(), TARGET.flatten(0, 1).tolist(), strict=True))
    every = [1 - cosine(a, b) for a, b in rows]
    assert cosine_hidden_loss(HIDDEN, TARGET).item() == pytest.approx(mean(every), rel=1e-10)
    some = [value for value, counts in zip(every, MASK.flatten().tolist(), strict=True) if counts]
    assert cosine_hidden_loss(HIDDEN, TARGET, mask=MASK).item() == pytest.approx(mean(some), rel=1e-10)


def test_cosine_loss_ignores_lengths_and_a_common_rotation_but_not_one_sides() -> None:
    lengths = torch.linspace(0.1, 9, 12, dtype=torch.float64).reshape(3, 4, 1)
    rotation = torch.linalg.qr(checks.randn(6, 6, seed=5)).Q
    plain = cosine_hidden_loss(HIDDEN, TARGET)
    assert_close(cosine_hidden_loss(HIDDEN * lengths, TARGET / lengths), plain)
    assert_close(cosine_hidden_loss(HIDDEN @ rotation, TARGET @ rotation), plain)
    assert not torch.isclose(cosine_hidden_loss(HIDDEN @ rotation, TARGET), plain)
    assert_close(cosine_hidden_loss(3 * TARGET, TARGET).item(), 0.0)
    assert_close(cosine_hidden_loss(-TARGET, TARGET).item(), 2.0)
    assert_close(cosine_hidden_loss(0 * TARGET, TARGET).item(), 1.0)


# The triple loss ------------------------------------------------------------------------------------------------------


def test_triple_loss_of_a_language_model_matches_the_definition() -> None:
    counts, known = MASK.flatten(), LABELS.flatten() != -100
    flat = [x.flatten(0, 1) for x in (STUDENT, TEACHER, HIDDEN, TARGET)]
    soft = mean(oracle_soft(flat[0][counts], flat[1][counts], 3.0)) * 9
    pairs = zip(flat[0][known].tolist(), LABELS.flatten()[known].tolist(), strict=True)
    hard = mean([-math.log(checks.softmax(row)[label]) for row, label in pairs])
    rows = zip(flat[2][counts].tolist(), flat[3][counts].tolist(), strict=True)
    angle = mean([1 - cosine(a, b) for a, b in rows])
    weights = {"soft_weight": 0.5, "hard_weight": 0.3, "hidden_weight": 0.7}
    loss = distilbert_loss(STUDENT, TEACHER, HIDDEN, TARGET, LABELS, mask=MASK, temperature=3.0, **weights)
    assert loss.item() == pytest.approx(0.5 * soft + 0.3 * hard + 0.7 * angle, rel=1e-10)


def test_a_classifiers_rows_all_count_and_the_mask_is_of_its_tokens() -> None:
    student, teacher, labels = STUDENT[:, 0], TEACHER[:, 0], LABELS[:, 0]
    loss = distilbert_loss(student, teacher, HIDDEN, TARGET, labels, mask=MASK)
    soft, hard = mean(oracle_soft(student, teacher, 2.0)) * 4, F.cross_entropy(student, labels).item()
    angle = cosine_hidden_loss(HIDDEN, TARGET, mask=MASK).item()
    assert loss.item() == pytest.approx(5 * soft + 2 * hard + angle, rel=1e-10)


def test_each_weight_weighs_its_own_term() -> None:
    off = {"soft_weight": 0.0, "hard_weight": 0.0, "hidden_weight": 0.0}
    terms = [distilbert_loss(STUDENT, TEACHER, HIDDEN, TARGET, LABELS, **(off | {name: 1.0})).item() for name in off]
    whole = distilbert_loss(STUDENT, TEACHER, HIDDEN, TARGET, LABELS).item()
    assert whole == pytest.approx(5 * terms[0] + 2 * terms[1] + terms[2], rel=1e-10)
    assert distilbert_loss(STUDENT, TEACHER, HIDDEN, TARGET, LABELS, **off).item() == 0
    agreeing = distilbert_loss(TEACHER, TEACHER, TARGET, TARGET, LABELS, hard_weight=0.0)
    assert agreeing.item() == pytest.approx(0, abs=1e-12)


def test_the_labels_are_met_at_temperature_one_and_the_soft_term_keeps_its_scale() -> None:
    hard = {"soft_weight": 0.0, "hidden_weight": 0.0}
    cold, hot = (distilbert_loss(STUDENT, TEACHER, HIDDEN, TARGET, LABELS, temperature=t, **hard) for t in (1.0, 9.0))
    assert_close(cold, hot, rtol=0, atol=0)
    norms = []
    for temperature in (1e3, 2e3):
        student = STUDENT.clone().requires_grad_()
        soft = {"hard_weight": 0.0, "hidden_weight": 0.0}
        distilbert_loss(student, TEACHER, HIDDEN, TARGET, LABELS, temperature=temperature, **soft).backward()
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.01)


# Masks, for all -------------------------------------------------------------------------------------------------------


def triple(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    labels = LABELS if mask is None else LABELS.masked_fill(~mask, -100)
    return distilbert_loss(student, teacher, student, teacher, labels, mask=mask)


def hidden(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    return cosine_hidden_loss(student, teacher, mask=mask)


def ordered(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Tensor:
    return universal_logit_loss(student, teacher, mask=mask)


every_loss = pytest.mark.parametrize("loss", [hidden, triple, ordered])


@every_loss
@pytest.mark.parametrize("filler", [0.0, torch.inf, torch.nan])
def test_what_stands_in_the_padding_does_not_matter(loss, filler: float) -> None:
    results = []
    for fill in (None, filler):
        tensors = [x if fill is None else x.masked_fill(~MASK[..., None], fill) for x in (STUDENT, TEACHER)]
        student = tensors[0].clone().requires_grad_()
        value = loss(student, tensors[1], mask=MASK)
        value.backward()
        results.append((value.detach(), student.grad))
    assert_close(results[1], results[0])
    assert (results[0][1][~MASK] == 0).all()
    assert not torch.isclose(results[0][0], loss(STUDENT, TEACHER).detach())


@every_loss
def test_nothing_that_counts_gives_zero_with_a_way_back(loss) -> None:
    checks.check_nothing_that_counts(loss, STUDENT, TEACHER, MASK)


@every_loss
def test_gradients_reach_the_student_only_and_stay_finite(loss) -> None:
    checks.check_gradient(lambda s, t, m: loss(s, t, mask=m), STUDENT, TEACHER, MASK)
    for scale in (1.0, 60.0, 1e4):
        student, teacher = (x / x.abs().max() * scale for x in (STUDENT, TEACHER))
        for rows in (student, student * 0, student[:1, :1].expand_as(student)):
            for other in (teacher, teacher * 0):
                checks.check_extremes(lambda s, t: loss(s, t), rows, other)


@every_loss
def test_batch_permutation_and_one_graph(loss) -> None:
    checks.check_compiles(lambda s, t, m: loss(s, t, mask=m), STUDENT, TEACHER, MASK)
    if loss is not triple:  # whose labels stay where they are
        checks.check_batch_permutation(lambda s, t: loss(s, t), STUDENT, TEACHER, per_example=False)


# The top of a teacher -------------------------------------------------------------------------------------------------


def test_sparse_teacher_matches_the_definition() -> None:
    indices, log_probs, tail = sparse_teacher(TEACHER, k=2)
    assert (indices.dtype, indices.shape, log_probs.shape, tail.shape) == (torch.int64, (3, 4, 2), (3, 4, 2), (3, 4))
    for row, kept, logs, rest in zip(
        TEACHER.flatten(0, 1).tolist(),
        indices.flatten(0, 1).tolist(),
        log_probs.flatten(0, 1).tolist(),
        tail.flatten().tolist(),
        strict=True,
    ):
        p = checks.softmax(row)
        assert kept == sorted(range(5), key=lambda v, p=p: -p[v])[:2]
        assert logs == pytest.approx([math.log(p[v]) for v in kept], rel=1e-10)
        assert rest == pytest.approx(math.log(sum(p[v] for v in range(5) if v not in kept)), rel=1e-9)


def test_the_tail_of_a_sure_teacher_keeps_its_digits_and_an_empty_one_is_minus_infinity() -> None:
    logits = torch.tensor([30.0, 0.0, 0.0])  # 1 - p is 0 in float32, the tail is 2 e^-30
    assert sparse_teacher(logits, k=1)[2].item() == pytest.approx(math.log(2) - 30, rel=1e-6)
    indices, log_probs, tail = sparse_teacher(logits, k=3)
    assert tail.item() == -math.inf
    assert_close(log_probs, logits.log_softmax(-1)[indices])
    for dtype in checks.DTYPES:
        assert {x.dtype for x in sparse_teacher(logits.to(dtype).requires_grad_(), k=1)[1:]} == {torch.float32}
        assert not sparse_teacher(logits.to(dtype).requires_grad_(), k=1)[1].requires_grad


@given(k=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_top_k_made_to_sum_to_one_is_biased_by_exactly_the_tails_mass(k: int, seed: int) -> None:
    teacher = checks.randn(3, 5, seed=seed, scale=2)
    indices, log_probs, tail = sparse_teacher(teacher, k=k)
    p, target = teacher.softmax(-1), torch.zeros(3, 5, dtype=torch.float64)
    target = target.scatter(-1, indices, log_probs.softmax(-1))
    assert_close((target - p).abs().sum(-1) / 2, tail.exp(), rtol=1e-9, atol=1e-14)
    assert_close(log_probs.exp().sum(-1) + tail.exp(), torch.ones(3, dtype=torch.float64))


# Sorted probabilities -------------------------------------------------------------------------------------------------


def test_universal_loss_matches_the_definition_for_other_vocabularies() -> None:
    for words in (2, 5, 9):
        teacher = checks.randn(3, 4, words, seed=6, scale=2.0)
        values = []
        for s, t in zip(STUDENT.flatten(0, 1).tolist(), teacher.flatten(0, 1).tolist(), strict=True):
            q, p = sorted(checks.softmax(s, 2.0), reverse=True), sorted(checks.softmax(t, 2.0), reverse=True)
            length = max(len(q), len(p))
            q, p = q + [0.0] * (length - len(q)), p + [0.0] * (length - len(p))
            values.append(sum(abs(a - b) for a, b in zip(q, p, strict=True)))
        loss = universal_logit_loss(STUDENT, teacher, temperature=2.0)
        assert loss.item() == pytest.approx(mean(values), rel=1e-10)


def test_universal_loss_does_not_know_which_token_is_which() -> None:
    assert_close(universal_logit_loss(TEACHER.flip(-1), TEACHER).item(), 0.0)
    assert_close(universal_logit_loss(STUDENT[..., [3, 1, 4, 0, 2]], TEACHER), universal_logit_loss(STUDENT, TEACHER))
    assert universal_logit_loss(STUDENT, TEACHER) > 0.1


def test_a_word_of_no_probability_adds_nothing() -> None:
    padded = F.pad(STUDENT, (0, 3), value=-torch.inf)
    assert_close(universal_logit_loss(padded, TEACHER), universal_logit_loss(STUDENT, TEACHER))
    assert_close(universal_logit_loss(STUDENT, padded).item(), 0.0)


# Bad input ------------------------------------------------------------------------------------------------------------


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"don't fit: \(3, 4, 6\) and \(3, 4, 5\)"):
        cosine_hidden_loss(HIDDEN, TARGET[..., :5])
    with pytest.raises(ValueError, match=r"don't fit: \(3, 4, 5\) and \(3, 5\)"):
        universal_logit_loss(STUDENT, TEACHER[:, 0])
    for loss in (cosine_hidden_loss, universal_logit_loss):
        with pytest.raises(TypeError, match=r"must be floating point, got torch\.int64"):
            loss(STUDENT, TEACHER.long())
        with pytest.raises(TypeError, match=r"mask must be bool \(3, 4\), got torch\.int64"):
            loss(STUDENT, TEACHER, mask=MASK.long())
        with pytest.raises(ValueError, match=r"mask must be bool \(3, 4\), got torch\.bool \(3, 3\)"):
            loss(STUDENT, TEACHER, mask=MASK[:, :3])
        with pytest.raises(ValueError, match="don't fit"):
            loss(STUDENT[:0], TEACHER[:0])
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        universal_logit_loss(STUDENT, TEACHER, temperature=0.0)
    inputs = (STUDENT, TEACHER, HIDDEN, TARGET)
    with pytest.raises(TypeError, match=r"labels must be int64 \(3, 4\), got torch\.int32"):
        distilbert_loss(*inputs, LABELS.int())
    with pytest.raises(ValueError, match=r"labels must be int64 \(3, 4\), got torch\.int64 \(3, 3\)"):
        distilbert_loss(*inputs, LABELS[:, :3])
    with pytest.raises(ValueError, match=r"hard_weight must be 0 or more and finite, got -1\.0"):
        distilbert_loss(*inputs, LABELS, hard_weight=-1.0)
    for k in (0, 6):
        with pytest.raises(ValueError, match=rf"k from 1 to V, got \(3, 4, 5\) and {k}"):
            sparse_teacher(TEACHER, k=k)
    with pytest.raises(TypeError, match=r"logits must be floating point, got torch\.int64"):
        sparse_teacher(LABELS, k=1)
