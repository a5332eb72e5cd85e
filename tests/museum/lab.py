"""Wrong versions of the lab: state and training."""

import torch
from torch import Tensor, nn

from kdref.lab.training.batches import Batches
from kdref.lab.training.forward import calls, examples_in, first_tensor, forward
from kdref.lab.training.measure import measure
from kdref.lab.training.taps import Taps
from tests.museum import exhibit


def loop(step, trainable, batches, optimizer, *, epochs, before=None, **_):  # type: ignore[no-untyped-def]
    """A bare loop for the exhibits: mode is whatever ``before`` makes it."""
    rows = []
    for epoch in range(1, epochs + 1):
        total = count = 0.0
        if before is not None:
            before(epoch)
        for batch in batches:
            terms = step(batch)
            optimizer.zero_grad()
            terms["loss"].backward()
            optimizer.step()
            total, count = total + terms["loss"].item() * len(batch[0]), count + len(batch[0])
        rows.append({"epoch": float(epoch), "loss": total / count})
    return rows


@exhibit(
    replaces="kdref.lab.training.fit:fit",
    seen_in="SforAiDl/KD_Lib",
    killed_by=("lab/training/test_fit.py::test_the_student_is_in_train_mode_in_every_epoch",),
)
def student_left_in_eval_mode(step, trainable, batches, optimizer, *, epochs, after_epoch=None, **_):  # type: ignore[no-untyped-def]
    """PITFALLS 20: train mode is set once, so the first validation switches dropout and BatchNorm off for good."""
    trainable.train()
    rows = []
    for epoch in range(1, epochs + 1):
        rows += loop(step, trainable, batches, optimizer, epochs=1)
        if after_epoch is not None:
            after_epoch(epoch)
    return rows


@exhibit(
    replaces="kdref.lab.training.fit:fit",
    seen_in="neuralmagic/sparseml PR 2191, before the repair",
    killed_by=("lab/training/test_fit.py::test_a_frozen_teacher_is_bit_identical_afterwards",),
)
def teacher_put_in_train_mode(step, trainable, batches, optimizer, *, epochs, **_):  # type: ignore[no-untyped-def]
    """PITFALLS 20: train mode reaches the teacher, whose BatchNorm statistics drift even under no_grad."""
    modules = [cell.cell_contents for cell in step.__closure__ if isinstance(cell.cell_contents, nn.Module)]
    return loop(step, trainable, batches, optimizer, epochs=epochs, before=lambda _: [m.train() for m in modules])


@exhibit(
    replaces="kdref.lab.training.batches:teacher_outputs",
    seen_in="SforAiDl/KD_Lib",
    killed_by=("lab/training/test_batches.py::test_teacher_outputs_have_no_gradient_path",),
)
def teacher_with_gradient(teacher: nn.Module, inputs: Tensor, *, batch_size: int = 1024) -> Tensor:
    """PITFALLS 21: the teacher runs outside no_grad, so its gradients accumulate."""
    return torch.cat([teacher(chunk) for chunk in inputs.split(batch_size)])


@exhibit(
    replaces="kdref.lab.training.batches:teacher_outputs",
    seen_in="SforAiDl/KD_Lib",
    killed_by=("lab/training/test_batches.py::test_teacher_outputs_leave_the_teacher_as_it_was",),
)
@torch.no_grad()
def teacher_left_in_eval_mode(teacher: nn.Module, inputs: Tensor, *, batch_size: int = 1024) -> Tensor:
    """PITFALLS 20: the mode is not restored."""
    teacher.eval()
    return torch.cat([teacher(chunk) for chunk in inputs.split(batch_size)])


@exhibit(
    replaces="kdref.lab.training.batches:teacher_outputs",
    seen_in="a likely slip: in train mode the outputs depend on the batch's statistics",
    killed_by=("lab/training/test_batches.py::test_teacher_outputs_do_not_depend_on_the_batch_size",),
)
@torch.no_grad()
def teacher_in_train_mode(teacher: nn.Module, inputs: Tensor, *, batch_size: int = 1024) -> Tensor:
    """PITFALLS 20: eval mode is forgotten."""
    return torch.cat([teacher(chunk) for chunk in inputs.split(batch_size)])


@exhibit(
    replaces="kdref.lab.training.batches:Batches",
    seen_in="haitongli/knowledge-distillation-pytorch #16, #17",
    killed_by=("lab/training/test_batches.py::test_rows_of_all_tensors_stay_together",),
)
class CachedOutputsNotShuffled(Batches):
    """PITFALLS 22: the inputs are shuffled, the cached teacher outputs are not."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        start = 0
        for first, *rest in super().__iter__():
            stop = start + len(first)
            yield (first, *(tensor[start:stop] for tensor in self.tensors[1:])) if rest else (first,)
            start = stop


@exhibit(
    replaces="kdref.lab.training.fit:fit",
    seen_in="a likely slip: the mean of batch means gives a small last batch too much weight",
    killed_by=("lab/training/test_fit.py::test_means_are_weighted_by_examples",),
)
def mean_of_means(step, trainable, batches, optimizer, *, epochs, **_):  # type: ignore[no-untyped-def]
    """Each batch counts the same, whatever its size."""
    values = [step(batch)["loss"].item() for batch in batches]
    return [{"epoch": 1.0, "loss": sum(values) / len(values)}] * epochs


@exhibit(
    replaces="kdref.lab.training.forward:examples_in",
    seen_in="a likely slip, and kdref's own: a tuple of three images counts as three examples",
    killed_by=tuple(
        f"lab/training/test_fit.py::test_a_batch_is_counted_by_the_first_axis_of_its_first_tensor[{kind}]"
        for kind in ("three images each", "a pair", "a dictionary", "strings first")
    ),
)
def parts_counted_for_examples(batch) -> int:  # type: ignore[no-untyped-def]
    """The parts of a batch are counted, not its examples."""
    return len(batch) if hasattr(batch, "__len__") else examples_in(batch)


@exhibit(
    replaces="kdref.lab.training.batches:teacher_outputs",
    seen_in="a likely slip: the first of a model's outputs is taken for its logits",
    killed_by=tuple(
        f"lab/training/test_batches.py::test_teacher_outputs_of_tokenised_text_are_the_logits[{kind}]"
        for kind in ("a dictionary", "a named tuple")
    ),
)
@torch.no_grad()
def hidden_states_for_logits(teacher: nn.Module, inputs, *, batch_size: int = 1024) -> Tensor:  # type: ignore[no-untyped-def]
    """An output that holds hidden states before the logits gives the hidden states."""
    return torch.cat([first_tensor(forward(teacher, batch)) for batch in calls(inputs, batch_size)])


@exhibit(
    replaces="kdref.lab.training.measure:measure",
    seen_in="a mutation of kdref that its own test let through: == turned !=",
    killed_by=(
        "lab/training/test_measure.py::test_values_worked_out_by_hand",
        "lab/training/test_measure.py::test_only_where_both_choose_the_same_class_do_they_agree",
    ),
)
def disagreement_for_agreement(*args, **kwargs):  # type: ignore[no-untyped-def]
    """The share of examples on which student and teacher choose different classes."""
    result = measure(*args, **kwargs)
    return {name: 1 - value if name == "agreement" else value for name, value in result.items()}


@exhibit(
    replaces="kdref.lab.training.taps:Taps",
    seen_in="kdref's own, before: with torchvision's create_feature_extractor one run of a block was given silently",
    killed_by=(
        "lab/training/test_taps.py::test_a_module_that_runs_twice_is_refused",
        "lab/training/test_taps.py::test_a_block_that_runs_twice_is_refused_too",
    ),
)
class LastRunOnly(Taps):
    """A module that runs several times in one pass gives the last run's activation, without a word."""

    def __call__(self, *inputs, **keywords):  # type: ignore[no-untyped-def]
        found: dict[str, Tensor] = {}
        handles = [
            self.model.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: found.update({name: y}))
            for name in self.names
        ]
        self.model(*inputs, **keywords)
        for handle in handles:
            handle.remove()
        return found


@exhibit(
    replaces="kdref.lab.training.taps:Taps",
    seen_in="a likely slip: a hook keeps the tensor, and a layer changes it later",
    killed_by=("lab/training/test_taps.py::test_an_activation_that_is_overwritten_in_place_is_refused",),
)
class OverwrittenUnnoticed(LastRunOnly):
    """An activation that a later layer overwrites in place is handed out as that layer's."""
