"""The exercises and the quiz of lesson 05, relation-based and contrastive distillation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import at_temperatures, brief, calls
from kdref.relation import info_nce_loss, similarity_preserving_loss

__all__ = ["EXERCISES", "QUIZ"]

_LINE = torch.tensor([[0.0], [1.0], [3.0]])
_SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
_STUDENT = torch.tensor([[1.0, 2.0], [2.0, 1.0], [-1.0, 0.5], [0.5, 3.0]])
_TEACHER = torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 1.0], [-1.0, 0.0, 1.0], [0.5, 1.0, -0.5]])
_PARTNERS = torch.tensor([[2.0, 1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, 3.0]])
_LABELS = torch.tensor([0, 1, 0, 2])


def my_relative_distances(embeddings: Tensor) -> Tensor:
    """05.1."""
    distances = _distances(embeddings)
    return distances / (distances.sum() / (len(distances) * (len(distances) - 1)))


def _distances(x: Tensor) -> Tensor:
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def _by_products(x: Tensor) -> Tensor:
    norms = x.square().sum(dim=1)
    squared = norms[:, None] + norms - 2 * x @ x.mT
    distances = (squared.clamp(min=0) + 1e-12).sqrt()
    return distances / (distances.sum() / (len(x) * (len(x) - 1)))


_DISTANCE_MISTAKES: dict[str, tuple[Any, str]] = {
    "a mean over all entries": (
        lambda x: _distances(x) / _distances(x).mean(),
        "that counts the zeros of the diagonal, so the result depends on the size of the batch.",
    ),
    "squared distances": (
        lambda x: _distances(x).square() * len(x) * (len(x) - 1) / _distances(x).square().sum(),
        "the distance is the root of the sum of squares.",
    ),
    "divided by the largest": (
        lambda x: _distances(x) / _distances(x).max(),
        "one far example would then set the scale of all others. The mean is asked for.",
    ),
    "each row by its own mean": (
        lambda x: _distances(x) * (len(x) - 1) / _distances(x).sum(dim=1, keepdim=True),
        "one number for the whole batch: a row's own mean hides which examples lie far from all others.",
    ),
    "products of features far from zero": (
        _by_products,
        "|a|² + |b|² - 2ab loses in float32 what a and b have in common. Subtract the batch's mean first.",
    ),
}


def my_similarity_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """05.2."""
    return similarity_preserving_loss(student_features, teacher_features)


def _similarity(s: Tensor, t: Tensor, p: float = 2.0, unit_first: bool = False) -> Tensor:
    sides = [F.normalize(x, dim=1) if unit_first else x for x in (s, t)]
    one, other = (F.normalize(x @ x.mT, p=p, dim=1) for x in sides)
    return F.mse_loss(one, other)


def _whole_matrix(s: Tensor, t: Tensor) -> Tensor:
    one, other = (x @ x.mT / (x @ x.mT).norm() for x in (s, t))
    return F.mse_loss(one, other)


_SIMILARITY_MISTAKES: dict[str, tuple[Any, str]] = {
    "rows of sum 1": (
        lambda s, t: _similarity(s, t, p=1.0),
        "the second argument of F.normalize is p. torchdistill has this one: the L2 norm is asked for.",
    ),
    "features of length 1 first": (
        lambda s, t: _similarity(s, t, unit_first=True),
        "take the products of the features as they are. Only the rows of the product matrix get length 1.",
    ),
    "the matrix as a whole at length 1": (
        _whole_matrix,
        "each row has its own norm, so that examples with large features don't rule.",
    ),
    "divided by B": (
        lambda s, t: _similarity(s, t) * len(s),
        "there are B² entries, and the loss is a mean over all of them.",
    ),
}

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


def my_info_nce(student_embeddings: Tensor, teacher_embeddings: Tensor, temperature: float) -> Tensor:
    """05.4."""
    return info_nce_loss(student_embeddings, teacher_embeddings, temperature=temperature)


def _cosines(s: Tensor, t: Tensor) -> Tensor:
    return F.normalize(s, dim=1) @ F.normalize(t, dim=1).mT


def _find(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.arange(len(logits)))


def _both_ways(logits: Tensor) -> Tensor:
    return (_find(logits) + _find(logits.mT)) / 2


def _without_partner(logits: Tensor) -> Tensor:
    others = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -torch.inf)
    return (others.logsumexp(dim=1) + others.logsumexp(dim=0)).mean() / 2 - logits.diagonal().mean()


_NCE_MISTAKES: dict[str, tuple[Any, str]] = {
    "products instead of cosines": (
        lambda s, t, tau: _both_ways(s @ t.mT / tau),
        "bring every row to length 1 first.",
    ),
    "times the temperature": (
        lambda s, t, tau: _both_ways(_cosines(s, t) * tau),
        "the temperature divides, as in a softmax.",
    ),
    "from the student's side alone": (
        lambda s, t, tau: _find(_cosines(s, t) / tau),
        "the teacher's rows look for their partners too: the same with the matrix transposed.",
    ),
    "the sum of both sides": (
        lambda s, t, tau: 2 * _both_ways(_cosines(s, t) / tau),
        "half of it is asked for: the mean of the two sides.",
    ),
    "the partner left out below": (
        lambda s, t, tau: _without_partner(_cosines(s, t) / tau),
        "the sum goes over all j, the partner included, else the loss can be negative.",
    ),
}


def my_class_aware_loss(
    student_embeddings: Tensor, teacher_embeddings: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """05.5."""
    return _find(_without(_cosines(student_embeddings, teacher_embeddings) / temperature, labels, -torch.inf))


def _without(logits: Tensor, labels: Tensor, fill: float) -> Tensor:
    same = labels[:, None] == labels
    return logits.masked_fill(same & ~torch.eye(len(labels), dtype=torch.bool), fill)


_CLASS_MISTAKES: dict[str, tuple[Any, str]] = {
    "all are negatives": (
        lambda s, t, labels, tau: _find(_cosines(s, t) / tau),
        "examples 0 and 2 are of one class and must not push each other away.",
    ),
    "a logit of zero": (
        lambda s, t, labels, tau: _find(_without(_cosines(s, t) / tau, labels, 0.0)),
        "exp(0) is 1, so it still counts in the sum. Which logit makes exp 0?",
    ),
    "the partner left out too": (
        lambda s, t, labels, tau: (
            (_cosines(s, t) / tau).masked_fill(labels[:, None] == labels, -torch.inf).logsumexp(dim=1)
            - (_cosines(s, t) / tau).diagonal()
        ).mean(),
        "an example is of its own class: the mask must spare the diagonal.",
    ),
    "all of the class are partners": (
        lambda s, t, labels, tau: (
            (_cosines(s, t) / tau).logsumexp(dim=1)
            - (_cosines(s, t) / tau).masked_fill(labels[:, None] != labels, -torch.inf).logsumexp(dim=1)
        ).mean(),
        "that asks for any example of the class. Here only one's own counts; the others are neither right nor wrong.",
    ),
}

EXERCISES: dict[str, Exercise] = {
    "05.1": Exercise(
        title="Distances in units of their mean",
        hint="torch.cdist(x, x) gives all distances; B·(B - 1) of them are of distinct examples.",
        differs=calls(
            {
                "three examples on a line": (_LINE,),
                "four examples in the plane": (_SQUARE,),
                "four examples far from zero": (_SQUARE / 10 + 3000.0,),
            },
            tolerance=5e-3,
        ),
        solution=my_relative_distances,
        mistakes=_DISTANCE_MISTAKES,
        remark="No rotation, shift or scale of the embeddings changes the result.",
    ),
    "05.2": Exercise(
        title="Similarities preserved",
        hint="F.normalize(G, dim=1) brings each row to L2 length 1; F.mse_loss takes the mean over all entries.",
        differs=calls(
            {
                "four examples": (_STUDENT, _TEACHER),
                "three of them": (_STUDENT[:3], _TEACHER[:3]),
            }
        ),
        solution=my_similarity_loss,
        mistakes=_SIMILARITY_MISTAKES,
        remark="Two columns on one side and three on the other: similarity matrices don't care.",
    ),
    "05.3": Exercise(
        title="Predict what a shift changes",
        hint="Which are made of differences of examples, and which of products or cosines?",
        differs=_names_differ,
        solution={"SP", "CC", "PKT"},
        mistakes={
            "all of them": (_NAMES, "in the difference of two examples the constant cancels. Which use differences?"),
            "none": (set(), "a cosine is an angle seen from the origin, and a shift moves the origin."),
            "SP alone": ({"SP"}, "SP is made of products. What are the cosines of CC and PKT made of?"),
            "the other way round": (
                {"RKD distance", "RKD angle"},
                "those are the ones that stay: the constant cancels in each difference.",
            ),
        },
        remark="Features after a ReLU are such a shift: none is negative, and no cosine is below 0.",
    ),
    "05.4": Exercise(
        title="Find your partner",
        hint="The matrix of cosines over τ holds logits; the right class of row i is i.",
        differs=calls(at_temperatures("four pairs", _STUDENT, _PARTNERS, temperatures=(0.5, 0.07))),
        solution=my_info_nce,
        mistakes=_NCE_MISTAKES,
        remark="The log of B minus this, here log 4, is all that a batch of four can certify.",
    ),
    "05.5": Exercise(
        title="Design: classmates are no negatives",
        hint="Mask the logits of pairs that share a label, except for the diagonal, with -torch.inf.",
        differs=calls(
            {
                "two of one class, temperature 0.5": (_STUDENT, _PARTNERS, _LABELS, 0.5),
                "all of other classes": (_STUDENT, _PARTNERS, torch.arange(4), 0.5),
            }
        ),
        solution=my_class_aware_loss,
        mistakes=_CLASS_MISTAKES,
        remark="ContrastiveMemory does the same with its negatives when it is given labels.",
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
