"""The exercises and the quiz of lesson 11, language models."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.language import alternate_layers, cosine_hidden_loss

__all__ = ["EXERCISES", "QUIZ"]

_HIDDEN = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [5.0, -3.0]], [[0.0, 2.0], [-1.0, 1.0], [1.0, 1.0]]])
_THEIRS = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [1.0, 1.0]], [[1.0, 2.0], [1.0, 1.0], [3.0, 3.0]]])
_MASK = torch.tensor([[True, True, False], [True, True, True]])
_KEPT, _UNKNOWN = torch.tensor([0, 3, 5, 8, 9, 14]), 5
_IDS = torch.tensor([[8, 4, 14, 0], [20, 9, 3, 5]])  # 4 lies between kept pieces, 20 beyond the last
_TWELVE, _MORE = torch.arange(12), torch.arange(100, 124)
_VALIDATION = torch.tensor([[0.50, 0.40, 0.45, 0.47], [0.60, 0.55, 0.50, 0.52], [0.42, 0.44, 0.51, 0.60]])
_TEST = torch.tensor([[0.52, 0.46, 0.43, 0.49], [0.61, 0.53, 0.56, 0.59], [0.48, 0.41, 0.55, 0.63]])


def my_hidden_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """11.1."""
    return cosine_hidden_loss(student, teacher, mask=mask)


def _gaps(student: Tensor, teacher: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(student, teacher, dim=-1)


_HIDDEN_MISTAKES: dict[str, tuple[Any, str]] = {
    "padding counted": (
        lambda s, t, mask: _gaps(s, t).mean(),
        "where the mask is False there is no token. What the network computed there must not matter.",
    ),
    "padding in the denominator": (
        lambda s, t, mask: (_gaps(s, t) * mask).mean(),
        "divide by the tokens that count: else a batch with more padding has a smaller loss.",
    ),
    "a mean of means": (
        lambda s, t, mask: ((_gaps(s, t) * mask).sum(-1) / mask.sum(-1)).mean(),
        "this gives a token of a short sentence more weight. The mean is over all tokens of the batch.",
    ),
    "the cosine itself": (
        lambda s, t, mask: (F.cosine_similarity(s, t, dim=-1) * mask).sum() / mask.sum(),
        "a loss is made smaller: one minus the cosine.",
    ),
    "the squared difference": (
        lambda s, t, mask: ((s - t).square().sum(-1) * mask).sum() / mask.sum(),
        "the lengths must not matter, directions only.",
    ),
}


def renumbered(ids: Tensor, kept: Tensor, unknown: int) -> Tensor:
    """11.3."""
    row = torch.searchsorted(kept, ids)
    return torch.where(torch.isin(ids, kept), row, int((kept == unknown).nonzero()))


_RENUMBERED_MISTAKES: dict[str, tuple[Any, str]] = {
    "the function as it stands": (
        lambda ids, kept, unknown: torch.searchsorted(kept, ids),
        "searchsorted says where a number would stand, also of one that isn't there. A piece that is not kept gets the "
        "row of the next piece that is, or a row beyond the last.",
    ),
    "cut at the last row": (
        lambda ids, kept, unknown: torch.searchsorted(kept, ids).clamp(max=len(kept) - 1),
        "now no row is beyond the last, and no error is left to tell you: a piece that is not kept is still read as "
        "another.",
    ),
    "the unknown piece's old number": (
        lambda ids, kept, unknown: torch.where(torch.isin(ids, kept), torch.searchsorted(kept, ids), unknown),
        "the unknown piece has moved as well. Its row is its place among those kept.",
    ),
    "read as the first row": (
        lambda ids, kept, unknown: torch.where(torch.isin(ids, kept), torch.searchsorted(kept, ids), 0),
        "number 0 is padding: the piece would be hidden from the network, and not counted in the mean. The pre-trained "
        "network knows a row for what it doesn't know.",
    ),
    "old numbers left": (
        lambda ids, kept, unknown: torch.where(torch.isin(ids, kept), ids, unknown),
        "the embedding has as many rows as pieces are kept: numbers must be their places.",
    ),
}


def my_layers(layers: Tensor, count: int) -> Tensor:
    """11.4."""
    return layers[alternate_layers(len(layers), count, keep_last=True)]


def _at(layers: Tensor, count: int, length: float) -> Tensor:
    return layers[(torch.arange(count) * length).round().long().clamp(max=len(layers) - 1)]


_LAYERS_MISTAKES: dict[str, tuple[Any, str]] = {
    "every other one, from the first": (
        lambda layers, count: layers[alternate_layers(len(layers), count)],
        "that is the paper's wording. The script keeps the last layer, too.",
    ),
    "rounded down": (
        lambda layers, count: layers[(torch.arange(count) * ((len(layers) - 1) / (count - 1)) + 1e-6).long()],
        "a step of 2.2 layers arrives at 6.6, and layer 7 is nearer than layer 6.",
    ),
    "one step too many": (
        lambda layers, count: _at(layers, count, len(layers) / (count - 1)),
        "counted from 0 the last of twelve layers is 11: so much there is to go in all, not 12.",
    ),
    "one step too few": (
        lambda layers, count: _at(layers, count, (len(layers) - 1) / count),
        "six layers have five steps between them: the last one kept shall be the last there is.",
    ),
    "places instead of layers": (
        lambda layers, count: torch.tensor(alternate_layers(len(layers), count, keep_last=True)),
        "these are the places of the layers that stay: take what stands there.",
    ),
    "the first ones": (lambda layers, count: layers[:count], "they shall be spread over the whole depth."),
    "the last ones": (lambda layers, count: layers[-count:], "they shall be spread over the whole depth."),
}


def stopped(validation: Tensor, test: Tensor) -> Tensor:
    """11.5."""
    return test.gather(1, validation.argmin(dim=1, keepdim=True)).squeeze(1)


_STOPPED_MISTAKES: dict[str, tuple[Any, str]] = {
    "stopped by the test": (
        lambda validation, test: test.min(dim=1).values,
        "the test sentences must not choose anything: whoever may pick the best of four epochs by them looks better "
        "than they are.",
    ),
    "the validation's own value": (
        lambda validation, test: validation.min(dim=1).values,
        "the least of four noisy numbers is too low. Report the same epoch on sentences that did not choose it.",
    ),
    "one epoch for all": (
        lambda validation, test: test[:, int(validation.mean(dim=0).argmin())],
        "each training stops by itself: a seed knows nothing of the others.",
    ),
    "the last epoch": (
        lambda validation, test: test[:, -1],
        "that is training without stopping, the arm to compare with.",
    ),
    "the highest": (
        lambda validation, test: test.gather(1, validation.argmax(dim=1, keepdim=True)).squeeze(1),
        "a negative log-likelihood is good where it is low. With accuracies it would be the highest.",
    ),
}

EXERCISES: dict[str, Exercise] = {
    "11.1": Exercise(
        title="The directions of hidden states",
        hint="F.cosine_similarity along the last axis, then the mean over tokens that count.",
        differs=calls({"two sentences, one of them padded": (_HIDDEN, _THEIRS, _MASK)}),
        solution=my_hidden_loss,
        mistakes=_HIDDEN_MISTAKES,
        remark="The same mean, over tokens that count, is in every loss of a language model.",
    ),
    "11.2": Exercise(
        title="How small can half the layers be?",
        hint="What goes, divided by what there was.",
        further="Embeddings stay; of the layers half goes.",
        differs=number(tolerance=0.01),
        solution=1 - (23.8 + 42.5) / (23.8 + 85.1),
        mistakes={
            "half": (0.5, "half of the layers, but all of the embeddings, are still there."),
            "what is left": ((23.8 + 42.5) / (23.8 + 85.1), "the question is by how much it is smaller."),
            "the embeddings without the layers": (23.8 / (23.8 + 85.1), "that is the embeddings' share of BERT."),
        },
        remark="The paper's 40 % follow, as the pooler's 0.6 million go too. Speed depends on the layers alone.",
    ),
    "11.3": Exercise(
        title="Find the bug in a pruned vocabulary",
        hint="What does searchsorted say of a number that isn't there?",
        further="Where `torch.isin(ids, kept)` is False, put the place of the unknown piece among those kept.",
        differs=calls({"a piece between two kept ones, and one beyond the last": (_IDS, _KEPT, _UNKNOWN)}),
        solution=renumbered,
        mistakes=_RENUMBERED_MISTAKES,
        remark="Tested on sentences of kept pieces alone, both versions are right: test with one that is not.",
    ),
    "11.4": Exercise(
        title="Which layers did the authors keep?",
        hint="Between the first layer and the last there are one step fewer than layers kept.",
        further="From place 0 in equal steps to the last place, each rounded to the nearest layer.",
        differs=calls(
            {"six of twelve": (_TWELVE, 6), "four of twelve": (_TWELVE, 4), "six of twenty-four": (_MORE, 6)}
        ),
        solution=my_layers,
        mistakes=_LAYERS_MISTAKES,
        remark="So 0, 2, 4, 7, 9, 11 come about, and `alternate_layers(12, 6, keep_last=True)` says the same.",
    ),
    "11.5": Exercise(
        title="Design: an arm that stops in time",
        hint="Choose the epoch by the validation sentences, and report that epoch on the test sentences.",
        further="`validation.argmin(dim=1, keepdim=True)` gives the epochs; `test.gather(1, ...)` what they are worth.",
        differs=calls({"three seeds of four epochs": (_VALIDATION, _TEST)}),
        solution=stopped,
        mistakes=_STOPPED_MISTAKES,
        remark="It needs no teacher and no further training. A loss that holds back over-fitting is compared with it.",
    ),
}

QUIZ = (
    Question(
        "DistilBERT keeps 97 % of BERT's score. So",
        {
            "on some tasks far less than 97 % is kept": "CoLA keeps 91 %, RTE 86 %; a mean of nine scores hides it.",
            "it answers 97 % of questions as BERT does": "Two models of equal accuracy may disagree on many questions. "
            "Agreement has to be measured.",
            "it has 97 % of BERT's accuracy on each task": "97 % is the ratio of two means over nine tasks.",
        },
        right="on some tasks far less than 97 % is kept",
    ),
    Question(
        "You halve an encoder, fine-tune it with the triple loss for one epoch, and it does well. Most of that is owed "
        "to",
        {
            "the pre-trained layers that it starts from": "From random weights the same loss ends below word counts. "
            "The start is nearly everything here.",
            "the teacher's soft targets": "Without them the accuracy hardly changes. The probabilities do.",
            "the directions of the hidden states": "Without them hardly anything changes here.",
        },
        right="the pre-trained layers that it starts from",
    ),
    Question(
        "Pre-training DistilBERT, its authors compare student and teacher by soft targets at",
        {
            "every token that is no padding": "So the script does it; the masked ones alone are an option that is off.",
            "the masked words alone": "That is `--restrict_ce_to_mask`, which is off by default.",
            "every token, padding too": "Of padding a network says nothing.",
        },
        right="every token that is no padding",
    ),
)
