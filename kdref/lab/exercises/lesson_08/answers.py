"""Right and wrong answers to the exercises of lesson 08, self-distillation and online distillation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.self_distillation import mutual_learning_loss, output_information, ridge_self_distillation

__all__ = [
    "AVERAGE_MISTAKES",
    "DETECTOR_MISTAKES",
    "PEER_MISTAKES",
    "ROUND_MISTAKES",
    "my_detector",
    "my_peer_losses",
    "my_round",
    "repaired",
]


def my_round(gram: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """08.1."""
    return ridge_self_distillation(gram, targets, penalty=penalty, rounds=1)[0]


def _weights(gram: Tensor, targets: Tensor, penalty: float) -> Tensor:
    weights: Tensor = torch.linalg.solve(gram + penalty * torch.eye(len(gram)), targets)
    return weights


ROUND_MISTAKES: dict[str, tuple[Any, str]] = {
    "the weights for the fit": (
        _weights,
        "(G + cI)⁻¹ T are the weights of the kernels. The fitted values are G times them.",
    ),
    "the penalty twice": (
        lambda gram, targets, penalty: my_round(gram, targets, 2 * penalty),
        "c belongs on the diagonal of the matrix that is inverted, once.",
    ),
    "the penalty times the examples": (
        lambda gram, targets, penalty: my_round(gram, targets, len(gram) * penalty),
        "N c is for a mean of squared errors. The formula here has their sum.",
    ),
    "the penalty everywhere": (
        lambda gram, targets, penalty: gram @ torch.linalg.solve(gram + penalty, targets),
        "adding a number to a matrix adds it to every entry. It belongs on the diagonal.",
    ),
    "the penalised matrix in front": (
        lambda gram, targets, penalty: targets + penalty * _weights(gram, targets, penalty),
        "the fit is G times the weights, without c: with it, and with this sign, errors grow.",
    ),
}


def my_peer_losses(logits: Tensor) -> Tensor:
    """08.3."""
    others = [torch.cat([logits[:k], logits[k + 1 :]]) for k in range(len(logits))]
    return torch.stack([mutual_learning_loss(own, rest) for own, rest in zip(logits, others, strict=True)])


def _all_pairs(logits: Tensor) -> Tensor:  # (K, K): KL of peer l from k, mean over examples
    log_p = logits.log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_p[:, None])).sum(dim=-1).mean(dim=-1)


def _peer_cross_entropies(logits: Tensor) -> Tensor:
    log_p = logits.log_softmax(dim=-1)
    crossed = -(log_p.exp() * log_p[:, None]).sum(dim=-1).mean(dim=-1)
    return (crossed.sum(dim=1) - crossed.diagonal()) / (len(logits) - 1)


def _average_peer(logits: Tensor) -> Tensor:
    p = logits.softmax(dim=-1)
    others = (p.sum(dim=0) - p) / (len(p) - 1)
    return (others * (others.log() - logits.log_softmax(dim=-1))).sum(dim=-1).mean(dim=-1)


def _of_probabilities(logits: Tensor) -> Tensor:
    p, peers = logits.softmax(dim=-1), range(len(logits))
    apart = [[F.kl_div(p[k], p[other], reduction="batchmean") for other in peers if other != k] for k in peers]
    return torch.stack([torch.stack(row).mean() for row in apart])


PEER_MISTAKES: dict[str, tuple[Any, str]] = {
    "against the average peer": (
        _average_peer,
        "the mean of the divergences is asked for, not the divergence from the mean: smaller by what the others "
        "disagree among themselves.",
    ),
    "divided by all peers": (
        lambda z: _all_pairs(z).mean(dim=1),
        "a peer is no teacher of itself: there are K - 1 others.",
    ),
    "the sum over peers": (
        lambda z: _all_pairs(z).sum(dim=1),
        "with every peer that joins, the labels would lose weight. Take the mean over the K - 1 others.",
    ),
    "the divergence turned round": (
        lambda z: _all_pairs(z).sum(dim=0) / (len(z) - 1),
        "the peer teaches: its probabilities stand in front, KL(peer ‖ own).",
    ),
    "kl_div of probabilities": (
        _of_probabilities,
        "F.kl_div takes log-probabilities of the one who learns; for the peer's, log_target=True.",
    ),
    "a cross-entropy": (
        _peer_cross_entropies,
        "subtract the peer's entropy: peers that agree have nothing to learn from each other.",
    ),
    "the mean over classes": (
        lambda z: my_peer_losses(z) / z.shape[-1],
        "a divergence sums over classes; the mean is over examples and peers.",
    ),
}


def repaired(average: Tensor, new: Tensor, step: int) -> Tensor:
    """08.4."""
    decay = min(0.999, 1 - 1 / (step + 1))
    return average.lerp(new, 1 - decay)


AVERAGE_MISTAKES: dict[str, tuple[Any, str]] = {
    "the function as it was published": (
        lambda average, new, step: average.lerp(new, 1 - min(1e-3, step / (step + 1))),
        "follow one number: after step 5000, how much of the old average is left?",
    ),
    "the weights exchanged": (
        lambda average, new, step: new.lerp(average, 1 - min(0.999, 1 - 1 / (step + 1))),
        "the decay is what the OLD average keeps.",
    ),
    "0.999 from the start": (
        lambda average, new, step: average.lerp(new, 1e-3),
        "after ten steps that is still the random start. Early on it should be the plain mean of what it has seen.",
    ),
    "the larger of the two": (
        lambda average, new, step: average.lerp(new, 1 - max(0.999, 1 - 1 / (step + 1))),
        "min or max? Try step 0: the first update should copy the student.",
    ),
    "off by one": (
        lambda average, new, step: average.lerp(new, 1 - min(0.999, 1 - 1 / (step + 2))),
        "steps count from 0, and the first update should copy the student.",
    ),
}


def my_detector(outputs: Tensor) -> Tensor:
    """08.5."""
    return output_information(outputs)


def _entropy(p: Tensor) -> Tensor:
    return -(p * p.clamp(min=1e-30).log()).sum(dim=-1)


DETECTOR_MISTAKES: dict[str, tuple[Any, str]] = {
    "how sure the answers are": (
        lambda z: _entropy(z.softmax(dim=-1)).mean(),
        "that is high in one collapse and 0 in the other. Which second number tells the good case from the latter?",
    ),
    "how many outputs are used": (
        lambda z: _entropy(z.softmax(dim=-1).mean(dim=0)),
        "at the uniform collapse it is as high as it can be.",
    ),
    "the difference turned round": (
        lambda z: -output_information(z),
        "the mean's entropy is the larger one.",
    ),
    "the mean of raw outputs": (
        lambda z: _entropy(z.mean(dim=0).softmax(dim=-1)) - _entropy(z.softmax(dim=-1)).mean(),
        "average the probabilities, not what goes into the softmax.",
    ),
    "the spread of raw outputs": (
        lambda z: z.var(dim=0).mean(),
        "outputs that all grow by a constant per example change nothing, and count here. Work with probabilities.",
    ),
}
