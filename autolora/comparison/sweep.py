"""A sweep as a comparison: ``legs_of(sweep, read)``, each compared by the same methods over the same seeds.

A leg is all recipes at one point of the sweep. Recipes of different legs have the same name and other values, so that
their runs lie in the same folder, and a run that was made alone, or by a smaller sweep, is found and not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from autolora.comparison.arms import Arm, Arms
from autolora.comparison.keys import trial_key
from autolora.errors import Fault, RecipeError, UserError
from autolora.methods.base import method_class
from autolora.recipe.method import label, shortest
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.recipe.sweeping import Point, Sweep

RATE = "retrain.weights.learning_rate"


@dataclass(frozen=True)
class Leg:
    """The recipes at one point.

    Args:
        recipes: With the point's settings in them.
        point: Of the sweep; that of no settings where nothing is swept.
        own: Names of the recipes whose own values these are.
    """

    recipes: tuple[Recipe, ...]
    point: Point = field(default_factory=Point)
    own: tuple[str, ...] = ()

    def word(self, method: MethodSettings) -> str:
        """What results are called: the method's label, with the point's settings.

        Args:
            method: Of the comparison.
        """
        return " ".join(filter(None, [label(method), self.point.label]))


def legs_of(sweep: Sweep, read: Callable[[Point], Sequence[Recipe]]) -> list[Leg]:
    """A leg for each point, all of them checked.

    Args:
        sweep: What is varied.
        read: Gives the recipes with a point's settings in them, in the same order each time.

    Raises:
        RecipeError: With the faults of all points, each once.
        UserError: Two points are the same experiment.
    """
    plain = read(Point())
    legs: list[Leg] = []
    faults: dict[Fault, None] = {}
    for point in sweep.points:
        try:
            recipes = tuple(read(point))
        except RecipeError as error:
            faults.update(dict.fromkeys(_of_the_sweep(fault, point) for fault in error.faults))
            continue
        own = [one.name for one, other in zip(plain, recipes, strict=True) if trial_key(one) == trial_key(other)]
        legs.append(Leg(recipes, point, tuple(own)))
    if faults:
        raise RecipeError([*faults])
    _check_different(legs)
    return legs


def check_rates(legs: Sequence[Leg], methods: Sequence[MethodSettings], *, tuned: bool) -> None:
    """Make sure that settings of the learning rate are those that methods train at.

    Args:
        legs: Of the sweep.
        methods: What is compared.
        tuned: Whether a rate is chosen for the methods.

    Raises:
        UserError: A method trains at the same rate at all points.
    """
    if len({recipe.retrain.weights.learning_rate for leg in legs for recipe in leg.recipes[:1]}) < 2:
        return
    if tuned:
        raise UserError(f"--sweep {RATE} and --tune both say the methods' learning rates; leave one out")
    for method in methods:
        for recipe in legs[0].recipes:
            mine = [each for leg in legs for each in leg.recipes if each.name == recipe.name]
            own = [each.model_copy(update={"method": method}) for each in mine]
            rates = {method_class(method.name).weights_in(each).learning_rate for each in own}
            if len(rates) == 1:
                word = label(method.model_copy(update={"learning_rate": None}))
                raise UserError(
                    f"--sweep {RATE}: {label(method)} trains at a rate of its own, {shortest(rates.pop())}, whatever "
                    f"the recipe says; name its rates instead, as in --methods {word}:learning_rate=1e-5,"
                    f"{word}:learning_rate=1e-4"
                )


def arms_of(legs: Sequence[Leg], methods: Sequence[MethodSettings]) -> Arms:
    """The arms of a sweep: method by method, in the order of the points.

    Args:
        legs: Of the sweep.
        methods: What is compared.
    """
    found = [
        Arm(leg.word(method), label(method), dict(leg.point.settings), leg.own) for method in methods for leg in legs
    ]
    return Arms({arm.label: arm for arm in found})


def _of_the_sweep(fault: Fault, point: Point) -> Fault:
    """A fault of a point's setting, under the option that it came from."""
    given = {f"--set {text}": f"--sweep {text}" for text in point.overrides}
    python = {field: f"sweep {field}" for field, _ in point.settings}
    return replace(fault, where={**given, **python}.get(fault.where, fault.where))


def _check_different(legs: Sequence[Leg]) -> None:
    seen: dict[str, Leg] = {}
    for leg in legs:
        for recipe in leg.recipes:
            other = seen.setdefault(f"{recipe.name} {trial_key(recipe)}", leg)
            if other is not leg:
                raise UserError(
                    f"--sweep: {other.point.label} and {leg.point.label} are the same experiment of {recipe.name}; "
                    "leave one out"
                )
