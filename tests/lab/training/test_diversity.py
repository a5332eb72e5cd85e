"""Diversity: shares counted by hand, and self-BLEU against its definition in plain loops."""

import math

import pytest
import torch
from torch import Tensor

from kdref.lab.training.diversity import distinct_n_grams, self_bleu

NOTHING = 0


def padded(*texts: list[int]) -> tuple[Tensor, Tensor]:
    """Rows and mask of texts of unequal length."""
    longest = max(map(len, texts))
    rows = torch.tensor([[*text, *[NOTHING] * (longest - len(text))] for text in texts])
    return rows, rows != NOTHING


def count(text: list[int], gram: list[int]) -> int:
    return sum(text[i : i + len(gram)] == gram for i in range(len(text)))


def bleu(text: list[int], references: list[list[int]]) -> float:
    """From the definition: clipped counts, a brevity penalty by the nearest length."""
    logarithms = 0.0
    for n in range(1, 5):
        grams = [text[i : i + n] for i in range(len(text) - n + 1)]
        matched, seen = 0, []
        for gram in grams:
            if gram not in seen:
                seen.append(gram)
                matched += min(count(text, gram), max(count(other, gram) for other in references))
        logarithms += math.log((matched if matched else 0.1) / max(len(grams), 1))
    shortest = [other for other in references if abs(len(other) - len(text)) == gap(text, references)]
    nearest = min(map(len, shortest))
    return min(1.0, math.exp(1 - nearest / len(text))) * math.exp(logarithms / 4)


def gap(text: list[int], references: list[list[int]]) -> int:
    return min(abs(len(other) - len(text)) for other in references)


def test_distinct_shares_are_those_counted_by_hand() -> None:
    rows, mask = padded([1, 2, 1, 2, 3], [1, 2, 4])
    # 12, 21, 12, 23 and 12, 24: four kinds among six; single tokens: four kinds among eight
    assert distinct_n_grams(rows, mask, 2) == pytest.approx(4 / 6)
    assert distinct_n_grams(rows, mask, 1) == pytest.approx(4 / 8)
    # 121, 212, 123 and 124
    assert distinct_n_grams(rows, mask, 3) == 1
    assert distinct_n_grams(rows, mask, 6) == 0


def test_no_n_gram_reaches_from_one_text_to_the_next_or_into_the_padding() -> None:
    rows, mask = padded([1, 2], [1, 2, 3])
    assert distinct_n_grams(rows, mask, 2) == pytest.approx(2 / 3)
    assert distinct_n_grams(rows[:1], mask[:1], 3) == 0


def test_self_bleu_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    for vocabulary in (2, 4, 30):
        texts = [
            torch.randint(1, vocabulary + 1, (int(length),), generator=generator).tolist()
            for length in torch.randint(1, 12, (9,), generator=generator)
        ]
        expected = sum(bleu(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)) / len(texts)
        assert self_bleu(*padded(*texts)) == pytest.approx(expected, rel=1e-12)


def test_a_known_value_of_self_bleu() -> None:
    # 12345 has 4 of its 5 tokens in 12346, 3 of its 4 pairs, 2 of 3 triples, 1 of 2 fours; and the other way round
    rows, mask = padded([1, 2, 3, 4, 5], [1, 2, 3, 4, 6])
    assert self_bleu(rows, mask) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_equal_texts_are_as_like_as_can_be_and_strange_ones_hardly() -> None:
    same, mask = padded([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    assert self_bleu(same, mask) == pytest.approx(1)
    strange, mask = padded([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    assert self_bleu(strange, mask) < 0.05


def test_order_of_texts_and_what_stands_in_the_padding_do_not_matter() -> None:
    rows, mask = padded([1, 2, 1, 2, 3], [1, 2, 4], [2, 1, 2, 2])
    other = rows.masked_fill(~mask, 1).flip(0)
    for measure in (distinct_n_grams, self_bleu):
        assert measure(other, mask.flip(0)) == pytest.approx(measure(rows, mask))


def test_an_empty_text_counts_as_nothing() -> None:
    rows, mask = padded([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    mask[1] = False
    assert 0 < self_bleu(rows, mask) < 0.5
    assert distinct_n_grams(rows, mask, 2) == 1


def test_bad_input_is_named() -> None:
    rows, mask = padded([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"must both be \(N, L\), got \(2, 3\) and \(2, 2\)"):
        distinct_n_grams(rows, mask[:, :2])
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        distinct_n_grams(rows, mask, 0)
    with pytest.raises(ValueError, match="needs two, got 1"):
        self_bleu(rows[:1], mask[:1])
