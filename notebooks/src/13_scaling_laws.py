# %% [markdown]
# # 13 · Scaling laws
#
# **You have a budget and want a small model: distil it from a teacher, or train it on data?**
#
# **You will be able to**
#
# - say what a scaling law predicts, and for what it was never fitted;
# - find the best teacher for a student, and explain why a better one can be worse;
# - split a budget between a teacher, its answers and a student, and see when it pays;
# - fit a law to runs of your own, and examine it on runs that it has not seen;
# - tell an exact case of the capacity gap from the claims made of it.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb).
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/scaling.py` (the laws), `kdref/lab/report/laws.py` (fits one), `kdref/lab/experiments/scaling_*.py`
# (the runs).
#
# **Papers:** [Busbridge et al. 2025](https://arxiv.org/abs/2502.08606) (Apple and Oxford), [Hoffmann et al.
# 2022](https://arxiv.org/abs/2203.15556), [Mirzadeh et al. 2020](https://arxiv.org/abs/1902.03393), [Cho and Hariharan
# 2019](https://arxiv.org/abs/1910.01348).

# %% tags=["setup"]
import math

import pandas as pd
import torch

from kdref import lab
from kdref.lab import experiments, report
from kdref.lab.experiments import scaling_alone, scaling_taught
from kdref.lab.experiments._scaling_splits import PAYERS, alone, best_split
from kdref.lab.report import style
from kdref.lab.report.laws import bootstrap_laws, fit_law, law_intervals, relative_error, starts
from kdref.lab.widgets.scaling import budget_explorer, budget_figure
from kdref.scaling import (
    APPLE_DISTILLATION,
    APPLE_SUPERVISED,
    DistillationLaw,
    SupervisedLaw,
    capacity_gap_teacher_loss,
    distillation_loss_law,
    supervised_loss_law,
    training_flops,
)

lab.setup()
MILLION = 1e6

# %% [markdown]
# ## 1. A law for training alone
#
# Train networks of many sizes on many amounts of text, and their losses lie on a smooth surface. A
# [**scaling law**](GLOSSARY.md#scaling-law) is a formula for it. For a model of $N$ parameters after $D$ tokens:
#
# $$L(N, D) = E + \Big(\frac{A}{N^{\alpha}} + \frac{B}{D^{\beta}}\Big)^{\gamma}$$
#
# $E$ is what no size and no data remove: text can't be foreseen fully. One term falls with size, one with data, and
# whichever is larger sets the loss. With $\gamma = 1$ it is the law of Hoffmann et al. (2022), after which language
# models became smaller and their data more: about 20 tokens a parameter. The constants here are Busbridge et al.'s.

# %%
lab.show(supervised_loss_law)

# %% [markdown]
# **By hand**, 143 million parameters and 20 tokens for each: $3355 / N^{0.408}$ = 1.579, $18186 / D^{0.431}$ = 1.528.
# Their sum to the power 0.452 is 1.669. With $E$ = 1.220 that makes 2.889 [nats](GLOSSARY.md#nat) a token.

# %%
n = torch.tensor(143 * MILLION, dtype=torch.float64)
parts = APPLE_SUPERVISED.A / n**APPLE_SUPERVISED.alpha, APPLE_SUPERVISED.B / (20 * n) ** APPLE_SUPERVISED.beta
print([round(part.item(), 3) for part in parts], "->", round(sum(parts).item() ** APPLE_SUPERVISED.gamma, 3))
print("143 million parameters, 2.86 billion tokens:", round(supervised_loss_law(n, 20 * n).item(), 3))

# %% [markdown]
# ## 2. A law for students
#
# A student of the same size is trained on a teacher's probabilities instead. Of the teacher only its own loss $L_T$
# counts, says the paper: how large it is and how much it read enter through that alone. The student's loss is its
# teacher's, plus what it can't imitate:
#
# $$L_S = L_T + \frac{1}{L_T^{c_0}} \Big(1 + \Big(\frac{L_T}{\tilde L_S\,d_1}\Big)^{1/f_1}\Big)^{-c_1 f_1}
# \Big(\frac{A'}{N^{\alpha'}} + \frac{B'}{D^{\beta'}}\Big)^{\gamma'}$$
#
# $\tilde L_S$ is the loss of that student trained alone. The bracket switches between two regimes: as long as the
# teacher is the weaker learner, there is nothing that can't be imitated; once it is much the better one, more and more.

# %%
lab.show(distillation_loss_law)

# %% [markdown]
# A better teacher lowers the first term and raises the second. Over the teacher's loss that makes a **U**: here for
# three sizes at 20 tokens a parameter. The bands are the paper's 90 % intervals of each constant, drawn independently
# of each other. (They move together, so the true band is narrower.)

# %%
PUBLISHED = {"A": (2227, 2255), "B": (24084, 24266), "alpha": (0.319, 0.324), "beta": (0.634, 0.640)}
PUBLISHED |= {"gamma": (0.732, 0.788), "c0": (2.425, 2.615), "c1": (522.6, 522.6)}
PUBLISHED |= {"d1": (1.302, 1.327), "f1": (0.088, 0.093)}
SUPERVISED = {"A": (3346, 3360), "B": (18157, 18236), "E": (1.190, 1.247)}
SUPERVISED |= {"alpha": (0.405, 0.411), "beta": (0.428, 0.433), "gamma": (0.442, 0.461)}
generator = torch.Generator().manual_seed(0)
drawn, drawn_alone = (
    {
        name: low + (high - low) * torch.rand(500, 1, generator=generator, dtype=torch.float64)
        for name, (low, high) in limits.items()
    }
    for limits in (PUBLISHED, SUPERVISED)
)
band = DistillationLaw(**drawn), SupervisedLaw(**drawn_alone)

# %%
teacher_loss = torch.linspace(1.75, 3.4, 400, dtype=torch.float64)
with style.new_figure(9, 4.4) as (figure, (ax,)):
    for place, size in enumerate((143, 546, 7750)):
        n = torch.tensor(size * MILLION, dtype=torch.float64)
        losses = distillation_loss_law(teacher_loss, n, 20 * n)
        many = distillation_loss_law(teacher_loss, n, 20 * n, law=band[0], supervised=band[1])
        low, high = many.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64), dim=0)
        ax.fill_between(teacher_loss, low, high, color=style.COLORS[place], alpha=0.2)
        ax.plot(teacher_loss, losses, color=style.COLORS[place], label=f"{size} million")
        best = losses.argmin()
        ax.plot(teacher_loss[best], losses[best], style.MARKERS[place], color=style.COLORS[place])
    ax.plot(teacher_loss, teacher_loss, "k--", linewidth=1, label="the teacher's own")
    ax.set(xlabel="loss of the teacher, nats", ylabel="loss of the student, nats", ylim=(1.8, 3.4))
    ax.legend(title="student's parameters")
report.figure(
    figure,
    "student's loss against teacher's loss for three sizes: with a weak teacher all lie on the teacher's own loss, then "
    "each curve leaves it, reaches a least value, marked, and rises again for the two small students",
)

# %%
n = torch.tensor([143 * MILLION, 546 * MILLION], dtype=torch.float64)[:, None]
losses = distillation_loss_law(teacher_loss, n, 20 * n)
for size, row, by_itself in zip((143, 546), losses, supervised_loss_law(n, 20 * n), strict=True):
    best = row.argmin()
    print(f"{size} million: best teacher {teacher_loss[best]:.2f}, student {row[best]:.3f}, alone {by_itself[0]:.3f}")
weak = distillation_loss_law(torch.tensor(3.4), n, 20 * n) - 3.4
print("with a teacher of 3.4 nats, student minus teacher:", round(weak.abs().max().item(), 3))
print("where the law changes its regime:", [round(g.item(), 2) for g in capacity_gap_teacher_loss(n, 20 * n)[:, 0]])

# %% [markdown]
# - A student of 143 million is best with a teacher of 1.91 nats. One of 1.75 makes it worse: the
#   [**capacity gap**](GLOSSARY.md#capacity-gap).
# - A weak teacher is simply copied: the student's loss *is* the teacher's, whatever the student could do alone.
# - The larger the student, the better the teacher that it can use. For the largest one the curve falls all the way to
#   the end of the axis, and that is where the law ends too: it was fitted to teachers above about 1.8 nats.
#
# What the law does not say: why. It describes one family of networks on one set of texts, at temperature 1 and with no
# labels. Elsewhere the *form* may hold; the constants will not.

# %%
small = losses[0]
assert small[0] > small.min() + 0.015
assert teacher_loss[losses[1].argmin()] < teacher_loss[small.argmin()]
print("a better teacher than the best makes the small student worse, and the larger student's best is better: yes")

# %% [markdown]
# ## 3. Distil, or train?
#
# A training step costs 6 operations per parameter and token: 2 forward, 4 backward. A teacher costs its forward passes,
# 2 per parameter and token of the *student's* data, and its own training, if somebody has to pay for that. $\delta_L$
# and $\delta_P$ are the shares of both that this student pays for:
#
# $$3\,F(N)\,D + F(N_T)\,(\delta_L\,D + 3\,\delta_P\,D_T), \qquad F(N) \approx 2N$$

# %%
n, d = torch.tensor(143 * MILLION), torch.tensor(2860 * MILLION)
own = training_flops(n, d)
for words, shares in PAYERS.items():
    cost = training_flops(
        n,
        d,
        teacher_parameters=10 * n,
        teacher_tokens=10 * d,
        logits_share=shares[0],
        pretraining_share=shares[1],
    )
    print(f"{words}: {cost / own:.2f} times training alone")

# %% [markdown]
# So a budget can be spent on the student alone, or be split. Which split is best? We try every teacher on a grid: its
# cost is taken from the budget, the rest buys the student's tokens, and the two laws say what comes of it (no teacher
# better than 1.8 nats, for the law knows none).

# %%
lab.show(best_split)

# %%
rows = []
for size in (546, 7750):
    for budget in (1e20, 1e21, 1e22, 1e23):
        splits = {words: best_split(size * MILLION, budget, words) for words in PAYERS}
        losses = {words: split.loss for words, split in splits.items() if split}
        rows.append({"million": size, "budget": f"{budget:.0e}", "alone": alone(size * MILLION, budget), **losses})
splits = pd.DataFrame(rows).set_index(["million", "budget"])
report.table(splits.round(3), decimals=3, caption="the student's loss, by the published law")

# %%
gain = splits.rsub(splits["alone"], axis=0).drop(columns="alone")
stored, answering, shared, made = PAYERS
assert (gain[made] < 0).all()
for size in (546, 7750):
    assert gain.loc[size, stored].is_monotonic_decreasing
    assert gain.loc[(size, "1e+20"), stored] > 0.08
assert gain.loc[(7750, "1e+22"), stored] > 0.03
assert gain.loc[(546, "1e+22"), stored] < 0.01
assert gain.loc[(7750, "1e+21"), shared] > 0.03 > 0 > gain.loc[(546, "1e+21"), shared]
print("a teacher made for this one student never pays, at these sizes and budgets: yes")
print("a teacher that exists pays much at a small budget, less and less at larger ones: yes")
print("what is large still for the small student is small for the large one: yes")

# %%
report.figure(
    budget_figure("546 million", 21.0, answering),
    "left, loss against budget of a student of 546 million parameters: taught is far below alone at small budgets, and "
    "both meet near 1e22; right, two thirds of the budget train the student, one third are the teacher's answers",
)

# %% [markdown]
# That is what the paper says of **when distillation wins**, and it takes two conditions. The student's budget must stay
# below a threshold, which grows with its size; *and* the teacher must exist already, or serve several students. If one
# student is wanted and its teacher would have to be made, train the student.
#
# What it does not say: that distillation is better, or worse, *in the limit*. There the curves lie within a hundredth
# of a nat, and the rounded constants can't tell them apart. Nor does it speak of what else a teacher brings: text
# without labels, a temperature, fewer steps, another modality.
#
# Choose a size and a budget. Then let the student pay for more and more of its teacher.

# %%
budget_explorer()

# %% [markdown]
