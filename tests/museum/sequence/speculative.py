"""Wrong versions of speculative decoding. Most of them look fine in the text; only its law is another."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.sequence import acceptance, speculative
from tests.museum import exhibit

SAMPLE, DECODE = (f"kdref.sequence.speculative:{name}" for name in ("speculative_sample", "speculative_decoding"))
EXPECTED = "kdref.sequence.acceptance:expected_tokens_per_call"
right_sample, right_decode, right_expected = (
    speculative.speculative_sample,
    speculative.speculative_decoding,
    acceptance.expected_tokens_per_call,
)  # as they were before any swap
Rule = Callable[[Tensor, Tensor], Tensor]


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/sequence/test_speculative.py::test_{test}" for test in tests)


LAW = "what_comes_out_follows_the_teachers_law"
COUNTS = "as_many_drafts_are_accepted_as_the_overlap_says"


def sample(
    drafts: Tensor,
    student: Tensor,
    teacher: Tensor,
    generator: torch.Generator | None,
    *,
    accepts: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda chance, q, p: chance * q < p,
    residual: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda p, q, draft: (p - q).clamp(min=0),
    after: Tensor | None = None,  # the student's distribution at the last position
    stops: bool = True,
) -> tuple[Tensor, Tensor]:
    """A round with one of its parts exchanged."""
    rows, count = torch.arange(len(drafts)), drafts.shape[1]
    at = drafts[..., None]
    q, p = student.gather(-1, at).squeeze(-1), teacher[:, :count].gather(-1, at).squeeze(-1)
    kept = accepts(torch.rand(q.shape, generator=generator, dtype=q.dtype), q, p)
    accepted = (kept.cumprod(dim=-1) if stops else kept.int()).sum(dim=-1)
    padded = F.pad(student, (0, 0, 0, 1))
    if after is not None:
        padded = torch.cat([student, after[:, None]], dim=1)
    weights = residual(teacher[rows, accepted], padded[rows, accepted], F.pad(drafts, (0, 1), value=-1)[rows, accepted])
    weights = torch.where(weights.sum(-1, keepdim=True) > 0, weights, teacher[rows, accepted])
    added = torch.multinomial(weights, 1, generator=generator)
    position = torch.arange(count + 1)
    tokens = torch.where(position < accepted[:, None], F.pad(drafts, (0, 1)), -1)
    return torch.where(position == accepted[:, None], added, tokens), accepted + 1


@exhibit(
    replaces=SAMPLE,
    seen_in="a question to eth-sri/language-model-arithmetic (#14): why not simply from p?",
    killed_by=killed_by(LAW),
)
def replaced_from_the_teacher(draft_tokens, student_probabilities, teacher_probabilities, *, generator=None):
    """After a rejection from p itself: what the student likes too much is still drawn too often."""
    return sample(draft_tokens, student_probabilities, teacher_probabilities, generator, residual=lambda p, q, draft: p)


@exhibit(
    replaces=SAMPLE,
    seen_in="SafeAILab/EAGLE #20: only the rejected token's probability is taken out",
    killed_by=killed_by(LAW),
)
def only_the_rejected_token_removed(draft_tokens, student_probabilities, teacher_probabilities, *, generator=None):
    """The other tokens that the student likes too much stay."""

    def residual(p: Tensor, q: Tensor, draft: Tensor) -> Tensor:
        return torch.where(torch.arange(p.shape[-1]) == draft[:, None], 0.0, p)

    return sample(draft_tokens, student_probabilities, teacher_probabilities, generator, residual=residual)


@exhibit(replaces=SAMPLE, seen_in="a likely slip: |p - q|", killed_by=killed_by(LAW))
def absolute_difference(draft_tokens, student_probabilities, teacher_probabilities, *, generator=None):
    """Tokens that should be rarer are drawn again."""
    return sample(
        draft_tokens,
        student_probabilities,
        teacher_probabilities,
        generator,
        residual=lambda p, q, draft: (p - q).abs(),
    )


@exhibit(replaces=SAMPLE, seen_in="a likely slip: q / p", killed_by=killed_by(LAW, COUNTS))
def ratio_upside_down(draft_tokens, student_probabilities, teacher_probabilities, *, generator=None):
    """What the teacher likes better than the student is what gets rejected."""
    return sample(
        draft_tokens,
        student_probabilities,
        teacher_probabilities,
        generator,
        accepts=lambda chance, q, p: chance * p < q,
    )


@exhibit(replaces=SAMPLE, seen_in="a likely slip: a threshold instead of a chance", killed_by=killed_by(LAW, COUNTS))
def accepted_where_the_teacher_likes_it_better(
    draft_tokens, student_probabilities, teacher_probabilities, *, generator=None
):
    """No chance in it, so tokens that the student likes too much never come from it."""
    return sample(
        draft_tokens, student_probabilities, teacher_probabilities, generator, accepts=lambda chance, q, p: q <= p
    )


@exhibit(
    replaces=SAMPLE,
    seen_in="a likely slip: one random number per sequence",
    killed_by=killed_by(COUNTS),
)
def one_chance_for_all_positions(draft_tokens, student_probabilities, teacher_probabilities, *, generator=None):
    """Decisions of a sequence hang together."""
    return sample(
        draft_tokens,
        student_probabilities,
        teacher_probabilities,
        generator,
        accepts=lambda chance, q, p: chance[:, :1] * q < p,
    )


@exhibit(
    replaces=SAMPLE,
    seen_in="a likely slip: accepted drafts counted, also after a rejection",
    killed_by=killed_by(LAW, COUNTS),
)
def goes_on_after_a_rejection(draft_tokens, student_probabilities, teacher_probabilities, *, generator=None):
    """A rejected token stays in the text when a later one is accepted."""
    return sample(draft_tokens, student_probabilities, teacher_probabilities, generator, stops=False)


@exhibit(
    replaces=SAMPLE,
    seen_in="a likely slip: the last token treated as a rejection too",
    killed_by=killed_by(LAW),
)
def residual_after_full_acceptance(draft_tokens, student_probabilities, teacher_probabilities, *, generator=None):
    """Nothing was drafted at the last position, so nothing is to be made up for."""
    last = student_probabilities[:, -1] if draft_tokens.shape[1] else None
    return sample(draft_tokens, student_probabilities, teacher_probabilities, generator, after=last)


def decode(draft: Callable[[Tensor, float], Tensor], student, teacher, prompt, options) -> tuple[Tensor, int]:
    """Decoding in which the student draws otherwise than its distribution says."""
    temperature, generator, limit = options.get("temperature", 1.0), options.get("generator"), options["max_new_tokens"]
    tokens, calls = prompt[None], 0
    while tokens.shape[1] - len(prompt) < limit:
        drafts = min(options.get("num_drafts", 4), limit - (tokens.shape[1] - len(prompt)) - 1)
        drafted, rows = tokens, []
        for _ in range(drafts):
            logits = student(drafted)[:, -1]
            rows.append((logits / temperature).softmax(-1))
            drawn = torch.multinomial(draft(logits, temperature), 1, generator=generator)
            drafted = torch.cat([drafted, drawn], dim=1)
        p = (teacher(drafted)[:, -drafts - 1 :] / temperature).softmax(-1)
        q = torch.stack(rows, dim=1) if rows else p[:, :0]
        new, count = right_sample(drafted[:, tokens.shape[1] :], q, p, generator=generator)
        tokens, calls = torch.cat([tokens, new[:, : int(count)]], dim=1), calls + 1
    return tokens[0, len(prompt) :], calls


DECODED = "decoded_text_follows_the_teachers_law_at_any_temperature"


@exhibit(
    replaces=DECODE,
    seen_in="jaymody/speculative-sampling #3: the draft is the most likely token, its probability that of a draw",
    killed_by=killed_by(DECODED),
)
def greedy_draft(student, teacher, prompt, **options):
    """Accepted as if it had been drawn."""
    return decode(
        lambda logits, tau: F.one_hot(logits.argmax(-1), logits.shape[-1]).double(), student, teacher, prompt, options
    )


@exhibit(
    replaces=DECODE,
    seen_in="mlx-node/mlx-node #11 and deepseek-ai/DeepSpec #31: drawn from another distribution than is checked",
    killed_by=killed_by(DECODED),
)
def draft_drawn_without_temperature(student, teacher, prompt, **options):
    """Exact at temperature 1 only, where it is usually tried."""
    return decode(lambda logits, tau: logits.softmax(-1), student, teacher, prompt, options)


@exhibit(
    replaces=DECODE,
    seen_in="a likely slip: the end token looked for at the end only",
    killed_by=killed_by("it_stops_after_the_end_token_and_at_the_limit"),
)
def end_looked_for_at_the_end(student, teacher, prompt, *, end=None, **options):
    """Accepted drafts run on behind it."""
    tokens, calls = right_decode(student, teacher, prompt, end=None, **options)
    return (tokens[:1], 1) if len(tokens) and tokens[0] == end else (tokens, calls)


@exhibit(
    replaces=DECODE,
    seen_in="a likely slip: calls of both models counted",
    killed_by=killed_by("calls_are_saved_as_the_draft_model_deserves"),
)
def calls_counted_by_token(student, teacher, prompt, **options):
    """Nothing seems to be saved."""
    tokens, _ = right_decode(student, teacher, prompt, **options)
    return tokens, len(tokens)


@exhibit(
    replaces=EXPECTED,
    seen_in="a likely slip: the added token forgotten",
    killed_by=(
        "heart/sequence/test_acceptance.py::test_known_values",
        "heart/sequence/test_acceptance.py::test_the_formulas_limits_and_gradient",
    ),
)
def without_the_added_token(acceptance: Tensor, *, num_drafts: int) -> Tensor:
    """0 tokens per call for a useless draft model, where it is 1."""
    return right_expected(acceptance, num_drafts=num_drafts) - 1


@exhibit(
    replaces=EXPECTED,
    seen_in="a likely slip: every draft counted on its own",
    killed_by=(
        "heart/sequence/test_acceptance.py::test_known_values",
        *killed_by("tokens_per_call_are_what_the_formula_says_where_every_draft_is_accepted_alike"),
    ),
)
def linear_in_the_drafts(acceptance: Tensor, *, num_drafts: int) -> Tensor:
    """A draft behind a rejected one is lost."""
    return 1 + num_drafts * acceptance
