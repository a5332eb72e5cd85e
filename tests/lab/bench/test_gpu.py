"""The benchmark on a GPU: what it says without one, and its tables, made on the CPU as a stand-in."""

import pytest
import torch

from kdref.lab.bench import __main__ as command
from kdref.lab.bench import gpu, inside, losses


def test_without_a_gpu_it_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command.main(["gpu", "--repeats", "1"])
    assert capsys.readouterr().out.startswith(f"{gpu.NO_GPU}\n")


def small(row: losses.Row) -> losses.Row:
    """The row at one small size, with as many axes."""
    return row._replace(sizes=(tuple(min(8, n) for n in row.sizes[0]),))


@pytest.mark.parametrize("row", [*losses.ROWS, *inside.ROWS], ids=lambda row: row.loss)
def test_every_loss_and_its_textbook_form_run_in_both_types(row: losses.Row) -> None:
    table = gpu.losses_table(1, [small(row)], device="cpu").splitlines()
    assert [line.split(" | ")[2] for line in table[2:]] == ["bfloat16", "float32"]
    for line in table[2:]:
        times = [cell.split(", ")[0] for cell in line.strip("| ").split(" | ")[3:]]
        assert all(float(time) > 0 for time in times)


def test_the_fused_loss_stands_beside_the_others_in_every_kind() -> None:
    lines = gpu.vocabulary_table([(6, 4, 5, 20)], device="cpu", dtypes=[torch.float32]).splitlines()[2:]
    assert [line.strip("| ").split(" | ")[0] for line in lines] == list(gpu.KINDS)
    for line in lines:
        *_, ours, _, dense = line.strip("| ").split(" | ")
        assert float(ours.split(", ")[0]) > 0
        assert float(dense.split(", ")[0]) > 0


def test_what_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def huge() -> None:
        raise torch.OutOfMemoryError

    assert gpu._measure({"huge": huge, "small": lambda: torch.ones(3)}, 1, "cpu")["huge"] == "out of memory"
