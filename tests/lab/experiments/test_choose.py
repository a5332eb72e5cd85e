"""Lesson 18's benchmark: every loss trains, its settings are searched for as said, and its weight's unit is one."""

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from kdref.lab.experiments import _choose, choose_images, choose_longer, choose_signals, choose_tuning
from kdref.lab.experiments._choose import Activations, Built, Meeting, Rows, taught_inside, unit_of
from kdref.lab.experiments._choose_grids import DECAY, LADDERS, WEIGHT, WHERE, Ladder, climbed
from kdref.lab.experiments._response import METHODS
from kdref.lab.experiments.choose_tuning import PAIRS, Choice, Pair, arm_of, beside, chosen, searched, taught
from kdref.lab.models import make

ALONE = [pair for pair in PAIRS if pair.mode == "alone"]
CNN, MLP, IMAGES = _choose.STUDENTS


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Teachers without training, one epoch, 60 examples, nothing chosen yet."""
    signals, images = make("cnn1d-32", seed=0).eval(), make("cnn2d-32", shape=(1, 28, 28), seed=0).eval()
    split = _choose.checkpoints.load("mnist5k-cnn2d-32")[1]
    monkeypatch.setattr(_choose, "signals_teacher", lambda *_, **__: signals)
    monkeypatch.setattr(_choose.checkpoints, "load", lambda _: (images, split))
    short = {name: plan._replace(examples=60, epochs=1) for name, plan in _choose.STUDENTS.items()}
    monkeypatch.setattr(_choose, "STUDENTS", short)
    monkeypatch.setattr(choose_tuning, "chosen", lambda _: Choice(4.0, 0.1))
    _choose.known.cache_clear()
    yield
    _choose.known.cache_clear()


def first_of(pair: Pair) -> float:
    """A setting of a pair's ladder."""
    if pair.name == "cross-entropy":
        return 0.0
    return LADDERS.get(pair.name, WEIGHT).first[0]


# Training ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", ALONE, ids=str)
def test_every_loss_trains_its_student_the_same_way_twice(pair: Pair, quick: None) -> None:
    first, again = (choose_tuning.run(5000, arm_of(pair, first_of(pair), 0.1)) for _ in range(2))
    assert first == again
    assert 0 < first["accuracy"] < 1


def test_a_loss_of_weight_zero_leaves_what_it_is_added_to(quick: None) -> None:
    hint = "hint (FitNets)"  # of the perceptron: BatchNorm would see a batch more, for the weight's unit
    for mode, outside in (("alone", "cross-entropy"), ("with soft targets", "soft targets")):
        alone = taught(Pair(MLP, outside), Choice(4.0, 0.1), seed=3)["nll"]
        assert taught(Pair(MLP, hint, mode), Choice(0.0, 0.1), seed=3)["nll"] == pytest.approx(alone, rel=1e-6)
        assert taught(Pair(MLP, hint, mode), Choice(1.0, 0.1), seed=3)["nll"] != pytest.approx(alone, rel=1e-4)
    one, other = (taught(Pair(MLP, hint, mode), Choice(1.0, 0.1), seed=3)["nll"] for mode in _choose.MODES)
    assert one != pytest.approx(other, rel=1e-4)


def test_a_run_of_the_benchmark_says_what_was_chosen_for_it(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, student in ((choose_signals, MLP), (choose_images, IMAGES)):
        monkeypatch.setattr(module, "chosen", lambda _: Choice(2.0, 0.3))
        found = module.run(3, f"{student} | soft targets | alone")
        assert (found["setting"], found["decay"]) == (2.0, 0.3)
        assert {"accuracy", "nll", "agreement", "training_accuracy"} < set(found)


def test_longer_is_the_same_run_with_more_epochs(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_longer, "STUDENTS", _choose.STUDENTS)
    for module in (choose_images, choose_longer):
        monkeypatch.setattr(module, "chosen", lambda _: Choice(2.0, 0.3))
    arm = f"{IMAGES} | soft targets | alone"
    longer = choose_longer.run(3, arm)
    monkeypatch.setattr(choose_longer, "TIMES", 1)
    assert choose_longer.run(3, arm) == choose_images.run(3, arm) != longer


def test_tuning_sees_validation_examples_and_a_seed_draws_those_of_the_student(quick: None) -> None:
    for task in ("signals", "images"):
        tuning, final, other = (_choose.known(task, 60, *more) for more in ((3, True), (3, False), (4, False)))
        assert len(tuning.split.test_x) == _choose.VALIDATION
        assert len(final.split.test_x) in (1000, 1500)
        assert len(final.split.train_x) == len(final.activations["late"]) == 60
        assert not torch.equal(final.split.train_x, other.split.train_x)
        with torch.no_grad():
            assert_close(final.teacher(final.split.train_x), final.activations["logits"])
            assert_close(final.teacher(final.split.test_x), final.test_logits)


def test_weight_decay_acts_on_the_student_and_not_on_a_learnt_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(_choose, "fit", lambda _, __, ___, optimizer, **____: seen.append(optimizer.param_groups))
    student, own = nn.Linear(2, 2), nn.Parameter(torch.ones(1))
    split = _choose.parts()
    plan = _choose.STUDENTS[MLP]
    _choose._train(lambda _: {}, student, split.train_y, plan, split, seed=0, decay=0.3, also=[own])
    ((weights, temperature),) = seen
    assert (weights["weight_decay"], temperature["weight_decay"]) == (0.3, 0.0)
    assert [id(p) for p in weights["params"]] == [id(p) for p in student.parameters()]
    assert [id(p) for p in temperature["params"]] == [id(own)]


def test_a_loss_sees_the_teacher_on_the_examples_of_the_batch(quick: None) -> None:
    all_known, seen = _choose.known("signals", 60, 3), []

    def build(meeting: Meeting) -> Built:
        assert meeting.student == {"early": 8, "middle": 8, "late": 8, "before": 8, "pooled": 8, "logits": 10}
        assert meeting.teacher == {"early": 32, "middle": 32, "late": 32, "before": 32, "pooled": 32, "logits": 10}

        def term(s: Activations, t: Activations) -> torch.Tensor:
            assert_close(t["pooled"], all_known.activations["pooled"][t["number"]], rtol=0, atol=0)
            seen.append(t["number"])
            return s["pooled"].square().mean()

        return Built(term)

    taught_inside(CNN, build, seed=3, weight=1.0, temperature=None, decay=0.0)
    assert seen[0].tolist() == list(range(50))  # the weight's unit is taken on the first ones
    assert sorted(torch.cat(seen[1:]).tolist()) == list(range(60))


def test_rows_are_looked_up_by_number() -> None:
    rows = Rows({"a": torch.arange(5), "b": torch.zeros(5)}, torch.tensor([3, 1]))
    assert rows["a"].tolist() == [3, 1]
    assert (list(rows), len(rows)) == (["a", "b"], 2)


def test_at_weight_one_both_gradients_are_of_one_size() -> None:
    student, x = nn.Linear(3, 2), torch.eye(3)
    outside, inside = student(x).square().sum(), 100 * student(x)[:, 0].exp().sum()
    unit = unit_of(student, outside, inside)
    sizes = [
        torch.cat([g.flatten() for g in torch.autograd.grad(term, list(student.parameters()), retain_graph=True)])
        for term in (outside, unit * inside)
    ]
    assert_close(sizes[0].norm(), sizes[1].norm())


# Settings ------------------------------------------------------------------------------------------------------------

LADDER = Ladder((0, 1, 2, 3, 4, 5, 6), first=(2, 3, 4), borders=(0,))


def climbing(curve: Mapping[float, float], ladder: Ladder = LADDER) -> tuple[tuple[float, ...], float, str]:
    """Run what is asked for until something is chosen."""
    found: dict[float, float] = {}
    for _ in ladder.values:
        climb = climbed(ladder, found)
        if climb.best is not None:
            break
        assert set(found) < set(climb.tried)
        found |= {value: curve[value] for value in climb.tried}
    assert climb.best is not None
    return climb.tried, climb.best, climb.where


def test_three_settings_do_where_the_best_is_the_middle_one() -> None:
    assert climbing({2: 0.5, 3: 0.6, 4: 0.5}) == ((2, 3, 4), 3, "inside")


def test_the_list_grows_on_the_side_of_the_best_until_that_lies_inside() -> None:
    assert climbing({2: 0.5, 3: 0.6, 4: 0.7, 5: 0.8, 6: 0.7}) == ((2, 3, 4, 5, 6), 5, "inside")
    assert climbing({1: 0.6, 2: 0.5, 3: 0.4, 4: 0.3, 0: 0.5}) == ((0, 1, 2, 3, 4), 1, "inside")


def test_a_last_step_of_less_than_half_a_point_is_flat() -> None:
    assert climbing({2: 0.5, 3: 0.6, 4: 0.604}) == ((2, 3, 4), 4, "flat")
    assert climbing({2: 0.604, 3: 0.6, 4: 0.5}) == ((2, 3, 4), 2, "flat")
    assert climbing({2: 0.5, 3: 0.6, 4: 0.7, 5: 0.702}) == ((2, 3, 4, 5), 5, "flat")  # counted from the last but one
    assert climbing({2: 0.5, 3: 0.6, 4: 0.606, 5: 0.5})[2] == "inside"


def test_a_border_and_the_end_of_a_list_that_is_too_short_are_told_apart() -> None:
    rising = {value: 0.5 + 0.01 * value for value in range(7)}
    assert climbing(rising) == ((2, 3, 4, 5, 6), 6, "end")
    assert climbing({value: 1 - share for value, share in rising.items()}) == ((0, 1, 2, 3, 4), 0, "border")
    assert {"inside", "flat", "border", "end"} == set(WHERE)


def test_every_ladder_begins_with_three_of_its_values_and_has_room() -> None:
    assert set(LADDERS) == set(METHODS) - {"cross-entropy"}
    for name, ladder in {**LADDERS, "decay": DECAY, "weight": WEIGHT}.items():
        low = ladder.values.index(ladder.first[0])
        assert ladder.first == ladder.values[low : low + 3], name
        assert list(ladder.values) == sorted(set(ladder.values)), name
        assert low > 0 or ladder.values[0] in ladder.borders, name
        assert ladder.first[-1] < ladder.values[-1] or ladder.values[-1] in ladder.borders, name


def all_searched(pair: Pair, accuracy: Mapping[str, float]) -> tuple[set[str], Choice]:
    """Run what a search asks for, until it has chosen."""
    means: dict[str, float] = {}
    for _ in range(40):
        found = searched(pair, means)
        for other in (pair, beside(pair)):
            means |= {arm: accuracy.get(arm, 0.5) for arm in searched(other, means).arms}
        if found.choice is not None:
            return set(found.arms), found.choice
    raise AssertionError("never chosen")


def test_cross_entropy_tunes_weight_decay_only() -> None:
    pair = Pair(CNN, "cross-entropy")
    arms, choice = all_searched(pair, {f"{pair} | 0 | 0.1": 0.6})
    assert arms == {f"{pair} | 0 | {decay}" for decay in ("0", "0.1", "0.3")}
    assert choice == Choice(0.0, 0.1)


def test_a_loss_on_logits_tunes_its_setting_then_weight_decay_at_that_setting() -> None:
    pair = Pair(CNN, "soft targets")
    arms, choice = all_searched(pair, {f"{pair} | 4 | 0": 0.6, f"{pair} | 4 | 0.1": 0.7, f"{pair} | 2 | 0.1": 0.9})
    assert arms == {f"{pair} | {setting} | 0" for setting in (2, 4, 8)} | {f"{pair} | 4 | 0.1", f"{pair} | 4 | 0.3"}
    assert choice == Choice(4.0, 0.1)


@pytest.mark.parametrize(("mode", "other"), [("alone", "cross-entropy"), ("with soft targets", "soft targets")])
def test_a_loss_from_inside_waits_for_what_it_is_added_to_and_takes_its_weight_decay(mode: str, other: str) -> None:
    pair = Pair(CNN, "similarity (SP)", mode)
    assert beside(pair) == Pair(CNN, other)
    assert searched(pair, {}).arms == ()
    base = {f"{beside(pair)} | 0 | 0.3": 0.6, f"{beside(pair)} | 4 | 0": 0.6, f"{beside(pair)} | 4 | 0.3": 0.7}
    arms, choice = all_searched(pair, {**base, f"{pair} | 25 | 0.3": 0.8, f"{pair} | 5 | 0.3": 0.7})
    assert arms == {f"{pair} | {weight:g} | 0.3" for weight in (0.2, 1, 5, 25, 125)}
    assert choice == Choice(25.0, 0.3)


def test_every_student_meets_every_loss_that_fits_it() -> None:
    count = {student: sum(pair.student == student for pair in PAIRS) for student in _choose.STUDENTS}
    assert count == {CNN: 11 + 2 * 16, MLP: 11 + 2 * 9, IMAGES: 11 + 2 * 16}
    assert set(choose_signals.ARMS) | set(choose_images.ARMS) == {str(pair) for pair in PAIRS}
    assert len(PAIRS) == len(set(PAIRS)) == len(choose_signals.ARMS) + len(choose_images.ARMS)


def test_runs_that_some_seeds_lack_and_files_that_are_damaged_choose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"arm": arm, "seed": seed, "accuracy": 0.5} for arm, seeds in (("a", 3), ("b", 2)) for seed in range(seeds)]
    monkeypatch.setattr(choose_tuning.store, "read", lambda _: {"runs": rows})
    assert choose_tuning.stored_means() == {"a": 0.5}
    monkeypatch.setattr(choose_tuning.store, "read", lambda _: None)
    assert choose_tuning.stored_means() == {}
    chosen.cache_clear()
    with pytest.raises(
        LookupError, match=r"no settings are chosen for cnn1d-8 \| soft targets \| alone yet: python -m"
    ):
        chosen(Pair(CNN, "soft targets"))

    def damaged(_: str) -> None:
        raise choose_tuning.store.StoredRunsError

    monkeypatch.setattr(choose_tuning.store, "read", damaged)
    assert choose_tuning.stored_means() == {}
