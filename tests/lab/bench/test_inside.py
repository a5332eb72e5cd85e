"""The benchmark's losses inside the network: each plain form has our value and gradient. No test looks at a clock."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kdref.lab.bench import __main__ as command
from kdref.lab.bench import inside, losses, peers, timing
from kdref.lab.bench.row import Row

EMBEDDINGS, MAPS, MEMORY = (6, 5), (4, 3, 2, 3), (4, 7, 5)
SIZES = dict.fromkeys(("RKD", "SP", "CC", "PKT"), EMBEDDINGS) | dict.fromkeys(("NST", "FSP", "AT", "VID", "OFD"), MAPS)
SIZES["CRD"] = MEMORY
EXACT = {"rtol": 1e-9, "atol": 1e-11}


def assert_plain_form_is_ours(row: Row) -> None:
    for seed in (0, 1, 2):
        student, *rest = (x.double() if x.is_floating_point() else x for x in row.inputs(*SIZES[row.loss]))
        student = student.roll(seed, -1) * (1 if row.loss == "CRD" else 1 + 0.1 * seed)
        ours, plain = (losses.value_and_gradient(loss, student, *rest) for loss in (row.ours, row.plain))
        assert_close(plain, ours, **EXACT)
        assert ours[1].norm() > 1e-4


@pytest.mark.parametrize("row", inside.ROWS, ids=lambda row: f"{row.loss}-{row.sizes[0]}")
def test_the_plain_form_has_our_value_and_our_gradient(row: Row) -> None:
    assert_plain_form_is_ours(row)


@pytest.mark.parametrize("row", inside.ROWS, ids=lambda row: f"{row.loss}-{row.sizes[0]}")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda plain, s, *rest: plain(s, *rest) * 1.01,
        lambda plain, s, *rest: plain(s, *rest) + 0.01,
        lambda plain, s, *rest: plain(s.detach(), *rest) + 0 * s.sum(),
    ],
)
def test_a_plain_form_that_is_not_ours_is_noticed(row: Row, wrong: Callable[..., Tensor]) -> None:
    with pytest.raises(AssertionError):
        assert_plain_form_is_ours(row._replace(plain=lambda s, *rest: wrong(row.plain, s, *rest)))


def test_every_target_has_its_shape() -> None:
    sizes = {}
    for row in inside.ROWS:
        sizes[row.loss] = [*sizes.get(row.loss, []), *row.sizes]
    assert sizes["RKD"] == [(64, 256), (128, 256), (256, 256), (256, 2048)]
    assert sizes["NST"] == [(16, 64, 8, 8), (32, 256, 16, 16)]
    assert sizes["FSP"] == [(16, 32, 16, 16)]
    assert sizes["CRD"] == [(64, 16384, 128)]
    assert all(size[0] == 128 for name in ("SP", "CC", "PKT", "AT", "VID", "OFD") for size in sizes[name])


def test_the_table_has_a_line_for_each_size_and_ends_with_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "peak_extra_memory", lambda function: 1000)
    monkeypatch.setattr(timing, "rates", lambda: "rates")
    rows = [row._replace(sizes=[SIZES[row.loss]], others={}) for row in inside.ROWS]
    lines = losses.run(1, rows).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[4:-2]] == [row.loss for row in inside.ROWS]
    assert lines[-1] == "rates"


def test_slow_lines_get_a_share_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    monkeypatch.setattr(losses, "_measure", lambda *arguments: rounds.append(arguments[2]) or {})
    monkeypatch.setattr(timing, "rates", lambda: "rates")
    for share in (1, 5, 50):
        losses.run(20, [inside.ROWS[0]._replace(sizes=[EMBEDDINGS], others={}, share=share)])
    assert rounds == [20, 4, 1]


def test_the_rates_are_operations_and_bytes_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    def interleaved(functions: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
        return dict.fromkeys(functions, [0.5] * repeats)

    monkeypatch.setattr(timing, "interleaved", interleaved)
    # 2 · 1024³ operations, and 2 · 4 · 2²⁵ bytes, in half a second
    assert re.findall(r"[\d.]+(?= G)", timing.rates()) == ["4", "0.5"]


def test_peers_get_what_their_losses_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
class Pairs:
    def __init__(self, pairs): self.pair = pairs[""]
    def take(self, side, data): return data[self.pair[side]["path"]][self.pair[side]["io"]]
class ATLoss(Pairs):
    def __call__(self, s, t): return self.take("student", s) - self.take("teacher", t)
class VIDLoss(Pairs):
    def __call__(self, s, t): return self.take("student", s)[1].sum() + self.take("teacher", t).sum()
class FSPLoss(Pairs):
    def __call__(self, s, t): return self.take("student_first", s) * 10 + self.take("teacher_second", t)
class CRDLoss:
    def __init__(self, student, empty, teacher, width, size, negatives, examples):
        self.sizes = (width, size, negatives, examples)
    def __call__(self, s, t):
        drawn = s["drawn"]["input"]["contrast_idx"]
        assert self.sizes == (5, 50000, 7, 50000) and (drawn[:, 0] == s["drawn"]["input"]["pos_idx"]).all()
        return (s[""]["output"] - t[""]["output"]).sum() + drawn.shape[1]
"""
    module = tmp_path / "torchdistill" / "losses" / "mid_level.py"
    module.parent.mkdir(parents=True)
    module.write_text(code, encoding="utf-8")
    for folder in (module.parent, module.parent.parent):
        (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    peer = {row.loss: row.others["torchdistill"] for row in inside.ROWS if "torchdistill" in row.others}
    assert peer["AT"]()(5, 3) == 2
    assert peer["FSP"]()([1, 2], [3, 4]) == 14
    student, teacher = inside.features(*MAPS)
    variance = inside.regressor(3, torch.float32).variance.sum()
    assert_close(peer["VID"]()(student, teacher), variance + teacher.sum())
    one, other, *indices = inside.embedded(*MEMORY)
    assert_close(peer["CRD"]()(one, other, *indices), (one - other).sum() + 8)
    monkeypatch.setattr(peers, "mmrazor", lambda file, name: lambda s, t: (file, name, t.tolist()))
    overhaul = next(row for row in inside.ROWS if row.loss == "OFD").others["mmrazor"]()
    maps = torch.tensor([-3.0, 1.0]).reshape(1, 2, 1, 1)
    assert overhaul(maps, maps, torch.tensor([-1.0, -2.0])) == ("ofd_loss", "OFDLoss", [[[[-1.0]], [[1.0]]]])


def test_the_command_names_no_helper() -> None:
    assert not {"inside", "plain_feature_losses", "plain_relation_losses", "row"} & set(command.names())
