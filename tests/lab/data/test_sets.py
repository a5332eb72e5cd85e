"""The embedded data, the MNIST-1D generator against the package that it follows, and what damaged files say."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kdref.lab import data
from kdref.lab.data import build
from kdref.lab.data import mnist1d_generator as generator

ROOT = Path(__file__).resolve().parents[3]
ARGUMENTS = {
    "template_len": 12,
    "padding": [36, 60],
    "scale_coeff": 0.4,
    "max_translation": 48,
    "corr_noise_scale": 0.25,
    "iid_noise_scale": 2e-2,
    "shear_scale": 0.75,
    "final_seq_length": 40,
}


@pytest.fixture(scope="module")
def package() -> Any:
    """The canonical set as the package ``mnist1d`` makes it, without touching NumPy's global generator."""
    from mnist1d.data import get_dataset_args, make_dataset

    state = np.random.get_state()  # noqa: NPY002 - the package seeds this generator
    made = make_dataset(get_dataset_args())
    np.random.set_state(state)  # noqa: NPY002
    return made


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of digits' file that a test may damage, which kdref reads instead of its own."""
    monkeypatch.setenv("KDREF_DATA", str(tmp_path))
    return Path(shutil.copy(ROOT / "data" / "digits.npy", tmp_path))


def draws(count: int, seed: int) -> generator.Draws:
    random = np.random.default_rng(seed)
    return generator.Draws(
        labels=random.integers(10, size=count),
        padding=random.random(count),
        scale=random.random(count),
        shift=random.integers(48, size=count),
        smooth_noise=random.standard_normal((count, 72)),
        white_noise=random.standard_normal((count, 72)),
        shear=random.random(count),
    )


def packages_transform(templates: np.ndarray, chance: generator.Draws, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The package's ``transform``, example by example, with our draws in place of its random numbers."""
    from mnist1d.transform import transform

    signals = []
    for index, label in enumerate(chance.labels):
        uniform = iter([chance.padding[index], chance.scale[index], chance.shear[index]])
        normal = iter([chance.smooth_noise[index], chance.white_noise[index]])
        with monkeypatch.context() as patch:
            patch.setattr(np.random, "rand", lambda uniform=uniform: next(uniform))
            patch.setattr(np.random, "randn", lambda *_, normal=normal: next(normal))
            patch.setattr(np.random, "choice", lambda _, index=index: int(chance.shift[index]))
            signals.append(transform(templates[label], np.linspace(-1, 1, 12), SimpleNamespace(**ARGUMENTS))[0])
        assert next(uniform, next(normal, None)) is None, "the package left draws unused"
    return np.stack(signals)


def test_canonical_mnist1d_equals_the_package_value_by_value(package: Any) -> None:
    signals, labels, _, _ = generator.canonical()
    np.testing.assert_allclose(signals, np.concatenate([package["x"], package["x_test"]]), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(labels, np.concatenate([package["y"], package["y_test"]]))
    split = data.mnist1d(validation=0)
    for ours, theirs in ((split.train_x, package["x"]), (split.test_x, package["x_test"])):
        torch.testing.assert_close(ours[:, 0], torch.tensor(theirs).float(), rtol=1e-6, atol=1e-6)
    for labels_of, theirs in ((split.train_y, package["y"]), (split.test_y, package["y_test"])):
        assert labels_of.tolist() == theirs.tolist()


def test_transform_equals_the_package_when_fed_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist1d.data import get_templates

    np.testing.assert_allclose(generator.templates(), get_templates()["x"], rtol=0, atol=1e-15)
    chance = draws(300, seed=1)
    for field, extremes in (("padding", (0.0, 1 - 1e-9)), ("shift", (0, 47)), ("scale", (0.0, 1 - 1e-9))):
        getattr(chance, field)[:2] = extremes
    theirs = packages_transform(generator.templates(), chance, monkeypatch)
    np.testing.assert_allclose(generator.transform(generator.templates(), chance), theirs, rtol=0, atol=1e-12)


def test_transform_takes_any_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    templates = np.random.default_rng(2).standard_normal((10, 12))
    chance = draws(20, seed=3)
    theirs = packages_transform(templates, chance, monkeypatch)
    np.testing.assert_allclose(data.mnist1d_transform(templates, chance), theirs, rtol=0, atol=1e-12)


def test_fresh_examples_come_from_the_same_transformation(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    transform = generator.transform

    def spy(templates: np.ndarray, chance: generator.Draws) -> np.ndarray:
        taken.append(chance)
        return transform(templates, chance)

    _, _, mean, deviation = generator.canonical()
    monkeypatch.setattr(generator, "transform", spy)
    x, y = data.mnist1d_fresh(12, seed=4)
    theirs = (packages_transform(generator.templates(), taken[0], monkeypatch) - mean) / deviation
    torch.testing.assert_close(x[:, 0], torch.tensor(theirs).float(), rtol=1e-5, atol=1e-6)
    assert y.tolist() == taken[0].labels.tolist()


def test_fresh_draws_cover_the_ranges_of_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(generator, "transform", lambda _, chance: taken.append(chance) or np.zeros((5000, 40)))
    generator.fresh(5000, seed=7)
    for field in ("padding", "scale", "shear"):
        values = getattr(taken[0], field)
        assert (values.min() < 0.01, values.max() > 0.99) == (True, True)
        assert abs(values.mean() - 0.5) < 0.02
    assert np.unique(taken[0].shift).tolist() == list(range(48))
    assert np.unique(taken[0].labels).tolist() == list(range(10))
    for noise in (taken[0].smooth_noise, taken[0].white_noise):
        assert noise.shape == (5000, 72)
        assert abs(noise.mean()) < 0.01
        assert abs(noise.std() - 1) < 0.01
    assert abs(np.corrcoef(taken[0].smooth_noise.ravel(), taken[0].white_noise.ravel())[0, 1]) < 0.01


def test_fresh_examples_have_the_distribution_of_the_canonical_set() -> None:
    x, y = data.mnist1d_fresh(20_000, seed=5)
    signals, labels, _, _ = generator.canonical()
    assert x.shape == (20_000, 1, 40)
    assert x.dtype == torch.float32
    assert y.bincount().min() > 1800
    assert y.bincount().max() < 2200
    for label in range(10):  # standard errors: about 0.03 for a mean of 2,000 values of deviation near 1 v 500
        ours, canonical = x[y == label, 0].double(), torch.tensor(signals[labels == label])
        assert (ours.mean(dim=0) - canonical.mean(dim=0)).abs().max() < 0.25
        assert (ours.std(dim=0) - canonical.std(dim=0)).abs().max() < 0.25


def test_fresh_examples_follow_the_seed_and_none_repeats_a_canonical_one() -> None:
    once, again, other = (data.mnist1d_fresh(500, seed=seed) for seed in (42, 42, 43))
    assert once[0].equal(again[0])
    assert once[1].equal(again[1])
    assert not once[0].equal(other[0])
    canonical = torch.tensor(generator.canonical()[0]).float()
    assert torch.cdist(once[0][:, 0], canonical).min() > 0.1
    assert torch.cdist(once[0][:, 0], other[0][:, 0]).min() > 0.1


def test_fresh_examples_beyond_one_chunk_are_all_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "CHUNK", 7)
    x, y = data.mnist1d_fresh(20, seed=6)
    assert x.flatten(1).unique(dim=0).shape == (20, 40)
    assert len(y) == 20


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (-1, 0), (1, -1), (1, 2**32)])
def test_impossible_counts_and_seeds_are_refused(count: int, seed: int) -> None:
    with pytest.raises(ValueError, match=r"count must be at least 1|[Ss]eed"):
        data.mnist1d_fresh(count, seed=seed)


def test_mnist1d_sets_the_last_training_examples_aside_for_validation() -> None:
    whole, parted = data.mnist1d(validation=0), data.mnist1d(validation=1000)
    assert torch.cat([parted.train_x, parted.validation_x]).equal(whole.train_x)
    assert torch.cat([parted.train_y, parted.validation_y]).equal(whole.train_y)
    assert parted.test_x.equal(whole.test_x)
    assert len(whole.validation_x) == 0
    with pytest.raises(ValueError, match="from 0 to 3999, got 4000"):
        data.mnist1d(validation=4000)


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    split, source = data.digits(seed=3), load_digits()
    x = torch.cat([split.train_x, split.validation_x, split.test_x])
    y = torch.cat([split.train_y, split.validation_y, split.test_y])
    ours = torch.cat([x.flatten(1) * 16, y[:, None]], dim=1).int().tolist()
    assert sorted(ours) == sorted(np.column_stack([source.data, source.target]).astype(int).tolist())
    assert (x.min(), x.max()) == (0, 1)


def test_the_seed_picks_the_split_of_digits() -> None:
    one, again, other = data.digits(seed=1), data.digits(seed=1), data.digits(seed=2)
    assert one.train_x.equal(again.train_x)
    assert one.test_y.equal(again.test_y)
    assert not one.train_x.equal(other.train_x)
    assert one.train_y.bincount(minlength=10).min() > 75


@pytest.mark.parametrize(
    ("load", "sizes", "shape"),
    [
        (data.digits, (1000, 297, 500), (1, 8, 8)),
        (data.mnist5k, (3000, 500, 1500), (1, 28, 28)),
        (data.mnist1d, (3500, 500, 1000), (1, 40)),
    ],
)
def test_splits_have_the_documented_form(load: Any, sizes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    split = load()
    parts = ((split.train_x, split.train_y), (split.validation_x, split.validation_y), (split.test_x, split.test_y))
    for (x, y), size in zip(parts, sizes, strict=True):
        assert x.shape == (size, *shape)
        assert x.dtype == torch.float32
        assert y.shape == (size,)
        assert y.dtype == torch.int64
    assert split.shape == shape
    assert split.classes == len(split.train_y.unique()) == 10
    assert repr(split).startswith(f"{split.name}: {sizes[0]} train, {sizes[1]} validation, {sizes[2]} test; inputs")


@pytest.mark.parametrize("load", [data.digits, data.mnist5k, data.mnist1d])
def test_what_a_user_does_to_the_tensors_spoils_nothing(load: Any) -> None:
    before = load()
    for part in ("train", "validation", "test"):
        getattr(load(), f"{part}_x").zero_()
        getattr(load(), f"{part}_y").zero_()
    assert load().train_x.equal(before.train_x)
    assert load().test_y.equal(before.test_y)
    assert before.test_y.any()


def test_a_damaged_file_is_named_with_what_was_expected_and_found(copied: Path) -> None:
    content = bytearray(copied.read_bytes())
    content[5000] ^= 1
    copied.write_bytes(content)
    with pytest.raises(ValueError, match="damaged") as caught:
        data.digits()
    wanted = (str(copied), data.FILES["digits.npy"].sha256, hashlib.sha256(content).hexdigest())
    for word in (*wanted, "python -m kdref.lab.data.build digits"):
        assert word in str(caught.value)
    assert data.verify()["digits.npy"] == str(caught.value)
    assert data.verify()["mnist1d"] == "ok"


def test_a_missing_file_is_named_and_the_command_restores_it(copied: Path) -> None:
    copied.unlink()
    with pytest.raises(FileNotFoundError, match=r"digits\.npy is missing") as caught:
        data.digits()
    command = str(caught.value).split("with: ")[1].split()
    assert command[0] == "python"
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert data.data_file("digits.npy") == copied
    assert [path.name for path in copied.parent.iterdir()] == ["digits.npy"]
    assert copied.read_bytes() == (ROOT / "data" / "digits.npy").read_bytes()


def test_every_embedded_file_has_a_builder_that_gives_its_hash() -> None:
    built = {file for file, _ in build.BUILDERS.values()}
    assert built == {file for file in data.FILES if not file.endswith(".safetensors")}  # those are trained
    for name in ("digits", "mnist5k"):  # the tests of the others are in files of their own
        file, builder = build.BUILDERS[name]
        assert hashlib.sha256(builder()).hexdigest() == data.FILES[file].sha256


def test_a_source_that_changed_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build.BUILDERS, "digits", ("digits.npy", lambda: b"other"))
    with pytest.raises(ValueError, match="source package has changed"):
        build.build("digits", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"'cats.npy': there are \['digits.npy', 'letter.npy'"):
        data.data_file("cats.npy")
    with pytest.raises(SystemExit):
        build.main(["cats"])
    assert "unknown: cats; there are digits, mnist5k" in capsys.readouterr().err


def test_everything_embedded_verifies_and_the_datasheet_states_its_hash() -> None:
    assert data.verify() == dict.fromkeys([*data.FILES, "mnist1d"], "ok")
    datasheet = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for name, file in data.FILES.items():
        assert name in datasheet
        assert file.sha256 in datasheet


def test_a_generator_that_changed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    signals, labels, mean, deviation = generator.canonical()
    monkeypatch.setattr(generator, "canonical", lambda: (signals + 0.01, labels, mean, deviation))
    assert "other signals than it should" in data.verify()["mnist1d"]
