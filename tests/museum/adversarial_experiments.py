"""Wrong versions of the two steps that take turns: each trains somebody whom it should leave alone."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kdref.adversarial import discriminator_loss
from kdref.lab.experiments import _adversarial_features as features
from tests.museum import exhibit


def killed_by(*tests: str) -> tuple[str, ...]:
    return tuple(f"lab/experiments/test_adversarial_features.py::test_{test}" for test in tests)


@exhibit(
    replaces="kdref.lab.experiments._adversarial_features:discriminator_step",
    seen_in="a published bug: the student's features are not detached, and the graph is kept to make it run",
    killed_by=killed_by("the_discriminators_step_leaves_the_student_and_its_gradients_alone"),
)
def student_is_not_detached(
    discriminator: nn.Module, optimizer: Optimizer, student_features: Tensor, teacher_features: Tensor
) -> Tensor:
    """The student is taught to be found out: the gradient waits in it for its own step."""
    loss = discriminator_loss(discriminator(student_features), discriminator(teacher_features))
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    optimizer.step()
    return loss.detach()


@exhibit(
    replaces="kdref.lab.experiments._adversarial_features:discriminator_step",
    seen_in="a published bug: the gradient of the student's step is still in the discriminator",
    killed_by=killed_by("the_discriminators_step_forgets_what_the_students_step_left_in_its_gradients"),
)
def gradient_of_the_students_step_is_kept(
    discriminator: nn.Module, optimizer: Optimizer, student_features: Tensor, teacher_features: Tensor
) -> Tensor:
    """The discriminator is taught to call the student a teacher, and not to, in one step."""
    loss = discriminator_loss(discriminator(student_features.detach()), discriminator(teacher_features))
    loss.backward()
    optimizer.step()
    return loss.detach()


@exhibit(
    replaces="kdref.lab.experiments._adversarial_features:optimizers",
    seen_in="a published bug: one optimiser of all parameters, so that the student's step trains the discriminator too",
    killed_by=killed_by("the_students_step_leaves_the_discriminator_alone"),
)
def student_step_trains_both(those: features.Players, plan: features.Plan) -> tuple[Optimizer, Optimizer]:
    """The discriminator is made to say "teacher" of everything, which is the easiest way to fool it."""
    both = [*those.student.parameters(), *those.discriminator.parameters()]
    rate, decay = plan.discriminator_rate, plan.discriminator_decay
    return (
        torch.optim.AdamW(both, lr=features.LEARNING_RATE, weight_decay=plan.decay),
        torch.optim.Adam(those.discriminator.parameters(), lr=rate, weight_decay=decay),
    )
