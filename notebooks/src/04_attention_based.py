# %% [markdown]
# # 04 · Attention-based distillation
#
# **Can a student learn where to look, when it can't copy what its teacher sees?**
#
# **You will be able to**
#
# - compute the [attention map](GLOSSARY.md#attention-map) of a convolutional layer, and say what it keeps and what it
#   throws away;
# - tell the two published definitions of [attention transfer](GLOSSARY.md#attention-transfer) apart, and say why a
#   weight doesn't carry over;
# - say on what evidence a student that looks where its teacher looks would also be more often right;
# - compare [self-attention](GLOSSARY.md#self-attention) of [transformers](GLOSSARY.md#transformer) of different widths.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb); what a convolution's [channels](GLOSSARY.md#channel) are; for section
# 6, what [queries, keys and values](GLOSSARY.md#query) are.
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the section marked *in depth*; {seconds}
# seconds to run on one thread.
#
# **Files:** `kdref/attention.py` (the methods), `tests/heart/test_attention.py` and
# `tests/heart/test_attention_relations.py` (their tests), `kdref/lab/training/taps.py` (named activations),
# `kdref/lab/models/row_transformer.py` and `linear_attention.py` (the tiny transformer, and attention without a
# matrix), `kdref/lab/experiments/attention_*.py` (the stored experiments).
#
# **Papers:** [Zagoruyko and Komodakis 2017](https://arxiv.org/abs/1612.03928) (attention transfer),
# [Jiao et al. 2020](https://arxiv.org/abs/1909.10351) (TinyBERT), [Wang et al.
# 2020](https://arxiv.org/abs/2002.10957) (MiniLM), [Bick et al. 2024](https://arxiv.org/abs/2408.10189) (MOHAWK),
# [Zhang et al. 2025](https://arxiv.org/abs/2410.10254) (LoLCATs).

# %% tags=["setup"]
import pandas as pd
import torch
import torch.nn.functional as F

from kdref import lab
from kdref.attention import (
    attention_map,
    attention_relation_divergence,
    attention_score_loss,
    attention_transfer_loss,
    value_relation,
)
from kdref.lab import data, experiments, models, report
from kdref.lab.experiments import _attention, attention_maps, attention_tokens, attention_tuning, choose_side_by_side
from kdref.lab.models import checkpoints
from kdref.lab.models.linear_attention import LinearAttention
from kdref.lab.models.row_transformer import RowTransformer
from kdref.lab.report.tables import ALL_SEEDS
from kdref.lab.widgets.attention import attention_explorer

lab.setup()
BASE_SEED = lab.base_seed()
LAYERS = [f"features.relu{number}" for number in (1, 2, 3)]

# %% [markdown]
# ## 1. The idea
#
# For one image, a convolutional layer gives C channels, each a map of H × W places. Teacher and student rarely have the
# same C, and channel 5 of the one has nothing to do with channel 5 of the other. But a *place* is the same place for
# both. So forget the channels, and ask of each place only how active it is. That is the **attention map**:
#
# $$Q_{hw} = \sum_c |A_{chw}|^p, \qquad m = \frac{Q}{\|Q\|_2}$$
#
# $A_{chw}$ is the activation of channel $c$ at the place in row $h$ and column $w$, and $p$ is the
# [**power**](GLOSSARY.md#power) (usually 2). $Q$ says how active each place is. Read as one vector of H·W numbers it
# has the length $\|Q\|_2$, the root of the sum of its squares; dividing by it gives $m$ the length 1, so that networks
# of different scale can be compared. Nothing is learned here: the map is a summary of what the layer does anyway.

# %%
lab.show(attention_map)

# %% [markdown]
# **By hand.** Two channels, three places: (1, 2, 0) and (−1, 0, 0). At power 2, Q = (1 + 1, 4 + 0, 0) = (2, 4, 0), its
# length is √20, and m = (0.447, 0.894, 0).

# %%
activations = torch.tensor([[[1.0, 2.0, 0.0], [-1.0, 0.0, 0.0]]], dtype=torch.float64)  # (B, C, L): 1, 2, 3
for power in (1, 2, 4, 8):
    print(f"power {power}:", attention_map(activations, power=power)[0].numpy().round(3))
without_absolute_value = activations.sum(dim=1)
print("power 1 without absolute values:", F.normalize(without_absolute_value)[0].numpy().round(3))

# %% [markdown]
# A higher power sees little but the strongest place. And without the absolute value an odd power lets channels cancel:
# the first place, where two channels are active, vanishes in the last line.
#
# ## 2. What the map keeps
#
# It is worth knowing what a loss *can't* see, because there the student is free. We change a layer's activations in
# eight ways, and compare the maps at powers 2 and 4.

# %%
generator = torch.Generator().manual_seed(0)
a = torch.randn(4, 6, 5, 5, dtype=torch.float64, generator=generator)  # (B, C, H, W)
signs = torch.tensor([1, -1, 1, -1, -1, 1]).reshape(1, 6, 1, 1)
angles = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator)).Q
changed = {
    "scaled by 10": 10 * a,
    "each image scaled by its own number": a * torch.tensor([0.1, 1, 5, 40]).reshape(4, 1, 1, 1),
    "channels in another order": a.flip(1),
    "signs of some channels flipped": a * signs,
    "every channel copied": a.repeat(1, 2, 1, 1),
    "channels rotated among themselves": torch.einsum("dc,bchw->bdhw", angles, a),
    "one channel doubled": torch.cat([2 * a[:, :1], a[:, 1:]], dim=1),
    "places mirrored": a.flip(-1),
}

# %%
seen = {}
for name, other in changed.items():
    same = [torch.allclose(attention_map(other, power=p), attention_map(a, power=p), atol=1e-12) for p in (2, 4)]
    seen[name] = ["the same map" if equal else "another map" for equal in same]
report.table(pd.DataFrame(seen, index=["power 2", "power 4"]).T.rename_axis("the layer's activations"))
assert [row[0] for row in seen.values()] == ["the same map"] * 6 + ["another map"] * 2
assert seen["channels rotated among themselves"][1] == "another map"

# %% [markdown]
# At power 2, $Q_{hw}$ is the squared length of the vector of C activations at a place, so that even a rotation of this
# vector leaves the map as it was. What the channels *mean* is thrown away; only places are left. That makes the loss
# easy to attach, and also weak: a student can match the map and know little.
#
# ## 3. Attention, seen
#
# Real images: MNIST's 28 × 28 digits. The teacher has 32 channels in each of its three layers. It was trained on 3,000
# images and is shipped with the course: `checkpoints.load` checks its file and gives the network with the split of the
# data that it was trained on (`data/README.md` says how it was trained, and with which command to train it anew).
# `lab.taps` gives a network's activations [by name](GLOSSARY.md#tap).

# %%
teacher, split = checkpoints.load("mnist5k-cnn2d-32")
teacher_taps = lab.taps(teacher, LAYERS)
assert lab.measure(teacher, split.test_x, split.test_y)["accuracy"] > 0.93
print({name: tuple(activations.shape) for name, activations in teacher_taps(split.test_x[:4]).items()})
print("the teacher is right on more than 93 % of the test images: yes")

# %% [markdown]
# The student has 8 channels. Its loss: cross-entropy with the labels, plus the distance between its map and the
# teacher's, summed over the three layers (`squared=False` is the paper's form of the distance, see section 4). It sees
# 1,500 training images twice, because this is meant to be looked at and not to win anything. We keep its maps of 100
# test images from before the first step, and after the last. Dark is active.

# %%
student = models.make("cnn2d-8", shape=split.shape, seed=BASE_SEED + 1)
student_taps = lab.taps(student, [*LAYERS, "classifier"])


def step_student(batch):
    x, y = batch
    own = student_taps(x)
    with torch.no_grad():
        given = teacher_taps(x)
    transfer = sum(attention_transfer_loss(own[name], given[name], squared=False) for name in LAYERS)
    return {"loss": F.cross_entropy(own["classifier"], y) + transfer, "transfer": transfer}


# %%
shown = split.test_x[:100]
with torch.no_grad():
    networks = {"teacher": teacher_taps(shown), "before": lab.taps(student.eval(), LAYERS)(shown)}
batches = lab.Batches(split.train_x[:1500], split.train_y[:1500], batch_size=25, seed=BASE_SEED)
lab.fit(step_student, student, batches, torch.optim.Adam(student.parameters(), lr=1e-2), epochs=2)
with torch.no_grad():
    networks["after"] = lab.taps(student.eval(), LAYERS)(shown)

# %%
pictures = []
for number in range(4):
    pictures.append(shown[number])
    for layers in networks.values():
        maps = attention_map(layers["features.relu2"][number : number + 1]).reshape(1, 1, 14, 14)
        pictures.append(F.interpolate(maps / maps.max(), size=(28, 28))[0])
titles = ["input x", "teacher", "before", "after"] + [""] * 12
report.figure(
    report.examples(torch.stack(pictures), titles, columns=4),
    "four digits in rows: the input, then maps of the second layer: the teacher's, the student's before and after",
)

# %%
for name in LAYERS:
    before, after = (
        attention_transfer_loss(networks[when][name], networks["teacher"][name], squared=False)
        for when in ("before", "after")
    )
    assert after < 0.6 * before
    print(f"{name}: the distance from the teacher's maps of these images fell by more than 40 %: yes")
assert lab.measure(student, split.test_x, split.test_y)["accuracy"] < 0.6
print("the student is right on more than 60 % of the test images: no")

# %% [markdown]
# **Seen:** the student took over where its teacher is active, on images that neither was trained on. Not only the ink
# counts: before, the student's map was the stroke itself; the teacher's is wider and dark in spots, and so is the
# student's after. And note the last line: two epochs are enough for such maps, and too few for the answers. Whether
# maps help with the answers is the question of section 5, at a budget that suffices.
#
# Choose for yourself: an image, a layer, a power. At power 2, which layer follows the teacher best? What does a power
# of 8 leave of the map, and does the student agree with its teacher there? The distance is 0 for equal maps and √2 for
# maps that share no place.

# %%
attention_explorer(shown, networks, attention_map)

# %% [markdown]
# <details><summary>Answers</summary>The first layer comes nearest, the third stays furthest. A power of 8 leaves a few
# places, one of which makes most of the length; there the student agrees far less: it has learned the broad pattern, at
# the power that it was trained with.</details>
#
# ## 4. The loss: one paper, two definitions
#
# The paper's equation takes the *length* of the difference, the authors' code its *mean square*:
#
# $$\mathcal L_{\text{paper}} = \frac1B \sum_b \|m^s_b - m^t_b\|_2, \qquad
# \mathcal L_{\text{code}} = \frac{1}{B\,HW} \sum_{b,h,w} (m^s_{bhw} - m^t_{bhw})^2$$
#
# $m^s_b$ and $m^t_b$ are the student's and the teacher's map of example $b$ in a batch of B. Here both forms are one
# function:

# %%
lab.show(attention_transfer_loss)

# %% [markdown]
# They differ in more than scale. Two vectors of length 1 without negative numbers are at most √2 apart, so the squared
# form is at most 2/HW: the mean over the places makes it small, and smaller as the map grows. That is why the authors'
# code weighs it with 1,000, and the code of many others too. It sums three blocks, whose maps are 32 × 32, 16 × 16 and
# 8 × 8. How much is that at most, for maps that share no place?

# %%
at_most = {}
for size in (32, 16, 8, 4, 2):
    left, right = torch.zeros(1, 1, size, size), torch.zeros(1, 1, size, size)
    left[..., 0, 0], right[..., -1, -1] = 1.0, 1.0  # nothing in common: the largest distance there is
    code, paper = (attention_transfer_loss(left, right, squared=squared).item() for squared in (True, False))
    at_most[size] = code
    print(f"{size:2} × {size:2}: 1,000 · code = {1000 * code:7.3f}   paper = {paper:.3f}")
for blocks in ((32, 16, 8), (8, 4, 2)):
    print("1,000 times the sum over blocks of", *blocks, f"is at most {1000 * sum(at_most[s] for s in blocks):.1f}")

# %% [markdown]
# And near the goal the squared form's gradient fades, while that of the length keeps its size:

# %%
target = torch.tensor([[[1.0, 1.0]]], dtype=torch.float64)
for gap in (1.0, 0.1, 0.01):
    sizes = []
    for squared in (True, False):
        near = torch.tensor([[[1.0 + gap, 1.0]]], dtype=torch.float64, requires_grad=True)
        attention_transfer_loss(near, target, squared=squared).backward()
        sizes.append(near.grad.norm().item())
    print(f"{gap:4} off: gradient of the code's form {sizes[0]:.4f}, of the paper's {sizes[1]:.4f}")

# %% [markdown]
# **So carry no weight over blindly.** The authors' 1,000 means a term of at most 41, of which the smallest maps make
# 31. On images of 8 × 8, as in section 5, the same 1,000 means 656.
#
# If teacher and student have maps of different sizes, the larger ones must be averaged down. Average the *map* (after
# the square), as this function does; the [benchmark's code](https://github.com/HobbitLong/RepDistiller) behind section
# 5's published numbers averages the *activations*, where plus and minus cancel:

# %%
stripes = torch.tensor([1.0, -1.0]).repeat(4).reshape(1, 1, 1, 8) * torch.tensor([3.0, 1.0]).repeat_interleave(4)
print("activations:              ", stripes.flatten().int().tolist())
print("activations averaged to 2:", F.adaptive_avg_pool2d(stripes, (1, 2)).flatten().tolist())
print("squares averaged to 2:    ", F.adaptive_avg_pool2d(stripes.square(), (1, 2)).flatten().tolist())

# %% [markdown]
# ## 5. Attention transfer in numbers
#
# Does a student that looks where its teacher looks make fewer mistakes? On the 8 × 8 digits: a teacher of 16 channels
# that learned 1,000 labels, a student of 4 channels that has 200 of them. Its maps are 8 × 8, 4 × 4 and 2 × 2. It is
# trained for 80 epochs, at which labels alone have fitted their training images. What a student is taught by:

# %%
lab.show(_attention.map_terms)

# %% [markdown]
# This is section 4's squared form, the code's. `outside` is cross-entropy with the labels if `soft` is 0, and else
# lesson 01's loss with `soft` as its temperature and a soft weight of 0.9. Six arms share first weights, data order and
# epochs. **Labels** (weight decay tuned; the other arms have none) and **soft targets** (temperature tuned) are the
# baselines. **AT** is added to the labels at three weights: 3, which bounds the term by 3 · 0.656 = 2, about where
# cross-entropy starts (log 10 = 2.3); 10; and the copied 1,000. The last arm adds AT, its weight tuned, to soft targets
# at a temperature fixed at τ = 2. Tuning looked at validation images, of two seeds that appear nowhere else:

# %%
tried = experiments.load("attention_tuning").groupby("arm")["accuracy"].mean()
rows = []
for name, method in attention_tuning.METHODS.items():
    found = {f"{value:g}": tried[f"{name} | {value:g}"] for value in method.grid}
    best = f"{attention_tuning.chosen(name):g}"
    shown_as = ", ".join(f"{value}: {100 * accuracy:.1f} %" for value, accuracy in found.items())
    rows.append({"network | method": name, "tuned": method.tuned, "validation accuracy": shown_as, "chosen": best})
report.table(pd.DataFrame(rows), caption="what was tried, for this section (maps) and the next (tokens)")

# %% [markdown]
# Labels without decay (a weight of 0) and AT at 1 and 3 lie within about half a point: the curve is flat there, and the
# choice of 1 says nothing, so three weights are reported as they are. Two seeds are few, and much
# of what neighbours in a row differ by may be chance. The 24 seeds take long, so they are stored. Here is a slice of
# them, computed anew:

# %%
stored = experiments.load("attention_maps")
seed = BASE_SEED if BASE_SEED in set(stored["seed"]) else 0
for arm in ("labels", "AT, weight 10"):
    live = attention_maps.run(seed, arm)
    kept = stored.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.02  # other processors round differently
    print(f"{arm}: within two points of the stored run")

# %% [markdown]
# In the second table, `distance` is the paper's distance between the student's and the teacher's maps of the test
# images, the mean of the three layers.

# %%
maps = lab.compare(stored, baseline="labels", metric="accuracy")
report.comparison(maps, caption="test accuracy against labels, all 24 seeds")
columns = ["training_accuracy", "distance", "nll"]
besides = stored.groupby("arm")[columns].mean().loc[[*attention_maps.ARMS]]
report.table(besides, percent=["training_accuracy"], caption="and besides")

# %%
report.figure(
    report.intervals(maps.drop(index="AT, weight 1,000"), x_label="points against labels"),
    "differences in accuracy from labels with intervals: soft targets, weight 3 and AT with soft targets are at zero, "
    "weight 10 is below it; 1,000, far to the left, is left out",
)

# %%
by_labels = report.verdicts(stored, baseline="labels")
report.table(by_labels, caption="accuracy against labels, by group of seeds and over all")
by_soft = report.verdicts(stored, baseline="soft targets")
report.table(by_soft[[ALL_SEEDS]], caption="accuracy against soft targets, over all seeds")

# %%
means, transferred = stored.groupby("arm").mean(), [arm for arm in attention_maps.ARMS if arm.startswith("AT")]
assert means.loc["labels", "training_accuracy"] > 0.99
assert (means.loc[transferred, "distance"] < 0.7 * means.loc["labels", "distance"]).all()
assert "helps" not in set(by_labels.loc[transferred, ALL_SEEDS]) | set(by_soft.loc[transferred, ALL_SEEDS])
assert (by_labels.loc[["AT, weight 10", "AT, weight 1,000"], ALL_SEEDS] == "hurts").all()
assert maps.loc["AT, weight 1,000", "high"] < -0.4
print("labels alone have fitted more than 99 % of their images: yes")
print("with AT the maps come nearer to the teacher's by more than 30 %, in all four arms: yes")
print("AT is shown to help against labels, or against soft targets: in no arm")
print("AT hurts against labels at a weight of 10, and of 1,000: yes")

# %% [markdown]
# The student of 1,000 gets only a third of its own training images right. Does it lack time? Eight of the seeds once
# more, for 320 epochs:

# %%
longer = experiments.load("attention_longer")
four = longer[longer["arm"].str.startswith("maps")].assign(arm="AT, weight 1,000, 320 epochs")
eight = stored[stored["seed"].isin(four["seed"]) & stored["arm"].isin(["labels", "AT, weight 1,000"])]
patient = pd.concat([eight, four])
patient = lab.compare(patient, baseline="labels", metric="accuracy")
report.comparison(patient, caption="test accuracy, seeds 0 to 7")
assert patient.loc["AT, weight 1,000, 320 epochs", "high"] < -0.15
print("with four times the epochs it is still more than 15 points below labels: yes")

# %% [markdown]
# **Seen:** the loss does what it says: in every arm the maps come nearer to the teacher's. The accuracy of this student
# does not follow. At a weight of 3, and beside soft targets, the difference is undecided and small; a weight of 10
# costs four and a half points, and the copied 1,000 about fifty, of which four times the epochs mend a part. (Soft
# targets alone had a tuned temperature of 4, AT beside them one of 2, so this pair of arms differs in two things.)
#
# ### Other data
#
# One pair says little about others. [Lesson 18](18_choose_your_method.ipynb) compares all losses with few labels and
# tuned weights ([benchmarks](../docs/benchmarks.md)). Its two convolutional students:

# %%
for student in ("cnn1d-8", "cnn2d-8"):
    other = lab.compare(choose_side_by_side.runs(student), baseline="soft targets", metric="accuracy")
    shown = other.loc[["cross-entropy", "attention (AT), alone", "attention (AT), with soft targets"]]
    setting = choose_side_by_side.STUDENTS[student]
    report.comparison(shown, caption=f"{student}, {setting}: against soft targets")
    assert shown.loc["attention (AT), with soft targets", "verdict"] == "helps"
    longer = lab.compare(choose_side_by_side.longer(student), baseline="soft targets, longer", metric="accuracy")
    assert longer.loc["attention (AT), with soft targets", "verdict"] == "undecided"

# %% [markdown]
# There AT beside soft targets beats these in both; alone on images only. Against soft targets with four times the
# epochs nothing is decided. Published on CIFAR-100 (test accuracy in per cent, 240 epochs, [Tian et al.
# 2020](https://arxiv.org/abs/1910.10699); runs spread by about ± 0.3):
#
# | pair | student alone | soft targets | attention transfer |
# |---|---:|---:|---:|
# | resnet32x4 → resnet8x4 | 72.50 | 73.33 | 73.44 |
# | vgg13 → vgg8 | 70.36 | 72.98 | 71.43 |
# | resnet32x4 → ShuffleNetV2 | 71.82 | 74.45 | 72.73 |
# | vgg13 → MobileNetV2 | 64.60 | 67.37 | 59.40 |
#
# Of their seven pairs of one family attention transfer gains over no teacher in all, and over soft targets in one, the
# first row. Of six pairs across families it is below soft targets in all, and five points or more *below no teacher at
# all* in the two with MobileNetV2 as student.
#
# ## 6. Self-attention
#
# A transformer's layer has attention in the literal sense: each [token](GLOSSARY.md#token) gives every token a share. A
# layer has several [*heads*](GLOSSARY.md#head). Each makes of every token a query, a key and a value of D features, the
# rows of $Q$, $K$ and $V$ ($Q$ is not the map of section 1):
#
# $$S = Q K^\top / \sqrt D \;\text{(scores)}, \qquad P = \mathrm{softmax}(S) \;\text{(attention)}, \qquad
# \text{output} = P\,V$$
#
# Three things can be compared, each of shape L × L per head for L tokens, whatever the width D:
#
# - **scores**, by mean squared error (TinyBERT): even what softmax ignores, a shift of a whole row, must match;
# - **attention rows**, by divergence (MiniLM): each row is a probability distribution over tokens;
# - [**value relations**](GLOSSARY.md#value-relations), by divergence (MiniLM): $\mathrm{softmax}(V V^\top/\sqrt D)$,
#   which values are alike.
#
# The divergence is Kullback and Leibler's, as in lesson 01, here between two rows. Our tokens are the eight rows of
# pixels of a digit. One attention layer, four heads; the teacher is 32 wide in all, the student 8.

# %%
split = data.digits(seed=BASE_SEED)
wide, narrow = (RowTransformer(split.shape, width=width, heads=4, seed=BASE_SEED) for width in (32, 8))
for name, model in (("teacher", wide), ("student", narrow)):
    print(name, {part: tuple(tensor.shape) for part, tensor in model(split.test_x[:2]).items()})
with torch.no_grad():
    relations = [value_relation(model(split.test_x)["values"]) for model in (wide, narrow)]
print("value relations:", *(tuple(relation.shape) for relation in relations))

# %% [markdown]
# Values of 8 and of 2 features per head, and relations of one shape: no projection must be trained. The whole method is
# two functions, of which the product, the softmax and the `kl_div` matter; A in the shapes is the
# number of heads:

# %%
lab.show(value_relation)
lab.show(attention_relation_divergence)

# %% [markdown]
# **By hand.** The teacher's row is (1, 0), the student's (0.5, 0.5): the divergence is 1 · log(1/0.5) = 0.693. And what
# softmax ignores, the divergence ignores and the score loss does not: with 0, 1, −2 and 3 added to four rows it
# is (0 + 1 + 4 + 9)/4 = 3.5.

# %%
student_row, teacher_row = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.0]]])
print("divergence:", round(attention_relation_divergence(student_row, teacher_row).item(), 3))
scores = torch.randn(1, 2, 4, 4, dtype=torch.float64, generator=generator)
shifted = scores + torch.tensor([0.0, 1.0, -2.0, 3.0]).reshape(4, 1)  # one number per row
rows_apart = attention_relation_divergence(shifted.softmax(-1), scores.softmax(-1)).item()
print(f"each row shifted: divergence {abs(rows_apart):.3f}, score loss {attention_score_loss(shifted, scores):.3f}")

# %% [markdown]
# Does it help? The teacher learns from 1,000 labels, the student has 200, and 80 epochs. MiniLM takes the relations of
# the *last* layer, here the only one, and adds the two divergences. We add cross-entropy with the labels (MiniLM has
# none) and tune one weight for both. Another arm has TinyBERT's score loss in their place. The settings stand in
# section 5's table.

# %%
lab.show(_attention.relation_terms)
lab.show(_attention.score_terms)

# %%
stored = experiments.load("attention_tokens")
for arm in ("labels", "relations"):
    live = attention_tokens.run(seed, arm)
    kept = stored.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.02
    print(f"{arm}: within two points of the stored run")

# %% [markdown]
# Here `divergence` is that of the student's attention from the teacher's, on the test images.

# %%
tokens = lab.compare(stored, baseline="labels", metric="accuracy")
report.comparison(tokens, caption="test accuracy against labels, all 24 seeds")
columns = ["training_accuracy", "divergence", "nll"]
besides = stored.groupby("arm")[columns].mean().loc[[*attention_tokens.ARMS]]
report.table(besides, percent=["training_accuracy"], caption="and besides")

# %%
report.figure(
    report.intervals(tokens, x_label="points against labels"),
    "differences in accuracy from labels: relations far above zero, scores less far, soft targets not clear of it",
)

# %%
by_labels = report.verdicts(stored, baseline="labels")
report.table(by_labels, caption="accuracy against labels, by group of seeds and over all")
by_soft = report.verdicts(stored, baseline="soft targets")
report.table(by_soft[[ALL_SEEDS]], caption="accuracy against soft targets, over all seeds")

# %%
assert (by_labels.loc["relations"] == "helps").all()
assert by_labels.loc["scores", ALL_SEEDS] == "helps"
assert by_soft.loc["relations", ALL_SEEDS] == "helps"
assert tokens.loc["relations", "difference"] > 0.08
nll = report.verdicts(stored, baseline="labels", metric="nll", higher_is_better=False)
assert nll.loc["relations", ALL_SEEDS] == "helps"
divergence = stored.groupby("arm")["divergence"].mean()
assert divergence["relations"] < 0.1 * divergence["labels"]
print("relations help against labels in each group of seeds, in NLL too, and against soft targets over all: yes")
print("scores help against labels over all seeds: yes")
print("with relations the divergence from the teacher's attention falls to less than a tenth: yes")

# %% [markdown]
# - **Relations help**, by nine points over labels and in each group of seeds, by eight over soft targets, and in NLL.
#   The student's attention comes near its teacher's, on images that neither was trained on and through a quarter of the
#   width.
# - **Scores help**, by almost four points over all seeds; two groups by themselves are undecided.
# - **Soft targets** are undecided, but they have fitted only 85 % of their images.
#
# So give labels, soft targets and relations 320 epochs, on eight of the seeds:

# %%
parts = [experiments.load(f"attention_longer{end}") for end in ("", "_controls")]
longer = pd.concat([part[part["arm"].str.startswith("tokens")] for part in parts])
longer["arm"] = longer["arm"].str.removeprefix("tokens | ")
patient = lab.compare(longer, baseline="labels", metric="accuracy")
report.comparison(patient, caption="320 epochs, test accuracy, seeds 0 to 7")
against_soft = lab.compare(longer, baseline="soft targets", metric="accuracy")
report.comparison(against_soft.loc[["soft targets", "relations"]], caption="the same, against soft targets")
assert (patient.loc[["soft targets", "relations"], "verdict"] == "helps").all()
assert patient.loc[["soft targets", "relations"], "low"].min() > 0.04
assert against_soft.loc["relations", "verdict"] != "helps"
print("with 320 epochs soft targets and relations both help, by more than four points: yes")
print("with 320 epochs relations are shown to beat soft targets: no")

# %% [markdown]
# Soft targets only needed patience, as in lesson 02: they gain eight points too, and whether relations gain more or
# less is undecided. What relations bought here was *epochs*. (This is one layer, eight tokens and a teacher with five
# times the labels. Settings were tuned for 80 epochs.)
#
# **Two bugs to know.** [Padding](GLOSSARY.md#padding) counts unless it is [masked](GLOSSARY.md#mask), so that the loss
# of a sentence depends on its neighbours in the batch; and scores of −10,000 at padded places, where only one side has
# them, swamp a squared error. All three functions take a `mask`:

# %%
short = scores.masked_fill(torch.tensor([False, False, False, True]), -10_000.0)  # the fourth token is padding
mask = torch.tensor([[True, True, True, False]])
print("score loss, padding counted:", f"{attention_score_loss(short, scores).item():,.0f}")
print("score loss, padding masked: ", attention_score_loss(short, scores, mask=mask).item())

# %% [markdown]
# ## 7. Another kind of student: attention without its matrix (in depth)
#
# Softmax attention builds an L × L matrix, so time and memory grow with the square of the length.
# [Linear attention](GLOSSARY.md#linear-attention) puts a product of positive features φ in the place of the
# exponential:
#
# $$P_{ij} = \frac{\phi(q_i) \cdot \phi(k_j)}{\sum_{j'} \phi(q_i) \cdot \phi(k_{j'})}, \qquad
# P\,V = \frac{\phi(Q)\,\big(\phi(K)^\top V\big)}{\phi(Q)\,\big(\phi(K)^\top 1\big)}$$
#
# Read from right to left, no L × L matrix is ever built. (A [state-space model](GLOSSARY.md#state-space-model) such as
# Mamba-2 is of this kind, with a decay over time.) Trained from scratch it needs a pre-training of its own. Two papers
# make one *from* a transformer that exists, and begin with its attention:
#
# - **MOHAWK** (Bick et al. 2024) has three steps: match each layer's mixing matrix, by Frobenius distance; then each
#   block's output, on the teacher's inputs; then copy the teacher's other weights and distil the logits. *Claim:*
#   Phi-1.5 becomes a Mamba-2 with 3 billion tokens, of which the first step takes 80 million and the second 160
#   million.
# - **LoLCATs** (Zhang et al. 2025) learns φ so that linear attention's *output* is softmax attention's, and lets LoRA
#   (small matrices added to the weights, the only thing trained then) repair the rest. *Claim:* 20 points and more on
#   MMLU, a test of general knowledge, over earlier conversions, with 0.4 % of their tokens; up to 405 billion
#   parameters.
#
# Here is MOHAWK's first step, on section 6's teacher. The features are those of LoLCATs, one learnt matrix $W$ for each
# head:

# %%
lab.show(LinearAttention)

# %% [markdown]
# What the teacher's layer works with, of training and of test images, and our matrix before training:

# %%
wide = _attention.teacher("tokens", seed)
split = data.digits(seed)
with torch.no_grad():
    _, queries, keys, _ = wide.project(split.train_x)
    attention = wide(split.train_x)["attention"]
    unseen, test_queries, test_keys, test_values = wide.project(split.test_x)
    expected = wide(split.test_x)["attention"]
linear = LinearAttention(heads=4, width=8, features=8, seed=BASE_SEED)
with torch.no_grad():
    before = linear(test_queries, test_keys)

# %% [markdown]
# **By hand.** With $W = 0$ all features are equal, so every token gets the same share, 1/L. And the matrix times the
# values is what `mix` computes without it:

# %%
with torch.no_grad():
    torch.testing.assert_close(linear.mix(test_queries, test_keys, test_values), before @ test_values)
    plain = LinearAttention(heads=4, width=8, features=8)
    torch.nn.init.zeros_(plain.weight)
    print("one share of eight tokens, without weights:", round(plain(test_queries, test_keys)[0, 0, 0, 0].item(), 3))
print("with the matrix and without it: the same output")

# %% [markdown]
# Only φ is trained, on the 1,000 training images; the teacher stays as it is. The loss is the square of the Frobenius
# distance, the sum over an L × L matrix:


# %%
def step_match(batch):
    queries, keys, attention = batch
    return {"loss": (linear(queries, keys) - attention).square().sum(dim=(-1, -2)).mean()}


batches = lab.Batches(queries, keys, attention, batch_size=50, seed=BASE_SEED)
lab.fit(step_match, linear, batches, torch.optim.Adam(linear.parameters(), lr=3e-2), epochs=20)
with torch.no_grad():
    after = linear(test_queries, test_keys)

# %% [markdown]
# On the 500 test images: how far is each matrix from the teacher's, and how often is the teacher right when its
# attention is exchanged?

# %% tags=["nbval-ignore-output"]
rows = {"softmax, its own": expected, "equal shares": torch.full_like(expected, 1 / 8), "linear, before": before}
swapped = {}
for name, matrix in {**rows, "linear, after": after}.items():
    distance = (matrix - expected).square().sum(dim=(-1, -2)).sqrt().mean().item()
    right = wide.answer(unseen, matrix, test_values).argmax(-1) == split.test_y
    swapped[name] = {"Frobenius distance": distance, "accuracy": right.float().mean().item()}
report.table(pd.DataFrame(swapped).T.rename_axis("attention"), percent=["accuracy"])

# %%
assert swapped["linear, after"]["Frobenius distance"] < 0.6 * swapped["linear, before"]["Frobenius distance"]
assert swapped["equal shares"]["accuracy"] < 0.4
own, first, matched = (swapped[name]["accuracy"] for name in ("softmax, its own", "linear, before", "linear, after"))
assert own - matched < 0.1
assert matched - first > 0.7 * (own - first)
print("matched, the distance on unseen images fell by more than 40 %: yes")
print("with matched linear attention the teacher keeps its accuracy within ten points: yes")

# %% [markdown]
# **Seen:** the teacher needs its attention: with equal shares it is lost. 400 steps on the matrices alone, without a
# label, give back most of what an untrained φ costs. With eight tokens nothing is saved: the gain begins where L is
# much larger than φ's length. And this is one layer; through many layers errors add up, which is what the papers' later
# steps are for.

# %% [markdown]
# ## 8. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/04_attention_based.ipynb](solutions/04_attention_based.ipynb).

# %% [markdown] tags=["exercise"]
# **04.1 Recall.** Write the attention map: activations (B, C, H, W), any power of at least 1, result (B, H·W), length 1
# for each example. An example of zeros gives zeros.
#
# <details><summary>Hint</summary>F.normalize divides by the length, and leaves zeros alone.</details>


# %% tags=["exercise"]
def my_map(features, power):
    raise NotImplementedError


# %% tags=["solution"]
def my_map(features, power):
    return F.normalize(features.abs().pow(power).sum(dim=1).flatten(1), dim=1)


# %% tags=["check"]
lab.check("04.1", my_map)

# %% [markdown] tags=["exercise"]
# **04.2 Write the loss** of the authors' code, at power 2, as a scalar. The student's maps (B, C, H, W) may be of
# another number of channels, and as large as the teacher's or larger.
#
# <details><summary>Hint</summary>Sum over channels, then average down, then normalise.</details>


# %% tags=["exercise"]
def my_transfer(student_maps, teacher_maps):
    raise NotImplementedError


# %% tags=["solution"]
def my_transfer(student_maps, teacher_maps):
    s, t = (maps.square().sum(dim=1, keepdim=True) for maps in (student_maps, teacher_maps.detach()))
    s = F.adaptive_avg_pool2d(s, t.shape[2:])
    return F.mse_loss(F.normalize(s.flatten(1), dim=1), F.normalize(t.flatten(1), dim=1))


# %% tags=["check"]
lab.check("04.2", my_transfer)

# %% [markdown] tags=["exercise"]
# **04.3 Predict.** A layer has two channels and two places. The first channel is (3, 1), the second (−4, 0). All
# activations are multiplied by 10. At power 3, how many times as large is the attention map at the first place as at
# the second?
#
# <details><summary>Hint</summary>Normalisation divides both by the same number.</details>

# %% tags=["exercise"]
my_ratio = ...

# %% tags=["solution"]
my_ratio = (3**3 + 4**3) / 1**3

# %% tags=["check"]
lab.check("04.3", my_ratio)

# %% [markdown] tags=["exercise"]
# **04.4 Design.** Teacher and student have values of any widths, (B, L, D) and (B, L, D'), and perhaps different
# numbers of heads. Split both anew into `heads` parts of the width, and return the divergence of their value relations
# as a scalar: the mean over heads, tokens and examples. You may use `value_relation` and
# `attention_relation_divergence`.
#
# <details><summary>Hint</summary>The functions want (B, heads, L, D/heads). A plain reshape mixes tokens and
# features.</details>


# %% tags=["exercise"]
def my_relation_loss(student_values, teacher_values, heads):
    raise NotImplementedError


# %% tags=["solution"]
def my_relation_loss(student_values, teacher_values, heads):
    s, t = (v.unflatten(-1, (heads, -1)).transpose(1, 2) for v in (student_values, teacher_values.detach()))
    return attention_relation_divergence(value_relation(s), value_relation(t)).mean()


# %% tags=["check"]
lab.check("04.4", my_relation_loss)

# %% [markdown]
# **Going further** (not checked): does the paper's form (`squared=False`) do better in section 5? Write it into a copy
# of `_attention.map_terms`, train with `_attention.taught("maps", my_terms, _attention.Settings(weight=1), seed=5000)`,
# and let `_attention.measured("maps", student, seed=5000, validation=True)` tell which weight to take.

# %%
lab.quiz("04")

# %% [markdown]
# ## 9. When to use attention, and when not
#
# **Try self-attention relations** for transformers, also of different widths: ours gained nine points over labels in 80
# epochs; soft targets gained eight, but in 320 (section 6). **Attention maps** are light (nothing to train, any number
# of channels), and whether they help is to be tried: on the digits no weight was shown to, and a weight of 10 cost four
# points; beside soft targets it beat these twice at equal epochs (section 5); of thirteen published pairs it beats soft
# targets in one. Choose the weight on validation images, from small terms upwards, with 0 among them. **To
# replace softmax attention** by something linear, match its matrices first (section 7).
#
# **When not:** across families of networks, unless you have measured that it helps (also for transformers: Qin et al.
# below); with a weight copied from another map size (sections 4 and 5); for vectors without places, where a hint or a
# relation between examples fits; with attention kernels that never build the L × L matrix, since relations of queries
# and keys need it.
#
# **Cost:** a teacher's forward pass on every batch, or its maps stored beside the images if those are few and not
# augmented. A map is one pass over the activations, little beside the convolution that made them. Relations take heads
# × L² numbers per example, so memory grows with the square of the length.
#
# **Copy it:** `python -m kdref copy attention` writes one file that needs only torch; `python -m kdref copy
# value_relation` writes that function and what it calls.
#
# **Further reading:** Zagoruyko and Komodakis 2017, Section 3, on which layers and powers, and what its author later
# [could not reproduce exactly](https://github.com/szagoruyko/attention-transfer/pull/29) on ImageNet. TinyBERT for the
# whole recipe (hidden states, embeddings, augmented data); MiniLM for more than 99 % of the accuracy on SQuAD 2.0 and
# several tasks of GLUE with half the parameters, a claim; [MiniLMv2](https://arxiv.org/abs/2012.15828) on which
# relations and which layer. [Jain and Wallace 2019](https://arxiv.org/abs/1902.10186) and [Wiegreffe and Pinter
# 2019](https://arxiv.org/abs/1908.04626) on whether attention explains anything. [Li et al.
# 2024](https://arxiv.org/abs/2411.09702) on what attention alone can carry, and [Qin et al.
# 2026](https://arxiv.org/abs/2605.07191), who found that copied attention left vision transformers below no transfer
# with four of eleven families of teachers, unless the student had the parts peculiar to the teacher's architecture.
#
# **Next lesson:** [05](05_relation_based.ipynb), relation-based distillation: what if not places or tokens are
# compared, but examples?
