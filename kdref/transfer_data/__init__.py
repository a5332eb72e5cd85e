"""What a student is taught on: examples made of few, or of the teacher. Lesson: notebooks/10_transfer_data.ipynb."""

from kdref.transfer_data.compression import munge
from kdref.transfer_data.data_free import (
    activation_loss,
    batchnorm_statistics_loss,
    information_entropy_loss,
    one_hot_loss,
    total_variation_loss,
    zero_shot_generator_loss,
)

__all__ = [
    "activation_loss",
    "batchnorm_statistics_loss",
    "information_entropy_loss",
    "munge",
    "one_hot_loss",
    "total_variation_loss",
    "zero_shot_generator_loss",
]
