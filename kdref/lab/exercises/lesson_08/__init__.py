"""The exercises and the quiz of lesson 08, self-distillation and online distillation."""

import torch

from kdref.lab.course.questions import Exercise, Question
from kdref.lab.exercises import calls, number
from kdref.lab.exercises.lesson_08.answers import (
    AVERAGE_MISTAKES,
    DETECTOR_MISTAKES,
    PEER_MISTAKES,
    ROUND_MISTAKES,
    my_detector,
    my_peer_losses,
    my_round,
    repaired,
)

__all__ = ["EXERCISES", "QUIZ"]

_FEATURES = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
_GRAM = _FEATURES @ _FEATURES.T
_TARGETS = torch.tensor([[1.0], [2.0], [-1.0]])
_PEERS = torch.tensor([[[2.0, 0.0, -1.0]], [[0.0, 1.0, 0.0]], [[-1.0, 0.0, 3.0]]])
_OUTPUTS = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 5.0]])

EXERCISES: dict[str, Exercise] = {
    "08.1": Exercise(
        title="One round of ridge regression",
        hint="torch.linalg.solve, and the fitted values are not the weights.",
        further="torch.linalg.solve(A, B) gives A⁻¹ B. torch.eye(N) is I.",
        differs=calls(
            {
                "three examples": (_GRAM, _TARGETS, 0.5),
                "a large penalty": (_GRAM, _TARGETS, 10.0),
            }
        ),
        solution=my_round,
        mistakes=ROUND_MISTAKES,
        remark="Call it on its own result, and you have self-distillation.",
    ),
    "08.2": Exercise(
        title="Predict what is left after three rounds",
        hint="What does one round multiply by?",
        further="Along an eigenvector a round multiplies by λ / (λ + c).",
        differs=number(tolerance=0.01),
        solution=(3 / 4) ** 3,
        mistakes={
            "one round": (3 / 4, "that is one round. It is applied three times."),
            "what is lost for what is left": (1 - (3 / 4) ** 3, "the question is what is left."),
            "the penalty's share": ((1 / 4) ** 3, "c / (λ + c) is what a round takes away, not what it keeps."),
            "a sum": (3 / (3 + 3), "three rounds with c are not one round with 3c: shares multiply."),
        },
        remark="No single penalty does this to all eigenvalues: three rounds cut the small ones harder.",
    ),
    "08.3": Exercise(
        title="Everyone's loss among K peers",
        hint="A loop over k and l with l ≠ k is fine. F.kl_div(log_q, log_p, log_target=True) is KL(p ‖ q), "
        "before the sum over classes.",
        further="Log-probabilities (K, B, C). For each k, average KL(p_l ‖ p_k) over the other l, and over examples.",
        differs=calls(
            {
                "three peers, one example": (_PEERS,),
                "two peers, two examples": (torch.cat([_PEERS[:2], _PEERS[1:]], dim=1),),
            }
        ),
        solution=my_peer_losses,
        mistakes=PEER_MISTAKES,
        remark="In training, each peer's term must see the others as constants: detach them.",
    ),
    "08.4": Exercise(
        title="Find the bug in a published average",
        hint="Two numbers meet in the min. One of them is right.",
        further="Write the decay at step 0, at step 10 and at step 5000. What should it be?",
        differs=calls(
            {
                "step 0": (torch.tensor([0.0, 4.0]), torch.tensor([1.0, 2.0]), 0),
                "step 3": (torch.tensor([0.0, 4.0]), torch.tensor([1.0, 2.0]), 3),
                "step 5000": (torch.tensor([0.0, 4000.0]), torch.tensor([1000.0, 2000.0]), 5000),
            }
        ),
        solution=repaired,
        mistakes=AVERAGE_MISTAKES,
        remark="As published, the teacher was the student of this step: two equal nets, and no consistency to learn.",
    ),
    "08.5": Exercise(
        title="Design: one number that sees both collapses",
        hint="At the uniform collapse both entropies are log C. At the other both are 0.",
        further="Two entropies: of each example's probabilities, and of their mean over examples.",
        differs=calls(
            {
                "four examples": (_OUTPUTS,),
                "one output for all": (_OUTPUTS[:1].expand(4, 3).clone(),),
                "the uniform distribution": (torch.zeros(4, 3),),
                "sure and different": (40 * torch.eye(3),),
            }
        ),
        solution=my_detector,
        mistakes=DETECTOR_MISTAKES,
        remark="It is the mutual information of output and example: kdref.output_information.",
    ),
}

QUIZ = (
    Question(
        "Your ridge penalty is tuned: the error is at its least. What does a round of self-distillation do?",
        {
            "It shrinks further, and mostly harms": "A round is more regularisation. It helps where there was too "
            "little of it.",
            "It helps again, as the first round did": "There is no new information in the targets: only shrinkage.",
            "Nothing, a fit to its own values is perfect": "The penalty acts again, and pulls the fit towards zero.",
        },
        right="It shrinks further, and mostly harms",
    ),
    Question(
        "Two peers start with equal weights, see the same batches and update at the same time. Their mutual loss?",
        {
            "Exactly 0, from the first step to the last": "Equal nets get equal gradients and stay equal. Give them "
            "different first weights.",
            "Small at first, then larger as they specialise": "Nothing breaks the tie: each step is the same.",
            "Large: they have learned nothing yet": "A divergence compares the two, and not with the labels.",
        },
        right="Exactly 0, from the first step to the last",
    ),
    Question(
        "An EMA teacher without labels: the loss has fallen to almost 0 after fifty steps. What now?",
        {
            "Look whether outputs still differ between examples": "One output for all of them has this loss too.",
            "Stop: it has converged": "A constant answer has converged as well.",
            "Raise the learning rate, it is too easy": "It is easy because the task may have been dodged.",
        },
        right="Look whether outputs still differ between examples",
    ),
)
