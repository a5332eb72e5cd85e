"""Every loss on features and attention maps of lessons 03 and 04, made ready for the students of ``_choose``.

Lesson: notebooks/18_choose_your_method.ipynb.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.attention import attention_transfer_loss
from kdref.feature import (
    HintRegressor,
    Paraphraser,
    ReusedClassifier,
    ReviewFusion,
    Translator,
    VariationalRegressor,
    activation_boundary_loss,
    factor_transfer_loss,
    fsp_loss,
    hierarchical_context_loss,
    hint_loss,
    negative_margin,
    neuron_selectivity_loss,
    overhaul_loss,
)
from kdref.lab.experiments._choose import SITES, Activations, Build, Built, Meeting
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit

STAGES = ("early", "middle", "late")
POOLS = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d}  # by number of axes in space
FACTORS = 16  # half the teacher's channels, as the paper found best


def hint(meeting: Meeting) -> Built:
    regressor = HintRegressor(meeting.student["pooled"], meeting.teacher["pooled"])
    return Built(lambda s, t: hint_loss(regressor(s["pooled"]), t["pooled"]), (regressor,))


def variational(meeting: Meeting) -> Built:
    regressor = VariationalRegressor(meeting.student["pooled"], meeting.teacher["pooled"])
    return Built(lambda s, t: regressor.loss(s["pooled"], t["pooled"]), (regressor,))


def overhaul(meeting: Meeting) -> Built:
    regressor = HintRegressor(meeting.student["before"], meeting.teacher["before"])
    margin = negative_margin(meeting.known.teacher.get_submodule(SITES["before"]))
    return Built(lambda s, t: overhaul_loss(regressor(s["before"]), t["before"], margin), (regressor,))


def boundaries(meeting: Meeting) -> Built:
    regressor = HintRegressor(meeting.student["before"], meeting.teacher["before"])
    return Built(lambda s, t: activation_boundary_loss(regressor(s["before"]), t["before"]), (regressor,))


def factors(meeting: Meeting) -> Built:
    paraphraser = Paraphraser(meeting.teacher["late"], FACTORS)
    maps = meeting.known.activations["late"]

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": paraphraser.reconstruction_loss(batch[0])}

    batches = Batches(maps, batch_size=50, seed=meeting.seed)
    optimizer = torch.optim.AdamW(paraphraser.parameters(), lr=1e-2, fused=True)
    fit(step, paraphraser, batches, optimizer, epochs=20, progress=False)
    paraphraser.eval().requires_grad_(False)
    translator = Translator(meeting.student["late"], FACTORS)
    return Built(lambda s, t: factor_transfer_loss(translator(s["late"]), paraphraser(t["late"])), (translator,))


def flow(meeting: Meeting) -> Built:
    widen = nn.ModuleList([HintRegressor(meeting.student[site], meeting.teacher[site]) for site in STAGES[1:]])

    def term(s: Activations, t: Activations) -> Tensor:
        own = [regressor(s[site]) for regressor, site in zip(widen, STAGES[1:], strict=True)]
        # a flow matrix needs both layers at one size: the earlier one is averaged in pairs
        theirs = (t["middle"], t["late"])
        pairs = [(POOLS[b.dim() - 2](a, b.shape[2:]), b) for a, b in (own, theirs)]  # type: ignore[arg-type]  # as many sizes as axes
        return fsp_loss(*pairs)

    return Built(term, (widen,))


def selectivity(meeting: Meeting) -> Built:
    return Built(lambda s, t: neuron_selectivity_loss(s["late"], t["late"]))


def review(meeting: Meeting) -> Built:
    fusion = ReviewFusion([meeting.student[s] for s in STAGES], [meeting.teacher[s] for s in STAGES], mid_channels=16)

    def term(s: Activations, t: Activations) -> Tensor:
        guesses = fusion([s[site] for site in STAGES])
        losses = [hierarchical_context_loss(guess, t[site]) for guess, site in zip(guesses, STAGES, strict=True)]
        return torch.stack(losses).sum()

    return Built(term, (fusion,))


def reused(meeting: Meeting) -> Built:
    width = meeting.teacher["pooled"]
    projector = nn.Sequential(nn.Linear(meeting.student["pooled"], width), nn.ReLU(), nn.Linear(width, width))
    head = ReusedClassifier(projector, meeting.known.teacher.get_submodule("classifier"))
    return Built(lambda s, t: hint_loss(head.project(s["pooled"]), t["pooled"]), head=head)


def attention(meeting: Meeting) -> Built:
    return Built(lambda s, t: torch.stack([attention_transfer_loss(s[site], t[site]) for site in STAGES]).sum())


METHODS: dict[str, Build] = {
    "hint (FitNets)": hint,
    "variational (VID)": variational,
    "overhaul (OFD)": overhaul,
    "boundaries (AB)": boundaries,
    "factors (FT)": factors,
    "flow (FSP)": flow,
    "selectivity (NST)": selectivity,
    "review (ReviewKD)": review,
    "reused classifier (SimKD)": reused,
    "attention (AT)": attention,
}
WITHOUT_MAPS = ("hint (FitNets)", "variational (VID)", "reused classifier (SimKD)")  # a perceptron has no maps
