"""Right and wrong answers to the exercises of lesson 12, reasoning."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Complaint
from kdref.lab.exercises import attempt, brief, calls, gradient_reaches, kind, quiet
from kdref.language import token_loss
from kdref.sequence import on_policy_loss

__all__ = [
    "CONTEXT_MISTAKES",
    "LOGITS",
    "LOG_PROB_MISTAKES",
    "MASK",
    "RAW",
    "REPAIR_MISTAKES",
    "ROUND_MISTAKES",
    "TEACHER",
    "TOKENS",
    "TOOL_MISTAKES",
    "compare_contexts",
    "compare_gradients",
    "my_context_loss",
    "my_log_prob",
    "my_loss",
    "my_round",
    "repaired",
]

LOGITS = torch.tensor([[[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.5, 1.0]], [[0.0, 0.0, 3.0]] * 3])
TEACHER = torch.tensor([[[1.0, 1.0, -1.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, 0.0, 2.0]] * 3])
TOKENS = torch.tensor([[0, 1, 1], [2, 0, 2]])
MASK = torch.tensor([[True, True, False], [True, True, True]])
RAW = torch.sin(torch.arange(80.0) ** 2).reshape(2, 2, 5, 4) * 2  # of student and teacher, two texts of five tokens
BARE, TOLD = RAW[0], torch.cos(torch.arange(56.0) ** 2).reshape(2, 7, 4) * 2  # without and with two tokens of context


def _drawn(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.log_softmax(logits, dim=-1).gather(-1, tokens[..., None]).squeeze(-1)


def my_log_prob(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """12.1."""
    return (_drawn(logits, tokens) * mask).sum(dim=-1)


LOG_PROB_MISTAKES: dict[str, tuple[Any, str]] = {
    "the mean over tokens": (
        lambda logits, tokens, mask: my_log_prob(logits, tokens, mask) / mask.sum(dim=-1),
        "probabilities of tokens multiply, so their logarithms add up. A mean is no probability's logarithm.",
    ),
    "padding counted": (
        lambda logits, tokens, mask: _drawn(logits, tokens).sum(dim=-1),
        "where the mask is False nothing was written.",
    ),
    "logits for log-probabilities": (
        lambda logits, tokens, mask: (logits.gather(-1, tokens[..., None]).squeeze(-1) * mask).sum(dim=-1),
        "a raw score is not a log-probability: take log_softmax over the vocabulary first.",
    ),
    "the sum over the batch": (
        lambda logits, tokens, mask: my_log_prob(logits, tokens, mask).sum(),
        "one number per sequence: sum over tokens, not over sequences.",
    ),
    "probabilities added up": (
        lambda logits, tokens, mask: (_drawn(logits, tokens).exp() * mask).sum(dim=-1),
        "probabilities multiply. Add their logarithms.",
    ),
    "labels shifted by one": (
        lambda logits, tokens, mask: (_drawn(logits[:, :-1], tokens[:, 1:]) * mask[:, 1:]).sum(dim=-1),
        "a raw model's output is shifted by one, once. These logits are already those from which token t was drawn.",
    ),
}


def repaired(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor) -> Tensor:
    """12.3."""
    return on_policy_loss(student_logits, teacher_logits, tokens, whole_sequence=False)


_CASE = (LOGITS, TEACHER, TOKENS)


def _gradient(loss: Any) -> Any:
    """The gradient of a loss for its first argument."""

    def gradient(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor) -> Tensor:
        leaf = student_logits.clone().requires_grad_()
        value = attempt(loss, (leaf, teacher_logits, tokens))
        if not isinstance(value, Tensor) or value.numel() != 1:
            returned = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else kind(value)
            raise Complaint(f"A loss is one number, a tensor, and your function returned {returned}.")
        found = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0] if value.requires_grad else None
        return torch.zeros_like(leaf) if found is None else found

    return gradient


def compare_gradients(answer: Any, reference: Any) -> str | None:
    """How an answer to 12.3 differs: what it is about is in the gradient, not in the value."""
    if not callable(answer):
        return f"A function is asked for, not {brief(answer)}: pass its name, without calling it."
    found = calls({"two sequences of three tokens": _CASE})(_gradient(answer), _gradient(reference))
    if found is None or not found.startswith("The result"):
        return found
    if not gradient_reaches(answer, _CASE):
        return "No gradient reaches the student: is there a detach, a no_grad, an item(), or a tensor made anew?"
    return f"Of the loss's gradient for student_logits: {found}"


def _with_advantage(advantage: Any) -> Any:
    """A loss that multiplies log q by an advantage made from log q and log p."""

    def loss(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor) -> Tensor:
        log_q, log_p = _drawn(student_logits, tokens), _drawn(teacher_logits, tokens)
        result: Tensor = (advantage(log_q, log_p) * log_q).mean()
        return result

    return loss


REPAIR_MISTAKES: dict[str, tuple[Any, str]] = {
    "the function as it was published": (
        lambda s, t, tokens: (_drawn(s, tokens) - _drawn(t, tokens)).mean(),
        "its gradient is that of log q alone: no teacher is in it, and its mean over the student's tokens is zero.",
    ),
    "the ratio not stopped": (
        _with_advantage(lambda log_q, log_p: log_q - log_p),
        "the log-ratio says how much to push. It must be a constant: detach it.",
    ),
    "the wrong way": (
        _with_advantage(lambda log_q, log_p: (log_p - log_q).detach()),
        "a loss is made smaller. Where the student says a token too often, log q - log p is positive, and log q falls.",
    ),
    "all of it stopped": (
        lambda s, t, tokens: ((_drawn(s, tokens) - _drawn(t, tokens)).detach() * _drawn(s, tokens).detach()).mean(),
        "log q must keep its gradient: something has to learn.",
    ),
    "the sum": (
        lambda s, t, tokens: repaired(s, t, tokens) * tokens.numel(),
        "the mean over tokens, as it was: the batch's size must not change the step.",
    ),
    "k3": (
        lambda s, t, tokens: _k3(_drawn(s, tokens) - _drawn(t, tokens)).mean(),
        "k3 estimates the divergence's value well. Its gradient is the forward divergence's, on average.",
    ),
    "the whole vocabulary": (
        lambda s, t, tokens: token_loss(s, t, kind="reverse"),
        "that has the same gradient on average, with less noise, and asks the teacher for every word's probability. "
        "Here only that of the drawn token is to be used.",
    ),
}


def _k3(ratio: Tensor) -> Tensor:
    return torch.expm1(-ratio) + ratio


def my_loss(student_logits: Tensor, teacher_logits: Tensor, start: int, beta: float) -> Tensor:
    """12.4."""
    return _judged(student_logits, teacher_logits, slice(start - 1, -1), beta)


def _judged(student_logits: Tensor, teacher_logits: Tensor, where: slice, beta: float) -> Tensor:
    said, judged = student_logits[:, where], teacher_logits[:, where]
    if beta in (0, 1):
        return token_loss(said, judged, kind="reverse" if beta else "forward")
    return token_loss(said, judged, kind="jensen_shannon", mix=beta)


TOOL_MISTAKES: dict[str, tuple[Any, str]] = {
    "β on the wrong side": (
        lambda s, t, start, beta: my_loss(s, t, start, 1 - beta),
        "in TRL β = 0 is the forward divergence, and β = 1, the default, the reverse one.",
    ),
    "logits shifted by one": (
        lambda s, t, start, beta: _judged(s, t, slice(start, None), beta),
        "a model's logits at place t are for the token after t: the first written token is judged at place start - 1.",
    ),
    "the prompt judged too": (
        lambda s, t, start, beta: _judged(s, t, slice(0, -1), beta),
        "the prompt was given, not written: nobody is to be judged for it.",
    ),
    "one place too many": (
        lambda s, t, start, beta: _judged(s, t, slice(start - 1, None), beta),
        "the last logits are for a token that nobody has written.",
    ),
    "the first token left out": (
        lambda s, t, start, beta: _judged(s, t, slice(start, -1), beta),
        "the first written token is drawn from the logits at the prompt's last place.",
    ),
    "reverse, whatever β is": (lambda s, t, start, beta: my_loss(s, t, start, 1.0), "β is an argument."),
    "forward, whatever β is": (lambda s, t, start, beta: my_loss(s, t, start, 0.0), "β is an argument."),
    "the sum over tokens": (
        lambda s, t, start, beta: my_loss(s, t, start, beta) * s[:, start:, 0].numel(),
        "the mean over written tokens.",
    ),
    "the mean over the vocabulary too": (
        lambda s, t, start, beta: my_loss(s, t, start, beta) / s.shape[-1],
        "a divergence is a sum over the vocabulary: its mean is as many times too small as there are words.",
    ),
}


def my_round(student: Tensor, teacher: Tensor) -> Tensor:
    """12.5."""
    accepted = torch.minimum(student, teacher)
    rest = (teacher - student).clamp(min=0)
    return torch.stack([accepted, rest])


ROUND_MISTAKES: dict[str, tuple[Any, str]] = {
    "replaced from the teacher": (
        lambda q, p: torch.stack([torch.minimum(q, p), (1 - torch.minimum(q, p).sum()) * p]),
        "then what the student likes too much comes out too often: add both rows, they must give the teacher's p.",
    ),
    "the rest scaled to 1": (
        lambda q, p: torch.stack([torch.minimum(q, p), (p - q).clamp(min=0) / (p - q).clamp(min=0).sum()]),
        "after a rejection it is drawn with these probabilities. How often is there a rejection?",
    ),
    "the ratio for the probability": (
        lambda q, p: torch.stack([(p / q).clamp(max=1), (p - q).clamp(min=0)]),
        "that is the chance of acceptance once the token is drafted. How often is it drafted?",
    ),
    "the absolute difference": (
        lambda q, p: torch.stack([torch.minimum(q, p), (p - q).abs()]),
        "where q is larger than p, the token has come out often enough.",
    ),
}


def my_context_loss(student_logits: Tensor, teacher_logits: Tensor, count: int) -> Tensor:
    """12.6."""
    return token_loss(_from_end(student_logits, count), _from_end(teacher_logits, count), kind="forward")


def _from_end(logits: Tensor, count: int) -> Tensor:
    return logits[:, -count - 1 : -1]


def compare_contexts(answer: Any, reference: Any) -> str | None:
    """How an answer to 12.6 differs: in its value, or because the teacher would learn too."""
    cases = {f"{count} written tokens": (BARE, TOLD, count) for count in (3, 2)}
    found = calls(cases)(answer, reference)
    if found is not None:
        return found
    with quiet():
        one, other = (gradient_reaches(_teacher_first(loss), (TOLD, BARE)) for loss in (answer, reference))
    return None if one == other else "The value is right, and a gradient reaches the teacher."


def _teacher_first(loss: Any) -> Any:
    return lambda told, bare: loss(bare, told, 3)


def _divergence(student_logits: Tensor, teacher_logits: Tensor, count: int) -> Tensor:
    log_q, log_p = (_from_end(z, count).log_softmax(dim=-1) for z in (student_logits, teacher_logits))
    result: Tensor = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    return result


CONTEXT_MISTAKES: dict[str, tuple[Any, str]] = {
    "the teacher learns too": (
        _divergence,
        "both are one model's, and the gradient would pull the told one to the untold: detach the teacher.",
    ),
    "places counted from the front": (
        lambda s, t, count: token_loss(
            _from_end(s, count), t[:, s.shape[1] - count - 1 : s.shape[1] - 1], kind="forward"
        ),
        "the context shifts all that follows it. Count from the end.",
    ),
    "logits shifted by one": (
        lambda s, t, count: token_loss(s[:, -count:], t[:, -count:], kind="forward"),
        "a model's logits at place t are for the token after t, and after the last one nobody wrote anything.",
    ),
    "the reverse divergence": (
        lambda s, t, count: token_loss(_from_end(s, count), _from_end(t, count), kind="reverse"),
        "on text that the teacher wrote it is the forward one that is of whole sequences: the teacher's p weighs.",
    ),
    "the prompt judged too": (
        lambda s, t, count: token_loss(s[:, :-1], t[:, t.shape[1] - s.shape[1] : -1], kind="forward"),
        "the prompt was given, not written: nobody is to be judged for it.",
    ),
    "the sum over tokens": (
        lambda s, t, count: my_context_loss(s, t, count) * count * len(s),
        "the mean over written tokens.",
    ),
    "the teacher's likeliest token as a label": (
        lambda s, t, count: F.cross_entropy(
            _from_end(s, count).flatten(0, 1), _from_end(t, count).argmax(dim=-1).flatten()
        ),
        "that is fine-tuning on one token. Here all of the teacher's probabilities are to be used.",
    ),
}
