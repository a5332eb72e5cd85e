# %% [markdown]
# # 17 · Scale-out
#
# **Is a student trained on several processes the same student, and what must one do so that it is?**
#
# **You will be able to**
#
# - say which losses stay right under [data parallelism](GLOSSARY.md#data-parallelism), and what the others need;
# - run the same `step` on two processes, and prove that it gives one process's weights;
# - recognise three published ways to get it wrong, two of which no value of the loss betrays;
# - foretell what the exchange of gradients costs, and how large a teacher's stored outputs get;
# - store them once, killed and resumed; and write the command for four GPUs or two machines.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb); sections 1, 2 and 5 of [lesson 05](05_relation_based.ipynb) for losses
# over pairs.
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the sections marked *in depth*; {seconds}
# seconds to run on one thread. The notebook starts other processes for some seconds; it leaves none behind.
#
# **Files:** `kdref/lab/training/`: `gather.py`, `scale.py`, `storing.py`, `stored.py`, `fit.py`;
# `kdref/lab/store_teacher.py`; `kdref/lab/experiments/scale_out_batches.py` (the long experiment).
#
# **Papers:** [Goyal et al. 2017](https://arxiv.org/abs/1706.02677) (large batches), [Li et al.
# 2020](https://arxiv.org/abs/2006.15704) (PyTorch's DDP), [Chen et al. 2020](https://arxiv.org/abs/2002.05709) (SimCLR:
# contrast on many devices), [Anshumann et al. 2025](https://arxiv.org/abs/2503.16870) (stored teachers).

# %% tags=["setup"]
import functools
import itertools
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from kdref import lab
from kdref.lab import data, experiments, models, report
from kdref.lab.exercises.lesson_17 import SETTINGS
from kdref.lab.experiments import (
    _scale_out,
    _scale_out_processes,
    _scale_out_teacher,
    scale_out_batches,
    scale_out_batches_beyond,
)
from kdref.lab.report import style
from kdref.lab.training import gather
from kdref.lab.training.launch import torchrun
from kdref.lab.training.scale import Processes
from kdref.lab.training.stored import StoredOutputs
from kdref.lab.training.storing import store
from kdref.lab.widgets.scale_out import communication_explorer, communication_figure, cost
from kdref.language import sampled_teacher, sparse_teacher
from kdref.relation import info_nce_loss, rkd_distance_loss
from kdref.soft_targets import soft_target_loss

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. A mean can be shared, a table of pairs can't
#
# **[Data parallelism](GLOSSARY.md#data-parallelism):** W processes (one for each GPU, as a rule) hold the same student.
# Each takes its share of the batch, B/W examples, and computes a loss and its gradient; then all take the *mean of the
# gradients*, and the same step. If the loss is a mean over examples, nothing is lost, as long as the shares are equal:
#
# $$L = \frac1B \sum_{i} \ell_i = \frac1W \sum_{w=1}^{W} \Big( \frac{W}{B} \sum_{i \in w} \ell_i \Big)$$
#
# $\ell_i$ is the term of one example, and $i \in w$ runs over those of process $w$. What stands in brackets is the
# *local* loss. A loss over pairs, such as RKD's or SP's, is a mean over B² terms $\ell_{ij}$. Of these the processes
# have only the pairs *inside* their shares, W · (B/W)² = B²/W: **one in W.** With 64 GPUs, 1.6 % of the table. The mean
# of local losses is another loss.
#
# **By hand.** A batch of four on two processes. The student puts the examples on a line at 0, 1, 2 and 3, and the
# teacher's all have the same distance. Whole batch: distances 1, 1, 1, 2, 2, 3, their mean 5/3, so 0.6 three times,
# 1.2 twice, 1.8; the teacher's are 1. RKD's distance loss is $2 \cdot \tfrac12 (3 \cdot 0.4^2 + 2 \cdot 0.2^2 +
# 0.8^2)/16$ = 0.075. On each process there is *one* distance, divided by its own mean: 1. So is the teacher's, and the
# loss is 0, **whatever the student does**. Soft targets don't mind:

# %%
line, even = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.eye(4)
for name, loss, parts in (
    ("RKD distance", rkd_distance_loss, (line, even)),
    ("InfoNCE", functools.partial(info_nce_loss, temperature=1.0), (1 + line * even, even)),
    ("soft targets", soft_target_loss, (1 + line * even, even)),
):
    whole, local = loss(*parts).item(), _scale_out.mean_of_shares(loss, 2, *parts).item()
    print(f"{name}: whole batch {whole:.3f}, mean of two halves {local:.3f}")
lab.show(_scale_out.mean_of_shares)

# %% [markdown]
# Three things more are no mean over examples of what depends on one example:
#
# - **a count in the denominator** (labels of -100, a mask of tokens): shares have different counts (exercise 17.1);
# - **a statistic of the batch** (BatchNorm): each share is normalised by its own;
# - **a memory** (CRD): it must take in the rows of all processes.
#
# ## 2. Gather, with a gradient
#
# The cure: before the loss, **[gather](GLOSSARY.md#gather)** what goes into it, $X = (x_1, \dots, x_W)$, so that every
# process has the rows of all and computes the whole batch's loss. In the backward pass each gets for its rows the *sum*
# of what all processes' losses say of them. These are W equal losses, and DDP's mean divides by W: the gradient is that
# of one process with the whole batch. **Scale nothing.**

# %%
lab.show(gather.gather_with_gradient)
lab.show(gather.Gather)

# %% [markdown]
# The training, written once. `processes.student` wraps the student so that gradients are averaged
# (**[DDP](GLOSSARY.md#ddp)**), `processes.share` cuts this process's rows out of each batch, and `gather` is a choice.
# `step` and `fit` are the usual ones.

# %%
lab.show(_scale_out_processes.train)
LOSSES = _scale_out_processes.LOSSES
with Processes(accelerator="cpu") as one:
    alone = {name: _scale_out_processes.train(one, loss, gather=torch.nn.Identity()) for name, loss in LOSSES.items()}
print(f"on {one.count} process:", ", ".join(alone))

# %% [markdown]
# Now on two processes of this machine, as `torchrun --standalone --nproc-per-node 2 -m ...` starts them. They talk
# through **[gloo](GLOSSARY.md#gloo)**, torch's messenger for processors. Each loss is trained in three ways:
# *gathered*; *local*, nothing gathered; *no gradient*, where the rows of the others are constants and the own rows are
# put back.

# %%
lab.show(_scale_out_processes.main)
with tempfile.TemporaryDirectory() as folder:
    torchrun("kdref.lab.experiments._scale_out_processes", Path(folder, "found.pt"), processes=2)
    found = torch.load(Path(folder, "found.pt"))
print("back from two processes:", ", ".join(name for name in found if name in LOSSES))

# %%
off = {}
for name, how in itertools.product(LOSSES, _scale_out_processes.GATHERINGS):
    one, two = alone[name], found[name][how]
    error = max(((one[what] - two[what]).norm() / one[what].norm()).item() for what in ("gradient", "weights"))
    length = (two["gradient"].norm() / one["gradient"].norm()).item()
    along = F.cosine_similarity(one["gradient"], two["gradient"], dim=0).item()
    off[name, how] = error, length, along
    verdict = "equal to one process" if error < 1e-6 else "not equal"
    print(f"{name}, {how}: {verdict}")

# %%
assert max(off[name, "gathered"][0] for name in LOSSES) < 1e-12
assert off["soft targets", "local"][0] < 1e-12
assert min(off[name, "local"][0] for name in LOSSES if name != "soft targets") > 0.05
for name in LOSSES:
    _, length, along = off[name, "no gradient"]
    print(f"{name}, no gradient: direction {along:.4f}, length {length:.4f} of one process's")

# %% [markdown]
# - **Gathered: equal,** first gradient and weights after five steps, to rounding (the cell asks for 10⁻¹² in float64).
# - **Local: the mean over examples is equal, the others are not:** the first gradient differs by 5 % of its length and
#   more.
# - **Without gradient** the value of the loss is right on every process, and the gradient points the right way, half
#   as long: 1/W. A log of losses does not show it. Adam divides a gradient by its size, so *alone* such a loss trains
#   as it should; beside cross-entropy it has 1/W of the weight that you set, and loses influence with every GPU.
#
# ## 3. Ways to get it wrong, as published
#
# | what is done | what comes out | seen in |
# |:---|:---|:---|
# | local losses over pairs, averaged | another loss: one pair in W | mRASP2 [1]; SupContrast's thread [2] warns |
# | gathered without gradient, own rows put back | 1/W of the gradient | OpenGait [3], open_clip [4] |
# | gathered, each takes its own loss's gradient | 1/W, if each computes the whole loss | lightly [5] |
# | gathered with gradient, and the loss times W | W times the gradient | likely, with [3]'s or [6]'s factor |
# | shares made equal by duplicates | some examples count twice | torch's DistributedSampler, by design |
#
# Threads: [\[1\]](https://github.com/PANXiao1994/mRASP2/issues/11),
# [\[2\]](https://github.com/HobbitLong/SupContrast/issues/26),
# [\[3\]](https://github.com/ShiqiYu/OpenGait/issues/36) (it multiplies by W, which mends it),
# [\[4\]](https://github.com/mlfoundations/open_clip/issues/616),
# [\[5\]](https://github.com/lightly-ai/lightly/issues/1528) (mended since),
# [\[6\]](https://github.com/texttron/tevatron/issues/143) (asks whether its factor W is right: it is, as it gathers
# like [3]; it would not be with a gradient).
#
# Each stands as an exhibit in the museum ([lesson 15](15_fidelity.ipynb)), with the test that must notice it. Here
# `processes.share` *refuses* a batch that can't be shared equally.
#
# **Which losses of lessons 01 to 05 need gathering?** A test trains every one of them on one, two and three processes:
#
# | lesson | right as it is | gather |
# |:---|:---|:---|
# | 01 | soft targets, KL, `distillation_loss` | with labels of -100 |
# | 02 | logit matching, DKD, NKD, smoothing, standardised logits | DIST: it correlates a class over the batch |
# | 03 | hints, OFD, VID, FSP, NST, CWD, factors | ReviewKD and SimKD: a BatchNorm in what they train |
# | 04 | maps, scores, relations of tokens | scores with a mask |
# | 05 | CRD, if its memory is given all rows | RKD, SP, CC, PKT, InfoNCE |
#
# [The whole table](../docs/data-parallel.md) says how far off each is. Without gathering, SP's weights were further
# away from the right ones than these had moved.
#
# ## 4. Does it matter?
#
# Another loss need not be a worse one. The task is lesson 05's retrieval: the teacher gives embeddings of signals, no
# logits; it was trained on six classes, and *recall* is the share of signals of the four *other* classes whose nearest
# neighbour is of their class. Eight epochs with a [global batch](GLOSSARY.md#global-batch) of 32 signals, by RKD
# (distances and angles) or InfoNCE:
#
# - **32**: one process, or several that gather;
# - **4 x 8**: four processes with 8 signals each that don't: 7 negatives instead of 31, a quarter of the pairs, a
#   sixteenth of the triples that RKD takes angles of;
# - **labels, 32**: no teacher, the supervised contrast of lesson 05.
#
# Learning rate and temperature were chosen on signals and seeds of their own. The two seeds differ there by more than
# neighbouring settings do, so all have one rate, and a loss has one temperature, whole and shared; beside it the table
# has each one's *own best*; where that is another, it was not run on the 24 seeds (labels' rate and the temperature of
# InfoNCE, 32 are the smallest tried). One process computes what four would (`mean_of_shares` above); first the proof,
# with section 2's two. The margin is 1 point.

# %%
with Processes(accelerator="cpu") as one:
    for name, loss in LOSSES.items():
        halves = functools.partial(_scale_out.mean_of_shares, loss, 2)
        alike = _scale_out_processes.train(one, halves, gather=torch.nn.Identity())
        assert (alike["weights"] - found[name]["local"]["weights"]).norm() < 1e-10
print("one process with the mean of two halves ends with the weights of two that gather nothing: yes")

# %%
lab.show(_scale_out.taught)
runs = experiments.load("scale_out_batches")
print(experiments.provenance("scale_out_batches")["command"], "·", runs["seed"].nunique(), "seeds")
seed = BASE_SEED if BASE_SEED in set(runs["seed"]) else 0
for arm in ("InfoNCE, 32", "InfoNCE, 4 x 8"):
    kept = runs.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(scale_out_batches.run(seed, arm)["accuracy"] - kept["accuracy"]) < 0.03
    print(f"{arm}: within three points of the stored run")

# %% tags=["nbval-ignore-output"]
columns = ["accuracy", "recall_at_5", "training_accuracy", "rate", "temperature"]
means = runs.groupby("arm")[columns].mean().loc[list(scale_out_batches.ARMS)]
means.columns = ["recall at 1", "at 5", "at 1, known classes", "rate", "temperature"]
own = [scale_out_batches_beyond.given(arm) for arm in means.index]
means["own best"] = [f"{settings.rate:g}, {settings.temperature:g}" for settings in own]
report.table(means, percent=list(means)[:3], caption="recall on new classes, on the signals trained on, and settings")
pairs = {name: runs[runs["arm"].str.startswith(name)] for name in ("RKD", "InfoNCE")}
for name, rows in pairs.items():
    report.comparison(lab.compare(rows, baseline=f"{name}, 32", metric="accuracy"), metric="recall at 1")
    report.table(report.verdicts(rows, baseline=f"{name}, 32"))
report.table(report.verdicts(runs, baseline="labels, 32"), caption="recall at 1: verdicts against labels")

# %%
with style.new_figure(9, 3.8, columns=2) as (figure, axes):
    for ax, (name, rows) in zip(axes, pairs.items(), strict=True):
        recall = rows.pivot(index="arm", columns="seed", values="accuracy")
        places = [arm.partition(", ")[2] for arm in recall.index]
        ax.plot(places, recall, color="#bbbbbb", linewidth=1)
        ax.plot(places, recall.mean(axis=1), "o-", color=style.COLORS[0], label="mean of 24 seeds")
        ax.axhline(means.loc["labels, 32", "recall at 1"], color="black", linestyle="--", label="labels, mean")
        ax.set(title=name, ylim=(0.4, 1))
        style.percent_axis(ax.yaxis)
    axes[0].set_ylabel("recall at 1, new classes")
    axes[1].legend(loc="lower left")
report.figure(
    figure,
    "recall of each of 24 seeds with the whole batch and with four shares, joined by a line; the mean falls a little "
    "for InfoNCE and hardly for RKD, and stays above that of labels; seeds differ by far more",
)

# %%
shared = {}
for metric in ("accuracy", "training_accuracy"):
    for name, rows in pairs.items():
        verdicts = report.verdicts(rows, baseline=f"{name}, 32", metric=metric)
        shared[name, metric] = verdicts.loc[f"{name}, 4 x 8", "all seeds"]
assert shared["InfoNCE", "accuracy"] == "hurts"
assert shared["RKD", "accuracy"] == "undecided"
assert shared["InfoNCE", "training_accuracy"] == shared["RKD", "training_accuracy"] == "hurts"
assert (report.verdicts(runs, baseline="labels, 32")["all seeds"] == "helps").all()
print("new classes: InfoNCE on shares falls behind the whole batch: yes; RKD is not told apart from it: yes")
print("known classes: both fall behind: yes; all four students are ahead of labels: yes")

# %% [markdown]
# - **InfoNCE loses three points** of recall on new classes when each process looks among 8 partners instead of 32 (the
#   interval: 0.7 to 5.4; two groups of eight seeds say so by themselves, one is undecided).
# - **RKD is not told apart:** 0.6 points less, anything from 3.4 less to 2.1 more, and undecided in each group. A
#   part of the pairs, others in each step, may be enough.
# - **On the classes they learned from both fall behind:** 4.0 points (RKD) and 1.8 (InfoNCE). After eight epochs no
#   student has fitted these fully, so shares may just learn more slowly; longer training was not tried.
# - **Shared or not,** the teacher is worth 4.5 to 8.5 points over labels, all at one rate: labels' own best is
#   another.
# - **What holds in any case:** without gathering the loss changes with W. Who goes from four GPUs to eight, with the
#   same global batch, trains by another loss, and weight and temperature were tuned for the one before. The loss's
#   value does not tell: 7 negatives are an easier question than 31, so it is lower.
#
# ## 5. What the exchange costs
#
# The gradient of P parameters in float32 has 4 P bytes. To sum it over W processes (an
# **[all-reduce](GLOSSARY.md#all-reduce)**) arranged in a ring, each sends
#
# $$2 \, \frac{W - 1}{W} \cdot 4 P \text{ bytes}$$
#
# (it sends W - 1 parts of W while sums are formed, and as many while they are handed round; [NVIDIA's
# notes](https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md)). The batch is not in it. Computing grows
# with the batch, so **small batches pay most**. Measured in section 2 on two processes here: a network of 301,066
# parameters, the quickest of some steps with the exchange and without. One laptop's memory is no network: only the
# ratio of the two, and its course, mean something.

# %% tags=["nbval-ignore-output"]
measured = found["seconds"]
shares = {size: max(0.0, 1 - times["alone"] / times["exchanged"]) for size, times in measured.items()}
with style.new_figure(6.4, 3.8) as (figure, (ax,)):
    ax.plot(list(shares), list(shares.values()), "o-", color=style.COLORS[0])
    ax.set_xscale("log", base=2)
    ax.set(xlabel="examples per process and step", ylabel="share of the step", ylim=(-0.02, 1.02))
    style.percent_axis(ax.yaxis)
report.figure(
    figure,
    "share of a step that two processes spend on exchanging gradients: more than half for 4 examples each, little for "
    "1,024 each",
)

# %%
assert shares[4] > shares[1024]
print("the exchange takes a larger share of a step with 4 examples than with 1,024: yes")

# %% [markdown]
# **By hand.** A language model of 10⁸ parameters on W = 8 processes, joined by Ethernet of 10 Gbit/s, 1.25 · 10⁹ bytes
# a second. Each sends 2 · 7/8 · 4 · 10⁸ = 7 · 10⁸ bytes: 0.56 s. Forward and backward take about 6 operations per
# parameter and token: with 8,192 tokens each, and 10¹⁴ operations a second, 0.049 s. **92 % of the step is waiting.**
# DDP exchanges the last layers' gradients while it still computes the first ones' (Li et al. 2020): at best all of the
# backward pass, two thirds of the computing, hides some of it.

# %%
by_hand = cost(1e8, 8192, processes=8, bandwidth=1.25e9)
print(f"computing {by_hand.compute:.3f} s, exchanging {by_hand.exchange:.2f} s: {by_hand.share:.0%} of the step,")
print(f"{by_hand.hidden:.0%} where the backward pass hides what it can")
report.figure(
    communication_figure(8.0, 13, 3, "Ethernet, 10 Gbit/s"),
    "share of the step spent on exchanging, falling as tokens per process grow: 92 per cent at 8,192 tokens, below a "
    "tenth at a million; hidden behind the backward pass it reaches zero from some hundred thousand on",
)

# %% [markdown]
# Move it: at which batch does your network stop being the limit? And what changes when W goes from 2 to 1,024?

# %%
communication_explorer()

# %% [markdown]
# <details><summary>Answer</summary>At the start both take as long at 93,000 tokens, however large the network: P is in
# both. And W changes hardly anything: (W - 1)/W goes from ½ to 1, so from 2 processes to 1,024 the bytes
# that each sends double. (The rounds grow with W; for small networks waiting for each counts too.)</details>
#
# The larger batch is another training, though: *examples per process times W* is the
# [global batch](GLOSSARY.md#global-batch). For SGD, Goyal et al. (2017) raise the learning rate with it, with a slow
# start, and kept ImageNet's accuracy up to 8,192 images; a rule of thumb, to be tuned for you.
#
# **And gathering?** B rows of D numbers: 1,024 × 512 in float32 are 2 MB, where the gradient above has 400. Every
# process computes all B × B pairs, W times one process's work: at B = 32,768 the table alone has 4.3 GB. Then take the
# own rows against all columns (exercise 17.2).
#
# ## 6. Ask the teacher once
#
# A teacher is often the dearest part of a step, and says the same in every epoch. `python -m kdref.lab.store_teacher`
# runs it once over the data, on as many processes as you like, and writes files
# (**[shards](GLOSSARY.md#shard)**), each whole or not at all. On two processes, one of which dies at example 600; then
# the same command again:

# %%
MODULE = _scale_out_teacher.__name__
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name, "outputs")
command = ["--teacher", f"{MODULE}:teacher", "--to", folder, "--shard-size", 125, "--device", "cpu"]
try:
    torchrun("kdref.lab.store_teacher", *command, "--data", f"{MODULE}:examples_until_a_power_cut")
except RuntimeError:
    print("killed; all 8 shards there:", "yes" if len(list(folder.glob("*.safetensors"))) == 8 else "no")
before = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
torchrun("kdref.lab.store_teacher", *command, "--data", f"{MODULE}:examples")
kept = all(path.stat().st_mtime_ns == when for path, when in before.items())
print("again; all 8 shards there:", "yes" if len(list(folder.glob("*.safetensors"))) == 8 else "no")
print("those that were there have been left alone:", "yes" if kept else "no")

# %% [markdown]
# Each process loses one shard at most. On the command line it is `torchrun --standalone --nproc-per-node 2 -m
# kdref.lab.store_teacher --teacher mine:teacher --data mine:train --to outputs`, with two functions in your `mine.py`.
# What is stored knows whose it is: a hash of teacher, data and tokeniser stands in every file.

# %%
images, examples = _scale_out_teacher.images(), _scale_out_teacher.examples()
stored = StoredOutputs(folder, data=examples)
said = _scale_out_teacher.teacher()(images[17:18])[0]
assert torch.allclose(stored[17]["logits"], said, atol=1e-5)
print(len(stored), "examples; number 17 is what the teacher says:", tuple(stored[17]["logits"].shape))
for what, teacher, inputs in (
    ("another teacher", _scale_out_teacher.teacher(seed=3), examples),
    ("other data", _scale_out_teacher.teacher(), images.flip(0)),
):
    try:
        store(teacher, inputs, folder, shard_size=125)
    except ValueError as refused:
        print(f"{what}: refused,", str(refused).split(" holds ")[1])

# %% [markdown]
# ### How much of it?
#
# A vocabulary is large. Lesson 19's two short forms: the **top k** words and the mass of all others
# (`sparse_teacher`), or k **samples** (`sampled_teacher`), unbiased. An index takes 4 bytes, a logarithm in float16 2,
# and so does the tail. Here 2,000 "words", k = 20, in bytes for each example:

# %%
half = {"dtype": torch.float16}
top = {"pack": functools.partial(sparse_teacher, k=20), "names": ["indices", "log_probs", "tail_log_mass"]}
drawn = {"pack": functools.partial(sampled_teacher, k=20), "names": ["indices", "log_weights"]}
forms = {
    "all, float32": (4 * 2000, {}),
    "all, float16": (2 * 2000, half),
    "top 20": (20 * 6 + 2, half | top),
    "20 samples": (20 * 6, half | drawn),
}
for number, (form, (expected, settings)) in enumerate(forms.items()):
    here = Path(scratch.name, str(number))
    store(_scale_out_teacher.teacher(), images, here, **settings)
    size = sum(path.stat().st_size for path in here.glob("*.safetensors")) / len(images)
    assert expected < size < expected + 3  # headers
    large = expected * (64 if form.startswith("all") else 1)  # bytes a token with 128,000 words
    print(f"{form}: {expected:,} bytes an example; 10⁹ tokens of 128,000 words: {large / 1000:,.2f} TB")

# %%
stored16 = StoredOutputs(Path(scratch.name, "1"))
assert 0 < stored16.errors["logits"] < 1e-3
scratch.cleanup()
print("what float16 changes stands in the header; here less than a thousandth: yes")

# %% [markdown]
# Stored outputs are of the very inputs that were run: no crops, no mixed images, no text of the student's own. A text's
# padding is never stored; put together in a batch, missing entries are word -1 with probability 0, never word 0
# (`StoredOutputs.padded`).
#
# ## 7. A long training
#
# A training of days is interrupted. And the batch that you want may not fit. `fit` knows three things for it:
#
# - **[accumulate](GLOSSARY.md#gradient-accumulation)**: add the gradients of k batches before a step, for a mean over
#   examples the gradient of one batch k times as large. **Not** for pairs: those between the batches are missing, as
#   they are between processes; and BatchNorm sees each by itself.
# - **[clip_norm](GLOSSARY.md#gradient-clipping)**: shorten a gradient that is too long. The *whole* gradient: after the
#   mean over processes, over all parameters.
# - **[checkpoint](GLOSSARY.md#checkpoint)**: weights, optimizer, schedule, random states and the place in the data, so
#   that the same command goes on *to the same result, bit for bit*.

# %%
scratch = tempfile.TemporaryDirectory()
images, teacher = data.digits(BASE_SEED).train_x, _scale_out_teacher.teacher(words=10)
told = lab.teacher_outputs(teacher, images)


def run_long(seed, arm):
    student = models.make("mlp-32", shape=(1, 8, 8), seed=seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.01)
    batches, number = lab.Batches(images, told, batch_size=20, seed=seed), itertools.count(1)

    def step(batch):
        if arm == "killed" and next(number) == 70:
            raise KeyboardInterrupt
        x, t = batch
        return {"loss": soft_target_loss(student(x), t)}

    how = {"accumulate": 2, "clip_norm": 1.0, "checkpoint_every": 10}
    file = Path(scratch.name, "at once.pt" if arm == "at once" else "killed.pt")
    return lab.fit(step, student, batches, optimizer, epochs=3, checkpoint=file, **how)[-1]


# %%
at_once = run_long(BASE_SEED, "at once")
try:
    run_long(BASE_SEED, "killed")
except KeyboardInterrupt:
    print("interrupted in batch 70 of 150")
again = run_long(BASE_SEED, "the same command again")
ends = [torch.load(Path(scratch.name, f"{name}.pt"), weights_only=True)["modules"][0] for name in ("at once", "killed")]
same = all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
scratch.cleanup()
assert same
assert at_once == again
print("the same weights and the same rows as at once, bit for bit: yes")

# %% [markdown]
# ### The same command elsewhere
#
# ```
# python train.py                                                  # one process: tried
# torchrun --standalone --nproc-per-node 2 train.py                # two on a laptop: tried, with gloo
# torchrun --standalone --nproc-per-node 4 train.py                # four GPUs: not tried
#
# torchrun --nnodes 2 --nproc-per-node 4 --rdzv-id 1 \
#     --rdzv-backend c10d --rdzv-endpoint FIRST:29500 train.py     # two machines, on each of them: not tried
#
# srun --nodes 2 --ntasks-per-node 1 --gpus-per-node 4 \
#     torchrun --nnodes 2 --nproc-per-node 4 --rdzv-id JOB \
#     --rdzv-backend c10d --rdzv-endpoint FIRST:29500 train.py     # Slurm: not tried
# ```
#
# In Slurm's file JOB is `$SLURM_JOB_ID`, and FIRST, the first machine's name,
# `$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)`.
#
# We had no GPU, no NCCL (the messenger between GPUs), no second machine and no Slurm: what is *not tried* is written as
# PyTorch's and Slurm's manuals have it. `train.py` is [docs/scale.md](../docs/scale.md)'s: `with Processes() as
# processes:`, then what section 2 showed. Three rules: seed the order of the data *alike* on all processes, dropout
# may differ; `batch_size` is that of all together; the checkpoint lies on a disk that all see.

# %% [markdown]
# ### Half the bits, and a student in parts (in depth)
#
# `Processes(precision="bf16-mixed")` keeps weights in float32 and multiplies in bfloat16: no scaling of the loss, which
# float16 would need. `Processes(sharded=True)` is **FSDP2**: each process holds 1/W of the student's weights, gradients
# and optimizer, puts a layer together when it is called, and drops it again; about half as much again is sent. The
# *teacher* is sharded the same way: it has no gradient, DDP refuses it (so whole teachers stay unwrapped), and for
# large pairs it is what does not fit. Tests hold a sharded training equal to one process on two processors, and
# bfloat16 near it. **On GPUs both are untried.**

# %% [markdown]
# ## 8. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/17_scale_out.ipynb](solutions/17_scale_out.ipynb).

# %% [markdown] tags=["exercise"]
# **17.1 Build** the mean over unequal shares: `means` (W,) are the local mean losses, `counts` (W,) the examples of
# each process.
#
# <details><summary>Hint</summary>A mean times its number of examples is a sum.</details>


# %% tags=["exercise"]
def my_mean(means, counts):
    raise NotImplementedError


# %% tags=["solution"]
def my_mean(means, counts):
    return (means * counts).sum() / counts.sum()


# %% tags=["check"]
lab.check("17.1", my_mean)

# %% [markdown] tags=["exercise"]
# **17.2 Build** half of InfoNCE for own rows: `student` (B, D) are this process's embeddings, `teacher_all` (W · B, D)
# the gathered ones of all processes, in the order of `rank` 0, 1, ... The mean over own rows of the cross-entropy of
# finding the partner among all W · B, by cosines divided by `temperature`.
#
# <details><summary>Hint</summary>F.normalize, a product, F.cross_entropy. Which column is the partner of row i on
# process `rank`?</details>


# %% tags=["exercise"]
def my_info_nce(student, teacher_all, rank, temperature):
    raise NotImplementedError


# %% tags=["solution"]
def my_info_nce(student, teacher_all, rank, temperature):
    cosines = F.normalize(student, dim=1) @ F.normalize(teacher_all, dim=1).mT
    partners = rank * len(student) + torch.arange(len(student))
    return F.cross_entropy(cosines / temperature, partners)


# %% tags=["check"]
lab.check("17.2", my_info_nce)

# %%
for letter, words in SETTINGS.items():
    print(f"{letter}: {words}")

# %% [markdown] tags=["exercise"]
# **17.3 Decide.** Which of these seven settings takes the same first step as one process with a batch of 64, and what
# do the others have? A dictionary of seven letters to "equal", "another loss", "1/W of the gradient" or "other
# statistics".
#
# <details><summary>Hint</summary>What does an example's term depend on, and what does the loss divide by?</details>

# %% tags=["exercise"]
my_verdicts = ...

# %% tags=["solution"]
my_verdicts = {
    "A": "equal",
    "B": "equal",
    "C": "equal",
    "D": "another loss",
    "E": "1/W of the gradient",
    "F": "other statistics",
    "G": "another loss",
}

# %% tags=["check"]
lab.check("17.3", my_verdicts)

# %% [markdown] tags=["exercise"]
# **17.4 Design.** A teacher has 128,000 words, your text 10⁹ tokens, your disk 240 GB for them. You keep the top k: an
# index of 4 bytes and a logarithm in float16 for each, and the tail's log mass in float16, once a token. How large may
# k be?
#
# <details><summary>Hint</summary>Bytes for each token first; then what one word takes, and what is there
# once.</details>

# %% tags=["exercise"]
my_k = ...

# %% tags=["solution"]
my_k = (240 - 2) // 6  # 240 bytes a token

# %% tags=["check"]
lab.check("17.4", my_k)

# %% [markdown]
# **Going further** (not checked): add the other half of InfoNCE (teacher rows, student columns) to 17.2. Which of the
# two needs a gradient through gathering, and why?

# %%
lab.quiz("17")

# %% [markdown]
# ## 9. When to use more processes, and when not
#
# **Use data parallelism** when the student fits one device and a step is long beside the exchange: large local batches,
# a fast network. Means over examples need nothing else. **Gather, with a gradient,** what goes into RKD, SP, CC, PKT,
# DIST and InfoNCE, if you want the training that you tuned on one process. **Store the teacher** when the student sees
# the same inputs often, or several students do. **Shard** what does not fit.
#
# **When not:** on a slow network with small batches (section 5's eight processes take 0.61 s for what one device does
# in 8 · 0.049 = 0.39 s); for a hyper-parameter search, where W trainings of their own need no exchange at all. Do not
# store a teacher for augmented images, or for text that the student writes.
#
# **The check that costs a minute:** one batch, float64, one process against two: is the *gradient* equal to 10⁻⁶? An
# equal loss proves nothing.
#
# **Cost:** 2 (W - 1)/W · 4 P bytes a step for each process, and for gathering little more. Stored outputs: one run of
# the teacher, and the disk.
#
# **Copy it:** `kdref/lab/training/gather.py` needs only torch. The losses: `python -m kdref copy relation`.
#
# **Further reading:** [Zhao et al. 2023](https://arxiv.org/abs/2304.11277) on FSDP; [the page on
# scale](../docs/scale.md), with the whole of `train.py`.
#
# **Next lesson:** [18, choose your method](18_choose_your_method.ipynb): which of all these, for your case?
