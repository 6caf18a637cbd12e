"""An accelerator for one test: the library keeps its settings for the whole process, so they are put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.state import AcceleratorState


@contextmanager
def accelerator(precision: str = "no", *, cpu: bool = True) -> Iterator[Accelerator]:
    """Gives an accelerator with this precision ("no" or "bf16"); usable inside only."""
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        yield Accelerator(mixed_precision=precision, cpu=cpu)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
