"""Every test process: one thread, no progress bars, the base seed 0, and examples drawn the same way each time.

The network is cut by pytest's options in pyproject.toml: only this computer can be connected to.
"""

import os

import hypothesis
import pytest
import torch

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", KDREF_PROGRESS="off", KDREF_JOBS="1")
for _variable in ("KDREF_SEED", "KDREF_DATA"):
    os.environ.pop(_variable, None)
torch.set_num_threads(1)
# why an example fails takes longer to find out than that it does: most of the museum's time
WITHOUT_EXPLAIN = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain]
hypothesis.settings.register_profile(
    "kdref",
    derandomize=True,
    deadline=None,
    max_examples=30,
    report_multiple_bugs=False,
    database=None,
    phases=WITHOUT_EXPLAIN,
)
hypothesis.settings.load_profile("kdref")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The museum, one long file, comes right after the notebooks: at the end one worker of two would wait for it."""
    items.sort(key=lambda item: item.path.suffix != ".ipynb" and item.path.name != "test_museum.py")
