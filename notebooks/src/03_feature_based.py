# %% [markdown]
# # 03 · Feature-based distillation
#
# **What does a student gain from looking inside its teacher, and how do you know that it did?**
#
# **You will be able to**
#
# - attach a [hint](GLOSSARY.md#hint) to a layer, and say why a falling hint loss proves little;
# - measure with [CKA](GLOSSARY.md#centred-kernel-alignment) how alike two layers are, beside a floor;
# - choose the place of a hint by an experiment that has enough steps and the right controls;
# - say what the overhaul leaves out, and what reusing the teacher's classifier really costs.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb) and [lesson 02](02_response_based.ipynb); what a convolution, a
# [channel](GLOSSARY.md#channel) and [batch normalisation](GLOSSARY.md#batch-normalisation) are.
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/feature/hints.py`, `kdref/feature/overhaul.py`, `kdref/feature/reuse.py`,
# `kdref/feature/generation.py` (the methods), `kdref/fidelity/alignment.py` (a measure),
# `kdref/lab/experiments/feature_places.py` (the long experiment).
#
# **Papers:** [Romero et al. 2015](https://arxiv.org/abs/1412.6550), who gave the first hints; [Kornblith et al.
# 2019](https://arxiv.org/abs/1905.00414), on comparing layers; [Heo et al. 2019](https://arxiv.org/abs/1904.01866), the
# overhaul; [Chen et al. 2022](https://arxiv.org/abs/2203.14001), the reused classifier; [Miles and Mikolajczyk
# 2024](https://arxiv.org/abs/2303.11098), on the projector; [Yang et al. 2022](https://arxiv.org/abs/2205.01529),
# masked generation.

# %% tags=["setup"]
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from kdref import lab
from kdref.feature import HintRegressor, MaskedGeneration, ReusedClassifier, hint_loss, overhaul_loss
from kdref.fidelity import alignment, centered_kernel_alignment
from kdref.lab import data, experiments, models, report
from kdref.lab.experiments import _feature_places, feature_places_further
from kdref.lab.experiments._feature_live import learn, strong_regressor
from kdref.lab.report import style
from kdref.lab.report.tables import ALL_SEEDS
from kdref.lab.training.taps import layer_table
from kdref.lab.widgets.feature import layer_picker

lab.setup()
BASE_SEED = lab.base_seed()
SEEDS = range(BASE_SEED, BASE_SEED + 8)
LAYERS = ["features.relu1", "features.relu2", "features.relu3"]
LABELLED = 100  # images that the students may learn from; the teachers had 1,000

# %% [markdown]
# ## 1. The idea
#
# Logits are the last thing a network computes. Before them it has turned the image into
# [**features**](GLOSSARY.md#features), the activations of its layers: maps of many channels. A method is
# [**feature-based**](GLOSSARY.md#feature-based-distillation) when the student is also judged by its features.
#
# Teachers of sections 1 to 3 are convolutional nets of three layers and 16 channels, trained on 1,000 of the 8 × 8
# digits; students have 4 channels. One teacher for each of eight seeds.

# %%
TEACHERS = {}
for seed in SEEDS:
    split = data.digits(seed)
    teacher = models.make("cnn2d-16", shape=split.shape, seed=seed)

    def step_teacher(batch):
        return {"loss": F.cross_entropy(teacher(batch[0]), batch[1])}  # noqa: B023

    batches = lab.Batches(split.train_x, split.train_y, batch_size=100, seed=seed)
    lab.fit(step_teacher, teacher, batches, torch.optim.Adam(teacher.parameters(), lr=0.01), epochs=6, progress=False)
    TEACHERS[seed] = teacher.eval().requires_grad_(False)
    assert lab.measure(teacher, split.test_x, split.test_y)["accuracy"] > 0.8
print("each of", len(TEACHERS), "teachers is right on more than 80 of 100 test images: yes")

# %% [markdown]
# `lab.taps` [reads named layers](GLOSSARY.md#tap) without touching the model.

# %%
split, tapped = data.digits(BASE_SEED), lab.taps(TEACHERS[BASE_SEED], LAYERS)
for name, features in tapped(split.test_x[:1]).items():
    print(f"{name:15} {tuple(features.shape[1:])}")

# %% [markdown]
# A picture of a layer's features that needs no channel names: how alike does it find each pair of thirty test images,
# sorted by digit? Light blocks on the diagonal: images of one digit look alike to this layer.

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
# *Claim* (2015): a student deeper and thinner than its teacher can be trained, by hints first and soft targets after,
# and beats it. *Since:* batch norm, of the same year, made deep nets trainable without hints.
#
# **The published pattern.** CIFAR-100, test accuracy in per cent, from the table of [Tian et al.
# 2020](https://arxiv.org/abs/1910.10699): 13 pairs of teacher and student, the last six of different families. AB, FT,
# NST and VID are in section 7's list, CRD in lesson 05.

# %%
published = {
    "no teacher": "73.26 71.98 69.06 69.06 71.14 72.50 70.36 64.60 64.60 70.36 70.50 71.82 70.50",
    "soft targets": "74.92 73.54 70.66 70.67 73.08 73.33 72.98 67.37 67.35 73.81 74.07 74.45 74.83",
    "FitNet": "73.58 72.24 69.21 68.99 71.06 73.50 71.02 64.14 63.16 70.69 73.59 73.54 73.73",
    "AB": "72.50 72.38 69.47 69.53 70.98 73.17 70.94 66.06 67.20 70.65 73.55 74.31 73.34",
    "FT": "73.25 71.59 69.84 70.22 72.37 72.86 70.58 61.78 60.99 70.29 71.75 72.50 72.03",
    "NST": "73.68 72.24 69.60 69.53 71.96 73.30 71.53 58.16 64.96 71.28 74.12 74.68 74.89",
    "VID": "74.11 73.30 70.38 70.16 72.61 73.09 71.23 65.56 67.57 70.30 73.38 73.40 73.61",
    "CRD": "75.48 74.14 71.16 71.46 73.48 75.51 73.94 69.73 69.11 74.30 75.11 75.65 76.05",
}
published = pd.DataFrame({name: map(float, numbers.split()) for name, numbers in published.items()})
counts = pd.DataFrame(
    {
        f"above {name}": published.gt(published[name], axis=0).sum().drop(["no teacher", "soft targets"])
        for name in ("no teacher", "soft targets")
    }
).rename_axis("of 13 pairs")
report.table(counts)
assert counts.loc["FitNet"].tolist() == [9, 1]
assert (published["FitNet"] < published["soft targets"])[:7].sum() == 6
assert counts.loc["CRD"].tolist() == [13, 13]
print("the sixth pair, resnet32x4 to resnet8x4:", *(f"{k} {v:.2f}" for k, v in published.loc[5].items()), sep="\n    ")

# %% [markdown]
# So a plain hint mostly helps against *no teacher*, and mostly falls short of *soft targets*: in six of the seven pairs
# of one family and in all six others. FT, AB, VID and NST are above them in three pairs at most. But CRD, a contrastive
# loss on the last features, is so in all 13. On the sixth pair the authors of decoupled logits (lesson 02) report
# 76.32, those of SimKD (section 6) 78.08, each by their own recipe.
#
# ## 3. What the regressor hides
#
# A hint loss near zero: has the *student* learned? Or the regressor? We need a measure that looks at the student's own
# features and needs no regressor. **CKA**, centred kernel alignment (Cortes et al. 2012, for kernels; Kornblith et al.
# 2019, for layers), compares the pictures of section 1: for the same B images, the tables $K = XX^\top$ and
# $L = YY^\top$ (no loss, here) of the two layers, centred.
#
# $$\mathrm{CKA}(X, Y) = \frac{\langle\tilde K, \tilde L\rangle}{\|\tilde K\|\,\|\tilde L\|}$$
#
# $\langle\cdot,\cdot\rangle$ and $\|\cdot\|$ treat a table as one long vector, so this is a cosine: 1 where the two
# layers differ by rotation, shift or scale only, whatever their widths. Each image is most like itself, so with few
# images and many features the diagonals alone make any two tables alike. The **unbiased** form leaves the diagonals
# out and centres what is left, each row to a mean of 0.

# %%
lab.show(centered_kernel_alignment)
lab.show(alignment._relations)

# %% [markdown]
# **By hand.** One feature, four images: $x = (1, 1, -1, -1)$ and $y = (1, -1, 1, -1)$. In $K$ the pairs 12 and 34 have
# 1, the four others −1: a mean of −⅓, so after centring 4⁄3 and −⅔. In $L$ it is 13 and 24 that have 4⁄3. The products
# over the six pairs sum to $4 \cdot (-\tfrac89) + 2 \cdot \tfrac49 = -\tfrac{24}9$, the squares of each to
# $\tfrac{48}9$: CKA −0.5. Below zero: less alike than strangers.

# %%
x, y = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
print("by hand:", round(centered_kernel_alignment(x, y).item(), 3))
features = torch.sin(torch.arange(24.0).reshape(12, 2) ** 2)
turned = features @ torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
print("rotated, scaled, shifted:", round(centered_kernel_alignment(features, 5 * turned + 1).item(), 3))
assert centered_kernel_alignment(features, features.flip(0)) < 0.9

# %% [markdown]
# **The floor.** What do two sets of *random* features give, of the sizes of our layers, for 100 images?

# %%
generator = torch.Generator().manual_seed(0)
rows = []
for name, own_size, other_size in (("1", 4 * 64, 16 * 64), ("2", 4 * 16, 16 * 16), ("3", 4 * 4, 16 * 4)):
    drawn = [[torch.randn(100, size, generator=generator) for size in (own_size, other_size)] for _ in range(20)]
    found = {
        form: sum(centered_kernel_alignment(*pair, unbiased=form == "unbiased").item() for pair in drawn) / len(drawn)
        for form in ("biased", "unbiased")
    }
    rows.append({"layer": name, "student's features": own_size, "teacher's": other_size, **found})
floor = pd.DataFrame(rows)
report.table(floor, decimals=2, caption="CKA of random features, mean of 20 draws")
assert (floor["biased"] > 0.2).all()
assert (floor["unbiased"].abs() < 0.02).all()

# %% [markdown]
# The biased form finds strangers much alike, and the more features the more so; the unbiased one says 0. We use the
# unbiased form, the function's default, throughout.
#
# **A student that never learns.** Three arms learn nothing but the hint of layer 2, on 1,000 images, 150 steps, no
# labels. In the third the student's weights stay as they were drawn, and only a strong regressor (two convolutions of
# 3 × 3) is trained. The hint loss in the table is that of test images, divided by the variance of the teacher's
# features: at 1 a constant would do as well.

# %%
LAYER = LAYERS[1]
REGRESSORS = {  # which one, and whether the student learns
    "1 × 1": (HintRegressor, True),
    "strong": (strong_regressor, True),
    "strong, student untrained": (strong_regressor, False),
}


# %%
def run_regressor(seed, arm):
    (make_regressor, learns), split = REGRESSORS[arm], data.digits(seed)
    student = models.make("cnn2d-4", shape=split.shape, seed=100 + seed).requires_grad_(learns)
    own, tapped = lab.taps(student, [LAYER]), lab.taps(TEACHERS[seed], [LAYER])
    torch.manual_seed(seed)
    regressor = make_regressor(4, 16)

    def step_hint(batch):
        return {"loss": hint_loss(regressor(own(batch[0])[LAYER]), batch[1])}

    trained = [regressor, student] if learns else [regressor]
    optimizer = torch.optim.Adam([p for module in trained for p in module.parameters()], lr=0.01)
    batches = lab.Batches(split.train_x, tapped(split.train_x)[LAYER], batch_size=100, seed=seed)
    lab.fit(step_hint, trained, batches, optimizer, epochs=15, progress=False)
    student.eval()
    regressor.eval()
    with torch.no_grad():
        features, guide = own(split.test_x)[LAYER], tapped(split.test_x)[LAYER]
        loss = hint_loss(regressor(features), guide) / guide.var(dim=0).mean()
    return {"hint loss": loss.item(), "CKA": centered_kernel_alignment(features[:200], guide[:200]).item()}


hidden = lab.replicate(run_regressor, arms=list(REGRESSORS), seeds=SEEDS)

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
assert by_cka.loc[untrained, "mean"] > 0.3
print("the untrained student has the lower hint loss, through the strong regressor: yes")
print("and its own features are less like the teacher's: yes")

# %% [markdown]
# **Seen:** the hint loss ranks two students the wrong way round. The one that learned nothing has a better loss than
# one that learned through the 1 × 1 regressor, because a strong regressor fits the teacher from whatever it is given.
# So a hint loss is no measure of a student, and losses through different regressors can't be compared. Look at the
# student's own features. (Even there untrained layers are far above the floor of 0: they still pass on which images
# look alike.)
#
# ## 4. The experiment: where to attach
#
# Both networks are perceptrons from here on, of three hidden layers: the teacher's are 64 wide, the student's 16. The
# teacher learned from 1,000 images, the student's owner has **100** of them. "1 → 3" means that the teacher's layer 1
# teaches the student's layer 3, by a hint added to cross-entropy and divided by the variance of the teacher's features.
# Soft targets are lesson 01's loss at soft weight 0.9.
#
# Within a seed all arms share images, first weights, data order, optimiser and 320 steps. Each tuned arm tries eight
# settings on validation images, with three seeds that are used nowhere else: labels and SimKD (section 6) eight weight
# decays, the others two decays (0.1 and 1) by four weights (0.1 to 100) or temperatures (1 to 8). The hint 2 → 2 chose
# the end of its list and got a longer one, with six more seeds; 3 → 1 did too, and its validation curve is flat.
# All with two decays chose 0.1; labels, whose list goes down to 0, change little below it. *Lighter* is a tenth of the
# chosen weight.

# %%
names = [f"feature_places{part}" for part in ("", "_lighter", "_controls", "_large")]
stored = pd.concat([experiments.load(name) for name in names], ignore_index=True)
hasty = stored["arm"].str.endswith("32 steps")
grouped = stored[~hasty].groupby("arm", sort=False)
settings = grouped[["decay", "own", "training_accuracy"]].mean()
settings.columns = ["weight decay", "weight or temperature", "knows of its 100 images"]
settings["the least of 24"] = grouped["training_accuracy"].min()
places = ["labels", "soft targets", "1 → 1", "2 → 2", "2 → 2, lighter", "3 → 3"]
places += ["1 → 3", "1 → 3, lighter", "3 → 1", "3 → 1, lighter"]
report.table(settings.loc[places], percent=settings.columns[2:], decimals=1, caption="is the budget enough?")
fitted = settings["knows of its 100 images"]
tuning = experiments.load("feature_places_tuning").groupby("arm")["accuracy"].mean()
assert abs(tuning["labels | 0 | 1"] - tuning["labels | 0.1 | 1"]) < 0.01
assert tuning.filter(like="3 → 1 | 0.1 | ").agg(["min", "max"]).diff().iloc[-1] < 0.02
assert fitted["labels"] > 0.98
assert fitted["2 → 2"] < fitted["2 → 2, lighter"] < 0.95 < fitted["1 → 1"]
assert (settings.loc[["1 → 3", "2 → 2", "3 → 1"], "the least of 24"] < 0.7).all()
print(experiments.provenance(names[0])["command"], "·", len(stored), "runs,", stored["seed"].nunique(), "seeds")

# %% [markdown]
# Labels alone have learned their images by heart: the budget suffices for them. Some hints at their chosen weight drown
# the labels: some students know less than 70 of their images. So these also run at a tenth; 2 → 2 still falls short.
#
# First a part of it live: the method's step, on one group of eight seeds.

# %%
group = BASE_SEED // 1000 if BASE_SEED in set(stored["seed"]) else 0
kept = stored[stored["seed"] // 1000 == group]
PLACE = "features.relu1"


# %%
def run_hint(seed, arm):
    split, teacher = data.digits(seed), _feature_places.teacher(seed)
    x, y = split.train_x[:LABELLED], split.train_y[:LABELLED]
    student = models.make("mlp-16x16x16", shape=split.shape, seed=100 + seed)
    torch.manual_seed(seed)
    own, regressor = lab.taps(student, [PLACE, "classifier"]), HintRegressor(16, 64)
    guide = lab.taps(teacher, [PLACE])(x)[PLACE]
    spread, setting = guide.var(dim=0).mean(), feature_places_further.settled(arm)
    weight = 0.0 if arm == "labels" else setting.own

    def step_hint(batch):
        images, labels, features = batch
        found = own(images)
        hard = F.cross_entropy(found["classifier"], labels)
        hint = hint_loss(regressor(found[PLACE]), features) / spread
        return {"loss": hard + weight * hint, "hard": hard, "hint": hint}

    learn(step_hint, [student, regressor], (x, y, guide), seed=seed, decay=setting.decay)
    found = lab.measure(student, split.test_x, split.test_y)
    return {**found, "teacher": lab.measure(teacher, split.test_x, split.test_y)["accuracy"]}


live = lab.replicate(run_hint, arms=["labels", "1 → 1"], seeds=sorted(set(kept["seed"])))

# %%
gain = {}
for name, runs in (("live", live), ("stored", kept)):
    means = runs.groupby("arm")["accuracy"].mean()
    gain[name] = means["1 → 1"] - means["labels"]
assert gain["stored"] > 0.02
assert abs(gain["live"] - gain["stored"]) < gain["stored"]  # other processors round differently
print("the hint 1 → 1 gains, live as in the stored runs: yes")
assert live["teacher"].mean() > 0.93
print("and the teachers are right on more than 93 of 100 test images: yes")

# %% [markdown]
# All places, over 24 seeds.

# %% tags=["nbval-ignore-output"]
attached = stored[stored["arm"].isin(places)]
result = lab.compare(attached, baseline="labels", metric="accuracy")
report.comparison(result, caption="test accuracy, against labels alone")

# %%
report.figure(
    report.intervals(result.loc[places], x_label="points against labels alone"),
    "points against labels alone: soft targets are furthest above zero, then the hint 1 → 1; the intervals of all "
    "other hints reach zero",
)

# %%
verdicts = report.verdicts(attached, baseline="labels")
report.table(verdicts.loc[places[1:]], caption="accuracy against labels alone")
judged = verdicts[ALL_SEEDS]
assert set(judged.index[judged == "helps"]) == {"soft targets", "1 → 1"}
assert judged["3 → 3"] == "undecided"
print("hints that help against labels alone, over all seeds: 1 → 1; soft targets help too")

# %% [markdown]
# **Seen:** the hint between the *first* layers gains almost five points. Between the last layers it is undecided, and
# no other place is shown to gain. Soft targets gain seven. Where hints were too heavy their intervals are wide: some
# students learned little of their labels. A hint has to leave room for them.
#
# So the place has to be tried. FitNets chose the *middle*, later work the last layer, or several of equal depth.
#
# ### Is it the teacher?
#
# Two controls at the place that gained, with the weight chosen for the hint. **Teacher untrained:** a teacher that
# never learned. Is it knowledge, or would any pull on a layer do? **Regressor frozen:** the hint through random weights
# that stay as they are.

# %% tags=["nbval-ignore-output"]
controls = ["1 → 1", "labels", "soft targets", "1 → 1, teacher untrained", "1 → 1, regressor frozen"]
controlled = stored[stored["arm"].isin(controls)]
report.comparison(lab.compare(controlled, baseline="1 → 1", metric="accuracy"), caption="against the hint 1 → 1")

# %%
control = report.verdicts(controlled, baseline="1 → 1")
report.table(control, caption="accuracy against the hint 1 → 1")
assert (control[ALL_SEEDS].drop("soft targets") == "hurts").all()
assert control.loc["soft targets", ALL_SEEDS] == "helps"
assert (report.verdicts(controlled, baseline="labels").loc[controls[3:], ALL_SEEDS] == "hurts").all()
print("both controls are below labels alone, too: yes")

# %% [markdown]
# **Seen:** it is the teacher. The same pull towards a teacher that never learned falls below labels alone. So does the
# hint through a frozen regressor, ten points below the hint: the regressor has to learn (section 7). (At this weight:
# no lighter one was tried.) And plain soft targets gain two points more than this hint: section 2's pattern.
#
# **What a short budget would have said.** Labels, soft targets and a hint after 32 steps, a tenth:

# %%
short, columns = stored[hasty], ["accuracy", "training_accuracy"]
report.table(short.groupby("arm", sort=False)[columns].mean(), percent=columns)
too_early = report.verdicts(short, baseline="labels, 32 steps")[ALL_SEEDS]
assert (too_early == "hurts").all()
print("after 32 steps, against labels:", too_early.to_dict())

# %% [markdown]
# Too early: even the training images are not learned by then, and soft targets, too, seem to hurt.
#
# ### How alike are the layers now?
#
# CKA of every layer of the student and every layer of the teacher: before training, after labels alone, with the hint
# 1 → 1. The last map is the difference of the two before it: blue is more alike.

# %%
before = []
for seed in SEEDS:
    nets = models.make("mlp-16x16x16", shape=(1, 8, 8), seed=100 + seed), _feature_places.teacher(seed)
    with torch.no_grad():
        found = [lab.taps(net, LAYERS)(data.digits(seed).test_x[:200]) for net in nets]
    before.append(layer_table(*found, measure=centered_kernel_alignment))

# %% tags=["nbval-ignore-output"]
named = [f"layer {n}" for n in (1, 2, 3)]
tables = {"before": (sum(before) / len(before)).to_numpy()}
for title, arm in (("labels", "labels"), ("labels and hint 1 → 1", "1 → 1")):
    mean = stored[stored["arm"] == arm].mean(numeric_only=True)
    tables[title] = [[mean[f"cka_{j}_{i}"] for i in (1, 2, 3)] for j in (1, 2, 3)]
tables = {title: pd.DataFrame(table, index=named, columns=named) for title, table in tables.items()}
for title, table in tables.items():
    report.figure(
        report.grid(table, x_label="teacher", y_label="student", title=f"CKA, {title}", width=6, limits=(0, 1)),
        f"heat map of CKA, {title}: student's three layers by teacher's three",
    )

# %%
change = tables["labels and hint 1 → 1"] - tables["labels"]
report.figure(
    report.grid(change, x_label="teacher", y_label="student", title="change by the hint", width=6, differences=True),
    "heat map of what the hint adds to CKA: blue everywhere, most in the first row",
)
assert (change > 0.05).all().all()
assert change.loc["layer 1"].mean() > change.drop("layer 1").mean(axis=1).max()
assert tables["labels"].loc["layer 3", "layer 3"] > tables["before"].loc["layer 3", "layer 3"] + 0.1
print("labels alone make layer 3 more like the teacher's than it was before training: yes")
print("the hint 1 → 1 makes all layers more like the teacher's, layer 1 most: yes")

# %% [markdown]
# **Seen:** a student that never met its teacher becomes like it, from labels alone: so compare a hint with
# labels alone, not with the start. The hint on layer 1 adds to all layers, also to those that it never saw.
#
# A caution: CKA can be moved far by shifting some of the examples, without changing much of what the network does
# ([Davari et al. 2023](https://arxiv.org/abs/2210.16156)).
#
# **Move it yourself.** Choose a layer of each network. Guess first: after labels alone, which of the teacher's layers
# is the student's layer 3 most like?

# %%
layer_picker({title: tables[title] for title in ("labels", "labels and hint 1 → 1")})

# %% [markdown]
# <details><summary>Answer</summary> None in particular: its three values lie within a few hundredths.</details>
#
# ## 5. The overhaul: what not to copy
#
# A neuron is *silent* where it is at or below zero, so that its ReLU gives 0. How far below does not matter to the
# network. Heo et al. 2019 (**OFD**) compare features *before* the ReLU, and ask for no more than a silence. The target
# of channel c is $\max(f^t, m_c)$ with a margin $m_c < 0$, the channel's mean negative response;
# and nothing is asked where both are silent enough:
#
# $$L = \frac1N\sum_n \begin{cases} 0 & f^t_n \le 0 \text{ and } f^s_n \le \max(f^t_n, m_c) \\ (f^s_n - \max(f^t_n,
# m_c))^2 & \text{otherwise} \end{cases}$$

# %%
lab.show(overhaul_loss)

# %% [markdown]
# **By hand.** Student (−5, 0.5, 1), teacher (−2, −2, 3), margin −1. First: the teacher is silent and the student below
# the margin, 0. Second: the student must fall to −1, 1.5² = 2.25. Third: it must rise to 3, 4. The mean is 2.083.

# %%
loss = overhaul_loss(
    torch.tensor([[-5.0, 0.5, 1.0]]), torch.tensor([[-2.0, -2.0, 3.0]]), torch.tensor([-1.0, -1.0, -1.0])
)
print("overhaul loss:", round(loss.item(), 3))

# %% [markdown]
# The loss as a function of the student's value, for a teacher that is silent (−2) and one that is active (1):

# %%
values, margin = torch.linspace(-3, 3, 121), torch.tensor([-1.0])
with style.new_figure(8, 3.6) as (figure, (ax,)):
    for number, (name, level) in enumerate({"teacher silent": -2.0, "teacher active": 1.0}.items()):
        losses = [overhaul_loss(v.reshape(1, 1), torch.tensor([[level]]), margin) for v in values]
        ax.plot(values, losses, label=name, color=style.COLORS[number], ls=("-", "--")[number])
    ax.set(xlabel="student, before its ReLU", ylabel="partial distance", ylim=(0, 6))
    ax.legend()
report.figure(figure, "for a silent teacher the loss is flat zero below the margin; for an active one it is a parabola")

# %% [markdown]
# What does it gain? Section 4's hint 1 → 1, at the same weight, once more *before* the ReLU: with the plain square, and
# with the partial distance.

# %% tags=["nbval-ignore-output"]
plain, partial = "1 → 1 before the ReLU", "1 → 1 before the ReLU, partial"
overhauled = stored[stored["arm"].isin([plain, partial, "1 → 1", "labels"])]
report.comparison(lab.compare(overhauled, baseline=plain, metric="accuracy"), caption=f"against {plain}")

# %%
against_plain = report.verdicts(overhauled, baseline=plain)
report.table(against_plain, caption=f"accuracy against {plain}")
assert against_plain.loc["labels", ALL_SEEDS] == "hurts"
assert against_plain.loc[partial, ALL_SEEDS] == "no useful difference"

# %% [markdown]
# **Seen:** before the ReLU the hint 1 → 1 gains on labels as well. The partial distance makes no useful difference
# there. The paper saw gains, in deep nets on ImageNet.
#
# ## 6. Reusing the teacher's classifier, honestly
#
# **SimKD** (Chen et al. 2022): the teacher's last layer is good, so [*keep* it](GLOSSARY.md#reused-classifier). The
# student learns features that this layer can read: by the hint loss alone, at the last layer, without labels. With the
# [projector](GLOSSARY.md#projector) $r$ and the teacher's weights $W^t$, $b^t$ the student's logits are
#
# $$z^s = W^t\, r(f^s) + b^t$$
#
# **By hand.** The projector says (1, 2); $W^t$ = ((1, 0), (1, 1)), $b^t$ = (0, −1): logits (1, 2).

# %%
lab.show(ReusedClassifier)

# %%
last = nn.Linear(2, 2)
with torch.no_grad():
    last.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    last.bias.copy_(torch.tensor([0.0, -1.0]))
head = ReusedClassifier(nn.Identity(), last)
print("logits:", head(torch.tensor([[1.0, 2.0]])).tolist())
print("trainable parameters of the head:", sum(p.numel() for p in head.parameters() if p.requires_grad))

# %% [markdown]
# *Claim:* it narrows the gap between student and teacher much. *The small print:* the projector is not thrown away,
# and the classifier is as wide as the teacher. Both are shipped.

# %%
reusing = ["labels", "soft targets", "reused classifier", "its network, from labels"]
reusing += ["labels, as large", "soft targets, as large"]
reused = stored[stored["arm"].isin(reusing)]
sizes = reused.groupby("arm")["parameters"].first().astype(int)[reusing]
for arm, size in sizes.items():
    print(f"{arm:25} {size:5} parameters shipped, knows {fitted[arm]:.1%} of its images")
assert sizes["reused classifier"] > 3 * sizes["labels"]

# %% [markdown]
# Compared: the small student; SimKD with the authors' projector (three layers, linear here); **its network, from
# labels**; and a plain student with about as many parameters.

# %% tags=["nbval-ignore-output"]
report.comparison(lab.compare(reused, baseline="reused classifier", metric="accuracy"), caption="against SimKD")

# %%
reuse = report.verdicts(reused, baseline="reused classifier")
report.table(reuse, caption="accuracy against SimKD")
assert (reuse[ALL_SEEDS].drop("soft targets, as large") == "hurts").all()
assert reuse.loc["soft targets, as large", ALL_SEEDS] == "undecided"

# %% [markdown]
# **Seen:** SimKD gains twelve points on the small student's labels, five on its own network from labels, and six on a
# plain net of its size from labels. So it is not size alone: the teacher's features teach. But give that plain net
# *soft targets*, and which of the two is better stays undecided: we can't say that features teach it more than answers
# do.
#
# SimKD has no labels and needs none: the teacher's classifier knows them. `lab.measure` counts trainable parameters and
# so leaves the frozen classifier out: an easy way to flatter SimKD.
#
# ## 7. The other losses, and what has come since
#
# To look up, not to learn:
#
# | method | compares | throws away |
# |:---|:---|:---|
# | **FSP** 2017 | products of channels of two layers ([flow matrix](GLOSSARY.md#flow-matrix)) | places |
# | **NST** 2017 | channels' patterns, by [Gram matrices](GLOSSARY.md#gram-matrix) (03.4) | order, sign, scale |
# | **FT** 2018 | [factors](GLOSSARY.md#factor), an autoencoder's code of the maps | what the code leaves out |
# | **AB** 2019 | on which side of zero each neuron is | all amounts |
# | **VID** 2019 | a guess, and its learnt variance per channel | channels that can't be guessed |
# | **ReviewKD** 2021 | fused deep student maps with shallow teacher maps, at several sizes | nothing |
#
# Sources: Yim et al., [Huang and Wang](https://arxiv.org/abs/1707.01219), [Kim et
# al.](https://arxiv.org/abs/1802.04977), [Heo et al.](https://arxiv.org/abs/1811.03233), [Ahn et
# al.](https://arxiv.org/abs/1904.05835) (a bound of [mutual information](GLOSSARY.md#mutual-information)), [Chen et
# al.](https://arxiv.org/abs/2104.09044); `kdref.feature` has them all.
# [Lesson 18](18_choose_your_method.ipynb) compares them with few labels.
#
# **The projector's role** ([Miles and Mikolajczyk 2024](https://arxiv.org/abs/2303.11098)). Why does a regressor that
# is thrown away matter? Look at its gradient. With features $X$ and targets $Y$ of a batch, half the squared error of
# $XW$ has the gradient $X^\top X\,W - X^\top Y$ in W: nothing of single examples, only how features go together, the
# student's with one another and with the teacher's. So the weights gather relations over past batches, and the student
# feels them. Their recipe adds normalisation on both sides and a soft maximum for the square.

# %%
X, Y, W = (torch.sin(torch.arange(size) * step).reshape(-1, 3) for size, step in ((15, 1.7), (15, 2.3), (9, 0.9)))
W.requires_grad_()
(0.5 * (X @ W - Y).square().sum()).backward()
torch.testing.assert_close(W.grad, X.mT @ X @ W.detach() - X.mT @ Y)
print("the regressor's gradient sees correlations only: yes")

# %% [markdown]
# Section 4's frozen regressor is the arm without: W stays random.
#
# **[Masked generation](GLOSSARY.md#masked-generation)** ([Yang et al. 2022](https://arxiv.org/abs/2205.01529), MGD).
# Hide a part of the *student's* map, and let a small network make the teacher's whole map from the rest. So the
# features of a place must tell of its neighbours. Its authors report gains in classification, detection and
# segmentation.

# %%
lab.show(MaskedGeneration.forward)

# %%
torch.manual_seed(0)
maps = torch.randn(2, 4, 8, 8, requires_grad=True)
masked = MaskedGeneration(4, 16, mask_ratio=0.65)
masked.loss(maps, torch.randn(2, 16, 8, 8)).backward()
hidden_places = (maps.grad == 0).all(dim=1).sum().item()
print(f"no gradient at {hidden_places} of {2 * 8 * 8} places: they were hidden")

# %% [markdown]
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
# <details><summary>Hint</summary>Section 5 draws it. Which of its two curves has a flat part?</details>


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
# length 1 over its places: $x_i$ and $y_j$. The paper compares pairs of channels, by the kernel $(x^\top y)^2$:
#
# $$\frac1{C^2}\sum_{ii'} (x_i^\top x_{i'})^2 + \frac1{C'^2}\sum_{jj'} (y_j^\top y_{j'})^2 -
# \frac2{CC'}\sum_{ij} (x_i^\top y_j)^2$$
#
# Return its mean over examples without ever comparing channels pair by pair. (The same number is a squared distance of
# two Gram matrices.)
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
# **Going further** (not checked): hint two layers at once in `run_hint`. Does the sum gain more than the better one?

# %%
lab.quiz("03")

# %% [markdown]
# ## 9. When to use features, and when not
#
# **Use them** when you can tune. Here, with 100 labels, one hint of five places gained, less than soft targets did;
# SimKD gained more, but not shown to be more than soft targets for a plain net of its size. With few labels and equal
# epochs (lesson 18) ReviewKD beat soft targets for both students of the teacher's family; hints and SimKD did for one
# of another. If the teacher has no outputs to copy, try relations first ([lesson 05](05_relation_based.ipynb), section
# 7).
#
# **How:** try several places; choose the weight on validation data, and look whether the labels are still learned;
# run soft targets, labels alone and a plain net of the same size beside it.
#
# **When not:** you see only the teacher's answers; you can't tune; the training is short (section 4's 32 steps); the
# only evidence of success is a falling hint loss.
#
# **Cost:** the teacher's features take far more memory than its logits if you keep them, else one forward pass of the
# teacher for each step. SimKD alone costs at inference.
#
# **Copy it:** `python -m kdref copy feature` writes this lesson's eight files, each of which needs only torch; `python
# -m kdref copy hints` one of them, and `python -m kdref copy hint_loss` that function and what it calls.
#
# **Further reading:** [Stanton et al. 2021](https://arxiv.org/abs/2106.05945), on how little students copy; [Shu et al.
# 2021](https://arxiv.org/abs/2011.13256), soft targets over the places of each channel (`channel_wise_loss`).
#
# **Next lesson:** [04](04_attention_based.ipynb), attention-based distillation: must the student see *what* the teacher
# sees, or only *where* it looks?
