"""Wrong versions of the loop's updates, and of what a checkpoint puts back."""

from kdref.lab.training.forward import examples_in
from tests.museum import exhibit

ACCUMULATED = (
    "lab/training/test_fit_updates.py::test_accumulated_batches_are_one_large_batch_also_where_the_last_is_smaller[{}]"
)


def accumulated(step, group, optimizer, means, share, after_batch=lambda: None) -> None:  # type: ignore[no-untyped-def]
    """One update in which each batch's loss counts by its share."""
    optimizer.zero_grad()
    for batch in group:
        terms = step(batch)
        means.add(terms, examples_in(batch))
        (terms["loss"] * share(batch)).backward()
        after_batch()
    optimizer.step()


@exhibit(
    replaces="kdref.lab.training.fit:_update",
    seen_in="huggingface/transformers PR 34191; modelscope/ms-swift PR 10084, before the repairs",
    killed_by=(ACCUMULATED.format("4-9-14"),),
)
def mean_of_batch_means(step, group, modules, optimizer, means, process, clip_norm):  # type: ignore[no-untyped-def]
    """Accumulated batches count the same, whatever their sizes."""
    accumulated(step, group, optimizer, means, share=lambda batch: 1 / len(group))


@exhibit(
    replaces="kdref.lab.training.fit:_update",
    seen_in="agokrani/distillKitPlus #5",
    killed_by=(ACCUMULATED.format("2-3-6"),),
)
def sum_of_batch_means(step, group, modules, optimizer, means, process, clip_norm):  # type: ignore[no-untyped-def]
    """Accumulated losses are summed: the gradient grows with the number of batches."""
    accumulated(step, group, optimizer, means, share=lambda batch: 1.0)


@exhibit(
    replaces="kdref.lab.training.fit:_update",
    seen_in="a likely slip: the gradient is cut after each batch, as it comes",
    killed_by=("lab/training/test_fit_updates.py::test_accumulated_gradients_are_cut_once_as_a_whole",),
)
def cut_after_each_batch(step, group, modules, optimizer, means, process, clip_norm):  # type: ignore[no-untyped-def]
    """Accumulated gradients are cut several times: what came first is made smaller than what comes last."""
    total = sum(map(examples_in, group))

    def cut() -> None:
        if clip_norm is not None:
            process.clip(optimizer, clip_norm)

    accumulated(step, group, optimizer, means, share=lambda batch: examples_in(batch) / total, after_batch=cut)


@exhibit(
    replaces="kdref.lab.training.resume:set_random_states",
    seen_in="a likely slip: most checkpoints hold weights and optimizer, and no random state",
    killed_by=(
        "lab/training/test_resume.py::test_an_interrupted_training_goes_on_to_the_same_result[index slices-1]",
        "lab/training/test_resume.py::test_an_interrupted_training_goes_on_to_the_same_result[a DataLoader-1]",
    ),
)
def random_states_forgotten(states, generators=()) -> None:  # type: ignore[no-untyped-def]
    """An interrupted training goes on with other dropout masks and another order of the data."""


@exhibit(
    replaces="kdref.lab.training.resume:generators_in",
    seen_in="a likely slip: the global generators are kept, and those of the data are not",
    killed_by=("lab/training/test_resume.py::test_an_interrupted_training_goes_on_to_the_same_result[index slices-1]",),
)
def generators_of_the_data_forgotten(batches) -> list[object]:  # type: ignore[no-untyped-def]
    """The order of the data begins anew: examples come twice in an epoch, and others never."""
    return []
