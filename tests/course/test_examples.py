"""The examples run as a user runs them, on generated images, and say what is wrong with bad input."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from torchvision import models

EXAMPLE = Path(__file__).parents[2] / "examples" / "distill_your_model.py"
COLOURS = {"blue": (20, 40, 200), "red": (200, 30, 20)}
QUICK = ["--teacher", "squeezenet1_1", "--student", "shufflenet_v2_x0_5", "--image-size", "64"]
QUICK += ["--epochs", "1", "--batch-size", "4", "--workers", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distill_your_model", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(folder: Path, colours: dict[str, tuple[int, int, int]] = COLOURS, count: int = 5) -> Path:
    """Write images of one colour per class."""
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (70 + number, 66), colour).save(folder / name / f"{number}.png")
    return folder


def assert_comparison_printed(output: str, images: int) -> None:
    head, *rows = output.splitlines()[-4:]
    assert head.split() == ["accuracy", "of", str(images), "parameters", "ms", "per", "image"]
    cells = {row[:18].strip(): row[18:].split() for row in rows}
    assert list(cells) == ["teacher", "student alone", "student distilled"]
    sizes = [sum(p.numel() for p in models.get_model(QUICK[i], num_classes=2).parameters()) for i in (1, 3, 3)]
    assert [int(parameters.replace(",", "")) for _, parameters, _ in cells.values()] == sizes
    assert all(0 <= float(accuracy.rstrip("%")) <= 100 for accuracy, _, _ in cells.values())
    assert all(float(milliseconds) > 0 for _, _, milliseconds in cells.values())


def test_the_example_trains_three_models_and_prints_their_comparison(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), str(draw(tmp_path)), *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert done.returncode == 0, done.stderr
    assert_comparison_printed(done.stdout, images=2)  # a fifth of ten
    assert len(list(tmp_path.iterdir())) == 2  # nothing written


def test_a_teacher_from_a_file_is_not_trained_and_val_is_used(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "train")
    draw(tmp_path / "val", count=3)
    weights = models.squeezenet1_1(num_classes=2).state_dict()
    torch.save(weights, tmp_path / "teacher.pt")
    calls = []

    def train(model: torch.nn.Module, data: object, options: object, teacher: torch.nn.Module | None = None) -> None:
        calls.append((model, teacher, {name: value.clone() for name, value in model.state_dict().items()}, len(data)))

    monkeypatch.setattr(example, "train", train)
    example.main([str(tmp_path), *QUICK, "--teacher-weights", str(tmp_path / "teacher.pt")])
    assert_comparison_printed(capsys.readouterr().out, images=6)
    (alone, none, alone_start, images), (distilled, teacher, distilled_start, _) = calls
    assert alone is not distilled
    assert none is None
    assert images == 10
    torch.testing.assert_close(distilled_start, alone_start, rtol=0, atol=0)
    torch.testing.assert_close(dict(teacher.state_dict()), dict(weights), rtol=0, atol=0)
    assert not teacher.training


def test_both_students_meet_the_same_crops_and_the_teacher_sees_them_too(example: ModuleType, tmp_path: Path) -> None:
    class Watched(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.seen = torch.nn.Parameter(torch.ones(2)), []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.append(x)
            return x.mean(dim=(2, 3))[:, :2] * self.scale

    data, held_out, classes = example.load(draw(tmp_path), 16)
    assert (len(data), len(held_out), classes) == (8, 2, 2)
    assert not set(data.indices) & set(held_out.indices)
    options = example.argparse.Namespace(
        device=torch.device("cpu"), batch_size=4, epochs=2, workers=0, soft_weight=0.9, temperature=4.0
    )
    alone, distilled, teacher = Watched(), Watched(), Watched().requires_grad_(False)
    example.train(alone, data, options)
    example.train(distilled, data, options, teacher)
    assert len(alone.seen) == len(distilled.seen) == len(teacher.seen) == 4
    for one, other, known in zip(alone.seen, distilled.seen, teacher.seen, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(other, known)
    assert not torch.equal(alone.scale, distilled.scale)
    assert torch.equal(teacher.scale, torch.ones(2))


@pytest.mark.parametrize(
    ("classes", "arguments", "message"),
    [
        ([], [], "any class folder"),
        (["red"], [], "two or more classes"),
        (["blue", "red"], ["--teacher", "resnet_of_mine"], "Unknown model resnet_of_mine"),
        (["blue", "red"], ["--teacher-weights", "no_such_file.pt"], "no_such_file.pt"),
        (["blue", "red"], ["--epochs", "many"], "invalid int value: 'many'"),
    ],
)
def test_bad_input_is_named_before_anything_is_trained(
    example: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    classes: list[str],
    arguments: list[str],
    message: str,
) -> None:
    draw(tmp_path, {name: COLOURS[name] for name in classes}, count=1)
    with pytest.raises(SystemExit):
        example.main([str(tmp_path), *QUICK, *arguments])
    assert message in capsys.readouterr().err


def test_a_missing_folder_is_named(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        example.main([str(tmp_path / "nowhere"), *QUICK])
    assert "nowhere" in capsys.readouterr().err
