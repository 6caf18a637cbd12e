"""``autolora compress``: a trained adapter on disk made smaller, and the curve of size against what stays of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autolora.cli.compress_data import (
    Asked,
    ColumnsOption,
    DataOption,
    EvalDataOption,
    FromRecipeOption,
    HealOption,
    LabelOption,
    NoMeasureOption,
    ScoreOption,
    TaskOption,
    ToleranceOption,
    with_data,
)
from autolora.cli.options import DataRootOption, ModelOption, Options, SeedOption, SetOption, TrustOption
from autolora.console import line, screen
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.adapters.choice import Choice, Reading
    from autolora.lora.ranks import Ranks

CAUSAL_LM = "CAUSAL_LM"  # PEFT's name of the task

AdapterArgument = Annotated[
    Path, typer.Argument(metavar="ADAPTER", help="A folder with adapter_config.json, or a run directory.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="KIND=VALUE",
        help="fraction=0.5 (or 0.5) of the parameters, parameters=N, rank=4, keep=0.99 of the energy.",
    ),
]
FolderOption = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="The folder to write, which must not be there.")
]
UniformOption = Annotated[
    bool, typer.Option("--uniform", help="Pad every kept module to one rank, for servers that take only one.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the curve and the ranks, and write nothing.")]


def compress(
    adapter: AdapterArgument,
    budget: BudgetOption = None,
    output: FolderOption = None,
    uniform: UniformOption = False,
    dry_run: DryRunOption = False,
    recipe: FromRecipeOption = None,
    data: DataOption = None,
    eval_data: EvalDataOption = None,
    columns: ColumnsOption = None,
    label: LabelOption = None,
    task: TaskOption = None,
    score: ScoreOption = None,
    tolerance: ToleranceOption = None,
    heal: HealOption = 0,
    no_measure: NoMeasureOption = False,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Make a trained PEFT adapter smaller: by its spectrum alone, or by what data say each component is worth."""
    asked = Asked(budget, tolerance, recipe, data, eval_data, columns, label, task, score, heal, not no_measure)
    options = Options.given(set_, data_root, model, seed, None, trust_remote_code)
    if not asked.wants_data:
        asked.check_none(options)
        return _without_data(adapter, budget, output, uniform=uniform, dry_run=dry_run)
    if uniform or dry_run:
        raise UserError(
            "--dry-run and --uniform are for adapters as they are; with data leave them out, and pad what was written: "
            "autolora compress DIR --budget 1 --uniform --output DIR2"
        )
    if output is None:
        raise UserError("--output DIR says where the smaller adapter is written")
    return with_data(adapter, asked, output, options)


def _without_data(adapter: Path, budget: str | None, output: Path | None, *, uniform: bool, dry_run: bool) -> None:
    if not dry_run:
        _check_given(budget, output)
    from autolora.adapters.choice import Choice, read_budget
    from autolora.adapters.compress import SCORE
    from autolora.adapters.stored import StoredAdapter
    from autolora.adapters.write import check_output, write_adapter

    if budget is not None:
        read_budget(budget)
    stored = StoredAdapter.open(adapter)
    if output is not None:
        check_output(stored, output)
    choice = Choice.of(stored)
    asked = None if budget is None else choice.within(budget)
    _show(screen(), choice, asked)
    if asked is not None:
        _show_written(screen(), choice, asked, uniform=uniform)
    if asked is None or output is None or dry_run:
        return
    rule = {"score": SCORE, "budget": dict(asked.budget), "share": asked.share}
    ranks = write_adapter(stored, asked.kept, output, uniform=uniform, rule=rule)
    for text in _said(choice, ranks, output):
        line(screen(stderr=True), text)


def _check_given(budget: str | None, output: Path | None) -> None:
    if budget is None:
        raise UserError(
            "--budget says how small the adapter shall be, as in --budget 0.5 or --budget keep=0.99; --dry-run prints "
            "what each would keep"
        )
    if output is None:
        raise UserError("--output DIR says where the smaller adapter is written; --dry-run writes nothing")


def _show(console: Console, choice: Choice, asked: Reading | None) -> None:
    adapter = choice.adapter
    ranks = sorted({each.rank for each in adapter.modules.values()})
    said = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    line(console, f"{adapter.folder}: {len(adapter.modules)} modules of {said}, {adapter.parameters} parameters")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    table.add_column("budget")
    for name in ("parameters", "share", "energy\nkept", "sum of\nranks", "modules"):
        table.add_column(name, justify="right", vertical="bottom")
    row = choice.row()
    if asked is not None and asked.budget not in [each.budget for each in row]:
        row = sorted([*row, asked], key=lambda each: each.parameters)
    for each in row:
        mark = "* " if asked is not None and each.budget == asked.budget else "  "
        table.add_row(*(Text(cell) for cell in (mark + _name(each), *_cells(each, choice))))
    console.print(table)


def _cells(each: Reading, choice: Choice) -> Iterator[str]:
    yield str(each.parameters)
    yield f"{each.parameters / choice.adapter.parameters:.3f}"
    yield _share(each.share)
    yield str(sum(each.ranks.values()))
    yield f"{sum(1 for rank in each.ranks.values() if rank)}/{len(each.ranks)}"


def _share(share: float) -> str:
    """As a percentage that says all only of all."""
    return "100%" if share == 1 else f"{min(share, 0.9999999):.4%}"


def _name(each: Reading) -> str:
    """As it is written after ``--budget``: a number alone is a fraction."""
    from autolora.recipe.method import shortest

    return ", ".join(f"{'' if kind == 'fraction' else f'{kind}='}{shortest(n)}" for kind, n in each.budget.items())


def _show_written(console: Console, choice: Choice, asked: Reading, *, uniform: bool) -> None:
    from autolora.adapters.write import cut, parameters_of
    from autolora.plots import rank_map

    initial = max(each.rank for each in choice.adapter.modules.values())
    line(console, f"\nranks at {_name(asked)}:")
    console.print(rank_map.render(asked.ranks, initial))
    cuts = cut(choice.adapter, asked.kept, uniform=uniform)
    if uniform:
        rank = next(iter(cuts.values())).rank
        line(console, f"padded to rank {rank} everywhere: {parameters_of(cuts)} parameters are written")


def _said(choice: Choice, ranks: Ranks, output: Path) -> Iterator[str]:
    from autolora.adapters.folder import beside, inner_adapters
    from autolora.adapters.readers import in_words, readings
    from autolora.lora.stored import TENSORS, read_config, read_shapes

    folder = choice.adapter.folder
    before, after = ((each / TENSORS).stat().st_size / 1e6 for each in (folder, output))
    gone = len(ranks) - len(ranks.targets)
    left = f"; {gone} of {len(ranks)} modules keep nothing and are no longer adapted" if gone else ""
    yield f"wrote {output}: {before:.2f} MB became {after:.2f} MB{left}"
    if others := inner_adapters(folder):
        yield f"{folder} holds other adapters, too, which are as they were: {', '.join(others)}; name them one by one"
    if apart := [name for name in beside(folder)[1] if name not in others]:
        yield f"not carried over from {folder}: {', '.join(apart)}"
    if (config := read_config(output)).get("task_type") == CAUSAL_LM:  # what servers are for
        yield from in_words(readings(config, read_shapes(output)))
