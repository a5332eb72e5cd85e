"""Lesson 08's experiments: labels that are wrong as often as is said, and methods that do what their names say."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdref.lab.data import digits
from kdref.lab.experiments import _self_distillation as shared
from kdref.lab.experiments import self_distillation_labels as experiment
from kdref.lab.experiments import self_distillation_labels_tuning as tuning
from kdref.lab.experiments import self_distillation_views as views
from kdref.lab.experiments._self_distillation import METHODS, SHARES, Ensemble, Seen, labelled, mates
from kdref.lab.training.batches import teacher_outputs

OUT = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 0.0]])
ELSE = torch.tensor([[0.0, 3.0, 1.0], [1.0, 0.0, 0.0]])
Y = torch.tensor([0, 2])


def seen(progress: float = 0.5) -> Seen:
    return Seen(OUT, Y, ELSE, ELSE, progress)


@pytest.mark.parametrize("share", SHARES.values())
def test_labels_are_wrong_as_often_as_is_said(share: float) -> None:
    wrong = [(labelled(seed, share)[1] != digits(seed).train_y).double().mean().item() for seed in range(4)]
    assert abs(sum(wrong) / 4 - share) < 0.02
    assert all(set(labelled(seed, share)[1].tolist()) == set(range(10)) for seed in range(4))
    assert (share > 0) == (len(set(wrong)) > 1)


def test_a_mate_is_another_of_the_class_or_oneself_where_there_is_none() -> None:
    y = torch.tensor([3, 1, 3, 3, 7])
    torch.manual_seed(0)
    drawn = torch.stack([mates(y) for _ in range(50)])
    assert (y[drawn] == y).all()
    assert (drawn[:, [1, 4]] == torch.tensor([1, 4])).all()
    assert set(drawn[:, 0].tolist()) == {2, 3}


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    targets = 0.7 * F.one_hot(Y, 3) + 0.1
    expected = -(targets * OUT.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(METHODS["label smoothing"].loss(seen(), 0.3), expected)


def test_a_virtual_teacher_is_strong_smoothing_at_its_temperature() -> None:
    out, y = torch.randn(5, 10, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 3, 9, 1])
    row = Seen(out.requires_grad_(), y, out, out, 1.0)
    pull = torch.autograd.grad(METHODS["virtual teacher"].loss(row, 0.9), out)[0]
    smoothed = F.cross_entropy(out / 4, y, label_smoothing=5 / 6)  # 81 to 1, the fourth root: 3 to 1
    torch.testing.assert_close(pull, 16 * torch.autograd.grad(smoothed, out)[0])


def test_progressive_targets_begin_with_the_labels() -> None:
    torch.testing.assert_close(METHODS["progressive"].loss(seen(0.0), 0.8), F.cross_entropy(OUT, Y))
    mixed = 0.6 * F.one_hot(Y, 3) + 0.4 * ELSE.softmax(-1)
    torch.testing.assert_close(METHODS["progressive"].loss(seen(0.5), 0.8), F.cross_entropy(OUT, mixed))


def test_who_is_taught_looks_at_the_teacher_and_not_at_the_labels() -> None:
    for name in ("born again", "shuffled"):
        torch.manual_seed(0)
        first = METHODS[name].loss(seen(), 2.0)
        torch.manual_seed(0)
        torch.testing.assert_close(METHODS[name].loss(seen()._replace(y=torch.tensor([1, 1])), 2.0), first)
    argmax = experiment.TAUGHT["argmax"].loss(seen(), 0.0)
    torch.testing.assert_close(argmax, F.cross_entropy(OUT, torch.tensor([1, 0])))


def test_an_ensemble_averages_probabilities() -> None:
    nets = [nn.Linear(2, 3), nn.Linear(2, 3)]
    x = torch.tensor([[1.0, -2.0], [0.0, 5.0]])
    p = torch.stack([net(x).softmax(-1) for net in nets]).mean(0)
    torch.testing.assert_close(Ensemble(nets)(x).softmax(-1), p)


def test_what_is_stopped_early_is_the_best_on_validation_images() -> None:
    split = digits(3)
    found: list[float] = []

    def look(net: nn.Module) -> None:
        found.append((teacher_outputs(net, split.validation_x).argmax(-1) == split.validation_y).sum().item())

    shared.trained(shared.LABELS, 0.0, seed=3, share=0.3, after_epoch=look)
    best = shared.stopped_early(seed=3, share=0.3)
    assert len(found) == shared.EPOCHS
    right = (teacher_outputs(best, split.validation_x).argmax(-1) == split.validation_y).sum().item()
    assert right == max(found) > found[-1]


def test_a_generation_is_taught_by_the_one_before_from_other_first_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int, object]] = []

    def trained(method: shared.Method, setting: float, *, start: int = 0, teacher: object = None, **_: object) -> str:
        name = "labels" if method is shared.LABELS else next(n for n, m in METHODS.items() if m is method)
        calls.append((name, start, teacher))
        return f"network {start}"

    monkeypatch.setattr(shared, "trained", trained)
    monkeypatch.setattr(shared, "teacher_outputs", lambda net, _: f"logits of {net}")
    shared.first_network.cache_clear()
    assert shared.born_again(2.0, seed=5, share=0.3, generations=2) == "network 0"
    shared.first_network.cache_clear()
    again = "born again"
    assert calls == [("labels", 2, None), (again, 1, "logits of network 2"), (again, 0, "logits of network 1")]


def test_the_chosen_setting_is_the_best_of_those_tried() -> None:
    means = tuning.load("self_distillation_labels_tuning").groupby("arm")["accuracy"].mean()
    for labels in SHARES:
        for name, method in METHODS.items():
            found = {setting: means[f"{labels} | {name} | {setting:g}"] for setting in method.settings}
            assert found[tuning.chosen(labels, name)] == max(found.values())
    used = set(tuning.load("self_distillation_labels")["seed"])
    assert not used & set(tuning.SEEDS)


def test_neighbours_are_those_of_the_first_labelled_images() -> None:
    split = digits(0)
    found = torch.cdist(split.test_x.flatten(1), split.train_x[:100].flatten(1)).argmin(1)
    expected = (split.train_y[:100][found] == split.test_y).double().mean().item()
    assert views.nearest(nn.Flatten(), split) == pytest.approx(expected)


def test_views_differ_by_a_pixel_at_most_and_by_noise() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 4, 4] = 100
    for seed in range(20):
        pair = shared.two_views(image, torch.Generator().manual_seed(seed))
        assert not torch.equal(*pair)
        for view in pair:
            row, column = divmod(view.flatten().argmax().item(), 8)
            assert max(abs(row - 4), abs(column - 4)) <= 1
