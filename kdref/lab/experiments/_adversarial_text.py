"""What the experiments on text share: a student that has read its teacher's text, a discriminator, and steps by reward.

Lesson 12's running sums. The teacher can be asked for text alone; its logits serve to measure, never to teach. The
discriminator compares its text with the student's (GAD), and its score is the student's reward: REINFORCE, the mean of
each problem's draws as baseline, no KL to the start. Lesson: notebooks/09_adversarial.ipynb.
"""

import copy
import functools
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdref.adversarial import paired_discriminator_loss
from kdref.lab.data import sums
from kdref.lab.experiments._sequence import (
    BATCH_SIZE,
    LENGTH,
    PROBLEMS,
    STUDENT,
    STUDENT_STEPS,
    _fitted,
    compared,
    measured,
    network,
    problems,
    scores,
    teacher,
    train,
    write,
)
from kdref.lab.models.causal_transformer import CausalTransformer, generate, up_to_end

DRAWS = 4  # of the student, for each problem of a batch
WARM_UP_STEPS, JUDGE_RATE = 200, 1e-3
AT_AN_END = 10  # steps over which rewards are averaged


class Duel(NamedTuple):
    """A discriminator and what trains it."""

    judge: CausalTransformer
    optimizer: torch.optim.Optimizer


@functools.lru_cache(maxsize=1)
def text(seed: int) -> tuple[Tensor, Tensor]:
    """Problems and what the teacher wrote on them, once each: all that is known of it."""
    asked = problems(PROBLEMS, seed, 1)
    return asked, write(teacher(seed), asked, seed=seed)


@functools.lru_cache(maxsize=1)
def start(seed: int) -> CausalTransformer:
    """The student where sequence-level distillation ends. Copy it before you train it."""
    return train(network(STUDENT, seed=100_000 + seed), *text(seed), steps=STUDENT_STEPS, seed=seed)


def duel_for(student: CausalTransformer) -> Duel:
    """A discriminator that is the student with another last layer, of zeros: it knows sums already, but no texts."""
    judge = copy.deepcopy(student)
    nn.init.zeros_(judge.scores.weight)
    nn.init.zeros_(judge.scores.bias)
    return Duel(judge, torch.optim.AdamW(judge.parameters(), lr=JUDGE_RATE, weight_decay=0.01, fused=True))


def judged(judge: CausalTransformer, asked: Tensor, written: Tensor) -> Tensor:
    """The score of each completion, ``(B,)``: of its tokens, each read after what stands before it, up to the end."""
    each = scores(judge, asked, written).gather(-1, written[..., None]).squeeze(-1)
    score: Tensor = each.masked_fill(~up_to_end(written, end=sums.END), 0.0).sum(dim=1)
    return score


def compare_texts(duel: Duel, asked: Tensor, own: Tensor, theirs: Tensor, *, moving: bool = True) -> Tensor:
    """One step of the discriminator, or none if it is frozen; by how much it prefers the student's text, ``(B,)``."""
    with torch.set_grad_enabled(moving):
        student_scores, teacher_scores = judged(duel.judge, asked, own), judged(duel.judge, asked, theirs)
    if moving:
        duel.optimizer.zero_grad()
        paired_discriminator_loss(student_scores, teacher_scores).backward()
        duel.optimizer.step()
    reward: Tensor = (student_scores - teacher_scores).detach()
    return reward


def advantages(reward: Tensor) -> Tensor:
    """A reward less the mean over the draws of its problem, ``(B,)``: the draws of a problem stand side by side."""
    each = reward.unflatten(0, (-1, DRAWS))
    return (each - each.mean(dim=1, keepdim=True)).flatten()  # type: ignore[no-any-return]


def policy_loss(logits: Tensor, written: Tensor, advantage: Tensor) -> Tensor:
    """REINFORCE: minus the advantage times the log-probability of what was written, per token up to the end."""
    mask = up_to_end(written, end=sums.END)
    log_q = logits.log_softmax(dim=-1).gather(-1, written[..., None]).squeeze(-1)
    return -(advantage.detach()[:, None] * log_q)[mask].sum() / mask.sum()


def draw(student: CausalTransformer, asked: Tensor, generator: torch.Generator) -> Tensor:
    """What the student writes, as it is now."""
    return generate(student, sums.prompts(asked), max_new_tokens=LENGTH + 1, end=sums.END, generator=generator)


@functools.lru_cache(maxsize=1)
def warmed_up(seed: int) -> tuple[CausalTransformer, float]:
    """A discriminator that has compared the teacher's text with that of the student at the start; its seconds."""
    student, (asked, theirs) = start(seed), text(seed)
    began, duel, generator = time.process_time(), duel_for(student), torch.Generator().manual_seed(200_000 + seed)
    order = torch.randint(len(asked), (WARM_UP_STEPS * BATCH_SIZE,), generator=generator)
    own = draw(student, asked[order], generator)  # the student stands still: all at once
    for rows, written in zip(order.split(BATCH_SIZE), own.split(BATCH_SIZE), strict=True):
        compare_texts(duel, asked[rows], written, theirs[rows])
    return duel.judge, time.process_time() - began


def rewarded(
    student: CausalTransformer, duel: Duel, seed: int, *, steps: int, rate: float, moving: bool, shuffled: bool = False
) -> Tensor:
    """Train the student, in place, by what the discriminator says of its text.

    Args:
        student: What is trained.
        duel: Its discriminator; trained too if it moves.
        seed: Of the text; draws problems and what the student writes.
        steps: How many, more than 20.
        rate: The student's learning rate at the start.
        moving: Whether the discriminator goes on learning.
        shuffled: Control: every reward goes to another text of the batch.

    Returns:
        The mean reward of each step, ``(steps,)``: by how much the student's text is preferred to the teacher's.
    """
    asked, theirs = text(seed)
    generator, rewards = torch.Generator().manual_seed(300_000 + seed), list[Tensor]()
    order = torch.randint(len(asked), (steps * BATCH_SIZE // DRAWS,), generator=generator).repeat_interleave(DRAWS)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        (rows,) = batch
        own = draw(student, asked[rows], generator)
        reward = compare_texts(duel, asked[rows], own, theirs[rows], moving=moving)
        rewards.append(reward.mean())
        if shuffled:
            reward = reward[torch.randperm(len(reward), generator=generator)]
        return {"loss": policy_loss(scores(student, asked[rows], own), own, advantages(reward))}

    _fitted(step, student, order, rate)
    return torch.stack(rewards)


def continued(arm: str, seed: int, *, steps: int, rate: float, tests: int = 1) -> dict[str, float]:
    """Go on from the start in the way of an arm, and measure the student on problems that nobody learnt from.

    ``tests`` is the number of sets of problems that the share of right answers is a mean over.
    """
    student, found, before = copy.deepcopy(start(seed)), dict[str, float](), 0.0
    duel = duel_for(student)
    if arm.startswith("reward") and arm != "reward, not warmed up":
        judge, before = warmed_up(seed)
        duel.judge.load_state_dict(judge.state_dict())
    began = time.process_time()
    match arm:
        case "the start":
            pass
        case "goes on with the text":
            train(student, *text(seed), steps=steps, seed=seed + 1, rate=rate)
        case "reward, moving" | "reward, frozen" | "reward, not warmed up" | "reward, shuffled":
            moving, shuffled = arm != "reward, frozen", arm == "reward, shuffled"
            rewards = rewarded(student, duel, seed, steps=steps, rate=rate, moving=moving, shuffled=shuffled)
            found["reward_first"], found["reward"] = (
                part.mean().item() for part in (rewards[:AT_AN_END], rewards[-AT_AN_END:])
            )
        case _:
            raise ValueError(f"no arm is named {arm!r}")
    found["seconds"] = before + time.process_time() - began
    shares = [measured(student, seed + 50 * number) for number in range(tests)]
    means = {name: sum(share[name] for share in shares) / tests for name in shares[0]}
    return means | compared(student, seed) | found
