"""Writing students: what each learns from, how they are measured, and that arms of a seed are pairs."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdref.lab.experiments import _writing as writing
from kdref.lab.experiments import _writing_pruned as pruned
from kdref.lab.experiments import _writing_stored as keeping
from kdref.lab.experiments import (
    load,
    store,
    writing_divergences,
    writing_longer,
    writing_pruned,
    writing_pruned_tuning,
    writing_stored,
    writing_stored_tuning,
    writing_tuning,
    writing_tuning_beyond,
)
from kdref.lab.models import count_parameters, writer
from kdref.lab.training.diversity import distinct_n_grams, self_bleu
from kdref.language import sparse_teacher, token_divergence
from tests import checks

FEW = 40
RATES = writing_tuning.RATES
GRIDS = {  # who was tuned, and the rates that were tried
    writing_tuning_beyond: (writing.WAYS, writing_tuning_beyond.RATES + RATES),
    writing_stored_tuning: (keeping.SPARSE, writing_stored_tuning.RATES),
    writing_pruned_tuning: (pruned.STARTS, writing_pruned_tuning.RATES),
}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Tensor]]:
    """Few sentences and texts; what a process keeps is forgotten before and after."""
    kept = (writing.said, writing._teachers_text, keeping.packed)
    parts = {part: writer.rows(part)[:FEW] for part in ("train", "validation", "test")}
    monkeypatch.setattr(writer, "rows", parts.__getitem__)
    for name, number in (("DRAWN", 20), ("JUDGED", 20), ("WARM_UP", 2)):
        monkeypatch.setattr(writing, name, number)
    for function in kept:
        function.cache_clear()
    yield parts
    for function in kept:
        function.cache_clear()


def logits_for(rows: Tensor, seed: int = 1) -> Tensor:
    return checks.randn(len(rows), writer.LENGTH - 1, writer.VOCABULARY, seed=seed, dtype=torch.float32)


def by_hand(rows: Tensor, value: Tensor) -> float:
    """Mean of a value per token over the tokens up to and with the end, in plain loops."""
    total = count = 0.0
    for row, values in zip(rows[:, 1:].tolist(), value.tolist(), strict=True):
        for token, one in zip(row, values, strict=True):
            total, count = total + one, count + 1
            if token == writer.END:
                break
    return total / count


def test_labels_are_the_cross_entropy_of_the_tokens_that_came() -> None:
    rows = writer.rows("train")[:7]
    logits = logits_for(rows)
    value = -logits.log_softmax(-1).gather(-1, rows[:, 1:, None]).squeeze(-1)
    assert writing.labels(logits, torch.arange(7), rows).item() == pytest.approx(by_hand(rows, value), rel=1e-5)


@pytest.mark.parametrize("kind", writing.DIVERGENCES)
def test_a_divergence_looks_at_what_the_teacher_says_of_these_rows_and_not_at_the_tokens_that_came(kind: str) -> None:
    numbers = torch.tensor([3, 0, 5])
    rows = writer.rows("train")[numbers]
    with torch.no_grad():
        judged = writer.teacher()(rows[:, :-1])
    logits = logits_for(rows)
    value = token_divergence(logits, judged, kind=kind, mix=writing.MIX.get(kind))
    loss = writing.divergence(kind)
    assert loss(logits, numbers, rows).item() == pytest.approx(by_hand(rows, value), rel=1e-3)  # half precision
    assert loss(judged, numbers, rows).item() == pytest.approx(0, abs=5e-3)
    other = torch.where(rows == writer.END, rows, rows % (writer.VOCABULARY - 1) + 1)  # other tokens, the same lengths
    assert torch.equal(loss(logits, numbers, other), loss(logits, numbers, rows))


def test_within_a_seed_all_ways_have_the_same_first_weights_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    began, orders = [], []

    def spy(model, rows, loss, **options):
        began.append(torch.cat([weights.detach().flatten() for weights in model.parameters()]).clone())
        seen: list[Tensor] = []
        right(model, rows, lambda logits, numbers, read: seen.append(numbers) or loss(logits, numbers, read), **options)
        orders.append(torch.cat(seen))

    right = writing.train
    monkeypatch.setattr(writing, "train", spy)
    monkeypatch.setattr(keeping, "train", spy)
    for way in writing.WAYS:
        writing.student(3, way, rate=0.01, steps=5)
    keeping.student(3, keeping.SAMPLED, rate=0.01, steps=5)
    assert all(torch.equal(began[0], other) for other in began)
    assert all(torch.equal(orders[0], other) for other in orders)
    assert len(orders[0]) == 5 * writing.BATCH_SIZE
    assert orders[0][:FEW].unique().tolist() == list(range(FEW))  # a whole pass before any row comes again
    writing.student(4, "labels", rate=0.01, steps=5)
    assert not torch.equal(began[0], began[-1])
    assert not torch.equal(orders[0], orders[-1])


def test_a_student_learns_and_the_same_seed_gives_the_same_one() -> None:
    new = writer.network(writer.STUDENT, seed=0)
    for way in ("labels", "forward", writing.THEIR_TEXT):
        model, seconds = writing.student(0, way, rate=0.01, steps=20)
        again, _ = writing.student(0, way, rate=0.01, steps=20)
        assert seconds > 0
        assert not model.training
        assert writer.nll(model, writer.rows("test")) < writer.nll(new, writer.rows("test")) - 0.5
        assert torch.equal(model.scores.weight, again.scores.weight)


def test_the_teachers_text_takes_nothing_from_the_training_sentences_but_their_number(
    few: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = writing.student(0, writing.THEIR_TEXT, rate=0.01, steps=3)
    few["train"] = torch.full_like(few["train"], 7)
    after, _ = writing.student(0, writing.THEIR_TEXT, rate=0.01, steps=3)
    assert torch.equal(before.scores.weight, after.scores.weight)


def test_the_teacher_itself_is_no_way_from_itself_and_likes_its_text_as_much_as_it_should() -> None:
    found = writing.measured(writer.teacher(), 1)
    assert found["forward"] == pytest.approx(0, abs=1e-6)
    assert found["reverse"] == pytest.approx(0, abs=1e-6)
    assert found["nll"] == pytest.approx(writer.nll(writer.teacher(), writer.rows("test")), rel=1e-5)
    assert found["train_nll"] == pytest.approx(writer.nll(writer.teacher(), writer.rows("train")[:20]), rel=1e-5)


def test_a_student_is_measured_on_its_own_text_and_on_the_teachers() -> None:
    student = writer.network(writer.STUDENT, seed=0).eval()
    found = writing.measured(student, 1)
    own = writing.write(student, 20, seed=1)
    theirs = writing.write(writer.teacher(), 20, seed=writing.TEXT_SEED)
    with torch.no_grad():
        (q, p), (log_q, log_p) = (
            [model(rows[:, :-1]) for model in (student, writer.teacher())] for rows in (own, theirs)
        )
    assert found["reverse"] == pytest.approx(by_hand(own, token_divergence(q, p, kind="reverse")), rel=1e-4)
    assert found["forward"] == pytest.approx(by_hand(theirs, token_divergence(log_q, log_p, kind="forward")), rel=1e-4)
    cross_entropy = F.cross_entropy(p.flatten(0, 1), own[:, 1:].flatten(), reduction="none").unflatten(0, p.shape[:2])
    assert found["quality"] == pytest.approx(by_hand(own, cross_entropy), rel=1e-4)
    pieces = writer.mask(own) & (own != writer.END)
    assert found["distinct"] == distinct_n_grams(own, pieces, 2)
    assert found["self_bleu"] == self_bleu(own, pieces)
    assert found["written"] == writer.mask(own).sum().item() / 20


def test_accuracy_counts_the_likeliest_token() -> None:
    rows = writer.rows("validation")
    with torch.no_grad():
        best = writer.teacher()(rows[:, :-1]).argmax(-1)
    assert writing.validated(writer.teacher())["accuracy"] == pytest.approx(
        by_hand(rows, (best == rows[:, 1:]).double()), rel=1e-6
    )


# Stored teachers ------------------------------------------------------------------------------------------------------


def test_the_sparse_keepings_take_the_bytes_that_they_say_and_the_whole_takes_two_a_word() -> None:
    sizes = {name: keeping.bytes_per_token(name, 0) for name in (keeping.WHOLE, *keeping.SPARSE)}
    entries = 6 * keeping.KEPT
    assert list(sizes.values()) == [2 * writer.VOCABULARY, entries, entries + 2, entries]


def test_with_every_word_kept_the_whole_divergence_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "KEPT", writer.VOCABULARY)
    numbers = torch.arange(4)
    rows = writer.rows("train")[:4]
    logits = logits_for(rows)
    expected = writing.divergence("forward")(logits, numbers, rows).item()
    for name in (keeping.ADDED_UP, keeping.TAIL):
        assert keeping.loss_from(name, 0)(logits, numbers, rows).item() == pytest.approx(expected, rel=2e-3)


def test_with_many_draws_the_gradient_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "KEPT", 4096)
    numbers, rows = torch.arange(2), writer.rows("train")[:2]
    gradients = []
    for loss in (keeping.loss_from(keeping.SAMPLED, 0), writing.divergence("forward")):
        logits = logits_for(rows).requires_grad_()
        loss(logits, numbers, rows).backward()
        gradients.append(logits.grad)
    assert F.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0) > 0.99


def test_made_to_add_up_the_kept_words_are_the_whole_target() -> None:
    numbers, rows = torch.arange(3), writer.rows("train")[:3]
    logits = logits_for(rows)
    indices, log_p, _ = sparse_teacher(writing.said()[:3], k=keeping.KEPT)
    target = log_p.softmax(-1)
    value = (target * (target.log() - logits.log_softmax(-1).gather(-1, indices))).sum(-1)
    loss = keeping.loss_from(keeping.ADDED_UP, 0)(logits, numbers, rows).item()
    assert loss == pytest.approx(by_hand(rows, value), rel=1e-3)


def test_with_its_tail_the_other_words_are_one_word_more() -> None:
    numbers, rows = torch.arange(3), writer.rows("train")[:3]
    logits = logits_for(rows)
    p, q = (z.softmax(-1) for z in (writing.said()[:3].float(), logits))
    kept, indices = p.topk(keeping.KEPT, dim=-1)
    learned = q.gather(-1, indices)
    tail, rest = 1 - kept.sum(-1), 1 - learned.sum(-1)
    value = (kept * (kept / learned).log()).sum(-1) + tail * (tail / rest).log()
    loss = keeping.loss_from(keeping.TAIL, 0)(logits, numbers, rows).item()
    assert loss == pytest.approx(by_hand(rows, value), rel=1e-3)


def test_draws_follow_the_seed() -> None:
    one, again, other = (keeping.packed(keeping.SAMPLED, seed)[0].clone() for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


# Pruned students ------------------------------------------------------------------------------------------------------


def test_pruned_students_have_a_students_size_and_only_the_random_cut_differs_by_seed() -> None:
    size = count_parameters(writer.network(writer.STUDENT, seed=0))
    weights = {}
    for way in (pruned.IMPORTANT, pruned.RANDOM):
        models = [pruned.pruned(way, seed) for seed in (0, 1)]
        assert [count_parameters(model) for model in models] == [size, size]
        weights[way] = [model.embed.weight for model in models]
    assert torch.equal(*weights[pruned.IMPORTANT])
    assert not torch.equal(*weights[pruned.RANDOM])


def test_a_pruned_student_learns_on_and_the_teacher_stays() -> None:
    before = writer.teacher().embed.weight.clone()
    for start in pruned.STARTS:
        model, _ = pruned.student(0, start, rate=0.004, steps=15)
        first = pruned.pruned(start.split(" | ")[0], 0)
        assert writer.nll(model, writer.rows("train")) < writer.nll(first, writer.rows("train"))
    assert torch.equal(writer.teacher().embed.weight, before)


# What is stored -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", GRIDS, ids=lambda module: module.__name__.split(".")[-1])
def test_rates_were_chosen_on_other_seeds_and_lie_inside_their_grids(module) -> None:
    assert min(*writing_tuning.SEEDS, *module.SEEDS) >= 5000
    names, rates = GRIDS[module]
    for name in names:
        assert min(rates) < module.chosen(name) < max(rates), name


def test_lower_rates_were_tried_where_the_best_lay_at_the_end_of_the_grid() -> None:
    at_the_end = {way for way in writing.WAYS if writing_tuning.chosen(way) in (min(RATES), max(RATES))}
    assert at_the_end == set(writing_tuning_beyond.WAYS)


def test_runs_that_are_not_trained_twice_are_those_of_the_other_experiment() -> None:
    for experiment, pairs in ((writing_stored, {keeping.WHOLE: "forward"}), (writing_pruned, writing_pruned.ANEW)):
        mine, theirs = load(experiment.__name__.split(".")[-1]), load("writing_divergences")
        for arm, way in pairs.items():
            for metric in ("nll", "reverse", "distinct"):
                one, other = (
                    frame[frame["arm"] == name].set_index("seed")[metric]
                    for frame, name in ((mine, arm), (theirs, way))
                )
                assert len(one) == 24
                assert (one == other).all()


def test_every_main_experiment_has_24_seeds_and_the_longer_one_is_a_slice_of_them() -> None:
    seeds = {seed for seed, _ in store.wanted("writing_divergences")}
    assert len(seeds) == 24
    assert set(writing_longer.SEEDS) < seeds
    assert set(writing_longer.ARMS) < set(writing_divergences.ARMS)
