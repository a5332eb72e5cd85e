"""Within a seed the arms of an experiment are paired: the same examples, first weights and order of the data.

The difference between two arms is then that between two methods. Nothing is trained here: what would be is looked at.
"""

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from kdref.lab.experiments import _sequence, cross_modal, sequence_reasoning
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure

KEPT = ("chosen", "parts", "windows")  # caches of stored settings and of data: they hold nothing that was trained
EXPERIMENTS = (
    "soft_targets_temperature",
    "response_losses",
    "response_decay",
    "response_patience",
    "response_consistency",
    "response_teachers",
    "response_capacity",
    "response_balance",
    "choose_signals",
    "choose_images",
    "relation_labels",
    "relation_retrieval",
    "adversarial_features",
    "multi_teacher_councils",
    "multi_teacher_ladder",
    "multi_teacher_longer",
    "attention_maps",
    "attention_tokens",
    "self_distillation_labels",
    "self_distillation_sharp",
)
FEWER_IMAGES = {  # arms that see a part of them, by design
    "multi_teacher_councils": ("50 labels",),
    "multi_teacher_longer": ("50 labels, longer",),
}


class Seen(NamedTuple):
    """What a student is at the first step, and what it will be shown."""

    kind: str
    weights: str
    examples: str
    order: str  # of two epochs


def forget() -> None:
    """Empty what the experiments keep of teachers and students."""
    for name, module in list(sys.modules.items()):
        if name.startswith("kdref.lab.experiments."):
            for key, value in vars(module).items():
                if key not in KEPT and hasattr(value, "cache_clear"):
                    value.cache_clear()


def digest(*tensors: Tensor) -> str:
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(str(tuple(tensor.shape)).encode() + tensor.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Seen]]:
    """All that would have been trained, in order; ``fit`` and ``measure`` do nothing."""
    seen: list[Seen] = []

    def look(step: object, trainable: Any, batches: Any, optimizer: object, **_: object) -> None:
        student = trainable[0] if isinstance(trainable, nn.ModuleList) else trainable
        # without BatchNorm's statistics: a loss whose weight is counted in gradients has seen a batch already
        state = dict(student.named_parameters())
        shown = [batch[0] for _ in range(2) for batch in batches]
        kind = str({name: tuple(value.shape) for name, value in state.items()})
        seen.append(Seen(kind, digest(*state.values()), digest(batches.tensors[0]), digest(*shown)))

    for name in (*EXPERIMENTS, "cross_modal"):
        importlib.import_module(f"kdref.lab.experiments.{name}")
    for name, module in list(sys.modules.items()):
        if name.startswith("kdref.lab.experiments."):
            for key, value in list(vars(module).items()):
                if value is fit:
                    monkeypatch.setattr(module, key, look)
                elif value is measure:
                    monkeypatch.setattr(module, key, lambda *_, **__: {"accuracy": 0.5, "nll": 0.7})
    forget()
    yield seen
    forget()


def students(run: Callable[[int, str], object], arms: tuple[str, ...], seed: int, seen: list[Seen]) -> dict[str, Seen]:
    """The last that a run trains is its student."""
    found = {}
    for arm in arms:
        forget()  # or what an arm before it has trained would be missing
        run(seed, arm)
        found[arm] = seen[-1]
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_arms_of_a_seed_share_examples_first_weights_and_order(name: str, trained: list[Seen]) -> None:
    module = importlib.import_module(f"kdref.lab.experiments.{name}")
    fewer = FEWER_IMAGES.get(name, ())
    arms = tuple(arm for arm in module.ARMS if arm not in fewer)
    found = students(module.run, arms, 3, trained)
    assert len(found) == len(arms) > 1
    by_kind: dict[str, set[Seen]] = {}
    for one in found.values():
        by_kind.setdefault(one.kind, set()).add(one)
    assert all(len(same) == 1 for same in by_kind.values()), f"{name}: arms of one seed differ before they are trained"
    assert len({(one.examples, one.order) for one in found.values()}) == 1, f"{name}: other students see another order"
    few = students(module.run, fewer, 3, trained)
    assert {(one.kind, one.weights) for one in few.values()} <= {(one.kind, one.weights) for one in found.values()}
    first = arms[0]
    other = students(module.run, (first,), 4, trained)[first]
    assert other.kind == found[first].kind
    assert other.weights != found[first].weights
    assert other.order != found[first].order


def test_arms_of_the_sensors_share_people_first_weights_and_order(trained: list[Seen]) -> None:
    found: dict[str, list[Seen]] = {}
    for arm in cross_modal.ARMS:
        trained.clear()
        forget()
        cross_modal.run(3, arm)
        each = len(trained) // cross_modal.FOLDS  # a student, or a teacher and a student
        found[arm] = trained[each - 1 :: each]
    for sensor in ("gyroscope", "accelerometer"):
        folds = [seen for arm, seen in found.items() if arm.startswith(sensor)]
        assert len(folds) > 2
        for number in range(cross_modal.FOLDS):
            assert len({seen[number] for seen in folds}) == 1, f"{sensor}, fold {number}: the arms differ"
        assert len({seen.examples for seen in folds[0]}) == cross_modal.FOLDS


def test_arms_of_the_sums_share_problems_first_weights_and_order(
    trained: list[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _sequence.problems(80, 3, 1)
    written = torch.zeros(80, 4, _sequence.LENGTH + 1, dtype=torch.long)
    monkeypatch.setattr(sequence_reasoning, "PROBLEMS", 80)
    monkeypatch.setattr(sequence_reasoning, "samples", lambda seed: (asked, written))
    monkeypatch.setattr(sequence_reasoning, "measured", lambda *_: {"slips": 0.0})
    monkeypatch.setattr(sequence_reasoning, "compared", lambda *_: {})
    shown: dict[str, Tensor] = {}

    def look(step: object, model: nn.Module, rows: Tensor, rate: float) -> nn.Module:
        trained.append(Seen("", digest(*model.state_dict().values()), "", ""))
        shown[arm] = rows[: _sequence.STUDENT_STEPS * _sequence.BATCH_SIZE, : _sequence.LENGTH]
        return model

    monkeypatch.setattr(_sequence, "_fitted", look)
    for arm in sequence_reasoning.ARMS[:4]:
        sequence_reasoning.run(3, arm)
    assert list(shown) == list(sequence_reasoning.ARMS[:4])
    assert len({digest(rows) for rows in shown.values()}) == 1
    assert len(shown[arm]) == _sequence.STUDENT_STEPS * _sequence.BATCH_SIZE
    assert len(trained) == 4
    assert len({one.weights for one in trained}) == 1
