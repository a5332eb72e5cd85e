# %% [markdown]
# # 06 · Several teachers
#
# **What do several teachers know together, and how does a student survive a bad one?**
#
# **You will be able to**
#
# - average teachers in two ways, by [probabilities](GLOSSARY.md#average-of-probabilities) or by
#   [logits](GLOSSARY.md#average-of-logits), and say which of them lets one teacher veto a class;
# - write the loss against all teachers at once, and say below which value it cannot fall;
# - see where teachers [disagree](GLOSSARY.md#disagreement), and what that tells about their errors;
# - choose weights that a bad teacher does not fool, and say which weights it does fool;
# - judge from evidence whether an [assistant](GLOSSARY.md#assistant) between teacher and student is worth its training.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb); for section 9, the capacity gap in [lesson
# 02](02_response_based.ipynb).
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the sections marked *in depth*; {seconds}
# seconds to run on one thread.
#
# **Files:** `kdref/multi_teacher/averages.py` (averages, loss, disagreement), `kdref/multi_teacher/weights.py` (whom to
# trust).
#
# **Papers:** [Hinton, Vinyals and Dean 2015](https://arxiv.org/abs/1503.02531) (ensembles as teachers), [Vongkulbhisal
# et al. 2019](https://arxiv.org/abs/1904.06062) (teachers of different classes), [Mirzadeh et al.
# 2020](https://arxiv.org/abs/1902.03393) (assistants, TAKD), [Zhang, Chen and Wang
# 2022](https://arxiv.org/abs/2201.00007) (confidence, CA-MKD), [Ranzinger et al.
# 2024](https://arxiv.org/abs/2312.06709) (agglomerative models, AM-RADIO).

# %% tags=["setup"]
import pandas as pd
import torch
import torch.nn.functional as F

from kdref import lab
from kdref.lab import data, experiments, models, report
from kdref.lab.experiments import _councils, _councils_live, multi_teacher_councils, multi_teacher_ladder
from kdref.lab.experiments._councils import COUNCILS, HOWS, THREE, VIEWS, teacher, weights_of
from kdref.lab.report import plots, style
from kdref.lab.report.tables import ALL_SEEDS
from kdref.lab.widgets.multi_teacher import both_means, draw_views, teachers_explorer
from kdref.multi_teacher import (
    average_logits,
    average_probabilities,
    confidence_weights,
    disagreement,
    multi_teacher_loss,
)

lab.setup()
BASE_SEED = lab.base_seed()
SEEDS = range(BASE_SEED, BASE_SEED + 8)

# %% [markdown]
# ## 1. The idea
#
# Teachers know different things: one hospital has seen these diseases, another those. You can't deploy them all, but
# you can let all of them teach [**one** student](GLOSSARY.md#multi-teacher-distillation). (In 2015 it was an
# [**ensemble**](GLOSSARY.md#ensemble) of ten nets for speech.)
#
# Our teachers have different [views](GLOSSARY.md#view) of the digits. The first gets the **Fourier** magnitudes of the
# image: how much of each spatial frequency it has, and not where. The second gets the sums of the eight **rows**, the
# third those of the **columns**. The student sees the plain pixels, and no labels.

# %%
split = data.digits(BASE_SEED)
image = split.test_x[:1]
with style.new_figure(10, 2.7, columns=4) as (figure, axes):
    draw_views(axes, image, VIEWS)
report.figure(
    figure, "one digit as pixels, as the size of its spatial frequencies, and as bars of its row and column sums"
)
print({name: view(image).shape[1] for name, view in VIEWS.items()})

# %% [markdown]
# Each teacher is a perceptron with 100 hidden units, trained with 1,000 labels on its own view, by cross-entropy. A
# fourth one sees the pixels; it will serve as a reference, and later as the villain. (`teacher` in
# `kdref/lab/experiments/_councils.py` trains each once, and keeps what it says.)

# %%
truth = {seed: data.digits(seed).test_y for seed in SEEDS}
logits = {seed: torch.stack([teacher(seed, view)["test"] for view in THREE]) for seed in SEEDS}

# %% tags=["nbval-ignore-output"]
rows = [
    {view: (teacher(seed, view)["test"].argmax(-1) == truth[seed]).double().mean().item() for view in VIEWS}
    | {
        "three, probabilities": (average_probabilities(logits[seed]).argmax(-1) == truth[seed]).double().mean().item(),
        "three, logits": (average_logits(logits[seed]).argmax(-1) == truth[seed]).double().mean().item(),
    }
    for seed in SEEDS
]
known = pd.DataFrame(rows, index=list(SEEDS))
report.table(
    known.mean().to_frame("test accuracy").rename_axis("who"), percent=["test accuracy"], caption="means of eight seeds"
)

# %%
assert (known["three, probabilities"] > known[list(THREE)].max(axis=1) + 0.03).all()
assert (known["three, probabilities"] < known["pixels"]).all()
print("three teachers together beat the best of them by more than 3 points, on every seed: yes")
print("the one that sees pixels beats all three together, on every seed: yes")

# %% [markdown]
# ## 2. Two ways to average
#
# K teachers, weights $w_k$ that sum to 1. Average their **probabilities**, or average their **logits**:
#
# $$\bar p_c = \sum_k w_k\, p_{kc} \qquad\qquad
# \bar z_c = \sum_k w_k\, z_{kc} \;\Rightarrow\; \mathrm{softmax}(\bar z)_c \propto \prod_k p_{kc}^{w_k}$$
#
# The first is an arithmetic mean, the second a [geometric](GLOSSARY.md#geometric-mean) one, brought to the sum 1. An
# *or* and an *and*: in the first a class is likely if *one* teacher finds it likely, in the second if *every* teacher
# does. Hinton et al. allow both.

# %%
lab.show(average_probabilities)

# %% [markdown]
# **By hand.** Two teachers, three classes. One says (0.98, 0.01, 0.01), the other (0.02, 0.49, 0.49). Arithmetic:
# (0.50, 0.25, 0.25). Geometric: √(0.98 · 0.02) = 0.14 and √(0.01 · 0.49) = 0.07, of a sum of 0.28: (0.5, 0.25, 0.25).
# The same! Now the second gets surer: (0.0002, 0.4999, 0.4999). Arithmetic: hardly a change. Geometric: 0.014 against
# 0.0707 twice, so (0.09, 0.45, 0.45). The first class has lost.

# %%
for second in ([0.02, 0.49, 0.49], [0.0002, 0.4999, 0.4999]):
    pair = torch.tensor([[[0.98, 0.01, 0.01]], [second]]).log()  # log-probabilities are logits too
    arithmetic, geometric = average_probabilities(pair)[0], average_logits(pair).softmax(-1)[0]
    print("arithmetic", arithmetic.numpy().round(2), "  geometric", geometric.numpy().round(2))

# %% [markdown]
# ### Move it yourself
#
# Three teachers look at one image: A is fairly sure of a 3, B leans to 3 and thinks of 8, C leans to 5 and finds 3
# unlikely. The **loudness** multiplies a teacher's logits.

# %%
opinions = {
    "teacher A": torch.tensor([3.0, 0.0, 0.5]),
    "teacher B": torch.tensor([2.0, 0.0, 1.5]),
    "teacher C": torch.tensor([-2.0, 2.0, 0.0]),
}
with style.new_figure(10, 3.4, columns=2) as (figure, axes):
    for ax, loudness in zip(axes, (1.0, 6.0), strict=True):
        heard = opinions | {"teacher C": loudness * opinions["teacher C"]}
        plots.draw_bars(ax, both_means(heard), names=["3", "5", "8"])
        ax.set(ylim=(0, 1.02), xlabel="class", title=f"C's loudness: {loudness:g}")
    axes[0].set_ylabel("probability")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
report.figure(
    figure,
    "bars of three teachers and both means; when teacher C is six times as loud, the geometric mean follows C alone, "
    "the arithmetic one keeps the 3 alive",
)

# %%
loud = both_means(opinions | {"teacher C": 6 * opinions["teacher C"]})
for mean in ("arithmetic mean", "geometric mean"):
    print(f"{mean}, C loud: ", dict(zip("358", loud[mean].numpy().round(2).tolist(), strict=True)))

# %% [markdown]
# How loud a net is also depends on τ, which divides the logits. How far are the two means apart on our three teachers,
# in nats of KL(arithmetic ‖ geometric)?

# %%
between = {}
for temperature in (1.0, 4.0):
    z = logits[BASE_SEED]
    arithmetic = average_probabilities(z, temperature=temperature)
    geometric = (average_logits(z) / temperature).log_softmax(-1)
    between[temperature] = F.kl_div(geometric, arithmetic, reduction="batchmean").item()
assert between[1.0] > 10 * between[4.0]
print("at τ = 1 the two means are more than ten times as far apart as at τ = 4: yes")

# %% [markdown]
# Try: (1) find a loudness of C where the two means put different classes first; (2) bring the disagreement near its
# most, the number that is printed beside it.

# %%
teachers_explorer(opinions, class_names=["3", "5", "8"])

# %% [markdown]
# <details><summary>Answers</summary>(1) From 1.3 up: the geometric mean changes to 5, the arithmetic one keeps 3. (2)
# No weight for B, and A and C loud: log 2. With B it stays below log 3, for B and A choose the same class.</details>
#
# ## 3. The loss against all of them
#
# $$L = \frac{\tau^2}{B} \sum_i \sum_k w_{ki}\, \mathrm{KL}(p_{ki} \,\|\, q_i)
# = \frac{\tau^2}{B} \sum_i \Big[\mathrm{KL}(\bar p_i \,\|\, q_i) + \underbrace{\textstyle\sum_k w_{ki}\,
# \mathrm{KL}(p_{ki} \,\|\, \bar p_i)}_{\text{disagreement}}\Big]$$
#
# Should one average the losses or the probabilities? It makes no difference: they differ by the teachers' (weighted)
# [**Jensen-Shannon divergence**](GLOSSARY.md#jensen-shannon-divergence), which the student can't change. So the
# gradient is the same, and the loss of a perfect student is not 0.

# %%
lab.show(multi_teacher_loss)

# %% [markdown]
# **By hand.** Two sure teachers of opposite opinion, a student that says (½, ½). Both divergences are log 2 = 0.693, so
# is the loss; one pulls left, the other right, and the gradient is 0.

# %%
student_logits = torch.zeros(1, 2, requires_grad=True)
opposed = torch.tensor([[[50.0, 0.0]], [[0.0, 50.0]]])
loss = multi_teacher_loss(student_logits, opposed)
loss.backward()
print("loss", round(loss.item(), 3), "  gradient", student_logits.grad.tolist())
print("disagreement", round(disagreement(opposed).item(), 3))

# %%
index = torch.arange(24, dtype=torch.float64)
z_t = 3 * torch.sin(1.3 * index).reshape(3, 2, 4)  # three teachers, two examples, four classes
z_s = torch.cos(0.7 * index[:8]).reshape(2, 4)
for temperature in (1.0, 4.0):
    separate, joint = z_s.clone().requires_grad_(), z_s.clone().requires_grad_()
    of_all = multi_teacher_loss(separate, z_t, temperature=temperature)
    p = average_probabilities(z_t, temperature=temperature)
    of_average = temperature**2 * F.kl_div(F.log_softmax(joint / temperature, -1), p, reduction="batchmean")
    of_all.backward()
    of_average.backward()
    torch.testing.assert_close(separate.grad, joint.grad, rtol=0, atol=1e-12)
    apart = temperature**2 * disagreement(z_t / temperature).mean()
    torch.testing.assert_close(of_all, of_average + apart, rtol=0, atol=1e-12)
    print(f"τ = {temperature:g}: {of_all.item():.3f} = {of_average.item():.3f} + {apart.item():.3f}, equal gradients")

# %% [markdown]
# **From the museum**, two silent slips. *Softened twice:* the average is a probability; put through softmax again,
# near-certainty becomes little more than a half. *Divided by K once more:* the authors' code of CA-MKD has weights that
# sum to 1 and divides by K as well, so the more teachers, the less they count beside the labels.

# %% [markdown]
# ## 4. Three views, one student
#
# The student, 32 hidden units on pixels, is taught on the 1,000 training images without labels. Arms, all with the same
# first weights, order, optimiser (Adam at 0.01, not tuned) and number of steps:
#
# - **three views, probabilities** or **logits**: all three teachers, equal weights, both means, at τ = 4 and at τ = 1;
# - **Fourier alone**: the best of the three; **pixels alone**: the reference, a single teacher that sees all;
# - **pixels, 3 seeds**: the standard ensemble, three pixel teachers that differ in their first weights only;
# - **50 labels**: no teacher, but the labels of 50 images.
#
# Who teaches (the last three are for sections 6 and 7), and the training of every taught student up to section 7:

# %%
for who, names in COUNCILS.items():
    print(f"{who}: {', '.join(names)}")

# %%
lab.show(_councils.taught)

# %% [markdown]
# Each arm ran on 24 seeds, for 10 epochs as in lesson 01 and for 40: what haste makes goes away with time. The runs are
# stored; two of them anew:

# %%
stored = experiments.load("multi_teacher_councils")
STORED = BASE_SEED if BASE_SEED in set(stored["seed"]) else 0  # a seed that is stored
for how in ("probabilities", "logits"):
    arm = f"three views | {how}, τ = 1"
    live, kept = multi_teacher_councils.run(STORED, arm), stored.query("seed == @STORED and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.01  # other processors round differently
    print(f"{arm}: within a point of the stored run")

# %%
runs = _councils_live.by_budget()  # 10: runs of 10 epochs, 40: of 40
base, single = "three views | probabilities", "pixels alone | logits"
ways = ["three views | logits", "Fourier alone | logits", single, "50 labels"]
views, views_by_group = _councils_live.against(base, ways, runs=runs)
ways = ["three views | logits", base, f"{base}, τ = 1"]
means, means_by_group = _councils_live.against("three views | logits, τ = 1", ways, runs=runs)
ensemble, ensemble_by_group = _councils_live.against(single, ["pixels, 3 seeds | probabilities"], runs=runs)
for result, table in ((views, views_by_group), (means, means_by_group), (ensemble, ensemble_by_group)):
    report.comparison(result, caption=f"40 epochs, all seeds, against {result.index[0]}")
    report.table(table, caption="the same, after 40 epochs by group of seeds and over all; after 10 over all")

# %%
seen = pd.DataFrame({f"{n} epochs": found.groupby("arm")["training_accuracy"].mean() for n, found in runs.items()})
shown = [*dict.fromkeys([*views.index, *means.index, *ensemble.index])]
report.table(
    seen.loc[shown], percent=list(seen), caption="right on the 1,000 training images, 50 of them seen by 50 labels"
)

# %%
for arm, expected in (("Fourier alone | logits", "hurts"), ("50 labels", "hurts"), ("pixels alone | logits", "helps")):
    assert (views_by_group.loc[arm] == expected).all()
    print(f"against three views by probabilities, in each group and at both budgets, {arm}: {expected}")
assert views.loc["Fourier alone | logits", "high"] < -0.03
print("three views teach more than 3 points more than the best of them alone: yes")
assert list(views_by_group.loc["three views | logits", [ALL_SEEDS, "10 epochs"]]) == ["no useful difference", "helps"]
print("at τ = 4, logits against probabilities:", views_by_group.loc["three views | logits", ALL_SEEDS])
assert (means_by_group.loc["three views | probabilities, τ = 1"] == "hurts").all()
assert means.loc["three views | probabilities, τ = 1", "high"] < -0.015
print("at τ = 1, probabilities teach more than a point and a half less than logits: yes")
assert means.loc["three views | logits", "verdict"] == "no useful difference"
assert means.loc["three views | probabilities", "verdict"] == "hurts"
print("against logits at τ = 1,", *(report.verdict(means, arm) for arm in means.index[1:]), sep="\n  ")
assert ensemble["high"].iloc[1] < 0.005
print("three pixel teachers, against one:", ensemble["verdict"].iloc[1], "by less than half a point")

# %% [markdown]
# - **Helped:** three half-blind teachers make a better student than the best of them alone (by four points), and than
#   50 labels do. It learns to use the pixels, which none of the three sees.
# - **Not as good as seeing all:** one teacher that looks at the pixels teaches three points more than the three
#   together.
# - **The standard ensemble**, three nets of other first weights: no useful difference after 10 epochs, three tenths of
#   a point after 40. That is shown, and small.
# - **Probabilities or logits?** At τ = 4 the two targets hardly differ, and patience leaves no useful difference. At
#   τ = 1 they do, and probabilities teach two points less. After 40 epochs logits are as good at either τ, and
#   probabilities at τ = 4 lose 0.7 of a point to them. The likely reason: each of these teachers has doubts of its own,
#   and an *and* uses all of them. That is for honest teachers; section 6 brings one that is not.
#
# ## 5. Disagreement, seen
#
# The constant of section 3 is worth a look by itself. `disagreement` gives it per image: 0 where all say the same, log
# 3 = 1.10 where three are sure of three classes. The test images on which our teachers disagree the most, with the
# choices of Fourier, rows and columns:

# %%
apart = disagreement(logits[BASE_SEED])
most = apart.argsort(descending=True)[:8]
choices = logits[BASE_SEED].argmax(-1)[:, most].T.tolist()
report.figure(
    report.examples(split.test_x[most], [" ".join(map(str, row)) for row in choices]),
    "eight digits on which the three teachers disagree the most, with their three choices, most of which differ",
)
print("disagreement lies between 0 and log 3:", bool(((apart >= 0) & (apart <= 1.0987)).all()))

# %% [markdown]
# Is it of use? Sort the test images by disagreement, cut them into fifths, and count the ensemble's errors in each.

# %%
rows = []
for seed in SEEDS:
    order = disagreement(logits[seed]).argsort()
    wrong = (average_probabilities(logits[seed]).argmax(-1) != truth[seed])[order].double()
    rows += [
        {"seed": seed, "fifth": str(i + 1), "errors": part.mean().item()} for i, part in enumerate(wrong.split(100))
    ]
frame = pd.DataFrame(rows)
report.figure(
    report.curve(
        frame,
        x="fifth",
        y="errors",
        percent=True,
        x_label="fifth of the test images, from agreement to disagreement",
        y_label="the ensemble's errors",
    ),
    "errors rise from nearly none in the fifth of most agreement to many in that of most disagreement",
)

# %%
errors = frame.pivot(index="seed", columns="fifth", values="errors")
assert (errors["5"] > errors["1"] + 0.05).all()
print("in 100 images, the most disputed fifth has over 5 errors more than the least disputed, on every seed: yes")

# %% [markdown]
# So disagreement points at likely errors, without any label. It can't find what all teachers get wrong together.
#
# ## 6. Whom to trust
#
# Equal weights trust everyone. Two other ways, both per example, by [confidence](GLOSSARY.md#confidence-weights) and by
# [entropy](GLOSSARY.md#entropy-weights):
#
# $$\text{confidence (CA-MKD):}\quad w_{ki} = \frac{1}{K-1}\left(1 - \frac{e^{\ell_{ki}}}{\sum_j e^{\ell_{ji}}}\right),
# \quad \ell_{ki} = \text{cross-entropy of teacher } k \text{ with label } y_i$$
#
# $$\text{entropy:}\quad w_{ki} = \frac{e^{-H_{ki}}}{\sum_j e^{-H_{ji}}}, \quad H_{ki} = \text{entropy of } p_{ki}$$
#
# The first needs labels. The second needs none: it asks how *sure* a teacher is, and hopes that sure means right. (The
# idea is that of [Kwon et al. 2020](https://doi.org/10.1109/ICASSP40776.2020.9054698), who let the teacher of lower
# entropy teach more; the softmax is ours.)

# %%
lab.show(confidence_weights)

# %% [markdown]
# **By hand.** The label's probability is ½, ¼ and ⅛ with three teachers. The exponential of a cross-entropy is one over
# that probability: 2, 4, 8, of a sum of 14. Weights (1 − 2/14)/2, (1 − 4/14)/2, (1 − 8/14)/2 = 6/14, 5/14, 3/14.

# %%
p_label = torch.tensor([0.5, 0.25, 0.125])
weights = confidence_weights(torch.stack([p_label, 1 - p_label], dim=1).log()[:, None], torch.tensor([0]))
print([round(14 * weight, 3) for weight in weights[:, 0].tolist()], "of 14")

# %% [markdown]
# No weight exceeds 1/(K − 1): it shuts out the *worst* teacher of an example, and does not single out the best.
#
# **Trust from 50 labels** is the simplest of all: one weight per *teacher*, in proportion to its accuracy above chance
# on 50 labelled images that it was *not* trained on (exercise 06.5): on its own training images any net looks good.

# %%
lab.show(weights_of)

# %% [markdown]
# ### A teacher that counts from 1
#
# Now the villain, and it is one that happens: somebody's label file numbers the classes from 1. The pixel teacher, our
# best, says 4 whenever it sees a 3, and is very sure of it. It joins the three good ones. What do the weights make of
# it?

# %%
shares = {
    "equal" if how == "logits" else how: weights_of(
        how, [teacher(BASE_SEED, name) for name in COUNCILS["one off"]], split
    ).mean(1)
    for how in HOWS[1:]
}
with style.new_figure(10, 3.6) as (figure, (ax,)):
    plots.draw_bars(ax, shares, names=COUNCILS["one off"])
    ax.set(xlabel="teacher", ylabel="mean weight")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
report.figure(
    figure,
    "mean weights of four teachers: by entropy the one that is off by one gets the most, by confidence and by trust "
    "from 50 labels it gets almost nothing",
)

# %%
assert shares["entropy"].argmax() == 3
assert shares["confidence"][3] < 0.05
assert shares["trust from 50 labels"][3] < 0.05
print("entropy gives the teacher that is off by one the largest weight of all: yes")
print("confidence, and trust from 50 labels, give it less than 5 of 100: yes")

# %% [markdown]
# Now the students. In *two off*, the Fourier teacher counts from 1 as well: two bad teachers who agree, against two
# good ones. Confidence needs a label for every image, so its control is the student trained on these: *1,000 labels*,
# beside the other councils of section 4. Again two runs anew:

# %%
for how in ("entropy", "confidence"):
    arm = f"one off | {how}"
    live, kept = multi_teacher_councils.run(STORED, arm), stored.query("seed == @STORED and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.02
    print(f"{arm}: within two points of the stored run")

# %%
off = [f"one off | {how}" for how in HOWS] + [f"two off | {how}" for how in HOWS[3:]]
good, good_by_group = _councils_live.against(base, off, runs=runs)
few_labels, few_by_group = _councils_live.against("50 labels", off, runs=runs)
for result, table in ((good, good_by_group), (few_labels, few_by_group)):
    report.comparison(result, caption=f"40 epochs, all seeds, against {result.index[0]}")
    report.table(table, caption="the same, after 40 epochs by group of seeds and over all; after 10 over all")

# %%
whole = ["one off | confidence", "three views | logits, τ = 1", single, "pixels, 3 seeds | probabilities"]
all_labels, all_by_group = _councils_live.against("1,000 labels", whole, runs=runs)
report.comparison(all_labels, caption="with a label for every image: 40 epochs, all seeds, against 1,000 labels")
report.table(all_by_group, caption="the same, after 40 epochs by group of seeds and over all; after 10 over all")
report.table(seen.loc[[*off, "1,000 labels"]], percent=list(seen), caption="right on the 1,000 training images")

# %% [markdown]
# And what does the bad teacher itself cost? The same weights, without it and with it:

# %%
for how, expected in (("confidence", "hurts"), ("trust from 50 labels", "no useful difference")):
    result, table = _councils_live.against(f"three views | {how}", [f"one off | {how}"], runs=runs)
    report.comparison(result, caption=f"40 epochs, all seeds, against three views | {how}")
    report.table(table)
    assert table.loc[f"one off | {how}", ALL_SEEDS] == expected
    print(f"the bad teacher added, weights by {how}: {expected}")
assert (result["difference"] == 0).all()  # its weight is 0
print("by trust it has no weight at all, and the student is the same: yes")

# %%
helped = few_by_group.index[(few_by_group == "helps").all(axis=1)]
hurt = few_by_group.index[(few_by_group == "hurts").all(axis=1)]
assert len(helped) + len(hurt) == len(off)
print("against 50 labels, in each group and at both budgets, hurts:", *hurt, sep="\n  ")
print("and helps:", *helped, sep="\n  ")
assert max(good.loc[f"one off | {how}", "high"] for how in HOWS[:3]) < -0.25
print("by equal or entropy weights the bad teacher costs more than 25 points: yes")
for arm, expected in (("one off | confidence", "no useful difference"), ("two off | trust from 50 labels", "hurts")):
    assert good.loc[arm, "verdict"] == expected
    print("against the three good ones, equally weighed,", report.verdict(good, arm))

# %%
assert (all_by_group[[ALL_SEEDS, "10 epochs"]] == "hurts").all(axis=None)
assert all_labels["high"].iloc[1:].max() < -0.005
print("against 1,000 labels, over all seeds and at both budgets, every council: hurts")
assert runs[40].groupby("arm")["fitted"].mean()[["50 labels", "1,000 labels"]].min() > 0.99
print("labels alone have fitted more than 99 % of the images that they were given: yes")

# %% [markdown]
# - **Survived:** trust from 50 labels gives the bad teacher nothing, and it costs nothing. (Half a point above equal
#   weights, because it gives more to the better of the good ones.) Confidence gives it little; it still costs a point
#   and a half, and the student ends where equal weights on the three good ones take it: no useful difference.
# - **Did not survive:** equal weights, by either mean: the one that is off is the loudest. Entropy weights are the
#   worst of all: they reward it for being sure.
# - **Confidence has a limit:** of two bad teachers who agree it can shut out only part, and no good teacher gets more
#   than a third. Trust still gains six points over 50 labels, with one good teacher fewer to listen to.
# - **A label for every image** is what confidence weights use. A student trained on these alone is four and a half
#   points better, and a point better than the best council, whose pixel teachers learned from the same labels. Trust
#   used 50.
#
# ## 7. Teachers that know different classes
#
# One teacher learned the digits 0 to 4 and never saw another, the other 5 to 9. Each has ten outputs, and a firm
# opinion on images that it knows nothing about. Can one student learn all ten from them, without labels? (Vongkulbhisal
# et al. 2019 ask it, call it unifying heterogeneous classifiers, and answer with estimates of the missing classes; here
# plain means must do.)

# %%
said = torch.stack([teacher(BASE_SEED, half)["test"] for half in COUNCILS["two halves"]])
by_class = F.one_hot(split.test_y, 10).double()
panels = dict(zip(COUNCILS["two halves"], said.softmax(-1), strict=True))
panels["both, arithmetic mean"] = average_probabilities(said)
panels = {name: by_class.T @ p.double() / by_class.sum(0)[:, None] for name, p in panels.items()}
report.figure(
    report.matrix(panels, column_label="class that it names"),
    "mean probabilities by true class: each teacher fills only its own five columns, also for digits that it never "
    "saw; their mean has a diagonal of about a half, and less elsewhere",
)

# %%
assert panels["0 to 4"][:, 5:].max() < 0.05
assert panels["5 to 9"][:, :5].max() < 0.05
print("neither gives, on average, 5 of 100 to any class of the other's: yes")

# %%
halves = [f"two halves | {how}" for how in ("probabilities", "logits")]
fifty, fifty_by_group = _councils_live.against("50 labels", halves, runs=runs)
means, means_by_group = _councils_live.against(halves[0], halves[1:], runs=runs)
for result, table in ((fifty, fifty_by_group), (means, means_by_group)):
    report.comparison(result, caption=f"40 epochs, all seeds, against {result.index[0]}")
    report.table(table, caption="the same, after 40 epochs by group of seeds and over all; after 10 over all")
spread = runs[40].groupby("arm")["accuracy"].agg(["min", "max"]).loc[fifty.index]
report.table(spread, percent=list(spread), caption="the worst and the best of 24 seeds")

# %%
assert (fifty_by_group[[ALL_SEEDS, "10 epochs"]] == "helps").all(axis=None)
assert fifty.loc[halves, "low"].min() > 0.03
print("against 50 labels, over all seeds, after 10 epochs and after 40, by either mean: helps")
for arm, said in report.tally(fifty_by_group.drop(columns="10 epochs")).items():
    print(f"by group, after 40 epochs, {arm}: {said}")
assert list(means_by_group.loc[halves[1], [ALL_SEEDS, "10 epochs"]]) == ["helps", "undecided"]
print("logits, against probabilities: undecided after 10 epochs, helps after 40")
assert spread.loc[halves[1], "min"] < spread.loc[halves[0], "min"]
print("the worst student by logits is below the worst by probabilities: yes")

# %% [markdown]
# Neither teacher says "I don't know", and yet a student of both is better than one of 50 labels, at both budgets: after
# 40 epochs by five points (probabilities) and seven (logits). One group of eight is undecided by itself. Logits teach
# two points more than probabilities, after 40 epochs, but there is luck in it: their worst student is far below.
#
# The likely reason that it works: on its own digits a teacher is sure, on a foreign one mostly less so, and the surer
# one wins. If you know which teacher knows which classes, say so: mask, or choose the teacher by the label (exercise
# 06.3's weights do).

# %% [markdown]
# ## 8. Several foundation models, one encoder (in depth)
#
# Large pre-trained encoders know different things: CLIP which words fit an image, DINOv2 what is where, SAM where
# things end. Can one net replace them? [**AM-RADIO**](https://arxiv.org/abs/2312.06709) (Ranzinger et al., CVPR 2024)
# distils them into one encoder, without labels, and calls it *agglomerative*. There are no common classes, so nothing
# of section 2 can be averaged: every teacher gets an **adaptor** of its own, a small head on the student's features,
# and the loss is a sum over teachers of how far the head's output is from that teacher's features. After training the
# encoder stays, and a head where its teacher's outputs are wanted.
#
# *Claim:* the student surpasses its single teachers, and a faster architecture of theirs runs at least six times as
# fast. *Since:* with features, the *scale* takes over the role of section 2's loudness: a teacher whose features vary
# more has the larger loss and is heard more. [Ranzinger et al. 2024](https://arxiv.org/abs/2410.01680) (PHI-S)
# therefore bring all teachers to one scale first, and [RADIOv2.5](https://arxiv.org/abs/2412.07679) (Heinrich et al.
# 2025) names what else goes wrong: unbalanced teachers, and features that change with the resolution. In one line of
# ours: two teachers at equal relative error, one in larger units.

# %%
targets = {
    "small units": torch.tensor([1.0, -1.0, 2.0, -2.0]),
    "large units": 10 * torch.tensor([1.0, -1.0, 2.0, -2.0]),
}
raw = {name: F.mse_loss(0.9 * t, t) for name, t in targets.items()}
scaled = {name: F.mse_loss(0.9 * t / t.std(), t / t.std()) for name, t in targets.items()}
for kind, losses in (("as they are", raw), ("at one scale", scaled)):
    total = sum(losses.values())
    print(f"{kind}: share of the loss,", {name: round((loss / total).item(), 3) for name, loss in losses.items()})

# %% [markdown]
# ## 9. Assistants across a gap (in depth)
#
# **Claim** (TAKD, Mirzadeh et al., on arXiv since February 2019, AAAI 2020): a large teacher is hard to copy for a
# small student; put an **assistant** of middle size between them, distil teacher → assistant → student, and the student
# gets better. No new loss is needed.
#
# **Since:** Cho and Hariharan, in October 2019, tried sequences of distillation and found them ineffective; stopping
# the teacher early was what helped them. Son et al. 2021 blame errors that add up along the ladder. So, what comes out
# here? Teacher: 100 hidden units on pixels. Assistant: 32. Student: 8, twelve times smaller than the teacher. Assistant
# and students train for 240 epochs each. The ladder costs an assistant's, so the fair opponent gets as many epochs
# more.

# %%
for arm, nets in multi_teacher_ladder.LADDERS.items():
    print(f"{arm}: {' → '.join(nets)}, {multi_teacher_ladder.EPOCHS[arm]} epochs each")
sizes = {name: models.count_parameters(models.make(name, shape=(1, 8, 8))) for name in ("mlp-100", "mlp-32", "mlp-8")}
print("parameters:", sizes)

# %%
lab.show(multi_teacher_ladder.run)

# %%
ladder = experiments.load("multi_teacher_ladder")
for arm in ("direct", "through an assistant"):
    live, kept = multi_teacher_ladder.run(STORED, arm), ladder.query("seed == @STORED and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.01
    print(f"{arm}: within a point of the stored run")

# %%
direct, patient = (lab.compare(ladder, baseline=arm, metric="accuracy") for arm in ("direct", "direct, twice as long"))
for result in (direct, patient):
    base = result.index[result["verdict"] == "baseline"].item()
    report.comparison(result, caption=f"a student of 8 hidden units, all seeds, against {base}")
    report.table(report.verdicts(ladder, baseline=base), caption="the same by group of seeds and over all")
seen_by_rung = ladder.groupby("arm")["training_accuracy"].mean()
report.table(seen_by_rung.to_frame("training accuracy"), percent=["training accuracy"], caption="images trained on")

# %%
for arm in ("through an assistant", "labels"):
    assert direct.loc[arm, "verdict"] == patient.loc[arm, "verdict"] == "no useful difference"
    print("against distilling directly, for as long or twice as long,", report.verdict(direct, arm))
assert direct.loc["direct, twice as long", "verdict"] == "helps"
assert direct.loc["direct, twice as long", "high"] < 0.005
print("twice as long: helps, by less than half a point")
assert seen_by_rung.min() > 0.95
print("on average every student is right on more than 95 of 100 training images: yes")

# %% [markdown]
# - **The assistant** makes no useful difference, neither against distilling directly nor against the fair opponent.
# - **The fair opponent**, the same epochs spent on the student itself, gains three tenths of a point: shown, and small.
# - **Labels alone** make no useful difference either: this gap is one where you may not need the teacher.
#
# Small nets on a small task: this does not refute the paper, which used CIFAR and ImageNet. It says what to compare
# with before you believe in an assistant.

# %% [markdown]
# ## 10. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/06_multi_teacher.ipynb](solutions/06_multi_teacher.ipynb).

# %% [markdown] tags=["exercise"]
# **06.1 Recall.** The arithmetic mean of the teachers' softened probabilities, equal weights: logits (K, B, C), result
# (B, C).
#
# <details><summary>Hint</summary>Which comes first, the softmax or the mean?</details>


# %% tags=["exercise"]
def my_average(teacher_logits, temperature):
    raise NotImplementedError


# %% tags=["solution"]
def my_average(teacher_logits, temperature):
    return F.softmax(teacher_logits / temperature, dim=-1).mean(dim=0)


# %% tags=["check"]
lab.check("06.1", my_average)

# %% [markdown] tags=["exercise"]
# **06.2 Build.** The loss of section 3 with weights (K,): student (B, C), teachers (K, B, C), result a scalar.
#
# <details><summary>Hint</summary>F.log_softmax of the student broadcasts against that of the teachers.</details>


# %% tags=["exercise"]
def my_loss(student_logits, teacher_logits, weights, temperature):
    raise NotImplementedError


# %% tags=["solution"]
def my_loss(student_logits, teacher_logits, weights, temperature):
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=-1)
    divergences = (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (K, B)
    return temperature**2 * (weights[:, None] * divergences).sum(dim=0).mean()


# %% tags=["check"]
lab.check("06.2", my_loss)

# %% [markdown] tags=["exercise"]
# **06.3 Build.** CA-MKD's weights from the formula of section 6: logits (K, B, C), labels (B,), result (K, B). There
# are at least two teachers.
#
# <details><summary>Hint</summary>One cross-entropy per teacher and example; then a softmax over which
# axis?</details>


# %% tags=["exercise"]
def my_confidence_weights(teacher_logits, labels):
    raise NotImplementedError


# %% tags=["solution"]
def my_confidence_weights(teacher_logits, labels):
    losses = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in teacher_logits])
    return (1 - losses.softmax(dim=0)) / (len(teacher_logits) - 1)


# %% tags=["check"]
lab.check("06.3", my_confidence_weights)

# %% [markdown] tags=["exercise"]
# **06.4 Predict.** One teacher is sure and right; two others are sure, wrong, and equally so. What weight does CA-MKD
# give to the right one?
#
# <details><summary>Hint</summary>What does the softmax of the three cross-entropies look like?</details>

# %% tags=["exercise"]
my_weight = ...

# %% tags=["solution"]
my_weight = 0.5  # the softmax is (0, ½, ½), so the weights are (1 - 0)/2, (1 - ½)/2, (1 - ½)/2

# %% tags=["check"]
lab.check("06.4", my_weight)

# %% [markdown] tags=["exercise"]
# **06.5 Design.** Trust from a few labels: one weight per teacher, (K,), in proportion to its accuracy above chance
# (1/C) on the given examples; a teacher at or below chance gets 0; the weights sum to 1.
#
# <details><summary>Hint</summary>What is a teacher worth that always says the same class?</details>


# %% tags=["exercise"]
def my_trust(teacher_logits, labels):
    raise NotImplementedError


# %% tags=["solution"]
def my_trust(teacher_logits, labels):
    accuracy = (teacher_logits.argmax(dim=-1) == labels).double().mean(dim=1)
    above_chance = (accuracy - 1 / teacher_logits.shape[-1]).clamp(min=0)
    return above_chance / above_chance.sum()


# %% tags=["check"]
lab.check("06.5", my_trust)

# %% [markdown]
# **Going further** (not checked): let weights fall with a teacher's distance from the *other* teachers, without a
# label: on *one off*, then on *two off*.

# %%
lab.quiz("06")

# %% [markdown]
# ## 11. When to use several teachers, and when not
#
# **Use them** when labels are gone and only the models are left, and these see or know different things: four points
# over the best of them alone here, five to seven over 50 labels where each knew half of the classes. Which mean?
# Logits: two points more at τ = 1, no useful difference at τ = 4; in probabilities no single teacher can veto a class.
# Check every teacher on a few labels, of examples that it was not trained on; 50 were enough here, with one bad teacher
# and with two.
#
# **When not:** you have a label for every image: labels alone taught a point more than the best council here, and four
# more than three views. One teacher sees all that the others see. They differ in first weights only: an ensemble gained
# three tenths of a point, after 40 epochs. Nobody has checked the teachers: entropy weights protect from those that are
# unsure, not from wrong ones. An assistant: it made no useful difference to a student trained long enough (in [lesson
# 13](13_scaling_laws.ipynb), section 7, one helped, as did a teacher stopped early).
#
# **Cost:** K forward passes of teachers per input; once, if inputs are not augmented (K·N·C numbers to keep). The loss
# is K softmaxes; the gradient flows through one.
#
# **Copy it:** `python -m kdref copy multi_teacher` writes this lesson's files, each of which needs only torch; `python
# -m kdref copy averages` one of them, and `python -m kdref copy confidence_weights` that function and what it calls.
#
# **Further reading:** [Hinton et al. 2015](https://arxiv.org/abs/1503.02531), sections 4 and 5, on ensembles and
# specialists; [Zhang et al. 2022](https://arxiv.org/abs/2201.00007) for intermediate layers of several teachers; [Cho
# and Hariharan 2019](https://arxiv.org/abs/1910.01348) on large teachers; [Son et al.
# 2021](https://arxiv.org/abs/2009.08825) on ladders with several assistants; [You et al.
# 2017](https://doi.org/10.1145/3097983.3098135), whose teachers also vote on features, [triplet](GLOSSARY.md#triplet)
# by triplet (`kdref/multi_teacher/triplets.py`).
#
# **Next lesson:** [07](07_cross_modal.ipynb), cross-modal: a student that sees with another sense than its teacher.
