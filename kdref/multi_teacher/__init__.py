"""Several teachers: averages, weights, and votes of triplets. Lesson: notebooks/06_multi_teacher.ipynb."""

from kdref.multi_teacher.averages import average_logits, average_probabilities, disagreement, multi_teacher_loss
from kdref.multi_teacher.triplets import triplet_dissimilarity_loss
from kdref.multi_teacher.weights import confidence_weights, entropy_weights

__all__ = [
    "average_logits",
    "average_probabilities",
    "confidence_weights",
    "disagreement",
    "entropy_weights",
    "multi_teacher_loss",
    "triplet_dissimilarity_loss",
]
