"""Exported and quantised networks: ONNX Runtime says what PyTorch says, for any number of examples."""

import importlib.util
import sys
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab import edge, models
from kdref.lab.data import mnist1d
from kdref.lab.edge import files
from kdref.lab.models.causal_transformer import CausalTransformer
from kdref.lab.models.row_transformer import RowTransformer
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit


def random_statistics(model: nn.Module) -> nn.Module:
    """Batch normalisations as after training: means and variances that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for value in (module.running_mean, module.running_var, module.weight, module.bias):
                assert value is not None
                value.data.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model


def small_model(name: str) -> tuple[nn.Module, Tensor]:
    """A model of the lab and seven inputs for it."""
    torch.manual_seed(0)
    if name == "rows":
        return RowTransformer((1, 8, 8), width=16, heads=4), torch.randn(7, 1, 8, 8)
    if name == "causal":
        return CausalTransformer(9, length=12, width=16, layers=2), torch.randint(9, (7, 12))
    shape = (1, 28, 28) if name.startswith("cnn2d") else (1, 40)
    return random_statistics(models.make(name, shape=shape, seed=0)), torch.randn(7, *shape)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Sequential, Path]:
    """A network that knows something, its normalisation folded, and its file."""
    split = mnist1d()
    model = models.make("cnn1d-8", seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(model(batch[0]), batch[1])}

    fit(step, model, Batches(split.train_x, split.train_y, batch_size=100, seed=0), optimizer, epochs=4)
    folded = edge.fold_batch_norm(model)
    return folded, edge.to_onnx(folded, split.train_x[:2], tmp_path_factory.mktemp("edge") / "model.onnx")


@pytest.mark.parametrize("name", [*models.NAMES, "rows", "causal"])
def test_onnx_runtime_says_what_pytorch_says_whatever_the_number_of_examples(name: str, tmp_path: Path) -> None:
    model, inputs = small_model(name)
    model.train()
    path = edge.to_onnx(model, inputs[:2], tmp_path / "model.onnx")
    assert model.training
    model.eval()
    for count in (1, 2, 7):
        wanted = model(inputs[:count])
        found = edge.answers(path, inputs[:count])
        assert_close(found, wanted["logits"] if name == "rows" else wanted, rtol=0, atol=1e-4)
    assert_close(edge.answers(path, inputs, batch_size=3), edge.answers(path, inputs), rtol=0, atol=1e-5)


def test_a_file_tells_nothing_of_the_machine_that_wrote_it(trained: tuple[nn.Sequential, Path]) -> None:
    content = trained[1].read_bytes()
    assert b".py" not in content
    assert str(Path(torch.__file__).parent).encode() not in content
    values = edge.weight_bytes(trained[0])
    assert values < len(content) < values + 3000


def test_an_example_of_one_is_refused_since_its_number_would_stay(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two examples or more, got 1"):
        edge.to_onnx(nn.Linear(3, 2), torch.zeros(1, 3), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_int8_answers_stay_near_and_choices_too(trained: tuple[nn.Sequential, Path], tmp_path: Path) -> None:
    split, (model, path) = mnist1d(), trained
    target = edge.quantized(path, split.validation_x, tmp_path / "int8.onnx")
    fp32, int8 = model(split.test_x), edge.answers(target, split.test_x)
    assert (fp32 - int8).abs().max() > 0, "nothing was rounded"
    assert (fp32 - int8).abs().mean() < 0.04 * fp32.abs().mean()  # in the mean: what calibration never saw is cut
    assert (fp32.argmax(-1) == int8.argmax(-1)).double().mean() > 0.95
    assert len(edge.answers(target, split.test_x[:1])) == 1
    operations = {node.op_type for node in onnx.load(target).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operations


def rounded(model: nn.Sequential, bits: int) -> dict[str, Tensor]:
    """Put all weights on grids of one step a channel, without the largest number in use; the steps by name."""
    largest = 2 ** (bits - 1) - 1
    steps = {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("weight"):
                step = weight.flatten(1).abs().amax(1) / (largest - 1)
                wide = step.view(-1, *[1] * (weight.ndim - 1))
                weight.copy_((weight / wide).round() * wide)
                steps[name] = step
    return steps


@pytest.mark.parametrize("bits", [8, 4])
def test_weights_on_a_grid_keep_their_values_to_the_last_digit(
    bits: int, trained: tuple[nn.Sequential, Path], tmp_path: Path
) -> None:
    split, model = mnist1d(), edge.fold_batch_norm(trained[0])
    steps = rounded(model, bits)
    path = edge.to_onnx(model, split.train_x[:2], tmp_path / "grid.onnx")
    kept = edge.quantized(path, split.validation_x, tmp_path / "kept.onnx", bits=bits, scales=steps)
    stored = {value.name: value for value in onnx.load(kept).graph.initializer}
    for name, step in steps.items():
        whole = onnx.numpy_helper.to_array(stored[f"{name}_quantized"])
        weight = dict(model.named_parameters())[name].detach()
        scale = torch.from_numpy(onnx.numpy_helper.to_array(stored[f"{name}_scale"]).copy())
        assert_close(scale, step, rtol=1e-6, atol=0)
        found = torch.from_numpy(whole.astype("float32")) * scale.view(-1, *[1] * (weight.ndim - 1))
        assert_close(found, weight, rtol=1e-5, atol=1e-7)
    if bits == 4:  # without the steps it takes the wrong grid, and shows it
        lost = edge.quantized(path, split.validation_x, tmp_path / "lost.onnx", bits=bits)
        wanted = model(split.test_x)
        errors = [(edge.answers(file, split.test_x) - wanted).abs().mean() for file in (kept, lost)]
        assert errors[0] < 0.5 * errors[1]


def test_answers_of_weights_on_a_grid_of_few_bits_stay_in_int8(
    trained: tuple[nn.Sequential, Path], tmp_path: Path
) -> None:
    split, model = mnist1d(), edge.fold_batch_norm(trained[0])
    steps = rounded(model, 3)
    path = edge.to_onnx(model, split.train_x[:2], tmp_path / "grid.onnx")
    kept = edge.quantized(path, split.validation_x, tmp_path / "kept.onnx", scales=steps)
    wanted, found = model(split.test_x), edge.answers(kept, split.test_x)
    assert (wanted.argmax(-1) == found.argmax(-1)).double().mean() > 0.95


def test_four_bits_take_half_the_bytes_of_eight(tmp_path: Path) -> None:
    model = models.make("mlp-100x100", seed=0)
    inputs = torch.randn(64, 1, 40)
    path = edge.to_onnx(model, inputs, tmp_path / "fp32.onnx")
    sizes = [edge.file_bytes(edge.quantized(path, inputs, tmp_path / f"{bits}.onnx", bits=bits)) for bits in (8, 4)]
    weights = sum(value.numel() for name, value in model.named_parameters() if name.endswith("weight"))
    assert abs(edge.file_bytes(path) - sizes[0] - 3 * weights) < 8000  # scales and the marks of what is rounded
    assert abs(sizes[0] - sizes[1] - weights / 2) < 500


def test_other_bits_and_unknown_names_are_refused(trained: tuple[nn.Sequential, Path], tmp_path: Path) -> None:
    inputs = torch.randn(4, 1, 40)
    with pytest.raises(ValueError, match="8 and 4 bits, got 3"):
        edge.quantized(trained[1], inputs, tmp_path / "out.onnx", bits=3)
    with pytest.raises(ValueError, match=r"no weights named \['conv'\]: there are \['classifier.bias'"):
        edge.quantized(trained[1], inputs, tmp_path / "out.onnx", scales={"conv": torch.ones(8)})


def test_torchao_keeps_linear_weights_as_int8_and_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model, inputs = models.make("mlp-100x100", seed=0), torch.randn(50, 1, 40)
    before = model(inputs)
    changed = edge.int8_weights(model)
    found = changed(inputs)
    assert torch.equal(model(inputs), before)
    assert 0 < (found - before).abs().max() < 0.02
    weight = changed.get_submodule("features.fc1").weight
    assert weight.qdata.dtype == torch.int8
    step = model.get_submodule("features.fc1").weight.abs().amax(1, keepdim=True) / 127
    assert ((weight.dequantize() - model.get_submodule("features.fc1").weight).abs() <= step * 0.51).all()


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert edge.missing() == ""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    message = r'not installed: onnxruntime\. Install with: pip install "kdref\[edge\]"'
    with pytest.raises(ImportError, match=message):
        edge.to_onnx(nn.Linear(3, 2), torch.zeros(2, 3), tmp_path / "model.onnx")
    for call in (lambda: edge.answers("x", torch.zeros(1)), lambda: edge.int8_weights(nn.Linear(2, 2))):
        with pytest.raises(ImportError, match=message):
            call()


def test_importing_the_room_imports_none_of_the_packages() -> None:
    import subprocess

    code = f"import kdref.lab.edge, sys; print([n for n in {files.PACKAGES!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
