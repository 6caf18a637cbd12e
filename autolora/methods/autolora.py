"""AutoLoRA itself (``autolora``), and the paper's ablations of it: ``no-constraint``, ``sigmoid``, ``no-meta``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from autolora.data.split import split_train
from autolora.files import write_json
from autolora.lab import Lab
from autolora.methods.base import RankedLora
from autolora.model.load import base_name, check_length, weights_hash
from autolora.model.selection import add_selection
from autolora.recipe.schema import Recipe, Search
from autolora.report import rank_map, selection_plot
from autolora.retrain.adapter import export_searched, save_adapter
from autolora.runs.manifest import device_record
from autolora.runs.store import Run
from autolora.search.loop import SearchStage
from autolora.search.ranks import default_threshold
from autolora.stages.steps import run_in, trainable_parameters
from autolora.training.batches import Example
from autolora.training.journal import Journal


class AutoLora(RankedLora):
    """Ranks by bilevel search (paper, section 3), as the recipe's search section says."""

    def search_settings(self) -> Search:
        return self.recipe.search

    @classmethod
    def workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        train = examples - round(examples * recipe.search.validation_fraction)
        return recipe.search.total_steps(train), recipe.retrain.total_steps(examples)

    def search(self, run: Run, lab: Lab) -> dict[str, Any]:
        return learn_ranks(run, lab, self.search_settings())


class NoConstraint(AutoLora):
    """Ablation: a = z, free; the threshold is each layer's mean."""

    def search_settings(self) -> Search:
        return self.recipe.search.model_copy(update={"constraint": "none", "threshold": None})


class Sigmoid(AutoLora):
    """Ablation: a = sigmoid(z), element-wise; the threshold is 0.5."""

    def search_settings(self) -> Search:
        return self.recipe.search.model_copy(update={"constraint": "sigmoid", "threshold": None})


class NoMeta(AutoLora):
    """Ablation: one level, z and V learn from the same data with plain gradients."""

    def search_settings(self) -> Search:
        return self.recipe.search.model_copy(update={"meta_learning": False})


def learn_ranks(run: Run, lab: Lab, settings: Search) -> dict[str, Any]:
    """Learn the selection variables by bilevel optimisation; writes ``search/``."""
    model = lab.model()
    check_length(model, lab.task.longest(lab.examples(run.recipe.data.splits.train)))
    head = lab.head(model)
    run.note("search", data=lab.hashes, model=weights_hash(model, head), device=device_record(lab.accelerator.device))
    stage, total = search_stage(lab, model, head, settings)
    layers = stage.layers
    run_in(run, lab, "search", stage, settings, total)
    run.note("search", **trainable_parameters(model, head), steps=total, **stage.gradients.counted())
    found = stage.ranks()
    record = {
        "initial_rank": found.initial_rank,
        "lora_alpha": settings.lora_alpha,
        "constraint": settings.constraint,
        "threshold": settings.threshold,
        "ranks": found.ranks,
        "selection": found.selection,
    }
    if lab.main:
        folder = run.path / "search"
        write_json(folder / "ranks.json", record)
        _figures(folder, record, Journal(folder / "log.jsonl").records())
        if any(found.ranks.values()):
            searched = export_searched(model, layers, found.keep, head=head, task_type=lab.task.peft_task_type)
            save_adapter(searched, folder / "adapter", *base_name(run.recipe.model))
    return record


def search_stage(lab: Lab, model: PreTrainedModel, head: Sequence[str], settings: Search) -> tuple[SearchStage, int]:
    """The search of a model, which gets selection layers in place, and the number of its steps."""
    recipe = lab.recipe
    train, validation = _divide(lab.examples(recipe.data.splits.train), settings, recipe.seed)
    layers = add_selection(
        model,
        recipe.model.target_modules,
        rank=settings.rank,
        lora_alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        constraint=settings.constraint,
    )
    for name in head:
        model.get_submodule(name).requires_grad_(True)
    model.train()
    total = settings.total_steps(len(train))
    stage = SearchStage(
        model,
        layers,
        lab.gradients(model, double_backward=settings.meta_learning and settings.estimator == "exact"),
        lab.stream(train, settings, "train"),
        lab.stream(validation, settings, "validation", settings.validation_batch_size),
        settings,
        total=total,
        seed=recipe.seed,
        identity=lab.identity("search", settings.model_dump(mode="json")),
    )
    return stage, total


def _divide(examples: list[Example], settings: Search, seed: int) -> tuple[list[Example], list[Example]]:
    """D_tr and D_val; all of the data for both where there is only one level."""
    if not settings.meta_learning:
        return examples, examples
    train, validation = split_train(len(examples), settings.validation_fraction, seed)
    return [examples[i] for i in train], [examples[i] for i in validation]


def _figures(folder: Path, record: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> None:
    rank_map.save_png(record["ranks"], record["initial_rank"], folder / "ranks.png")
    level = record["threshold"]
    level = default_threshold(record["constraint"], record["initial_rank"]) if level is None else level
    selection_plot.save_png(log, folder / "selection.png", threshold=level)
