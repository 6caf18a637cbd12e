"""A comparison from Python: ``compare(["quickstart"], "autolora,lora:4", seeds=range(3))`` gives a `Comparison`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from autolora.causes import plainly
from autolora.comparison.compare import Comparison
from autolora.comparison.compare import compare as compare_recipes
from autolora.comparison.defaults import default_methods
from autolora.console import warn
from autolora.experiment.api import resolve
from autolora.model.remote_code import allow_code
from autolora.recipe.method import parse_methods, parse_seeds
from autolora.recipe.schema import Recipe
from autolora.recipe.tuning import tuned_rates
from autolora.trackers.names import parse_trackers


@plainly()
def compare(
    recipes: Recipe | str | Path | Sequence[Recipe | str | Path],
    methods: str | Iterable[str] | None = None,
    seeds: str | Iterable[int] = "0-4",
    *,
    output: str | Path = "runs",
    baseline: str | None = None,
    interval: str = "t",
    jobs: int = 1,
    data_root: str | Path | None = None,
    model: str | None = None,
    show: bool = False,
    trust_remote_code: bool = False,
    tune: Mapping[str, Iterable[float]] | None = None,
    track: str | Sequence[str] = (),
    **overrides: object,
) -> Comparison:
    """Compare methods over seeds, as ``autolora compare`` does: what is not there yet is run, each in a process.

    The processes import the calling script anew, so a script calls this below ``if __name__ == "__main__":``.

    Args:
        recipes: One or several; each a recipe, its file, or a shipped recipe's name.
        methods: ``"autolora,lora:4"``, or the same as a list; None for autolora, lora:4 and lora-matched, or where the
            recipes squeeze, for `autolora.comparison.defaults.default_methods`.
        seeds: ``"0-4"``, or numbers.
        output: Where runs and tables are written.
        baseline: The method that the others are compared with; None for lora-matched, or LoRA.
        interval: "t" or "bootstrap".
        jobs: How many runs at a time.
        data_root: Read the recipes' data from local files below this folder.
        model: Instead of the recipes'.
        show: Show the progress, on standard error.
        trust_remote_code: Let code run that comes with the models, where the recipes want it.
        tune: A grid of which a rate is chosen for each method on a held-out part of the training split, as in
            ``{"learning_rate": [1e-4, 3e-4, 1e-3]}``.
        track: Trackers that follow each trial, as in `autolora.run`; they are kept beside the tables.
        overrides: Fields of all recipes by dotted name, with ``__`` for the dot: ``search__steps=20``.

    Raises:
        UserError: Something can be known to be wrong before anything is run. What goes wrong in a run is in its result.
    """
    trackers = parse_trackers(track)
    several = [recipes] if isinstance(recipes, Recipe | str | Path) else list(recipes)
    read = [resolve(recipe, data_root, model, None, overrides) for recipe in several]
    for text in dict.fromkeys(allow_code(each.model, allowed=trust_remote_code) for each in read):
        if text:
            warn(text)
    words = default_methods(read, "autolora,lora:4,lora-matched") if methods is None else methods
    chosen = parse_methods(words if isinstance(words, str) else ",".join(words))
    numbers = parse_seeds(seeds if isinstance(seeds, str) else ",".join(map(str, seeds)))
    rates = () if tune is None else tuned_rates(tune)
    return compare_recipes(
        read,
        chosen,
        numbers,
        Path(output),
        baseline=baseline,
        interval=interval,
        jobs=jobs,
        show=show,
        rates=rates,
        track=trackers,
    )
