"""The exercises and the quiz of lesson 19, writing models."""

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.lab.exercises.lesson_19.answers import (
    CHUNKED_MISTAKES,
    JENSEN_SHANNON_MISTAKES,
    REPAIR_MISTAKES,
    SPAN_MISTAKES,
    STUDENT,
    TEACHER,
    TEXTS,
    WIDER,
    compare_chunked,
    my_chunked,
    my_jensen_shannon,
    my_spans,
    repaired,
)

__all__ = ["EXERCISES", "QUIZ"]

EXERCISES: dict[str, Exercise] = {
    "19.1": Exercise(
        title="Generalised Jensen-Shannon",
        hint="Mix the probabilities, not the logits.",
        further="First M, then two divergences from it, each with the weight that its first argument has in M.",
        differs=calls({"β of one half": (STUDENT, TEACHER, 0.5), "β of a tenth": (STUDENT, TEACHER, 0.1)}),
        solution=my_jensen_shannon,
        mistakes=JENSEN_SHANNON_MISTAKES,
        remark="The shares were swapped in a widely used library for a while; at one half nothing shows it.",
    ),
    "19.2": Exercise(
        title="How large is a stored teacher?",
        hint="Bytes for each token first; a tera is 10 to the power of 12.",
        further="Per token 50 entries with an index and a logarithm each, and one more logarithm for the tail.",
        differs=number(tolerance=0.002),
        solution=(50 * (4 + 2) + 2) * 1e10 / 1e12,
        mistakes={
            "the tail forgotten": (50 * 6 * 1e10 / 1e12, "without its mass a loss can't say what the tail gets."),
            "as PyTorch makes them": ((50 * 12 + 4) * 1e10 / 1e12, "int64 and float32 are twice what is needed."),
            "indices of 16 bits": ((50 * 4 + 2) * 1e10 / 1e12, "16 bits count to 65,536, and there are 151,936 words."),
            "the whole distribution": (151_936 * 2 * 1e10 / 1e12, "that is every word's logarithm. 50 are kept."),
            "in gigabytes": ((50 * 6 + 2) * 1e10 / 1e9, "that is right in gigabytes, and terabytes are asked for."),
            "of one token, in bytes": (50.0 * 6 + 2, "and there are ten billion tokens."),
        },
        remark="The whole distributions in float16 would be 3,039 terabytes, a thousand times as much.",
    ),
    "19.3": Exercise(
        title="Find the bug in a published padding of the vocabulary",
        hint="What does pad pad with, and what would any other value say?",
        further="Which words do both sides have? Compare them on these, and cut before the softmax.",
        differs=calls({"a teacher with two more columns": (STUDENT, WIDER), "a student with them": (WIDER, STUDENT)}),
        solution=repaired,
        mistakes=REPAIR_MISTAKES,
        remark="So says token_divergence's message, too, when the shapes differ.",
    ),
    "19.4": Exercise(
        title="Design: a loss that holds few logits",
        hint="student_hidden.split(chunk); N need not be a multiple of it.",
        further="Loop over `split(chunk)` of both hidden states; project, compare, add up; divide at the end.",
        differs=compare_chunked,
        solution=my_chunked,
        mistakes=CHUNKED_MISTAKES,
        remark="With a gradient, autograd would keep every chunk until the backward pass. `fused_linear_loss` makes "
        "the gradient in the loop, and then forgets the chunk.",
    ),
    "19.5": Exercise(
        title="Log-probabilities of shared spans",
        hint="torch.isin says which of the borders are shared; cumsum adds up.",
        further="The running sum at the shared borders, minus the one at the border before (0 at the start).",
        differs=calls(TEXTS),
        solution=my_spans,
        mistakes=SPAN_MISTAKES,
        remark="Two models that agree on a text agree on every span of it, however each of them cuts it into tokens.",
    ),
}

QUIZ = (
    Question(
        "The teacher finds two words likely, the student can only prefer one. With reverse KL it will",
        {
            "spread over both": "That is forward KL: a word that the teacher finds likely and the student doesn't "
            "costs much.",
            "take the likelier one": "The student pays for what it says and the teacher wouldn't, not for what it "
            "leaves out.",
            "stay undecided between the two": "Between them it says what the teacher never would, and that costs most.",
        },
        right="take the likelier one",
    ),
    Question(
        "What makes `fused_linear_loss` small in memory?",
        {
            "it computes each chunk's gradient at once and forgets its logits": "So no more than a chunk's logits ever "
            "exist, whatever the number of tokens.",
            "it keeps the teacher's likeliest words only": "That is `sparse_teacher`, another way, with a bias where "
            "the tail is dropped.",
            "it works in half precision": "It does so where you ask for it. It would only halve the memory.",
        },
        right="it computes each chunk's gradient at once and forgets its logits",
    ),
    Question(
        "Of each distribution a stored teacher keeps the ten likeliest words, made to add up to 1. What does it tell "
        "the student that is wrong?",
        {
            "nothing, on average": "That is so of words *drawn* from the teacher.",
            "which of the ten is the likelier": "Among the ten the ratios are the teacher's.",
            "that no other word ever comes": "In every epoch the same. It is off by the mass of the tail.",
        },
        right="that no other word ever comes",
    ),
)
