"""The watermark: lists that the key alone knows, the bonus, and the exact test."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from torch import Tensor
from torch.testing import assert_close

from kdref import provenance
from kdref.provenance import green_list, watermark_logits, watermark_p_value
from tests import checks

V, KEY = 50, 15485863


def hash_32(x: int) -> int:
    for _ in range(2):
        x = (x ^ (x // 65536)) * 73244475 % 2**32
    return x ^ (x // 65536)


def listed(previous: int, vocabulary: int, size: int, key: int) -> list[int]:
    """The words with the smallest hashes, by sorting plain whole numbers."""
    secret = hash_32(hash_32((key % 2**32) ^ 2654435769) ^ (key // 2**32))
    context = hash_32(secret ^ previous)
    return sorted(sorted(range(vocabulary), key=lambda word: hash_32(context ^ hash_32(word)))[:size])


def tail(hits: int, trials: int, share: Fraction) -> Fraction:
    terms = (math.comb(trials, i) * share**i * (1 - share) ** (trials - i) for i in range(hits, trials + 1))
    return sum(terms, Fraction(0))


def written(length: int, *, strength: float, seed: int, key: int = KEY, vocabulary: int = V) -> Tensor:
    """A text whose writer has no preference but the watermark's."""
    generator, text = torch.Generator().manual_seed(seed), torch.zeros(1, dtype=torch.int64)
    for _ in range(length):
        logits = watermark_logits(torch.zeros(1, vocabulary), text[-1:], strength=strength, key=key)
        text = torch.cat([text, torch.multinomial(logits.softmax(-1), 1, generator=generator)[0]])
    return text


def p_value(text: Tensor, *, vocabulary: int = V, fraction: float = 0.5, key: int = KEY) -> float:
    return watermark_p_value(text[1:], text[:-1], vocabulary=vocabulary, fraction=fraction, key=key).item()


@given(st.integers(2, 60), st.floats(0.05, 0.95), st.integers(0, 2**64 - 1), st.integers(0, 59))
def test_the_list_matches_the_definition(vocabulary: int, fraction: float, key: int, word: int) -> None:
    word, size = word % vocabulary, math.floor(fraction * vocabulary + 1e-9)
    if size > 0:
        found = green_list(torch.tensor(word), vocabulary=vocabulary, fraction=fraction, key=key)
        assert found.nonzero().flatten().tolist() == listed(word, vocabulary, size, key)


def test_a_text_marked_today_is_found_tomorrow() -> None:
    """Lists may never change: these were worked out by ``listed`` and written down."""
    assert listed(2, 6, 3, 7) == [0, 3, 4]
    assert green_list(torch.tensor(2), vocabulary=6, key=7).tolist() == [True, False, False, True, True, False]


def test_lists_are_as_long_as_the_fraction_says_rounded_down() -> None:
    words = torch.arange(5)
    for vocabulary, fraction, size in ((5, 0.5, 2), (100, 0.29, 29), (50, 0.25, 12), (7, 0.99, 6), (1000, 0.001, 1)):
        green = green_list(words, vocabulary=vocabulary, fraction=fraction, key=KEY)
        assert green.shape == (5, vocabulary)
        assert green.sum(-1).tolist() == [size] * 5


def test_a_list_hangs_on_nothing_but_key_and_word() -> None:
    words = torch.arange(12).reshape(3, 4)
    before = torch.random.get_rng_state()
    together = green_list(words, vocabulary=V, key=KEY)
    assert together.dtype == torch.bool
    for i, row in enumerate(words):
        for j, word in enumerate(row):
            assert (green_list(word, vocabulary=V, key=KEY) == together[i, j]).all()
    assert (green_list(words.T.flip(0), vocabulary=V, key=KEY) == together.transpose(0, 1).flip(0)).all()
    assert (torch.random.get_rng_state() == before).all(), "the global generator was used"


def test_over_keys_each_word_is_green_as_often_as_the_fraction_says() -> None:
    words = torch.arange(12)
    counts = torch.stack([green_list(words, vocabulary=12, fraction=0.25, key=key) for key in range(1000)]).sum(0)
    deviations = (counts - 250) / math.sqrt(1000 * 0.25 * 0.75)
    assert deviations.abs().max() < 4.5, "a word is green too often or too seldom after some word"
    assert 0.8 < deviations.std() < 1.2


def test_lists_after_two_words_and_under_two_keys_have_nothing_to_do_with_each_other() -> None:
    words = torch.arange(200)
    first, second = (green_list(words, vocabulary=200, key=key) for key in (1, 2))
    for one, other in ((first[:-1], first[1:]), (first, second), (first[1:3], second[[2, 1]]), (first, first.T)):
        agreement = (one == other).double().mean()
        assert (agreement - 0.5).abs() < 5 * 0.5 / math.sqrt(one.numel()) + 0.005
    for word in range(5):  # not after the word 0 either, where a product of key and word is 0
        assert 0.3 < (first[word] == second[word]).double().mean() < 0.7


def test_green_words_get_the_bonus_and_others_nothing() -> None:
    words = torch.tensor([3, 8, 3])
    logits = checks.randn(3, V, seed=1)
    kept = logits.clone()
    marked = watermark_logits(logits, words, strength=1.5, fraction=0.3, key=KEY)
    for row, word in enumerate(words.tolist()):
        green = listed(word, V, 15, KEY)
        for v in range(V):
            assert marked[row, v].item() == pytest.approx(kept[row, v].item() + (1.5 if v in green else 0.0))
    assert (logits == kept).all(), "the logits were changed in place"
    assert (watermark_logits(logits, words, strength=0.0, key=KEY) == kept).all()


def test_the_share_of_green_words_grows_as_the_formula_says() -> None:
    logits, word = checks.randn(1, V, seed=2, scale=2.0), torch.tensor([4])
    before = (logits.softmax(-1) * green_list(word, vocabulary=V, fraction=0.25, key=KEY)).sum()
    marked = watermark_logits(logits, word, strength=2.0, fraction=0.25, key=KEY)
    after = (marked.softmax(-1) * green_list(word, vocabulary=V, fraction=0.25, key=KEY)).sum()
    assert_close(after, math.exp(2) * before / (math.exp(2) * before + 1 - before))
    certain = watermark_logits(torch.tensor([[1e4] + [0.0] * 49]), word, key=KEY).softmax(-1)
    assert_close(certain[0, 0].item(), 1.0)


def test_one_bonus_goes_to_the_student_unchanged() -> None:
    words = torch.tensor([3, 8])
    checks.check_gradient(lambda z: provenance.watermark_logits(z, words, key=KEY), checks.randn(2, 9, seed=3))
    for dtype in (*checks.DTYPES, torch.float64):
        logits = checks.randn(2, 9, seed=3, scale=1e4).to(dtype)
        marked = watermark_logits(logits, words, key=KEY)
        assert marked.dtype == dtype
        assert marked.isfinite().all()


def test_p_values_known_by_hand() -> None:
    """Green after 2: 0, 3, 4; after 0: 0, 2, 4; after 3: 0, 2, 5 (six words, key 7)."""

    def of(*pairs: tuple[int, int]) -> float:
        previous, words = torch.tensor(pairs).T
        return watermark_p_value(words, previous, vocabulary=6, fraction=0.5, key=7).item()

    assert of((2, 0)) == pytest.approx(1 / 2)
    assert of((2, 1)) == pytest.approx(1)
    assert of((2, 0), (0, 4), (3, 2)) == pytest.approx(1 / 8)
    assert of((2, 0), (0, 4), (3, 1)) == pytest.approx((3 + 1) / 8)
    assert of((2, 0), (2, 0), (2, 0), (0, 4)) == pytest.approx(1 / 4)  # a pair counts once


def test_the_p_value_is_the_exact_tail_of_the_binomial() -> None:
    for seed, (vocabulary, fraction, length) in enumerate(
        ((50, 0.5, 1), (50, 0.25, 40), (11, 0.5, 30), (400, 0.1, 300))
    ):
        text = torch.randint(vocabulary, (length + 1,), generator=torch.Generator().manual_seed(seed))
        size = math.floor(fraction * vocabulary)
        pairs = set(zip(text[:-1].tolist(), text[1:].tolist(), strict=True))
        hits = sum(word in listed(previous, vocabulary, size, KEY) for previous, word in pairs)
        exact = float(tail(hits, len(pairs), Fraction(size, vocabulary)))
        found = p_value(text, vocabulary=vocabulary, fraction=fraction)
        assert found == pytest.approx(exact, rel=1e-9)
        assert found == pytest.approx(stats.binom.sf(hits - 1, len(pairs), size / vocabulary), rel=1e-9)
        assert found == pytest.approx(special.betainc(hits, 1 + len(pairs) - hits, size / vocabulary), rel=1e-9)


def test_the_share_is_that_of_the_list_and_not_the_one_asked_for() -> None:
    green = listed(3, 5, 2, KEY)  # half of five words are two
    found = watermark_p_value(torch.tensor(green[:1]), torch.tensor([3]), vocabulary=5, fraction=0.5, key=KEY)
    assert_close(found.item(), 2 / 5)


def test_order_and_repeats_of_pairs_mean_nothing() -> None:
    text = written(60, strength=1.0, seed=4)
    previous, words = text[:-1], text[1:]
    order = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    whole = watermark_p_value(words, previous, vocabulary=V, fraction=0.5, key=KEY)
    settings = {"vocabulary": V, "fraction": 0.5, "key": KEY}
    assert_close(watermark_p_value(words[order], previous[order], **settings), whole, rtol=0, atol=0)
    assert_close(watermark_p_value(words.repeat(5), previous.repeat(5), **settings), whole, rtol=1e-9, atol=0)
    assert_close(watermark_p_value(words.reshape(3, 20), previous.reshape(3, 20), **settings), whole, rtol=0, atol=0)


def test_what_the_mask_leaves_out_does_not_count_whatever_it_is() -> None:
    text = written(40, strength=1.0, seed=6)
    settings = {"vocabulary": V, "fraction": 0.5, "key": KEY}
    mask = torch.arange(40) % 3 > 0
    spoiled, before = text[1:].masked_fill(~mask, -100), text[:-1].masked_fill(~mask, 10**6)
    found = watermark_p_value(spoiled, before, mask=mask, **settings)
    assert_close(found, watermark_p_value(text[1:][mask], text[:-1][mask], **settings), rtol=1e-12, atol=0)
    assert watermark_p_value(text[1:], text[:-1], mask=mask & False, **settings).item() == 1
    none = torch.zeros(0, dtype=torch.int64)
    assert watermark_p_value(none, none, **settings).item() == 1


def test_who_does_not_know_the_key_seldom_has_a_small_p_value() -> None:
    """Over 2,000 keys, with a text that repeats itself: below α in at most α of them, up to chance."""
    once = torch.randint(300, (40,), generator=torch.Generator().manual_seed(7))
    text = torch.cat([once] * 6)
    found = torch.tensor([p_value(text, vocabulary=300, key=key) for key in range(2000)])
    for level in (0.01, 0.05, 0.25, 0.5):
        share = (found <= level).double().mean().item()
        noise = 4 * math.sqrt(level * (1 - level) / 2000)
        assert share < level + noise, f"{share} of the p-values are below {level}"
    assert (found <= 0.5).double().mean() > 0.35  # and it is not so cautious that it never says anything


def test_a_marked_text_is_found_with_its_key_and_its_fraction_only() -> None:
    marked, plain = (written(200, strength=strength, seed=8) for strength in (2.0, 0.0))
    assert p_value(marked) < 1e-20
    assert p_value(plain) > 0.01
    assert p_value(marked, key=KEY + 1) > 0.01
    assert p_value(marked[:60]) > p_value(marked)
    assert p_value(written(200, strength=1.0, seed=8)) > p_value(marked)


def test_all_green_is_the_share_to_the_power_of_the_pairs_down_to_where_floats_end() -> None:
    every = green_list(torch.arange(40), vocabulary=40, fraction=0.5, key=KEY).nonzero()  # 800 pairs, all green
    settings = {"vocabulary": 40, "fraction": 0.5, "key": KEY}
    assert_close(watermark_p_value(every[:, 1], every[:, 0], **settings).log2().item(), -800.0)
    rows = torch.cartesian_prod(torch.arange(40), torch.arange(40))  # and with all others it is as it must be: half
    half = watermark_p_value(rows[:, 1], rows[:, 0], **settings)
    assert half.item() == pytest.approx(stats.binom.sf(799, 1600, 0.5), rel=1e-9)


def test_a_long_text_needs_no_more_than_one_list_a_word() -> None:
    text = torch.randint(2000, (20_001,), generator=torch.Generator().manual_seed(9))
    found = p_value(text, vocabulary=2000)
    green = green_list(torch.arange(2000), vocabulary=2000, fraction=0.5, key=KEY)
    pairs = torch.unique(torch.stack([text[:-1], text[1:]]), dim=1)
    hits = green[pairs[0], pairs[1]].sum().item()
    assert found == pytest.approx(stats.binom.sf(hits - 1, pairs.shape[1], 0.5), rel=1e-8)


def test_a_large_vocabulary_is_gone_through_in_parts() -> None:
    text = torch.randint(2**19, (21,), generator=torch.Generator().manual_seed(14))  # eight lists at a time
    green = [green_list(before, vocabulary=2**19, key=KEY)[word].item() for before, word in itertools.pairwise(text)]
    assert p_value(text, vocabulary=2**19) == pytest.approx(float(tail(sum(green), 20, Fraction(1, 2))), rel=1e-9)


def test_a_student_of_marked_text_carries_the_mark() -> None:
    """Its knowledge is how often a word follows another, counted in a text; its own text has other pairs."""
    for strength, low, high in ((2.0, 0.0, 1e-6), (0.0, 1e-3, 1.0)):
        text = written(6000, strength=strength, seed=10)
        counts = torch.zeros(V, V).index_put_((text[:-1], text[1:]), torch.ones(len(text) - 1), accumulate=True)
        generator, own = torch.Generator().manual_seed(11), [0]
        for _ in range(300):
            own.append(int(torch.multinomial(counts[own[-1]] + 0.01, 1, generator=generator)))
        assert low <= p_value(torch.tensor(own)) <= high


def test_list_bonus_and_test_compile_to_one_graph() -> None:
    words, logits = torch.tensor([3, 8, 3]), checks.randn(3, V, seed=12, dtype=torch.float32)
    checks.check_compiles(lambda z: provenance.watermark_logits(z, words, key=KEY), logits)
    test = torch.compile(
        lambda v, u: provenance.watermark_p_value(v, u, vocabulary=V, key=KEY), fullgraph=True, backend="aot_eager"
    )
    text = written(80, strength=1.0, seed=13)
    assert_close(test(text[1:], text[:-1]).item(), p_value(text))
