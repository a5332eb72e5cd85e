# %% [markdown]
# # 15 · Fidelity
#
# **Does the student really copy its teacher, what does it copy, and why does that help?**
#
# **You will be able to**
#
# - measure how alike two networks are, and subtract what is alike by chance;
# - say what makes a student more like its teacher, and why that need not make it better;
# - show that a habit, too, is passed on, even by outputs that all look right;
# - tell the three explanations of distillation apart, and what speaks against each;
# - test a loss of your own in five lines, by what published bugs have taught.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb); for section 4 [lesson 08](08_self_distillation.ipynb) helps.
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/fidelity/` (the measures), `kdref/lab/experiments/fidelity_*.py` (the long experiments),
# `tests/museum/` (the published bugs), `kdref/lab/experiments/_wrong_losses.py` (six of them).
#
# **Papers:** [Stanton et al. 2021](https://arxiv.org/abs/2106.05945), [Geirhos et al.
# 2020](https://arxiv.org/abs/2006.16736), [Menon et al. 2021](https://arxiv.org/abs/2005.10419), [Allen-Zhu and Li
# 2023](https://arxiv.org/abs/2012.09816), [Guo et al. 2017](https://arxiv.org/abs/1706.04599).

# %% tags=["setup"]
import pandas as pd
import torch
import torch.nn.functional as F

from kdref import lab
from kdref.fidelity import (
    error_consistency,
    expected_calibration_error,
    fitted_temperature,
    top1_agreement,
    wrong_answer_agreement,
)
from kdref.lab import data, experiments, report
from kdref.lab.experiments import (
    _fidelity,
    fidelity_copy,
    fidelity_habit,
    fidelity_why_regularisation,
    fidelity_why_variance,
    fidelity_why_views,
)
from kdref.lab.experiments._wrong_losses import PROPERTIES, right_loss
from kdref.lab.report import style
from kdref.lab.widgets.fidelity import overlap_explorer, overlap_figure
from kdref.response import dist_loss, nontarget_class_divergence, target_class_divergence

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. Right, or alike?
#
# Distillation is sold as copying: the student is to *become* its teacher, only smaller. The tables of this course
# measure something else: whether the student is *right*. How like its teacher is it? The simplest measure is
# [**agreement**](GLOSSARY.md#agreement), the share of examples on which both choose the same class.
#
# Mind the floor. Two networks that know nothing of each other agree wherever both are right. One of accuracy 0.8 and
# one of 0.7, with independent errors, are both right or both wrong on 0.8 · 0.7 + 0.2 · 0.3 = 62 % of the examples.
# **[Error consistency](GLOSSARY.md#error-consistency)** (Geirhos et al. 2020) subtracts that, as Cohen's κ does:
#
# $$\kappa = \frac{o - e}{1 - e}$$
#
# $o$ the observed share of examples on which both are right or both wrong, $e$ the share that their accuracies alone
# would give. 0 is chance, 1 the same errors.

# %%
lab.show(top1_agreement)
lab.show(error_consistency)

# %% [markdown]
# **By hand.** Five examples of class 0. The student is wrong on the first and the second, the teacher on the second and
# the third: $o$ = 3/5, both have accuracy 3/5, $e$ = 9/25 + 4/25 = 0.52, so κ = 0.08/0.48 = 0.167. They agree on the
# class in three of five, if they make the second mistake alike.

# %%
student_logits = torch.tensor([[0.0, 2, 1], [0, 1, 2], [2, 1, 0], [2, 0, 1], [2, 0, 1]])
teacher_logits = torch.tensor([[2.0, 0, 1], [0, 1, 2], [0, 2, 1], [2, 0, 1], [2, 1, 0]])
labels = torch.zeros(5, dtype=torch.long)
print("agreement:", round(top1_agreement(student_logits, teacher_logits).mean().item(), 3))
print("error consistency:", round(error_consistency(student_logits, teacher_logits, labels).item(), 3))
wrong = wrong_answer_agreement(student_logits, teacher_logits, labels).item()
print("of the teacher's mistakes, made alike:", wrong)

# %% [markdown]
# Two networks of those accuracies, at κ = 0.3:

# %%
report.figure(
    overlap_figure(0.8, 0.7, 0.3),
    "shares of examples: both right, only the student right, only the teacher right, both wrong, beside the shares "
    "that independent errors would give",
)

# %% [markdown]
# Move the accuracies up: how much agreement is there with no copying at all?

# %%
overlap_explorer()

# %% [markdown]
# ## 2. Does it copy?
#
# Stanton et al. (2021) asked it of networks as large as their teachers, which *could* be exact copies, and found that
# they are not. We do the same on MNIST-1D: teacher and student are one architecture, 400 steps, soft targets at τ = 1
# on the teacher's own training set.

# %%
known, teacher = _fidelity.parts(), _fidelity.teacher(BASE_SEED)
said = lab.teacher_outputs(teacher, known.train_x)
student = _fidelity.learn(_fidelity.first_weights(BASE_SEED), known.train_x, said, seed=100 + BASE_SEED)
found = _fidelity.measures(student, teacher)
assert found["training_agreement"] > 0.85
assert found["agreement"] < 0.8
print("the same network, its teacher's outputs on every training signal: yes")
print("they agree on more than 85 % of the signals that it was taught on, on less than 80 % of new ones: yes")

# %% [markdown]
# **The experiment**, 24 seeds. What would make it a better copy? *Longer*: four times the steps. *Fresh*: the teacher's
# logits on 4, 16 or 64 times as many new signals, at those same steps. *Between*: a start on the line from new weights
# to the teacher's, 0.25, 0.375 or 0.5 of the way. *The teacher's first weights*: the same start that the teacher had.
# And the floors: a student of *another teacher*, and one of *labels*, which never met this one.

# %%
copied = experiments.load("fidelity_copy")
print(experiments.provenance("fidelity_copy")["command"], "·", len(copied), "runs,", copied["seed"].nunique(), "seeds")
seed = BASE_SEED if BASE_SEED in set(copied["seed"]) else 0
for arm in ("labels", "training data"):
    live = fidelity_copy.run(seed, arm)
    kept = copied.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(live["agreement"] - kept["agreement"]) < 0.03  # other processors round differently
    print(f"{arm}: agreement within three points of the stored run")

# %% tags=["nbval-ignore-output"]
order = list(fidelity_copy.ARMS)
columns = ["agreement", "training_agreement", "accuracy", "error_consistency", "wrong_answer_agreement"]
means = copied.groupby("arm")[columns].mean().loc[order]
report.table(means, percent=["agreement", "training_agreement", "accuracy", "wrong_answer_agreement"])
found = report.verdicts(copied, baseline="training data", metric="agreement").loc[
    [arm for arm in order if arm != "training data"]
]
report.table(found)

# %%
like = report.verdicts(copied, baseline="training data", metric="agreement")["all seeds"]
right = report.verdicts(copied, baseline="training data", metric="accuracy")["all seeds"]
assert (like[["fresh 4x", "fresh 16x", "fresh 64x", "between 0.25", "between 0.375", "between 0.5"]] == "helps").all()
assert (like[["labels", "another teacher", "labels of fresh 64x"]] == "hurts").all()
assert like["longer"] == "no useful difference"
assert means.loc["longer", "training_agreement"] > 0.97
assert right["labels of fresh 64x"] == "helps"
longer = lab.compare(copied, baseline="longer", metric="accuracy").loc["fresh 64x"]
assert -0.01 < longer["low"] < longer["high"] < 0.01
gain = means.loc["fresh 64x"] - means.loc["training data"]
assert gain["agreement"] > 0.08
assert gain["accuracy"] < 0.015
print("four times the steps: a copy on the training signals (over 97 %), and no more alike on new ones: yes")
print("fresh signals make it ten points more alike, and no more right than as many steps without them: yes")
print("labels of the same fresh signals make it far more right, and less like its teacher: yes")

# %%
groups = {
    "floors": ["labels", "another teacher"],
    "training data": ["training data", "longer", "teacher's first weights"],
    "fresh signals": ["fresh 4x", "fresh 16x", "fresh 64x"],
    "start between": ["between 0.25", "between 0.375", "between 0.5"],
    "fresh, by labels": ["labels of fresh 64x"],
}
with style.new_figure(9, 4.4) as (figure, (ax,)):
    for place, (name, arms) in enumerate(groups.items()):
        x, y = (means.loc[arms, column] for column in ("agreement", "accuracy"))
        ax.scatter(x, y, color=style.COLORS[place], marker=style.MARKERS[place], s=80, label=name)
    ax.set(xlabel="agreement with the teacher", ylabel="accuracy", xlim=(0.6, 0.92), ylim=(0.55, 0.95))
    style.percent_axis(ax.xaxis)
    style.percent_axis(ax.yaxis)
    ax.legend(loc="upper right")
report.figure(
    figure,
    "accuracy against agreement: all students of the teacher lie on a level near 64 %, from 72 % agreement to 88; the "
    "one that learned labels of fresh signals is far above at the lowest agreement",
)

# %% [markdown]
# - **It does not copy.** As large as its teacher and taught on every signal that it knows, the student agrees with it
#   on 72 % of new ones; a network that never met it agrees on 68 %, for both are right on many.
# - **Capacity is not what is missing**, and on the training signals it comes to 99 % with time. Elsewhere it is another
#   network.
# - **Two things make it a better copy:** more of the teacher's answers on other inputs, and a start near the teacher. A
#   start at the teacher's *first* weights is worth half a point at most: what leads a network to its place is more than
#   where it begins.
# - **A better copy is not a better network.** Sixty-four times the data bring ten points of agreement and next to
#   nothing in accuracy: the teacher is right on 64 % itself. The *labels* of the same signals bring 22 points, and a
#   student that is less like the teacher than a stranger is.
#
# So fidelity and generalisation are two aims. If you want the teacher's function (to replace it in a product, to
# explain it), measure agreement. If you want to be right, measure that.

# %%
assert means.loc["training data", "agreement"] - means.loc["labels", "agreement"] < 0.06
assert means.loc["teacher's first weights", "agreement"] - means.loc["training data", "agreement"] < 0.012
assert means.loc["labels of fresh 64x", "agreement"] < means.loc["labels", "agreement"]
assert means.loc["labels of fresh 64x", "accuracy"] > means.loc["fresh 64x", "accuracy"] + 0.2
print("each number in these lines: yes")

# %% [markdown]
# ## 3. What is passed on?
#
# **Right answers or wrong ones?** Where the teacher is wrong, does the student make the *same* mistake? Who errs
# there and only guesses hits the same wrong class one time in nine.

# %%
lab.show(wrong_answer_agreement)
report.table(means.loc[["labels", "another teacher", "training data", "longer", "fresh 64x"], columns], decimals=2)

# %%
mistakes = report.verdicts(copied, baseline="training data", metric="wrong_answer_agreement")["all seeds"]
assert (mistakes[["labels", "another teacher"]] == "hurts").all()
assert mistakes["fresh 64x"] == "helps"
share = means["wrong_answer_agreement"]
assert share["labels"] > 0.35
assert share["fresh 64x"] > share["labels"] + 0.2
print("a stranger makes four of ten of its mistakes anyway; the student five, with fresh signals nearly seven: yes")

# %% [markdown]
# Much of the agreement on mistakes comes from the signals: some are hard in one direction for everybody. What comes on
# top, up to 26 points, is the teacher's own. [Work of 2025](https://arxiv.org/abs/2510.12615) comes to the same:
# against a control teacher, what is passed on is largely wrong answers.
#
# **Confidence.** A network is [calibrated](GLOSSARY.md#calibration-error) if it is right on 80 % of what it says with a
# probability of 0.8. The error is the mean distance of the two, over 15 bins of confidence:

# %%
lab.show(expected_calibration_error)
probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
print(round(expected_calibration_error(probabilities, torch.tensor([0, 0, 0, 1])).item(), 3), "= (0.1 + 0.1) / 2")

# %%
calibrated = copied.groupby("arm")[["calibration_to_labels", "calibration_to_teacher", "confidence"]].mean()
assert calibrated.loc["labels", "calibration_to_labels"] > calibrated.loc["training data", "calibration_to_labels"]
to_teacher = calibrated["calibration_to_teacher"]
assert to_teacher["training data"] < to_teacher["another teacher"] < to_teacher["labels"]
print("the student's confidence fits its own teacher's choices better than another's, and far better than a stranger's")
temperature = fitted_temperature(lab.teacher_outputs(teacher, known.test_x[:5000]), known.test_y[:5000])
assert temperature > 1
print("the teacher is too sure: its logits must be divided by a temperature above 1")

# %% [markdown]
# (The temperature that fits a network's confidence to its labels, Guo et al. 2017, is found on held-out data. It
# changes no choice. Distillation's τ has another purpose and need not be the same.)
#
# **A habit.** We plant one: a teacher that calls *bold* sevens twos, and is right on all else. Its students see other
# images. Then we make it hard: every image on which the teacher errs is thrown away. No seven that is called two is
# left: all that the student is shown is right.

# %%
habit = experiments.load("fidelity_habit")
live = fidelity_habit.run(0, "habit | right answers only | logits at 4")
kept = habit.query("seed == 0 and arm == 'habit | right answers only | logits at 4'").iloc[0]
assert abs(live["habit"] - kept["habit"]) < 0.15  # other processors round differently
print("of the shown sevens called twos:", round(live["called"], 3), "· a live run: near the stored one")

# %% tags=["nbval-ignore-output"]
order = list(fidelity_habit.ARMS)
did = habit.groupby("arm")[["habit", "right_there", "accuracy", "called", "whispered", "images"]].mean().loc[order]
report.table(
    did, percent=["habit", "right_there", "accuracy"], caption="of bold sevens called twos, sevens; accuracy elsewhere"
)

# %%
clean = [f"habit | right answers only | {form}" for form in fidelity_habit.SAID]
compared = lab.compare(habit[habit["arm"].isin(["labels", *clean])], baseline="labels", metric="habit")
assert (compared.loc[clean, "verdict"] == "helps").all()
assert (did.loc[[arm for arm in order if arm.startswith("habit | all")], "habit"] > 0.7).all()
assert did.loc[[arm for arm in order if arm.startswith("no habit")], "habit"].max() < 0.05
assert did.loc[clean[2], "habit"] < 0.1
assert did.loc[clean[0], "habit"] > 0.35
assert did.loc[clean[1], "habit"] > did.loc[clean[0], "habit"]
assert (did.loc[clean, "called"] == 0).all()
print("shown all, students take on the habit, by logits or by answers: yes; from a teacher without it: no")
print("shown right answers only, by the answers nearly nothing of it arrives, by soft outputs much: yes")

# %% [markdown]
# - **Unfiltered, all of it arrives,** in four of five bold sevens, whatever the temperature; the teacher itself does it
#   in 83 of 100.
# - **Filtered, the answers carry hardly anything** (5 %; without any teacher 2 %). **The soft outputs carry half of
#   it**: 46 % at τ = 1, 59 % at τ = 4, although each image that the student saw was classified rightly. The habit is
#   whispered: in sevens that are not bold, two has a probability of 12 % in the mean.
#
# That is what [dark knowledge](GLOSSARY.md#dark-knowledge) is, seen from its other side. Checking a teacher's *answers*
# does not clean its outputs. [Lesson 16](16_provenance.ipynb) comes back to it.
#
# ## 4. Why does it help at all?
#
# Three explanations are on offer. Each has a small world in which it can be seen, and each has something against it.
#
# **Targets that vary less** (Menon et al. 2021). A label is one draw from the class probabilities at its input. A
# target that *is* those probabilities has the same mean and leaves the draw out: the student's risk varies less from
# one training set to another. Here the true probabilities are known: five Gaussian classes, 50 examples, linear
# students.

# %% tags=["nbval-ignore-output"]
variance = experiments.load("fidelity_why_variance")
columns = ["accuracy", "best_possible", "risk_bias", "gradient_deviation"]
varied = variance.groupby("arm")[columns].mean().loc[list(fidelity_why_variance.ARMS)]
report.table(varied, percent=["accuracy", "best_possible"])

# %%
drawn = variance[variance["arm"].str.startswith("drawn")]
settled = variance[variance["arm"].str.startswith("settled")]
helped = lab.compare(drawn, baseline="drawn | labels", metric="accuracy")["verdict"]
assert (helped[[arm for arm in helped.index if arm != "drawn | labels"]] == "helps").all()
spread = varied["gradient_deviation"]
assert spread["drawn | true probabilities"] < 0.5 * spread["drawn | labels"]
assert varied.loc["drawn | teacher", "accuracy"] > varied.loc["drawn | true probabilities", "accuracy"] - 0.02
assert varied.loc["drawn | teacher", "accuracy"] > varied.loc["drawn | labels, weight decay", "accuracy"] + 0.05
assert (
    lab.compare(settled, baseline="settled | labels", metric="accuracy").loc["settled | teacher", "verdict"] == "helps"
)
print(
    "true probabilities: less than half the spread of the gradient, and better students: yes; a good teacher nearly so"
)
print("where labels are no draw at all, the teacher helps as much: yes")

# %% [markdown]
# *Against it:* in the control world there is no draw, labels *are* the true probabilities, and the teacher helps as
# much. It says more than the label even there: how far from the border an example lies.
#
# **Many views** (Allen-Zhu and Li 2023). A class can be told by several features. A network stops looking when it has
# found one; which one is luck, so an [ensemble](GLOSSARY.md#ensemble) has them all, and its soft outputs tell the
# student of the others.

# %% tags=["nbval-ignore-output"]
views = experiments.load("fidelity_why_views")
seen = views.groupby("arm")[["accuracy", "views", "training_accuracy"]].mean().loc[list(fidelity_why_views.ARMS)]
report.table(seen, percent=list(seen), caption="on examples that show one of two views; a world with one view")

# %%
two, one = (views[views["arm"].str.startswith(kind)] for kind in ("two", "one"))
both = lab.compare(two, baseline="two views | one network", metric="accuracy")["verdict"]
alone = lab.compare(one, baseline="one view | one network", metric="accuracy")["verdict"]
assert both["two views | ensemble"] == both["two views | taught by the ensemble"] == "helps"
assert both["two views | taught by one"] != "helps"
assert alone["one view | taught by the ensemble"] == "hurts"
print("two views: the ensemble helps, and whom it teaches; a single teacher is not shown to: yes")
print("one view: the ensemble's student gains nothing: yes")

# %% [markdown]
# *Against it:* the world is made for the explanation. On ordinary data single teachers help too (lessons 01 and 02),
# and whether images have views in this sense is not settled.
#
# **Regularisation.** Soft targets keep a student from being sure: so does [label
# smoothing](GLOSSARY.md#label-smoothing). [Lesson 08](08_self_distillation.ipynb) took the teacher's answers apart:
# *shuffled* among the wrong classes they tell nothing of which one is likely. Two worlds: a *better teacher*, from many
# more signals, and right labels; and a teacher that is no better, with 30 % of the labels wrong.

# %% tags=["nbval-ignore-output"]
regular = experiments.load("fidelity_why_regularisation")
parts = regular.groupby("arm")[["accuracy", "nll", "agreement", "teacher_accuracy"]].mean()
report.table(parts.loc[list(fidelity_why_regularisation.ARMS)], percent=["accuracy", "agreement", "teacher_accuracy"])

# %%
better = regular[regular["arm"].str.startswith("better")]
wrongly = regular[regular["arm"].str.startswith("wrong")]
taught = lab.compare(better, baseline="better teacher | labels", metric="accuracy")["verdict"]
kept = lab.compare(wrongly, baseline="wrong labels | labels", metric="accuracy")["verdict"]
assert taught["better teacher | whole"] == "helps"
assert taught["better teacher | shuffled"] == "hurts"
assert taught["better teacher | smoothed labels"] == "no useful difference"
assert (
    kept["wrong labels | smoothed labels"] == kept["wrong labels | shuffled"] == kept["wrong labels | whole"] == "helps"
)
accuracy = parts["accuracy"]
assert accuracy["wrong labels | smoothed labels"] > accuracy["wrong labels | whole"]
print(
    "a better teacher helps whole, not shuffled: yes; with wrong labels all soft targets help, smoothing the most: yes"
)

# %% [markdown]
# So all three are seen, each where its condition holds: with a teacher that *knows* more, what it says of the wrong
# classes counts; with labels that are wrong, softness alone does. Ask of any gain which of them it is: shuffle the dark
# knowledge, smooth the labels to the same sureness, and look what is left.
#
# ## 5. The museum
#
# Each function of this project is tested against wrong versions of itself: bugs that other projects published, some of
# our own, and the likeliest slips. This is the whole [museum](GLOSSARY.md#museum), by topic (*PITFALLS* and a number is
# a line in our notes on other projects' bugs):

# %%
museum = pd.read_csv(data.data_folder() / "museum.csv")
museum["published"] = ~museum["seen in"].str.contains("a likely slip|kdref|our own|a planted")
rooms = museum.groupby("topic")["published"].agg(exhibits="count", published="sum")
report.table(rooms)
print(len(museum), "exhibits,", int(museum["published"].sum()), "of them seen elsewhere")

# %% [markdown]
# Some of those that others published:

# %%
for name in ("soft targets", "response", "feature", "relation", "language", "transfer data"):
    row = museum[(museum["topic"] == name) & museum["published"]].iloc[0]
    print(
        f"{row['replaces']}: {row['what is wrong']}\n    seen in {row['seen in']}\n    noticed by {row['noticed by']}"
    )

# %% [markdown]
# **Three of them, live**, from losses of [lesson 02](02_response_based.ipynb). *The logarithm of a softmax:* the
# published code of decoupled distillation adds probabilities, then takes the log. A probability that
# [underflows](GLOSSARY.md#underflow) to 0 has the logarithm −∞, and the gradient is lost. In float32, for student
# logits (s, 0, −s) and teacher logits half as large:

# %%
first = torch.tensor([0])
for size in (1.0, 20.0, 60.0, 200.0):
    s = torch.tensor([[size, 0.0, -size]], requires_grad=True)
    t = s.detach() / 2
    q, p = (torch.stack([x[0, 0], x[0, 1:].sum()]) for x in (s.softmax(-1), t.softmax(-1)))
    published = (p * (p.log() - q.log())).sum()
    ours = target_class_divergence(s, t, first).sum()
    finite = [bool(torch.autograd.grad(loss, s)[0].isfinite().all()) for loss in (published, ours)]
    print(f"s = {size:3.0f}: published {published:.4f}, gradient finite {finite[0]!s:5}; ours {ours:.4f}, {finite[1]}")
assert finite == [False, True]

# %% [markdown]
# *A mask of −1000:* to leave the target out, the same code subtracts 1,000 from its logit. A target of 10,000 is still
# the largest, and the divergence of the others, whose logits differ by 2, silently becomes 0.

# %%
s, t = torch.tensor([[10_000.0, 0.0, 2.0]]), torch.tensor([[10_000.0, 2.0, 0.0]])
mask = torch.tensor([[1000.0, 0.0, 0.0]])
published = F.kl_div((s - mask).log_softmax(-1), (t - mask).softmax(-1), reduction="batchmean")
print(f"published {published:.3f}, ours {nontarget_class_divergence(s, t, first).item():.3f}")

# %% [markdown]
# *A sign:* DIST minimises one minus a correlation. A published variant (torchdistill's DIST+) *adds* the correlation in
# one of its terms, and its test compared the loss with a number that the code itself had made. The same sign in the
# term by class, 50 steps of gradient descent on the student's logits:

# %%
index = torch.arange(32, dtype=torch.float64).reshape(8, 4)
t, start = 3 * torch.sin(index**2 % 11), torch.sin(2.1 * index)
after = {}
for sign in (1, -1):
    z = start.clone().requires_grad_()
    for _ in range(50):
        loss = dist_loss(z, t, intra_weight=0.0) + sign * dist_loss(z, t, inter_weight=0.0)
        z.data -= 5 * torch.autograd.grad(loss, z)[0]
    after[sign] = 1 - dist_loss(z, t, inter_weight=0.0).item()
before = 1 - dist_loss(start, t, inter_weight=0.0).item()
assert after[1] > 0.9 > before > after[-1]
print(f"correlation by class: before {before:.1f}; after, right sign {after[1]:.1f}, wrong sign {after[-1]:.1f}")

# %% [markdown]
# What they have in common: the loss falls, the student learns *something*, and no error is raised. So look at
# properties, not at curves. Six of them betray many of these bugs:
#
# - **zero at agreement:** student = teacher gives 0;
# - **shift of logits:** a number added to all logits changes nothing;
# - **order of the batch:** turned round, the batch costs the same;
# - **scale of the gradient:** with τ² it hardly changes from τ = 50 to τ = 100;
# - **two values of C:** classes that nobody thinks possible change nothing;
# - **a masked row:** padding changes nothing.
#
# Exercise 15.3 gives you six wrong losses to find out. **The recipe, to be copied** for a loss of your own, of student
# logits, teacher logits, temperature and mask:

# %%
for name, what_it_shows in PROPERTIES.items():
    print(f"{name}: {what_it_shows(right_loss) or 'as it should be'}")

# %%
loss, z, t, ones = right_loss, torch.randn(4, 3), torch.randn(4, 3), torch.ones(4)
torch.testing.assert_close(loss(t, t, 2.0, ones), torch.tensor(0.0))
torch.testing.assert_close(loss(z + 3, t, 2.0, ones), loss(z, t, 2.0, ones))
torch.testing.assert_close(loss(z.flip(0), t.flip(0), 2.0, ones), loss(z, t, 2.0, ones))
torch.testing.assert_close(loss(z.repeat(2, 1), t.repeat(2, 1), 2.0, torch.ones(8)), loss(z, t, 2.0, ones))
padded, mask = (torch.cat([rows, rows[:2]]) for rows in (z, t)), torch.tensor([1.0, 1, 1, 1, 0, 0])
torch.testing.assert_close(loss(*padded, 2.0, mask), loss(z, t, 2.0, ones))
print("zero, shift, order, size of the batch, padding: yes")

# %% [markdown]
# ## 6. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/15_fidelity.ipynb](solutions/15_fidelity.ipynb).

# %% [markdown] tags=["exercise"]
# **15.1 Predict.** Two networks of accuracy 0.8 and 0.7 make their mistakes independently. On which share of the
# examples are both right or both wrong?
#
# <details><summary>Hint</summary>Both right: a product. Both wrong: another one.</details>

# %% tags=["exercise"]
my_share = ...

# %% tags=["solution"]
my_share = 0.62  # 0.8 * 0.7 + 0.2 * 0.3

# %% tags=["check"]
lab.check("15.1", my_share)

# %% [markdown] tags=["exercise"]
# **15.2 Build.** Error consistency from who is right where: `student_right` and `teacher_right` (B,), booleans. Where
# the accuracies alone would give full agreement, κ is 0.
#
# <details><summary>Hint</summary>observed = mean of equality; expected = both right by chance + both wrong by chance.
# </details>


# %% tags=["exercise"]
def consistency(student_right, teacher_right):
    raise NotImplementedError


# %% tags=["solution"]
def consistency(student_right, teacher_right):
    observed = (student_right == teacher_right).double().mean()
    s, t = student_right.double().mean(), teacher_right.double().mean()
    expected = s * t + (1 - s) * (1 - t)
    return torch.where(expected < 1, (observed - expected) / (1 - expected).clamp(min=1e-12), 0.0)


# %% tags=["check"]
lab.check("15.2", consistency)

# %% [markdown] tags=["exercise"]
# **15.3 Find out.** Six wrong losses, A to F, each a soft-target loss with one thing wrong
# (`kdref/lab/experiments/_wrong_losses.py`; don't look yet). For each, name the property of section 5 that betrays it:
# a dictionary of six letters. Guess, check, and read what the check saw.
#
# <details><summary>Hint</summary>You may also look for yourself: take LOSSES from
# kdref.lab.experiments._wrong_losses, and call a property with a loss.</details>

# %% tags=["exercise"]
my_choice = ...

# %% tags=["solution"]
my_choice = {
    "A": "two values of C",
    "B": "shift of logits",
    "C": "a masked row",
    "D": "zero at agreement",
    "E": "scale of the gradient",
    "F": "order of the batch",
}

# %% tags=["check"]
lab.check("15.3", my_choice)

# %% [markdown] tags=["exercise"]
# **15.4 Build.** Of the teacher's mistakes, the share on which the student makes the *same* wrong choice:
# `student_choice`, `teacher_choice`, `labels` (B,), whole numbers. 0 where the teacher makes no mistake.
#
# <details><summary>Hint</summary>First the mask of the teacher's mistakes; then the mean of equality over it.</details>


# %% tags=["exercise"]
def same_mistakes(student_choice, teacher_choice, labels):
    raise NotImplementedError


# %% tags=["solution"]
def same_mistakes(student_choice, teacher_choice, labels):
    mistakes = teacher_choice != labels
    shared = mistakes & (student_choice == teacher_choice)
    return shared.sum() / mistakes.sum().clamp(min=1)


# %% tags=["check"]
lab.check("15.4", same_mistakes)

# %% [markdown]
# **Going further** (not checked): plant a habit of your own, and look for the smallest share of whispering sevens that
# still carries it. Draw the line from new weights to the teacher's finer: where does the student's accuracy jump?

# %%
lab.quiz("15")

# %% [markdown]
# ## 7. When to use which measure, and when not
#
# **Agreement, with its floor,** whenever the student is to stand in for its teacher; with κ beside it, since two good
# networks agree anyway. **Accuracy** when it is to be right. **Calibration** to the labels if somebody acts on its
# confidence. **Habits** whenever the teacher might have one that you would not sign: look at the student's outputs, not
# at whether the teacher's answers were right.
#
# **To raise fidelity:** more inputs, answered by the teacher; a start near it. **To raise accuracy:** more labels, or a
# teacher that knows more. Longer training on the same inputs did neither, or hardly.
#
# **When not:** agreement on the *training* set says nothing of new inputs; small differences in calibration error mean
# little with few examples.
#
# **Cost:** one pass of both networks over a test set.
#
# **Copy it:** `python -m kdref copy fidelity` writes three files that need only torch.
#
# **Further reading:** [Stanton et al. 2021](https://arxiv.org/abs/2106.05945), the title asks this lesson's question;
# [Geirhos et al. 2020](https://arxiv.org/abs/2006.16736), on errors in common.
#
# **Next lesson:** [16 · Provenance](16_provenance.ipynb): whose knowledge is in a student, and can one tell?
