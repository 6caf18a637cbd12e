"""Scores of outputs that another system made, without a model.

    rows = score_file(recipe, Path("tgen.tsv"))

The file is a TSV or CSV table with a column of inputs and one of outputs, JSON Lines, or plain text with one output a
line in the order of the data's inputs. Where inputs are given, outputs are matched by them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autolora.data.cells import half_character
from autolora.data.load import limited_examples, load_splits
from autolora.data.reading.json_lines import json_object
from autolora.data.reading.source import Source
from autolora.data.reading.tables import csv_records, tsv_records
from autolora.errors import UserError
from autolora.evaluation.references import check_references
from autolora.metrics.tokens import check_tokens
from autolora.planted.kinds import seeded
from autolora.recipe.schema import Limits, Recipe
from autolora.registry import METRICS, TASKS
from autolora.tables import Row
from autolora.training.batches import Example
from autolora.words import did_you_mean

# Names of the column with the outputs, and of that with the inputs: the first there counts. One that is called as the
# data's label holds references where there is another: rows may have been passed on whole.
OUTPUTS = ("output", "prediction", "hypothesis", "ref")
INPUTS = ("input", "mr", "meaning_representation", "triples")
TOKENS = ("log_likelihood", "hits", "tokens")  # of our own predictions, for metrics of tokens
_DOUBLED = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')  # a field with quotes in it as a tool for CSV writes it


@dataclass(frozen=True)
class Output:
    """One output.

    Args:
        line: Where it stands in the file, from 1.
        input: What it was made of; None where the file gives none.
        text: As it stands there; "" where the file has what is said of the references' tokens, and no more.
        tokens: What a model said of the references' tokens, as our own predictions have it; empty where nothing is.
    """

    line: int
    input: Any
    text: str
    tokens: Mapping[str, float] = field(default_factory=dict)


def score_file(recipe: Recipe, file: Path) -> tuple[list[Row], list[dict[str, Any]]]:
    """The scores of a file of outputs on the recipe's evaluation split.

    Args:
        recipe: With one evaluation split.
        file: The outputs.

    Returns:
        The rows of the metrics table, and a record (input, references, prediction) for each example.

    Raises:
        UserError: The family has no such outputs, or outputs are missing, doubled or not asked for.
    """
    family = TASKS.load(recipe.task)
    if len(recipe.data.splits.eval) != 1:
        raise UserError(f"data.splits.eval: predictions belong to one split, got {', '.join(recipe.data.splits.eval)}")
    (split,) = recipe.data.splits.eval
    column = None if family.converses else recipe.data.columns[0]  # which may hold answers, too
    outputs = list(read_outputs(file, column, recipe.data.label))
    names = [recipe.data.splits.train, split] if recipe.data.category else [split]
    data = recipe.data.model_copy(update={"limits": Limits()})  # the file has an output for every input
    splits = load_splits(data, recipe.seed, family, only=names, model=seeded(recipe.model, recipe.seed).name)
    if not splits.reports[split].labelled:
        raise UserError(f"split {split!r} has no references ({recipe.data.label!r}) to score the outputs against")
    task = family(recipe.data, recipe.eval, splits, recipe.loss)
    check_references(task, splits, split)
    examples = task.grouped(splits[split])
    if any(output.input is not None for output in outputs):
        outputs = _matched(outputs, examples, task.key, file, split)
    else:
        if len(outputs) != len(examples):
            raise UserError(
                f"{file}: has {len(outputs)} lines, but split {split!r} has {len(examples)} distinct inputs, "
                "and there must be one output for each, in their order"
            )
    if recipe.data.limits.eval is not None:
        limited = limited_examples(splits[split], recipe.data, family, recipe.seed)
        wanted = {task.key(example["input"]) for example in task.grouped(limited)}
        kept = [i for i, example in enumerate(examples) if task.key(example["input"]) in wanted]
        examples, outputs = [examples[i] for i in kept], [outputs[i] for i in kept]
    if task.tokens_scored:
        _check_tokens(outputs, recipe.eval.metrics, file)
    predictions: list[dict[str, Any]] = [{"prediction": task.said(o.text), **o.tokens} for o in outputs]
    rows: list[Row] = [
        {"split": split, "examples": len(examples), **each.row()} for each in task.metrics(predictions, examples)
    ]
    records = [{**task.reference_record(e), **p} for e, p in zip(examples, predictions, strict=True)]
    return rows, records


def _check_tokens(outputs: Sequence[Output], metrics: Sequence[str], file: Path) -> None:
    """Metrics of tokens need what a model said of them, which outputs alone have not."""
    lacking = next((output for output in outputs if not output.tokens), None)
    if lacking is None:
        return
    wanted = [name for name in metrics if METRICS.load(name).takes == "tokens"]
    raise UserError(
        f"{file}:{lacking.line}: {', '.join(wanted)}: a metric of tokens needs a model's probabilities of the "
        f"references, and there is no {', '.join(TOKENS)}; leave it out with --set eval.metrics=[...], or score the "
        "model itself: autolora eval RUN"
    )


def read_outputs(file: Path, column: str | None = None, label: str = "") -> Iterator[Output]:
    """The outputs of a file, in its order.

    Args:
        file: A table, JSON Lines or plain text, by its suffix.
        column: What the data calls its inputs, beside the usual names; None where these alone count.
        label: What it calls its references, which a file may have beside its outputs.

    Raises:
        UserError: It cannot be read; the message names file, line and value.
    """
    if not file.is_file():
        raise UserError(f"--predictions: there is no file {file}")
    source = Source(file, advice="save the file as UTF-8")
    if not any(line.strip() for line in source.raw_lines()):
        raise UserError(f"{file}: the file is empty")
    if source.suffix in (".tsv", ".csv"):
        yield from _table(source, column, label)
    elif source.suffix in (".jsonl", ".json"):
        yield from _json_lines(source, column, label)
    else:
        for number, line in source.lines():
            yield Output(number, None, line)


def _table(source: Source, column: str | None, label: str) -> Iterator[Output]:
    records = tsv_records(source) if source.suffix == ".tsv" else csv_records(source)
    header = [name.strip() for name in next(records)[1]]
    at_input, at_output = _columns(header, column, label)
    if at_input is None or at_output is None:
        raise UserError(
            f"{source.at(1)}: the header must name a column of inputs ({', '.join(INPUTS)}) and one of outputs "
            f"({', '.join(OUTPUTS)}), got: {', '.join(header)}"
        )
    for line, row in records:
        if len(row) != len(header):
            raise UserError(f"{source.at(line)}: the row has {len(row)} columns, but the header {len(header)}")
        yield Output(line, row[at_input], row[at_output])


def _columns(header: Sequence[str], column: str | None, label: str) -> tuple[int | None, int | None]:
    """Where the inputs and the outputs stand, whatever the case of their names."""
    places = {name.lower(): place for place, name in reversed(list(enumerate(header)))}
    inputs = (INPUTS[0], (column or INPUTS[0]).lower(), *INPUTS[1:])
    outputs = sorted(OUTPUTS, key=lambda name: name == label.lower())
    at_input, at_output = (next((places[n] for n in names if n in places), None) for names in (inputs, outputs))
    return at_input, at_output


def _json_lines(source: Source, column: str | None, label: str) -> Iterator[Output]:
    for number, line in source.lines():
        if not line.strip():
            continue
        row = json_object(line, source, number, json.JSONDecoder())
        keys = list(row)
        at_input, at_output = _columns(keys, column, label)
        tokens = _tokens(row, source.at(number))
        if at_output is None and tokens:
            yield Output(number, None if at_input is None else row[keys[at_input]], "", tokens)
            continue
        if at_output is None:
            near = did_you_mean(keys[0], OUTPUTS) if keys else ""
            raise UserError(
                f"{source.at(number)}: the object must have one of {', '.join(OUTPUTS)}, got: {', '.join(keys)}"
                f"{f'; {near}' if near else ''}"
            )
        value = row[keys[at_output]]
        if not isinstance(value, str):
            raise UserError(f"{source.at(number)}: {keys[at_output]!r} must be text, got {value!r}")
        if fault := half_character(value):
            raise UserError(f"{source.at(number)}: {keys[at_output]!r} {fault}")
        yield Output(number, None if at_input is None else row[keys[at_input]], value, tokens)


def _tokens(row: Mapping[str, Any], where: str) -> dict[str, float]:
    """What a line says of the references' tokens; nothing where it lacks a part of it.

    Raises:
        UserError: It is nothing that a model can say.
    """
    found = {name: row[name] for name in TOKENS if name in row}
    if len(found) < len(TOKENS):
        return {}
    if wrong := next((n for n, v in found.items() if isinstance(v, bool) or not isinstance(v, int | float)), None):
        raise UserError(f"{where}: {wrong!r} must be a number, got {found[wrong]!r}")
    try:
        check_tokens([(found["log_likelihood"], found["hits"])], [found["tokens"]])
    except ValueError as error:
        raise UserError(f"{where}: {str(error).partition(': ')[2]}") from None
    return found


def _matched(
    outputs: Sequence[Output], examples: Sequence[Example], key: Callable[[Any], str], file: Path, split: str
) -> list[Output]:
    """The output of each example, by its input.

    A quote in a TSV file is a character. But tools for CSV write TSV, too, and quote fields: a row is taken to be one
    of theirs where the data has no input with these quotes, and has it without them. They quote a field only where it
    needs it, so an output may be quoted alone: it is taken to be where it has quotes inside, all of them doubled.
    """
    quotes = Source(file).suffix == ".tsv"
    wanted = {key(example["input"]) for example in examples}
    found: dict[str, Output] = {}
    for output in outputs:
        if output.input is None:
            raise UserError(f"{file}:{output.line}: the input is missing, which other lines have")
        name = key(output.input)
        if name not in wanted and quotes and key(_unquoted(output.input)) in wanted:
            output = replace(output, input=_unquoted(output.input), text=_unquoted(output.text))
            name = key(output.input)
        elif quotes and _DOUBLED.fullmatch(output.text):
            output = replace(output, text=_unquoted(output.text))
        if name not in wanted:
            raise UserError(f"{file}:{output.line}: split {split!r} has no input {str(output.input)[:120]!r}")
        if name in found:
            before = found[name].line
            raise UserError(f"{file}:{output.line}: line {before} has the input {str(output.input)[:120]!r} already")
        found[name] = output
    missing = [example["input"] for example in examples if key(example["input"]) not in found]
    if missing:
        raise UserError(
            f"{file}: has no output for {len(missing)} of the {len(examples)} inputs of split {split!r}; "
            f"the first: {str(missing[0])[:120]!r}"
        )
    return [found[key(example["input"])] for example in examples]


def _unquoted(field: str) -> str:
    """A field as it was before a tool for CSV quoted it; one that is not quoted as it is."""
    if len(field) < 2 or not field.startswith('"') or not field.endswith('"'):
        return field
    return field[1:-1].replace('""', '"')
