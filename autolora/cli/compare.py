"""``autolora compare RECIPE... --methods NAME,... --seeds N-M``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autolora.cli import completion
from autolora.cli.commands import parsed_by
from autolora.cli.compare_plan import plan_line, print_plan, show_plan, words
from autolora.cli.options import (
    BaselineOption,
    DataRootOption,
    IntervalOption,
    ModelOption,
    Options,
    OutputOption,
    PublishedOption,
    TrackOption,
    TrustOption,
)
from autolora.cli.placing import (
    CpusOption,
    FormatOption,
    GpusOption,
    JobsOption,
    RayCommand,
    RayOption,
    TrialOption,
    check_placing,
)
from autolora.console import line, screen
from autolora.errors import FAILED, UserError

if TYPE_CHECKING:
    from pathlib import Path

    from autolora.comparison.outcome import Captioned
    from autolora.comparison.plan import Trial
    from autolora.recipe.schema import Recipe
    from autolora.runs.store import Run

MethodsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:SIZE],...",
        autocompletion=completion.methods,
        help="What to compare; default: autolora, lora:4, lora:8, lora-matched, shuffled, adalora, svd; of recipes "
        "that squeeze: squeeze, squeeze-uniform, lora-matched, lora:k.",
    ),
]
SeedsOption = Annotated[
    str | None, typer.Option(metavar="N-M", help="One run of every method for each seed; default: 0-4.")
]
SweepOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE,...",
        autocompletion=completion.varied,
        help="Compare the settings of a field, as in search.rank=4,8,16; again for another field: all combinations.",
    ),
]
SelectOption = Annotated[
    bool,
    typer.Option(
        "--select", help="With --sweep: report only the setting that is best on a held-out part of the training split."
    ),
]
TrialsOption = Annotated[
    int | None, typer.Option(metavar="N", help="With --tune and a range: how many rates are tried; default: 20.")
]
TuneOption = Annotated[
    str | None,
    typer.Option(
        metavar="learning_rate=RATE,...|log:LOW..HIGH",
        help="Choose each method's rate on a held-out part of the training split: of a grid, or searched in a range.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan, with time and disk, and run nothing.")]
ScopedSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="[RECIPE:]KEY=VALUE",
        help="Override a field of all recipes, or of one.",
        autocompletion=completion.fields,
    ),
]


@parsed_by(RayCommand)
def compare(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE...", help="Recipe files or shipped recipes' names.", autocompletion=completion.recipes
        ),
    ],
    methods: MethodsOption = None,
    seeds: SeedsOption = None,
    sweep: SweepOption = None,
    select: SelectOption = False,
    baseline: BaselineOption = None,
    interval: IntervalOption = "t",
    published: PublishedOption = False,
    tune: TuneOption = None,
    trials: TrialsOption = None,
    jobs: JobsOption = None,
    gpus_per_cell: GpusOption = None,
    cpus_per_cell: CpusOption = None,
    ray: RayOption = None,
    dry_run: DryRunOption = False,
    form: FormatOption = "text",
    trial: TrialOption = None,
    set_: ScopedSetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    output: OutputOption = None,
    track: TrackOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Compare methods over seeds: every trial is a run, done once and reused; the tables at the end."""
    from autolora.recipe.method import parse_methods
    from autolora.recipe.sweeping import Point, asked_sweep, parse_sweep, seeds_of
    from autolora.recipe.tuning import asked_rates
    from autolora.trackers.names import parse_trackers

    check_placing(ray, form, dry_run=dry_run, trial=trial, gpus=gpus_per_cell)
    trackers = parse_trackers(track)
    options = Options.given(set_, data_root, model, None, output, trust_remote_code)
    chosen = [] if methods is None else parse_methods(methods)
    varied = parse_sweep(sweep or ())
    numbers = seeds_of(varied, seeds)
    rates = asked_rates(tune, trials)
    asked_sweep(varied, select=select, tuned=bool(rates))
    read = _recipes(recipes, options)
    if methods is None:
        from autolora.comparison.defaults import default_methods, own_methods

        chosen = own_methods(read) if varied.fields else parse_methods(default_methods(read))
    from autolora.comparison.compare import checked_plan
    from autolora.comparison.compare import compare as run_comparison
    from autolora.comparison.sweep import legs_of

    def at(point: Point) -> list[Recipe]:
        return _recipes(recipes, replace(options, overrides=(*options.overrides, *point.overrides)))

    legs = legs_of(varied, at) if varied.fields else []
    _allow([*read, *(recipe for leg in legs for recipe in leg.recipes)], options)
    planned = checked_plan(
        read, chosen, numbers, options.runs, baseline=baseline, interval=interval, rates=rates, legs=legs, select=select
    )
    from autolora.comparison.executor import Resources

    resources = Resources(jobs, gpus_per_cell, cpus_per_cell)
    if form != "text":
        from autolora.comparison.asked import Asked

        asked = Asked(read, chosen, numbers, options.runs, rates, tuple(legs), select)
        given: list[tuple[str, str | Path | list[str] | bool | None]] = [
            *(("--methods", methods), ("--seeds", seeds), ("--sweep", sweep), ("--select", select), ("--tune", tune)),
            *(("--trials", None if trials is None else str(trials)), ("--set", set_), ("--data-root", data_root)),
            *(("--model", model), ("--output", output), ("--track", track), ("--trust-remote-code", trust_remote_code)),
        ]
        tables: list[tuple[str, str | Path | list[str] | bool | None]] = [
            *(("--baseline", baseline), ("--interval", interval if interval != "t" else None)),
            ("--published", published),
        ]
        print_plan(asked, planned, form, words(recipes, given), words([], tables)[2:], resources)
        return
    from autolora.comparison.engines import executor_for

    executor = executor_for(Resources(jobs) if dry_run else resources, options.runs, None if dry_run else ray)
    try:
        console = screen(stderr=True)
        todo = [each for each in planned if not each.done]
        if todo and trial is None:
            show_plan(console, planned, executor.size)
        if dry_run:
            for each in planned:
                line(console, plan_line(each))
            return
        said = _Teller(console, len(todo))
        found = run_comparison(
            read,
            chosen,
            numbers,
            options.runs,
            baseline=baseline,
            interval=interval,
            published=published,
            show=executor.size == 1 and ray is None,
            on_begin=said.begin,
            on_end=said.end,
            on_notice=said.notice,
            trials=planned,
            rates=rates,
            track=trackers,
            legs=legs,
            select=select,
            executor=executor,
            trial=trial,
        )
    finally:
        executor.close()
    show_tables(found.tables)
    from autolora.runs.folders import TRIALS

    stdout = screen()
    for path in found.files:
        if path.suffix in (".md", ".tex") or path.name == TRIALS:
            line(stdout, f"wrote {path}")
    if found.files:
        line(stdout, f"a page of it all: autolora report {found.folder}")
    if found.failed:
        raise typer.Exit(FAILED)


def show_tables(tables: Sequence[Captioned]) -> None:
    """The tables on standard output."""
    from autolora.tables import render

    console = screen()
    for table in tables:
        console.print(render(table.narrow, table.caption, console.width))
        for note in table.notes:
            line(console, note)


def _recipes(targets: list[str], options: Options) -> list[Recipe]:
    """The recipes, with the overrides for all of them and those for one (``glue-mini/cola:search.steps=200``)."""
    from autolora.recipe.load import read_recipe
    from autolora.recipe.shipped import find_recipe

    scoped = [(text.partition("=")[0].rpartition(":")[0], text) for text in options.overrides]
    recipes: list[Recipe] = []
    used: set[str] = set()
    for target in targets:
        path = find_recipe(target)
        name = read_recipe(path).name
        mine = [(scope, text) for scope, text in scoped if scope in ("", name)]
        used |= {scope for scope, _ in mine}
        overrides = tuple(text.removeprefix(f"{scope}:") for scope, text in mine)
        recipes.append(replace(options, overrides=overrides).read(path))
    if unused := [scope for scope, _ in scoped if scope not in used]:
        names = ", ".join(recipe.name for recipe in recipes)
        raise UserError(f"--set {unused[0]}:…: none of the recipes is called {unused[0]!r}; they are: {names}")
    return recipes


def _allow(recipes: Sequence[Recipe], options: Options) -> None:
    """Make sure of the code that comes with the models, and say once which it is."""
    from autolora.model.remote_code import allow_code

    said = [allow_code(recipe.model, allowed=options.trust) for recipe in recipes]
    for text in dict.fromkeys(filter(None, said)):
        line(screen(stderr=True), text)


class _Teller:
    """A line for every trial that begins and ends."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.ended = console, total, 0
        self.begun: dict[str, int] = {}  # the number of each; one that is begun again keeps it

    def notice(self, text: str) -> None:
        line(self.console, text)

    def begin(self, trial: Trial, run: Run) -> None:
        number = self.begun.setdefault(trial.name, len(self.begun) + 1)
        line(self.console, f"[{number} of {self.total}] {trial.name}: {run.path}")

    def end(self, trial: Trial, run: Run, seconds: float) -> None:
        from autolora.runs.results import read_result

        self.ended += 1
        result = read_result(run)
        said = f"{result.state}: {result.reason}"
        if result.state == "success":
            said = f"{result.metric} {'has no value' if result.score is None else f'{result.score:.4f}'}"
        line(self.console, f"({self.ended} of {self.total} ended) {trial.name}: {said}, {seconds:.0f} s")
