"""Taps: named activations, the model untouched."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.fidelity import centered_kernel_alignment
from kdref.lab.models import make
from kdref.lab.training.taps import layer_table, taps
from tests import checks


class Branching(nn.Module):
    """Control flow that depends on data: torch.fx can't follow it."""

    def __init__(self, *, inplace: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.fc1, self.relu, self.fc2 = nn.Linear(3, 4), nn.ReLU(inplace=inplace), nn.Linear(4, 2)
        self.unused, self.twice = nn.Linear(3, 4), twice

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            raise AssertionError
        x = self.relu(self.fc1(x))
        return self.fc2(self.relu(x) if self.twice else x)


class Straight(nn.Module):
    """The same without the branch, and with functional dropout."""

    def __init__(self, *, inplace: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.fc1, self.relu, self.fc2 = nn.Linear(3, 4), nn.ReLU(inplace=inplace), nn.Linear(4, 2)
        self.twice = twice

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.fc1(x))
        x = F.dropout(x, 0.5, training=self.training)
        return self.fc2(self.relu(x) if self.twice else x)


BOTH = pytest.mark.parametrize("kind", [Branching, Straight])


@BOTH
def test_activations_are_those_of_the_layers(kind: type[nn.Module]) -> None:
    model, x = kind().eval(), torch.randn(5, 3)
    found = taps(model, ["fc2", "fc1"])(x)
    assert list(found) == ["fc2", "fc1"]
    torch.testing.assert_close(found["fc1"], model.fc1(x))
    torch.testing.assert_close(found["fc2"], model(x))


@BOTH
def test_the_model_stays_as_it_is(kind: type[nn.Module]) -> None:
    model = nn.Sequential(kind(), nn.BatchNorm1d(2)).train()
    model[1].eval()  # a frozen BatchNorm in a model that trains
    before = copy.deepcopy(model.state_dict())
    tapped = taps(model, ["0.fc1", "1"])
    tapped(torch.randn(5, 3))
    assert [module.training for module in model.modules()] == [True] * (len(list(model.modules())) - 1) + [False]
    assert all(not module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@BOTH
def test_training_through_taps_trains_the_model(kind: type[nn.Module]) -> None:
    model = kind().eval()
    taps(model, ["fc1"])(torch.randn(5, 3))["fc1"].square().mean().backward()
    assert model.fc1.weight.grad is not None
    assert model.fc2.weight.grad is None


def test_taps_follow_the_mode_that_the_model_is_in() -> None:
    model, x = Straight(), torch.randn(50, 3)
    tapped = taps(model, ["fc2"])
    model.eval()
    torch.testing.assert_close(tapped(x)["fc2"], model(x))
    model.train()
    assert not torch.equal(tapped(x)["fc2"], tapped(x)["fc2"])  # dropout is on
    model.eval()
    torch.testing.assert_close(tapped(x)["fc2"], model(x))


def test_batch_norm_statistics_move_in_train_mode_only() -> None:
    model = make("cnn2d-8", seed=0)
    tapped, x = taps(model, ["features.relu1"]), torch.randn(4, 1, 8, 8)
    start = model.features.norm1.running_mean.clone()
    model.eval()
    tapped(x)
    assert torch.equal(model.features.norm1.running_mean, start)
    model.train()
    tapped(x)
    assert not torch.equal(model.features.norm1.running_mean, start)


@BOTH
def test_an_activation_that_is_overwritten_in_place_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"'fc1' is overwritten in place: tap the layer after it"):
        taps(kind(inplace=True), ["fc1", "fc2"])(torch.randn(5, 3))
    taps(kind(inplace=True), ["relu"])(torch.randn(5, 3))


@BOTH
def test_a_module_that_runs_twice_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="'relu' runs several times"):
        taps(kind(twice=True), ["relu", "fc2"])(torch.randn(5, 3))


def test_a_module_that_never_runs_is_named() -> None:
    with pytest.raises(ValueError, match="did not run 'unused'"):
        taps(Branching(), ["unused"])(torch.randn(5, 3))


@pytest.mark.parametrize("names", [[], ["fc1", "fc1"], ["fc9"], [""]])
def test_names_that_are_no_modules_are_refused_with_those_there_are(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"names must be sub-modules.*there are fc1, relu, fc2"):
        taps(Straight(), names)


def test_a_torchvision_network_is_tapped() -> None:
    from torchvision.models import resnet18

    model = resnet18(weights=None).eval()
    tapped, x = taps(model, ["layer1", "fc"]), torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(tapped(x)["fc"], model(x))
    with pytest.raises(ValueError, match=r"'layer1\.0\.bn1' is overwritten"):
        taps(model, ["layer1.0.bn1", "fc"])(x)


# Modules as people write them -----------------------------------------------------------------------------------------


class Early(nn.Module):
    """Returns what it computed before its last operation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.aside = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        self.kept = self.aside(x)
        return y


class Reading(nn.Module):
    """A recurrent layer, attention, and blocks: everything that a sub-module may return."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.cell = nn.LSTM(3, 4, batch_first=True), nn.LSTMCell(4, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.block, self.early, self.out = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), Early(), nn.Linear(3, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        y, _ = self.lstm(x)
        y, _ = self.attention(y, y, y, key_padding_mask=mask)
        y, _ = self.cell(y[:, -1])
        y.sigmoid_()
        return self.out(self.dropout(self.early(self.block(y))))


def heard(model: nn.Module, *inputs: Tensor, **keywords: Tensor) -> dict[str, object]:
    """What each sub-module returned, by a hook that does nothing but write it down."""
    found: dict[str, object] = {}
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: found.__setitem__(name, output))
        for name, module in model.named_modules()
        if name
    ]
    model(*inputs, **keywords)
    for handle in handles:
        handle.remove()
    return found


def test_every_sub_module_can_be_tapped_and_gives_what_it_returned() -> None:
    model, x = Reading().eval(), torch.randn(2, 5, 3)
    names = [name for name, _ in model.named_modules() if name and not name.startswith(("cell", "attention.out_proj"))]
    expected, found = heard(model, x), taps(model, names)(x)
    assert list(found) == names
    for name in names:
        output = expected[name]
        torch.testing.assert_close(found[name], output[0] if isinstance(output, tuple) else output, rtol=0, atol=0)
    assert found["lstm"].shape == (2, 5, 4)  # outputs, not the last states
    assert found["attention"].shape == (2, 5, 4)  # what is attended to, not the weights
    with pytest.raises(ValueError, match="'cell' is overwritten in place"):
        taps(model, ["cell"])(x)


def test_keywords_reach_the_model() -> None:
    model, x, mask = Reading().eval(), torch.randn(2, 5, 3), torch.tensor([[False, True] + [False] * 3] * 2)
    tapped = taps(model, ["attention", "out"])
    torch.testing.assert_close(tapped(x, mask=mask)["out"], model(x, mask=mask))
    assert not torch.equal(tapped(x, mask=mask)["attention"], tapped(x)["attention"])


def test_a_block_that_runs_twice_is_refused_too() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Linear(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.block(x) + 1)

    for name in ("block", "block.0"):
        with pytest.raises(ValueError, match=f"'{name}' runs several times in one forward pass"):
            taps(Twice(), [name])(torch.randn(2, 3))


def test_a_frozen_part_stays_frozen_and_a_new_layer_is_seen() -> None:
    model, x = nn.Sequential(Straight(), nn.Identity()).train(), torch.randn(50, 3)
    model[0].eval()  # its functional dropout is off, while the whole trains
    tapped = taps(model, ["0.fc2", "1"])
    torch.testing.assert_close(tapped(x)["1"], model(x))
    model[0].fc2 = nn.Linear(4, 5)
    torch.testing.assert_close(tapped(x)["0.fc2"], model(x))


def test_a_teacher_in_inference_mode_is_tapped_even_if_it_overwrites() -> None:
    model, x = Straight(inplace=True).eval(), torch.randn(5, 3)
    with torch.inference_mode():
        found = taps(model, ["fc1", "fc2"])(x)
        torch.testing.assert_close(found["fc1"], model.fc1(x))
        torch.testing.assert_close(found["fc2"], model(x))


def test_a_module_without_a_tensor_is_refused() -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> int:
            return len(x)

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.counts = Counts()

        def forward(self, x: Tensor) -> Tensor:
            return x * self.counts(x)

    with pytest.raises(ValueError, match="'counts' gives a int and no tensor"):
        taps(Counted(), ["counts"])(torch.randn(5, 3))


def test_an_encoder_of_text_gives_its_last_hidden_state() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=5, **size)).eval()
    text = {"input_ids": torch.tensor([[1, 2, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    found = taps(model, ["bert", "bert.encoder.layer.0", "classifier"])(**text)
    torch.testing.assert_close(found["bert"], model.bert(**text).last_hidden_state)
    torch.testing.assert_close(found["bert.encoder.layer.0"], found["bert"])
    torch.testing.assert_close(found["classifier"], model(**text).logits)


def test_a_table_of_layers_has_rows_of_the_first_network_and_columns_of_the_second() -> None:
    x, y = checks.randn(9, 4, seed=1), checks.randn(9, 3, seed=2)
    table = layer_table({"a": x, "b": y}, {"c": y}, measure=centered_kernel_alignment)
    assert (list(table.index), list(table.columns)) == (["a", "b"], ["c"])
    assert table.loc["b", "c"] == pytest.approx(1)
    assert table.loc["a", "c"] == centered_kernel_alignment(x, y).item()
    minus = layer_table({"a": x}, {"c": x + 2}, measure=lambda first, second: (second - first).mean())
    assert minus.loc["a", "c"] == pytest.approx(2), "the first network's features come first"
