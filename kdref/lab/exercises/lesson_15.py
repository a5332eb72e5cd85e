"""The exercises and the quiz of lesson 15, fidelity: whether a student copies its teacher."""

from typing import Any

import torch
from torch import Tensor

from kdref.lab.course.questions import Exercise, NotAttempted, Question, speaking
from kdref.lab.exercises import brief, calls, number
from kdref.lab.experiments._wrong_losses import LOSSES, PROPERTIES

__all__ = ["EXERCISES", "QUIZ"]


def error_consistency(student_right: Tensor, teacher_right: Tensor) -> Tensor:
    """15.2."""
    return _kappa(*_agreements(student_right, teacher_right))


def _agreements(student_right: Tensor, teacher_right: Tensor) -> tuple[Tensor, Tensor]:
    """Observed agreement in right and wrong, and the one that independent errors would give."""
    student, teacher = student_right.float().mean(), teacher_right.float().mean()
    return (student_right == teacher_right).float().mean(), student * teacher + (1 - student) * (1 - teacher)


def _kappa(observed: Tensor, expected: Tensor) -> Tensor:
    return torch.where(expected == 1, torch.zeros_like(expected), (observed - expected) / (1 - expected))


def _by_expected(student_right: Tensor, teacher_right: Tensor) -> Tensor:
    observed, expected = _agreements(student_right, teacher_right)
    return torch.where(expected == 0, torch.zeros_like(expected), (observed - expected) / expected)


def _not_subtracted(student_right: Tensor, teacher_right: Tensor) -> Tensor:
    observed, expected = _agreements(student_right, teacher_right)
    return torch.where(expected == 1, torch.zeros_like(expected), observed / (1 - expected))


def _without_guard(student_right: Tensor, teacher_right: Tensor) -> Tensor:
    observed, expected = _agreements(student_right, teacher_right)
    return (observed - expected) / (1 - expected)


_KAPPA_MISTAKES: dict[str, tuple[Any, str]] = {
    "agreement itself": (
        lambda s, t: _agreements(s, t)[0],
        "two networks that are right nearly always agree nearly always, copies or not: take chance away.",
    ),
    "chance from the student alone": (
        lambda s, t: _kappa(_agreements(s, t)[0], _agreements(s, s)[1]),
        "both right by chance has probability student times teacher: each has an accuracy of its own.",
    ),
    "chance from the teacher alone": (
        lambda s, t: _kappa(_agreements(s, t)[0], _agreements(t, t)[1]),
        "both right by chance has probability student times teacher: each has an accuracy of its own.",
    ),
    "chance without both wrong": (
        lambda s, t: _kappa(_agreements(s, t)[0], s.float().mean() * t.float().mean()),
        "both wrong is agreement too: add the product of the two shares of errors.",
    ),
    "divided by chance": (
        _by_expected,
        "divide by what lies between chance and full agreement, so that the highest value is 1.",
    ),
    "chance not subtracted": (
        _not_subtracted,
        "independent errors must give 0: subtract chance above the line too.",
    ),
    "not divided": (
        lambda s, t: _agreements(s, t)[0] - _agreements(s, t)[1],
        "full agreement must give 1: divide by what lies between chance and 1.",
    ),
    "0 divided by 0": (
        _without_guard,
        "where both are always right chance is 1 and nothing is left to explain: return 0 there.",
    ),
}


@speaking
def _choices_differ(answer: Any, reference: Any) -> str | None:
    """Run each chosen property on its loss and say what it shows."""
    if not isinstance(answer, dict):
        return f"A dictionary from each letter to the name of a property is asked for, not {brief(answer)}."
    if answer and all(name is ... for name in answer.values()):
        raise NotAttempted
    for letter in answer:
        if not isinstance(letter, str) or letter not in LOSSES:
            return f"There is no loss {brief(letter)}: the letters are {', '.join(LOSSES)}. {_CHOOSE}"
    if missing := [letter for letter in LOSSES if answer.get(letter, ...) in (..., None)]:
        return f"No property is chosen for {', '.join(missing)}. {_CHOOSE}"
    for letter, name in answer.items():
        if not isinstance(name, str) or name not in PROPERTIES:
            return f"{letter}: there is no property {brief(name)}. {_CHOOSE}"
    seen = {letter: PROPERTIES[answer[letter]](loss) for letter, loss in LOSSES.items()}
    # Two properties that a loss passes are two different wrong choices; two that say the same of it are one.
    if all(
        answer[letter] == reference[letter] or (seen[letter] and seen[letter] == PROPERTIES[reference[letter]](loss))
        for letter, loss in LOSSES.items()
    ):
        return None
    return "\n".join(
        f"{letter} is right: {words}."
        if words
        else f"{letter} passes the property {answer[letter]}: choose another one."
        for letter, words in seen.items()
    )


_CHOOSE = f"Choose among {', '.join(map(repr, PROPERTIES))}."

_BETRAYED_BY = {
    "A": "two values of C",
    "B": "shift of logits",
    "C": "a masked row",
    "D": "zero at agreement",
    "E": "scale of the gradient",
    "F": "order of the batch",
}


def _exchanged(one: str, other: str) -> dict[str, str]:
    return {**_BETRAYED_BY, one: _BETRAYED_BY[other], other: _BETRAYED_BY[one]}


_CHOICE_MISTAKES: dict[str, tuple[Any, str]] = {
    "A and C exchanged": (
        _exchanged("A", "C"),
        "both divide by too much. Ask each what it counts: A the columns of the logits, C the rows.",
    ),
    "A and E exchanged": (
        _exchanged("A", "E"),
        "both lack a factor. Ask each on what the factor depends: A's on the number of classes, E's on τ.",
    ),
    "B and D exchanged": (
        _exchanged("B", "D"),
        "a square of differences is 0 where the logits are equal. D is built of softmaxes, which no shift moves.",
    ),
    "D and E exchanged": (
        _exchanged("D", "E"),
        "D's value is off by something that has no gradient. E's value is 0 at agreement whatever its factor.",
    ),
}


def wrong_answer_agreement(student_choice: Tensor, teacher_choice: Tensor, labels: Tensor) -> Tensor:
    """15.4."""
    wrong = teacher_choice != labels
    return ((student_choice == teacher_choice) & wrong).sum() / wrong.sum().clamp(min=1)


_CHOICES_MISTAKES: dict[str, tuple[Any, str]] = {
    "all examples below the line": (
        lambda s, t, y: ((s == t) & (t != y)).float().mean(),
        "a good teacher errs rarely, and this would be small for the best copy: divide by the teacher's mistakes.",
    ),
    "any wrong answer counts": (
        lambda s, t, y: ((s != y) & (t != y)).sum() / (t != y).sum().clamp(min=1),
        "hard examples are hard for everybody. A copy is known by the same wrong class.",
    ),
    "agreement on all examples": (
        lambda s, t, y: (s == t).float().mean(),
        "right answers can be had from labels: look only where the teacher is wrong.",
    ),
    "the student's mistakes below the line": (
        lambda s, t, y: ((s == t) & (t != y)).sum() / (s != y).sum().clamp(min=1),
        "that asks how much of the student's error is the teacher's; asked is how much of the teacher's arrives.",
    ),
    "0 divided by 0": (
        lambda s, t, y: ((s == t) & (t != y)).sum() / (t != y).sum(),
        "a teacher without a mistake has none to pass on: return 0 there.",
    ),
}

_SOMETIMES = torch.tensor([True, True, True, True, True, False, False, True])
_OFTEN = torch.tensor([True, True, True, True, True, False, True, True])
_HALF = torch.tensor([True, False, True, False])
_ALWAYS = torch.ones(3, dtype=torch.bool)
_LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
_TEACHER = torch.tensor([1, 2, 0, 1, 1, 2, 0, 1])  # wrong four times
_STUDENT = torch.tensor([1, 2, 1, 0, 0, 1, 1, 1])  # the same twice, another time otherwise, and wrong thrice alone

EXERCISES: dict[str, Exercise] = {
    "15.1": Exercise(
        title="Predict the agreement of strangers",
        hint="Both right has probability 0.8 times 0.7. Both wrong is agreement too.",
        differs=number(tolerance=0.004),
        solution=0.62,
        mistakes={
            "both right only": (0.56, "where both are wrong they agree too, in this sense."),
            "both wrong only": (0.06, "that is the product of the errors: add the product of the accuracies."),
            "one right and one wrong": (0.38, "that is where they differ; the rest is asked for."),
            "the most that is possible": (
                0.9,
                "so much where every error of the better one is an error of the other: those are not independent.",
            ),
            "the mean accuracy": (0.75, "an accuracy counts agreement with the labels, not with the other network."),
        },
        remark="Two that never met agree on 62 %: a student's agreement is worth what lies above that.",
    ),
    "15.2": Exercise(
        title="Build error consistency",
        hint="observed = (student_right == teacher_right).float().mean(); expected from the two accuracies.",
        differs=calls(
            {
                "eight examples": (_SOMETIMES, _OFTEN),
                "a teacher that is right where the student is wrong": (_HALF, ~_HALF),
                "two that are always right": (_ALWAYS, _ALWAYS),
            }
        ),
        solution=error_consistency,
        mistakes=_KAPPA_MISTAKES,
        remark="It is Cohen's κ on right and wrong: 1 for the same errors, 0 for independent ones, negative below.",
    ),
    "15.3": Exercise(
        title="Play the museum's game",
        hint="Call each property on each loss: it returns words where the loss betrays itself, else None.",
        differs=_choices_differ,
        solution=_BETRAYED_BY,
        mistakes=_CHOICE_MISTAKES,
        remark="Each loss passes five of the six properties: a test of one property would have let it through.",
    ),
    "15.4": Exercise(
        title="Build agreement on the teacher's mistakes",
        hint="First the mask of the teacher's mistakes; then the mean of equality over it.",
        further="wrong = teacher_choice != labels; among those, count where the student's choice is the teacher's.",
        differs=calls(
            {
                "eight examples": (_STUDENT, _TEACHER, _LABELS),
                "a teacher without mistakes": (_STUDENT, _LABELS, _LABELS),
            }
        ),
        solution=wrong_answer_agreement,
        mistakes=_CHOICES_MISTAKES,
        remark="Compare it with a student of labels alone: some wrong classes are near for everybody.",
    ),
}

QUIZ = (
    Question(
        "A student and its teacher are both right on 95 % of test examples and agree on 91 % of them in right and "
        "wrong. What does this say of copying?",
        {
            "Nothing: independent errors would agree as often": "0.95² + 0.05² is 0.905: what lies above it counts.",
            "The student is nearly a copy": "Two networks of this accuracy that never met agree on 90.5 %.",
            "The student does the opposite where it can": "Then agreement would be below 90.5 %.",
        },
        right="Nothing: independent errors would agree as often",
    ),
    Question(
        "With more distillation data a student agrees with its teacher more. Must its accuracy rise?",
        {
            "No: it may come to share the teacher's mistakes": "Agreement goes up with each mistake that arrives, "
            "and accuracy goes down.",
            "Yes: the teacher is the better network": "That bounds what a perfect copy reaches; a student may pass "
            "its teacher before it becomes one.",
            "Yes: agreement and accuracy are the same on test data": "They are the same only for a teacher that is "
            "always right.",
        },
        right="No: it may come to share the teacher's mistakes",
    ),
    Question(
        "A loss falls in training and the student improves. What do you know of the loss?",
        {
            "Little: most wrong losses do both": "All six of the game fall in training. Test what must hold: zero at "
            "agreement, order, masks, scales.",
            "That its gradient is right": "A gradient of the wrong length, or with a part too much, goes downhill too.",
            "That its value is right": "A constant too much changes no step.",
        },
        right="Little: most wrong losses do both",
    ),
)
