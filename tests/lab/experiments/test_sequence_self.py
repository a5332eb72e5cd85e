"""Self-distillation on sums: the rules, what each way learns from, and what is measured."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.data import sums
from kdref.lab.experiments import _sequence_self as own
from kdref.lab.experiments import sequence_self, sequence_self_tuning

ASKED = torch.tensor([[6, 0, 3, 6, 1, 0], [1, 2, 3, 4, 5, 0]])


def plain(asked: list[int], sign: int, rule: int) -> list[int]:
    """The steps of one problem, one by one."""
    total, steps = 0, []
    for number in asked:
        number = 5 if rule == own.RULE and number == 6 else 1 if rule == own.OTHER and number == 0 else number
        total = (total + (number if sign == sums.EQUALS else -number)) % 7
        steps.append(total)
    return steps


class Writer(torch.nn.Module):
    """Writes the steps of a rule, whatever the context says, or of the context if ``rule`` is None, then the end."""

    def __init__(self, rule: int | None) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, tokens: Tensor) -> Tensor:
        read = tokens[:, : own.PLACES]
        rule = read[:, 0] if self.rule is None else torch.full((len(read),), self.rule)
        text = own.texts(own.steps(read[:, 1:-1], read[:, -1], rule), torch.zeros(len(read), dtype=torch.bool))
        places = F.one_hot(torch.cat([read[:, 1:], text], dim=1), own.VOCABULARY)  # of the token after each
        return 1e4 * places[:, : tokens.shape[1]].float()


@pytest.mark.parametrize("sign", own.SIGNS)
@pytest.mark.parametrize("rule", own.CONTEXTS)
def test_steps_are_those_of_sign_and_rule(sign: int, rule: int) -> None:
    found = own.steps(ASKED, torch.full((2,), sign), torch.full((2,), rule))
    assert found.tolist() == [plain(row, sign, rule) for row in ASKED.tolist()]


def test_a_text_ends_with_or_without_a_flourish() -> None:
    steps = own.steps(ASKED, torch.full((2,), sums.EQUALS), torch.full((2,), own.PLAIN))
    assert torch.equal(steps, sums.traces(ASKED))
    written = own.texts(steps, torch.tensor([True, False]))
    assert written[:, -2:].tolist() == [[own.FLOURISH, sums.END], [sums.END, sums.END]]
    assert len({own.MINUS, own.PLAIN, own.RULE, own.OTHER, own.FLOURISH, *range(sums.VOCABULARY)}) == own.VOCABULARY


def test_what_is_measured_is_right_for_writers_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "before", lambda seed: Writer(None))
    obedient = own.measured(Writer(None), 3)
    assert (obedient["minus"], obedient["other"], obedient["flourish"], obedient["moved"]) == (1.0, 1.0, 0.0, 0.0)
    assert obedient["obeys"] == 0.0 < own.measured(Writer(None), 3, context=own.RULE)["obeys"] == 1.0
    stubborn = own.measured(Writer(own.RULE), 3)
    assert stubborn["obeys"] == 1.0
    assert stubborn["minus"] == 0.0
    assert stubborn["old"] == pytest.approx((stubborn["minus"] + stubborn["other"]) / 2)
    assert stubborn["score"] == pytest.approx((1 + stubborn["old"]) / 2)
    assert stubborn["moved"] > 1


def test_lessons_hide_the_rule_and_leave_other_prompts_as_they_are() -> None:
    read, told, other = own.lessons(4, 0.5)
    assert 0.4 < other.double().mean() < 0.6
    assert torch.equal(read[other], told[other])
    assert {tuple(row) for row in read[other][:, [0, -1]].tolist()} == {
        (own.PLAIN, own.MINUS),
        (own.OTHER, sums.EQUALS),
    }
    assert {tuple(row) for row in read[~other][:, [0, -1]].tolist()} == {(own.PLAIN, sums.EQUALS)}
    assert torch.equal(read[~other][:, 1:], told[~other][:, 1:])
    assert (told[~other][:, 0] == own.RULE).all()
    alone = own.lessons(4, 0.0)
    assert not alone[2].any()
    assert torch.equal(alone[0][:, 1:-1], read[:, 1:-1])


@pytest.mark.parametrize("name", own.WAYS)
def test_every_way_learns_from_what_its_name_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    way, seen = own.WAYS[name], []
    small = own.CausalTransformer(own.VOCABULARY, length=own.PLACES + own.WRITTEN, width=8, layers=1, seed=1)
    monkeypatch.setattr(own, "before", lambda seed: small)
    monkeypatch.setattr(own, "STEPS", 3)
    right = {"drawn": own.sequence_level_loss, "soft": own.token_loss}

    def drawn(said: Tensor, written: Tensor, **options: Tensor) -> Tensor:
        seen.append(("drawn", written))
        return right["drawn"](said, written, **options)

    def soft(said: Tensor, judged: Tensor, *, kind: str, mask: Tensor) -> Tensor:
        seen.append((kind, judged))
        assert not judged.requires_grad
        return right["soft"](said, judged, kind=kind, mask=mask)

    monkeypatch.setattr(own, "sequence_level_loss", drawn)
    monkeypatch.setattr(own, "token_loss", soft)
    before = [weight.clone() for weight in small.parameters()]
    model = own.distilled(way, 2, rate=1e-3)
    assert [kind for kind, _ in seen] == [way.loss] * 3
    assert all(torch.equal(a, b) for a, b in zip(before, small.parameters(), strict=True))
    assert not torch.equal(model.scores.weight, small.scores.weight)
    read, told, other = own.lessons(2, way.elsewhere)
    written = torch.cat([text for _, text in seen])
    if way.writer == "expert":
        steps = own.steps(told[:, 1:-1], told[:, -1], told[:, 0])
        assert torch.equal(written[~other], own.texts(steps, torch.zeros_like(other))[~other])
    elif way.writer == "told" and way.loss != "drawn":
        theirs = own.write(small, told, torch.Generator().manual_seed(2))
        torch.testing.assert_close(written, own.scores(small, told, theirs).detach())
    if way.elsewhere:
        assert other.any()
        assert not torch.equal(read, told)


def test_rates_are_chosen_on_other_seeds_than_those_reported() -> None:
    assert min(sequence_self_tuning.SEEDS) >= 5000
    assert len(set(sequence_self.ARMS)) == len(own.WAYS) + 2
