"""What torchao says when it is imported, hidden, and nothing else.

Installed, it is imported by transformers too: without this every lesson with an encoder would print it. Lesson:
notebooks/14_edge.ipynb.
"""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_torchao"]

_LOGGED = re.compile(r"is an Enum subclass and is now natively supported")
_WARNED = r"(invalid escape sequence|.*is an invalid escape)"  # a DeprecationWarning, from Python 3.12 a SyntaxWarning


@contextmanager
def quiet_torchao() -> Iterator[None]:
    """Hide two remarks of torchao 0.18 to its own authors, on how it registers constants and writes a docstring."""

    def keep(record: logging.LogRecord) -> bool:
        return not _LOGGED.search(record.getMessage())

    log = logging.getLogger("torch.utils._pytree")
    log.addFilter(keep)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, SyntaxWarning):
                warnings.filterwarnings("ignore", _WARNED, category)
            yield
    finally:
        log.removeFilter(keep)
