"""Knowledge review, checked against Chen et al. 2021 and against what others got wrong."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kdref.feature import ReviewFusion, hierarchical_context_loss
from tests import checks

STUDENT, TEACHER = checks.randn(3, 2, 8, 8, seed=1), checks.randn(3, 2, 8, 8, seed=2)
MAPS = [checks.randn(4, c, n, n, seed=c, dtype=torch.float32) for c, n in ((3, 8), (4, 4), (5, 1))]
SIZES = [(16, 16), (4, 4), (1, 1)]


def fusion(**settings: int) -> ReviewFusion:
    torch.manual_seed(3)
    return ReviewFusion([3, 4, 5], [6, 7, 8], **settings)


def oracle(student: Tensor, teacher: Tensor) -> float:
    """Full size and the levels 4, 2 and 1, in Python loops over blocks; sizes are multiples of the levels."""
    side = student.shape[-1]
    loss = weight = total = 0.0
    for level, share in ((side, 1.0), *((k, None) for k in (4, 2, 1) if k < side)):
        weight = share or weight / 2
        block, squares = side // level, []
        for s, t in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True):
            for i in range(level):
                for j in range(level):
                    places = [(i * block + a, j * block + b) for a in range(block) for b in range(block)]
                    means = [sum(m[place].item() for place in places) / block**2 for m in (s, t)]
                    squares.append((means[0] - means[1]) ** 2)
        loss += weight * sum(squares) / len(squares)
        total += weight
    return loss / total


@pytest.mark.parametrize("side", [8, 4, 2, 1])
def test_context_loss_matches_the_definition(side: int) -> None:
    student, teacher = STUDENT[..., :side, :side], TEACHER[..., :side, :side]
    assert hierarchical_context_loss(student, teacher).item() == pytest.approx(oracle(student, teacher), rel=1e-12)


def test_known_value() -> None:
    # a difference of 2 at one of four places: mean square 1 at full size, (2/4)² = 0.25 at 1×1 with half the weight
    teacher = torch.tensor([[[[2.0, 0.0], [0.0, 0.0]]]])
    assert hierarchical_context_loss(torch.zeros(1, 1, 2, 2), teacher).item() == pytest.approx((1 + 0.125) / 1.5)


@pytest.mark.parametrize(
    ("side", "weights"), [(8, (1, 2, 4, 8)), (4, (1, 2, 4)), (3, (1, 2, 4)), (2, (1, 2)), (1, (1,))]
)
def test_the_weights_used_are_halves_that_sum_to_one(side: int, weights: tuple[int, ...]) -> None:
    # the same shift everywhere has the same error at every level, so only the weights' sum shows
    assert hierarchical_context_loss(torch.zeros(2, 3, side, side), torch.full((2, 3, side, side), 3.0)) == 9.0
    if side % 2 == 0:  # a chessboard averages to nothing: only the full size is left
        chess = torch.tensor([1.0, -1.0]).repeat(side // 2)
        board = (chess.view(-1, 1) * chess).expand(1, 1, side, side)
        expected = 1 / sum(1 / w for w in weights)
        assert hierarchical_context_loss(torch.zeros(1, 1, side, side), board).item() == pytest.approx(expected)


def test_an_oblong_map_uses_the_levels_below_its_shorter_side() -> None:
    student, teacher = checks.randn(2, 3, 3, 8, seed=4), checks.randn(2, 3, 3, 8, seed=5)
    gap = student - teacher
    levels = [F.adaptive_avg_pool2d(gap, level).square().mean() for level in (2, 1)]
    expected = (gap.square().mean() + levels[0] / 2 + levels[1] / 4) / 1.75
    assert_close(hierarchical_context_loss(student, teacher), expected)


def test_zero_where_they_agree_and_positive_elsewhere() -> None:
    assert hierarchical_context_loss(TEACHER, TEACHER) == 0
    assert hierarchical_context_loss(STUDENT, TEACHER) > 0


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10))
def test_flips_change_nothing_and_shuffled_places_do(seed: int, scale: float) -> None:
    student, teacher = checks.randn(2, 1, 8, 8, seed=seed), checks.randn(2, 1, 8, 8, seed=seed + 1)
    plain = hierarchical_context_loss(student, teacher)
    assert_close(hierarchical_context_loss(student.flip(-1), teacher.flip(-1)), plain)
    assert_close(hierarchical_context_loss(student.mT, teacher.mT), plain)
    assert_close(hierarchical_context_loss(scale * student + 5, scale * teacher + 5), scale**2 * plain)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    shuffled = [m.flatten(2)[..., order].view_as(m) for m in (student, teacher)]
    assert not torch.isclose(hierarchical_context_loss(*shuffled), plain, rtol=1e-6)  # neighbours are averaged


def test_signals_are_averaged_along_their_one_axis() -> None:
    student, teacher = checks.randn(2, 3, 8, seed=6), checks.randn(2, 3, 8, seed=7)
    gap = student - teacher
    pooled = [gap.unflatten(-1, (level, 8 // level)).mean(-1).square().mean() for level in (4, 2, 1)]
    expected = (gap.square().mean() + pooled[0] / 2 + pooled[1] / 4 + pooled[2] / 8) / 1.875
    assert_close(hierarchical_context_loss(student, teacher), expected)


def test_batch_permutation() -> None:
    checks.check_batch_permutation(lambda s, t: hierarchical_context_loss(s, t), STUDENT, TEACHER, per_example=False)


def test_gradients_reach_the_student_only() -> None:
    checks.check_gradient(lambda s, t: hierarchical_context_loss(s, t), STUDENT, TEACHER)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extreme_maps_stay_finite(scale: float) -> None:
    student, teacher = (maps / maps.abs().max() * scale for maps in (STUDENT, TEACHER))
    for maps in (student, student[:1], torch.zeros_like(student), torch.ones_like(student)):
        checks.check_extremes(lambda s, t: hierarchical_context_loss(s, t), maps, teacher[: len(maps)])


def test_features_far_from_zero_keep_their_precision() -> None:
    student, teacher = (checks.randn(2, 2, 16, 16, seed=s).add(1000).float() for s in (8, 9))
    exact = hierarchical_context_loss(student.double(), teacher.double())
    assert_close(hierarchical_context_loss(student, teacher).double(), exact, rtol=1e-6, atol=0)


def test_fusion_matches_the_definition() -> None:
    module = fusion(mid_channels=2).eval()
    guesses = module(MAPS, sizes=SIZES)
    with torch.no_grad():
        deeper = module.narrow[2](MAPS[2])
        expected = [module.guess[2](deeper)]
        for stage in (1, 0):
            own = module.narrow[stage](MAPS[stage])
            deeper = deeper.repeat_interleave(own.shape[2] // deeper.shape[2], 2)
            deeper = deeper.repeat_interleave(own.shape[3] // deeper.shape[3], 3)  # nearest neighbour
            weight, bias = module.mix[stage].weight[..., 0, 0], module.mix[stage].bias
            both = torch.cat([own, deeper], 1)
            gates = 1 / (1 + torch.exp(-torch.einsum("oc,bchw->bohw", weight, both) - bias.view(2, 1, 1)))
            deeper = gates[:, :1] * own + gates[:, 1:] * deeper
            deeper = deeper.repeat_interleave(SIZES[stage][0] // deeper.shape[2], 2)
            deeper = deeper.repeat_interleave(SIZES[stage][1] // deeper.shape[3], 3)
            expected.insert(0, module.guess[stage](deeper))
    for guess, wanted in zip(guesses, expected, strict=True):
        assert_close(guess, wanted)


def test_fusion_gives_each_stage_the_teachers_shape() -> None:
    shapes = [tuple(guess.shape) for guess in fusion()(MAPS, sizes=SIZES)]
    assert shapes == [(4, 6, 16, 16), (4, 7, 4, 4), (4, 8, 1, 1)]
    own = [tuple(guess.shape[2:]) for guess in fusion()(MAPS)]
    assert own == [(8, 8), (4, 4), (1, 1)]
    signals = [maps[:, :, 0] for maps in MAPS]
    shapes = [tuple(guess.shape) for guess in fusion()(signals, sizes=[(16,), (4,), (1,)])]
    assert shapes == [(4, 6, 16), (4, 7, 4), (4, 8, 1)]


def test_shallow_guesses_review_the_deeper_maps_and_not_the_other_way_round() -> None:
    for guessed in range(3):
        maps = [m.clone().requires_grad_() for m in MAPS]
        fusion()(maps, sizes=SIZES)[guessed].square().sum().backward()
        assert [m.grad is not None for m in maps] == [stage >= guessed for stage in range(3)]


def test_the_common_width_is_the_deepest_maps_but_at_most_512() -> None:
    assert ReviewFusion([3, 4, 5], [6, 7, 8]).narrow[0][0].out_channels == 5
    assert ReviewFusion([3, 600], [6, 7]).narrow[0][0].out_channels == 512
    assert ReviewFusion([3, 4], [6, 7], mid_channels=9).guess[1][0].in_channels == 9


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"got \(3, 2, 8, 8\) from the student and \(3, 2, 4, 4\)"):
        hierarchical_context_loss(STUDENT, TEACHER[..., :4, :4])
    with pytest.raises(ValueError, match=r"needs maps .*got shape \(3, 2\): see hint_loss"):
        hierarchical_context_loss(STUDENT[..., 0, 0], TEACHER[..., 0, 0])
    with pytest.raises(TypeError, match=r"the teacher's features must be floating point, got torch\.int64"):
        hierarchical_context_loss(STUDENT, TEACHER.long())
    with pytest.raises(ValueError, match=r"equally many stages, at least one, got \[3, 4\] and \[5\]"):
        ReviewFusion([3, 4], [5])
    with pytest.raises(ValueError, match=r"teacher_channels\[1\] must be at least 1, got 0"):
        ReviewFusion([3, 4], [5, 0])
    with pytest.raises(ValueError, match=r"C in \[3, 4, 5\], got shapes \[\(4, 5, 1, 1\)"):
        fusion()(MAPS[::-1])
    with pytest.raises(ValueError, match=r"one size of 2 numbers for each .* got \[\(16, 16\), \(4, 4\)\]"):
        fusion()(MAPS, sizes=SIZES[:2])


def test_compiles_to_one_graph() -> None:
    checks.check_compiles(lambda s, t: hierarchical_context_loss(s, t), STUDENT, TEACHER)


def test_a_tiny_student_learns_a_tiny_teacher() -> None:
    torch.manual_seed(10)
    x = checks.randn(8, 1, 8, 8, seed=11, dtype=torch.float32)
    teacher = [x.repeat(1, 3, 1, 1).cos(), F.avg_pool2d(x, 2).sin()]
    student, module = torch.nn.Conv2d(1, 4, 3, padding=1), ReviewFusion([4, 4], [3, 1])
    optimizer = torch.optim.Adam([*student.parameters(), *module.parameters()], lr=0.02)

    def loss() -> Tensor:
        maps = student(x).tanh()
        guesses = module([maps, F.avg_pool2d(maps, 2)], sizes=[t.shape[2:] for t in teacher])
        return sum(hierarchical_context_loss(guess, t) for guess, t in zip(guesses, teacher, strict=True))

    first = loss().item()
    for _ in range(150):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < first / 3
