"""Does the student really copy its teacher? Lesson: notebooks/15_fidelity.ipynb."""

from kdref.fidelity.agreement import error_consistency, top1_agreement, wrong_answer_agreement
from kdref.fidelity.alignment import centered_kernel_alignment
from kdref.fidelity.calibration import expected_calibration_error, fitted_temperature

__all__ = [
    "centered_kernel_alignment",
    "error_consistency",
    "expected_calibration_error",
    "fitted_temperature",
    "top1_agreement",
    "wrong_answer_agreement",
]
