"""DistilBERT's recipe on film reviews: half a real encoder's layers, with and without teacher, and without each term.

Learning rates were chosen by ``distilbert_tuning`` before these runs. One teacher for all seeds, as DistilBERT had one
BERT: intervals are those of students. The arms "teacher" and "word counts" are the same in every seed.
Lesson: notebooks/11_language_models.ipynb.
"""

import torch
from torch import Tensor, nn

from kdref.lab.data.sentences import KINDS, snippets
from kdref.lab.experiments._language import STUDENTS, numbered, taught, teacher
from kdref.lab.experiments.language_distilbert_tuning import chosen
from kdref.lab.models.sentence_encoder import SentenceClassifier, outputs, prune_vocabulary
from kdref.lab.training.measure import measure

SEEDS = (0, 1, 2, 3, 4)
ARMS = ("teacher", "word counts", *STUDENTS)
PRUNED = ("labels only", "triple loss")  # whose vocabulary is cut afterwards
SEEN = (1, 3, 10)  # word pieces that the training sentences hold at least so often are kept
STRENGTHS = (0.3, 1.0, 3.0, 10.0)  # of the logistic regression; the validation sentences choose


def run(seed: int, arm: str) -> dict[str, float]:
    if arm == "teacher":
        return judged(teacher()["test"].logits)
    if arm == "word counts":
        return judged(word_counts())
    model, seconds = taught(seed, STUDENTS[arm], learning_rate=chosen(arm))
    logits = outputs(model, numbered()["test"][0]).logits
    result = judged(logits) | {"seconds": seconds, "learning_rate": chosen(arm)}
    return result | (pruned(model, logits) if arm in PRUNED else {})


def judged(logits: Tensor) -> dict[str, float]:
    """What the test sentences say of these logits: all of them, and the kinds of sentences one by one."""
    test, said = snippets().test, teacher()["test"].logits
    result = measure(nn.Identity(), logits, test.y, teacher_logits=said)
    del result["parameters"]
    right = (logits.argmax(dim=-1) == test.y).double()
    agree = (logits.argmax(dim=-1) == said.argmax(dim=-1)).double()
    for kind in KINDS:
        rows = test.of(kind)
        result |= {f"accuracy_{kind}": right[rows].mean().item(), f"agreement_{kind}": agree[rows].mean().item()}
    return result


def pruned(model: SentenceClassifier, logits: Tensor) -> dict[str, float]:
    """Accuracy, and word pieces left, when rare ones are read as the unknown word; nothing is trained anew."""
    (ids, _), (test_ids, y) = numbered()["train"], numbered()["test"]
    counts = torch.bincount(ids.flatten(), minlength=int(test_ids.max()) + 1)
    result = {}
    for least in SEEN:
        kept = counts >= least
        prune_vocabulary(model, kept.nonzero())
        rows = (~kept[test_ids]).any(dim=1)  # only these sentences are read otherwise than before
        after = logits.clone()
        after[rows] = outputs(model, test_ids[rows]).logits
        result[f"accuracy_seen_{least}"] = (after.argmax(dim=-1) == y).double().mean().item()
        result[f"pieces_seen_{least}"] = float(len(model.encoder.get_parameter("embeddings.word_embeddings.weight")))
    return result


def word_counts() -> Tensor:
    """Logits of a logistic regression on weighted counts of words and pairs of words (TF-IDF)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    known = snippets()
    counts = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    train = counts.fit_transform(known.train.texts)
    validation, test = counts.transform(known.validation.texts), counts.transform(known.test.texts)
    models = [LogisticRegression(C=strength, max_iter=1000).fit(train, known.train.y.numpy()) for strength in STRENGTHS]
    best = max(models, key=lambda model: float(model.score(validation, known.validation.y.numpy())))
    margin = torch.from_numpy(best.decision_function(test)).float()
    return torch.stack([torch.zeros_like(margin), margin], dim=1)
