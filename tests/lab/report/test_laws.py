"""A law that made the data is found again, whatever one run did; intervals hold it; what can't be fitted says why."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from kdref.lab.report.laws import bootstrap_laws, fit_law, law_intervals, relative_error, starts
from kdref.scaling import SupervisedLaw, supervised_loss_law

TRUE = SupervisedLaw(A=40.0, B=300.0, E=0.3, alpha=0.5, beta=0.6, gamma=0.8)
N, D = (
    axis.flatten()
    for axis in torch.meshgrid(
        torch.logspace(2, 6, 9, dtype=torch.float64), torch.logspace(3, 7, 9, dtype=torch.float64), indexing="ij"
    )
)
GRID = {"A": (10.0, 100.0), "B": (100.0, 1000.0), "E": (0.1, 1.0), "alpha": (0.4,), "beta": (0.4,), "gamma": (1.0,)}


class Power(NamedTuple):
    """y = a·x^-b."""

    a: float
    b: float


X = torch.logspace(0, 3, 40, dtype=torch.float64)


def power(law: Power) -> Tensor:
    return law.a * X**-law.b


def test_a_power_law_is_found_exactly() -> None:
    assert fit_law(power, 3 * X**-0.25, [Power(1.0, 1.0)]) == pytest.approx((3.0, 0.25), rel=1e-6)


def test_the_law_of_chinchillas_form_is_found_again() -> None:
    found = fit_law(
        lambda law: supervised_loss_law(N, D, law=law),
        supervised_loss_law(N, D, law=TRUE),
        starts(SupervisedLaw, GRID, most=8),
    )
    predicted = supervised_loss_law(10 * N, 10 * D, law=found)  # beyond the data
    assert relative_error(predicted, supervised_loss_law(10 * N, 10 * D, law=TRUE)) < 1e-3
    assert pytest.approx(TRUE.E, rel=1e-2) == found.E


def test_a_run_that_went_wrong_moves_nothing() -> None:
    observed = 3 * X**-0.25
    observed[7] *= 20
    assert fit_law(power, observed, [Power(1.0, 1.0)]) == pytest.approx((3.0, 0.25), rel=1e-2)
    logs = np.polyfit(X.log().numpy(), observed.log().numpy(), 1)  # least squares is moved
    assert abs(np.exp(logs[1]) - 3) > 0.3


def test_the_best_of_many_starts_wins() -> None:
    def bumpy(law: Power) -> Tensor:  # many valleys along log a
        return power(law) * (1 + 0.9 * torch.sin(8 * torch.as_tensor(law.a).log()))

    observed, far = bumpy(Power(3.0, 0.25)), Power(300.0, 0.2)
    many = starts(Power, {"a": np.logspace(-1, 2, 16).tolist(), "b": (0.2, 0.3)}, most=40)
    assert fit_law(bumpy, observed, [far]).a > 30
    assert fit_law(bumpy, observed, [far, *many]) == pytest.approx((3.0, 0.25), rel=1e-4)


def test_intervals_hold_the_truth_and_shrink_with_data() -> None:
    generator = torch.Generator().manual_seed(0)
    widths = []
    for count in (40, 640):
        x = torch.logspace(0, 3, count, dtype=torch.float64)
        observed = 3 * x**-0.25 * (0.05 * torch.randn(count, generator=generator, dtype=torch.float64)).exp()

        def line(law: Power, x: Tensor = x) -> Tensor:
            return law.a * x**-law.b

        law = fit_law(line, observed, [Power(1.0, 1.0)], delta=1e-2)
        found = law_intervals(law, bootstrap_laws(line, observed, law, resamples=100, delta=1e-2))
        assert (found["low"] < found["value"]).all()
        assert (found["value"] < found["high"]).all()
        assert found.loc["b", "low"] < 0.25 < found.loc["b", "high"]
        widths.append(found.loc["b", "high"] - found.loc["b", "low"])
    assert widths[1] < widths[0] / 2


def test_intervals_are_quantiles_of_the_level() -> None:
    laws = [Power(float(i), 1.0) for i in range(101)]
    assert law_intervals(Power(50.0, 1.0), laws).loc["a"].tolist() == pytest.approx([50.0, 5.0, 95.0])
    assert law_intervals(Power(50.0, 1.0), laws, level=0.5).loc["a"].tolist() == pytest.approx([50, 25, 75])


def test_starts_are_all_combinations_or_some_of_them() -> None:
    every = starts(SupervisedLaw, GRID, most=8)
    assert len(set(every)) == 8
    assert {law.A for law in every} == {10.0, 100.0}
    some = starts(SupervisedLaw, GRID, most=3)
    assert len(set(some)) == 3
    assert set(some) < set(every)
    assert some == starts(SupervisedLaw, GRID, most=3)


def test_a_relative_error_is_a_mean_share() -> None:
    assert relative_error(torch.tensor([1.1, 1.6]), torch.tensor([1.0, 2.0])) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("observed", "begin", "message"),
    [
        (X, [], "begin holds no law to start from"),
        (X[:1], [Power(1.0, 1.0)], "1 runs can't fix 2 constants"),
        (X - 1, [Power(1.0, 1.0)], "observed must be positive, got 0"),
    ],
)
def test_what_cannot_be_fitted_says_why(observed: Tensor, begin: list[Power], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_law(power, observed, begin)
