"""The evaluation stage, the only one that looks at the evaluation splits: predictions, metrics, the table."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autolora.cards.card import card_at_the_end
from autolora.context.base import Context
from autolora.context.fit import check_inputs
from autolora.context.predictions import add_token_scores, predictions_of
from autolora.data.load import load_splits
from autolora.errors import UserError
from autolora.evaluation.part import Part
from autolora.evaluation.submission import check_names, check_rows, submission_lines
from autolora.experiment.announcement import announce
from autolora.experiment.base import settle_base
from autolora.experiment.prepare import keep_labels, prepare
from autolora.experiment.short_memory import sized
from autolora.files import file_hash, write_atomic, write_records
from autolora.lora.stored import CARD
from autolora.methods.base import method_of
from autolora.model.load import weights_hash
from autolora.planted.kinds import is_planted
from autolora.planted.ranks import planted_ranks
from autolora.planted.recovery import Recovery, recovery
from autolora.recipe.schema import Limits
from autolora.runs.folders import ranks_file
from autolora.runs.inventory import WHOLE, check_there, verify_below
from autolora.runs.lock import alone
from autolora.runs.manifest import device_record
from autolora.runs.predictions import prediction_files
from autolora.runs.seal import listing
from autolora.runs.store import Run
from autolora.tables import Row, write_table
from autolora.tasks.scored import Scored, over_splits


@alone
def evaluate(run: Run, context: Context) -> list[Row]:
    """Metrics of ``adapter/`` on the evaluation splits; writes predictions and the table.

    Args:
        run: The run, after its retraining.
        context: Of its recipe.

    Returns:
        The rows of the table: split, number of examples, scores, size of the adapter; on planted truth also how well
        the planted ranks were recovered.

    Raises:
        UserError: There is no adapter yet, or it cannot be loaded.
    """
    adapter, method = adapter_of(run), method_of(run)
    prepare(context, run, training=False)
    files = prediction_files(run.path, run.recipe.data.splits.eval)
    rows: list[Row] = []
    scored: list[Scored] = []
    with run.stage("eval"), sized(run, context, "eval"):
        keep_labels(run, context)
        settle_base(run, context)
        announce(run, context)
        begun = time.monotonic()
        base = context.model()
        pretrained = weights_hash(base, [])
        model = method.load(base, context)
        recovered = _recovery(run)
        size: Row = {**_size(run), **(recovered.row() if recovered else {})}
        product = [path for path in sorted(adapter.glob("*")) if path.is_file() and path.name != CARD]
        made_by = [pretrained, *map(file_hash, product)]
        for split in run.recipe.data.splits.eval:
            examples = context.examples(split)
            labelled = context.splits.reports[split].labelled
            part, of_tokens = (_part(context, files[split], made_by, split, what) for what in ("", "tokens-"))
            predictions: list[dict[str, Any]] = [{} for _ in examples]
            if context.task.predicts or not labelled:
                predictions = predictions_of(context, model, examples, f"eval {split}", part)
            if context.task.tokens_scored and labelled:
                add_token_scores(context, model, split, predictions, f"eval {split}, tokens", of_tokens)
            if context.main:
                records = [
                    {**context.task.reference_record(e), **p} for e, p in zip(examples, predictions, strict=True)
                ]
                write_records(files[split], records)
            part.remove()
            of_tokens.remove()
            about: Row = {"split": split, "examples": len(examples)}
            if not labelled:
                rows.append({**about, **size})
                continue
            of_split = context.task.metrics(predictions, examples)
            rows += [{**about, **each.row(), **size} for each in of_split]
            scored += of_split
        if context.main:
            _remove_parts(run)
        headline = context.task.headline(scored)
        if context.main:
            write_table(rows, run.path, "metrics")
        run.note(
            "eval",
            data=context.hashes,
            seconds=round(time.monotonic() - begun, 2),
            device=device_record(context.compute.device, context.compute.precision),
            metric=headline.name,
            score=headline.value,
            higher_is_better=headline.higher_is_better,
            positive=context.task.positive,
            scores=[asdict(score) for score in over_splits(scored)],
            **({"recovery": asdict(recovered)} if recovered else {}),
        )
        run.save_recipe()
        if context.main:
            card_at_the_end(run, context, evaluated=True)
    return rows


@alone
def submit(run: Run, context: Context) -> list[Path]:
    """Predict the benchmark's test splits with ``adapter/``; writes ``submission/``.

    Args:
        run: The run, after its retraining.
        context: Of its recipe, which has eval.submission.

    Returns:
        The files that were written.

    Raises:
        UserError: There is no adapter yet, or the recipe or its task has no submission files.
    """
    how = run.recipe.eval.submission
    if how is None:
        raise UserError(f"--submission: the recipe {run.recipe.name} says no eval.submission (see recipes/glue/)")
    if not context.family.submits:
        raise UserError("--submission: only classification and regression tasks have submission files")
    adapter_of(run)
    prepare(context, run, training=False)
    check_names(context.task.names, how)
    settle_base(run, context)
    base = context.model()
    model = method_of(run).load(base, context)
    written = []
    for name, split in how.files.items():
        data = run.recipe.data.model_copy(update={"limits": Limits()})
        splits = load_splits(data, run.recipe.seed, context.family, only=[split], labelled=False)
        check_rows(raw := splits[split], splits.reports[split], split)
        examples = context.task.encode(raw, context.tokenizer, split, "eval")
        check_inputs(context, base, examples)
        predictions = predictions_of(context, model, examples, f"eval {split}")
        path = run.path / "submission" / f"{name}.tsv"
        if context.main:
            with listing(run.path, path.relative_to(run.path).as_posix()):
                write_atomic(path, submission_lines(raw, predictions, context.task.names, how))
        written.append(path)
    return written


def adapter_of(run: Run) -> Path:
    """Where the adapter is, whose files are what was written.

    Args:
        run: After its retraining.

    Raises:
        UserError: The retraining has not ended, or its files are not what was written.
    """
    check_there(run.path, WHOLE, "search", "retrain")
    adapter = run.path / "adapter"
    if not any(adapter.glob("adapter_config.json")) and not any(adapter.glob("weights.safetensors")):
        raise UserError(f"{run.path} has no adapter yet; run: autolora retrain {run.path}")
    verify_below(run.path, "adapter")
    return adapter


def _remove_parts(run: Run) -> None:
    """Those of other settings or processes, too, which nobody will go on with."""
    for path in (run.path / "predictions").glob(".*.part"):
        path.unlink(missing_ok=True)


def _size(run: Run) -> Row:
    """What the table says of the adapter's size."""
    retrained = run.manifest().get("stages", {}).get("retrain", {})
    parameters = retrained["trainable_parameters"] - retrained["head_parameters"]
    kept = retrained.get("kept") or {}
    chosen: Row = (
        {"kept step": kept["step"], kept["by"]: kept["value"]} if kept and kept["step"] == kept["best_step"] else {}
    )
    if not ranks_file(run.path).exists():
        return {"adapter parameters": parameters, **chosen}
    return {"total rank": run.ranks().total, "LoRA parameters": parameters, **chosen}


def _recovery(run: Run) -> Recovery | None:
    """How well the run's ranks are those that were planted; None where nothing was, or the method has no ranks."""
    known = is_planted(run.recipe.model.name) and ranks_file(run.path).exists()
    return recovery(run.ranks(), planted_ranks(run.recipe)) if known else None


def _part(context: Context, whole: Path, made_by: list[str], split: str, what: str = "") -> Part:
    """Where this process keeps what is said of a split until all of it is there."""
    process, processes = context.compute.process, context.compute.processes
    settings = context.recipe.eval.model_dump(mode="json")
    identity = context.identity("eval", made_by, settings, split, context.recipe.data.limits.eval, processes)
    return Part(whole.with_name(f".{whole.stem}-{what}{process}.part"), identity)
