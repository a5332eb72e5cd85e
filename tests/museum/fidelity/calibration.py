"""Wrong versions of the calibration error and of the fitted temperature."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref import fidelity
from tests.museum import exhibit

ERROR, TEMPERATURE = (
    f"kdref.fidelity.calibration:{name}" for name in ("expected_calibration_error", "fitted_temperature")
)
DEFINITION, HAND = "the_error_matches_the_definition", "known_errors_by_hand"
TORCHMETRICS, HONEST = "the_error_is_that_of_torchmetrics", "who_says_how_often_it_is_right_has_no_error"
LEAST, TEMPERATURES = "the_fitted_temperature_has_the_least_loss", "known_temperatures_by_hand"
right_error, right_temperature = fidelity.expected_calibration_error, fidelity.fitted_temperature


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"heart/fidelity/test_calibration.py::test_{test}" for test in tests)


def in_bins(p: Tensor, labels: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean gap of confidence and accuracy in each bin, and its number of examples; the labelled ones."""
    known = labels != -100
    sure, choice = p[known].max(-1)
    excess = (choice == labels[known]).to(p.dtype) - sure
    where = torch.bucketize(sure, torch.linspace(0, 1, bins + 1, dtype=p.dtype)[1:-1])
    counts = torch.bincount(where, minlength=bins)
    sums = torch.zeros(bins, dtype=p.dtype).index_add(0, where, excess)
    return sums / counts.clamp(min=1), counts, excess


@exhibit(
    replaces=ERROR,
    seen_in="a likely slip: the plain mean over the bins that hold something",
    killed_by=(
        *(f"heart/fidelity/test_calibration.py::test_the_error_matches_the_definition[{n}]" for n in (2, 10, 15, 100)),
        *killed_by(TORCHMETRICS, HAND),
    ),
)
def bins_of_equal_weight(probabilities: Tensor, labels: Tensor, *, bins: int = 15, class_dim: int = -1) -> Tensor:
    """A bin of one example counts as much as one of a thousand."""
    gaps, counts, _ = in_bins(probabilities, labels, bins)
    return gaps.abs().sum() / (counts > 0).sum().clamp(min=1)


@exhibit(
    replaces=ERROR,
    seen_in="a likely slip: gaps with their sign, or one bin",
    killed_by=killed_by(TORCHMETRICS, HAND),
)
def gaps_that_cancel(probabilities: Tensor, labels: Tensor, *, bins: int = 15, class_dim: int = -1) -> Tensor:
    """Too sure here and too meek there is not calibrated."""
    return in_bins(probabilities, labels, bins)[2].mean().abs()


@exhibit(
    replaces=ERROR,
    seen_in="a likely slip: a second softmax, as of a loss that takes logits",
    killed_by=killed_by(DEFINITION, TORCHMETRICS, HAND, HONEST),
)
def softmax_twice(probabilities: Tensor, labels: Tensor, *, bins: int = 15, class_dim: int = -1) -> Tensor:
    """No one is ever sure."""
    return right_error(probabilities.softmax(class_dim), labels, bins=bins, class_dim=class_dim)


@exhibit(
    replaces=ERROR,
    seen_in="Lightning-AI/torchmetrics #3510: a confidence of exactly 1 is counted in a bin of its own",
    killed_by=killed_by("a_confidence_on_a_border_belongs_to_the_lower_bin"),
)
def a_bin_beyond_the_last(probabilities: Tensor, labels: Tensor, *, bins: int = 15, class_dim: int = -1) -> Tensor:
    """In float32 many outputs of a sure network are exactly 1."""
    sure, choice = probabilities.max(class_dim)
    where = torch.bucketize(sure, torch.linspace(0, 1, bins + 1, dtype=sure.dtype), right=True) - 1
    excess = (choice == labels).to(sure.dtype) - sure
    return torch.zeros(bins + 1, dtype=sure.dtype).index_add(0, where, excess).abs().sum() / len(sure)


@exhibit(
    replaces=ERROR,
    seen_in="a likely slip: the probability of the label for that of the choice",
    killed_by=killed_by(DEFINITION, TORCHMETRICS, HAND),
)
def confidence_in_the_label(probabilities: Tensor, labels: Tensor, *, bins: int = 15, class_dim: int = -1) -> Tensor:
    """Where it is wrong it was never sure."""
    sure = probabilities.gather(-1, labels[:, None])[:, 0]
    where = torch.bucketize(sure, torch.linspace(0, 1, bins + 1, dtype=sure.dtype)[1:-1])
    excess = (probabilities.argmax(-1) == labels).to(sure.dtype) - sure
    return torch.zeros(bins, dtype=sure.dtype).index_add(0, where, excess).abs().sum() / len(sure)


@exhibit(
    replaces=TEMPERATURE,
    seen_in="gpleiss/temperature_scaling #28, #34: fifty steps of L-BFGS at 0.01 from 1.5",
    killed_by=killed_by(LEAST, TEMPERATURES, "a_classifier_that_is_calibrated_keeps_its_temperature"),
)
def fifty_timid_steps(logits: Tensor, labels: Tensor, *, class_dim: int = -1) -> Tensor:
    """It stops near where it began, and nothing says so."""
    temperature = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
    optimizer = torch.optim.LBFGS([temperature], lr=0.01, max_iter=50)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits.double() / temperature, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return temperature.detach().to(logits.dtype)


@exhibit(
    replaces=TEMPERATURE,
    seen_in="autogluon/autogluon #4396: a temperature of -1242 after tuning",
    killed_by=killed_by("where_there_is_nothing_to_fit"),
)
def a_temperature_without_a_sign(logits: Tensor, labels: Tensor, *, class_dim: int = -1) -> Tensor:
    """A classifier worse than chance is turned round: every choice changes."""
    found = right_temperature(logits, labels, class_dim=class_dim)
    return -right_temperature(-logits, labels, class_dim=class_dim) if found.isinf() else found


@exhibit(
    replaces=TEMPERATURE,
    seen_in="a likely slip: the factor on the logits for what divides them",
    killed_by=killed_by(LEAST, TEMPERATURES),
)
def sharpness_for_temperature(logits: Tensor, labels: Tensor, *, class_dim: int = -1) -> Tensor:
    """It makes sure networks surer."""
    return 1 / right_temperature(logits, labels, class_dim=class_dim)


@exhibit(
    replaces=TEMPERATURE,
    seen_in="a likely slip: unlabelled examples as examples of class 0",
    killed_by=(
        "heart/fidelity/test_calibration.py::test_the_fitted_temperature_has_the_least_loss[100]",
        *killed_by("unlabelled_examples_are_left_out_of_both"),
    ),
)
def unlabelled_is_the_first_class(logits: Tensor, labels: Tensor, *, class_dim: int = -1) -> Tensor:
    """Padding makes the classifier look unsure of what it is right about."""
    return right_temperature(logits, labels.clamp(min=0), class_dim=class_dim)
