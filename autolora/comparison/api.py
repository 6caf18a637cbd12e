"""A comparison from Python: ``compare(["quickstart"], "autolora,lora:4", seeds=range(3))`` gives a `Comparison`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from autolora.causes import plainly
from autolora.comparison.compare import Comparison
from autolora.comparison.compare import compare as compare_recipes
from autolora.comparison.defaults import default_methods, own_methods
from autolora.comparison.engines import executor_for
from autolora.comparison.executor import Resources
from autolora.comparison.sweep import legs_of
from autolora.console import warn
from autolora.experiment.api import resolve
from autolora.model.remote_code import allow_code
from autolora.recipe.method import parse_methods
from autolora.recipe.schema import Recipe
from autolora.recipe.sweeping import Point, asked_sweep, seeds_of, swept
from autolora.recipe.tuning import Rates, asked_rates, tuned_rates
from autolora.trackers.names import parse_trackers


@plainly()
def compare(
    recipes: Recipe | str | Path | Sequence[Recipe | str | Path],
    methods: str | Iterable[str] | None = None,
    seeds: str | Iterable[int] | None = None,
    *,
    output: str | Path = "runs",
    baseline: str | None = None,
    interval: str = "t",
    jobs: int | None = None,
    gpus_per_cell: float | None = None,
    cpus_per_cell: int | None = None,
    ray: str | None = None,
    data_root: str | Path | None = None,
    model: str | None = None,
    show: bool = False,
    trust_remote_code: bool = False,
    tune: Mapping[str, Iterable[float] | str] | None = None,
    trials: int | None = None,
    sweep: Mapping[str, Iterable[object] | str] | None = None,
    select: bool = False,
    track: str | Sequence[str] = (),
    **overrides: object,
) -> Comparison:
    """Compare methods over seeds, as ``autolora compare`` does: what is not there yet is run, each in a process.

    The processes import the calling script anew, so a script calls this below ``if __name__ == "__main__":``.

    Args:
        recipes: One or several; each a recipe, its file, or a shipped recipe's name.
        methods: ``"autolora,lora:4"``, or the same as a list; None for autolora, lora:4 and lora-matched, or where the
            recipes squeeze, for `autolora.comparison.defaults.default_methods`; in a sweep for the recipes' own.
        seeds: ``"0-4"``, or numbers; None for 0 to 4, or for those of the sweep.
        output: Where runs and tables are written.
        baseline: The method that the others are compared with; None for lora-matched, or LoRA.
        interval: "t" or "bootstrap".
        jobs: How many runs at a time; None for one, with `ray` for as many as the cluster has room for.
        gpus_per_cell: Of each run: 1, or a part of a GPU that it shares; None to share out what there is.
        cpus_per_cell: Threads of each run; None for an equal share.
        ray: The address of a Ray cluster that runs them, "auto" or "local"; None for processes of this machine.
        data_root: Read the recipes' data from local files below this folder.
        model: Instead of the recipes'.
        show: Show the progress, on standard error.
        trust_remote_code: Let code run that comes with the models, where the recipes want it.
        tune: A grid of which a rate is chosen for each method on a held-out part of the training split, as in
            ``{"learning_rate": [1e-4, 3e-4, 1e-3]}``; or a range that optuna searches, ``"log:1e-5..1e-2"``.
        trials: How many rates of a range are tried; None for 20.
        sweep: Values by dotted field whose combinations are compared, ``{"search.rank": [4, 8, 16]}``.
        select: Report only the combination that is best on a held-out part of the training split.
        track: Trackers that follow each trial, as in `autolora.run`; they are kept beside the tables.
        overrides: Fields of all recipes by dotted name, with ``__`` for the dot: ``search__steps=20``.

    Raises:
        UserError: Something can be known to be wrong before anything is run. What goes wrong in a run is in its result.
    """
    trackers = parse_trackers(track)
    several = [recipes] if isinstance(recipes, Recipe | str | Path) else list(recipes)
    varied = swept(sweep or {})
    numbers = seeds_of(varied, seeds if isinstance(seeds, str | None) else ",".join(map(str, seeds)))
    rates: Rates = ()
    if tune is not None or trials is not None:
        rates = tuned_rates(tune, trials) if tune is not None else asked_rates(None, trials)
    asked_sweep(varied, select=select, tuned=bool(rates))

    def at(point: Point) -> list[Recipe]:
        return [resolve(recipe, data_root, model, None, {**overrides, **point.values}) for recipe in several]

    read = at(Point())
    legs = legs_of(varied, at) if varied.fields else []
    named = [*read, *(recipe for leg in legs for recipe in leg.recipes)]
    for text in dict.fromkeys(allow_code(each.model, allowed=trust_remote_code) for each in named):
        if text:
            warn(text)
    if methods is None and legs:
        chosen = own_methods(read)
    else:
        words = default_methods(read, "autolora,lora:4,lora-matched") if methods is None else methods
        chosen = parse_methods(words if isinstance(words, str) else ",".join(words))
    executor = executor_for(Resources(jobs, gpus_per_cell, cpus_per_cell), Path(output), ray)
    try:
        return compare_recipes(
            read,
            chosen,
            numbers,
            Path(output),
            baseline=baseline,
            interval=interval,
            show=show,
            rates=rates,
            track=trackers,
            legs=legs,
            select=select,
            executor=executor,
        )
    finally:
        executor.close()
