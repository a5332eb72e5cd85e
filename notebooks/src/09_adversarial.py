# %% [markdown]
# # 09 · Adversarial distillation
#
# **Can a network be the loss, and is it worth its price?**
#
# **You will be able to**
#
# - say what the best [discriminator](GLOSSARY.md#discriminator) knows of teacher and student, and which divergence a
#   student minimises that tries to fool it;
# - put a discriminator beside soft targets, with the two steps kept apart, and judge what it adds;
# - train a one-step generator by matching [scores](GLOSSARY.md#score), the heir of all this;
# - tell the other meaning of the word, robustness, from this one, and not be fooled by a hidden gradient;
# - (in depth) use a discriminator as a reward where the teacher gives nothing but text.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb); for section 4 [lesson 03](03_feature_based.ipynb).
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for section 7, marked *in depth*; {seconds}
# seconds to run on one thread.
#
# **Files:** `kdref/adversarial.py` (the methods), `kdref/lab/training/attack.py` (the attack),
# `kdref/lab/experiments/adversarial_*.py` (the long experiments).
#
# **Papers:** [Goodfellow et al. 2014](https://arxiv.org/abs/1406.2661) (GAN), [Belagiannis et al.
# 2018](https://arxiv.org/abs/1803.10750), [GAD](https://arxiv.org/abs/2511.10643) (text),
# [DMD](https://arxiv.org/abs/2311.18828) (images), [ARD](https://arxiv.org/abs/1905.09747) (robustness).

# %% tags=["setup"]
import math

import pandas as pd
import torch
import torch.nn.functional as F

from kdref import lab
from kdref.adversarial import (
    FeatureDiscriminator,
    discriminator_loss,
    distribution_matching_loss,
    paired_discriminator_loss,
    student_adversarial_loss,
)
from kdref.lab import experiments, models, report
from kdref.lab.data import sums
from kdref.lab.experiments import _adversarial_features as features
from kdref.lab.experiments import _adversarial_generator as plane
from kdref.lab.experiments import _adversarial_robust as robust
from kdref.lab.experiments import _adversarial_text as duels
from kdref.lab.experiments import (
    adversarial_features,
    adversarial_features_tuning,
    adversarial_generator,
    adversarial_generator_tuning,
    adversarial_robust,
    adversarial_robust_tuning,
    adversarial_text,
    adversarial_text_tuning,
)
from kdref.lab.report import style
from kdref.lab.widgets.adversarial import discriminator_explorer, humps_figure, path, student_law, teacher_law
from kdref.soft_targets import kl_divergence, soft_target_loss

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. A judge instead of a distance
#
# All losses so far compare student and teacher by a formula that somebody chose. A **discriminator** is a network that
# learns the comparison: it sees an output and gives one number $d$, large for "this is the teacher's", so that $D =
# \sigma(d)$ is a probability. It is trained to be right,
#
# $$-\frac1{B'} \sum_i \log \sigma(d^t_i) \;-\; \frac1B \sum_i \log\big(1 - \sigma(d^s_i)\big),$$
#
# and the student is trained to be taken for the teacher. The idea came from image generation ([GAN](GLOSSARY.md#gan),
# 2014), where real photographs stand in the teacher's place.

# %%
lab.show(discriminator_loss)

# %% [markdown]
# **What does the best one say?** Where everything can be counted, we know. Say that the teacher gives output A three
# times in four and B once, and the student the reverse. Of all that is A, ¾ is the teacher's, so the best $D$ says ¾;
# in general
#
# $$d^* = \log \frac{p}{q}, \qquad \text{loss} = 2 \log 2 - 2\,\mathrm{JSD}(P, Q),$$
#
# with the [Jensen-Shannon divergence](GLOSSARY.md#jensen-shannon-divergence): the mean of the two KL divergences from
# the mixture.
#
# **By hand.** $d^*$ is log 3 for A and -log 3 for B. The teacher's examples cost ¾ log(4/3) + ¼ log 4 = 0.562, the
# student's as much, by symmetry: 1.125 together. And JSD = ¾ log(¾ / ½) + ¼ log(¼ / ½) = 0.131.

# %%
best = torch.tensor([3.0, 1.0 / 3.0]).log()  # log p/q of A and of B
jsd = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
teachers, students = best[[0, 0, 0, 1]], best[[0, 1, 1, 1]]  # four outputs of each
print("loss of the best discriminator:", round(discriminator_loss(students, teachers).item(), 3))
print("2 log 2 - 2 JSD:               ", round(2 * math.log(2) - 2 * jsd, 3))
print("of one that knows nothing:     ", round(discriminator_loss(0 * students, 0 * teachers).item(), 3))

# %% [markdown]
# And does *training* find it? Two free scores, gradient descent:

# %%
scores = torch.zeros(2, requires_grad=True)
optimizer = torch.optim.Adam([scores], lr=0.1)
for _ in range(200):
    optimizer.zero_grad()
    discriminator_loss(scores[[0, 1, 1, 1]], scores[[0, 0, 0, 1]]).backward()
    optimizer.step()
print("found:", scores.detach().numpy().round(3), "log 3 =", round(best[0].item(), 3))

# %% [markdown]
# So a loss of 2 log 2 = 1.386 says *I can't tell them apart*, and one near 0 *I always can*.
#
# ## 2. What the student is told
#
# The student could simply make the discriminator's second term worse: minimise $\log(1 - \sigma(d^s))$. That is the
# *saturating* form. The 2014 paper already advised against it, and for $-\log \sigma(d^s)$:

# %%
lab.show(student_adversarial_loss)

# %%
rows = []
for score in (-6.0, -2.0, 0.0, 2.0):
    found = torch.tensor([score], requires_grad=True)
    saturating = F.logsigmoid(-found).mean()  # log(1 - D)
    gradients = [torch.autograd.grad(loss, found)[0].item() for loss in (saturating, student_adversarial_loss(found))]
    rows.append((f"{score:g}", round(torch.sigmoid(found).item(), 3), *(round(value, 3) for value in gradients)))
columns = ["score", "D", "gradient, saturating", "gradient of -log D"]
report.table(pd.DataFrame(rows, columns=columns).set_index("score"))

# %% [markdown]
# Found out (a score of −6), the student gets nothing from the first form, and the full push from the second. That is
# where every training begins.
#
# The two forms also want different things. Put the best discriminator in: the saturating form then has exactly the
# gradient of $2\,\mathrm{JSD}(P, Q)$, and the other one that of
#
# $$\mathrm{KL}(Q \,\|\, P) - 2\,\mathrm{JSD}(P, Q)$$
#
# ([Arjovsky and Bottou 2017](https://arxiv.org/abs/1701.04862)): a reverse divergence, with a term that pushes
# *apart*. We can check that where everything can be counted: laws on a grid of 161 places. The student is one hump,
# $q$, with a mean and a deviation; the teacher has two.

# %%
losses = {
    "forward KL": lambda log_q, log_p: kl_divergence(log_q[None], log_p[None]).mean(),
    "reverse KL": lambda log_q, log_p: (log_q.exp() * (log_q - log_p)).sum(),
    "saturating": lambda log_q, log_p: -(log_q.exp() * F.softplus((log_p - log_q).detach())).sum(),
    "discriminator": lambda log_q, log_p: (log_q.exp() * F.softplus(-(log_p - log_q).detach())).sum(),
}
place = torch.tensor([0.5, 0.0], requires_grad=True)
log_p, log_q = teacher_law(3.0), student_law(*place)
log_m = torch.logaddexp(log_p, log_q) - math.log(2)
jsd = (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum() / 2
wanted = {"saturating": 2 * jsd, "discriminator": losses["reverse KL"](log_q, log_p) - 2 * jsd}
for name, divergence in wanted.items():
    pair = [torch.autograd.grad(loss, place, retain_graph=True)[0] for loss in (losses[name](log_q, log_p), divergence)]
    assert torch.allclose(*pair, atol=1e-5)
    print(f"{name}: the gradient is the one that the theory says: yes")

# %% [markdown]
# ## 3. Cover, or choose
#
# One hump can't be two. What does each loss make of that? All start in the middle, and take the same 150 steps; the
# dashed line is what the best discriminator would say at the end.

# %%
report.figure(
    humps_figure(losses, distance=4.0),
    "four panels, a teacher of two humps in grey: under forward KL and the saturating form the student is one broad "
    "hump over both; under reverse KL and the usual discriminator it sits on the larger one. The dashed discriminator "
    "is near 1 where only the teacher is",
)
for name, loss in losses.items():
    mean, deviation = path(loss, 4.0)[-1][0].item(), path(loss, 4.0)[-1][1].exp().item()
    print(f"{name}: mean {mean:.1f}, deviation {deviation:.1f}")

# %% [markdown]
# Forward KL **covers**: it pays for every place where the teacher is and the student is not. Reverse KL **chooses**: it
# pays for places where the student is and the teacher is not. The discriminator in its usual form chooses, too, and
# earlier: at a distance of 3 already, where reverse KL still covers. Its saturating form covers. To drop
# [modes](GLOSSARY.md#mode), which GANs are known for, is here not in the idea but in the form that trains.

# %%
ends = {name: path(loss, 3.0)[-1][1].exp().item() for name, loss in losses.items()}
assert ends["reverse KL"] > 1.3
assert ends["discriminator"] < 0.7
print("humps 3 apart: reverse KL still covers both, the discriminator has chosen one: yes")

# %% [markdown]
# Move the humps apart, and walk through the training. At which step does a student make up its mind?

# %%
discriminator_explorer(losses)


# %% [markdown]
# ## 4. On features: the recipe of 2018
#
# [Belagiannis, Farshad and Galasso](https://arxiv.org/abs/1803.10750) put a discriminator on the last features: what
# enters the classifier. The student learns from the teacher's logits, without labels, and from being taken for it:
#
# $$\text{soft targets} \;-\; w \, \frac1B \sum_i \log \sigma\big(d(f^s_i)\big)$$
#
# Their worry was a discriminator that always wins. It is held back by a penalty on its weights, here weight decay.

# %%
lab.show(FeatureDiscriminator)

# %% [markdown]
# **Two steps, kept apart.** The discriminator's step sees the student's features as constants (`detach`): otherwise it
# would teach the student to be found out. The student's step goes *through* the discriminator and leaves a gradient in
# it, which `zero_grad` clears. Both are published bugs when they are missing.
#
# The setting: MNIST-1D, a teacher that learned from all 4,000 examples, a student of another kind that has 500, with
# 32 features like its teacher.

# %%
examples = features.known(BASE_SEED)
student, discriminator = features.players(BASE_SEED)
optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
its_own = torch.optim.Adam(discriminator.parameters(), lr=0.001, weight_decay=0.001)


def step_student(batch):
    x, teacher_logits, real = batch
    made = features.features_of(student, x)

    told = discriminator_loss(discriminator(made.detach()), discriminator(real))
    its_own.zero_grad()
    told.backward()
    its_own.step()

    soft = soft_target_loss(student[-1](made), teacher_logits, temperature=16.0)
    fooled = student_adversarial_loss(discriminator(made))
    return {"loss": soft + 0.3 * fooled, "soft": soft, "fooled": fooled, "discriminator": told.detach()}


batches = lab.Batches(examples.x, examples.logits, examples.features, batch_size=50, seed=BASE_SEED)
rows = lab.fit(step_student, student, batches, optimizer, epochs=20, progress=False)

# %% tags=["nbval-ignore-output"]
report.table(pd.DataFrame(rows)[["epoch", "soft", "fooled", "discriminator"]].iloc[[0, 4, 9, 19]].set_index("epoch"))

# %%
assert rows[-1]["soft"] < rows[0]["soft"]
assert rows[-1]["discriminator"] < 1.386
print("the discriminator still tells the two apart better than by guessing (1.386): yes")

# %% [markdown]
# **The experiment.** 24 seeds; each draws its 500 examples. Soft targets stand in every arm but *labels*; hints compare
# the same 32 features by their squares ([lesson 03](03_feature_based.ipynb)). What would explain a gain without any
# judge of *this teacher*? The controls: a discriminator that is never trained, or whose real features belong to *other*
# examples, or to a network that never learned; soft targets with weight decay, or with three times the steps. And two
# that free it: no weight decay; five of its steps for each of the student's, at ten times the rate.
#
# Settings were chosen on validation examples of three other seeds:

# %% tags=["nbval-ignore-output"]
tuned = experiments.load("adversarial_features_tuning").groupby("arm")["accuracy"].mean()
settings = adversarial_features_tuning.SETTINGS
grid = {what: {f"{value:g}": tuned[f"{what} | {value:g}"] for value in values} for what, values in settings.items()}
lines = [(what, " · ".join(f"{name}: {value:.1%}" for name, value in found.items())) for what, found in grid.items()]
report.table(pd.DataFrame(lines, columns=["setting", "validation accuracy"]).set_index("setting"))

# %%
inside = [adversarial_features_tuning.chosen(f"discriminator | {name}") for name in ("weight", "rate", "decay")]
print("chosen for the discriminator: weight, rate, decay =", inside)
for what in ("soft targets | temperature", "discriminator | weight", "discriminator | rate", "discriminator | decay"):
    assert min(settings[what]) < adversarial_features_tuning.chosen(what) < max(settings[what])
print("each of them, and the temperature, lies inside its grid: yes")

# %%
stored = experiments.load("adversarial_features")
print(
    experiments.provenance("adversarial_features")["command"],
    "·",
    len(stored),
    "runs,",
    stored["seed"].nunique(),
    "seeds",
)

# %% [markdown]
# One seed, live. With 500 examples a single run can move by points from one processor to another, more than a
# discriminator adds. So this check vouches for what is large: that shuffled hints ruin a student. What is small rests
# on the 24 stored seeds alone.

# %%
seed = BASE_SEED if BASE_SEED in set(stored["seed"]) else 0
live = {arm: adversarial_features.run(seed, arm) for arm in ("soft targets", "discriminator", "hints, shuffled")}
for arm, row in live.items():
    kept = stored.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(row["accuracy"] - kept["accuracy"]) < 0.06
    print(f"{arm}: within six points of the stored run")
assert live["soft targets"]["accuracy"] - live["hints, shuffled"]["accuracy"] > 0.12
print("shuffled hints lose more than twelve points against soft targets, live: yes")

# %% tags=["nbval-ignore-output"]
order = list(adversarial_features.ARMS)
against_soft = lab.compare(stored, baseline="soft targets", metric="accuracy")
report.comparison(against_soft.loc[order], caption="accuracy on 1,000 test signals, 24 seeds")
means = stored.groupby("arm")[["accuracy", "training_accuracy", "nll", "seconds", "discriminator_loss"]].mean()
report.table(means.loc[order], percent=["accuracy", "training_accuracy"])

# %%
report.figure(
    report.intervals(against_soft.loc[[arm for arm in order if arm not in ("soft targets", "hints, shuffled")]]),
    "differences from soft targets: hints clearly above zero; discriminators, whatever they are shown, about a point "
    "above it with intervals that touch it; labels below; a too strong discriminator far below",
)
asked = lab.compare(
    stored[stored["arm"].isin(["soft targets", "discriminator"])], baseline="soft targets", metric="accuracy"
).loc["discriminator"]
print("the discriminator on top of soft targets, as the one question asked beforehand:", asked["verdict"])
print("among eleven comparisons:", against_soft.loc["discriminator", "verdict"])

# %%
found = report.verdicts(stored, baseline="soft targets").loc[[arm for arm in order if arm != "soft targets"]]
report.table(found)

# %%
against_hints = report.verdicts(stored, baseline="hints")["all seeds"]
assert found.loc["hints", "all seeds"] == "helps"
assert found.loc["discriminator, too strong", "all seeds"] == found.loc["labels", "all seeds"] == "hurts"
assert against_hints["discriminator"] == "hurts"
assert means.loc["discriminator", "seconds"] > 1.6 * means.loc["hints", "seconds"]
assert means.loc["soft targets, longer", "seconds"] > means.loc["discriminator", "seconds"]
blind = ["discriminator, shuffled", "discriminator, untrained teacher"]
judge = stored[stored["arm"].isin(["discriminator", *blind])]
for _, row in lab.compare(judge, baseline="discriminator", metric="accuracy").loc[blind].iterrows():
    assert -0.02 < row["low"] < row["high"] < 0.02
nll = report.verdicts(stored, baseline="soft targets", metric="nll", higher_is_better=False)["all seeds"]
assert (nll[["discriminator", *blind, "hints", "soft targets, weight decay"]] == "helps").all()
print("hints on the same features help, more than the discriminator, and cost less than two thirds of its time: yes")
print("shown other examples' features, or an untrained network's, the discriminator is as good, within two points: yes")
print("a discriminator that is too strong ruins the student: yes")

# %% [markdown]
# - **It adds about a point** to soft targets, and improves NLL. Asked alone, it is clear of zero; among eleven
#   comparisons it is undecided.
# - **It is not the teacher's knowledge.** With features that belong to other examples, or to a network that never
#   learned, the gain is the same, within two points: regularisation. Weight decay gives most of the gain in NLL at no
#   cost.
# - **The cheap way is better.** Hints say which feature belongs to which example. They gain more than two points, in
#   half the time. Shuffled, they ruin the student: so there the *pairing* carries the knowledge.
# - **Too strong ruins it.** Its loss goes to 0: it always knows, and pushes the student's features anywhere else.
#
# Where pairs exist, use them; a judge of sets is for where they don't: outputs for *other* inputs, or text.

# %%
assert means.loc["hints, shuffled", "accuracy"] < 0.2
assert means.loc["discriminator, too strong", "discriminator_loss"] < 0.001
decay = means.loc["soft targets", "nll"] - means.loc["soft targets, weight decay", "nll"]
assert decay > 0.6 * (means.loc["soft targets", "nll"] - means.loc["discriminator", "nll"])
print("shuffled hints ruin the student; the strong discriminator's loss is 0; decay has most of the gain in NLL: yes")


# %% [markdown]
# ## 5. The heirs: images in one step
#
# Generators of images are where discriminators came from, and where distillation met them again. A [diffusion
# model](GLOSSARY.md#diffusion-model) makes an image in tens or hundreds of small steps, each guided by a **score**, the
# gradient of the log-density of (noised) images: which way does this become likelier? Its student is to do it in one.
#
# Who knows the teacher's score $s_p$ and the student's own, $s_q$, needs no discriminator. Their difference says which
# way to move a sample $x$:
#
# $$\nabla_{x} L = \frac1B \big(s_q(x) - s_p(x)\big)$$
#
# That is the gradient of $\mathrm{KL}(Q \,\|\, P)$: [distribution matching](GLOSSARY.md#distribution-matching) (DMD,
# 2023). For the best discriminator, $d^* = \log p/q$, the gradient of $d^*$ with respect to $x$ is just $s_p - s_q$:
# the same push, from two scores instead of a judge that must be trained.

# %%
lab.show(distribution_matching_loss)

# %% [markdown]
# **By hand.** A student $\mathcal N(1, 2^2)$, a teacher $\mathcal N(3, 0.5^2)$; the score of a Gaussian is $(\mu -
# x)/\sigma^2$. At $x = 1$: $s_q = 0$, $s_p = 2 / 0.25 = 8$. Two samples, so the gradient is $(0 - 8)/2 = -4$: a step of
# descent moves it up, to the teacher.

# %%
x = torch.tensor([[1.0], [3.0]], requires_grad=True)
distribution_matching_loss(x, (1 - x) / 4, (3 - x) / 0.25).backward()
print("gradient at 1 and at 3:", x.grad.flatten().tolist())

# %% [markdown]
# **In the plane.** The teacher is a mixture of eight narrow Gaussians on a ring; the generator, a small network, turns
# noise into a point in one go. Matching needs the teacher's score, which we have in closed form, and the generator's
# own, taken from its samples; both with noise of many sizes added, as in a diffusion model, so that there is a slope
# everywhere. The discriminator needs samples of the teacher instead.

# %%
lab.show(plane.matching_loss)

# %%
generator, draws = plane.players(BASE_SEED).generator, torch.Generator().manual_seed(BASE_SEED)
optimizer = torch.optim.Adam(generator.parameters(), lr=adversarial_generator_tuning.chosen("distribution matching"))
looks = {}
for number in range(1001):
    if number in (0, 100, 300, 1000):
        looks[number] = generator(torch.randn(500, 2, generator=torch.Generator().manual_seed(1))).detach()
    level = 2 * 0.05 ** torch.rand((), generator=draws).item()
    optimizer.zero_grad()
    plane.matching_loss(generator, level, draws).backward()
    optimizer.step()

# %%
with style.new_figure(11, 3.1, columns=4) as (figure, axes):
    for ax, (number, points) in zip(axes, looks.items(), strict=True):
        ax.scatter(*plane.CENTRES.T.numpy(), s=220, color="#cccccc", label="teacher")
        ax.scatter(*points.T.numpy(), s=5, color=style.COLORS[0], label="generator")
        ax.set(title=f"{number} steps", xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
report.figure(
    figure,
    "eight grey spots on a ring and the generator's points in blue: a clump in the middle at first, then an arc that "
    "bends along the ring, until it reaches most of the spots",
)
assert plane.modes_found(looks[1000]) > 4
print("after 1,000 steps it has found more than half of the eight modes: yes")

# %% [markdown]
# **The experiment**, 24 seeds: the same generator, noise and 1,000 steps. *Near*: the share of points within three of
# the teacher's spreads of a mode. *Modes*: those of eight that have a quarter of their due; *fewest* is the least over
# the second half of the training. Learning rates were chosen on three other seeds. Controls: matching with little noise
# only; the saturating form; a discriminator ten times as quick.

# %% tags=["nbval-ignore-output"]
drawn = experiments.load("adversarial_generator")
order = list(adversarial_generator.ARMS)
means = drawn.groupby("arm")[["near", "modes", "fewest_modes", "energy_distance", "seconds"]].mean().loc[order]
report.table(means, percent=["near"], decimals=2)
seed = BASE_SEED if BASE_SEED in set(drawn["seed"]) else 0
live = adversarial_generator.run(seed, "distribution matching")
kept = drawn.query("seed == @seed and arm == 'distribution matching'").iloc[0]

# %%
assert abs(live["near"] - kept["near"]) < 0.2
assert abs(live["modes"] - kept["modes"]) <= 3
compared = {name: lab.compare(drawn, baseline="adversarial", metric=name)["verdict"] for name in ("near", "modes")}
assert compared["modes"]["distribution matching"] == compared["modes"]["adversarial, saturating"] == "undecided"
assert means.loc["distribution matching", "modes"] > 6.5
assert means.loc["adversarial", "modes"] > 6.5
assert compared["near"]["distribution matching"] == "hurts"
assert means.loc["distribution matching", "seconds"] < 0.8 * means.loc["adversarial", "seconds"]
assert compared["modes"]["adversarial, too strong"] == "hurts"
assert means.loc["adversarial, too strong", "modes"] < 5
assert means.loc["distribution matching, little noise", "modes"] < 2
print("a matched run, live: near the stored one")
print("both ways find more than six of the eight modes, and which finds more is undecided: yes")
print("the adversarial generator's points lie nearer to the modes; matching takes less time: yes")
print("a discriminator that is too quick loses modes; so does matching with little noise, nearly all: yes")

# %% [markdown]
# - **Neither drops modes** when it is well set: seven and a half of eight, in the mean. That a GAN drops modes and
#   matching does not, we could not show here.
# - **The discriminator is sharper, at this budget:** eight of ten of its points lie on a mode, of matching's one in
#   two. A network that is continuous must put some between. More steps would sharpen both, so we claim nothing beyond
#   1,000.
# - **Both can be ruined by one setting:** a judge that is too quick, and scores without large noise, which see only the
#   nearest mode.
# - **Matching is cheaper here** because its scores are free. For images the teacher's score is a large network, and the
#   student's own must be trained beside it, as a discriminator would be.

# %% [markdown]
# **Who, when, what was claimed.** From a slow teacher to a fast student, with the authors' figures, which we have not
# checked. (FID compares statistics of generated and real images; smaller is better.)
#
# - **2022, [progressive distillation](https://arxiv.org/abs/2202.00512)** (Salimans and Ho): a student does two of its
#   teacher's steps in one, becomes the teacher, and so on. Four steps: FID 3.0 on CIFAR-10.
# - **2023, [consistency models](https://arxiv.org/abs/2303.01469)** (Song et al.): all points of one path lead to the
#   same image. One step: FID 3.55 on CIFAR-10, 6.20 on ImageNet 64 × 64.
# - **2023, [adversarial diffusion distillation](https://arxiv.org/abs/2311.17042)** (Sauer et al.): a discriminator and
#   a score of the teacher together. In four steps on a par with the teacher.
# - **2023, [DMD](https://arxiv.org/abs/2311.18828)** (Yin et al.): the difference of two scores, and a regression to
#   images of the teacher. One step: FID 2.62 on ImageNet 64 × 64.
# - **2024, [DMD2](https://arxiv.org/abs/2405.14867)** (Yin et al.): without the regression, with a discriminator on
#   *real* images. One step: FID 1.28 there, better than its teacher: real images are data again, not the teacher.


# %% [markdown]
# ## 6. The other meaning of the word
#
# An [adversarial example](GLOSSARY.md#adversarial-example) is an input that somebody changed so little that no person
# would mind, and so that the network errs. No discriminator is in it: the *attack* is gradient ascent on the input,
# kept within a small ball ([PGD](GLOSSARY.md#projected-gradient-descent), Madry et al. 2018).

# %%
lab.show(lab.pgd)

# %% [markdown]
# Digits of 8 × 8 pixels from 0 to 1; each pixel may change by 0.1. The network learned from clean labels.

# %%
known = robust.known(BASE_SEED)
plain = robust.taught("labels", BASE_SEED, 0.0)
x, y = known.test_x[:200], known.test_y[:200]
draws = torch.Generator().manual_seed(BASE_SEED)
found = lab.pgd(plain, x, y, radius=0.1, step_size=0.0125, steps=20, generator=draws)
says, says_then = plain(x).argmax(dim=1), plain(found).argmax(dim=1)
shares = [(said == y).double().mean().item() for said in (says, says_then)]
assert shares[0] > 0.9
assert shares[1] < 0.65
print("right on more than 90 of 100 clean images, on fewer than 65 of 100 attacked ones: yes")

# %% tags=["nbval-ignore-output"]
fooled = ((says == y) & (says_then != y)).nonzero().flatten()[:4]
pairs = torch.stack([x[fooled], found[fooled]], dim=1).flatten(0, 1)
titles = [f"{name} {said.item()}" for i in fooled for name, said in (("clean:", says[i]), ("attacked:", says_then[i]))]
report.figure(
    report.examples(pairs, titles, columns=8),
    "four digits, each clean and attacked; the changes are faint specks, and above each stands what the network says",
)

# %%
assert len(fooled) == 4
print("four digits that were read rightly, and are not any more: shown")

# %% [markdown]
# **What a teacher passes on.** [Adversarial training](GLOSSARY.md#adversarial-training) shows the network attacked
# images at every step; our *robust teacher* learned so. Goldblum et al. (2020) asked whether such a teacher passes
# its [robustness](GLOSSARY.md#robustness) on to a student that is trained on clean images alone, and proposed ARD: the
# student sees the attacked image, the teacher the clean one,
#
# $$\tau^2\, \mathrm{KL}\big(p(x) \,\|\, q(x + \delta)\big).$$
#
# No new loss: another input on one side.

# %%
student, draws = models.make(robust.STUDENT, shape=robust.SHAPE, seed=BASE_SEED + 1), torch.Generator().manual_seed(1)
optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
said = lab.teacher_outputs(robust.teacher(BASE_SEED, robust=True), known.train_x)


def step_robust(batch):
    images, labels, teacher_logits = batch
    attacked = lab.pgd(student, images, labels, radius=0.1, step_size=0.033, steps=5, generator=draws)
    return {"loss": soft_target_loss(student(attacked), teacher_logits, temperature=4.0)}


batches = lab.Batches(known.train_x, known.train_y, said, batch_size=100, seed=BASE_SEED)
lab.fit(step_robust, student, batches, optimizer, epochs=15, progress=False)
found = lab.pgd(student, x, y, radius=0.1, step_size=0.0125, steps=20, generator=draws)
withstands = (student(found).argmax(dim=1) == y).double().mean().item()
assert withstands > shares[1] + 0.1
print("after fifteen epochs of ARD the student withstands ten points more of these attacks: yes")

# %% [markdown]
# **The experiment**, 24 seeds. Attacked test images: two losses, three starts each, 20 steps; robust is who withstands
# all. Controls: a plain teacher in each place; the robust teacher's *choices* instead of its soft outputs; weight
# decay, label smoothing; and adversarial training without any teacher. One setting each was chosen on validation images
# of other seeds.

# %%
withstood = experiments.load("adversarial_robust")
seed = BASE_SEED if BASE_SEED in set(withstood["seed"]) else 0
for arm in ("labels", "robust teacher"):
    live = adversarial_robust.run(seed, arm)["robust_accuracy"]
    kept = withstood.query("seed == @seed and arm == @arm").iloc[0]["robust_accuracy"]
    assert abs(live - kept) < 0.04  # other processors round differently; the teacher's effect is ten points
    print(f"{arm}: within four points of the stored run")

# %% tags=["nbval-ignore-output"]
order = [arm for arm in adversarial_robust.ARMS if not arm.startswith("defensive")]
stored = withstood[withstood["arm"].isin(order)]
report.comparison(
    lab.compare(stored, baseline="labels", metric="robust_accuracy").loc[order],
    caption="accuracy on attacked images, 24 seeds",
)
means = stored.groupby("arm")[["accuracy", "robust_accuracy", "seconds"]].mean().loc[order]
report.table(means, percent=["accuracy", "robust_accuracy"], caption="clean, attacked, cost")

# %%
found = report.verdicts(stored, baseline="labels", metric="robust_accuracy")
report.table(found)
against = {base: report.verdicts(stored, baseline=base, metric="robust_accuracy")["all seeds"] for base in order}
trained = ["labels, attacked", "plain teacher, ARD", "robust teacher, ARD"]
assert (found.loc[["robust teacher", "plain teacher", "labels, decay", *trained], "all seeds"] == "helps").all()
assert against["plain teacher"]["robust teacher"] == "helps"
assert against["robust teacher, choices"]["robust teacher"] == "helps"
assert against["labels, decay"]["robust teacher"] == "hurts"
assert against["plain teacher, decay"]["robust teacher, decay"] == "helps"
assert (against["labels, attacked"][trained[1:]] == "no useful difference").all()
assert means.loc["labels", "accuracy"] - means.loc["labels, attacked", "accuracy"] < 0.01
points = 100 * (means["robust_accuracy"] - means["robust_accuracy"]["labels"])
assert 7 < points["robust teacher"] < 14
assert points["plain teacher"] < 6
assert points["robust teacher, choices"] < 4
assert points["labels, decay"] > 10
assert points["labels, attacked"] > 35
print("the robust teacher's outputs on clean images help, more than a plain teacher's and more than its choices: yes")
print("weight decay alone helps more than that; attacked images in training, by far more: yes")
print("with attacked images a teacher, robust or plain, makes no useful difference: yes")

# %% [markdown]
# - **A robust teacher passes some of it on**, about ten points, through its soft outputs: its choices alone give one or
#   two, a plain teacher three. So something of its robustness *is* in what it says of clean images.
# - **A plain control gives more.** Weight decay, without any teacher, is ahead of it (and costs about a point on clean
#   images). With decay the robust teacher is still ahead of a plain one, by about two points.
# - **Adversarial training is another league**, forty points, and here ARD adds nothing to it, from either teacher. Its
#   paper is about large networks that adversarial training makes worse on clean images; ours loses less than a point.
#
# **Looks robust, is not.** Papernot et al. (2016) proposed [distillation as a
# defence](https://arxiv.org/abs/1511.04508): train teacher and student at a high temperature, use the student at 1. Its
# logits are then so large that the softmax is flat, and the attack finds no gradient. Carlini and Wagner (2016)
# [attacked the logits instead](https://arxiv.org/abs/1608.04644).

# %%
defended = robust.defensive(known, BASE_SEED, rate=adversarial_robust_tuning.chosen("defensive distillation"))
settings = {"radius": 0.1, "step_size": 0.0125, "steps": 20}
usual = lab.pgd(defended, x, y, **settings)
better = lab.pgd(defended, x, y, **settings, loss=robust.margin)
survived = [(defended(images).argmax(dim=1) == y).double().mean().item() for images in (usual, better)]
hidden = robust.vanished(defended, x, y).double().mean().item()
assert survived[0] > 0.75
assert survived[1] < survived[0] - 0.25
assert hidden > 0.75
print("the usual attack fails on more than 75 of 100 images, the better one on many fewer: yes")
print("images at which the gradient is zero in every pixel: more than 75 of 100")

# %%
lab.show(robust.margin)
masked = withstood[withstood["arm"].isin(["labels", "defensive distillation"])]
both = masked.groupby("arm")[["naive_robust_accuracy", "better_robust_accuracy", "vanished"]].mean()
assert both.loc["defensive distillation", "naive_robust_accuracy"] > 0.85
assert both.loc["labels", "naive_robust_accuracy"] < 0.45
judged = lab.compare(masked, baseline="labels", metric="robust_accuracy").loc["defensive distillation"]
assert judged["verdict"] not in ("helps", "hurts")
print("against both attacks, 24 seeds: defensive distillation neither helps nor hurts")

# %% tags=["nbval-ignore-output"]
report.table(both, percent=list(both))

# %%
assert both.loc["defensive distillation", "vanished"] > 0.85
assert both.loc["labels", "vanished"] < 0.01
print("zero gradients: at most images with the defence, at none without: yes")

# %% [markdown]
# Ninety images of a hundred withstand the usual attack, and as few as without any defence withstand the better one:
# [gradient masking](GLOSSARY.md#gradient-masking). The better attack takes the lead of the best wrong class instead of
# the cross-entropy. Before you believe in robustness, attack by more than one loss.


# %% [markdown]
# ## 7. Text: the judge as a reward (in depth)
#
# Where the teacher is a [black box](GLOSSARY.md#black-box) that writes text, there are no logits, and text has no
# gradient. [GAD](https://arxiv.org/abs/2511.10643) (2025) trains a discriminator that compares the student's answer
# with the teacher's to the same prompt, and takes its score as a [reward](GLOSSARY.md#reward). Its loss is that of a
# paired comparison (Bradley and Terry 1952):
#
# $$-\frac1B \sum_i \log \sigma(d^t_i - d^s_i)$$
#
# Only the difference counts: a hard prompt, on which both answers are poor, costs neither.

# %%
lab.show(paired_discriminator_loss)

# %% [markdown]
# **By hand.** Scores 3 and 0 for the student's two answers, 3 and 2 for the teacher's: the first pair is a tie and
# costs log 2 = 0.693, the second $\log(1 + e^{-2})$ = 0.127; the mean is 0.410. Ten more for both answers to a prompt
# change nothing.

# %%
own, theirs = torch.tensor([3.0, 0.0]), torch.tensor([3.0, 2.0])
print(round(paired_discriminator_loss(own, theirs).item(), 3))
print(round(paired_discriminator_loss(own + torch.tensor([10.0, 0.0]), theirs + torch.tensor([10.0, 0.0])).item(), 3))

# %% [markdown]
# The student then makes likely what was rewarded more than its other answers to the same problem (REINFORCE, with their
# mean as baseline; [lesson 12](12_reasoning.ipynb)):

# %%
lab.show(duels.policy_loss)

# %% [markdown]
# **Live**, on lesson 12's running sums; to save time the teacher is not a network here but the algorithm that writes
# the traces, with slips at six sixes of ten. The student reads its text for 150 steps. The judge starts as a copy of
# the student with another last layer, and is warmed up on what the student writes now.

# %%
asked = duels.problems(2000, BASE_SEED, 1)
teachers_text = sums.completions(sums.traces(asked, slip=0.6, seed=BASE_SEED))
student = duels.train(duels.network(duels.STUDENT, seed=BASE_SEED), asked, teachers_text, steps=150, seed=BASE_SEED)
duel, draws = duels.duel_for(student), torch.Generator().manual_seed(BASE_SEED)
preferred = []
for rows in torch.randperm(2000, generator=draws)[:1920].split(64):
    own = duels.draw(student, asked[rows], draws)
    preferred.append(duels.compare_texts(duel, asked[rows], own, teachers_text[rows]))
assert torch.cat(preferred[10:]).mean() < 0
print("after thirty steps the judge prefers the teacher's text to the student's: yes")

# %%
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)


def step_rewarded(batch):
    (rows,) = batch
    rows = rows.repeat_interleave(duels.DRAWS)  # four answers to each problem
    own = duels.draw(student, asked[rows], draws)
    reward = duels.compare_texts(duel, asked[rows], own, teachers_text[rows])  # the judge's own step is in here
    loss = duels.policy_loss(duels.scores(student, asked[rows], own), own, duels.advantages(reward))
    return {"loss": loss, "reward": reward.mean()}


batches = lab.Batches(torch.arange(320), batch_size=16, seed=BASE_SEED)
rows = lab.fit(step_rewarded, student, batches, optimizer, epochs=1, progress=False)
assert rows[0]["reward"] < 0
print("twenty steps by reward: in the mean the student's text was still preferred less than the teacher's: yes")


# %% [markdown]
# **The experiment**, 24 seeds. All go on from where the student has read the teacher's text ("the start"), for equally
# many steps, and may see the teacher's *text* only. The baseline goes on reading it. Controls for the reward: a judge
# that is *frozen* after its warm-up; one that was *not warmed up*; rewards dealt out to *other* texts of the batch. The
# measure is the share of right sums in text that the student draws, on new problems (the teacher itself slips), and
# how far its probabilities are from the teacher's, in nats per token. Learning rates and steps were chosen on two other
# seeds. One thing was changed after a look at one of these: a judge that read the end token alone was no better than a
# guess, so it sums scores over the tokens.

# %% tags=["nbval-ignore-output"]
tuned = experiments.load("adversarial_text_tuning").groupby("arm")["accuracy"].mean()
rates, steps = adversarial_text_tuning.RATES, adversarial_text_tuning.chosen("reward, moving")[1]
grid = {way: [tuned[f"{way} | {rate:g} | {steps}"] for rate in rates] for way in adversarial_text_tuning.WAYS}
names = [f"rate {rate:g}" for rate in rates]
report.table(pd.DataFrame(grid, index=names).T.rename_axis(f"{steps} further steps"), percent=names)

# %%
written = experiments.load("adversarial_text")
print(
    experiments.provenance("adversarial_text")["command"],
    "·",
    len(written),
    "runs,",
    written["seed"].nunique(),
    "seeds",
)
beyond = experiments.load("adversarial_text_beyond").groupby("arm")["accuracy"].mean()
assert beyond.filter(like="goes on").max() < tuned[f"goes on with the text | 0.001 | {steps}"] + 0.01
assert beyond["reward, moving | 0.0001 | 240"] < beyond["the start | 0 | 0"]
print("three and ten times the text's rate, the largest tried: flat, within a point; thrice the reward's steps: below")
chosen = [adversarial_text_tuning.chosen(way) for way in adversarial_text_tuning.WAYS]
print("chosen, rate and steps:", dict(zip(adversarial_text_tuning.WAYS, chosen, strict=True)))

# %% tags=["nbval-ignore-output"]
order = list(adversarial_text.ARMS)
base = "goes on with the text"
report.comparison(
    lab.compare(written, baseline=base, metric="accuracy").loc[order], caption="share of right sums, drawn text"
)
columns = ["accuracy", "greedy", "forward", "reward_first", "reward", "seconds"]
means = written.groupby("arm")[columns].mean().loc[order]
report.table(means, percent=["accuracy", "greedy"], caption="greedy: right sums of the likeliest text")

# %%
found = report.verdicts(written, baseline=base).loc[[arm for arm in order if arm != base]]
report.table(found)
rewarded = [arm for arm in order if arm.startswith("reward")]
assert (found.loc[rewarded, "all seeds"] == "hurts").all()
since_start = report.verdicts(written, baseline="the start")["all seeds"]
assert since_start[base] == "helps"
assert since_start["reward, frozen"] == "hurts"
farther = report.verdicts(written, baseline="the start", metric="forward", higher_is_better=False)["all seeds"]
assert (farther[rewarded] == "hurts").all()
assert farther[base] == "helps"
print("going on with the teacher's text helps; every kind of reward hurts, against it: yes")

# %%
judges = lab.compare(written[written["arm"].isin(rewarded)], baseline="reward, shuffled", metric="accuracy")["verdict"]
assert judges["reward, moving"] != "helps"
assert means.loc["reward, frozen", "reward"] > 0 > means.loc["reward, frozen", "reward_first"]
assert means.loc["reward, moving", "reward"] < means.loc["reward, moving", "reward_first"]
points = 100 * (means["accuracy"] - means.loc[base, "accuracy"])
assert -2.5 < points["the start"] < -0.5
assert -6.5 < points["reward, moving"] < -2
assert -10 < points["reward, frozen"] < -4
assert means.loc["reward, moving", "seconds"] > 5 * means.loc[base, "seconds"]
likeliest = report.verdicts(written, baseline=base, metric="greedy")["all seeds"]
assert (likeliest[rewarded] == "helps").all()
print("that a moving judge's reward is better than rewards dealt out at random is not shown: yes")
print("of likeliest text, every kind of reward has more right sums, the shuffled one too: yes")
print("the frozen judge comes to prefer the student's text to the teacher's, while right sums become fewer: yes")

# %% [markdown]
# - **The teacher's text is worth more**, by what the student draws. Eighty more steps of reading gain a point and a
#   half; eighty steps by reward lose four against them, and take ten times as long.
# - **The reward says too little here.** Dealt out to the wrong texts it does no worse: the steps, not the judge, move
#   the student. One number for a whole text, from a judge that is hardly surer than a guess, is little to learn from.
# - **Frozen, the judge is exploited:** at the end it *prefers* the student's text, and that text is worse by six points
#   of a hundred, and farther from the teacher's: [reward hacking](GLOSSARY.md#reward-hacking). The moving judge sees
#   through it (its preference falls), and still can't teach.
# - **Look twice.** Of the *likeliest* text the opposite holds: with every reward, shuffled or not, more sums are right
#   than with the teacher's text. This teacher slips; who drifts away from it, in whatever direction, may slip less
#   where it is surest. That is no success of the judge, whose aim is to make the student like the teacher.
# - **Scale and task differ.** GAD's authors train models of billions of parameters on open questions, where many
#   answers are good and none is *the* one, and warm the judge up first; without warm-up their student came out no
#   better than with the teacher's text alone (49.0 against 49.2, by a judge's marks). A frozen judge was exploited
#   there, too, after some 300 steps. Our texts are short, and like the teacher's already.


# %% [markdown]
# ## 8. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/09_adversarial.ipynb](solutions/09_adversarial.ipynb).

# %% [markdown] tags=["exercise"]
# **09.1 Predict.** Two places. The teacher is at the first three times in four; the student every other time. Which
# value of `discriminator_loss` does the best discriminator leave? Work it out before you compute anything with code.
#
# <details><summary>Hint</summary>The best D is p/(p + q) at each place: 3/5 and 1/3.</details>

# %% tags=["exercise"]
my_loss = ...

# %% tags=["solution"]
my_loss = 1.3186  # -¾ log 3/5 - ¼ log 1/3 - ½ log 2/5 - ½ log 2/3

# %% tags=["check"]
lab.check("09.1", my_loss)

# %% [markdown] tags=["exercise"]
# **09.2 Build.** Both losses of the game from the scores of student (B,) and teacher (B',): return the discriminator's
# loss and the student's (the form that trains), stacked.
#
# <details><summary>Hint</summary>F.logsigmoid(d) is log σ(d), and 1 − σ(d) = σ(−d).</details>


# %% tags=["exercise"]
def both_losses(student_scores, teacher_scores):
    raise NotImplementedError


# %% tags=["solution"]
def both_losses(student_scores, teacher_scores):
    told = -F.logsigmoid(teacher_scores).mean() - F.logsigmoid(-student_scores).mean()
    return torch.stack([told, -F.logsigmoid(student_scores).mean()])


# %% tags=["check"]
lab.check("09.2", both_losses)

# %% [markdown] tags=["exercise"]
# **09.3 Build.** Distribution matching without a network: the student's samples (B,) come from $\mathcal
# N$(`own_mean`, `own_sd`²), the teacher is $\mathcal N$(`mean`, `sd`²). Return the gradient of the loss with respect to
# each sample, (B,).
#
# <details><summary>Hint</summary>The score of a Gaussian is (μ − x)/σ².</details>


# %% tags=["exercise"]
def gaussian_gradient(samples, own_mean, own_sd, mean, sd):
    raise NotImplementedError


# %% tags=["solution"]
def gaussian_gradient(samples, own_mean, own_sd, mean, sd):
    return ((own_mean - samples) / own_sd**2 - (mean - samples) / sd**2) / len(samples)


# %% tags=["check"]
lab.check("09.3", gaussian_gradient)

# %% [markdown] tags=["exercise"]
# **09.4 Build.** One step of the attack: `x` is the image as attacked so far, `clean` the image it came from,
# `gradient` that of the loss at `x`. Return the next image: no pixel farther than `radius` from the clean one, all
# between 0 and 1.
#
# <details><summary>Hint</summary>The step goes along the sign; then two clamps.</details>


# %% tags=["exercise"]
def pgd_step(x, clean, gradient, step_size, radius):
    raise NotImplementedError


# %% tags=["solution"]
def pgd_step(x, clean, gradient, step_size, radius):
    moved = x + step_size * gradient.sign()
    return (clean + (moved - clean).clamp(-radius, radius)).clamp(0, 1)


# %% tags=["check"]
lab.check("09.4", pgd_step)

# %% [markdown]
# **Going further** (not checked): put the discriminator on the logits instead of the features: does it see more, or
# less? Give the generator of section 5 a discriminator *and* scores, as DMD2 does: which of the two finds the eighth
# mode?

# %%
lab.quiz("09")


# %% [markdown]
# ## 9. When to use which, and when not
#
# **A discriminator** where nothing can be compared pair by pair: the teacher's outputs belong to other inputs, or are
# samples without a likelihood (section 5). **Not** where you have logits or features of the same inputs: there, soft
# targets and hints did more for less here. If you do use one, keep its loss in sight, hold it back, and run the control
# whose real examples have nothing to do with the inputs.
#
# **As a reward** for text it hurt here (section 7). If you try it, keep it moving, and take going on with the teacher's
# text as the baseline. **Scores** where the teacher is a diffusion model: that is where the field went.
#
# **Robustness:** train on attacked images. ARD is meant for networks that lose clean accuracy by it, a case that ours
# is not. Expect little of a robust teacher on clean images alone, and of a defence, until somebody attacked it by
# another loss.
#
# **Cost:** the discriminator's step about doubles that of a small student; on text each step needs the student's own
# writing; adversarial training costs as many passes as the attack has steps, and one.
#
# **Copy it:** `python -m kdref copy adversarial` writes one file that needs only torch.
#
# **Further reading:** [Goodfellow et al. 2014](https://arxiv.org/abs/1406.2661); [Arjovsky and Bottou
# 2017](https://arxiv.org/abs/1701.04862), why training is unstable; [Carlini and Wagner
# 2016](https://arxiv.org/abs/1608.04644), how to attack.
#
# **Next lesson:** [10](10_transfer_data.ipynb), transfer data: what must the student see?
