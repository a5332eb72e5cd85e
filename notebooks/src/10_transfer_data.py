# %% [markdown]
# # 10 · Transfer data
#
# **What must a student see to learn from its teacher: the training data, other data, noise, or nothing at all?**
#
# **You will be able to**
#
# - compress an ensemble as in 2006, with [MUNGE](GLOSSARY.md#munge): new examples made of a few old ones;
# - say why noise teaches little, by asking the teacher what it says of it;
# - make images of a network alone: a generator that only the teacher supervises, or
#   [inversion](GLOSSARY.md#model-inversion) from its BatchNorm statistics;
# - weigh what each kind of [transfer set](GLOSSARY.md#transfer-set) is worth against what it costs and what it needs.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb).
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/transfer_data/` (the methods), `kdref/lab/experiments/transfer_letter.py` and `transfer_images.py`
# (the long experiments), `kdref/lab/data/letters.py` (the data).
#
# **Papers:** [Bucilă, Caruana and Niculescu-Mizil 2006](https://doi.org/10.1145/1150402.1150464), [Chen et al.
# 2019](https://arxiv.org/abs/1904.01186) (DAFL), [Micaelli and Storkey 2019](https://arxiv.org/abs/1905.09768) (ZSKT),
# [Yin et al. 2020](https://arxiv.org/abs/1912.08795) (DeepInversion).

# %% tags=["setup"]
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.ensemble import ExtraTreesClassifier

from kdref import lab
from kdref.lab import data, experiments, models, report
from kdref.lab.experiments import _transfer_images as images
from kdref.lab.experiments import _transfer_letter as letters
from kdref.lab.experiments import (
    transfer_images,
    transfer_images_longer,
    transfer_images_tuning,
    transfer_letter,
    transfer_letter_tuning,
)
from kdref.lab.report import style
from kdref.lab.widgets.transfer_data import astray, made_explorer, made_figure, made_of
from kdref.transfer_data import (
    activation_loss,
    batchnorm_statistics_loss,
    information_entropy_loss,
    munge,
    one_hot_loss,
    total_variation_loss,
    zero_shot_generator_loss,
)

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. 2006: an ensemble is too large
#
# Long before the word distillation, [model compression](GLOSSARY.md#model-compression) (Bucilă, Caruana and
# Niculescu-Mizil 2006) asked: the best classifier is an [ensemble](GLOSSARY.md#ensemble) of hundreds of models, too
# large and too slow to use. Can one small network learn the function that the ensemble computes? There was no
# temperature yet, and the knowledge went through *data*: the ensemble labels many examples, the network learns them.
#
# We take one of the paper's own data sets, LETTER: printed capitals, sixteen whole numbers each. A thousand are
# labelled; a hundred trees with random splits are the ensemble.

# %%
split = data.letter(BASE_SEED)
print(split)
few_x, few_y = split.train_x[: letters.LABELLED], split.train_y[: letters.LABELLED]
print("labelled:", len(few_x), "· trees:", letters.TREES)
said = letters.said(BASE_SEED, few_x)  # shares of trees, one column per letter
one_hot = F.one_hot(few_y, split.classes).float()
assert (said - one_hot).abs().mean() < 1e-3
print("on the letters that it was grown on, the ensemble says what the labels say: yes")

# %% [markdown]
# So its outputs on these thousand are worth nothing: they *are* the labels. The trees have something of their own to
# say only between the examples. The student must be shown other inputs. Which? The paper's obvious candidates:
#
# - **real ones** without labels: what one would want, and may not have;
# - **uniform**: each attribute anywhere in its range;
# - **each attribute alone** (the paper's RANDOM): drawn from its own values, but independently of the other fifteen;
# - **MUNGE**: near the examples there are.
#
# ## 2. MUNGE
#
# Real examples fill a small part of the space: attributes depend on one another. MUNGE stays near that part. Each
# example $e$ meets its nearest neighbour $e'$, and with probability $p$ they exchange an attribute, with noise that is
# as large as their difference over $s$:
#
# $$\sigma = \frac{|e_a - e'_a|}{s}, \qquad e_a \leftarrow \mathcal{N}(e'_a, \sigma), \qquad e'_a \leftarrow
# \mathcal{N}(e_a, \sigma)$$
#
# with *old* values on the right. Where neighbours agree there is no noise: it runs along the data, not across.

# %%
angle = torch.linspace(0, torch.pi, 40)
curve = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
points = torch.cat([curve, torch.tensor([1.0, 0.3]) - curve]) * 2
draws = torch.Generator().manual_seed(0)
alone = points[torch.randint(len(points), (400, 2), generator=draws), torch.arange(2)]


# %% [markdown]
# Eighty points along two curves; MUNGE makes five copies of them. Right, each attribute alone:

# %%
report.figure(
    made_figure(points, munge, alone, swap_probability=0.5, local_variance=1.0),
    "left two interleaved half circles of points; in the middle MUNGE's new points, close to them; right points with "
    "attributes drawn alone, which fill the whole square",
)
made = made_of(points, munge, swap_probability=0.5, local_variance=1.0)
shares = astray(made, points), astray(alone, points)
assert shares[0] < 0.35 < 0.6 < shares[1]
print("farther from the examples than these are from one another: MUNGE's under 35 %, attributes alone over 60 %: yes")

# %% [markdown]
# Move $p$ and $s$. Try $p = 0$; then a small $s$: how far do the points go, and in which direction?

# %%
made_explorer(points, munge, alone)

# %% [markdown]
# **By hand.** Three examples with one [nominal attribute](GLOSSARY.md#nominal-attribute) (a name: exchanged, no
# noise): 7, 8, 9, with $p = 1$. All differ from all, so each one's neighbour is the first other one. 7 and 8 exchange:
# 8, 7, 9. The second meets the first: 7, 8, 9 again. The third meets the first: 9, 8, 7. Later examples see what
# earlier ones changed.

# %%
names = torch.tensor([[7.0], [8.0], [9.0]])
settings = {"swap_probability": 1.0, "local_variance": 1.0, "nominal": torch.tensor([True])}
print(munge(names, copies=1, generator=torch.Generator().manual_seed(0), **settings).flatten().tolist())
lab.show(munge)

# %% [markdown]
# ## 3. Does it compress?
#
# The student has one hidden layer of 128, and is trained on the ensemble's probabilities. Live first: five times as
# many examples as labels.

# %%
shown = letters.shown("munge", 5, BASE_SEED, **transfer_letter_tuning.munge_settings())
student = models.make("mlp-128", num_classes=26, shape=(16,), seed=BASE_SEED)
optimizer = torch.optim.AdamW(student.parameters(), lr=0.01, weight_decay=0.0)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)


def step_student(batch):
    x, probabilities = batch
    return {"loss": F.cross_entropy(student(x - 0.5), probabilities)}


batches = lab.Batches(shown.x, shown.targets, batch_size=250, seed=BASE_SEED)
lab.fit(step_student, student, batches, optimizer, epochs=50, after_step=scheduler.step, progress=False)
right = (lab.teacher_outputs(student, split.test_x - 0.5).argmax(-1) == split.test_y).double().mean().item()
assert right > 0.7
print(f"{len(shown.x)} examples made of {len(few_x)}, right on more than 70 of 100 test letters: yes")

# %% [markdown]
# **The experiment.** 24 seeds; a seed picks the letters, the trees, the first weights and the order. Every student
# takes the same 2,000 steps in batches of 250, however many examples there are. Weight decay, and for MUNGE $p$ and
# $s$, were chosen on validation letters of two other seeds: decay from four values for labels alone, from two, 0 and
# 0.1, for all others.

# %%
tuned = experiments.load("transfer_letter_tuning").groupby("arm")["accuracy"].mean()
grid = pd.DataFrame(
    {f"s = {s:g}": [tuned[f"munge | 20 | 0 | {p:g} | {s:g}"] for p in (0.05, 0.1, 0.2, 0.4)] for s in (1, 4, 16)},
    index=[f"p = {p:g}" for p in (0.05, 0.1, 0.2, 0.4)],
)
report.table(grid.rename_axis("MUNGE, 20 times"), percent=list(grid), caption="validation accuracy, two seeds")
assert (grid.loc["p = 0.05"] - grid.loc["p = 0.1"]).abs().max() < 0.01
assert (grid.loc["p = 0.1"] > grid.loc["p = 0.4"]).all()
print("chosen:", transfer_letter_tuning.munge_settings())
print("from p = 0.1 down the curve is flat, within a point; p = 0.4 is worse: yes")

# %%
stored = experiments.load("transfer_letter")
print(
    experiments.provenance("transfer_letter")["command"], "·", len(stored), "runs,", stored["seed"].nunique(), "seeds"
)
seed = BASE_SEED if BASE_SEED in set(stored["seed"]) else 0
for arm in ("labels | 1", "munge | 20"):
    live = transfer_letter.run(seed, arm)
    kept = stored.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.015  # other processors round differently
    print(f"{arm}: within a point and a half of the stored run")

# %% tags=["nbval-ignore-output"]
against_labels = lab.compare(stored, baseline="labels | 1", metric="accuracy")
report.comparison(
    against_labels.loc[list(transfer_letter.ARMS)],
    caption="accuracy on 15,000 letters, all 24 seeds; shown | how many times 1,000",
)
# %%
copies = stored[stored["arm"].str.startswith("munge")]
copies = copies.assign(times=copies["arm"].str.removeprefix("munge | ").astype(int))
means = stored.groupby("arm")[["accuracy", "agreement", "nll", "confidence", "classes_named"]].mean()
levels = {"ensemble": stored["teacher_accuracy"].mean(), "labels": means.loc["labels | 1", "accuracy"]}
figure = report.curve(
    copies,
    x="times",
    y="accuracy",
    x_label="examples made by MUNGE, in thousands",
    log_x=True,
    percent=True,
    levels=levels,
)
report.figure(
    figure,
    "accuracy against the number of MUNGE's examples: it rises from one to five thousand, and then hardly; from five "
    "thousand on it is above the line of labels alone and below that of the ensemble",
)
found = report.verdicts(stored, baseline="labels | 1").loc[list(transfer_letter.ARMS)[1:]]
report.table(found)

# %%
enough, noise = ["munge | 5", "munge | 20", "munge | 100"], ["uniform | 100", "attributes alone | 100"]
assert (found.loc[enough, "all seeds"] == "helps").all()
assert (found.loc[noise] == "hurts").all(axis=None)
assert lab.compare(stored, baseline=noise[1], metric="accuracy").loc[noise[0], "verdict"] == "hurts"
nll = report.verdicts(stored, baseline="labels | 1", metric="nll", higher_is_better=False)
assert (nll.loc[enough, "all seeds"] == "helps").all()
assert (nll.loc[noise, "all seeds"] == "hurts").all()
against_munge = report.verdicts(stored, baseline="munge | 100", metric="agreement")
assert against_munge.loc["real | 3", "all seeds"] == "helps"
assert found.loc["real | 3", "all seeds"] == "helps"
assert nll.loc["real | 3", "all seeds"] == "hurts"
gain = means.loc["munge | 100", "accuracy"] - means.loc["labels | 1", "accuracy"]
gap = stored["teacher_accuracy"].mean() - means.loc["labels | 1", "accuracy"]
assert 0.6 < gain / gap < 0.9
assert means.loc["munge | 100", "accuracy"] - means.loc["munge | 5", "accuracy"] < 0.01
print("five times as many examples or more, made by MUNGE, help: yes; uniform ones or attributes drawn alone hurt: yes")
print("MUNGE brings more than 60 % of the way from labels alone to the ensemble: yes")
print("real letters, three for each labelled one, bring the student nearer to the ensemble than MUNGE's hundred: yes")

# %% [markdown]
# - **Helped:** MUNGE, by about two points over labels alone, and in NLL. The student comes most of the way to the
#   ensemble. Five copies do nearly as much as a hundred, *at these 2,000 steps*.
# - **Hurt, badly:** a hundred thousand uniform examples, and attributes drawn alone. More examples don't help if they
#   are the wrong ones.
# - **[Fidelity](GLOSSARY.md#fidelity) is another thing:** three thousand real letters help accuracy too, and make a
#   student that agrees with the ensemble more often than MUNGE's hundred thousand do. It inherits the ensemble's habit
#   of being unsure of new letters: its NLL is worse than that of labels alone.
# - **A teacher must know more.** Grow the trees on bootstrap samples (bagging), and each of them misses a third of the
#   few letters: the ensemble is worse, and there is less to compress.

# %%
bagged = ExtraTreesClassifier(letters.TREES, bootstrap=True, random_state=BASE_SEED).fit(few_x.numpy(), few_y.numpy())
whole = letters.ensemble(BASE_SEED)
scores = [trees.score(split.test_x.numpy(), split.test_y.numpy()) for trees in (bagged, whole)]
assert scores[0] < scores[1]
print("with bagging the ensemble is right on fewer test letters: yes")

# %% [markdown]
# The paper compressed far larger ensembles, about a thousand times smaller and faster, by its own account.
# What carries over is its order of what one may show: MUNGE, then a long gap, then attributes drawn alone. Uniform ones
# come last here.
#
# ## 4. Why noise teaches little
#
# Ask the ensemble. How sure is it of what it is shown, and how many letters does it name (exp of the entropy of its
# choices; 26 would be all alike)?

# %% tags=["nbval-ignore-output"]
heard = means.loc[["munge | 100", "real | 3", "attributes alone | 100", "uniform | 100"]]
report.table(heard, percent=["accuracy", "agreement", "confidence"])

# %%
assert heard.loc["munge | 100", "confidence"] > 0.9 > 0.75 > heard.loc["real | 3", "confidence"]
assert heard.loc["uniform | 100", "confidence"] < 0.25
assert heard.loc["uniform | 100", "classes_named"] < 16 < 20 < heard.loc["attributes alone | 100", "classes_named"]
print("of MUNGE's examples the ensemble is sure, of real ones less, of uniform ones not, and it names fewer: yes")

# %% [markdown]
# On uniform numbers the trees disagree: the share of the winner is below a quarter, and half of the alphabet hardly
# comes up. Attributes drawn alone do name all letters, and still fail: the borders that matter run between likely
# inputs, and there the student was shown nothing. So neither sureness nor variety alone makes a transfer set.
#
# Note that MUNGE's examples can be *too* near: of those the ensemble is sure, of real ones much less. Those, where it
# hesitates, brought the student nearer to its function.
#
# ## 5. No data at all
#
# In 2019 the question came back for networks: the teacher is there, its data are gone (private, lost, too large):
# [data-free distillation](GLOSSARY.md#data-free-distillation). A
# network can be differentiated, so it can *draw*: change the image until the teacher says what you want.
#
# The teacher here: a convolutional network with BatchNorm that learned 1,500 of MNIST's digits, cut to 10 × 10 pixels
# so that all of this takes seconds. All we know of its data is the pixels' mean and deviation. The student is half as
# wide.

# %%
known, teacher = images.known(BASE_SEED), images.teacher(BASE_SEED)
on_test = lab.teacher_outputs(teacher, known.test_x).argmax(-1)
assert (on_test == known.test_y).double().mean() > 0.88
print("training images:", tuple(known.train_x.shape), "· the teacher is right on more than 88 of 100 test images: yes")

# %% [markdown]
# **DAFL** (Chen et al. 2019) trains a [generator](GLOSSARY.md#generator), from noise to images, with the frozen teacher
# as its only judge:
#
# $$\underbrace{-\frac1B \sum_i \log p_i(\hat y_i)}_{\text{one-hot}} \;-\; 0.1\,\underbrace{\frac1n \sum |f|}_{
# \text{activation}} \;+\; 5\,\underbrace{\sum_c \bar p_c \log \bar p_c}_{\text{information entropy}}$$
#
# $p_i$ the teacher's probabilities of image $i$, $\hat y_i$ its choice, $f$ its features, $\bar p$ the mean of the
# batch. Be sure of each image; be excited; name all classes alike. (The authors' code takes the last one in log10.)

# %%
lab.show(one_hot_loss)
lab.show(information_entropy_loss)

# %% [markdown]
# **By hand.** Two images, two classes, teacher (¾, ¼) and (½, ½). One-hot: −(log ¾ + log ½)/2 = 0.490. The mean output
# is (⅝, ⅜): entropy term ⅝ log ⅝ + ⅜ log ⅜ = −0.662.

# %%
two = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()
print("one-hot:", round(one_hot_loss(two).item(), 3), "· entropy:", round(information_entropy_loss(two).item(), 3))
print("activation of (1, -2):", round(activation_loss(torch.tensor([[1.0, -2.0]])).item(), 3))

# %% [markdown]
# **DeepInversion** (Yin et al. 2020) found what else a network gives away: each BatchNorm layer keeps the mean and
# variance of what it was trained on, its
# [running statistics](GLOSSARY.md#running-statistics). Images whose statistics differ are not the teacher's kind:
#
# $$\|\mu(x) - \hat\mu\|_2 + \|\sigma^2(x) - \hat\sigma^2\|_2$$
#
# There is no generator: the pixels themselves are optimised, with a
# [total variation](GLOSSARY.md#total-variation-of-an-image) for smoothness.

# %%
lab.show(batchnorm_statistics_loss)
layer = torch.nn.BatchNorm1d(1)
print(batchnorm_statistics_loss(torch.tensor([[2.0], [4.0]]), layer).item(), "= |3 - 0| + |2 - 1|")
print(total_variation_loss(torch.tensor([[[[0.0, 1.0], [4.0, 0.0]]]])).item(), "= (1 + 4)/2 + (4 + 1)/2")

# %% [markdown]
# **ZSKT** (Micaelli and Storkey 2019) lets the generator look for what the student has *not* learnt yet:
# `zero_shot_generator_loss` is minus KL(teacher‖student), and the two play in turn.

# %%
lab.show(zero_shot_generator_loss)

# %% [markdown]
# One generator, live: DAFL's losses, and the statistics beside them. The gradient goes *through* the teacher to the
# generator, so the teacher is frozen and in eval mode, and nothing is detached.

# %%
generator, draws = images.generator_for(BASE_SEED), torch.Generator().manual_seed(BASE_SEED)
optimizer = torch.optim.Adam(generator.parameters(), lr=0.01)


def step_generator(batch):
    (numbers,) = batch
    drawn = generator(numbers)
    logits = teacher(drawn)
    sure, balance = one_hot_loss(logits), information_entropy_loss(logits)
    statistics = watched.statistics_loss()  # of all BatchNorm layers, by hooks
    loss = sure + 5 * balance + 0.1 * activation_loss(watched.features) + statistics
    return {"loss": loss, "one-hot": sure, "entropy": balance, "statistics": statistics}


batches = lab.Batches(torch.randn(15_000, images.NOISE, generator=draws), batch_size=50)
with images.Watched(teacher) as watched:
    rows = lab.fit(step_generator, generator, batches, optimizer, epochs=1, progress=False)
drawn = generator(torch.randn(1000, images.NOISE, generator=draws)).detach()
named = lab.teacher_outputs(teacher, drawn).argmax(-1).bincount(minlength=10)
assert named.min() > 20
print("300 steps later the teacher names every digit at least 20 times in a thousand images: yes")

# %% [markdown]
# What the student of each rung is shown:

# %%
choice = transfer_images_tuning.chosen
shown = {
    "training images": known.train_x,
    "another set": images.other_digits(BASE_SEED),
    "noise": torch.randn(8, *images.SHAPE, generator=draws),
    "untrained": images.generator_for(BASE_SEED)(torch.randn(50, images.NOISE, generator=draws)).detach(),
    "DAFL, statistics": drawn,
    "inverted": images.inverted(teacher, BASE_SEED, statistics=choice("inverted (DeepInversion)"), count=100),
}
with style.new_figure(9, 7.2, rows=len(shown), columns=8) as (figure, axes):
    for row, (name, pictures) in enumerate(shown.items()):
        for ax, picture in zip(axes[8 * row : 8 * row + 8], pictures[:8], strict=True):
            ax.imshow(picture[0].numpy(), cmap="gray_r")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        axes[8 * row].set_ylabel(name, rotation=0, ha="right", va="center")
rough = {name: total_variation_loss(pictures).item() for name, pictures in shown.items()}
assert max(rough["training images"], rough["untrained"]) < rough["noise"]
report.figure(
    figure,
    "eight images for each of six transfer sets: handwritten digits, coarser digits, noise, smooth blobs, strokes that "
    "look a little like digits, and noisy images in which strokes can be guessed",
)

# %% [markdown]
# ## 6. The ladder
#
# Ten rungs, 24 seeds. All students have the same first weights and the same 300 steps of 50 images; soft targets at
# τ = 4 (ZSKT: τ = 1, as its authors). Generators learn meanwhile, one step for each of the student's (ZSKT: one for
# five), from a fresh batch each time; so does "noise" get fresh noise. The *untrained generator* is the control: does
# the teacher's judgement matter, or only that images are smooth? One setting of each maker was chosen on validation
# images of two other seeds.

# %%
climbed = experiments.load("transfer_images")
print(
    experiments.provenance("transfer_images")["command"], "·", len(climbed), "runs,", climbed["seed"].nunique(), "seeds"
)
seed = BASE_SEED if BASE_SEED in set(climbed["seed"]) else 0
for arm in ("other images", "generated (DAFL, statistics)"):
    live = transfer_images.run(seed, arm)
    kept = climbed.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.05  # other processors round differently
    print(f"{arm}: within five points of the stored run")

# %% tags=["nbval-ignore-output"]
order = list(transfer_images.ARMS)
against_noise = lab.compare(climbed, baseline="noise", metric="accuracy").loc[order]
report.comparison(against_noise, caption="accuracy on 1,500 test images, all 24 seeds")
columns = ["agreement", "confidence", "classes_named", "seconds"]
rungs = climbed.groupby("arm")[["accuracy", *columns]].mean().loc[order]
report.table(
    rungs[columns], percent=["agreement", "confidence"], caption="agreement with the teacher; what it says; cost"
)

# %%
kinds = {"real": order[:3], "neither": order[3:6], "made of the teacher": order[6:]}
lifted = {"labels": 8, "other images": -19, "untrained generator": -15, "generated (ZSKT)": 8}
with style.new_figure(9, 4.6) as (figure, (ax,)):
    for place, (kind, arms) in enumerate(kinds.items()):
        color, marker = style.COLORS[place], style.MARKERS[place]
        ax.scatter(
            rungs.loc[arms, "seconds"], rungs.loc[arms, "accuracy"], color=color, marker=marker, s=70, label=kind
        )
        for arm in arms:
            where = tuple(rungs.loc[arm, ["seconds", "accuracy"]])
            ax.annotate(arm, where, xytext=(8, lifted.get(arm, -4)), textcoords="offset points")
    ax.set(
        xlabel="seconds of processor time, student and images together", ylabel="accuracy", ylim=(0, 1), xlim=(0, 7.5)
    )
    style.percent_axis(ax.yaxis)
    ax.legend(loc="upper right")
report.figure(
    figure,
    "accuracy against seconds: labels, training images and other images high at the left; generated with statistics "
    "below them at the right; DAFL and inversion lower; another set; noise, untrained generator and ZSKT lowest",
)
found = report.verdicts(climbed, baseline="noise").loc[[arm for arm in order if arm != "noise"]]
report.table(found)

# %%
means = rungs["accuracy"]
real = ["labels", "training images", "other images"]
drawn_rungs = ["generated (DAFL)", "generated (DAFL, statistics)", "inverted (DeepInversion)"]
assert (found.loc[[*real, *drawn_rungs, "another set"], "all seeds"] == "helps").all()
above = report.verdicts(climbed, baseline="generated (DAFL, statistics)")["all seeds"]
assert (above[real] == "helps").all()
assert (above[[name for name in above.index if name not in real]] == "hurts").all()
untrained = report.verdicts(climbed, baseline="untrained generator")["all seeds"]
assert (untrained[drawn_rungs] == "helps").all()
assert 0.1 < means["other images"] - means["generated (DAFL, statistics)"] < 0.3
others = lab.compare(climbed, baseline="training images", metric="accuracy", corrected=False).loc["other images"]
assert -0.02 < others["low"] < others["high"] < 0.02
assert (found.loc["generated (ZSKT)"] != "hurts").all()
assert rungs.loc["generated (DAFL, statistics)", "seconds"] > 2 * rungs.loc["other images", "seconds"]
print("DAFL's images, with statistics or without, and inverted ones beat noise and an untrained generator's: yes")
print("BatchNorm statistics lift DAFL's generator above all other rungs without data: yes")
print("real images without labels are still more than ten points ahead, in less than half the time: yes")

# %% [markdown]
# - **Other images of the same kind, without labels,** are as good as the training images, within two points. If you
#   can get them, stop here.
# - **The teacher's judgement matters.** DAFL and inversion are far above the generator that nobody trained, whose
#   images are smoother than noise, too (by total variation).
# - **What the teacher gives away matters more.** With the BatchNorm statistics beside its losses DAFL's generator beats
#   every other rung without data. (We mix two papers' losses here.)
# - **Another set** (scikit-learn's digits, enlarged) teaches more than noise and far less than the best that the
#   teacher draws itself, although these *are* digits: its strokes are of another kind. Against DAFL alone: undecided.
# - **ZSKT** did not get going here: against the untrained generator it is undecided. Its authors give the student ten
#   steps a batch and the pair 80,000 batches; ours has 60. Read it as: too short for it.
# - **Labels are ahead of soft targets** on the training images: at 300 steps, lesson 02's patience. And the student's
#   own BatchNorm keeps the statistics of what it was shown, so part of what noise costs may be that.

# %%
assert means["labels"] > means["training images"]
assert means["generated (ZSKT)"] < means["generated (DAFL)"]
print("labels ahead of soft targets on the same images, ZSKT behind DAFL, at this budget: yes")

# %% [markdown]
# **With four times the steps**, eight seeds, six of the rungs (four rounds of 300 steps, each with a schedule of its
# own):

# %% tags=["nbval-ignore-output"]
longer = experiments.load("transfer_images_longer")
rounds = longer.groupby("arm")[["accuracy_1", "accuracy_4"]].mean().loc[list(transfer_images_longer.ARMS)]
report.table(rounds.set_axis(["300 steps", "1,200 steps"], axis=1), percent=["300 steps", "1,200 steps"])

# %%
judged = lab.compare(longer, baseline="generated (DAFL, statistics)", metric="accuracy")["verdict"]
assert (judged[["labels", "training images", "other images"]] == "helps").all()
assert (judged[["another set", "noise"]] == "hurts").all()
assert rounds["accuracy_4"].min() > rounds["accuracy_1"].min() + 0.05
gaps = rounds.loc["other images"] - rounds.loc["generated (DAFL, statistics)"]
assert gaps["accuracy_4"] < 0.1 < gaps["accuracy_1"]
assert longer["seed"].nunique() == 8
assert abs(rounds.loc["labels", "accuracy_4"] - rounds.loc["training images", "accuracy_4"]) < 0.01
print("real images, then the generator's, then another set and noise: with four times the steps too, yes")
print("real images' lead over the generator's becomes smaller, and labels' lead over soft targets goes: yes")

# %% [markdown]
# So the order is not one of patience, but its size is: from no data at all, this student comes within ten points of
# real images. Noise rises too, to where no one would use it.
#
# **Who claimed what.** DAFL: a student without data at 92.2 % on CIFAR-10. DeepInversion: images that look like
# photographs, from an ImageNet network, and a student taught on them. Their generators and pixels are trained for
# thousands of steps on GPUs; nothing here contradicts them.
#
# ## 7. A model that only answers
#
# Much of what one would like to learn from is reachable through an interface only: inputs go in, outputs come out, and
# each answer is counted. What is left?
#
# | | needs of the teacher | questions asked here |
# |:---|:---|---:|
# | other data, another set, noise | outputs | one per image |
# | MUNGE | outputs, and a few examples of yours | one per example made |
# | DAFL, ZSKT | outputs, and the gradient through it | not possible |
# | DeepInversion | gradient, and inside: BatchNorm statistics | not possible |
#
# So a [black box](GLOSSARY.md#black-box) leaves what 2006 had: find or make inputs near the real ones, and ask. Where
# only the class comes back, hard labels remain. Whether one *may* is another question, that of [lesson
# 16](16_provenance.ipynb): most interfaces' terms have something to say about models trained on their outputs.

# %%
queries = {"MUNGE, 5 times": 5 * letters.LABELLED, "noise on the ladder": images.STEPS * images.BATCH_SIZE}
print(queries)
assert queries["noise on the ladder"] > 2 * queries["MUNGE, 5 times"]

# %% [markdown]
# ## 8. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/10_transfer_data.ipynb](solutions/10_transfer_data.ipynb).

# %% [markdown] tags=["exercise"]
# **10.1 Build.** One exchange of MUNGE: `own` and `other` are the attributes (D,) of an example and its neighbour,
# `chosen` says which are exchanged, `noise` (2, D) are standard normal draws, the first row for `own`. Return both new
# rows, stacked (2, D).
#
# <details><summary>Hint</summary>Compute the deviation first, from the old values. torch.where(chosen, new, old).
# </details>


# %% tags=["exercise"]
def exchange(own, other, chosen, noise, local_variance):
    raise NotImplementedError


# %% tags=["solution"]
def exchange(own, other, chosen, noise, local_variance):
    sd = (own - other).abs() / local_variance
    return torch.stack(
        [torch.where(chosen, other + sd * noise[0], own), torch.where(chosen, own + sd * noise[1], other)]
    )


# %% tags=["check"]
lab.check("10.1", exchange)

# %% [markdown] tags=["exercise"]
# **10.2 Predict.** Of four images the teacher takes three for class A and one for class B, quite sure each time. There
# are four classes. What is the information entropy loss? Write the number before you compute anything with code.
#
# <details><summary>Hint</summary>The mean output is (¾, ¼, 0, 0), and 0 log 0 counts 0.</details>

# %% tags=["exercise"]
my_entropy = ...

# %% tags=["solution"]
my_entropy = -0.5623  # ¾ log ¾ + ¼ log ¼

# %% tags=["check"]
lab.check("10.2", my_entropy)

# %% [markdown] tags=["exercise"]
# **10.3 Build.** The BatchNorm statistics loss of one layer: `x` is its input (B, C, H, W), `mean` and `variance` are
# what the layer keeps, (C,) each.
#
# <details><summary>Hint</summary>x.transpose(0, 1).flatten(1) has one row per channel.</details>


# %% tags=["exercise"]
def statistics_loss(x, mean, variance):
    raise NotImplementedError


# %% tags=["solution"]
def statistics_loss(x, mean, variance):
    rows = x.transpose(0, 1).flatten(1)
    return (rows.mean(dim=1) - mean).norm() + (rows.var(dim=1) - variance).norm()


# %% tags=["check"]
lab.check("10.3", statistics_loss)

# %% [markdown] tags=["exercise"]
# **10.4 Repair.** DeepInversion's published code for small images has this in its loop: `if loss < best_loss:
# best_loss, best = loss, x.data`. What it returns is not the best. Write it right: begin with a copy of `start`; in
# each of `steps` rounds look at `loss(x)`, keep `x` if it is the least so far, then call `step(x)`, which changes `x`
# in place.
#
# <details><summary>Hint</summary>What do x.data and x share?</details>


# %% tags=["exercise"]
def best_of(start, loss, step, steps):
    raise NotImplementedError


# %% tags=["solution"]
def best_of(start, loss, step, steps):
    x, least = start.clone(), float("inf")
    best = x.clone()
    for _ in range(steps):
        value = float(loss(x))
        if value < least:
            least, best = value, x.clone()
        step(x)
    return best


# %% tags=["check"]
lab.check("10.4", best_of)

# %% [markdown]
# **Going further** (not checked): give MUNGE the letter too, as a nominal attribute: what do the exchanged labels do?
# Mix rungs: half noise, half other images. Which share of real images brings most of what there is to gain?

# %%
lab.quiz("10")

# %% [markdown]
# ## 9. When to use which, and when not
#
# **Real inputs without labels** first: they brought the student nearest to the teacher, on letters and on images, and
# were cheap. **MUNGE** where there are few examples of a table with numbers and names, and a teacher that is better
# than what their labels teach. **Data-free** only where there is no data at all and the teacher lies open before you;
# use its BatchNorm statistics if it has them. **Noise** never, where anything else can be had.
#
# **When not:** the teacher is no better than a student on labels (then there is nothing to compress); MUNGE on pixels
# or text, which nobody tried here and whose neighbours exchange no meaning; another set whose inputs look different to
# the teacher.
#
# **Cost:** one question to the teacher per example; for generators several times the student's own training.
#
# **Copy it:** `python -m kdref copy transfer_data` writes two files that need only torch; `python -m kdref copy munge`
# writes that function and what it calls.
#
# **Further reading:** [Bucilă et al. 2006](https://doi.org/10.1145/1150402.1150464), the beginning;
# [DeepInversion](https://arxiv.org/abs/1912.08795), for its pictures.
#
# **Next lesson:** [11](11_language_models.ipynb), language models: half the layers of a pre-trained encoder.
