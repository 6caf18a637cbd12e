"""What a comparison is estimated to take beside what it takes: ``make bench-estimate ARGS="--data-root DIR"``.

    python -m benchmarks.estimate glue-mini/stsb --data-root DIR --methods lora:8,autolora --set search.steps=8 --cpu

The probe of `autolora compare --dry-run` is made, then each trial is run to its end, in this process, one after the
other. With --cpu both are in seconds of the processor instead of the clock's: what else the machine does counts less.
With --kept FOLDER nothing is run: the trials are those finished runs of the recipe, as their manifests have them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

from autolora.comparison import probe as probes
from autolora.comparison import probe_rows, probe_steps
from autolora.comparison.estimate import Times, _by_pace, _of
from autolora.comparison.keys import trial_key
from autolora.comparison.plan import Trial, plan
from autolora.comparison.probe import probe
from autolora.console import hush
from autolora.context.base import Context
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_methods
from autolora.recipe.schema import Recipe
from autolora.recipe.shipped import find_recipe
from autolora.runs.listing import runs
from autolora.runs.store import Run
from autolora.tables import Row, to_markdown
from autolora.training.compute import Compute, Precision

METHODS = "lora:8,squeeze:budget=rank=1,autolora"
SHORT = (
    *("retrain.epochs=null", "retrain.steps=16", "retrain.keep=best", "search.epochs=null", "search.steps=6"),
    *("data.limits.train=1200", "data.limits.eval=300"),
)


def predicted(todo: Sequence[Trial]) -> list[tuple[Trial, Times]]:
    """What each trial will take, by what a step of theirs takes.

    Args:
        todo: Of one recipe; nothing of them is done.
    """
    found: list[tuple[Trial, Times]] = []
    for mine in _by_pace(todo):
        estimate = _of((mine[0].recipe.name, len(mine), 0), mine, probe([trial.recipe for trial in mine]), whole=True)
        found += zip(mine, estimate.each or (), strict=True)
    return found


def actual(trial: Trial, root: Path, precision: Precision, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of each stage of a trial, which is run.

    Args:
        trial: Which.
        root: Where its run goes.
        precision: Of its passes.
        clock: In whose seconds.
    """
    run = Run.create(root, trial.recipe)
    begun, found = clock(), dict[str, float]()

    def ended(stage: str, result: object) -> None:
        found[stage] = clock() - begun - sum(found.values())

    run_stages(run, Context(run.recipe, Compute(precision), show=False), ended)
    return found


def kept(folder: Path, name: str, only: str, data_root: Path | None) -> dict[str, tuple[Trial, dict[str, float]]]:
    """Finished runs that made their searches themselves, and the seconds that their stages took, by `trial_key`.

    Args:
        folder: Of runs.
        name: Of their recipe.
        only: Those whose folder's name ends with this.
        data_root: Where the data is.
    """
    found: dict[str, tuple[Trial, dict[str, float]]] = {}
    for run in runs(folder, name):
        stages = run.manifest().get("stages", {})
        own = run.stage_state("eval") == "success" and not stages.get("search", {}).get("shared")
        if own and run.path.name.endswith(only):
            seconds = {stage: float(stages[stage]["seconds"]) for stage in stages}
            recipe = at_root(run.recipe, data_root)
            found[trial_key(recipe)] = Trial(recipe, True, None), seconds
    return found


def at_root(recipe: Recipe, root: Path | None) -> Recipe:
    """The recipe with its data below a folder.

    Args:
        recipe: Any.
        root: The folder; None: as the recipe says.
    """
    data = recipe.data if root is None else recipe.data.model_copy(update={"root": root.resolve().as_posix()})
    return recipe.model_copy(update={"data": data})


def row(trial: Trial, times: Times, took: dict[str, float]) -> Row:
    """Of the table: predicted and actual.

    Args:
        trial: Of both.
        times: Predicted.
        took: Actual, by stage.
    """
    total = sum(took.values())
    return {
        "method": trial.method,
        **{
            name: round(getattr(times, name), 1) for name in ("loading", "search", "training", "choosing", "evaluation")
        },
        "predicted s": round(times.total, 1),
        **{f"{stage} s": round(seconds, 1) for stage, seconds in took.items()},
        "actual s": round(total, 1),
        "predicted / actual": f"{times.total / total:.2f}",
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="glue-mini/stsb")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--set", action="append", dest="overrides", help="instead of those of a short comparison")
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor")
    parser.add_argument("--kept", type=Path, help="finished runs, instead of running any")
    parser.add_argument("--only", default="", help="of these, those whose folder's name ends with this")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    given = parser.parse_args()
    hush()
    clock = time.process_time if given.cpu else time.monotonic
    for module in (probes, probe_rows, probe_steps):
        vars(module)["time"] = SimpleNamespace(monotonic=clock)
    name = find_recipe(given.recipe)
    short = given.overrides or SHORT
    recipe = at_root(load_recipe(name, (*short, "model.dtype=float32"), data_root=given.data_root), given.data_root)
    with tempfile.TemporaryDirectory() as root:
        there = kept(given.kept, recipe.name, given.only, given.data_root) if given.kept else {}
        todo = [trial for trial, _ in there.values()] or plan([recipe], parse_methods(given.methods), [0], Path(root))
        begun, found = time.perf_counter(), list[Row]()
        times = predicted(todo)
        print(f"the probe took {time.perf_counter() - begun:.0f} s of the clock", file=sys.stderr)
        for trial, each in times:
            took = there[trial_key(trial.recipe)][1] if there else actual(trial, Path(root), "float32", clock)
            found.append(row(trial, each, took))
            print(found[-1], file=sys.stderr, flush=True)
    print(json.dumps(found, indent=2) if given.json else to_markdown(found), end="")


if __name__ == "__main__":
    main()
