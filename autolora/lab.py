"""What the stages of one recipe share: ``Lab(recipe)`` has the device, the data, the tokenizer, the task, the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from autolora import registry
from autolora.data.load import content_hash, load_splits
from autolora.model.load import load_model, load_tokenizer
from autolora.model.targets import head_modules
from autolora.recipe.schema import Recipe, Steps
from autolora.tasks import TASKS
from autolora.tasks.base import Task
from autolora.training.batches import BatchStream, Example
from autolora.training.gradients import Gradients
from autolora.training.seeds import derive, seed_torch


class Lab:
    """What the stages of one recipe share: device, data, tokenizer, task. Everything is made when first used."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator | None = None, *, show: bool = True) -> None:
        self.recipe, self.show = recipe, show
        self.accelerator = accelerator or make_accelerator(recipe.model.dtype)
        self._examples: dict[str, list[Example]] = {}

    @property
    def main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    @cached_property
    def splits(self) -> dict[str, Any]:
        return load_splits(self.recipe.data, self.recipe.seed, self.family)

    @cached_property
    def hashes(self) -> dict[str, str]:
        return {name: content_hash(rows) for name, rows in self.splits.items()}

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.recipe.model, **self.family.tokenizer_options)

    @cached_property
    def family(self) -> type[Task]:
        return registry.load(TASKS, self.recipe.task)  # type: ignore[no-any-return]

    @cached_property
    def task(self) -> Task:
        return self.family(self.recipe.data, self.recipe.eval, self.splits, self.recipe.loss)

    def examples(self, split: str) -> list[Example]:
        """The encoded examples of a split."""
        if split not in self._examples:
            self._examples[split] = self.task.encode(self.splits[split], self.tokenizer, split)
        return self._examples[split]

    def model(self) -> PreTrainedModel:
        """The pretrained model with a new head, the same one every time."""
        seed_torch(derive(self.recipe.seed, "model"))
        model = load_model(
            self.recipe.model, self.task.auto_class, self.task.head_config(), self.tokenizer.pad_token_id
        )
        return model.to(self.accelerator.device)

    def head(self, model: PreTrainedModel) -> list[str]:
        head = self.recipe.model.head
        if head == "auto":
            return head_modules(model, None) if self.family.new_head else []
        return head_modules(model, head)

    def stream(
        self, examples: Sequence[Example], settings: Steps, label: str, batch_size: int | None = None
    ) -> BatchStream:
        return BatchStream(
            examples,
            partial(self.task.collate, tokenizer=self.tokenizer),
            batch_size=batch_size or settings.batch_size,
            seed=derive(self.recipe.seed, label),
            units=self.task.units,
            gradient_accumulation=settings.gradient_accumulation,
            device=self.accelerator.device,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )

    def gradients(
        self, model: Any, *, double_backward: bool = False, penalty: Callable[[], Tensor] | None = None
    ) -> Gradients:
        return Gradients(
            partial(self.task.loss, model), self.accelerator, double_backward=double_backward, penalty=penalty
        )

    def identity(self, *parts: Any) -> str:
        """A hash of what a checkpoint depends on."""
        recipe = self.recipe
        data = {"hashes": self.hashes, "data": recipe.data.model_dump(mode="json", exclude={"root", "splits"})}
        text = json.dumps(
            [recipe.task, recipe.seed, recipe.model.model_dump(mode="json"), data, recipe.loss.model_dump(), *parts],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()


def make_accelerator(dtype: str) -> Accelerator:
    """The device, found without being asked; bfloat16 on a GPU that has it, unless the recipe says otherwise."""
    bf16 = dtype == "bfloat16" or (
        dtype == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return Accelerator(mixed_precision="bf16" if bf16 else "no")
