"""``autolora ranks``: other ranks off a finished search, and the curve of size against the rise of the loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autolora.cli.options import RUNS, DataRootOption, ModelOption, TargetArgument, TrustOption
from autolora.console import json_document, line, screen
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.experiment.readings import OtherRanks, Reading

FIGURE = "curve.png"
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="KIND=VALUE",
        help="fraction=0.25 (or 0.25), rank=1, parameters=N, tolerance=0.1; repeatable.",
    ),
]
ScoreOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="saliency, spectrum or fisher; default: the run's own.")
]
MeasureOption = Annotated[
    bool, typer.Option("--measure", help="Measure the rise of the loss, too, which loads data and model.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON, with all ranks.")]
FileOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write the ranks of the one --budget to FILE, as JSON.")
]
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where runs are.")]


def ranks(
    target: TargetArgument = None,
    budget: BudgetOption = None,
    score: ScoreOption = None,
    measure: MeasureOption = False,
    as_json: JsonOption = False,
    output: FileOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    runs: RunsOption = RUNS,
    trust_remote_code: TrustOption = False,
) -> None:
    """Read the ranks for other budgets off a finished search, and draw what they cost."""
    from autolora.cli.target import named
    from autolora.recipe.method import budget_words

    asked = list(dict.fromkeys(budget or ()))
    output = _output(output, asked)
    run = named(target, runs)
    from autolora.experiment.ranks import other_ranks

    words = [budget_words(each) for each in asked]
    found = other_ranks(
        run,
        words,
        score=score,
        measure=measure,
        data_root=data_root,
        model=model,
        show=True,
        trust_remote_code=trust_remote_code,
    )
    said = screen(stderr=True)
    if output is not None:
        _save(found, output)
        line(said, f"wrote {output}")
    if as_json:
        json_document(found.to_json())
    else:
        _show(screen(), found)
    if (figure := _draw(said, found)) is not None:
        line(said, f"wrote {figure}")


def _output(output: Path | None, asked: list[str]) -> Path | None:
    from autolora.cli.output_file import output_file

    if output is None:
        return None
    if len(asked) != 1:
        raise UserError(f"--output: one --budget says which ranks are meant, got {len(asked)}")
    return output_file(output, "--output", "ranks.json")


def _save(found: OtherRanks, output: Path) -> None:
    try:
        found.asked[0].ranks.save(output)
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written: {error}") from error


def _show(console: Console, found: OtherRanks) -> None:
    line(console, f"{found.run}: components by {found.score}, of {found.full} parameters")
    console.print(_table(found))
    for note in _notes(found):
        line(console, note)
    if found.asked:
        from autolora.plots import rank_map

        for each in found.asked:
            line(console, f"\nranks at {_name(each)}:")
            console.print(rank_map.render(each.ranks, each.ranks.initial_rank))


def _table(found: OtherRanks) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    table.add_column("budget")
    columns = ["parameters", "share", "sum of\nranks", "layers", "predicted\nrise", "measured\nrise"]
    for name in [*columns, *(["of the\ngain"] if found.gain is not None else [])]:
        table.add_column(name, justify="right", vertical="bottom")
    rows = [(each, _name(each)) for each in (*found.row, *found.asked)] + [(found.own, "this run")]
    for each, name in sorted(rows, key=lambda row: row[0].ranks.parameters):
        table.add_row(*(Text(cell) for cell in (name, *_cells(found, each))))
    return table


def _cells(found: OtherRanks, each: Reading) -> Iterator[str]:
    yield str(each.ranks.parameters)
    yield f"{each.ranks.parameters / found.full:.3f}"
    yield str(each.ranks.total)
    yield f"{len(each.ranks.targets)}/{len(each.ranks)}"
    for rise in (each.predicted_rise, each.measured_rise):
        yield "-" if rise is None else f"{rise:.3g}"
    if found.gain is not None:
        rise = each.measured_rise
        yield "-" if rise is None else f"{rise / found.gain:.1%}"


def _name(each: Reading) -> str:
    """As it is written after ``--budget``: a number alone is a fraction."""
    from autolora.recipe.method import shortest

    words = [
        f"{'' if kind == 'fraction' else kind + ' '}{shortest(value)}" for kind, value in (each.budget or {}).items()
    ]
    return ", ".join(words)


def _notes(found: OtherRanks) -> Iterator[str]:
    yield from found.remarks
    if found.examples is not None:
        gain = "" if found.gain is None else f"; without LoRA it is {found.gain:.3g} higher"
        yield f"Measured on {found.examples} training examples: the loss is {found.loss:.4g}{gain}."
    if any(each.measured_rise is None for each in (*found.row, *found.asked, found.own)):
        yield "-: not measured; --measure does it, and keeps it in the run."


def _draw(said: Console, found: OtherRanks) -> Path | None:
    """The figure's path; None where there is nothing to draw, or it cannot be written."""
    from autolora.plots import size_curve

    like = [found.own] if found.own.ranks.rule.get("score") == found.score else []  # else it is on no such curve
    points = [*found.row, *found.asked, *like]
    measured = {each.ranks.parameters: each.measured_rise for each in points}
    known = sorted((size, rise) for size, rise in measured.items() if rise is not None)
    if not known and not found.predicted:
        return None
    path = found.run / "search" / FIGURE
    own = found.own.predicted_rise if found.own.measured_rise is None else found.own.measured_rise
    title = f"{found.run.parent.name}: components by {found.score}"
    try:
        size_curve.save_png(
            found.predicted, known, path, own=(found.own.ranks.parameters, own), gain=found.gain, title=title
        )
    except OSError as error:
        line(said, f"{path} cannot be written: {error}")
        return None
    return path
