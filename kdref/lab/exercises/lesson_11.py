"""The exercises and the quiz of lesson 11, language models."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import attempt, calls, number, quiet
from kdref.language import cosine_hidden_loss, token_divergence, token_loss

__all__ = ["EXERCISES", "QUIZ"]

_HIDDEN = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [5.0, -3.0]], [[0.0, 2.0], [-1.0, 1.0], [1.0, 1.0]]])
_THEIRS = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [1.0, 1.0]], [[1.0, 2.0], [1.0, 1.0], [3.0, 3.0]]])
_MASK = torch.tensor([[True, True, False], [True, True, True]])
_STUDENT, _TEACHER = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]]), torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
_WIDER = torch.tensor([[1.0, 2.0, 0.0, -2.0, -3.0], [0.0, 0.0, 1.0, -4.0, -1.0]])
_STATES = (
    torch.tensor([[1.0, 0.0], [0.5, -1.0], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.5]]),
    torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.5, 0.5]]),
    torch.tensor([[0.5, 1.0, 0.0], [1.0, -1.0, 0.5], [0.0, 1.0, 1.0], [-1.0, 0.0, 2.0], [1.0, 0.5, 0.0]]),
    torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0], [0.5, 1.0, -0.5]]),
)


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


def repaired(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """11.3."""
    missing = teacher_logits.shape[-1] - student_logits.shape[-1]
    padded = F.pad(student_logits, (0, missing), value=-torch.inf)
    return token_divergence(padded, teacher_logits, kind="total_variation").mean()


_REPAIR_MISTAKES: dict[str, tuple[Any, str]] = {
    "the function as it was published": (
        lambda s, t: (F.pad(s, (0, t.shape[-1] - s.shape[-1])).softmax(-1) - t.softmax(-1)).abs().sum(-1).mean() / 2,
        "e⁰ is 1, so the softmax gives words that the student can't say a probability. Which logit gives none?",
    ),
    "the teacher's extra words cut off": (
        lambda s, t: (s.softmax(-1) - t[..., : s.shape[-1]].softmax(-1)).abs().sum(-1).mean() / 2,
        "cut off before the softmax, the other words share what the teacher gave the extra ones. That hides what the "
        "student can't say.",
    ),
    "the extra words left out of the sum": (
        lambda s, t: (s.softmax(-1) - t.softmax(-1)[..., : s.shape[-1]]).abs().sum(-1).mean() / 2,
        "what the teacher gives the extra words is a difference too.",
    ),
    "twice as much": (
        lambda s, t: 2 * repaired(s, t),
        "total variation is half of the sum, so that it is at most 1.",
    ),
}


def my_jensen_shannon(student_logits: Tensor, teacher_logits: Tensor, share: float) -> Tensor:
    """11.4."""
    return token_divergence(student_logits, teacher_logits, kind="jensen_shannon", mix=share)


def _mixed(student: Tensor, teacher: Tensor, in_mixture: float, of_teacher: float, of_student: float) -> Tensor:
    q, p = student.softmax(-1), teacher.softmax(-1)
    mixture = in_mixture * p + (1 - in_mixture) * q
    parts = of_teacher * p * (p / mixture).log() + of_student * q * (q / mixture).log()
    return parts.sum(dim=-1)


_JENSEN_SHANNON_MISTAKES: dict[str, tuple[Any, str]] = {
    "the shares swapped in the mixture": (
        lambda s, t, b: _mixed(s, t, 1 - b, b, 1 - b),
        "M holds β of the teacher: then β weighs the teacher's divergence from it, too.",
    ),
    "the shares swapped outside": (
        lambda s, t, b: _mixed(s, t, b, 1 - b, b),
        "the teacher's divergence from M has weight β, as its share in M.",
    ),
    "half and half whatever β": (
        lambda s, t, b: _mixed(s, t, 0.5, 0.5, 0.5),
        "β is there to be used, in M and outside.",
    ),
    "logits mixed": (
        lambda s, t, b: (
            b * token_divergence((b * t + (1 - b) * s), t, kind="forward")
            + (1 - b) * token_divergence((b * t + (1 - b) * s), s, kind="forward")
        ),
        "M is a mixture of probabilities. A mean of logits is another distribution.",
    ),
    "from the wrong side": (
        lambda s, t, b: (
            b * token_divergence(t, (b * t.softmax(-1) + (1 - b) * s.softmax(-1)).log(), kind="forward")
            + (1 - b) * token_divergence(s, (b * t.softmax(-1) + (1 - b) * s.softmax(-1)).log(), kind="forward")
        ),
        "KL(P‖M), not KL(M‖P): the expectation is over P, and over Q in the other term.",
    ),
}


def my_chunked(
    student_hidden: Tensor, student_weight: Tensor, teacher_hidden: Tensor, teacher_weight: Tensor, chunk: int
) -> Tensor:
    """11.5."""
    pairs = zip(student_hidden.split(chunk), teacher_hidden.split(chunk), strict=True)
    parts = [token_divergence(s @ student_weight.T, t @ teacher_weight.T).sum() for s, t in pairs]
    return torch.stack(parts).sum() / len(student_hidden)


class _Widest(TorchDispatchMode):
    """Notes the most rows of logits that any operation made."""

    def __init__(self, words: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.words = words
        self.rows: int = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.dim() == 2 and made.shape[1] == self.words:
            self.rows = max(self.rows, len(made))
        return made


def _rows_held(answer: Any) -> int:
    widest = _Widest(len(_STATES[1]))
    with quiet(), widest:
        attempt(answer, (*copy.deepcopy(_STATES), 3))  # no weight has more rows when it is transposed
    return widest.rows


def _compare_chunked(answer: Any, reference: Any) -> str | None:
    found = calls({"chunks of two": (*_STATES, 2), "chunks of three": (*_STATES, 3)})(answer, reference)
    if found is not None:
        return found
    held, allowed = (_rows_held(function) for function in (answer, reference))
    if held > allowed:
        return f"The value is right, but logits of {held} tokens were held at once, with chunks of 3."
    return None


_CHUNKED_MISTAKES: dict[str, tuple[Any, str]] = {
    "all tokens at once": (
        lambda s, ws, t, wt, chunk: token_loss(s @ ws.T, t @ wt.T, kind="forward"),
        "project inside the loop: the matrix of all logits must never exist.",
    ),
    "a mean of means": (
        lambda s, ws, t, wt, chunk: torch.stack(
            [
                token_loss(a @ ws.T, b @ wt.T, kind="forward")
                for a, b in zip(s.split(chunk), t.split(chunk), strict=True)
            ]
        ).mean(),
        "the last chunk may be shorter, and its tokens would count for more. Add up, and divide once.",
    ),
    "the last chunk forgotten": (
        lambda s, ws, t, wt, chunk: my_chunked(
            s[: len(s) // chunk * chunk], ws, t[: len(t) // chunk * chunk], wt, chunk
        ),
        "five tokens in chunks of two make three chunks.",
    ),
    "the sum": (
        lambda s, ws, t, wt, chunk: my_chunked(s, ws, t, wt, chunk) * len(s),
        "the mean over tokens is asked for.",
    ),
    "the other direction": (
        lambda s, ws, t, wt, chunk: my_chunked(t, wt, s, ws, chunk),
        "forward KL is KL(teacher ‖ student): the expectation is over the teacher.",
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
        title="Find the bug in a published padding of the vocabulary",
        hint="Which logit has the softmax 0?",
        differs=calls({"three words against five": (_STUDENT, _WIDER)}),
        solution=repaired,
        mistakes=_REPAIR_MISTAKES,
        remark="With forward KL the value would be infinite: it asks for words that the student doesn't have.",
    ),
    "11.4": Exercise(
        title="Generalised Jensen-Shannon",
        hint="Mix the probabilities, not the logits.",
        further="First M, then two divergences from it, each with the weight that its first argument has in M.",
        differs=calls({"β of one half": (_STUDENT, _TEACHER, 0.5), "β of a tenth": (_STUDENT, _TEACHER, 0.1)}),
        solution=my_jensen_shannon,
        mistakes=_JENSEN_SHANNON_MISTAKES,
        remark="The shares were swapped in a widely used library for a while; at one half nothing shows it.",
    ),
    "11.5": Exercise(
        title="Design: a loss that holds few logits",
        hint="student_hidden.split(chunk); N need not be a multiple of it.",
        further="Loop over `split(chunk)` of both hidden states; project, compare, add up; divide at the end.",
        differs=_compare_chunked,
        solution=my_chunked,
        mistakes=_CHUNKED_MISTAKES,
        remark="With a gradient, autograd would keep every chunk until the backward pass. `fused_linear_loss` makes "
        "the gradient in the loop, and then forgets the chunk.",
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
        "The teacher finds two words likely, the student can only prefer one. With reverse KL it will",
        {
            "spread over both": "That is forward KL: a word that the teacher finds likely and the student doesn't "
            "costs much.",
            "take the likelier one": "The student pays for what it says and the teacher wouldn't, not for what it "
            "leaves out.",
            "stay undecided between the two": "Between them it says what the teacher never would, and that costs most.",
        },
        right="take the likelier one",
    ),
    Question(
        "What makes `fused_linear_loss` small in memory?",
        {
            "it computes each chunk's gradient at once and forgets its logits": "So no more than a chunk's logits ever "
            "exist, whatever the number of tokens.",
            "it keeps the teacher's likeliest words only": "That is `sparse_teacher`, another way, with a bias where "
            "the tail is dropped.",
            "it works in half precision": "It does so where you ask for it. It would only halve the memory.",
        },
        right="it computes each chunk's gradient at once and forgets its logits",
    ),
)
