"""Long experiments, run by a command and stored with what made them: ``python -m kdref.lab.experiments NAME``.

An experiment is a module here with ``ARMS`` and ``run(seed, arm) -> dict[str, float]``. Lessons load the stored runs
and recompute a slice. Lesson: notebooks/01_soft_targets.ipynb.
"""

from kdref.lab.experiments.store import load, provenance

__all__ = ["load", "provenance"]
