"""Index-slice batches and a frozen teacher's outputs."""

from collections import OrderedDict, namedtuple

import pytest
import torch
from torch import Tensor, nn

from kdref.lab.training.batches import Batches, teacher_outputs
from tests import checks

X = torch.arange(10.0)


def teacher() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_every_example_comes_once_per_epoch() -> None:
    batches = Batches(X, batch_size=4, seed=0)
    assert [len(x) for (x,) in batches] == [4, 4, 2]
    assert torch.cat([x for (x,) in batches]).sort().values.equal(X)
    assert len(batches) == 3


def test_without_a_seed_the_order_is_kept() -> None:
    assert torch.cat([x for (x,) in Batches(X, batch_size=3)]).equal(X)


def test_rows_of_all_tensors_stay_together() -> None:
    for x, y, z in Batches(X, X * 10, X * 100, batch_size=4, seed=1):
        assert y.equal(x * 10)
        assert z.equal(x * 100)


def test_equal_seeds_give_equal_orders_and_each_epoch_a_new_one() -> None:
    first, second, other = (Batches(X, batch_size=10, seed=seed) for seed in (5, 5, 6))
    epochs = [[next(iter(batches))[0] for _ in range(2)] for batches in (first, second, other)]
    assert epochs[0][0].equal(epochs[1][0])
    assert epochs[0][1].equal(epochs[1][1])
    assert not epochs[0][0].equal(epochs[0][1])
    assert not epochs[0][0].equal(epochs[2][0])


def test_shuffling_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    list(Batches(X, batch_size=4, seed=0))
    assert torch.random.get_rng_state().equal(before)


def test_drop_last_leaves_out_a_smaller_last_batch() -> None:
    for seed in (None, 0):
        batches = Batches(X, batch_size=4, seed=seed, drop_last=True)
        assert [len(x) for (x,) in batches] == [4, 4]
        assert len(batches) == 2


def test_bad_batches_are_named() -> None:
    with pytest.raises(ValueError, match=r"share their first axis, got lengths \[10, 9\]"):
        Batches(X, X[:9], batch_size=2)
    for bad, kind in ((X.numpy(), "ndarray"), ([1, 2], "list"), ({"x": X}, "dict"), (X[0], "Tensor")):
        with pytest.raises(ValueError, match=f"takes tensors with examples first, one by one, got {kind}"):
            Batches(bad, batch_size=2)
    with pytest.raises(ValueError, match=r"share their first axis, got lengths \[\]"):
        Batches(batch_size=2)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Batches(X, batch_size=0)
    with pytest.raises(ValueError, match="0 examples make no batch of 2"):
        Batches(X[:0], batch_size=2)
    with pytest.raises(ValueError, match="10 examples make no batch of 11"):
        Batches(X, batch_size=11, drop_last=True)


def test_teacher_outputs_are_those_of_one_pass_in_eval_mode() -> None:
    model, x = teacher(), checks.randn(7, 3, dtype=torch.float32)
    outputs = teacher_outputs(model, x, batch_size=3)
    torch.testing.assert_close(outputs, model.eval()(x).detach())


def test_teacher_outputs_do_not_depend_on_the_batch_size() -> None:
    model, x = teacher(), checks.randn(6, 3, dtype=torch.float32)
    torch.testing.assert_close(teacher_outputs(model, x, batch_size=2), teacher_outputs(model, x, batch_size=3))


def test_teacher_outputs_have_no_gradient_path() -> None:
    assert not teacher_outputs(teacher(), checks.randn(4, 3, dtype=torch.float32)).requires_grad


def test_teacher_outputs_leave_the_teacher_as_it_was() -> None:
    model = teacher().train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    teacher_outputs(model, checks.randn(4, 3, dtype=torch.float32))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_teacher_outputs_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one input and a positive batch_size, got 0 and 1024"):
        teacher_outputs(teacher(), torch.zeros(0, 3))
    with pytest.raises(ValueError, match="got 4 and 0"):
        teacher_outputs(teacher(), torch.zeros(4, 3), batch_size=0)


# What goes into a teacher, and what comes out -------------------------------------------------------------------------


class Reader(nn.Module):
    """Reads token numbers and a mask, by keyword or position, and gives what ``wrap`` makes of the logits."""

    def __init__(self, wrap=lambda logits: logits) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.embedding, self.wrap = nn.Embedding(5, 3), wrap

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> object:
        return self.wrap((self.embedding(input_ids) * attention_mask[..., None]).sum(dim=1))


IDS = torch.tensor([[1, 2, 0], [3, 4, 1], [2, 0, 0], [4, 4, 0], [1, 1, 1]])
TEXT = {"attention_mask": (IDS > 0).long(), "input_ids": IDS}  # in another order than the arguments
Output = namedtuple("Output", ["hidden", "logits"])
WRAPPED = {
    "a tensor": lambda z: z,
    "a dictionary": lambda z: {"hidden": 2 * z, "logits": z},
    "a named tuple": lambda z: Output(2 * z, z),
    "Hugging Face's": lambda z: OrderedDict(loss=None, logits=z),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_teacher_outputs_of_tokenised_text_are_the_logits(wrap) -> None:  # type: ignore[no-untyped-def]
    model = Reader(wrap)
    expected = (model.embedding(IDS) * TEXT["attention_mask"][..., None]).sum(dim=1)
    for inputs in (TEXT, (IDS, TEXT["attention_mask"]), [IDS, TEXT["attention_mask"]]):
        found = teacher_outputs(model, inputs, batch_size=2)
        torch.testing.assert_close(found, expected.detach())


def test_a_real_classifier_of_text_is_read_as_it_is() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=5, num_labels=3, **size))
    found = teacher_outputs(model, TEXT, batch_size=2)
    torch.testing.assert_close(found, model.eval()(**TEXT).logits.detach())
    with pytest.raises(
        ValueError, match=r"BertModel gave a BaseModelOutput\w* of last_hidden_state, pooler_output, where"
    ):
        teacher_outputs(model.bert, TEXT)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda z: (z, 2 * z), r"Reader gave a tuple, where a tensor or something with \.logits is needed: wrap it"),
        (lambda z: {"features": z}, r"Reader gave a dict of features, where"),
        (lambda z: Output(z, None), r"Reader gave a Output of hidden, logits, where"),
        (lambda z: z.numpy(), r"Reader gave a ndarray, where"),
        (lambda z: z.T, r"for 2 examples the output is of shape \(3, 2\): examples go first"),
        (lambda z: z.mean(), r"for 2 examples the output is of shape \(\): examples go first"),
    ],
)
def test_outputs_that_are_no_rows_are_refused_and_the_mode_is_restored(wrap, message: str) -> None:  # type: ignore[no-untyped-def]
    model = Reader(wrap).train()
    with pytest.raises(ValueError, match=message):
        teacher_outputs(model, TEXT, batch_size=2)
    assert model.training


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (TEXT | {"input_ids": IDS.tolist()}, r"got \{'input_ids': 'list'\}: ask a tokenizer for return_tensors=\"pt\""),
        (TEXT | {"input_ids": IDS[:3]}, r"must be equally many, got \{'attention_mask': 5, 'input_ids': 3\}"),
        ((IDS, IDS[:2]), r"must be equally many, got \{0: 5, 1: 2\}"),
        (IDS.numpy(), "must be tensors, got {0: 'ndarray'}"),
        ({}, "at least one input and a positive batch_size, got 0 and 1024"),
        (torch.tensor(1.0), "at least one input and a positive batch_size, got 0 and 1024"),
    ],
)
def test_inputs_that_are_no_rows_are_refused(inputs: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teacher_outputs(Reader(), inputs)  # type: ignore[arg-type]
