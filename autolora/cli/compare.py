"""``autolora compare RECIPE... --methods NAME,... --seeds N-M``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from autolora.cli import completion
from autolora.cli.commands import parsed_by
from autolora.cli.compare_asked import ask
from autolora.cli.compare_plan import Given, plan_line, print_plan, show_plan, words
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
from autolora.errors import FAILED

if TYPE_CHECKING:
    from autolora.comparison.asked import Asked
    from autolora.comparison.compare import Comparison
    from autolora.comparison.executor import Resources
    from autolora.comparison.outcome import Captioned
    from autolora.comparison.plan import Trial
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


@dataclass(frozen=True)
class Shown:
    """What the tables are to show: the baseline's label, interval and test, figures that others published."""

    baseline: str | None
    interval: str
    published: bool


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
    from autolora.trackers.names import parse_trackers

    check_placing(ray, form, dry_run=dry_run, trial=trial, gpus=gpus_per_cell)
    trackers = parse_trackers(track)
    options = Options.given(set_, data_root, model, None, output, trust_remote_code)
    asked = ask(recipes, options, methods, seeds, sweep or (), select=select, tune=tune, trials=trials)
    planned = asked.checked_plan(baseline, interval)
    from autolora.comparison.executor import Resources

    resources = Resources(jobs, gpus_per_cell, cpus_per_cell)
    if form != "text":
        given: list[Given] = [
            *(("--methods", methods), ("--seeds", seeds), ("--sweep", sweep), ("--select", select), ("--tune", tune)),
            *(("--trials", None if trials is None else str(trials)), ("--set", set_), ("--data-root", data_root)),
            *(("--model", model), ("--output", output), ("--track", track), ("--trust-remote-code", trust_remote_code)),
        ]
        tables: list[Given] = [
            *(("--baseline", baseline), ("--interval", interval if interval != "t" else None)),
            ("--published", published),
        ]
        print_plan(asked, planned, form, words(recipes, given), words([], tables)[2:], resources)
    elif dry_run:
        _list_plan(asked, planned, Resources(jobs, cpus=cpus_per_cell))
    else:
        shown = Shown(baseline, interval, published)
        _show(_run(asked, planned, resources, ray, shown, trackers, trial))


def _list_plan(asked: Asked, planned: Sequence[Trial], resources: Resources) -> None:
    """What would be run, with time and disk."""
    from autolora.comparison.engines import executor_for

    executor = executor_for(resources, asked.root)
    try:
        console = screen(stderr=True)
        if not all(each.done for each in planned):
            show_plan(console, planned, executor.size, executor.threads)
        for each in planned:
            line(console, plan_line(each))
    finally:
        executor.close()


def _run(
    asked: Asked,
    planned: Sequence[Trial],
    resources: Resources,
    ray: str | None,
    shown: Shown,
    trackers: Sequence[str],
    trial: str | None,
) -> Comparison:
    """Run what is not there yet, and tell of each trial."""
    from autolora.comparison.compare import compare as run_comparison
    from autolora.comparison.engines import executor_for

    executor = executor_for(resources, asked.root, ray)
    try:
        console, todo = screen(stderr=True), sum(not each.done for each in planned)
        if todo and trial is None:
            show_plan(console, planned, executor.size, executor.threads)
        said = _Teller(console, todo)
        return run_comparison(
            asked.recipes,
            asked.methods,
            asked.seeds,
            asked.root,
            baseline=shown.baseline,
            interval=shown.interval,
            published=shown.published,
            show=executor.size == 1 and ray is None,
            on_begin=said.begin,
            on_end=said.end,
            on_notice=said.notice,
            trials=planned,
            rates=asked.rates,
            track=trackers,
            legs=asked.swept,
            select=asked.select,
            executor=executor,
            trial=trial,
        )
    finally:
        executor.close()


def _show(found: Comparison) -> None:
    """The tables, and where they are; ends the command where a trial has failed."""
    from autolora.runs.folders import TRIALS

    show_tables(found.tables)
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
