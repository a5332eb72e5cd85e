# %% [markdown]
# # 11 · Language models: half the layers, fine-tuned with a teacher; losses over a whole vocabulary
#
# **What is left of a language model when half of its layers are gone, and what does a teacher add?**
#
# **You will be able to**
#
# - halve a real [pre-trained](GLOSSARY.md#pre-training) [encoder](GLOSSARY.md#encoder), teach it with DistilBERT's
#   losses *while it is fine-tuned*, and say what each part gives;
# - tell that from what DistilBERT did, which was distilled in pre-training, and what the difference is worth;
# - read "97 % of the teacher" with care, and ask what the mean hides;
# - choose a divergence between two distributions of the next word by what it forgives;
# - compute a loss over 150,000 words without ever holding their logits.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb) (soft targets), and two packages that no other lesson needs:
# transformers, and the one that holds the encoder, so that nothing is downloaded while the lesson runs. `make course`
# installs them; elsewhere `python -m pip install "kdref[language]"` does.
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the sections marked *in depth*; {seconds}
# seconds to run on one thread.
#
# **Files:** `kdref/language/recipes.py` (DistilBERT's loss), `kdref/language/tokens.py` (divergences),
# `kdref/language/fused.py` (the same in little memory), `kdref/language/sparse.py` and `kdref/language/sampled.py`
# (teachers in a few numbers), `kdref/language/universal.py` (other tokenizers), `kdref/lab/models/sentence_encoder.py`
# (the encoder), `kdref/lab/data/sentences.py` (the sentences), `kdref/lab/experiments/language_distilbert.py` (the long
# experiment).
#
# **Papers:** [Sanh et al. 2019](https://arxiv.org/abs/1910.01108) (DistilBERT), [Wang et al.
# 2020](https://arxiv.org/abs/2002.10957) (MiniLM), [Agarwal et al. 2024](https://arxiv.org/abs/2306.13649) (generalised
# Jensen-Shannon), [Ko et al. 2024](https://arxiv.org/abs/2402.03898) (skew divergences), [Hsu et al.
# 2024](https://arxiv.org/abs/2410.10989) (Liger Kernel), [Anshumann et al. 2025](https://arxiv.org/abs/2503.16870)
# (sparse teachers).

# %% tags=["setup"]
import pandas as pd
import torch

from kdref import lab
from kdref.lab import experiments, models, report
from kdref.lab.bench.timing import peak_extra_memory
from kdref.lab.data.sentences import KINDS, snippets
from kdref.lab.experiments import _language, language_distilbert_slice
from kdref.lab.models import sentence_encoder
from kdref.lab.training.measure import latency
from kdref.lab.widgets.language import DIVERGENCES, best_hump, divergence_explorer, hump
from kdref.language import (
    alternate_layers,
    distilbert_loss,
    fused_linear_loss,
    sparse_teacher,
    token_divergence,
    token_loss,
)

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
#
# What holds the other one back? The soft targets, one would say. But the hidden states might, and so might what needs
# no teacher: softer labels, or to stop in time. Two arms can't tell.

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
# ## 6. Which divergence?
#
# DistilBERT's teacher guesses masked words. A model that *writes* gives a distribution of the next word at every place,
# and distilling it means to bring the student's distribution q near to the teacher's p, over a vocabulary of up to
# 150,000 words. A small student can't follow everywhere. What it gives up is decided by the divergence.
#
# Let 15 words stand in a row. The teacher finds two groups of them likely; the student can only say one hump, of any
# place and width. Which hump is nearest?

# %%
words = 15
teacher_row = torch.logaddexp(hump(3, 1.0, words=words), hump(10, 1.0, words=words) + 0.7)
nearest = {name: best_hump(token_divergence, teacher_row, settings) for name, settings in DIVERGENCES.items()}
shown = {"teacher": teacher_row} | {name: nearest[name] for name in ("forward KL", "reverse KL", "Jensen-Shannon, ½")}
report.figure(
    report.bars({name: row.softmax(-1) for name, row in shown.items()}, x_label="word"),
    "probabilities of 15 words: forward KL puts one wide hump over both of the teacher's groups and the gap between "
    "them; reverse KL and Jensen-Shannon take the higher group alone",
)
for name, row in nearest.items():
    q = row.softmax(-1)
    print(f"{name}: likeliest word {int(q.argmax())}, words 5 to 8 get {q[5:9].sum().item():.3f}")
print(f"teacher: likeliest word {int(teacher_row.argmax())}, words 5 to 8 get {teacher_row.softmax(-1)[5:9].sum():.3f}")

# %% [markdown]
# - **Forward KL**, KL(p‖q), the soft targets of every lesson so far. What the teacher finds likely and the student
#   doesn't costs much, so the student *covers* everything, also the gap where the teacher would never go.
# - **[Reverse KL](GLOSSARY.md#reverse-divergence)**, KL(q‖p): what the student says and the teacher wouldn't costs
#   much. The student *chooses*: it says less, and all of it sounds right. MiniLLM (2024) argues for it when models
#   write.
# - **Generalised Jensen-Shannon** with the teacher's share β in the mixture M = βp + (1 − β)q (GKD, 2024) lies between,
#   and is bounded. Near β = 0 it pulls as forward KL does, near 1 as reverse KL; its *value* goes to 0 at both ends.
# - **[Skew](GLOSSARY.md#skew-divergence)** (DistiLLM, 2024) puts a little of the first distribution into the second, so
#   that no ratio explodes.
# - **[Total variation](GLOSSARY.md#total-variation)** is what speculative decoding pays for ([lesson
#   12](12_reasoning.ipynb)).
#
# None is best everywhere. With enough capacity all have the same minimum, q = p; the fewer words a student can afford,
# the more it matters which one it is.
#
# **At the ends of β** the value of Jensen-Shannon vanishes, and the gradient shortens with it, to nothing at β = 0; but
# its *direction* becomes forward KL's (reverse KL's at 1). Adam hardly minds a short gradient; plain gradient descent
# does. Libraries put the KL itself in at 0 and 1.

# %%
student_row = hump(5.0, 2.0, words=words).requires_grad_()
kinds_of_kl = [{"kind": "forward"}, {"kind": "reverse"}]
for share_of_teacher in (1e-4, 0.1, 0.5, 0.9, 1 - 1e-4):
    value = token_divergence(student_row, teacher_row, kind="jensen_shannon", mix=share_of_teacher)
    (slope,) = torch.autograd.grad(value, student_row)
    ends = [
        torch.autograd.grad(token_divergence(student_row, teacher_row, **how), student_row)[0] for how in kinds_of_kl
    ]
    forward, reverse = (torch.cosine_similarity(slope, end, dim=0).item() for end in ends)
    print(f"β = {share_of_teacher:g}: value {value.item():.4f}, length {slope.norm().item():.5f}", end=", ")
    print(f"cosine with forward KL's gradient {forward:.3f}, with reverse KL's {reverse:.3f}")

# %% [markdown]
# Try it: which hump makes reverse KL large, and which forward KL?

# %%
divergence_explorer(token_divergence, teacher_row)

# %% [markdown]
# **One word missing.** Where the student's vocabulary lacks a word that the teacher may say, its logit is −∞, not 0:
# the softmax gives a logit of 0 a probability. Forward KL is then infinite, which is the truth: the student *can't* say
# it.

# %%
short = torch.tensor([2.0, 1.0, -torch.inf])
for name in ("forward KL", "reverse KL", "total variation"):
    value = token_divergence(short, torch.tensor([2.0, 1.0, 0.0]), **DIVERGENCES[name])
    print(f"{name}: {value.item():.3f}")

# %% [markdown]
# ## 7. A vocabulary that does not fit (in depth)
#
# Logits of 2,048 tokens over a vocabulary of 151,936 (Qwen's) in float32: one such tensor is 1.16 GiB. A divergence
# written down plainly holds about nine of them: the logits of both, their log-softmaxes, probabilities, products, and
# gradients. When a language model is distilled, that can fill the memory before the network does.

# %%
for vocabulary in (32_000, 128_000, 151_936):
    gib = 2048 * vocabulary * 4 / 2**30
    print(f"{vocabulary:>7,} words: one tensor of logits {gib:.2f} GiB, nine of them {9 * gib:.1f} GiB")

# %% [markdown]
# The way out: the logits are a product of hidden states, which are small, with the output matrix. So project a few
# tokens, compare, compute *their* gradient at once, and forget their logits, before the next few come. Nothing is
# approximated: only the order of the sums changes.

# %%
generator = torch.Generator().manual_seed(0)
hidden, theirs = torch.randn(2, 64, 32, generator=generator, dtype=torch.float64).unbind()
matrix, their_matrix = torch.randn(2, 1000, 32, generator=generator, dtype=torch.float64).unbind()
values, gradients = {}, {}
for name, loss in (
    ("dense", lambda h, w: token_loss(h @ w.T, theirs @ their_matrix.T, kind="forward")),
    ("fused", lambda h, w: fused_linear_loss(h, w, theirs, their_matrix, kind="forward", chunk_size=8)),
):
    leaves = hidden.clone().requires_grad_(), matrix.clone().requires_grad_()
    values[name] = loss(*leaves)
    gradients[name] = torch.autograd.grad(values[name], leaves)
torch.testing.assert_close(values["fused"], values["dense"], rtol=1e-10, atol=0)
torch.testing.assert_close(gradients["fused"], gradients["dense"], rtol=1e-10, atol=1e-14)
print(f"dense {values['dense'].item():.6f} nats, fused {values['fused'].item():.6f}; same gradients to ten digits: yes")

# %% [markdown]
# What it saves, measured: 256 tokens, 64 wide, chunks of 16 tokens. What is left to grow with the vocabulary is the
# output matrix's own gradient, which training needs in any case, and sixteen tokens' logits.

# %% tags=["nbval-ignore-output"]
footprint = []
for vocabulary in (2_000, 8_000, 32_000):
    h, t = torch.randn(2, 256, 64, generator=generator).unbind()
    w, v = torch.randn(2, vocabulary, 64, generator=generator).unbind()
    h, w = h.requires_grad_(), w.requires_grad_()
    forms = {
        "dense": lambda h=h, w=w, t=t, v=v: token_loss(h @ w.T, t @ v.T, kind="forward"),
        "fused": lambda h=h, w=w, t=t, v=v: fused_linear_loss(h, w, t, v, kind="forward", chunk_size=16),
    }
    for form, loss in forms.items():
        held = peak_extra_memory(lambda loss=loss, h=h, w=w: torch.autograd.grad(loss(), (h, w)))
        footprint.append({"form": form, "words": vocabulary, "MB": held / 1e6})
footprint = pd.DataFrame(footprint)
report.table(footprint.pivot(index="words", columns="form", values="MB"), decimals=1, caption="MB held at the peak")

# %%
report.figure(
    report.curve(footprint, x="words", y="MB", by="form", log_x=True, log_y=True, x_label="words", y_label="MB held"),
    "memory against vocabulary, both axes logarithmic: both grow in proportion, the fused form far below the dense one",
)
held = footprint.pivot(index="words", columns="form", values="MB")
assert (held["dense"] > 8 * held["fused"]).all()
print("the dense form holds more than eight times as much at every size: yes")

# %% [markdown]
# At 2,048 tokens and 128,000 words it is about 30 times less, and on a processor faster as well, since the same memory
# is used again instead of being asked for anew: [the benchmarks](../docs/benchmarks.md) have the numbers (`python -m
# kdref.lab.bench vocabulary`). Liger Kernel (2024) made this form known, on GPUs, where it is mostly used; there
# `python -m kdref.lab.bench gpu` compares the two.

# %% [markdown]
# ### Keep less of the teacher
#
# Its distribution can be computed once and stored. All of it is too much; the likeliest k words and how much all others
# have together take six bytes per word. What is dropped matters: probabilities of the top k made to add up to 1 teach
# the student that nothing else ever happens. Here with scores that fall off as the frequencies of words do; a model
# that is surer has a lighter tail.

# %%
scores = -1.1 * torch.arange(1, 151_937, dtype=torch.float64).log()
p = scores.softmax(-1)
for k in (10, 100, 1000):
    indices, log_probs, tail = sparse_teacher(scores, k=k)
    made_to_fit = torch.zeros_like(p).scatter(0, indices, log_probs.softmax(-1))
    bias = (made_to_fit - p).abs().sum() / 2
    torch.testing.assert_close(bias, tail.exp())
    print(
        f"k = {k:>4}: {6 * k:>5,} of {4 * len(p):,} bytes; the tail has {tail.exp().item():.3f}, the bias is as large"
    )

# %% [markdown]
# `sparse_teacher_loss` therefore asks what to do about the tail: it can count as one word, in each of the six
# divergences. `sampled_teacher` draws words instead, which is right on average (Anshumann et al. 2025).

# %% [markdown]
# ## 8. Exercises
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
# **11.3 Find the bug.** A student with a smaller vocabulary than its teacher's, whose words are the teacher's first
# ones. The padding is as it was published, around another loss:
#
# ```python
# def published(student_logits, teacher_logits):
#     missing = teacher_logits.shape[-1] - student_logits.shape[-1]
#     q = torch.nn.functional.pad(student_logits, (0, missing)).softmax(-1)
#     return (q - teacher_logits.softmax(-1)).abs().sum(-1).mean() / 2
# ```
#
# Repair it.
#
# <details><summary>Hint</summary>What does `pad` pad with?</details>


# %% tags=["exercise"]
def repaired(student_logits, teacher_logits):
    raise NotImplementedError


# %% tags=["solution"]
def repaired(student_logits, teacher_logits):
    missing = teacher_logits.shape[-1] - student_logits.shape[-1]
    q = torch.nn.functional.pad(student_logits, (0, missing), value=-torch.inf).softmax(-1)
    return (q - teacher_logits.softmax(-1)).abs().sum(-1).mean() / 2


# %% tags=["check"]
lab.check("11.3", repaired)

# %% [markdown] tags=["exercise"]
# **11.4 Apply.** Generalised Jensen-Shannon of two rows of logits, one value per token: β KL(P‖M) + (1 − β) KL(Q‖M)
# with M = βP + (1 − β)Q, where P is the teacher and `share` is β.
#
# <details><summary>Hint</summary>Mix probabilities, not logits.</details>


# %% tags=["exercise"]
def my_jensen_shannon(student_logits, teacher_logits, share):
    raise NotImplementedError


# %% tags=["solution"]
def my_jensen_shannon(student_logits, teacher_logits, share):
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    log_m = (share * log_p.exp() + (1 - share) * log_q.exp()).log()
    to_teacher = (log_p.exp() * (log_p - log_m)).sum(-1)
    to_student = (log_q.exp() * (log_q - log_m)).sum(-1)
    return share * to_teacher + (1 - share) * to_student


# %% tags=["check"]
lab.check("11.4", my_jensen_shannon)

# %% [markdown] tags=["exercise"]
# **11.5 Design.** Forward KL per token, averaged, from hidden states (N, H) and output matrices (V, H), without ever
# holding logits of more than `chunk` tokens. The value is enough; the check counts the rows.
#
# <details><summary>Hint</summary>`student_hidden.split(chunk)`; N need not be a multiple of it.</details>


# %% tags=["exercise"]
def my_chunked(student_hidden, student_weight, teacher_hidden, teacher_weight, chunk):
    raise NotImplementedError


# %% tags=["solution"]
def my_chunked(student_hidden, student_weight, teacher_hidden, teacher_weight, chunk):
    total = 0
    for h, t in zip(student_hidden.split(chunk), teacher_hidden.split(chunk), strict=True):
        total = total + token_divergence(h @ student_weight.T, t @ teacher_weight.T).sum()
    return total / len(student_hidden)


# %% tags=["check"]
lab.check("11.5", my_chunked)

# %% [markdown]
# **Going further** (not checked): keep the encoder's *first* three layers, or its last, with
# `encoder.encoder(layers=...)` in place of every other one. Does it matter which? And how much of the gap between a
# random start and the teacher's is the embeddings alone?

# %%
lab.quiz("11")

# %% [markdown]
# ## 9. When to use which, and when not
#
# **Start from every other layer** of what was pre-trained when you have a large encoder and must serve a small one: it
# costs nothing, and nothing else here is worth as much. **Add the teacher's outputs** while you fine-tune, computed
# once, when you train for more than an epoch. **Distil in pre-training**, as DistilBERT did, when one student shall
# serve many tasks and you can pay for it; then in fine-tuning again. **Prune the vocabulary** where sentences come from
# one field: what they never use goes for free (section 2), what training never saw for little (section 5, in depth).
# **Reverse KL or a mixture** when a small student writes and must not ramble, **forward KL** when it must not leave
# anything out. **The fused loss** whenever the vocabulary is large: it is exact.
#
# **When not:** if a smaller pre-trained encoder exists, fine-tune it first, it is the baseline to beat; if labels are
# many and training short, expect little from a teacher; if word counts are nearly as good, ship those. And don't report
# a ratio to the teacher alone.
#
# **Cost:** distilling in pre-training reads all of BERT's text again, with the teacher's forward pass beside every
# step; in fine-tuning it costs a teacher fine-tuned to each task, and its outputs, once.
#
# **Copy it:** `python -m kdref copy language` writes this lesson's files (`fused.py`, `recipes.py`, `sampled.py`,
# `sparse.py`, `tokens.py`, `universal.py`), each of which needs only torch; `python -m kdref copy fused` writes one of
# them, and `python -m kdref copy fused_linear_loss` that function and what it calls.
#
# **Further reading:** [Turc et al. 2019](https://arxiv.org/abs/1908.08962), small BERTs pre-trained from scratch and
# then distilled; [TinyBERT](https://arxiv.org/abs/1909.10351), which also matches attention and embeddings; [Gu et al.
# 2024](https://arxiv.org/abs/2306.08543) on reverse KL for writing.
#
# **Next lesson:** [12, reasoning](12_reasoning.ipynb): what does a student learn from nothing but the text that a
# teacher wrote?
