"""Students with pieces of their own: the same bytes on both sides, what each arm learns from, and bits per byte."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.data.sentences import snippets
from kdref.lab.experiments import _writing_tokenisers as shared
from kdref.lab.experiments import load, store, writing_tokenisers, writing_tokenisers_tuning
from kdref.lab.experiments._writing import says
from kdref.lab.models import count_parameters, writer
from kdref.lab.models.causal_transformer import CausalTransformer
from tests import checks

TEXTS = [
    "The film is good .",
    "A naïve 猫 in a café — twice , and then again ; and so on until nothing more fits in .",
    "",
]
FEW = 30
NUMBERS = torch.tensor([4, 0, 17])


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few sentences and steps; what a process keeps is forgotten before and after."""
    kept = (shared.part, shared.teachers_text, shared.spans, shared.said)
    shared.tokeniser()  # of all the sentences
    for name, number in (("SENTENCES", FEW), ("JUDGED", FEW), ("STEPS", 60)):
        monkeypatch.setattr(shared, name, number)
    for function in kept:
        function.cache_clear()
    yield
    for function in kept:
        function.cache_clear()


def logits_for(texts: shared.Texts, words: int, numbers: Tensor = NUMBERS) -> Tensor:
    return checks.randn(len(numbers), texts.ends.shape[1], words, seed=3, dtype=torch.float32)


def spans_by_hand(number: int) -> list[tuple[list[int], list[int]]]:
    """Tokens of student and teacher between neighbouring ends that both have."""
    student, teacher = ([end for end in side.ends[number].tolist() if end >= 0] for side in shared.part("train"))
    shared_ends = sorted(set(student) & set(teacher))
    return [
        ([i for i, end in enumerate(student) if a < end <= b], [i for i, end in enumerate(teacher) if a < end <= b])
        for a, b in zip([0, *shared_ends[:-1]], shared_ends, strict=True)
    ]


def test_the_students_tokeniser_is_another_one_that_writes_every_text() -> None:
    own, theirs = shared.tokeniser(), writer.tokeniser()
    assert own.get_vocab_size() == shared.VOCABULARY != writer.VOCABULARY == theirs.get_vocab_size()
    assert own.id_to_token(writer.END) == "<end>"
    pieces, others = set(own.get_vocab()), set(theirs.get_vocab())
    assert pieces - others
    assert others - pieces
    for text in (*TEXTS, "<end>", *snippets().test.texts[:50]):
        assert own.decode(own.encode(text).ids) == text
        assert writer.END not in own.encode(text).ids


def test_both_sides_read_the_same_bytes_up_to_the_last_word_that_fits() -> None:
    student, teacher = shared.both_sides(TEXTS, [True] * len(TEXTS))
    assert torch.equal(student.ends.amax(1), teacher.ends.amax(1))
    for side, cutter in ((student, shared.tokeniser()), (teacher, writer.tokeniser())):
        for row, ends, text in zip(side.rows.tolist(), side.ends.tolist(), TEXTS, strict=True):
            content, kept = text.encode(), [end for end in ends if end >= 0]
            assert row[0] == writer.END
            assert ends == [*kept, *[-1] * (len(ends) - len(kept))]
            pieces = row[1 : 1 + len(kept)]
            if pieces and pieces[-1] == writer.END:
                assert kept.pop() == len(content) + 1
                pieces.pop()
                assert cutter.decode(pieces) == text
            else:
                read = cutter.decode(pieces)
                assert text.startswith(read + " ")
            lengths = [len(cutter.id_to_token(piece)) for piece in pieces]
            assert kept == torch.tensor(lengths).cumsum(0).tolist()
            assert row[1 + len(ends) :] == []
    ended = [(side.rows[:, 1:] == writer.END) & (side.ends >= 0) for side in (student, teacher)]
    assert ended[0].any(1).tolist() == ended[1].any(1).tolist() == [True, False, True]


def test_a_text_that_is_not_whole_has_no_end() -> None:
    for side in shared.both_sides(["The film is good"], [False]):
        assert not ((side.rows[:, 1:] == writer.END) & (side.ends >= 0)).any()
        assert side.ends.max().item() == len("The film is")


def test_a_students_sentences_are_the_first_ones_and_all_arms_of_a_seed_begin_alike() -> None:
    student, teacher = shared.part("train")
    assert len(student.rows) == len(teacher.rows) == FEW
    assert shared.tokeniser().decode(student.rows[0, 1:8].tolist()) in snippets().train.texts[0]
    models = [CausalTransformer(shared.VOCABULARY, length=shared.LENGTH, seed=1, **writer.STUDENT) for _ in range(2)]
    assert torch.equal(models[0].scores.weight, models[1].scores.weight)
    assert count_parameters(models[0]) < count_parameters(writer.teacher()) / 3


def test_labels_are_the_mean_over_the_tokens_that_are_there() -> None:
    student, _ = shared.part("train")
    rows, ends = student.rows[NUMBERS], student.ends[NUMBERS]
    logits = logits_for(student, shared.VOCABULARY)
    values = []
    for row, places, scores in zip(rows[:, 1:].tolist(), ends.tolist(), logits.tolist(), strict=True):
        kept = [(token, one) for token, end, one in zip(row, places, scores, strict=True) if end >= 0]
        values += [-math.log(checks.softmax(one)[token]) for token, one in kept]
    loss = shared.cross_entropy(student)(logits, NUMBERS, rows)
    assert loss.item() == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_matching_compares_the_probabilities_of_spans_between_shared_boundaries() -> None:
    student, teacher = shared.part("train")
    rows, logits = student.rows[NUMBERS], logits_for(student, shared.VOCABULARY)
    own = logits.log_softmax(-1).gather(-1, rows[:, 1:, None])[..., 0]
    with torch.no_grad():
        read = teacher.rows[NUMBERS]
        judged = writer.teacher()(read[:, :-1]).log_softmax(-1).gather(-1, read[:, 1:, None])[..., 0]
    values = []
    for i, number in enumerate(NUMBERS.tolist()):
        for of_student, of_teacher in spans_by_hand(number):
            q, p = (
                math.exp(x[i, places].sum().item() / 100) for x, places in ((own, of_student), (judged, of_teacher))
            )
            values.append(checks.kl([p, 1 - p], [q, 1 - q]))
    loss = shared.matching(logits, NUMBERS, rows)
    assert loss.item() == pytest.approx(sum(values) / len(values), rel=1e-3)


def test_sorted_probabilities_are_compared_where_both_have_read_the_same_bytes() -> None:
    student, teacher = shared.part("train")
    logits = logits_for(student, shared.VOCABULARY)
    with torch.no_grad():
        judged = writer.teacher()(teacher.rows[NUMBERS][:, :-1])
    values = []
    for i, number in enumerate(NUMBERS.tolist()):
        for of_student, of_teacher in spans_by_hand(number):
            q, p = (
                x[i, places[0]].softmax(-1).sort(descending=True).values
                for x, places in ((logits, of_student), (judged, of_teacher))
            )
            values.append((q - F.pad(p, (0, len(q) - len(p)))).abs().sum().item())
    assert shared.sorted_probabilities(logits, NUMBERS, student.rows[NUMBERS]).item() == pytest.approx(
        sum(values) / len(values), rel=1e-4
    )


def test_forward_is_zero_for_the_teacher_itself() -> None:
    _, teacher = shared.part("train")
    logits = says(writer.teacher(), teacher.rows[NUMBERS])
    assert shared.forward(logits, NUMBERS, teacher.rows[NUMBERS]).item() == pytest.approx(0, abs=1e-6)
    assert shared.forward(logits.flip(-1), NUMBERS, teacher.rows[NUMBERS]) > 1


def test_the_teachers_text_is_as_many_texts_as_a_student_reads_and_each_is_another() -> None:
    student, teacher = shared.teachers_text()
    assert len(student.rows) == len(teacher.rows) == 60 * 16
    assert torch.equal(student.ends.amax(1), teacher.ends.amax(1))
    assert len(student.rows.unique(dim=0)) > 900


def test_bits_per_byte_of_a_model_that_knows_nothing_are_counted_by_hand() -> None:
    fair = CausalTransformer(shared.VOCABULARY, length=shared.LENGTH, seed=0, **writer.STUDENT).eval()
    torch.nn.init.zeros_(fair.scores.weight)
    torch.nn.init.zeros_(fair.scores.bias)
    student, _ = shared.both_sides(["The film is good ."], [True])
    tokens, length = len(shared.tokeniser().encode("The film is good .").ids) + 1, len("The film is good .") + 1
    assert shared.bits_per_byte(fair, student) == pytest.approx(
        tokens * math.log2(shared.VOCABULARY) / length, rel=1e-5
    )


@pytest.mark.parametrize("way", shared.WAYS)
def test_a_student_learns_by_every_way_and_again_by_the_same_seed(way: str) -> None:
    (model, found), (again, _) = (
        shared.student(1, way, rate=0.01, weight=1.0 if way in shared.WEIGHTED else 0.0) for _ in range(2)
    )
    words = writer.VOCABULARY if way in (shared.SAME_LABELS, shared.SAME_FORWARD) else shared.VOCABULARY
    new = CausalTransformer(words, length=shared.LENGTH, seed=1, **writer.STUDENT).eval()
    assert found["learned"] < shared.validated(new) - 0.3
    assert torch.equal(model.scores.weight, again.scores.weight)
    assert found["seconds"] > 0
    assert 16 * 30 < found["bytes"] < 16 * 90


def test_a_weight_of_zero_is_labels_alone() -> None:
    plain, _ = shared.student(1, shared.LABELS, rate=0.01)
    for way in shared.WEIGHTED:
        model, _ = shared.student(1, way, rate=0.01, weight=0.0)
        assert torch.equal(plain.scores.weight, model.scores.weight)


def test_rates_and_weights_were_chosen_inside_their_grids() -> None:
    runs = load("writing_tokenisers_tuning")
    assert set(zip(runs["seed"], runs["arm"], strict=True)) == set(store.wanted("writing_tokenisers_tuning"))
    for way in shared.WAYS:
        rate, weight = writing_tokenisers_tuning.chosen(way)
        grid, value = writing_tokenisers_tuning.RATES, rate
        if way in shared.WEIGHTED:  # a weight of 0 is labels alone, at the same rate
            grid, value = (0.0, *writing_tokenisers_tuning.WEIGHTS[way]), weight
        assert min(grid) < value < max(grid), way
    assert writing_tokenisers_tuning.chosen(shared.LABELS)[0] == writing_tokenisers_tuning.RATE


def test_stored_runs_are_paired_and_of_seeds_that_chose_nothing() -> None:
    runs = load("writing_tokenisers")
    assert runs.groupby("arm")["seed"].nunique().eq(24).all()
    assert set(runs["arm"]) == set(writing_tokenisers.ARMS)
    assert not set(runs["seed"]) & set(writing_tokenisers_tuning.SEEDS)
