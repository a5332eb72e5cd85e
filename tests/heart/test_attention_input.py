"""Losses on attention: what people hand to them, besides two tensors that fit."""

import math
from dataclasses import replace

import pytest
import torch

from kdref import attention
from tests import inner
from tests.inner import Call

MAPS = [Call(attention, "attention_map", "f"), Call(attention, "attention_transfer_loss", "ff")]
TOKENS = [
    Call(attention, name, "aam", how=lambda s, t, m, name=name: getattr(attention, name)(s, t, mask=m))
    for name in ("attention_relation_divergence", "attention_score_loss")
]
UNMASKED = [Call(attention, name, "aa") for name in ("attention_relation_divergence", "attention_score_loss")]
VALUES = Call(attention, "value_relation", "am", how=lambda v, m: attention.value_relation(v, mask=m))
CALLS = [*MAPS, *TOKENS, *UNMASKED, VALUES]
PAIRS = [MAPS[1], *TOKENS, *UNMASKED]


def test_no_name_is_forgotten() -> None:
    assert {call.name for call in CALLS} == set(attention.__all__)


@pytest.mark.parametrize("check", inner.ALWAYS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_function_passes(check, call: Call) -> None:
    check(call)


@pytest.mark.parametrize("call", PAIRS, ids=str)
def test_sides_of_different_examples_are_refused(call: Call) -> None:
    inner.check_examples(call)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_mixed_precision_rounds_nothing(call: Call) -> None:
    inner.check_autocast(call)


def test_the_scale_of_maps_means_nothing_at_any_size() -> None:
    inner.check_scale(replace(MAPS[1], settings={"power": 4}))
    for power in (1, 4, 8):
        plain = attention.attention_map(MAPS[0].rows()[0].float(), power=power)
        for scale in (1e-30, 1e30):
            scaled = attention.attention_map(scale * MAPS[0].rows()[0].float(), power=power)
            torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-7)
    student, teacher = (maps.float() for maps in MAPS[1].rows())
    plain = attention.attention_transfer_loss(student, teacher)
    for scale in (1e-15, 1e15):
        torch.testing.assert_close(attention.attention_transfer_loss(scale * student, teacher), plain)
    for pair in ((1e30 * student, teacher), (student, 1e30 * teacher), (1e30 * student, 1e30 * teacher)):
        assert attention.attention_transfer_loss(*pair).isnan()


def test_huge_scores_give_no_silent_zero() -> None:
    inner.check_no_silent_zero(TOKENS[1])


def test_a_power_is_a_number_from_one_on() -> None:
    maps = MAPS[0].rows()[0]
    for power in (0.5, 0, -2, math.inf, math.nan):
        for loss in (attention.attention_map, lambda m, power: attention.attention_transfer_loss(m, m, power=power)):
            with pytest.raises(ValueError, match=f"power must be at least 1 and finite, got {power}: below 1"):
                loss(maps, power=power)
    assert attention.attention_map(maps, power=1).isfinite().all()
