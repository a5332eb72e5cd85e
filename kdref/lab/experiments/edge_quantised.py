"""A network of 8, 4, 3 and 2 bits: rounded after training, or taught while it is rounded; and small ones of its bytes.

On MNIST-1D. Where does the teacher, the network before rounding, help? Lesson: notebooks/14_edge.ipynb.
"""

import functools

from torch import Tensor, nn

from kdref.lab import edge
from kdref.lab.experiments._edge import ANEW, FINE, bits_of, folded, learn, logits, narrow, parts, quantised, right
from kdref.lab.experiments._edge import rounded as after_training
from kdref.lab.experiments.edge_tuning import chosen
from kdref.lab.training.batches import teacher_outputs

WIDTHS = {8: 17, 4: 13, 3: 11, 2: 10}  # bits to the narrowest fp32 network that takes no fewer bytes
LIKE = {8: 4, 4: 4, 3: 2, 2: 2}  # bits to those whose learning rate was tuned
LONGER = 4  # times the steps: is a narrow network only not done yet?
ARMS = (
    "fp32",
    "fp32, more steps | labels",
    "fp32, more steps | teacher",
    *(f"{bits} bits | {how}" for bits in WIDTHS for how in ("after training", "labels", "teacher")),
    *(f"narrow, bytes of {bits} bits | {by}" for bits in WIDTHS for by in ("labels", "teacher")),
    *(f"narrow, bytes of 4 bits, longer | {by}" for by in ("labels", "teacher")),
)


def made(arm: str, seed: int) -> nn.Sequential:
    """The network of an arm."""
    kind, _, how = arm.partition(" | ")
    if kind.startswith("narrow"):
        bits = int(kind.split()[3])
        rate = chosen("17 channels" if WIDTHS[bits] > 12 else "10 channels", how)
        return narrow(seed, WIDTHS[bits], how, rate=rate, steps=LONGER * ANEW if "longer" in kind else ANEW)
    if kind == "fp32":
        return folded(seed)
    if kind.startswith("fp32"):
        model, known = folded(seed), parts()
        said = known.train_y if how == "labels" else logits(seed)
        learn(model, known.train_x, said, seed=100 + seed, steps=FINE, rate=chosen("4 bits", how))
        return model
    bits = int(kind[0])
    if how == "after training":
        return after_training(folded(seed), bits)
    return quantised(seed, bits, how, rate=chosen(f"{LIKE[bits]} bits", how))


def size(arm: str, model: nn.Sequential) -> int:
    """Bytes of the network's values, weights packed."""
    return edge.weight_bytes(edge.fold_batch_norm(model), bits_of(model, int(arm[0])) if arm[0].isdigit() else None)


@functools.lru_cache(maxsize=2)
def choices(seed: int) -> Tensor:
    """The large network's, on the signals to measure on."""
    return teacher_outputs(folded(seed), parts().test_x).argmax(-1)


def run(seed: int, arm: str) -> dict[str, float]:
    model = made(arm, seed)
    same = teacher_outputs(model, parts().test_x).argmax(-1) == choices(seed)
    return {**right(model), "agreement": same.double().mean().item(), "bytes": float(size(arm, model))}
