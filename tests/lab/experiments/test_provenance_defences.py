"""The experiments of lesson 16 on mistakes and defences: what students are shown, and what users and copiers see."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab.experiments import provenance_defences, provenance_fingerprint, provenance_nasty
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs
from kdref.soft_targets import soft_target_loss


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_a_student_is_shown_what_its_arm_says() -> None:
    model = make("mlp-8", seed=0)
    x, y = torch.randn(50, 1, 40), torch.arange(50) % 10
    logits = teacher_outputs(model, x)
    answers = logits.argmax(-1)
    right = answers == y
    for how, wanted in (("labels", y), ("logits", logits), ("answers", answers)):
        inputs, said = provenance_fingerprint.shown(model, x, y, how)
        assert torch.equal(inputs, x)
        assert torch.equal(said, wanted)
    for how, wanted in (("right answers only", y[right]), ("logits, right only", logits[right])):
        inputs, said = provenance_fingerprint.shown(model, x, y, how)
        assert torch.equal(inputs, x[right])
        assert torch.equal(said, wanted)
    half = provenance_fingerprint.shown(model, x, y, "half labels, half answers")[1]
    assert torch.equal(half, torch.cat([y[:25], answers[25:]]))


def test_a_copy_is_known_by_its_mistakes_and_the_rank_of_its_teacher_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    suspects = [make("mlp-8", seed=number) for number in range(10)]
    monkeypatch.setattr(provenance_fingerprint, "teachers", lambda group, data: suspects)
    monkeypatch.setattr(provenance_fingerprint, "learn", lambda *_, **__: suspects[3])
    found = provenance_fingerprint.run(13, "logits")
    assert found["score_300"] == found["auc_300"] == found["first_300"] == 1.0
    assert max(found[f"other_300_{number}"] for number in range(9)) < 1
    stranger = provenance_fingerprint.run(14, "logits")
    assert stranger["first_300"] == 0.0
    assert stranger["auc_300"] < 1


# Defences -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    model = make("mlp-8", seed=0)
    monkeypatch.setattr(provenance_defences, "service", lambda seed: model)
    return model


def test_every_defence_tells_probabilities_and_all_but_noise_keep_the_choice(service: nn.Module) -> None:
    x = torch.randn(200, 1, 40)
    real = teacher_outputs(service, x).softmax(-1)
    for arm in provenance_defences.ARMS[1:]:
        told = provenance_defences.told(0, arm, x, part=0)
        assert_close(told.sum(-1), torch.ones(200))
        assert (told >= 0).all()
        if "noised" not in arm:
            best = told == told.amax(-1, keepdim=True)
            assert best.gather(1, real.argmax(-1, keepdim=True)).all()
    tenths = 10 * provenance_defences.told(0, "one decimal", x, part=0) * (real * 10).round().sum(-1, keepdim=True) / 10
    assert_close(tenths, tenths.round(), rtol=0, atol=1e-4)


def test_asking_a_noisy_service_again_brings_the_copier_nearer(service: nn.Module) -> None:
    x = torch.randn(200, 1, 40)
    real = teacher_outputs(service, x).softmax(-1)
    once, often = (
        (provenance_defences.told(0, arm, x, part=0) - real).abs().mean() for arm in ("noised", "noised, asked 8 times")
    )
    assert often < 0.6 * once


def test_an_honest_user_doubts_as_much_as_is_best() -> None:
    y = torch.arange(1000) % 10
    wrong = torch.arange(1000) < 200
    told = F.one_hot(torch.where(wrong, (y + 1) % 10, y), 10).float()
    found = provenance_defences.honest(told, y, told, y)
    assert found["user_accuracy"] == 0.8
    assert found["doubt"] == 0.2  # 0.2 · 9/10 is the share of wrong answers that it allows for, 0.3 is too much
    assert found["user_nll"] == pytest.approx(-0.8 * math.log(0.82) - 0.2 * math.log(0.02), rel=1e-4)
    assert found["user_calibration"] == pytest.approx(0.02, abs=1e-4)


def test_the_nasty_teacher_keeps_its_accuracy_and_leaves_its_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = provenance_nasty.tested(provenance_nasty.known(60))
    assert len(y) == 797
    twin, nasty = provenance_nasty.honest(60), provenance_nasty.nasty(60)
    provenance_nasty.nasty.cache_clear()
    monkeypatch.setattr(provenance_nasty, "WEIGHT", 0.0)
    longer = provenance_nasty.nasty(60)  # as many steps on the labels alone
    provenance_nasty.nasty.cache_clear()
    right = [(teacher_outputs(model, x).argmax(-1) == y).double().mean().item() for model in (twin, nasty, longer)]
    assert max(right) - min(right) < 0.03
    far, near = (
        soft_target_loss(teacher_outputs(twin, x), teacher_outputs(model, x), temperature=4.0)
        for model in (nasty, longer)
    )
    assert far > 2 * near


def test_copiers_of_both_teachers_start_alike_and_the_control_meets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def look(model: nn.Module, x: Tensor, said: Tensor, *, seed: int, temperature: float = 1.0) -> nn.Module:
        seen[arm] = (weights(model), len(x), said, temperature)
        return model.eval()

    honest, nasty = provenance_nasty.honest(60), provenance_nasty.nasty(60)
    monkeypatch.setattr(provenance_nasty, "honest", lambda seed: honest)
    monkeypatch.setattr(provenance_nasty, "nasty", lambda seed: nasty)
    monkeypatch.setattr(provenance_nasty, "taught", look)
    for arm in provenance_nasty.ARMS:
        provenance_nasty.run(60, arm)
    assert all(torch.equal(start, seen["labels"][0]) and count == 500 for start, count, _, _ in seen.values())
    assert torch.equal(seen["labels"][2], provenance_nasty.known(60).train_y[500:])
    assert [seen[arm][3] for arm in provenance_nasty.ARMS] == [1, 1, 4, 10, 1, 1, 4, 10, 1]
    asked = provenance_nasty.known(60).train_x[500:]
    for kind, model in (("honest", honest), ("nasty", nasty)):
        assert_close(seen[f"{kind} | at 4"][2], model(asked), rtol=1e-4, atol=1e-4)
        assert torch.equal(seen[f"{kind} | answers"][2], model(asked).argmax(-1))
