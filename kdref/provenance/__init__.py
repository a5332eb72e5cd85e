"""Whose knowledge is it? Lesson: notebooks/16_provenance.ipynb."""

from kdref.provenance.nasty import nasty_teacher_loss
from kdref.provenance.watermark import green_list, watermark_logits, watermark_p_value

__all__ = [
    "green_list",
    "nasty_teacher_loss",
    "watermark_logits",
    "watermark_p_value",
]
