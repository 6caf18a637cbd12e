"""transformers without its report of what was loaded and its progress bars: ``with quiet(): …``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, nothing is said about what is loaded: a new task head is what is wanted here."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the bar of a GGUF file asks nobody
            yield
    finally:
        transformers.logging.set_verbosity(level)
