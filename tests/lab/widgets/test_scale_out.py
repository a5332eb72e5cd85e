"""The communication explorer's seconds are the formula's, in picture and words."""

import pytest

from kdref.lab.widgets.scale_out import NETWORKS, START, communication_explorer, communication_figure, cost


def ring(parts: list[list[float]]) -> tuple[list[list[float]], int]:
    """Sum the lists of W processes around a ring, part by part, and count the numbers that one of them sends."""
    count, sent = len(parts), 0
    each = len(parts[0]) // count
    blocks = [[part[i * each : (i + 1) * each] for i in range(count)] for part in parts]
    for turn in range(count - 1):  # sums travel
        outgoing = [blocks[w][(w - turn) % count] for w in range(count)]
        sent += each
        for w in range(count):
            place = (w - turn - 1) % count
            blocks[w][place] = [a + b for a, b in zip(blocks[w][place], outgoing[w - 1], strict=True)]
    for turn in range(count - 1):  # finished sums are handed round
        outgoing = [blocks[w][(w - turn + 1) % count] for w in range(count)]
        sent += each
        for w in range(count):
            blocks[w][(w - turn) % count] = outgoing[w - 1]
    return [[value for block in one for value in block] for one in blocks], sent


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_bytes_are_those_of_a_ring_that_sums(count: int) -> None:
    parts = [[float(w * 100 + i) for i in range(12)] for w in range(count)]
    summed, sent = ring(parts)
    expected = [sum(column) for column in zip(*parts, strict=True)]
    assert summed == [expected] * count
    assert cost(12, 1, count, bandwidth=1.0).exchange == pytest.approx(4 * sent)


def test_the_known_value_of_the_lesson() -> None:
    found = cost(1e8, 8192, 8, 1.25e9)
    assert found.compute == pytest.approx(6 * 1e8 * 8192 / 1e14) == pytest.approx(0.0492, abs=1e-4)
    assert found.exchange == pytest.approx(0.56)
    assert found.share == pytest.approx(0.56 / 0.60915, abs=1e-4)
    waits = 0.56 - 0.0492 * 2 / 3
    assert found.hidden == pytest.approx(waits / (waits + 0.0492), abs=1e-3)


def test_limits() -> None:
    assert cost(1e6, 10, 1, 1e9).exchange == 0  # one process has nobody to tell
    assert cost(1e6, 10, 1, 1e9).share == cost(1e6, 10, 1, 1e9).hidden == 0
    assert cost(1e6, 1e9, 1024, 1e9).hidden == 0  # all of it is hidden
    ratio = cost(1e6, 10, 1024, 1e9).exchange / cost(1e6, 10, 2, 1e9).exchange
    assert ratio == pytest.approx(2, rel=2e-3)  # the answer folded in the lesson
    shares = [cost(1e7, 2.0**power, 8, 1e9).share for power in range(6, 21)]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ((0.0, 1, 2, 1e9), "parameters must be positive and finite, got 0"),
        ((1e6, -1, 2, 1e9), "tokens must be positive and finite, got -1"),
        ((1e6, 1, 2, float("inf")), "bandwidth must be positive and finite, got inf"),
        ((1e6, 1, 2.5, 1e9), r"processes must be a whole number, at least 1, got 2\.5"),
        ((1e6, 1, 0, 1e9), "processes must be a whole number, at least 1, got 0"),
    ],
)
def test_what_can_not_be_is_named(case: tuple[float, float, int, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cost(*case)


def test_controls_move_the_picture_and_the_words() -> None:
    panel = communication_explorer()
    parameters, tokens, processes, network, chart, line = panel.children
    assert bytes(chart.value).startswith(b"\x89PNG")
    assert (parameters.value, tokens.value, processes.value, network.value) == START
    assert line.value == (
        "8 processes · computing 49 ms · exchanging 560 ms · 92 % of the step, 91 % if hidden behind the backward pass"
    )
    before = bytes(chart.value)
    network.value = list(NETWORKS)[-1]
    assert bytes(chart.value) != before
    assert "exchanging 1.6 ms · 3 % of the step, 0 % if hidden" in line.value
    processes.value = 0
    assert line.value.startswith("1 processes · computing 49 ms · exchanging 0 ms")


def test_the_figure_marks_where_it_stands() -> None:
    figure = communication_figure(8.0, 13, 3, "Ethernet, 10 Gbit/s")
    lines = figure.axes[0].get_lines()
    assert [len(line.get_xdata()) for line in lines] == [15, 15, 1, 1]
    found = cost(1e8, 2.0**13, 8, NETWORKS["Ethernet, 10 Gbit/s"])
    assert lines[2].get_ydata()[0] == pytest.approx(found.share)
    assert lines[3].get_ydata()[0] == pytest.approx(found.hidden)
