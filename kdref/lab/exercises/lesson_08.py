"""The exercises and the quiz of lesson 08, self-distillation and online distillation."""

from typing import Any

import torch
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.self_distillation import mutual_learning_loss, output_information, ridge_self_distillation

__all__ = ["EXERCISES", "QUIZ"]

_FEATURES = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
_GRAM = _FEATURES @ _FEATURES.T
_TARGETS = torch.tensor([[1.0], [2.0], [-1.0]])
_PEERS = torch.tensor([[[2.0, 0.0, -1.0]], [[0.0, 1.0, 0.0]], [[-1.0, 0.0, 3.0]]])
_OUTPUTS = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 5.0]])


def my_round(gram: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """08.1."""
    return ridge_self_distillation(gram, targets, penalty=penalty, rounds=1)[0]


def _weights(gram: Tensor, targets: Tensor, penalty: float) -> Tensor:
    weights: Tensor = torch.linalg.solve(gram + penalty * torch.eye(len(gram)), targets)
    return weights


_ROUND_MISTAKES: dict[str, tuple[Any, str]] = {
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


_PEER_MISTAKES: dict[str, tuple[Any, str]] = {
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


_AVERAGE_MISTAKES: dict[str, tuple[Any, str]] = {
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


_DETECTOR_MISTAKES: dict[str, tuple[Any, str]] = {
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

EXERCISES: dict[str, Exercise] = {
    "08.1": Exercise(
        title="One round of ridge regression",
        hint="torch.linalg.solve(A, B) gives A⁻¹ B. torch.eye(N) is I.",
        differs=calls(
            {
                "three examples": (_GRAM, _TARGETS, 0.5),
                "a large penalty": (_GRAM, _TARGETS, 10.0),
            }
        ),
        solution=my_round,
        mistakes=_ROUND_MISTAKES,
        remark="Call it on its own result, and you have self-distillation.",
    ),
    "08.2": Exercise(
        title="Predict what is left after three rounds",
        hint="Along an eigenvector a round multiplies by λ / (λ + c).",
        differs=number(tolerance=0.01),
        solution=(3 / 4) ** 3,
        mistakes={
            "one round": (3 / 4, "that is one round. It is applied three times."),
            "what is lost for what is left": (1 - (3 / 4) ** 3, "the question is what is left."),
            "the penalty's share": ((1 / 4) ** 3, "c / (λ + c) is what a round takes away, not what it keeps."),
            "a sum": (3 / (3 + 3), "three rounds with c are not one round with 3c: shares multiply."),
        },
        remark="No single penalty does this to all eigenvalues: three rounds cut the small ones harder.",
    ),
    "08.3": Exercise(
        title="Everyone's loss among K peers",
        hint="Log-probabilities (K, B, C). For each k, average KL(p_l ‖ p_k) over the other l, and over examples.",
        differs=calls(
            {
                "three peers, one example": (_PEERS,),
                "two peers, two examples": (torch.cat([_PEERS[:2], _PEERS[1:]], dim=1),),
            }
        ),
        solution=my_peer_losses,
        mistakes=_PEER_MISTAKES,
        remark="In training, each peer's term must see the others as constants: detach them.",
    ),
    "08.4": Exercise(
        title="Find the bug in a published average",
        hint="Write the decay at step 0, at step 10 and at step 5000. What should it be?",
        differs=calls(
            {
                "step 0": (torch.tensor([0.0, 4.0]), torch.tensor([1.0, 2.0]), 0),
                "step 3": (torch.tensor([0.0, 4.0]), torch.tensor([1.0, 2.0]), 3),
                "step 5000": (torch.tensor([0.0, 4000.0]), torch.tensor([1000.0, 2000.0]), 5000),
            }
        ),
        solution=repaired,
        mistakes=_AVERAGE_MISTAKES,
        remark="As published, the teacher was the student of this step: two equal nets, and no consistency to learn.",
    ),
    "08.5": Exercise(
        title="Design: one number that sees both collapses",
        hint="Two entropies: of each example's probabilities, and of their mean over examples.",
        differs=calls(
            {
                "four examples": (_OUTPUTS,),
                "one output for all": (_OUTPUTS[:1].expand(4, 3).clone(),),
                "the uniform distribution": (torch.zeros(4, 3),),
                "sure and different": (40 * torch.eye(3),),
            }
        ),
        solution=my_detector,
        mistakes=_DETECTOR_MISTAKES,
        remark="It is the mutual information of output and example: kdref.output_information.",
    ),
}

QUIZ = (
    Question(
        "Your ridge penalty is tuned: the error is at its least. What does a round of self-distillation do?",
        {
            "It shrinks further, and mostly harms": "A round is more regularisation. It helps where there was too "
            "little of it.",
            "It helps again, as the first round did": "There is no new information in the targets: only shrinkage.",
            "Nothing, a fit to its own values is perfect": "The penalty acts again, and pulls the fit towards zero.",
        },
        right="It shrinks further, and mostly harms",
    ),
    Question(
        "Two peers start with equal weights, see the same batches and update at the same time. Their mutual loss?",
        {
            "Exactly 0, from the first step to the last": "Equal nets get equal gradients and stay equal. Give them "
            "different first weights.",
            "Small at first, then larger as they specialise": "Nothing breaks the tie: each step is the same.",
            "Large: they have learned nothing yet": "A divergence compares the two, and not with the labels.",
        },
        right="Exactly 0, from the first step to the last",
    ),
    Question(
        "An EMA teacher without labels: the loss has fallen to almost 0 after fifty steps. What now?",
        {
            "Look whether outputs still differ between examples": "One output for all of them has this loss too.",
            "Stop: it has converged": "A constant answer has converged as well.",
            "Raise the learning rate, it is too easy": "It is easy because the task may have been dodged.",
        },
        right="Look whether outputs still differ between examples",
    ),
)
