"""Self-distillation on sums: the rules, the exact sums over texts, and what each way learns from."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.lab.experiments import _sequence_self as own
from kdref.lab.experiments import sequence_self, sequence_self_tuning
from tests import checks

ASKED = torch.tensor([[6, 0, 3, 6, 1, 0], [1, 2, 3, 4, 5, 0]])


def plain(asked: list[int], sign: int, rule: int) -> list[int]:
    """The steps of one problem, one by one."""
    total, steps = 0, []
    for number in asked:
        number = 5 if rule == own.RULE and number == 6 else 1 if rule == own.OTHER and number == 0 else number
        total = (total + (number if sign == own.PLUS else -number)) % 7
        steps.append(total)
    return steps


def table(rule: int | None) -> Tensor:
    """Logits of who follows one rule whatever the context says, or the context if it is None; half with a flourish."""
    logits = torch.full((*own.PLACES, own.OUTCOMES), -50.0)
    for context in range(3):
        for sign in range(2):
            for before in range(7):
                for number in range(7):
                    holds = context if rule is None else rule
                    step = plain([number], sign, holds)[0]
                    logits[context, sign, before, number, (before + step) % 7] = 0.0
    logits[..., own.LAST, own.STOP :] = 0.0
    return logits


class Fixed(torch.nn.Module):
    """A writer whose logits are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits.clone())

    def forward(self) -> Tensor:
        return self.logits.clone()


def some_logits(seed: int) -> Tensor:
    return checks.randn(*own.PLACES, own.OUTCOMES, seed=seed, dtype=torch.float32)


@pytest.mark.parametrize("sign", [own.PLUS, own.MINUS])
@pytest.mark.parametrize("rule", [own.PLAIN, own.RULE, own.OTHER])
def test_steps_are_those_of_sign_and_rule(sign: int, rule: int) -> None:
    found = own.steps(ASKED, torch.full((2,), sign), torch.full((2,), rule))
    assert found.tolist() == [plain(row, sign, rule) for row in ASKED.tolist()]


def test_a_writer_adds_the_vectors_of_what_it_reads() -> None:
    writer = own.Writer((3, 2, 4), 5, width=8, seed=1)
    logits = writer()
    assert logits.shape == (3, 2, 4, 5)
    first, second, third = writer.reads
    assert_close(logits[2, 1, 3], writer.scores(first[2] + second[1] + third[3]))


def test_texts_are_drawn_and_read_at_the_places_they_pass() -> None:
    logits, context, sign = table(None), torch.tensor([own.RULE, own.OTHER]), torch.tensor([own.PLUS, own.MINUS])
    written = own.draw(logits, context, sign, ASKED, torch.Generator().manual_seed(0))
    assert torch.equal(written[:, :-1], own.steps(ASKED, sign, context))
    assert set(written[:, -1].tolist()) <= {own.STOP, own.FLOURISH}
    found, random = own.said(some_logits(3), context, sign, ASKED, written), some_logits(3)
    for i in range(2):
        for place in range(own.LENGTH + 1):
            before = 0 if place == 0 else int(written[i, place - 1])
            number = own.LAST if place == own.LENGTH else int(ASKED[i, place])
            assert torch.equal(found[i, place], random[context[i], sign[i], before, number])


@pytest.mark.parametrize(("sign", "rule"), [(own.PLUS, own.RULE), (own.MINUS, own.PLAIN), (own.PLUS, own.OTHER)])
def test_places_are_as_likely_as_texts_that_are_drawn_pass_them(sign: int, rule: int) -> None:
    logits, count = some_logits(4), 40_000
    generator = torch.Generator().manual_seed(1)
    asked = torch.randint(7, (count, own.LENGTH), generator=generator)
    contexts, signs = torch.full((count,), own.OTHER), torch.full((count,), sign)
    written = own.draw(logits, contexts, signs, asked, generator)[:, :-1].clamp(max=6)
    right = own.steps(asked, signs, torch.full((count,), rule))
    joints = own.visited(logits, own.OTHER, sign, rule)
    for place in (1, 3, own.LENGTH):
        six = (asked[:, :place] == 6).any(dim=1).long()
        cells = (right[:, place - 1] * 7 + written[:, place - 1]) * 2 + six
        drawn = cells.bincount(minlength=98).reshape(7, 7, 2) / count
        assert_close(drawn.double(), joints[place], rtol=0, atol=0.008)
        assert joints[place].sum().item() == pytest.approx(1.0)


def test_what_is_measured_is_right_for_writers_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    obedient, stubborn = Fixed(table(None)), Fixed(table(own.RULE))
    monkeypatch.setattr(own, "before", lambda seed: obedient)
    found = own.measured(obedient, 0)
    assert (found["minus"], found["other"]) == pytest.approx((1.0, 1.0))
    assert found["flourish"] == pytest.approx(0.5)
    assert found["moved"] == pytest.approx(0.0, abs=1e-12)
    asked = torch.cartesian_prod(*[torch.arange(7)] * own.LENGTH)
    sixes = (asked == 6).sum(1)
    by_luck = (sixes[sixes > 0] % 7 == 0).double().mean().item()  # as many as the clock has hours
    assert found["obeys"] == pytest.approx(by_luck, abs=1e-12)
    assert own.measured(obedient, 0, context=own.RULE)["obeys"] == pytest.approx(1.0)
    found = own.measured(stubborn, 0)
    assert found["obeys"] == pytest.approx(1.0)
    assert found["minus"] == pytest.approx(by_luck, abs=1e-12)
    assert found["old"] == pytest.approx((found["minus"] + found["other"]) / 2)
    assert found["score"] == pytest.approx((1 + found["old"]) / 2)
    per_token = 50 * (1 / 7 + 2 / 7) / 2 * own.LENGTH / (own.LENGTH + 1)  # of "-" at sixes, of the other at zeros too
    assert found["moved"] == pytest.approx(per_token, rel=1e-6)


def test_lessons_hide_the_rule_and_leave_other_prompts_as_they_are() -> None:
    context, told, sign, asked = own.lessons(4, 0.5)
    rule = told == own.RULE
    assert 0.4 < rule.double().mean() < 0.6
    assert set(zip(context[rule].tolist(), sign[rule].tolist(), strict=True)) == {(own.PLAIN, own.PLUS)}
    assert torch.equal(context[~rule], told[~rule])
    elsewhere = set(zip(context[~rule].tolist(), sign[~rule].tolist(), strict=True))
    assert elsewhere == {(own.PLAIN, own.MINUS), (own.OTHER, own.PLUS)}
    alone = own.lessons(4, 0.0)
    assert (alone[1] == own.RULE).all()
    assert torch.equal(alone[3], asked)


@pytest.mark.parametrize("name", own.WAYS)
def test_every_way_learns_from_what_its_name_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    way, judge, seen, writers = own.WAYS[name], Fixed(table(None)), [], []
    monkeypatch.setattr(own, "before", lambda seed: judge)
    right = {"drawn": own.sequence_level_loss, "soft": own.token_loss, "draw": own.draw}

    def drawn(said: Tensor, written: Tensor) -> Tensor:
        seen.append(("drawn", written))
        return right["drawn"](said, written)

    def soft(said: Tensor, judged: Tensor, *, kind: str) -> Tensor:
        seen.append((kind, judged.argmax(-1)))
        assert not judged.requires_grad
        return right["soft"](said, judged, kind=kind)

    def draw(logits: Tensor, context: Tensor, *rest) -> Tensor:
        writers.append(("itself" if logits.requires_grad else "judge", (context == own.RULE).any().item()))
        return right["draw"](logits, context, *rest)

    for key, spy in (("sequence_level_loss", drawn), ("token_loss", soft), ("draw", draw)):
        monkeypatch.setattr(own, key, spy)
    model = own.distilled(way, 2, rate=1e-3)
    count = own.UPDATE // own.TEXTS
    assert [kind for kind, _ in seen] == [way.loss] * count
    assert writers == [("judge", True)] + [("itself", False)] * (count if way.writer == "itself" else 0)
    learnt = not torch.equal(model.logits, judge.logits)
    assert learnt == (way.loss != "reverse")  # which has no gradient where a writer never says what the judge would
    context, told, sign, asked = own.lessons(2, way.elsewhere)
    learned = torch.cat([tokens for _, tokens in seen])
    expected = own.steps(asked, sign, told)
    if way.writer != "itself":
        assert torch.equal(learned[:, :-1], expected)
        assert (way.elsewhere > 0) == (context == own.OTHER).any()
    else:
        assert torch.equal(learned[:, 0], expected[:, 0])  # judged with the rule from the first token on
    if way.loss == "drawn":
        style = (learned[:, -1] == own.FLOURISH).double()
        assert style[told != own.RULE].numel() == 0 or 0.4 < style[told != own.RULE].mean() < 0.6
        mean = style[told == own.RULE].mean()
        assert mean == 0 if way.writer == "expert" else 0.4 < mean < 0.6


def test_rates_are_chosen_on_other_seeds_than_those_reported() -> None:
    assert min(sequence_self_tuning.SEEDS) >= 5000
    assert len(set(sequence_self.ARMS)) == len(own.WAYS) + 2
