"""CRD and its memory bank, checked against Tian et al. 2020 and against what others got wrong."""

import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from scipy.special import hyp0f1
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from kdref.relation import ContrastiveMemory, crd_loss
from tests import checks

INDICES, NEGATIVES = torch.tensor([3, 0, 7, 11, 5, 2]), torch.tensor([1, 3, 9, 9, 4, 0, 10])  # 3 and 0 are anchors too


def memory_of(width: int = 4, examples: int = 12, labels: Tensor | None = None) -> ContrastiveMemory:
    torch.manual_seed(3)
    return ContrastiveMemory(5, 8, num_examples=examples, width=width, labels=labels).double()


def units(seed: int = 4, count: int = 6, width: int = 4) -> tuple[Tensor, Tensor]:
    return tuple(F.normalize(checks.randn(count, width, seed=seed + k), dim=1) for k in (0, 1))


def crd(student: Tensor, teacher: Tensor, memory: ContrastiveMemory | None = None, temperature: float = 0.5) -> Tensor:
    batch = len(student)
    return crd_loss(student, teacher, INDICES[:batch], NEGATIVES, memory or memory_of(), temperature=temperature)


def oracle_crd(student: Tensor, teacher: Tensor, memory: ContrastiveMemory, temperature: float) -> float:
    """The definition, one example and one negative at a time."""
    noise = len(NEGATIVES) * float(hyp0f1(student.shape[1] / 2, 1 / (4 * temperature**2)))
    groups = memory.groups.tolist()

    def guess(anchor: Tensor, remembered: Tensor) -> float:
        weight = math.exp(sum(a * b for a, b in zip(anchor.tolist(), remembered.tolist(), strict=True)) / temperature)
        return weight / (weight + noise)

    total = 0.0
    for anchors, bank in ((student, memory.teacher_bank), (teacher, memory.student_bank)):
        for anchor, index in zip(anchors, INDICES.tolist(), strict=False):
            rejected = [-math.log(1 - guess(anchor, bank[k])) for k in NEGATIVES.tolist() if groups[k] != groups[index]]
            mean = sum(rejected) / len(rejected) if rejected else 0.0
            total += -math.log(guess(anchor, bank[index])) + len(NEGATIVES) * mean
    return total / len(student)


@pytest.mark.parametrize("labels", [None, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_crd_matches_the_definition(labels: Tensor | None, temperature: float) -> None:
    memory, (student, teacher) = memory_of(labels=labels), units()
    expected = oracle_crd(student, teacher, memory, temperature)
    assert crd(student, teacher, memory, temperature).item() == pytest.approx(expected, rel=1e-10)


def test_crd_is_the_authors_form_with_negatives_for_each_example() -> None:
    """Probabilities with their normalisers Z = N c, against the noise K/N: gathered example by example."""
    memory, (student, teacher) = memory_of(width=4, examples=40), units()
    negatives, indices = torch.arange(20, 40), torch.arange(6)
    ours = crd_loss(student, teacher, indices, negatives, memory, temperature=0.3)
    columns = torch.cat([indices[:, None], negatives.expand(6, 20)], dim=1)
    noise, mean = 20 / 40, float(hyp0f1(2, 1 / (4 * 0.3**2)))
    theirs = 0.0
    for anchors, bank in ((student, memory.teacher_bank), (teacher, memory.student_bank)):
        p = torch.exp(torch.einsum("bkd,bd->bk", bank[columns], anchors) / 0.3) / (40 * mean)
        theirs = theirs - (p[:, 0] / (p[:, 0] + noise)).log().sum() / 6 - (noise / (p[:, 1:] + noise)).log().sum() / 6
    assert_close(ours, theirs)


def test_known_value_of_two_alike() -> None:
    # width 1, all embeddings 1, one negative: c = cosh(1), h = e/(e + cosh 1); both directions the same
    memory = ContrastiveMemory(1, 1, num_examples=2, width=1)
    memory.student_bank.fill_(1.0)
    memory.teacher_bank.fill_(1.0)
    h = math.e / (math.e + math.cosh(1))
    loss = crd_loss(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([0]), torch.tensor([1]), memory, temperature=1.0)
    assert loss.item() == pytest.approx(-2 * math.log(h) - 2 * math.log(1 - h), rel=1e-6)


def test_the_default_temperature_is_the_authors() -> None:
    (student, teacher), memory = units(), memory_of()
    loss = crd_loss(student, teacher, INDICES, NEGATIVES, memory)
    assert_close(loss, crd(student, teacher, memory, 0.07), rtol=0, atol=0)


@pytest.mark.parametrize("width", [2, 3, 128])
def test_guesses_are_calibrated_when_the_memory_is_random(width: int) -> None:
    # in three dimensions the mean of exp(cos/τ) is τ sinh(1/τ); in any, what a large random memory gives
    torch.manual_seed(5)
    memory = ContrastiveMemory(5, 8, num_examples=20_000, width=width).double()
    anchors, _ = units(width=width)
    for temperature in (0.1, 1.0):
        negatives = torch.arange(6, 20_000)
        mean = (anchors @ memory.teacher_bank[negatives].T / temperature).exp().mean(dim=1)
        log_mean = mean.log().mean().item()
        if width == 3:
            assert math.log(temperature * math.sinh(1 / temperature)) == pytest.approx(log_mean, abs=0.05)
        # a row of zeros has cosine 0 with all: softplus(log K c) + K softplus(-log K c), which gives K c away
        zeros = torch.zeros_like(anchors)
        loss = crd_loss(zeros, zeros, torch.arange(6), negatives, memory, temperature=temperature)
        noise = math.log(len(negatives)) + log_mean
        expected = 2 * (math.log1p(math.exp(noise)) + len(negatives) * math.log1p(math.exp(-noise)))
        assert loss.item() == pytest.approx(expected, abs=0.15)


def test_batch_permutation() -> None:
    memory = memory_of()
    checks.check_batch_permutation(
        lambda s, t, i: crd_loss(s, t, i, NEGATIVES, memory), *units(), INDICES, per_example=False
    )
    plain = crd(*units(), memory)
    assert_close(crd_loss(*units(), INDICES, NEGATIVES.flip(0), memory, temperature=0.5), plain)


def test_the_anchor_itself_is_no_negative_and_none_left_costs_nothing() -> None:
    memory, (student, teacher) = memory_of(), units(count=1)
    only_itself = torch.tensor([3, 3])
    loss = crd_loss(student, teacher, torch.tensor([3]), only_itself, memory, temperature=0.5)
    noise, positive = 2 * float(hyp0f1(2, 1)), 0.0
    for anchor, bank in ((student, memory.teacher_bank), (teacher, memory.student_bank)):
        positive += math.log1p(noise / math.exp((anchor[0] @ bank[3]).item() / 0.5))
    assert loss.item() == pytest.approx(positive, rel=1e-10)


def test_gradients_reach_the_student_and_the_heads_only() -> None:
    memory = memory_of()
    for index in (0, 1):
        own, other = units()[index], units()[1 - index]
        checks.check_gradient(lambda x, o=other, i=index: crd(*((x, o) if i == 0 else (o, x)), memory), own)
    features, of_teacher = checks.randn(6, 5, seed=6).requires_grad_(), checks.randn(6, 8, seed=7).requires_grad_()
    crd(*memory(features, of_teacher), memory).backward()
    assert of_teacher.grad is None, "the teacher received a gradient"
    assert features.grad.abs().max() > 0
    for name, parameter in memory.named_parameters():
        assert parameter.grad is not None, f"{name} got no gradient"
        assert parameter.grad.abs().max() > 0, f"{name} got none"
    assert not memory.student_bank.requires_grad


@pytest.mark.parametrize(("scale", "temperature"), [(1e-4, 1.0), (1.0, 0.01), (1e4, 0.01)])
def test_extreme_features_stay_finite(scale: float, temperature: float) -> None:
    memories = {True: memory_of(), False: memory_of().float()}
    student, teacher = checks.randn(6, 5, seed=6), checks.randn(6, 8, seed=7)
    student, teacher = (x / x.abs().max() * scale for x in (student, teacher))
    some_zero = student.clone()
    some_zero[:3] = 0

    def loss(s: Tensor, t: Tensor) -> Tensor:
        memory = memories[s.dtype == torch.float64]
        return crd(*memory(s, t), memory, temperature)

    for rows in (student, student[:1], student * 0, student[:1].expand_as(student), some_zero):
        checks.check_extremes(loss, rows, teacher[: len(rows)])
    zeros = torch.zeros(6, 4)
    checks.check_extremes(lambda s, t: crd(s, t, memories[False], temperature), zeros, zeros)


def test_far_guesses_keep_their_logarithm() -> None:
    # opposite to its own memory at a small temperature: log h is about -2/τ, where 1e-7 in a probability would stop it
    memory = memory_of(width=128)
    own = -memory.teacher_bank[INDICES]
    loss = crd_loss(own, -memory.student_bank[INDICES], INDICES, NEGATIVES, memory, temperature=0.02).item()
    assert loss > 2 / 0.02


def test_the_loss_leaves_the_memory_and_the_update_moves_it() -> None:
    memory, (student, teacher) = memory_of(), units()
    before = deepcopy(memory.state_dict())
    crd(student, teacher, memory)
    assert_close(memory.state_dict(), before, rtol=0, atol=0)
    memory.update(student, teacher, INDICES)
    for bank, old, new in (
        (memory.student_bank, before["student_bank"], student),
        (memory.teacher_bank, before["teacher_bank"], teacher),
    ):
        untouched = [i for i in range(12) if i not in INDICES.tolist()]
        assert_close(bank[untouched], old[untouched], rtol=0, atol=0)
        for i, index in enumerate(INDICES.tolist()):
            mixed = 0.5 * old[index] + 0.5 * new[i]
            assert_close(bank[index], mixed / mixed.norm())


def test_momentum_is_the_share_of_the_old() -> None:
    student, teacher = units()
    fresh = ContrastiveMemory(5, 8, num_examples=12, width=4, momentum=0.0).double()
    fresh.update(student, teacher, INDICES)
    assert_close((fresh.student_bank[INDICES], fresh.teacher_bank[INDICES]), (student, teacher))
    slow = ContrastiveMemory(5, 8, num_examples=12, width=4, momentum=0.99).double()
    old = slow.student_bank.clone()
    slow.update(student, teacher, INDICES)
    assert 0 < (slow.student_bank - old).abs().max() < 0.05


def test_banks_start_at_length_one_and_stay_there() -> None:
    memory = memory_of()
    memory.update(*(1e3 * x for x in units()), INDICES)
    for bank in (memory.student_bank, memory.teacher_bank):
        assert_close(bank.norm(dim=1), torch.ones(12, dtype=torch.float64))
    assert [x.shape for x in memory(checks.randn(6, 5), checks.randn(6, 2, 4))] == [(6, 4), (6, 4)]
    assert_close(memory(checks.randn(6, 5), checks.randn(6, 8))[1].norm(dim=1), torch.ones(6, dtype=torch.float64))


def test_negatives_are_drawn_evenly_and_reproducibly() -> None:
    memory = memory_of()
    drawn = memory.draw(12_000, generator=torch.Generator().manual_seed(1))
    counts = drawn.bincount(minlength=12)
    assert counts.min() > 850
    assert counts.max() < 1150  # 1,000 expected, standard deviation 30
    assert_close(memory.draw(12_000, generator=torch.Generator().manual_seed(1)), drawn)


class Watch(TorchDispatchMode):
    """Remembers the largest tensor and which operations ran."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.operations = 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operations.add(func.overloadpacket.__name__)
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_a_step_gathers_the_negatives_once_and_never_waits_for_the_device() -> None:
    torch.manual_seed(8)
    batch, width, examples, count = 8, 16, 500, 64
    memory = ContrastiveMemory(5, 8, num_examples=examples, width=width)
    features = [checks.randn(batch, n, seed=n, dtype=torch.float32) for n in (5, 8)]
    with Watch() as watch:
        student, teacher = memory(*features)
        crd_loss(student, teacher, torch.arange(batch), memory.draw(count), memory).backward()
        memory.update(student, teacher, torch.arange(batch))
    assert watch.elements <= max(count * width, batch * count, examples * width) < batch * count * width
    assert not watch.operations & {"_local_scalar_dense", "nonzero", "is_nonzero", "randperm", "multinomial", "equal"}


def test_bad_input_is_named() -> None:
    memory, (student, teacher) = memory_of(), units()
    with pytest.raises(ValueError, match=r"both be \(B, D\), not empty, got \(6, 4\) and \(6, 3\): put a linear"):
        crd(student, teacher[:, :3], memory)
    with pytest.raises(ValueError, match=r"both be \(B, D\), not empty, got \(0, 4\) and \(0, 4\)"):
        crd(student[:0], teacher[:0], memory)
    with pytest.raises(TypeError, match=r"the teacher's embeddings must be floating point, got torch\.int64"):
        crd(student, teacher.long(), memory)
    for temperature in (0.0, -1.0, math.nan, math.inf, 1e-5):
        with pytest.raises(ValueError, match=rf"temperature must be in \[0\.0001, inf\), got {temperature}"):
            crd(student, teacher, memory, temperature)
    with pytest.raises(ValueError, match=r"embeddings \(B, 4\) of the memory's width, got \(6, 3\)"):
        crd(student[:, :3], teacher[:, :3], memory)
    with pytest.raises(ValueError, match=r"indices must be one number for each of 6 rows, got \(5,\)"):
        crd_loss(student, teacher, INDICES[:5], NEGATIVES, memory)
    with pytest.raises(ValueError, match=r"negatives must not be empty: use memory\.draw\(K\)"):
        crd_loss(student, teacher, INDICES, NEGATIVES[:0], memory)
    with pytest.raises(TypeError, match=r"negatives must be a tensor of int64, got torch\.int32"):
        crd_loss(student, teacher, INDICES, NEGATIVES.int(), memory)
    with pytest.raises(ValueError, match=r"expected 5 features per example, got \(6, 4\)"):
        memory(student, checks.randn(6, 8))
    for settings, message in (
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1\.0"),
        ({"labels": torch.zeros(3).long()}, r"labels must be one number for each of 12 rows, got \(3,\)"),
        ({"width": 0}, "width must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ContrastiveMemory(5, 8, **{"num_examples": 12, **settings})


def test_compiles_to_one_graph() -> None:
    memory = memory_of()
    checks.check_compiles(lambda s, t: crd(s, t, memory), *units())


def test_a_tiny_student_learns_to_find_its_partner() -> None:
    torch.manual_seed(9)
    x = checks.randn(32, 6, seed=10)
    teacher = (x @ checks.randn(6, 8, seed=11)).tanh()
    memory = ContrastiveMemory(5, 8, num_examples=32, width=8).double()
    student, order = nn.Linear(6, 5, dtype=torch.float64), torch.arange(32)
    optimizer = torch.optim.Adam([*student.parameters(), *memory.parameters()], lr=0.03)

    def found() -> float:
        one, other = memory(student(x), teacher)
        return ((one @ other.T).argmax(dim=1) == order).double().mean().item()

    before = found()
    for _ in range(150):
        pair = memory(student(x), teacher)
        optimizer.zero_grad()
        crd_loss(*pair, order, memory.draw(64), memory).backward()
        optimizer.step()
        memory.update(*pair, order)
    assert before < 0.3
    assert found() > 0.8
