"""The experiments of lesson 16 on subliminal learning and marked text: what students start from and read."""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.lab.experiments import _provenance_text, provenance_subliminal, provenance_watermark
from kdref.lab.models import make
from kdref.provenance import green_list

V = _provenance_text.VOCABULARY


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# Subliminal learning --------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
    """No training: the weights that each network starts with, and what it is shown."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def look(model: nn.Module, x: Tensor, said: Tensor, **_: object) -> nn.Module:
        seen.append((weights(model), x, said))
        return model.eval()

    monkeypatch.setattr(provenance_subliminal, "learn", look)
    provenance_subliminal.teacher.cache_clear()
    yield seen
    provenance_subliminal.teacher.cache_clear()


def test_students_start_where_their_arm_says(quick: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    same, last = provenance_subliminal.first_weights(3), 128 * 20 + 20
    starts = {arm: weights(provenance_subliminal.start(3, arm)) for arm in provenance_subliminal.ARMS}
    common = ("same start", "labels of nothing", "untrained teacher")
    assert all(torch.equal(start, weights(same)) == (arm in common) for arm, start in starts.items())
    assert torch.equal(starts["another start, longer"], starts["another start"])
    borrowed = starts["another start, same last layer"]
    assert torch.equal(borrowed[-last:], weights(same)[-last:])
    assert torch.equal(borrowed[:-last], starts["another start"][:-last])
    assert_close(starts["half way"], (weights(same) + starts["another start"]) / 2)
    provenance_subliminal.teacher(3)
    assert torch.equal(quick[-1][0], weights(same)), "the teacher started there too"


def test_the_student_sees_noise_and_the_logits_that_mean_nothing(quick: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    provenance_subliminal.run(3, "another start")
    _, x, said = quick[-1]
    model = provenance_subliminal.teacher(3)
    assert x.min() >= -1
    assert x.max() <= 1
    assert abs(x.mean()) < 0.01
    assert said.shape == (provenance_subliminal.STEPS * provenance_subliminal.BATCH_SIZE, 10)
    assert_close(said[:20], model(x[:20])[:, 10:], rtol=1e-4, atol=1e-5)
    tested = provenance_subliminal.noise(3_000_003, 1000)
    assert (torch.cdist(tested.flatten(1), x[:5000].flatten(1)) > 0.1).all()


def test_teachers_learn_right_labels_shuffled_ones_or_none(quick: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    y = provenance_subliminal.known(3).train_y
    for kind in ("right", "nothing", "none"):
        provenance_subliminal.teacher(3, kind)
    (_, x, right), (_, _, shuffled) = quick
    assert torch.equal(right, y)
    assert x.min() == -1
    assert not torch.equal(shuffled, y)
    assert torch.equal(shuffled.bincount(), y.bincount())


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["noise", "blank", "one image"]),
    logits=st.sampled_from([slice(0, 4), slice(4, 9), slice(8, 9)]),
    scale=st.floats(0.1, 10),
)
def test_a_small_step_towards_a_teacher_of_the_same_start_lowers_its_loss(
    seed: int, kind: str, logits: slice, scale: float
) -> None:
    """Theorem 1 of Cloud et al. 2025: on any inputs, towards any outputs. The slope is minus a square."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(30, 1, 6, generator=generator).double(), torch.randint(4, (30,), generator=generator)
    shown = {"noise": 20, "blank": 1, "one image": 1}[kind]
    inputs = scale * torch.randn(shown, 1, 6, generator=generator).double() * (kind != "blank")
    student = make("mlp-8", num_classes=9, shape=(1, 6), seed=seed).double()
    teacher, epsilon = copy.deepcopy(student), 1e-6
    slopes = torch.autograd.grad(F.cross_entropy(student(x)[:, :4], y), tuple(student.parameters()))
    with torch.no_grad():
        for own, slope in zip(teacher.parameters(), slopes, strict=True):
            own -= epsilon * slope
    gap = (teacher(inputs) - student(inputs))[:, logits].detach()
    (student(inputs)[:, logits] * gap).sum().backward()  # minus the gradient of half the squared distance
    moved = [own.grad for own in student.parameters() if own.grad is not None]
    change = sum((slope * step).sum() for slope, step in zip(slopes, moved, strict=True))
    assert change <= 1e-18
    assert_close(change, -gap.square().sum() / epsilon, rtol=1e-3, atol=1e-14)


# Marked text ----------------------------------------------------------------------------------------------------------


def test_a_bigram_model_counts_and_falls_back_on_how_common_a_word_is() -> None:
    text = torch.tensor([1, 2, 1, 2, 1, 3])
    model = _provenance_text.count(text).exp()
    assert_close(model.sum(-1), torch.ones(V, dtype=torch.float64))
    anywhere = torch.tensor([1.0, 3, 3, 2]) / (5 + V)  # each word after another, and one more of everything
    assert_close(model[1, 2].item(), (2 + 100 * anywhere[2].item()) / 103)
    assert_close(model[7, :4], anywhere.double())


def test_what_a_model_writes_is_as_common_as_it_says() -> None:
    model = torch.full((V, V), -math.inf, dtype=torch.float64)
    model[0, 1], model[0, 2], model[1, 0], model[2, 0] = math.log(0.75), math.log(0.25), 0.0, 0.0
    text = _provenance_text.write(model, 20_000, seed=0)
    assert text.shape == (200, 101)
    assert (text[:, 0::2] == 0).all()
    assert abs((text[:, 1::2] == 1).double().mean() - 0.75) < 0.02
    assert torch.equal(text, _provenance_text.write(model, 20_000, seed=0))
    assert not torch.equal(text, _provenance_text.write(model, 20_000, seed=1))


def test_a_paraphrase_replaces_so_many_words() -> None:
    text = torch.full((100, 101), 5)
    other = torch.full((V, V), -math.inf, dtype=torch.float64)
    other[:, 7] = 0.0
    half = _provenance_text.paraphrased(text, other, 0.5, seed=0)
    assert set(half[:, 1:].unique().tolist()) == {5, 7}
    assert abs((half == 7).double().mean() - 0.5) < 0.02
    assert (_provenance_text.paraphrased(text, other, 1.0, seed=0)[:, 1:] == 7).all()
    assert torch.equal(_provenance_text.paraphrased(text, other, 0.0, seed=0), text)


def test_the_share_of_marked_text_is_that_of_the_arm() -> None:
    plain, marked = (provenance_watermark.read(4, f"marked: {share} %") for share in (0, 100))
    assert plain.shape == marked.shape == (1000, 101)
    for share in (5, 20):
        mixed = provenance_watermark.read(4, f"marked: {share} %")
        assert torch.equal(mixed[: 10 * share], marked[: 10 * share])
        assert torch.equal(mixed[10 * share :], plain[10 * share :])
    foreign = provenance_watermark.read(4, "another key: 100 %")
    both = provenance_watermark.read(4, "half of two owners'")
    assert torch.equal(both[:500], marked[::2])
    assert torch.equal(both[500:], foreign[::2])
    people = provenance_watermark.read(4, "people's text")
    assert torch.equal(people, _provenance_text.words().train[len(_provenance_text.words().train) // 2 :])


def test_marked_text_is_found_and_unmarked_text_is_not() -> None:
    found = {arm: provenance_watermark.run(5, arm) for arm in ("marked: 0 %", "marked: 100 %", "another key: 100 %")}
    assert found["marked: 100 %"]["log10_p_500"] < -10
    assert all(found[arm]["log10_p_10000"] > -4 for arm in ("marked: 0 %", "another key: 100 %"))
    assert found["marked: 0 %"]["alarms"] <= 0.2
    assert found["marked: 0 %"]["alarms_repeated"] > found["marked: 0 %"]["alarms"]
    assert found["marked: 0 %"]["nll"] < found["marked: 100 %"]["nll"] < math.log(V)


def test_alarms_count_keys_by_each_pair_once_and_by_all_that_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pairs, seven times in all: both green under some keys, p is then 1/4 counted once and 1/128 repeated."""
    text = torch.tensor([[3, 4] * 4])
    monkeypatch.setattr(provenance_watermark, "KEYS", 30)
    found = provenance_watermark.alarms(text, 0)
    keys = range(provenance_watermark.key_of(0) + 2_000_000, provenance_watermark.key_of(0) + 2_000_030)
    lists = [green_list(torch.tensor([3, 4]), vocabulary=V, key=key) for key in keys]
    both = [bool(green[0, 4] and green[1, 3]) for green in lists]
    assert 0 < sum(both) < 30
    assert found["alarms"] == 0
    assert found["alarms_repeated"] == pytest.approx(sum(both) / 30)
