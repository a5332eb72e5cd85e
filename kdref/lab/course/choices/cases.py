"""Seven cases to choose for, in words and as answers of the chooser; and what may be chosen.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

__all__ = ["ADVICE", "CASES"]

ADVICE = {  # what may be chosen, and the name under which the table recommends it
    "soft targets": "distillation_loss",
    "relations": "relation",
    "checked text": "rejection_sample",
    "text as it comes": "sequence_level_loss",
    "generated inputs": "data_free",
    "noise": "soft_target_loss",
    "first choices": "hard_label_loss",
    "label smoothing": "label_smoothing_loss",
    "labels alone": "",
}

CASES: dict[str, tuple[str, dict[str, str]]] = {
    "A": (
        "20,000 labelled photographs, a large network's logits for each; the small one learns its labels by heart, and "
        "a night is there to train it",
        {},
    ),
    "B": (
        "a picture search: a colleague's network gives embeddings and no class, and nothing is labelled",
        {"task": "embeddings", "gives": "embeddings only", "labels": "none", "inputs": "many"},
    ),
    "C": (
        "a service solves puzzles in writing and shows nothing but its text; a program can check a solution",
        {"task": "text", "gives": "answers or text only"},
    ),
    "D": (
        "a trained network for ten classes lies open, with BatchNorm; every image was deleted",
        {"inputs": "no data at all", "labels": "none"},
    ),
    "E": ("no teacher anywhere, and a network that learns its right labels by heart", {"teachers": "none"}),
    "F": (
        "a good teacher's logits, and a chip that holds sixteen units, which can't fit the labels",
        {"student": "is too small for them"},
    ),
    "G": (
        "the laboratory has a better sensor than the product, few people were labelled, and hours of unlabelled pairs "
        "are there",
        {"sensor": "a better one", "labels": "few", "inputs": "many"},
    ),
}
