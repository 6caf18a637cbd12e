"""Runs that build on a run of AutoLoRA's whose ranks a test makes up, and runs that are interrupted.

learned = learned_run(laboratory, tmp_path, {...})
run, context = built_on(laboratory, tmp_path, "svd", learned, uniform)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from autolora.context.base import Context
from autolora.lora.ranks import Ranks
from autolora.recipe.method import label
from autolora.runs.store import Run
from tests.laboratory import tiny_run

LAYERS = [f"bert.encoder.layer.{i}.attention.self.{kind}" for i in range(2) for kind in ("query", "value")]
RANKS = dict(zip(LAYERS, (3, 1, 0, 3), strict=True))
BUDGET = 7
PREFIX = "base_model.model."


def learned_run(
    laboratory: Path, output: Path, ranks: Mapping[str, int] = RANKS, *overrides: str, seed: int = 3
) -> Run:
    """A run of AutoLoRA's that has found these ranks; nothing else of it is there."""
    run, _ = tiny_run(laboratory, output, "autolora", *overrides, seed=seed)
    Ranks(dict(ranks), initial_rank=4).save(run.path / "search" / "ranks.json")
    return run


def built_on(
    laboratory: Path, output: Path, method: str, *base_runs: Run, overrides: tuple[str, ...] = (), seed: int = 3
) -> tuple[Run, Context]:
    """A new run of a method that builds on others."""
    run, context = tiny_run(laboratory, output, method, *overrides, seed=seed)
    for base_run in base_runs:
        run.add_base_run(label(base_run.recipe.method), base_run)
    return run, context


def reopened(run: Run) -> tuple[Run, Context]:
    """A run as a new process finds it."""
    again = Run.open(run.path)
    return again, Context(again.recipe, show=False)


@contextmanager
def interrupting(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> Iterator[None]:
    """Inside, Ctrl-C comes at the call with this number (from 1) of `owner.name`, before it has done anything."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, counted)
        with pytest.raises(KeyboardInterrupt):
            yield


def spent(run: Run, stage: str) -> dict[str, Any]:
    """A stage's part of the manifest."""
    found: dict[str, Any] = run.manifest()["stages"][stage]
    return found


def layer_of(adapted: nn.Module, name: str) -> Any:
    """PEFT's layer in the place of a module."""
    return adapted.get_submodule(PREFIX + name)
