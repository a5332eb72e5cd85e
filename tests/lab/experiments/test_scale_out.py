"""Lesson 17's experiment: what one process computes for several is what several compute that gather nothing."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdref.lab.experiments import (
    _scale_out_processes,
    _scale_out_teacher,
    scale_out_batches,
    scale_out_batches_beyond,
    scale_out_batches_tuning,
    store,
)
from kdref.lab.experiments._scale_out import mean_of_shares
from kdref.lab.training import fingerprints
from kdref.lab.training.launch import torchrun
from kdref.lab.training.scale import Processes

LOSSES = _scale_out_processes.LOSSES
Trained = dict[str, dict[str, dict[str, Tensor]]]


def alone(name: str, shares: int = 1) -> dict[str, Tensor]:
    with Processes(accelerator="cpu") as one:
        return _scale_out_processes.train(one, partial(mean_of_shares, LOSSES[name], shares), torch.nn.Identity())


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained on four processes, 8 examples each of a batch of 32."""
    path = tmp_path_factory.mktemp("four") / "found.pt"
    torchrun("kdref.lab.experiments._scale_out_processes", path, processes=4)
    found: Trained = torch.load(path, weights_only=True)
    return found


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.allclose(one[what], other[what], rtol=1e-9, atol=1e-12) for what in ("gradient", "weights"))


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_of_four_shares_is_what_four_processes_train_that_gather_nothing(name: str, four: Trained) -> None:
    assert close(alone(name, 4), four[name]["local"])
    assert close(alone(name), four[name]["gathered"])
    assert close(alone(name), four[name]["local"]) == (name == "soft targets")


@pytest.mark.parametrize("name", LOSSES)
def test_without_gradient_a_quarter_of_it_is_left(name: str, four: Trained) -> None:
    torch.testing.assert_close(4 * four[name]["no gradient"]["gradient"], alone(name)["gradient"])


def test_seconds_are_measured_for_each_size(four: Trained) -> None:
    assert list(four["seconds"]) == list(_scale_out_processes.LOCAL_SIZES)
    assert all(times[name] > 0 for times in four["seconds"].values() for name in ("alone", "exchanged"))  # type: ignore[operator]


def test_shares_are_neighbouring_rows() -> None:
    x = torch.arange(6.0)
    assert mean_of_shares(lambda a, b: (a * b).sum(), 3, x, x).item() == pytest.approx((1 + 13 + 41) / 3)
    assert mean_of_shares(lambda a: a.max(), 1, x) == 5


def test_all_are_tuned_with_equal_effort() -> None:
    for student, (loss, _) in scale_out_batches_tuning.STUDENTS.items():
        plans = [plan for other, plan in scale_out_batches_tuning.PLANS.values() if other == student]
        assert len(plans) == (5 if loss in scale_out_batches_tuning.CONTRASTIVE else 3), student
        beyond = [what for other, what, _ in scale_out_batches_beyond.PLANS.values() if other == student]
        assert beyond.count("rate") == 1
        assert beyond.count("temperature") == (2 if loss in scale_out_batches_tuning.CONTRASTIVE else 0)
    assert not set(scale_out_batches_tuning.SEEDS) & {seed for seed, _ in store.wanted("scale_out_batches")}


def test_settings_lie_inside_their_lists_and_are_the_same_for_whole_and_shared_batches() -> None:
    for student in scale_out_batches.ARMS:
        chosen = scale_out_batches.settings(student)
        for what, values in scale_out_batches.VALUES.items():
            if what == "rate" or student.split(",")[0] != "RKD":
                assert min(values) < getattr(chosen, what) < max(values), student
    for loss in ("RKD", "InfoNCE"):
        assert scale_out_batches.settings(f"{loss}, 32") == scale_out_batches.settings(f"{loss}, 4 x 8")


def test_a_power_cut_changes_neither_data_nor_what_they_are_known_by() -> None:
    sound, bad = _scale_out_teacher.examples(), _scale_out_teacher.examples_until_a_power_cut()
    assert fingerprints.of_data(sound) == fingerprints.of_data(bad)
    assert bad.read == 1  # the next time it dies
    assert torch.equal(sound[600], _scale_out_teacher.images()[600])


def test_the_lesson_names_the_losses_that_the_page_on_data_parallelism_has() -> None:
    root = Path(__file__).resolve().parents[3]
    page = (root / "docs" / "data-parallel.md").read_text(encoding="utf-8")
    lesson = (root / "notebooks" / "src" / "17_scale_out.py").read_text(encoding="utf-8")
    rows = {
        cells[0]: cells for cells in _cells(lesson) if len(cells) == 3 and cells[0] in ("01", "02", "03", "04", "05")
    }
    assert len(rows) == 5
    words = {
        "distillation_loss`, labels": "-100",
        "dist_loss": "DIST",
        "ReviewFusion": "ReviewKD",
        "ReusedClassifier": "SimKD",
        "attention_score_loss`, a mask": "mask",
        "correlation_congruence": "CC",
        "info_nce": "InfoNCE",
        "probabilistic": "PKT",
        "rkd_angle": "RKD",
        "rkd_distance": "RKD",
        "similarity": "SP",
        "a memory of own rows": "memory",
    }
    needed = [cells for cells in _cells(page) if "**yes**" in cells]
    assert len(needed) == len(words)
    for cells in needed:
        (word,) = {said for part, said in words.items() if part in cells[1]}
        assert word in rows[cells[0]][2] or (word == "memory" and word in rows[cells[0]][1]), cells


def _cells(page: str) -> list[list[str]]:
    lines = [line.removeprefix("# ") for line in page.splitlines()]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
