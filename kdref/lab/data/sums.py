"""Running sums with their reasoning: problems that are hard to answer at once and easy step by step.

A problem is a row of numbers from 0 to 6, its answer their sum on a clock of seven hours (modulo 7). The reasoning, or
trace, is the sum so far after each number. Everything is generated: as much as wanted, without a file.
Lesson: notebooks/12_reasoning.ipynb.
"""

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "CARELESS",
    "END",
    "EQUALS",
    "MODULUS",
    "VOCABULARY",
    "answers",
    "completions",
    "final_answers",
    "is_right",
    "problems",
    "prompts",
    "text",
    "traces",
]

MODULUS = 7
EQUALS, END = MODULUS, MODULUS + 1  # the tokens after the numbers
VOCABULARY = MODULUS + 2
CARELESS = 6  # who slips takes this number for the one below


def problems(count: int, *, length: int, seed: int) -> Tensor:
    """Draw rows of numbers, each uniform from 0 to 6.

    Args:
        count: How many, at least 1.
        length: Numbers per problem, at least 1.
        seed: 0 to 2³² - 1. The same seed gives the same problems in every version of NumPy.

    Returns:
        Numbers, shape ``(count, length)``, int64.

    Raises:
        ValueError: If count or length is below 1 or the seed out of range.

    Example:
        >>> problems(2, length=3, seed=0).shape
        torch.Size([2, 3])
    """
    if count < 1 or length < 1:
        raise ValueError(f"count and length must be at least 1, got {count} and {length}")
    random = np.random.RandomState([MODULUS, length, seed])
    return torch.from_numpy(random.randint(MODULUS, size=(count, length)).astype(np.int64))


def answers(problems: Tensor) -> Tensor:
    """Sum of each problem modulo 7, shape ``(N,)``.

    Example:
        >>> answers(torch.tensor([[3, 6, 2]]))
        tensor([4])
    """
    return problems.sum(dim=-1) % MODULUS


def traces(problems: Tensor, *, slip: float = 0.0, seed: int = 0) -> Tensor:
    """Sums so far after each number, without fault or with a fault that has a system.

    Whoever slips takes a 6 for a 5 and goes on from the wrong sum, so the fault shows in the answer, unless seven of
    them cancel out.

    Args:
        problems: Numbers, shape ``(N, n)``.
        slip: Probability of the slip at each 6, in [0, 1]. 0 gives the algorithm.
        seed: Draws which of them.

    Returns:
        Sums, shape ``(N, n)``, int64; the last of each row is the answer given.

    Raises:
        ValueError: If the probability is outside [0, 1].

    Example:
        >>> traces(torch.tensor([[3, 6, 2]]))
        tensor([[3, 2, 4]])
        >>> traces(torch.tensor([[3, 6, 2]]), slip=1.0)  # 3, 3 + 5, 1 + 2
        tensor([[3, 1, 3]])
    """
    if not 0 <= slip <= 1:
        raise ValueError(f"slip must be a probability in [0, 1], got {slip}")
    chance = np.random.RandomState([MODULUS, seed]).rand(*problems.shape)
    slips = torch.from_numpy(chance < slip) & (problems == CARELESS)
    return (problems - slips.long()).cumsum(dim=-1) % MODULUS


def prompts(problems: Tensor) -> Tensor:
    """What a model reads: the numbers and the sign of equality, shape ``(N, n + 1)``."""
    return torch.cat([problems, problems.new_full((*problems.shape[:-1], 1), EQUALS)], dim=-1)


def completions(steps: Tensor) -> Tensor:
    """What a model is to write: the steps, of which the last is the answer, and the end token, ``(N, steps + 1)``.

    Args:
        steps: A trace, shape ``(N, n)``, or an answer alone, ``(N, 1)``.
    """
    return torch.cat([steps, steps.new_full((*steps.shape[:-1], 1), END)], dim=-1)


def final_answers(written: Tensor) -> Tensor:
    """The last token before the first end token; -1 where there is none, or no end.

    Args:
        written: Completions, shape ``(..., T)``.

    Returns:
        Answers, shape ``(...)``, int64.

    Example:
        >>> final_answers(torch.tensor([[3, 2, 4, 8], [3, 8, 8, 8], [8, 8, 8, 8], [1, 2, 3, 4]]))
        tensor([ 4,  3, -1, -1])
    """
    ended = written == END
    place = ended.int().argmax(dim=-1, keepdim=True)
    before = written.gather(-1, (place - 1).clamp(min=0)).squeeze(-1)
    return torch.where(ended.any(dim=-1) & (place.squeeze(-1) > 0), before, -1)


def is_right(problems: Tensor, written: Tensor) -> Tensor:
    """Whether the answer is right; the steps before it are not looked at.

    Args:
        problems: Numbers, shape ``(N, n)``.
        written: One completion of each, ``(N, T)``, or K of each, ``(N, K, T)``.

    Returns:
        Verdicts, ``(N,)`` or ``(N, K)``, bool.
    """
    right = answers(problems)
    return final_answers(written) == (right if written.dim() == 2 else right[:, None])


def text(tokens: Tensor) -> str:
    """A row of tokens for the eye.

    Example:
        >>> text(torch.cat([prompts(torch.tensor([3, 6, 2])), completions(torch.tensor([3, 2, 4]))]))
        '3 6 2 = 3 2 4 .'
    """
    signs = {EQUALS: "=", END: "."}
    return " ".join(signs.get(token, str(token)) for token in tokens.tolist())
