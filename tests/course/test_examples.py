"""The examples run as a user runs them, on generated images, and say what is wrong with bad input."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision.transforms import v2

from tests.course.scripts import EXAMPLES, imported, refusal

EXAMPLE = EXAMPLES / "distill_your_model.py"
COLOURS = {"blue": (20, 40, 200), "red": (200, 30, 20)}
QUICK = ["--teacher", "squeezenet1_1", "--student", "shufflenet_v2_x0_5", "--image-size", "64"]
QUICK += ["--epochs", "1", "--batch-size", "4", "--workers", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return imported("distill_your_model")


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

    def train(model: torch.nn.Module, data: object, options: object, teacher: object = None, part: str = "") -> None:
        if isinstance(data, list):
            return  # the rehearsal on noise
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
    options.mix, options.checkpoints = v2.Identity(), "none"
    alone, distilled, teacher = Watched(), Watched(), Watched().requires_grad_(False)
    example.train(alone, data, options)
    example.train(distilled, data, options, teacher)
    assert len(alone.seen) == len(distilled.seen) == len(teacher.seen) == 4
    for one, other, known in zip(alone.seen, distilled.seen, teacher.seen, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(other, known)
    assert not torch.equal(alone.scale, distilled.scale)
    assert torch.equal(teacher.scale, torch.ones(2))


@pytest.fixture
def untrained(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of what is trained on, but for the rehearsal on noise; nothing is trained for real."""
    train, lengths = example.train, []

    def spy(model: torch.nn.Module, data: object, options: object, teacher: object = None, part: str = "") -> None:
        if isinstance(data, list):
            train(model, data, options, teacher)
        else:
            lengths.append(len(data))

    monkeypatch.setattr(example, "train", spy)
    return lengths


def test_what_is_hidden_is_neither_class_nor_image(example: ModuleType, tmp_path: Path) -> None:
    draw(tmp_path, {**COLOURS, ".ipynb_checkpoints": (0, 0, 0), ".git": (0, 0, 0)})
    draw(tmp_path / "red", {".ipynb_checkpoints": (0, 0, 0)})
    (tmp_path / "red" / "._0.png").write_bytes(b"what macOS knows of the file")
    data, held_out, classes = example.load(tmp_path, 16)
    assert (len(data) + len(held_out), classes) == (10, 2)
    assert data.dataset.classes == ["blue", "red"]


def test_a_hidden_folder_above_the_images_hides_nothing(example: ModuleType, tmp_path: Path) -> None:
    data, held_out, _ = example.load(draw(tmp_path / ".cache" / "images"), 16)
    assert len(data) + len(held_out) == 10


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"GIF", lambda b: b[9:]])
@pytest.mark.parametrize("form", ["png", "jpg"])
@pytest.mark.parametrize("part", ["train", "val"])
def test_a_damaged_image_is_named_before_anything_is_trained(
    example: ModuleType, tmp_path: Path, untrained: list[int], capsys: pytest.CaptureFixture[str], damage, form, part
) -> None:
    draw(tmp_path / "train")
    draw(tmp_path / "val", count=2)
    path = tmp_path / part / "red" / f"1.{form}"
    noise = torch.randint(256, (66, 70, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.numpy()).save(path)
    example.load(tmp_path, 16)
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path} cannot be read" in refusal(example, capsys, tmp_path, *QUICK)
    assert untrained == []


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    ("student", "size", "parameters"),  # of the whole network, with ImageNet's 1000 classes and without auxiliary heads
    [("googlenet", "64", 6_624_904 - 998 * (1024 + 1)), ("inception_v3", "80", 23_834_568 - 998 * (2048 + 1))],
)
def test_auxiliary_heads_are_left_out(
    example: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    student: str,
    size: str,
    parameters: int,
) -> None:
    changed = []
    train = example.train

    def spy(model: torch.nn.Module, *others: object, part: str = "") -> None:
        before = {name: tensor.clone() for name, tensor in model.named_parameters()}
        train(model, *others)
        changed.append(
            {name.split(".")[0] for name, tensor in model.named_parameters() if not tensor.equal(before[name])}
        )

    monkeypatch.setattr(example, "train", spy)
    example.main([str(draw(tmp_path, count=2)), *QUICK, "--student", student, "--image-size", size])
    assert "fc" in changed[-1]
    assert not {"AuxLogits", "aux1", "aux2"} & changed[-1]
    assert f" {parameters:,} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--student", "vit_b_16"], r"vit_b_16 at --image-size 64 cannot be .* Expected 224 but got 64"),
        (["--teacher", "vit_b_16"], r"vit_b_16 at --image-size 64 cannot be .* Expected 224 but got 64"),
        (["--student", "inception_v3"], r"inception_v3 at --image-size 64 cannot be"),
        (["--image-size", "0"], r"--image-size 0"),
        (["--batch-size", "1", "--student", "resnet18", "--image-size", "32"], "more than 1 value per channel"),
        (["--temperature", "0"], "temperature must be positive"),
        (["--soft-weight", "2"], r"soft_weight must be in \[0, 1\]"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--workers", "-1"], "num_workers"),
        (["--batch-size", "0"], "batch_size"),
        (["--device", "toaster"], "device string: toaster"),
        (["--teacher", "resnet_of_mine"], "Unknown model resnet_of_mine"),
        (["--weights", "of_mine"], "of_mine"),
        (["--student", "timm/resnet18"], "No module named 'timm'"),
        (["--mixup", "0.2", "--stored", "kept"], "--mixup makes new images, of which --stored outputs say nothing"),
        (["--mixup", "-1"], "invalid values"),
        (["--teacher-weights", "no_such_file.pt"], r"no_such_file\.pt"),
        (["--teacher-weights", "damaged.pt"], r"damaged\.pt holds no weights of squeezenet1_1"),
        (["--teacher-weights", "empty.pt"], r"empty\.pt holds no weights of squeezenet1_1"),
        (["--teacher-weights", "another.pt"], r"another\.pt holds no weights of squeezenet1_1: .*Missing key"),
        (["--teacher-weights", "nan.pt"], r"nan\.pt holds weights that are not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization")
def test_what_cannot_work_is_said_in_one_line_before_anything_is_trained(
    example: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    untrained: list[int],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    teacher = models.squeezenet1_1(num_classes=2)
    torch.save(torch.nn.Linear(1, 1).state_dict(), "another.pt")
    Path("empty.pt").touch()
    Path("damaged.pt").write_bytes(Path("another.pt").read_bytes()[:200])
    torch.save({**teacher.state_dict(), "classifier.1.bias": torch.tensor([0.0, torch.nan])}, "nan.pt")
    assert re.search(message, refusal(example, capsys, draw(tmp_path / "images"), *QUICK, *arguments))
    assert untrained == []


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], r"two or more classes: found \[\]"),
        (["red"], r"two or more classes: found \['red'\]"),
        (["red", ".ipynb_checkpoints"], r"two or more classes: found \['red'\]"),
        (["blue", "red", "empty"], "empty"),
    ],
)
def test_a_folder_without_classes_is_refused(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: list[str], message: str
) -> None:
    draw(tmp_path, {name: (1, 2, 3) for name in classes if name != "empty"}, count=1)
    if "empty" in classes:
        (tmp_path / "empty").mkdir()
    assert re.search(message, refusal(example, capsys, tmp_path, *QUICK))


def test_other_classes_to_validate_on_are_refused(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "train")
    draw(tmp_path / "val", {"green": (0, 200, 0), "red": (200, 30, 20)})
    assert "['blue', 'red'], ['green', 'red']" in refusal(example, capsys, tmp_path, *QUICK)


def test_one_image_is_too_few_for_batch_normalisation(
    example: ModuleType, tmp_path: Path, untrained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path, count=1)  # one to train on, one held out
    said = refusal(example, capsys, tmp_path, *QUICK, "--student", "resnet18", "--image-size", "32")
    assert "more than 1 value per channel" in said
    assert untrained == []


def test_a_word_for_a_number_is_refused_by_the_parser(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        example.main([str(tmp_path), *QUICK, "--epochs", "many"])
    assert "invalid int value: 'many'" in capsys.readouterr().err


def test_a_missing_folder_is_named(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in refusal(example, capsys, tmp_path / "nowhere", *QUICK)
