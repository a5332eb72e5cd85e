"""kdref: knowledge distillation, one short tested function per method, and the course that teaches them.

``import kdref`` imports nothing heavy. Take a method from its topic, ``from kdref.relation import rkd_distance_loss``,
or by its name alone, ``kdref.rkd_distance_loss``: topics are imported when they are first asked for.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

__all__ = ["__version__"]

__version__ = "0.1.0"

_TOPICS = sorted(module.name for module in iter_modules(__path__) if module.name not in ("__main__", "lab"))


def __getattr__(name: str) -> Any:
    if name in _TOPICS:
        return import_module(f"kdref.{name}")
    if not name.startswith("_"):  # what tools look for in any module is no reason to import PyTorch
        for topic in _TOPICS:
            module = import_module(f"kdref.{topic}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'kdref' has no attribute {name!r}")


def __dir__() -> list[str]:
    names = [name for topic in _TOPICS for name in import_module(f"kdref.{topic}").__all__]
    return sorted([*globals(), *_TOPICS, *names])
