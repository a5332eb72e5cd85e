"""The explorer of speculative decoding answers when a slider is moved, and its numbers are those of the formulas."""

import re
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from kdref.lab.widgets import Panel
from kdref.lab.widgets.sequence import parts_of_a_round, speculative_explorer
from kdref.sequence import expected_tokens_per_call, speculative_acceptance
from tests import checks

STUDENT, TEACHER = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([-1.0, 2.0, 0.0])


def explorer(**options: Any) -> Panel:
    return speculative_explorer(speculative_acceptance, expected_tokens_per_call, STUDENT, TEACHER, **options)


def said(line: Any) -> tuple[float, float, int, str]:
    found = re.fullmatch(
        r"Accepted: ([\d.]+) % of drafts; ([\d.]+) tokens per call of the teacher, of at most (\d+)\. "
        r"Likeliest next token: (\w+), whoever drafts\.",
        line.value,
    )
    accepted, yields, most, likeliest = found.groups()
    return float(accepted), float(yields), int(most), likeliest


def test_the_two_parts_add_up_to_the_teacher() -> None:
    p, q = TEACHER.softmax(-1), STUDENT.softmax(-1)
    parts = parts_of_a_round(q, p)
    assert list(parts) == ["student", "teacher", "accepted", "drawn anew"]
    assert_close(parts["accepted"] + parts["drawn anew"], p)
    assert_close(parts["accepted"].sum(), speculative_acceptance(q, p))


def test_moving_a_slider_changes_picture_and_text_and_back() -> None:
    checks.check_sliders_answer(explorer(), {0: 0.5, 1: 2.0})
    _, _, drafts, chart, line = explorer().children
    picture, text = bytes(chart.value), line.value
    drafts.value = 8
    assert line.value != text
    drafts.value = 4
    assert line.value == text
    assert bytes(chart.value) == picture


def test_the_numbers_are_those_of_the_functions() -> None:
    share, warmth, drafts, _, line = explorer(token_names=["a", "b", "c"]).children
    share.value, warmth.value, drafts.value = 0.25, 0.5, 3
    p, q = (z.double().div(0.5).softmax(-1) for z in (TEACHER, 0.75 * STUDENT + 0.25 * TEACHER))
    accepted = 1 - (p - q).abs().sum().item() / 2
    yields = 1 + accepted + accepted**2 + accepted**3
    assert said(line)[:2] == pytest.approx((100 * accepted, yields), abs=0.051)
    assert said(line)[2:] == (4, "b")


def test_a_student_that_is_the_teacher_has_every_draft_accepted() -> None:
    share, _, drafts, _, line = explorer().children
    share.value, drafts.value = 1.0, 5
    assert said(line)[:3] == (100.0, 6.0, 6)
    drafts.value = 0
    assert said(line)[:3] == (100.0, 1.0, 1)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"logits \(V,\) of both, got shapes \(2,\) and \(3,\)"):
        speculative_explorer(speculative_acceptance, expected_tokens_per_call, STUDENT[:2], TEACHER)
    with pytest.raises(ValueError, match="3 tokens need as many names, got 2"):
        explorer(token_names=["a", "b"])


def test_readers_without_a_kernel_get_a_sentence() -> None:
    assert explorer()._repr_mimebundle_()[0]["text/plain"].startswith("Explorer of speculative decoding: run this cell")
