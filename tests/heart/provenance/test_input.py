"""Provenance: what people hand to the watermark and to the nasty teacher's loss that does not fit."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdref import provenance
from kdref.provenance import green_list, watermark_logits, watermark_p_value
from tests import inputs
from tests.inputs import Call

NASTY = Call(provenance, "nasty_teacher_loss", "zzy", {"weight": 0.3, "temperature": 2.0})
WORDS, PREVIOUS, LOGITS = torch.tensor([3, 1, 4]), torch.tensor([2, 3, 1]), torch.zeros(3, 6)
SETTINGS: dict[str, Any] = {"vocabulary": 6, "fraction": 0.5, "key": 7}
CALLS: dict[str, Callable[..., Tensor]] = {
    "green_list": lambda **new: green_list(**{"previous_tokens": PREVIOUS, **SETTINGS, **new}),
    "watermark_logits": lambda **new: watermark_logits(
        **{"logits": LOGITS, "previous_tokens": PREVIOUS, "fraction": 0.5, "key": 7, **new}
    ),
    "watermark_p_value": lambda **new: watermark_p_value(
        **{"tokens": WORDS, "previous_tokens": PREVIOUS, **SETTINGS, **new}
    ),
}


@pytest.mark.parametrize("check", inputs.ALWAYS, ids=lambda check: check.__name__)
def test_the_loss_of_a_nasty_teacher_passes(check) -> None:
    check(NASTY)


def test_the_loss_of_a_nasty_teacher_refuses_what_does_not_fit() -> None:
    inputs.check_empty(NASTY, refused=True)
    inputs.check_labels(NASTY)
    inputs.check_large_temperature(NASTY)
    inputs.check_temperature_per_example(NASTY)
    for index in (0, 1):
        with pytest.raises(ValueError, match=r"both networks' logits must have the same shape, got \(1?[12], 4\)"):
            NASTY(*NASTY.replaced(index, NASTY.rows()[index][:1]))
    for weight in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"weight must be finite and at least 0, got {weight}"):
            NASTY(*NASTY.rows(), weight=weight)


@pytest.mark.parametrize("name", CALLS)
def test_tokens_must_be_whole_numbers_of_the_vocabulary(name: str) -> None:
    arguments = ["previous_tokens", *(["tokens"] if name == "watermark_p_value" else [])]
    for argument in arguments:
        for value in (PREVIOUS.int(), PREVIOUS.float(), PREVIOUS > 2):
            with pytest.raises(TypeError, match=f"{argument} must be an int64 tensor, got {value.dtype}: use torch"):
                CALLS[name](**{argument: value})
        for other in (None, [1, 2, 3], 3, PREVIOUS.numpy()):
            with pytest.raises(TypeError, match=f"{argument} must be an int64 tensor, got {type(other).__name__}"):
                CALLS[name](**{argument: other})
        for number in (-1, 6, -100):
            spoiled = torch.tensor([0, number, 5])
            with pytest.raises(ValueError, match=rf"{argument} must be in \[0, 6\), got {number}: mask out padding"):
                CALLS[name](**{argument: spoiled})


@pytest.mark.parametrize("name", CALLS)
def test_settings_out_of_range_are_named(name: str) -> None:
    call = CALLS[name]
    for key in ("7", None, [7]):
        with pytest.raises(TypeError, match="key must be a number, got"):
            call(key=key)
    for number in (-1, 2**64, 7.5):
        with pytest.raises(ValueError, match=rf"key must be a whole number in \[0, 2⁶⁴\), got {number}: secrets"):
            call(key=number)
    for fraction in ("0.5", None):
        with pytest.raises(TypeError, match="fraction must be a number, got"):
            call(fraction=fraction)
    for share in (0.0, 1.0, 0.1, -0.5, 50, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"fraction must leave words on both sides, got {share} of 6: 0.5 is"):
            call(fraction=share)
    call(key=2**64 - 1)
    call(key=np.int64(7))
    if name != "watermark_logits":
        with pytest.raises(TypeError, match="vocabulary must be a number, got '6'"):
            call(vocabulary="6")
        for size in (1, 0, -6, 6.5, 2**31 + 1):
            with pytest.raises(ValueError, match=r"vocabulary must be a whole number in \[2, 2³¹\], got"):
                call(vocabulary=size)


def test_logits_that_do_not_fit_are_named() -> None:
    for value, found in ((LOGITS.long(), "torch.int64"), (None, "NoneType"), ((LOGITS,), "tuple: take its .logits")):
        with pytest.raises(TypeError, match=f"logits must be a floating-point tensor, got {found}"):
            watermark_logits(value, PREVIOUS, key=7)
    for wrong in (LOGITS[:2], LOGITS[0], LOGITS[0, 0], LOGITS[None]):
        with pytest.raises(ValueError, match=r"need logits \(\.\.\., V\) and previous_tokens \(\.\.\.\), got \("):
            watermark_logits(wrong, PREVIOUS, key=7)
    for strength in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"strength must be finite and at least 0, got {strength}"):
            watermark_logits(LOGITS, PREVIOUS, strength=strength, key=7)
    with pytest.raises(TypeError, match="strength must be a number, got '2'"):
        watermark_logits(LOGITS, PREVIOUS, strength="2", key=7)


def test_pairs_and_mask_have_one_shape() -> None:
    with pytest.raises(ValueError, match=r"must have one shape, got \(2,\) and \(3,\): text\[1:\] and text\[:-1\]"):
        watermark_p_value(WORDS[1:], PREVIOUS, **SETTINGS)
    with pytest.raises(ValueError, match=r"mask must be a bool tensor \(3,\), one per token, got torch.bool \(2,\)"):
        watermark_p_value(WORDS, PREVIOUS, mask=WORDS[1:] > 2, **SETTINGS)
    for mask in (torch.ones(3), [True, True, False]):
        with pytest.raises(TypeError, match=r"mask must be a bool tensor \(3,\)"):
            watermark_p_value(WORDS, PREVIOUS, mask=mask, **SETTINGS)


def test_where_one_looks_costs_a_sync_nothing_is_looked_at() -> None:
    off = torch.ones(3, dtype=torch.int64, device="meta")
    assert green_list(off, **SETTINGS).shape == (3, 6)
    assert watermark_logits(torch.ones(3, 6, device="meta"), off, key=7).shape == (3, 6)
    assert watermark_p_value(off, off, **SETTINGS).shape == ()


def test_what_was_computed_in_inference_mode_can_be_used() -> None:
    with torch.inference_mode():
        tokens, previous = WORDS.clone(), PREVIOUS.clone()
    assert watermark_p_value(tokens, previous, **SETTINGS) == watermark_p_value(WORDS, PREVIOUS, **SETTINGS)
    logits = LOGITS.clone().requires_grad_()
    watermark_logits(logits, previous, key=7).sum().backward()
    assert logits.grad is not None
