"""Factor transfer, checked against Kim et al. 2018 and against what others got wrong."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.feature import Paraphraser, Translator, factor_transfer_loss
from tests import checks

STUDENT, TEACHER = checks.randn(4, 3, 2, 5, seed=1), checks.randn(4, 3, 2, 5, seed=2)


def test_loss_matches_the_definition() -> None:
    total = 0.0
    for s, t in zip(STUDENT.flatten(1).tolist(), TEACHER.flatten(1).tolist(), strict=True):
        s_norm, t_norm = (math.sqrt(sum(x * x for x in row)) for row in (s, t))
        total += sum(abs(a / s_norm - b / t_norm) for a, b in zip(s, t, strict=True))
    assert factor_transfer_loss(STUDENT, TEACHER).item() == pytest.approx(total / STUDENT.numel(), rel=1e-12)


def test_known_value() -> None:
    # (3, 4)/5 against (0, 1): (0.6 + 0.2) / 2; a second example that agrees up to scale halves it
    student, teacher = torch.tensor([[3.0, 4.0], [1.0, 2.0]]), torch.tensor([[0.0, 2.0], [10.0, 20.0]])
    assert factor_transfer_loss(student[:1], teacher[:1]).item() == pytest.approx(0.4, rel=1e-6)
    assert factor_transfer_loss(student, teacher).item() == pytest.approx(0.2, rel=1e-6)


def test_zero_where_they_agree_and_positive_elsewhere() -> None:
    assert factor_transfer_loss(TEACHER, TEACHER) == 0
    assert factor_transfer_loss(STUDENT, TEACHER) > 0
    assert factor_transfer_loss(-TEACHER, TEACHER) > 0  # the sign is part of a factor, unlike in attention


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_each_examples_scale_is_forgotten(seed: int, scale: float) -> None:
    student, teacher = checks.randn(3, 4, 2, seed=seed), checks.randn(3, 4, 2, seed=seed + 1)
    plain = factor_transfer_loss(student, teacher)
    factors = torch.tensor([scale, 1.0, 1 / scale], dtype=torch.float64).view(3, 1, 1)
    assert_close(factor_transfer_loss(factors * student, teacher / factors), plain)
    assert not torch.isclose(factor_transfer_loss(student * torch.tensor([1.0, 9.0]), teacher), plain)  # of one place
    order = torch.tensor([2, 0, 3, 1])
    assert_close(factor_transfer_loss(student[:, order], teacher[:, order]), plain)
    assert not torch.isclose(factor_transfer_loss(student[:, order], teacher), plain)


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda s, t: factor_transfer_loss(s, t), STUDENT, TEACHER, per_example=False)


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t: factor_transfer_loss(s, t), STUDENT, TEACHER)


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e4])
def test_extreme_factors_stay_finite(scale: float) -> None:
    student, teacher = (features / features.abs().max() * scale for features in (STUDENT, TEACHER))
    plain = factor_transfer_loss(STUDENT, TEACHER)
    if scale > 1e-8:  # float16 has nothing smaller
        checks.check_extremes(lambda s, t: factor_transfer_loss(s, t), student, teacher)
        checks.check_extremes(lambda s, t: factor_transfer_loss(s, t), torch.ones(1, 3), torch.ones(1, 3))
    assert_close(factor_transfer_loss(student.float(), teacher.float()).double(), plain, rtol=1e-5, atol=0)


def test_a_silent_student_gets_a_gradient_of_ordinary_size() -> None:
    for dtype in (torch.float16, torch.float32):
        student = torch.zeros(4, 3, 2, 5, dtype=dtype, requires_grad=True)
        factor_transfer_loss(student, TEACHER.to(dtype)).backward()
        assert 0 < student.grad.abs().max() < 1
        assert factor_transfer_loss(STUDENT, torch.zeros_like(TEACHER)).isfinite()


def test_features_far_from_zero_keep_their_precision() -> None:
    student, teacher = (checks.randn(16, 8, 4, 4, seed=s).add(1000).float() for s in (3, 4))
    exact = factor_transfer_loss(student.double(), teacher.double())
    assert_close(factor_transfer_loss(student, teacher).double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("places", [(5, 6), (7,)], ids=["image", "signal"])
def test_paraphraser_and_translator_meet_in_the_factors(places: tuple[int, ...]) -> None:
    torch.manual_seed(5)
    paraphraser, translator = Paraphraser(6, 3), Translator(4, 3)
    teacher, student = torch.randn(2, 6, *places), torch.randn(2, 4, *places)
    assert paraphraser(teacher).shape == translator(student).shape == (2, 3, *places)
    factor_transfer_loss(translator(student), paraphraser(teacher)).backward()
    assert all(p.grad is None for p in paraphraser.parameters())
    assert all(p.grad is not None for p in translator.parameters())


def test_a_signal_is_an_image_of_height_one() -> None:
    translator, signal = Translator(4, 3), checks.randn(2, 4, 9, seed=6, dtype=torch.float32)
    assert_close(translator(signal), translator(signal.unsqueeze(2)).squeeze(2))


def test_the_layers_are_those_of_the_authors() -> None:
    paraphraser = Paraphraser(6, 3)
    encoder = [tuple(p.shape) for p in paraphraser.encoder.parameters()]
    decoder = [tuple(p.shape) for p in paraphraser.decoder.parameters()]
    assert encoder == [(6, 6, 3, 3), (6,), (3, 6, 3, 3), (3,), (3, 3, 3, 3), (3,)]
    assert decoder == [(3, 3, 3, 3), (3,), (3, 6, 3, 3), (6,), (6, 6, 3, 3), (6,)]  # transposed: input first
    slopes = [part.negative_slope for part in paraphraser.modules() if isinstance(part, nn.LeakyReLU)]
    assert slopes == [0.1] * 6
    assert [tuple(p.shape) for p in Translator(6, 3).parameters()] == encoder


def test_the_reconstruction_loss_is_the_mean_absolute_error_of_the_whole_autoencoder() -> None:
    torch.manual_seed(7)
    paraphraser, teacher = Paraphraser(3, 2), checks.randn(4, 3, 4, 5, seed=8, dtype=torch.float32).requires_grad_()
    decoded = paraphraser.decoder(paraphraser(teacher))
    loss = paraphraser.reconstruction_loss(teacher)
    expected = sum((d - t).abs().sum().item() for d, t in zip(decoded, teacher, strict=True)) / teacher.numel()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert teacher.grad is None
    assert all(p.grad is not None for p in paraphraser.parameters())


def test_bad_input_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"got \(4, 3, 2, 4\) from the student and \(4, 3, 2, 5\).*adaptive_avg_pool2d"
    ):
        factor_transfer_loss(STUDENT[..., :4], TEACHER)
    with pytest.raises(TypeError, match=r"the teacher's features must be floating point, got torch\.int64"):
        factor_transfer_loss(STUDENT, TEACHER.long())
    with pytest.raises(ValueError, match=r"not empty, got \(0, 3, 2, 5\)"):
        factor_transfer_loss(STUDENT[:0], TEACHER[:0])
    with pytest.raises(ValueError, match=r"expected maps \(B, 5, H, W\) or \(B, 5, L\), got shape \(4, 3, 2, 5\)"):
        Translator(5, 2)(STUDENT)
    with pytest.raises(ValueError, match=r"expected maps \(B, 3, H, W\) .* got shape \(4, 3\)"):
        Paraphraser(3, 2).reconstruction_loss(STUDENT[..., 0, 0])
    with pytest.raises(ValueError, match="factor_channels must be at least 1, got 0"):
        Paraphraser(3, 0)


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: factor_transfer_loss(s, t), STUDENT, TEACHER)


def test_a_tiny_student_learns_a_tiny_teacher() -> None:
    torch.manual_seed(9)
    x = checks.randn(16, 3, 4, 4, seed=10, dtype=torch.float32)
    teacher = nn.Conv2d(3, 6, 3, padding=1)(x).relu().detach()
    paraphraser, student, translator = Paraphraser(6, 3), nn.Conv2d(3, 4, 3, padding=1), Translator(4, 3)

    def train(parameters: list[nn.Parameter], loss, steps: int) -> tuple[float, float]:  # first and last loss
        optimizer, losses = torch.optim.Adam(parameters, lr=0.02), []
        for _ in range(steps):
            losses.append(loss())
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        return losses[0].item(), losses[-1].item()

    def transfer() -> Tensor:
        return factor_transfer_loss(translator(student(x)), paraphraser(teacher))

    first, last = train([*paraphraser.parameters()], lambda: paraphraser.reconstruction_loss(teacher), 150)
    assert last < first / 1.5
    first, last = train([*student.parameters(), *translator.parameters()], transfer, 150)
    assert last < first / 3
