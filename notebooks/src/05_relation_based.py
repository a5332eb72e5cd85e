# %% [markdown]
# # 05 · Relation-based and contrastive distillation
#
# **Can a student learn which examples are alike, without copying a single feature?**
#
# **You will be able to**
#
# - teach a student with 32 features from a teacher with 300, without a [regressor](GLOSSARY.md#regressor) between them;
# - say how [relation](GLOSSARY.md#relation-based-distillation) losses are made and which changes of features they
#   ignore;
# - write the losses of [InfoNCE](GLOSSARY.md#infonce) and CRD, and say what InfoNCE can and cannot certify;
# - tell from evidence when relations help, and when the teacher's logits do more.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb), and section 2 of [lesson 02](02_response_based.ipynb) on weights;
# sections 1 and 2 of [lesson 03](03_feature_based.ipynb) make it easier.
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the sections marked *in depth*; {seconds}
# seconds to run on one thread.
#
# **Files:** `kdref/relation/`: `rkd.py`, `similarity.py`, `contrastive.py` (InfoNCE), `contrastive_memory.py` (CRD).
#
# **Papers:** [Passalis and Tefas 2018](https://arxiv.org/abs/1803.10837) (PKT), [Park et al.
# 2019](https://arxiv.org/abs/1904.05068) (RKD), [Tung and Mori 2019](https://arxiv.org/abs/1907.09682) (SP), [Peng et
# al. 2019](https://arxiv.org/abs/1904.01802) (CC), [van den Oord et al. 2018](https://arxiv.org/abs/1807.03748)
# (InfoNCE), [Tian et al. 2020](https://arxiv.org/abs/1910.10699) (CRD).

# %% tags=["setup"]
import math

import pandas as pd
import torch
import torch.nn.functional as F

from kdref import lab
from kdref.lab import data, experiments, models, report
from kdref.lab.experiments import relation_labels, relation_retrieval
from kdref.lab.experiments import relation_labels_tuning as labels_tuning
from kdref.lab.experiments._relation_labels import RELATIONS, pull, teacher_term
from kdref.lab.experiments._relation_retrieval import recall, supervised_contrastive_loss
from kdref.lab.widgets.relation import draw_tables, draw_triangles, start_positions, triangle_explorer
from kdref.relation import (
    ContrastiveMemory,
    correlation_congruence_loss,
    crd_loss,
    info_nce_loss,
    probabilistic_transfer_loss,
    rkd_angle_loss,
    rkd_distance_loss,
)

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. The idea
#
# A single [feature](GLOSSARY.md#features) of a net has no meaning by itself: turn the axes of its space and undo the
# turn in the next layer, and the net answers as before. What stays is **how examples lie to each other**: two 3s near,
# a 3 and a 6 far. So give the student the teacher's table of distances, B × B for a batch of B. It has a row and a
# column per *example*, so the widths of the nets don't enter: here a teacher with 300 hidden units, trained on 1,000
# labelled digits, and a student with 32. `lab.taps` [reads](GLOSSARY.md#tap) the hidden layer.

# %%
split = data.digits(BASE_SEED)
teacher = models.make("mlp-300", shape=split.shape, seed=BASE_SEED)


def step_teacher(batch):
    x, y = batch
    return {"loss": F.cross_entropy(teacher(x), y)}


batches = lab.Batches(split.train_x, split.train_y, batch_size=100, seed=BASE_SEED)
lab.fit(step_teacher, teacher, batches, torch.optim.Adam(teacher.parameters(), lr=3e-3), epochs=20, progress=False)
tapped = lab.taps(teacher, ["features.relu1"])
with torch.no_grad():
    known, unseen = (tapped(x)["features.relu1"] for x in (split.train_x, split.test_x))
assert lab.measure(teacher, split.test_x, split.test_y)["accuracy"] > 0.92
print("teacher's features:", tuple(unseen.shape), "and it is right on more than 92 of 100 test images")

# %% [markdown]
# The student sees no label and no logit, only how far apart the teacher finds 50 images at a time (section 2's loss).
# What do the tables of 60 *test* images look like, before and after?

# %%
student = models.make("mlp-32", shape=split.shape, seed=BASE_SEED)
by_class = torch.cat([torch.where(split.test_y == digit)[0][:6] for digit in range(10)])
tables = {"teacher": torch.cdist(unseen[by_class], unseen[by_class])}


def step_relations(batch):
    x, features = batch
    return {"loss": rkd_distance_loss(student.features(x.flatten(1)), features)}


batches = lab.Batches(split.train_x, known, batch_size=50, seed=BASE_SEED)
for when, epochs in (("before", 0), ("after", 10)):
    if epochs:
        lab.fit(step_relations, student, batches, torch.optim.Adam(student.parameters(), lr=3e-3), epochs=epochs)
    with torch.no_grad():
        features = student.features(split.test_x[by_class].flatten(1))
    tables[when] = torch.cdist(features, features)
tables = {name: table / (table.sum() / (60 * 59)) for name, table in tables.items()}
print("student's features:", tuple(features.shape), "and each table:", tuple(tables["after"].shape))

# %%
report.figure(
    draw_tables(tables["teacher"], {when: tables[when] for when in ("before", "after")}),
    "tables of distances of 60 test images by class: light blocks along the teacher's diagonal, faint in the student "
    "before, clear after; the difference fades",
)

# %%
gaps = {when: (tables[when] - tables["teacher"]).abs().mean().item() for when in ("before", "after")}
assert gaps["after"] < 0.5 * gaps["before"]
print("the mean difference of the tables falls by more than half, on images never seen in training: yes")

# %% [markdown]
# The light blocks are the classes. After, the student's table is much nearer to the teacher's, though nobody told it
# that there are ten classes, nor what any is called. **Relations carry the shape and no names.**
#
# ## 2. Distances and angles (RKD)
#
# [**Relational knowledge distillation**](GLOSSARY.md#relational-distillation), Park et al. 2019, in two parts. $x_i$ is
# the row of features of example i, with an s for the student's and a t for the teacher's. With
# $d_{ij} = \|x_i - x_j\|$, μ the mean of all $d_{ij}$ with $i \ne j$, and $\ell$ the [Huber
# loss](GLOSSARY.md#huber-loss) of the difference of two numbers (half its square up to 1, beyond that its size less ½):
#
# $$L_D = \frac{1}{B^2} \sum_{i,j} \ell\!\left(\frac{d^s_{ij}}{\mu^s}, \frac{d^t_{ij}}{\mu^t}\right) \qquad
# L_A = \frac{1}{B^3} \sum_{i,j,k} \ell\!\left(\cos \angle^s_{jik}, \cos \angle^t_{jik}\right)$$
#
# The angle at i is that of the triangle of examples j, i, k. The paper weighs distances to angles 1 : 2.

# %%
lab.show(rkd_distance_loss)

# %% [markdown]
# (`_relative_distances` gives all $d_{ij}/\mu$; you write it in exercise 05.1.)
#
# **By hand.** A student puts three examples on a line at 0, 1 and 2; the teacher's triangle has equal sides. Student:
# distances 1, 1, 2, their mean 4/3, so ¾, ¾, 3/2. Teacher: 1, 1, 1. Each pair counts twice in B² = 9 entries:
# $L_D$ = 2 · ½ · (1/16 + 1/16 + ¼)/9 = 0.042. Angles: the student's cosines are 1, −1, 1, the teacher's ½ each.
# $L_A$ = 2 · (⅛ + (3/2 − ½) + ⅛)/27 = 0.093; the middle one is beyond 1 and counts linearly.

# %%
line, equal_sides = torch.tensor([[0.0], [1.0], [2.0]]), torch.eye(3)
print("distance:", round(rkd_distance_loss(line, equal_sides).item(), 3))
print("angle:   ", round(rkd_angle_loss(line, equal_sides).item(), 3))

# %% [markdown]
# ## 3. Move it yourself: three examples
#
# Dashed the teacher's view of examples A, B and C, with two features each, beside it the student's; above them the
# distance loss and the angle loss. Which changes does each of them see?

# %%
triangle = torch.tensor([[-2.0, -1.0], [2.0, -1.0], [-2.0, 2.0]])
losses = {"distance": rkd_distance_loss, "angle": rkd_angle_loss}
starts = start_positions(triangle)
report.figure(
    draw_triangles(triangle, {name: starts[name] for name in list(starts)[1:]}, losses),
    "six triangles with distance and angle loss: both are zero when turned, mirrored, half as large or moved, and "
    "positive when stretched or with two corners swapped",
)
seen = {name: max(loss(corners, triangle) for loss in losses.values()) > 1e-6 for name, corners in starts.items()}
print("seen:", ", ".join(name for name in starts if seen[name]))

# %% [markdown]
# Now drag the student's corners: (1) leave A and B, and find a second place for C where both losses are zero; (2) find
# a triangle with angle loss zero and distance loss not.

# %%
triangle_explorer(triangle, losses)

# %% [markdown]
# <details><summary>Answers</summary>(1) The mirror image of C, below AB. (2) There is none: three angles fix a triangle
# up to its size, so where the angle loss is zero the other is too.</details>
#
# ## 4. Similarity, correlation, neighbours
#
# Three more tables of the same examples. $G_{ij} = x_i^\top x_j$ is the product of two and $G_i$ a row of such
# products; $\hat x_i$ is $x_i$ at length 1, and $\cos_{ij} = \hat x_i^\top \hat x_j$ the [cosine](GLOSSARY.md#cosine).
# CC's γ is 0.4; its exponential is the same as $e^{-2\gamma} e^{2\gamma \cos_{ij}}$, whose power series in the cosine
# is cut after the square.
#
# | loss | who | table | compared by |
# |:---|:---|:---|:---|
# | PKT | Passalis and Tefas 2018 | $p_{ij} = (1 + \cos_{ij})/\sum_k (1 + \cos_{ik})$ | KL, mean of rows |
# | RKD | Park et al. 2019 | $d_{ij}/\mu$; cosines of angles | Huber, mean of B² or B³ |
# | SP | Tung and Mori 2019 | $G_{ij} / \lVert G_i \rVert_2$, rows of length 1 | squares, mean of B² |
# | CC | Peng et al. 2019 | $e^{-\gamma\lVert\hat x_i - \hat x_j\rVert^2}$, cut | squares, mean of B² |
#
# **Claims.** [*PKT:*](GLOSSARY.md#probabilistic-transfer) match the probabilities of being neighbours instead of the
# features, and hand-made features or another kind of data can teach too. *RKD:* students in metric learning surpass
# their teachers. [*SP:*](GLOSSARY.md#similarity-preserving-loss) a student need not live in the teacher's space.
# [*CC:*](GLOSSARY.md#correlation-congruence) the correlation between examples is worth learning besides single ones.
# *Since:* see section 8.
#
# PKT's code is its row of the table:

# %%
lab.show(probabilistic_transfer_loss)

# %% [markdown]
# ### What each of them ignores
#
# An [invariance](GLOSSARY.md#invariance) is a freedom left to the student: what the loss ignores, the student may
# choose. A test on fixed numbers: 12 examples, 4 features of the student, 6 of the teacher. Each change is made on the
# *student's* side alone, except for the last, a new order of the batch on both sides.

# %%
index = torch.arange(12, dtype=torch.float64)[:, None]
s = torch.sin(1.7 * index * torch.arange(1, 5) + 0.3)
t = torch.sin(0.9 * index * torch.arange(1, 7) + 1.1)
turn = torch.linalg.qr(torch.sin(torch.arange(16, dtype=torch.float64).reshape(4, 4) ** 2))[0]
order = (5 * torch.arange(12) + 2) % 12
changes = {
    "rotation": (s @ turn, t),
    "scale × 3": (3 * s, t),
    "shift by 2": (s + 2, t),
    "lengths of rows": (s * (1 + index), t),
    "order of the batch": (s[order], t[order]),
}
kept = pd.DataFrame(
    {
        change: {name: abs(loss(*pair) - loss(s, t)).item() < 1e-12 for name, loss in RELATIONS.items()}
        for change, pair in changes.items()
    }
).rename_axis("loss")
report.table(kept.replace({True: "same", False: "changes"}))

# %% [markdown]
# All five ignore rotation, scale and order. Distances and angles are made of *differences*, so a shift cancels. SP, CC
# and PKT look from the origin, CC and PKT at directions only. That has a price: after a ReLU no feature is negative,
# all cosines lie in [0, 1], and examples seem more alike than they are. With both sides shifted by 5:

# %%
left = {name: (loss(s + 5, t + 5) / loss(s, t)).item() for name, loss in RELATIONS.items()}
print(", ".join(f"{name} {share:.3%} left" for name, share in left.items()))

# %% [markdown]
# That is one reason for large weights. Another: entries are small when each row of B has length 1 (SP) or sum 1 (PKT).
# The script of RepDistiller (lesson 02) weighs SP with 3,000. Its 30,000 for PKT belongs to a mean over all B² entries:
# divided by B it is a weight for the mean of rows, 470 at a batch of 64.

# %% [markdown]
# ## 5. Contrast: find your partner
#
# Another question about the same batch: *which of these B teacher [embeddings](GLOSSARY.md#embedding) is of the example
# that I see?* It is a classification with B classes, and its loss is a cross-entropy
# ([**InfoNCE**](GLOSSARY.md#infonce), van den Oord et al. 2018):
#
# $$-\frac1B \sum_i \log \frac{e^{\cos(x^s_i,\, x^t_i)/\tau}}{\sum_j e^{\cos(x^s_i,\, x^t_j)/\tau}}$$
#
# with a temperature τ; the same with student and teacher exchanged is added, and the sum halved. It compares across the
# two spaces, so they need equal widths: a learned linear [**head**](GLOSSARY.md#head) on the student, thrown away
# afterwards.
#
# **By hand.** B = 2, τ = 1, partners at cosine 1, others at 0: −log(e/(e + 1)) = 0.313.

# %%
print("InfoNCE:", round(info_nce_loss(torch.eye(2), torch.eye(2), temperature=1.0).item(), 3))

# %% [markdown]
# ### CRD: partners or not?
#
# [**CRD**](GLOSSARY.md#contrastive-representation-distillation) (Tian et al. 2020) brought
# [contrast](GLOSSARY.md#contrastive-loss) to distillation. It asks of *one pair at a time*: partners or not? The answer
# is a probability h. Its [negatives](GLOSSARY.md#negative) come from a [memory](GLOSSARY.md#memory-bank), which keeps
# an embedding $\tilde x$ of every training example, half of it renewed whenever the example is met: thousands of them
# cost no forward pass. With K negatives:
#
# $$-\frac1B \sum_i \Big[\log h(x^s_i, \tilde x^t_i) + \sum_{k} \log\big(1 - h(x^s_i, \tilde x^t_k)\big)\Big], \qquad
# h(x, \tilde x) = \frac{e^{x^\top \tilde x/\tau}}{e^{x^\top \tilde x/\tau} + K c}$$
#
# and the same with student and teacher exchanged. Both have a head, all embeddings have length 1, and c is the mean of
# $e^{x^\top \tilde x/\tau}$ over the unit sphere: so before training any pair gets odds of about 1 : K. (K c is the
# authors' code; their paper has K divided by the number of training examples.)

# %%
lab.show(crd_loss)

# %% [markdown]
# Half of it checks shapes. `log_noise` is log(K c); `others` leaves out negatives that are the example itself (or of
# its class, if the memory knows labels); the sum over the rest is scaled up to K; `softplus(z)` is log(1 + e^z).
#
# **By hand.** Embeddings of one number, so of 1 or −1; one positive, one negative, K = 1, τ = 1. The student's and all
# of the memory's are 1: $e^1$ = 2.718, and c is the mean of $e^1$ and $e^{-1}$, 1.543. So h = 2.718/4.261 = 0.638, for
# the partner and for the stranger. −log h = 0.450 and −log(1 − h) = 1.016, and both directions are equal: 2.931.

# %%
torch.manual_seed(0)
memory = ContrastiveMemory(2, 2, num_examples=2, width=1)
memory.student_bank.fill_(1.0)
memory.teacher_bank.fill_(1.0)
one = torch.ones(1, 1)
print("CRD:", round(crd_loss(one, one, torch.tensor([0]), torch.tensor([1]), memory, temperature=1.0).item(), 3))

# %% [markdown]
# **What InfoNCE certifies.** log B minus the expected loss is a lower bound of the [**mutual
# information**](GLOSSARY.md#mutual-information) of the two embeddings: how many nats one tells about the other. The
# loss is never negative, so a batch of B certifies at most log B, *whatever the truth is* ([Poole et al.
# 2019](https://arxiv.org/abs/1905.06922)). Equal embeddings, of infinite information, with B = 128:

# %%
both = torch.sin(torch.arange(128.0 * 64) ** 1.5).reshape(128, 64)
certified = math.log(128) - info_nce_loss(both, both, temperature=0.02).item()
print(f"certified {certified:.2f} nats, log B {math.log(128):.2f}")

# %% [markdown]
# Hence large batches or memories. Two images of one class are each other's negatives: exercise 05.5 leaves them out.
#
# ## 6. When relations help
#
# The case that they seem made for: **few labels, many [unlabelled](GLOSSARY.md#unlabelled-data) images.** 50 labelled
# digits, and 1,000 images that the teacher has seen and nobody labels for the student. Each of its 200 steps takes the
# cross-entropy of all 50 labels, and beside it one loss against the teacher on 50 of the 1,000 images. InfoNCE has a
# linear head, CRD its memory with 256 negatives. `own` is what the student says of the images, `told` the teacher:

# %%
lab.show(teacher_term)

# %% [markdown]
# **Weights by one rule.** A setting of k means: when training starts, the teacher's term pulls k times as hard at the
# first layer as the labels do. Each loss tries seven k on *validation* images of two seeds of their own, and takes the
# best. Labels alone try six weight decays instead.

# %%
lab.show(pull)

# %%
tuned = experiments.load("relation_labels_tuning").groupby("arm")["accuracy"].mean()
grids = {
    name: {k: tuned[arm] for arm, k in labels_tuning.tried(name, 50).items()} for name in labels_tuning.COMPARED[50][1:]
}
table = pd.DataFrame(grids).T.rename_axis("loss").rename(columns="{:g}".format)
report.table(table, percent=list(table), caption="50 labels: validation accuracy by k")
assert (table.max(axis=1) - table[list(table)[1:-1]].max(axis=1)).max() < 0.005
assert labels_tuning.chosen("labels only", 50) in labels_tuning.DECAYS[1:-1]
print("no end of a list is more than half a point better than its inside; the labels' best decay lies inside: yes")

# %% [markdown]
# Now the test images, 24 paired seeds, each loss with its chosen setting (stored runs):

# %%
stored = experiments.load("relation_labels")
fifty = stored[stored["arm"].str.endswith(", 50 labels")]
fifty = fifty.assign(arm=fifty["arm"].str.removesuffix(", 50 labels"))
result = lab.compare(fifty, baseline="labels only", metric="accuracy")
report.comparison(result, caption="50 labels: test accuracy against labels only")

# %% [markdown]
# What counts is the verdict over all seeds; groups of eight stand beside it.

# %%
judged = {name: report.verdicts(fifty, baseline=name) for name in ("labels only", "soft targets")}
for name, found in judged.items():
    report.table(found, caption=f"50 labels: verdicts against {name}")

# %%
over_all = {name: found["all seeds"] for name, found in judged.items()}
assert (fifty[fifty["arm"] == "labels only"]["training_accuracy"] == 1).all()
assert (over_all["labels only"].drop("CRD") == "helps").all()
assert over_all["labels only"]["CRD"] == "undecided"
assert (over_all["soft targets"] == "hurts").all()
print("labels only knows its 50 labels by heart; all losses but CRD help; all are below soft targets: yes")

# %% [markdown]
# - **Relations help:** all five and InfoNCE beat tuned labels by several points, though no class was named for the
#   1,000 images.
# - **CRD** is not told apart from labels, after 200 steps from random heads and a random memory (the paper: 240
#   epochs).
# - **Soft targets help far more:** they also say *which* class each image is like. Where you have them for your
#   classes, relations are not the first thing to take.
#
# ## 7. A teacher without logits: retrieval
#
# What are relations for? For a teacher who has **no logits for your classes**: they ask for one vector per example. The
# test is [retrieval](GLOSSARY.md#retrieval) among *new classes*: is the nearest other signal, by its embedding, of the
# same class? The share of yes is [**recall at 1**](GLOSSARY.md#recall-at-k); *at 5*, one of the five nearest is.
#
# MNIST-1D, signals of ten classes. Each seed draws six; teacher and students learn from these alone, about 1,800
# signals, and are judged on test signals of the *four others*. The teacher, a convolutional net of 32 channels, ends in
# an embedding of 64 numbers. It learned with a contrastive loss on labels (Khosla et al. 2020): InfoNCE within one net,
# where the partners are the others of one's class.

# %%
lab.show(supervised_contrastive_loss)
lab.show(recall)

# %% [markdown]
# The student has 16 channels and 16 numbers; all embeddings have length 1. One arm learns from the *labels*, with the
# teacher's own loss. The others see no label, only the teacher's 64 numbers: relations (*RKD both* is section 2's
# 1 : 2), *features* (a hint through a linear regressor, lesson 03), InfoNCE through such a head. Settings come from
# validation signals and other seeds: one learning rate for all, the best on their mean, and a temperature for each of
# the two contrastive losses. Two floors: the signals as they are, and a student that nobody trained.

# %%
runs = experiments.load("relation_retrieval")
means = runs.groupby("arm")[["accuracy", "recall_at_5", "training_accuracy"]].mean().loc[list(relation_retrieval.ARMS)]
means.columns = ["recall at 1", "at 5", "at 1, known classes"]
report.table(means, percent=list(means), caption="recall on new classes, and on the signals trained on, 24 seeds")

# %%
LIKENESSES = ["RKD distance", "RKD angle", "RKD both", "SP", "PKT"]
trained = runs[~runs["arm"].isin(["teacher", *relation_retrieval.FLOORS])]
against = {name: report.verdicts(trained, baseline=name) for name in ("labels", "features", "InfoNCE")}
for name, found in against.items():
    report.table(found, caption=f"recall at 1: verdicts against {name}")

# %%
result = lab.compare(trained, baseline="labels", metric="accuracy")
report.figure(
    report.intervals(result, x_label="points of recall at 1 against labels"),
    "differences of recall at 1 from labels with intervals: InfoNCE and relations above zero, features around it",
)

# %%
assert (against["labels"].loc[[*LIKENESSES, "InfoNCE"], "all seeds"] == "helps").all()
assert (against["features"].loc[[*LIKENESSES, "InfoNCE"], "all seeds"] == "helps").all()
assert (against["InfoNCE"].loc[LIKENESSES, "all seeds"] == "undecided").all()
beside = report.verdicts(runs[~runs["arm"].isin(relation_retrieval.FLOORS)], baseline="teacher")["all seeds"]
assert (beside[[*LIKENESSES, "InfoNCE"]] == "undecided").all()
assert (beside[["labels", "features"]] == "hurts").all()
print("RKD, SP, PKT and InfoNCE beat labels and features; no relation is told apart from InfoNCE: yes")
print("labels and features stay below the teacher; the others are not told apart from it: yes")

# %% [markdown]
# - **Without a label** RKD, SP, PKT and InfoNCE beat both the labels' own loss and the hint, which are not told apart.
# - **InfoNCE** has the highest mean; no relation is told apart from it. It needs a head and a temperature, they don't.
# - **The teacher** is not told apart from these students: that they surpass it (RKD's claim) is not shown here.
# - **Longer training** does not close the gap, it widens it (below). After ten epochs the labels' student finds 91 %
#   on the signals that it learned from, the others 91 to 93 %.
#
# Stored numbers are worth what can be recomputed: one seed, two arms of both experiments, live.

# %%
seed = BASE_SEED if BASE_SEED in set(runs["seed"]) else 0
for module, arms in (
    (relation_labels, ("labels only, 50 labels", "RKD distance, 50 labels")),
    (relation_retrieval, ("labels", "RKD both")),
):
    kept = experiments.load(module.__name__.rpartition(".")[2]).set_index(["seed", "arm"])["accuracy"]
    for arm in arms:
        assert abs(module.run(seed, arm)["accuracy"] - kept[seed, arm]) < 0.03
        print(f"{arm}: within three points of the stored run")

# %% [markdown]
# ### With four times the steps (in depth)
#
# Did the labels only need more time? The same two arms for 40 epochs, four rounds of the same schedule:

# %%
longer = experiments.load("relation_retrieval_longer")
both = pd.concat([runs[runs["arm"].isin(["labels", "RKD both"])], longer.assign(arm=longer["arm"] + ", longer")])
names = ["labels", "labels, longer", "RKD both", "RKD both, longer"]
means = both.groupby("arm")[["accuracy", "training_accuracy"]].mean().loc[names]
means.columns = ["recall at 1", "at 1, known classes"]
report.table(means, percent=list(means), caption="recall on new classes, and on the signals trained on, 24 seeds")
found = {name: report.verdicts(both, baseline=name)["all seeds"] for name in ("labels", "RKD both")}
assert found["labels"]["labels, longer"] == found["RKD both"]["labels, longer"] == "hurts"
assert found["RKD both"]["RKD both, longer"] == "undecided"
print("more time hurts the labels' student on new classes, and changes nothing that can be told for RKD's: yes")

# %% [markdown]
# The labels' student then knows the six classes it learned (99 %), and forgets what it does not need for them. RKD's
# keeps the teacher's distances, and with them what tells the other classes apart.

# %% [markdown]
# **Beside the losses of other lessons.** All losses of lessons 01 to 05, relations among them, are compared with few
# labels on two tasks in [lesson 18](18_choose_your_method.ipynb). What it found for relations is in the last section.

# %% [markdown]
# ## 8. With many labels (in depth)
#
# The student of section 6 with **all 1,000 labels**, the teacher's own, and two relations and soft targets tuned anew.
# Is anything left to gain?

# %%
stored = experiments.load("relation_labels")
thousand = stored[stored["arm"].str.endswith(", 1000 labels")]
thousand = thousand.assign(arm=thousand["arm"].str.removesuffix(", 1000 labels"))
result = lab.compare(thousand, baseline="labels only", metric="accuracy")
report.comparison(result, caption="1,000 labels: test accuracy against labels only")

# %%
assert (thousand[thousand["arm"] == "labels only"]["training_accuracy"] > 0.99).all()
taught = result.drop("labels only")
assert taught["high"].max() < 0
assert taught["low"].min() > -0.01
print("distances, similarity and soft targets are below labels only, by less than a point: yes")

# %% [markdown]
# **Seen:** none of the three gains. That labels alone are ahead by half a point need not be the relations' fault:
# their weight decay was tuned, the others have none (with 50 labels the same handicap did not stop them). With many
# labels start from a small weight, and keep an arm with weight 0.
#
# ### The published numbers
#
# CIFAR-100, all 50,000 labels, 240 epochs, thirteen pairs of teacher and student, RKD with both parts (Tian et al.
# 2020). In how many pairs is a loss above ...
#
# | | soft targets | AT | RKD | SP | CC | PKT | CRD |
# |:---|---:|---:|---:|---:|---:|---:|---:|
# | ... no teacher | 13 | 11 | 10 | 13 | 11 | 13 | 13 |
# | ... soft targets | - | 1 | 0 | 2 | 0 | 3 | 13 |
#
# RKD is below no teacher in three of thirteen, by 0.6, 0.1 and 0.2 points; runs differ by about ± 0.3. Newer losses on
# logits come out higher than CRD on the pair that most papers show (resnet32x4 → resnet8x4: CRD 75.51, DKD of lesson 02
# 76.32), and need no memory.
#
# ## 9. A published "CC" that depends on the order of the batch (in depth)
#
# RepDistiller's `Correlation` (weight 0.02) is called CC and computes something else than the paper's formula:
# differences of student and teacher, multiplied for *neighbouring rows* of the batch. (Its comment says that it follows
# code from the paper's authors.) It needs equal widths; here are three checks.

# %%
student_rows, teacher_rows = s, t[:, :4]


def step_published(batch):
    delta = (batch[0] - batch[1]).abs()
    return (delta[:-1] * delta[1:]).sum(1).mean()


pairs = {
    "as given": (student_rows, teacher_rows),
    "batch in another order": (student_rows[order], teacher_rows[order]),
    "student = teacher, turned": (teacher_rows @ turn, teacher_rows),
}
for name, pair in pairs.items():
    print(f"{name:26} published {step_published(pair):.3f}   CC {correlation_congruence_loss(*pair):.3f}")
assert abs(step_published(pairs["as given"]) - step_published(pairs["batch in another order"])) > 0.01
assert step_published(pairs["student = teacher, turned"]) > 0.1
assert correlation_congruence_loss(*pairs["student = teacher, turned"]) < 1e-12

# %% [markdown]
# A correlation of examples can't change when the batch is shuffled. Published tables with a row "CC" may have measured
# either of the two: look at their code. [Lesson 15](15_fidelity.ipynb) has the museum with its other slips.

# %% [markdown]
# ## 10. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions:
# [solutions/05_relation_based.ipynb](solutions/05_relation_based.ipynb).

# %% [markdown] tags=["exercise"]
# **05.1 Recall.** Distances of all pairs, each divided by the mean over *distinct* pairs. Embeddings (B, D), result
# (B, B).
#
# <details><summary>Hint</summary>A sum over all entries, and the right number to divide it by.</details>


# %% tags=["exercise"]
def my_relative_distances(embeddings):
    raise NotImplementedError


# %% tags=["solution"]
def my_relative_distances(embeddings):
    count = len(embeddings)
    distances = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    return distances / (distances.sum() / (count * (count - 1)))  # the diagonal adds nothing to the sum


# %% tags=["check"]
lab.check("05.1", my_relative_distances)

# %% [markdown] tags=["exercise"]
# **05.2 Derive.** Write SP from the table of section 4: features (B, D) and (B, D'), result a scalar.
#
# <details><summary>Hint</summary>Two products of matrices, two normalisations of rows, one mean of squares.</details>


# %% tags=["exercise"]
def my_similarity_loss(student_features, teacher_features):
    raise NotImplementedError


# %% tags=["solution"]
def my_similarity_loss(student_features, teacher_features):
    own, target = (F.normalize(x @ x.mT, dim=1) for x in (student_features, teacher_features))  # L2 is the default
    return F.mse_loss(own, target)


# %% tags=["check"]
lab.check("05.2", my_similarity_loss)

# %% [markdown] tags=["exercise"]
# **05.3 Predict.** The student gets one more feature, which is 5 for every example. Which of "RKD distance", "RKD
# angle", "SP", "CC" and "PKT" change? A set of names, from the formulas.
#
# <details><summary>Hint</summary>Where does the constant cancel?</details>

# %% tags=["exercise"]
my_changed = ...

# %% tags=["solution"]
my_changed = {"SP", "CC", "PKT"}  # products and cosines are seen from the origin; differences are not

# %% tags=["check"]
lab.check("05.3", my_changed)

# %% [markdown] tags=["exercise"]
# **05.4 Derive.** Write InfoNCE with both directions: embeddings (B, D) on both sides, a temperature; a scalar.
#
# <details><summary>Hint</summary>F.cross_entropy, twice, on one matrix and on its transpose.</details>


# %% tags=["exercise"]
def my_info_nce(student_embeddings, teacher_embeddings, temperature):
    raise NotImplementedError


# %% tags=["solution"]
def my_info_nce(student_embeddings, teacher_embeddings, temperature):
    logits = F.normalize(student_embeddings, dim=1) @ F.normalize(teacher_embeddings, dim=1).mT / temperature
    partners = torch.arange(len(logits))
    return (F.cross_entropy(logits, partners) + F.cross_entropy(logits.mT, partners)) / 2


# %% tags=["check"]
lab.check("05.4", my_info_nce)

# %% [markdown] tags=["exercise"]
# **05.5 Design.** In InfoNCE an image of the same class is a negative, though it should be near. Write the student's
# side alone (the formula of section 5) such that other examples of one's own class don't count in the sum. Labels (B,).
#
# <details><summary>Hint</summary>exp(−∞) is 0. And one's partner has one's own label too.</details>


# %% tags=["exercise"]
def my_class_aware_loss(student_embeddings, teacher_embeddings, labels, temperature):
    raise NotImplementedError


# %% tags=["solution"]
def my_class_aware_loss(student_embeddings, teacher_embeddings, labels, temperature):
    logits = F.normalize(student_embeddings, dim=1) @ F.normalize(teacher_embeddings, dim=1).mT / temperature
    others = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)
    return F.cross_entropy(logits.masked_fill(others, -torch.inf), torch.arange(len(labels)))


# %% tags=["check"]
lab.check("05.5", my_class_aware_loss)

# %% [markdown] tags=["exercise"]
# **05.6 Derive.** CRD's sum from one side, made stable. Given are cosines: of each example with its partner,
# `positives` (B,), and with K strangers, `negatives` (B, K); further τ and c as in section 5. A scalar, the mean over
# the batch, finite at τ = 0.005 too.
#
# <details><summary>Hint</summary>Write h as a sigmoid of cosine/τ minus a number. Then softplus gives both
# logarithms.</details>


# %% tags=["exercise"]
def my_critic_loss(positives, negatives, temperature, c):
    raise NotImplementedError


# %% tags=["solution"]
def my_critic_loss(positives, negatives, temperature, c):
    noise = math.log(negatives.shape[1] * c)  # h = σ(cosine/τ - log(K c))
    accepted = F.softplus(noise - positives / temperature)  # -log h
    rejected = F.softplus(negatives / temperature - noise)  # -log(1 - h)
    return (accepted + rejected.sum(dim=1)).mean()


# %% tags=["check"]
lab.check("05.6", my_critic_loss)

# %%
lab.quiz("05")

# %% [markdown]
# ## 11. When to use relations, and when not
#
# **Use them** when the teacher has embeddings and no logits for your classes: without a label, RKD, SP and PKT beat
# labels and a hint in retrieval of new classes (section 7; so did InfoNCE, which needs a head); when labels are few and
# images many (section 6). RKD needs no care about the origin; SP and PKT need large weights: start from gradients.
#
# **When not:** you have the teacher's logits and want one loss only (with 50 labels soft targets were far better; in
# lesson 18, at equal epochs, no relation beat them in all three settings: PKT, InfoNCE and CC did for a student of
# images, SP for a perceptron of signals); labels are many (section 8); your batch is split over devices and nobody
# gathers it: then each device sees its own pairs.
#
# **Cost:** one forward pass of the teacher per image, B² numbers (B³ for angles), for CRD a memory of all training
# images.
#
# **Copy it:** `python -m kdref copy relation` writes this lesson's files, each of which needs only torch; `python -m
# kdref copy rkd_distance_loss` that function and what it calls.
#
# **Further reading:** [Tian et al. 2020](https://arxiv.org/abs/1910.10699), who compare them all; [Tschannen et al.
# 2020](https://arxiv.org/abs/1907.13625): the information that they certify does not explain why contrastive methods
# work.
#
# **Next lesson:** [06](06_multi_teacher.ipynb), several teachers: what do they know together that
# none of them knows alone?
