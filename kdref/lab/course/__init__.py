"""The course itself: the learner's copies of the lessons, exercises and code shown, the builder of notebooks."""

from kdref.lab.course.server import start
from kdref.lab.course.workspace import Lesson, lesson_table, lessons, make_copies, reset, reset_all, work_folder

__all__ = ["Lesson", "lesson_table", "lessons", "make_copies", "reset", "reset_all", "start", "work_folder"]
