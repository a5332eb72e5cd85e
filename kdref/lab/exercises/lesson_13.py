"""The exercises and the quiz of lesson 13, scaling laws: when to distil, and when to train."""

from typing import Any

import torch
from torch import Tensor

from kdref.lab.course.questions import Exercise, NotAttempted, Question, speaking
from kdref.lab.exercises import brief, calls, number
from kdref.lab.experiments._scaling_splits import alone, best_split

__all__ = ["EXERCISES", "QUIZ"]


def supervised_law(
    n: Tensor, d: Tensor, A: float, B: float, E: float, alpha: float, beta: float, gamma: float
) -> Tensor:
    """13.3."""
    return E + (A / n**alpha + B / d**beta) ** gamma


_LAW_MISTAKES: dict[str, tuple[Any, str]] = {
    "γ on each term": (
        lambda n, d, A, B, E, alpha, beta, gamma: E + (A / n**alpha) ** gamma + (B / d**beta) ** gamma,
        "add the two terms first, then take the power: a root of a sum is less than the sum of the roots.",
    ),
    "no γ": (
        lambda n, d, A, B, E, alpha, beta, gamma: E + A / n**alpha + B / d**beta,
        "that is the form of Hoffmann et al. 2022; here the sum is raised to the power γ.",
    ),
    "α and β exchanged": (
        lambda n, d, A, B, E, alpha, beta, gamma: E + (A / n**beta + B / d**alpha) ** gamma,
        "α belongs to the parameters, β to the tokens.",
    ),
    "A and B exchanged": (
        lambda n, d, A, B, E, alpha, beta, gamma: E + (B / n**alpha + A / d**beta) ** gamma,
        "A belongs to the parameters, B to the tokens.",
    ),
    "E inside the power": (
        lambda n, d, A, B, E, alpha, beta, gamma: (E + A / n**alpha + B / d**beta) ** gamma,
        "E is what no size removes: it stands outside.",
    ),
    "no E": (
        lambda n, d, A, B, E, alpha, beta, gamma: (A / n**alpha + B / d**beta) ** gamma,
        "then a loss of 0 could be reached: add what no size removes.",
    ),
    "a product of powers": (
        lambda n, d, A, B, E, alpha, beta, gamma: E + (A / n**alpha * B / d**beta) ** gamma,
        "whichever of the two is short sets the loss: add the terms.",
    ),
}


def student_error(target: Tensor, teacher_width: int, student_width: int, norm: float) -> Tensor:
    """13.5."""
    teacher = _first(target, teacher_width)
    teacher = teacher * (norm / teacher.norm()).clamp(max=1)
    return (target - _first(teacher, student_width)).square().sum()


def _first(x: Tensor, width: int) -> Tensor:
    return torch.where(torch.arange(len(x)) < width, x, 0.0)


def _always_scaled(target: Tensor, teacher_width: int, student_width: int, norm: float) -> Tensor:
    teacher = _first(target, teacher_width)
    scaled = _first(teacher * norm / teacher.norm(), student_width)
    return (target - scaled).square().sum()


def _student_scaled(target: Tensor, teacher_width: int, student_width: int, norm: float) -> Tensor:
    student = _first(target, min(teacher_width, student_width))
    difference: Tensor = target - student * (norm / student.norm()).clamp(max=1)
    return difference.square().sum()


def _squared_norm(target: Tensor, teacher_width: int, student_width: int, norm: float) -> Tensor:
    teacher = _first(target, teacher_width)
    teacher = teacher * (norm / teacher.square().sum()).clamp(max=1)
    return (target - _first(teacher, student_width)).square().sum()


def _against_the_teacher(target: Tensor, teacher_width: int, student_width: int, norm: float) -> Tensor:
    teacher = _first(target, teacher_width)
    teacher = teacher * (norm / teacher.norm()).clamp(max=1)
    difference: Tensor = teacher - _first(teacher, student_width)
    return difference.square().sum()


def _of_the_teacher(target: Tensor, teacher_width: int, student_width: int, norm: float) -> Tensor:
    return student_error(target, teacher_width, len(target), norm)


_KERNEL_MISTAKES: dict[str, tuple[Any, str]] = {
    "no limit": (
        lambda target, m, n, norm: student_error(target, m, n, 1e9),
        "the teacher's norm is limited: scale its coefficients down to it where they are longer.",
    ),
    "scaled up too": (_always_scaled, "a teacher within its limit stays as it is: the factor is at most 1."),
    "the student scaled": (
        _student_scaled,
        "the limit is the teacher's, over all of its functions: the student copies what the teacher has of its own.",
    ),
    "the square of the norm": (_squared_norm, "divide by the norm, not by the sum of squares."),
    "against the teacher": (
        _against_the_teacher,
        "that asks how well the student copies. Asked is how far it is from the target.",
    ),
    "the teacher's error": (_of_the_teacher, "the student has fewer functions: cut the teacher at its width."),
    "widths exchanged": (
        lambda target, m, n, norm: student_error(target, n, m, norm),
        "the teacher is limited over its own width, then the student takes the first of these.",
    ),
}

BILLION = 1e9
CASES: dict[str, tuple[float, float, str]] = {  # a student's parameters, the budget, who pays
    "A": (0.546 * BILLION, 1e20, "the teacher exists, with stored answers"),
    "B": (0.546 * BILLION, 1e20, "the teacher is made for this student"),
    "C": (1.82 * BILLION, 1e23, "the teacher exists, with stored answers"),
    "D": (1.82 * BILLION, 1e20, "ten students share the teacher"),
}
VERDICTS = ("distil", "train", "much the same")
_RIGHT = {"A": "distil", "B": "train", "C": "much the same", "D": "distil"}


@speaking
def _verdicts_differ(answer: Any, reference: Any) -> str | None:
    if not isinstance(answer, dict):
        return f"A dictionary from each letter to a verdict is asked for, not {brief(answer)}."
    if answer and all(said is ... for said in answer.values()):
        raise NotAttempted
    for letter in answer:
        if not isinstance(letter, str) or letter not in CASES:
            return f"There is no case {brief(letter)}: the letters are {', '.join(CASES)}. {_CHOOSE}"
    if missing := [letter for letter in CASES if answer.get(letter, ...) in (..., None)]:
        return f"No verdict is given for {', '.join(missing)}. {_CHOOSE}"
    for letter, said in answer.items():
        if not isinstance(said, str) or said not in VERDICTS:
            return f"{letter}: there is no verdict {brief(said)}. {_CHOOSE}"
    wrong = [letter for letter in CASES if answer[letter] != reference[letter]]
    return "\n".join(f"{letter} is another: {_numbers(letter)}." for letter in wrong) or None


def _numbers(letter: str) -> str:
    size, budget, payer = CASES[letter]
    best = best_split(size, budget, payer)
    taught = f"{best.loss:.3f}" if best else "no teacher"
    return f"the law says {alone(size, budget):.3f} nats alone, {taught} taught"


_CHOOSE = f"Choose among {', '.join(map(repr, VERDICTS))}."

_VERDICT_MISTAKES: dict[str, tuple[Any, str]] = {
    "always distil": (
        dict.fromkeys(CASES, "distil"),
        "who makes a teacher for one student spends on it what the student needs.",
    ),
    "always train": (
        dict.fromkeys(CASES, "train"),
        "where the teacher is there already, a student far from its limit gains much.",
    ),
    "a teacher that exists always wins": (
        {**_RIGHT, "C": "distil"},
        "with enough tokens the student alone comes as far: C's two losses differ by less than 0.01 nats.",
    ),
    "a shared teacher counted as made for one": (
        {**_RIGHT, "D": "train"},
        "ten students pay a tenth each.",
    ),
}

_TARGET = torch.tensor([3.0, 2.0, 1.0, 1.0, 0.5])
_N, _D = torch.tensor([1e6, 1e8]), torch.tensor([3e7, 1e9])

EXERCISES: dict[str, Exercise] = {
    "13.1": Exercise(
        title="Predict from two losses and a floor",
        hint="Take the floor away. What does a factor of ten do to the rest?",
        further="Take the floor away: each factor of ten in tokens multiplies what is left by the same number.",
        differs=number(tolerance=0.002),
        solution=2.5,
        mistakes={
            "a power law without a floor": (2.25, "that lets the loss fall to 0: only what lies above 2 halves."),
            "a straight line": (2.0, "the loss does not fall by the same amount: what is above the floor halves."),
            "what is above the floor": (0.5, "that is what is left above the floor: add the floor."),
        },
        remark="Nothing in two points gives the floor: it is what a fit is least sure of, and far off it decides.",
    ),
    "13.2": Exercise(
        title="Predict what a student costs",
        hint="Per parameter and token: 2 for a forward pass, 4 for a backward pass. The teacher only goes forward.",
        differs=number(tolerance=0.002),
        solution=14 / 6,
        mistakes={
            "the teacher goes backward too": (5.0, "a frozen teacher needs no backward pass: 2, not 6."),
            "the student only goes forward": (10 / 6, "the student is trained: a forward and a backward pass, 6."),
            "the student left out": (8 / 6, "that is the teacher's part alone: the student's own training stands."),
            "in units of N times D": (14.0, "divide by what training alone costs, 6."),
        },
        remark="Store the answers and use them for several students, and most of it is paid once.",
    ),
    "13.3": Exercise(
        title="Build the law of training alone",
        hint="Two terms that fall with n and d, added, raised to γ, on top of E.",
        differs=calls(
            {
                "two sizes": (_N, _D, 3355.0, 18186.0, 1.22, 0.408, 0.431, 0.452),
                "another law": (_N, _D, 400.0, 40.0, 0.5, 0.3, 0.1, 0.9),
            }
        ),
        solution=supervised_law,
        mistakes=_LAW_MISTAKES,
        remark="With γ = 1 it is the law of Hoffmann et al. 2022.",
    ),
    "13.4": Exercise(
        title="Decide: distil, or train?",
        hint="alone(size, budget) and best_split(size, budget, payer).loss; within 0.01 nats they are much the same.",
        differs=_verdicts_differ,
        solution=_RIGHT,
        mistakes=_VERDICT_MISTAKES,
        remark="Two things decide: whether the teacher is there or shared, and how far the budget already takes you.",
    ),
    "13.5": Exercise(
        title="Build the exact capacity gap",
        hint="Keep the first m of the target, scale them to the norm if they are longer, keep the first n of those.",
        differs=calls(
            {
                "a teacher narrower than its student": (_TARGET, 2, 3, 2.0),
                "a teacher as wide": (_TARGET, 3, 3, 2.0),
                "a wider teacher": (_TARGET, 5, 3, 2.0),
                "a limit that does not bind": (_TARGET, 4, 2, 10.0),
            }
        ),
        solution=student_error,
        mistakes=_KERNEL_MISTAKES,
        remark="The best teacher is as wide as its student: a wider one spends its norm on what can't be copied.",
    ),
}

QUIZ = (
    Question(
        "By the published law, how can a better teacher make a worse student?",
        {
            "What the student can't imitate grows faster": "Two terms, one falling, one rising: their sum is a U.",
            "A better teacher is larger, and the law punishes size": "The teacher's size and data enter through its "
            "loss alone.",
            "It can't: the student's loss follows its teacher's": "Only where the student can imitate it.",
        },
        right="What the student can't imitate grows faster",
    ),
    Question(
        "A law with six constants fits all 48 points that you measured within two per cent. What do you know of a run "
        "ten times as large?",
        {
            "Little, until runs that took no part in the fit were predicted": "Hold out the largest runs, and compare "
            "with what simpler guesses say of them.",
            "Its loss, within two per cent": "That is the error where the constants were chosen to make it small.",
            "Its loss, within the bootstrap's interval": "The interval supposes that the form is right.",
        },
        right="Little, until runs that took no part in the fit were predicted",
    ),
    Question(
        "You need one small model and have no teacher, but a budget that would pay for either way. What does the "
        "published law advise?",
        {
            "Train the model on data": "Counted with its teacher's training, distillation comes out behind.",
            "Make a large teacher first": "It takes the budget that the student needs.",
            "Make a teacher as large as the student": "It takes half of the budget and knows no more.",
        },
        right="Train the model on data",
    ),
)
