# %% [markdown]
# # 08 · Self-distillation and online distillation
#
# **What can a network learn from itself, when nobody knows more than it does?**
#
# **You will be able to**
#
# - solve self-distillation exactly, for ridge regression, and say when a round helps and when it ruins the fit;
# - train [born-again networks](GLOSSARY.md#born-again-networks), and take apart what their soft targets give:
#   confidence, smoothing, dark knowledge;
# - name the fair opponents, longer training and an ensemble, and hold every method against them;
# - keep a teacher that nobody trained, a [moving average](GLOSSARY.md#exponential-moving-average), from
#   [collapsing](GLOSSARY.md#collapse), and see a collapse that the loss hides.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb) (soft targets, τ) and [lesson 02](02_response_based.ipynb) (the [virtual
# teacher](GLOSSARY.md#virtual-teacher)). Ridge regression is explained where it is used.
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/self_distillation/ridge.py` (ridge), and beside it `generations.py` (born-again ablations,
# progressive targets), `online.py` (peers, class mates), `branches.py` (early classifiers), `ema.py` (a moving average
# as the teacher), `self_supervised.py` (DINO).
#
# **Papers:** [Mobahi et al. 2020](https://arxiv.org/abs/2002.05715) and [Borup and Andersen
# 2021](https://arxiv.org/abs/2102.13088) (ridge theory), [Furlanello et al. 2018](https://arxiv.org/abs/1805.04770)
# (born-again networks), [Zhang et al. 2018](https://arxiv.org/abs/1706.00384) (mutual learning), [Yun et al.
# 2020](https://arxiv.org/abs/2003.13964) (CS-KD), [Kim et al. 2021](https://arxiv.org/abs/2006.12000) (PS-KD), [Caron
# et al. 2021](https://arxiv.org/abs/2104.14294) (DINO); the others stand where they are used.

# %% tags=["setup"]
from copy import deepcopy

import pandas as pd
import torch
import torch.nn.functional as F

from kdref import lab
from kdref.lab import data, models, report
from kdref.lab.experiments._self_distillation import mates, two_views
from kdref.lab.report import style
from kdref.lab.widgets.self_distillation import draw_fit, noisy_sine, ridge_explorer, ridge_rounds, sine
from kdref.response import virtual_teacher_logits
from kdref.self_distillation import (
    DinoCenter,
    EmaTeacher,
    class_consistency_loss,
    confidence_weighted_loss,
    deep_supervision_loss,
    dino_loss,
    mutual_learning_loss,
    output_information,
    permuted_dark_knowledge,
    progressive_targets,
    progressive_weight,
    ridge_self_distillation,
)
from kdref.soft_targets import soft_target_loss

lab.setup()
BASE_SEED = lab.base_seed()
SEEDS = range(BASE_SEED, BASE_SEED + 8)
NET, EPOCHS, BATCH, RATE = "mlp-100", 20, 100, 0.01  # the same for every network of sections 2 to 4

# %% [markdown]
# ## 1. A network that can be solved
#
# Train a network; take its answers as new labels; train an equal network on them. No information has come in. Why
# should the second be better?
#
# Ask a model that can be solved on paper. [**Ridge regression**](GLOSSARY.md#ridge-regression) with a kernel fits a
# curve $f$ to labels $Y$ by
#
# $$\min_f \; \sum_i (f(x_i) - y_i)^2 + c\,\|f\|^2 \quad\Rightarrow\quad \text{fitted values } S\,Y, \qquad
# S = G\,(G + c I)^{-1}$$
#
# The kernel $k$ says how alike two places are, $G_{ij} = k(x_i, x_j)$; $\|f\|$ says how wild a curve is, and $c$ is the
# [**penalty**](GLOSSARY.md#penalty) on that. Fit again, to the fitted values: $S\,S\,Y$. After t rounds $S^t\,Y$. Along
# an eigenvector of G with eigenvalue λ each round multiplies by λ/(λ + c), which is less than 1, and least where λ is
# small: in the fast wiggles, which here are mostly noise.
#
# So [self-distillation](GLOSSARY.md#self-distillation) is [regularisation](GLOSSARY.md#regularisation), and **more of
# it with every round** (Mobahi, Farajtabar and Bartlett, NeurIPS 2020). Forty noisy values of a sine, and a penalty
# that is too small:

# %%
grid = torch.linspace(0, 1, 201, dtype=torch.float64)
x, y = noisy_sine(40, seed=0)
_, predictions = ridge_rounds(ridge_self_distillation, x, y, grid, penalty=0.1, rounds=60)
with style.new_figure(11, 3.6, columns=3) as (figure, axes):
    for ax, turn in zip(axes, (1, 8, 60), strict=True):
        draw_fit(ax, x, y, {f"round {turn}": predictions[turn - 1]})
report.figure(
    figure, "three fits to noisy values of a sine: round 1 follows the noise, round 8 is smooth, 60 nearly flat"
)

# %% [markdown]
# The code is shorter than its story:

# %%
lab.show(ridge_self_distillation)

# %% [markdown]
# **By hand.** Two examples that know nothing of each other, $G = \mathrm{diag}(3, 1)$, labels (1, 1), $c = 1$:
# $S = \mathrm{diag}(3/4, 1/2)$. Round 2 is (9/16, 1/4): the example with the small eigenvalue has lost three quarters,
# the other not even half.

# %%
gram, ones = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64)), torch.ones(2, 1, dtype=torch.float64)
for turn, fit in enumerate(ridge_self_distillation(gram, ones, penalty=1.0, rounds=3), start=1):
    print(f"round {turn}:", [round(v, 3) for v in fit[:, 0].tolist()])

# %% [markdown]
# Two facts to check to twelve digits. Without labels, round t is $S^t\,Y$, and in the end nothing is left. With the
# labels mixed in at weight a, targets $(1-a)\,Y_{t-1} + a\,Y$, it converges: to ridge regression with the larger
# penalty $c/a$ (Borup and Andersen 2021).

# %%
features = torch.sin(torch.arange(35, dtype=torch.float64) ** 2).reshape(7, 5)
gram, labels = features @ features.T, torch.cos(torch.arange(7, dtype=torch.float64))[:, None]
eye = torch.eye(7, dtype=torch.float64)
shrink = gram @ torch.linalg.inv(gram + 0.5 * eye)
fits = ridge_self_distillation(gram, labels, penalty=0.5, rounds=9)
torch.testing.assert_close(fits[8], torch.linalg.matrix_power(shrink, 9) @ labels, rtol=0, atol=1e-12)
mixed = ridge_self_distillation(gram, labels, penalty=0.5, rounds=500, label_weight=0.25)
limit = gram @ torch.linalg.solve(gram + 0.5 / 0.25 * eye, labels)
torch.testing.assert_close(mixed[-1], limit, rtol=0, atol=1e-12)
print("nine rounds are the ninth power of S: yes")
print("labels at weight 1/4, many rounds: ridge with four times the penalty: yes")

# %% [markdown]
# **Does it help?** Sixteen draws of forty labels. The round is chosen on forty *other* noisy values, and so is the
# penalty of its fair opponent: ridge regression, tuned, one round.


# %%
RIDGE = {  # the penalties tried, the rounds, and whether the last round is taken or the one that is best on new values
    "c = 0.1, one round": ([0.1], 1, False),
    "c = 0.1, round chosen": ([0.1], 60, False),
    "c = 0.1, round 60": ([0.1], 60, True),
    "penalty chosen, one round": ([10 ** (k / 10 - 2) for k in range(31)], 1, False),
}


def run_ridge(seed, arm):
    penalties, rounds, last = RIDGE[arm]
    (x, y), (new_x, new_y) = noisy_sine(40, seed=seed), noisy_sine(40, seed=10_000 + seed)
    places, choices = torch.cat([new_x, grid]), []
    for penalty in penalties:
        _, found = ridge_rounds(ridge_self_distillation, x, y, places, penalty=penalty, rounds=rounds)
        chosen_by, truth = (found[:, :40] - new_y).square().mean(1), (found[:, 40:] - sine(grid)).square().mean(1)
        choices += zip(chosen_by.tolist(), truth.tolist(), strict=True)
    return {"error": (choices[-1] if last else min(choices))[1], "by round": [truth for _, truth in choices]}


ridge = lab.replicate(run_ridge, arms=list(RIDGE), seeds=range(BASE_SEED, BASE_SEED + 16))

# %%
by_round = [
    {"round": turn, "error": row["by round"][turn - 1]}
    for _, row in ridge[ridge["arm"] == "c = 0.1, round 60"].iterrows()
    for turn in (1, 2, 3, 5, 8, 12, 20, 30, 40, 60)
]
tuned = ridge.loc[ridge["arm"] == "penalty chosen, one round", "error"].mean()
figure = report.curve(
    pd.DataFrame(by_round),
    x="round",
    y="error",
    y_label="squared error",
    log_x=True,
    log_y=True,
    levels={"penalty\nchosen": tuned},
)
report.figure(figure, "squared error against round falls to a least value at about eight, near tuned ridge, then rises")

# %% tags=["nbval-ignore-output"]
against_one = lab.compare(ridge, baseline="c = 0.1, one round", metric="error", margin=0.005, higher_is_better=False)
against_tuned = lab.compare(
    ridge, baseline="penalty chosen, one round", metric="error", margin=0.005, higher_is_better=False
)
report.comparison(against_one, metric="error", percent=False, caption="squared error of the truth, 16 draws")
report.comparison(against_tuned, metric="error", percent=False, caption="against a tuned penalty")

# %%
for arm in ("c = 0.1, round chosen", "c = 0.1, round 60"):
    print(f"against one round, {report.verdict(against_one, arm)}")
assert against_one.loc["c = 0.1, round chosen", "verdict"] == "helps"
assert against_one.loc["c = 0.1, round 60", "verdict"] == "hurts"
assert against_tuned.loc["c = 0.1, round chosen", "high"] < 0.01

# %% [markdown]
# **Seen:** where the penalty is too small, some rounds help and many ruin the fit. The curve dips below the line with
# hindsight: it is measured on the truth, which nobody has. A round *chosen* on noisy values, as in the table, is about
# as good as a penalty chosen so: one could have had that by choosing c. Keep this picture in mind for the networks
# below.
#
# Move it: where is the best round when the penalty is 1? What does a labels' share of 0.25 do to round 60?

# %%
ridge_explorer(ridge_self_distillation)

# %% [markdown]
# ## 2. Born-again networks
#
# **The idea** (Furlanello et al., ICML 2018): train a network; freeze it; train an *equal* network, from new first
# weights, on its soft targets; repeat. Each generation has the last as its teacher. *Claim:* students outperform their
# teachers, to a state-of-the-art 15.5 % error on CIFAR-100. *Since:* [Zhang and Sabuncu
# 2020](https://arxiv.org/abs/2006.05065) explain it as label smoothing that differs from example to example;
# [Allen-Zhu and Li 2020](https://arxiv.org/abs/2012.09816) as a hidden ensemble of two; [Das and Sanghavi
# 2023](https://arxiv.org/abs/2301.13304) and [Jeong and Chung 2024](https://arxiv.org/abs/2402.10482) show that it
# averages wrong labels away, which is section 1 again.
#
# It needs no new loss, only care that the teacher is another object. In a published library both names held *one*
# network, so it was its own teacher: always right, always in agreement.
#
# *Here:* 1,000 digits, a perceptron of 100 hidden units, τ = 4, three generations after the first. Twice: with the
# right labels, and with 30 % of the training labels replaced by wrong ones, where the theory expects the most. Each
# seed has its own split, first weights and wrong labels. Nothing is tuned: weights are those of the papers.

# %%
wrong = {}
for seed in SEEDS:
    labels, generator = data.digits(seed).train_y, torch.Generator().manual_seed(seed)
    other = (labels + torch.randint(1, 10, labels.shape, generator=generator)) % 10
    wrong[seed] = torch.where(torch.rand(labels.shape, generator=generator) < 0.3, other, labels)
shares = [(wrong[seed] != data.digits(seed).train_y).double().mean().item() for seed in SEEDS]
assert 0.25 < min(shares) <= max(shares) < 0.35
print("of 1,000 labels between 250 and 350 are wrong, on every seed: yes")


# %%
def run_generations(seed, arm):
    split, networks = data.digits(seed), []
    labels = split.train_y if arm == "right labels" else wrong[seed]
    targets, row = torch.zeros(len(labels), 10), {}

    def step_generation(batch):
        x, y, t = batch
        out = networks[-1](x)
        return {"loss": F.cross_entropy(out, y) if len(networks) == 1 else soft_target_loss(out, t)}

    for generation in range(4):
        networks.append(models.make(NET, shape=split.shape, seed=1000 * generation + seed))
        batches = lab.Batches(split.train_x, labels, targets, batch_size=BATCH, seed=seed)
        optimizer = torch.optim.Adam(networks[-1].parameters(), lr=RATE, fused=True)
        lab.fit(step_generation, networks[-1], batches, optimizer, epochs=EPOCHS, progress=False)
        targets = lab.teacher_outputs(networks[-1], split.train_x)  # numbers: the teacher can't change any more
        if generation == 0:
            row["logits"] = targets
        answer = lab.teacher_outputs(networks[-1], split.test_x).argmax(-1)
        row[f"generation {generation}"] = (answer == split.test_y).float().mean().item()
    return row


generations = lab.replicate(run_generations, arms=["right labels", "30 % wrong"], seeds=SEEDS)
names = [f"generation {k}" for k in range(4)]
born = generations.melt(["arm", "seed"], names, var_name="generation", value_name="accuracy")
born = born.rename(columns={"arm": "labels", "generation": "arm"})

# %% tags=["nbval-ignore-output"]
of_born = {
    labels: lab.compare(born[born["labels"] == labels], baseline="generation 0", metric="accuracy")
    for labels in ("right labels", "30 % wrong")
}
for labels, result in of_born.items():
    report.comparison(result, caption=f"{labels}: test accuracy, 8 seeds")

# %%
for result in of_born.values():
    assert not (result["verdict"] == "helps").any()
assert of_born["right labels"].loc["generation 3", "difference"] < 0
print("a generation that helps, with right labels or with wrong ones: none")

# %% [markdown]
# **Seen:** nothing gained, in any generation; with right labels the third is even a little worse than the first
# network. The papers found their gains on larger data and nets; on this small task there are none. But section 1 says
# that some regularisation must help where 30 % of the labels are wrong. So what is missing?
#
# ## 3. What is in the soft targets?
#
# Furlanello et al. asked it themselves, and left out one part at a time. **Confidence only** (their CWTM): labels, each
# example weighed by how sure the teacher is. **Shuffled** (their DKPP): the teacher's first choice stays, its other
# classes are permuted at random in every step, so which wrong class is likely is gone.

# %%
lab.show(permuted_dark_knowledge)

# %% [markdown]
# Methods that do without a first generation:
#
# - **Label smoothing** (lesson 02): 0.9 + 0.01 for the label, 0.01 for each other class. The plain one.
# - **Virtual teacher** (lesson 02): 0.9 for the label, the rest shared, at τ = 4. (Its authors add it to the labels'
#   cross-entropy; here it stands alone.)
# - [**Progressive targets**](GLOSSARY.md#progressive-targets), PS-KD, Kim et al. 2021: $(1 - a_t)$ label + $a_t$ own
#   answer one epoch ago, with $a_t$ growing to 0.8. *Claim:* better accuracy and calibration, on images, detection and
#   translation.
# - [**Class-consistent targets**](GLOSSARY.md#class-consistency), CS-KD, Yun et al. 2020: the labels, and $\tau^2$ KL
#   from one's own answer to another example of the class. *Claim:* less overconfidence within a class. Here the class
#   mate comes from the same batch: next to no cost. (Who is the only one of a class there gets itself, and no pull.)
# - **Averaged weights**: train on the labels, answer with the moving average of the weights (`EmaTeacher`, section 5).
#
# And the fair opponents. One generation after the first is two trainings: for that one can train **twice as long**.
# Three are four: for that one can train four networks and average their probabilities, an
# [**ensemble**](GLOSSARY.md#ensemble) (which costs four times as much to run). And what the theory says, a plain
# regulariser: labels, [**stopped early**](GLOSSARY.md#early-stopping), at the epoch that is best on 297 validation
# images (whose labels are right: an advantage). It comes, like the averaged weights, out of the run on labels.

# %%
TEACHER = {row["seed"]: row["logits"] for _, row in generations.iterrows() if row["arm"] == "30 % wrong"}

LOSSES = {  # of the network's logits, the labels, and the first generation's logits
    "label smoothing": lambda out, y, t: F.cross_entropy(out, y, label_smoothing=0.1),
    "virtual teacher": lambda out, y, t: soft_target_loss(
        out, virtual_teacher_logits(y, num_classes=10, confidence=0.9)
    ),
    "shuffled": lambda out, y, t: soft_target_loss(out, permuted_dark_knowledge(t)),
    "confidence only": lambda out, y, t: confidence_weighted_loss(out, t, y),
    "class-consistent": lambda out, y, t: F.cross_entropy(out, y) + class_consistency_loss(out, out[mates(y)]),
}

# %% [markdown]
# One run gives three answers: the last network's, that of the epoch which is best on validation images, and that of the
# averaged weights.


# %%
def run_single(seed, arm):
    split, rows, own = data.digits(seed), [], torch.zeros(1000, 10)
    net, epochs = models.make(NET, shape=split.shape, seed=seed), 2 * EPOCHS if arm == "2 × as long" else EPOCHS
    average, seen, new = EmaTeacher(net, decay=0.98), [], (split.validation_x, split.test_x)
    torch.manual_seed(seed)

    def step_single(batch):
        x, y, t, index = batch
        out = net(x)
        if arm == "progressive":
            weight = progressive_weight(epoch=len(rows) + 1, epochs=EPOCHS) if rows else 0.0
            targets = progressive_targets(own[index], y, weight=weight)
            own[index] = out.detach()  # stored by index: the next epoch has another order
            return {"loss": F.cross_entropy(out, targets)}
        return {"loss": LOSSES[arm](out, y, t) if arm in LOSSES else F.cross_entropy(out, y)}

    batches = lab.Batches(split.train_x, wrong[seed], TEACHER[seed], torch.arange(1000), batch_size=BATCH, seed=seed)
    after = {"after_step": lambda: average.update(net)}
    after["after_epoch"] = lambda _: seen.append([lab.teacher_outputs(net, x).argmax(-1) for x in new])
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    lab.fit(step_single, net, batches, optimizer, epochs=epochs, rows=rows, progress=False, **after)
    best = max(range(epochs), key=lambda k: (seen[k][0] == split.validation_y).sum().item())
    answers = {"accuracy": seen[-1][1], "stopped early": seen[best][1], "averaged weights": average(new[1]).argmax(-1)}
    return {name: (answer == split.test_y).float().mean().item() for name, answer in answers.items()}


single = lab.replicate(run_single, arms=["labels", *LOSSES, "progressive", "2 × as long"], seeds=SEEDS)

# %% [markdown]
# The ensemble comes out of the next experiment, which trains networks side by side.
#
# ## 4. Mutual learning: peers instead of a teacher
#
# **The idea** (Zhang et al., CVPR 2018): several networks, the [peers](GLOSSARY.md#peer), start together. In [mutual
# learning](GLOSSARY.md#mutual-learning) each learns from the labels and from the others' answers,
# $\mathrm{KL}(p_{\text{peer}}\,\|\,p_{\text{own}})$; nobody comes first. *Claim:* it beats distillation from a stronger
# teacher. *Since:* [Anil et al. 2018](https://arxiv.org/abs/1804.03235), who used the same idea to train on very large
# data, object that the paper has no distillation from an ensemble to compare with, and that ordinary distillation
# reaches its numbers.
#
# What if two peers start *equal*? Updating both at the same time, as most code does, against in turn, as the paper's
# Algorithm 1 does:

# %%
images, digits = data.digits(0).train_x[:200], data.digits(0).train_y[:200]
for in_turn in (False, True):
    first = models.make("mlp-32", shape=(1, 8, 8), seed=0)
    peers = [first, deepcopy(first)]
    optimizers, largest = [torch.optim.SGD(peer.parameters(), lr=0.5) for peer in peers], 0.0
    for _ in range(20):
        answers = [peer(images) for peer in peers]
        for k, (peer, optimizer) in enumerate(zip(peers, optimizers, strict=True)):
            own, other = (peer(images), peers[1 - k](images)) if in_turn else (answers[k], answers[1 - k])
            mutual = mutual_learning_loss(own, other)
            largest = max(largest, mutual.item())
            optimizer.zero_grad()
            (F.cross_entropy(own, digits) + mutual).backward(retain_graph=not in_turn)
            if in_turn:
                optimizer.step()
        if not in_turn:
            for optimizer in optimizers:
                optimizer.step()
    nothing = round(largest, 9) == 0
    print("in turn:" if in_turn else "at the same time:", "mutual loss 0 in every step:", nothing)
    assert nothing != in_turn

# %% [markdown]
# Equal peers that update together get equal gradients, for ever: half the computing wasted, and no error message. Give
# peers different first weights, and look at the mutual term once.
#
# Two and four peers, against as many networks alone, on the wrong labels of section 2. We report the first network of
# each group, as one would deploy it, and the average of all their probabilities.


# %%
def run_peers(seed, arm):
    count, split = int(arm[0]), data.digits(seed)
    peers = [models.make(NET, shape=split.shape, seed=1000 * k + seed) for k in range(count)]

    def step_peers(batch):
        out = torch.stack([peer(batch[0]) for peer in peers])
        loss = sum(F.cross_entropy(own, batch[1]) for own in out)
        for k in range(count if arm.endswith("peers") else 0):
            loss = loss + mutual_learning_loss(out[k], torch.cat([out[:k], out[k + 1 :]]))
        return {"loss": loss}

    optimizer = torch.optim.Adam([p for peer in peers for p in peer.parameters()], lr=RATE, fused=True)
    batches = lab.Batches(split.train_x, wrong[seed], batch_size=BATCH, seed=seed)
    lab.fit(step_peers, peers, batches, optimizer, epochs=EPOCHS, progress=False)
    p = torch.stack([lab.teacher_outputs(peer, split.test_x).softmax(-1) for peer in peers])
    answers = {"one of them": p[0], "average of all": p.mean(0)}
    return {name: (q.argmax(-1) == split.test_y).float().mean().item() for name, q in answers.items()}


peers = lab.replicate(run_peers, arms=["4 alone", "2 peers", "4 peers"], seeds=SEEDS)

# %%
others = [
    (single, "labels", "stopped early", "stopped early"),
    (single, "labels", "averaged weights", "averaged weights"),
    *((generations, "30 % wrong", f"generation {k}", f"born again, {k}") for k in (1, 2, 3)),
    (peers, "2 peers", "one of them", "one of 2 peers"),
    (peers, "4 peers", "one of them", "one of 4 peers"),
    (peers, "4 peers", "average of all", "4 peers, averaged"),
    (peers, "4 alone", "average of all", "ensemble of 4"),
]
parts = [single[["arm", "seed", "accuracy"]]]
for frame, arm, column, name in others:
    rows = frame[frame["arm"] == arm]
    parts.append(pd.DataFrame({"arm": name, "seed": rows["seed"], "accuracy": rows[column]}))
everything = pd.concat(parts, ignore_index=True)
against_labels = lab.compare(everything, baseline="labels", metric="accuracy")
against_ensemble = lab.compare(everything, baseline="ensemble of 4", metric="accuracy")
report.figure(
    report.intervals(against_labels, x_label="points against labels alone"),
    "differences from labels alone: above zero label smoothing, virtual teacher, shuffled, class mates, progressive, "
    "averaged weights and stopping early; confidence and born-again at it, longer far below",
)

# %% tags=["nbval-ignore-output"]
report.comparison(against_labels, caption="30 % wrong labels: test accuracy against labels alone, 8 seeds")
report.comparison(against_ensemble, caption="the same runs against an ensemble of four")

# %%
HELPS = ["virtual teacher", "shuffled", "class-consistent", "progressive", "averaged weights"]
for arm in HELPS[:2]:
    print(report.verdict(against_labels, arm))
assert (against_labels.loc[HELPS[:2], "verdict"] == "helps").all()
alone = lab.compare(everything, baseline="labels", metric="accuracy", corrected=False)
for arm in [*HELPS[2:], "stopped early", "2 × as long"]:
    print("by itself,", report.verdict(alone, arm))
assert (alone.loc[[*HELPS, "stopped early"], "verdict"] == "helps").all()
assert alone.loc["2 × as long", "verdict"] == "hurts"
assert not (against_labels.loc[["confidence only", "born again, 1", "born again, 2", "born again, 3"], "low"] > 0).any()
rest = ["one of 2 peers", "one of 4 peers", "4 peers, averaged", "ensemble of 4"]
assert against_labels.loc[HELPS, "difference"].min() > against_labels.loc[rest, "difference"].max()
against_copy = lab.compare(everything, baseline="born again, 1", metric="accuracy")
print("against born again,", report.verdict(against_copy, "shuffled"))
assert against_copy.loc["shuffled", "verdict"] == "helps"
print("each of the five gains more than peers and ensemble do: yes")
gains = against_labels["difference"]
assert 0 < gains["label smoothing"] < gains["virtual teacher"] - 0.01
print("label smoothing gains too, over a point less than the virtual teacher: yes")

# %% [markdown]
# **Seen:** two methods help, each for one training or two, at every base seed that we tried and with intervals as wide
# as sixteen comparisons ask for: the virtual teacher, which has seen no image, and a teacher *without* its dark
# knowledge. Three more gain about as much, and by itself each is clear of zero: class mates; progressive targets;
# averaged weights. The first four believe no label entirely, the fifth averages what the net believed at different
# times: a likely reason why both pay with 30 % wrong labels. Which wrong class the teacher finds likely is no help
# here: shuffled, it teaches better than whole. Weighing examples by confidence alone does not help in this setting.
#
# **Label smoothing**, the plain opponent of the virtual teacher, gains too, by about a point. At 0.1 it smooths less
# than 0.9 at τ = 4 does, and neither was tuned: how much one smooths may be all that parts them. And all this was seen
# with 30 % wrong labels only: that wrong labels are *needed* for a gain is not shown.
#
# What does *not* help: another generation; twice as long, which by itself hurts (more time to learn wrong labels by
# heart); and, next to the five, peers and the ensemble. And **stopped early** gains as well: a validation set with
# right labels, and no method at all. Section 1 again: tune the regularisation first, then ask what a method adds.

# %% [markdown]
# ## 5. A teacher that nobody trains
#
# A moving average of the student's weights, $\theta^t \leftarrow d\,\theta^t + (1 - d)\,\theta^s$
# ([**EMA**](GLOSSARY.md#exponential-moving-average)), is a teacher that costs no training. You have met it with labels:
# averaged weights. [Tarvainen and Valpola 2017](https://arxiv.org/abs/1703.01780) (Mean Teacher) let it teach its
# student on unlabelled images. Then **BYOL** ([Grill et al. 2020](https://arxiv.org/abs/2006.07733)) and **DINO**
# (Caron et al. 2021) took the labels away altogether ([self-supervised
# learning](GLOSSARY.md#self-supervised-learning)): the student sees one view of an image, the teacher another, and the
# student predicts the teacher's answer; in DINO, a softmax over outputs that nobody named. *Claim* (DINO): 78.3 % on
# ImageNet by nearest neighbours, trained without a label. *Since:* [DINOv2](https://arxiv.org/abs/2304.07193) trains
# general-purpose features this way, with another form of centring; [Chen and He 2021](https://arxiv.org/abs/2011.10566)
# get by with neither average nor centring, but not without stopping the gradient.
#
# Why would it not cheat? **One output for every image** satisfies the loss, and so does **the uniform answer**. DINO
# plays one collapse off against the other. **Centring** subtracts the running mean of the teacher's outputs, so that no
# output can win everywhere; alone, it ends uniform. **Sharpening**, a teacher at a lower temperature (0.04) than the
# student (0.1), forbids the uniform answer; alone, it lets one output win.

# %%
lab.show(dino_loss)

# %% [markdown]
# **By hand.** The teacher says (2, 0), and its center is (2, 0) too: centred (0, 0), so $p$ = (½, ½). The student says
# (¾, ¼) at τ = 1. The loss is −½ log ¾ − ½ log ¼ = 0.837.
#
# And a number that sees both collapses: the [mutual information](GLOSSARY.md#mutual-information) of output and example,
# in nats, $H(\bar p) - \overline{H(p_i)}$. It is 0 when all are answered alike, be it surely or not at all.

# %%
center = DinoCenter(2, momentum=0.0)
center.update(torch.tensor([[2.0, 0.0]]))
loss = dino_loss(torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[2.0, 0.0]]), center, student_temperature=1.0)
print("loss:", round(loss.item(), 3))
for name, outputs in (
    ("one output for all", torch.tensor([[9.0, 0.0, 0.0, 0.0]]).repeat(4, 1)),
    ("uniform", torch.zeros(4, 4)),
    ("four sure answers", 100 * torch.eye(4)),
):
    print(f"{name}: {output_information(outputs).item():.3f} nats")

# %% [markdown]
# Now on digits, without a label: views are shifted by up to a pixel, with noise. Three arms: sharpened only, centred
# only (teacher and student at the same temperature), and both. Labels come in at the end only: what
# class has the nearest of 100 labelled images, in the features of the hidden layer?


# %%
DINO = {  # teacher's temperature (the student's is 0.1), momentum of the center (at 1 it stays at zero), epochs
    "sharpened only": (0.04, 1.0, 20),
    "centred only": (0.1, 0.5, 20),
    "both": (0.04, 0.5, 20),
    "both, 80 epochs": (0.04, 0.5, 80),
}


def run_dino(seed, arm):
    (cold, momentum, epochs), split = DINO[arm], data.digits(seed)
    generator, rows = torch.Generator().manual_seed(seed), []
    student = models.make("mlp-64", num_classes=32, shape=split.shape, seed=seed)
    start, teacher, center = deepcopy(student), EmaTeacher(student, decay=0.95), DinoCenter(32, momentum=momentum)

    def step_views(batch):
        views = two_views(batch[0], generator)
        seen = [teacher(view) for view in views]
        pairs = zip(views, seen[::-1], strict=True)
        loss = sum(dino_loss(student(view), other, center, teacher_temperature=cold) for view, other in pairs) / 2
        told = output_information(center(seen[0]), temperature=cold)
        center.update(torch.cat(seen))
        return {"loss": loss, "information": told}

    optimizer = torch.optim.Adam(student.parameters(), lr=0.001, fused=True)
    batches, after = lab.Batches(split.train_x, batch_size=250, seed=seed), lambda: teacher.update(student)
    lab.fit(step_views, student, batches, optimizer, epochs=epochs, after_step=after, rows=rows, progress=False)
    return {"rows": rows, "untrained": start[:2], "taught": teacher.module[:2]}  # up to the hidden layer


dino = lab.replicate(run_dino, arms=list(DINO)[:3], seeds=SEEDS)
curves = pd.DataFrame([{"arm": row["arm"], **epoch} for _, row in dino.iterrows() for epoch in row["rows"]])
report.figure(
    report.curve(curves, x="epoch", y="information", by="arm", y_label="nats the output tells"),
    "information against epoch: with centring and sharpening it rises above a nat and then fades; sharpened only "
    "it falls to nothing, centred only it is low from the start",
)

# %% tags=["nbval-ignore-output"]
kinds = []
for _, row in dino[dino["arm"] == "both"].iterrows():
    split = data.digits(row["seed"])
    for arm, net in (("untrained", row["untrained"]), ("taught", row["taught"]), ("pixels", torch.nn.Flatten())):
        known, new = (lab.teacher_outputs(net, x) for x in (split.train_x[:100], split.test_x))
        found = split.train_y[torch.cdist(new, known).argmin(1)]
        kinds.append({"arm": arm, "seed": row["seed"], "accuracy": (found == split.test_y).double().mean().item()})
last = curves[curves["epoch"] == curves["epoch"].max()].groupby("arm", sort=False)[["loss", "information"]].mean()
nearest = lab.compare(pd.DataFrame(kinds), baseline="untrained", metric="accuracy")
report.table(last, caption="at the end: the loss, and what the output tells")
report.comparison(nearest, caption="class of the nearest of 100 labelled images, in the features of the hidden layer")

# %%
either = last.loc[["sharpened only", "centred only"], "information"].max()
assert last.loc["both", "information"] > 0.4 > 0.15 > either
longer = run_dino(BASE_SEED, "both, 80 epochs")["rows"][-1]["information"]
assert longer < 0.5 * last.loc["both", "information"]
assert last["loss"].idxmin() == "sharpened only"
assert nearest.loc["pixels", "difference"] > nearest.loc["taught", "difference"]
assert nearest.loc["taught", "verdict"] == "hurts"
print("after 20 epochs the outputs tell examples apart with both, and hardly with either alone: yes")
print("after 80 epochs, with both, less than half of it is left (one seed): yes")
print("the smallest loss belongs to a collapse: yes")
print("nearest neighbours in raw pixels find more than in the features taught: yes")
print("against untrained features,", report.verdict(nearest, "taught"))

# %% [markdown]
# **Seen:** each half alone ends in its own collapse, and nobody put it in: at the start the outputs tell examples
# apart, sharpened only they end by telling nothing. Together they hold out, and yet what they tell fades here with more
# epochs: this small recipe puts the collapse off and does not abolish it. The smallest loss belongs to the dead
# network: *the loss does not tell you*, `output_information` does. And an honest word on use: on 1,000 small images,
# pixels are the better features, and those of the untrained net are better too. DINO's claims are about a million
# photographs; nothing here speaks against them.
#
# ## 6. One network, two heads
#
# **Be your own teacher** (BYOT, [Zhang et al. 2019](https://arxiv.org/abs/1905.08094)) teaches inside one network. It
# puts classifiers on early layers; they learn from the labels and from the last one. With $q$ the last classifier's
# probabilities, $q^k$ those of early classifier k and a weight w:
#
# $$\mathrm{CE}(y, q) + \sum_k \Big[(1 - w)\,\mathrm{CE}(y, q^k) + w\,\tau^2\,\mathrm{KL}(q \,\|\, q^k)\Big]$$
#
# *Claim:* 2.65 points better on average, and early exits for free. (The paper has hints besides, as in lesson 03.) The
# fair opponent is w = 0, the same early classifiers trained on labels alone: [deep
# supervision](GLOSSARY.md#deep-supervision), as it was before distillation came in.

# %%
lab.show(deep_supervision_loss)

# %% [markdown]
# **By hand.** The early classifier says (½, ½), the last one (¾, ¼), the label is the first class; w = ½, τ = 1. The
# last one's cross-entropy is −log ¾ = 0.288, the early one's log 2 = 0.693, and the divergence ¾ log 3/2 + ¼ log ½ =
# 0.131. Together 0.288 + (0.693 + 0.131)/2 = 0.700.

# %%
fair, surer = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 1.0]]).log()
early = deep_supervision_loss(fair[None], surer, torch.tensor([0]), soft_weight=0.5, temperature=1.0)
print("loss:", round(early.item(), 3))

# %% [markdown]
# Two hidden layers of 100, an early classifier on the first, the wrong labels of section 2, and the paper's w = 0.3 and
# τ = 3:

# %%
HEADS = {"one classifier": None, "early, labels alone": 0.0, "early, BYOT": 0.3}


def run_heads(seed, arm):
    split, weight = data.digits(seed), HEADS[arm]
    net = models.make("mlp-100x100", shape=split.shape, seed=seed)
    torch.manual_seed(seed)
    early = torch.nn.Linear(100, 10)

    def step_heads(batch):
        x, y = batch
        h = net.features[:2](x.flatten(1))
        out = net.classifier(net.features[2:](h))
        if weight is None:
            return {"loss": F.cross_entropy(out, y)}
        return {"loss": deep_supervision_loss(early(h)[None], out, y, soft_weight=weight)}

    optimizer = torch.optim.Adam([*net.parameters(), *early.parameters()], lr=RATE, fused=True)
    batches = lab.Batches(split.train_x, wrong[seed], batch_size=BATCH, seed=seed)
    lab.fit(step_heads, net, batches, optimizer, epochs=EPOCHS, progress=False)
    answers = {"accuracy": net(split.test_x), "early exit": early(net.features[:2](split.test_x.flatten(1)))}
    return {name: (z.argmax(-1) == split.test_y).float().mean().item() for name, z in answers.items()}


# %% tags=["nbval-ignore-output"]
heads = lab.replicate(run_heads, arms=list(HEADS), seeds=SEEDS)
of_heads = {
    "last classifier": lab.compare(heads, baseline="one classifier", metric="accuracy"),
    "early exit": lab.compare(
        heads[heads["arm"] != "one classifier"], baseline="early, labels alone", metric="early exit"
    ),
}
report.comparison(of_heads["last classifier"], caption="last classifier, 30 % wrong labels")
report.comparison(of_heads["early exit"], metric="early exit", caption="early exit, against the same on labels alone")

# %%
mean = heads.groupby("arm")[["accuracy", "early exit"]].mean()
assert of_heads["last classifier"]["high"].max() < 0.05
assert of_heads["early exit"]["high"].max() < 0.03
exits = mean.loc[["early, labels alone", "early, BYOT"]]
assert (exits["early exit"] > exits["accuracy"] + 0.01).all()
print("early classifiers, taught or not, gain the last one less than five points, if any: yes")
print("teaching gains the early exit less than three points on labels alone, if any: yes")
print("the early exit is more than a point above its own last classifier: yes")

# %% [markdown]
# **Seen:** no gain is shown, neither for the last classifier nor for the early exit over deep supervision; what is free
# is the exit. Here it is even better than the network that teaches it: one layer less learns fewer of the wrong labels
# by heart.
#
# **A surprise on paper.** The DML paper compares two losses: the *average of divergences* from the peers, and the
# divergence from the *average peer*; it finds the first better. Their gradients are equal, exactly:

# %%
own, others = torch.tensor([[1.0, 0.0, -1.0]]).double(), torch.sin(torch.arange(9.0).double()).reshape(3, 1, 3)
pulls = []
for peers_now in (others, others.softmax(-1).mean(0).log()):
    leaf = own.clone().requires_grad_()
    pulls.append(torch.autograd.grad(mutual_learning_loss(leaf, peers_now), leaf)[0])
torch.testing.assert_close(*pulls, rtol=0, atol=1e-12)
print("the pull of the average peer is the average pull: yes")

# %% [markdown]
# So a difference between the two, at equal weights, is a difference between runs. That is why we ask for eight paired
# seeds. (Lesson 06 has the general statement.)
#
# ## 7. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/08_self_distillation.ipynb](solutions/08_self_distillation.ipynb).

# %% [markdown] tags=["exercise"]
# **08.1 Recall.** Write one round of ridge regression: from G (N, N), targets T (N, D) and the penalty to the fitted
# values $G\,(G + cI)^{-1}\,T$.
#
# <details><summary>Hint</summary>`torch.linalg.solve`, and the fitted values are not the weights.</details>


# %% tags=["exercise"]
def my_round(gram, targets, penalty):
    raise NotImplementedError


# %% tags=["solution"]
def my_round(gram, targets, penalty):
    return gram @ torch.linalg.solve(gram + penalty * torch.eye(len(gram)), targets)


# %% tags=["check"]
lab.check("08.1", my_round)

# %% [markdown] tags=["exercise"]
# **08.2 Predict.** λ = 3, c = 1, no labels mixed in. Which share of the label is left, along that eigenvector, after
# three rounds? To two digits or better. (Which single penalty would give the same? And for λ = 1?)
#
# <details><summary>Hint</summary>What does one round multiply by?</details>

# %% tags=["exercise"]
my_share = ...

# %% tags=["solution"]
my_share = (3 / (3 + 1)) ** 3

# %% tags=["check"]
lab.check("08.2", my_share)

# %% [markdown] tags=["exercise"]
# **08.3 Derive.** K peers, logits (K, B, C), temperature 1. Return everyone's mutual loss, shape (K,): for each, the
# mean over the *other* peers and over examples of KL(peer ‖ own).
#
# <details><summary>Hint</summary>A loop over k and l with l ≠ k is fine. `F.kl_div(log_q, log_p, log_target=True)` is
# KL(p ‖ q), before the sum over classes.</details>


# %% tags=["exercise"]
def my_peer_losses(logits):
    raise NotImplementedError


# %% tags=["solution"]
def my_peer_losses(logits):
    log_p, losses = F.log_softmax(logits, dim=-1), []
    for own in range(len(logits)):
        peers = [k for k in range(len(logits)) if k != own]
        terms = [F.kl_div(log_p[own], log_p[k].detach(), reduction="batchmean", log_target=True) for k in peers]
        losses.append(sum(terms) / len(peers))
    return torch.stack(losses)


# %% tags=["check"]
lab.check("08.3", my_peer_losses)

# %% [markdown] tags=["exercise"]
# **08.4 Find the bug.** A moving average that should be the plain mean of the first students, then forget with a decay
# of 0.999. Steps count from 0. As published (shortened):
#
# ```python
# def published(average, new, step):
#     decay = min(1e-3, step / (step + 1))
#     return decay * average + (1 - decay) * new
# ```
#
# Write it as it should be, returning the new average.
#
# <details><summary>Hint</summary>Two numbers meet in the min. One of them is right.</details>


# %% tags=["exercise"]
def repaired(average, new, step):
    raise NotImplementedError


# %% tags=["solution"]
def repaired(average, new, step):
    decay = min(0.999, step / (step + 1))  # 1e-3 is what the student should give, not what the teacher keeps
    return decay * average + (1 - decay) * new


# %% tags=["check"]
lab.check("08.4", repaired)

# %% [markdown] tags=["exercise"]
# **08.5 Design.** One number that is 0 after either collapse and large when each example is answered surely and not all
# alike. From raw outputs (B, C), in nats: the entropy of the mean probabilities,
# and what else?
#
# <details><summary>Hint</summary>At the uniform collapse both entropies are log C. At the other both are 0.</details>


# %% tags=["exercise"]
def my_detector(outputs):
    raise NotImplementedError


# %% tags=["solution"]
def my_detector(outputs):
    p = F.softmax(outputs, dim=-1)
    entropies = [-torch.special.xlogy(q, q).sum(dim=-1) for q in (p.mean(dim=0), p)]
    return entropies[0] - entropies[1].mean()


# %% tags=["check"]
lab.check("08.5", my_detector)

# %% [markdown]
# **Going further** (not checked): repeat section 3 with 10 % and with 50 % wrong labels: where does each method begin
# to help? Give a born-again student the labels too, at weight 0.5: does the theory's c/a show?

# %%
lab.quiz("08")

# %% [markdown]
# ## 8. When to use self-distillation, and when not
#
# **Use it** when some labels are wrong and you can't find them (we saw it with 30 %): start with what costs nothing,
# averaged weights, label smoothing and a virtual teacher, then class mates or progressive targets. Use an EMA teacher
# without labels when unlabelled data is plenty and large, and watch what its outputs tell. Mutual learning, whose gain
# was too small to tell here, is for those who train several nets anyway and want to run one.
#
# **When not:** before you have tuned stopping and weight decay; when the net underfits, for all this is regularisation;
# born-again generations on small data (nothing here, with right labels or wrong ones); peers that start equal; and no
# method as a reason to skip the fair opponents, longer training and an ensemble.
#
# **Cost:** a born-again generation is one more training; progressive targets a table of N × C numbers; class mates from
# the batch and averaged weights next to nothing; K peers K trainings at once; an ensemble K times the inference too.
#
# **Copy it:** `python -m kdref copy self_distillation` writes this lesson's six files (`generations.py`, `ema.py` and
# so on), each of which needs only torch; `python -m kdref copy generations` writes one of them, and `python -m kdref
# copy EmaTeacher` that class and what it calls.
#
# **Further reading:** ONE ([Lan et al. 2018](https://arxiv.org/abs/1806.04606)), whose branches are taught by their own
# gated ensemble (`gated_ensemble_logits`); [Stanton et al. 2021](https://arxiv.org/abs/2106.05945): even a student as
# large as its teacher seldom copies it; [Das and Sanghavi 2023](https://arxiv.org/abs/2301.13304) on wrong labels;
# Zhang and Sabuncu 2020 (section 2), who compare with label smoothing.
#
# **Next lesson:** 09 and 10 are to come. [11](11_language_models.ipynb): what is left of a language model when half of
# its layers are gone?
