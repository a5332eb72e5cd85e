"""Shipped networks: what they are, that they are as good as recorded, and that training anew gives as good ones."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdref import lab
from kdref.lab import data, models
from kdref.lab.models import checkpoints

ROOT = Path(__file__).resolve().parents[3]
NAME = "mnist5k-cnn2d-32"
FILE = f"{NAME}.safetensors"
named = pytest.mark.parametrize("name", checkpoints.CHECKPOINTS)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the teacher's file that a test may damage, which kdref reads instead of its own."""
    shutil.copy(ROOT / "data" / "mnist5k.csv.gz", tmp_path)
    monkeypatch.setenv("KDREF_DATA", str(tmp_path))
    return Path(shutil.copy(ROOT / "data" / FILE, tmp_path))


def tiny(_: int) -> data.Split:
    """Two classes that are easily told apart; nobody may look at the validation and test images."""
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[::2, :, :4] = 0.0
    labels = torch.arange(60) % 2
    none = torch.full((60, 1, 8, 8), torch.nan)
    return data.Split("tiny", 2, images, labels, none, labels, none, labels)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher's recipe on tiny data, for a few epochs."""
    small = checkpoints.CHECKPOINTS[NAME]._replace(model="cnn2d-4", split=tiny, epochs=8, batch_size=10)
    monkeypatch.setitem(checkpoints.CHECKPOINTS, NAME, small)


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


# What is shipped ------------------------------------------------------------------------------------------------------


@named
def test_a_shipped_network_is_small_and_as_good_as_recorded(name: str) -> None:
    about = checkpoints.CHECKPOINTS[name]
    assert data.data_file(f"{name}.safetensors").stat().st_size < 1_000_000
    model, split = checkpoints.load(name)
    assert not model.training
    parts = ((split.validation_x, split.validation_y), (split.test_x, split.test_y))
    for (x, y), recorded in zip(parts, about[-2:], strict=True):
        assert lab.measure(model, x, y)["accuracy"] == pytest.approx(recorded, abs=0.001)  # an image or two
    assert str(split) == str(about.split(0))


def test_the_teacher_has_the_parameters_counted_by_hand() -> None:
    model, _ = checkpoints.load(NAME)
    convolutions = 9 * 32 * (1 + 32 + 32)
    norms, classifier = 3 * 2 * 32, 32 * 10 + 10
    assert models.count_parameters(model) == convolutions + norms + classifier == 19_242


@named
def test_the_datasheet_states_recipe_and_accuracies(name: str) -> None:
    about = checkpoints.CHECKPOINTS[name]
    datasheet = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    section = " ".join(datasheet[datasheet.index(f"\n## {name}\n") :].split("\n## ")[1].split())
    for words in (
        f"{100 * about.validation_accuracy:.1f} %",
        f"{100 * about.test_accuracy:.1f} %",
        f"{about.epochs} epochs",
        f"batches of {about.batch_size}",
        f"`python -m kdref.lab.models.checkpoints {name}`",
    ):
        assert words in section


def test_loading_leaves_the_random_numbers_alone_and_gives_a_network_of_ones_own() -> None:
    state = torch.get_rng_state()
    one, split = checkpoints.load(NAME)
    assert torch.get_rng_state().equal(state)
    before = one(split.test_x[:5])
    with torch.no_grad():
        one.classifier.weight.zero_()
    assert checkpoints.load(NAME)[0](split.test_x[:5]).equal(before)


# Files that are not as they should be ---------------------------------------------------------------------------------


def test_a_damaged_file_is_named_with_both_hashes_and_what_to_do(copied: Path) -> None:
    content = bytearray(copied.read_bytes())
    content[-1] ^= 1
    copied.write_bytes(content)
    with pytest.raises(ValueError, match="damaged") as caught:
        checkpoints.load(NAME)
    wanted = (str(copied), data.FILES[FILE].sha256, hashlib.sha256(content).hexdigest())
    for words in (*wanted, f"git checkout -- data/{FILE}", f"python -m kdref.lab.models.checkpoints {NAME}"):
        assert words in str(caught.value)
    assert data.verify()[FILE] == str(caught.value)
    assert not checkpoints.load(NAME, path=copied)[0].training  # asked for by its path, it is not compared


def test_a_missing_file_is_named(copied: Path) -> None:
    copied.unlink()
    with pytest.raises(FileNotFoundError, match=f"python -m kdref.lab.models.checkpoints {NAME}"):
        checkpoints.load(NAME)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("tensor", ["classifier.weight", "0.1.running_var"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, tensor: str, value: float) -> None:
    state = load_file(ROOT / "data" / FILE)
    tensor = next(name for name in state if name.endswith(tensor.split(".")[-1]))
    state[tensor].view(-1)[0] = value
    save_file(state, tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match=rf"mine\.safetensors holds weights that are not finite, in {tensor}"):
        checkpoints.load(NAME, path=tmp_path / "mine.safetensors")


@pytest.mark.parametrize("damage", ["truncated", "empty", "of another network"])
def test_a_file_that_holds_other_things_is_named_in_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "mine.safetensors"
    content = (ROOT / "data" / FILE).read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    if damage == "of another network":
        save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=rf"mine\.safetensors holds no weights of {NAME}: .+") as caught:
        checkpoints.load(NAME, path=path)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=rf"'cats': there are \['{NAME}'\]"):
        checkpoints.load("cats")
    with pytest.raises(SystemExit):
        checkpoints.main(["cats"])
    assert f"unknown: cats; there are {NAME}" in capsys.readouterr().err


# Training anew --------------------------------------------------------------------------------------------------------


def test_a_shortened_training_on_the_real_data_goes_most_of_the_way() -> None:
    model, split = checkpoints.train(NAME, epochs=2), data.mnist5k(0)
    accuracy = lab.measure(model, split.validation_x, split.validation_y)["accuracy"]
    assert accuracy > 0.5  # three seeds gave 0.66 to 0.70; chance is 0.1
    assert not model.training


@pytest.mark.usefixtures("recipe")
def test_training_learns_follows_its_seed_and_looks_at_training_images_only() -> None:
    once, again, other = (checkpoints.train(NAME, seed=seed) for seed in (0, 0, 1))
    assert weights(once).equal(weights(again))
    assert not weights(once).equal(weights(other))
    split = tiny(0)
    assert lab.measure(once, split.train_x, split.train_y)["accuracy"] > 0.9
    assert weights(once).isfinite().all()


@pytest.mark.usefixtures("recipe")
def test_the_learning_rate_falls_to_zero_over_the_epochs_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []

    class Spy(torch.optim.Adam):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    checkpoints.train(NAME, epochs=4)
    first = checkpoints.CHECKPOINTS[NAME].learning_rate
    half_turns = torch.arange(4).double() / 4  # cos² of a quarter turn, epoch by epoch; six batches in each
    expected = first * (1 + (torch.pi * half_turns).cos()) / 2
    torch.testing.assert_close(torch.tensor(rates, dtype=torch.float64), expected.repeat_interleave(6))


def test_the_same_network_trained_anew_is_the_shipped_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoints, "train", lambda name: checkpoints.load(name)[0])
    checkpoints.main([NAME, "--to", str(tmp_path / "new")])
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE]
    assert (tmp_path / "new" / FILE).read_bytes() == (ROOT / "data" / FILE).read_bytes()
    said = capsys.readouterr().out
    about = checkpoints.CHECKPOINTS[NAME]
    assert data.FILES[FILE].sha256 in said
    assert f"test accuracy {about.test_accuracy:.4f}, of the shipped one {about.test_accuracy:.4f}" in said
    assert "bit by bit" not in said


def test_another_network_as_good_is_written_beside_the_shipped_one(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, split = checkpoints.load(NAME)
    with torch.no_grad():
        model.classifier.bias += 0.5  # the same for all classes: other bytes, the same choices
    monkeypatch.setattr(checkpoints, "train", lambda name: model)
    checkpoints.main([NAME])
    anew = copied.with_name(f"{NAME}.anew.safetensors")
    assert sorted(path.name for path in copied.parent.iterdir()) == sorted(["mnist5k.csv.gz", FILE, anew.name])
    assert copied.read_bytes() == (ROOT / "data" / FILE).read_bytes()
    assert "Not bit by bit the shipped one" in capsys.readouterr().out
    again, _ = checkpoints.load(NAME, path=anew)
    torch.testing.assert_close(again(split.test_x[:5]), model(split.test_x[:5]))


def test_a_network_that_is_not_finite_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = checkpoints.load(NAME)
    with torch.no_grad():
        model.classifier.bias[3] = -torch.inf  # almost as accurate: it only never says 3
    monkeypatch.setattr(checkpoints, "train", lambda name: model)
    monkeypatch.setattr(checkpoints, "TOLERANCE", 0.2)
    with pytest.raises(ValueError, match=r"trained to weights that are not finite, in classifier\.bias"):
        checkpoints.build(NAME, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_worse_network_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untrained = models.make("cnn2d-32", shape=(1, 28, 28), seed=0)
    monkeypatch.setattr(checkpoints, "train", lambda name: untrained)
    with pytest.raises(ValueError, match=r"the shipped one has 0\.9\d\d: not written"):
        checkpoints.build(NAME, tmp_path / "new")
    assert not (tmp_path / "new").exists()
