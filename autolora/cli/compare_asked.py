"""What ``autolora compare`` is asked for, from its options: ``ask(recipes, options, methods, seeds, sweep, …)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autolora.cli.options import Options
from autolora.console import line, screen
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.comparison.asked import Asked
    from autolora.recipe.schema import MethodSettings, Recipe
    from autolora.recipe.sweeping import Point, Sweep


def ask(
    targets: list[str],
    options: Options,
    methods: str | None,
    seeds: str | None,
    sweep: Sequence[str],
    *,
    select: bool,
    tune: str | None,
    trials: int | None,
) -> Asked:
    """The comparison, whose recipes are read and whose code is allowed; nothing of it is planned yet.

    Args:
        targets: Recipe files, or shipped recipes' names.
        options: What is said of all recipes, and where runs are.
        methods: --methods; None for the default.
        seeds: --seeds; None for the default.
        sweep: What --sweep has, each time that it is given.
        select: --select.
        tune: --tune; None where nothing is tuned.
        trials: --trials; None for the default.

    Raises:
        UserError: An option or a recipe is wrong, or options contradict each other.
    """
    from autolora.recipe.method import parse_methods
    from autolora.recipe.sweeping import asked_sweep, parse_sweep, seeds_of
    from autolora.recipe.tuning import asked_rates

    chosen = None if methods is None else parse_methods(methods)
    varied = parse_sweep(sweep)
    numbers = seeds_of(varied, seeds)
    rates = asked_rates(tune, trials)
    asked_sweep(varied, select=select, tuned=bool(rates))
    read = _recipes(targets, options)
    if chosen is None:
        chosen = _default_methods(read, varied)
    from autolora.comparison.asked import Asked
    from autolora.comparison.sweep import legs_of

    def at(point: Point) -> list[Recipe]:
        return _recipes(targets, replace(options, overrides=(*options.overrides, *point.overrides)))

    legs = legs_of(varied, at) if varied.fields else []
    _allow([*read, *(recipe for leg in legs for recipe in leg.recipes)], options)
    return Asked(read, chosen, numbers, options.runs, rates, tuple(legs), select)


def _default_methods(recipes: Sequence[Recipe], varied: Sweep) -> list[MethodSettings]:
    """The recipes' own in a sweep; else those that their kind is compared by."""
    from autolora.comparison.defaults import default_methods, own_methods
    from autolora.recipe.method import parse_methods

    return own_methods(recipes) if varied.fields else parse_methods(default_methods(recipes))


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
