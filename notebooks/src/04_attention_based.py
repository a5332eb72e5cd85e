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
# - say when a student that looks where its teacher looks is also more often right, and when not;
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
# `kdref/lab/models/row_transformer.py` and `linear_attention.py` (the tiny transformer, and attention without a matrix),
# `kdref/lab/experiments/attention_*.py` (the stored experiments).
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
from kdref.lab.experiments import _attention, attention_maps, attention_tokens, attention_tuning, relation_side_by_side
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
# counts: before, the student's map was the stroke itself; the teacher's is wider, with dark spots at some places of the
# stroke, and so is the student's after. And note the last line: such maps are learned in two epochs, in which the
# student learns little about which digit it is. Maps are the easy part.
#
# Choose for yourself: an image, a layer, a power. Which layer follows the teacher best? What does a power of 8 leave of
# the map? The distance is 0 for equal maps and √2 for maps that share no place.

# %%
attention_explorer(shown, networks, attention_map)

# %% [markdown]
# ## 4. The loss: one paper, two definitions
#
# The paper's equation takes the *length* of the difference, the authors' code its *mean square*:
#
# $$\mathcal L_{\text{paper}} = \frac1B \sum_b \|m^s_b - m^t_b\|_2, \qquad
# \mathcal L_{\text{code}} = \frac{1}{B\,HW} \sum_{b,h,w} (m^s_{bhw} - m^t_{bhw})^2$$
#
# $m^s_b$ and $m^t_b$ are the student's and the teacher's map of example $b$ in a batch of B. The usual weight of the
# code's form is 1,000, in other people's code too. Here both forms are one function:

# %%
lab.show(attention_transfer_loss)

# %% [markdown]
# They differ in more than scale. Two vectors of length 1 without negative numbers are at most √2 apart, so the squared
# form is at most 2/HW: it shrinks as the map grows. First the largest values that there are, for maps that share no
# place:

# %%
for size in (32, 16, 8, 4):
    left, right = torch.zeros(1, 1, size, size), torch.zeros(1, 1, size, size)
    left[..., 0, 0], right[..., -1, -1] = 1.0, 1.0  # nothing in common: the largest distance there is
    code, paper = (attention_transfer_loss(left, right, squared=squared).item() for squared in (True, False))
    print(f"{size:2} × {size:2}: 1,000 · code = {1000 * code:7.3f}   paper = {paper:.3f}")

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
# **So carry no weight over blindly.** At 32 × 32 a weight of 1,000 makes a term of at most about 2, as large as
# cross-entropy at the start. At 4 × 4 it can be 125. Section 5 shows what that costs.
#
# If teacher and student have maps of different sizes, the larger ones must be averaged down. Average the *map* (after
# the square), as this function does; a popular benchmark's code averages the *activations*, where plus and minus
# cancel:

# %%
stripes = torch.tensor([1.0, -1.0]).repeat(4).reshape(1, 1, 1, 8) * torch.tensor([3.0, 1.0]).repeat_interleave(4)
print("activations:              ", stripes.flatten().int().tolist())
print("activations averaged to 2:", F.adaptive_avg_pool2d(stripes, (1, 2)).flatten().tolist())
print("squares averaged to 2:    ", F.adaptive_avg_pool2d(stripes.square(), (1, 2)).flatten().tolist())

# %% [markdown]
# ## 5. Attention transfer in numbers
#
# Does a student that looks where its teacher looks make fewer mistakes? On the 8 × 8 digits: a teacher of 16 channels
# that learned 1,000 labels, a student of 4 channels that has 200 of them. Its maps are 8 × 8, 4 × 4 and 2 × 2. With the
# code's form and the weight $w$ the three terms are at most $w\,(2/64 + 2/16 + 2/4) = 0.66\,w$ together. So we take
# $w = 3$: at most 2, about where cross-entropy starts, log 10 = 2.3. (When this lesson was first drafted, weights were
# also tried out on test images. So we take none that needs such a trial: this one follows from the sum, and in
# section 6 terms are added without weights, as MiniLM does.)
#
# Four arms, with the same first weights, data order and epochs:
#
# - **labels alone**;
# - **weight 3**: labels and attention transfer;
# - **weight 1,000**: the same with the weight of larger maps;
# - **1,000, labels detached**: as before, but the labels train the classifier only. `detach` keeps their gradient from
#   the convolutions, which follow the teacher's maps and nothing else.
#
# The last arm tests a suspicion: that at 1,000 the labels hardly count for the convolutions. If so, taking them away
# should change nothing. The teacher's activations on 200 small images fit in memory, so they are computed once and
# go into the batches.


# %%
def run_transfer(seed, arm):
    split = data.digits(seed)
    x, y = split.train_x[:200], split.train_y[:200]
    student = models.make("cnn2d-4", shape=split.shape, seed=100 + seed)
    student_taps, weight = lab.taps(student, [*LAYERS, "flatten"]), WEIGHTS[arm]
    with torch.no_grad():
        given = lab.taps(teachers[seed], LAYERS)(x)

    def step_student(batch):
        x, y, *teacher_maps = batch
        own = student_taps(x)
        pooled = own["flatten"].detach() if arm.endswith("detached") else own["flatten"]
        distance = sum(attention_transfer_loss(own[k], maps) for k, maps in zip(LAYERS, teacher_maps, strict=True))
        return {"loss": F.cross_entropy(student.classifier(pooled), y) + weight * distance}

    batches = lab.Batches(x, y, *given.values(), batch_size=50, seed=seed)
    lab.fit(step_student, student, batches, torch.optim.Adam(student.parameters(), lr=1e-2), epochs=20, progress=False)
    own, given = (lab.taps(model.eval(), LAYERS)(split.test_x) for model in (student, teachers[seed]))
    distance = sum(attention_transfer_loss(own[k], given[k], squared=False).item() / 3 for k in LAYERS)
    return {"accuracy": lab.measure(student, split.test_x, split.test_y)["accuracy"], "distance": distance}


def step_teacher(batch):
    return {"loss": F.cross_entropy(teacher(batch[0]), batch[1])}


teachers = {}
for seed in SEEDS:
    split = data.digits(seed)
    teacher = models.make("cnn2d-16", shape=split.shape, seed=seed)
    batches = lab.Batches(split.train_x, split.train_y, batch_size=100, seed=seed)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    lab.fit(step_teacher, teacher, batches, optimizer, epochs=8, progress=False)
    teachers[seed] = teacher.eval()
WEIGHTS = {"labels alone": 0.0, "weight 3": 3.0, "weight 1,000": 1000.0, "1,000, labels detached": 1000.0}
transfer = lab.replicate(run_transfer, arms=list(WEIGHTS), seeds=SEEDS)

# %% tags=["nbval-ignore-output"]
by_accuracy = lab.compare(transfer, baseline="labels alone", metric="accuracy")
by_distance = lab.compare(transfer, baseline="labels alone", metric="distance", higher_is_better=False)
report.comparison(by_accuracy, caption="test accuracy")
report.comparison(by_distance, metric="distance", percent=False, caption="mean distance from the teacher's maps")

# %%
report.figure(
    report.intervals(by_accuracy),
    "differences in accuracy from labels alone, with intervals: both arms of weight 1,000 are far below zero",
)
assert (by_distance["verdict"].drop("labels alone") == "helps").all()
print("in all three arms the maps come nearer to the teacher's: yes")
print("accuracy,", report.verdict(by_accuracy, "weight 1,000"))
assert by_accuracy.loc["weight 1,000", "verdict"] == "hurts"
assert by_accuracy.loc["weight 1,000", "high"] < -0.2
assert by_accuracy.loc["weight 3", "difference"] > by_accuracy.loc["weight 1,000", "high"]

# %% [markdown]
# And the suspicion: how far apart are the two arms of weight 1,000, over the same seeds?

# %% tags=["nbval-ignore-output"]
without_labels = lab.compare(
    transfer[transfer["arm"].str.contains("1,000")], baseline="weight 1,000", metric="accuracy"
)
report.comparison(without_labels, caption="test accuracy: what do the labels do for the convolutions?")

# %%
apart = without_labels.loc["1,000, labels detached"]
assert apart["low"] > -0.05
assert apart["high"] < 0.05
print("without labels for the convolutions the accuracy is the same, within 5 points either way: yes")

# %% [markdown]
# **Seen:** the loss does what it says, the maps come nearer to the teacher's at either weight. But looking where the
# teacher looks doesn't make this student right. The copied weight costs more than twenty points, and the suspicion is
# confirmed: without the labels, the convolutions lead to the same accuracy within five points. About the weight of 3 we
# claim nothing: read its interval in the table.
#
# This is one pair, few labels and a short budget. The published CIFAR-100 numbers (test accuracy in per cent, 240
# epochs, from [Tian et al. 2020](https://arxiv.org/abs/1910.10699); the spread between runs is about ± 0.3, and some
# tables report the best test epoch):
#
# | pair | student alone | soft targets | attention transfer |
# |---|---:|---:|---:|
# | resnet32x4 → resnet8x4 | 72.50 | 73.33 | 73.44 |
# | vgg13 → vgg8 | 70.36 | 72.98 | 71.43 |
# | resnet32x4 → ShuffleNetV2 | 71.82 | 74.45 | 72.73 |
# | vgg13 → MobileNetV2 | 64.60 | 67.37 | 59.40 |
#
# Their tables have seven pairs of one family: attention transfer gains over no teacher in all of them, and over soft
# targets in one, the first row. Of six pairs across families it is below soft targets in all, and five points or more
# *below no teacher at all* in the two with MobileNetV2 as student.
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
# two short functions:

# %%
lab.show(value_relation)
lab.show(attention_relation_divergence)

# %% [markdown]
# What softmax ignores, the divergence ignores and the score loss does not:

# %%
scores = torch.randn(1, 2, 4, 4, dtype=torch.float64, generator=generator)
shifted = scores + torch.tensor([0.0, 1.0, -2.0, 3.0]).reshape(4, 1)  # one number per row
rows_apart = attention_relation_divergence(shifted.softmax(-1), scores.softmax(-1)).item()
print(f"each row shifted: divergence {abs(rows_apart):.3f}, score loss {attention_score_loss(shifted, scores):.3f}")
values = torch.randn(1, 2, 4, 6, dtype=torch.float64, generator=generator)
turned = values @ torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator)).Q
torch.testing.assert_close(value_relation(turned), value_relation(values), rtol=0, atol=1e-12)
padded = torch.cat([values, torch.zeros_like(values)], dim=-1) * 2**0.25  # twice as wide, scores kept
torch.testing.assert_close(value_relation(padded), value_relation(values), rtol=0, atol=1e-12)
print("values rotated, or padded to twice the width: the same relation")

# %% [markdown]
# Does it help? The teacher learns from 1,000 labels, the student has 200. MiniLM takes the relations of the *last*
# layer, here the only one, and adds the two divergences without weights. So do we, and add cross-entropy with the
# labels (MiniLM has none). A third arm has TinyBERT's score loss in place of the divergences, without a weight too.


# %%
def run_relations(seed, arm):
    split = data.digits(seed)
    teacher, student = wide_teachers[seed], RowTransformer(split.shape, width=8, heads=4, seed=seed)

    def step_student(batch):
        with torch.no_grad():
            given = teacher(batch[0])
        own, loss = student(batch[0]), 0.0
        if arm == "relations":
            pairs = ((own["attention"], given["attention"]), [value_relation(n["values"]) for n in (own, given)])
            loss = sum(attention_relation_divergence(*pair).mean() for pair in pairs)
        elif arm == "scores":
            loss = attention_score_loss(own["scores"], given["scores"])
        return {"loss": F.cross_entropy(own["logits"], batch[1]) + loss}

    batches = lab.Batches(split.train_x[:200], split.train_y[:200], batch_size=50, seed=seed)
    lab.fit(step_student, student, batches, torch.optim.Adam(student.parameters(), lr=1e-2), epochs=20, progress=False)
    own, given = student(split.test_x), teacher(split.test_x)
    apart = attention_relation_divergence(own["attention"], given["attention"]).mean().item()
    return {"accuracy": (own["logits"].argmax(-1) == split.test_y).float().mean().item(), "divergence": apart}


def step_wide(batch):
    return {"loss": F.cross_entropy(wide(batch[0])["logits"], batch[1])}


wide_teachers = {}
for seed in SEEDS:
    split = data.digits(seed)
    wide = RowTransformer(split.shape, width=32, heads=4, seed=seed)
    batches = lab.Batches(split.train_x, split.train_y, batch_size=50, seed=seed)
    lab.fit(step_wide, wide, batches, torch.optim.Adam(wide.parameters(), lr=1e-2), epochs=10, progress=False)
    wide_teachers[seed] = wide.eval()
relations = lab.replicate(run_relations, arms=["labels alone", "relations", "scores"], seeds=SEEDS)

# %% tags=["nbval-ignore-output"]
by_accuracy = lab.compare(relations, baseline="labels alone", metric="accuracy")
by_divergence = lab.compare(relations, baseline="labels alone", metric="divergence", higher_is_better=False)
report.comparison(by_accuracy, caption="test accuracy")
report.comparison(
    by_divergence, metric="divergence", percent=False, caption="divergence of attention from the teacher's"
)

# %%
report.figure(
    report.intervals(by_accuracy),
    "differences in accuracy from labels alone, with intervals: one of relations, one of scores",
)
assert (by_divergence["verdict"].drop("labels alone") == "helps").all()
print("attention comes nearer to the teacher's in both arms: yes")

# %% [markdown]
# **Seen:** both losses bring the student's attention to its teacher's, on images that neither was trained on, and
# through a quarter of the width. About accuracy we claim nothing: read the intervals in the table, and those of
# another start, `KDREF_SEED=1000`.
#
# **Two bugs to know.** [Padding](GLOSSARY.md#padding) counts unless it is [masked](GLOSSARY.md#mask), so that the loss
# of a sentence depends on its neighbours in the batch; and scores of −10,000 at padded places, where only one side has
# them, swamp a squared error. Both functions take a `mask`:

# %%
short = scores.masked_fill(torch.tensor([False, False, False, True]), -10_000.0)  # the fourth token is padding
mask = torch.tensor([[True, True, True, False]])
print("score loss, padding counted:", f"{attention_score_loss(short, scores).item():,.0f}")
print("score loss, padding masked: ", attention_score_loss(short, scores, mask=mask).item())

# %% [markdown]
# ## 7. History, and what was found since
#
# - **Attention transfer**, Zagoruyko and Komodakis (first posted in 2016). *Claim:* consistent gains over many data
#   sets and architectures; a ResNet-18 taught by a ResNet-34 has 29.3 % top-1 error on ImageNet. They tried maps of
#   gradients too. *Since:* the author's own later code "did not match numbers in the papers exactly" on ImageNet
#   ([2018](https://github.com/szagoruyko/attention-transfer/pull/29)). [Tian et al.
#   2020](https://arxiv.org/abs/1910.10699) compared a dozen methods under one recipe: this one rarely beats soft
#   targets (end of section 5).
# - **TinyBERT**, Jiao et al. (first posted in 2019). *Claim:* four layers keep more than 96.8 % of BERT-base's score on
#   the benchmark GLUE, with scores, hidden states, embeddings and outputs matched, and augmented data. Each student
#   layer is *assigned* a teacher layer, and numbers of heads must agree.
# - **MiniLM**, Wang et al. 2020. *Claim:* the last layer is enough, no assignment is needed; more than 99 % of the
#   accuracy on SQuAD 2.0 and several tasks of GLUE with half the transformer's parameters. **MiniLMv2**, [Wang et al.
#   2021](https://arxiv.org/abs/2012.15828), splits queries, keys and values anew into *relation heads*, so numbers of
#   heads may differ (exercise 04.4), and for large teachers takes an upper middle layer in place of the last.
# - **Attention is not explanation**, [Jain and Wallace 2019](https://arxiv.org/abs/1902.10186): very different
#   attention can give the same answer. [Wiegreffe and Pinter 2019](https://arxiv.org/abs/1908.04626) contest what
#   follows. Either way: a picture of attention is not yet a reason.
# - **Attention alone**, [Li et al. 2024](https://arxiv.org/abs/2411.09702). *Claim:* a vision transformer that gets
#   only the attention of a pre-trained one, and learns its own features, does about as well as one fine-tuned from its
#   weights; not so under a shift of the data. *Since:* [Qin et al. 2026](https://arxiv.org/abs/2605.07191) tried 20
#   teachers of 11 families: seven families transfer, four fail and fall below a student without transfer. They trace
#   this to a student whose architecture differs from the teacher's.
#
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
# **Going further** (not checked): run section 5 with `squared=False`, or with the weight falling to zero over the
# epochs. Or search for a better weight: measure on `split.validation_x`, never on the test images. And in section 6,
# give the relations all 1,000 images without their labels.

# %%
lab.quiz("04")

# %% [markdown]
# ## 9. When to use attention, and when not
#
# **Use attention maps** when teacher and student are of one family, with maps of the same places, and you want
# something light to add to soft targets: nothing to train, any number of channels. Expect little: section 5 shows no
# gain, nor does the comparison of all losses in section 8 of [lesson 05](05_relation_based.ipynb), and the published
# gains are small. Choose the weight on validation images, from terms smaller than cross-entropy
# upwards. **Try self-attention relations** for transformers, also of different widths.
#
# **When not:** across families, unless you have measured that it helps; with a weight copied from another map size
# (here it cost more than twenty points); for vectors without places, where a hint or a relation between examples fits;
# with attention kernels that never build the L × L matrix, since the relations need it.
#
# **Cost:** a teacher's forward pass on every batch, or its maps stored beside the images if those are few and not
# augmented (section 5). A map is one pass over the activations, little beside the convolution that made them. Relations
# take heads × L² numbers per example, so memory grows with the square of the length.
#
# **Copy it:** `python -m kdref copy attention` writes one file that needs only torch; `python -m kdref copy
# value_relation` writes that function and what it calls.
#
# **Further reading:** Zagoruyko and Komodakis 2017, Section 3, on which layers and powers; MiniLMv2, on which relations
# and which layer; Li et al. 2024, on what attention alone can carry.
#
# **Next lesson:** [05](05_relation_based.ipynb), relation-based distillation: what if not places or tokens are
# compared, but examples?
