# %% [markdown]
# # 19 · Writing models: what a small decoder learns from a large one
#
# **Which of a large model's numbers does a small one need, to write as it does?**
#
# **You will be able to**
#
# - distil a [decoder](GLOSSARY.md#decoder) token by token, and say which divergence does what to the text it writes;
# - compute a loss over 150,000 words without ever holding their logits, and do the right thing where two vocabularies
#   differ in size;
# - store a teacher in a few numbers per token, and say what each way of storing tells the student that is wrong;
# - (in depth) learn from a teacher with another [tokeniser](GLOSSARY.md#tokeniser);
# - (in depth) cut a student out of its teacher, and say what the cut is worth.
#
# **Needs:** [lesson 01](01_soft_targets.ipynb) (KL divergence). [Lesson 11](11_language_models.ipynb) has the
# sentences, and a model that reads; [lesson 12](12_reasoning.ipynb) what a student learns from its own text.
#
# **Time:** about {minutes} minutes to read and do, and {in_depth} more for the sections marked *in depth*; {seconds}
# seconds to run on one thread.
#
# **Files:** `kdref/language/tokens.py` (divergences), `kdref/language/fused.py` (the same in little memory),
# `kdref/language/sparse.py` and `kdref/language/sampled.py` (teachers in a few numbers), `kdref/language/universal.py`
# and `kdref/language/alignment.py` (other tokenisers), `kdref/lab/models/writer.py` (teacher and students),
# `kdref/lab/experiments/writing_*.py` (the long experiments).
#
# **Papers:** [Agarwal et al. 2024](https://arxiv.org/abs/2306.13649) (generalised Jensen-Shannon), [Gu et al.
# 2024](https://arxiv.org/abs/2306.08543) (MiniLLM: reverse KL), [Ko et al. 2024](https://arxiv.org/abs/2402.03898)
# (skew divergences), [Wu et al. 2024](https://arxiv.org/abs/2404.02657) (against mode seeking), [Hsu et al.
# 2024](https://arxiv.org/abs/2410.10989) (Liger Kernel), [Anshumann et al. 2025](https://arxiv.org/abs/2503.16870)
# (sparse teachers), [Boizard et al. 2024](https://arxiv.org/abs/2402.12030) and [Minixhofer et al.
# 2025](https://arxiv.org/abs/2503.20083) (other tokenisers), [Muralidharan et al.
# 2024](https://arxiv.org/abs/2407.14679) (Minitron: prune and distil).

# %% tags=["setup"]
import math

import pandas as pd
import torch

from kdref import lab
from kdref.lab import experiments, models, report
from kdref.lab.bench.timing import peak_extra_memory
from kdref.lab.data.sentences import snippets
from kdref.lab.experiments import (
    _writing,
    _writing_tokenisers,
    writing_divergences,
    writing_pruned,
    writing_stored,
    writing_tokenisers,
    writing_tokenisers_tuning,
    writing_tuning_beyond,
)
from kdref.lab.models import decoding, pruning, writer
from kdref.lab.widgets.language import DIVERGENCES, best_hump, divergence_explorer, hump
from kdref.language import (
    align_spans,
    fused,
    fused_linear_loss,
    likelihood_matching_loss,
    pack_sparse,
    sampled_teacher,
    span_log_probs,
    sparse_teacher,
    token_divergence,
    token_loss,
    tokens,
    universal_logit_loss,
)

lab.setup()
BASE_SEED = lab.base_seed()

# %% [markdown]
# ## 1. A model that writes
#
# At every place of a text a decoder gives a distribution of the next token; writing is drawing from it, token by token.
# Ours writes sentences of film reviews. Its tokeniser learnt 512 pieces from the training sentences, by [byte-pair
# encoding](GLOSSARY.md#byte-pair-encoding): the end, the 256 bytes, and 255 pieces of several bytes, so that nothing is
# unknown and nothing is lower-cased. Rows are cut after 31 tokens, some 66 bytes.

# %%
pieces, learned, tested = writer.tokeniser(), writer.rows("train"), writer.rows("test")
said = snippets().train.texts[6]
print(" | ".join(pieces.decode([number]) for number in pieces.encode(said).ids))
print(f"{len(learned):,} rows of {learned.shape[1]}; tokens to be learned: {int(writer.mask(learned).sum()):,}")

# %% [markdown]
# **The teacher** was trained on them, with early stopping, and is shipped; the student has a quarter of its parameters.
# How good is a model that writes? Its loss on text that it has not seen is the negative log-likelihood in nats per
# token; the exponential of that is the [**perplexity**](GLOSSARY.md#perplexity), 512 for one that finds all pieces
# equally likely.

# %%
teacher = writer.teacher()
untaught = writer.network(writer.STUDENT, seed=BASE_SEED)
sizes = [models.count_parameters(model) for model in (teacher, untaught)]
print(f"parameters: {sizes[0]:,} and {sizes[1]:,}, a share of {sizes[1] / sizes[0]:.2f}")
found = {name: math.exp(writer.nll(model, tested)) for name, model in (("teacher", teacher), ("untaught", untaught))}
print("perplexity of the teacher below 40, of a student that has learnt nothing above 400:", end=" ")
print(found["teacher"] < 40 and found["untaught"] > 400)

# %% tags=["nbval-ignore-output"]
print(*writer.texts(decoding.write(teacher, 5, seed=BASE_SEED)), sep="\n")

# %% [markdown]
# ## 2. Which divergence?
#
# Distilling it means to bring the student's distribution q of the next token near to the teacher's p, at every place
# of a text. A small student can't follow everywhere. What it gives up is decided by the divergence.

# %%
lab.show(token_divergence)
lab.show(tokens._divergence)

# %% [markdown]
# **By hand.** Two words; the student says (½, ½), the teacher (¾, ¼). Forward: $\frac34 \log \frac32 + \frac14 \log
# \frac12 = 0.131$; reverse: $\frac12 \log \frac23 + \frac12 \log 2 = 0.144$; total variation: ¼. Jensen-Shannon at ½
# has the mixture (⅝, ⅜): half of $\frac34 \log \frac65 + \frac14 \log \frac23 = 0.035$ and of $\frac12 \log \frac45 +
# \frac12 \log \frac43 = 0.032$.

# %%
even, sure = torch.zeros(2), torch.tensor([0.75, 0.25]).log()
for name, settings in DIVERGENCES.items():
    print(f"{name}: {token_divergence(even, sure, **settings).item():.3f}")

# %% [markdown]
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
#   much. The student *chooses*: it says less, and all of it sounds right ([mode seeking](GLOSSARY.md#mode-seeking)).
#   MiniLLM (2024) argues for it when models write.
# - **Generalised Jensen-Shannon** with the teacher's share β in the mixture M = βp + (1 − β)q (GKD, 2024) lies between,
#   and is bounded.
# - **[Skew](GLOSSARY.md#skew-divergence)** (DistiLLM, 2024) puts a little of the first distribution into the second, so
#   that no ratio explodes.
# - **[Total variation](GLOSSARY.md#total-variation)** is what speculative decoding pays for ([lesson
#   12](12_reasoning.ipynb)).
#
# Try it: which hump makes reverse KL large, and which forward KL?

# %%
divergence_explorer(token_divergence, teacher_row)

# %% [markdown]
# **But a language model is no hump.** Its softmax has a logit for every word. Wu et al. (2024) deny that covering and
# choosing show when language models are distilled: both divergences have the same minimum, q = p, and get there, given
# enough epochs. Early on, they find, forward KL attends to the words that the teacher finds likely, reverse KL to the
# others. The same teacher, and a student with fifteen free logits:

# %%
for name in ("forward KL", "reverse KL"):
    free = torch.zeros(words, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([free], lr=2.0)
    for step in range(1001):
        gap = (free.detach().softmax(-1) - teacher_row.softmax(-1)).abs()
        if step in (0, 3, 1000):
            worst, in_all = gap.max().item(), gap.sum().item() / 2
            print(f"{name}, step {step}: {worst:.3f} off at the worst word, {in_all:.3f} in all")
        optimizer.zero_grad()
        token_divergence(free, teacher_row, **DIVERGENCES[name]).backward()
        optimizer.step()

# %% [markdown]
# So what a divergence gives up stays only where the student can't say what its teacher says. At one place a decoder can
# say anything; at all places of all texts at once a small one can't. Which of the two counts has to be measured:
# section 3.
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
# ## 3. Distilled, six ways
#
# The teacher judges every place of a training sentence, and the student is trained to say the same: which token came
# next plays no part in the loss, except as the past of the one after. Both students read the same sentences, so the
# teacher is asked once.

# %%
stored = experiments.load("writing_divergences")
seed = BASE_SEED if BASE_SEED in set(stored["seed"]) else 0
students, taught = {}, _writing.said()  # the teacher's logits at every place, in float16
order = torch.arange(2 * len(learned))[: _writing.STEPS * _writing.BATCH_SIZE] % len(learned)


def step_taught(batch):
    (numbers,) = batch
    rows, judged = learned[numbers], taught[numbers].float()
    said = student(rows[:, :-1])
    return {"loss": token_loss(said, judged, kind=kind, mask=writer.mask(rows)[:, 1:])}


# %%
for kind in ("forward", "reverse"):
    student = students[kind] = writer.network(writer.STUDENT, seed=seed)
    optimizer, rate = torch.optim.AdamW(student.parameters(), weight_decay=0.01), writing_tuning_beyond.chosen(kind)
    way = {"total_steps": _writing.STEPS, "pct_start": 0.1, "cycle_momentum": False}
    rate_of_step = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, **way)
    batches = lab.Batches(order, batch_size=_writing.BATCH_SIZE, seed=seed)
    how = {"after_step": rate_of_step.step, "clip_norm": 1.0, "progress": False}
    lab.fit(step_taught, student, batches, optimizer, epochs=1, **how)
    live, then = _writing.measured(student.eval(), seed), stored.query("seed == @seed and arm == @kind").iloc[0]
    assert max(abs(live[measure] - then[measure]) for measure in ("nll", "forward", "reverse")) < 0.2
    print(f"{kind}: within 0.2 nats of the stored run of this seed")

# %% tags=["nbval-ignore-output"]
own_loss, read, counts = {}, tested[:500, :-1], writer.mask(tested[:500])[:, 1:]
for kind, student in students.items():
    print(f"{kind}:", *writer.texts(decoding.write(student, 4, seed=BASE_SEED)), sep="\n", end="\n\n")
    with torch.no_grad():
        said, judged = student(read), teacher(read)
    own_loss[kind] = {f"{how} KL": token_loss(said, judged, kind=how, mask=counts).item() for how in students}
report.table(pd.DataFrame(own_loss).T.rename_axis("taught by"), caption="nats per token, on 500 test sentences")

# %%
assert all(own_loss["forward"][how] < own_loss["reverse"][how] - 0.1 for how in own_loss["forward"])
print("the student of forward KL has the smaller reverse KL, too: yes")

# %% [markdown]
# Words, seldom sentences: the budget is small. And the student of reverse KL is behind even at its own loss.
#
# The stored experiment has 24 seeds, and all students of a seed the same first weights, order and number of rows:
#
# - **labels**: cross-entropy with the token that came; no teacher;
# - the **six divergences** from the teacher's distributions, at the same places;
# - **the teacher's text**: labels again, in as many rows that the teacher drew ([sequence-level
#   distillation](GLOSSARY.md#sequence-level-distillation)).
#
# Each has its own learning rate, chosen from 0.008 to 0.064 (for reverse KL from 0.001), by the nats of validation
# sentences: for all the same yardstick, but one that is nearest to forward KL's. *What is measured*: perplexity on test
# sentences; KL(P‖Q) per token on the teacher's text, KL(Q‖P) on the student's own; its **quality**, the nats per token
# that the teacher needs for what the student wrote (the less, the more it is to the teacher's liking); and how varied
# that is: [distinct pairs](GLOSSARY.md#distinct-n-grams) of tokens in 512 texts, and
# [self-BLEU](GLOSSARY.md#self-bleu), which is high where texts are alike.

# %% tags=["nbval-ignore-output"]
print(
    f"{experiments.provenance('writing_divergences')['command']} · {len(stored)} runs, {stored['seed'].nunique()} seeds"
)
MEASURES = {"nll": False, "forward": False, "reverse": False, "quality": False, "distinct": True, "self_bleu": False}
means = stored.groupby("arm")[list(MEASURES)].mean().loc[list(writing_divergences.ARMS)]
shown = means.assign(perplexity=means["nll"].map(math.exp)).drop(columns="nll")
shown = shown[["perplexity", *shown.columns[:-1]]]
report.table(shown, percent=["distinct", "self_bleu"], caption="means of 24 seeds; nats per token, but for perplexity")

# %%
pupils, told = stored[stored["arm"] != writing_divergences.TEACHER], {}
for measure, more in MEASURES.items():
    found = report.verdicts(pupils, baseline="forward", metric=measure, higher_is_better=more)
    told[measure] = found["all seeds"]
told = pd.DataFrame(told)
report.table(told, caption="against forward KL, 24 seeds: lower is better, but for distinct pairs")

# %%
short = {"jensen_shannon": "JS", "skew_forward": "skew f.", "skew_reverse": "skew r.", "total_variation": "TV"}
short |= {"the teacher's text": "text"}
drawn = means.drop(index=writing_divergences.TEACHER).sort_values("forward", ascending=False)
report.figure(
    report.bars(
        {"KL(P‖Q), on the teacher's text": drawn["forward"], "KL(Q‖P), on its own": drawn["reverse"]},
        names=[short.get(arm, arm) for arm in drawn.index],
        x_label="student taught by",
        y_label="nats per token",
    ),
    "bars of eight students: forward KL's has the lowest of both divergences; reverse KL's and total variation's are "
    "farthest from the teacher's text",
)
assert (told[["nll", "forward"]] == "hurts").all(axis=None)
far = ["labels", "the teacher's text", "reverse", "skew_reverse", "total_variation"]
assert (told.loc[far, "reverse"] == "hurts").all()
print(
    "by perplexity and KL(P‖Q) forward KL's students are the best of all, and by KL(Q‖P) better than five others': yes"
)

# %%
no_teacher = ["labels", "the teacher's text"]
assert (told.loc[no_teacher, "quality"] == "hurts").all()
assert (told.loc[no_teacher, "distinct"] == "helps").all()
assert means.loc[no_teacher, "distinct"].min() > means.loc[writing_divergences.TEACHER, "distinct"]
print("without distributions the text is more varied, more than the teacher's own, and the teacher likes it less: yes")
choosing = ["reverse", "jensen_shannon", "skew_forward", "skew_reverse", "total_variation"]
assert (told.loc[choosing, "distinct"] == "hurts").all()
assert (told.loc[["reverse", "total_variation"], "quality"] == "hurts").all()
print("with every other divergence the text is less varied than with forward KL: yes")
print("to the teacher's liking, against forward KL:", told.loc[choosing, "quality"].to_dict())

# %% [markdown]
# **Seen.** *Distributions are worth much*: they take the perplexity from 49, with labels, to 38; the teacher has 22.
# The teacher's *text* alone is worth less by perplexity than the sentences that the teacher learnt from. *Of the
# divergences forward KL is the best here*, by its own measure and by perplexity, and even on the student's own text
# none was shown to come nearer to the teacher.
#
# **Mode seeking in practice.** Reverse KL, the mixtures and total variation do write *less varied* text than forward
# KL, by distinct pairs (by self-BLEU not reverse KL's). But the promise has a second half, that what is left is better.
# The teacher likes reverse KL's and total variation's less, and of the three mixtures one, skewed forward KL, a little
# more. (More variety is no merit by itself: labels' students have more than the teacher.) That reverse KL is behind by
# both divergences, its own too, fits what Wu et al. say: what differs is not where the divergences lead, but how soon
# they get there. A student that begins with random weights is far from its teacher, and there reverse KL is a poor
# guide. MiniLLM begins with students that write already, and learns on their own text.
#
# One of 24 students of Jensen-Shannon (seed 1002) failed to train at the rate that had been chosen, so its intervals
# are wide.
#
# ### Was the time enough?
#
# Those 500 steps are hardly more than one pass. So, with eight of the seeds and the same learning rates, four times as
# many:

# %% tags=["nbval-ignore-output"]
longer = experiments.load("writing_longer")
print(f"{experiments.provenance('writing_longer')['command']} · {len(longer)} runs, {longer['seed'].nunique()} seeds")
budgets = {"500 steps": stored[stored["seed"].isin(longer["seed"].unique())], "2,000 steps": longer}
rows = {
    (arm, budget): runs[runs["arm"] == arm][["train_nll", *MEASURES]].mean()
    for arm in ("labels", "forward", "reverse")
    for budget, runs in budgets.items()
}
by_budget = pd.DataFrame(rows).T.rename_axis(["taught by", "budget"])
report.table(by_budget.reset_index().set_index("taught by"), percent=["distinct", "self_bleu"])

# %%
later = {}
for measure, more in MEASURES.items():
    later[measure] = report.verdicts(longer, baseline="forward", metric=measure, higher_is_better=more)["all seeds"]
    print(f"{measure}, 2,000 steps, against forward KL: labels {later[measure]['labels']}", end=", ")
    print(f"reverse KL {later[measure]['reverse']}")
assert all((later[measure] == "hurts").all() for measure in ("nll", "forward", "reverse"))
assert [later[measure]["reverse"] for measure in ("quality", "distinct")] == ["helps", "hurts"]

# %% [markdown]
# By perplexity and by both divergences the order stays: forward KL's students come to 25, labels' to 30, and reverse
# KL's are still behind, even by KL(Q‖P). One thing has turned: now the teacher likes reverse KL's text *more* than
# forward KL's, and it is less varied.
#
# **And with a student that starts near?** Cut out of its teacher, as section 7 does it, a student writes from the
# start as its teacher does, if badly. Then it learns on, with forward or with reverse KL.

# %%
cuts = experiments.load("writing_pruned")
near, begun = cuts[cuts["arm"].str.startswith("cut by importance |")], {}
for measure, more in MEASURES.items():
    found = report.verdicts(near, baseline="cut by importance | forward", metric=measure, higher_is_better=more)
    begun[measure] = found["all seeds"]["cut by importance | reverse"]
    print(f"{measure}, cut out of the teacher, reverse KL against forward: {begun[measure]}")
assert [begun[measure] for measure in ("nll", "forward", "quality", "distinct")] == ["hurts", "hurts", "helps", "hurts"]

# %% [markdown]
# Here the promise is kept: reverse KL's student writes less varied text, and the teacher likes it more, by 0.25 nats
# per token. It pays by perplexity, and covers less of what the teacher would say; nearer to the teacher it is not, on
# its own text either. So it took a student that is near, at the start or after longer training.
#
# ## 4. A vocabulary that does not fit
#
# Logits of 2,048 tokens over a vocabulary of 151,936 (Qwen's) in float32: one such tensor is 1.16 GiB. A divergence
# written down plainly holds about eight of them: the logits of both, their log-softmaxes, probabilities, products, and
# gradients. That can fill the memory before the network does.
#
# The way out: logits are a product of hidden states, which are small, with the output matrix. So project a few tokens,
# compare, compute *their* gradient at once, and forget their logits, before the next few come ([fused
# loss](GLOSSARY.md#fused-loss)). Nothing is approximated: only the order of the sums changes.

# %%
lab.show(fused_linear_loss)
lab.show(fused._FusedLinear.forward)

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
held = pd.DataFrame(footprint).pivot(index="words", columns="form", values="MB")
report.table(held, decimals=1, caption="MB held at the peak")

# %%
assert (held["dense"] > 8 * held["fused"]).all()
print("the dense form holds more than eight times as much at every size: yes")

# %% [markdown]
# At 2,048 tokens and 128,000 words it holds about 30 times less than the dense form, and **on a processor** it is
# faster as well, than that form and than Liger Kernel (2024), which made the idea known, and TRL: [the
# benchmarks](../docs/benchmarks.md) have the numbers (`python -m kdref.lab.bench vocabulary`). Both libraries are made
# for GPUs, and Liger Kernel is compiled there. Of how they compare on one, these numbers say nothing; `python -m
# kdref.lab.bench gpu` measures it.
#
# ### Vocabularies that differ within a family
#
# Models of one family share a tokeniser, and yet a large one may have a few columns more. Qwen2.5's smaller models have
# 151,936, its larger ones 152,064, for one tokeniser of some 151,650 words: the rest was added so that the number
# divides by 128, or by 256. Here is such a pair, ten times smaller. What does a loss say, and what do the ways of
# filling up?

# %%
few, many = torch.zeros(1, 15_193), torch.zeros(1, 15_206)
try:
    token_loss(few, many, kind="forward")
except ValueError as error:
    print(error)
many[:, 15_193:] = -3.0  # columns that no text ever used: unlikely, and not impossible
n = few.shape[-1]
for value in (0.0, -torch.inf):
    padded = torch.nn.functional.pad(few, (0, many.shape[-1] - n), value=value)
    print(f"the student filled up with {value}: {token_loss(padded, many, kind='forward').item():.6f} nats")
print(f"both cut to the shared columns: {token_loss(few, many[:, :n], kind='forward').item():.6f} nats")

# %% [markdown]
# On every word that there is these two agree. Filled up with 0, a student is said to speak columns that it hasn't got,
# and has a loss that is about no word; with −∞ that loss is infinite, since the teacher gives them a probability,
# however small. **Cut both sides**: of columns that are no word nothing is to be learned. (Where the student truly
# lacks words, that its teacher uses, −∞ is the truth, and an infinite forward KL says so: it *can't* say them. Then the
# tokenisers differ, and section 6 is what helps.)
#
# ## 5. Teachers in a few numbers
#
# A teacher is asked about the same text again and again, by every student and in every epoch. Its distributions can be
# computed once and stored, and all of them is too much: [Gemma 3](https://arxiv.org/abs/2503.19786) learns from 256
# words of each, drawn from the teacher and made to add up to 1. What should be kept?

# %%
lab.show(sparse_teacher)
lab.show(sampled_teacher)

# %% [markdown]
# - **Top k, made to add up**: the k likeliest words, divided by their sum. It tells the student that nothing else ever
#   comes. The bias is as large as what was cut off, in total variation.
# - **Top k with its tail**: one more number, what all others have together. A loss can then count them as one word
#   (`sparse_teacher_loss` with `tail="bucket"`, in each of the six divergences).
# - **Drawn words**: k draws, weighed so that their mean is the teacher (Anshumann et al. 2025). In one draw the error
#   is large; over many it cancels.
#
# On the teacher's real distributions, of 500 tokens of the test sentences:

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    logits = teacher(tested[:, :-1])[writer.mask(tested)[:, 1:]][:500].double()
p, dice = logits.softmax(-1), torch.Generator().manual_seed(0)
kept = []
for k in (4, 16, 64):
    indices, log_probs, tail = sparse_teacher(logits, k=k)
    made_to_fit = torch.zeros_like(p).scatter(1, indices, log_probs.softmax(-1))
    torch.testing.assert_close((made_to_fit - p).abs().sum(1) / 2, tail.exp())
    mean = torch.zeros_like(p)
    for _ in range(64):
        drawn, log_weights = sampled_teacher(logits, k=k, generator=dice)
        one = torch.zeros_like(p).scatter_add(1, drawn, log_weights.exp())
        mean += one / 64
    off = [(found - p).abs().sum(1).mean().item() / 2 for found in (one, mean)]
    size = sum(part.nbytes for part in pack_sparse(indices, log_probs)) / len(p)
    kept.append([k, size, tail.exp().mean().item(), *off])
kept = pd.DataFrame(kept, columns=["words", "bytes per token", "top k", "drawn, once", "drawn, mean of 64"])
report.table(
    kept.set_index("words"), caption="total variation from the teacher; the whole takes 1,024 bytes in float16"
)

# %%
assert (kept["top k"] < kept["drawn, once"]).all()
assert (kept["drawn, mean of 64"] < kept["drawn, once"] / 3).all()
assert (kept["drawn, mean of 64"] < kept["top k"])[kept["words"] < 64].all()
print("of one draw the top words are nearer to the teacher than drawn ones, at each size: yes")
print("the mean of 64 draws is a third as far as one or less, and for 4 and 16 words nearer than the top words: yes")

# %% [markdown]
# **And the student?** Stored for every training token: the whole row, or eight words in one of the three ways. The
# students are those of section 3, with forward KL; no teacher is called while they learn.

# %% tags=["nbval-ignore-output"]
from_disk = experiments.load("writing_stored")
seeds = from_disk["seed"].nunique()
print(f"{experiments.provenance('writing_stored')['command']} · {len(from_disk)} runs, {seeds} seeds")
columns = ["bytes", "nll", "forward", "reverse", "quality", "distinct"]
by_keeping = from_disk.groupby("arm")[columns].mean().loc[list(writing_stored.ARMS)]
report.table(by_keeping, percent=["distinct"], caption="bytes per token; nats per token; means of 24 seeds")

# %%
told = {}
for measure, more in MEASURES.items():
    found = report.verdicts(from_disk, baseline="whole", metric=measure, higher_is_better=more)
    told[measure] = found["all seeds"]
told = pd.DataFrame(told)
report.table(told, caption="against the whole distribution, 24 seeds: lower is better, but for distinct pairs")
both = pd.concat([from_disk, stored[stored["arm"] == "labels"]])
against = report.verdicts(both, baseline="labels", metric="nll", higher_is_better=False)["all seeds"]
print("nll against labels, without a teacher:", against.to_dict())

# %%
assert (told[["nll", "forward", "reverse"]] == "hurts").all(axis=None)
assert list(by_keeping["nll"].sort_values().index) == [
    "whole",
    "sampled",
    "top k with its tail",
    "top k, made to add up",
]
assert (against[["whole", "sampled"]] == "helps").all()
assert (against[["top k with its tail", "top k, made to add up"]] == "hurts").all()
print("drawn words are worth more than labels alone by perplexity, top words in either form less: yes")
gained = means.loc["labels", "nll"] - by_keeping["nll"]
assert gained["sampled"] > gained["whole"] / 2
careful = by_keeping.loc["top k, made to add up"]
assert careful["distinct"] < 1 / 3
assert careful["quality"] < means.drop(index=writing_divergences.TEACHER)["quality"].min()
assert told.loc["top k, made to add up", ["quality", "distinct"]].to_list() == ["helps", "hurts"]
print("made to add up, the text is more to the teacher's liking, and less varied: yes")

# %% [markdown]
# **Seen.** Eight of 512 words are a twentieth of the bytes, and each way costs. *Drawn words* cost least: right on
# average, they keep more than half of what distributions gained over labels. *The top words*, in either form, are by
# perplexity worse than no teacher; made to add up they are worst. But look at what such a student writes: less than a
# third of its pairs are distinct, and it is more to the teacher's liking than any student of section 3. It has learnt
# the head of every distribution alone, as if the teacher drew at a lower temperature. *The tail's mass* tells how much
# the others get, and not who among them. Of a surer teacher the top words leave out less: this one gives all but its
# sixteen likeliest words a fifth.

# %% [markdown]
# ## 6. Other tokenisers (in depth)
#
# Where teacher and student cut text in different places, there is no row of logits to compare with another. What can be
# done?
#
# - **The teacher's text**, cut again by the student's tokeniser: always possible ([lesson 12](12_reasoning.ipynb)).
# - **ULD** (universal logit distillation, Boizard et al.): sort both distributions, and compare the largest with the
#   largest, the second with the second. It ignores which token is which.
# - **[Likelihood matching](GLOSSARY.md#likelihood-matching)** (ALM, Minixhofer et al. 2025): compare how likely both
#   find the same *piece of text*, between two [borders that both tokenisers have](GLOSSARY.md#alignment-of-spans).
#   Hugging Face's GOLD aligns by the same borders, and then compares whole vocabularies.

# %%
lab.show(universal_logit_loss)
right, wrong = torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([[0.1, 0.2, 0.7]]).log()
teacher_row = torch.tensor([[0.6, 0.3, 0.1]]).log()
for name, row in (("sure of the teacher's word", right), ("sure of another", wrong)):
    print(f"{name}: {universal_logit_loss(row, teacher_row).item():.3f}")

# %% [markdown]
# By hand: |0.7 − 0.6| + |0.2 − 0.3| + |0.1 − 0.1| = 0.2, for both: who is sure of the *wrong* word is told the same. So
# it is never used alone; cross-entropy with the text stands beside it.
#
# Now by borders. A second tokeniser has learnt 640 pieces, from 800 of the sentences. Bytes are counted, since both cut
# between bytes, inside a letter too: Ġ is a space, Ã and ¯ are the two bytes of ï.

# %%
ends = {}
for whose, cutter in (("teacher's", writer.tokeniser()), ("student's", _writing_tokenisers.tokeniser())):
    cut = cutter.encode("The naïve boy is wonderful.").tokens
    ends[whose] = torch.tensor([len(piece) for piece in cut]).cumsum(0)
    print(f"{whose}: {' | '.join(cut)}; ends at bytes {ends[whose].tolist()}")
theirs, ours = ends.values()
span_of_ours, span_of_theirs, is_span = align_spans(ours, theirs)
print("span of each token:", span_of_theirs.tolist(), "and", span_of_ours.tolist())

# %% [markdown]
# A model's log-probability of a span, cut as its tokeniser cuts it, is the sum of its tokens' (the chain rule). A model
# of bytes, read through either tokeniser, says the same of every span. (A model of tokens gives other cuts of the same
# bytes a probability too, which this sum leaves out.)

# %%
of_bytes = torch.randn(int(ours[-1]), generator=torch.Generator().manual_seed(0), dtype=torch.float64).abs().neg()
spans = []
for stop, span in ((theirs, span_of_theirs), (ours, span_of_ours)):
    of_tokens = of_bytes.cumsum(0)[stop - 1].diff(prepend=torch.zeros(1, dtype=torch.float64))
    spans.append(span_log_probs(of_tokens, span, len(is_span)))
torch.testing.assert_close(spans[0], spans[1], rtol=0, atol=1e-12)
print(f"{int(is_span.sum())} spans, of {len(theirs)} and {len(ours)} tokens; said alike through both: yes")
lab.show(likelihood_matching_loss)

# %% [markdown]
# **By hand.** The teacher gives a span ½, the student ¼: "this span, or another text" is (½, ½) against (¼, ¾), and at
# τ = 1 forward KL is ½ log 2 + ½ log ⅔ = 0.144. Long spans are unlikely on both sides, and hardly have a gradient;
# therefore the probabilities are taken to the power 1/τ, with τ = 100 in the authors' configurations.

# %%
half, quarter = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
for temperature in (1.0, 100.0):
    loss = likelihood_matching_loss(quarter, half, temperature=temperature)
    print(f"τ = {temperature:g}: {loss.item():.4f} nats, times τ {temperature * loss.item():.3f}")

# %% [markdown]
# **Measured.** Students with those 640 pieces, and 800 sentences of their own; the teacher had 6,000. Perplexities of
# different tokens can't be compared, so the measure is bits per byte. Beside labels stand sorted probabilities (ULD, at
# the places before each span), with the best of four weights and with weight 1, and likelihood matching; further
# students learn from the teacher's text, cut anew. And two of the same sentences have the *teacher's* pieces, so that
# forward KL is possible.

# %% tags=["nbval-ignore-output"]
apart = experiments.load("writing_tokenisers")
print(f"{experiments.provenance('writing_tokenisers')['command']} · {len(apart)} runs, {apart['seed'].nunique()} seeds")
bits = apart.groupby("arm")[["bits", "learned"]].mean().loc[list(writing_tokenisers.ARMS)]
report.table(bits, caption="bits per byte, of test sentences and of what was learnt from; means of 24 seeds")

# %%
pupils = apart[apart["arm"] != writing_tokenisers.TEACHER]
found = report.verdicts(pupils, baseline="labels", metric="bits", higher_is_better=False)
for arm in found.index:
    print(f"{arm}, against labels: {report.tally(found)[arm]}")
helped = ["likelihood matching", "the teacher's text", "forward, the teacher's pieces"]
assert (found.loc[helped, "all seeds"] == "helps").all()
assert found.loc["sorted probabilities, weight 1", "all seeds"] == "hurts"
assert found.loc["sorted probabilities", "all seeds"] != "helps"
least = min(writing_tokenisers_tuning.WEIGHTS["sorted probabilities"])
assert writing_tokenisers_tuning.chosen("sorted probabilities")[1] == least
print("the best weight of sorted probabilities was the least that was tried:", least)
beside = report.verdicts(pupils, baseline="the teacher's text", metric="bits", higher_is_better=False)["all seeds"]
assert beside["likelihood matching"] == "hurts"
assert beside["forward, the teacher's pieces"] == "helps"
by_seed = apart.pivot(index="seed", columns="arm", values="bits")
median = (by_seed["labels"] - by_seed["likelihood matching"]).median()
assert 1.5 * median < (by_seed["labels"] - by_seed["the teacher's text"]).median() < 2.5 * median
print("the teacher's text helps more than likelihood matching, and forward KL in the teacher's pieces more still: yes")

# %% [markdown]
# **Seen.** Of *sorted probabilities* the least weight was best, 0.01, and even so they were not shown to help; with
# weight 1 they hurt, at a learning rate that was tuned for labels only, near where training breaks (a few students of
# labels partly did): how much they would at a rate of their own is not known. *Likelihood matching* helps, in the
# median seed by 0.05 bits per byte. *The teacher's text* helps twice as much here, where a student has few texts of its
# own: it read 4,800 new ones instead of its 800 six times over. And all of it is little beside what forward KL gives to
# a student with the teacher's pieces, 0.24 against its own labels. So if the student is not trained yet, and you may
# choose: take over the tokeniser.

# %% [markdown]
# ## 7. Prune and distil (in depth)
#
# So far students began with random weights. Minitron (2024) cuts them out of the teacher: measure on some text how
# much every layer, head, neuron and channel hands on, keep the most important, and distil what is left on the
# teacher's logits. Its authors report up to 40 times fewer training tokens for each further model of a family, and up
# to 16 % more in MMLU than from scratch.

# %%
lab.show(pruning.importance)
scores = pruning.importance(teacher, learned[:256])
ways = {"by importance": scores, "at random": pruning.shuffled(scores, seed=BASE_SEED)}
size = {"width": writer.STUDENT["width"], "layers": writer.STUDENT["layers"]}
pruned = {name: pruning.cut(teacher, way, **size) for name, way in ways.items()}
assert {models.count_parameters(model) for model in pruned.values()} == {models.count_parameters(untaught)}
print("both cuts have the student's size: yes")

# %% [markdown]
# Then all learn on with the rows and steps of section 3, each with a rate of its own.

# %% tags=["nbval-ignore-output"]
print(f"{experiments.provenance('writing_pruned')['command']} · {len(cuts)} runs, {cuts['seed'].nunique()} seeds")
by_start = cuts.groupby("arm")[list(MEASURES)].mean().loc[list(writing_pruned.ARMS)]
table = by_start.assign(perplexity=by_start["nll"].map(math.exp)).drop(columns="nll")
report.table(table, percent=["distinct", "self_bleu"], caption="means of 24 seeds, nats per token")

# %%
found = report.verdicts(cuts, baseline="anew | forward", metric="nll", higher_is_better=False)
for arm in ("cut by importance | forward", "cut at random | forward", "cut by importance | labels"):
    print(f"nll, {arm}, against anew | forward: {report.tally(found)[arm]}")
    assert (found.loc[arm] == "helps").all()
kept_on = cuts[cuts["arm"].str.endswith("forward")]
by_chance = lab.compare(kept_on, baseline="cut at random | forward", metric="nll", higher_is_better=False)
important = by_chance.loc["cut by importance | forward"]
print("nll, cut by importance, against cut at random, both distilled:", important["verdict"])
assert important["verdict"] == "helps"
gain = by_chance.loc["anew | forward", "difference"]
assert abs(important["difference"]) < gain / 5
print("by importance or at random matters less than a fifth of what it matters that weights were kept: yes")
nats = by_start["nll"]
assert nats["anew | labels"] - nats["cut by importance | labels"] > nats["anew | labels"] - nats["anew | forward"]
print("with labels, the kept weights are worth more than distributions are to a student begun anew: yes")
untold = by_start.loc[["cut by importance, not taught", "cut at random, not taught"], "nll"]
assert untold.iloc[0] > untold.iloc[1] > by_start.loc["anew | labels", "nll"] + 1

# %% [markdown]
# **Seen.** *Weights that were kept are worth more than distributions*: cut, and trained with labels alone, the student
# has a perplexity of 32; begun anew and distilled it has 38, and cut and distilled 28. *Which* parts are kept matters
# little: the important ones gain 0.03 nats over parts drawn by lot, and before training they are even worse. So here
# it is not the measure that does it, but the start. (Half the width at once is much to cut.)
#
# **In pre-training.** Gemma 2's 2B model, trained on 500 billion tokens with a 7B teacher's distributions in place of
# the next words, reached 67.7 on average of three benchmarks, and 60.3 without ([Table
# 6](https://arxiv.org/abs/2408.00118)). Llama 3.2's 1B and 3B models were [pruned, and then
# taught](https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/MODEL_CARD.md) by the logits of Llama 3.1
# 8B and 70B in pre-training on up to 9 trillion tokens; of 916,000 GPU hours 86,000 went into making the logits. The
# authors of [MobileLLM](https://arxiv.org/abs/2402.14905) found the contrary for models of less than a billion
# parameters: no more accuracy than from labels, for 2.6 to 3.2 times the training time, as they are quoted; we have it
# second-hand.

# %% [markdown]
# ## 8. Exercises
#
# Replace each `...` or `raise`, run the cell, and the check tells you what differs. Solutions are in
# [solutions/19_writing_models.ipynb](solutions/19_writing_models.ipynb).

# %% [markdown] tags=["exercise"]
# **19.1 Recall.** Generalised Jensen-Shannon of two rows of logits, one value per token: β KL(P‖M) + (1 − β) KL(Q‖M)
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
lab.check("19.1", my_jensen_shannon)

# %% [markdown] tags=["exercise"]
# **19.2 Predict.** A teacher's vocabulary has 151,936 words. Of each distribution you store the 50 likeliest, packed as
# `pack_sparse` does it (an int32 index and a float16 logarithm each), and the tail's logarithm in float16. The text has
# ten billion tokens. How many terabytes (10¹² bytes) is that? To three digits.
#
# <details><summary>Hint</summary>Bytes of one token first.</details>

# %% tags=["exercise"]
my_terabytes = ...

# %% tags=["solution"]
my_terabytes = (50 * (4 + 2) + 2) * 1e10 / 1e12

# %% tags=["check"]
lab.check("19.2", my_terabytes)

# %% [markdown] tags=["exercise"]
# **19.3 Find the bug.** Two models of one family, whose words are the same; one side has a few columns more, which no
# text ever uses. The padding is as it was published, around another loss:
#
# ```python
# def published(student_logits, teacher_logits):
#     missing = teacher_logits.shape[-1] - student_logits.shape[-1]
#     student_logits = torch.nn.functional.pad(student_logits, (0, missing))
#     log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
#     return (log_p.exp() * (log_p - log_q)).sum(-1).mean()
# ```
#
# Write what it should have been, for whichever side has more.
#
# <details><summary>Hint</summary>What does `pad` pad with, and what would any other value say?</details>


# %% tags=["exercise"]
def repaired(student_logits, teacher_logits):
    raise NotImplementedError


# %% tags=["solution"]
def repaired(student_logits, teacher_logits):
    shared = min(student_logits.shape[-1], teacher_logits.shape[-1])
    log_q, log_p = (z[..., :shared].log_softmax(-1) for z in (student_logits, teacher_logits))
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


# %% tags=["check"]
lab.check("19.3", repaired)

# %% [markdown] tags=["exercise"]
# **19.4 Design.** Forward KL per token, averaged, from hidden states (N, H) and output matrices (V, H), without ever
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
lab.check("19.4", my_chunked)

# %% [markdown]
# **Going further** (not checked): draw at half the temperature (`decoding.write(..., temperature=0.5)`) from the
# students of section 3: does the difference between them grow? And how small may k get in section 5, before labels are
# better?

# %%
lab.quiz("19")

# %% [markdown]
# ### Of section 6 (in depth)

# %% [markdown] tags=["exercise"]
# **19.5 Build.** What likelihood matching compares: from the log-probabilities (L,) of one model's tokens, the bytes at
# which they end (L,), and those at which the *other* tokeniser's end (M,), the log-probability of every piece of text
# between two borders that both have. Both begin at byte 0 and end with the text.
#
# <details><summary>Hint</summary>`torch.isin` says which of the borders are shared; `cumsum` adds up.</details>


# %% tags=["exercise"]
def my_spans(log_probs, ends, other_ends):
    raise NotImplementedError


# %% tags=["solution"]
def my_spans(log_probs, ends, other_ends):
    totals = log_probs.cumsum(0)[torch.isin(ends, other_ends)]
    return totals.diff(prepend=totals.new_zeros(1))


# %% tags=["check"]
lab.check("19.5", my_spans)

# %% [markdown]
# ## 9. When to use which, and when not
#
# **Forward KL at every place** is where to begin, when the teacher's distributions are at hand: on the same text they
# took the perplexity from 49 to 38. **Reverse KL** for a student that writes already, if text that the teacher likes is
# worth more than variety and perplexity; one with random weights it leads badly at first. **The fused loss** whenever
# the vocabulary is large: it is exact. **Cut both sides** to the shared columns when a family's vocabularies differ.
# **Store drawn words**, where few are kept, not the likeliest, unless careful, narrow text is what you want. **Cut the
# student out of the teacher**, if you may: distilled for 500 steps it comes near to what one begun anew reaches in
# 2,000 (28 and 25).
#
# **When not:** without a student of labels alone beside it, or with a budget that tells nothing: the quality of reverse
# KL's text turned with four times the steps. Top words made to add up, where variety or perplexity counts. ULD: beside
# labels it was not shown to help; the teacher's text helped more than likelihood matching, and [lesson
# 12](12_reasoning.ipynb) is about that.
#
# **Cost:** the teacher's forward pass beside every step of the student's, or once, and its distributions on disk; for
# other tokenisers a table of borders; for pruning a few hundred sentences read.
#
# **Copy it:** `python -m kdref copy language` writes the files of this lesson and of lesson 11 (`alignment.py`,
# `fused.py`, `recipes.py`, `sampled.py`, `sparse.py`, `tokens.py`, `universal.py`), each of which needs only torch;
# `python -m kdref copy fused` writes one of them, and `python -m kdref copy fused_linear_loss` that function and what
# it calls. On a GPU with models of your own: `examples/distill_language_model.py`.
#
# **Further reading:** [Peng et al. 2024](https://arxiv.org/abs/2410.16215), a design space of distillation in
# pre-training; [the Minitron approach in practice](https://arxiv.org/abs/2408.11796), for who hasn't got the teacher's
# training data; [GOLD](https://huggingface.co/docs/trl/gold_trainer), other tokenisers in TRL.
#
# **Next lesson:** [12, reasoning](12_reasoning.ipynb): what does a student learn from nothing but the text that a
# teacher wrote, and from its own?
