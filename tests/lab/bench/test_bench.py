"""The benchmark's instruments, and that the loop benchmark compares equal work. No test looks at a clock."""

import pytest
import torch

from kdref.lab.bench import __main__ as command
from kdref.lab.bench import loop, timing


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "EPOCHS", 2)
    monkeypatch.setattr(loop, "TEACHER_EPOCHS", 1)


@pytest.fixture
def results(short: None, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the functions return that a benchmark hands to the clock, comparison by comparison."""
    returned = []

    def call_each(functions: dict, *, repeats: int) -> dict[str, list[float]]:
        returned.append({name: function() for name, function in functions.items()})
        return {name: [1.0] * repeats for name in functions}

    monkeypatch.setattr(timing, "interleaved", call_each)
    return returned


def test_functions_take_turns_and_each_round_begins_with_another() -> None:
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = timing.interleaved(functions, repeats=4)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 4, "b": 4, "c": 4}
    assert all(time >= 0 for times in seconds.values() for time in times)
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        timing.interleaved(functions, repeats=0)


def test_times_go_to_the_function_that_took_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def take(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    functions = {"slow": lambda: take(2.0), "quick": lambda: take(0.5)}
    assert timing.interleaved(functions, repeats=3) == {"slow": [2.0] * 3, "quick": [0.5] * 3}


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() -> None:
    seconds = {"a": [1.0, 20.0, 9.0], "b": [1.0, 10.0, 1.0]}  # ratios 1, 2, 9; medians 9 and 1
    assert timing.ratio(seconds, "a", "b") == 2.0


def test_peak_memory_counts_what_is_held_at_once_and_not_the_inputs() -> None:
    x = torch.ones(1000, 1000)  # 4 MB
    megabytes = {
        "nothing": (lambda: x.view(-1), 0),
        "in place": (lambda: x.mul_(1.0), 0),
        "one result": (lambda: x + 1, 4),
        "one after the other": (lambda: ((x + 1).sum(), (x + 2).sum()), 4),
        "two at once": (lambda: (x + 1, x + 2), 8),
        "a middle step": (lambda: (x + 1).exp().sum(), 8),
    }
    for name, (function, expected) in megabytes.items():
        assert timing.peak_extra_memory(function) / 1e6 == pytest.approx(expected, abs=0.01), name


def test_peak_memory_leaves_out_what_only_the_first_call_keeps() -> None:
    kept = []

    def function() -> None:
        if not kept:
            kept.append(torch.ones(1000, 1000))

    assert timing.peak_extra_memory(function) < 1000


def test_a_table_with_a_short_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"every row needs 2 cells, got \[1\]"):
        timing.markdown(["a", "b"], [["c"]])


def test_fit_and_the_loop_by_hand_do_the_same_work(results: list[dict]) -> None:
    loop.fit_against_a_loop_by_hand(1)
    losses = [row["loss"] for row in results[0]["fit"]]
    assert results[0]["loop"] == pytest.approx(losses, rel=1e-5)
    assert losses[1] < losses[0]


def test_the_loop_by_hand_stops_at_a_loss_that_is_not_finite() -> None:
    model = torch.nn.Linear(1, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.full((2, 1), torch.nan), torch.tensor([0, 1]))]
    with pytest.raises(FloatingPointError, match="epoch 1"):
        loop.by_hand(model, batches, optimizer, 1)


def test_loader_and_batches_give_as_many_examples_and_train_alike(results: list[dict]) -> None:
    loop.batches_against_a_data_loader(1)
    assert results[0] == {"loader": 2 * 1000, "batches": 2 * 1000}
    for trained in results[1:]:
        assert len(trained["loader"]) == len(trained["batches"]) == 2
        assert trained["loader"][-1]["loss"] == pytest.approx(trained["batches"][-1]["loss"], rel=0.25)


def test_teacher_once_and_in_every_epoch_train_the_same_student(results: list[dict]) -> None:
    loop.teacher_once_against_every_epoch(1)
    assert results[0]["once"][-1]["loss"] == pytest.approx(results[0]["every epoch"][-1]["loss"], rel=1e-4)


def test_the_command_runs_a_benchmark_for_each_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(loop, "run", lambda repeats: f"{repeats} rounds on {torch.get_num_threads()}")
    command.main(["loop", "--threads", "1", "2", "--repeats", "7"])
    assert torch.get_num_threads() == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[::4] == ["7 rounds on 1", "7 rounds on 2"]
    assert lines[2].startswith(f"torch {torch.__version__}, Python ")
    assert [line.rsplit(", ", 1)[1] for line in lines[2::4]] == ["1 thread", "2 threads"]


def test_the_loop_benchmark_fills_one_table(results: list[dict]) -> None:
    head, _, *rows = loop.run(4).splitlines()
    assert head == "| A against B | A, ms | B, ms | A / B | target |"
    assert len(rows) == 5
    assert all(row.count("|") == 6 and "| 1.00 |" in row for row in rows)


def test_only_benchmarks_can_be_named_and_only_positive_numbers_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert "loop" in command.names()
    assert not {"timing", "__main__"} & set(command.names())
    for arguments in (["timing"], ["loop", "--threads", "0"], ["loop", "--repeats", "-1"]):
        with pytest.raises(SystemExit):
            command.main(arguments)
    assert "must be at least 1, got 0" in capsys.readouterr().err


def test_rows_show_milliseconds_per_epoch() -> None:
    row = loop._row("what", {"a": [0.2, 0.4, 0.6], "b": [0.1, 0.1, 0.1]}, "a", "b", "at most 5", epochs=4)
    assert row == ["what", "100.00", "25.00", "4.00", "at most 5"]
