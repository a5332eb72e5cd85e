"""Running sums: right answers, a slip with a system, and what counts as right."""

import pytest
import torch

from kdref.lab.data import sums


def by_hand(row: list[int]) -> list[int]:
    total, steps = 0, []
    for number in row:
        total = (total + number) % 7
        steps.append(total)
    return steps


def test_traces_are_the_running_sums_and_end_in_the_answer() -> None:
    problems = sums.problems(300, length=6, seed=3)
    traces = sums.traces(problems)
    assert traces.tolist() == [by_hand(row) for row in problems.tolist()]
    assert torch.equal(traces[:, -1], sums.answers(problems))


def test_numbers_and_answers_are_uniform() -> None:
    problems = sums.problems(20_000, length=4, seed=0)
    for values in (problems.flatten(), sums.answers(problems)):
        shares = values.bincount(minlength=7) / len(values)
        assert len(shares) == 7
        assert (shares - 1 / 7).abs().max() < 5 * (6 / 49 / len(values)) ** 0.5


def test_a_seed_gives_the_same_problems_and_another_gives_others() -> None:
    first, again, other = (sums.problems(50, length=5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first != other).any()
    # NumPy promises this stream, so these numbers hold in every version
    assert sums.problems(2, length=4, seed=0).tolist() == [[4, 4, 6, 6], [3, 1, 4, 6]]


def test_who_slips_takes_sixes_for_fives_and_goes_on_from_there() -> None:
    problems = sums.problems(4000, length=5, seed=4)
    always = sums.traces(problems, slip=1.0)
    assert always.tolist() == [by_hand([5 if number == 6 else number for number in row]) for row in problems.tolist()]
    half, right = sums.traces(problems, slip=0.5, seed=1), sums.traces(problems)
    steps = torch.cat([half[:, :1], half.diff(dim=1)], dim=1) % 7
    slipped = steps != problems
    assert (problems[slipped] == 6).all()
    sixes = int((problems == 6).sum())
    assert abs(int(slipped.sum()) / sixes - 0.5) < 5 * 0.5 / sixes**0.5
    assert torch.equal(half == right, slipped.cumsum(dim=1) % 7 == 0)
    assert (sums.traces(problems, slip=0.5, seed=2) != half).any()


def test_texts_join_into_what_a_model_reads_and_writes() -> None:
    problem = torch.tensor([[3, 6, 2]])
    whole = torch.cat([sums.prompts(problem), sums.completions(sums.traces(problem))], dim=1)
    assert whole.tolist() == [[3, 6, 2, sums.EQUALS, 3, 2, 4, sums.END]]
    assert sums.text(whole[0]) == "3 6 2 = 3 2 4 ."
    assert int(whole.max()) < sums.VOCABULARY


def test_right_is_who_ends_on_the_answer() -> None:
    problems = torch.tensor([[3, 6, 2]] * 5)  # 11 = 4
    written = torch.tensor([[3, 2, 4, 8], [4, 8, 8, 8], [3, 4, 2, 8], [8, 8, 8, 8], [3, 2, 4, 4]])
    assert sums.final_answers(written).tolist() == [4, 4, 2, -1, -1]
    assert sums.is_right(problems, written).tolist() == [True, True, False, False, False]
    assert sums.is_right(problems[:1], written[None]).tolist() == [[True, True, False, False, False]]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="count and length must be at least 1, got 0 and 3"):
        sums.problems(0, length=3, seed=0)
    with pytest.raises(ValueError, match=r"slip must be a probability in \[0, 1\], got 1.5"):
        sums.traces(torch.tensor([[6]]), slip=1.5)
