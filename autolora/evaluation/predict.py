"""Predictions for a whole split: every example once, in order, whatever the batch size or number of processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from transformers import PreTrainedTokenizerBase

from autolora.tasks.base import Task
from autolora.training.batches import Collate, Example


class Part:
    """The predictions made so far, as JSON Lines that only grow, so that decoding goes on where it was interrupted.

    The first line is the identity of what they were made with and for; a file with another identity is made anew.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What is there: index of the example, and its record. A batch whose writing was cut off is left out."""
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else []
        if not lines or lines[0] != self.identity:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.identity + "\n", encoding="utf-8")
            return
        whole = lines[:-1]  # what follows the last line break is half a line, or nothing
        if lines[-1]:
            self.path.write_text("\n".join([*whole, ""]), encoding="utf-8")
        for line in whole[1:]:
            yield from json.loads(line)

    def add(self, records: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Add one batch, as one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(records) + "\n")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def predict(
    model: nn.Module,
    task: Task,
    examples: Sequence[Example],
    collate: Collate,
    *,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    accelerator: Accelerator,
    part: Part | None = None,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """One record per example, in the examples' order, on every process. In float32, without dropout.

    Batches are made of examples of similar length; each process takes its share of the batches. part: what an
    interrupted call has done is read from there, and what this one does is added.
    """
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    mine: list[tuple[int, dict[str, Any]]] = list(part.records()) if part else []
    before = {index for index, _ in mine}
    model.eval()
    done = len(mine)
    on_batch(done)
    with torch.inference_mode():
        for indices in batches[accelerator.process_index :: accelerator.num_processes]:
            if before.issuperset(indices):
                continue
            batch = {k: v.to(accelerator.device) for k, v in collate([examples[i] for i in indices]).items()}
            records_of = list(zip(indices, task.predict(model, batch, tokenizer), strict=True))
            mine += records_of
            if part:
                part.add(records_of)
            done += len(indices)
            on_batch(done)
    gathered = gather_object(mine) if accelerator.num_processes > 1 else mine
    records = dict(gathered)
    if len(records) != len(examples) or len(gathered) != len(examples):
        raise RuntimeError(f"{len(gathered)} predictions for {len(examples)} examples")
    return [records[i] for i in range(len(examples))]
