"""Networks: small ones by name here; transformers, the sentence encoder and trained checkpoints in their modules."""

from kdref.lab.models.small import NAMES, cnn1d, cnn2d, count_parameters, make, mlp, table

__all__ = ["NAMES", "cnn1d", "cnn2d", "count_parameters", "make", "mlp", "table"]
