"""Text with a watermark teaches a student the watermark: how much of it must the student have read? On bigram models.

After Sander et al. 2024. A teacher that learnt from film reviews writes text, some of it marked with the owner's key. A
student learns from that text, and writes; the owner tests what it writes, each pair of words once. Controls: a student
of unmarked text, one of people's text that never met the teacher, and other keys. Against it: other writers replace
some of the words, and the text of two owners is mixed. Lesson: notebooks/16_provenance.ipynb.
"""

import functools
import math

import torch
from scipy.stats import binom
from torch import Tensor

from kdref.lab.experiments._provenance_text import VOCABULARY, count, marked, measured, pairs, paraphrased, words, write
from kdref.provenance import green_list, watermark_p_value

READ = 100_000  # words that a student learns from
WRITTEN = (500, 2000, 10_000)  # words of the student's that the owner tests
KEYS = 40  # other keys, for false alarms
ARMS = (
    "people's text",
    "marked: 0 %",
    "marked: 5 %",
    "marked: 20 %",
    "marked: 100 %",
    "another key: 100 %",
    "half of two owners'",
    "marked: 100 %, half replaced",
    "marked: 100 %, all replaced",
)


@functools.lru_cache(maxsize=1)
def teacher() -> Tensor:
    """It has counted the first half of the reviews."""
    return count(_halves()[0])


@functools.lru_cache(maxsize=1)
def paraphraser() -> Tensor:
    """It has counted the second half, and knows no key."""
    return count(_halves()[1])


def _halves() -> tuple[Tensor, Tensor]:
    text = words().train
    return text[: len(text) // 2], text[len(text) // 2 :]


def key_of(seed: int) -> int:
    """The owner's key."""
    return 16_000_000 + seed


def read(seed: int, arm: str) -> Tensor:
    """The text that a student learns from."""
    if arm == "people's text":
        return _halves()[1]
    mark, other = marked(teacher(), key_of(seed)), marked(teacher(), key_of(seed) + 1_000_000)
    plain, theirs, foreign = (
        write(model, READ, seed=part + seed) for part, model in enumerate((teacher(), mark, other), start=1)
    )
    if arm == "another key: 100 %":
        return foreign
    if arm == "half of two owners'":
        return torch.cat([theirs[::2], foreign[::2]])
    if arm.endswith("replaced"):
        return paraphrased(theirs, paraphraser(), 1.0 if "all" in arm else 0.5, seed=4 + seed)
    number = round(float(arm.split()[1]) / 100 * len(plain))
    return torch.cat([theirs[:number], plain[number:]])


def alarms(text: Tensor, seed: int) -> dict[str, float]:
    """How often one of the keys that nobody used gives p ≤ 0.05: each pair once, and counting what is repeated."""
    word, before = pairs(text)
    found = {"alarms": 0.0, "alarms_repeated": 0.0}
    for key in range(key_of(seed) + 2_000_000, key_of(seed) + 2_000_000 + KEYS):
        once = watermark_p_value(word, before, vocabulary=VOCABULARY, key=key).item()
        hits = int(green_list(torch.arange(VOCABULARY), vocabulary=VOCABULARY, key=key)[before, word].sum())
        found["alarms"] += (once <= 0.05) / KEYS
        found["alarms_repeated"] += float(binom.sf(hits - 1, len(word), 0.5) <= 0.05) / KEYS
    return found


def run(seed: int, arm: str) -> dict[str, float]:
    student = count(read(seed, arm))
    text = write(student, max(WRITTEN), seed=10 + seed)
    found = measured(student, words().test)
    for number in WRITTEN:
        word, before = pairs(text[: number // (text.shape[1] - 1)])
        p = watermark_p_value(word, before, vocabulary=VOCABULARY, key=key_of(seed)).item()
        found[f"log10_p_{number}"] = math.log10(max(p, 1e-300))
    if arm in ("people's text", "marked: 0 %"):
        found |= alarms(text[:20], seed)
    return found
