"""The exercises and the quiz of lesson 00, start here: three small ones, to see how exercises work."""

from typing import Any

import torch
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import brief, calls, number
from kdref.soft_targets import softened_probabilities

__all__ = ["EXERCISES", "QUIZ"]

VERDICTS = ("helps", "hurts", "no useful difference", "undecided")

_LOGITS = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]])


def soften(logits: Tensor, temperature: float) -> Tensor:
    """00.2."""
    return softened_probabilities(logits, temperature=temperature)


def _verdict_differs(answer: Any, reference: Any) -> str | None:
    if not isinstance(answer, str) or answer not in VERDICTS:
        return f"One of four words is asked for: {', '.join(map(repr, VERDICTS))}; not {brief(answer)}."
    return None if answer == reference else f"{answer!r} is not what the interval allows one to say."


EXERCISES: dict[str, Exercise] = {
    "00.1": Exercise(
        title="Points",
        hint="A point is one per cent of the test set.",
        further="A gain in points is the difference of two percentages: subtract one from the other.",
        differs=number(tolerance=0.01),
        solution=5.0,
        mistakes={
            "a relative gain": (8.3333, "that is 5 divided by 60, a gain in per cent of the old value."),
            "a fraction": (0.05, "a point is one hundredth: write the number of hundredths."),
            "the sign": (-5.0, "the taught student is the better one: the difference is counted from the baseline."),
        },
        remark="The course reports differences in points. Papers sometimes report the larger, relative number.",
    ),
    "00.2": Exercise(
        title="Soften",
        hint="It is torch.softmax, over the last dimension.",
        further="Divide the logits by the temperature, then call torch.softmax with dim=-1.",
        differs=calls(
            {
                "two examples at temperature 1": (_LOGITS, 1.0),
                "the same at temperature 4": (_LOGITS, 4.0),
            }
        ),
        solution=soften,
        mistakes={
            "the temperature forgotten": (
                lambda logits, temperature: soften(logits, 1.0),
                "divide the logits by it before the softmax.",
            ),
            "multiplied instead of divided": (
                lambda logits, temperature: soften(logits, 1 / temperature),
                "a high temperature makes the probabilities more equal, and a product makes them less so.",
            ),
            "divided after the softmax": (
                lambda logits, temperature: soften(logits, 1.0) / temperature,
                "then they no longer sum to 1.",
            ),
            "a softmax over the batch": (
                lambda logits, temperature: torch.softmax(logits / temperature, dim=0),
                "each row is an example and must sum to 1: the classes are the last dimension.",
            ),
            "logarithms": (
                lambda logits, temperature: torch.log_softmax(logits / temperature, dim=-1),
                "probabilities are asked for. (Losses do use the logarithms: they are exact where these round to 0.)",
            ),
        },
        remark="Every row sums to 1 at every temperature. That is kdref's softened_probabilities.",
    ),
    "00.3": Exercise(
        title="Verdict",
        hint="Does the interval clear zero? If not, does it fit between minus one and plus one point?",
        differs=_verdict_differs,
        solution="undecided",
        mistakes={
            "looking at the middle": (
                "helps",
                "the interval reaches below zero, so the true difference may be a loss.",
            ),
            "undecided read as no difference": (
                "no useful difference",
                "the interval reaches to 1.7 points, beyond the margin: a useful gain is not ruled out.",
            ),
        },
        remark="More seeds make the interval shorter; then it may say something.",
    ),
}

QUIZ = (
    Question(
        "You changed a cell of your copy and want the lesson as it was. What do you do?",
        {
            "python -m kdref reset 01": "It moves your copy aside and makes a fresh one, so nothing is lost.",
            "Delete the folder work": "That deletes your answers in all lessons.",
            "git checkout -- notebooks": "The notebooks that git tracks were never changed: yours are in work.",
        },
        right="python -m kdref reset 01",
    ),
    Question(
        "Your table shows 70.3 % where the lesson as published shows 70.5 %. Is something broken?",
        {
            "No": "Processors round differently, and training enlarges the difference. Verdicts are asserted below "
            "such tables, and they must hold on your machine too.",
            "Yes, the seed was ignored": "The same seed gives the same numbers on one machine, not on all.",
            "Yes, the data are damaged": "Then loading would have stopped with the name of the file.",
        },
        right="No",
    ),
    Question(
        "What does a function whose name ends in _loss return?",
        {
            "One number, ready for backward()": "And _divergence, _distance or _similarity give one per example.",
            "One number per example": "Those are called _divergence, _distance or _similarity.",
            "It depends on reduction=": "There is no such argument in kdref: the name tells the shape.",
        },
        right="One number, ready for backward()",
    ),
)
