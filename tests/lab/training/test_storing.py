"""A teacher's outputs, stored once and read back: what is kept, what is refused, and what a padded entry counts."""

import functools
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, StackDataset

from kdref.lab.training import fingerprints
from kdref.lab.training.batches import teacher_outputs
from kdref.lab.training.stored import HEAD, StoredOutputs, header
from kdref.lab.training.storing import Written, store
from kdref.language import sampled_teacher, sparse_teacher, sparse_teacher_loss
from tests.lab import stored_mine as mine

TOP = functools.partial(sparse_teacher, k=3)
NAMES = ("indices", "log_probs", "tail_log_mass")
SMALL = {"batch_size": 4, "shard_size": 8}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_logits_are_those_of_the_teacher_by_index(tmp_path: Path) -> None:
    teacher = mine.teacher().train()
    done = store(teacher, mine.data(), tmp_path, **SMALL)
    assert done == Written(shards=7, written=7, damaged=0)
    assert teacher[1].training, "its mode is restored"
    stored, expected = StoredOutputs(tmp_path, teacher=teacher, data=mine.data()), teacher_outputs(teacher, mine.X)
    assert len(stored) == mine.EXAMPLES
    for index in (0, 7, 8, 49, -1, 30):
        torch.testing.assert_close(stored[index], {"logits": expected[index]})
    with pytest.raises(IndexError, match=r"index must be in \[0, 50\), got 50"):
        stored[50]
    assert stored.errors == {}


def test_nothing_is_loaded_that_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(mine.teacher(), mine.data(), tmp_path, **SMALL)
    stored = StoredOutputs(tmp_path)
    assert stored._open == {}
    stored[9]
    assert list(stored._open) == [1]
    for index in range(mine.EXAMPLES):
        stored[index]
    assert len(stored._open) <= 16


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_gives_examples_and_outputs_side_by_side(tmp_path: Path, workers: int) -> None:
    teacher = mine.teacher()
    store(teacher, mine.data(), tmp_path, **SMALL)
    stored = StoredOutputs(tmp_path)
    stored[3]  # is open, and still goes to a worker
    both = DataLoader(StackDataset(mine.data(), stored), batch_size=10, shuffle=True, num_workers=workers)
    for (x, _), outputs in both:
        torch.testing.assert_close(outputs["logits"], teacher_outputs(teacher, x))
    assert pickle.loads(pickle.dumps(stored))[4]["logits"].shape == (mine.CLASSES,)


@pytest.mark.parametrize("data", [mine.X, list(mine.X)], ids=["a tensor", "a list"])
def test_data_may_be_a_tensor_or_a_list(tmp_path: Path, data: Any) -> None:
    store(mine.teacher(), data, tmp_path, **SMALL)
    torch.testing.assert_close(StoredOutputs(tmp_path)[20]["logits"], teacher_outputs(mine.teacher(), mine.X)[20])


def test_half_precision_states_its_error_and_reads_back_in_the_teachers_kind(tmp_path: Path) -> None:
    store(mine.teacher(), mine.data(), tmp_path, dtype=torch.float16, **SMALL)
    stored, expected = StoredOutputs(tmp_path), teacher_outputs(mine.teacher(), mine.X)
    read = torch.stack([stored[index]["logits"] for index in range(mine.EXAMPLES)])
    assert read.dtype == torch.float32
    error = (read - expected).abs().max().item()
    assert error == pytest.approx(stored.errors["logits"], rel=1e-3)
    assert 0 < error <= 2**-11 * expected.abs().max().item()
    sizes = [load_file(path)["logits"].element_size() for path in tmp_path.glob("*.safetensors")]
    assert sizes == [2] * 7


def test_the_top_words_of_ragged_texts_are_kept_with_their_tail(tmp_path: Path) -> None:
    model = mine.language_model()
    options = {"pack": TOP, "names": NAMES, "mask": mine.real_tokens, "tokenizer": mine.tokenizer()}
    for side in ("left", "right"):
        store(model, mine.Texts(side), tmp_path / side, **options, **SMALL)
        stored = StoredOutputs(tmp_path / side, tokenizer=mine.tokenizer())
        for index in (0, 5, 8, 49):
            length = int(mine.LENGTHS[index])
            words = mine.TEXTS[index, :length]
            expected = TOP(3 * model.table(words).detach())
            found = stored[index]
            assert list(found) == sorted(NAMES)
            for name, value in zip(NAMES, expected, strict=True):
                torch.testing.assert_close(found[name], value)
    kept = load_file(tmp_path / "right" / "00000-of-00007.safetensors")
    assert kept["indices"].dtype == torch.int32
    assert len(kept["indices"]) == mine.LENGTHS[:8].sum()


def test_a_padded_entry_never_counts_as_word_0(tmp_path: Path) -> None:
    options = {"pack": TOP, "names": NAMES, "mask": mine.real_tokens}
    store(mine.language_model(), mine.texts(), tmp_path, **options, **SMALL)
    stored = StoredOutputs(tmp_path)
    chosen = [0, 3, 4]  # one token, four, five
    batch = StoredOutputs.padded([stored[index] for index in chosen])
    assert batch["mask"].tolist() == [[True] + [False] * 4, [True] * 4 + [False], [True] * 5]
    padded = ~batch["mask"]
    assert (batch["indices"][padded] == -1).all()
    assert (batch["log_probs"][padded] == -torch.inf).all()
    logits = torch.randn(3, 5, mine.WORDS, generator=torch.Generator().manual_seed(0)).requires_grad_()
    lists = [batch[name] for name in NAMES]
    loss = sparse_teacher_loss(logits, *lists, tail="bucket", mask=batch["mask"])
    loss.backward()
    assert (logits.grad[padded] == 0).all()
    parts = [logits[row, : len(stored[index]["indices"])].detach() for row, index in enumerate(chosen)]
    flat = [torch.cat([stored[index][name] for index in chosen]) for name in NAMES]
    torch.testing.assert_close(loss.detach(), sparse_teacher_loss(torch.cat(parts), *flat, tail="bucket"))


def nucleus(logits: Tensor) -> dict[str, Tensor]:
    """Words up to 90 % of the mass: lists of different lengths, filled up with word 0 at no probability."""
    indices, log_probs, _ = sparse_teacher(logits, k=8)
    over = log_probs.exp().cumsum(-1) - log_probs.exp() > 0.9
    rest = F.log_softmax(logits, dim=-1).scatter(-1, indices, log_probs.masked_fill(~over, -torch.inf))
    log_probs, indices = log_probs.masked_fill(over, -torch.inf), indices.masked_fill(over, 0)
    return {"indices": indices, "log_probs": log_probs, "tail_log_mass": rest.logsumexp(dim=-1)}


def test_lists_of_different_lengths_stay_so_and_their_filling_is_no_word(tmp_path: Path) -> None:
    options = {"pack": nucleus, "mask": mine.real_tokens, "dtype": torch.float16}
    store(mine.language_model(), mine.texts(), tmp_path, **options, **SMALL)
    found = StoredOutputs(tmp_path)[5]
    ends = (found["log_probs"] == -torch.inf).sum(dim=1)
    assert len(ends.unique()) > 1, "else the test sees nothing"
    logits = torch.zeros(6, mine.WORDS)
    lists = [found[name] for name in NAMES]
    expected = []
    for row, end in enumerate(ends.tolist()):
        short = [x[row : row + 1, : 8 - end] for x in lists[:2]]
        expected.append(sparse_teacher_loss(logits[row : row + 1], *short, lists[2][row : row + 1], tail="bucket"))
    torch.testing.assert_close(sparse_teacher_loss(logits, *lists, tail="bucket"), torch.stack(expected).mean())


def test_samples_are_the_same_whoever_draws_them(tmp_path: Path) -> None:
    pack = functools.partial(sampled_teacher, k=5)
    for name, count in {"one": 1, "three": 3}.items():
        for rank in reversed(range(count)):
            torch.manual_seed(rank)
            options = {"pack": pack, "names": ("indices", "log_weights"), "seed": 7}
            store(mine.teacher(), mine.data(), tmp_path / name, rank=rank, count=count, **options, **SMALL)
    assert files(tmp_path / "one") == files(tmp_path / "three")


def test_each_shard_and_seed_draws_its_own_samples(tmp_path: Path) -> None:
    alike, drawn = torch.zeros(16, 4), []
    for seed in (0, 1):
        options = {"pack": functools.partial(sampled_teacher, k=9), "names": ("indices", "log_weights"), "seed": seed}
        store(mine.teacher(), alike, tmp_path / str(seed), **options, **SMALL)
        stored = StoredOutputs(tmp_path / str(seed))
        drawn += [torch.stack([stored[i]["indices"] for i in part]) for part in (range(8), range(8, 16))]
    for number, one in enumerate(drawn):
        assert not any(torch.equal(one, other) for other in drawn[:number])


def test_storing_leaves_the_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    store(mine.teacher(), mine.data(), tmp_path, **SMALL)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-3],
        lambda b: b"",
        lambda b: b[:-1] + bytes([b[-1] ^ 1]),
        lambda b: b.replace(b"float32", b"float64"),
    ],
    ids=["cut short", "emptied", "one bit", "its header"],
)
def test_a_damaged_shard_is_noticed_and_made_anew(tmp_path: Path, damage: Any) -> None:
    store(mine.teacher(), mine.data(), tmp_path, **SMALL)
    before = files(tmp_path)
    path = tmp_path / "00002-of-00007.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"00002-of-00007.safetensors is damaged.*: run store_teacher again"):
        StoredOutputs(tmp_path)[17]
    assert store(mine.teacher(), mine.data(), tmp_path, **SMALL) == Written(7, written=1, damaged=1)
    assert files(tmp_path) == before


def test_what_is_missing_is_counted(tmp_path: Path) -> None:
    store(mine.teacher(), mine.data(), tmp_path, rank=0, count=2, **SMALL)
    with pytest.raises(FileNotFoundError, match="lacks 3 of 7 shards: run store_teacher again, it goes on there"):
        StoredOutputs(tmp_path)


def test_hashes_see_every_kind_of_change() -> None:
    of = fingerprints.of_data
    pairs = [([1], ["1"]), ([1], [1.0]), ([True], [1]), ([[1, 2]], [(1, [2])]), ([{"a": 1}], [{"b": 1}])]
    pairs += [([torch.zeros(2, 3)], [torch.zeros(3, 2)]), ([torch.zeros(1)], [torch.zeros(1).int()]), ([b"a"], ["a"])]
    pairs += [(["ab", "c"], ["a", "bc"]), (mine.X, mine.X + 1e-7), ([1, 2], [1, 2, 2])]
    for one, other in pairs:
        assert of(one) == of(one)
        assert of(one) != of(other), (one, other)
    assert of([torch.tensor(2.0)]) != of([torch.tensor(3.0)])
    long = torch.arange(5000.0)
    assert of(list(long)) != of([*long[:-1], torch.tensor(0.0)])
    with pytest.raises(TypeError, match="can't hash a object in the data"):
        of([object()])

    class Tokenizer:
        def __init__(self, words: dict[str, int]) -> None:
            self.words = words

        def get_vocab(self) -> dict[str, int]:
            return self.words

    assert fingerprints.of_tokenizer(Tokenizer({"a": 0, "b": 1})) == fingerprints.of_tokenizer(
        Tokenizer({"b": 1, "a": 0})
    )
    assert fingerprints.of_tokenizer(Tokenizer({"a": 0})) != fingerprints.of_tokenizer(Tokenizer({"a": 1}))
    with pytest.raises(TypeError, match="tokenizer must have get_vocab, or be a text, got int"):
        fingerprints.of_tokenizer(3)


def test_the_header_says_what_a_shard_is(tmp_path: Path) -> None:
    store(mine.teacher(), mine.data(), tmp_path, dtype=torch.bfloat16, **SMALL)
    about = header(tmp_path / "00000-of-00007.safetensors")
    assert about["kinds"] == {"logits": "float32"}
    assert about["provenance"] == json.loads((tmp_path / HEAD).read_text())
    assert about["provenance"]["pack"] == "logits"
    assert about["errors"]["logits"] > 0
