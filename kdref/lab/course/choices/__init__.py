"""Which method when: the lessons' verdicts as one table, which lesson 18 prints and its chooser searches.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

from kdref.lab.course.choices.evidence import Evidence, compared, sentence
from kdref.lab.course.choices.for_classes import FOR_CLASSES
from kdref.lab.course.choices.for_limits import FOR_LIMITS
from kdref.lab.course.choices.for_teachers import FOR_TEACHERS
from kdref.lab.course.choices.for_the_rest import FOR_HARMS, FOR_OTHER_OUTPUTS
from kdref.lab.course.choices.table import (
    KINDS,
    QUESTIONS,
    Choice,
    case_of,
    command,
    conditions,
    fitting,
    rows,
    said,
)

__all__ = [
    "CHOICES",
    "FOR_CLASSES",
    "FOR_HARMS",
    "FOR_LIMITS",
    "FOR_OTHER_OUTPUTS",
    "FOR_TEACHERS",
    "KINDS",
    "QUESTIONS",
    "Choice",
    "Evidence",
    "case_of",
    "command",
    "compared",
    "conditions",
    "fitting",
    "rows",
    "said",
    "sentence",
]

CHOICES: tuple[Choice, ...] = (*FOR_CLASSES, *FOR_TEACHERS, *FOR_LIMITS, *FOR_OTHER_OUTPUTS, *FOR_HARMS)
