# %% [markdown]
# # 16 · Provenance
#
# **Whose knowledge is in a student, can one tell, and who may say so?**
#
# **You will be able to**
#
# - look up what terms and licences say about a student, and fill in a card that says whose it is;
# - show that a student can take over what is in none of its data, and say when;
# - test a student for its teacher's watermark, by a p-value that is right;
# - recognise a teacher by its mistakes in a student, and name the cases where that fails;
# - say what a defence costs honest users, and what it costs copiers.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb); [lesson 15](15_fidelity.ipynb) helps.
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the sections marked *in depth*; {seconds}
# seconds to run on one thread.
#
# **Files:** `kdref/provenance/` (watermark, nasty teacher), `kdref/lab/course/terms.py`, `timeline.py` and `card.py`
# (facts, and the card), `kdref/lab/experiments/provenance_*.py` (the long experiments).
#
# **Papers:** [Cloud et al. 2025](https://arxiv.org/abs/2507.14805), [Kirchenbauer et al.
# 2023](https://arxiv.org/abs/2301.10226), [Sander et al. 2024](https://arxiv.org/abs/2402.14904), [Ma et al.
# 2021](https://arxiv.org/abs/2105.07381), [Jandial et al. 2022](https://arxiv.org/abs/2210.11728).

# %% tags=["setup"]
import math
import textwrap

import torch
import torch.nn.functional as F
from scipy.stats import binom, kstest

from kdref import lab
from kdref.fidelity import expected_calibration_error, top1_agreement, wrong_answer_agreement
from kdref.lab import data, experiments, models, report
from kdref.lab.course.card import distillation_card
from kdref.lab.course.projects import PROJECTS
from kdref.lab.course.terms import TERMS, table
from kdref.lab.course.timeline import TIMELINE, timeline
from kdref.lab.experiments import (
    _provenance_text,
    provenance_defences,
    provenance_fingerprint,
    provenance_nasty,
    provenance_subliminal,
    provenance_watermark,
)
from kdref.lab.report import style
from kdref.lab.report.roc import roc
from kdref.lab.widgets.provenance import detection_explorer, detection_figure
from kdref.provenance import green_list, nasty_teacher_loss, watermark_logits, watermark_p_value

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. What is written
#
# A student holds what its teacher knew. Whose is it? Three documents may have a say: the **terms of a service** that
# gave the answers, a contract with whoever asked; the **licence of a model** whose weights or answers were used; the
# **licence of the data**. What they say, as far as we could read it:

# %%
facts_of_terms = table().rename_axis("terms")
report.table(facts_of_terms[["of", "date", "train", "publish", "name"]])
names = {"duties": "owed with its weights or data", "taught": "owed with a student of its outputs"}
duties = facts_of_terms[[*names, "seen"]].rename(columns=names | {"seen": "what we read"})
duties["source"] = [f"[page]({TERMS[key].source})" for key in duties.index]
report.table(duties)
print(textwrap.fill("The clause behind a row, as in TERMS['llama3.1'].clause: " + TERMS["llama3.1"].clause, 110))

# %% [markdown]
# **This is no legal advice**, and all of it comes from *stored copies*: we saw no live page, and terms change. The
# terms that forbid to compete do not say what competing is. Whether a model's outputs are protected, and
# whether a student is a work made from its data, is for lawyers to say. DeepSeek-R1-Distill-Llama-8B does not begin
# with "Llama": how the clause applies to it neither text says. The table leaves out, as others quote them: Llama's
# licences do not hold for companies with more than 700 million users a month; OpenAI's [terms of
# use](https://openai.com/policies/row-terms-of-use/) for consumers (1 January 2026) also forbid to draw answers by
# program; the [terms of DeepSeek's
# platform](https://cdn.deepseek.com/policies/en-US/deepseek-open-platform-terms-of-service.html) (29 April 2026, 4.2)
# allow distillation by name.
#
# **A controversy**, as a timeline. Each line says who said it; an accusation that the accused has not conceded is
# called *alleged*. "Read in" says how near to it we came. We have no verdict.

# %%
said = timeline()
said["source"] = [f"[page]({event.source})" for event in TIMELINE]
report.table(said)

# %% [markdown]
# ### What both sides say (in depth)
#
# **The accusers.** Their terms forbid it, and who opens an account accepts them. Fraudulent accounts were used
# (alleged). It is free-riding on their research (OpenAI, 2026). A copy made from answers need not keep the original's
# safeguards ([Anthropic, 2026](https://www.anthropic.com/news/detecting-and-preventing-distillation-attacks)).
#
# **The accused, and others.** If R1's base model read answers of OpenAI's models, it was not by intent, and there was
# no stage of distillation (DeepSeek, 2025). The accusations are baseless (the embassy, 2026). The accuser itself took
# training data without asking (Musk and others on Anthropic, 2026, alleged too). We found no answer of Moonshot's or
# MiniMax's. Distillation as such the accusers do not condemn: Anthropic's text calls it widely used and legitimate, and
# its usage policy allows it with its approval; OpenAI's agreement excepts the fine-tuning of its own models.

# %% [markdown]
# ## 2. Knowledge that is in none of the data
#
# [Lesson 15](15_fidelity.ipynb) planted a habit in a teacher. Half of it reached students through soft outputs, though
# every image that they were shown was classified rightly. How far can that go? Cloud et al. (2025) call it
# **[subliminal learning](GLOSSARY.md#subliminal-learning)**: a language model that likes owls writes rows of numbers; a
# copy of its base model, fine-tuned on the numbers, comes to like owls.
#
# In small, with digits. A network has ten logits for the classes and ten more that mean nothing. The teacher learns
# digits by the first ten. The student is shown *uniform noise* and imitates the *other* ten: it never sees a digit or a
# class logit. In the code `classes(net)` gives the first ten, `others(net)` the other ten, and `start` the student.

# %%
lab.show(provenance_subliminal.start)
lab.show(provenance_subliminal.run)
stored = experiments.load("provenance_subliminal")
print(experiments.provenance("provenance_subliminal")["command"], "·", stored["seed"].nunique(), "seeds")
seed = BASE_SEED if BASE_SEED in set(stored["seed"]) else 0
for arm in ("same start", "another start"):
    live = provenance_subliminal.run(seed, arm)
    kept = stored.query("seed == @seed and arm == @arm").iloc[0]
    assert abs(live["accuracy"] - kept["accuracy"]) < 0.15  # other processors round differently
    print(f"{arm}: near the stored run")

# %% [markdown]
# Beside *same start* and *another start*: another start with four times the steps (*longer*), with the teacher's first
# *last layer*, or *half way* to its start. *Labels of nothing*: the teacher learnt shuffled labels. *Untrained*: it
# learnt nothing. `loss_left` is the share of the divergence on new noise that is still there.

# %% tags=["nbval-ignore-output"]
order = list(provenance_subliminal.ARMS)
columns = ["accuracy", "accuracy_before", "teacher_accuracy", "agreement", "loss_left"]
hidden = stored.groupby("arm")[columns].mean().loc[order]
report.table(hidden, percent=columns)
report.table(report.verdicts(stored, baseline="another start").loc[[arm for arm in order if arm != "another start"]])

# %%
found = report.verdicts(stored, baseline="another start")["all seeds"]
assert found["same start"] == "helps"
assert hidden.loc["same start", "accuracy"] > 0.5
assert hidden.loc["another start", "accuracy"] < 0.15
assert hidden.loc["another start, longer", "accuracy"] < 0.15
assert (hidden["loss_left"] < 0.1).all()
nothing = hidden.loc["labels of nothing"]
assert nothing["accuracy"] < 0.15 < 0.4 < nothing["agreement"]
nonsense = provenance_subliminal.teacher(seed, "nothing")
both = [
    lab.teacher_outputs(provenance_subliminal.classes(net), provenance_subliminal.known(seed).test_x)
    for net in (provenance_subliminal.start(seed, "labels of nothing"), nonsense)
]
assert top1_agreement(*both).mean() < 0.3
print("from the teacher's start it reads digits; from another it does not, nor in four times the steps: yes")
print("all imitate the other logits well: less than a tenth of the divergence is left: yes")
assert (found[["another start, same last layer", "half way"]] == "helps").all()
assert hidden.loc[["another start, same last layer", "half way"], "accuracy"].max() < 0.25
print("of a teacher of shuffled labels it takes over the nonsense: yes; half the start gives a little: yes")

# %% [markdown]
# - **From its teacher's start** the student reads 62 % of digits that it has never seen; before, 9 %. **From another
#   start** it reads nothing (10 %), nor does it in four times the steps, although after them it imitates as well: 1.5 %
#   of the divergence is left, and 1.3 % from the same start. Of an **untrained** teacher nothing arrives either (10 %).
# - **Nearly the same start passes a little on:** with the teacher's first last layer in another network 22 %, half way
#   between the two starts 15 % (clear only over all 24 seeds).
# - **Right or wrong, it is the teacher that arrives.** Of one that learnt shuffled labels the student takes over 60 %
#   of the answers; its start gave few of them (the cell above asks for less than 30 %).
#
# So a start in common is a channel of its own. No filter of the *data* helps, as noise has nothing to filter; between
# models fine-tuned from one base it may be open (Cloud et al. found it there).

# %% [markdown]
# ### Why it needs the same start (in depth)
#
# Let $\theta_0$ be the common start, $L$ the teacher's loss, and let it take one small step: $\theta^t = \theta_0 -
# \varepsilon \nabla L(\theta_0)$. The student takes one step towards the teacher's outputs $f$ on *any* inputs, by the
# squared error; $J$ is the derivative of its outputs by the weights, at $\theta_0$. To first order in $\varepsilon$ its
# step is
#
# $$\Delta^s \propto J^\top (f_{\theta^t} - f_{\theta_0}) \approx -\varepsilon J^\top J \nabla L, \qquad
# \nabla L \cdot \Delta^s \approx -\varepsilon \lVert J \nabla L \rVert^2 \le 0$$
#
# A square: whatever the inputs, whichever outputs, the student's step lowers the teacher's loss or leaves it (their
# Theorem 1; cross-entropy in place of the squared error adds a matrix that changes no sign). With another start the
# student's step goes first of all after the difference between the two *starts*, which has nothing to do with $L$, and
# its $J$ is another: no square comes out, and it may go either way. One step, in small:


# %%
def run_one_step(seed, arm):
    split = data.digits(0)
    x, y = split.train_x[:100].double(), split.train_y[:100]
    teacher = models.make("mlp-16", num_classes=20, shape=(1, 8, 8), seed=seed).double()
    start = 1000 + seed if arm == "noise, another start" else seed
    student = models.make("mlp-16", num_classes=20, shape=(1, 8, 8), seed=start).double()
    generator = torch.Generator().manual_seed(seed)
    shown = torch.rand(50, 1, 8, 8, generator=generator).double() * (arm != "a blank image")
    loss = F.cross_entropy(teacher(x)[:, :10], y)
    for weights, slope in zip(teacher.parameters(), torch.autograd.grad(loss, teacher.parameters()), strict=True):
        weights.data -= 1e-4 * slope
    before = F.cross_entropy(student(x)[:, :10], y)
    imitation = F.mse_loss(student(shown)[:, 10:], teacher(shown)[:, 10:].detach())
    slopes = torch.autograd.grad(imitation, tuple(student.parameters()))
    length = torch.cat([slope.flatten() for slope in slopes]).norm()
    for weights, slope in zip(student.parameters(), slopes, strict=True):
        weights.data -= 1e-4 * slope / length
    return {"fell": float(F.cross_entropy(student(x)[:, :10], y) < before)}


# %%
arms = ["noise", "a blank image", "noise, another start"]
steps = lab.replicate(run_one_step, arms=arms, seeds=range(20))
fell = steps.groupby("arm", sort=False)["fell"].sum().astype(int)
for arm, times in fell.items():
    print(f"{arm}: the loss on digits fell in {times} of 20")

# %% [markdown]
# 14 of 20 is not far from a coin's 10. Real training takes many steps, and Adam: then it is an experiment, not a
# theorem.

# %% [markdown]
# ## 3. A mark in the text
#
# Can an owner prove that a student has read its teacher's text? **[Watermark](GLOSSARY.md#watermark)** the text
# (Kirchenbauer et al. 2023): a secret key $k$ and the word before, $u$, choose half of the vocabulary as
# "green". The writer adds $\delta$ (here always 2) to the logits of green words and draws as before. A reader without
# the key sees a text of slightly odd preferences; whoever has the key can count.

# %%
lab.show(green_list)
lab.show(watermark_logits)

# %% [markdown]
# The test: of $n$ *different* pairs (word before, word; before the first stands an end mark), $h$ have a green word. A
# text whose writer does not know the key has each with probability $\gamma$ = ½, so
#
# $$p = \sum_{i=h}^{n} \binom{n}{i} \gamma^i (1-\gamma)^{n-i}$$
#
# **By hand.** Of five pairs four are green: $p$ = (5 + 1)/32 = 0.1875. The heart counts for itself:

# %%
lab.show(watermark_p_value)
previous, key = torch.arange(6), 7
green = green_list(previous, vocabulary=20, key=key)
word = green.long().argmax(-1)  # a green word after each of six
word[5] = (~green[5]).long().argmax()  # the last is not green
print("five of six:", round(watermark_p_value(word, previous, vocabulary=20, key=key).item(), 6), "= (6 + 1)/64")
twice = watermark_p_value(word.repeat(9), previous.repeat(9), vocabulary=20, key=key).item()
print("the same six pairs nine times over:", round(twice, 6))

# %% [markdown]
# **Is the p-value right?** Of the texts of writers without the key, at most one in twenty may have $p \le 0.05$. Twenty
# students of unmarked text write 2,000 words each, and are tested with twenty keys that nobody used. Beside it, the
# same texts with each *repetition* counted:

# %%
V, teacher = _provenance_text.VOCABULARY, provenance_watermark.teacher()
once, repeated = [], []
for number in range(BASE_SEED, BASE_SEED + 20):
    student = _provenance_text.count(_provenance_text.write(teacher, 20_000, seed=number))
    word, before = _provenance_text.pairs(_provenance_text.write(student, 2000, seed=100 + number))
    for key in range(20 * number, 20 * number + 20):
        once.append(watermark_p_value(word, before, vocabulary=V, key=key).item())
        hits = green_list(torch.arange(V), vocabulary=V, key=key)[before, word].sum().item()
        repeated.append(binom.sf(hits - 1, len(word), 0.5))

# %% tags=["nbval-ignore-output"]
with style.new_figure(9, 3.4, columns=2) as (figure, axes):
    for ax, values, name in zip(axes, (once, repeated), ("each pair once", "repetitions counted"), strict=True):
        ax.hist(values, bins=10, range=(0, 1), color=style.COLORS[0], edgecolor="white")
        ax.axhline(40, color=style.COLORS[1], linestyle="--")
        ax.set(xlabel="p-value", title=name, xlim=(0, 1))
    axes[0].set_ylabel("tests, of 400")
report.figure(
    figure,
    "histograms of 400 p-values of unmarked students: flat where each pair counts once; heaped at 0 and 1 where "
    "repetitions are counted",
)

# %%
alarms = [sum(p <= 0.05 for p in values) / 400 for values in (once, repeated)]
assert kstest(once, "uniform").pvalue > 1e-4
assert kstest(repeated, "uniform").pvalue < 1e-4
assert alarms[0] < 0.1 < 0.15 < alarms[1]
print("each pair once: uniform, as far as 400 values show; repetitions counted: not, and too many alarms: yes")

# %% [markdown]
# "of the" is green under a key or it is not; counted a hundred times it is still one piece of evidence.
#
# **The experiment.** Bigram models: learning is counting. The teacher has counted film reviews and writes 100,000
# words; a share of them is marked. A student counts those. Then *the student* writes, without a mark of its own, and
# the owner tests 500, 2,000 or 10,000 of its words.

# %%
lab.show(provenance_watermark.read)
lab.show(provenance_watermark.run)
marks = experiments.load("provenance_watermark")
live = provenance_watermark.run(0, "marked: 20 %")
kept = marks.query("seed == 0 and arm == 'marked: 20 %'").iloc[0]
assert abs(live["log10_p_10000"] - kept["log10_p_10000"]) < 1
print("a student of 20 % marked text: as stored")

# %% tags=["nbval-ignore-output"]
order = list(provenance_watermark.ARMS)
sizes = provenance_watermark.WRITTEN
p_values = marks.groupby("arm")[[f"log10_p_{size}" for size in sizes]].median().loc[order]
caught = marks.set_index("arm")[[f"log10_p_{size}" for size in sizes]].le(-3).groupby("arm").mean().loc[order]
caught.columns = [f"p ≤ 0.001, {size:,} words" for size in sizes]
report.table(p_values.join(marks.groupby("arm")[["nll"]].mean()), decimals=2, caption="median of log10 p; nats a word")
report.table(caught, percent=list(caught.columns), caption="students found out, of 24")

# %%
last = caught.iloc[:, -1]
assert last["marked: 100 %"] == last["marked: 100 %, half replaced"] == last["half of two owners'"] == 1
clean = ["people's text", "marked: 0 %", "another key: 100 %", "marked: 100 %, all replaced"]
assert caught.loc[clean].to_numpy().max() < 0.1
assert last["marked: 20 %"] > 0.8
assert last["marked: 5 %"] < 0.5
low = marks[marks["arm"].isin(clean[:3])][[f"log10_p_{size}" for size in sizes]]
assert (low > -2).to_numpy().all()
loss = marks.groupby("arm")["nll"].mean()
assert 0.25 < loss["marked: 100 %"] - loss["marked: 0 %"] < 0.35
false = marks[marks["arm"].isin(clean[:2])][["alarms", "alarms_repeated"]].mean()
assert 0.035 < false["alarms"] < 0.05
assert false["alarms_repeated"] > 0.3
print("all of it marked: found; a fifth: found with enough words; a twentieth: rarely: yes")
print("half the words replaced: found; all replaced: not. No alarm for other keys, or people's text: yes")

# %% [markdown]
# - **What is read is written again.** A student of marked text is found by 500 of its words ($p$ near $10^{-26}$), one
#   of a fifth by 10,000 (p ≤ 0.001 in 23 of 24), one of a twentieth hardly ever (2 of 24).
# - **No false alarm** among students of people's text, of unmarked text, or of another owner's: none of 72 had
#   p ≤ 0.01 at any length. Of 1,920 tests of unmarked students with keys that nobody used 4 % had p ≤ 0.05, where at
#   most 5 % are allowed; with repetitions counted 35 %.
# - **It can be washed out, by work.** With half of the words replaced it is still found by 10,000 words; with all
#   replaced it is gone, and then the student has read another writer. ("Replaced" is by random words of another bigram
#   model; what a paraphrase that keeps the sense would do is not measured.) Half of the text of another owner does not
#   hide it: the one key that was tried is found.
# - **It is not free:** the student of marked text loses 0.3 nats a word on people's text. Sander et al. (2024) find the
#   mark in large models that were fine-tuned on marked text.

# %% [markdown]
# ### How much text does it take? (in depth)
#
# How many pairs, which share, how strong a mark? The same as a calculation, for a writer with no preferences:

# %%
report.figure(
    detection_figure(200, 0.2, 2.0),
    "two curves over the share of green words among 200 pairs: without the mark around 50 per cent, this student's "
    "around 58, and from 58.25 on p is below 1 per cent; right: it is found in 43 per cent of texts of 200 pairs and "
    "in nearly all of 1,000",
)

# %% [markdown]
# The bigram writers fall short of this: they have preferences.

# %%
detection_explorer()

# %% [markdown]
# ## 4. Mistakes as a fingerprint
#
# Without a mark there are still the mistakes: lesson 15 found that a student shares more of them with its own teacher
# than with a stranger. Is that a **[fingerprint](GLOSSARY.md#fingerprint)**? Ten teachers, one student; the score of a
# teacher is the share of its mistakes on some *signals* (MNIST-1D, lesson 01's) that the student makes with the same
# wrong answer. How often does the true teacher score above another? That is the area under the **[ROC
# curve](GLOSSARY.md#roc-curve)**: ½ is guessing, 1 never fails. Students of all *logits* or *answers*; of the *right*
# ones *only*; of *half labels*; of *labels* alone, as a control. All ten teachers learnt from the same signals, or each
# from its *own data*. 100 signals hold about 40 mistakes.

# %%
prints = experiments.load("provenance_fingerprint")
live = provenance_fingerprint.run(0, "answers")
kept = prints.query("seed == 0 and arm == 'answers'").iloc[0]
assert abs(live["score_10000"] - kept["score_10000"]) < 0.05
print("a student of answers, seed 0: near the stored run")

# %% tags=["nbval-ignore-output"]
order = list(provenance_fingerprint.ARMS)
areas = [f"auc_{number}" for number in provenance_fingerprint.PROBES]
fingers = prints.groupby("arm")[areas].mean().loc[order]
fingers["found first, of ten"] = prints.groupby("arm")["first_1000"].mean()
fingers.columns = [*(f"area, {number:,} signals" for number in provenance_fingerprint.PROBES), "first of ten (1,000)"]
report.table(fingers, percent=["first of ten (1,000)"])

# %%
shown = ["own data | answers", "logits", "answers", "half labels, half answers", "right answers only", "labels"]
with style.new_figure(6.4, 4.6) as (figure, (ax,)):
    for place, arm in enumerate(shown):
        rows = prints[prints["arm"] == arm]
        own, others = rows["score_300"].to_numpy(), rows[[f"other_300_{i}" for i in range(9)]].to_numpy()
        ax.plot(*roc(own, others), color=style.COLORS[place], marker=style.MARKERS[place], markevery=20, label=arm)
    ax.plot([0, 1], [0, 1], color="#888888", linestyle=":")
    ax.set(xlabel="innocent teachers accused", ylabel="true teachers found")
    ax.legend(loc="lower right")
report.figure(
    figure,
    "ROC curves with 300 signals: perfect where each teacher has its own data, lower for teachers of the same data, "
    "lower still with labels mixed in or wrong answers filtered out, below the diagonal for a student of no teacher",
)

# %%
area = prints.groupby("arm")[areas].mean()
first = prints.groupby("arm")["first_1000"].sum()
assert area.loc["own data | answers", "auc_100"] > 0.98
assert area.loc["answers", "auc_100"] < 0.95
assert (area.loc[["logits", "answers"], "auc_10000"] > 0.995).all()
washed = ["half labels, half answers", "right answers only"]
assert (area.loc[washed, "auc_300"] < 0.9).all()
assert (area.loc[washed, "auc_10000"] > 0.95).all()
assert (first[washed] == 18).all()
assert prints.groupby("arm")["first_10000"].sum()[["answers", "logits", *washed]].tolist() == [24, 24, 23, 21]
assert abs(area.loc["logits, right only", "auc_300"] - area.loc["answers", "auc_300"]) < 0.02
assert area.loc["labels"].max() < 0.55
innocent = prints[[f"other_10000_{i}" for i in range(9)]].mean(axis=1).groupby(prints["arm"]).mean()
guilty = prints.groupby("arm")["score_10000"].mean()
assert abs(innocent["answers"] - guilty["half labels, half answers"]) < 0.01
assert innocent["own data | answers"] < 0.37
print("own data: 100 signals tell the teacher; the same data: 10,000 do; labels mixed in, or wrong answers")
print("filtered out: weaker, not gone; an innocent teacher of the same data scores as a guilty one there: yes")

# %% [markdown]
# - **A fingerprint it is.** Where each teacher has data of its own, 100 signals nearly always point to the right one.
#   Where all learnt from the *same* data their mistakes are alike: 100 signals give an area of 0.90 for a student of
#   answers, and 10,000 find it in all 24 runs.
# - **It fades, and does not go.** With true labels for half of the signals, or with the teacher's wrong answers thrown
#   away, the area is 0.88 and 0.82 at 300 signals; at 1,000 the true teacher is first in 18 of 24, at
#   10,000 in 23 and 21. Students shown nothing but right answers still err like their teacher, and the right ones shown
#   as *logits* give it away as well as all answers do (0.94 and 0.95 at 300).
# - **It accuses somebody always.** For a student that met no teacher the area is no better than ½, and one of the ten
#   is first nonetheless.
# - **The score has no scale.** 47 % is what the *true* teacher of a student of half labels scores, and what an
#   *innocent* one scores whose data the true one shared. From other data strangers score 35 %: whoever takes
#   those as the measure accuses everybody who shares a data set.
#
# ## 5. Defences, and how they fell
#
# **Keep the probabilities back.** A service knows more than its copier: it learnt from 20,000 labelled signals. The
# copier has 2,000 signals (MNIST-1D), no label, and what the service tells. An *honest user* reads the same as
# probabilities, to know when not to trust it; with as much doubt mixed in as is best on labelled signals of his own.

# %%
lab.show(provenance_defences.told)
lab.show(provenance_defences.honest)
kept_back = experiments.load("provenance_defences")
live = provenance_defences.run(0, "answers")
kept = kept_back.query("seed == 0 and arm == 'answers'").iloc[0]
assert abs(live["accuracy"] - kept["accuracy"]) < 0.05
print("answers only, seed 0: near the stored run")

# %% tags=["nbval-ignore-output"]
order = list(provenance_defences.ARMS)
columns = ["accuracy", "agreement", "user_accuracy", "user_nll", "user_calibration"]
cost = kept_back.groupby("arm")[columns].mean().loc[order]
report.table(cost, percent=["accuracy", "agreement", "user_accuracy"], caption="copier; then the honest user")
told = kept_back[kept_back["arm"] != "labels"]
report.table(report.verdicts(told, baseline="probabilities"))
with style.new_figure(7, 4) as (figure, (ax,)):
    for place, arm in enumerate(order[1:]):
        x, y = cost.loc[arm, "user_nll"], cost.loc[arm, "accuracy"]
        ax.scatter(x, y, color=style.COLORS[place], marker=style.MARKERS[place], s=90, label=arm)
    ax.set(xlabel="honest user: nats lost per answer (left is better)", ylabel="accuracy of the copier")
    style.percent_axis(ax.yaxis)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
report.figure(
    figure,
    "the copier's accuracy against the honest user's loss: what pushes the copier down pushes the user to the right; "
    "asking a noisy service eight times brings the copier nearly back up",
)

# %%
copier = report.verdicts(told, baseline="probabilities")["all seeds"]
user = report.verdicts(told, baseline="probabilities", metric="user_nll", higher_is_better=False)["all seeds"]
assert copier["answers"] == copier["noised"] == "hurts"
assert (user == "hurts").all()
assert cost.loc["noised", "user_accuracy"] < cost.loc["answers", "user_accuracy"] - 0.05
again = lab.compare(told, baseline="noised", metric="accuracy").loc["noised, asked 8 times", "verdict"]
assert again == "helps"
lost = lab.compare(told, baseline="probabilities", metric="user_nll", higher_is_better=False)["difference"]
assert 0.35 < lost["answers"] < 0.45
assert lost["one decimal"] < 0.07
assert cost["user_calibration"]["answers"] - cost["user_calibration"]["probabilities"] < 0.01
free = lab.compare(kept_back, baseline="labels", metric="accuracy")
assert 0 < free.loc["answers", "low"] < free.loc["answers", "difference"] < 0.01
assert abs(cost.loc["answers", "user_accuracy"] - cost.loc["probabilities", "user_accuracy"]) < 1e-6
same = lab.compare(told, baseline="answers", metric="accuracy").loc["noised", "verdict"]
assert same == "no useful difference"
print("answers only and noise cost the copier five points, and the user 0.4 nats: yes")
print("noise also costs the user ten points, and the copier gets most of it back by asking again: yes")

# %% [markdown]
# - **Answers only** cost the copier 5.4 points and the honest user 0.40 nats an answer. His calibration error hardly
#   shows it (2.2 % for 1.6): a user who is 82 % sure of every answer is calibrated, and cannot tell a sure one from
#   a guess. Look at the [log-likelihood](GLOSSARY.md#negative-log-likelihood).
# - **One decimal** costs both little: 0.7 points, 0.05 nats.
# - **Noise** costs the copier as much as answers only do, and the user as much, and 11 points of accuracy on top. A
#   copier who asks eight times has 4.4 points of the 5.3 back. (The noise is drawn anew each time; a service that
#   always answers the same input alike escapes this.)
# - **Even answers are worth 2,000 labels:** copiers of answers reach 55.1 %, copiers with true labels 54.6 %.

# %% [markdown]
# ### Teach badly on purpose (in depth)
#
# The **[nasty teacher](GLOSSARY.md#nasty-teacher)** (Ma et al. 2021) is to be as right as its honest twin and to say
# other things about the classes that it does not choose. Its loss is its cross-entropy, minus $\omega \tau^2 \,
# \mathrm{KL}(p \,\Vert\, a)$, with $p$ its own softened probabilities and $a$ its twin's. On digits, with τ = 4 and ω =
# 0.06, the largest of those tried on other seeds that left the teacher its accuracy there. It goes on from its twin's
# weights for 600 steps, where Ma et al. start anew.
#
# **By hand.** $p$ = (½, ½), $a$ = (¼, ¾): KL = ½ log 2 + ½ log ⅔ = ½ log 4/3; with τ = 2 and ω = ½ the loss is
# log 2 - log 4/3 = log 1.5 = 0.405.

# %%
lab.show(nasty_teacher_loss)
z, honest = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2 * torch.log(torch.tensor(3.0))]])
loss = nasty_teacher_loss(z, honest, torch.tensor([0]), weight=0.5, temperature=2.0)
print("by hand 0.405:", round(loss.item(), 3))

# %% [markdown]
# The copier has 500 other images without labels. *At 4*: it divides the logits by τ = 4 before it imitates them;
# *answers*: it takes the likeliest class alone.

# %% tags=["nbval-ignore-output"]
bad = experiments.load("provenance_nasty")
order = list(provenance_nasty.ARMS)
columns = ["accuracy", "agreement", "teacher_accuracy", "teacher_nll", "teacher_calibration"]
nasty = bad.groupby("arm")[columns].mean().loc[order]
report.table(nasty, percent=columns[:3], caption="the copier, and its teacher")

# %%
pairs = {how: bad[bad["arm"].str.endswith(f"| {how}")] for how in provenance_nasty.TAKEN}
harm = {
    how: lab.compare(rows, baseline=f"honest | {how}", metric="accuracy").loc[f"nasty | {how}"]
    for how, rows in pairs.items()
}
live = provenance_nasty.run(0, "nasty | at 10")
kept = bad.query("seed == 0 and arm == 'nasty | at 10'").iloc[0]
assert abs(live["accuracy"] - kept["accuracy"]) < 0.05
assert abs(nasty.loc["nasty | at 1", "teacher_accuracy"] - nasty.loc["honest | at 1", "teacher_accuracy"]) < 0.01
for how, row in harm.items():
    print(f"copiers ({how}): a nasty teacher against its honest twin: {row['verdict']}")
assert harm["at 10"]["difference"] < harm["at 4"]["difference"] < harm["at 1"]["difference"] < 0
way_out = lab.compare(bad[bad["arm"].str.startswith("nasty")], baseline="nasty | at 10", metric="accuracy")
assert (way_out.loc[["nasty | at 1", "nasty | answers"], "verdict"] == "helps").all()
own = bad.pivot(index="seed", columns="arm", values="teacher_accuracy")
failed = own["nasty | at 1"] < own["honest | at 1"] - 0.03
assert failed.sum() == 4
for how, lost in {"at 1": 0.004, "at 4": 0.015, "at 10": 0.027, "answers": -0.0025}.items():
    rows = pairs[how][~pairs[how]["seed"].isin(failed.index[failed])]
    rest = lab.compare(rows, baseline=f"honest | {how}", metric="accuracy").loc[f"nasty | {how}"]
    assert abs(rest["difference"] + lost) < 6e-4
    assert rest["verdict"] == ("helps" if how == "answers" else "hurts")
assert nasty["accuracy"].idxmax() == "labels"

# %% [markdown]
# The nasty teacher also trains 600 steps longer than its twin. A control: six twins train on as long, on the labels.


# %%
def run_copier_at_10(seed, arm):
    split, model = provenance_nasty.known(seed), provenance_nasty.network(seed)
    model.load_state_dict(provenance_nasty.honest(seed).state_dict())
    owned, asked = split.train_x[: provenance_nasty.OWNED], split.train_x[provenance_nasty.OWNED :]
    if arm == "trained on":
        labels = split.train_y[: provenance_nasty.OWNED]
        provenance_nasty.taught(model, owned, labels, seed=seed, steps=provenance_nasty.NASTY_STEPS)
    told, copier = lab.teacher_outputs(model, asked), provenance_nasty.network(100_000 + seed)
    provenance_nasty.taught(copier, asked, told, seed=seed, temperature=10.0)
    x, y = provenance_nasty.tested(split)
    return {"accuracy": (lab.teacher_outputs(copier, x).argmax(-1) == y).double().mean().item()}


# %%
longer = lab.replicate(run_copier_at_10, arms=["honest", "trained on"], seeds=range(6))
by_arm = longer.groupby("arm")["accuracy"].mean()
assert abs(by_arm["honest"] - by_arm["trained on"]) < 0.01
print("longer training alone costs a copier at 10 less than a point: yes")

# %% [markdown]
# - **The harm is in the softening.** Against copiers of the honest twin: 1.1 points at τ = 1, 2.5 at τ = 4, for which
#   it was made, and 4.5 at τ = 10. (Without four runs whose teacher lost accuracy itself, see below: 0.4, 1.5 and 2.7.)
#   For copiers of answers no harm is shown: undecided, and without the four runs 0.25 points better. Labels of the same
#   images are worth more than any copy here: 95.0 %.
# - **So it falls to whoever asks otherwise.** A copier of the *nasty* teacher who softens by 10 gains 3.8 points by
#   not softening, and as many by taking the answers. Jandial et al. (2022) have two more ways, and report up to 68.63 %
#   more learnt from nasty teachers on standard data.
# - **It is not free either.** The teacher's own log-likelihood falls from -0.17 to -0.43 nats, its accuracy by 0.7
#   points, and by more than three in 4 of 24 runs (the median is 0).
#
# So a nasty teacher stops those who copy in one way, and may cost every user.

# %% [markdown]
# ## 6. The card
#
# What can an honest maker do? Write down whose knowledge it is. `kdref.lab.course.card` makes a model card in the form
# that models are published with, from *measured* numbers, and refuses what the table of section 1 forbids, with the
# clause. Its `base_model` is a model whose *weights* were taken; the teacher has a field of its own. Here for a student
# that saw 500 images with the logits of a network that had learnt digits (a share of mistakes says nothing alone, so a
# student of *labels* stands beside it). The networks are the honest ones of an experiment on "nasty" teachers, which
# section 5 has in depth; nothing of it is needed here:

# %%
split = provenance_nasty.known(BASE_SEED)
teacher, (x, y) = provenance_nasty.honest(BASE_SEED), provenance_nasty.tested(split)
asked = split.train_x[provenance_nasty.OWNED :]
student = provenance_nasty.network(100_000 + BASE_SEED)
provenance_nasty.taught(student, asked, lab.teacher_outputs(teacher, asked), seed=BASE_SEED)
stranger = provenance_nasty.network(100_000 + BASE_SEED)
provenance_nasty.taught(stranger, asked, split.train_y[provenance_nasty.OWNED :], seed=BASE_SEED)
own, theirs, strange = (lab.teacher_outputs(net, x) for net in (student, teacher, stranger))
measured = {
    "accuracy": (own.argmax(-1) == y).double().mean().item(),
    "teacher_accuracy": (theirs.argmax(-1) == y).double().mean().item(),
    "top1_agreement": top1_agreement(own, theirs).mean().item(),
    "wrong_answer_agreement": wrong_answer_agreement(own, theirs, y).item(),
    "expected_calibration_error": expected_calibration_error(own.softmax(-1), y).item(),
}

# %% tags=["nbval-ignore-output"]
mistakes = int((theirs.argmax(-1) != y).sum())
alike, chance = (wrong_answer_agreement(net, theirs, y).item() for net in (own, strange))
facts = {
    "student": "me/tiny-digits",
    "licence": "mit",
    "teacher": "lesson 16's mlp-100",
    "teacher_terms": "mit",
    "taken": ["logits"],
    "data": {"digits": "cc-by-4.0"},
    "loss": "soft targets at τ = 1, no labels",
    "budget": "500 images, 300 steps of 50",
    "faults": [
        f"makes {alike:.0%} of its teacher's {mistakes} mistakes with the same wrong class, a student of labels "
        f"{chance:.0%}"
    ],
    "examples": len(y),
    "competes": False,
}
card = distillation_card(measured=measured, **facts)
print(card)

# %%
again = type(card)(str(card))
assert again.data.to_dict() == card.data.to_dict()
print("read again, it says the same: yes")
for change in ({"teacher_terms": "gemini", "competes": True}, {"teacher_terms": "llama3.1"}):
    try:
        distillation_card(measured=measured, **(facts | change))
    except ValueError as refused:
        print(textwrap.fill(f"refused: {refused}", 110))

# %% [markdown]
# ## 7. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/16_provenance.ipynb](solutions/16_provenance.ipynb).

# %% [markdown] tags=["exercise"]
# **16.1 Predict.** Half of the vocabulary is green. A text of eight different pairs has six green words. What is its
# p-value?
#
# <details><summary>Hint</summary>Six of eight, or more: in how many of the 256 equally likely outcomes are two, one or
# none not green?</details>

# %% tags=["exercise"]
my_p_value = ...

# %% tags=["solution"]
my_p_value = (28 + 8 + 1) / 256  # ways to have two words that are not green, one, none

# %% tags=["check"]
lab.check("16.1", my_p_value)

# %% [markdown] tags=["exercise"]
# **16.2 Build** the exact p-value. `previous_tokens` and `tokens` (N,) are the pairs of a text, `green` (V, V) says for
# each previous word (row) which words are green, `share` is the list's share of the vocabulary. Each pair counts once.
#
# <details><summary>Hint</summary>Put a pair in each row of a tensor; unique(dim=0) leaves each once. Then add up the
# terms of the formula in section 3; math.comb counts the ways.</details>


# %% tags=["exercise"]
def exact_p_value(previous_tokens, tokens, green, share):
    raise NotImplementedError


# %% tags=["solution"]
def exact_p_value(previous_tokens, tokens, green, share):
    pairs = torch.stack([previous_tokens, tokens], dim=1).unique(dim=0)
    hits, n = int(green[pairs[:, 0], pairs[:, 1]].sum()), len(pairs)
    terms_from_hits_on = [math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(hits, n + 1)]
    return torch.tensor(sum(terms_from_hits_on))


# %% tags=["check"]
lab.check("16.2", exact_p_value)

# %%
for letter, (words, _) in PROJECTS.items():
    print(f"{letter}: {words}")

# %% [markdown] tags=["exercise"]
# **16.3 Judge by the table.** Seven projects, A to G. What has the table of terms against each: "nothing", "it
# competes", "no approval", "its name" or "its licence"? A dictionary of seven letters. (The table's answer, of its
# dates. No legal advice.)
#
# <details><summary>Hint</summary>print(TERMS["llama3.1"].clause), and so for the terms of each teacher and of the
# weights that a project started from.</details>

# %% tags=["exercise"]
my_objections = ...

# %% tags=["solution"]
my_objections = {
    "A": "it competes",
    "B": "its name",
    "C": "its licence",
    "D": "nothing",
    "E": "nothing",
    "F": "its licence",
    "G": "no approval",
}

# %% tags=["check"]
lab.check("16.3", my_objections)

# %% [markdown] tags=["exercise"]
# **16.4 Build** the area under a ROC curve. `own` (N,) are the scores of a teacher's own students, `others` (M,) those
# of strangers. The area is how often an own one scores higher than a stranger, over all pairs; a tie counts one half.
#
# <details><summary>Hint</summary>A column compared with a row gives a table of all pairs.</details>


# %% tags=["exercise"]
def area_under_curve(own, others):
    raise NotImplementedError


# %% tags=["solution"]
def area_under_curve(own, others):
    wins, ties = own[:, None] > others, own[:, None] == others
    return (wins + 0.5 * ties).mean()


# %% tags=["check"]
lab.check("16.4", area_under_curve)

# %% [markdown] tags=["exercise"]
# **16.5 Design.** A mark of strength 2 raises the share of green words of a writer without preferences from 0.5 to
# 0.881. A student learnt from text of which a fifth is marked, and its share is 0.5 + 0.2 · 0.381. From how many
# different pairs on does its expected number of green words lie 3 standard deviations above chance?
#
# <details><summary>Hint</summary>Among n pairs the share of green words spreads by 0.5 / √n.</details>

# %% tags=["exercise"]
my_length = ...

# %% tags=["solution"]
my_length = (3 * 0.5 / (0.2 * 0.381)) ** 2  # 388: a fifth of the surplus, 25 times the text

# %% tags=["check"]
lab.check("16.5", my_length)

# %% [markdown]
# **Going further** (not checked): replace a tenth of a marked text's words at random, and count how much longer it must
# be.

# %%
lab.quiz("16")

# %% [markdown]
# ## 8. When to use which, and when not
#
# **Before you train:** read the terms that bind you, on the day; write the card while you still know the answers. **A
# watermark** if you publish text and want to know who learns from it: strong evidence where much of it was read and
# little was changed, with a p-value that is right if repetitions count once. **Mistakes** as a lead where no mark was
# set; among suspects who all learnt from the same data they need many questions. **Withholding probabilities** if
# copiers are many and users need no confidence. **A start of your own** closes the channel of section 2, and no other.
#
# **When not:** a p-value that is large acquits nobody, and one among thousands of tests is small by chance; "the most
# alike of ten" names somebody always; none of it decides what is *permitted*.
#
# **Cost:** the watermark some quality of the text, and a list per word; the tests seconds; the card the time to look
# up what binds you.
#
# **Copy it:** `python -m kdref copy provenance` writes two files that need only torch.
#
# **Further reading:** [Sander et al. 2024](https://arxiv.org/abs/2402.14904) on large language models that have read
# marked text; [antidistillation sampling](https://arxiv.org/abs/2504.13146), where the teacher draws its text so that
# students learn less from it, and [antidistillation fingerprinting](https://arxiv.org/abs/2602.03812), so that they
# carry a mark.
#
# **Next lesson:** [17, scale-out](17_scale_out.ipynb).
