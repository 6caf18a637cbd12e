"""What the tests of squeezes share: a laboratory in which something is learned, its settings, interrupted runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.allocation.components import Components
from autolora.allocation.evidence import Evidence
from autolora.allocation.store import load_evidence
from autolora.context.base import Context
from autolora.experiment.line import evaluate, retrain, search
from autolora.lora.ranks import Ranks
from autolora.runs.store import Run
from autolora.training.checkpoint import load_checkpoint
from autolora.training.finetune import Finetuning
from tests.laboratory import tiny_run, write_laboratory
from tests.methods.linked import interrupting

STEPS, BEGUN, K = 20, 10, 4
# Layers of two shapes; (n, m) is (32, 32) and (32, 64).
SETTINGS = (
    "model.target_modules=[query,value,intermediate.dense]",
    f"retrain.steps={STEPS}",
    "retrain.checkpoint_every=4",
    "retrain.weights.learning_rate=1e-2",
    "ranks.examples=40",
)
# With these the first half has lowered the loss of rows that it has not seen.
TOLERANT = (
    "ranks.held_out=0.3",
    "retrain.steps=40",
    "retrain.lora_dropout=0",
    "retrain.weights.learning_rate=5e-3",
    "retrain.weights.schedule=constant",
)
FULL = K * (4 * 64 + 2 * 96)  # parameters of LoRA at rank k


def write_learner(folder: Path) -> Path:
    """tiny.yaml, data/ and a BERT whose random weights are ten times the usual ones."""
    from transformers import BertConfig, BertModel

    write_laboratory(folder)
    config = BertConfig.from_pretrained(folder / "model")
    config.initializer_range = 0.2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder / "model")
    return folder


def squeezed(laboratory: Path, output: Path, method: str, *overrides: str, seed: int = 3) -> tuple[Run, Context]:
    """A run of tiny.yaml with nothing done yet."""
    return tiny_run(laboratory, output, method, *SETTINGS, *overrides, seed=seed)


def searched(laboratory: Path, output: Path, method: str, *overrides: str) -> tuple[Run, Ranks]:
    """A run whose search has ended, and its ranks."""
    run, context = squeezed(laboratory, output, method, *overrides)
    return run, search(run, context)


def done(laboratory: Path, output: Path, method: str, *overrides: str) -> tuple[Run, Context]:
    """A run that has ended."""
    run, context = squeezed(laboratory, output, method, *overrides)
    for stage in (search, retrain, evaluate):
        stage(run, context)
    return run, context


def evidence_of(run: Run) -> Evidence:
    return load_evidence(run.path / "search" / "evidence.safetensors")


def update(components: Components, kept: tuple[int, ...] | None = None) -> Tensor:
    """ΔW of the kept components, formed, (m, n)."""
    index = list(range(len(components)) if kept is None else kept)
    return components.u[:, index] * components.sigma[index] @ components.v[:, index].T


def stopped_at(
    monkeypatch: pytest.MonkeyPatch, run: Run, context: Context, stage: Any, step: int, of: Any = Finetuning
) -> dict[str, Tensor]:
    """Interrupt a stage before a step (from 0); its last checkpoint, without the sums of the log."""
    begun = BEGUN if stage is retrain and (run.path / "search" / "evidence.safetensors").exists() else 0
    with interrupting(monkeypatch, of, "advance", step - begun + 1):
        stage(run, context)
    return checkpoint(run, stage.__name__)


def checkpoint(run: Run, stage: str) -> dict[str, Tensor]:
    """The tensors of a stage's checkpoint, without the sums of the log."""
    tensors, _ = load_checkpoint(run.path / stage / "checkpoint.safetensors")
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("#loss-sum:")}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether they have the same names and, bit for bit, values."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
