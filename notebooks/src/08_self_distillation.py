# %% [markdown]
# # 08 · Self-distillation and online distillation
#
# **What can a network learn from itself, when nobody knows more than it does?**
#
# **You will be able to**
#
# - solve self-distillation exactly, for ridge regression, and say when a round helps and when it ruins the fit;
# - train [born-again networks](GLOSSARY.md#born-again-networks), and take apart what their soft targets give;
# - hold a method against its fair opponents: label smoothing, stopping early, longer training, an ensemble;
# - keep a teacher that nobody trained, a [moving average](GLOSSARY.md#exponential-moving-average), from
#   [collapsing](GLOSSARY.md#collapse), and see a collapse that the loss hides.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb) (soft targets, τ) and [lesson 02](02_response_based.ipynb) (the [virtual
# teacher](GLOSSARY.md#virtual-teacher)). Ridge regression is explained where it is used.
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the sections marked *in depth*; {seconds}
# seconds to run on one thread.
#
# **Files:** `kdref/self_distillation/` with `ridge.py`, `generations.py` (born-again ablations, progressive targets),
# `online.py` (peers, class mates), `ema.py` (a moving average as the teacher), `self_supervised.py` (DINO) and
# `branches.py` (early classifiers); `kdref/lab/experiments/self_distillation_labels.py`,
# `self_distillation_views.py` and `self_distillation_sharp.py` (the long experiments).
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
from kdref.lab import data, experiments, models, report
from kdref.lab.experiments import self_distillation_sharp as sharper
from kdref.lab.experiments import self_distillation_views as views
from kdref.lab.experiments._self_distillation import BATCH, EPOCHS, METHODS, NET, RATE, SHARES, first_network, labelled
from kdref.lab.experiments.self_distillation_labels import NAMES, PLANS
from kdref.lab.experiments.self_distillation_labels_tuning import chosen
from kdref.lab.report import style
from kdref.lab.widgets.self_distillation import draw_fit, noisy_sine, ridge_explorer, ridge_rounds, sine
from kdref.self_distillation import (
    DinoCenter,
    class_consistency_loss,
    deep_supervision_loss,
    dino_loss,
    mutual_learning_loss,
    output_information,
    permuted_dark_knowledge,
    progressive_targets,
    ridge_self_distillation,
)
from kdref.soft_targets import soft_target_loss

lab.setup()
BASE_SEED = lab.base_seed()
SEEDS = range(BASE_SEED, BASE_SEED + 8)
STORED = BASE_SEED if BASE_SEED in (0, 1000, 2000) else 0  # a seed that the stored runs have

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
    figure, "three fits to noisy values of a sine: round 1 follows the noise, round 8 is smooth, round 60 too flat"
)

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
RIDGE = {  # the penalties to choose from, and the rounds
    "c = 0.1, one round": ([0.1], 1),
    "c = 0.1, round chosen": ([0.1], 60),
    "penalty chosen, one round": ([10 ** (k / 10 - 2) for k in range(31)], 1),
}


def run_ridge(seed, arm):
    penalties, rounds = RIDGE[arm]
    (x, y), (new_x, new_y) = noisy_sine(40, seed=seed), noisy_sine(40, seed=10_000 + seed)
    noisy, true = [], []
    for penalty in penalties:
        _, found = ridge_rounds(ridge_self_distillation, x, y, torch.cat([new_x, grid]), penalty=penalty, rounds=rounds)
        noisy += (found[:, :40] - new_y).square().mean(1).tolist()
        true += (found[:, 40:] - sine(grid)).square().mean(1).tolist()
    return {"error": true[noisy.index(min(noisy))], "last": true[-1], "by round": true}


ridge = lab.replicate(run_ridge, arms=list(RIDGE), seeds=range(BASE_SEED, BASE_SEED + 16))

# %%
by_round = [
    {"round": turn, "error": row["by round"][turn - 1]}
    for _, row in ridge[ridge["arm"] == "c = 0.1, round chosen"].iterrows()
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
last = ridge[ridge["arm"] == "c = 0.1, round chosen"].assign(arm="c = 0.1, round 60", error=lambda frame: frame["last"])
errors = pd.concat([ridge, last], ignore_index=True)
how = {"metric": "error", "margin": 0.005, "higher_is_better": False}
against_one = lab.compare(errors, baseline="c = 0.1, one round", **how)
against_tuned = lab.compare(errors, baseline="penalty chosen, one round", **how)
report.comparison(against_one, metric="error", percent=False, caption="squared error of the truth, 16 draws")

# %%
for arm in ("c = 0.1, round chosen", "c = 0.1, round 60"):
    print(f"against one round, {report.verdict(against_one, arm)}")
assert against_one.loc["c = 0.1, round chosen", "verdict"] == "helps"
assert against_one.loc["c = 0.1, round 60", "verdict"] == "hurts"
assert against_tuned.loc["c = 0.1, round chosen", "high"] < 0.01
print("against a tuned penalty, a chosen round is worse by less than 0.01, if at all: yes")

# %% [markdown]
# **Seen:** where the penalty is too small, some rounds help and many ruin the fit. The curve dips below the line with
# hindsight: it is measured on the truth, which nobody has. A round *chosen* on noisy values, as in the table, is about
# as good as a penalty chosen so: one could have had that by choosing c.
#
# Move it: where is the best round when the penalty is 1? What does a labels' share of 0.25 do to round 60?

# %%
ridge_explorer(ridge_self_distillation)

# %% [markdown]
# <details><summary>Answers</summary>With penalty 1 the first round is the best: the penalty is no longer too small.
# With a share of 0.25 round 60 stays near the best one: it tends to ridge with four times the penalty, not to
# nothing.</details>
#
# ## 2. Born-again networks
#
# **The idea** (Furlanello et al., ICML 2018): train a network; freeze it; train an *equal* network, from new first
# weights, on its soft targets; repeat. Each generation has the last as its teacher. *Claim:* students outperform their
# teachers, to a state-of-the-art 15.5 % error on CIFAR-100. *Since:* [Zhang and Sabuncu
# 2020](https://arxiv.org/abs/2006.05065) explain it as label smoothing that differs from example to example;
# [Allen-Zhu and Li 2020](https://arxiv.org/abs/2012.09816) as a hidden ensemble of two; [Das and Sanghavi
# 2023](https://arxiv.org/abs/2301.13304) ask when it helps with wrong labels; [Jeong and Chung
# 2024](https://arxiv.org/abs/2402.10482) show that it averages the labels of like examples, which is section 1 again.
#
# It needs no new loss, only care that the teacher is another object. In a published library both names held *one*
# network, so it was its own teacher: always right, always in agreement.
#
# *Here:* 1,000 digits, a perceptron of 100 hidden units, 20 epochs, and 30 % of the training labels replaced by wrong
# ones, where section 1 expects the most. The teacher's logits are computed once, so they can't change any more.


# %%
def run_again(seed, arm):
    split, labels = labelled(seed, SHARES["30 % wrong"])
    said = lab.teacher_outputs(first_network(seed, SHARES["30 % wrong"], 1), split.train_x)
    student = models.make(NET, shape=split.shape, seed=seed)
    torch.manual_seed(seed)

    def step_again(batch):
        x, y, t = batch
        if arm == "labels":
            return {"loss": F.cross_entropy(student(x), y)}
        t = permuted_dark_knowledge(t) if arm == "shuffled" else t
        return {"loss": soft_target_loss(student(x), t, temperature=chosen("30 % wrong", arm))}

    batches = lab.Batches(split.train_x, labels, said, batch_size=BATCH, seed=seed)
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE, fused=True)
    lab.fit(step_again, student, batches, optimizer, epochs=EPOCHS, progress=False)
    return {"accuracy": lab.measure(student, split.test_x, split.test_y)["accuracy"]}


# %% [markdown]
# All networks of sections 2 to 4 are trained so. Sixteen ways, with three kinds of labels (right ones, 5 % wrong, 30 %
# wrong), over 24 seeds: these runs are stored, and here is a slice of them.

# %%
stored = experiments.load("self_distillation_labels")
stored[["labels", "arm"]] = [PLANS[arm] for arm in stored["arm"]]
for arm in ("labels", "born again", "shuffled"):
    kept = stored.query("seed == @STORED and labels == '30 % wrong' and arm == @arm")["accuracy"].item()
    assert abs(run_again(STORED, arm)["accuracy"] - kept) < 0.015
    print(f"{arm}: within a point and a half of the stored run")

# %% [markdown]
# ## 3. What is in the soft targets, and who needs them?
#
# Furlanello et al. left out one part at a time. **Confidence only** (their CWTM): labels, each example weighed by how
# sure the teacher is. **Shuffled** (their DKPP): the teacher's first choice stays, its other classes are permuted at
# random in every step, so which wrong class is likely is gone.

# %%
lab.show(permuted_dark_knowledge)

# %% [markdown]
# Others do without a first generation. Of each method one number is tuned, on validation images, with seeds that are
# used nowhere else. [Class mates](GLOSSARY.md#class-consistency) come from the same batch;
# [progressive targets](GLOSSARY.md#progressive-targets) from the epoch before.
#
# | method | what it learns from | tuned |
# |:---|:---|:---|
# | label smoothing (lesson 02) | the label's share lowered by ε, and ε spread over all classes | ε |
# | virtual teacher (lesson 02), without its label term | so much for the label, the rest shared, τ = 4 | how much |
# | class mates (CS-KD) | label, and $w\,\tau^2$ KL from the own answer to another of the class, τ = 4 | $w$ |
# | progressive targets (PS-KD) | $(1 - a_t)$ label + $a_t$ own answer; $a_t$ grows | last $a_t$ |
# | averaged weights (section 5) | labels; a moving average of the weights answers | its decay |
#
# The second epoch of progressive targets, and class mates of a batch of three, in code:

# %%
y, out = torch.tensor([0, 1, 1]), torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
for target in progressive_targets(out, y, weight=0.5):
    print("progressive target:", [round(share, 2) for share in target.tolist()])
print("class mates:", round(class_consistency_loss(out, out[[0, 2, 1]], temperature=1.0).item(), 3))

# %% [markdown]
# **By hand.** A virtual teacher that gives 0.9 to the label: odds of 81 to 1 against each of the nine others. At τ = 4
# the fourth root is left, 3 to 1: 3/12 = 0.25 for the label, 1/12 for each other. That is label smoothing, with
# ε = 5/6, of a student whose logits are divided by 4 as well: undivided they may be as sure as 0.9.
#
# The fair opponents: **weight decay**, tuned too; [**stopped early**](GLOSSARY.md#early-stopping), after the epoch that
# is best on validation images (whose labels are right: an advantage); training **twice as long**, as one generation
# costs a second training; and four networks whose probabilities are averaged, an [**ensemble**](GLOSSARY.md#ensemble).
# **One of 2 peers** is section 4's; **argmax** has the first generation's first choices as labels.

# %%
tuned = [
    {"method": name, "tuned": method.tuned, "tried": ", ".join(f"{value:g}" for value in method.settings)}
    | {f"best, {labels}": f"{chosen(labels, name):g}" for labels in SHARES}
    for name, method in METHODS.items()
]
report.table(pd.DataFrame(tuned), caption="one number for each method")
tried = experiments.load("self_distillation_labels_tuning").groupby("arm")["accuracy"].mean()
for labels in SHARES:
    best = f"{labels} | label smoothing | {chosen(labels, 'label smoothing'):g}"
    assert tried[best] > tried[f"{labels} | label smoothing | 0.1"]
print("on validation images the smoothing that was chosen is above the usual 0.1: yes")
print(experiments.provenance("self_distillation_labels")["command"], "·", len(stored), "runs")

# %%
parts = {labels: stored[stored["labels"] == labels] for labels in SHARES}
gains = {
    labels: lab.compare(part, baseline="labels", metric="accuracy").loc[list(NAMES)] for labels, part in parts.items()
}
report.figure(
    report.intervals(gains, x_label="points against labels alone"),
    "differences from labels alone, three panels: label smoothing, virtual teacher and class mates are above zero in "
    "all; with 30 % wrong labels most others are too, and longer is far below",
)

# %%
said = {labels: report.verdicts(part, baseline="labels").loc[list(NAMES[1:])] for labels, part in parts.items()}
shown = pd.DataFrame({labels: verdicts["all seeds"] for labels, verdicts in said.items()})
signs = {"helps": "+", "hurts": "-", "undecided": "?", "no useful difference": "="}
groups = pd.DataFrame({labels: verdicts.iloc[:, :3].map(signs.get).sum(axis=1) for labels, verdicts in said.items()})
report.table(shown + "  " + groups, caption="against labels alone, all 24 seeds; +, -, ?, = in each group of eight")
assert not groups.map(lambda text: {"+", "-"} <= set(text)).any(axis=None)

# %%
always = ["label smoothing", "virtual teacher", "class mates"]
many = ["progressive", "averaged weights", "shuffled", "argmax", "stopped early", "weight decay"]
differences = pd.DataFrame({labels: result["difference"] for labels, result in gains.items()})
assert (shown.loc[always] == "helps").all(axis=None)
assert (differences.loc[always].diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
assert (shown.loc[many, "30 % wrong"] == "helps").all()
assert (shown.loc[many, "right labels"] == "no useful difference").all()
print("help with every kind of labels, and more the more are wrong:", ", ".join(always))
print("help with 30 % wrong labels, and make no useful difference with right ones:", ", ".join(many))
for arm in ("born again", "born again, 3", "2 × as long", "one of 2 peers"):
    print(f"{arm}:", "; ".join(f"with {labels}, {verdict}" for labels, verdict in shown.loc[arm].items()))
assert (shown.loc[["born again", "born again, 3"]] != "helps").all(axis=None)
assert differences.loc["ensemble of 4"].between(0, 0.01).all()
assert differences.loc["2 × as long", "right labels"] < 0.005

# %%
smooth = pd.DataFrame(
    {
        labels: lab.compare(part, baseline="label smoothing", metric="accuracy")["verdict"]
        for labels, part in parts.items()
    }
)
print("better than tuned label smoothing:", [pair for pair, verdict in smooth.stack().items() if verdict == "helps"])
lead = differences.loc["virtual teacher"] - differences.loc["label smoothing"]
assert lead["right labels"] < 0 < lead["30 % wrong"] < 0.01

# %% tags=["nbval-ignore-output"]
nll = stored.pivot_table(index="arm", columns="labels", values="nll").loc[["labels", *always], list(SHARES)]
report.table(nll, caption="NLL on test images, means")
fitted = stored.pivot_table(index="arm", columns="labels", values="train_accuracy").loc[["labels", "2 × as long"]]
report.table(fitted[list(SHARES)], percent=list(SHARES), caption="labels fitted, right or wrong ones, means")

# %%
assert (nll.loc["label smoothing"] > nll.loc["labels"] + 0.5).all()
assert nll.loc["label smoothing", "right labels"] > 5 * nll.loc["labels", "right labels"]
assert (nll.loc["labels"] < nll.loc["class mates"]).all()
assert (nll.loc["class mates"] < nll.loc["label smoothing"]).all()
assert nll.loc["virtual teacher", "30 % wrong"] < nll.loc["labels", "30 % wrong"] - 0.05
print("label smoothing, tuned for accuracy, has by far the higher NLL; class mates are between: yes")
print("with 30 % wrong labels the virtual teacher has a lower NLL than labels alone: yes")

# %% [markdown]
# **Seen:**
#
# - **Smoothing helps**, and wrong labels are not its condition. Label smoothing, the virtual teacher (smoothing too,
#   see above) and class mates gain with right labels as well, and on average more the more labels are wrong. Nothing
#   here is shown to be better than plain label smoothing once its ε is tuned, but for the virtual teacher with 30 %
#   wrong labels, by less than a point. The best ε is large, 0.6 to 0.8; at the usual 0.1 smoothing would have looked
#   weaker.
# - **Many wrong labels are the condition** of other gains: progressive, averaged, the teacher's first choice as the
#   label, and stopping early and weight decay, which are no methods at all (shuffled gains with few too). Section 1
#   again: where the net begins to learn wrong labels by heart, a brake pays, and twice as long hurts.
# - **Born again hurts** with right labels and with few wrong ones, and is undecided with many, at the best of five
#   temperatures from 1 to 16 (below 1 it gains: section 7). With many, the same teacher shuffled or hardened helps:
#   which wrong class it finds likely is no help here. The papers found their gains on larger data and nets. The fair
#   opponent, twice as long, gains with right labels, by less than half a point on average.
# - **The price:** tuned for accuracy, label smoothing leaves probabilities far too timid: see the NLL. With 30 % wrong
#   labels the virtual teacher's is below that of labels alone. Who needs probabilities tunes for NLL, or fits a τ
#   later.
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
# **By hand.** The peer says (¾, ¼), I say (½, ½): my term is ¾ log 3/2 + ¼ log ½ = 0.131.

# %%
lab.show(mutual_learning_loss)
print("my term:", round(mutual_learning_loss(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()).item(), 3))

# %% [markdown]
# What if two peers start *equal*, and are updated together?

# %%
images, digits = data.digits(0).train_x[:200], data.digits(0).train_y[:200]
first, other = (models.make("mlp-32", shape=(1, 8, 8), seed=seed) for seed in (0, 1))
for name, second in {"equal": deepcopy(first), "other first weights": other}.items():
    peers, largest = [deepcopy(first), second], 0.0
    optimizer = torch.optim.SGD([p for peer in peers for p in peer.parameters()], lr=0.5)
    for _ in range(20):
        a, b = (peer(images) for peer in peers)
        mutual = mutual_learning_loss(a, b) + mutual_learning_loss(b, a)
        largest = max(largest, mutual.item())
        optimizer.zero_grad()
        (F.cross_entropy(a, digits) + F.cross_entropy(b, digits) + mutual).backward()
        optimizer.step()
    print(f"{name}: the mutual loss is 0 in every step:", round(largest, 9) == 0)
    assert (round(largest, 9) == 0) == (name == "equal")

# %% [markdown]
# Equal peers get equal gradients, for ever: half the computing wasted, and no error message. Give peers different first
# weights, and look at the mutual term once. Two such peers make, in section 3, no useful difference with right labels
# or 5 % wrong ones, and with 30 % it is undecided. Four networks' average gains less than a point.

# %% [markdown]
# ## 5. A teacher that nobody trains
#
# A moving average of the student's weights, $\theta^t \leftarrow d\,\theta^t + (1 - d)\,\theta^s$
# ([**EMA**](GLOSSARY.md#exponential-moving-average)), is a teacher that costs no training. [Tarvainen and Valpola
# 2017](https://arxiv.org/abs/1703.01780) (Mean Teacher) let it teach its student on unlabelled images. Then **BYOL**
# ([Grill et al. 2020](https://arxiv.org/abs/2006.07733)) and **DINO** (Caron et al. 2021) took the labels away
# altogether ([self-supervised learning](GLOSSARY.md#self-supervised-learning)): the student sees one view of an image,
# the teacher another, and the student predicts the teacher's answer; in DINO, a softmax over outputs that nobody named.
# *Claim* (DINO): 78.3 % on ImageNet by nearest neighbours, trained without a label. *Since:*
# [DINOv2](https://arxiv.org/abs/2304.07193) trains general-purpose features this way.
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
# Now on digits, without a label: views are shifted by up to a pixel, with noise. Three arms: sharpened only (the center
# stays at 0), centred only (teacher and student at the same temperature), and both; 160 epochs, 24 seeds. The training:

# %%
lab.show(views.taught)

# %%
told = experiments.load("self_distillation_views")
rows = views.taught(STORED, views.PLANS["both"], epochs=4 * views.EPOCHS)[1]
kept = told.query("seed == @STORED and arm == 'both'")["nats_20"].item()
assert abs(rows[19]["nats"] - kept) < 0.15
assert rows[-1]["nats"] > 2 * rows[79]["nats"]
print("after 20 epochs what the outputs tell is that of the stored run, within 0.15 nats: yes")
print("one seed, four times as long: after 640 epochs they tell more than twice what they did after 80: yes")

# %%
nats = [f"nats_{epoch}" for epoch in views.SEEN_AT]
curves = told[told["arm"].isin(views.PLANS)].melt(["arm", "seed"], nats, var_name="epoch", value_name="nats")
curves["epoch"] = curves["epoch"].str.removeprefix("nats_").astype(int)
report.figure(
    report.curve(curves, x="epoch", y="nats", by="arm", y_label="nats the output tells", log_x=True),
    "information against epoch: centred or sharpened alone it falls to nothing; with both it falls to about an "
    "eighth of a nat at epoch 80 and rises again",
)

# %% [markdown]
# Labels come in at the end only: what class has the nearest of 100 labelled images, in the features of the hidden
# layer?

# %%
nearest = lab.compare(told, baseline="untrained", metric="accuracy")
report.comparison(nearest, caption="class of the nearest of 100 labelled images")
last = told[told["arm"].isin(views.PLANS)].groupby("arm")[["loss", "nats_20", "nats_80", "nats_160"]].mean()
report.table(last, caption="the loss after 160 epochs, and what the outputs tell")

# %%
both, alone = last.loc["both"], last.loc[["sharpened only", "centred only"]]
assert alone["nats_160"].max() < 0.02 < 0.1 < both["nats_80"] < both["nats_160"] < both["nats_20"]
assert last["loss"].idxmin() == "sharpened only"
assert nearest.loc["pixels", "verdict"] == "helps"
assert (nearest.loc[list(views.PLANS), "verdict"] == "hurts").all()
assert nearest["mean"][list(views.PLANS)].idxmax() == "sharpened only"
print("after 160 epochs either alone tells next to nothing, both together more than at epoch 80: yes")
print("the smallest loss belongs to a collapse: yes")
for arm in ("pixels", *views.PLANS):
    print("nearest neighbours, against untrained features,", report.verdict(nearest, arm))

# %% [markdown]
# **Seen:** each half alone ends in its own collapse, and nobody put it in: at the start the outputs tell examples
# apart, in the end they tell nothing. Together they hold out. What they tell falls here for 80 epochs, and then comes
# back: who had stopped there would have seen little more than a collapse. The smallest loss belongs to the dead
# network: *the loss does not tell you*, `output_information` does.
#
# On use: on 1,000 small images, after 160 epochs, pixels are the better features, those of the untrained
# net are better too, and so are even those of the net that was sharpened dead. DINO's claims are about a million
# photographs; nothing here speaks against them.

# %% [markdown]
# ## 6. One network, two heads (in depth)
#
# **Be your own teacher** (BYOT, [Zhang et al. 2019](https://arxiv.org/abs/1905.08094)) teaches inside one network. It
# puts classifiers on early layers; they learn from the labels and from the last one. With $q$ the last classifier's
# probabilities, $q^k$ those of early classifier k and a weight w:
#
# $$\mathrm{CE}(y, q) + \sum_k \Big[(1 - w)\,\mathrm{CE}(y, q^k) + w\,\tau^2\,\mathrm{KL}(q \,\|\, q^k)\Big]$$
#
# *Claim:* 2.65 points better on average, and early exits for free. (The paper has hints besides, as in lesson 03.) The
# fair opponent is w = 0, the same early classifiers trained on labels alone: [deep
# supervision](GLOSSARY.md#deep-supervision).

# %%
lab.show(deep_supervision_loss)

# %% [markdown]
# **By hand.** The early classifier says (½, ½), the last one (¾, ¼), the label is the first class; w = ½, τ = 1. The
# last one's cross-entropy is −log ¾ = 0.288, the early one's log 2 = 0.693, and the divergence ¾ log 3/2 + ¼ log ½ =
# 0.131, as in section 4. Together 0.288 + (0.693 + 0.131)/2 = 0.700.

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
    (split, labels), weight = labelled(seed, SHARES["30 % wrong"]), HEADS[arm]
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
    batches = lab.Batches(split.train_x, labels, batch_size=BATCH, seed=seed)
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

# %% [markdown]
# ## 7. Born again below τ = 1 (in depth)
#
# The list of section 3 began at τ = 1, and with wrong labels this end of it was chosen: the list was too short. So
# here is τ = ¼, with all three kinds of labels. If it gains, is that the teacher, or the temperature? A control tells:
# the *labels* at τ = ¼, that is $\tau^2$ times their cross-entropy with the student at τ. As τ goes to 0 only the
# teacher's first choice is left, so argmax stands beside it.

# %%
kept = experiments.load("self_distillation_sharp")
live = sharper.run(STORED, "30 % wrong | born again, τ = 1/4")["accuracy"]
assert (
    abs(live - kept.query("seed == @STORED and arm == '30 % wrong | born again, τ = 1/4'")["accuracy"].item()) < 0.006
)
kept[["labels", "arm"]] = kept["arm"].str.split(" | ", regex=False, expand=True)
kept = pd.concat([stored[stored["arm"].isin(["labels", "argmax"])], kept])
sharp = {labels: lab.compare(part, baseline="labels", metric="accuracy") for labels, part in kept.groupby("labels")}
for labels in SHARES:
    report.comparison(sharp[labels], caption=labels)

# %%
taught, alone = "born again, τ = 1/4", "labels, τ = 1/4"
for labels in SHARES:
    print(f"{labels}: {report.verdict(sharp[labels], taught)}; {report.verdict(sharp[labels], alone)}")
    assert sharp[labels].loc[taught, "verdict"] == "helps"
    assert sharp[labels].loc[alone, "verdict"] == ("helps" if labels == "right labels" else "hurts")
right = lab.compare(kept[kept["labels"] == "right labels"], baseline=alone, metric="accuracy")
assert right.loc[taught, "verdict"] == "no useful difference"
print("right labels, against labels at the same τ,", report.verdict(right, taught))
assert sharp["30 % wrong"].loc["argmax", "difference"] > sharp["30 % wrong"].loc[taught, "difference"] - 0.005

# %% [markdown]
# **Seen:** below τ = 1 born again *helps*, with all three kinds of labels. With right ones it is the temperature:
# labels at τ = ¼, without a teacher, gain as much. With wrong ones labels at τ = ¼ lose, so there it is the teacher;
# hardened to its first choices it gains about as much with 30 % wrong ones. "Born again hurts" holds from τ = 1 up, and
# no verdict reaches further than the list that was tried. (Argmax with 5 % wrong was undecided in section 3: among
# fifteen comparisons its interval is wider.)

# %% [markdown]
# ## 8. Exercises
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
# alike. From raw outputs (B, C), in nats: the entropy of the mean probabilities, and what else?
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
# ## 9. When to use self-distillation, and when not
#
# **Use it** as regularisation, and begin with the plainest: label smoothing, with its ε tuned (0.6 to 0.8 here), gained
# with right labels and with wrong ones; class mates gained too, at a smaller price in NLL. Where many labels are wrong,
# averaged weights and stopping early (on right ones) are next to free. An EMA teacher without labels did not pay here;
# its papers have a million images. Watch what its outputs tell.
#
# **When not:** before you have tuned smoothing, stopping and weight decay; when the net underfits, for all this is
# regularisation; born-again generations at τ ≥ 1 on small data (no gain here); peers that start equal;
# probabilities that somebody needs, without a look at the NLL.
#
# **Cost:** a born-again generation is one more training; progressive targets a table of N × C numbers; class mates from
# the batch and averaged weights next to nothing; K peers K trainings at once; an ensemble K times the inference too.
#
# **Copy it:** `python -m kdref copy self_distillation` writes this lesson's six files, each of which needs only torch;
# `python -m kdref copy generations` writes one of them, and `python -m kdref copy EmaTeacher` that class and what it
# calls.
#
# **Further reading:** ONE ([Lan et al. 2018](https://arxiv.org/abs/1806.04606)), whose branches are taught by their own
# gated ensemble (`gated_ensemble_logits`); [Stanton et al. 2021](https://arxiv.org/abs/2106.05945): even a student as
# large as its teacher seldom copies it.
#
# **Next lesson:** [09](09_adversarial.ipynb), adversarial distillation: a discriminator as the loss.
