"""Keep the finished trials of a comparison where they last, without what is large or says where they were made.

    python -m benchmarks.keep SOURCE TARGET        folders of runs, as after --output

What is kept of a run is what tables, reports and later comparisons read: its recipe without the data's place, its
manifest without the record of the data, its status, ranks, logs of losses and metrics. A later comparison with
``--output TARGET`` takes these trials as done. Adapters, evidence and predictions are not kept, so that none of their
stages can be done again. Trials that are there already, and those that have not succeeded, are left out.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

from autolora.comparison.keys import trial_key
from autolora.errors import UserError
from autolora.files import write_atomic, write_state
from autolora.recipe.load import dump_recipe
from autolora.runs.folders import TUNING
from autolora.runs.inventory import MANIFEST, RECIPE, STATUS
from autolora.runs.listing import runs
from autolora.runs.seal import listing
from autolora.runs.store import Run

PARTS = (
    *("base.json", "labels.json", "metrics.json", "metrics.csv", "metrics.md"),
    *("search/ranks.json", "search/log.jsonl", "retrain/ranks.json", "retrain/log.jsonl"),
)
UNSAID = ("data", "platform", "files")  # of the manifest: places, the machine, files that are not kept
TEXTS = (".json", ".jsonl", ".yaml", ".md", ".csv")


def finished(root: Path) -> Iterator[Run]:
    """The runs below a folder that have succeeded, those of tuning, too.

    Args:
        root: Where runs are.
    """
    recipes = sorted({status.parent.parent.relative_to(root) for status in root.rglob("status.json")})
    for recipe in recipes:
        yield from (run for run in runs(root, recipe.as_posix()) if run.status()["state"] == "success")


def keep(run: Run, target: Path) -> Path:
    """Copy what is kept of a run.

    Args:
        run: That has succeeded.
        target: Where kept runs are.

    Returns:
        The new folder.

    Raises:
        UserError: Something of it names the place of the data.
    """
    tuning = (TUNING,) if run.path.parent.name == TUNING else ()
    folder = target.joinpath(run.recipe.name, *tuning, run.path.name)
    parts = [name for name in PARTS if (run.path / name).is_file()]
    for name in parts:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.verified(name), folder / name)
    data = run.recipe.data.model_copy(update={"root": None})
    write_atomic(folder / RECIPE, dump_recipe(run.recipe.model_copy(update={"data": data})))
    write_state(folder / STATUS, run.status())
    write_state(folder / MANIFEST, {name: value for name, value in run.manifest().items() if name not in UNSAID})
    with listing(folder, RECIPE, *parts):
        pass
    for path in folder.rglob("*"):
        if path.suffix in TEXTS and run.recipe.data.root and str(run.recipe.data.root) in path.read_text("utf-8"):
            shutil.rmtree(folder)
            raise UserError(f"{path} names {run.recipe.data.root}; it is not to be kept")
    return folder


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keep", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    there = {trial_key(run.recipe) for run in finished(given.target)} if given.target.is_dir() else set()
    for run in finished(given.source):
        if trial_key(run.recipe) not in there:
            print(keep(run, given.target))


if __name__ == "__main__":
    main()
