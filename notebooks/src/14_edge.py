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
# - take a network out of PyTorch, in fp32 and in int8, and measure how far it still says the same;
# - measure accuracy, bytes, milliseconds and multiply-adds together, and draw the Pareto front;
# - choose between fewer bits, fewer channels and a new small network by what was measured.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb), and packages that no other lesson needs: ONNX, ONNX Runtime, torchao.
# `make course` installs them; elsewhere `python -m pip install "kdref[edge]"` does.
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the section marked *in depth*; {seconds}
# seconds to run on one thread.
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

import pandas as pd
import torch

from kdref import lab, quantization
from kdref.lab import edge, experiments, models, report
from kdref.lab.experiments import (
    _edge,
    _edge_front,
    edge_encoder,
    edge_images,
    edge_longer,
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
print("packages of kdref[edge]:", edge.missing() or "installed")

# %% [markdown]
# ## 1. Fewer bits
#
# A weight is a float of 32 bits (fp32). [**Quantisation**](GLOSSARY.md#quantisation) puts it on a grid: a whole number
# $k$ of $b$ bits, times a step $s$ that many weights share. Eight bits are a quarter of the bytes, and some processors
# multiply whole numbers faster than floats.
#
# $$\hat x = s\, k, \quad k = \mathrm{round}\big(\mathrm{clip}(x / s,\, -Q_N,\, Q_P)\big), \quad Q_N = 2^{b-1},\; Q_P =
# 2^{b-1} - 1$$
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
on_grid = fake_quantize(x, 0.25, bits=2)
on_grid.sum().backward()
print("rounded: ", on_grid.tolist())
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
# `calibrated_scale` finds that step, $\arg\min_s \sum (\hat x - x)^2$, by trying a hundred; for all weights, or one for
# each output channel (`dim=0`), as here, where the picture has one for the layer:

# %%
lost = {}
for bits in (8, 4, 3, 2):
    for method in ("max", "mse"):
        step = calibrated_scale(layer.weight, bits=bits, method=method, dim=0)
        error = fake_quantize(layer.weight, step, bits=bits, dim=0) - layer.weight
        lost[bits, method] = (error.square().sum() / layer.weight.square().sum()).item()
    print(f"{bits} bits: {lost[bits, 'max']:.2%} of the weights' square is lost, at best {lost[bits, 'mse']:.2%}")
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
# sum is 1, over $\sqrt{N Q_P} = \sqrt{3 \cdot 1}$: 0.577. $N$ counts the three values that pass, not the four that the
# step began from.
#
# ## 2. Out of PyTorch
#
# A phone has no Python. A network leaves PyTorch in three steps: `torch.export` records its operations, `torch.onnx`
# writes them to a file in a format that many runtimes read, and a runtime loads it. Ours is ONNX Runtime, on one
# thread. Our large network: three convolutions of 32 channels and a linear layer, 6,826 weights, taught for 500 steps
# on MNIST-1D, the signals of [lesson 02](02_response_based.ipynb).

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
# Batch normalisation is gone: in eval mode it is a factor and a constant, and these were multiplied into the weights of
# the convolution before it.
#
# **Static int8.** ONNX Runtime rounds weights per channel, and activations too: a few hundred inputs, without labels,
# show it the range of each. That is called [calibration](GLOSSARY.md#calibration-of-ranges), and has nothing to do with
# the calibration of lesson 15.

# %%
int8 = edge.quantized(path, known.train_x[:500], FOLDER / "teacher-int8.onnx")
plain, whole = (edge.answers(file, known.test_x) for file in (path, int8))
same = (plain.argmax(-1) == whole.argmax(-1)).double().mean().item()
assert same > 0.94
assert edge.file_bytes(int8) < 0.6 * edge.file_bytes(path)
print("the int8 file chooses the same class for over 94 % of new signals: yes; it has less than 60 % of the bytes: yes")

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
# targets at τ = 2), with one learning rate that was not tuned for each. Each becomes three files: fp32, int8, and
# weights of 4 bits with activations of 8. **This table is your machine's**: [latency](GLOSSARY.md#latency) is the
# median and the 95th percentile of 200 calls on one thread, for one signal and for 32. The interval is for the accuracy
# of these very networks, from 4,000 signals; another seed would give other networks.

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
small = [f"{width} channels, {how}" for width in (4, 8, 12) for how in ("alone", "distilled")]
assert (size.loc[small, "int8"] > size.loc[small, "fp32"]).all()
assert size.loc["teacher", "4 bits"] < size.loc["teacher", "int8"] < 0.6 * size.loc["teacher", "fp32"]
ratio = size.loc["16 channels, alone", "int8"] / size.loc["16 channels, alone", "fp32"]
assert 0.8 < ratio < 1.2
assert (right["fp32"] - right["int8"]).mean() < 0.02
assert (right["fp32"] - right["4 bits"]).mean() > 0.005
multiply_adds = table.groupby("network")["multiply-adds"].first()
assert multiply_adds["teacher"] > 40 * multiply_adds["4 channels, alone"]
print("on average int8 costs less than two points: yes; 4 bits after training cost more than half a point: yes")
print("in int8 files of 4, 8 and 12 channels are larger than in fp32, of 16 about even, the teacher's smaller: yes")

# %% tags=["nbval-ignore-output"]
report.figure(
    _edge_front.drawn(table, {"bytes": "bytes on disk", "ms, 1": "milliseconds, one signal"}),
    "accuracy over bytes on disk and over milliseconds, both logarithmic, for fp32, int8 and 4 bits, with the Pareto "
    "front as a staircase: small networks are on it in fp32, the teacher in int8 as well",
)

# %% [markdown]
# The staircase is the [**Pareto front**](GLOSSARY.md#pareto-front): the files for which no other is at least as good in
# both, and better in one. What lies off it by more than the intervals is not worth its price, in these two numbers;
# within them, being on or off is partly luck.

# %%
best = table[edge.front(table, cost="bytes", gain="accuracy")]
assert ("teacher", "int8") in set(zip(best["network"], best["form"], strict=True))
assert not (best["network"].str.startswith(("4", "8")) & (best["form"] != "fp32")).any()
print("on the front of bytes: the teacher in int8: yes; any int8 file of 4 or 8 channels: no")

# %% [markdown]
# - **A file is more than its weights.** Each rounding is a mark in the file, of some hundred bytes. Here that costs
#   more than the weights save up to 12 channels (7 kB in fp32); at 16 (10 kB) it is about even.
# - **Fewer bits need not be quicker.** Compare the columns of your own table. With one signal much of the time is
#   probably spent on calling. 4 bits save bytes, not time, where the processor has no such arithmetic: they are
#   unpacked first.
# - **Multiply-adds are no milliseconds.** The teacher has over forty times those of 4 channels; measure before you
#   believe either.
# - **One network of each kind shows no effect.** What lies between alone and distilled may be luck of the first
#   weights.
#
# **On images**, stored: students on mnist5k, 1,000 steps, teacher `mnist5k-cnn2d-32` (one network). Eight seeds, rate
# and τ not tuned: described, not judged. Those of 4 channels have not fitted their images.

# %% tags=["nbval-ignore-output"]
images = experiments.load("edge_images")
forms = ["training_accuracy", "accuracy", "accuracy_int8", "accuracy_int4"]
costs = ["bytes_fp32", "bytes_int8", "bytes_int4", "multiply_adds"]
of_images = images.groupby("arm")[[*forms, *costs]].mean().loc[list(edge_images.ARMS)]
half = 2.365 * images.groupby("arm")["accuracy"].std() / 8**0.5  # Student's t, seven degrees of freedom
shown = of_images.astype(dict.fromkeys(costs, int))
shown.insert(2, "± seeds", [f"{100 * width:.1f}" for width in half.loc[of_images.index]])
shown.loc["teacher", "± seeds"] = "one network"
shown.columns = shown.columns.str.replace("_", " ")
report.table(shown, percent=[form.replace("_", " ") for form in forms])

# %%
print(experiments.provenance("edge_images")["command"], "·", images["seed"].nunique(), "seeds")
assert ((of_images["accuracy"] - of_images["accuracy_int8"]).abs() < 0.02).all()
assert of_images.loc["teacher", "bytes_int8"] < 0.4 * of_images.loc["teacher", "bytes_fp32"]
tiny = of_images.loc[["4 channels | alone", "4 channels | distilled"]]
assert (tiny["bytes_int8"] > tiny["bytes_fp32"]).all()
print("int8 costs less than two points at every size: yes; the teacher's file shrinks to less than 40 %: yes")
assert (tiny["training_accuracy"] < 0.85).all()
assert (of_images["accuracy"] - of_images["accuracy_int4"] > 0.02).all()
print("the files of 4 channels grow in int8: yes; 4 bits after training cost more than two points at every size: yes")

# %% [markdown]
# Their time is again your machine's. It hangs on sizes, not on what the weights are, so untrained networks of these
# widths stand in for the stored ones; each has the stored accuracy of the distilled student.

# %%
pictures, rows = edge_images.known()[1].train_x[:64], []
for width in (4, 8, 12, 16, 32):
    arm = "teacher" if width == 32 else f"{width} channels | distilled"
    network = models.make(f"cnn2d-{width}", shape=(1, 28, 28), seed=0).eval()
    plain = edge.to_onnx(network, pictures[:2], FOLDER / "i.onnx")
    for form, ending, bits in (("fp32", "", 32), ("int8", "_int8", 8), ("4 bits", "_int4", 4)):
        path = plain if bits == 32 else edge.quantized(plain, pictures, FOLDER / f"i{bits}.onnx", bits=bits)
        row = {"network": arm.replace(" |", ","), "form": form, "accuracy": of_images.loc[arm, f"accuracy{ending}"]}
        row["bytes"] = int(of_images.loc[arm, f"bytes_{form if bits > 4 else 'int4'}"])
        for size in (1, 32):
            found = _edge_front.timed(path, pictures[:size], 100)
            row |= {f"ms, {size}": found.median, f"p95, {size}": found.p95}
        rows.append(row)
timed = pd.DataFrame(rows)
print(len(timed), "files timed")

# %% tags=["nbval-ignore-output"]
report.table(timed, percent=["accuracy"], decimals=3, caption="milliseconds, images of 28 × 28")
report.figure(
    _edge_front.drawn(timed, {"bytes": "bytes on disk", "ms, 1": "milliseconds, one image"}),
    "accuracy over bytes on disk and over milliseconds for students of four sizes on images and their teacher, in "
    "fp32, int8 and 4 bits, with the front as a staircase",
)

# %%
assert timed[[column for column in timed if column.startswith("ms")]].gt(0).all(axis=None)
on_front = timed[edge.front(timed, cost="bytes", gain="accuracy")]
assert ("teacher", "fp32") in set(zip(on_front["network"], on_front["form"], strict=True))
print("the most accurate file is on the front of bytes, as it must be: yes")

# %% [markdown]
# **A text encoder.** Of the 22.7 million weights of [lesson 11's encoder](11_language_models.ipynb) half are
# embeddings, of words, positions and types. Which half pays? A linear classifier was fitted to the fp32 vectors of
# 1,000 sentences (does the sentence praise?), and then reads the vectors of 1,000 others; a seed draws which. ONNX
# Runtime's *dynamic* int8 needs no calibration: it looks at each activation's range as it goes. So in the layers
# weights and activations are rounded, in the embeddings weights only.

# %% tags=["nbval-ignore-output"]
encoder = experiments.load("edge_encoder")
parts = encoder.groupby("arm")[["accuracy", "cosine", "bytes", "milliseconds"]].mean().loc[list(edge_encoder.ARMS)]
parts["megabytes"] = parts.pop("bytes") / 1e6
report.table(parts, percent=["accuracy"], caption="milliseconds of the processor for one sentence, measured once")
report.comparison(lab.compare(encoder, baseline="fp32", metric="accuracy"))

# %%
assert parts.loc["embeddings", "megabytes"] < 0.65 * parts.loc["fp32", "megabytes"]
assert parts.loc["both", "megabytes"] < 0.3 * parts.loc["fp32", "megabytes"]
assert parts.loc["layers", "milliseconds"] < 0.7 * parts.loc["fp32", "milliseconds"]
assert parts.loc["embeddings", "milliseconds"] > 0.8 * parts.loc["fp32", "milliseconds"]
assert parts.loc["embeddings", "cosine"] > 0.995 > parts.loc["layers", "cosine"]
assert abs(parts.loc["both", "accuracy"] - parts.loc["fp32", "accuracy"]) < 0.03
assert lab.compare(encoder, baseline="fp32", metric="accuracy").loc["embeddings", "verdict"] == "no useful difference"
print("each half saves about as many bytes; the layers save most of the time, and they change the vectors: yes")

# %% [markdown]
# So: *bytes* from either half, most of the *time* from the layers (once, on one processor with int8 units; on yours it
# may differ). The embeddings are looked up, not multiplied; in int8 they make no useful difference to the classifier.
# Whether int8 layers cost it half a point is undecided, and we did not try which of their two roundings it would be.
#
# ## 4. Taught while it is rounded
#
# Rounding weights after training takes seconds and no data. **Quantisation-aware training** goes on training with the
# rounding in place, so that the weights learn to live on the grid. Apprentice, Polino et al. and QKD gave rounded
# students a teacher in fp32, usually a larger one, beside the labels. NVIDIA 2026 let *the network itself, before
# rounding* teach, by the KL divergence alone at τ = 1, without labels; so do we. Labels and teacher together are not
# tried here.

# %%
untaught = _edge.rounded(_edge.folded(BASE_SEED), bits=2)
model = _edge.rounding(_edge.folded(BASE_SEED), bits=2)  # LearnedStepSize on each weight, from where `untaught` is
optimizer = torch.optim.AdamW(model.parameters(), lr=edge_tuning.chosen("2 bits", "teacher"), weight_decay=0.0)


def step_rounded(batch):
    inputs, teacher_logits = batch
    soft = soft_target_loss(model(inputs), teacher_logits, temperature=1.0)
    return {"loss": soft}


batches = lab.Batches(known.train_x, _edge.logits(BASE_SEED), batch_size=100, seed=BASE_SEED)
lab.fit(step_rounded, model, batches, optimizer, epochs=4)
shares = [_edge.right(network)["accuracy"] for network in (untaught, model)]
assert shares[1] > shares[0] + 0.02
print("2 bits, a few passes through the training set, no label: better than rounding after training: yes")

# %% [markdown]
# **Into a file.** What users trip over: exporters treat fake quantisation each in its own way, from refusing it to
# folding it into constants whose steps are lost. So leave plain fp32 weights on the grid, export those, and hand their
# steps to ONNX Runtime. Without the steps it lays a grid of its own over yours, and rounds a second time.

# %%
learnt = _edge.settled(model)
plain_file = edge.to_onnx(model, known.train_x[:2], FOLDER / "two-bits.onnx")
packed = edge.quantized(plain_file, known.train_x[:500], FOLDER / "two-bits-int8.onnx", scales=learnt)
said = edge.answers(packed, known.test_x)
same = (said.argmax(-1) == model(known.test_x).argmax(-1)).double().mean().item()
assert same > 0.93
level = model.get_submodule("features.conv2").weight / learnt["features.conv2.weight"].view(-1, 1, 1)
print("the file agrees with the network on over 93 % of new signals: yes")
print("levels in use:", sorted({round(k) for k in level.flatten().tolist()}))

# %% [markdown]
# Not on all of them: the file rounds activations too. (ONNX Runtime's quantiser writes 8 and 4 bits, so the file stores
# 2 bits as int8; below, bytes are counted as packed.)
#
# **The experiment**, 24 seeds. At 8, 4, 3 and 2 bits: after training; taught by labels; taught by itself unrounded.
# Here only weights are rounded, activations stay floats; the first and the last layer keep 8 bits, as in Esser et al.;
# and the step is that of least error. Section 3's 4-bit files round every layer, by its largest weight, and activations
# to 8 bits: they lost more.
#
# The opponents: as many steps more without rounding, and a *narrower network in fp32 with as many bytes*, which learnt
# from the first step on, by labels or by the large network; at 4, 3 and 2 bits also with four times the steps. Learning
# rates were chosen on other seeds and signals for 4 and 2 bits, 17 and 10 channels; their neighbours and longer runs
# use the same.

# %%
quantised, longer = experiments.load("edge_quantised"), experiments.load("edge_longer")
for name, runs in (("edge_quantised", quantised), ("edge_longer", longer)):
    print(experiments.provenance(name)["command"], "·", len(runs), "runs,", runs["seed"].nunique(), "seeds")
seed = BASE_SEED if BASE_SEED in set(quantised["seed"]) else 0
for arm, within in (("3 bits | teacher", 0.01), ("2 bits | teacher", 0.02)):
    live = edge_quantised.run(seed, arm)
    kept = quantised.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < within  # other processors round differently
    print(f"{arm}: within {within:.0%} of the stored run")

# %% tags=["nbval-ignore-output"]
means = quantised.groupby("arm")[["accuracy", "training_accuracy", "agreement", "bytes"]].mean()
means = means.loc[list(edge_quantised.ARMS)].astype({"bytes": int})
report.table(means, percent=["accuracy", "training_accuracy", "agreement"])
later = longer.groupby("arm")[["accuracy", "training_accuracy"]].mean().loc[list(edge_longer.ARMS)]
report.table(later, percent=["accuracy", "training_accuracy"])

# %%
assert quantised["seed"].nunique() == longer["seed"].nunique() == 24
assert means["accuracy"].drop("2 bits | after training").min() > 0.85
print("all arms over 24 seeds; only rounding to two bits after training falls below 85 %: yes")

# %% [markdown]
# **Against fp32**, and against rounding after training:

# %% tags=["nbval-ignore-output"]
HOW = ("after training", "labels", "teacher")
more = ["fp32, more steps | labels", "fp32, more steps | teacher"]
rounded_arms = [f"{bits} bits | {how}" for bits in (8, 4, 3, 2) for how in HOW]
at_fp32 = quantised[quantised["arm"].isin(["fp32", *more, *rounded_arms])]
against_fp32 = lab.compare(at_fp32, baseline="fp32", metric="accuracy")
report.comparison(against_fp32)
report.table(report.verdicts(at_fp32, baseline="fp32"))

# %%
ours = report.verdicts(at_fp32, baseline="fp32")["all seeds"]
for arm in ("fp32, more steps | labels", "8 bits | after training", "4 bits | teacher"):
    assert ours[arm] == "no useful difference"
    print(f"{arm}: no useful difference from fp32")
for bits in (4, 3, 2):
    assert ours[f"{bits} bits | after training"] == "hurts"
    print(f"{bits} bits | after training: hurts")
assert against_fp32.loc["4 bits | after training", "low"] > -0.01
for bits, most in ((3, 0.01), (2, 0.02)):
    taught = against_fp32.loc[[f"{bits} bits | labels", f"{bits} bits | teacher"]]
    assert (taught["verdict"] == "hurts").all()
    assert (taught["low"] > -most).all()
print("the loss stays within a point: 4 bits after training, 3 bits taught; within two: 2 bits taught")

# %%
for bits in (4, 3, 2):
    rows = quantised[quantised["arm"].isin([f"{bits} bits | {how}" for how in HOW])]
    taught = report.verdicts(rows, baseline=f"{bits} bits | after training")["all seeds"]
    assert (taught == "helps").all()
    print(f"{bits} bits: teaching while it is rounded helps, by labels and by the teacher: yes")

# %% [markdown]
# **Labels or teacher?** And the opponents, each beside the rounded network of as many bytes:

# %% tags=["nbval-ignore-output"]
everything = pd.concat([quantised, longer])
by_teacher, against = {}, {}
for bits in (8, 4, 3, 2):
    ours, narrow_arms = f"{bits} bits | teacher", f"narrow, bytes of {bits} bits"
    rows = quantised[quantised["arm"].isin([f"{bits} bits | labels", ours])]
    by_teacher[bits] = lab.compare(rows, baseline=f"{bits} bits | labels", metric="accuracy")
    opponents = [f"{narrow_arms}{long} | {by}" for long in ("", ", longer") for by in ("labels", "teacher")]
    against[bits] = everything[everything["arm"].isin([ours, *opponents])]
    report.comparison(by_teacher[bits])
    report.comparison(lab.compare(against[bits], baseline=ours, metric="accuracy"))

# %%
for bits in (8, 4, 3, 2):
    assert by_teacher[bits].loc[f"{bits} bits | teacher", "verdict"] == "no useful difference"
    assert (report.verdicts(against[bits], baseline=f"{bits} bits | teacher")["all seeds"] == "hurts").all()
    print(f"{bits} bits: labels or teacher, no useful difference; every narrow network of its bytes is worse: yes")

# %%
report.figure(
    _edge_front.drawn_bits(means, later),
    "accuracy over bytes: rounded networks that were taught stay near the level of fp32 down to 3 bits and lose about "
    "a point at 2; after training they fall at 3 and deeply at 2; narrow fp32 networks lie below all taught ones, with "
    "four times the steps (hollow) less far below",
)

# %% [markdown]
# - **8 bits: round, and be done.** After training there is no useful difference from fp32. At 4 bits, with steps of
#   least error and 8 bits at both ends, some tenths of a point are lost, and teaching brings most of them back.
# - **3 and 2 bits: teach.** After training 3 bits lose about two points, and 2 bits many. Taught for 150 steps, where
#   the network itself had taken 500, 3 bits lose less than half a point and 2 bits about one: the table still says
#   *hurts*. As many steps more without rounding make no useful difference by labels, and bring some tenths of a point
#   by the teacher: it is not the steps that bring back what rounding took.
# - **The teacher alone is worth the labels**, at every number of bits, at τ = 1 and on the signals that it learnt from.
#   But it needs none. Not tried: signals without labels, which it could answer and labels can't. Language models go
#   through several trainings whose data and rewards can't be replayed; there, NVIDIA report, the network before
#   rounding teaches stably where training on labels does not.
# - **If it must say the same, leave it alone.** At 8 bits the network agrees with itself unrounded less after teaching
#   than before.
# - **Fewer bits beat fewer channels.** Each narrow fp32 network of as many bytes is worse: at equal steps by one or two
#   points at 8 bits and by three and more below. But the narrow ones had not fitted the training signals. With four
#   times the steps the gap at 4 bits shrinks to between one and two points, and at 3 and 2 bits to between two and
#   three; at 8 bits we did not look. Mind that these are bytes of packed values: section 3 showed what a small file
#   holds beside them, and that time is another matter.

# %%
accuracy, agreement = means["accuracy"], means["agreement"]
assert 0.01 < accuracy["fp32"] - accuracy["3 bits | after training"] < 0.05
assert accuracy["fp32"] - accuracy["2 bits | after training"] > 0.1
assert min(accuracy[["3 bits | labels", "3 bits | teacher"]]) > accuracy["fp32"] - 0.005
assert (agreement[["8 bits | labels", "8 bits | teacher"]] < agreement["8 bits | after training"] - 0.005).all()
narrow8 = accuracy[["narrow, bytes of 8 bits | labels", "narrow, bytes of 8 bits | teacher"]]
assert narrow8.between(accuracy["8 bits | teacher"] - 0.02, accuracy["8 bits | teacher"] - 0.01).all()
for bits in (4, 3, 2):
    assert accuracy[f"narrow, bytes of {bits} bits | teacher"] < accuracy[f"{bits} bits | teacher"] - 0.03
gap = {bits: accuracy[f"{bits} bits | teacher"] - later["accuracy"][arm] for arm, bits in edge_longer.BITS.items()}
assert 0.02 < min(gap.values()) <= max(gap.values()) < 0.03
for by in ("labels", "teacher"):
    assert 0.01 < accuracy["4 bits | teacher"] - accuracy[f"narrow, bytes of 4 bits, longer | {by}"] < 0.02
assert 0.001 < accuracy["fp32, more steps | teacher"] - accuracy["fp32"] < 0.004
regained = accuracy[["4 bits | labels", "4 bits | teacher"]] - accuracy["4 bits | after training"]
assert min(regained) > 0.5 * (accuracy["fp32"] - accuracy["4 bits | after training"])
print("what teaching brings back, agreement, and what narrow networks lack, as said: yes")

# %% [markdown]
# ## 5. Prune, then distil
#
# The other way to a small network: take channels away from a large one. [Structured
# pruning](GLOSSARY.md#structured-pruning) leaves a plain narrow network, no mask and no special hardware. Which
# channels go? Those that matter least to the next layer: the factor of a channel's normalisation times the length of
# the weights that read it,
#
# $$I_c = |\gamma_c| \cdot \|W_c\|$$
#
# What is left is damaged, and is taught again by the network that it was cut from. Some small language models are made
# so from large ones (Muralidharan et al. 2024, NVIDIA's Minitron; they take importance from *activations* on a few
# inputs). In small: 8 of 32 channels, a twelfth of the weights.

# %%
lab.show(_edge.importance)
lab.show(_edge.pruned)
narrow = _edge.pruned(_edge.large(BASE_SEED), 8)
print(models.count_parameters(narrow), "of", models.count_parameters(models.make("cnn1d-32")), "weights are left")

# %% [markdown]
# **By hand.** Two channels with factors -2 and 1. What reads the first is 3 and 4, of length 5; what reads the second
# is 7. So their importance is 10 and 7.

# %%
two = models.make("cnn1d-2")
two.get_submodule("features.norm1").weight.data = torch.tensor([-2.0, 1.0])
reader = torch.zeros(2, 2, 3)  # channels out, channels in, places
reader[:, 0, 0], reader[1, 1, 2] = torch.tensor([3.0, 4.0]), 7.0
two.get_submodule("features.conv2").weight.data = reader
print("importance:", _edge.importance(two, 1).tolist())

# %% [markdown]
# **The control** is the same narrow network, *begun anew*, with as many steps: by labels, by the teacher. And channels
# drawn at random instead of by importance. Three budgets; 24 seeds. Learning rates were tuned at 100 and 650 steps;
# 2,600 steps use those of 650, random channels those of the pruned.

# %%
cut = experiments.load("edge_pruned")
print(experiments.provenance("edge_pruned")["command"], "·", len(cut), "runs,", cut["seed"].nunique(), "seeds")
seed = BASE_SEED if BASE_SEED in set(cut["seed"]) else 0
arm = "100 steps | pruned | teacher"
live, kept = edge_pruned.run(seed, arm), cut.query("seed == @seed and arm == @arm").iloc[0]
assert abs(live["accuracy"] - kept["accuracy"]) < 0.04  # few steps, and other processors round differently
print("100 steps, pruned, by the teacher: within four points of the stored run")

# %% tags=["nbval-ignore-output"]
after = cut.groupby("arm")[["accuracy", "training_accuracy"]].mean().loc[list(edge_pruned.ARMS)]
report.table(after, percent=["accuracy", "training_accuracy"])
STARTS = ("pruned | labels", "pruned | teacher", "random channels | teacher", "anew | labels", "anew | teacher")
budgets = {n: cut[cut["arm"].isin([f"{n} steps | {start}" for start in STARTS])] for n in (100, 650, 2600)}
for n, runs in budgets.items():
    report.comparison(lab.compare(runs, baseline=f"{n} steps | anew | labels", metric="accuracy"))
    report.comparison(lab.compare(runs, baseline=f"{n} steps | pruned | labels", metric="accuracy"))

# %%
for n, runs in budgets.items():
    for by in ("labels", "teacher"):
        anew = report.verdicts(runs, baseline=f"{n} steps | anew | {by}")["all seeds"]
        assert (anew[[f"{n} steps | pruned | labels", f"{n} steps | pruned | teacher"]] == "helps").all()
    taught = lab.compare(runs, baseline=f"{n} steps | pruned | labels", metric="accuracy")["verdict"]
    assert taught[f"{n} steps | pruned | teacher"] == "no useful difference"
    print(f"{n} steps: pruned beats begun anew: yes; pruned, labels or teacher: no useful difference")
for n in (100, 650):
    drawn = report.verdicts(budgets[n], baseline=f"{n} steps | random channels | teacher")["all seeds"]
    assert drawn[f"{n} steps | pruned | teacher"] == "helps"
    assert (drawn[[f"{n} steps | anew | labels", f"{n} steps | anew | teacher"]] == "hurts").all()
    print(f"{n} steps: drawn at random beats begun anew: yes; by importance beats drawn at random: yes")

# %%
share = after["accuracy"]
lead = [share[f"{n} steps | pruned | teacher"] - share[f"{n} steps | anew | labels"] for n in budgets]
assert lead[0] > 0.15
assert 0.08 > lead[1] > 0.03 > lead[2] > 0.01
drawn = share["100 steps | random channels | teacher"] - share["100 steps | anew | labels"]
assert drawn > 0.5 * lead[0]
assert share["650 steps | anew | labels"] > share["100 steps | pruned | teacher"] + 0.03
assert share["pruned, not taught"] < 0.2
print("the lead shrinks as the steps grow: yes; more than half of it at 100 steps is there with channels drawn: yes")
print("650 steps anew are better than 500 as a large network and 100 pruned: yes")

# %% [markdown]
# - **If the large network is there and steps are few, prune.** After 100 steps what was pruned is far ahead of what
#   began anew. Untaught it is near chance, but it learns again fast.
# - **The lead shrinks with the steps**, to about five points at 650 and less than three at 2,600, where it still
#   *helps*. And the pruned network had 500 steps as a large one: count these, and 650 steps anew are better than 500
#   and 100. Prune where the large network is there anyway.
# - **Importance counts, and is not all.** Channels drawn at random end behind those chosen, after 100 and 650 steps,
#   but well before what began anew: most of the lead at 100 steps is in the inherited weights as such.
# - **Labels or teacher?** For what was pruned no useful difference, at any budget: both know the same signals.
#
# ## 6. A phone is not here
#
# All milliseconds above but the encoder's are of one processor of the machine that this notebook ran on. **Not
# measured:** a phone's or a microcontroller's time, its neural processor, energy, heat, memory while it runs, how long
# loading takes. Another processor moves the front, and may move accuracy too: older x86 processors without VNNI can
# clip sums of int8 products unless asked not to (`edge.session` asks). So measure the file's accuracy on the device as
# well.

# %% [markdown]
# ### How to measure there (in depth)
#
# Commands that were tried as far as a laptop goes.
#
# **An ONNX file on a device** that has Python (a Raspberry Pi, say): copy the file (it lies in `FOLDER`: print it),
# `pip install onnxruntime`, and run
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
# **ExecuTorch** is PyTorch's runtime for phones. `pip install executorch`, then in this notebook
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
# Tried here with ExecuTorch 1.5.1, on a network of 16 channels in place of the teacher: a file of 15 kB, and its
# answers are PyTorch's to six decimals. On the phone, with ExecuTorch's runner built for it; not tried, for want of a
# phone:
#
# ```
# adb push teacher.pte executor_runner /data/local/tmp/
# adb shell /data/local/tmp/executor_runner --model_path /data/local/tmp/teacher.pte
# ```

# %% [markdown]
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
# **14.2 Recall.** Fake quantisation with a sign: x any shape, `scale` a number, `bits` a whole number. Round x to the
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
# **14.3 Build.** Which channels stay? `factor` (C,) of a normalisation with C channels, `reader` (O, C, K), the weights
# of the next convolution, `count` a whole number. Return the numbers of the `count` most important channels, shape
# (count,), the smallest number first.
#
# <details><summary>Hint</summary>`reader[:, c]` holds all weights that read channel c. `topk` gives the numbers in the
# order of importance.</details>


# %% tags=["exercise"]
def my_channels(factor, reader, count):
    raise NotImplementedError


# %% tags=["solution"]
def my_channels(factor, reader, count):
    importance = factor.abs() * reader.square().sum(dim=(0, 2)).sqrt()
    return importance.topk(count).indices.sort().values


# %% tags=["check"]
lab.check("14.3", my_channels)

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
# **Going further** (not checked): derive how the squared error $\sum (\hat x - x)^2$ changes with the step, straight
# through. Which values push the step down, and which up? Then give the step of each channel of the teacher to
# `LearnedStepSize` at 2 bits and train it on that error alone: does it find the step of "mse"?

# %%
lab.quiz("14")

# %% [markdown]
# ## 8. When to use what, and when not
#
# **First, 8 bits after training.** It takes seconds and some hundred inputs without labels; measure the accuracy of the
# file. **Below 4 bits, and at 4 where the runtime rounds all layers by the largest weight, teach while it is rounded**,
# by the network before rounding if you have no labels. **A narrow network** where a call is so short that bits can't
# make it shorter. **Prune** where a trained large network is there and steps are few.
#
# **When not:** fewer bits than the processor can multiply (they are unpacked first, and that takes time); files of a
# few kilobytes, which grow; embeddings, if it is time that you want; teaching, where the network must go on saying the
# same; any of it before you measured on the device.
#
# **Cost:** calibration is one pass over some hundred inputs. Teaching while rounded is training, here 150 steps after
# 500; each pass also rounds the weights.
#
# **Copy it:** `python -m kdref copy quantization` writes one file that needs only torch. `kdref/lab/edge/` writes and
# measures files.
#
# **Further reading:** [Krishnamoorthi 2018](https://arxiv.org/abs/1806.08342), what every integer network does;
# [Gholami et al. 2021](https://arxiv.org/abs/2103.13630), a survey.
#
# **Next lesson:** [15 · Fidelity](15_fidelity.ipynb) asks whether a student copies its teacher at all.
