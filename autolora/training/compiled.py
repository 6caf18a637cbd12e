"""A model's training passes by torch.compile; all its other passes stay as they are.

    passes = CompiledPasses(model)
    with passes():
        loss = task.loss(model, batch)      # compiled
    task.loss(model, batch)                 # not

Compiled code knows nothing of hooks that were put on a layer later, as measuring gates does, and cannot be
differentiated twice; so it is there only inside. Dropout draws from torch's own generator, as without.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn


class CompiledPasses:
    """Compiles at the first pass, which takes a minute or so; later shapes are dynamic.

    Args:
        model: Adapted; it stays the same object.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model
        before = self.model._compiled_call_impl
        model.compile(dynamic=True, options={"fallback_random": True})
        self.compiled = self.model._compiled_call_impl
        self.model._compiled_call_impl = before

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, a call of the model is compiled."""
        before = self.model._compiled_call_impl
        self.model._compiled_call_impl = self.compiled
        try:
            yield
        finally:
            self.model._compiled_call_impl = before


def compile_fault(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device; None where it can.

    Args:
        device: On which passes run.
    """
    if device.type == "cuda":
        return None if find_spec("triton") else "torch.compile needs triton for a CUDA device, which is not installed"
    if any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl") if name):
        return None
    return "torch.compile needs a C++ compiler (g++ or clang++) for the CPU, and there is none; install one"
