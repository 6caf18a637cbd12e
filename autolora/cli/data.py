"""``autolora data RECIPE``: what is read of the data, before anything is trained on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autolora.cli.options import (
    DataRootOption,
    ModelOption,
    Options,
    RecipeArgument,
    SeedOption,
    SetOption,
    TrustOption,
)
from autolora.console import json_document, line, screen

if TYPE_CHECKING:
    from autolora.context.base import Context
    from autolora.experiment.overview import Overview, Sample, SplitOverview

CLASSES = 40  # whose rows are listed
CHARACTERS, TOKENS = 300, 60  # of an example that are shown
TOKEN_LINES = {  # of the table, and the fields of `Lengths`
    "examples": "examples",
    "median": "median",
    "95th percentile": "percentile_95",
    "longest": "longest",
    "data.max_length": "max_length",
    "examples cut off": "cut_off",
}
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON, with the whole texts of the examples.")]


def data(
    recipe: RecipeArgument,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    trust_remote_code: TrustOption = False,
) -> None:
    """Show what is read of the data: rows, classes, lengths in tokens, examples, and what is doubtful about them."""
    context = _context(recipe, Options.given(set_, data_root, model, seed, None, trust_remote_code))
    from autolora.experiment.overview import overview

    found = overview(context, context.splits)
    if not context.main:
        return
    if as_json:
        json_document(found.record(samples=True))
        return
    _show(screen(), context, found)


def _context(target: str, options: Options) -> Context:
    """Of a recipe, or of a run with the names of its classes; no run is begun."""
    from autolora.console import hush
    from autolora.experiment.columns import find_columns
    from autolora.experiment.preflight import check_data
    from autolora.recipe.load import read_recipe
    from autolora.recipe.shipped import find_recipe
    from autolora.runs.folders import is_run
    from autolora.runs.labels import read_labels
    from autolora.runs.reach import check_reach
    from autolora.runs.store import Run

    path = Path(target)
    run = Run.open(path) if is_run(path) else None
    if run is not None:
        check_reach(run, options.read_unchecked(path / "recipe.yaml"), options.said)
    read = read_recipe(
        find_recipe(target) if run is None else path / "recipe.yaml",
        options.overrides,
        data_root=options.data_root,
        model=options.model,
        seed=options.seed,
        checks={"data": check_data},  # of the model the tokenizer is all that is needed
        find=find_columns,
    )
    hush()
    from autolora.context.base import Context

    context = Context(read, trust_remote_code=options.trust)
    if run is not None:
        context.kept_labels = read_labels(path)
    return context


def _show(console: Console, context: Context, found: Overview) -> None:
    recipe = context.recipe
    line(console, f"{recipe.name}: {recipe.task}, {recipe.model.name}")
    names, beside = list(found.splits), max(1, (console.width - 28) // 16)
    for i in range(0, len(names), beside):
        _print(console, "", _numbers(found, names[i : i + beside]))
    for name, split in found.splits.items():
        _print(console, f"\nsplit {name}, the first examples", _examples(split.samples))
    if found.warnings:
        line(console, "\nwarnings")
    for text in found.warnings:
        line(console, f"- {text}")


def _print(console: Console, title: str, table: Table) -> None:
    """Without the blanks that fill up a table's lines."""
    line(console, title)
    with console.capture() as captured:
        console.print(table)
    console.file.writelines(f"{text.rstrip()}\n" for text in captured.get().split("\n")[:-1])


def _numbers(found: Overview, names: Sequence[str]) -> Table:
    """A column for each of these splits."""
    splits = [found.splits[name] for name in names]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    for title, *cells in (*_row_lines(splits), *_label_lines(found.label, splits), *_token_lines(splits)):
        if any(cells) or title.endswith(":"):
            table.add_row(Text(title), *map(Text, cells))
    return table


Line = tuple[str, ...]


def _row_lines(splits: Sequence[SplitOverview]) -> Iterator[Line]:
    yield "rows", *(str(split.rows) for split in splits)
    yield "dropped, a cell is missing", *(str(split.dropped) for split in splits)
    if any(split.used != split.rows for split in splits):
        yield "used, by data.limits", *(str(split.used) for split in splits)
    yield "different inputs", *(str(split.inputs) for split in splits)


def _label_lines(label: str, splits: Sequence[SplitOverview]) -> Iterator[Line]:
    names = list(dict.fromkeys(name for split in splits for name in split.labels))
    targets = list(dict.fromkeys(key for split in splits for key in split.targets))
    if not names and not targets:
        return
    yield f"{label}:", *("" if split.labelled else "no labels" for split in splits)
    for name in names[:CLASSES]:
        yield f"  {_plain(name)}", *(_share(split, name) for split in splits)
    if rest := names[CLASSES:]:
        yield f"  … {len(rest)} more", *(str(sum(split.labels.get(n, 0) for n in rest)) for split in splits)
    for key in targets:
        yield f"  {key}", *(_number(split.targets.get(key)) for split in splits)


def _token_lines(splits: Sequence[SplitOverview]) -> Iterator[Line]:
    tokens = [split.tokens for split in splits]
    yield "tokens:", *("" for _ in splits)
    for title, field in TOKEN_LINES.items():
        yield f"  {title}", *(_number(getattr(each, field, None)) for each in tokens)
    for what in dict.fromkeys(what for each in tokens if each for what in each.lost):
        yield f"  {what} cut off", *(_number(each.lost.get(what) if each else None) for each in tokens)


def _share(split: SplitOverview, name: str) -> str:
    """How many rows a class has, and how many of a hundred."""
    if not split.labels:
        return ""
    count, total = split.labels.get(name, 0), sum(split.labels.values())
    return f"{count}{count / total:5.0%}"


def _number(value: float | None) -> str:
    from autolora.experiment.announcement import number

    return "" if value is None else number(value)


def _examples(samples: Sequence[Sample]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", max_width=20)
    table.add_column(overflow="fold")
    for i, sample in enumerate(samples):
        if i:
            table.add_row()
        for column, cell in sample.row.items():
            table.add_row(Text(_plain(column)), Text(_shortened(_text(cell))))
        shown = " ".join(_plain(token) for token in sample.tokens[:TOKENS])
        more = f" … ({len(sample.tokens)} tokens)" if len(sample.tokens) > TOKENS else ""
        table.add_row(Text("as tokens"), Text(f"{shown}{more}"))
    return table


def _text(cell: Any) -> str:
    """A list of words as words, other lists as JSON."""
    if isinstance(cell, str):
        return _plain(cell)
    if isinstance(cell, list) and not any(" " in str(item) for item in cell):
        return _plain(" ".join(map(str, cell)))
    return _plain(json.dumps(cell, ensure_ascii=False))


def _shortened(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}… ({len(text)} characters)"


def _plain(text: str) -> str:
    """What a terminal would act on, line breaks among it, as Python writes it."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
