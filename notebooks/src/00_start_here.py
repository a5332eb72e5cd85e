# %% [markdown]
# # 00 · Start here
#
# **What is knowledge distillation, does everything work on your machine, and how do you work with this course?**
#
# A large network is often right and often too slow, too big or too costly to use. **Distillation** trains a small
# network, the *student*, on what the large one, the *teacher*, says. In this course you build it yourself, watch it
# work or fail in seconds on an ordinary laptop, and take the code with you.
#
# **You will be able to**
#
# - check the installation, and get help when something breaks;
# - train your first student, which never sees a label;
# - find your way: lessons, notation, exercises, verdicts.
#
# **Needs:** Python, and some PyTorch: what a tensor, a loss and an optimiser are. No GPU, no network.
#
# **Time:** about {minutes} minutes to read and do, {seconds} seconds to run on one thread.
#
# **Files:** `kdref/lab/course/doctor.py` (the check), `kdref/lab/course/check.py` (the exercises),
# `kdref/lab/course/workspace.py` (your copies).
#
# **Papers:** [Hinton, Vinyals and Dean 2015](https://arxiv.org/abs/1503.02531), where most people start;
# [Gou et al. 2021](https://arxiv.org/abs/2006.05525), a survey of what came after.

# %% [markdown]
# ## 1. Does it work?
#
# Run a cell with **Shift + Enter** and go on to the next one. The first cell of every lesson imports what it needs and
# makes the session repeatable: one thread, deterministic algorithms, one seed.

# %% tags=["setup"]
import pandas as pd
import torch
import torch.nn.functional as F

from kdref import lab
from kdref.lab import course, data, models, report, widgets
from kdref.lab.course import doctor
from kdref.soft_targets import kl_divergence, soft_target_loss, softened_probabilities

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# The doctor looks at your machine, and measures its speed for five seconds. In a terminal: `python -m kdref doctor`.
# What is printed in this notebook comes from the machine that built it; yours takes its place as you run the cells.

# %% tags=["nbval-ignore-output"]
findings = list(doctor.examine())
rows = [(finding.name, finding.value, finding.remedy or "nothing") for finding in findings]
report.table(pd.DataFrame(rows, columns=["part", "found", "to do"]))

# %%
must = ("torch", "torchvision", "packages", "data")
wrong = {f.name: f.remedy for f in findings if f.name in must and f.remedy}
assert not wrong, wrong
print("PyTorch, the other packages and the data are as they should be: yes")

# %% [markdown]
# ## 2. Your first student
#
# A few seconds of computing, and no theory. A teacher learns 1,000 handwritten digits from their labels. Then a student
# with about a tenth of its parameters learns from the *teacher's outputs* alone, its [logits](GLOSSARY.md#logits): it
# never sees a label. `step` is all that training needs to know, in every lesson: a [batch](GLOSSARY.md#batch) goes in,
# a loss comes out. What `temperature` does is for lesson 01.

# %%
split = data.digits(seed=BASE_SEED)
teacher = models.make("mlp-300", shape=split.shape, seed=BASE_SEED)
student = models.make("mlp-32", shape=split.shape, seed=BASE_SEED)


def step_teacher(batch):
    images, labels = batch
    return {"loss": F.cross_entropy(teacher(images), labels)}


def step_student(batch):
    images, teacher_logits = batch
    return {"loss": soft_target_loss(student(images), teacher_logits, temperature=4.0)}


batches = lab.Batches(split.train_x, split.train_y, batch_size=100, seed=BASE_SEED)
rows = lab.fit(step_teacher, teacher, batches, torch.optim.Adam(teacher.parameters(), lr=3e-3), epochs=30)

answers = lab.teacher_outputs(teacher, split.train_x)
batches = lab.Batches(split.train_x, answers, batch_size=100, seed=BASE_SEED)
rows = lab.fit(step_student, student, batches, torch.optim.Adam(student.parameters(), lr=3e-3), epochs=30)

# %% tags=["nbval-ignore-output"]
rows, accuracy = [], {}
for name, network, labels_seen in (("teacher", teacher, "1,000"), ("student", student, "none")):
    accuracy[name] = lab.measure(network, split.test_x, split.test_y)["accuracy"]
    rows.append((name, models.count_parameters(network), labels_seen, accuracy[name]))
columns = ["network", "parameters", "labels seen", "accuracy"]
report.table(pd.DataFrame(rows, columns=columns), percent=["accuracy"])

# %%
assert models.count_parameters(student) < models.count_parameters(teacher) / 9
assert accuracy["teacher"] > 0.93
assert accuracy["student"] > 0.9
print("the student is right on more than 90 of 100 images that neither network has seen before: yes")

# %% tags=["nbval-ignore-output"]
guesses = lab.teacher_outputs(student, split.test_x[:8]).argmax(-1)
report.figure(
    report.examples(split.test_x[:8], [f"“{guess}”" for guess in guesses.tolist()]),
    "eight test images of handwritten digits; above each, what the student that saw no label takes it for",
)

# %%
assert (guesses == split.test_y[:8]).float().mean() >= 0.75
print("it gets at least six of these eight right: yes")

# %% [markdown]
# That is distillation: knowledge went from one network to another through its outputs. It does not show that the
# teacher was *needed*. Would the same student, given the labels, do as well? Lesson 01 asks that, with a fair opponent
# and eight seeds, and the answer is: it depends, and you will know on what.

# %% [markdown]
# ## 3. The map
#
# One number leads to everything: `01` is the notebook `01_soft_targets`, the method's file `kdref/soft_targets.py`, its
# tests `tests/heart/test_soft_targets.py` and the solutions of its exercises. A lesson with several files has a folder:
# `05` is `05_relation_based` and `kdref/relation/`. Take 01 first; after 02 you may jump, though 05 is easier after 03.
#
# | lesson | topic | what you will see happen |
# |:---|:---|:---|
# | 00 | start here | this page |
# | 01 | [soft targets](01_soft_targets.ipynb) | a student that never saw a 3 recognises 3s; temperature, and why τ² |
# | 02 | [response-based](02_response_based.ipynb) | which loss on the outputs is worth having; patience |
# | 03 | [feature-based](03_feature_based.ipynb) | hints: the student copies what happens inside the teacher |
# | 04 | [attention-based](04_attention_based.ipynb) | where the teacher looks, the student learns to look |
# | 05 | [relation-based](05_relation_based.ipynb) | distances and angles between examples; contrastive distillation |
# | 06 | [multi-teacher](06_multi_teacher.ipynb) | averaging probabilities and averaging logits are different things |
# | 07 | [cross-modal](07_cross_modal.ipynb) | a student with a gyroscope learns from a teacher with an accelerometer |
# | 08 | [self-distillation](08_self_distillation.ipynb) | born-again students, mutual learning, an averaged teacher |
# | 09 | [adversarial](09_adversarial.ipynb) | a discriminator as the loss, and what it costs |
# | 10 | [transfer data](10_transfer_data.ipynb) | model compression of 2006, unlabelled data, no data at all |
# | 11 | [language models](11_language_models.ipynb) | half the layers of a pre-trained encoder, and what is kept |
# | 19 | [writing models](19_writing_models.ipynb) | a small decoder learns to write; stored teachers, other pieces |
# | 12 | [reasoning](12_reasoning.ipynb) | traces, rejection sampling, on-policy distillation, in miniature |
# | 13 | [scaling laws](13_scaling_laws.ipynb) | when to distil and when to train; what a law can foretell |
# | 14 | [edge](14_edge.ipynb) | export, int8; size, latency and accuracy measured together |
# | 15 | [fidelity](15_fidelity.ipynb) | does the student really copy the teacher? a museum of published bugs |
# | 16 | [provenance](16_provenance.ipynb) | whose knowledge is it: licences, terms, detecting a distilled student |
# | 17 | [scale-out](17_scale_out.ipynb) | the same `step` on several processes and machines |
# | 18 | [choose your method](18_choose_your_method.ipynb) | all losses side by side, a chooser, your own data |
#
# **How long?** Minutes are estimated from words, lines of code and exercises; seconds were measured on one thread. A
# test holds every lesson to 75 minutes of reading and a minute of running. `python -m kdref lessons` prints the same in
# a terminal.

# %% tags=["nbval-ignore-output"]
times = {lesson.path.stem: (lesson.minutes, lesson.seconds) for lesson in course.lessons()}
columns = ["minutes to read and do", "seconds to run"]
report.table(pd.DataFrame.from_dict(times, orient="index", columns=columns).rename_axis("lesson"))

# %%
assert "00_start_here" in times
print("this lesson is in the table: yes")

# %% [markdown]
# ## 4. Notation
#
# Student first, teacher second, in formulas and in code.
#
# | symbol | meaning | name in code | shape |
# |:---|:---|:---|:---|
# | $x$ | inputs | `inputs`, `x` | (B, ...) |
# | $y$ | the right class of each example | `labels`, `y` | (B,) |
# | $z^s$, $z^t$ | logits of student and teacher | `student_logits`, `teacher_logits` | (B, C) |
# | $\tau$ | temperature | `temperature` | a number |
# | $q$, $p$ | softened probabilities of student and teacher | `softened_probabilities(...)` | (B, C) |
# | $\mathrm{KL}(p \,\Vert\, q)$ | how far $q$ is from $p$, in nats | `kl_divergence(...)` | (B,) |
# | $c(z)$ | logits minus their mean over the classes | | (B, C) |
# | $\mathcal{L}$ | a loss, ready for `backward()` | `..._loss(...)` | () |
#
# Letters of shapes: B examples, C classes, D features, H and W height and width, L length of a sequence, V words of a
# vocabulary, K teachers.
#
# As indices, $i$, $j$ and $k$ number examples, classes or teachers, $b$ examples, $c$ classes or channels, $h$ and $w$
# the row and column of a place, $n$ all elements. $\|v\|$ is the length of a vector or matrix (the root of the sum of
# its squares), $v^\top$ its transpose, $\bar v$ a mean, $\langle u, v \rangle$ the sum of products, $e$ the base of
# natural logarithms. A hat marks something normalised; the lesson says how.
#
# Some methods bring symbols of their own. Letters are few, so some serve twice, as they do in the papers:
#
# - **02:** $p_y$, $q_y$ probability of the right class; $\hat p$, $\hat q$ probabilities among the others; $w_t$, $w_n$
#   weights of DKD's two parts; $\gamma$ weight in NKD; $a$ the virtual teacher's probability of the label; $\rho$
#   correlation; $\sigma(z)$ standard deviation, $Z(z)$ z-scores.
# - **03:** $f^s$, $f^t$ features, $N$ numbers in all; $r$ regressor, with weights $W$ and bias $b$; $X$, $Y$ features
#   of the same examples, one per row; $\mu$, $\sigma_c^2$ VID's mean and variance of a channel; $m_c$ OFD's margin;
#   $\mu$ AB's margin, $a$ its sign; $F$ factors; $G$ products of channels; $L$ a loss.
# - **04:** $A$ activations; $Q$ how active a place is; $p$ power; $m$ attention map, $w$ the weight of its loss; then
#   $Q$, $K$, $V$ queries, keys and values, with rows $q_i$, $k_j$; $S$ scores, $P$ attention; $\phi$ features,
#   with weights $W$.
# - **05:** $x_i$ features of an example; $d_{ij}$ distance of two, $\mu$ their mean; $\ell$ Huber loss; $L_D$, $L_A$
#   distance and angle loss; $G$ products of examples; $\gamma$ the sharpness in CC; $p_{ij}$ probability of being
#   neighbours.
# - **06:** $w_k$ weight of a teacher, $\ell$ its cross-entropy with the label, $H$ its entropy; $L$ a loss.
# - **07:** $L$ the labelled examples of a batch, $U$ the others.
# - **08:** $f$ a fitted curve; $k$ kernel; $G$ how alike examples are, $\lambda$ an eigenvalue of it; $c$ penalty; $I$
#   identity matrix; $S$ what turns labels $Y$ into fitted values, $T$ other targets; $a$ a weight of labels or of
#   earlier answers; $\theta$ weights of a network, $d$ how slowly an average of them follows; $H$ entropy.
# - **09:** $d$ a discriminator's score (a logit), $d^*$ the best one's, $D$ its probability, $\sigma(d)$ the sigmoid
#   that makes one of the other; $w$ the weight of its loss, $f$ features; $P$, $Q$ the laws of teacher and student; $s$
#   the gradient of a log-density; $\mathcal N$ the normal distribution, $\mu$, $\sigma$ its mean and deviation;
#   $\delta$ what an attack adds to an input.
# - **10:** $e$ an example, $e'$ its nearest neighbour, $e_a$ one of its attributes; $p$ probability of an exchange, $s$
#   what divides the noise, $\sigma$ its standard deviation, $\mathcal N$ the normal distribution; $\hat y$ the
#   teacher's choice, $f$ its features; $\mu$, $\sigma^2$ a batch's mean and variance, with a hat those that BatchNorm
#   keeps.
# - **11:** $L$ a loss; $w_s$, $w_h$, $w_c$ the weights of soft targets, labels and cosine; $h^s$, $h^t$ hidden states.
# - **12:** $y$ a sequence of tokens, $y_t$ one of them, $y_{<t}$ those before it; $P$, $Q$ the teacher's and the
#   student's probabilities of whole sequences; $r_t$ log-ratio of a token, $r$ of a whole text; $k_1$, $k_2$, $k_3$
#   estimates of a divergence; $c$ a context before the prompt $x$; $\alpha$ how often a draft is accepted; $v$ a word.
# - **13:** $o$ odds; $N$ parameters, $D$ tokens or examples seen, of the teacher with index $T$; $L$ a loss, $L_S$ and
#   $L_T$ student's and teacher's, $\tilde L_S$ that student's alone; $E$ what no size removes; $A$, $B$, $\alpha$,
#   $\beta$, $\gamma$, $c_0$, $c_1$, $d_1$, $f_1$, $c$, $k$ constants of a law, with a dash those for students; $F$
#   operations per token, $\delta_L$, $\delta_P$ shares of a teacher's cost; $\theta_i$ coefficients, $m$, $n$ widths of
#   teacher and student, $r$ a norm.
# - **14:** $x$ a weight or an activation, $\hat x$ the same rounded, $k$ its whole number; $b$ bits, $s$ the step;
#   $Q_N$, $Q_P$ the largest whole numbers below and above zero; $N$ how many values share a step; $I_c$ importance of a
#   channel, $\gamma_c$ its normalisation's factor, $W_c$ the weights that read it.
# - **15:** $\kappa$ error consistency, $o$ and $e$ the shares of common right and wrong answers, observed and
#   expected.
# - **16:** $\theta$ weights, $\theta_0$ the first ones, $L$ a loss, $f$ outputs, $J$ their derivative by the weights,
#   $\varepsilon$ a small step and $\Delta^s$ the student's; $k$ a key, $u$ the word before, $\delta$ the bonus of green
#   words, $\gamma$ their share; $n$ pairs of words, of which $h$ or $i$ are green; $\alpha$ a threshold; $\omega$ how
#   nasty a teacher is made to be, $a$ its honest twin's probabilities.
# - **17:** $W$ processes, $w$ one of them, $x_w$ its rows and $X$ those of all; $L$ a loss, $\ell_i$ and $\ell_{ij}$
#   the terms of an example and of a pair; $P$ parameters.
# - **18:** $d$ differences of $n$ paired seeds, $\bar d$ their mean, $s$ their standard deviation; $k$ arms that meet
#   one baseline; $t$ a quantile of Student's distribution.
#
# The name of a function tells the shape of its result: `*_loss` is one number, `*_divergence`, `*_distance` and
# `*_similarity` are one number per example. Weights say what they weigh: `soft_weight` is the teacher's share.

# %%
student_logits, teacher_logits = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[4.0, 2.0, 0.0]])
for temperature in (1.0, 4.0):
    p = softened_probabilities(teacher_logits, temperature=temperature)
    print(f"p at τ = {temperature:.0f}:", p.numpy().round(3))
print("kl_divergence:", tuple(kl_divergence(student_logits, teacher_logits).shape))
print("soft_target_loss:", tuple(soft_target_loss(student_logits, teacher_logits).shape))

# %% [markdown]
# ## 5. How a lesson works
#
# **Your copy.** `make course` opened the copies in the folder `work`. They are yours: change anything, git does not
# watch them, and no update overwrites them. `python -m kdref reset 01` gives you a fresh copy and keeps the old one
# beside it, with its date in the name.
#
# **The code is the package's.** `lab.show` prints a function from the file that you can copy, so it can't go stale.

# %%
lab.show(softened_probabilities)

# %% [markdown]
# **Widgets.** Where moving something teaches more than reading, there is a slider. It needs a running kernel: run the
# cell, then move it.

# %%
widgets.temperature_explorer(teacher_logits[0], class_names=["three", "eight", "five"], true_label=0)

# %% [markdown]
# **Numbers that differ.** Processors round differently, and training enlarges the difference. Tables of measured
# numbers stand in cells tagged `nbval-ignore-output`, which our tests do not compare. Each is followed by a cell that
# asserts what the lesson claims, and *that* must hold on your machine and from other seeds too.
#
# **Verdicts.** One run proves nothing. Each claim that a method helps or hurts rests on eight or more **paired seeds**
# (five in lesson 11, where a run takes minutes): both students of a pair share first weights, data and order. The mean
# difference gets a 95 % interval, and a **margin** says beforehand what is too little to matter (1 point, if nothing
# else is said).
#
# | verdict | when |
# |:---|:---|
# | helps | the whole interval lies above zero |
# | hurts | the whole interval lies below zero |
# | no useful difference | the whole interval lies within the margin |
# | undecided | none of these: more seeds might tell |
#
# Read it from the top: the first line that fits counts. Where less is better, above and below change places.
# *Undecided* is not *no difference*: it means that we don't know. And of many methods one clears zero by luck: where
# more than five meet one baseline, the intervals are widened for their number (Bonferroni), and the table says so. Four
# made-up methods, one of each kind; each is an [arm](GLOSSARY.md#arm) of the experiment:

# %%
wobble = [-0.015, -0.010, -0.005, 0.0, 0.0, 0.005, 0.010, 0.015]
runs = [("no teacher", seed, 0.7) for seed in range(8)]
for method, gain, spread in (("A", 0.03, 1.0), ("B", -0.025, 1.0), ("C", 0.001, 0.5), ("D", 0.008, 2.0)):
    runs += [(f"method {method}", seed, 0.7 + gain + spread * wobble[seed]) for seed in range(8)]
frame = pd.DataFrame(runs, columns=["arm", "seed", "accuracy"])
result = lab.compare(frame, baseline="no teacher", metric="accuracy", margin=0.01)
report.comparison(result)

# %%
report.figure(
    report.intervals(result, margin=0.01),
    "four intervals against zero and the margin: A above, B below, C within the margin, D across both",
)

# %% [markdown]
# ## 6. Exercises
#
# An exercise is a cell to fill in and a cell that checks it. The check tells you *what* differs, and on which input; it
# knows the typical mistakes by name. It never gives the answer away, and you may try as often as you like. As long as
# you leave the stub, it prints a hint, and the notebook runs on. Solutions are in [a notebook of their
# own](solutions/00_start_here.ipynb).

# %% [markdown] tags=["exercise"]
# **00.1 Points.** A student reaches 60 % alone and 65 % with a teacher. How many points does it gain? (Try 0.05 first,
# to see what a mistake looks like.)
#
# <details><summary>Hint</summary>A point is one per cent of the test set.</details>

# %% tags=["exercise"]
my_points = ...

# %% tags=["solution"]
my_points = 65 - 60

# %% tags=["check"]
lab.check("00.1", my_points)

# %% [markdown] tags=["exercise"]
# **00.2 Soften.** Write the softened probabilities of logits (B, C): each row of the result sums to 1.
#
# <details><summary>Hint</summary>torch.softmax, over the last dimension.</details>


# %% tags=["exercise"]
def soften(logits, temperature):
    raise NotImplementedError


# %% tags=["solution"]
def soften(logits, temperature):
    return torch.softmax(logits / temperature, dim=-1)


# %% tags=["check"]
lab.check("00.2", soften)

# %% [markdown] tags=["exercise"]
# **00.3 Verdict.** The difference between two methods is 0.6 points, with a 95 % interval from -0.5 to 1.7. The margin
# is one point. Which of the four verdicts is it? Write it as a text.
#
# <details><summary>Hint</summary>Go through the table of verdicts, line by line.</details>

# %% tags=["exercise"]
my_verdict = ...

# %% tags=["solution"]
my_verdict = "undecided"

# %% tags=["check"]
lab.check("00.3", my_verdict)

# %% [markdown]
# At the end of each lesson three questions wait for you. Choose an answer and read why it is right or not.

# %%
lab.quiz("00")

# %% [markdown]
# ## 7. When something breaks
#
# | what you see | what to do |
# |:---|:---|
# | a cell hangs, or you want to begin anew | *Kernel* > *Restart Kernel and Run All Cells* |
# | `No module named 'kdref'` | the notebook runs on another Python: close it and say `make course` |
# | your copy is beyond repair | `python -m kdref reset 01`; your old copy is kept |
# | an error names a data file | the error says which command restores it; `python -m kdref doctor` checks all files |
# | `FloatingPointError` in training | the error names the epoch and the term that blew up: lower the learning rate |
# | a slider does not move | run its cell first: it needs a running kernel |
# | an assertion fails, and you changed nothing | our mistake: report it, with the line that the doctor prints for it |
#
# `python -m kdref` must be said with the Python of the course: `source .venv/bin/activate` first (Windows:
# `.venv\Scripts\activate`).
#
# Three environment variables change how lessons run: `KDREF_SEED=1000` takes other seeds, `KDREF_JOBS=2` uses two
# processes, `KDREF_PROGRESS=off` hides the progress bars.
#
# ## 8. Words
#
# Every word of the course that needs explaining stands in the [glossary](GLOSSARY.md), in a sentence or two, with the
# lesson that introduces it. Where such a word first matters, the lesson links to it: what is a [nat](GLOSSARY.md#nat),
# say?
#
# ## 9. When to use what you find here
#
# **When to copy a method:** whenever you like. `python -m kdref copy soft_targets` writes one file that needs only
# torch into your folder, with its source and licence in the header; `python -m kdref copy kl_divergence` writes one
# function.
#
# **When not:** before you have looked at the last section of its lesson, which says whom it helps, whom it hurts, and
# what it costs.
#
# **Further reading:** [the table of weights](../docs/weights.md) translates our weights and arguments to those
# of other libraries.
#
# **Next lesson:** 01, soft targets: what does a network know beyond the answers it gives?
