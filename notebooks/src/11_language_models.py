# %% [markdown]
# # 11 · Language models: half the layers of an encoder, fine-tuned with a teacher
#
# **What is left of a language model when half of its layers are gone, and what does a teacher add?**
#
# **You will be able to**
#
# - halve a real [pre-trained](GLOSSARY.md#pre-training) [encoder](GLOSSARY.md#encoder), teach it with DistilBERT's
#   losses *while it is fine-tuned*, and say what each part gives;
# - tell that from what DistilBERT did, which was distilled in pre-training, and what the difference is worth;
# - say what else holds back over-fitting, and which arms a claim about a teacher needs beside it;
# - read "97 % of the teacher" with care, and ask what the mean hides;
# - prune a vocabulary to the words in use.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb) (soft targets), and two packages more: transformers, and the one that
# holds the encoder, so that nothing is downloaded while the lesson runs. `make course` installs them; elsewhere `python
# -m pip install "kdref[language]"` does.
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the sections marked *in depth*; {seconds}
# seconds to run on one thread.
#
# **Files:** `kdref/language/recipes.py` (DistilBERT's loss and layers), `kdref/lab/models/sentence_encoder.py` (the
# encoder), `kdref/lab/data/sentences.py` (the sentences), `kdref/lab/experiments/language_distilbert.py` (the long
# experiment), `kdref/lab/experiments/language_distilbert_controls.py` (the controls).
#
# **Papers:** [Sanh et al. 2019](https://arxiv.org/abs/1910.01108) (DistilBERT), [Sun et al.
# 2019](https://arxiv.org/abs/1908.09355) (BERT-PKD), [Jiao et al. 2020](https://arxiv.org/abs/1909.10351) (TinyBERT),
# [Wang et al. 2020](https://arxiv.org/abs/2002.10957) (MiniLM).

# %% tags=["setup"]
import pandas as pd
import torch

from kdref import lab
from kdref.lab import experiments, models, report
from kdref.lab.data.sentences import KINDS, snippets
from kdref.lab.experiments import (
    _language,
    _language_controls,
    language_distilbert_controls_tuning,
    language_distilbert_slice,
)
from kdref.lab.models import sentence_encoder
from kdref.lab.training.measure import latency
from kdref.language import alternate_layers, distilbert_loss

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. DistilBERT
#
# BERT (2018) reads a text with some words masked, guesses them, and so learns from text that nobody labelled. What it
# learned is then [**fine-tuned**](GLOSSARY.md#fine-tuning) to a task with labels. It has twelve layers and 110 million
# parameters, much for a phone or a busy server. Sanh, Debut, Chaumond and Wolf made a smaller one:
#
# 1. **Half the layers.** The student is BERT with every other layer left out. The layers keep their width: the authors
#    found that for the same number of parameters fewer layers save more time than narrower ones, and hidden states of
#    one width can be compared.
# 2. **A start from the teacher.** Each of the student's layers begins with a layer of the teacher, not with random
#    numbers.
# 3. **A [triple loss](GLOSSARY.md#triple-loss)**, on the text that BERT had read: soft targets at τ = 2, the masked
#    words themselves, and the *direction* of the hidden states:
#
# $$L = w_s\, \tau^2\, \mathrm{KL}(p \,\|\, q) \;-\; w_h \log q_y \;+\; w_c\, \big(1 - \cos(h^s, h^t)\big)$$
#
# It took eight graphics cards for 90 hours, and came out 40 % smaller and, in their measurement, 60 % faster.
#
# Two details are in the authors' code only. The paper takes "one layer out of two"; `extract_distilbert.py` takes 0, 2,
# 4, 7, 9, 11, so that the first and the last are kept. And the soft targets are those of *every* token that is no
# padding, masked or not, as the hidden states are; masked words alone have them with the option
# `--restrict_ce_to_mask`, which is off.

# %%
print("one out of two, from the first:", alternate_layers(12, 6), "counted from 0")
print("as in the authors' script:     ", alternate_layers(12, 6, keep_last=True))
print("six layers, in this lesson:    ", alternate_layers(6, 3))
lab.show(distilbert_loss)

# %% [markdown]
# **By hand.** One example with two classes, both logits equal: the label costs log 2 = 0.693, twice. The teacher says ¾
# and ¼ at τ = 1; at τ = 2 that is $\sqrt{3} : 1$, 0.634 and 0.366, and the divergence from one half each is
# $0.634 \log \frac{0.634}{0.5} + 0.366 \log \frac{0.366}{0.5} = 0.0364$, times τ² = 4, times 5. The hidden states are
# at right angles: 1 − 0.

# %%
student_logits, teacher_logits = torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]).log()
states = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 2.0]]])
terms = {"soft_weight": 0.0, "hard_weight": 0.0, "hidden_weight": 0.0}
for name, weight in (("soft_weight", 5.0), ("hard_weight", 2.0), ("hidden_weight", 1.0)):
    one = distilbert_loss(student_logits, teacher_logits, *states, torch.tensor([0]), **terms | {name: weight})
    print(f"{name} {weight:g}: {one.item():.3f}")

# %% [markdown]
# ### In pre-training, or in fine-tuning?
#
# DistilBERT was distilled in **pre-training**: its teacher knew no task, and the student is afterwards fine-tuned to
# any of them, with labels alone. We have a laptop and a minute. Here the start and the loss are DistilBERT's, but the
# teacher is fine-tuned first, and the student learns one task from it: distillation in **fine-tuning**. Is that the
# same? Six layers each, tested on GLUE, as [TinyBERT's authors](https://arxiv.org/abs/1909.10351) list them (Table 1):

# %%
tasks = ["MNLI", "QQP", "QNLI", "SST-2", "MRPC", "RTE"]
published = {
    "twelve layers: BERT, the teacher": [83.9, 71.1, 90.9, 93.4, 87.5, 67.0],
    "in fine-tuning: BERT-PKD": [81.5, 70.7, 89.0, 92.0, 85.0, 65.5],
    "pre-trained alone, taught in fine-tuning: PD": [82.8, 70.4, 88.9, 91.8, 86.8, 65.3],
    "in pre-training: DistilBERT": [82.6, 70.1, 88.9, 92.5, 86.9, 58.4],
    "in both: TinyBERT": [84.6, 71.6, 90.4, 93.1, 87.3, 70.0],
}
when = pd.DataFrame(published, index=tasks).T.rename_axis("distilled")
report.table(when.assign(mean=when.mean(axis=1)), decimals=1)

# %% [markdown]
# Pre-training wins three tasks over BERT-PKD and loses three, RTE by far, the one with the fewest examples to fine-tune
# on. Both together do best; but TinyBERT also has other losses, and made-up sentences. Of its own two stages (Table 2,
# mean of four rows) it loses 3.1 points without the one in pre-training, 10 of them on CoLA, and 7.1 without the one in
# fine-tuning. DistilBERT's authors found the same: taught by a BERT that knows SQuAD, their student gains 1.1 points of
# F1 there (85.8 to 86.9; BERT 88.5).
#
# So what follows is no small DistilBERT. It is the second half of what does best, from pre-trained layers that nobody
# trained again.

# %% [markdown]
# ## 2. A real encoder
#
# The pre-trained network is a small one: **all-MiniLM-L6-v2**, six layers, 384 wide.
# (It is a student itself, twice over: MiniLM, [lesson 04](04_attention_based.ipynb), of which somebody kept [every
# second layer](https://huggingface.co/nreimers/MiniLM-L6-H384-uncased), and which was then trained further to embed
# sentences.) The task: 10,072 sentences of film reviews, rated by some twenty people each, good or bad. The teacher is
# the whole encoder, fine-tuned on 6,000 of them; students have three of its layers, as they were before that.

# %%
known = snippets()
print(known)
for row in (6, 1, 4):
    print(f"{known.train.rating[row]:+.1f}", known.train.texts[row])
ids = sentence_encoder.tokens(known.train.texts)
print("as numbers of word pieces:", ids[1, :12].tolist())

# %% [markdown]
# **Where are the parameters?** Half of this encoder is its word embeddings, one vector per [word
# piece](GLOSSARY.md#word-piece), and they do not go away with the layers.

# %%
rows = {}
for name, layers in (("teacher, six layers", 6), ("student, three layers", 3)):
    network = sentence_encoder.encoder(layers=alternate_layers(6, layers))
    embeddings = models.count_parameters(network.get_submodule("embeddings"))
    rows[name] = {"layers": models.count_parameters(network) - embeddings, "embeddings": embeddings}
used = _language.network(0, layers=(0, 2, 4)).encoder  # its vocabulary is cut to what the sentences hold
embeddings = models.count_parameters(used.get_submodule("embeddings"))
rows["student, words in use"] = {"layers": models.count_parameters(used) - embeddings, "embeddings": embeddings}
sizes = pd.DataFrame(rows).T.rename_axis("encoder")
sizes["share of the teacher"] = sizes.sum(axis=1) / sizes.iloc[0].sum()
report.table(sizes, percent=["share of the teacher"])
words_in_use, width = used.get_parameter("embeddings.word_embeddings.weight").shape
print(f"word pieces in use: {words_in_use:,} of {used.config.vocab_size:,}")

# %%
report.figure(
    report.bars(
        {"layers": sizes["layers"] / 1e6, "embeddings": sizes["embeddings"] / 1e6},
        names=list(sizes.index),
        x_label="encoder",
        y_label="million parameters",
    ),
    "bars of parameters: three layers are half of six, the embeddings shrink with the vocabulary only",
)

# %% [markdown]
# DistilBERT became 40 % smaller, since BERT's twelve wide layers outweigh its embeddings by far. Here half the layers
# are 24 %. The rest of the way is the vocabulary: our sentences hold 13,457 of the 30,522 word pieces, counting the
# special ones, and a vector that is never looked up can be left out without changing a single output. That is
# [**vocabulary pruning**](GLOSSARY.md#vocabulary-pruning).
#
# **Speed** is another matter: an embedding is looked up, and costs no time. It is the layers that take it.

# %% tags=["nbval-ignore-output"]
whole, half = (_language.network(0, layers=tuple(alternate_layers(6, layers))) for layers in (6, 3))
sentence = ids[ids.count_nonzero(1) == 24][:, :24]
times = {}
with torch.inference_mode():
    for batch in (1, 32):
        rounds = [[latency(network, sentence[:batch], repeats=2) for network in (whole, half)] for _ in range(6)]
        pair = [min(turns) for turns in zip(*rounds, strict=True)]  # the least of six turns: a busy machine only adds
        times[f"{batch} at once"] = {"six layers, ms": pair[0], "three layers, ms": pair[1], "ratio": pair[0] / pair[1]}
report.table(pd.DataFrame(times).T.rename_axis("sentences"), decimals=1)

# %%
assert all(row["ratio"] > 1.2 for row in times.values())
print("half the layers are clearly faster, for one sentence and for 32: yes")

# %% [markdown]
# ## 3. The recipe in seconds
#
# Everything live, on 480 short sentences: a teacher, a student that starts from pre-trained layers, as its teacher did,
# and one that starts from random numbers; both have the triple loss. One epoch is thirty steps, and then we look.

# %%
live, teacher = {}, language_distilbert_slice.teacher(BASE_SEED)
learned_from, (test_ids, test_labels) = language_distilbert_slice.lessons(teacher), language_distilbert_slice.tested()
for arm in ("triple loss", "random, triple loss"):
    said = sentence_encoder.outputs(
        language_distilbert_slice.student(BASE_SEED, arm, learned_from), test_ids
    ).logits.argmax(dim=1)
    live[arm] = (said == test_labels).double().mean().item()
few = experiments.load("language_distilbert_slice")
print(
    experiments.provenance("language_distilbert_slice")["command"],
    "·",
    len(few),
    "runs,",
    few["seed"].nunique(),
    "seeds",
)

# %% tags=["nbval-ignore-output"]
stored = few.groupby("arm")["accuracy"]
spread = pd.DataFrame({"live": live, "mean of 8 seeds": stored.mean(), "lowest": stored.min(), "highest": stored.max()})
report.table(spread.rename_axis("arm"), percent=list(spread.columns), caption="500 short test sentences")

# %%
for arm, accuracy in live.items():
    assert spread.loc[arm, "lowest"] - 0.1 < accuracy < spread.loc[arm, "highest"] + 0.1
    print(f"{arm}: within ten points of what eight stored seeds span")
assert live["triple loss"] > live["random, triple loss"] + 0.05
assert lab.compare(few, baseline="random, triple loss", metric="accuracy").loc["triple loss", "verdict"] == "helps"
print("the start from pre-trained layers helps, live and in the eight stored seeds: yes")

# %% [markdown]
# Only the start is different, and the random student is little better than chance. Whether the
# teacher's *outputs* help can't be told from so few sentences: against labels only the eight seeds leave it undecided.
#
# ## 4. What each part gives
#
# 6,000 sentences, 3,072 to test on, one teacher for all (as there was one BERT), five [paired
# seeds](GLOSSARY.md#paired-seeds) of every student: not the eight of other lessons, since a run takes two minutes. So
# an interval here says what another *student* would do, not what another teacher would. One epoch for all; the learning
# rate was chosen on validation sentences, with the same effort with and without teacher; the weights are those of a
# command in the authors' README, 5, 2 and 1.
#
# - **Labels only**: the student's three layers, fine-tuned without any teacher.
# - **Triple loss**, and the same **without** one of its terms.
# - **Random**: the same network, its weights drawn anew, the embeddings too.
# - **Word counts**: a logistic regression on counts of words and pairs of words. No network at all.

# %%
runs = experiments.load("language_distilbert")
print(
    experiments.provenance("language_distilbert")["command"], "·", len(runs), "runs,", runs["seed"].nunique(), "seeds"
)
STUDENTS = list(_language.STUDENTS)
students = runs[runs["arm"].isin(STUDENTS)]
metrics = ["accuracy", "agreement", "nll", "calibration_error"]
means = runs.groupby("arm")[metrics].mean().loc[["teacher", *STUDENTS, "word counts"]]

# %% tags=["nbval-ignore-output"]
report.table(means, percent=["accuracy", "agreement"], caption="3,072 test sentences, mean of five seeds")
against = lab.compare(students, baseline="labels only", metric="accuracy")
report.comparison(against, caption="accuracy, against the same student without a teacher, five seeds")
asked = students[students["arm"].isin(["labels only", "triple loss"])]
question = lab.compare(asked, baseline="labels only", metric="accuracy")
report.comparison(question, caption="the question asked beforehand, by itself: does the whole teacher help?")

# %%
report.figure(
    report.intervals(against, x_label="points against the same student, labels only"),
    "differences in accuracy with intervals: every student that starts from pre-trained layers lies near zero, both "
    "that start from random weights far below it",
)
for arm in ("random, labels only", "random, triple loss"):
    print(report.verdict(against, arm))
    assert against.loc[arm, "verdict"] == "hurts"
ablation = lab.compare(students, baseline="triple loss", metric="accuracy")
terms_alone = [arm for arm in STUDENTS if arm.startswith("without")]
start = means.loc["labels only", "accuracy"] - means.loc["random, labels only", "accuracy"]
assert ablation.loc[terms_alone, "difference"].abs().max() < 0.25 * start
assert abs(against.loc["triple loss", "difference"]) < 0.25 * start
print("no term of the loss, and not the teacher as a whole, weighs a quarter of what the start does: yes")
print(report.verdict(question, "triple loss"))
assert question.loc["triple loss", "verdict"] == "no useful difference"
assert (
    means.loc[["random, labels only", "random, triple loss"], "accuracy"] < means.loc["word counts", "accuracy"]
).all()

# %% [markdown]
# **Seen.** *The start is nearly everything.* Every other layer of a pre-trained encoder, stitched together, still knows
# much about how words combine; random ones must learn it from 6,000 sentences, and end below word counts. *The teacher
# makes no useful difference to the accuracy*, and a term of its loss more or less changes little. Does it do nothing,
# then?

# %% tags=["nbval-ignore-output"]
agreement = lab.compare(asked, baseline="labels only", metric="agreement")
nll = lab.compare(asked, baseline="labels only", metric="nll", higher_is_better=False)
report.comparison(agreement, metric="agreement", caption="agreement with the teacher")
report.comparison(nll, metric="nll", percent=False, caption="negative log-likelihood, nats")

# %%
print("triple loss, agreement:", agreement.loc["triple loss", "verdict"])
print("triple loss, negative log-likelihood:", nll.loc["triple loss", "verdict"])
assert agreement.loc["triple loss", "verdict"] == "helps"
assert nll.loc["triple loss", "verdict"] == "hurts"
errors = means["calibration_error"]
assert errors["triple loss"] > 2 * errors["without soft targets"]
assert errors["teacher"] > 2 * errors["without soft targets"]
print("the teacher is badly calibrated, and with its soft targets the student is, too: yes")
seconds = students.groupby("arm")["seconds"].mean()
assert seconds["triple loss"] < 1.1 * seconds["labels only"]
print("with the teacher's outputs at hand, a step takes less than a tenth longer: yes")

# %% [markdown]
# It does what its name says: the student becomes *more like its teacher*, right or wrong. The probabilities
# of this teacher are badly calibrated, and so are those of the student that learned its soft targets.
#
# **With patience?** In [lesson 02](02_response_based.ipynb) soft targets lost in few epochs, won in more. Here is the
# same with three epochs:

# %% tags=["nbval-ignore-output"]
longer = experiments.load("language_distilbert_longer")
print(experiments.provenance("language_distilbert_longer")["command"], "·", len(longer), "runs")
report.table(longer.groupby("arm")[metrics].mean(), percent=["accuracy", "agreement"], caption="three epochs")
patient = lab.compare(longer, baseline="labels only", metric="accuracy")
report.comparison(patient, caption="accuracy after three epochs")

# %%
patient_nll = lab.compare(longer, baseline="labels only", metric="nll", higher_is_better=False)
print("three epochs,", report.verdict(patient, "triple loss"))
assert patient.loc["triple loss", "verdict"] == "helps"
assert patient_nll.loc["triple loss", "verdict"] == "helps"
overfitted = longer.query("arm == 'labels only'")["nll"].mean()
assert overfitted > 1.3 * means.loc["labels only", "nll"]
print("with labels only, more epochs make the negative log-likelihood far worse: yes")

# %% [markdown]
# Now it helps. With labels only a student soon knows its 6,000 sentences by heart: it grows surer, not better. (The
# learning rates are those chosen for one epoch, for both.)

# %% [markdown]
# ### What holds over-fitting back?
#
# The soft targets, one would say. But the hidden states might, and so might what needs no teacher: [softer
# labels](GLOSSARY.md#label-smoothing), or [to stop in time](GLOSSARY.md#early-stopping). A run of three epochs takes
# five minutes, too dear for so many arms. So a *smaller* run is asked: 320 short sentences, 572 others to test on,
# three epochs, a teacher of its own for every seed, 24 seeds. Learning rates and the smoothing were chosen on other
# seeds, by sentences that nobody learned from; early stopping takes the epoch that is best on 160 such sentences.

# %%
controls = experiments.load("language_distilbert_controls")
made = experiments.provenance("language_distilbert_controls")["command"]
print(made, "·", len(controls), "runs,", controls["seed"].nunique(), "seeds")
tuned = language_distilbert_controls_tuning
for arm in ("labels only", "label smoothing", "triple loss"):
    print(f"{arm}: learning rate {tuned.chosen(arm):g} of {', '.join(f'{rate:g}' for rate in tuned.RATES)}")
print(f"smoothing {tuned.chosen_smoothing():g} of {', '.join(map(str, tuned.SMOOTHINGS))}")
HELD = ["labels only", "triple loss", "without soft targets", "without hidden states"]
HELD += ["label smoothing", "early stopping"]
held = controls[controls["arm"].isin(HELD)]

# %% tags=["nbval-ignore-output"]
numbers = ["train_accuracy", "accuracy", "nll", "calibration_error"]
report.table(
    controls.groupby("arm")[numbers].mean().loc[["teacher", *HELD]],
    percent=["train_accuracy", "accuracy"],
    caption="572 short test sentences, mean of 24 seeds",
)
held_nll = lab.compare(held, baseline="labels only", metric="nll", higher_is_better=False)
report.comparison(held_nll, metric="nll", percent=False, caption="negative log-likelihood, nats, after three epochs")
held_accuracy = lab.compare(held, baseline="labels only", metric="accuracy")
report.comparison(held_accuracy, caption="accuracy after three epochs")

# %%
report.figure(
    report.intervals(held_nll, x_label="nats against labels only; to the left is better", percent=False),
    "differences in negative log-likelihood with intervals: the triple loss, the one without hidden states, label "
    "smoothing and early stopping all lie far to the left of labels only; without soft targets it lies near zero",
)

# %%
held_verdicts = report.verdicts(held, baseline="labels only", metric="nll", higher_is_better=False)
for arm in ("triple loss", "without hidden states", "label smoothing", "early stopping"):
    print(f"{arm}: {held_verdicts.loc[arm, 'all seeds']} over 24 seeds; groups: {report.tally(held_verdicts)[arm]}")
    assert held_verdicts.loc[arm, "all seeds"] == "helps"
gains = -held_nll["difference"]
assert gains["without soft targets"] < 0.25 * gains["triple loss"]
assert gains["without hidden states"] >= gains["triple loss"]
print("of the triple loss's gain less than a quarter is left without soft targets, all without hidden states: yes")
beside = report.verdicts(held, baseline="triple loss", metric="nll", higher_is_better=False)
for arm, verdict in (("label smoothing", "helps"), ("early stopping", "hurts")):
    print(f"against the triple loss, {arm}: {beside.loc[arm, 'all seeds']}; groups: {report.tally(beside)[arm]}")
    assert beside.loc[arm, "all seeds"] == verdict

# %%
by_accuracy = report.verdicts(held, baseline="labels only")
assert not (by_accuracy == "helps").any(axis=None)
print("no arm gains accuracy, over 24 seeds or in a group: yes")
for arm, verdict in by_accuracy["all seeds"].items():
    print(f"accuracy, {arm}: {verdict} over 24 seeds; groups: {report.tally(by_accuracy)[arm]}")
    assert verdict == ("hurts" if arm == "early stopping" else "no useful difference")
long_run = patient.loc["triple loss", "difference"]
assert held_accuracy.loc["triple loss", "high"] < long_run
print("the triple loss's interval ends below what it gained in the long run: yes")

# %% [markdown]
# **Seen.** Within the triple loss it is the soft targets: without them little of the gain is left, without the hidden
# states all of it. But *softness alone does more*. Labels of 0.9 and 0.1, which know nothing of any sentence, leave a
# lower negative log-likelihood than the triple loss does, though the student gets nearly all of its training sentences
# right with them: what they hold back is being too sure. To stop in time helps too, but less, and costs accuracy
# (perhaps since its learning rate has not fallen by then). So a lower negative log-likelihood is no proof that a
# teacher's knowledge has arrived.
#
# The 1.2 points of accuracy are not there in the smaller run, so it can't say what they are owed to; and smoothed
# labels have not been tried in the long one.
#
# Two of the arms anew, one seed:

# %%
for arm, smoothing in (("labels only", 0.0), ("label smoothing", tuned.chosen_smoothing())):
    one = _language_controls.trained(BASE_SEED, arm, tuned.chosen(arm), smoothing)
    live[arm] = _language_controls.found(one, _language_controls.sentences(BASE_SEED).test)["nll"]
    kept_runs = controls.loc[controls["arm"] == arm, "nll"]
    assert kept_runs.min() - 0.05 < live[arm] < kept_runs.max() + 0.05
    print(f"{arm}: within 0.05 nats of what 24 stored seeds span")
assert live["label smoothing"] < live["labels only"] - 0.03
print("smoothed labels leave the lower negative log-likelihood, live too: yes")

# %% [markdown]
# ## 5. What the 97 % hides
#
# DistilBERT "retains 97 % of BERT's language understanding": the ratio of two means over nine tasks of very different
# kinds (GLUE, development sets, medians of five runs). The numbers are those of the authors' README, whose mean for
# BERT is the 79.5 that the paper reports; the paper's own table has 86.7 and 82.2 for MNLI, which would make 79.7.

# %%
glue = pd.DataFrame(
    {"BERT": [56.3, 84.7, 88.6, 91.8, 89.6, 69.3, 92.7, 89.0, 53.5]},
    index=pd.Index(["CoLA", "MNLI", "MRPC", "QNLI", "QQP", "RTE", "SST-2", "STS-B", "WNLI"], name="task"),
)
glue["DistilBERT"] = [51.3, 82.1, 87.5, 89.2, 88.5, 59.9, 91.3, 86.9, 56.3]
glue["kept"] = glue["DistilBERT"] / glue["BERT"]
report.table(glue, percent=["kept"], decimals=1)
print(f"kept of the mean of nine: {glue['DistilBERT'].mean() / glue['BERT'].mean():.1%}")
eight = glue.drop("WNLI")
print(f"of the mean of eight, without WNLI: {eight['DistilBERT'].mean() / eight['BERT'].mean():.1%}")
above = glue.loc["RTE", ["BERT", "DistilBERT"]] - 52.7
print(f"of what BERT has on RTE above the commoner answer's 52.7 %: {above['DistilBERT'] / above['BERT']:.0%}")

# %% [markdown]
# CoLA (is this a sentence?) keeps 91 %, RTE (does this follow from that?) 86 %, and of what RTE's score is worth above
# guessing, less than half. WNLI is no task that either has learned: 56.3 is what always giving the commoner answer
# gets. The ablation in the same paper, of pre-training: without the words' own loss −0.3 points, without the cosine
# −1.5, without soft targets −3.0, from random weights −3.7. There, too, the start is the largest single part. But there
# the soft targets are worth nearly as much: they are a whole distribution over 30,522 words for every token of all of
# BERT's text, and ours are two numbers for each of 6,000 sentences.
#
# Ours, by the same arithmetic:

# %% tags=["nbval-ignore-output"]
best = longer.query("arm == 'triple loss'")
mine = means.loc[["teacher", "triple loss", "word counts"], ["accuracy", "agreement"]]
mine.loc["triple loss, three epochs"] = best[["accuracy", "agreement"]].mean()
mine["kept of the teacher"] = mine["accuracy"] / mine.loc["teacher", "accuracy"]
mine["kept above chance"] = (mine["accuracy"] - 0.5) / (mine.loc["teacher", "accuracy"] - 0.5)
report.table(mine.sort_values("accuracy", ascending=False), percent=list(mine.columns))

# %%
assert mine.loc["triple loss, three epochs", "kept of the teacher"] > 0.97
assert mine.loc["triple loss, three epochs", "agreement"] < 0.92
assert mine.loc["word counts", "kept of the teacher"] > 0.9 > 0.87 > mine.loc["word counts", "kept above chance"]
print("our student keeps more than 97 % of its teacher; word counts keep more than 90 %, and are no network at all")
print("and of the teacher's single answers the student repeats fewer than 92 %: yes")

# %% [markdown]
# So ask: above what? And where?

# %% [markdown]
# ### Where it is lost (in depth)
#
# Here are kinds of sentences: short (at most ten words), long (more than 25), with a
# negation, with a contrast (but, although), and those whose raters were lukewarm or outspoken; the student of three
# epochs.

# %% tags=["nbval-ignore-output"]
rows = {}
for kind in KINDS:
    rows[kind] = {"share of the test": known.test.of(kind).double().mean().item()}
    rows[kind]["teacher"] = runs.query("arm == 'teacher'")[f"accuracy_{kind}"].mean()
    rows[kind]["student"] = best[f"accuracy_{kind}"].mean()
    rows[kind]["lost"] = rows[kind]["teacher"] - rows[kind]["student"]
    rows[kind]["agreement"] = best[f"agreement_{kind}"].mean()
kinds = pd.DataFrame(rows).T.rename_axis("kind")
report.table(kinds, percent=list(kinds.columns))

# %%
report.figure(
    report.bars(
        {"teacher minus student": 100 * kinds["lost"]},
        names=list(kinds.index),
        x_label="kind of sentences",
        y_label="points of accuracy lost",
    ),
    "points lost by kind of sentence: most where raters were lukewarm, then with negations, least where they were "
    "outspoken",
)
assert list(kinds["lost"].nlargest(2).index) == ["mild", "negation"]
assert kinds["lost"].idxmin() == "strong"
assert kinds["teacher"].idxmin() == "mild"
assert kinds.loc["mild", "lost"] > 1.5 * (mine.loc["teacher", "accuracy"] - best["accuracy"].mean())
assert (
    best["accuracy_strong"] - best["accuracy_mild"] > kinds.loc["strong", "teacher"] - kinds.loc["mild", "teacher"]
).all()
print("mild sentences lose most, strong ones least, and in every seed mild ones more than strong ones: yes")

# %% [markdown]
# The student loses where its teacher does badly itself: where the raters were lukewarm it is right on 69 % of the
# sentences, and its teacher on 72 %; next come negations. Where they were outspoken it keeps all but 0.3 points. A test
# set of strong opinions would have hidden the loss, one of mild opinions about doubled it.

# %% [markdown]
# ### Pruning the vocabulary further (in depth)
#
# Word pieces that the 6,000 training sentences hold less often than once, three times, ten times, are read as the
# unknown word; nothing is trained anew.

# %% tags=["nbval-ignore-output"]
triple = runs.query("arm == 'triple loss'")
other = sizes.loc["student, words in use"].iloc[:2].sum() - words_in_use * width  # layers, places, normalisation
pruned = {"all in use": {"word pieces": words_in_use, "accuracy": triple["accuracy"].mean()}}
for least in (1, 3, 10):
    pieces = int(triple[f"pieces_seen_{least}"].iloc[0])
    pruned[f"seen {least} or more"] = {"word pieces": pieces, "accuracy": triple[f"accuracy_seen_{least}"].mean()}
pruned = pd.DataFrame(pruned).T.rename_axis("kept")
pruned["word pieces"] = pruned["word pieces"].astype(int)
pruned["million parameters"] = (other + width * pruned["word pieces"]) / 1e6
report.table(pruned, percent=["accuracy"], decimals=1, caption="triple loss, mean of five seeds")

# %%
lost = pruned["accuracy"].iloc[0] - pruned["accuracy"]
assert lost.is_monotonic_increasing
assert lost["seen 1 or more"] < 0.01 < lost["seen 3 or more"] < 0.03 < lost["seen 10 or more"]
print("leaving out what training never saw costs less than a point, what it saw fewer than ten times more than three")
share = 1e6 * pruned["million parameters"] / sizes.iloc[0, :2].sum()
print(f"{share['seen 1 or more']:.0%} of the teacher's parameters for less than half a point:", lost.iloc[1] < 0.005)

# %% [markdown]
# A word piece that training never saw kept its pre-trained vector, and knows something from there. Cut for the words of
# training, the student has 44 % of the teacher's parameters, for less than half a point: more than the layers saved.

# %% [markdown]
# ## 6. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/11_language_models.ipynb](solutions/11_language_models.ipynb).

# %% [markdown] tags=["exercise"]
# **11.1 Recall.** The third term of DistilBERT's loss: one minus the cosine of student's and teacher's hidden states
# (B, L, D), averaged over the tokens that count, where the mask (B, L) is True.
#
# <details><summary>Hint</summary>`torch.nn.functional.cosine_similarity(..., dim=-1)`, then a mean over what
# counts.</details>


# %% tags=["exercise"]
def my_hidden_loss(student, teacher, mask):
    raise NotImplementedError


# %% tags=["solution"]
def my_hidden_loss(student, teacher, mask):
    gaps = 1 - torch.nn.functional.cosine_similarity(student, teacher, dim=-1)
    return gaps[mask].mean()


# %% tags=["check"]
lab.check("11.1", my_hidden_loss)

# %% [markdown] tags=["exercise"]
# **11.2 Predict.** BERT has 23.8 million parameters in embeddings and 85.1 in twelve equal layers. By which share is a
# student smaller that has six of the layers?
#
# <details><summary>Hint</summary>What goes, divided by what there was.</details>

# %% tags=["exercise"]
my_share = ...

# %% tags=["solution"]
my_share = (85.1 / 2) / (23.8 + 85.1)

# %% tags=["check"]
lab.check("11.2", my_share)

# %% [markdown] tags=["exercise"]
# **11.3 Find the bug.** After vocabulary pruning the embedding has one row for each piece in `kept`, old numbers in
# ascending order; `unknown` is the old number of the unknown piece, which is among them. From old numbers `ids` (B, L)
# this makes rows:
#
# ```python
# def renumbered(ids, kept, unknown):
#     return torch.searchsorted(kept, ids)
# ```
#
# Every test sentence of kept pieces comes out right. Repair it for the others: what is not kept is read as unknown.
#
# <details><summary>Hint</summary>What does `searchsorted` say of a number that isn't there?</details>


# %% tags=["exercise"]
def repaired(ids, kept, unknown):
    raise NotImplementedError


# %% tags=["solution"]
def repaired(ids, kept, unknown):
    rows = torch.searchsorted(kept, ids)
    return torch.where(torch.isin(ids, kept), rows, torch.searchsorted(kept, unknown))


# %% tags=["check"]
lab.check("11.3", repaired)

# %% [markdown] tags=["exercise"]
# **11.4 Apply.** `extract_distilbert.py` keeps layers 0, 2, 4, 7, 9 and 11 of twelve: the first, the last, and equal
# steps between them, each rounded to the nearest layer. From a row of layers (here whole numbers, in a tensor) return
# the `count` that stay; `count` is two or more.
#
# <details><summary>Hint</summary>Between the first layer and the last there are one step fewer than layers
# kept.</details>


# %% tags=["exercise"]
def my_layers(layers, count):
    raise NotImplementedError


# %% tags=["solution"]
def my_layers(layers, count):
    step = (len(layers) - 1) / (count - 1)
    return layers[[round(place * step) for place in range(count)]]


# %% tags=["check"]
lab.check("11.4", my_layers)

# %% [markdown] tags=["exercise"]
# **11.5 Design.** You want *early stopping* as an arm beside a loss. Three seeds were trained for four epochs, and
# after each the negative log-likelihood was measured on validation and on test sentences: two tensors (seeds, epochs).
# Return what to report of each seed.
#
# <details><summary>Hint</summary>Choose the epoch by the validation sentences, and report that epoch on the test
# sentences.</details>


# %% tags=["exercise"]
def stopped(validation, test):
    raise NotImplementedError


# %% tags=["solution"]
def stopped(validation, test):
    return test.gather(1, validation.argmin(dim=1, keepdim=True)).squeeze(1)


# %% tags=["check"]
lab.check("11.5", stopped)

# %% [markdown]
# **Going further** (not checked): keep the encoder's *first* three layers, or its last, with
# `encoder.encoder(layers=...)` in place of every other one. Does it matter which? And how much of the gap between a
# random start and the teacher's is the embeddings alone?

# %%
lab.quiz("11")

# %% [markdown]
# ## 7. When to use which, and when not
#
# **Start from every other layer** of what was pre-trained when you have a large encoder and must serve a small one: it
# costs nothing, and nothing else here is worth as much. **Smooth the labels** before you ask a teacher to hold back
# over-fitting; early stopping was worth less here, and cost accuracy. **Add the teacher's outputs** while you
# fine-tune, computed once, when you train for more than an epoch on some thousands of sentences, and compare with
# smoothed labels. Of its loss the soft targets count: in the small run little of the gain in negative log-likelihood
# was left without them, all of it without hidden states. **Distil in pre-training**, as DistilBERT did, when one
# student shall serve many tasks and you can pay for it; then in fine-tuning again. **Prune the vocabulary** where
# sentences come from one field: what they never use goes for free (section 2), what training never saw for little
# (section 5, in depth).
#
# **When not:** if a smaller pre-trained encoder exists, fine-tune it first, it is the baseline to beat; if training is
# short, or sentences are a few hundred, expect little accuracy from a teacher; if word counts are nearly as good, ship
# those. And don't report a ratio to the teacher alone.
#
# **Cost:** distilling in pre-training reads all of BERT's text again, with the teacher's forward pass beside every
# step; in fine-tuning it costs a teacher fine-tuned to each task, and its outputs, once.
#
# **Copy it:** `python -m kdref copy recipes` writes this lesson's file, which needs only torch, and `python -m kdref
# copy distilbert_loss` that function and what it calls.
#
# **Further reading:** [Turc et al. 2019](https://arxiv.org/abs/1908.08962), small BERTs pre-trained from scratch and
# then distilled; [TinyBERT](https://arxiv.org/abs/1909.10351), which also matches attention and embeddings.
#
# **Next lesson:** [19, writing models](19_writing_models.ipynb): a model that *writes* gives a distribution of the next
# word at every place. Which divergence brings a small one near to it, and how does a whole vocabulary fit?
