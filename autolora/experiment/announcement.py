"""What was read of the data, in short on the screen when a run begins, and in the run's manifest.

Every stage calls `announce`. Each thing is said once in a process, and worked out once a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from autolora.console import warn
from autolora.context.base import Context
from autolora.experiment.overview import lengths_of, overview, twins
from autolora.runs.store import Run
from autolora.training.batches import Example

CLASSES = 8  # whose rows are counted on the screen


def announce(run: Run, context: Context) -> None:
    """Say what the data is, and how long the examples are that were encoded for the stage; keep it with the run.

    Args:
        run: The run.
        context: Of its recipe, prepared.

    Raises:
        UserError: The data cannot be read.
    """
    _announce_data(run, context)
    for split, examples in context.encoded.items():
        _announce_lengths(run, context, split, examples)


def _announce_data(run: Run, context: Context) -> None:
    """How many rows there are of which class, and what is doubtful about them."""
    if not _first_time(run, context):
        return
    identity = context.identity("data")
    record = run.manifest().get("data", {})
    if record.get("identity") != identity:
        found = overview(context)
        record = {"identity": identity, **found.record()}
        run.note_data(record)
    _say(context, f"data: {', '.join(rows_text(name, split, record) for name, split in record['splits'].items())}")
    said = twins(context.task.names)
    for text in record["warnings"]:
        if text not in said and not context.told:
            warn(text)


def _announce_lengths(run: Run, context: Context, split: str, examples: Sequence[Example]) -> None:
    """How long the examples of a split are."""
    if not _first_time(run, context, split):
        return
    record = run.manifest()["data"]
    tokens = lengths_of(context, split, examples)
    record["splits"][split]["tokens"] = asdict(tokens)
    run.note_data(record)
    _say(context, f"data: {lengths_text(split, asdict(tokens))}")


def rows_text(name: str, split: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """``train 8551 rows (label: unacceptable 2528, acceptable 6023)``.

    Args:
        name: The split's.
        split: Its record.
        record: Of all splits.
    """
    used = "" if split["used"] == split["rows"] else f"{split['used']} of "
    dropped = [f"{split['dropped']} dropped"] if split["dropped"] else []
    if not split["labelled"]:
        labels = ["no labels"]
    elif split["labels"]:
        labels = [f"{record['label']}: {_counts(split['labels'])}"]
    else:
        labels = [f"{key} {number(value)}" for key, value in split["targets"].items()]
    more = ", ".join([*dropped, *labels])
    return f"{name} {used}{split['rows']} rows{f' ({more})' if more else ''}"


def lengths_text(name: str, tokens: Mapping[str, Any]) -> str:
    """``train has 11 tokens at the median, 47 at most of max_length 128; 0 of 8551 examples are cut off``.

    Args:
        name: The split's.
        tokens: What its record says of them.
    """
    most = f"{tokens['longest']} at most of max_length {tokens['max_length']}"
    cut = f"; {tokens['cut_off']} of {tokens['examples']} examples are cut off" if tokens["cut_off"] is not None else ""
    lost = ", ".join(f"{count} {what}" for what, count in tokens["lost"].items() if count)
    return f"{name} has {number(tokens['median'])} tokens at the median, {most}{cut}{f' ({lost})' if lost else ''}"


def number(value: float) -> str:
    """Whole numbers in full, others with four digits."""
    return str(int(value)) if float(value).is_integer() else f"{value:.4g}"


def _first_time(run: Run, context: Context, split: str = "") -> bool:
    """Whether this process is to say it, and has not yet."""
    key = (str(run.path), split)
    if not context.main or key in context.announced:
        return False
    context.announced.add(key)
    return True


def _counts(labels: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name} {count}" for name, count in list(labels.items())[:CLASSES])
    return f"{shown}, … ({len(labels)} in all)" if len(labels) > CLASSES else shown


def _say(context: Context, text: str) -> None:
    if context.show:
        warn(text)
