"""The experiments of lessons 03 to 05: every loss trains, and the weight's unit and CRD's walk are what they say."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab.experiments import _inside, _relation, relation_few_labels_tuning
from kdref.lab.experiments._inside import Activations, Built, Shapes, taught_inside
from kdref.lab.models import make

ARMS = [  # one setting of each
    next(arm for arm in relation_few_labels_tuning.ARMS if arm.startswith(f"{pair} | "))
    for pair in relation_few_labels_tuning.PAIRS
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A teacher without training, one epoch."""
    teacher = make("cnn1d-32", seed=0).eval()
    monkeypatch.setattr(_inside, "teacher", lambda *_, **__: teacher)
    monkeypatch.setattr(_inside, "EPOCHS", 1)
    kept = (_inside.teacher_activations, _inside.teacher_on_test)
    for cached in kept:
        cached.cache_clear()
    yield
    for cached in kept:
        cached.cache_clear()


@pytest.mark.parametrize("arm", ARMS)
def test_every_loss_trains_its_student_the_same_way_twice(arm: str) -> None:
    first, again = (relation_few_labels_tuning.run(5000, arm) for _ in range(2))
    assert first == again
    assert 0 < first["accuracy"] < 1


def test_crd_remembers_the_examples_that_training_shows() -> None:
    found = _inside.teacher_activations(3)["pooled"]
    steps = 0

    def build(shapes: Shapes) -> Built:
        walk = _relation.rows(len(found), shapes.seed)

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
