"""The example's options: an interruption, mixed images, stored outputs of the teacher, and timm's models."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision import models

from tests.course import test_examples
from tests.course.test_examples import draw

example = test_examples.example  # the fixture


class Tiny(nn.Module):
    """A classifier of a few hundred numbers, with dropout and BatchNorm."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.head, self.seen = nn.Linear(4, classes), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return self.head(self.body(x).mean(dim=(2, 3)))


MADE: list[Tiny] = []


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models by torchvision's names, and a timm that makes them too."""

    def make(name: str, *, num_classes: int, **_: object) -> nn.Module:
        MADE.append(Tiny(num_classes))
        return MADE[-1]

    monkeypatch.setattr(models, "get_model", make)
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=make))
    MADE.clear()


def run(example: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    """The printed table, without the times."""
    usual = ["--image-size", "32", "--epochs", "3", "--batch-size", "4", "--workers", "0", "--device", "cpu"]
    example.main([str(folder), *usual, *options])
    return [line.rsplit(maxsplit=1)[0] for line in capsys.readouterr().out.splitlines()]


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.stem: torch.load(path, weights_only=True)["modules"][0] for path in sorted(folder.iterdir())}


def test_an_interrupted_run_goes_on_to_the_same_result(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, options = draw(tmp_path / "images"), ("--mixup", "0.4")
    expected = run(example, images, capsys, "--checkpoints", str(tmp_path / "whole"), *options)
    assert run(example, images, capsys, *options) == expected  # checkpoints change nothing
    train, calls = example.train, []

    def stop(*arguments: object, **settings: object) -> None:
        calls.append(settings.get("part"))
        if calls[-1] == "student" and calls.count("student") == 1:
            arguments[2].epochs = 1
            train(*arguments, **settings)
            raise KeyboardInterrupt
        train(*arguments, **settings)

    monkeypatch.setattr(example, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        run(example, images, capsys, "--checkpoints", str(tmp_path / "cut"), *options)
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["student.pt", "teacher.pt"]
    assert run(example, images, capsys, "--checkpoints", str(tmp_path / "cut"), *options) == expected
    torch.testing.assert_close(weights(tmp_path / "cut"), weights(tmp_path / "whole"), rtol=0, atol=0)


def test_mixed_images_have_mixed_labels_and_the_teacher_sees_them(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, loss = [], example.distillation_loss
    monkeypatch.setattr(example, "distillation_loss", lambda s, t, y, **k: (labels.append(y), loss(s, t, y, **k))[1])
    run(example, draw(tmp_path), capsys, "--mixup", "0.4")
    for mixed in labels:
        assert mixed.shape[1] == 2
        torch.testing.assert_close(mixed.sum(dim=1), torch.ones(len(mixed)))
    assert any((mixed > 0.01).all() and (mixed < 0.99).all() for mixed in labels)


def test_a_stored_teacher_runs_once_and_says_the_same(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, kept = draw(tmp_path / "images"), tmp_path / "kept"
    torch.save(Tiny(2).state_dict(), tmp_path / "teacher.pt")
    options = ("--teacher-weights", str(tmp_path / "teacher.pt"), "--stored", str(kept))
    online, loss = [], example.distillation_loss
    run(example, images, capsys, *options)
    teacher = MADE[0]
    assert sorted(path.suffix for path in kept.iterdir()) == [".json", ".safetensors"]
    monkeypatch.setattr(example, "distillation_loss", lambda s, t, y, **k: (online.append(t), loss(s, t, y, **k))[1])
    MADE.clear()
    run(example, images, capsys, *options)
    assert MADE[0].seen == 2 + 53  # two images to validate on, and the timing: none to train on
    data, _, _ = example.load(images, 32, augmented=False)
    x = torch.stack([image for image, _ in data])
    with torch.no_grad():
        said = teacher.eval()(x)
    assert all(torch.isclose(row, said).all(dim=1).any() for batch in online[-6:] for row in batch)


def test_another_teachers_stored_outputs_are_refused(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = draw(tmp_path / "images")
    for seed, refused in ((1, False), (2, True)):
        torch.manual_seed(seed)
        torch.save(Tiny(2).state_dict(), tmp_path / "teacher.pt")
        options = ("--teacher-weights", str(tmp_path / "teacher.pt"), "--stored", str(tmp_path / "kept"))
        if refused:
            with pytest.raises(ValueError, match="holds outputs of another teacher"):
                run(example, images, capsys, *options)
        else:
            run(example, images, capsys, *options)


def test_timm_makes_models_too(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = run(example, draw(tmp_path), capsys, "--teacher", "timm/vit_tiny_patch16_224", "--student", "timm/resnet18")
    assert table[-3].startswith("teacher")
    assert [type(model) for model in MADE] == [Tiny, Tiny]
