"""The commands: search, retrain, eval, run, compare, report, export, recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolora.cli.recipes import app as recipes_app

if TYPE_CHECKING:
    from autolora.cli.stages import Options

app = typer.Typer(
    name="autolora",
    help="Find a LoRA rank for every layer by meta-learning, retrain LoRA at those ranks, and measure it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(recipes_app, name="recipes")

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, a shipped recipe's name, or a run directory.")]
TargetArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN|RECIPE]", help="A run directory or a recipe; the newest run if left out.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe.")
]
DataRootOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Read the recipe's data from local files below DIR.")
]
ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME_OR_PATH", help="Use this model instead of the recipe's.")
]
SeedOption = Annotated[int | None, typer.Option(help="The seed that governs everything.")]
RUNS = Path("runs")
OutputOption = Annotated[Path, typer.Option(metavar="DIR", help="Where runs are written: DIR/<recipe>/<time>-<seed>/.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the newest unfinished run of this recipe.")]
TaskOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="With --predictions: e2e, webnlg, or a recipe of your own.")
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Score these outputs (TSV, CSV, JSON Lines, lines); no model."),
]
SubmissionOption = Annotated[
    bool, typer.Option("--submission", help="Write the benchmark's test-set files (GLUE) instead of metrics.")
]
MethodsOption = Annotated[str, typer.Option(metavar="NAME[:SIZE],...", help="What to compare.")]
SeedsOption = Annotated[str, typer.Option(metavar="N-M", help="One run of every method for each seed.")]
JobsOption = Annotated[int, typer.Option(min=1, help="How many cells run at a time.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan, with time and disk, and run nothing.")]
BaselineOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="What the others are compared with; default: lora-matched, or LoRA.")
]
IntervalOption = Annotated[str, typer.Option(metavar="t|bootstrap", help="Interval and test of the differences.")]
PublishedOption = Annotated[bool, typer.Option("--published", help="Show published figures, too, marked so.")]
ScopedSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="[RECIPE:]KEY=VALUE", help="Override a field of all recipes, or of one."),
]
ReportOption = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Where the pages go; default: the folder of the runs.")
]
TitleOption = Annotated[str | None, typer.Option(help="The page's title.")]
FormatOption = Annotated[str, typer.Option("--format", metavar="NAME", help="peft, axolotl, llama-factory or yaml.")]
ConfigurationOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write to FILE instead of standard output.")
]
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where runs are.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _options(
    overrides: list[str] | None, data_root: Path | None, model: str | None, seed: int | None, output: Path
) -> Options:
    from autolora.cli.stages import Options

    return Options(tuple(overrides or ()), data_root, model, seed, output)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show:
        from autolora import __version__

        typer.echo(f"autolora {__version__}")
        raise typer.Exit


@app.command()
def search(
    recipe: RecipeArgument,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    output: OutputOption = RUNS,
    resume: ResumeOption = False,
    debug: DebugOption = False,
) -> None:
    """Learn the selection variables and write a rank for every layer."""
    from autolora.cli import stages

    stages.search(recipe, _options(set_, data_root, model, seed, output), resume=resume)


@app.command()
def retrain(
    target: TargetArgument = None,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    output: OutputOption = RUNS,
    resume: ResumeOption = False,
    debug: DebugOption = False,
) -> None:
    """Train LoRA at the found ranks on all training data and write a PEFT adapter."""
    from autolora.cli import stages

    stages.retrain(target, _options(set_, data_root, model, seed, output), resume=resume)


@app.command("eval")
def evaluate(
    target: TargetArgument = None,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    output: OutputOption = RUNS,
    task: TaskOption = None,
    predictions: PredictionsOption = None,
    submission: SubmissionOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure the adapter on the evaluation splits and write the metrics table; or score another system's outputs."""
    from autolora.cli import stages

    if task is not None or predictions is not None:
        from autolora.cli.scoring import score

        score(target, task, predictions, _options(set_, data_root, model, seed, output))
        return
    if submission:
        stages.submit(target, _options(set_, data_root, model, seed, output))
        return
    stages.evaluate(target, _options(set_, data_root, model, seed, output))


@app.command()
def run(
    recipe: RecipeArgument,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    output: OutputOption = RUNS,
    resume: ResumeOption = False,
    debug: DebugOption = False,
) -> None:
    """Search, retrain and eval, one after the other."""
    from autolora.cli import stages

    stages.run(recipe, _options(set_, data_root, model, seed, output), resume=resume)


@app.command()
def compare(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Recipe files or shipped recipes' names.")],
    methods: MethodsOption = "autolora,lora:4,lora:8,lora-matched,shuffled,adalora,svd",
    seeds: SeedsOption = "0-4",
    baseline: BaselineOption = None,
    interval: IntervalOption = "t",
    published: PublishedOption = False,
    jobs: JobsOption = 1,
    dry_run: DryRunOption = False,
    set_: ScopedSetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    output: OutputOption = RUNS,
    debug: DebugOption = False,
) -> None:
    """Compare methods over seeds: every cell is a run, done once and reused; the tables at the end."""
    from autolora.cli.compare import Settings
    from autolora.cli.compare import compare as compare_methods

    settings = Settings(methods, seeds, baseline, interval, published, jobs, dry_run)
    if compare_methods(recipes, _options(set_, data_root, model, None, output), settings):
        raise typer.Exit(1)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs, folders of runs, or a comparison's.")],
    output: ReportOption = None,
    baseline: BaselineOption = None,
    interval: IntervalOption = "t",
    published: PublishedOption = False,
    title: TitleOption = None,
    debug: DebugOption = False,
) -> None:
    """Write one self-contained HTML page about runs, and the same in Markdown."""
    from autolora.cli.report import report as report_runs

    report_runs(runs, output, baseline, interval, published=published, title=title)


@app.command()
def export(
    target: TargetArgument = None,
    format_: FormatOption = "peft",
    output: ConfigurationOption = None,
    runs: RunsOption = RUNS,
    debug: DebugOption = False,
) -> None:
    """Print the ranks of a run as the configuration of another tool; what the tool cannot express is said."""
    from autolora.cli.export import export as export_ranks

    export_ranks(target, format_, output, runs)
