"""The right answers of lesson 19's exercises, the wrong ones that have a name, and what they are tried on."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdref.lab.course.questions import Forms
from kdref.lab.exercises import attempt, calls, quiet
from kdref.language import token_divergence, token_loss

__all__ = [
    "CHUNKED_MISTAKES",
    "JENSEN_SHANNON_MISTAKES",
    "REPAIR_MISTAKES",
    "SPAN_MISTAKES",
    "STUDENT",
    "TEACHER",
    "TEXTS",
    "WIDER",
    "compare_chunked",
    "my_chunked",
    "my_jensen_shannon",
    "my_spans",
    "repaired",
]

STUDENT, TEACHER = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]]), torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
WIDER = torch.tensor([[1.0, 2.0, 0.0, 0.1, -0.2], [0.0, 0.0, 1.0, -0.3, 0.2]])
TEXTS = {
    "“the film” as th|e| film and as the| film": (
        torch.tensor([-1.0, -0.25, -2.5]),
        torch.tensor([2, 3, 8]),
        torch.tensor([3, 8]),
    ),
    "borders that only one side has": (
        torch.tensor([-0.5, -1.5, -0.75, -2.0, -0.25]),
        torch.tensor([1, 4, 6, 7, 9]),
        torch.tensor([2, 4, 5, 7, 8, 9]),
    ),
}
STATES = (
    torch.tensor([[1.0, 0.0], [0.5, -1.0], [0.0, 2.0], [1.0, 1.0], [-1.0, 0.5]]),
    torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.5, 0.5]]),
    torch.tensor([[0.5, 1.0, 0.0], [1.0, -1.0, 0.5], [0.0, 1.0, 1.0], [-1.0, 0.0, 2.0], [1.0, 0.5, 0.0]]),
    torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0], [0.5, 1.0, -0.5]]),
)


def my_jensen_shannon(student_logits: Tensor, teacher_logits: Tensor, share: float) -> Tensor:
    """19.1."""
    return token_divergence(student_logits, teacher_logits, kind="jensen_shannon", mix=share)


def _mixed(student: Tensor, teacher: Tensor, in_mixture: float, of_teacher: float, of_student: float) -> Tensor:
    q, p = student.softmax(-1), teacher.softmax(-1)
    mixture = in_mixture * p + (1 - in_mixture) * q
    parts = of_teacher * p * (p / mixture).log() + of_student * q * (q / mixture).log()
    return parts.sum(dim=-1)


JENSEN_SHANNON_MISTAKES: dict[str, tuple[Any, str]] = {
    "the shares swapped in the mixture": (
        lambda s, t, b: _mixed(s, t, 1 - b, b, 1 - b),
        "M holds β of the teacher: then β weighs the teacher's divergence from it, too.",
    ),
    "the shares swapped outside": (
        lambda s, t, b: _mixed(s, t, b, 1 - b, b),
        "the teacher's divergence from M has weight β, as its share in M.",
    ),
    "the shares swapped inside and outside": (
        lambda s, t, b: _mixed(s, t, 1 - b, 1 - b, b),
        "β is the teacher's share. At one half nothing shows it; near 0 it makes forward of reverse.",
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


def repaired(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """19.3."""
    shared = min(student_logits.shape[-1], teacher_logits.shape[-1])
    return token_loss(student_logits[..., :shared], teacher_logits[..., :shared], kind="forward")


def _padded(student: Tensor, teacher: Tensor, value: float) -> Tensor:
    student = F.pad(student, (0, teacher.shape[-1] - student.shape[-1]), value=value)
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def _cut_after(student: Tensor, teacher: Tensor) -> Tensor:
    shared = min(student.shape[-1], teacher.shape[-1])
    log_q, log_p = (z.log_softmax(-1)[..., :shared] for z in (student, teacher))
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


REPAIR_MISTAKES: dict[str, tuple[Any, str]] = {
    "the function as it was published": (
        lambda s, t: _padded(s, t, 0.0),
        "e⁰ is 1, so the softmax gives columns that the student hasn't got a probability, at its own words' cost.",
    ),
    "padded with minus infinity": (
        lambda s, t: _padded(s, t, -torch.inf),
        "the teacher's unused columns have a little probability, and forward KL is infinite where the student has "
        "none. Nobody can say these words: leave them out on both sides.",
    ),
    "padded with a low number": (
        Forms(*(lambda s, t, low=low: _padded(s, t, low) for low in (-10.0, -100.0, -1e3, -1e4, -1e5, -1e9))),
        "the lower the number, the larger the loss: it asks for columns that the student hasn't got.",
    ),
    "cut after the softmax": (
        _cut_after,
        "cut the logits, so that the softmax divides what there is among the shared words.",
    ),
    "the other direction": (
        lambda s, t: repaired(t, s),
        "forward KL is KL(teacher ‖ student): the expectation is over the teacher.",
    ),
}


def my_chunked(
    student_hidden: Tensor, student_weight: Tensor, teacher_hidden: Tensor, teacher_weight: Tensor, chunk: int
) -> Tensor:
    """19.4."""
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
    widest = _Widest(len(STATES[1]))
    with quiet(), widest:
        attempt(answer, (*copy.deepcopy(STATES), 3))  # no weight has more rows when it is transposed
    return widest.rows


def compare_chunked(answer: Any, reference: Any) -> str | None:
    """The value, and then how many tokens' logits were held at once."""
    found = calls({"chunks of two": (*STATES, 2), "chunks of three": (*STATES, 3)})(answer, reference)
    if found is not None:
        return found
    held, allowed = (_rows_held(function) for function in (answer, reference))
    if held > allowed:
        return f"The value is right, but logits of {held} tokens were held at once, with chunks of 3."
    return None


def _mean_of_means(s: Tensor, ws: Tensor, t: Tensor, wt: Tensor, chunk: int) -> Tensor:
    pairs = zip(s.split(chunk), t.split(chunk), strict=True)
    return torch.stack([token_loss(a @ ws.T, b @ wt.T, kind="forward") for a, b in pairs]).mean()


CHUNKED_MISTAKES: dict[str, tuple[Any, str]] = {
    "all tokens at once": (
        lambda s, ws, t, wt, chunk: token_loss(s @ ws.T, t @ wt.T, kind="forward"),
        "project inside the loop: the matrix of all logits must never exist.",
    ),
    "a mean of means": (
        _mean_of_means,
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


def my_spans(log_probs: Tensor, ends: Tensor, other_ends: Tensor) -> Tensor:
    """19.5."""
    totals = log_probs.cumsum(0)[torch.isin(ends, other_ends)]
    return totals.diff(prepend=totals.new_zeros(1))


def _sizes(ends: Tensor, other_ends: Tensor) -> list[int]:
    last = torch.isin(ends, other_ends).nonzero()[:, 0] + 1
    return last.diff(prepend=last.new_zeros(1)).tolist()


def _next_span(log_probs: Tensor, ends: Tensor, other_ends: Tensor) -> Tensor:
    place = torch.isin(ends, other_ends).cumsum(0)
    return log_probs.new_zeros(int(place[-1]) + 1).index_add(0, place, log_probs)


SPAN_MISTAKES: dict[str, tuple[Any, str]] = {
    "one token for a span": (
        lambda z, e, o: z[torch.isin(e, o)],
        "a span is all tokens since the last shared border; their log-probabilities add up (the chain rule).",
    ),
    "the text from its start": (
        lambda z, e, o: z.cumsum(0)[torch.isin(e, o)],
        "that is how likely the text is up to each border. A span begins where the one before it ended.",
    ),
    "the mean of a span's tokens": (
        lambda z, e, o: torch.stack([part.mean() for part in z.split(_sizes(e, o))]),
        "the other side has cut the span into another number of tokens: sums can be compared, means can't.",
    ),
    "probabilities added": (
        lambda z, e, o: torch.stack([part.logsumexp(0) for part in z.split(_sizes(e, o))]),
        "the tokens come one after the other, all of them: multiply probabilities, so add their logarithms.",
    ),
    "the border's token in the next span": (
        _next_span,
        "a token that ends at a shared border belongs to the span which ends there.",
    ),
    "as many tokens of each": (
        lambda z, e, o: z[: len(o)],
        "two tokenisers don't cut at the same places: look at the borders, in bytes.",
    ),
}
