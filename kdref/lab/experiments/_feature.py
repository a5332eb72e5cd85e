"""Every loss on features and attention maps of lessons 03 and 04, made ready for MNIST-1D's students.

Lesson: notebooks/03_feature_based.ipynb.
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
from kdref.lab.experiments._inside import (
    BATCH_SIZE,
    TEACHER_SITES,
    Activations,
    Build,
    Built,
    Shapes,
    teacher_activations,
)
from kdref.lab.training.batches import Batches
from kdref.lab.training.fit import fit

STAGES = ("early", "middle", "late")
FACTORS = 16  # half the teacher's channels, as the paper found best


def hint(shapes: Shapes) -> Built:
    regressor = HintRegressor(shapes.student["pooled"], shapes.teacher["pooled"])
    return Built(lambda s, t: hint_loss(regressor(s["pooled"]), t["pooled"]), (regressor,))


def variational(shapes: Shapes) -> Built:
    regressor = VariationalRegressor(shapes.student["pooled"], shapes.teacher["pooled"])
    return Built(lambda s, t: regressor.loss(s["pooled"], t["pooled"]), (regressor,))


def overhaul(shapes: Shapes) -> Built:
    regressor = HintRegressor(shapes.student["before"], shapes.teacher["before"])
    margin = negative_margin(shapes.network.get_submodule(TEACHER_SITES["before"]))
    return Built(lambda s, t: overhaul_loss(regressor(s["before"]), t["before"], margin), (regressor,))


def boundaries(shapes: Shapes) -> Built:
    regressor = HintRegressor(shapes.student["before"], shapes.teacher["before"])
    return Built(lambda s, t: activation_boundary_loss(regressor(s["before"]), t["before"]), (regressor,))


def factors(shapes: Shapes) -> Built:
    paraphraser = Paraphraser(shapes.teacher["late"], FACTORS)
    maps = teacher_activations(shapes.seed, shapes.validation)["late"]

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"loss": paraphraser.reconstruction_loss(batch[0])}

    batches = Batches(maps, batch_size=BATCH_SIZE, seed=shapes.seed)
    optimizer = torch.optim.AdamW(paraphraser.parameters(), lr=1e-2, fused=True)
    fit(step, paraphraser, batches, optimizer, epochs=20, progress=False)
    paraphraser.eval().requires_grad_(False)
    translator = Translator(shapes.student["late"], FACTORS)
    return Built(lambda s, t: factor_transfer_loss(translator(s["late"]), paraphraser(t["late"])), (translator,))


def flow(shapes: Shapes) -> Built:
    widen = nn.ModuleList([HintRegressor(shapes.student[site], shapes.teacher[site]) for site in STAGES[1:]])

    def term(s: Activations, t: Activations) -> Tensor:
        own = [regressor(s[site]) for regressor, site in zip(widen, STAGES[1:], strict=True)]
        # a flow matrix needs both layers at one size: the earlier one is averaged in pairs
        theirs = (t["middle"], t["late"])
        pairs = [(F.adaptive_avg_pool1d(a, b.shape[-1]), b) for a, b in (own, theirs)]
        return fsp_loss(*pairs)

    return Built(term, (widen,))


def selectivity(shapes: Shapes) -> Built:
    return Built(lambda s, t: neuron_selectivity_loss(s["late"], t["late"]))


def review(shapes: Shapes) -> Built:
    fusion = ReviewFusion([shapes.student[s] for s in STAGES], [shapes.teacher[s] for s in STAGES], mid_channels=16)

    def term(s: Activations, t: Activations) -> Tensor:
        guesses = fusion([s[site] for site in STAGES])
        losses = [hierarchical_context_loss(guess, t[site]) for guess, site in zip(guesses, STAGES, strict=True)]
        return torch.stack(losses).sum()

    return Built(term, (fusion,))


def reused(shapes: Shapes) -> Built:
    width = shapes.teacher["pooled"]
    projector = nn.Sequential(nn.Linear(shapes.student["pooled"], width), nn.ReLU(), nn.Linear(width, width))
    head = ReusedClassifier(projector, shapes.network.get_submodule("classifier"))
    return Built(lambda s, t: hint_loss(head.project(s["pooled"]), t["pooled"]), head=head)


def attention(shapes: Shapes) -> Built:
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
