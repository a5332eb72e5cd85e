"""The quiz: what it says, and that the right answer is not always first."""

import importlib
import pkgutil

from kdref.lab import exercises
from kdref.lab.course.check import quiz
from kdref.lab.exercises.lesson_01 import QUIZ


def test_quiz_says_right_and_not_quite_and_why() -> None:
    panel = quiz("01")
    boxes = panel.children[1:]
    assert len(boxes) == len(QUIZ) == 3
    for box, question in zip(boxes, QUIZ, strict=True):
        text, choices, feedback = box.children
        assert question.text in text.value.replace("&#x27;", "'")
        assert choices.value is None
        assert feedback.value == ""
        for option, why in question.options.items():
            choices.value = option
            said = feedback.value.replace("&#x27;", "'")
            assert said == f"<b>{'Right.' if option == question.right else 'Not quite.'}</b> {why}"


def test_quiz_can_be_read_without_a_kernel_but_not_its_answers() -> None:
    text = quiz("01")._repr_mimebundle_()[0]["text/plain"]
    for number, question in enumerate(QUIZ, 1):
        assert f"{number}. {question.text}" in text
        assert all(f"( ) {option}" in text for option in question.options)
        assert not any(why in text for why in question.options.values())


def test_the_right_answer_is_not_always_in_the_same_place() -> None:
    places = []
    lessons = sorted(name.name for name in pkgutil.iter_modules(exercises.__path__) if name.name.startswith("lesson_"))
    for lesson in lessons:
        questions = importlib.import_module(f"kdref.lab.exercises.{lesson}").QUIZ
        for box, question in zip(quiz(lesson.removeprefix("lesson_")).children[1:], questions, strict=True):
            places.append(box.children[1].options.index(question.right))
    assert max(places.count(place) for place in range(3)) < len(places) / 2


def test_quiz_feedback_goes_when_the_choice_goes() -> None:
    _, choices, feedback = quiz("01").children[1].children
    choices.value = QUIZ[0].right
    choices.value = None
    assert feedback.value == ""
