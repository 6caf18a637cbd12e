"""A squeeze's whole run against one uniform LoRA training's: ``make bench-squeeze``.

    python -m benchmarks.squeeze_cost --recipe glue-mini/cola --set retrain.steps=300 --rounds 1

Both are the recipe's runs as `autolora run` makes them, from the loading of the data to the table of metrics:
``lora:k`` at the recipe's rank, and ``squeeze`` with its budget. They take turns in one process, after one short run
that loads what is loaded once; nobody always goes first. The table has the medians over the rounds; what each part took
is measured in the same runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from autolora.context.base import Context
from autolora.experiment import evaluate, retrain
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.methods import autolora as searching
from autolora.methods import squeeze
from autolora.recipe.method import parse_method
from autolora.recipe.schema import Recipe
from autolora.recipe.shipped import find_recipe
from autolora.runs.manifest import device_record
from autolora.runs.store import Run
from autolora.tables import to_markdown

Seconds = dict[str, float]
TO_REACH = 1.05
# Where parts of a run are called from: object, attribute, what it is.
PARTS: tuple[tuple[Any, str, str], ...] = (
    (squeeze, "run_in", "steps"),
    (retrain, "run_in", "steps"),
    (squeeze, "measured_gates", "Fisher information"),
    (squeeze, "components_of", "singular value decompositions"),
    (Context, "model", "loading the model"),
    (searching, "check_fit", "checking that the model fits"),
    (retrain, "check_fit", "checking that the model fits"),
    (searching, "weights_hash", "hashing the model"),
    (retrain, "weights_hash", "hashing the model"),
    (evaluate, "weights_hash", "hashing the model"),
    (searching, "keep", "writing what the search leaves"),
    (searching, "save_adapter", "writing what the search leaves"),
    (searching, "_figures", "figures of ranks"),
    (evaluate, "predictions_of", "predictions"),
)


def main() -> None:
    options = arguments()
    warnings.filterwarnings("ignore", category=FutureWarning)
    clock = time.process_time if options.cpu_time else time.perf_counter
    recipe = load_recipe(find_recipe(options.recipe), options.set, data_root=options.data_root)
    words = {"uniform": f"lora:{recipe.search.rank}", "squeeze": options.squeeze}
    recipes = {name: recipe.model_copy(update={"method": parse_method(word)}) for name, word in words.items()}
    one_run(shortened(recipes["squeeze"]), clock)  # what is loaded or compiled once
    found: dict[str, list[Seconds]] = {name: [] for name in recipes}
    for turn in range(options.rounds):
        for name in sorted(recipes, reverse=turn % 2 == 0):
            found[name].append(one_run(recipes[name], clock))
            print(f"{name}: {found[name][-1]['whole run']:.1f} s", file=sys.stderr, flush=True)
    print(
        f"{options.recipe}, {words['squeeze']} against {words['uniform']}, median of {options.rounds} rounds, "
        f"{'processor' if options.cpu_time else 'wall'} seconds\n"
    )
    print(to_markdown(list(rows(found))))
    device = device_record(Context(recipe, show=False).compute.device, "float32")
    print(f"{device['name']}, {device.get('threads', 'no')} CPU threads; to reach: {TO_REACH}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A squeeze's whole run against one uniform LoRA training's.")
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--set", nargs="+", default=[], help="overrides, FIELD=VALUE")
    parser.add_argument("--squeeze", default="squeeze:budget=rank=1", help="as in autolora compare --methods")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="the processor's seconds: for a machine that is busy")
    parser.add_argument("--data-root", type=Path)
    return parser.parse_args()


def shortened(recipe: Recipe) -> Recipe:
    """Four steps."""
    return recipe.model_copy(update={"retrain": recipe.retrain.model_copy(update={"steps": 4, "epochs": None})})


def one_run(recipe: Recipe, clock: Callable[[], float]) -> Seconds:
    """Seconds of a whole run, and of its parts."""
    seconds: Seconds = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for place, attribute, name in PARTS:
            part = timed(getattr(place, attribute), name, seconds, clock)
            stack.enter_context(patch.object(place, attribute, part))
        with counted("whole run", seconds, clock):
            run_stages(Run.create(Path(folder), recipe), Context(recipe, show=False))
    return seconds


def timed(function: Any, name: str, seconds: Seconds, clock: Callable[[], float]) -> Any:
    """The function, whose time is counted."""

    def call(*arguments: Any, **options: Any) -> Any:
        with counted(name, seconds, clock):
            return function(*arguments, **options)

    return call


@contextmanager
def counted(name: str, seconds: Seconds, clock: Callable[[], float]) -> Iterator[None]:
    begun = clock()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + clock() - begun


def rows(found: dict[str, list[Seconds]]) -> Iterator[dict[str, str | int | float | None]]:
    """Of the whole, of each part, and of what is left."""
    names = ["whole run", *dict.fromkeys(name for _, _, name in PARTS)]
    for runs in found.values():
        for each in runs:
            each["everything else"] = each["whole run"] - sum(each.get(name, 0.0) for name in names[1:])
    whole = statistics.median(each["whole run"] for each in found["uniform"])
    for name in [*names, "everything else"]:
        one, other = (statistics.median(each.get(name, 0.0) for each in found[who]) for who in ("uniform", "squeeze"))
        pairs = zip(found["squeeze"], found["uniform"], strict=True)
        ratio = statistics.median(mine["whole run"] / theirs["whole run"] for mine, theirs in pairs)
        yield {
            "part": name,
            "uniform": f"{one:.2f}",
            "squeeze": f"{other:.2f}",
            "more, of the uniform run": f"{(other - one) / whole:+.1%}",
            "ratio": f"{ratio:.3f}" if name == "whole run" else "",
        }


if __name__ == "__main__":
    main()
