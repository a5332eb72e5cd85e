"""The smartwatch: what is embedded, how it was rounded, windows that don't overlap, folds that split the people."""

import hashlib
import io
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdref.lab import data
from kdref.lab.data import build, build_watch
from kdref.lab.data.smartwatch import EXERCISES, STEPS, _file, folds, recordings, spectrum, watch

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def fresh() -> Iterator[None]:
    """The file is read anew, and is forgotten afterwards."""
    _file.cache_clear()
    yield
    _file.cache_clear()


def made_up(count: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.uniform(-5, 5, size=(20 + k, 6)).round(6) for k in range(count)]


def test_rounding_changes_no_value_by_more_than_half_a_step() -> None:
    source = made_up()
    rows = np.load(io.BytesIO(build_watch.encode(source, [3, 1, 2], [0, 5, 6], [1.0, 0.0, 1.0])), allow_pickle=False)
    assert rows.dtype == np.int16
    assert rows[:4].tolist() == [[3, 0, 0, 0, 0, 0], [3, 0, 1, 20, 0, 0], [1, 5, 0, 21, 0, 0], [2, 6, 1, 22, 0, 0]]
    errors = np.abs(rows[4:] * STEPS - np.concatenate(source)).max(axis=0)
    assert (errors <= STEPS / 2).all()
    assert (errors > STEPS / 4).all()
    assert STEPS.tolist() == [1 / 4096] * 3 + [1 / 1024] * 3


def test_a_value_beyond_16_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="36864 steps does not fit"):
        build_watch.encode([np.full((2, 6), 9.0)], [1], [0], [1])


def test_the_source_is_compared_before_it_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "seglearn"
    (package / "data").mkdir(parents=True)
    monkeypatch.setattr(
        build_watch.importlib.util, "find_spec", lambda _: SimpleNamespace(origin=str(package / "__init__.py"))
    )
    with pytest.raises(FileNotFoundError, match="pip install --no-deps seglearn"):
        build.build("watch", tmp_path)
    (package / "data" / "watch_dataset.npy").write_bytes(b"not what it was")
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(ValueError, match="expected eb122f23"):
        build.build("watch", tmp_path)


def test_without_seglearn_the_builder_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_watch.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps seglearn"):
        build_watch.watch()


def test_the_builder_gives_the_embedded_bytes_without_importing_seglearn() -> None:
    try:
        build_watch.source_file()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    assert hashlib.sha256(build_watch.watch()).hexdigest() == data.FILES["watch.npy"].sha256
    assert "seglearn" not in sys.modules


def test_the_file_is_small_and_needs_no_pickle() -> None:
    path = data.data_file("watch.npy")
    assert path.stat().st_size < 4_000_000
    assert np.load(path, allow_pickle=False).shape == (1 + 140 + 244_102, 6)
    assert "David M. Burns" in (ROOT / "data" / "watch-LICENSE.txt").read_text(encoding="utf-8")


def test_every_subject_does_every_exercise_with_each_arm() -> None:
    known = recordings()
    facts = {(r.subject, r.exercise, r.right) for r in known}
    assert len(facts) == len(known) == 10 * len(EXERCISES) * 2
    assert {f[0] for f in facts} == set(range(10))
    assert {f[1] for f in facts} == set(range(7))
    lengths = [r.samples.shape[1] for r in known]
    assert (min(lengths), max(lengths), sum(lengths)) == (947, 2618, 244_102)


def test_units_are_those_of_a_watch_on_earth() -> None:
    """An arm in motion feels little more than gravity, 1 g, and turns a few times per second at most."""
    samples = torch.cat([r.samples for r in recordings()], dim=1)
    assert abs(samples[:3].norm(dim=0).median() - 1) < 0.1
    assert samples[3:].abs().max() < 10 * torch.pi
    assert samples[3:].mean(dim=1).abs().max() < 0.1


def test_windows_are_cut_in_order_without_overlap_and_averaged_in_pairs() -> None:
    known, windows = recordings(), watch()
    assert windows.x.shape == (1149, 6, 100)
    assert windows.x.dtype == torch.float32
    assert windows.x.equal(torch.cat([windows.accelerometer, windows.gyroscope], dim=1))
    used = {}
    for index in range(0, len(windows.y), 47):
        number, start = int(windows.recording[index]), int(windows.start[index])
        recording = known[number]
        expected = (
            recording.samples[:, start : start + 200 : 2] + recording.samples[:, start + 1 : start + 200 : 2]
        ) / 2
        torch.testing.assert_close(windows.x[index], expected)
        assert (int(windows.y[index]), int(windows.subject[index])) == (recording.exercise, recording.subject)
    for number, start in zip(windows.recording.tolist(), windows.start.tolist(), strict=True):
        used.setdefault(number, []).append(start)
    for number, starts in used.items():
        assert starts == list(range(0, 200 * len(starts), 200))
        assert 0 <= known[number].samples.shape[1] - 200 * len(starts) < 200


def test_no_sample_is_in_two_folds_parts() -> None:
    windows = watch()
    taken = torch.zeros(140, 2618, dtype=torch.int64)
    for fold in folds(5)[:2]:
        taken.zero_()
        for group in fold:
            for index in windows.of(group).tolist():
                taken[windows.recording[index], windows.start[index] : windows.start[index] + 200] += 1
        assert taken.max() == 1
        assert taken.sum() == 200 * len(windows.y)


@pytest.mark.parametrize("seed", [0, 1, 1007])
def test_folds_split_the_people(seed: int) -> None:
    made = folds(seed)
    assert sorted(subject for fold in made for subject in fold.test) == list(range(10))
    for fold in made:
        assert [len(group) for group in fold] == [3, 5, 2]
        assert sorted(sum(fold, ())) == list(range(10))
    assert made == folds(seed)
    assert made != folds(seed + 1)


def test_windows_of_subjects_are_theirs_and_all_of_them() -> None:
    windows = watch()
    rows = windows.of((7, 2))
    assert windows.subject[rows].unique().tolist() == [2, 7]
    assert len(rows) == sum(int((windows.subject == subject).sum()) for subject in (2, 7))
    assert windows.of(()).shape == (0,)
    with pytest.raises(ValueError, match=r"subjects are 0 to 9, got \[10\]"):
        windows.of((1, 10))


def test_other_windows_and_impossible_ones() -> None:
    raw = watch(seconds=1.0, average=1)
    assert raw.gyroscope.shape[1:] == (3, 50)
    assert repr(raw).startswith(f"watch: {len(raw.y)} windows of 50 samples")
    for arguments in ({"seconds": 2.01}, {"average": 3}, {"average": 0}, {"seconds": 0.0}, {"seconds": 0.013}):
        with pytest.raises(ValueError, match="no whole number"):
            watch(**arguments)
    with pytest.raises(ValueError, match="the shortest recording has 947"):
        watch(seconds=20.0)


def test_spectrum_of_a_tone_is_one_bin_and_does_not_know_when_it_began() -> None:
    time = torch.arange(40, dtype=torch.float64) / 40
    tone = 0.5 + torch.cos(2 * torch.pi * 3 * time)[None, None]  # three turns; |X_3| / T is ½
    values = spectrum(tone, bins=8)[0, 0]
    quiet = 1 + math.log(0.01) / 2
    expected = torch.tensor([0.5, quiet, quiet, 1 + math.log(0.51) / 2, *[quiet] * 4], dtype=torch.float64)
    torch.testing.assert_close(values, expected)
    windows = watch().gyroscope[:20]
    torch.testing.assert_close(spectrum(windows.roll(17, dims=-1)), spectrum(windows), rtol=1e-4, atol=1e-4)
    assert (spectrum(windows) - spectrum(windows.flip(0))).abs().max() > 0.1
    for bins in (1, 22):
        with pytest.raises(ValueError, match="40 samples have 2 to 21 bins"):
            spectrum(tone, bins=bins)


def test_what_a_user_does_to_the_tensors_spoils_nothing() -> None:
    before, known = watch(), watch()
    for tensor in (known.accelerometer, known.gyroscope, known.y, known.subject, known.recording, known.start):
        tensor.zero_()
    recordings()[0].samples.zero_()
    assert watch().x.equal(before.x)
    assert watch().start.equal(before.start)
    assert before.start.any()


@pytest.mark.usefixtures("fresh")
def test_a_damaged_file_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDREF_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"watch\.npy is missing.*data.build watch"):
        watch()
    copied = Path(shutil.copy(ROOT / "data" / "watch.npy", tmp_path))
    content = bytearray(copied.read_bytes())
    content[100_000] ^= 1
    copied.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.*data.build watch"):
        watch()
