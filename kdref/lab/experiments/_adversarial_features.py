"""A discriminator on the last features beside soft targets: the recipe of 2018 on MNIST-1D, with few examples.

The teacher learned from all 4,000 training examples; the student's owner has 500 of them, drawn anew for each seed.
Within a seed every student has the same examples, first weights, data order, optimiser, schedule and, but for the arms
that are called longer, number of steps. The discriminator's own steps come on top and show in the seconds.

Student and teacher have 32 features each, so hints and discriminator compare them as they are, without a regressor.
Lesson: notebooks/09_adversarial.ipynb.
"""

import functools
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from kdref.adversarial import FeatureDiscriminator, discriminator_loss, student_adversarial_loss
from kdref.feature import hint_loss
from kdref.lab.experiments import _mnist1d
from kdref.lab.experiments._inside import few
from kdref.lab.models import make
from kdref.lab.training.batches import Batches, teacher_outputs
from kdref.lab.training.fit import fit
from kdref.lab.training.measure import measure
from kdref.soft_targets import soft_target_loss

TEACHER, STUDENT = "cnn1d-32", "mlp-64x32"
FEATURES = 32  # of both
BATCH_SIZE, EPOCHS, LEARNING_RATE = 50, 40, 1e-2
TEMPERATURE = 16.0  # chosen by ``adversarial_features_tuning``: the teacher is very sure of what it learnt from


class Players(NamedTuple):
    """Who takes part in one training, with the first weights that all arms of a seed share."""

    student: nn.Sequential
    discriminator: FeatureDiscriminator


class Plan(NamedTuple):
    """What an arm does. A weight of 0 leaves its term out."""

    labels: bool = False  # cross-entropy in place of soft targets
    temperature: float = TEMPERATURE
    decay: float = 0.0  # of the student's weights
    hint_weight: float = 0.0
    adversarial_weight: float = 0.0
    discriminator_steps: int = 1  # for each of the student
    discriminator_rate: float = 0.0
    discriminator_decay: float = 0.0  # the paper's regulariser: the weights' squared norm
    features: str = "teacher"  # whose are the real ones, see ``real_features``
    longer: int = 1  # so many times the epochs


class Known(NamedTuple):
    """A seed's examples, and what the teacher makes of them."""

    x: Tensor
    y: Tensor
    logits: Tensor
    features: Tensor
    test_x: Tensor
    test_y: Tensor
    test_logits: Tensor


def teacher(seed: int, *, validation: int = 0) -> nn.Sequential:
    """Trained on all labels, frozen, in eval mode."""
    model = _mnist1d.teacher(seed, TEACHER, validation=validation).requires_grad_(False)
    assert isinstance(model, nn.Sequential)
    return model


def features_of(model: nn.Sequential, x: Tensor) -> Tensor:
    """All layers but the last, the classifier: ``model[-1]`` makes logits of them."""
    found: Tensor = model[:-1](x)
    return found


def players(seed: int) -> Players:
    """A new student and its discriminator."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Players(make(STUDENT, seed=100 + seed), FeatureDiscriminator(FEATURES))


@functools.lru_cache(maxsize=2)
def known(seed: int, validation: int = 0) -> Known:
    split, model = few(seed, validation), teacher(seed, validation=validation)
    features = features_of(model, split.train_x)
    on_test = teacher_outputs(model, split.test_x)
    return Known(split.train_x, split.train_y, model[-1](features), features, split.test_x, split.test_y, on_test)


def real_features(whose: str, seed: int, validation: int = 0) -> Tensor:
    """What the discriminator (or the hint) is shown beside each example as the teacher's features.

    "shuffled": they belong to other examples, once and for all. "untrained": those of a network of the teacher's kind
    that never learnt, normalised over all examples.
    """
    examples, draws = known(seed, validation), torch.Generator().manual_seed(seed)
    match whose:
        case "teacher":
            return examples.features
        case "shuffled":
            return examples.features[torch.randperm(len(examples.x), generator=draws)]
        case "untrained":
            with torch.no_grad():
                return features_of(make(TEACHER, seed=500 + seed).train(), examples.x)
    raise ValueError(f"no features are named {whose!r}")


def optimizers(those: Players, plan: Plan) -> tuple[Optimizer, Optimizer]:
    """The student's and the discriminator's: no parameter is in both."""
    own, theirs = those.student.parameters(), those.discriminator.parameters()
    return (
        torch.optim.AdamW(own, lr=LEARNING_RATE, weight_decay=plan.decay, fused=True),
        torch.optim.Adam(theirs, lr=plan.discriminator_rate, weight_decay=plan.discriminator_decay, fused=True),
    )


def discriminator_step(
    discriminator: nn.Module, optimizer: Optimizer, student_features: Tensor, teacher_features: Tensor
) -> Tensor:
    """Change the discriminator alone: the features are detached, and what the student's step left behind is cleared."""
    loss = discriminator_loss(discriminator(student_features.detach()), discriminator(teacher_features))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def played(plan: Plan, seed: int, *, validation: int = 0) -> dict[str, float]:
    """Train a student by a plan, and measure it at the last epoch on the test examples."""
    examples, theirs = known(seed, validation), real_features(plan.features, seed, validation)
    student, discriminator = those = players(seed)
    optimizer, its_optimizer = optimizers(those, plan)
    adversarial, start = plan.adversarial_weight > 0, time.process_time()

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, y, said, real = batch
        features = features_of(student, x)
        logits = student[-1](features)
        loss = F.cross_entropy(logits, y)
        if not plan.labels:
            loss = soft_target_loss(logits, said, temperature=plan.temperature)
        if plan.hint_weight:
            loss = loss + plan.hint_weight * hint_loss(features, real)
        if adversarial:
            for _ in range(plan.discriminator_steps):
                discriminator_step(discriminator, its_optimizer, features, real)
            loss = loss + plan.adversarial_weight * student_adversarial_loss(discriminator(features))
        return {"loss": loss}

    epochs = EPOCHS * plan.longer
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    batches = Batches(examples.x, examples.y, examples.logits, theirs, batch_size=BATCH_SIZE, seed=seed)
    fit(step, student, batches, optimizer, epochs=epochs, scheduler=scheduler, progress=False)
    seconds = time.process_time() - start
    result = measure(student, examples.test_x, examples.test_y, teacher_logits=examples.test_logits)
    result |= {"training_accuracy": measure(student, examples.x, examples.y)["accuracy"], "seconds": seconds}
    return {**result, "discriminator_loss": last_loss(those, examples.x, theirs)} if adversarial else result


@torch.no_grad()
def last_loss(those: Players, x: Tensor, real: Tensor) -> float:
    """The discriminator's loss on all of the student's examples: 1.386 where it can't tell, 0 where it always can."""
    own = features_of(those.student.eval(), x)
    return discriminator_loss(those.discriminator(own), those.discriminator(real)).item()
