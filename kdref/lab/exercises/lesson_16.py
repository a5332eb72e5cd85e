"""The exercises and the quiz of lesson 16, provenance: whose knowledge a student has."""

import math
from typing import Any

import torch
from torch import Tensor

from kdref.lab.course.projects import ANSWERS, PROJECTS, objections
from kdref.lab.course.questions import Exercise, NotAttempted, Question, speaking
from kdref.lab.exercises import brief, calls, number

__all__ = ["EXERCISES", "QUIZ"]


def p_value(previous_tokens: Tensor, tokens: Tensor, green: Tensor, share: float) -> Tensor:
    """16.2."""
    return _tail(*_counted(_pairs(previous_tokens, tokens), green), share)


def _pairs(previous_tokens: Tensor, tokens: Tensor) -> Tensor:
    pairs: Tensor = torch.stack([previous_tokens, tokens], dim=1).unique(dim=0)
    return pairs


def _counted(pairs: Tensor, green: Tensor) -> tuple[int, int]:
    """Green pairs, and pairs."""
    return int(green[pairs[:, 0], pairs[:, 1]].sum()), len(pairs)


def _tail(hits: int, trials: int, share: float) -> Tensor:
    """The chance of so many hits or more."""
    terms = [math.comb(trials, i) * share**i * (1 - share) ** (trials - i) for i in range(hits, trials + 1)]
    return torch.tensor(sum(terms))


def _normal(hits: int, trials: int, share: float) -> Tensor:
    z = (hits - share * trials) / math.sqrt(trials * share * (1 - share))
    return torch.tensor(0.5 * math.erfc(z / math.sqrt(2)))


def _each_word_once(previous_tokens: Tensor, tokens: Tensor) -> Tensor:
    first = [i for i, word in enumerate(previous_tokens.tolist()) if word not in previous_tokens[:i].tolist()]
    return torch.stack([previous_tokens, tokens], dim=1)[first]


_P_VALUE_MISTAKES: dict[str, tuple[Any, str]] = {
    "repeats counted": (
        lambda u, v, green, share: _tail(*_counted(torch.stack([u, v], dim=1), green), share),
        "the same pair is green or not for the same reason each time: count it once.",
    ),
    "more than so many": (
        lambda u, v, green, share: _tail(_counted(_pairs(u, v), green)[0] + 1, len(_pairs(u, v)), share),
        "so many *or more*: the number that was seen belongs to it.",
    ),
    "exactly so many": (
        lambda u, v, green, share: (
            _tail(*_counted(_pairs(u, v), green), share)
            - _tail(_counted(_pairs(u, v), green)[0] + 1, len(_pairs(u, v)), share)
        ),
        "one number alone is always improbable: add the larger ones.",
    ),
    "the normal curve": (
        lambda u, v, green, share: _normal(*_counted(_pairs(u, v), green), share),
        "for a short text the z-score's tail is far from the binomial's, on the side that accuses too soon.",
    ),
    "half of the words green": (
        lambda u, v, green, share: _tail(*_counted(_pairs(u, v), green), 0.5),
        "the list's share is an argument: a text of a quarter's mark is green by chance in a quarter of its words.",
    ),
    "each previous word once": (
        lambda u, v, green, share: _tail(*_counted(_each_word_once(u, v), green), share),
        "a pair is known by both of its words: another word after the same one is new evidence.",
    ),
    "the list of the word itself": (
        lambda u, v, green, share: _tail(*_counted(_pairs(v, u), green), share),
        "the list is that of the word before: green[previous, word].",
    ),
}

_OBJECTIONS = objections()


@speaking
def _objections_differ(answer: Any, reference: Any) -> str | None:
    """Say which letters are answered otherwise, and nothing of what is right."""
    if not isinstance(answer, dict):
        return f"A dictionary from each letter to a reason is asked for, not {brief(answer)}."
    if answer and all(reason is ... for reason in answer.values()):
        raise NotAttempted
    for letter in answer:
        if not isinstance(letter, str) or letter not in PROJECTS:
            return f"There is no project {brief(letter)}: the letters are {', '.join(PROJECTS)}."
    if missing := [letter for letter in PROJECTS if answer.get(letter, ...) in (..., None)]:
        return f"No reason is chosen for {', '.join(missing)}. {_CHOOSE}"
    for letter, reason in answer.items():
        if not isinstance(reason, str) or reason not in ANSWERS:
            return f"{letter}: there is no reason {brief(reason)}. {_CHOOSE}"
    wrong = [letter for letter in PROJECTS if answer[letter] != reference[letter]]
    return f"Look again at {', '.join(wrong)}." if wrong else None


_CHOOSE = f"Choose among {', '.join(map(repr, ANSWERS))}."


def _with(**changed: str) -> dict[str, str]:
    return {**_OBJECTIONS, **changed}


_OBJECTION_MISTAKES: dict[str, tuple[Any, str]] = {
    "a service's answers are always forbidden": (
        _with(E="it competes"),
        "of the three services two forbid what competes, and E learnt from one of these. It does something else; "
        "whether it does is a judgement.",
    ),
    "a service's answers are free where nothing competes": (
        _with(G="nothing"),
        "Anthropic's usage policy asks for approval of any student, whether it competes or not.",
    ),
    "a rival is always forbidden": (
        _with(D="it competes"),
        "DeepSeek-R1 is under MIT, and its authors allow distillation by name: no clause asks what the student does.",
    ),
    "a name is enough for weights": (
        _with(C="nothing"),
        "C bears the name, and comes from the weights of Llama 3.1: with what is derived of them goes their agreement, "
        "and nothing that we read lets them go under MIT.",
    ),
    "outputs carry the licence": (
        _with(B="its licence"),
        "Llama's licence asks for the name when outputs taught the student. Its text goes with the weights.",
    ),
    "outputs never carry the licence": (
        _with(F="nothing"),
        "Gemma's terms count a model made of its outputs, to perform as it does, among its derivatives, and MIT alone "
        "does not pass their use restrictions on.",
    ),
    "a student's name is free": (
        _with(B="nothing"),
        "read section 1.b.i of Llama's licence once more: “or any outputs or results”.",
    ),
}


def area(own: Tensor, others: Tensor) -> Tensor:
    """16.4."""
    return _wins(own, others, ties=0.5)


def _wins(own: Tensor, others: Tensor, *, ties: float) -> Tensor:
    above, equal = own[:, None] > others, own[:, None] == others
    return torch.mean(above + ties * equal)


_AREA_MISTAKES: dict[str, tuple[Any, str]] = {
    "a tie is a win": (
        lambda own, others: _wins(own, others, ties=1.0),
        "where two scores are equal the test can only guess: half a win.",
    ),
    "a tie is a loss": (
        lambda own, others: _wins(own, others, ties=0.0),
        "where two scores are equal the test can only guess: half a win.",
    ),
    "the other way round": (
        lambda own, others: _wins(others, own, ties=0.5),
        "count how often the teacher's own student scores higher.",
    ),
    "each with its counterpart": (
        lambda own, others: (own > others[: len(own)]).float().mean(),
        "every own student meets every other one: there are len(own) times len(others) pairs.",
    ),
    "against the mean of the others": (
        lambda own, others: (own > others.mean()).float().mean(),
        "one threshold gives one point of the curve. The area compares each with each.",
    ),
}

_SPREAD = math.e**2 / (1 + math.e**2) - 0.5  # what a mark of strength 2 adds to a green share of one half


def _words_needed(extra: float, *, spread: float = 0.5) -> float:
    return (3 * spread / extra) ** 2


_QUARTER = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]).bool()
_HALF = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]]).bool()
_TEXT = (torch.tensor([0, 1, 2, 0, 1, 0, 2, 0]), torch.tensor([0, 1, 3, 0, 1, 2, 3, 3]))
_SCORES = (torch.tensor([0.5, 0.25, 0.75]), torch.tensor([0.5, 0.25, 0.125, 0.5]))
_BEST = (torch.tensor([3.0, 2.0]), torch.tensor([1.0, 0.5, 1.5]))
_ANOTHER = (torch.tensor([0, 1, 2, 2, 1, 1]), torch.tensor([1, 2, 0, 3, 2, 0]))

EXERCISES: dict[str, Exercise] = {
    "16.1": Exercise(
        title="Predict a p-value",
        hint="Six of eight or more: in how many of the 256 equally likely outcomes are two, one or none not green?",
        differs=number(tolerance=0.004),
        solution=37 / 256,
        mistakes={
            "exactly six": (28 / 256, "so many or more: seven or eight green would be stranger still."),
            "more than six": (9 / 256, "so many or more: the six that were seen belong to it."),
            "both sides": (74 / 256, "the watermark makes green words likelier: only that side speaks for it."),
            "six green ones": (1 / 64, "that is the chance that six given words are green. Which six is open."),
            "the normal curve": (
                0.5 * math.erfc(1),
                "z is 1.41 and its tail 0.079: too small by half. Eight words are too few for it.",
            ),
        },
        remark="Fourteen in a hundred unmarked texts of this length look so: no accusation.",
    ),
    "16.2": Exercise(
        title="Build the p-value",
        hint="unique(dim=0) of a tensor with a pair in each row leaves each pair once; math.comb counts ways.",
        differs=calls(
            {
                "a quarter of the words green, and repeats": (*_TEXT, _QUARTER, 0.25),
                "half of the words green": (*_ANOTHER, _HALF, 0.5),
            }
        ),
        solution=p_value,
        mistakes=_P_VALUE_MISTAKES,
        remark="watermark_p_value adds these terms in log space: above 1,000 pairs math.comb is too large for floats.",
    ),
    "16.3": Exercise(
        title="What has the table against it?",
        hint="Read .clause, .duties and .taught of TERMS[...] for each teacher and for each start.",
        differs=_objections_differ,
        solution=_OBJECTIONS,
        mistakes=_OBJECTION_MISTAKES,
        remark="So says the table, of the dates in it. No legal advice: for your own case ask somebody who gives it.",
    ),
    "16.4": Exercise(
        title="Build the area under the curve",
        hint="A column compared with a row gives a table of all pairs.",
        further="A column compared with a row compares each with each; where two are equal count one half.",
        differs=calls({"three own students and four others, with ties": _SCORES, "the best that can be": _BEST}),
        solution=area,
        mistakes=_AREA_MISTAKES,
        remark="One half is guessing. How many strangers you accuse hangs on the threshold, which is not in it.",
    ),
    "16.5": Exercise(
        title="Design: how long must the text be?",
        hint="Among n pairs the share of green words spreads by 0.5 / √n.",
        further="Among n pairs the share of green words spreads by 0.5 / √n: how many of these is the surplus?",
        differs=number(tolerance=0.02),
        solution=_words_needed(0.2 * _SPREAD),
        mistakes={
            "as for marked text only": (
                _words_needed(_SPREAD),
                "the student learnt from a fifth of it: its surplus of green words is a fifth too.",
            ),
            "five times as much": (
                5 * _words_needed(_SPREAD),
                "z grows with the root of n: a fifth of the surplus needs 25 times the text.",
            ),
            "the spread forgotten": (
                _words_needed(0.2 * _SPREAD, spread=1.0),
                "the share of green words among n spreads by √(0.5 · 0.5 / n), not by √(1 / n).",
            ),
            "the root forgotten": (3 * 0.5 / (0.2 * _SPREAD), "that is √n: square it."),
        },
        remark="At 388 different pairs half of such students lie above 3 deviations. A twentieth needs 6,200.",
    ),
}

QUIZ = (
    Question(
        "Tested with your key, a text has a p-value of 0.3. What do you know?",
        {
            "That nobody used your mark": "A short text, or one with little of the mark in it, has such values too.",
            "That it is marked with probability 0.7": "A p-value is computed as if there were no mark. It is no "
            "probability of one.",
            "Nothing: no accusation, and no acquittal": "Unmarked texts have it, and so have short or diluted marked "
            "ones.",
        },
        right="Nothing: no accusation, and no acquittal",
    ),
    Question(
        "A student shares 40 % of a teacher's mistakes, with the same wrong answer. What is missing before you speak "
        "of a copy?",
        {
            "The share of a student that never saw the teacher": "Hard examples tempt everybody to one answer.",
            "The accuracy of the student on the same examples": "It says how many mistakes there are, and not whose.",
            "A test set that is ten times as large, no more": "It makes 40 % surer, and no more telling.",
        },
        right="The share of a student that never saw the teacher",
    ),
    Question(
        "A student sees noise only, and logits that stand for no class. When does it learn to read digits?",
        {
            "If it is trained for long enough": "From another start it stayed at chance in four times the steps.",
            "If it started where its teacher did": "Then a small step towards any of the teacher's "
            "outputs is, in part, the teacher's own step.",
            "If the noise has a look of digits": "It need not: any inputs do.",
        },
        right="If it started where its teacher did",
    ),
)
