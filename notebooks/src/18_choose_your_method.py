# %% [markdown]
# # 18 · Choose your method
#
# **Of all these methods, which one for your student, your data and your budget?**
#
# **You will be able to**
#
# - read a comparison of many losses, and say what its ranking is worth elsewhere;
# - look up what the course found for a case like yours, with its evidence and the command that copies the code;
# - set up a comparison on your own data that you would believe if somebody else had made it;
# - end it with a verdict and a card.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb); the other lessons as the table sends you there.
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/lab/experiments/choose_*.py` (the benchmark), `kdref/lab/course/choices/` (the recommendations, as
# data), `examples/` (scripts for your own model and data).
#
# **Papers:** [Tian et al. 2020](https://arxiv.org/abs/1910.10699), whose table most later ones extend; [Beyer et al.
# 2022](https://arxiv.org/abs/2106.05237), on what budgets hide.

# %% tags=["setup"]
import tempfile
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import t as student_t

from kdref import lab
from kdref.lab import data, experiments, models, report
from kdref.lab.course import choices
from kdref.lab.course.card import distillation_card
from kdref.lab.course.choices import case_of, rows
from kdref.lab.course.choices.cases import ADVICE, CASES
from kdref.lab.experiments import choose_side_by_side, choose_signals
from kdref.lab.experiments._choose_grids import climbed
from kdref.lab.widgets.choose import chooser, recommended
from kdref.soft_targets import distillation_loss, soft_target_loss

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. The rules of a comparison
#
# Lessons 01 to 05 tried their losses in the case that each was made for. Here 27 of them meet, and each loss from
# inside the network twice: *alone*, added to cross-entropy, and *with soft targets*. Three students, two tasks:
# `cnn1d-8` has 500 signals of MNIST-1D and a teacher of its own family that learned from all 4,000; `mlp-100x100` has
# the same, and is of another family, without maps; `cnn2d-8` has 200 images of MNIST, and a teacher that learned from
# 3,000.
#
# A comparison of many is easily won by whoever was tuned most, trained longest, or lucky. So:
#
# - **Enough [budget](GLOSSARY.md#budget).** Labels alone must fit their examples; whether that is enough, section 2
#   asks.
# - **Equal tuning.** Every arm, labels alone too, tries three settings on validation data, with three seeds of its own.
#   Where the best is at an end of the list, the list grows, until the best lies inside or the last step gained less
#   than half a point. Losses on logits then tune weight decay in the same way.
# - **Paired seeds**, 24, drawn anew for the report; the last epoch on test data.
# - **Intervals widened** for the number of arms ([Bonferroni](GLOSSARY.md#bonferroni-correction)). With $d$ the
#   differences of $n$ seeds, $\bar d$ their mean, $s$ their deviation, and $k$ arms that meet the baseline:
#
# $$\bar d \pm t_{n-1,\,1 - 0.025/k}\, \frac{s}{\sqrt n}$$
#
# **By hand.** Three seeds gain 3, 4 and 5 points: mean 4, deviation 1. For one arm $t$ is 4.30, the interval 4 ± 2.5:
# it helps. As one of six arms $t$ is 10.9, and 4 ± 6.3 is undecided, from the same three runs.

# %%
for k in (1, 6):
    half = student_t.ppf(1 - 0.025 / k, df=2) / 3**0.5
    print(f"{k} arms: 4 ± {half:.1f}")
made_up = [(arm, seed, 0.5 + 0.01 * (3 + seed) * (arm != "alone")) for arm in ("alone", *"ABCDEF") for seed in range(3)]
frame = pd.DataFrame(made_up, columns=["arm", "seed", "accuracy"])
for arms in (["alone", "A"], ["alone", *"ABCDEF"]):
    found = lab.compare(frame[frame["arm"].isin(arms)], baseline="alone", metric="accuracy")
    print(f"among {len(arms) - 1},", report.verdict(found, "A"))

# %% [markdown]
# How a list grows:

# %%
lab.show(climbed)
fitted = choose_side_by_side.fitted()
for student, setting in choose_side_by_side.STUDENTS.items():
    assert fitted[student] > 0.95
    print(f"{student}, {setting}: labels alone fit more than 95 % of their examples")
report.table(choose_side_by_side.ends(), caption="where the chosen settings lie")

# %% [markdown]
# ## 2. All losses side by side
#
# A cell: mean test accuracy, then the verdicts against cross-entropy / against soft targets: ↑ helps, ↓ hurts, ·
# neither is shown, = itself.

# %%
for student, setting in choose_side_by_side.STUDENTS.items():
    report.table(choose_side_by_side.columns(student), caption=f"{student}: {setting}")

# %%
report.figure(
    choose_side_by_side.figure(),
    "differences from cross-entropy of each loss with intervals, three students; standardised logits lie farthest to "
    "the right for both convolutional ones, hints and SimKD for the perceptron; a dotted line marks soft targets",
)

# %%
for student in choose_side_by_side.STUDENTS:
    for baseline in choose_side_by_side.BASELINES:
        found = choose_side_by_side.verdicts_of(student, baseline)
        for verdict in ("helps", "hurts"):
            arms = sorted(arm for arm, said in found.items() if said == verdict)
            print(f"{student}, against {baseline}, {verdict}, {len(arms)} of {len(found)}:")
            print(textwrap.indent(textwrap.fill("; ".join(arms) or "none", 100), "    "))

# %%
said = {name: choose_side_by_side.verdicts_of(name, "soft targets") for name in choose_side_by_side.STUDENTS}
twice = ("standardised logits", "correlation (DIST)", "review (ReviewKD), alone", "attention (AT), with soft targets")
for arm in twice:
    assert said["cnn1d-8"][arm] == said["cnn2d-8"][arm] == "helps"
for arm in twice[:2]:
    assert said["mlp-100x100"][arm] == "hurts"
assert said["mlp-100x100"]["similarity (SP), alone"] == "helps"
for loss in ("hint (FitNets)", "reused classifier (SimKD)"):
    assert {said["mlp-100x100"][f"{loss}, {mode}"] for mode in choose_side_by_side.MODES} == {"helps"}
for name in said:
    alone = choose_side_by_side.verdicts_of(name, "cross-entropy")
    assert "helps" not in {alone["label smoothing"], alone["hard labels of the teacher"]}
    means = choose_side_by_side.runs(name).groupby("arm")["accuracy"].mean()
    print(f"{name}: first of {len(means)} is {means.idxmax()}")
width = [student_t.ppf(1 - 0.025 / k, df=23) for k in (1, 42)]
print(f"an interval of 24 seeds is {width[1] / width[0]:.2f} times as wide for 42 arms as for one")

# %% [markdown]
# - **For both convolutional students, standardised logits come first of all**, 17 points beyond soft targets on images;
#   ReviewKD is ahead of soft targets for both too, and so are DIST, and AT beside soft targets. Standardised logits and
#   DIST leave out the scale of the teacher's logits. For the perceptron both are *behind* soft targets.
# - **For the perceptron hints and SimKD come first**, alone or with soft targets, about three points beyond these; SP
#   alone is two points beyond.
# - **On images many do better than soft targets:** OFD, SimKD, NST, ReviewKD, AT, and of the relations PKT and InfoNCE,
#   alone and with soft targets. Adding these is no sure gain: SimKD reaches 65 % with them and 62 % alone, OFD 60 %
#   with them and 66 % alone.
# - **Labels smoothed, and the teacher's hard labels,** help in no setting. Soft targets help two of the three students
#   and are undecided for `cnn1d-8`, which VID alone and the virtual teacher hurt.
#
# **Caution.** A · is mostly *undecided*: for 42 arms an interval is nearly four fifths wider than for one. Labels alone
# reach 48 % on images: eight channels and 200 images are few, and gains that large are gains *there*. SimKD's student
# is larger, for it keeps the teacher's classifier. Weights of the losses from inside are in units of their gradients.
#
# ### Was the time enough?
#
# Labels alone fit their examples. Is the race over then? Both baselines once more, with four times the epochs and the
# settings chosen for one time:

# %%
ahead, gained = {}, {}
for name in choose_side_by_side.STUDENTS:
    longer = choose_side_by_side.longer(name)
    for base in choose_side_by_side.BASELINES:
        row = lab.compare(longer, baseline=base, metric="accuracy").loc[f"{base}, longer"]
        gained[name, base] = row["verdict"]
        print(f"{name}, {base}, four times as long: {100 * row['difference']:+.1f} points, {row['verdict']}")
    rival = lab.compare(longer, baseline="soft targets, longer", metric="accuracy")["verdict"]
    ahead[name] = sorted(rival.index[rival == "helps"])
    print(textwrap.indent(textwrap.fill("still ahead of soft targets, longer: " + "; ".join(ahead[name]), 100), "    "))

# %%
assert gained["cnn1d-8", "cross-entropy"] == gained["cnn1d-8", "soft targets"] == "helps"
assert gained["cnn2d-8", "soft targets"] == "helps"
assert "standardised logits" in set(ahead["cnn1d-8"]) & set(ahead["cnn2d-8"])
assert "review (ReviewKD), alone" in ahead["cnn1d-8"]
assert "review (ReviewKD), alone" not in ahead["cnn2d-8"]
assert {"hint (FitNets), alone", "reused classifier (SimKD), alone"} <= set(ahead["mlp-100x100"])
print("fitted is not finished: yes")

# %% [markdown]
# - **Fitted is not finished.** Labels alone of `cnn1d-8` gain 5.5 points, soft targets 3.2 there and 7.6 on images. So
#   part of what the tables show is *speed*: a loss that gets there sooner. How far the others would get in four times
#   the epochs we have not tried.
# - **Some are ahead even so,** with a quarter of the time: standardised logits for both convolutional students,
#   ReviewKD on signals, DIST, OFD and SimKD with soft targets on images; for the perceptron, whose soft targets gain
#   nothing by more time, hints, SimKD and SP.
# - **Not shown to be ahead any more:** AT and DIST on signals, and most of the long list on images. If you can train
#   soft targets longer, do that first.
#
# One seed, two arms, live: does the gap between them come out as it is stored?

# %%
for name in ("choose_signals", "choose_images"):
    print(experiments.provenance(name)["command"], "·", experiments.load(name)["seed"].nunique(), "seeds")
stored = experiments.load("choose_signals")
seed = BASE_SEED if BASE_SEED in set(stored["seed"]) else 0
pair = ("mlp-100x100 | cross-entropy | alone", "mlp-100x100 | hint (FitNets) | with soft targets")
live = [choose_signals.run(seed, arm)["accuracy"] for arm in pair]
kept = [stored.query("seed == @seed and arm == @arm")["accuracy"].item() for arm in pair]
means = stored.groupby("arm")["accuracy"].mean()
effect = means[pair[1]] - means[pair[0]]
assert effect > 0.05
assert max(abs(a - b) for a, b in zip(live, kept, strict=True)) < effect / 2  # other processors round differently
print("both arms, live: nearer to their stored runs than half the effect: yes")

# %% [markdown]
# ## 3. What carries over, and what does not
#
# A ranking is worth something if it is the same elsewhere. Below, the [rank
# correlation](GLOSSARY.md#rank-correlation) of the mean accuracies, from 1 (the same order) to -1 (the opposite one);
# 0 is no relation. First its ceiling: one setting against *itself*, eight of its seeds against the other sixteen.

# %%
itself = {}
for student in choose_side_by_side.STUDENTS:
    found = choose_side_by_side.runs(student).query("arm != 'cross-entropy'")
    first, rest = (found[found["seed"].lt(1000) == early].groupby("arm")["accuracy"].mean() for early in (True, False))
    itself[student] = {"arms": len(first), "correlation": first.corr(rest, method="spearman")}
report.table(pd.DataFrame.from_dict(itself, orient="index").rename_axis("eight seeds and sixteen"), decimals=2)
carried = choose_side_by_side.carried_over()
report.table(carried, decimals=2)

# %%
helping = choose_side_by_side.helping("soft targets")
report.table(helping[helping["helps"] > 1], caption="beyond soft targets in more than one setting")
near, *far = carried["correlation"].loc[["cnn1d-8 and cnn2d-8", "cnn1d-8 and mlp-100x100", "mlp-100x100 and cnn2d-8"]]
assert near > max(far) + 0.1
assert helping["helps"].max() == 2
print("alike for the two convolutional students, more than with the perceptron: yes; none helps in all three: yes")

# %% [markdown]
# - **What carries over:** the orders of the two convolutional students are alike, though less than each is like itself
#   on other seeds. A short list helps twice (the table); of it hints and SimKD cross the families and hurt nowhere.
# - **What does not:** the perceptron's order is hardly that of either. The winner of both others, standardised logits,
#   hurts there. No arm helps in all three settings (ReviewKD and AT do not fit a perceptron).
# - **Even the ceiling is not 1:** for `cnn1d-8` eight seeds do not settle the middle of the list.
#
# ### A published table
#
# CIFAR-100 is where the field ranks its losses: 240 epochs, one recipe, top-1 accuracy on test data. Two pairs of
# networks, [Tian et al.'s](https://arxiv.org/abs/1910.10699) and later papers' numbers; for the second pair we quote
# four losses only.

# %%
first = {"student alone": 72.50, "KD": 73.33, "FitNet": 73.50, "AT": 73.44, "SP": 72.94, "VID": 73.09, "RKD": 71.90}
first |= {"PKT": 73.64, "NST": 73.30, "CRD": 75.51, "DKD": 76.32, "DIST": 76.31, "standardised logits": 76.62}
second = {"student alone": 64.60, "KD": 67.37, "AT": 59.40, "RKD": 64.52, "CRD": 69.73}
table = pd.DataFrame({"resnet32x4 → resnet8x4": first, "vgg13 → MobileNetV2": second})
pairs = list(table)
gain = (table - table.loc["student alone"]).drop("student alone").sort_values(pairs[0], ascending=False)
report.table(gain.round(2).rename_axis("points over the student alone"), decimals=2)
close = int((-gain[pairs[0]].diff().dropna() < 0.3).sum())
print(f"neighbours in the first column that are less than 0.3 points apart: {close} of {len(gain) - 1}")
print("below the student alone:", {pair: list(gain.index[gain[pair] < 0]) for pair in pairs})
both = gain.dropna()
print("the four of both:", {pair: list(both[pair].sort_values(ascending=False).index) for pair in pairs})

# %% [markdown]
# - **The order is coarse.** Runs of one recipe spread by ± 0.3 points, and most neighbours are nearer than that. What
#   the first column shows is two groups: the latest losses on logits and CRD three to four points up, the eight others,
#   plain KD among them, at most 1.2.
# - **It does not carry over whole.** CRD leads and RKD stays below no distillation in both; AT gains a point in the
#   one, and loses five in the other.
# - **Who counts, and how?** Some tables report the best epoch on test data, which is choosing by the test set. For
#   ResNet-34 → 18 on ImageNet plain KD is 71.03, 71.21 or 71.37, depending on who ran it.
# - **It is one question:** few of these tables have a column without augmentation, with fewer labels, or in nats.
#
# The best of many is also the luckiest: its number will be lower next time
# ([selection bias](GLOSSARY.md#selection-bias)). Exercise 18.2 builds that.
#
# ## 4. Choose
#
# Each row is one recommendation: the case it is meant for (what holds in *the plain case*, a teacher with logits for
# labelled examples that the student can fit, is left out), what to do, what speaks for it, where it is taught, and what
# to copy (`python -m kdref copy munge`, say). Differences come from stored runs, computed as you read; a test
# recomputes every verdict. Tables to look things up in: skip to the chooser if you like.

# %%
report.table(rows(choices.FOR_CLASSES), caption="classes come out")
report.table(rows(choices.FOR_TEACHERS), caption="several teachers, none, or another sensor")

# %%
report.table(rows(choices.FOR_LIMITS), caption="little data, little training, a small student")
report.table(rows(choices.FOR_OTHER_OUTPUTS), caption="embeddings or text come out")
report.table(rows(choices.FOR_HARMS), caption="which harm is worst")

# %% [markdown]
# The evidence is this course's: small tasks, small networks. Where it says *hurts*, it hurt *there*. So the table tells
# what to try first and what to be careful with, and labels alone stand beside it always.
#
# The chooser asks, and picks the rows.

# %%
chooser()

# %% [markdown]
# Try: (1) from the plain case, set *The student* to "is too small for them"; (2) a teacher that gives embeddings only,
# few labels, many other inputs; (3) text comes out, and the tokenisers differ.
#
# <details><summary>Answers</summary>(1) "Start with" disappears: labels alone, or a larger student. (2) Relations
# between examples, which helped with 50 labels. (3) The teacher's text, and for its logits a loss of which no run of
# ours tells whether it helps.</details>
#
# ## 5. Your own model and data
#
# Five scripts of the repository start from your files. Each runs offline at once on what it brings along or makes up
# (the [README](../README.md) has those lines), and has 150 lines at most: change it.
#
# - **Images**, a folder for each class: `python examples/distill_your_model.py photos`. Change `--teacher` and
#   `--student` (torchvision's names, or `timm/NAME`), `--weights` and `--epochs`; `--stored FOLDER` runs the teacher
#   once.
# - **Images with masks**: `python examples/distill_segmentation.py scans --classes 21`. Change `--channel-weight`, the
#   loss on each class's map, with 0 among what you try.
# - **Texts with labels**, CSV or JSON: `python examples/distill_text_classifier.py --data reviews.csv --model
#   bert-base-uncased`. Change `--layers` and the three weights.
# - **Lines of text**, and two causal models of one tokeniser: `python examples/distill_language_model.py --teacher BIG
#   --student SMALL --text mine.txt`. Change `--kind` of divergence; `--stored` asks the teacher once, `--on-policy 0.5`
#   lets the student write.
# - **CIFAR-100**, the field's table on your GPU: `python examples/cifar100.py --losses labels,kd,dkd`. Change
#   `--losses` and the pair of networks.
#
# **Before you trust a result** (yours, ours or a paper's):
#
# 1. Labels alone is an arm: same first weights, data order, steps, and the *same tuning*.
# 2. The obvious control is one too: soft targets beside a cleverer loss, the teacher's first choice beside soft
#    targets, a network as large beside SimKD.
# 3. The training accuracy is printed, and the baselines are run once with several times the steps. Before they are done
#    gaining, a win may be speed.
# 4. Settings are chosen on validation data, on seeds that are not reported. The last epoch counts, not the best.
# 5. The best setting lies inside its list, or the list grows; weight decay too.
# 6. Eight paired seeds or more; a mean difference and its interval, widened for *all* that was tried.
# 7. The margin, what is too little to matter, is said before.
# 8. *Undecided* is not *no difference*.
# 9. Beside accuracy: agreement, NLL or calibration, size, seconds.
# 10. What did not help is reported too, with the command that made it; and whose knowledge it is, on a card.
#
# ### One of them, whole
#
# Say that the two arrays below are yours: printed letters as 16 numbers, 26 classes. 500 are labelled, 3,500 are not. A
# network exists that somebody trained on 8,000 others. For your own, change the two lines that load.

# %%
whole = data.letter(0)
with tempfile.TemporaryDirectory() as folder:
    for name in ("x", "y"):
        parts = [getattr(whole, f"{part}_{name}") for part in ("train", "validation", "test")]
        np.save(Path(folder, f"{name}.npy"), torch.cat(parts).numpy())

    x = torch.from_numpy(np.load(Path(folder, "x.npy"), allow_pickle=False))
    y = torch.from_numpy(np.load(Path(folder, "y.npy"), allow_pickle=False))
print("inputs", tuple(x.shape), x.dtype, "· labels", tuple(y.shape), y.dtype)

# %%
theirs, mine, held_out, test = torch.arange(18_000).split((8000, 4000, 1000, 5000))
x = (x - x[mine].mean(0)) / x[mine].std(0)  # what you know of your own inputs, and of no test example
teacher = models.make("mlp-300", num_classes=26, shape=(16,), seed=0)


def step(batch):
    inputs, labels = batch
    return {"loss": F.cross_entropy(teacher(inputs), labels)}


batches = lab.Batches(x[theirs], y[theirs], batch_size=100, seed=0)
lab.fit(step, teacher, batches, torch.optim.AdamW(teacher.parameters(), lr=3e-3), epochs=12)
z = lab.teacher_outputs(teacher.eval(), x)  # once: nothing is augmented
print("teacher's accuracy above 85 %:", (z[held_out].argmax(-1) == y[held_out]).double().mean().item() > 0.85)

# %% [markdown]
# What does the course say of such a case?

# %%
print(recommended(case_of(gives="logits", labels="few", inputs="many")))

# %% [markdown]
# So: labels alone; soft targets beside the labels; the teacher's soft targets on all 4,000 inputs, and, as the obvious
# control, its first choices on the same. One student, the same 500 steps, a margin of one point. Each arm tries three
# weight decays, on two seeds of its own.


# %%
def run_mine(seed, arm):
    loss, count, decay = PLANS[arm]
    order = mine[torch.randperm(len(mine), generator=torch.Generator().manual_seed(seed))]
    shown, labelled = order[:count], order[:500]
    student = models.make("mlp-64", num_classes=26, shape=(16,), seed=seed)

    def step(batch):
        inputs, teacher_logits, labels = batch
        return {"loss": loss(student(inputs), teacher_logits, labels)}

    batches = lab.Batches(x[shown], z[shown], y[shown], batch_size=50, seed=seed)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2, weight_decay=decay)
    epochs = round(500 / len(batches))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    lab.fit(step, student, batches, optimizer, epochs=epochs, scheduler=schedule)
    others = {"validation": held_out, "training": labelled}
    shares = {part: lab.measure(student, x[index], y[index])["accuracy"] for part, index in others.items()}
    return shares | lab.measure(student, x[test], y[test], teacher_logits=z[test])


# %%
OWN = {  # the loss, and on how many inputs
    "labels": (lambda s, t, y: F.cross_entropy(s, y), 500),
    "soft targets": (partial(distillation_loss, soft_weight=0.9, temperature=4.0), 500),
    "first choices, all inputs": (lambda s, t, y: F.cross_entropy(s, t.argmax(-1)), 4000),
    "soft targets, all inputs": (lambda s, t, y: soft_target_loss(s, t, temperature=4.0), 4000),
}
tried = {how: {f"{how}, decay {decay:g}": (*OWN[how], decay) for decay in (0.0, 0.3, 1.0)} for how in OWN}
PLANS = {arm: plan for plans in tried.values() for arm, plan in plans.items()}
tuning = lab.replicate(run_mine, arms=list(PLANS), seeds=(5000, 5001), jobs=1)
validated = tuning.groupby("arm", sort=False)["validation"].mean()
PLANS = {how: PLANS[validated[list(plans)].idxmax()] for how, plans in tried.items()}
reported = lab.replicate(run_mine, arms=list(OWN), seeds=range(BASE_SEED, BASE_SEED + 8), jobs=1)
result = lab.compare(reported, baseline="labels", metric="accuracy", margin=0.01)

# %% tags=["nbval-ignore-output"]
report.table(validated.to_frame("validation accuracy"), percent=["validation accuracy"], caption="tuning, two seeds")
report.comparison(result, caption="test accuracy")
widest = reported[reported["arm"].str.endswith("all inputs")]
control = lab.compare(widest, baseline="soft targets, all inputs", metric="accuracy", margin=0.01)
report.comparison(control, caption="the control")
also = ["training", "agreement", "nll", "calibration_error"]
report.table(reported.groupby("arm", sort=False)[also].mean(), percent=["training", "agreement", "calibration_error"])

# %%
assert reported.query("arm == 'labels'")["training"].min() > 0.95
taught = result.drop("labels")
assert (taught["verdict"] == "helps").all()
assert taught["low"].min() > 0.02
print("labels alone fit more than 95 % of their 500 examples, on every seed: yes")
assert control.loc["first choices, all inputs", "low"] > -0.01
print("all three ways with the teacher help, by two points at the least: yes")
print("the teacher's first choices are not a point worse than its soft targets: yes")

# %% [markdown]
# The verdict is as the chooser had it, by much more than the margin. And the control speaks: the teacher's first
# choices do as well. What helps here is the teacher's answers on *more inputs*, soft or not; without that arm we would
# have praised the softness. (The taught students have not fitted all yet: 500 steps are what we said, and more might
# change it. Of the decays 0 is a border; had 1 been the best of an arm, its list would have to grow.)
#
# Somebody needs probabilities, so the student of soft targets ships, with its card ([lesson 16](16_provenance.ipynb)):

# %% tags=["nbval-ignore-output"]
shipped = reported.query("arm == 'soft targets, all inputs'").iloc[0]
measured = {
    "accuracy": shipped["accuracy"],
    "teacher_accuracy": (z[test].argmax(-1) == y[test]).double().mean().item(),
    "top1_agreement": shipped["agreement"],
    "expected_calibration_error": shipped["calibration_error"],
}
card = distillation_card(
    student="me/tiny-letters",
    licence="mit",
    teacher="a network of three hundred units",
    teacher_terms="mit",
    taken=["logits"],
    data={"LETTER": "cc-by-4.0"},
    loss="soft targets at τ = 4, no labels",
    budget="4,000 inputs, 500 steps of 50",
    measured=measured,
    examples=len(test),
    faults=["none looked for"],
    competes=False,
)
print(card)

# %%
assert card.data.to_dict()["distillation"]["examples"] == 5000
print("the card's numbers are of 5,000 examples that nothing was chosen by: yes")

# %% [markdown]
# ## 6. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/18_choose_your_method.ipynb](solutions/18_choose_your_method.ipynb).

# %% [markdown] tags=["exercise"]
# **18.1 Build** the interval of section 1 and its verdict. `taught` and `alone` (N,) are accuracies of the same seeds,
# in the same order; `comparisons` is how many arms meet the baseline. Return a tensor of three: the lower end, the
# upper end, and 1 if it helps, -1 if it hurts, 0 if neither is shown.
#
# <details><summary>Hint</summary>Differences first; their mean, their deviation over √n, and `student_t.ppf(1 - 0.025 /
# k, n - 1)`.</details>


# %% tags=["exercise"]
def judge(taught, alone, comparisons):
    raise NotImplementedError


# %% tags=["solution"]
def judge(taught, alone, comparisons):
    difference, n = taught - alone, len(taught)
    half = student_t.ppf(1 - 0.025 / comparisons, n - 1) * difference.std() / n**0.5
    low, high = difference.mean() - half, difference.mean() + half
    return torch.stack([low, high, (low > 0).double() - (high < 0).double()])


# %% tags=["check"]
lab.check("18.1", judge)

# %% [markdown] tags=["exercise"]
# **18.2 Build** the winner's curse. `validation` and `fresh` (S, M) are differences from the baseline of M methods on S
# seeds, on two sets of data. Choose the best method on validation. Return a tensor of two: its mean there, and its mean
# on fresh data.
#
# <details><summary>Hint</summary>One column is chosen, by the mean of `validation` over its rows. Both numbers are of
# that column.</details>


# %% tags=["exercise"]
def winner(validation, fresh):
    raise NotImplementedError


# %% tags=["solution"]
def winner(validation, fresh):
    best = validation.mean(dim=0).argmax()
    return torch.stack([validation.mean(dim=0)[best], fresh.mean(dim=0)[best]])


# %% tags=["check"]
lab.check("18.2", winner)

# %% [markdown]
# Forty methods that change nothing, measured with a spread of two points on eight seeds, a thousand times over (with
# your function, once it is right):

# %%
generator, luck = torch.Generator().manual_seed(0), []
for _ in range(1000):
    validation, fresh = 2 * torch.randn(2, 8, 40, generator=generator)
    best = validation.mean(0).argmax()
    luck.append([validation.mean(0)[best].item(), fresh.mean(0)[best].item()])
print("the winner, in points, where it was chosen and on fresh data:", np.round(np.mean(luck, axis=0), 1) + 0.0)

# %%
for letter, (words, _) in CASES.items():
    print(textwrap.fill(f"{letter}: {words}", 110))
print("choose among:", ", ".join(ADVICE))

# %% [markdown] tags=["exercise"]
# **18.3 Choose** for the seven cases above what to start with: a dictionary of seven letters. Decide first, then ask
# the chooser.
#
# <details><summary>Hint</summary>Turn each case into answers of the chooser, and read what stands under "Start
# with".</details>

# %% tags=["exercise"]
my_choices = ...

# %% tags=["solution"]
my_choices = {
    "A": "soft targets",
    "B": "relations",
    "C": "checked text",
    "D": "generated inputs",
    "E": "label smoothing",
    "F": "labels alone",
    "G": "first choices",
}

# %% tags=["check"]
lab.check("18.3", my_choices)

# %% [markdown] tags=["exercise"]
# **18.4 Design** a benchmark: twelve losses against labels alone. Paired differences spread by two points, and each
# widened interval is to be at most one point on either side of its mean. Every arm tries five settings on three seeds
# of their own. How many runs is that, with as few seeds as will do?
#
# <details><summary>Hint</summary>First the seeds: widened for 12, t · 2 / √n must be 1 at most. Then count: tuning, and
# what is reported.</details>

# %% tags=["exercise"]
my_runs = ...

# %% tags=["solution"]
my_seeds = next(n for n in range(2, 100) if student_t.ppf(1 - 0.025 / 12, n - 1) * 2 / n**0.5 <= 1)
my_runs = 13 * 5 * 3 + 13 * my_seeds

# %% tags=["check"]
lab.check("18.4", my_runs)

# %% [markdown]
# **Going further** (not checked): repeat section 5 with your arrays, and with one method that the chooser does not
# name. Write the margin down before you look.

# %%
lab.quiz("18")

# %% [markdown]
# ## 7. When to use which, and when not
#
# **Start** with labels alone, tuned, and trained until they fit; then soft targets beside them. **Then** take the one
# step that your case points to, and look it up: who gives what, how many labels, which family, which harm. Run it as
# section 5 does, with the control that could take the credit away.
#
# With few labels and a teacher of the same family, the benchmark says: train soft targets longer, and try standardised
# logits, which cost one line; then DIST and ReviewKD. Of another family: a hint, or SimKD. Three settings say no more
# than that.
#
# **When not:** no ranking of somebody else's task, ours included, is a reason to skip the comparison on yours. No
# teacher for a student that can't fit its labels; none for a few epochs; none before its terms are read.
#
# **Cost:** the benchmark took some 4,300 runs of a second or two, tuning included. One method against one baseline,
# with its control, costs what section 5 does: here twenty seconds, for a network of hours a few days. Where that is too
# much, run fewer arms and claim less.
#
# **Copy it:** what the table names: `python -m kdref copy distillation_loss`, say; `python -m kdref copy relation`
# writes all files of a topic.
#
# **Further reading:** [Tian et al. 2020](https://arxiv.org/abs/1910.10699), the comparison that most tables extend;
# [Beyer et al. 2022](https://arxiv.org/abs/2106.05237), on how patience changes the ranking.
#
# **Next lesson:** [19, writing models](19_writing_models.ipynb), if you came past 11 before it was there; else your own
# project. The paragraphs *Going further* under the exercises of each lesson are some; [lesson
# 00](00_start_here.ipynb) has the map.
