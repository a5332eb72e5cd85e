"""The averaged teacher, checked against its definition and against what others got wrong."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.self_distillation import EmaTeacher
from tests import checks


def student_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def trained(net: nn.Module, steps: int = 3) -> nn.Module:
    """Change parameters and buffers."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for step in range(steps):
        loss = net(3 + 2 * checks.randn(8, 3, seed=step, dtype=torch.float32)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def averaged(decay: float, updates: int = 1) -> tuple[dict[str, Tensor], EmaTeacher, nn.Module]:
    net = student_net()
    teacher = EmaTeacher(net, decay=decay)
    before = state(net)
    trained(net)
    for _ in range(updates):
        teacher.update(net)
    return before, teacher, net


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99, 1.0])
def test_parameters_and_buffers_are_averaged_and_counts_copied(decay: float) -> None:
    before, teacher, net = averaged(decay)
    after, now = state(teacher.module), state(net)
    assert set(after) == set(now)
    for name in ("0.weight", "1.weight", "1.running_mean", "1.running_var", "3.bias"):
        assert not torch.equal(before[name], now[name]), f"{name} did not change: the test shows nothing"
        expected = [
            decay * old + (1 - decay) * new
            for old, new in zip(before[name].flatten().tolist(), now[name].flatten().tolist(), strict=True)
        ]
        assert after[name].flatten().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert after["1.num_batches_tracked"].item() == (0 if decay == 1 else 3)


def test_limits_of_the_decay_are_exact() -> None:
    before, teacher, _ = averaged(1.0, updates=5)
    assert all(torch.equal(value, before[name]) for name, value in state(teacher.module).items())
    _, teacher, net = averaged(0.0)
    assert all(torch.equal(value, state(net)[name]) for name, value in state(teacher.module).items())


def test_a_count_of_batches_is_copied_not_averaged() -> None:
    _, teacher, net = averaged(0.99, updates=2)
    assert teacher.module[1].num_batches_tracked.item() == net[1].num_batches_tracked.item() == 3


def test_known_value_of_two_updates() -> None:
    # from 0 towards 1 with decay 3/4: 1/4, then 1/4 + 1/4 · 3/4 = 7/16
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(0.0)
    teacher = EmaTeacher(net, decay=0.75)
    net.weight.data.fill_(1.0)
    for expected in (0.25, 0.4375):
        teacher.update(net)
        assert teacher.module.weight.item() == expected


def test_a_long_average_is_the_geometric_sum() -> None:
    net = nn.Linear(1, 1, bias=False).double()
    net.weight.data.fill_(2.0)
    teacher, decay = EmaTeacher(net, decay=0.9), 0.9
    values = [math.sin(step) for step in range(20)]
    for value in values:
        net.weight.data.fill_(value)
        teacher.update(net)
    expected = decay**20 * 2.0 + sum((1 - decay) * decay ** (19 - k) * value for k, value in enumerate(values))
    assert teacher.module.weight.item() == pytest.approx(expected, rel=1e-12)


def test_the_decay_can_follow_a_schedule() -> None:
    net = nn.Linear(1, 1, bias=False)
    teacher = EmaTeacher(net, decay=1.0)
    net.weight.data.add_(1.0)
    teacher.decay = 0.0
    teacher.update(net)
    assert torch.equal(teacher.module.weight, net.weight)
    teacher.decay = 1.1
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\], got 1.1"):
        teacher.update(net)


def test_the_teacher_is_a_frozen_copy_in_eval_mode_for_good() -> None:
    net = student_net()
    teacher = EmaTeacher(net, decay=0.9)
    whole = nn.ModuleList([net, teacher]).train()
    assert whole.training
    assert not any(module.training for module in teacher.modules())
    x = checks.randn(5, 3, seed=9, dtype=torch.float32)
    before = state(teacher)
    first, again = teacher(x), teacher(x)
    assert_close(first, again, rtol=0, atol=0)  # no dropout, no batch statistics
    assert not first.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in state(teacher).items())
    assert not any(p.requires_grad for p in teacher.parameters())
    trained(net)
    assert all(torch.equal(value, before[name]) for name, value in state(teacher).items()), "it follows without update"
    assert all(p.requires_grad for p in net.parameters())
    student_before = state(net)
    teacher.update(net)
    assert all(torch.equal(value, student_before[name]) for name, value in state(net).items())


def test_tied_parameters_and_hidden_buffers_are_averaged_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    net.register_buffer("hidden", torch.zeros(1), persistent=False)
    net[0].weight.data.fill_(0.0)
    teacher = EmaTeacher(net, decay=0.5)
    net[0].weight.data.fill_(4.0)
    net.hidden.fill_(2.0)
    teacher.update(net)
    assert teacher.module[0].weight is teacher.module[1].weight
    assert (teacher.module[0].weight == 2.0).all()
    assert teacher.module.hidden.item() == 1.0


def test_it_is_saved_and_restored() -> None:
    _, teacher, _ = averaged(0.5)
    fresh = EmaTeacher(student_net(5), decay=0.5)
    fresh.load_state_dict(teacher.state_dict())
    x = checks.randn(5, 3, seed=9, dtype=torch.float32)
    assert_close(fresh(x), teacher(x), rtol=0, atol=0)


def test_small_steps_are_lost_in_bfloat16_as_the_docstring_warns() -> None:
    for dtype, moves in ((torch.float32, True), (torch.bfloat16, False)):
        net = nn.Linear(1, 1, bias=False, dtype=dtype)
        net.weight.data.fill_(1.0)
        teacher = EmaTeacher(net, decay=0.999)
        net.weight.data.fill_(2.0)
        teacher.update(net)
        assert (teacher.module.weight.item() != 1.0) == moves


def test_another_students_form_is_refused() -> None:
    teacher = EmaTeacher(nn.Linear(3, 2), decay=0.9)
    with pytest.raises(ValueError, match=r"not of the teacher's form: \['bias'\] differ"):
        teacher.update(nn.Linear(3, 2, bias=False))
    with pytest.raises(ValueError, match="not of the teacher's form: shapes differ"):
        teacher.update(nn.Linear(4, 2))
    for decay in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"decay must be in \[0, 1\], got {decay}"):
            EmaTeacher(nn.Linear(3, 2), decay=decay)
