"""The exercises and the quiz of lesson 12, reasoning."""

import torch

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.lab.exercises.lesson_12.answers import (
    CONTEXT_MISTAKES,
    LOG_PROB_MISTAKES,
    LOGITS,
    MASK,
    RAW,
    REPAIR_MISTAKES,
    ROUND_MISTAKES,
    TOKENS,
    TOOL_MISTAKES,
    compare_contexts,
    compare_gradients,
    my_context_loss,
    my_log_prob,
    my_loss,
    my_round,
    repaired,
)

__all__ = ["EXERCISES", "QUIZ"]

EXERCISES: dict[str, Exercise] = {
    "12.1": Exercise(
        title="How likely is a sequence?",
        hint="First log_softmax, and then gather.",
        further="log_softmax, then gather the tokens that were written, then the mask.",
        differs=calls({"a short and a long sequence": (LOGITS, TOKENS, MASK)}),
        solution=my_log_prob,
        mistakes=LOG_PROB_MISTAKES,
        remark="Differences of two models' values are what every method of this lesson is made of.",
    ),
    "12.2": Exercise(
        title="How many problems are left?",
        hint="When is a problem lost?",
        further="A problem is lost if all of its samples are wrong.",
        differs=number(tolerance=0.01),
        solution=1 - 0.7**4,
        mistakes={
            "the share of right samples": (0.3, "that is one sample's chance. There are four."),
            "four times one sample's chance": (1.0, "chances of getting at least one right don't add up."),
            "the share that is lost": (0.7**4, "the question is what is left."),
            "all four right": (0.3**4, "one right sample is enough."),
        },
        remark="With eight samples it would be 94 %: the harder the problem, the more samples it needs.",
    ),
    "12.3": Exercise(
        title="Find the bug in a published on-policy loss",
        hint="What does its gradient look like if you write log q - log p as two terms?",
        differs=compare_gradients,
        solution=repaired,
        mistakes=REPAIR_MISTAKES,
        remark="The value is right in both versions, so a curve of the loss would not have shown it.",
    ),
    "12.4": Exercise(
        title="The loss of TRL's trainer",
        hint="The logits at the prompt's last place are those of the first written token.",
        further="Cut logits[:, start - 1 : -1] from both models; then token_loss with the kind that β says.",
        differs=calls({f"β = {beta:g}": (*RAW, start, beta) for beta, start in ((1.0, 2), (0.0, 2), (0.25, 3))}),
        solution=my_loss,
        mistakes=TOOL_MISTAKES,
        remark="That is the loss of DistillationTrainer, but for padding: give a mask for what follows the end.",
    ),
    "12.5": Exercise(
        title="Design: prove that speculative decoding is exact",
        hint="Drafted with q, accepted with min(1, p/q). How likely is a rejection?",
        further="Drafted with probability q, accepted with min(1, p/q). What is the product?",
        differs=calls(
            {
                "three tokens": (torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.3, 0.5])),
                "a token that the student never drafts": (
                    torch.tensor([0.75, 0.25, 0.0]),
                    torch.tensor([0.25, 0.25, 0.5]),
                ),
            }
        ),
        solution=my_round,
        mistakes=ROUND_MISTAKES,
        remark="The two rows add up to the teacher's p, whatever q is: that is the whole proof.",
    ),
    "12.6": Exercise(
        title="A prompt moved into the weights",
        hint="How many places from the end does the first written token's judgement stand, in either tensor?",
        further="Cut logits[:, -count - 1 : -1] from both. The teacher is a constant.",
        differs=compare_contexts,
        solution=my_context_loss,
        mistakes=CONTEXT_MISTAKES,
        remark='With the student\'s own text and kind="reverse" it is the on-policy way; nothing else changes.',
    ),
}

QUIZ = (
    Question(
        "The distilled DeepSeek-R1 models were trained by",
        {
            "fine-tuning on text that the teacher wrote": "About 800,000 samples, and no logits: sequence-level "
            "distillation, as of 2016.",
            "matching the teacher's logits at every token": "The students have another vocabulary than the teacher.",
            "reinforcement learning from the teacher's scores": "The paper left reinforcement learning of the students "
            "to others, and says so.",
        },
        right="fine-tuning on text that the teacher wrote",
    ),
    Question(
        "Your on-policy loss is the mean of log q - log p of the student's own tokens, differentiated as it stands. "
        "What does it train?",
        {
            "Nothing, on average": "The expected gradient is zero. Only noise is left.",
            "The reverse divergence": "That is its value. The gradient forgets that the tokens depend on the student.",
            "The forward divergence": "For that the tokens would have to come from the teacher.",
        },
        right="Nothing, on average",
    ),
    Question(
        "A better draft model makes speculative decoding",
        {
            "faster, with the same text": "The law of the text is the teacher's whatever is drafted.",
            "better, with the same speed": "What comes out is drawn from the teacher either way.",
            "faster and better": "Faster, yes. The text is the teacher's, and no better.",
        },
        right="faster, with the same text",
    ),
)
