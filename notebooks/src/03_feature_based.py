# %% [markdown]
# # 03 · Feature-based distillation
#
# **What does a student gain from looking inside its teacher, and how do you know that it did?**
#
# **You will be able to**
#
# - attach a [hint](GLOSSARY.md#hint) to a layer, and say why a falling hint loss proves little;
# - measure with [CKA](GLOSSARY.md#centred-kernel-alignment) how alike two layers are, whatever their width;
# - name nine losses on features, who found each, and what each throws away;
# - count what reusing the teacher's classifier really costs.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb) and [lesson 02](02_response_based.ipynb); what a convolution, a
# [channel](GLOSSARY.md#channel) and [batch normalisation](GLOSSARY.md#batch-normalisation) are.
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/feature/hints.py`, `kdref/feature/factors.py`, `kdref/feature/flow.py`, `kdref/feature/overhaul.py`,
# `kdref/feature/review.py`, `kdref/feature/reuse.py` (the methods), `kdref/fidelity/alignment.py` (a measure),
# `kdref/lab/training/taps.py`.
#
# **Papers:** [Romero et al. 2015](https://arxiv.org/abs/1412.6550), who gave the first hints; [Kornblith et al.
# 2019](https://arxiv.org/abs/1905.00414), on comparing layers; [Chen et al. 2022](https://arxiv.org/abs/2203.14001),
# on the reused classifier; the others stand where they are used.

# %% tags=["setup"]
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from kdref import lab
from kdref.feature import (
    HintRegressor,
    ReusedClassifier,
    VariationalRegressor,
    hint_loss,
    neuron_selectivity_loss,
    overhaul_loss,
)
from kdref.fidelity import centered_kernel_alignment
from kdref.lab import data, models, report
from kdref.lab.report import style
from kdref.lab.training.taps import layer_table
from kdref.lab.widgets.feature import layer_picker
from kdref.soft_targets import soft_target_loss

lab.setup()
BASE_SEED = lab.base_seed()
SEEDS = range(BASE_SEED, BASE_SEED + 8)
LAYERS = ["features.relu1", "features.relu2", "features.relu3"]
NAMES = ["layer 1", "layer 2", "layer 3"]
LABELLED = 100  # images that the students may learn from; the teachers had 1,000

# %% [markdown]
# ## 1. The idea
#
# Logits are the last thing a network computes. Before them it has turned the image into
# [**features**](GLOSSARY.md#features), the activations of its layers: maps of many channels. They hold more numbers
# than the logits, and each layer has its own. A method is [**feature-based**](GLOSSARY.md#feature-based-distillation)
# when the student is also judged by its features.
#
# Teachers here are convolutional nets of three layers and 16 channels, trained on 1,000 of the 8 × 8 digits; students
# have 4 channels. One teacher for each of eight seeds. `lab.taps` [reads named layers](GLOSSARY.md#tap) without
# touching the model.

# %%
TEACHERS = {}
for seed in SEEDS:
    split = data.digits(seed)
    teacher = models.make("cnn2d-16", shape=split.shape, seed=seed)

    def step_teacher(batch):
        return {"loss": F.cross_entropy(teacher(batch[0]), batch[1])}  # noqa: B023

    batches = lab.Batches(split.train_x, split.train_y, batch_size=100, seed=seed)
    lab.fit(step_teacher, teacher, batches, torch.optim.Adam(teacher.parameters(), lr=0.01), epochs=6, progress=False)
    TEACHERS[seed] = teacher.eval().requires_grad_(False), lab.taps(teacher, [*LAYERS, "classifier"])
    assert lab.measure(teacher, split.test_x, split.test_y)["accuracy"] > 0.8
split, (teacher, tapped) = data.digits(BASE_SEED), TEACHERS[BASE_SEED]
print("each of", len(TEACHERS), "teachers is right on more than 80 of 100 test images: yes")
for name, features in tapped(split.test_x[:1]).items():
    print(f"{name:15} {tuple(features.shape[1:])}")

# %% [markdown]
# A picture of one layer's features that needs no channel names: how alike does it find each pair of images? Thirty
# test images, sorted by digit. Light blocks on the diagonal mean that images of one digit look alike to this layer,
# and unlike the others.

# %%
first = split.test_y[:30].argsort()
with style.new_figure(9, 3.6, columns=3) as (figure, axes):
    views = {f"teacher, layer {n}": tapped(split.test_x[:30])[name] for n, name in enumerate(LAYERS, 1)}
    for ax, (title, features) in zip(axes, views.items(), strict=True):
        centred = features[first].flatten(1) - features.flatten(1).mean(dim=0)
        ax.imshow(F.normalize(centred, dim=1) @ F.normalize(centred, dim=1).T, cmap="gray", vmin=-1, vmax=1)
        ax.set(title=title, xticks=[], yticks=[], xlabel="image, sorted by digit")
        ax.grid(False)
report.figure(
    figure, "three 30 by 30 pictures of likeness between images; blocks on the diagonal grow clear by layer 3"
)

# %% [markdown]
# ## 2. A hint
#
# Romero et al. (FitNets) chose a layer in the middle of the teacher, the **hint**, and one of the student, the
# **guided** layer. Widths differ, so a small [**regressor**](GLOSSARY.md#regressor) $r$ maps the student's channels to
# the teacher's:
#
# $$L = \frac1N \sum_{n=1}^{N} \big(r(f^s)_n - f^t_n\big)^2, \qquad r(f) = Wf + b$$
#
# N counts every element: examples, channels and places. On maps $r$ is a 1 × 1 convolution. It is thrown away after
# training.

# %%
lab.show(hint_loss)

# %% [markdown]
# **By hand.** The student has two channels, (1, 2), the teacher three, (1, 0, 3). W = ((1, 0), (0, 1), (1, 1)), b = 0:
# the regressor says (1, 2, 3), and the loss is (0 + 4 + 0)/3 = 1.333.

# %%
regressor = HintRegressor(2, 3)
with torch.no_grad():
    regressor.projection.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[..., None])
    regressor.projection.bias.zero_()
    loss = hint_loss(regressor(torch.tensor([[1.0, 2.0]])), torch.tensor([[1.0, 0.0, 3.0]]))
print("hint loss:", round(loss.item(), 3))

# %% [markdown]
# *Claim* (2015): a student deeper and thinner than its teacher can be trained, and beats it. Hints come first, without
# labels; soft targets follow. *Since:* batch norm, published in the same year, made deep nets trainable without hints.
# In published CIFAR-100 figures (test accuracy in per cent; resnet32x4 to resnet8x4, of 32 and 8 layers; the student
# alone has 72.50) FitNet has 73.50 and plain soft targets 73.33. Run-to-run spread is ± 0.3 there and some tables
# report the best test epoch, so that gap says little.
#
# ## 3. What the regressor hides
#
# A hint loss near zero: has the *student* learned? Or the regressor? We need a measure that looks at the student's own
# features and needs no regressor. **CKA**, centred kernel alignment (Cortes et al. 2012, for kernels; Kornblith et al.
# 2019, for layers), compares the pictures of section 1. With features $X$ and $Y$ of the same B images, centred:
#
# $$\mathrm{CKA}(X, Y) = \frac{\langle XX^\top, YY^\top\rangle}{\|XX^\top\|\,\|YY^\top\|}$$
#
# $\langle\cdot,\cdot\rangle$ and $\|\cdot\|$ treat the two B × B tables as long vectors, so this is their cosine. It is
# 1 where the two differ by rotation, shift or scale only, and the widths may differ. With few images and many features
# it is too high: each image is most like itself. Below, all values that are compared have equally many of both. The
# form that is the function's default leaves each image's likeness to itself out.

# %%
lab.show(centered_kernel_alignment)

# %%
cka = partial(centered_kernel_alignment, unbiased=False)  # the formula above
x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [3.0, 0.0]])
turned = x @ torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
print("rotated, scaled, shifted:", round(cka(x, 5 * turned + 1).item(), 3))
print("other order of examples: ", round(cka(x, x.flip(0)).item(), 3))
print("by hand, (1, 2, 3) against (1, 3, 2), correlation ½ squared:", end=" ")
print(round(cka(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [3.0], [2.0]])).item(), 3))

# %% [markdown]
# Three arms learn nothing but the hint of layer 2, on 1,000 images, no labels. The third student *never learns*: its
# weights stay as they were drawn, and only a strong regressor (two convolutions of 3 × 3) is trained.
#
# The hint loss below is that of test images, divided by the variance of the teacher's features: at 1 a constant would
# do as well.


# %%
def run_regressor(seed, arm):
    split, (_, tapped) = data.digits(seed), TEACHERS[seed]
    student = models.make("cnn2d-4", shape=split.shape, seed=100 + seed)
    own = lab.taps(student, LAYERS[1:2])
    guides = {part: tapped(x)[LAYERS[1]] for part, x in (("train", split.train_x), ("test", split.test_x))}
    torch.manual_seed(seed)
    strong = [nn.Conv2d(4, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 3, padding=1)]
    regressor = HintRegressor(4, 16) if arm == "1 × 1" else nn.Sequential(*strong)
    trained = [regressor] if arm == "strong, student untrained" else [regressor, student]

    def step_hint(batch):
        features = own(batch[0])[LAYERS[1]]
        return {"loss": hint_loss(regressor(features if student in trained else features.detach()), batch[1])}

    optimizer = torch.optim.Adam([p for module in trained for p in module.parameters()], lr=0.01)
    batches = lab.Batches(split.train_x, guides["train"], batch_size=100, seed=seed)
    lab.fit(step_hint, trained, batches, optimizer, epochs=6, progress=False)
    with torch.no_grad():
        features = [module.eval() for module in (regressor, student)] and own(split.test_x)[LAYERS[1]]
        loss = hint_loss(regressor(features), guides["test"]) / guides["test"].var(dim=0).mean()
    return {"hint loss": loss.item(), "CKA": cka(features[:200], guides["test"][:200]).item()}


arms = ["1 × 1", "strong", "strong, student untrained"]
hidden = lab.replicate(run_regressor, arms=arms, seeds=SEEDS)

# %% tags=["nbval-ignore-output"]
by_loss, by_cka = (
    lab.compare(hidden, baseline="1 × 1", metric=metric, higher_is_better=metric == "CKA")
    for metric in ("hint loss", "CKA")
)
report.comparison(by_loss, metric="hint loss", percent=False, caption="test hint loss, relative: less is better")
report.comparison(by_cka, metric="CKA", percent=False, caption="CKA of the student's own layer 2 and the teacher's")

# %%
untrained = "strong, student untrained"
assert by_loss.loc[untrained, "verdict"] == "helps"
assert by_cka.loc[untrained, "verdict"] == "hurts"
assert by_cka.loc["strong", "verdict"] != "hurts"
print("the untrained student with the strong regressor has the lower hint loss:", by_loss.loc[untrained, "verdict"])
print("and its own features are less like the teacher's:", by_cka.loc[untrained, "verdict"])

# %% [markdown]
# **Seen:** the hint loss ranks the two the wrong way round. A student that learned nothing has the better loss,
# because the regressor fits the teacher from whatever it is given. So a hint loss is no measure of a student, and
# losses through different regressors can't be compared. Look at the student's own features.
#
# Sixty steps are few; with more the losses change, the argument does not.
#
# **Not seen:** that a strong regressor keeps a student *that does learn* from becoming like its teacher. No group of
# seeds shows it with a lower CKA than under the 1 × 1 regressor. The warning is about what you measure.
#
# ## 4. A heat map of all layers
#
# The same measure for every pair of layers. The student now learns from 100 labelled images: before training, after
# labels alone ("none"), and after labels with a hint. "2 → 2" means that the teacher's layer 2 teaches the student's
# layer 2; if two maps differ in size, the larger is averaged to the smaller. The hint is divided by the variance of
# the teacher's features and has weight 1, which we did not tune.


# %%
def run_attached(seed, arm):
    split, (_, tapped) = data.digits(seed), TEACHERS[seed]
    student = models.make("cnn2d-4", shape=split.shape, seed=100 + seed)
    torch.manual_seed(seed)
    own, regressor = lab.taps(student, [*LAYERS, "classifier"]), HintRegressor(4, 16)
    i, j = (int(n) for n in (arm if "→" in arm else "2 → 2").split(" → "))
    size = 16 // 2 ** max(i, j)  # maps are 8, 4 and 2 wide
    guide = F.adaptive_avg_pool2d(tapped(split.train_x[:LABELLED])[LAYERS[i - 1]], size)
    spread = guide.var(dim=0).mean()

    def step_student(batch):
        found = own(batch[0])
        loss = F.cross_entropy(found["classifier"], batch[1])
        if "→" in arm:
            features = F.adaptive_avg_pool2d(found[LAYERS[j - 1]], size)
            loss = loss + hint_loss(regressor(features), batch[2]) / spread
        return {"loss": loss if arm != "before" else 0 * loss}

    optimizer = torch.optim.Adam([*student.parameters(), *regressor.parameters()], lr=0.01)
    batches = lab.Batches(split.train_x[:LABELLED], split.train_y[:LABELLED], guide, batch_size=50, seed=seed)
    lab.fit(step_student, [student, regressor], batches, optimizer, epochs=16, progress=False)
    accuracy = lab.measure(student, split.test_x, split.test_y)["accuracy"]
    with torch.no_grad():
        pairs = [dict(zip(NAMES, net(split.test_x[:100]).values(), strict=False)) for net in (own, tapped)]
    return {"accuracy": accuracy, "table": layer_table(*pairs, measure=cka)}


arms = ["before", "none", *(f"{i} → {j}" for i in (1, 2, 3) for j in (1, 2, 3))]
attached = lab.replicate(run_attached, arms=arms, seeds=SEEDS)
means = {arm: sum(rows["table"]) / len(rows) for arm, rows in attached.groupby("arm")}
tables = {"before": means["before"], "labels": means["none"], "labels and hint 2 → 2": means["2 → 2"]}
for title, table in tables.items():
    report.figure(
        report.grid(table, x_label="teacher", y_label="student", title=f"CKA, {title}", width=6, limits=(0, 1)),
        f"heat map of CKA, {title}: student's three layers by teacher's three, mean of eight seeds",
    )

# %%
attached["CKA of layer 3"] = [table.loc["layer 3", "layer 3"] for table in attached["table"]]
likeness = lab.compare(attached, baseline="none", metric="CKA of layer 3")
assert likeness.loc["before", "verdict"] == "hurts"
assert likeness.loc["1 → 3", "verdict"] == "hurts"
print("layer 3 of both networks: labels alone raise its CKA above that before training")
print("a hint 1 → 3 leaves it lower than labels alone do")

# %% tags=["nbval-ignore-output"]
report.comparison(likeness, metric="CKA of layer 3", percent=False, caption="against labels alone")

# %% [markdown]
# **How to read it:** look along a row. Which of the teacher's layers is this one most like, and is it the one of the
# same depth? (In these pictures only for layer 1; we assert nothing about it.) **Seen:** a student that never met its
# teacher becomes more like it in the last layer, from labels alone. So compare a hint with labels alone, not with the
# start. Whether a hint between equal layers adds to that stands in the table, and we claim nothing about it. A hint
# from layer 1 to layer 3 leaves the last layer less like the teacher's.
#
# *What independent work found:* [Davari et al. 2023](https://arxiv.org/abs/2210.16156): CKA can be moved far by
# shifting some of the examples, without changing much of what the network does. It is a picture, not a proof.
#
# **Move it yourself.** Choose a layer of each network.

# %%
layer_picker(tables)

# %% [markdown]
# ## 5. Where to attach
#
# Nine ways to attach one hint, eight seeds each, against labels alone ("none") at the same budget: points of test
# accuracy.

# %% tags=["nbval-ignore-output"]
effect = lab.compare(attached[attached["arm"] != "before"], baseline="none", metric="accuracy")
report.comparison(effect, caption="test accuracy, teacher's layer → student's layer")

# %%
gains = (effect["difference"].drop("none") * 100).rename(lambda arm: tuple(arm.split(" → "))).to_dict()
square = means["before"].copy()
for (i, j), gain in gains.items():
    square.loc[f"layer {j}", f"layer {i}"] = gain
report.figure(
    report.grid(
        square, x_label="teacher's layer", y_label="student's layer", title="points against labels alone", decimals=1
    ),
    "heat map of gains by layer: the student's last layer taught by the teacher's first is far below zero",
)
for arm in ("1 → 3", "2 → 3"):
    assert effect.loc[arm, "verdict"] == "hurts"
    print(f"teacher's layer → student's layer, {arm}: {effect.loc[arm, 'verdict']}")
assert not (effect["verdict"] == "helps").any()
print("hints that help accuracy against labels alone, of nine:", (effect["verdict"] == "helps").sum())

# %% [markdown]
# **Seen:** an earlier layer of the teacher forced upon the student's last one costs accuracy, and much of it. And
# **none of the nine is shown to help**, with 100 images, 32 steps, four channels and an untuned weight. That is a short
# budget (lesson 02, *patience*), so this says nothing about long training. It does say that a hint is no free gift.
#
# The literature's advice agrees in part: FitNets chose the *middle*, so as not to bind the student too much; later work
# takes the last layer or several stages of equal depth. Across *families* layers of equal depth need not mean the same,
# and tying maps to maps can do harm: the published numbers at the end of lesson 04, section 5, show attention transfer
# into MobileNetV2 below no teacher at all.
#
# ## 6. Eight more losses, and what each throws away
#
# What should the student copy? Each method drops another part of the teacher's features $f^t$. $\hat f$ is $f$ divided
# by its length. A channel is *silent* where it is at or below zero, so that its ReLU gives 0, and *active* elsewhere. A
# list to come back to: read two or three, and skip the rest.
#
# - **VID**, [Ahn et al. 2019](https://arxiv.org/abs/1904.05835):
#   $\frac12[\log\sigma_c^2 + (f^t - \mu(f^s))^2/\sigma_c^2]$, where $\mu$ guesses the teacher's features, as a
#   regressor does, and each channel has a learnt variance $\sigma_c^2$. Drops channels that the student can't predict.
#   *Claim:* it maximises a bound of [mutual information](GLOSSARY.md#mutual-information).
# - **OFD**, [Heo et al. 2019](https://arxiv.org/abs/1904.01866): $(f^s - \max(f^t, m_c))^2$ before the ReLU, with a
#   negative margin $m_c$ for each channel; nothing where the teacher is silent and the student at or below the target.
#   Drops how silent. *Claim:* beats FT and AB, on ImageNet too.
# - **AB**, [Heo et al. 2019](https://arxiv.org/abs/1811.03233): $\max(0, \mu - a f^s)^2$, with $a = \pm1$ the side of
#   zero on which the teacher is, and a margin $\mu$. Drops all amounts. *Claim:* boundaries between active and silent
#   carry the knowledge.
# - **FT**, [Kim et al. 2018](https://arxiv.org/abs/1802.04977): $|\hat F^s - \hat F^t|$ of
#   [*factors*](GLOSSARY.md#factor): an autoencoder's code of the teacher's maps, and a translator's guess. *Claim:*
#   paraphrasing bridges different architectures.
# - **FSP**, Yim et al. 2017: $(G^s - G^t)^2$, $G_{ij} = \frac1{HW}\sum f^1_i f^2_j$ between channel $i$ of one layer
#   and channel $j$ of a *second layer* of the same network, summed over places (the [flow
#   matrix](GLOSSARY.md#flow-matrix)). Drops places. *Claim:* teach the way from layer to layer, not the stations.
#   Channels must be equal.
# - **NST**, [Huang and Wang 2017](https://arxiv.org/abs/1707.01219): discrepancy of the two *sets* of patterns
#   $\hat f_c$. Drops order, sign and scale of channels. *Claim:* what a neuron selects matters.
# - **ReviewKD**, [Chen et al. 2021](https://arxiv.org/abs/2104.09044): deep student maps, fused, guess shallow teacher
#   maps at full size and averaged to 4, 2, 1, with weights 1, ½, ¼, ⅛. *Claim:* the best of feature methods on
#   CIFAR-100.
# - **SimKD**, [Chen et al. 2022](https://arxiv.org/abs/2203.14001): section 7. Attention and relations: lessons 04 and
#   05.
#
# The published CIFAR-100 figures again (alone 72.50, soft targets 73.33): VID 73.09, NST 73.30, FitNet 73.50, all
# within the spread of ± 0.3 around plain soft targets. Decoupled logits (lesson 02) have 76.32.
#
# **OFD's silence, drawn.** The loss as a function of the student's value, for a teacher that is silent (−2) and one
# that is active (1). Margin −1.

# %%
values = torch.linspace(-3, 3, 121)
margin = torch.tensor([-1.0])
with style.new_figure(8, 3.6) as (figure, (ax,)):
    for number, (name, level) in enumerate({"teacher silent": -2.0, "teacher active": 1.0}.items()):
        losses = [overhaul_loss(v.reshape(1, 1), torch.tensor([[level]]), margin) for v in values]
        ax.plot(values, losses, label=name, color=style.COLORS[number], ls=("-", "--")[number])
    ax.set(xlabel="student, before its ReLU", ylabel="partial distance", ylim=(0, 6))
    ax.legend()
report.figure(figure, "for a silent teacher the loss is flat zero below the margin; for an active one it is a parabola")
for level in (-2.0, 1.0):
    s = torch.tensor([[-3.0, -0.5, 2.0]], requires_grad=True)
    overhaul_loss(s, torch.full((1, 3), level), margin.expand(3)).backward()
    print(f"teacher {level:+.0f}: gradient at -3, -0.5, 2:", (3 * s.grad[0]).tolist())

# %% [markdown]
# **VID knows what it can't know.** With the mean held fixed, the loss is least where each channel's variance is its
# mean squared residual. Three channels with residuals of 0.5, 1 and 3:

# %%
vid = VariationalRegressor(2, 3)
residual = torch.tensor([0.5, 1.0, 3.0]).expand(4, 3)
students = torch.zeros(4, 2)  # no bias: the mean is 0, and the teacher's features are the residual
optimizer = torch.optim.Adam([vid.raw_variance], lr=0.1)
for _ in range(600):
    optimizer.zero_grad()
    vid.loss(students, residual).backward()
    optimizer.step()
torch.testing.assert_close(vid.variance.detach(), residual[0] ** 2, rtol=0.02, atol=0.02)
print("variances found, to one decimal:", [round(v, 1) for v in vid.variance.tolist()])

# %% [markdown]
# **From the museum.** Widely copied code for VID writes softplus as `log(1 + exp(x))`. In float32 it overflows at 89,
# and the gradient is lost:

# %%
for value in (1.0, 88.0, 89.0):
    naive, ours = (torch.tensor(value, requires_grad=True) for _ in range(2))
    (1 + naive.exp()).log().backward()
    F.softplus(ours).backward()
    print(f"ρ = {value:2.0f}   published gradient {naive.grad.item():.3f}   softplus {ours.grad.item():.3f}")
assert naive.grad.isnan()
assert ours.grad == 1

# %% [markdown]
# **NST without pairs.** The paper compares every channel with every other: a sum over C × C pairs, with the kernel
# $(x^\top y)^2$. The same number is a distance of two [Gram matrices](GLOSSARY.md#gram-matrix). Exercise 03.4 asks you
# for it.

# %%
pair = [torch.sin(torch.arange(2 * c * 9) * step).reshape(2, c, 3, 3).double() for c, step in ((4, 1.7), (6, 2.3))]
s, t = (F.normalize(maps.flatten(2), dim=2) for maps in pair)
terms = [((a @ b.mT) ** 2).mean(dim=(1, 2)) for a, b in ((s, s), (t, t), (s, t))]
direct = (terms[0] + terms[1] - 2 * terms[2]).mean().item()
assert abs(direct - neuron_selectivity_loss(*pair).item()) < 1e-9
print(
    "over pairs of channels:", round(direct, 3), " from Gram matrices:", round(neuron_selectivity_loss(*pair).item(), 3)
)

# %% [markdown]
# ## 7. Reusing the teacher's classifier, honestly
#
# SimKD's idea: the teacher's last layer is good, so [*keep* it](GLOSSARY.md#reused-classifier). The student learns
# features that this layer can read, by the hint loss alone, at the last maps and without labels. If the projected
# features equal the teacher's, so do the predictions.
#
# *Claim:* nearly closes the gap between student and teacher. *The small print:* the [projector](GLOSSARY.md#projector)
# is not thrown away.

# %%
student = models.make("cnn2d-4", shape=split.shape, seed=BASE_SEED)
head = ReusedClassifier(nn.Conv2d(4, 16, 1), teacher.classifier)
features = tapped(split.test_x[:50])
assert torch.allclose(head.classify(features["features.relu3"]), features["classifier"], atol=1e-5)
print("where projected features equal the teacher's, so do the predictions: yes")

# %% [markdown]
# What we compare on the same 100 labelled images and the same 40 steps: the small student from labels, and from soft
# targets; SimKD with the authors' projector (1 × 1, 3 × 3, 1 × 1 convolutions, half the teacher's width inside); and
# the student one would buy for the same money: cnn2d-8, from labels alone.


# %%
def run_reuse(seed, arm):
    split, (teacher, tapped) = data.digits(seed), TEACHERS[seed]
    x, y = split.train_x[:LABELLED], split.train_y[:LABELLED]
    student = models.make("cnn2d-8" if arm == "labels, as large" else "cnn2d-4", shape=split.shape, seed=100 + seed)
    torch.manual_seed(seed)
    if arm == "SimKD":
        inside = [nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        inside += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        inside += [nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        student = nn.Sequential(student.features, ReusedClassifier(nn.Sequential(*inside), teacher.classifier))

    def step_student(batch):
        if arm == "SimKD":
            return {"loss": hint_loss(student[1].project(student[0](batch[0])), batch[2])}
        out = student(batch[0])
        return {"loss": soft_target_loss(out, batch[3]) if arm == "soft targets" else F.cross_entropy(out, batch[1])}

    batches = lab.Batches(x, y, *(tapped(x)[n] for n in ("features.relu3", "classifier")), batch_size=50, seed=seed)
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr=0.01)
    lab.fit(step_student, student, batches, optimizer, epochs=20, progress=False)
    size = sum(p.numel() for p in student.parameters())  # frozen ones too: they are shipped
    milliseconds = lab.latency(student, x[:1], repeats=10)
    return {**lab.measure(student, split.test_x, split.test_y), "all parameters": size, "milliseconds": milliseconds}


reuse = lab.replicate(run_reuse, arms=["labels", "soft targets", "SimKD", "labels, as large"], seeds=SEEDS)

# %% tags=["nbval-ignore-output"]
columns = ["accuracy", "nll", "all parameters", "milliseconds"]
report.table(reuse.groupby("arm", sort=False)[columns].mean(), percent=["accuracy"], caption="means of eight seeds")
for baseline in ("labels", "labels, as large"):
    report.comparison(lab.compare(reuse, baseline=baseline, metric="accuracy"), caption=f"against {baseline}")

# %%
sizes = reuse.groupby("arm", sort=False)["all parameters"].first().astype(int)
for arm, size in sizes.items():
    print(f"{arm:17} {size:5} parameters")
assert sizes["SimKD"] > 3 * sizes["labels"]
verdicts = {b: lab.compare(reuse, baseline=b, metric="accuracy")["verdict"] for b in ("labels", "labels, as large")}
assert verdicts["labels, as large"]["SimKD"] == "hurts"
assert verdicts["labels"]["soft targets"] != "helps"
print("SimKD against a plain net of its size:", verdicts["labels, as large"]["SimKD"])

# %% [markdown]
# **Seen:** the reused classifier more than triples this small student. For the same parameters a wider net, from
# labels alone, does better here. (Soft targets gain nothing in 40 steps: patience again.) `lab.measure` counts
# trainable parameters and so leaves the frozen classifier out: an easy way to flatter SimKD. With real networks the
# projector is a smaller share; count yours, and time it.
#
# ## 8. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/03_feature_based.ipynb](solutions/03_feature_based.ipynb).

# %% [markdown] tags=["exercise"]
# **03.1 Recall.** Write the hint loss with a linear regressor: student's maps (B, C, H, W), teacher's (B, C', H, W),
# `weight` (C', C), `bias` (C',). The mean of squares over every element.
#
# <details><summary>Hint</summary>The regressor does the same at every place: torch.einsum, or F.conv2d with a kernel
# of 1 × 1.</details>


# %% tags=["exercise"]
def my_hint_loss(student_maps, teacher_maps, weight, bias):
    raise NotImplementedError


# %% tags=["solution"]
def my_hint_loss(student_maps, teacher_maps, weight, bias):
    regressed = torch.einsum("tc,bchw->bthw", weight, student_maps) + bias[:, None, None]
    return F.mse_loss(regressed, teacher_maps.detach())


# %% tags=["check"]
lab.check("03.1", my_hint_loss)

# %% [markdown] tags=["exercise"]
# **03.2 Build.** Write OFD's partial distance for features (B, C) before the ReLU and a negative margin (C,). The
# target is max(teacher, margin). No distance where the teacher is at most 0 *and* the student at most the target; its
# square elsewhere; the mean over all elements.
#
# <details><summary>Hint</summary>Section 6 draws it. Which of its two curves has a flat part?</details>


# %% tags=["exercise"]
def my_partial_distance(student, teacher, margin):
    raise NotImplementedError


# %% tags=["solution"]
def my_partial_distance(student, teacher, margin):
    target = torch.maximum(teacher, margin)
    free = (teacher <= 0) & (student <= target)
    return ((student - target) ** 2 * ~free).mean()


# %% tags=["check"]
lab.check("03.2", my_partial_distance)

# %% [markdown] tags=["exercise"]
# **03.3 Predict.** The student is mlp-16x16x16 (three hidden layers of 16), with 1,754 parameters in all for ten
# classes; the teacher's last features are 64 wide. SimKD gives the student a linear projector with bias, and the
# teacher's classifier. How many parameters are shipped?
#
# <details><summary>Hint</summary>What comes, and what goes?</details>

# %% tags=["exercise"]
my_parameters = ...

# %% tags=["solution"]
my_parameters = 1754 - (16 * 10 + 10) + (16 * 64 + 64) + (64 * 10 + 10)

# %% tags=["check"]
lab.check("03.3", my_parameters)

# %% [markdown] tags=["exercise"]
# **03.4 Design.** NST in two matrices: student's maps (B, C, H, W), teacher's (B, C', H, W). Bring each channel to
# length 1 over its places. Return the mean over examples of the squared distance that section 6 takes over pairs of
# channels, without ever comparing channels pair by pair.
#
# <details><summary>Hint</summary>The square of an inner product is the inner product of two outer products.</details>


# %% tags=["exercise"]
def my_gram_distance(student_maps, teacher_maps):
    raise NotImplementedError


# %% tags=["solution"]
def my_gram_distance(student_maps, teacher_maps):
    s, t = (F.normalize(maps.flatten(2), dim=2) for maps in (student_maps, teacher_maps))
    difference = s.mT @ s / s.shape[1] - t.mT @ t / t.shape[1]
    return difference.square().sum(dim=(1, 2)).mean()


# %% tags=["check"]
lab.check("03.4", my_gram_distance)

# %% [markdown]
# **Going further** (not checked): train with all 1,000 images and hints at three layers at once. Does the heat map's
# diagonal grow? Replace the regressor in `run_attached` by a strong one, and look at CKA again.

# %%
lab.quiz("03")

# %% [markdown]
# ## 9. When to use features, and when not
#
# Here no hint was shown to help, and published gains over plain soft targets are small. Section 8 of
# [lesson 05](05_relation_based.ipynb) compares all losses with few labels: there review and the reused classifier beat
# soft targets for a student of the same family, and so did hints for one of another. What follows is the field's
# advice, and what sections 3 to 7 add to it.
#
# **Use them** when teacher and student are of one family, so that layers of equal depth mean the same; when there are
# no outputs worth copying (a detector's trunk, an encoder); when the student shall be used for its features. Attach at
# equal depth, with a linear regressor; choose the weight on validation data; always run soft targets and labels alone
# beside it.
#
# **When not:** the families differ and you can't measure (some hints helped across families in lesson 05, relations ask
# for less); you see only the teacher's answers; you can't tune the weight; the only evidence of success is a falling
# hint loss.
#
# **Cost:** the teacher's maps take far more memory than its logits if you keep them, else one forward pass of the
# teacher for each step; a regressor in training. SimKD alone costs at inference.
#
# **Copy it:** `python -m kdref copy feature` writes this lesson's files (`channels.py`, `factors.py`, `flow.py`,
# `generation.py`, `hints.py`, `overhaul.py`, `reuse.py`, `review.py`), each of which needs only torch; `python -m kdref
# copy factors` writes one of them, and `python -m kdref copy hint_loss` that function and what it calls.
#
# **Further reading:** [Kornblith et al. 2019](https://arxiv.org/abs/1905.00414), on comparing layers; [Tian et al.
# 2020](https://arxiv.org/abs/1910.10699), whose appendix compares most of these methods; [Stanton et al.
# 2021](https://arxiv.org/abs/2106.05945), on how little students copy. For segmentation and detection `kdref` has two
# more losses: `channel_wise_loss`, soft targets over the places of each channel ([Shu et al.
# 2021](https://arxiv.org/abs/2011.13256)), and `MaskedGeneration`, which guesses the teacher's map from a part of the
# student's ([Yang et al. 2022](https://arxiv.org/abs/2205.01529)).
#
# **Next lesson:** [04](04_attention_based.ipynb), attention-based distillation: must the student see *what* the teacher
# sees, or only *where* it looks?
