"""Two processes that torchrun starts train to what one trains to with whole batches."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from kdref.lab.training.scale import Processes
from tests.lab.training import scaled

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", params=[2])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all cases gave, run once."""
    folder = tmp_path_factory.mktemp("scaled")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(request.param)]
    command += ["-m", "tests.lab.training.scaled", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(folder / "found.pt", weights_only=False) | {"count": request.param}


def assert_equal_to_one(several: dict[str, Any], one: dict[str, Any]) -> None:
    for name, value in one["weights"].items():
        torch.testing.assert_close(several["weights"][name], value, rtol=1e-9, atol=1e-11)
    assert len(several["rows"]) == len(one["rows"]) == 3
    for row, expected in zip(several["rows"], one["rows"], strict=True):
        assert row == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", ["plain", "sharded"])
def test_the_same_weights_and_rows_as_one_process(found: dict[str, Any], case: str) -> None:
    assert_equal_to_one(found[case], scaled.train())


@pytest.mark.parametrize("case", ["accumulated", "sharded accumulated"])
def test_accumulated_and_cut_gradients_are_those_of_one_process(found: dict[str, Any], case: str) -> None:
    one = scaled.train(batch_size=6, accumulate=2, clip_norm=0.3)
    assert_equal_to_one(found[case], one)
    uncut = scaled.train()
    assert not torch.allclose(uncut["weights"]["parts.head.bias"], one["weights"]["parts.head.bias"])


def test_a_data_loader_of_which_each_process_loads_its_rows(found: dict[str, Any]) -> None:
    assert_equal_to_one(found["loaded"], scaled.train(batches=scaled.loader(None)))


@pytest.mark.parametrize("case", ["resumed", "sharded resumed"])
def test_an_interrupted_training_goes_on_to_the_same_result(found: dict[str, Any], case: str) -> None:
    # with dropout, of which each process draws its own
    torch.testing.assert_close(found[case]["again"], found[case]["at once"], rtol=0, atol=0)


def test_all_processes_end_with_the_same_weights(found: dict[str, Any]) -> None:
    first, *others = found["equal everywhere"]["weights"]
    assert len(others) == found["count"] - 1
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0)


def test_a_sharded_teacher_says_what_a_whole_one_says(found: dict[str, Any]) -> None:
    torch.testing.assert_close(found["teacher"]["logits"], scaled.Network(9)(scaled.X).detach())
    assert not found["teacher"]["logits"].requires_grad
    assert found["teacher"]["training"] is False


@pytest.mark.parametrize("case", ["half", "half sharded"])
def test_bfloat16_comes_near(found: dict[str, Any], case: str) -> None:
    one = scaled.train()
    for name, value in one["weights"].items():
        assert found[case]["weights"][name].dtype == torch.float32
        error = F.mse_loss(found[case]["weights"][name].double(), value).sqrt()
        assert 1e-6 < error < 0.03  # a hundredth, and not float32 in disguise


def test_what_can_t_be_shared_equally_is_refused(found: dict[str, Any]) -> None:
    assert found["unequal"]["said"].startswith(f"a batch of 7 can't be shared equally by {found['count']} processes")
    for case in ("other order", "other indices"):
        assert found[case]["said"].startswith("the processes draw different batches: seed the order alike"), case


def test_one_process_is_no_special_case() -> None:
    process = Processes(accelerator="cpu", sharded=True)
    assert (process.rank, process.count) == (0, 1)
    assert_equal_to_one(scaled.train(process), scaled.train())


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision must be one of 32-true, bf16-mixed, got '16-mixed'"):
        Processes(precision="16-mixed")


def test_the_page_on_scale_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    torch.manual_seed(0)
    names = {"x": torch.randn(512, 4), "y": torch.randint(3, (512,))}
    names |= dict.fromkeys(("make_student", "make_teacher"), lambda: torch.nn.Linear(4, 3))
    exec(code.replace("Processes(", 'Processes(accelerator="cpu", ').replace("epochs=20", "epochs=2"), names)
    assert torch.load("run.pt", weights_only=True)["epoch"] == 3
