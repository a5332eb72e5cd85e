"""The segmentation example runs as a user runs it, on images drawn here, and refuses masks that do not fit."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from tests.course.scripts import EXAMPLES, imported, refusal

EXAMPLE = EXAMPLES / "distill_segmentation.py"
QUICK = ["--teacher", "lraspp_mobilenet_v3_large", "--image-size", "32", "--epochs", "1", "--batch-size", "2"]
QUICK += ["--workers", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return imported("distill_segmentation")


def draw(folder: Path, count: int = 5, highest: int = 1) -> Path:
    """Images whose right half is bright and class ``highest``, with a border of 255 around."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        image, mask = Image.new("RGB", (40, 36), (9, 9, 9)), Image.new("L", (40, 36), 255)
        image.paste((250, 240, 230), (20, 0, 40, 36))
        mask.paste(0, (2, 2, 20, 34))
        mask.paste(highest, (20, 2, 38, 34))
        image.save(folder / "images" / f"{number}.jpg")
        mask.save(folder / "masks" / f"{number}.png")
    return folder


def test_the_example_trains_three_networks_and_writes_the_student(tmp_path: Path) -> None:
    weights = tmp_path / "student.pt"
    command = [sys.executable, str(EXAMPLE), str(draw(tmp_path / "data")), "--classes", "2", *QUICK]
    done = subprocess.run([*command, "--output", str(weights)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()[-4:]
    assert head.split() == ["mean", "IoU", "of", "1", "parameters"]
    assert [row[:18].strip() for row in rows] == ["teacher", "student alone", "student distilled"]
    assert all(0 <= float(row[18:].split()[0].rstrip("%")) <= 100 for row in rows)
    assert "classifier.low_classifier.weight" in torch.load(weights, weights_only=True)


def test_random_data_try_everything_without_files(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(["--random-data", "5", *QUICK])
    assert "student distilled" in capsys.readouterr().out


def test_masks_keep_their_classes_and_255_is_ignored(example: ModuleType, tmp_path: Path) -> None:
    x, y = example.Pairs(draw(tmp_path, highest=7), 24)[0]
    assert x.shape == (3, 24, 24)
    assert sorted(y.unique().tolist()) == [example.IGNORED, 0, 7]  # no class between that a mean would make


class Table(torch.nn.Module):
    """Gives every image the same logits, which are its parameters."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits, self.seen = torch.nn.Parameter(logits.clone()), []

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.logits.expand(len(x), -1, -1, -1)}


def test_an_ignored_pixel_gets_the_teacher_and_no_label(example: ModuleType) -> None:
    y = torch.tensor([[[0, 1], [1, example.IGNORED]]])
    data = [(torch.zeros(3, 2, 2), y[0])] * 4
    options = Namespace(device=torch.device("cpu"), batch_size=4, epochs=1, workers=0, learning_rate=0.1)
    vars(options).update(soft_weight=0.0, temperature=1.0, channel_weight=0.0)
    start = torch.zeros(1, 3, 2, 2)
    labels, taught = Table(start), Table(start)
    example.train(labels, data, options)
    example.train(taught, data, options, Table(torch.randn(1, 3, 2, 2)).requires_grad_(False))
    torch.testing.assert_close(labels.logits, taught.logits)  # without the teacher's share both are cross-entropy
    assert torch.equal(labels.logits[0, :, 1, 1], torch.zeros(3))
    assert (labels.logits[0, 0, 0, 0] > labels.logits[0, 1:, 0, 0]).all()
    options.soft_weight = 1.0
    soft = Table(start)
    teacher = torch.zeros(1, 3, 2, 2)
    teacher[0, 2, 1, 1] = 5.0  # sure about the ignored pixel alone
    example.train(soft, data, options, Table(teacher).requires_grad_(False))
    assert (soft.logits[0, 2, 1, 1] > soft.logits[0, :2, 1, 1]).all()
    assert soft.logits[0, :, 0, 0].std() < 1e-6  # Adam enlarges what rounding leaves, for all classes alike


def test_mean_iou_is_that_of_the_definition(example: ModuleType) -> None:
    truth = torch.tensor([[0, 0, 1], [1, 2, -100]])
    answers = torch.tensor([[0, 1, 1], [1, 1, 2]])
    logits = torch.nn.functional.one_hot(answers, 4).permute(2, 0, 1)[None].float()
    options = Namespace(device=torch.device("cpu"), batch_size=1, workers=0)
    found = example.mean_iou(Table(logits), [(torch.zeros(3, 2, 3), truth)], 4, options)
    assert found == pytest.approx((1 / 2 + 2 / 4 + 0 / 1) / 3)  # class 3 is nowhere and does not count


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (lambda folder: (folder / "masks" / "3.png").unlink(), ["--classes", "2"], "stand alone: ['3']"),
        (lambda folder: None, [], "say how many classes"),
        (lambda folder: Image.new("L", (9, 9)).save(folder / "masks" / "2.png"), ["--classes", "2"], "(9, 9) pixels"),
        (lambda folder: Image.new("L", (40, 36), 5).save(folder / "masks" / "2.png"), ["--classes", "2"], "class 5"),
        (lambda folder: (folder / "images" / "0.jpg").write_bytes(b"x"), ["--classes", "2"], "0.jpg"),
        (lambda folder: None, ["--classes", "2", "--student", "resnet_9"], "resnet_9"),
    ],
)
def test_bad_input_is_told_in_one_line(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil, arguments, message: str
) -> None:
    spoil(draw(tmp_path))
    assert message in refusal(example, capsys, tmp_path, *QUICK, *arguments)
