"""``autolora eval``: measure an adapter; write a benchmark's test-set files; or score another system's outputs.

An adapter is measured as its recipe says, or by lm-evaluation-harness.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from autolora.cli.options import (
    DataRootOption,
    ModelOption,
    Options,
    OutputOption,
    SeedOption,
    SetOption,
    TargetArgument,
    TrackOption,
    TrustOption,
)
from autolora.console import screen
from autolora.errors import UserError

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
HarnessOption = Annotated[
    str | None,
    typer.Option(metavar="TASKS", help="Measure with lm-evaluation-harness instead: arc_easy,gsm8k."),
]
HarnessFolderOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="With --harness: task files of your own (YAML).")
]
HarnessLimitOption = Annotated[int | None, typer.Option(help="With --harness: the first examples of each task only.")]
HarnessShotOption = Annotated[int | None, typer.Option(help="With --harness: examples before each question.")]
HarnessBatchOption = Annotated[
    int | None, typer.Option(help="With --harness: examples of a pass.", show_default="eval.batch_size")
]
HarnessChatOption = Annotated[
    bool, typer.Option("--harness-chat", help="With --harness: put questions through the chat template.")
]


def evaluate(
    target: TargetArgument = None,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    output: OutputOption = None,
    task: TaskOption = None,
    predictions: PredictionsOption = None,
    submission: SubmissionOption = False,
    harness: HarnessOption = None,
    harness_tasks_dir: HarnessFolderOption = None,
    harness_limit: HarnessLimitOption = None,
    harness_few_shot: HarnessShotOption = None,
    harness_batch_size: HarnessBatchOption = None,
    harness_chat: HarnessChatOption = False,
    track: TrackOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Measure the adapter on the evaluation splits and write the metrics table; or score another system's outputs."""
    options = Options.given(set_, data_root, model, seed, output, trust_remote_code)
    if track and (submission or harness is not None or task is not None or predictions is not None):
        raise UserError("--track follows the metrics of a run; leave it out, or --submission, --harness and --task")
    own = (harness_tasks_dir, harness_limit, harness_few_shot, harness_batch_size)
    if harness is None and (harness_chat or any(value is not None for value in own)):
        raise UserError("the options --harness-… belong to --harness TASKS; name the tasks, or leave them out")
    if harness is not None:
        if submission or task is not None or predictions is not None:
            raise UserError("--harness measures a run's model; leave out --submission, --task and --predictions")
        names = tuple(name.strip() for name in harness.split(","))
        _harness(target, options, names, *own, harness_chat)
        return
    if task is None and predictions is None:
        _submit(target, options) if submission else _measure(target, options, track)
        return
    if submission:
        raise UserError("--submission needs a run's model, and --task and --predictions need none; leave one out")
    if target is not None:
        raise UserError(f"--task and --predictions score outputs without a run; leave out {target!r}")
    if model is not None:
        raise UserError("--task and --predictions score outputs without a model; leave out --model")
    if task is None or predictions is None:
        given, other = ("--predictions", "--task") if task is None else ("--task", "--predictions")
        raise UserError(f"{given} needs {other}, too: autolora eval --task e2e --predictions FILE")
    _score(task, predictions, options)


def _measure(target: str | None, options: Options, track: list[str] | None) -> None:
    """The metrics table of a run."""
    from autolora.cli.show import show_stage
    from autolora.cli.target import existing
    from autolora.cli.tracking import tracked
    from autolora.trackers.names import parse_trackers

    trackers = parse_trackers(track)

    run, context = existing(target, options)
    from autolora.experiment.evaluate import evaluate as measure

    with tracked(run, trackers):
        rows = measure(run, context)
    show_stage(run, context, "eval", rows)


def _harness(
    target: str | None,
    options: Options,
    names: tuple[str, ...],
    folder: Path | None,
    limit: int | None,
    few_shot: int | None,
    batch_size: int | None,
    chat: bool,
) -> None:
    """The table of a run's model by lm-evaluation-harness."""
    from autolora.evaluation.harness import HarnessSettings, check_harness

    size = 1 if batch_size is None else batch_size
    asked = HarnessSettings(names, folder, limit, few_shot, size, chat, trusted=options.trust)
    check_harness(asked)
    from autolora.cli.show import written
    from autolora.cli.target import existing

    run, context = existing(target, options)
    from autolora.experiment.harness import measure_with_harness
    from autolora.runs.inventory import HARNESS
    from autolora.tables import render

    size = context.recipe.eval.batch_size if batch_size is None else batch_size
    rows = measure_with_harness(run, context, replace(asked, batch_size=size, seed=context.recipe.seed))
    console = screen()
    console.print(render(rows, f"{run.recipe.name}, lm-evaluation-harness", console.width))
    written(console, *(run.path / f"{HARNESS}.{ending}" for ending in ("md", "csv", "json")))


def _submit(target: str | None, options: Options) -> None:
    """The benchmark's files of a run."""
    from autolora.cli.show import written
    from autolora.cli.target import existing

    run, context = existing(target, options)
    from autolora.experiment.evaluate import submit

    paths = submit(run, context)
    if context.main:
        written(screen(), *paths)


def _score(task: str, predictions: Path, options: Options) -> None:
    """Print the table of another system's outputs, and write it and the predictions beside it."""
    from autolora.cli.output_file import check_outside_runs
    from autolora.cli.show import written
    from autolora.experiment.columns import find_columns
    from autolora.files import write_records
    from autolora.recipe.load import read_recipe
    from autolora.recipe.shipped import find_task

    of = find_task(task)
    folder = options.output or options.runs / "predictions" / _own_folder(of, predictions)
    check_outside_runs(folder, "--output")
    recipe = read_recipe(of, options.overrides, data_root=options.data_root, seed=options.seed, find=find_columns)
    from autolora.evaluation.external import score_file
    from autolora.tables import render, write_table

    rows, records = score_file(recipe, predictions)
    write_records(folder / "predictions" / f"{rows[0]['split']}.jsonl", records)
    files = write_table(rows, folder, "metrics")
    console = screen()
    console.print(render(rows, f"{recipe.name}, {predictions}", console.width))
    written(console, *files, folder / "predictions")


def _own_folder(task: Path, predictions: Path) -> str:
    """The name of the folder where the scores of a file go: that of no other file, however alike it is called."""
    paths = f"{task.resolve()}\n{predictions.resolve()}"
    return f"{task.stem}-{predictions.stem}-{hashlib.sha256(paths.encode()).hexdigest()[:8]}"
