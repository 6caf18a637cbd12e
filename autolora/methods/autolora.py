"""AutoLoRA itself (``autolora``), and the paper's ablations of it: ``no-constraint``, ``sigmoid``, ``no-meta``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from typing_extensions import override

from autolora.bilevel.loop import BilevelSearch
from autolora.context.base import Context
from autolora.context.fit import check_fit
from autolora.context.steps import run_in
from autolora.data.split import split_train
from autolora.lora.adapter import export_searched, save_adapter
from autolora.lora.parameters import trainable_parameters
from autolora.lora.ranks import Ranks, threshold_of
from autolora.lora.selection import add_selection
from autolora.methods.base import RankedLora
from autolora.model.load import base_name, weights_hash
from autolora.plots import rank_map, selection
from autolora.recipe.schema import Recipe, Search
from autolora.runs.manifest import device_record
from autolora.runs.store import Run
from autolora.training.batches import Example
from autolora.training.log import MetricLog


class AutoLora(RankedLora):
    """Ranks by bilevel search (paper, section 3), as the recipe's search section says."""

    def search_settings(self) -> Search:
        """The recipe's search section, as this method changes it."""
        return self.recipe.search

    @classmethod
    @override
    def workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        train = examples - round(examples * recipe.search.validation_fraction)
        return recipe.search.total_steps(train), recipe.retrain.total_steps(examples)

    @override
    def search(self, context: Context) -> Ranks:
        return learn_ranks(self.run, context, self.search_settings())


class NoConstraint(AutoLora):
    """Ablation: a = z, free; the threshold is each layer's mean."""

    @override
    def search_settings(self) -> Search:
        return self.recipe.search.model_copy(update={"constraint": "none", "threshold": None})


class Sigmoid(AutoLora):
    """Ablation: a = sigmoid(z), element-wise; the threshold is 0.5."""

    @override
    def search_settings(self) -> Search:
        return self.recipe.search.model_copy(update={"constraint": "sigmoid", "threshold": None})


class NoMeta(AutoLora):
    """Ablation: one level, z and V learn from the same data with plain gradients."""

    @override
    def search_settings(self) -> Search:
        return self.recipe.search.model_copy(update={"meta_learning": False})


def learn_ranks(run: Run, context: Context, settings: Search) -> Ranks:
    """Learn the selection variables by bilevel optimisation; writes ``search/``.

    Args:
        run: Whose log, ranks, figures and searched adapter are written.
        context: Of the run.
        settings: Of the search.
    """
    model = context.model()
    check_fit(context, model, context.examples(run.recipe.data.splits.train))
    head = context.head(model)
    run.note(
        "search",
        data=context.hashes,
        model=weights_hash(model, head),
        device=device_record(context.compute.device),
        target_modules=context.targets(model),
    )
    stage, total = bilevel_search(context, model, head, settings)
    layers = stage.layers
    run_in(run, context, "search", stage, settings, total)
    counts = trainable_parameters(model, head)
    wanted = sum(sum(p.numel() for p in layer.trained()) for layer in layers.values())
    if counts["trainable_parameters"] - counts["head_parameters"] != wanted:
        raise RuntimeError(f"the search trained {counts}, where its selection layers have {wanted} parameters")
    run.note("search", **counts, steps=total, **stage.gradients.counted())
    found = stage.ranks()
    if context.main:
        folder = run.path / "search"
        found.save(folder / "ranks.json")
        _figures(folder, found, MetricLog(folder / "log.jsonl").records())
        if found.targets:
            searched = export_searched(model, layers, found, head=head, task_type=context.task.peft_task_type)
            save_adapter(searched, folder / "adapter", *base_name(context.pretrained))
    return found


def bilevel_search(
    context: Context, model: PreTrainedModel, head: Sequence[str], settings: Search
) -> tuple[BilevelSearch, int]:
    """The search of a model, which gets selection layers in place, and the number of its steps.

    Args:
        context: Of the run.
        model: The pretrained model.
        head: Full names of the head's modules, which are trained along.
        settings: Of the search.
    """
    recipe = context.recipe
    train, validation = _divide(context.examples(recipe.data.splits.train), settings, recipe.seed)
    layers = add_selection(
        model,
        context.targets(model),
        rank=settings.rank,
        lora_alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        constraint=settings.constraint,
    )
    for name in head:
        model.get_submodule(name).requires_grad_(True)
    model.train()
    total = settings.total_steps(len(train))
    stage = BilevelSearch(
        model,
        layers,
        context.gradients(model, double_backward=settings.meta_learning and settings.estimator == "exact"),
        context.stream(train, settings, "train"),
        context.stream(validation, settings, "validation", settings.validation_batch_size),
        settings,
        total=total,
        seed=recipe.seed,
        identity=context.identity("search", settings.model_dump(mode="json")),
    )
    return stage, total


def _divide(examples: list[Example], settings: Search, seed: int) -> tuple[list[Example], list[Example]]:
    """D_tr and D_val; all of the data for both where there is only one level."""
    if not settings.meta_learning:
        return examples, examples
    train, validation = split_train(len(examples), settings.validation_fraction, seed)
    return [examples[i] for i in train], [examples[i] for i in validation]


def _figures(folder: Path, ranks: Ranks, log: Sequence[Mapping[str, Any]]) -> None:
    rank_map.save_png(ranks, ranks.initial_rank, folder / "ranks.png")
    selection.save_png(log, folder / "selection.png", threshold=threshold_of(ranks))
