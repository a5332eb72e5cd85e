# %% [markdown]
# # 07 · Cross-modal distillation
#
# **Can a network that feels only rotation learn from one that feels only acceleration, without new labels?**
#
# **You will be able to**
#
# - teach [across senses](GLOSSARY.md#cross-modal-distillation): soft targets, features,
#   [contrastive](GLOSSARY.md#contrastive-loss) alignment, and a choice of what to believe;
# - split data [by people](GLOSSARY.md#subject-wise-split), and say whose labels chose what;
# - design the controls that tell a better sense from mere extra data, and a good direction from a bad one;
# - say when it pays: when the teacher's sense carries more, and the student's sense can see why.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb); `info_nce_loss` is explained in [lesson
# 05](05_relation_based.ipynb), section 5.
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/cross_modal.py` (the methods), `kdref/lab/data/smartwatch.py` (the data),
# `kdref/lab/experiments/cross_modal.py` (the long experiment).
#
# **Papers:** [Gupta, Hoffman and Malik 2016](https://arxiv.org/abs/1507.00448), [Aytar et al.
# 2016](https://arxiv.org/abs/1610.09001) (SoundNet), [Tian et al. 2020](https://arxiv.org/abs/1910.10699) (CRD), [Xue
# et al. 2023](https://arxiv.org/abs/2206.06487), [Huo et al. 2024](https://openaccess.thecvf.com/content/CVPR2024/html/Huo_C2KD_Bridging_the_Modality_Gap_for_Cross-Modal_Knowledge_Distillation_CVPR_2024_paper.html)
# (C2KD); the data: [Burns et al. 2018](https://arxiv.org/abs/1802.01489).

# %% tags=["setup"]
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import stats

from kdref import lab
from kdref.cross_modal import paired_feature_loss, rank_agreement, select_agreeing, selected_soft_target_loss
from kdref.lab import experiments, report
from kdref.lab.data.smartwatch import EXERCISES, folds, spectrum, watch
from kdref.lab.experiments import cross_modal, cross_modal_equal, cross_modal_tuning
from kdref.lab.experiments._cross_modal_live import grid, terms, train, tuned
from kdref.lab.report import plots, style
from kdref.lab.report.tables import ALL_SEEDS
from kdref.lab.widgets.cross_modal import sensor_explorer, sensor_figure
from kdref.relation import info_nce_loss
from kdref.soft_targets import soft_target_loss

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. One moment, two senses
#
# A smartwatch holds two sensors. The **accelerometer** feels pushes along three axes, gravity among them. The
# **gyroscope** feels turning about three axes. Ten people wore one while doing seven shoulder exercises with either arm
# (Burns et al. 2018). The recordings are cut into [windows](GLOSSARY.md#window) of four seconds without overlap.

# %%
known = watch()
print(known)
print("exercises:", ", ".join(EXERCISES))
fold = folds(0)[0]
print(f"fold 0 of seed 0: labels of {fold.labelled}, none of {fold.unlabelled}, test on {fold.test}")
for made in folds(BASE_SEED):
    assert sorted(made.labelled + made.unlabelled + made.test) == list(range(10))
print("everyone has one role per fold: yes")

# %% [markdown]
# **The task.** Recordings only need a watch, labels need somebody who looks on. So three people's windows are labelled,
# five people's are not, and we test on the two others. Five such [folds](GLOSSARY.md#fold) test everybody once. *The
# split is by people*: windows of one person are alike, and the study, with twenty people of whom ten are published,
# reports 99.4 % when every person is in the training set and 88.9 % for new people.
#
# An exercise has no first moment, and a window may start anywhere in it. So the networks get **spectra**: for each axis
# its mean, and how strongly it swings 1, 2, ... 23 times per window (the logarithm of the Fourier magnitude). When in
# the window a swing begins, they don't say: roll a window round, so that its end comes first, and nothing changes.

# %%
sensors = {"accelerometer": spectrum(known.accelerometer), "gyroscope": spectrum(known.gyroscope)}
rolled = spectrum(known.gyroscope.roll(17, dims=-1))
assert (sensors["gyroscope"] - rolled).abs().max() < 1e-3
print("spectra of windows that were rolled round are the same: yes")

# %%
first = [int(torch.where(known.y == exercise)[0][5]) for exercise in (0, 1)]
with style.new_figure(10, 6.2, rows=2, columns=2) as (figure, axes):
    for row, index in enumerate(first):
        signal, pattern = known.gyroscope[index], sensors["gyroscope"][index]
        for axis, name in enumerate("xyz"):
            line = {"color": style.COLORS[axis], "linestyle": ("-", "--", ":")[axis], "label": f"about {name}"}
            axes[2 * row].plot(torch.arange(100) / 25, signal[axis], **line)
            axes[2 * row + 1].plot(torch.arange(1, 24), pattern[axis, 1:], **line)
        axes[2 * row].set(title=EXERCISES[known.y[index]], xlabel="seconds", ylabel="radians per second")
        axes[2 * row + 1].set(title="its spectrum", xlabel="swings per window", ylabel="log magnitude")
    axes[0].margins(y=0.2)  # room for the legend
    axes[0].legend(loc="upper center", ncols=3)
report.figure(figure, "two exercises' turning over four seconds, and their spectra with peaks at slow swings")

# %% [markdown]
# **The idea:** a pair of simultaneous recordings is a sentence in two languages. Train a teacher on one sense (one
# [modality](GLOSSARY.md#modality)) with the labels there are; on [*unlabelled pairs*](GLOSSARY.md#paired-examples) it
# tells the student what its own sense makes of this moment. Gupta, Hoffman and Malik 2016 did so with *features*,
# SoundNet in the same year with *probabilities*, as here. Something known in training only has a longer history, as
# *privileged information* (Vapnik and Vashist 2009); [Lopez-Paz et al. 2016](https://arxiv.org/abs/1511.03643) join the
# two. With $L$ the labelled windows of a batch and $U$ the others:
#
# $$\frac{1}{|L|}\sum_{i \in L} -\log q_i(y_i) \;+\; \frac{\tau^2}{|U|} \sum_{i \in U} \mathrm{KL}\big(
# p_i \,\|\, q_i\big), \qquad p_i = \mathrm{softmax}\Big(\frac{z^t(\text{acceleration}_i)}{\tau}\Big), \quad
# q_i = \mathrm{softmax}\Big(\frac{z^s(\text{rotation}_i)}{\tau}\Big)$$
#
# and $q_i(y_i)$ at τ = 1. It is lesson 01's loss; new is only that the two networks see different things.
#
# ## 2. The code: one fold, one function
#
# Teacher and students are [perceptrons](GLOSSARY.md#perceptron) with 64 hidden units. Without a teacher a network
# learns from the labelled windows alone (label −100: nobody knows). With a teacher, `said` holds the teacher's logits
# on every window. Here τ = 2; section 5 tunes it.

# %%
lab.show(terms)
lab.show(train)

# %% [markdown]
# The teachers, one per fold:

# %%
heard = [train(known, fold, sensors["accelerometer"], seed=BASE_SEED) for fold in folds(BASE_SEED)]
right = [
    (heard[number].argmax(-1) == known.y)[known.of(fold.unlabelled)].double().mean().item()
    for number, fold in enumerate(folds(BASE_SEED))
]
assert sum(right) / 5 > 0.6
print("on average the five teachers are right on more than 60 of 100 unlabelled windows: yes")

# %% [markdown]
# Each teacher has heard three people's labels, and will now teach about five people it was told nothing of. Three
# students with a gyroscope, in all five folds. "Wrong pairs" is a published bug (stored teacher outputs that no longer
# match the shuffled data): the teacher speaks of *another* unlabelled moment. Of every window we keep the answer of the
# network that never saw this window's person.

# %%
wrong = [logits.clone() for logits in heard]
for logits, fold in zip(wrong, folds(BASE_SEED), strict=True):
    unlabelled = known.of(fold.unlabelled)
    logits[unlabelled] = logits[unlabelled.flip(0)]
told = {"labels alone": [None] * 5, "right pairs": heard, "wrong pairs": wrong}

# %%
answers = {name: torch.zeros(len(known.y), 7) for name in ("accelerometer", *told)}
for number, fold in enumerate(folds(BASE_SEED)):
    rows = known.of(fold.test)
    answers["accelerometer"][rows] = heard[number][rows]
    for name, said in told.items():
        answers[name][rows] = train(known, fold, sensors["gyroscope"], said[number], seed=BASE_SEED)[rows]
scores = {name: (z.argmax(-1) == known.y).double().mean().item() for name, z in answers.items()}

# %% tags=["nbval-ignore-output"]
report.table(pd.DataFrame({"accuracy": scores}).rename_axis("network"), percent=["accuracy"], caption="one seed")

# %%
assert scores["accelerometer"] > scores["labels alone"] + 0.1
assert scores["right pairs"] > scores["wrong pairs"] + 0.1
assert scores["wrong pairs"] < scores["labels alone"] - 0.05
print("the accelerometer is ahead of the gyroscope by more than ten points: yes")
print("right pairs beat wrong pairs by more than ten points: yes")
print("wrong pairs are worse than no teacher by more than five: yes")

# %% [markdown]
# The accelerometer knows more, from the same labels. Whether right pairs beat labels alone is for section 5: one seed
# doesn't tell. Pairs are all the student gets from its teacher, so check them first: equal clocks, one shuffle for
# both, no cached row out of place.
#
# ## 3. Look at one moment
#
# A window that the student gets right only after its lessons. Above, what either sensor felt; below, what the networks
# say, at τ = 2.

# %%
choice = {name: z.argmax(-1) for name, z in answers.items()}
turned = (choice["accelerometer"] == known.y) & (choice["right pairs"] == known.y) & (choice["labels alone"] != known.y)
shown = {
    "accelerometer, teacher": answers["accelerometer"],
    "gyroscope, labels alone": answers["labels alone"],
    "gyroscope, taught": answers["right pairs"],
}
signals = {"g": known.accelerometer, "radians per second": known.gyroscope}
about = {"class_names": EXERCISES, "seconds": 4.0}
assert turned.any()
example = int(torch.where(turned)[0][0])
report.figure(
    sensor_figure(signals, shown, known.y, number=example, temperature=2.0, **about),
    "acceleration and rotation over four seconds, and three networks' softened probabilities: teacher and taught "
    "student prefer the right exercise, labels alone another one",
)

# %% [markdown]
# All windows, in the order of the recordings. Try: find a window where the teacher is wrong and the taught student
# follows it; raise τ and see which exercises the teacher takes for relatives. At τ = 0.5, what is left of them?
#
# <details><summary>Answer</summary>At a low τ nearly all goes to the first choice: what is soft is gone. At a high τ
# every exercise looks like a relative. Which ones come second differs from window to window.</details>

# %%
sensor_explorer(signals, shown, known.y, **about)

# %% [markdown]
# ## 4. Four ways to listen
#
# **Soft targets**, as above. **Features** (Gupta et al. 2016): the student's layer imitates the teacher's, on pairs.
# The loss is a mean squared error:

# %%
lab.show(paired_feature_loss)

# %% [markdown]
# **Contrastive alignment** (lesson 05's InfoNCE; across senses in CRD, Tian et al. 2020): the student needn't have the
# teacher's features, only tell which moment of the batch is this one. **Agreement** (C2KD, Huo et al. 2024): where the
# two senses rank the classes differently, the teacher's target may mislead, so leave these windows out: a
# [selection](GLOSSARY.md#selection). The measure is Kendall's [rank correlation](GLOSSARY.md#rank-agreement): of all
# pairs of classes, the share that both order alike, minus the share they don't. A window stays where it is above a
# threshold, in the authors' code 0. Below, `_order` says of each pair of classes which one is ranked higher: 1 the
# first, −1 the second, 0 neither.

# %%
lab.show(rank_agreement)
lab.show(select_agreeing)

# %% [markdown]
# **By hand.** Student (3, 2, 1), teacher (9, 0, 1). Classes 1 and 2: both say 1. Classes 1 and 3: both say 1. Classes
# 2 and 3: they differ. Agreement (2 − 1)/3 = 0.333. If the teacher says (0, 1, 9), all three differ: −1.

# %%
student_logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
teacher_logits = torch.tensor([[9.0, 0.0, 1.0], [0.0, 1.0, 9.0]])
agreement = rank_agreement(student_logits, teacher_logits)
print("agreement:", [round(value, 3) for value in agreement.tolist()])
print("selected: ", select_agreeing(student_logits, teacher_logits).tolist())

# %% [markdown]
# Soft targets on what was selected, as a mean over it:

# %%
lab.show(selected_soft_target_loss)

# %% [markdown]
# Note what selection can't do. A sure teacher that has only the first two classes the wrong way round agrees well;
# nobody asks who is right.
#
# On fixed numbers, what each loss ignores. Twelve moments; the change is made on the student's side alone, and the last
# one gives each moment another's partner:

# %%
index = torch.arange(12, dtype=torch.float64)[:, None]
own, other = torch.sin(1.7 * index * torch.arange(1, 6) + 0.3), torch.sin(1.7 * index * torch.arange(1, 6) + 0.9)
changes = {"scale × 3": 3 * own, "shift by 2": own + 2, "pairs broken": own.flip(0)}
listeners = {
    "soft targets": lambda s: soft_target_loss(s, other, temperature=2.0),
    "features": lambda s: paired_feature_loss(s, other),
    "contrastive": lambda s: info_nce_loss(s, other, temperature=0.1),
    "rank agreement": lambda s: rank_agreement(s, other).mean(),
}
seen = pd.DataFrame(
    {
        change: {name: "same" if abs(f(s) - f(own)).item() < 1e-9 else "changes" for name, f in listeners.items()}
        for change, s in changes.items()
    }
).rename_axis("what is compared")
report.table(seen)
assert (seen["pairs broken"] == "changes").all()
assert list(seen.index[seen["scale × 3"] == "same"]) == ["contrastive", "rank agreement"]
assert list(seen.index[seen["shift by 2"] == "same"]) == ["soft targets", "rank agreement"]

# %% [markdown]
# ### Who claimed what
#
# - **Gupta, Hoffman and Malik 2016**: layers of a network for labelled photographs supervise networks for unlabelled
#   depth images and optical flow. *Claim:* large gains, and a good start where labels are few.
# - **SoundNet**, Aytar, Vondrick and Torralba 2016: networks that recognise what is *seen* teach one that hears, on two
#   million unlabelled videos. *Claim:* the best sound features of their time, without a sound label.
# - **CRD**, Tian et al. 2020. *Claim:* a contrastive loss transfers better than soft targets, across senses too.
# - **C2KD**, Huo et al. 2024. *Claim:* between senses plain distillation can fail, for two reasons: one sense is
#   stronger, and soft labels don't match. Its remedy selects by agreement, distils the non-target classes and adapts
#   the teacher too; we test the selection alone.
#
# *What was found since.* **Xue et al. 2023** begin with two cases in which distillation across senses fails, and call
# it "not a universal cure". Their *modality focusing hypothesis*: what decides is how much of the teacher's knowledge
# rests on features that *both* senses carry. [Chen et al. 2024](https://arxiv.org/abs/2409.02438) find transfer to be
# better, the less the two senses differ in the non-target classes.

# %% [markdown]
# ## 5. The experiment
#
# Twelve arms, 24 seeds, five folds each. A seed shuffles the people into roles and draws first weights and data order;
# all arms of a seed share these, and optimiser and epochs. A fold's accuracy is counted person by person, and the ten
# people of a seed are averaged. Two arms are controls. **Argmax:** the teacher's first choice as a plain label, so
# nothing soft is left. **Selected, τ = 1:** selection at a lower temperature; the arm *selected* has τ = 2.
#
# Weight decay is tuned for every arm, labels alone included, and with it each method's own hyper-parameter, on *a
# labelled person left out*. The choice for a fold uses only tuning runs in which no label of its two test people
# occurs, so it may differ from fold to fold; the table has the most frequent one.

# %%
stored = experiments.load("cross_modal")
seeds = sorted(set(stored["seed"]))
report.table(tuned(seeds), caption="per cent right of the person left out; one value varies, the other is at its best")
print(experiments.provenance("cross_modal")["command"], "·", len(stored), "runs,", len(seeds), "seeds")

# %% [markdown]
# An arm's name says student, teacher, and what it hears. Have the lists room? A best value at an end says: look
# further, unless the curve is flat, or the end leads to something known:
#
# - a *weight* near 0 leaves labels alone (features). A *temperature* near 0 does too: the soft targets become the
#   argmax, and τ² times their divergence goes to 0, as fast as τ. A low temperature is the argmax at a low weight.
# - A *threshold* of −1 keeps all windows: that is soft targets at the same τ, which their list has.
# - A *weight decay* of 5, the largest, is the best for the gyroscope's labels alone, soft targets, features and own
#   sense. So look further for the first two, on one of the tuning's two seeds: at 10 they lose more than five points.

# %%
tried = {pair: grid(pair) for pair in cross_modal_tuning.PAIRS}
by_value = {pair: accuracy.max() for pair, accuracy in tried.items() if accuracy.shape[1] > 1}
inside = [pair for pair, curve in by_value.items() if curve.index[0] < curve.idxmax() < curve.index[-1]]
at_end = [f"{pair} ({curve.idxmax():g})" for pair, curve in by_value.items() if pair not in inside]
assert all(curve.idxmax() == curve.index[0] for pair, curve in by_value.items() if pair not in inside)
largest = [pair for pair, accuracy in tried.items() if accuracy.max(axis=1).idxmax() == accuracy.index[-1]]
print("own setting best inside:", *inside, sep="\n    ")
print("best at its lowest value:", *at_end, sep="\n    ")
print("best at the largest weight decay:", *largest, sep="\n    ")

# %%
kept = experiments.load("cross_modal_tuning").set_index(["arm", "seed"])["accuracy"]
for pair, setting in (("gyroscope | nobody | labels", "0"), ("gyroscope | accelerometer | soft targets", "0.5")):
    further = cross_modal_tuning.run(5000, f"{pair} | 10 | {setting}")["accuracy"]
    assert further < kept[f"{pair} | 5 | {setting}", 5000] - 0.05
    print(f"{pair}: more than five points worse at a weight decay of 10 than at 5")

# %%
seed = BASE_SEED if BASE_SEED in set(stored["seed"]) else 0
for arm in ("gyroscope | nobody | labels", "gyroscope | accelerometer | soft targets"):
    live = cross_modal.run(seed, arm)
    kept = stored.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.02  # other processors round differently; a seed may move
    print(f"{arm}: within two points of the stored run")

# %% tags=["nbval-ignore-output"]
parts = {sensor: stored[stored["arm"].str.startswith(sensor)] for sensor in ("gyroscope", "accelerometer")}
parts = {
    sensor: frame.assign(arm=frame["arm"].str.removeprefix(f"{sensor} | ").str.removeprefix("nobody | "))
    for sensor, frame in parts.items()
}
results = {sensor: lab.compare(frame, baseline="labels", metric="accuracy") for sensor, frame in parts.items()}
for sensor, result in results.items():
    report.comparison(result, caption=f"{sensor}: accuracy on people never seen, all 24 seeds")

# %%
report.figure(
    report.intervals(results["gyroscope"], x_label="points against labels alone"),
    "gyroscope against labels alone: all labels are furthest above zero, then the accelerometer's argmax, selection at "
    "τ = 1, at τ = 2 and soft targets; the others are at zero or just above it",
)

# %%
found = {sensor: report.verdicts(frame, baseline="labels") for sensor, frame in parts.items()}
for sensor, verdicts in found.items():
    report.table(verdicts, caption=f"{sensor}: accuracy against labels alone, by group of seeds and over all")

# %%
gyro, accel = found["gyroscope"][ALL_SEEDS], found["accelerometer"][ALL_SEEDS]
taught, own_sense = "accelerometer | soft targets", "gyroscope | soft targets"
argmax, cold, warm = "accelerometer | argmax", "accelerometer | selected, τ = 1", "accelerometer | selected"
contrast, features = "accelerometer | contrastive", "accelerometer | features"
helps = [argmax, cold, warm, taught, contrast, "all labels"]
assert sorted(gyro.index[gyro == "helps"]) == sorted(helps)
assert (gyro[[own_sense, features]] == "no useful difference").all()
assert accel.to_dict() == {own_sense: "hurts", "all labels": "helps"}
gained = {sensor: result["difference"] for sensor, result in results.items()}
points = (100 * gained["gyroscope"][helps]).round(1)
assert points.to_list() == [4.8, 4.4, 3.6, 3.0, 0.9, 6.1]
assert -0.04 < gained["accelerometer"][own_sense] < -0.035
print("over all seeds, points gained against labels alone:")
print(points.to_string())

# %% [markdown]
# The four that help most, with one another:

# %%
rivals = [argmax, cold, warm, taught]
duels = {name: report.verdicts(parts["gyroscope"], baseline=name)[ALL_SEEDS] for name in (taught, cold)}
report.table(pd.DataFrame(duels).loc[rivals].fillna("baseline").rename_axis("gyroscope").add_prefix("against "))
assert (duels[taught][[argmax, cold]] == "helps").all()
assert duels[taught][warm] == "undecided"
assert (duels[taught][[contrast, features, own_sense]] == "hurts").all()
assert duels[cold][argmax] == "undecided"
assert duels[cold][warm] == "hurts"
ahead_of_soft = (gained["gyroscope"][[argmax, cold]] - gained["gyroscope"][taught]).mul(100).round(1)
assert ahead_of_soft.to_list() == [1.8, 1.4]
print("argmax and selection at τ = 1 are ahead of soft targets by 1.8 and 1.4 points, undecided among themselves")

# %% [markdown]
# As tuned: the tuning chose between τ = 0.5 (weight decay 5) and τ = 1 (1) for soft targets by half a point, on ten
# folds. The same answers at fixed settings, one weight decay of 1 for all (made afterwards, 24 seeds):

# %%
equal = experiments.load("cross_modal_equal")
alone = stored[stored["arm"] == "gyroscope | nobody | labels"].assign(arm="labels")
equal = pd.concat([alone, equal])[["seed", "arm", "accuracy"]]
by = {name: report.verdicts(equal, baseline=name)[ALL_SEEDS] for name in ("labels", *cross_modal_equal.ARMS[:2])}
report.table(pd.DataFrame(by).fillna("baseline").rename_axis("at fixed settings").add_prefix("against "))
gains = lab.compare(equal, baseline="labels", metric="accuracy")["difference"].mul(100).round(1)
assert gains[list(cross_modal_equal.ARMS)].to_list() == [4.9, 3.8, 5.2, 4.7, 3.6]
assert (by["soft targets, τ = 1"][["argmax", "selected, τ = 1"]] == "no useful difference").all()
assert by["soft targets, τ = 2"]["selected, τ = 2"] == "no useful difference"
print("soft targets at τ = 1 gain 4.9 points, argmax and selection at τ = 1 no useful difference from that: yes")

# %% [markdown]
# **What are soft targets for, then?** Perhaps for the [NLL](GLOSSARY.md#negative-log-likelihood), the price of being
# sure and wrong. Here against labels alone, and against the argmax:

# %%
loss = {"metric": "nll", "higher_is_better": False}
nll = {name: report.verdicts(parts["gyroscope"], baseline=name, **loss)[ALL_SEEDS] for name in ("labels", argmax)}
report.table(pd.DataFrame(nll).dropna().rename_axis("gyroscope").add_prefix("NLL against "))
assert (nll["labels"][[*rivals, "all labels"]] == "helps").all()
assert (nll["labels"][[contrast, features, own_sense]] == "undecided").all()
assert (nll[argmax][[cold, warm, taught, contrast, features, own_sense]] == "hurts").all()
saved = -lab.compare(parts["gyroscope"], baseline="labels", **loss)["difference"]
assert saved[[argmax, taught]].round(2).to_list() == [0.20, 0.11]
print("the argmax lowers the NLL by 0.20 nats, soft targets by 0.11; the argmax is ahead: yes")
print("the own sense, features and contrast: undecided")

# %% [markdown]
# And what the teacher brings, beside the labels that it stands in for:

# %%
means = stored.groupby("arm")[["accuracy", "fitted", "teacher_accuracy"]].mean()
accuracy, right_on_pairs = means["accuracy"], means["teacher_accuracy"]
alone, labelled = accuracy["gyroscope | nobody | labels"], accuracy["gyroscope | nobody | all labels"]
share = {name: (accuracy[f"gyroscope | {name}"] - alone) / (labelled - alone) for name in (argmax, taught)}
assert 0.75 < share[argmax] < 0.82
assert 0.45 < share[taught] < 0.55
assert right_on_pairs[f"gyroscope | {taught}"] > 0.78 > 0.57 > right_on_pairs[f"gyroscope | {own_sense}"] > 0.5
assert accuracy["accelerometer | nobody | labels"] > labelled + 0.15
assert 0.19 < accuracy["accelerometer | nobody | labels"] - accuracy[f"gyroscope | {argmax}"] < 0.2
print("the argmax is worth more than three quarters of the missing labels, soft targets about half: yes")
print("of 100 unlabelled windows the accelerometer has more than 78 right, the gyroscope 50 to 57: yes")
print("with three people's labels it is fifteen points ahead of a gyroscope with all: yes")
print(f"labels alone are right on {means.loc['gyroscope | nobody | labels', 'fitted']:.0%} of the windows learned from")

# %% [markdown]
# - **Helped:** the accelerometer's *argmax*, as a plain label (most often of weight 1), by nearly five points of
#   accuracy and 0.20 nats; selection by agreement, at τ = 1 and at τ = 2; soft targets by three points and 0.11 nats.
#   All labels would bring six points: the argmax brings more than three quarters of that gain.
# - **Is it what is soft in them?** The first choice is enough, of a teacher that is right on nearly four of five
#   windows: the argmax is ahead of soft targets, as tuned, in accuracy and in NLL. Most of that lead is the tuning's:
#   at τ = 1 and one weight decay they are worth the same.
# - **It is not the extra windows alone.** The control "gyroscope | soft targets" has the same windows, and a teacher of
#   the student's own sense, which is no better than the student: no useful difference in accuracy, undecided in NLL.
# - **It is a better teacher, of another sense.** The two come together here. Would a gyroscope's teacher that is right
#   as often do as well? No arm asks.
# - **It is the direction.** The gyroscope's network is wrong on nearly half of the unlabelled windows, the
#   accelerometer's on about a fifth. Taught by the gyroscope, an accelerometer loses more than three points, though the
#   tuning mostly took the lowest temperature, which leaves least of that teacher. There was room for a gain:
#   all labels bring four.
# - **Selection by agreement**, as tuned, is ahead of soft targets by more than a point at τ = 1; at τ = 2 that is
#   undecided. It is not the selection that gains: at equal τ and one weight decay it makes no useful difference to soft
#   targets on all windows.
# - **Contrastive alignment** gains less than a point, at the best of its weights, and helps in one group of seeds of
#   three; **features** make no useful difference in accuracy, whatever their weight. In NLL both are undecided.
# - **The budget.** All this is after 60 epochs. No shorter or longer training is stored, so we can't say what it would
#   change. Of their own windows labels alone fit no more than 87 %: the tuning most often gives them the largest weight
#   decay.
# - **A limit.** With all labels, the gyroscope is still more than fifteen points behind an accelerometer with three
#   people's labels.

# %% [markdown]
# ## 6. Person by person
#
# Means hide people. Each line is one person, averaged over 24 seeds: labels alone, then with the accelerometer's soft
# targets.

# %%
columns = [f"person_{person}" for person in range(10)]
people = parts["gyroscope"].groupby("arm")[columns].mean().loc[["labels", "accelerometer | soft targets"]]
people = people.set_axis(["labels alone", "taught"]).T.set_axis(range(10)).sort_values("labels alone")
gain = people["taught"] - people["labels alone"]
with style.new_figure(8, 4.2) as (figure, (ax,)):
    for place, (_, row) in enumerate(people.iterrows()):
        ax.plot([place, place], row, color="#999999", lw=2, zorder=1)
        for column, name in enumerate(people):
            label = name if place == 0 else None
            ax.scatter(place, row[name], color=style.COLORS[column], marker=style.MARKERS[column], s=70, label=label)
    ax.set_xticks(range(10), list(people.index))
    ax.set(xlabel="person", ylabel="accuracy")
    style.percent_axis(ax.yaxis)
    ax.legend()
report.figure(figure, "accuracy of each of ten people before and after: all but two gain, by unequal amounts")

# %%
half = stats.t.ppf(0.975, 9) * gain.std() / 10**0.5
print(f"people who gain: {(gain > 0).sum()} of 10; mean {100 * gain.mean():+.1f} points")
print(f"95 % interval over people: {100 * (gain.mean() - half):+.1f} to {100 * (gain.mean() + half):+.1f} points")
assert (gain > 0).sum() == 8
assert gain.mean() > half
assert gain.min() > -0.015
assert 0.09 < gain.max() < 0.105
by_seeds = results["gyroscope"].loc["accelerometer | soft targets"]
assert 2 * half > 2 * (by_seeds["high"] - by_seeds["low"])

# %% [markdown]
# Eight of ten gain, by between one point and ten; two lose one. Section 5's interval says how sure we are of the mean
# *for these ten people*: more seeds make it narrower. This one takes the people as the sample: with $s$ the standard
# deviation of their $n$ gains (squares divided by $n - 1$) it is the mean ± $t \, s/\sqrt n$, where $t$, here 2.26, is
# Student's for $n - 1$ degrees of freedom. It is more than twice as wide. It is above zero, so people like these gain
# on average; how much, we hardly know, and a single one need not. (Roughly: these ten also trained one another's
# networks.)

# %% [markdown]
# Which exercises does the teacher know better, and does the student follow? [Recall](GLOSSARY.md#recall) by exercise
# (the share of its windows that are recognised), from section 2's networks, one seed:

# %%
recall = {
    name: [float((choice[key] == known.y)[known.y == exercise].double().mean()) for exercise in range(7)]
    for name, key in zip(shown, ("accelerometer", "labels alone", "right pairs"), strict=True)
}
with style.new_figure(10, 4) as (figure, (ax,)):
    plots.draw_bars(ax, recall, names=[name.replace(" ", "\n") for name in EXERCISES])
    ax.set(ylabel="recall", ylim=(0, 1.2), yticks=[0, 0.25, 0.5, 0.75, 1])
    style.percent_axis(ax.yaxis)
    ax.legend(loc="upper center", ncols=3)
report.figure(figure, "recall of seven exercises by three networks: the accelerometer is ahead in most of them")
ahead = sum(a > b for a, b in zip(*list(recall.values())[:2], strict=True))
assert ahead >= 4
print("the accelerometer is ahead in four exercises or more: yes")

# %% [markdown]
# Look for exercises in which the teacher is far ahead, and the student does not follow.

# %% [markdown]
# ## 7. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/07_cross_modal.ipynb](solutions/07_cross_modal.ipynb).

# %% [markdown] tags=["exercise"]
# **07.1 Build.** Section 1's loss: the mean cross-entropy of the labelled rows, plus τ² times the mean divergence from
# the teacher on the unlabelled rows (label −100). A batch may hold no labelled or no unlabelled row: that term is then
# zero.
#
# <details><summary>Hint</summary>Start from 0; add a term only where it has rows. soft_target_loss is
# imported.</details>


# %% tags=["exercise"]
def my_loss(student_logits, teacher_logits, labels, temperature):
    raise NotImplementedError


# %% tags=["solution"]
def my_loss(student_logits, teacher_logits, labels, temperature):
    loss, silent = 0, labels == -100
    if not silent.all():
        loss = loss + F.cross_entropy(student_logits, labels, ignore_index=-100)
    if silent.any():
        loss = loss + soft_target_loss(student_logits[silent], teacher_logits[silent], temperature=temperature)
    return loss


# %% tags=["check"]
lab.check("07.1", my_loss)

# %% [markdown] tags=["exercise"]
# **07.2 Predict.** Four exercises A, B, C, D. From most to least likely the student says A, B, C, D, the teacher A, C,
# B, D. What is their rank agreement? Write the number before you compute anything.
#
# <details><summary>Hint</summary>Four classes make six pairs.</details>

# %% tags=["exercise"]
my_agreement = ...

# %% tags=["solution"]
my_agreement = (5 - 1) / 6  # only B and C are ordered differently

# %% tags=["check"]
lab.check("07.2", my_agreement)

# %% [markdown] tags=["exercise"]
# **07.3 Repair.** The two sensors have clocks of their own: the gyroscope's is `lag` samples late (what the
# accelerometer has at index i, the gyroscope has at i + lag); a negative lag means early. Both are (3, T). Return one
# tensor (6, T − |lag|), the accelerometer first, in which every column is one moment.
#
# <details><summary>Hint</summary>Draw two rulers, one shifted. Which samples have no partner?</details>


# %% tags=["exercise"]
def paired(accelerometer, gyroscope, lag):
    raise NotImplementedError


# %% tags=["solution"]
def paired(accelerometer, gyroscope, lag):
    length = accelerometer.shape[-1] - abs(lag)
    first, second = max(0, -lag), max(0, lag)
    return torch.cat([accelerometer[:, first : first + length], gyroscope[:, second : second + length]])


# %% tags=["check"]
lab.check("07.3", paired)

# %% [markdown] tags=["exercise"]
# **07.4 Design.** Will an eleventh person gain? Given two lists of accuracies, before and after, one number per person
# in the same order, return the lower end of the 95 % interval of the mean gain, as in section 6.
#
# <details><summary>Hint</summary>Pair them first. stats.t.ppf(0.975, n - 1) is the quantile.</details>


# %% tags=["exercise"]
def lower_end(before, after):
    raise NotImplementedError


# %% tags=["solution"]
def lower_end(before, after):
    gains = pd.Series(after) - pd.Series(before)
    return gains.mean() - stats.t.ppf(0.975, len(gains) - 1) * gains.std() / len(gains) ** 0.5


# %% tags=["check"]
lab.check("07.4", lower_end)

# %% [markdown]
# **Going further** (not checked): in `train`, let the teacher see both sensors. Is a better teacher a better one to
# learn from? Then give the student 10 % of the windows of its *test* people without labels. What do you have to say in
# the report?

# %%
lab.quiz("07")

# %% [markdown]
# ## 8. When to use another sense, and when not
#
# **Use it** when a better sense is there at training time only (a depth camera, a laboratory's instruments, a sensor
# that costs too much or tells too much), pairs are cheap and labels are dear. Start with the teacher's first choice as
# a label, on unlabelled pairs, with cross-entropy on what labels there are; tune its weight and the weight decay. Soft
# targets as tuned here helped less; at τ = 1 they may do as well. Train long enough: a short training hid what two
# methods can do.
#
# **What it buys:** a sensor that can stay switched off, or be left out of the product. Here the student runs without
# the accelerometer, and is better than its own labels made it. Say also what it does not buy: a watch that *has* both
# should use the accelerometer, which is nearly twenty points better on its own than the best of these students.
#
# **When not:** the teacher's sense is the weaker one (it hurt); pairs are not truly simultaneous (broken pairs were
# worse than no teacher); what the teacher goes by can't be felt by the student (Xue et al.; no arm here tests it).
# Where all is labelled we did not try it.
#
# **Cost:** recordings with both sensors, one forward pass of the teacher per window. Nothing at inference.
#
# **Copy it:** `python -m kdref copy cross_modal` writes one file that needs only torch; `python -m kdref copy
# selected_soft_target_loss` writes that function and what it calls.
#
# **Further reading:** [Xue et al. 2023](https://arxiv.org/abs/2206.06487), on when it fails; [Gupta et al.
# 2016](https://arxiv.org/abs/1507.00448), the beginning; [SoundNet](https://arxiv.org/abs/1610.09001), for the scale.
#
# **Next lesson:** [08](08_self_distillation.ipynb), self-distillation: what can a network learn from itself?
