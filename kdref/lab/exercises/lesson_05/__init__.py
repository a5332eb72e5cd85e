"""The exercises and the quiz of lesson 05, relation-based and contrastive distillation."""

from typing import Any

import torch

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import at_temperatures, brief, calls
from kdref.lab.exercises.lesson_05.answers import (
    CLASS_MISTAKES,
    CRITIC_MISTAKES,
    DISTANCE_MISTAKES,
    NCE_MISTAKES,
    SIMILARITY_MISTAKES,
    my_class_aware_loss,
    my_critic_loss,
    my_info_nce,
    my_relative_distances,
    my_similarity_loss,
)

__all__ = ["EXERCISES", "QUIZ"]

_LINE = torch.tensor([[0.0], [1.0], [3.0]])
_SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
_STUDENT = torch.tensor([[1.0, 2.0], [2.0, 1.0], [-1.0, 0.5], [0.5, 3.0]])
_TEACHER = torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 1.0], [-1.0, 0.0, 1.0], [0.5, 1.0, -0.5]])
_PARTNERS = torch.tensor([[2.0, 1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, 3.0]])
_LABELS = torch.tensor([0, 1, 0, 2])
_PARTNER = torch.tensor([0.9, 0.2, -0.4])
_STRANGERS = torch.tensor([[0.1, -0.6, 0.5, 0.8], [0.0, 0.3, -0.2, 0.9], [0.7, -0.9, 0.4, 0.1]])
_NAMES = {"RKD distance", "RKD angle", "SP", "CC", "PKT"}


def _names_differ(answer: Any, reference: Any) -> str | None:
    """Compare two sets of names, without saying which name is wrong."""
    if not isinstance(answer, set | frozenset | list | tuple):
        return f"A set of names is asked for, not {brief(answer)}."
    unknown = sorted(brief(name) for name in answer if not isinstance(name, str) or name not in _NAMES)
    if unknown:
        return f"There is no loss named {unknown[0]} here: choose among {', '.join(sorted(_NAMES))}."
    wrong = len(set(answer) ^ set(reference))
    return f"You are right about {len(_NAMES) - wrong} of {len(_NAMES)} losses." if wrong else None


EXERCISES: dict[str, Exercise] = {
    "05.1": Exercise(
        title="Distances in units of their mean",
        hint="A sum over all entries, and the right number to divide it by.",
        further="torch.cdist(x, x) gives all distances; B·(B - 1) of them are of distinct examples.",
        differs=calls(
            {
                "three examples on a line": (_LINE,),
                "four examples in the plane": (_SQUARE,),
                "four examples far from zero": (_SQUARE / 10 + 3000.0,),
            },
            tolerance=5e-3,
        ),
        solution=my_relative_distances,
        mistakes=DISTANCE_MISTAKES,
        remark="No rotation, shift or scale of the embeddings changes the result.",
    ),
    "05.2": Exercise(
        title="Similarities preserved",
        hint="Two products of matrices, two normalisations of rows, one mean of squares.",
        further="F.normalize(G, dim=1) brings each row to L2 length 1; F.mse_loss takes the mean over all entries.",
        differs=calls(
            {
                "four examples": (_STUDENT, _TEACHER),
                "three of them": (_STUDENT[:3], _TEACHER[:3]),
            }
        ),
        solution=my_similarity_loss,
        mistakes=SIMILARITY_MISTAKES,
        remark="Two columns on one side and three on the other: similarity matrices don't care.",
    ),
    "05.3": Exercise(
        title="Predict what a constant feature changes",
        hint="Where does the constant cancel?",
        further="Which are made of differences of examples, and which of products or cosines?",
        differs=_names_differ,
        solution={"SP", "CC", "PKT"},
        mistakes={
            "all of them": (_NAMES, "in the difference of two examples the constant cancels. Which use differences?"),
            "none": (set(), "a cosine is an angle seen from the origin, and the constant moves away from it."),
            "SP alone": ({"SP"}, "SP is made of products. What are the cosines of CC and PKT made of?"),
            "the other way round": (
                {"RKD distance", "RKD angle"},
                "those are the ones that stay: the constant cancels in each difference.",
            ),
        },
        remark="It is a shift along a new axis. A ReLU does alike: no feature is negative, no cosine below 0.",
    ),
    "05.4": Exercise(
        title="Find your partner",
        hint="F.cross_entropy, twice, on one matrix and on its transpose.",
        further="The matrix of cosines over τ holds logits; the right class of row i is i.",
        differs=calls(at_temperatures("four pairs", _STUDENT, _PARTNERS, temperatures=(0.5, 0.07))),
        solution=my_info_nce,
        mistakes=NCE_MISTAKES,
        remark="The log of B minus this, here log 4, is all that a batch of four can certify.",
    ),
    "05.5": Exercise(
        title="Design: classmates are no negatives",
        hint="exp(−∞) is 0. And one's partner has one's own label too.",
        further="Mask the logits of pairs that share a label, except for the diagonal, with -torch.inf.",
        differs=calls(
            {
                "two of one class, temperature 0.5": (_STUDENT, _PARTNERS, _LABELS, 0.5),
                "all of other classes": (_STUDENT, _PARTNERS, torch.arange(4), 0.5),
            }
        ),
        solution=my_class_aware_loss,
        mistakes=CLASS_MISTAKES,
        remark="ContrastiveMemory does the same with its negatives when it is given labels.",
    ),
    "05.6": Exercise(
        title="Partner or stranger",
        hint="Write h as a sigmoid of cosine/τ minus a number. Then softplus gives both logarithms.",
        further="h = σ(a) with a = cosine/τ - log(K·c); -log σ(a) is F.softplus(-a), -log(1 - σ(a)) is F.softplus(a).",
        differs=calls(
            {
                "three examples, four negatives each": (_PARTNER, _STRANGERS, 0.5, 2.0),
                "a small temperature": (_PARTNER, _STRANGERS, 0.005, 2.0),
            }
        ),
        solution=my_critic_loss,
        mistakes=CRITIC_MISTAKES,
        remark="crd_loss is this sum with the student's rows as anchors, plus the same with the teacher's.",
    ),
}

QUIZ = (
    Question(
        "Why does a relation loss need no regressor between 32 and 300 features?",
        {
            "Because it compares B × B tables": "Each net's table has a row and a column per example, whatever its "
            "width.",
            "Because it cuts the wider one": "Nothing is cut: both nets' distances use all their features.",
            "Because features are normalised first": "That makes rows equally long, not equally wide.",
        },
        right="Because it compares B × B tables",
    ),
    Question(
        "A student's distances equal the teacher's exactly. What does it know about the classes' names?",
        {
            "Nothing": "A rotation keeps all distances. Which region is called 3, labels or logits must say.",
            "All that the teacher knows": "The shape is the teacher's, but the loss carries no name of any class.",
            "It depends on the batch size": "Larger batches show more pairs, and no names either.",
        },
        right="Nothing",
    ),
    Question(
        "InfoNCE with batches of 64 reports 4.1 nats of shared information. Is there more?",
        {
            "It can't say": "log 64 is 4.16: the estimate is near the most that such a batch can report.",
            "No, the estimate is near its true value": "It is near its ceiling, log 64, whatever the true value.",
            "Yes, surely": "Possibly. This number can't tell; larger batches could.",
        },
        right="It can't say",
    ),
)
