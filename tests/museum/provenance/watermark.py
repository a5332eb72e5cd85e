"""Wrong versions of the watermark and of its test."""

import math
from typing import Any

import torch
from torch import Tensor

from kdref import provenance
from tests.museum import exhibit

LIST, LOGITS, TEST = (
    f"kdref.provenance.watermark:{name}" for name in ("green_list", "watermark_logits", "watermark_p_value")
)
DEFINITION, LENGTH = "the_list_matches_the_definition", "lists_are_as_long_as_the_fraction_says_rounded_down"
APART = "lists_after_two_words_and_under_two_keys_have_nothing_to_do_with_each_other"
ALONE, OFTEN = (
    "a_list_hangs_on_nothing_but_key_and_word",
    "over_keys_each_word_is_green_as_often_as_the_fraction_says",
)
BONUS, FORMULA = "green_words_get_the_bonus_and_others_nothing", "the_share_of_green_words_grows_as_the_formula_says"
FOUND = "a_marked_text_is_found_with_its_key_and_its_fraction_only"
HAND, EXACT = "p_values_known_by_hand", "the_p_value_is_the_exact_tail_of_the_binomial"
REPEATS, MASK = "order_and_repeats_of_pairs_mean_nothing", "what_the_mask_leaves_out_does_not_count_whatever_it_is"
CHANCE = "who_does_not_know_the_key_seldom_has_a_small_p_value"
SHARE = "the_share_is_that_of_the_list_and_not_the_one_asked_for"
right_list, right_logits, right_test = provenance.green_list, provenance.watermark_logits, provenance.watermark_p_value


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/provenance/test_watermark.py::test_{test}" for test in tests)


def shuffled(previous_tokens: Tensor, vocabulary: int, size: int, seeds: Any, generator: Any) -> Tensor:
    """The first words of a permutation whose generator is seeded anew for each previous word."""
    green = torch.zeros(previous_tokens.numel(), vocabulary, dtype=torch.bool)
    for row, word in enumerate(previous_tokens.flatten().tolist()):
        generator(seeds(word) % 2**63)
        green[row, torch.randperm(vocabulary, generator=getattr(generator, "__self__", None))[:size]] = True
    return green.reshape(*previous_tokens.shape, vocabulary)


@exhibit(
    replaces=LIST,
    seen_in="jwkirchenbauer/lm-watermarking, watermark_processor.py: the seed is hash_key * prev_token",
    killed_by=killed_by(DEFINITION, APART),
)
def seeded_by_a_product(previous_tokens: Tensor, *, vocabulary: int, fraction: float = 0.5, key: int) -> Tensor:
    """After the word 0 every key has the same list, and key 6 after word 4 that of key 4 after word 6."""
    seed = torch.Generator().manual_seed
    return shuffled(previous_tokens, vocabulary, int(fraction * vocabulary), lambda word: key * word, seed)


@exhibit(
    replaces=LIST,
    seen_in="a likely slip: torch.manual_seed, whose generator is everybody's (and another on each kind of device: "
    "huggingface/transformers #37121)",
    killed_by=killed_by(DEFINITION, ALONE),
)
def seeds_the_global_generator(previous_tokens: Tensor, *, vocabulary: int, fraction: float = 0.5, key: int) -> Tensor:
    """Sampling starts again at each word, and on another device the lists are others."""
    return shuffled(previous_tokens, vocabulary, int(fraction * vocabulary), lambda word: key + word, torch.manual_seed)


@exhibit(
    replaces=LIST,
    seen_in="a likely slip: seeded by the key alone",
    killed_by=killed_by(DEFINITION, APART),
)
def one_list_for_all(previous_tokens: Tensor, *, vocabulary: int, fraction: float = 0.5, key: int) -> Tensor:
    """Whoever counts words sees which are preferred, and one is green in the whole of a text or never."""
    return right_list(previous_tokens * 0, vocabulary=vocabulary, fraction=fraction, key=key)


@exhibit(
    replaces=LIST,
    seen_in="a likely slip: for each word its own coin (a scheme of its own in vllm-project/vllm #56859)",
    killed_by=killed_by(DEFINITION, LENGTH),
)
def as_many_as_chance_will(previous_tokens: Tensor, *, vocabulary: int, fraction: float = 0.5, key: int) -> Tensor:
    """Lists of this fraction on average only: after some words there is nearly none, or nearly nothing else."""
    large = right_list(previous_tokens, vocabulary=1000, fraction=fraction, key=key)
    return (
        large[..., :vocabulary] if vocabulary <= 1000 else right_list(previous_tokens, vocabulary=vocabulary, key=key)
    )


@exhibit(
    replaces=LIST,
    seen_in="jwkirchenbauer/lm-watermarking #23: 50,265 words of the tokeniser and 50,272 logits",
    killed_by=killed_by(DEFINITION, OFTEN),
)
def the_tokenisers_words(previous_tokens: Tensor, *, vocabulary: int, fraction: float = 0.5, key: int) -> Tensor:
    """The model's last words are red for ever, and the list is shorter than the fraction says."""
    words = max(2, vocabulary - 1)
    green = right_list(
        previous_tokens.clamp(max=words - 1), vocabulary=words, fraction=max(fraction, 1.01 / words), key=key
    )
    return torch.nn.functional.pad(green, (0, vocabulary - words))


@exhibit(
    replaces=LIST,
    seen_in="jwkirchenbauer/lm-watermarking, watermark_processor.py: int(vocab_size * gamma)",
    killed_by=killed_by(LENGTH),
)
def rounds_what_is_not_quite_whole(
    previous_tokens: Tensor, *, vocabulary: int, fraction: float = 0.5, key: int
) -> Tensor:
    """29 hundredths of a hundred words are 28: 0.29 · 100 is 28.999999999999996."""
    size = int(fraction * vocabulary)
    return right_list(previous_tokens, vocabulary=vocabulary, fraction=(size + 0.5) / vocabulary, key=key)


@exhibit(
    replaces=LOGITS,
    seen_in="jwkirchenbauer/lm-watermarking, watermark_processor.py: scores[mask] = scores[mask] + bias",
    killed_by=killed_by(BONUS),
)
def changes_the_logits(
    logits: Tensor, previous_tokens: Tensor, *, strength: float = 2.0, fraction: float = 0.5, key: int
) -> Tensor:
    """What the model said is overwritten: used again, the words get their bonus twice."""
    green = right_list(previous_tokens, vocabulary=logits.shape[-1], fraction=fraction, key=key)
    logits[green] = logits[green] + strength
    return logits


@exhibit(
    replaces=LOGITS,
    seen_in="a likely slip: the bonus on probabilities",
    killed_by=killed_by(BONUS, FORMULA),
)
def bonus_on_probabilities(
    logits: Tensor, previous_tokens: Tensor, *, strength: float = 2.0, fraction: float = 0.5, key: int
) -> Tensor:
    """Words that the model deems impossible become as likely as all others on the list."""
    green = right_list(previous_tokens, vocabulary=logits.shape[-1], fraction=fraction, key=key)
    return (logits.softmax(-1) + strength * green).log()


@exhibit(
    replaces=LOGITS,
    seen_in="jwkirchenbauer/lm-watermarking: a mark from the other end of the permutation (select_green_tokens)",
    killed_by=killed_by(BONUS, FORMULA, FOUND),
)
def prefers_the_red(
    logits: Tensor, previous_tokens: Tensor, *, strength: float = 2.0, fraction: float = 0.5, key: int
) -> Tensor:
    """Marked text has a p-value of 1."""
    green = right_list(previous_tokens, vocabulary=logits.shape[-1], fraction=fraction, key=key)
    return torch.where(green, logits, logits + strength)


def pairs_of(tokens: Tensor, previous_tokens: Tensor, vocabulary: int, mask: Tensor | None) -> Tensor:
    pairs = (previous_tokens * vocabulary + tokens).flatten()
    return pairs if mask is None else pairs[mask.flatten()]


def counted(pairs: Tensor, vocabulary: int, fraction: float, key: int) -> tuple[int, int]:
    """Green pairs, and pairs."""
    words = torch.arange(vocabulary)
    green = right_list(words, vocabulary=vocabulary, fraction=fraction, key=key)[
        pairs // vocabulary, pairs % vocabulary
    ]
    return int(green.sum()), len(pairs)


def sum_of_terms(hits: int, trials: int, share: float) -> Tensor:
    terms = [math.comb(trials, i) * share**i * (1 - share) ** (trials - i) for i in range(hits, trials + 1)]
    return torch.tensor(min(1.0, sum(terms)), dtype=torch.float64)


def hang(count: Any, tail: Any, name: str, doc: str, seen_in: str, tests: tuple[str, ...]) -> None:
    """A test that counts pairs, or adds up the tail, in another way."""

    def wrong(
        tokens: Tensor,
        previous_tokens: Tensor,
        *,
        vocabulary: int,
        fraction: float = 0.5,
        key: int,
        mask: Tensor | None = None,
    ) -> Tensor:
        pairs = count(pairs_of(tokens, previous_tokens, vocabulary, mask), vocabulary)
        size = math.floor(fraction * vocabulary + 1e-9)
        found: Tensor = tail(*counted(pairs, vocabulary, fraction, key), size / vocabulary, fraction)
        return found

    wrong.__name__, wrong.__doc__ = name, doc
    exhibit(replaces=TEST, seen_in=seen_in, killed_by=killed_by(*tests))(wrong)


def z_score(hits: int, trials: int, share: float) -> float:
    return (hits - share * trials) / math.sqrt(max(trials, 1) * share * (1 - share))


def without_the_root(z: float) -> Tensor:
    return torch.tensor(1 - 0.5 * (1 + math.copysign(1 - math.exp(-2 * z**2 / math.pi), z)), dtype=torch.float64)


hang(
    lambda pairs, vocabulary: pairs.unique(),
    lambda hits, trials, share, asked: torch.tensor(
        0.5 * math.erfc(z_score(hits, trials, share) / math.sqrt(2))
    ).double(),
    "as_if_it_were_normal",
    "Three green words of three: 0.04 instead of 1/8. Short texts are accused thrice as often.",
    "jwkirchenbauer/lm-watermarking, watermark_processor.py: norm.sf of the z-score",
    (HAND, EXACT),
)
hang(
    lambda pairs, vocabulary: pairs.unique(),
    lambda hits, trials, share, asked: without_the_root(z_score(hits, trials, share)),
    "normal_without_the_root",
    "At one standard deviation it says 0.26 where the normal tail is 0.16.",
    "huggingface/transformers, generation/watermarking.py: a rational approximation without its square root; since "
    "mended",
    (HAND, EXACT),
)
hang(
    lambda pairs, vocabulary: pairs,
    lambda hits, trials, share, asked: sum_of_terms(hits, trials, share),
    "repeats_counted",
    "A text that repeats itself looks marked under many a key, whoever wrote it.",
    "huggingface/transformers, generation/watermarking.py: repeats sought among tensors, none of which equals another "
    "(since mended); vllm-project/vllm #54053 measured 15 to 44 % of false alarms on repetitive text",
    (HAND, REPEATS, CHANCE),
)
hang(
    lambda pairs, vocabulary: (
        torch.stack([p for i, p in enumerate(pairs) if p // vocabulary not in pairs[:i] // vocabulary])
        if len(pairs)
        else pairs
    ),
    lambda hits, trials, share, asked: sum_of_terms(hits, trials, share),
    "each_previous_word_once",
    "Most of the evidence is thrown away, and which of it hangs on the order.",
    "a likely slip: repeats of the previous word in place of repeats of the pair",
    (EXACT, FOUND),
)
hang(
    lambda pairs, vocabulary: pairs.unique(),
    lambda hits, trials, share, asked: sum_of_terms(hits + 1, trials, share),
    "more_than_so_many",
    "A text that is green throughout has a p-value of 0.",
    "a likely slip: 1 - cdf(hits), which leaves out the number itself",
    (HAND, EXACT, SHARE),
)
hang(
    lambda pairs, vocabulary: pairs.unique(),
    lambda hits, trials, share, asked: sum_of_terms(hits, trials, asked),
    "the_share_that_was_asked_for",
    "Half of eleven words are five: no text is as green as it expects.",
    "jwkirchenbauer/lm-watermarking, watermark_processor.py: gamma expected of a list of int(gamma * V) words",
    (SHARE, EXACT),
)
hang(
    lambda pairs, vocabulary: pairs.unique(),
    lambda hits, trials, share, asked: sum_of_terms(hits, trials, 0.25),
    "another_fraction",
    "Unmarked text of a mark with half of the words is found guilty.",
    "huggingface/text-generation-inference #2474: marked with 0.5, tested with the detector's 0.25",
    (HAND, EXACT),
)


@exhibit(
    replaces=TEST,
    seen_in="THU-BPM/MarkLLM #65: the prompt is tested with the answer",
    killed_by=killed_by(MASK),
)
def counts_the_prompt(
    tokens: Tensor, previous_tokens: Tensor, *, mask: Tensor | None = None, **settings: Any
) -> Tensor:
    """A student is convicted of the marked text that it was given to read, or saved by what others wrote."""
    most = settings["vocabulary"] - 1
    return right_test(tokens.clamp(0, most), previous_tokens.clamp(0, most), **settings)
