# %% [markdown]
# # 14 · On the edge
#
# **The student is small. How small, how quick and how right is it on the machine that it is for, and can fewer bits do
# what fewer weights do?**
#
# **You will be able to**
#
# - round a network's weights to 8, 4, 3 or 2 bits, and say which step loses least;
# - teach a network while it is rounded, by itself before rounding, and know when that is worth it;
# - take a network out of PyTorch, in fp32 and in int8, and prove that it still says the same;
# - measure accuracy, bytes, milliseconds and multiply-adds together, and draw the Pareto front;
# - choose between fewer bits, fewer channels and a new small network by what was measured.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb).
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/quantization.py` (rounding), `kdref/lab/edge/` (files and measurements),
# `kdref/lab/experiments/edge_*.py` (the long experiments).
#
# **Papers:** [Esser et al. 2020](https://arxiv.org/abs/1902.08153), [Polino et al.
# 2018](https://arxiv.org/abs/1802.05668), [Apprentice 2018](https://arxiv.org/abs/1711.05852), [QKD
# 2019](https://arxiv.org/abs/1911.12491), [NVIDIA 2026](https://arxiv.org/abs/2601.20088), [Muralidharan et al.
# 2024](https://arxiv.org/abs/2407.14679).

# %% tags=["setup"]
import tempfile
from pathlib import Path

import torch

from kdref import lab, quantization
from kdref.lab import edge, experiments, models, report
from kdref.lab.experiments import (
    _edge,
    _edge_front,
    edge_encoder,
    edge_images,
    edge_pruned,
    edge_quantised,
    edge_tuning,
)
from kdref.lab.models import checkpoints
from kdref.lab.widgets.quantization import levels_explorer, levels_figure
from kdref.quantization import LearnedStepSize, calibrated_scale, fake_quantize
from kdref.soft_targets import soft_target_loss

lab.setup()
BASE_SEED = lab.base_seed()
FOLDER = Path(tempfile.mkdtemp())  # of the files that this lesson writes

# %% [markdown]
# ## 1. Fewer bits
#
# A weight is a float of 32 bits. [**Quantisation**](GLOSSARY.md#quantisation) puts it on a grid: a whole number $k$ of
# $b$ bits, times a step $s$ that many weights share. Eight bits are a quarter of the bytes, and processors multiply
# whole numbers faster than floats.
#
# $$\hat x = s \cdot \mathrm{round}\big(\mathrm{clip}(x / s,\, -Q_N,\, Q_P)\big), \quad Q_N = 2^{b-1},\; Q_P = 2^{b-1}
# - 1$$
#
# **Fake** quantisation leaves the result a float: on the grid, but trainable. Rounding has no slope, so its gradient is
# taken as 1 inside the clip and 0 outside: *straight through* ([Bengio et al. 2013](https://arxiv.org/abs/1308.3432)).

# %%
lab.show(fake_quantize)
lab.show(quantization._rounded)

# %% [markdown]
# **By hand.** Two bits, $s$ = 0.25: the levels are -0.5, -0.25, 0 and 0.25. So -1 is clipped to -0.5; -0.3 / 0.25 =
# -1.2 goes to -1, which is -0.25; 0.1 to 0; and 0.4 is clipped to 0.25. Clipped values get no gradient.

# %%
x = torch.tensor([-1.0, -0.3, 0.1, 0.4], requires_grad=True)
rounded = fake_quantize(x, 0.25, bits=2)
rounded.sum().backward()
print("rounded: ", rounded.tolist())
print("gradient:", x.grad.tolist())

# %% [markdown]
# **Which step?** The largest weight over $Q_P$ clips nothing. A smaller step rounds all others more finely, and clips a
# few. With 8 bits that hardly matters. With 3 it does:

# %%
layer = checkpoints.load("mnist5k-cnn2d-32")[0].get_submodule("features.conv3")
report.figure(
    levels_figure(fake_quantize, layer.weight, bits=3),
    "left, the histogram of a trained layer's weights with the eight levels of 3 bits, most of them where there are "
    "hardly any weights; right, the squared error over the step: rounding grows with it, clipping falls, and their sum "
    "is least at about half of the step that clips nothing",
)

# %% [markdown]
# Make the step smaller until the error is least. Then add a bit and look again.

# %%
levels_explorer(fake_quantize, layer.weight)

# %% [markdown]
# `calibrated_scale` finds that step, for all weights or one for each output channel (`dim=0`):

# %%
lost = {}
for bits in (8, 4, 3, 2):
    for method in ("max", "mse"):
        step = calibrated_scale(layer.weight, bits=bits, method=method, dim=0)
        error = fake_quantize(layer.weight, step, bits=bits, dim=0) - layer.weight
        lost[bits, method] = (error.square().sum() / layer.weight.square().sum()).item()
    print(f"{bits} bits: {lost[bits, 'max']:.1%} of the weights' square is lost, at best {lost[bits, 'mse']:.1%}")
assert all(lost[bits, "mse"] <= lost[bits, "max"] for bits in (8, 4, 3, 2))

# %% [markdown]
# **Or learn it.** With the rounding counted as straight through, the step has a gradient too (LSQ, Esser et al. 2020):
#
# $$\frac{\partial \hat x}{\partial s} = \begin{cases} \mathrm{round}(x/s) - x/s & \text{inside} \\ -Q_N \text{ or } Q_P
# & \text{clipped} \end{cases}$$
#
# times $1 / \sqrt{N Q_P}$, since one step gathers the gradients of $N$ weights.

# %%
lab.show(LearnedStepSize.forward)
quantizer = LearnedStepSize(torch.tensor([-0.5, 0.5, 1.5, -1.5]), bits=2)  # starts at 2 · mean size / √Q_P
print("step:", quantizer.step.item())
quantizer(torch.tensor([0.9, 1.1, 5.0])).sum().backward()
print("its gradient:", round(quantizer.step.grad.item(), 3))

# %% [markdown]
# By hand: 0.9/2 = 0.45 goes to 0, slope -0.45; 1.1/2 = 0.55 goes to 1, slope 0.45; 5 is clipped, slope $Q_P$ = 1. The
# sum is 1, over $\sqrt{3 \cdot 1}$: 0.577.
#
# ## 2. Out of PyTorch
#
# A phone has no Python. A network leaves PyTorch in three steps: `torch.export` records its operations, `torch.onnx`
# writes them to a file in a format that many runtimes read, and a runtime loads it. Ours is ONNX Runtime, on one
# thread. What all files of this lesson hold is a network of MNIST-1D, our large one; [lesson
# 02](02_response_based.ipynb) has its data.

# %%
known, teacher = _edge.parts(), _edge.large(BASE_SEED)
path = edge.to_onnx(teacher, known.train_x[:2], FOLDER / "teacher.onnx")
for count in (1, 2, 33):
    torch.testing.assert_close(
        edge.answers(path, known.test_x[:count]), teacher(known.test_x[:count]), rtol=0, atol=1e-4
    )
print("ONNX Runtime says what PyTorch says, to four decimals, whatever the number of signals: yes")

# %% [markdown]
# The number of examples stays free because `to_onnx` says so; by default it would be that of the example, for good.
# Batch normalisation is gone: in eval mode it is a factor and a constant, folded into the convolution before it.
#
# **Static int8.** ONNX Runtime rounds weights per channel, and activations too: a few hundred inputs, without labels,
# show it the range of each. That is called [calibration](GLOSSARY.md#calibration-of-ranges), and has nothing to do with
# the calibration of lesson 15.

# %%
int8 = edge.quantized(path, known.train_x[:500], FOLDER / "teacher-int8.onnx")
plain, whole = (edge.answers(file, known.test_x) for file in (path, int8))
same = (plain.argmax(-1) == whole.argmax(-1)).double().mean().item()
assert same > 0.97
assert edge.file_bytes(int8) < 0.6 * edge.file_bytes(path)
print("the int8 file chooses the same class for over 97 % of new signals: yes; it has less than 60 % of the bytes: yes")

# %% [markdown]
# **Inside PyTorch** torchao keeps weights of linear layers as int8 and multiplies by the step when they are used:
# memory shrinks, arithmetic stays fp32.

# %%
mlp = models.make("mlp-100x100", seed=0)
light = edge.int8_weights(mlp)
weight = light.get_submodule("features.fc2").weight
print(weight.qdata.dtype, tuple(weight.scale.shape))
torch.testing.assert_close(light(known.test_x), mlp(known.test_x), rtol=0, atol=0.02)
print("the answers stay within two hundredths: yes")

# %% [markdown]
# ## 3. What does it cost, and what is it worth?
#
# Students of four sizes, 4 to 16 channels where the teacher has 32; alone, and distilled (half labels, half soft
# targets at τ = 2). Each becomes three files: fp32, int8, and weights of 4 bits with activations of 8. **This table is
# your machine's**: [latency](GLOSSARY.md#latency) is the median and the 95th percentile of 200 calls on one thread, for
# one signal and for 32. The interval is for the accuracy of these very networks, from 4,000 signals; another seed would
# give other networks.

# %% tags=["nbval-ignore-output"]
networks = _edge_front.networks(BASE_SEED)
files = _edge_front.written(networks, FOLDER)
table = _edge_front.measured(networks, files)
shown = table.assign(accuracy=[report.interval(row.accuracy, row.low, row.high) for row in table.itertuples()]).drop(
    columns=["low", "high"]
)
report.table(shown, decimals=4, caption="milliseconds (ms) and their 95th percentile (p95), for 1 signal and for 32")

# %%
size = table.pivot(index="network", columns="form", values="bytes")
right = table.pivot(index="network", columns="form", values="accuracy")
narrow = [name for name in networks if name.startswith(("4", "8", "12"))]
assert (size.loc[narrow, "int8"] > size.loc[narrow, "fp32"]).all()
assert size.loc["teacher", "4 bits"] < size.loc["teacher", "int8"] < 0.6 * size.loc["teacher", "fp32"]
assert (right["int8"] - right["fp32"]).abs().max() < 0.03
assert (right["4 bits"] < right["fp32"]).all()
multiply_adds = table.groupby("network")["multiply-adds"].first()
assert multiply_adds["teacher"] > 3.5 * multiply_adds["16 channels, alone"]
print("int8 changes the accuracy by less than three points: yes; 4 bits after training cost some everywhere: yes")
print("files of 4, 8 and 12 channels are larger in int8 than in fp32, the teacher's is smaller: yes")

# %% tags=["nbval-ignore-output"]
report.figure(
    _edge_front.drawn(table, {"bytes": "bytes on disk", "ms, 1": "milliseconds, one signal"}),
    "accuracy over bytes on disk and over milliseconds, both logarithmic, for fp32, int8 and 4 bits, with the Pareto "
    "front as a staircase: small networks are on it in fp32, the teacher in int8 as well",
)

# %% [markdown]
# The staircase is the [**Pareto front**](GLOSSARY.md#pareto-front): what no other file beats in both. It is not for us
# to say which point on it is right; everything off it is wrong.

# %%
best = table[edge.front(table, cost="bytes", gain="accuracy")]
assert ("teacher", "int8") in set(zip(best["network"], best["form"], strict=True))
assert not (best["network"].str.startswith(("4", "8")) & (best["form"] != "fp32")).any()
print("on the front of bytes: the teacher in int8: yes; any int8 file of 4 or 8 channels: no")

# %% [markdown]
# - **A file is more than its weights.** Each rounding is a mark in the file, of some hundred bytes. Under ten kilobytes
#   that costs more than the weights save.
# - **Fewer bits need not be quicker.** Compare the columns of your own table. On the machine that built this page int8
#   was no quicker for one signal, where most of the time is spent on calling, but more than twice as quick for the
#   teacher with 32; and 4 bits were slower than fp32, for its processor has no such arithmetic: they are unpacked
#   first.
# - **Multiply-adds are no milliseconds.** The teacher has over forty times those of 4 channels; measure before you
#   believe either.
# - **One network of each kind shows no effect.** Between alone and distilled a point or two are luck of the first
#   weights, and with 4 channels ten are. Whether a teacher helps is asked of many seeds: in lessons 01 to 12, and of
#   narrow networks below.
#
# **On images**, stored: students on mnist5k, teacher `mnist5k-cnn2d-32`, eight seeds.

# %% tags=["nbval-ignore-output"]
images = experiments.load("edge_images")
forms = ["accuracy", "accuracy_int8", "accuracy_int4"]
costs = ["bytes_fp32", "bytes_int8", "bytes_int4", "multiply_adds"]
means = images.groupby("arm")[[*forms, *costs]].mean().loc[list(edge_images.ARMS)]
half = 2.365 * images.groupby("arm")["accuracy"].std() / 8**0.5  # Student's t, seven degrees of freedom
means.insert(1, "± seeds", half)
report.table(means.astype(dict.fromkeys(costs, int)), percent=[*forms, "± seeds"])

# %%
print(experiments.provenance("edge_images")["command"], "·", images["seed"].nunique(), "seeds")
students = means.drop("teacher")
assert ((students["accuracy"] - students["accuracy_int8"]).abs() < 0.02).all()
assert means.loc["teacher", "bytes_int8"] < 0.4 * means.loc["teacher", "bytes_fp32"]
assert (students.filter(like="4 channels", axis=0)["bytes_int8"] > students["bytes_fp32"].min()).all()
print("int8 costs less than two points at every size: yes; the teacher's file shrinks to less than 40 %: yes")

# %% [markdown]
# **A text encoder.** Of the 22.7 million weights of [lesson 11's encoder](11_language_models.ipynb) half are word
# embeddings. Which half should be int8? A reader was fitted to the fp32 vectors of 1,000 sentences (do they praise?),
# and then reads the vectors of the others. ONNX Runtime's *dynamic* int8 needs no calibration: it looks at each
# activation's range as it goes.

# %% tags=["nbval-ignore-output"]
encoder = experiments.load("edge_encoder")
parts = encoder.groupby("arm")[["accuracy", "cosine", "bytes", "milliseconds"]].mean().loc[list(edge_encoder.ARMS)]
parts["megabytes"] = parts.pop("bytes") / 1e6
report.table(parts, percent=["accuracy"], caption="milliseconds of the processor for one sentence")

# %%
assert parts.loc["embeddings", "megabytes"] < 0.65 * parts.loc["fp32", "megabytes"]
assert parts.loc["both", "megabytes"] < 0.3 * parts.loc["fp32", "megabytes"]
assert parts.loc["layers", "milliseconds"] < 0.7 * parts.loc["fp32", "milliseconds"]
assert parts.loc["embeddings", "cosine"] > 0.995 > parts.loc["layers", "cosine"]
assert abs(parts.loc["both", "accuracy"] - parts.loc["fp32", "accuracy"]) < 0.03
print("each half saves about as many bytes; only the layers save time, and only they change the vectors: yes")

# %% [markdown]
# So: *bytes* from either half, *time* from the layers only. The embeddings are looked up, not multiplied; in int8 they
# are nearly free of harm.
#
# ## 4. Taught while it is rounded
#
# Rounding after training takes no training data and seconds. **Quantisation-aware training** goes on training with the
# rounding in place, so that the weights learn to live on the grid. And it needs no labels if it has a teacher: *the
# network itself, before rounding* (Apprentice, Polino et al., QKD; for language models NVIDIA 2026, who take the KL
# divergence alone at τ = 1). The loss is lesson 01's; nothing new is needed.

# %%
rounded = _edge.rounded(_edge.folded(BASE_SEED), bits=2)
model = _edge.rounding(_edge.folded(BASE_SEED), bits=2)  # LearnedStepSize on each weight, from where `rounded` ends
optimizer = torch.optim.AdamW(model.parameters(), lr=edge_tuning.chosen("2 bits", "teacher"), weight_decay=0.0)


def step_rounded(batch):
    inputs, teacher_logits = batch
    soft = soft_target_loss(model(inputs), teacher_logits, temperature=1.0)
    return {"loss": soft}


batches = lab.Batches(known.train_x, _edge.logits(BASE_SEED), batch_size=100, seed=BASE_SEED)
lab.fit(step_rounded, model, batches, optimizer, epochs=4)
before, after = (_edge.right(net)["accuracy"] for net in (rounded, model))
assert after > before + 0.02
print("2 bits, a few passes through the training set, no label: better than rounding after training: yes")

# %% [markdown]
# **Into a file.** What users trip over: exporters treat fake quantisation each in its own way, from refusing it to
# folding it into constants whose steps are lost. So leave plain fp32 weights on the grid, export those, and hand their
# steps to ONNX Runtime. Without the steps it lays a grid of its own over yours, and rounds a second time.

# %%
steps = _edge.settled(model)
path = edge.to_onnx(model, known.train_x[:2], FOLDER / "two-bits.onnx")
packed = edge.quantized(path, known.train_x[:500], FOLDER / "two-bits-int8.onnx", scales=steps)
said = edge.answers(packed, known.test_x)
same = (said.argmax(-1) == model(known.test_x).argmax(-1)).double().mean().item()
assert same > 0.95
level = model.get_submodule("features.conv2").weight / steps["features.conv2.weight"].view(-1, 1, 1)
print("the file agrees with the network on over 95 % of new signals: yes")
print("levels in use:", sorted({round(k) for k in level.flatten().tolist()}))

# %% [markdown]
# (ONNX knows no 2 bits: the file stores them as int8. Packed, the middle layers would take a quarter of that; that is
# how bytes are counted below. First and last layer keep 8 bits, as in Esser et al.)
#
# **The experiment**, 24 seeds. At 8, 4, 3 and 2 bits: after training; taught by labels; taught by itself unrounded. Its
# opponents: as many steps more without rounding, and a *narrower network in fp32 with as many bytes*, which learnt from
# the first step on, by labels or by the large network. Learning rates were chosen for each on other seeds and signals.

# %%
quantised = experiments.load("edge_quantised")
print(
    experiments.provenance("edge_quantised")["command"],
    "·",
    len(quantised),
    "runs,",
    quantised["seed"].nunique(),
    "seeds",
)
seed = BASE_SEED if BASE_SEED in set(quantised["seed"]) else 0
for arm in ("3 bits | teacher", "2 bits | teacher"):
    live = edge_quantised.run(seed, arm)
    kept = quantised.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.02  # other processors round differently
    print(f"{arm}: within two points of the stored run")

# %% tags=["nbval-ignore-output"]
columns = ["accuracy", "training_accuracy", "agreement", "bytes"]
found = quantised.groupby("arm")[columns].mean().loc[list(edge_quantised.ARMS)]
found["bytes"] = found["bytes"].astype(int)
report.table(found, percent=columns[:3])
at_fp32 = quantised[quantised["arm"].str.match(r"fp32$|\d bits")]
report.table(report.verdicts(at_fp32, baseline="fp32"))

# %%
ours = report.verdicts(at_fp32, baseline="fp32")["all seeds"]
accuracy = found["accuracy"]
assert ours["8 bits | after training"] == "no useful difference"
assert (ours[["3 bits | after training", "2 bits | after training"]] == "hurts").all()
for bits in (3, 2):
    rows = quantised[quantised["arm"].str.startswith(f"{bits} bits")]
    taught = report.verdicts(rows, baseline=f"{bits} bits | after training")["all seeds"]
    assert (taught == "helps").all()
print("8 bits after training: no useful difference from fp32; 3 and 2 bits after training hurt: yes")
print("at 3 and 2 bits teaching while it is rounded helps, by labels and by the teacher: yes")

# %% [markdown]
# **Labels or teacher?** And the opponents, each beside the rounded network of as many bytes:

# %% tags=["nbval-ignore-output"]
for bits in (8, 4, 3, 2):
    rows = quantised[quantised["arm"].isin([f"{bits} bits | labels", f"{bits} bits | teacher"])]
    report.comparison(lab.compare(rows, baseline=f"{bits} bits | labels", metric="accuracy"))
    rows = quantised[quantised["arm"].str.match(rf"narrow.* {bits} bits|{bits} bits . teacher")]
    report.comparison(lab.compare(rows, baseline=f"{bits} bits | teacher", metric="accuracy"))

# %%
for bits in (8, 4, 3, 2):
    rows = quantised[quantised["arm"].isin([f"{bits} bits | labels", f"{bits} bits | teacher"])]
    by_teacher = lab.compare(rows, baseline=f"{bits} bits | labels", metric="accuracy").loc[f"{bits} bits | teacher"]
    assert -0.01 < by_teacher["low"] < by_teacher["high"] < 0.01
    rows = quantised[quantised["arm"].str.match(rf"narrow.* {bits} bits|{bits} bits . teacher")]
    against = report.verdicts(rows, baseline=f"{bits} bits | teacher")["all seeds"]
    assert (against == "hurts").all()
    print(f"{bits} bits: labels and teacher within a point; better than every narrow network of its bytes: yes")

# %%
report.figure(
    _edge_front.drawn_bits(found),
    "accuracy over bytes: rounded networks that were taught stay near the level of fp32 down to 3 bits and fall a "
    "little at 2; after training they fall at 3 and deeply at 2; narrow fp32 networks lie below all taught ones",
)

# %% [markdown]
# - **8 bits: round, and be done.** After training there is no useful difference from fp32. At 4 bits some tenths of a
#   point are lost; teaching has no more than that to bring back.
# - **3 and 2 bits: teach.** After training 3 bits lose about two points, and 2 bits many; taught for 150 steps, where
#   the network itself had taken 500, they come back to within one point and two.
# - **The teacher is worth the labels, and no more**, at every number of bits: it knows what they know, for it learnt
#   from them. But it needs none. And where labels of the old kind are gone (a language model after instruction tuning
#   and reinforcement learning), NVIDIA report that it keeps what training on labels of one kind loses.
# - **Fewer bits beat fewer channels.** Each narrow fp32 network of as many bytes is worse, by one or two points at 8
#   bits and by more below; at 4 bits also if it takes four times the steps. Mind that these are bytes of packed
#   values: section 3 showed what a small file holds beside them, and that time is another matter.

# %%
fp32 = accuracy["fp32"]
assert lab.compare(at_fp32, baseline="fp32", metric="accuracy").loc["4 bits | after training", "low"] > -0.01
assert 0.01 < fp32 - accuracy["3 bits | after training"] < 0.05 < fp32 - accuracy["2 bits | after training"]
assert (accuracy[["3 bits | labels", "3 bits | teacher"]] > fp32 - 0.01).all()
assert (accuracy[["2 bits | labels", "2 bits | teacher"]] > fp32 - 0.02).all()
print("each number in these lines: yes")

# %% [markdown]
# ## 5. Prune, then distil
#
# The other way to a small network: take channels away from a large one. [Structured
# pruning](GLOSSARY.md#structured-pruning) leaves a plain narrow network, no mask and no special hardware. Which
# channels go? Those that matter least to the next layer: the factor of a channel's normalisation times the length of
# the weights that read it. What is left is damaged, and is taught again by the network that it was cut from: that is
# how small language models are made from large ones today (Muralidharan et al. 2024, NVIDIA's Minitron). In small: 8
# of 32 channels, a twelfth of the weights.

# %%
lab.show(_edge.importance)
narrow = _edge.pruned(_edge.large(BASE_SEED), 8)
print(models.count_parameters(narrow), "of", models.count_parameters(models.make("cnn1d-32")), "weights are left")

# %% [markdown]
# **The control** is the same narrow network, *begun anew*, with as many steps: by labels, by the teacher. And channels
# drawn at random instead of by importance. Three budgets; 24 seeds; learning rates tuned for each.

# %%
cut = experiments.load("edge_pruned")
print(experiments.provenance("edge_pruned")["command"], "·", len(cut), "runs,", cut["seed"].nunique(), "seeds")
seed = BASE_SEED if BASE_SEED in set(cut["seed"]) else 0
live, kept = edge_pruned.run(seed, "100 steps | pruned | teacher"), cut.query("seed == @seed").set_index("arm")
assert (
    abs(live["accuracy"] - kept.loc["100 steps | pruned | teacher", "accuracy"]) < 0.05
)  # few steps, and others round
print("100 steps, pruned, by the teacher: within five points of the stored run")

# %% tags=["nbval-ignore-output"]
columns = ["accuracy", "training_accuracy"]
after = cut.groupby("arm")[columns].mean().loc[list(edge_pruned.ARMS)]
report.table(after, percent=columns)
for steps in (100, 650, 2600):
    rows = cut[cut["arm"].str.startswith(f"{steps} steps")]
    report.comparison(lab.compare(rows, baseline=f"{steps} steps | anew | labels", metric="accuracy"))

# %%
for steps in (100, 650):
    rows = cut[cut["arm"].str.startswith(f"{steps} steps")]
    begun = report.verdicts(rows, baseline=f"{steps} steps | anew | labels")["all seeds"]
    assert (begun[[f"{steps} steps | pruned | labels", f"{steps} steps | pruned | teacher"]] == "helps").all()
    drawn = report.verdicts(rows, baseline=f"{steps} steps | random channels | teacher")["all seeds"]
    assert drawn[f"{steps} steps | pruned | teacher"] == "helps"
    by = lab.compare(rows, baseline=f"{steps} steps | pruned | labels", metric="accuracy")
    assert abs(by.loc[f"{steps} steps | pruned | teacher", "difference"]) < 0.015
    print(
        f"{steps} steps: pruned beats begun anew, by labels and by the teacher, and beats channels drawn at random: yes"
    )
lead = [after.loc[f"{n} steps | pruned | teacher"] - after.loc[f"{n} steps | anew | labels"] for n in (100, 650, 2600)]
assert lead[0]["accuracy"] > 0.08 > lead[1]["accuracy"] > lead[2]["accuracy"]
print("the lead shrinks as the steps grow: yes")

# %% [markdown]
# - **With few steps, prune.** After 100 of them what was pruned is ten points and more ahead of what began anew. At
#   first it knew little: most of its channels had been cut. But what is left of its weights is near to something.
# - **The lead shrinks with the steps**, to a few points at 650 and less at 2,600. So prune where a trained large
#   network is there and steps are dear; where a whole training costs little, it matters little.
# - **Importance counts:** the same number of channels drawn at random starts behind.
# - **Labels or teacher?** No difference that we would act on: both know the same signals.
#
# ## 6. A phone is not here
#
# All milliseconds above are of one processor of the machine that this notebook ran on. **Not measured:** a phone's or a
# microcontroller's time, its neural processor, energy, heat, memory while it runs, how long loading takes. Another
# processor moves the front. How to measure, with commands that were tried as far as a laptop goes:
#
# **An ONNX file on a device** that has Python (a Raspberry Pi, say): copy the file, `pip install onnxruntime`, and run
#
# ```python
# import time, numpy, onnxruntime
# options = onnxruntime.SessionOptions()
# options.intra_op_num_threads = 1
# run = onnxruntime.InferenceSession("teacher-int8.onnx", options)
# x = {run.get_inputs()[0].name: numpy.zeros((1, 1, 40), "float32")}
# taken = []
# for _ in range(210):
#     start = time.perf_counter()
#     run.run(None, x)
#     taken.append(time.perf_counter() - start)
# print(numpy.quantile(taken[10:], [0.5, 0.95]) * 1000)
# ```
#
# Tried here, on an ordinary processor. On Android and iOS the same file is read by ONNX Runtime's own packages: not
# tried.
#
# **ExecuTorch** is PyTorch's runtime for phones. `pip install executorch`, then
#
# ```python
# from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
# from executorch.exir import to_edge_transform_and_lower
# free = ({0: torch.export.Dim("batch", max=64)},)
# program = torch.export.export(edge.fold_batch_norm(teacher), (known.train_x[:2],), dynamic_shapes=free)
# lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
# open("teacher.pte", "wb").write(lowered.buffer)
#
# from executorch.runtime import Runtime
# method = Runtime.get().load_program("teacher.pte").load_method("forward")
# method.execute([known.test_x[:2]])
# ```
#
# Tried here with ExecuTorch 1.5.1 and a network of 16 channels: a file of 15 kB, and its answers are PyTorch's to six
# decimals. On the phone: `adb push` the file and ExecuTorch's runner, which prints the time per call. Not tried, for
# want of a phone.
#
# ## 7. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/14_edge.ipynb](solutions/14_edge.ipynb).

# %% [markdown] tags=["exercise"]
# **14.1 Predict.** `Conv2d(16, 32, 3)` and `Linear(32, 10)`, both with biases. The weights are stored as int8, with one
# step, a float of 4 bytes, for each output channel; the biases stay floats of 4 bytes. How many bytes is that?
#
# <details><summary>Hint</summary>Weights: 16 · 32 · 3 · 3 and 32 · 10. Output channels: 32 and 10; each has a step and
# a bias.</details>

# %% tags=["exercise"]
my_bytes = ...

# %% tags=["solution"]
my_bytes = 16 * 32 * 3 * 3 + 32 * 10 + 4 * (32 + 10) + 4 * (32 + 10)

# %% tags=["check"]
lab.check("14.1", my_bytes)

# %% [markdown] tags=["exercise"]
# **14.2 Build.** Fake quantisation with a sign: x any shape, `scale` a number, `bits` a whole number. Round x to the
# nearest of the levels from $-2^{b-1}$ to $2^{b-1} - 1$ times the scale; the gradient is 1 inside the clip and 0
# outside.
#
# <details><summary>Hint</summary>Divide, clamp, round, multiply. For the rounding: value + (rounded -
# value).detach().</details>


# %% tags=["exercise"]
def my_quantizer(x, scale, bits):
    raise NotImplementedError


# %% tags=["solution"]
def my_quantizer(x, scale, bits):
    v = (x / scale).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (v + (v.round() - v).detach()) * scale


# %% tags=["check"]
lab.check("14.2", my_quantizer)

# %% [markdown] tags=["exercise"]
# **14.3 Derive.** How does each rounded value $\hat x$ change with the step s? Straight through, the rounding error
# counts as a constant. Return $\partial \hat x / \partial s$ for each value, the shape of x: inside the clip, and
# beyond each of its ends. No autograd.
#
# <details><summary>Hint</summary>Inside, x̂ = s · (x/s + e) with e = round(x/s) - x/s a constant. Beyond the ends
# x̂ is s times the last level.</details>


# %% tags=["exercise"]
def my_slope(x, scale, bits):
    raise NotImplementedError


# %% tags=["solution"]
def my_slope(x, scale, bits):
    v = x / scale
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return torch.where(v < low, low, torch.where(v > high, high, v.round() - v))


# %% tags=["check"]
lab.check("14.3", my_slope)

# %% [markdown] tags=["exercise"]
# **14.4 Design.** N networks with `accuracy`, `size` in bytes and `milliseconds`, each (N,). Return a mask (N,): True
# for those that no other network beats, that is, for which no other is as good in all three and better in at least one.
#
# <details><summary>Hint</summary>`accuracy[:, None]` and `accuracy[None, :]` make a table of all pairs; `.all(dim=...)`
# and `.any(dim=...)` make rows of it.</details>


# %% tags=["exercise"]
def my_front(accuracy, size, milliseconds):
    raise NotImplementedError


# %% tags=["solution"]
def my_front(accuracy, size, milliseconds):
    costs = torch.stack([-accuracy, size, milliseconds], dim=-1)  # (N, 3), the less the better
    as_good = (costs[None, :] <= costs[:, None]).all(dim=-1)
    better = (costs[None, :] < costs[:, None]).any(dim=-1)
    return ~(as_good & better).any(dim=1)


# %% tags=["check"]
lab.check("14.4", my_front)

# %% [markdown]
# **Going further** (not checked): give the step of each channel of the teacher to `LearnedStepSize` at 2 bits and train
# it on the squared error of the weights alone: does it find the step of "mse"? (A test says: within 5 % of its error.)

# %%
lab.quiz("14")

# %% [markdown]
# ## 8. When to use what, and when not
#
# **First, 8 bits after training.** It takes seconds and some hundred inputs without labels; measure the accuracy of the
# file, not of what you believe is in it. **Below 4 bits, teach while it is rounded**, by the network before rounding if
# you have no labels. **A narrow network** where a call is so short that bits can't make it shorter. **Prune** where a
# trained large network is there and steps are dear.
#
# **When not:** fewer bits than the processor can multiply (they are unpacked first, and it takes longer); files of a
# few kilobytes, which grow; embeddings, if it is time that you want; any of it before you measured on the device.
#
# **Cost:** calibration is one pass over some hundred inputs. Teaching while rounded is training, here for 150 steps
# where the network had 500; each pass also rounds the weights.
#
# **Copy it:** `python -m kdref copy quantization` writes one file that needs only torch. `kdref/lab/edge/` writes and
# measures files.
#
# **Further reading:** [Krishnamoorthi 2018](https://arxiv.org/abs/1806.08342), what every integer network does;
# [Gholami et al. 2021](https://arxiv.org/abs/2103.13630), a survey.
#
# **Next lesson:** [15 · Fidelity](15_fidelity.ipynb) asks whether a student copies its teacher at all.
