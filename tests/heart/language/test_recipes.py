"""DistilBERT's recipe, checked against definitions and slips; the masks of sorted probabilities too."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.language import alternate_layers, cosine_hidden_loss, distilbert_loss, universal_logit_loss
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


def test_cosine_loss_of_opposite_rows_is_two_also_where_every_entry_is_negative() -> None:
    row = torch.tensor([[1.0, 2.0]])
    assert cosine_hidden_loss(-row, row).item() == pytest.approx(2.0)
    assert cosine_hidden_loss(-row, -row).item() == pytest.approx(0.0, abs=1e-6)
    assert cosine_hidden_loss(1e-30 * -row, 1e30 * row).item() == pytest.approx(2.0)


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


def test_a_word_that_the_teacher_lacks_counts_nothing_and_one_that_only_the_student_lacks_is_infinite() -> None:
    soft = {"hard_weight": 0.0, "hidden_weight": 0.0, "soft_weight": 1.0, "temperature": 1.0}
    hidden, label = torch.ones(1, 2), torch.tensor([0])
    fair, lacking = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -math.inf]])
    student = fair.clone().requires_grad_()
    loss = distilbert_loss(student, lacking, hidden, hidden, label, **soft)
    assert loss.item() == pytest.approx(math.log(3) - math.log(2), rel=1e-6)
    loss.backward()
    assert_close(student.grad, torch.tensor([[-1 / 6, -1 / 6, 1 / 3]]))  # q - p
    assert distilbert_loss(lacking, lacking, hidden, hidden, label, **soft).item() == pytest.approx(0.0, abs=1e-7)
    assert distilbert_loss(lacking, fair, hidden, hidden, label, **soft).item() == math.inf


def test_the_soft_term_at_a_high_temperature_is_that_of_float64() -> None:
    soft = {"hard_weight": 0.0, "hidden_weight": 0.0, "soft_weight": 1.0}
    single = [x.float() for x in (STUDENT, TEACHER, HIDDEN, TARGET)]
    for temperature in (33.0, 1e4, 1e6):
        found = distilbert_loss(*single, LABELS, temperature=temperature, **soft)
        expected = distilbert_loss(*(x.double() for x in single), LABELS, temperature=temperature, **soft)
        assert found.dtype == torch.float32
        assert_close(found.double(), expected, rtol=1e-4, atol=0)


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


# Bad input ------------------------------------------------------------------------------------------------------------


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"same shape, got \(3, 4, 6\) and \(3, 4, 5\)"):
        cosine_hidden_loss(HIDDEN, TARGET[..., :5])
    for pair in ((HIDDEN.long(), TARGET), (HIDDEN, TARGET.long())):
        with pytest.raises(TypeError, match=r"_hidden must be floating point \(\.\.\., D\), got torch\.int64"):
            cosine_hidden_loss(*pair)
    with pytest.raises(TypeError, match=r"mask must be a bool tensor \(3, 4\), one per token, got torch\.int64"):
        cosine_hidden_loss(HIDDEN, TARGET, mask=MASK.long())
    with pytest.raises(
        ValueError, match=r"mask must be a bool tensor \(3, 4\), one per token, got torch\.bool \(3, 3\)"
    ):
        cosine_hidden_loss(HIDDEN, TARGET, mask=MASK[:, :3])
    with pytest.raises(ValueError, match="batch is empty"):
        cosine_hidden_loss(HIDDEN[:0], TARGET[:0])
    inputs = (STUDENT, TEACHER, HIDDEN, TARGET)
    with pytest.raises(ValueError, match="batch is empty"):
        distilbert_loss(*(x[:0] for x in inputs), LABELS[:0])
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {temperature}"):
            distilbert_loss(*inputs, LABELS, temperature=temperature)
    for pair in ((STUDENT[:, :1], TEACHER), (STUDENT, TEACHER[:1])):  # which would broadcast
        with pytest.raises(ValueError, match=r"both logits must be \(\.\.\., V\), got"):
            distilbert_loss(*pair, HIDDEN, TARGET, LABELS[:, : pair[0].shape[1]])
    with pytest.raises(TypeError, match=r"labels must be int64 \(3, 4\), got torch\.int32"):
        distilbert_loss(*inputs, LABELS.int())
    with pytest.raises(ValueError, match=r"labels must be int64 \(3, 4\), got torch\.int64 \(3, 3\)"):
        distilbert_loss(*inputs, LABELS[:, :3])
    for label in (5, -1):
        with pytest.raises(ValueError, match=rf"labels must be in \[0, 5\), got {label}: -100 is no label"):
            distilbert_loss(*inputs, torch.full_like(LABELS, label))
    for name in ("soft_weight", "hard_weight", "hidden_weight"):
        for weight in (-1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match=rf"{name} must be 0 or more and finite, got {weight}"):
                distilbert_loss(*inputs, LABELS, **{name: weight})
