"""The length normalisation of on-policy losses, checked against plain loops."""

import math

import pytest
import torch
from torch.testing import assert_close

from kdref.sequence import on_policy_loss
from tests import checks

STUDENT, TEACHER = checks.randn(4, 5, 3, seed=1, scale=1.5), checks.randn(4, 5, 3, seed=2, scale=1.5)
TOKENS = checks.labels_for(20, 3, seed=3).reshape(4, 5)
LENGTHS = torch.tensor([5, 3, 1, 0])
MASK = torch.arange(5) < LENGTHS[:, None]


@pytest.mark.parametrize("baseline", [0.0, 0.4])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_normalized_advantage_is_the_mean_of_the_ratios_from_its_token_on(
    baseline: float, temperature: float
) -> None:
    student = STUDENT.clone().requires_grad_()
    options = {"temperature": temperature, "baseline": baseline, "mask": MASK}
    loss = on_policy_loss(student, TEACHER, TOKENS, length_normalization=True, **options)
    assert_close(loss, on_policy_loss(student, TEACHER, TOKENS, **options))  # the value stays the mean ratio
    loss.backward()
    for i, length in enumerate(LENGTHS.tolist()):
        rows = [[checks.softmax(z[i, t].tolist(), temperature) for t in range(5)] for z in (STUDENT, TEACHER)]
        drawn = TOKENS[i].tolist()
        ratio = [math.log(q[y] / p[y]) for q, p, y in zip(*rows, drawn, strict=True)]
        for t in range(5):
            for v in range(3):
                score = ((v == drawn[t]) - rows[0][t][v]) / temperature
                advantage = sum(ratio[t:length]) / (length - t) - baseline if t < length else 0.0
                assert student.grad[i, t, v].item() == pytest.approx(advantage * score / 9, rel=1e-9, abs=1e-15)


def test_a_constant_ratio_weighs_every_token_alike_however_long_the_text() -> None:
    # the teacher gives the drawn token half of what the student gives it: log 2 at every token
    student = torch.zeros(1, 4, 2, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([0.25, 0.75], dtype=torch.float64).log().expand(1, 4, 2)
    tokens = torch.zeros(1, 4, dtype=torch.int64)
    on_policy_loss(student, teacher, tokens, length_normalization=True).backward()
    assert_close(student.grad[0, :, 0], torch.full((4,), math.log(2) / 2 / 4, dtype=torch.float64))
    student.grad = None
    on_policy_loss(student, teacher, tokens).backward()  # 4, 3, 2, 1 times as much
    assert_close(student.grad[0, :, 0], torch.arange(4, 0, -1) * math.log(2) / 2 / 4, check_dtype=False)


def test_the_last_token_answers_for_itself_either_way() -> None:
    gradients = []
    for normalized in (True, False):
        student = STUDENT.clone().requires_grad_()
        on_policy_loss(student, TEACHER, TOKENS, length_normalization=normalized).backward()
        gradients.append(student.grad)
    assert_close(gradients[0][:, -1], gradients[1][:, -1])
    assert not torch.isclose(gradients[0][:, 0], gradients[1][:, 0]).any()


def test_lengths_need_whole_sequences() -> None:
    with pytest.raises(ValueError, match="length_normalization needs whole_sequence=True"):
        on_policy_loss(STUDENT, TEACHER, TOKENS, length_normalization=True, whole_sequence=False)


def test_extremes_and_one_graph() -> None:
    def loss(s: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return on_policy_loss(s, t, y, mask=MASK, length_normalization=True)

    checks.check_compiles(loss, STUDENT, TEACHER, TOKENS)
    for scale in (1e-4, 1e4):
        checks.check_extremes(loss, STUDENT * scale, TEACHER * scale, TOKENS)
