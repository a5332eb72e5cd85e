"""The exercises and the quiz of lesson 12, reasoning."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.course.questions import Complaint, Exercise, Question
from kdref.lab.exercises import attempt, brief, calls, gradient_reaches, kind, number
from kdref.sequence import on_policy_loss, rejection_sample

__all__ = ["EXERCISES", "QUIZ"]

_LOGITS = torch.tensor([[[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.5, 1.0]], [[0.0, 0.0, 3.0]] * 3])
_TEACHER = torch.tensor([[[1.0, 1.0, -1.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, 0.0, 2.0]] * 3])
_TOKENS = torch.tensor([[0, 1, 1], [2, 0, 2]])
_MASK = torch.tensor([[True, True, False], [True, True, True]])
_RIGHT = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0]]).bool()


def _drawn(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.log_softmax(logits, dim=-1).gather(-1, tokens[..., None]).squeeze(-1)


def my_log_prob(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """12.1."""
    return (_drawn(logits, tokens) * mask).sum(dim=-1)


_LOG_PROB_MISTAKES: dict[str, tuple[Any, str]] = {
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
}


def my_filter(right: Tensor, keep: int) -> Tensor:
    """12.2."""
    return rejection_sample(right, keep=keep)


_FILTER_MISTAKES: dict[str, tuple[Any, str]] = {
    "all of the right ones": (
        lambda right, keep: right & True,
        "at most `keep` of a problem: else easy problems outweigh hard ones.",
    ),
    "cut first, then checked": (
        lambda right, keep: right & (torch.arange(right.shape[-1]) < keep),
        "right samples further back are lost. Count the right ones, not all of them.",
    ),
    "one too few": (
        lambda right, keep: right & (right.cumsum(dim=-1) < keep),
        "cumsum counts the sample itself, so the first right one has count 1.",
    ),
    "counted over problems": (
        lambda right, keep: right & (right.cumsum(dim=0) <= keep),
        "the limit is per problem: count along the last axis.",
    ),
}


def repaired(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor) -> Tensor:
    """12.4."""
    return on_policy_loss(student_logits, teacher_logits, tokens, whole_sequence=False)


_CASE = (_LOGITS, _TEACHER, _TOKENS)


def _gradient(loss: Any) -> Any:
    """The gradient of a loss for its first argument: what exercise 12.4 is about is not in the value."""

    def gradient(student_logits: Tensor, teacher_logits: Tensor, tokens: Tensor) -> Tensor:
        leaf = student_logits.clone().requires_grad_()
        value = attempt(loss, (leaf, teacher_logits, tokens))
        if not isinstance(value, Tensor) or value.numel() != 1:
            returned = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else kind(value)
            raise Complaint(f"A loss is one number, a tensor, and your function returned {returned}.")
        found = torch.autograd.grad(value.sum(), leaf, allow_unused=True)[0] if value.requires_grad else None
        return torch.zeros_like(leaf) if found is None else found

    return gradient


def _compare_gradients(answer: Any, reference: Any) -> str | None:
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


_REPAIR_MISTAKES: dict[str, tuple[Any, str]] = {
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
}


def my_round(student: Tensor, teacher: Tensor) -> Tensor:
    """12.5."""
    accepted = torch.minimum(student, teacher)
    rest = (teacher - student).clamp(min=0)
    return torch.stack([accepted, rest])


_ROUND_MISTAKES: dict[str, tuple[Any, str]] = {
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

EXERCISES: dict[str, Exercise] = {
    "12.1": Exercise(
        title="How likely is a sequence?",
        hint="First log_softmax, and then gather.",
        further="log_softmax, then gather the tokens that were written, then the mask.",
        differs=calls({"a short and a long sequence": (_LOGITS, _TOKENS, _MASK)}),
        solution=my_log_prob,
        mistakes=_LOG_PROB_MISTAKES,
        remark="Differences of two models' values are what every method of this lesson is made of.",
    ),
    "12.2": Exercise(
        title="Rejection sampling",
        hint="cumsum numbers the right ones.",
        further="Number the right samples of each problem from 1 on; cumsum does it.",
        differs=calls({"one of each": (_RIGHT, 1), "two of each": (_RIGHT, 2)}),
        solution=my_filter,
        mistakes=_FILTER_MISTAKES,
        remark="A problem that nobody solved is gone: what is left is easier than what you started with.",
    ),
    "12.3": Exercise(
        title="How many problems are left?",
        hint="When is a problem lost?",
        further="A problem is lost if all of its samples are wrong.",
        differs=number(tolerance=0.01),
        solution=1 - 0.7**4,
        mistakes={
            "the share of right samples": (0.3, "that is one sample's chance. There are four."),
            "four times one sample's chance": (1.0, "chances of getting at least one right don't add up."),
            "the share that is lost": (0.7**4, "the question is what is left."),
            "all four right": (0.3**4, "one right sample is enough."),
        },
        remark="With eight samples it would be 94 %: the harder the problem, the more samples it needs.",
    ),
    "12.4": Exercise(
        title="Find the bug in a published on-policy loss",
        hint="What does its gradient look like if you write log q - log p as two terms?",
        differs=_compare_gradients,
        solution=repaired,
        mistakes=_REPAIR_MISTAKES,
        remark="The value is right in both versions, so a curve of the loss would not have shown it.",
    ),
    "12.5": Exercise(
        title="Design: prove that speculative decoding is exact",
        hint="Drafted with q, accepted with min(1, p/q). How likely is a rejection?",
        further="Drafted with probability q, accepted with min(1, p/q). What is the product?",
        differs=calls(
            {
                "three tokens": (torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])),
                "a token that the student never drafts": (
                    torch.tensor([0.75, 0.25, 0.0]),
                    torch.tensor([0.25, 0.25, 0.5]),
                ),
            }
        ),
        solution=my_round,
        mistakes=_ROUND_MISTAKES,
        remark="The two rows add up to the teacher's p, whatever q is: that is the whole proof.",
    ),
}

QUIZ = (
    Question(
        "The distilled DeepSeek-R1 models were trained by",
        {
            "fine-tuning on text that the teacher wrote": "About 800,000 samples, and no logits: sequence-level "
            "distillation, as of 2016.",
            "matching the teacher's logits at every token": "The students have another vocabulary than the teacher.",
            "reinforcement learning from the teacher's scores": "The paper left reinforcement learning of the students "
            "to others, and says so.",
        },
        right="fine-tuning on text that the teacher wrote",
    ),
    Question(
        "Your on-policy loss is the mean of log q - log p of the student's own tokens, differentiated as it stands. "
        "What does it train?",
        {
            "Nothing, on average": "The expected gradient is zero. Only noise is left.",
            "The reverse divergence": "That is its value. The gradient forgets that the tokens depend on the student.",
            "The forward divergence": "For that the tokens would have to come from the teacher.",
        },
        right="Nothing, on average",
    ),
    Question(
        "A better draft model makes speculative decoding",
        {
            "faster, with the same text": "The law of the text is the teacher's whatever is drafted.",
            "better, with the same speed": "What comes out is drawn from the teacher either way.",
            "faster and better": "Faster, yes. The text is the teacher's, and no better.",
        },
        right="faster, with the same text",
    ),
)
