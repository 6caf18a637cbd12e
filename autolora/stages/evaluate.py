"""The evaluation stage, the only one that looks at the evaluation splits: predictions, metrics, the table."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from autolora.console import StageProgress
from autolora.data.load import load_splits
from autolora.errors import UserError
from autolora.evaluation.predict import Part, predict
from autolora.evaluation.submission import submission_lines
from autolora.files import file_hash, write_atomic, write_records
from autolora.lab import Lab
from autolora.methods.base import method_of, read_ranks
from autolora.model.load import check_length, weights_hash
from autolora.recipe.schema import Limits
from autolora.report.tables import write_table
from autolora.runs.manifest import device_record
from autolora.runs.store import Run, ranks_file
from autolora.training.batches import Example


def evaluate(run: Run, lab: Lab) -> list[dict[str, Any]]:
    """Metrics of ``adapter/`` on the evaluation splits; writes predictions and the table, and returns its rows."""
    adapter, method = _adapter(run), method_of(run)
    rows: list[dict[str, Any]] = []
    with run.stage("eval"):
        begun = time.monotonic()
        base = lab.model()
        pretrained = weights_hash(base, [])
        model = method.load(base, lab)
        size = _size(run)
        made_by = [pretrained, *(file_hash(path) for path in sorted(adapter.glob("*")) if path.is_file())]
        for split in run.recipe.data.splits.eval:
            examples = lab.examples(split)
            check_length(base, lab.task.longest(examples))
            part = _part(run, lab, made_by, split)
            predictions = predictions_of(lab, model, examples, f"eval {split}", part)
            if lab.main:
                records = [{**lab.task.truth(e), **p} for e, p in zip(examples, predictions, strict=True)]
                write_records(run.path / "predictions" / f"{Path(split).stem}.jsonl", records)
            part.remove()
            rows += [
                {"split": split, "examples": len(examples), **scores, **size}
                for scores in lab.task.metrics(predictions, examples)
            ]
        metric, score = lab.task.headline(rows)
        if lab.main:
            write_table(rows, run.path, "metrics")
        run.note(
            "eval",
            data=lab.hashes,
            seconds=round(time.monotonic() - begun, 2),
            device=device_record(lab.accelerator.device),
            metric=metric,
            score=score,
        )
        run.save_recipe()
    return rows


def submit(run: Run, lab: Lab) -> list[Path]:
    """Predict the benchmark's test splits with ``adapter/``; writes ``submission/`` and returns its files."""
    how = run.recipe.eval.submission
    if how is None:
        raise UserError(f"--submission: the recipe {run.recipe.name} says no eval.submission (see recipes/glue/)")
    _adapter(run)
    base = lab.model()
    model = method_of(run).load(base, lab)
    written = []
    for name, split in how.files.items():
        data = run.recipe.data.model_copy(update={"limits": Limits()})
        raw = load_splits(data, run.recipe.seed, lab.family, only=[split], labelled=False)[split]
        examples = lab.task.encode(lab.task.unlabelled(raw), lab.tokenizer, split)
        check_length(base, lab.task.longest(examples))
        predictions = predictions_of(lab, model, examples, f"eval {split}")
        path = run.path / "submission" / f"{name}.tsv"
        if lab.main:
            write_atomic(path, submission_lines(raw, predictions, getattr(lab.task, "names", ()), how))
        written.append(path)
    return written


def _adapter(run: Run) -> Path:
    """Where the adapter is. Raises UserError before the retraining has ended."""
    adapter = run.path / "adapter"
    if not any(adapter.glob("adapter_config.json")) and not any(adapter.glob("weights.safetensors")):
        raise UserError(f"{run.path} has no adapter yet; run: autolora retrain {run.path}")
    return adapter


def _size(run: Run) -> dict[str, int]:
    """What the table says of the adapter's size."""
    retrained = run.manifest().get("stages", {}).get("retrain", {})
    parameters = retrained["trainable_parameters"] - retrained["head_parameters"]
    if not ranks_file(run.path).exists():
        return {"adapter parameters": parameters}
    return {"total rank": sum(read_ranks(run)["ranks"].values()), "LoRA parameters": parameters}


def _part(run: Run, lab: Lab, made_by: list[str], split: str) -> Part:
    """Where this process keeps the predictions of a split until all are there."""
    process, processes = lab.accelerator.process_index, lab.accelerator.num_processes
    settings = lab.recipe.eval.model_dump(mode="json")
    identity = lab.identity("eval", made_by, settings, split, lab.recipe.data.limits.eval, processes)
    return Part(run.path / "predictions" / f".{Path(split).stem}-{process}.part", identity)


def predictions_of(
    lab: Lab, model: Any, examples: list[Example], title: str, part: Part | None = None
) -> list[dict[str, Any]]:
    """The model's prediction for every example, with a progress bar."""
    with StageProgress(title, show=lab.show and lab.main) as progress:
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
