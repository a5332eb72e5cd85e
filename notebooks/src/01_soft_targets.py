# %% [markdown]
# # 01 · Soft targets
#
# **What does a network know beyond the answers it gives, and how can a smaller one learn it?**
#
# **You will be able to**
#
# - soften a network's output with a temperature, and say what the small probabilities mean;
# - write the distillation loss, explain its τ², and check both against a number worked by hand;
# - teach a student to recognise a digit that it never saw;
# - tell from evidence when soft targets help a student, and when they hurt it.
#
# **Needs:** [lesson 00](00_start_here.ipynb); what [softmax](GLOSSARY.md#softmax),
# [cross-entropy](GLOSSARY.md#cross-entropy) and an [epoch](GLOSSARY.md#epoch) are.
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/soft_targets.py` (the method), `tests/heart/test_soft_targets.py` (its tests),
# `kdref/lab/experiments/soft_targets_temperature.py` (the long experiment).
#
# **Papers:** [Hinton, Vinyals and Dean 2015](https://arxiv.org/abs/1503.02531), who named it distillation; before it
# Buciluă, Caruana and Niculescu-Mizil 2006 (model compression, with an [ensemble](GLOSSARY.md#ensemble)'s outputs on
# synthetic data and no temperature) and [Ba and Caruana 2014](https://arxiv.org/abs/1312.6184) (matching logits).

# %% tags=["setup"]
import pandas as pd
import torch
import torch.nn.functional as F

from kdref import lab, soft_targets
from kdref.lab import data, experiments, models, report, widgets
from kdref.lab.experiments import _soft_targets_live as live
from kdref.lab.experiments import soft_targets_temperature as sweep
from kdref.soft_targets import distillation_loss, kl_divergence, soft_target_loss, softened_probabilities

lab.setup()
BASE_SEED = lab.base_seed()
SEEDS = range(BASE_SEED, BASE_SEED + 8)

# %% [markdown]
# ## 1. The idea
#
# A label says "3" and nothing else. A trained network says more: this image is a 3, it looks a little like an 8, and
# not at all like a 6. Those small numbers are what it learned about *similarity*, and Hinton called them [**dark
# knowledge**](GLOSSARY.md#dark-knowledge). A student that is given them gets, with every image, a hint about nine other
# classes.
#
# The network that knows is the **teacher**, here a [perceptron](GLOSSARY.md#perceptron) with one hidden layer of 300
# units. It learns 1,000 images of digits, 8 × 8 pixels each, in the usual way. As in lesson 00, `step` takes a batch
# and gives a loss.

# %%
split = data.digits(seed=BASE_SEED)
teacher = models.make("mlp-300", shape=split.shape, seed=BASE_SEED)


def step_teacher(batch):
    x, y = batch
    return {"loss": F.cross_entropy(teacher(x), y)}


batches = lab.Batches(split.train_x, split.train_y, batch_size=100, seed=BASE_SEED)
rows = lab.fit(step_teacher, teacher, batches, torch.optim.Adam(teacher.parameters(), lr=3e-3), epochs=30)
test_logits = lab.teacher_outputs(teacher, split.test_x)
teacher_accuracy = lab.measure(teacher, split.test_x, split.test_y)["accuracy"]
assert teacher_accuracy > 0.94
print(split)
print("the teacher is right on more than 94 of 100 test images: yes")

# %% [markdown]
# What it says about one test image: of the 5s that it gets right, the one it is least sure of. Its raw scores $z$ are
# the [**logits**](GLOSSARY.md#logits). Dividing them by a [**temperature**](GLOSSARY.md#temperature) τ before the
# softmax shows the small probabilities:
#
# $$p_c = \frac{\exp(z_c/\tau)}{\sum_j \exp(z_j/\tau)}$$

# %%
label = 5
right = (test_logits.argmax(-1) == label) & (split.test_y == label)
confidence = softened_probabilities(test_logits, temperature=1.0).amax(-1)
unsure = int(torch.where(right, confidence, torch.inf).argmin())
targets = {
    "label": F.one_hot(split.test_y[unsure], 10),
    "teacher, τ = 1": softened_probabilities(test_logits[unsure], temperature=1.0),
    "teacher, τ = 4": softened_probabilities(test_logits[unsure], temperature=4.0),
}
report.figure(report.examples(split.test_x[unsure : unsure + 1]), "an image of a 5, in 8 by 8 pixels")
report.figure(
    report.bars(targets),
    "the label is one bar; at τ = 1 the teacher gives the 5 most and a few rivals little; at τ = 4 most classes show",
)

# %% [markdown]
# Temperature changes how loudly the wrong classes speak, never which class comes first.

# %%
for temperature in (0.5, 1.0, 4.0, 20.0, 1e6):
    p = softened_probabilities(test_logits.double(), temperature=temperature)  # at a million, float32 sees ties
    assert (p.argmax(-1) == test_logits.argmax(-1)).all()
print("the first class stays first at every temperature: yes")
print("at τ = 1,000,000 all classes are", p[unsure].numpy().round(3))

# %% [markdown]
# ## 2. The loss
#
# The student has logits $z^s$ and softened probabilities $q$; the teacher $z^t$ and $p$. How far is $q$ from $p$? The
# [**Kullback-Leibler divergence**](GLOSSARY.md#divergence) (KL) counts it in [nats](GLOSSARY.md#nat):
#
# $$\mathrm{KL}(p\,\|\,q) = \sum_c p_c\,(\log p_c - \log q_c)$$
#
# It is zero where the two agree and positive elsewhere. Here is the code, as it stands in the package. The checks
# refuse what makes no sense, `_precision` chooses the type of number, and `_kl` is the formula:

# %%
lab.show(kl_divergence)
lab.show(soft_targets._kl)

# %% [markdown]
# **By hand.** A teacher that says (¾, ¼), a student that says (½, ½), τ = 1:
# KL = ¾ log(¾ / ½) + ¼ log(¼ / ½) = ¾ · 0.405 − ¼ · 0.693 = 0.131.

# %%
fair, uneven = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 1.0]]).log()  # softmax of log p is p
print("KL:", round(kl_divergence(fair, uneven).item(), 3))

# %% [markdown]
# Two terms make the loss that most people use: cross-entropy with the labels, at temperature 1, and τ² times the
# divergence from the teacher. [`soft_weight`](GLOSSARY.md#soft-weight) says how much the teacher counts. In other
# libraries this weight is often called alpha, and some mean the *labels'* share by it: here is [a table that
# translates](../docs/weights.md).

# %%
lab.show(soft_target_loss)
lab.show(distillation_loss)

# %% [markdown]
# **By hand**, with τ = 2 and `soft_weight` 0.9. The teacher's logits are 2 log 3 and 0: halved, they give (¾, ¼), so KL
# is the 0.131 of above. The student says (½, ½), at both temperatures; the label is the first class:
# 0.1 · log 2 + 0.9 · 2² · 0.131 = 0.069 + 0.471 = 0.540.

# %%
loss = distillation_loss(fair, 2 * uneven, torch.tensor([0]), soft_weight=0.9, temperature=2.0)
print("distillation loss:", round(loss.item(), 3))

# %% [markdown]
# ## 3. Why τ²?
#
# For one example the gradient of τ²·KL with respect to the student's logits is exactly
#
# $$\frac{\partial\,\tau^2\,\mathrm{KL}}{\partial z^s} = \tau\,(q - p)$$
#
# so the student is pushed up where it says too little and down where it says too much.

# %%
student_logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
teacher_logits = torch.tensor([[0.0, 4.0, 1.0, -2.0]], dtype=torch.float64)
soft_target_loss(student_logits, teacher_logits, temperature=4.0).backward()
q = softened_probabilities(student_logits.detach(), temperature=4.0)
p = softened_probabilities(teacher_logits, temperature=4.0)
torch.testing.assert_close(student_logits.grad, 4.0 * (q - p), rtol=1e-12, atol=0)
print("gradient:", student_logits.grad.numpy().round(3))
print("τ(q - p):", (4.0 * (q - p)).numpy().round(3))

# %% [markdown]
# Without τ² one factor 1/τ comes from the chain rule, and another from $q - p$, which shrinks as both move towards the
# uniform distribution. The gradient would fall as 1/τ², and with it the teacher's say against the labels. Code has been
# published without the factor ([keras-io, issue 869](https://github.com/keras-team/keras-io/issues/869), is one).

# %%
sizes = {}
for temperature in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
    z = student_logits.detach().clone().requires_grad_()
    kl_divergence(z, teacher_logits, temperature=temperature).sum().backward()
    sizes[temperature] = z.grad.norm().item()
for temperature, size in sizes.items():
    print(f"τ = {temperature:4.0f}   without τ²: {size:.4f}   with τ²: {size * temperature**2:.3f}")

# %%
columns = ["temperature", "gradient", "loss"]
frame = pd.DataFrame(
    [(t, size, "KL") for t, size in sizes.items()] + [(t, size * t**2, "τ² · KL") for t, size in sizes.items()],
    columns=columns,
)
report.figure(
    report.curve(
        frame,
        x="temperature",
        y="gradient",
        by="loss",
        log_x=True,
        log_y=True,
        x_label="temperature τ",
        y_label="length of the gradient",
    ),
    "the gradient of KL falls steeply as the temperature rises; multiplied by τ² it keeps its size",
)

# %% [markdown]
# **What it tends to.** As τ grows, τ²·KL becomes half the mean squared difference of the centred logits,
# $\|c(z^s) - c(z^t)\|^2/(2C)$, where $c$ takes away the mean over the $C$ classes. So high temperature is [logit
# matching](GLOSSARY.md#logit-matching), which Ba and Caruana did a year earlier, with raw logits.

# %%
difference = student_logits.detach() - teacher_logits
limit = ((difference - difference.mean()) ** 2).sum().item() / (2 * 4)
for temperature in (1.0, 10.0, 100.0, 1000.0):
    loss = soft_target_loss(student_logits.detach(), teacher_logits, temperature=temperature).item()
    print(f"τ = {temperature:5.0f}   τ²·KL = {loss:.3f}   limit = {limit:.3f}   error {abs(loss / limit - 1):.1%}")

# %% [markdown]
# ## 4. Dark knowledge, seen
#
# Students with 32 hidden units learn the digits from labels alone, and never meet a teacher. There are eight, one for
# each seed: another split, other first weights. What comes back are a student's logits on its test images.


# %%
def run_labels(seed, arm):
    split = data.digits(seed)
    student = models.make("mlp-32", shape=split.shape, seed=seed)

    def step_labels(batch):
        x, y = batch
        return {"loss": F.cross_entropy(student(x), y)}

    batches = lab.Batches(split.train_x, split.train_y, batch_size=100, seed=seed)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    lab.fit(step_labels, student, batches, optimizer, epochs=30, progress=False)
    return lab.teacher_outputs(student, split.test_x)


chosen = {seed: run_labels(seed, "labels").argmax(-1) for seed in SEEDS}

# %% [markdown]
# Of the first seed: on the left, what the teacher's wrong classes get on average at τ = 4, for each true class; on the
# right, how often the student takes the one for the other.

# %%
truth = F.one_hot(split.test_y, 10).double()
dark_knowledge = truth.T @ softened_probabilities(test_logits, temperature=4.0).double()
mistakes = truth.T @ F.one_hot(chosen[BASE_SEED], 10).double()
count = truth.sum(0)[:, None]
panels = {"teacher: mean probability": dark_knowledge / count, "student: share mistaken": mistakes / count}
report.figure(
    report.matrix(panels, column_label="class", diagonal=False),
    "two class-by-class matrices, diagonal blank; mistakes tend to lie where the teacher is unsure",
)

# %% [markdown]
# Do they agree by chance? For each seed take the correlation between the ninety numbers of the left matrix and the
# ninety counts of mistakes behind the right one; chance would give about 0. `live.digits_teacher` is the teacher of
# section 1, trained once for each seed.

# %%
rows, wrong = [], ~torch.eye(10, dtype=torch.bool)
for seed in SEEDS:
    part = data.digits(seed)
    p = softened_probabilities(lab.teacher_outputs(live.digits_teacher(seed), part.test_x), temperature=4.0)
    truth = F.one_hot(part.test_y, 10).float()
    dark_knowledge = truth.T @ p / truth.sum(0)[:, None]
    mistakes = truth.T @ F.one_hot(chosen[seed], 10).float()
    both = torch.stack([dark_knowledge[wrong], mistakes[wrong]])
    rows.append({"seed": seed, "correlation": torch.corrcoef(both)[0, 1].item()})
similarity = pd.DataFrame(rows)

# %% tags=["nbval-ignore-output"]
report.table(similarity, caption="the teacher's second thoughts and another net's mistakes")

# %%
assert (similarity["correlation"] > 0.2).all()
print("the teacher's small probabilities say where another network errs, on every seed: yes")

# %% [markdown]
# ## 5. A student that never saw a 3
#
# Hinton's most striking experiment, in small. Take every 3 out of the student's training data. Labels can't tell it
# what a 3 is, but the teacher's probabilities on 8s, 5s and 2s can. The teacher has seen 3s. Both students see the same
# images in the same order from the same first weights; only their targets differ. The second uses no label at all (τ =
# 8). What comes back are a student's logits: on all training images, 3s included, and on the test images.


# %%
SOFT_WEIGHTS = {"hard labels": 0.0, "soft targets": 1.0}


def run_omitted(seed, arm):
    split = data.digits(seed)
    student = models.make("mlp-32", shape=split.shape, seed=seed)

    def step_student(batch):
        x, y, t = batch
        return {"loss": distillation_loss(student(x), t, y, soft_weight=SOFT_WEIGHTS[arm], temperature=8.0)}

    seen = split.train_y != 3
    x, y = split.train_x[seen], split.train_y[seen]
    batches = lab.Batches(x, y, lab.teacher_outputs(live.digits_teacher(seed), x), batch_size=100, seed=seed)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    lab.fit(step_student, student, batches, optimizer, epochs=50, progress=False)
    return {"train": lab.teacher_outputs(student, split.train_x), "test": lab.teacher_outputs(student, split.test_x)}


students = {(seed, arm): run_omitted(seed, arm) for seed in SEEDS for arm in SOFT_WEIGHTS}

# %% [markdown]
# A student has learned *that there are no 3s*, so it is shy of the answer: its bias for class 3 is too low. A constant
# added to that logit, the [**bias shift**](GLOSSARY.md#bias-shift), mends it: one number, chosen on the training
# images, 3s included. (The paper chose it on its test set. Don't.)

# %%
SHIFTS = [0.5 * i for i in range(41)]
THREE = F.one_hot(torch.tensor(3), 10)
shifts = {}
for (seed, arm), logits in students.items():
    labels = data.digits(seed).train_y
    scores = [((logits["train"] + s * THREE).argmax(-1) == labels).float().mean().item() for s in SHIFTS]
    shifts[seed, arm] = SHIFTS[scores.index(max(scores))]
assert max(shifts.values()) < max(SHIFTS)

# %% [markdown]
# What is counted, before the shift and after it: the share of the test set's 3s that are found, and the accuracy on all
# test images.

# %%
rows = []
for (seed, arm), logits in students.items():
    y = data.digits(seed).test_y
    row = {"seed": seed, "arm": arm, "shift": shifts[seed, arm]}
    for when, shift in (("before", 0.0), ("after", shifts[seed, arm])):
        answers = (logits["test"] + shift * THREE).argmax(-1)
        row[f"threes found, {when}"] = (answers[y == 3] == 3).float().mean().item()
        row[f"accuracy, {when}"] = (answers == y).float().mean().item()
    rows.append(row)
omitted = pd.DataFrame(rows)

# %% tags=["nbval-ignore-output"]
columns = [f"{what}, {when}" for what in ("threes found", "accuracy") for when in ("before", "after")]
report.table(omitted.groupby("arm")[["shift", *columns]].mean(), percent=columns, caption="means of eight seeds")
for column in columns[:2]:
    report.comparison(lab.compare(omitted, baseline="hard labels", metric=column), metric=column)

# %%
recall = omitted.groupby("arm")[columns[:2]].mean()
assert recall.loc["hard labels", "threes found, before"] == 0.0
assert recall.loc["hard labels", "threes found, after"] < 0.4
assert recall.loc["soft targets", "threes found, before"] > 0.6
assert recall.loc["soft targets", "threes found, after"] > 0.85
for column in columns[:2]:
    verdict = report.verdict(lab.compare(omitted, baseline="hard labels", metric=column), "soft targets")
    assert verdict == "soft targets: helps"
    print(f"{column} the shift: {verdict}")
gained = omitted["threes found, after"] - omitted["threes found, before"]
assert (gained[omitted["arm"] == "soft targets"] > -0.01).all()
assert gained[omitted["arm"] == "soft targets"].mean() > 0.03
print("after the shift the soft targets' student finds more 3s on average, and on no seed fewer: yes")

# %% [markdown]
# The student that learned from labels never says "3", and the shift gives it the smaller part of them; the one that
# learned from the teacher finds most of the 3s that it has never seen, and more after the shift. In the paper, on
# MNIST: 206 test errors, 133 of them on the 1,010 threes, before the shift; 109 and 14 after.

# %% [markdown]
# ## 6. When soft targets help, and when they hurt
#
# Now a harder question: are soft targets worth more than labels, to a student that could have both? The data are
# MNIST-1D ([Greydanus and Kobak 2024](https://arxiv.org/abs/2011.14439)): 4,000 signals of 40 samples, ten classes,
# designed so that convolutions win. The teacher is a small convolutional network; the student is a perceptron, which
# knows nothing about shifts in time. Students of one size start from the same first weights; data order and optimiser
# are the same for all. Their targets differ:
#
# - **hard**: the labels; **soft-τ**: the teacher's probabilities at τ, no labels; **mixed-10**: 0.9 of them at τ = 10
#   and 0.1 labels; 200 epochs;
# - **short-hard** and **short-soft** (τ = 10): a tenth of the epochs;
# - **tiny-hard** and **tiny-soft** (τ = 10): one hidden layer of 16 units instead of two of 100.
#
# No student has [weight decay](GLOSSARY.md#weight-decay), and two controls are missing: smoothed labels, and the
# teacher's first choice as a label. Lesson 02 has all three.
#
# Three groups of eight [paired seeds](GLOSSARY.md#paired-seeds) take the better part of an hour, so they are
# [stored](GLOSSARY.md#stored-runs), with the command that made them.

# %%
stored = experiments.load("soft_targets_temperature")
print(experiments.provenance("soft_targets_temperature")["command"])
print(len(stored), "runs:", stored["arm"].nunique(), "arms,", stored["seed"].nunique(), "seeds")
lab.show(sweep.run)

# %% [markdown]
# Stored numbers are worth what can be recomputed of them. Three arms of one seed, live: a short run, a long one, a tiny
# student. Another processor rounds differently, and a long run amplifies it; so some distance is allowed, but less than
# the effects that these arms show.

# %%
seed = BASE_SEED if BASE_SEED in set(stored["seed"]) else 0
allowed = {"short-hard": (0.015, 0.05), "soft-10": (0.025, 0.3), "tiny-soft": (0.015, 0.1)}  # accuracy and NLL
for arm, (share, nats) in allowed.items():
    again = sweep.run(seed, arm)
    kept = stored.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(again["accuracy"] - kept["accuracy"]) < share
    assert abs(again["nll"] - kept["nll"]) < nats
    print(f"{arm}: within {100 * share:g} points, and {nats:g} nats, of the stored run")

# %% [markdown]
# The tables show, besides accuracy, the [agreement](GLOSSARY.md#agreement) of student and teacher, the [negative
# log-likelihood](GLOSSARY.md#negative-log-likelihood) (NLL) and the [calibration
# error](GLOSSARY.md#calibration-error). Of the last two, less is better.

# %% tags=["nbval-ignore-output"]
TAUGHT = {
    "hard": ["soft-1", "soft-2", "soft-4", "soft-10", "soft-20", "mixed-10"],
    "short-hard": ["short-soft"],
    "tiny-hard": ["tiny-soft"],
}
for baseline, arms in TAUGHT.items():
    result = lab.compare(stored[stored["arm"].isin([baseline, *arms])], baseline=baseline, metric="accuracy")
    report.comparison(result.loc[[baseline, *arms]], caption=f"test accuracy against {baseline}, all 24 seeds")
measures = ["training_accuracy", "accuracy", "agreement", "nll", "calibration_error"]
order = [arm for baseline, arms in TAUGHT.items() for arm in (baseline, *arms)]
means = stored.groupby("arm")[measures].mean().loc[order]
report.table(means, percent=measures[:3], caption="means, all 24 seeds")

# %% [markdown]
# The verdict is the one over all 24 seeds, with intervals widened where more than five arms meet one baseline. The
# three groups of eight stand beside it: with a third of the seeds a group is sooner undecided, but none may say the
# opposite.

# %%
verdicts = {}
for baseline, arms in TAUGHT.items():
    runs = stored[stored["arm"].isin([baseline, *arms])]
    for metric in ("accuracy", "nll"):
        found = report.verdicts(runs, baseline=baseline, metric=metric, higher_is_better=metric == "accuracy")
        verdicts |= {(arm, metric): found.loc[arm].tolist() for arm in arms}
for (arm, metric), found in verdicts.items():
    print(f"{arm:12} {metric:9} all seeds: {found[3]:9} (groups: {', '.join(found[:3])})")

# %% tags=["readme-picture"]
soft = [arm for arm in stored["arm"].unique() if arm.startswith("soft-")]
frame = stored[stored["arm"].isin(soft)].assign(temperature=lambda t: t["arm"].str.removeprefix("soft-").astype(int))
hard = stored.loc[stored["arm"] == "hard", "accuracy"].mean()
report.figure(
    report.curve(
        frame.sort_values("temperature"),
        x="temperature",
        y="accuracy",
        log_x=True,
        percent=True,
        x_label="temperature τ of the soft targets",
        y_label="test accuracy",
        levels={"hard labels": hard},
    ),
    "test accuracy of the perceptron rises with the temperature; from τ = 4 on its band, a 95 % interval, lies clear "
    "of the line of hard labels",
)

# %% [markdown]
# **What happened**, over all 24 seeds. The large student:

# %%
all_seeds = {question: found[3] for question, found in verdicts.items()}
gains = 100 * (means["accuracy"] - means.loc["hard", "accuracy"])
helped = ["soft-4", "soft-10", "soft-20", "mixed-10"]
assert all(all_seeds[arm, metric] == "helps" for arm in helped for metric in ("accuracy", "nll"))
assert gains[helped].between(2.5, 4.5).all()
assert means.loc["hard", "training_accuracy"] > 0.99
assert means.loc["hard", "accuracy"] < 0.65
for arm in ("soft-1", "soft-2"):
    assert (all_seeds[arm, "accuracy"], all_seeds[arm, "nll"]) == ("undecided", "helps")
print("soft targets at τ of 4, 10 or 20, and 0.9 of them at 10, help, in accuracy and in NLL")
print("at τ of 1 or 2: accuracy undecided, NLL better")

# %% [markdown]
# Why does τ = 1 gain so little? Look at what the teacher says of the data that it was trained on:

# %%
certain = softened_probabilities(sweep.teacher_logits(seed)[0], temperature=1.0).amax(-1)
assert certain.median() > 0.99
print("at τ = 1 it gives its first class more than 0.99, on more than half of its training data: yes")

# %% [markdown]
# The tiny student, and the short runs:

# %%
assert all_seeds["tiny-soft", "accuracy"] == all_seeds["tiny-soft", "nll"] == "hurts"
assert means.loc["tiny-soft", "training_accuracy"] < means.loc["tiny-hard", "training_accuracy"] < 0.65
assert means.loc["tiny-hard", "training_accuracy"] - means.loc["tiny-hard", "accuracy"] < 0.1
assert all_seeds["short-soft", "accuracy"] == "undecided"
assert all_seeds["short-soft", "nll"] == "hurts"
assert means["nll"].idxmin() == "short-hard"
assert means.loc["short-hard", "accuracy"] < means.loc["hard", "accuracy"]
print("soft targets at τ = 10 without labels hurt the tiny student, in accuracy and in NLL")
print("after a tenth of the epochs: accuracy undecided, NLL worse")
print("the best NLL of all belongs to the large student, hard labels, a tenth of the epochs")

# %% [markdown]
# Would labels beside the teacher have saved it, or a lower temperature? Lesson 02 keeps runs of such a net (batches of
# 250, 100 epochs) with 0.1 of labels and 0.9 of soft targets at τ = 4. Its three teachers are convolutional networks
# of 8, 24 and 64 channels:

# %% tags=["nbval-ignore-output"]
capacity = experiments.load("response_capacity")
arms = [f"mlp-16 | {teacher}" for teacher in ("no teacher", "cnn1d-8", "cnn1d-24", "cnn1d-64")]
capacity = capacity[capacity["arm"].isin(arms)]
report.comparison(
    lab.compare(capacity, baseline=arms[0], metric="accuracy").loc[arms],
    caption="a net of 16 units, 0.9 of soft targets at τ = 4; all 24 seeds",
)

# %%
for metric in ("accuracy", "nll"):
    better = metric == "accuracy"
    found = report.verdicts(capacity, baseline=arms[0], metric=metric, higher_is_better=better)
    for arm, row in found.loc[arms[1:]].iterrows():
        print(f"{arm:17} {metric:9} all seeds: {row.iloc[3]:9} (groups: {', '.join(row.iloc[:3])})")
    assert not (found == "helps").any(axis=None)
assert (found["all seeds"] == "hurts").all()
print("NLL is worse with each of the three teachers; accuracy gains from none: yes")

# %% [markdown]
# And is the large student a copy of its teacher?

# %%
assert stored["teacher_accuracy"].min() > 0.95
assert means.loc[TAUGHT["hard"], "agreement"].max() < 0.7
assert (means.loc[TAUGHT["hard"], "agreement"] - means.loc[TAUGHT["hard"], "accuracy"]).abs().max() < 0.01
print("the teacher is right on more than 95 of 100; the student agrees with it on fewer than 70: yes")

# %% [markdown]
# - **Helped:** the large student learns its 4,000 labels by heart (100 % on the training set, little more than 60 % on
#   the test set). Soft targets at τ of 4, 10 or 20 gain it about three to four points. Weight decay and the two
#   controls do not explain that away: in lesson 02 soft targets gain three points and more on each of them.
# - **Undecided:** at τ = 1 the teacher is nearly certain on most examples that it was trained on, so soft targets are
#   nearly hard labels again. NLL gains; about accuracy at τ of 1 and 2 we claim nothing.
# - **Hurt:** the tiny student can't fit the labels (60 % on the training set), so it has little
#   [overfitting](GLOSSARY.md#overfitting) to cure. A likely reason for the loss: copying all of the teacher's
#   probabilities takes [capacity](GLOSSARY.md#capacity) that it needs for being right; on its training set, too, it is
#   right less often. With a tenth of labels, at τ = 4, such a net has a worse NLL with each of three teachers, and less
#   accuracy with two of them; with the third that is undecided. *Scope:* one net of 16 units on one data set.
# - **A fair opponent:** hard labels for a tenth of the epochs, the gist of [early
#   stopping](GLOSSARY.md#early-stopping). Accuracy is lower than that of a long run, NLL better than in any other arm.
#   If probabilities are what you need, look at NLL and calibration before you praise a teacher.
# - **No copy:** the large student agrees with its teacher about as often as it is right, and no more, soft targets or
#   not.
#
# ## 7. Move it yourself
#
# The image of section 1, its softened probabilities, and a slider. From which temperature on can you see a rival? Are
# all classes equal at 20?
#
# <details><summary>Answer</summary>The first rival shows near τ = 1 or below. At 20 the bars still differ, in the same
# order: they become equal as τ grows without end.</details>

# %%
widgets.temperature_explorer(test_logits[unsure], true_label=label, image=split.test_x[unsure])

# %% [markdown]
# ## 8. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/01_soft_targets.ipynb](solutions/01_soft_targets.ipynb).

# %% [markdown] tags=["exercise"]
# **01.1 Recall.** Write the divergence of the student's from the teacher's softened distribution: one value per
# example, shape (B,). It must stay finite for logits of 10,000.
#
# <details><summary>Hint</summary>Stay in log space: F.log_softmax of both, then p is the exponential of log
# p.</details>


# %% tags=["exercise"]
def my_kl(student_logits, teacher_logits, temperature):
    raise NotImplementedError


# %% tags=["solution"]
def my_kl(student_logits, teacher_logits, temperature):
    log_p = F.log_softmax(teacher_logits / temperature, dim=-1)
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)


# %% tags=["check"]
lab.check("01.1", my_kl)

# %% [markdown] tags=["exercise"]
# **01.2 Build.** Write the loss of section 2 with your own hands: `(1 - soft_weight)` times cross-entropy with the
# labels, plus `soft_weight` times τ² times the mean divergence.
#
# <details><summary>Hint</summary>Which temperature does the student meet the labels at? It will be used at 1.</details>


# %% tags=["exercise"]
def my_distillation_loss(student_logits, teacher_logits, labels, soft_weight, temperature):
    raise NotImplementedError


# %% tags=["solution"]
def my_distillation_loss(student_logits, teacher_logits, labels, soft_weight, temperature):
    log_p = F.log_softmax(teacher_logits / temperature, dim=-1)
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    soft = temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    return (1 - soft_weight) * F.cross_entropy(student_logits, labels) + soft_weight * soft


# %% tags=["check"]
lab.check("01.2", my_distillation_loss)

# %% [markdown] tags=["exercise"]
# **01.3 Predict.** The temperature goes from 10 to 20, both high for the logits at hand. How many times smaller does
# the gradient of plain KL get, without τ²? Write the number before you compute anything.
#
# <details><summary>Hint</summary>The gradient is (q - p)/τ. What happens to q - p?</details>

# %% tags=["exercise"]
my_factor = ...

# %% tags=["solution"]
my_factor = 4  # one 2 from the chain rule, one because both distributions are twice as close to uniform

# %% tags=["check"]
lab.check("01.3", my_factor)

# %% [markdown] tags=["exercise"]
# **01.4 Design.** Choose the bias shift of section 5 yourself: given logits (B, C), labels (B,), a class and amounts
# in ascending order, return the amount that, added to that class's logit, gives the highest accuracy over *all*
# examples; the smallest of equals. Leave the given logits as they are.
#
# <details><summary>Hint</summary>Why not the highest recall of that class? Try a shift of 1,000 in your head.</details>


# %% tags=["exercise"]
def best_shift(logits, labels, klass, amounts):
    raise NotImplementedError


# %% tags=["solution"]
def best_shift(logits, labels, klass, amounts):
    column = F.one_hot(torch.tensor(klass), logits.shape[-1])
    scores = [((logits + amount * column).argmax(-1) == labels).double().mean().item() for amount in amounts]
    return amounts[scores.index(max(scores))]


# %% tags=["check"]
lab.check("01.4", best_shift)

# %% [markdown]
# **Going further** (not checked): set `epochs=50` to 150 in `run_omitted`. How much is the bias shift still worth,
# and why? Give the tiny student of section 6 ten times as many fresh signals (`data.mnist1d_fresh`). What do you
# expect of the large one?

# %%
lab.quiz("01")

# %% [markdown]
# ## 9. When to use soft targets, and when not
#
# **Use them** when the student is large enough to overfit its labels, training is long, and the teacher can be run on
# the student's inputs; or when a class is missing among its examples (section 5). Start with `soft_weight` 0.9 and τ =
# 10, which helped here as did 4 and 20 without labels; at 1 and 2 a teacher that is certain of its training data hides
# what it knows.
#
# **When not:** the student [underfits](GLOSSARY.md#underfitting) (seen here on one net of 16 units, at two settings;
# measure yours); the budget is a few epochs (accuracy undecided here, NLL worse); you need calibrated probabilities and
# have not measured them.
#
# **Cost:** one forward pass of the teacher per input. If inputs are not augmented, compute its outputs once
# (`lab.teacher_outputs`) and keep them with the inputs; with augmentation, both nets must see the same augmented
# input (lesson 02).
#
# **Copy it:** `python -m kdref copy soft_targets` writes one file that needs only torch; `python -m kdref copy
# distillation_loss` writes that function and what it calls.
#
# **Further reading:** [Hinton et al. 2015](https://arxiv.org/abs/1503.02531), nine pages; [Stanton et al.
# 2021](https://arxiv.org/abs/2106.05945), *Does knowledge distillation really work?*, on how little students copy;
# [Beyer et al. 2022](https://arxiv.org/abs/2106.05237) on patience and consistency.
#
# **Next lesson:** [02](02_response_based.ipynb), response-based distillation: at equal budget and tuning, which loss on
# logits?
