"""Lesson 04's experiments: what each arm is taught by, and that its runs are paired, complete and tuned in the open."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from kdref.attention import attention_relation_divergence, attention_score_loss, attention_transfer_loss, value_relation
from kdref.lab.experiments import _attention, attention_longer, attention_maps, attention_tokens, load
from kdref.lab.experiments._attention import LAYERS, Settings, map_terms, network, relation_terms, score_terms, taught
from kdref.lab.experiments.attention_tuning import ARMS, METHODS, SEEDS, chosen
from kdref.soft_targets import distillation_loss

X, Y = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3])


def shown(kind: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    student, teacher = (network(kind, role, 0).eval()(X) for role in ("student", "teacher"))
    return student, teacher


def test_attention_transfer_adds_the_three_layers_to_the_labels() -> None:
    own, theirs = shown("maps")
    expected = F.cross_entropy(own["logits"], Y) + 7 * sum(attention_transfer_loss(own[k], theirs[k]) for k in LAYERS)
    assert len(LAYERS) == 3
    assert_close(map_terms(own, theirs, Y, soft=0.0, weight=7.0)["loss"], expected)


def test_a_temperature_puts_soft_targets_in_the_place_of_labels() -> None:
    own, theirs = shown("maps")
    expected = distillation_loss(own["logits"], theirs["logits"], Y, soft_weight=0.9, temperature=2.0)
    assert_close(_attention.plain_terms(own, theirs, Y, soft=2.0, weight=5.0)["loss"], expected)


def test_relations_are_two_divergences_and_scores_a_squared_error() -> None:
    own, theirs = shown("tokens")
    labels = F.cross_entropy(own["logits"], Y)
    pairs = (own["attention"], theirs["attention"]), (value_relation(own["values"]), value_relation(theirs["values"]))
    both = sum(attention_relation_divergence(*pair).mean() for pair in pairs)
    assert_close(relation_terms(own, theirs, Y, soft=0.0, weight=3.0)["loss"], labels + 3 * both)
    scores = attention_score_loss(own["scores"], theirs["scores"])
    assert_close(score_terms(own, theirs, Y, soft=0.0, weight=3.0)["loss"], labels + 3 * scores)


@pytest.mark.parametrize("kind", ["maps", "tokens"])
def test_a_run_is_the_same_twice_and_longer_is_longer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_attention, "EPOCHS", 1)
    guide = network(kind, "teacher", 0).eval()
    monkeypatch.setattr(_attention, "teacher", lambda *_: guide)
    method = next(m for m in METHODS.values() if m.kind == kind and m.tuned == "weight")
    runs = [taught(kind, method.terms, Settings(weight=1.0), seed=0, longer=n).state_dict() for n in (1, 1, 2)]
    name = next(name for name in runs[0] if "classifier" in name)
    assert torch.equal(runs[0][name], runs[1][name])
    assert not torch.equal(runs[0][name], runs[2][name])


def test_stored_runs_are_complete_and_share_their_seeds() -> None:
    maps, longer, tokens = (load(f"attention_{name}") for name in ("maps", "longer", "tokens"))
    modules = (attention_maps, attention_longer, attention_tokens)
    for runs, module, count in zip((maps, longer, tokens), modules, (24, 8, 24), strict=True):
        assert sorted(runs["arm"].unique()) == sorted(module.ARMS)
        assert set(runs["seed"]) <= set(maps["seed"])
        assert len(runs) == count * len(module.ARMS)
    assert set(maps["seed"]) == set(tokens["seed"])
    assert not set(SEEDS) & set(maps["seed"])


def test_what_is_tuned_lies_inside_its_grid() -> None:
    for name, method in METHODS.items():
        assert list(method.grid) == sorted(method.grid)
        if name != "maps | AT":  # of which several weights are reported, whatever was chosen
            assert chosen(name) in method.grid[1:-1], name
    assert len(ARMS) == sum(len(method.grid) for method in METHODS.values())
