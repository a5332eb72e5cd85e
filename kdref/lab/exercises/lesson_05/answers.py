"""Right and wrong answers to the exercises of lesson 05, relation-based and contrastive distillation."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Forms
from kdref.relation import info_nce_loss, similarity_preserving_loss

__all__ = [
    "CLASS_MISTAKES",
    "CRITIC_MISTAKES",
    "DISTANCE_MISTAKES",
    "NCE_MISTAKES",
    "SIMILARITY_MISTAKES",
    "my_class_aware_loss",
    "my_critic_loss",
    "my_info_nce",
    "my_relative_distances",
    "my_similarity_loss",
]


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


DISTANCE_MISTAKES: dict[str, tuple[Any, str]] = {
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
    "each pair counted once": (
        lambda x: my_relative_distances(x) / 2,
        "the table holds each pair twice: divide its sum by B·(B - 1), or half of it by half of that.",
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


SIMILARITY_MISTAKES: dict[str, tuple[Any, str]] = {
    "rows of sum 1": (
        lambda s, t: _similarity(s, t, p=1.0),
        "the second argument of F.normalize is p. torchdistill has this one: the L2 norm is asked for.",
    ),
    "features of length 1 first": (
        lambda s, t: _similarity(s, t, unit_first=True),
        "take the products of the features as they are. Only the rows of the product matrix get length 1.",
    ),
    "the products as they are": (
        lambda s, t: F.mse_loss(s @ s.mT, t @ t.mT),
        "each row of the product matrix gets length 1 first, so that neither net's scale counts.",
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


NCE_MISTAKES: dict[str, tuple[Any, str]] = {
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


CLASS_MISTAKES: dict[str, tuple[Any, str]] = {
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
    "section 7's loss on labels": (
        Forms(
            lambda s, t, labels, tau: _of_the_class(_cosines(s, t) / tau, labels),
            lambda s, t, labels, tau: _among_others(_cosines(s, t) / tau, labels),
        ),
        "there the others of one's class are partners. Here they are left out, and the one partner is one's own.",
    ),
    "both directions": (
        lambda s, t, labels, tau: _both_ways(_without(_cosines(s, t) / tau, labels, -torch.inf)),
        "the student's side alone is asked for.",
    ),
}


def _of_the_class(logits: Tensor, labels: Tensor) -> Tensor:
    return -F.log_softmax(logits, dim=1)[labels[:, None] == labels].mean()


def _among_others(logits: Tensor, labels: Tensor) -> Tensor:
    itself = torch.eye(len(labels), dtype=torch.bool)
    same = (labels[:, None] == labels) & ~itself
    return -F.log_softmax(logits.masked_fill(itself, -torch.inf), dim=1)[same].mean()


def my_critic_loss(positives: Tensor, negatives: Tensor, temperature: float, c: float) -> Tensor:
    """05.6."""
    noise = math.log(negatives.shape[1] * c)
    accepted = F.softplus(noise - positives / temperature)  # -log h
    rejected = F.softplus(negatives / temperature - noise)  # -log(1 - h)
    return (accepted + rejected.sum(dim=1)).mean()


def _critic(positives: Tensor, negatives: Tensor, temperature: float, noise: float) -> Tensor:
    return _judged(positives / temperature - noise, negatives / temperature - noise)


def _judged(positives: Tensor, negatives: Tensor) -> Tensor:
    return (F.softplus(-positives) + F.softplus(negatives).sum(dim=1)).mean()


def _as_written(positives: Tensor, negatives: Tensor, temperature: float, c: float) -> Tensor:
    one, other = (x.div(temperature).exp() for x in (positives, negatives))
    h, g = (x / (x + negatives.shape[1] * c) for x in (one, other))
    return -(h.log() + (1 - g).log().sum(dim=1)).mean()


def _rounded(positives: Tensor, negatives: Tensor, temperature: float, c: float) -> Tensor:
    noise = math.log(negatives.shape[1] * c)
    rejected = -torch.log1p(-torch.sigmoid(negatives / temperature - noise))
    return (F.softplus(noise - positives / temperature) + rejected.sum(dim=1)).mean()


def _mean_of_negatives(positives: Tensor, negatives: Tensor, temperature: float, c: float) -> Tensor:
    noise = math.log(negatives.shape[1] * c)
    return (F.softplus(noise - positives / temperature) + F.softplus(negatives / temperature - noise).mean(1)).mean()


def _all_accepted(positives: Tensor, negatives: Tensor, temperature: float, c: float) -> Tensor:
    noise = math.log(negatives.shape[1] * c)
    return (F.softplus(noise - positives / temperature) + F.softplus(noise - negatives / temperature).sum(1)).mean()


def _one_of_all(positives: Tensor, negatives: Tensor, temperature: float, c: float) -> Tensor:
    return _find_first(torch.cat([positives[:, None], negatives], dim=1) / temperature)


def _find_first(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


CRITIC_MISTAKES: dict[str, tuple[Any, str]] = {
    "a plain sigmoid": (
        lambda p, n, tau, c: _critic(p, n, tau, 0.0),
        "with K strangers to one partner, h has K·c beside the exponential, not 1.",
    ),
    "c without K": (
        lambda p, n, tau, c: _critic(p, n, tau, math.log(c)),
        "the constant is K times c, and K is the number of negatives of a row.",
    ),
    "the mean of the negatives": (
        _mean_of_negatives,
        "there are K questions to strangers and one to the partner: they are summed.",
    ),
    "a sum over the batch": (
        lambda p, n, tau, c: my_critic_loss(p, n, tau, c) * len(p),
        "over the strangers it is a sum, over the examples a mean.",
    ),
    "no temperature": (
        lambda p, n, tau, c: my_critic_loss(p, n, 1.0, c),
        "the cosines are divided by the temperature.",
    ),
    "1 - h as written": (
        _rounded,
        "h rounds to 1, so that the log of 1 - h is infinite. -log(1 - σ(a)) is F.softplus(a).",
    ),
    "strangers accepted": (_all_accepted, "for a stranger the right answer is no, of probability 1 - h."),
    "one of K + 1": (
        _one_of_all,
        "that is InfoNCE, one question with K + 1 answers. Here each pair is asked by itself: yes or no?",
    ),
    "the exponentials as written": (
        _as_written,
        "at a small temperature they overflow, and 1 - h is 0. F.softplus of differences stays finite.",
    ),
}
