"""The experiments of lessons 03 to 05: every loss trains, and the weight's unit and CRD's walk are what they say."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab.experiments import _features, _inside, _mnist1d, _relations
from kdref.lab.experiments._inside import MODES, STUDENTS, Activations, Built, Shapes, taught_inside
from kdref.lab.models import make

ARMS = [
    *((student, name, _relations.METHODS[name]) for student in STUDENTS for name in _relations.METHODS),
    *(("cnn1d-8", name, build) for name, build in _features.METHODS.items()),
    *(("mlp-100x100", name, _features.METHODS[name]) for name in _features.WITHOUT_MAPS),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A teacher without training, one epoch, two batches."""
    whole = _mnist1d.parts()
    few = dataclasses.replace(whole, train_x=whole.train_x[:500], train_y=whole.train_y[:500])
    for module in (_inside, _relations):
        monkeypatch.setattr(module, "parts", lambda *_: few)
    teacher = make("cnn1d-32", seed=0).eval()
    monkeypatch.setattr(_inside, "teacher", lambda *_, **__: teacher)
    monkeypatch.setattr(_inside, "EPOCHS", dict.fromkeys(STUDENTS, 1))
    _inside.teacher_activations.cache_clear()
    logits = _inside.teacher_activations(0)["logits"]
    monkeypatch.setattr(_inside, "logits", lambda *_, **__: (logits, logits.new_zeros(len(whole.test_x), 10)))
    yield
    _inside.teacher_activations.cache_clear()


@pytest.mark.parametrize(("student", "name", "build"), ARMS, ids=[f"{student}-{name}" for student, name, _ in ARMS])
def test_every_loss_trains_its_student_the_same_way_twice(student: str, name: str, build: _inside.Build) -> None:
    first, again = (taught_inside(student, build, seed=0, weight=1.0, mode=MODES[0]) for _ in range(2))
    assert first == again
    assert 0 < first["accuracy"] < 1


def test_crd_remembers_the_examples_that_training_shows() -> None:
    found = _inside.teacher_activations(0)["pooled"]
    steps = 0

    def build(shapes: Shapes) -> Built:
        walk = _relations.rows(len(found), shapes.seed)

        def term(s: Activations, t: Activations) -> Tensor:
            nonlocal steps
            steps += 1
            assert_close(t["pooled"], found[next(walk)], rtol=0, atol=0)
            return s["pooled"].square().mean()

        return Built(term)

    taught_inside("cnn1d-8", build, seed=3, weight=1.0, mode="alone")
    assert steps == 1 + len(found) // _inside.BATCH_SIZE


def test_at_weight_one_both_gradients_are_of_one_size() -> None:
    student, x = nn.Linear(3, 2), torch.eye(3)
    outside, inside = student(x).square().sum(), 100 * student(x)[:, 0].exp().sum()
    unit = _inside._unit(student, outside, inside)
    sizes = [
        torch.cat([g.flatten() for g in torch.autograd.grad(term, list(student.parameters()), retain_graph=True)])
        for term in (outside, unit * inside)
    ]
    assert_close(sizes[0].norm(), sizes[1].norm())
