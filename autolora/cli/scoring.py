"""``autolora eval --task e2e --predictions FILE``: another system's outputs, scored as a run's are."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from autolora.cli.app import RUNS
from autolora.cli.stages import Options
from autolora.errors import UserError
from autolora.files import write_records
from autolora.recipe.load import load_recipe
from autolora.recipe.shipped import find_task


def score(target: str | None, task: str | None, predictions: Path | None, options: Options) -> None:
    """Print the table, and write it and the predictions beside it."""
    if target is not None:
        raise UserError(f"--task and --predictions score outputs without a run; leave out {target!r}")
    if task is None or predictions is None:
        given, other = ("--predictions", "--task") if task is None else ("--task", "--predictions")
        raise UserError(f"{given} needs {other}, too: autolora eval --task e2e --predictions FILE")
    recipe = load_recipe(
        find_task(task), options.overrides, data_root=options.data_root, seed=options.seed, check=False
    )
    from autolora.evaluation.external import score_file
    from autolora.report.tables import render, write_table

    rows, records = score_file(recipe, predictions)
    folder = options.output
    if folder == RUNS:  # not given: a folder of their own among the runs
        folder = RUNS / "predictions" / f"{Path(task).stem}-{predictions.stem}"
    write_records(folder / "predictions" / f"{rows[0]['split']}.jsonl", records)
    written = write_table(rows, folder, "metrics")
    console = Console()
    console.print(render(rows, f"{recipe.name}, {predictions}", console.width))
    for path in [*written, folder / "predictions"]:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
