"""The experiments of lesson 14 that write files: the table, the images, the encoder."""

from pathlib import Path

import pytest
import torch
from scipy.special import stdtrit
from torch import Tensor, nn

from kdref.lab import edge
from kdref.lab.experiments import _edge, _edge_front, edge_encoder, edge_images
from kdref.lab.models import make
from kdref.lab.training.batches import teacher_outputs


def test_a_row_of_the_table_is_what_its_file_says_and_costs(tmp_path: Path) -> None:
    model, known = make("cnn1d-4", seed=0).eval(), _edge.parts()
    networks = {"small": model}
    files = _edge_front.written(networks, tmp_path)
    table = _edge_front.measured(networks, files, repeats=20).set_index("form")
    assert list(table.index) == ["fp32", "int8", "4 bits"]
    right = (teacher_outputs(model, known.test_x).argmax(-1) == known.test_y).double().mean().item()
    assert abs(table.loc["fp32", "accuracy"] - right) < 0.001
    n, p = 4000, table.loc["fp32", "accuracy"]
    half = stdtrit(1e9, 0.975) * (p * (1 - p) / n) ** 0.5  # the plain interval, which Wilson's is near to
    assert abs(table.loc["fp32", "high"] - table.loc["fp32", "low"] - 2 * half) < 0.001
    for form in table.index:
        assert table.loc[form, "bytes"] == files["small", form].stat().st_size
        assert 0 < table.loc[form, "ms, 1"] <= table.loc[form, "p95, 1"]
        assert table.loc[form, "multiply-adds"] == 1140  # 19 · 5 · 4 + 10 · 3 · 4 · 4 + 5 · 3 · 4 · 4 + 4 · 10


def test_alone_is_distilled_without_soft_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, float] = {}

    def student(seed: int, width: int, *, soft_weight: float) -> nn.Sequential:
        asked[f"{width}"] = asked.get(f"{width}", 0) * 10 + soft_weight
        return make(f"cnn1d-{width}")

    monkeypatch.setattr(_edge_front, "student", student)
    monkeypatch.setattr(_edge_front, "large", lambda seed: make("cnn1d-32"))
    found = _edge_front.networks(0)
    assert len(found) == 9
    assert asked == dict.fromkeys(("4", "8", "12", "16"), 0.5)  # first 0, then the weight


def test_students_of_images_start_alike_and_only_the_distilled_see_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[float, Tensor, Tensor]] = []

    def loss(z: Tensor, t: Tensor, y: Tensor, *, soft_weight: float, temperature: float) -> Tensor:
        calls.append((soft_weight, z.detach(), y))
        return z.sum() * 0

    monkeypatch.setattr(edge_images, "distillation_loss", loss)
    monkeypatch.setattr(edge_images, "STEPS", 1)
    for how in ("alone", "distilled"):
        edge_images.made(f"4 channels | {how}", 5)
    (alone, z, y), (distilled, other_z, other_y) = calls
    assert (alone, distilled) == (0.0, 0.5)
    assert torch.equal(z, other_z)
    assert torch.equal(y, other_y)


def test_a_run_of_images_measures_three_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_images, "made", lambda arm, seed: make("cnn2d-4", shape=(1, 28, 28), seed=0).eval())
    found = edge_images.run(0, "4 channels | alone")
    split = edge_images.known()[1]
    logits = teacher_outputs(edge_images.made("", 0), split.test_x)
    assert found["accuracy"] == pytest.approx((logits.argmax(-1) == split.test_y).double().mean().item(), abs=0.001)
    assert found["multiply_adds"] == 784 * 9 * 4 + 196 * 9 * 16 + 49 * 9 * 16 + 40
    assert 0 < found["bytes_fp32"] < found["bytes_int4"] < found["bytes_int8"]


class Tiny(nn.Module):
    """An encoder in small: embeddings and one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(1000, 384), nn.Linear(384, 384, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.layer(self.words(ids)).mean(dim=1)
        return hidden


def test_each_half_of_an_encoder_is_rounded_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    ids = torch.randint(1, 1000, (40, 6))
    ids[:20, 4:] = 0
    plain = edge.to_onnx(Tiny(), ids[:4], tmp_path / "tiny.onnx", free=(0, 1)).read_bytes()
    monkeypatch.setattr(edge_encoder, "known", lambda: (ids, torch.arange(40) % 2))
    monkeypatch.setattr(edge_encoder, "exported", lambda: plain)
    for name, value in (("TRAINING", 20), ("TIMED", 3)):
        monkeypatch.setattr(edge_encoder, name, value)
    edge_encoder.encoded.cache_clear()
    found = {arm: edge_encoder.run(0, arm) for arm in edge_encoder.ARMS}
    edge_encoder.encoded.cache_clear()
    words, layer = 1000 * 384, 384 * 384  # three bytes are saved of each
    saved = {arm: found["fp32"]["bytes"] - row["bytes"] for arm, row in found.items()}
    assert saved["fp32"] == 0
    for arm, wanted in {"layers": 3 * layer, "embeddings": 3 * words, "both": 3 * (layer + words)}.items():
        assert abs(saved[arm] - wanted) < 5000, arm
    assert found["fp32"]["cosine"] == pytest.approx(1)
    assert all(0.9 < row["cosine"] < 1 for arm, row in found.items() if arm != "fp32")
    assert all(row["milliseconds"] > 0 for row in found.values())
