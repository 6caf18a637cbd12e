"""The stages of an experiment: recipe → data and model → search → ranks → retrain → adapter → eval → tables.

    run = Run.create(Path("runs"), load_recipe(Path("cola.yaml")))
    lab = Lab(run.recipe)
    search(run, lab)
    retrain(run, lab)
    evaluate(run, lab)

Each stage goes on from its last checkpoint if there is one that belongs to it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel

from autolora import registry
from autolora.console import StageProgress
from autolora.data.load import content_hash, load_splits
from autolora.data.split import split_train
from autolora.errors import UserError
from autolora.evaluation.predict import Part, predict
from autolora.evaluation.submission import submission_lines
from autolora.files import file_hash, write_atomic, write_json, write_records
from autolora.model.load import base_name, check_length, load_model, load_tokenizer, weights_hash
from autolora.model.selection import add_selection
from autolora.model.targets import head_modules
from autolora.recipe.schema import Limits, Recipe, Steps
from autolora.report import rank_map, selection_plot
from autolora.report.tables import write_table
from autolora.retrain.adapter import add_adapter, export_searched, lora_config, save_adapter, uses_conv1d
from autolora.retrain.stage import RetrainStage
from autolora.runs.manifest import device_record, peak_memory_mib
from autolora.runs.store import Run
from autolora.search.loop import SearchStage
from autolora.tasks import TASKS
from autolora.tasks.base import Task
from autolora.training.batches import BatchStream, Example
from autolora.training.gradients import Gradients
from autolora.training.journal import Journal
from autolora.training.loop import run_steps
from autolora.training.seeds import derive, seed_torch


class Lab:
    """What the stages of one recipe share: device, data, tokenizer, task. Everything is made when first used."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator | None = None, *, show: bool = True) -> None:
        self.recipe, self.show = recipe, show
        self.accelerator = accelerator or make_accelerator(recipe.model.dtype)

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
        return self.task.encode(self.splits[split], self.tokenizer, split)

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

    def gradients(self, model: Any, *, double_backward: bool = False) -> Gradients:
        return Gradients(partial(self.task.loss, model), self.accelerator, double_backward=double_backward)

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


def search(run: Run, lab: Lab) -> dict[str, Any]:
    """Learn the selection variables; writes ``search/`` and returns the content of ``search/ranks.json``."""
    settings, folder = run.recipe.search, run.path / "search"
    with run.stage("search"):
        examples = lab.examples(run.recipe.data.splits.train)
        train, validation = _divide(examples, lab)
        model = lab.model()
        check_length(model, lab.task.longest(examples))
        head = lab.head(model)
        run.note(
            "search", data=lab.hashes, model=weights_hash(model, head), device=device_record(lab.accelerator.device)
        )
        layers = add_selection(
            model,
            run.recipe.model.target_modules,
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
            seed=run.recipe.seed,
            identity=lab.identity("search", settings.model_dump(mode="json")),
        )
        _run(run, lab, "search", stage, settings, total)
        run.note("search", trainable_parameters=_trainable(model), steps=total)
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
            write_json(folder / "ranks.json", record)
            _figures(folder, record, Journal(folder / "log.jsonl").records())
            if any(found.ranks.values()):
                searched = export_searched(model, layers, found.keep, head=head, task_type=lab.task.peft_task_type)
                save_adapter(searched, folder / "adapter", *base_name(run.recipe.model))
        lab.accelerator.wait_for_everyone()  # the next stage reads what the main process has written
    return record


def retrain(run: Run, lab: Lab) -> Path:
    """Train LoRA at the found ranks on D_tr and D_val together; writes ``adapter/`` and returns its path."""
    found = read_ranks(run)
    settings = run.recipe.retrain
    with run.stage("retrain"):
        examples = lab.examples(run.recipe.data.splits.train)
        model = lab.model()
        check_length(model, lab.task.longest(examples))
        head = lab.head(model)
        run.note(
            "retrain", data=lab.hashes, model=weights_hash(model, head), device=device_record(lab.accelerator.device)
        )
        ranks = found["ranks"]
        modules = dict(model.named_modules())
        if unknown := [name for name in ranks if name not in modules]:
            raise UserError(f"{run.path}: the model has no layer {unknown[0]}, which search/ranks.json gives a rank")
        dropout = run.recipe.search.lora_dropout if settings.lora_dropout is None else settings.lora_dropout
        config = lora_config(
            ranks,
            initial_rank=found["initial_rank"],
            lora_alpha=settings.lora_alpha or run.recipe.search.lora_alpha,
            scaling=settings.scaling,
            dropout=dropout,
            head=head,
            task_type=lab.task.peft_task_type,
            fan_in_fan_out=uses_conv1d(model, list(ranks)),
        )
        seed_torch(derive(run.recipe.seed, "adapter"))
        adapted = add_adapter(model, config, ranks)
        adapted.train()
        total = settings.total_steps(len(examples))
        stage = RetrainStage(
            adapted,
            lab.gradients(adapted),
            lab.stream(examples, settings, "retrain"),
            settings.weights,
            total=total,
            seed=run.recipe.seed,
            identity=lab.identity("retrain", settings.model_dump(mode="json"), ranks, dropout),
        )
        _run(run, lab, "retrain", stage, settings, total)
        run.note("retrain", trainable_parameters=_trainable(adapted), lora_parameters=_lora(adapted), steps=total)
        if lab.main:
            save_adapter(adapted, run.path / "adapter", *base_name(run.recipe.model))
        lab.accelerator.wait_for_everyone()
    return run.path / "adapter"


def evaluate(run: Run, lab: Lab) -> list[dict[str, Any]]:
    """Metrics of ``adapter/`` on the evaluation splits; writes predictions and the table, and returns its rows."""
    adapter = _adapter(run)
    rows: list[dict[str, Any]] = []
    with run.stage("eval"):
        begun = time.monotonic()
        base = lab.model()
        pretrained = weights_hash(base, [])
        model = _adapted(run, lab, base)
        ranks = read_ranks(run)["ranks"]
        made_by = [pretrained, *(file_hash(path) for path in sorted(adapter.glob("adapter_*")))]
        for split in run.recipe.data.splits.eval:
            examples = lab.examples(split)
            check_length(model.get_base_model(), lab.task.longest(examples))
            part = _part(run, lab, made_by, split)
            predictions = _predict(lab, model, examples, split, part)
            if lab.main:
                records = [{**lab.task.truth(e), **p} for e, p in zip(examples, predictions, strict=True)]
                write_records(run.path / "predictions" / f"{Path(split).stem}.jsonl", records)
            part.remove()
            rows += [
                {"split": split, "examples": len(examples), **scores, "total rank": sum(ranks.values())}
                | {"LoRA parameters": _lora(model)}
                for scores in lab.task.metrics(predictions, examples)
            ]
        if lab.main:
            write_table(rows, run.path, "metrics")
        run.note(
            "eval",
            data=lab.hashes,
            seconds=round(time.monotonic() - begun, 2),
            device=device_record(lab.accelerator.device),
        )
        run.save_recipe()
    return rows


def submit(run: Run, lab: Lab) -> list[Path]:
    """Predict the benchmark's test splits with ``adapter/``; writes ``submission/`` and returns its files."""
    how = run.recipe.eval.submission
    if how is None:
        raise UserError(f"--submission: the recipe {run.recipe.name} says no eval.submission (see recipes/glue/)")
    _adapter(run)
    model = _adapted(run, lab, lab.model())
    written = []
    for name, split in how.files.items():
        data = run.recipe.data.model_copy(update={"limits": Limits()})
        raw = load_splits(data, run.recipe.seed, lab.family, only=[split], labelled=False)[split]
        examples = lab.task.encode(lab.task.unlabelled(raw), lab.tokenizer, split)
        check_length(model.get_base_model(), lab.task.longest(examples))
        predictions = _predict(lab, model, examples, split, None)
        path = run.path / "submission" / f"{name}.tsv"
        if lab.main:
            write_atomic(path, submission_lines(raw, predictions, getattr(lab.task, "names", ()), how))
        written.append(path)
    return written


def _adapter(run: Run) -> Path:
    """Where the adapter is. Raises UserError before the retraining has ended."""
    adapter = run.path / "adapter"
    if not (adapter / "adapter_config.json").exists():
        raise UserError(f"{run.path} has no adapter yet; run: autolora retrain {run.path}")
    return adapter


def _adapted(run: Run, lab: Lab, base: PreTrainedModel) -> PeftModel:
    """The pretrained model with ``adapter/``."""
    adapter = _adapter(run)
    try:
        return PeftModel.from_pretrained(base, adapter).to(lab.accelerator.device)
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{adapter} cannot be loaded ({error}); write it anew with: autolora retrain {run.path}"
        ) from error


def read_ranks(run: Run) -> dict[str, Any]:
    """The content of ``search/ranks.json``. Raises UserError before the search has ended."""
    path = run.path / "search" / "ranks.json"
    if not path.exists():
        raise UserError(f"{run.path} has no ranks yet; run: autolora search {run.path} --resume")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        counts = [content["initial_rank"], *content["ranks"].values()]
        if not all(isinstance(count, int) for count in counts):
            raise ValueError(f"ranks are whole numbers, not {counts}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} holds no ranks ({type(error).__name__}: {error}); remove it, and write it anew with: "
            f"autolora search {run.path} --resume"
        ) from error
    return content


def _divide(examples: list[Example], lab: Lab) -> tuple[list[Example], list[Example]]:
    """D_tr and D_val; all of the data for both where there is only one level."""
    settings = lab.recipe.search
    if not settings.meta_learning:
        return examples, examples
    train, validation = split_train(len(examples), settings.validation_fraction, lab.recipe.seed)
    return [examples[i] for i in train], [examples[i] for i in validation]


def _run(run: Run, lab: Lab, name: str, stage: Any, settings: Steps, total: int) -> None:
    """Run a stage's steps, with its log and checkpoint in the stage's folder; notes time and memory."""
    folder = run.path / name
    begun = time.monotonic()
    with StageProgress(name, examples=settings.batch_size, show=lab.show and lab.main) as progress:
        run_steps(
            stage,
            total=total,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            journal=Journal(folder / "log.jsonl"),
            checkpoint=folder / "checkpoint.safetensors",
            observer=progress,
            main_process=lab.main,
            on_accepted=run.save_recipe,
        )
    device = lab.accelerator.device
    previous = run.manifest().get("stages", {}).get(name, {}).get("seconds", 0.0)
    run.note(name, seconds=round(previous + time.monotonic() - begun, 2), peak_memory_mib=peak_memory_mib(device))


def _part(run: Run, lab: Lab, made_by: list[str], split: str) -> Part:
    """Where this process keeps the predictions of a split until all are there."""
    process, processes = lab.accelerator.process_index, lab.accelerator.num_processes
    settings = lab.recipe.eval.model_dump(mode="json")
    identity = lab.identity("eval", made_by, settings, split, lab.recipe.data.limits.eval, processes)
    return Part(run.path / "predictions" / f".{Path(split).stem}-{process}.part", identity)


def _predict(lab: Lab, model: Any, examples: list[Example], split: str, part: Part | None) -> list[dict[str, Any]]:
    with StageProgress(f"eval {split}", show=lab.show and lab.main) as progress:
        progress.start(0, len(examples))
        return predict(
            model,
            lab.task,
            examples,
            partial(lab.task.collate, tokenizer=lab.tokenizer),
            tokenizer=lab.tokenizer,
            batch_size=lab.recipe.eval.batch_size,
            accelerator=lab.accelerator,
            part=part,
            on_batch=progress.step,
        )


def _figures(folder: Path, record: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> None:
    from autolora.search.ranks import default_threshold

    rank_map.save_png(record["ranks"], record["initial_rank"], folder / "ranks.png")
    level = record["threshold"]
    level = default_threshold(record["constraint"], record["initial_rank"]) if level is None else level
    selection_plot.save_png(log, folder / "selection.png", threshold=level)


def _trainable(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _lora(model: torch.nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if ".lora_A." in name or ".lora_B." in name)
