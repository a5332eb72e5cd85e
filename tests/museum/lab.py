"""Wrong versions of the lab: state and training."""

import torch
from torch import Tensor, nn

from kdref.lab.training.batches import Batches
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
