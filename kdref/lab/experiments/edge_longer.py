"""Are the narrow networks of ``edge_quantised`` at 3 and 2 bits only not done yet? Four times the steps, by labels.

Its own arms ask so at 4 bits. Compare by seed. Lesson: notebooks/14_edge.ipynb.
"""

from kdref.lab.experiments._edge import ANEW, narrow, right
from kdref.lab.experiments.edge_quantised import LONGER, WIDTHS
from kdref.lab.experiments.edge_tuning import chosen

BITS = {f"narrow, bytes of {bits} bits, longer | labels": bits for bits in (3, 2)}
ARMS = tuple(BITS)


def run(seed: int, arm: str) -> dict[str, float]:
    rate = chosen("10 channels", "labels")  # that of the shorter runs
    return right(narrow(seed, WIDTHS[BITS[arm]], "labels", rate=rate, steps=LONGER * ANEW))
