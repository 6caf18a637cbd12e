"""One point of a sweep for each recipe and method: ``selection_trials(…)``, their runs, then ``select(…)``.

As a learning rate is tuned (`autolora.comparison.tune`): a trial is the recipe at a point with a method, trained on
nine tenths of the training split and scored on the tenth that is held out, with a seed that is not reported. The point
of the best primary metric is chosen, the first of equals; it alone is reported, on the evaluation splits, over the
seeds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autolora.comparison.choices import cost_of, selection_table, shown_score
from autolora.comparison.groups import has_score
from autolora.comparison.keys import trial_key
from autolora.comparison.outcome import TUNING_COST, Captioned
from autolora.comparison.plan import Trial, trials_of
from autolora.comparison.sweep import Leg
from autolora.comparison.tune import held_out, tuning_seed
from autolora.recipe.method import label
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.runs.results import Result, read_result
from autolora.runs.store import Run
from autolora.tables import Row

Key = tuple[str, MethodSettings]  # a recipe's name, and a method
UNCHOSEN = "at the settings that will be chosen"


@dataclass(frozen=True)
class Selected:
    """What the points of a sweep came to.

    Args:
        results: Of the points' trials, by recipe and method, in the order of the points.
        brought: Results of what those built on.
    """

    results: Mapping[Key, tuple[tuple[Leg, Result], ...]]
    brought: tuple[Result, ...] = ()

    def leg(self, key: Key) -> Leg | None:
        """The best; None where no point has a score.

        Args:
            key: A recipe's name and a method.

        Raises:
            KeyError: It has yet to be chosen.
        """
        scored = [(leg, result) for leg, result in self.results[key] if has_score(result)]
        up = all(result.higher_is_better for _, result in scored)
        best: tuple[float, Leg] | None = None
        for leg, result in scored:
            assert result.score is not None
            gain = result.score if up else -result.score
            if best is None or gain > best[0]:
                best = gain, leg
        return None if best is None else best[1]

    def table(self) -> Captioned:
        """A row for each point, recipe and method, and for what was only built on."""
        rows: list[Row] = []
        for (name, method), found in self.results.items():
            chosen = self.leg((name, method))
            rows += [
                {
                    "task": name,
                    "method": label(method),
                    **dict(leg.point.settings),
                    "metric": result.metric,
                    "seed": result.seed,
                    "score": shown_score(result),
                    "chosen": "yes" if leg is chosen else None,
                    TUNING_COST: round(cost_of(result)),
                }
                for leg, result in found
            ]
        for task, word in dict.fromkeys((result.recipe, result.method) for result in self.brought):
            seconds = sum(cost_of(each) for each in self.brought if (each.recipe, each.method) == (task, word))
            rows.append({"task": task, "method": f"{word} (built on)", TUNING_COST: round(seconds)})
        return selection_table(rows)


def selection_trials(
    legs: Sequence[Leg], methods: Sequence[MethodSettings], seeds: Collection[int], root: Path
) -> list[Trial]:
    """The trials of the points, and what they build on.

    Args:
        legs: Of the sweep.
        methods: What is compared.
        seeds: Those that are reported.
        root: Where runs are.
    """
    seed = tuning_seed(seeds)
    points = {trial_key(_at(recipe, methods[0], seed)): leg.point.label for leg in legs for recipe in leg.recipes}
    wanted = [_at(recipe, method, seed) for leg in legs for recipe in leg.recipes for method in methods]
    trials = trials_of(wanted, root, tuning=True)
    return [
        replace(trial, point=points.get(trial_key(trial.recipe.model_copy(update={"method": methods[0]})), ""))
        for trial in trials
    ]


def select(
    legs: Sequence[Leg],
    methods: Sequence[MethodSettings],
    seeds: Collection[int],
    trials: Sequence[Trial],
    runs: Sequence[Run | None],
) -> Selected:
    """The choices that can be made: of recipes and methods whose runs have all ended, well or not.

    Args:
        legs: Of the sweep.
        methods: What is compared.
        seeds: Those that are reported.
        trials: From `selection_trials` of the same.
        runs: Of each trial; None where it has none, or where it is to be gone on with.
    """
    seed = tuning_seed(seeds)
    results = {
        trial_key(trial.recipe): read_result(run) for trial, run in zip(trials, runs, strict=True) if run is not None
    }
    found: dict[Key, tuple[tuple[Leg, Result], ...]] = {}
    for place, recipe in enumerate(legs[0].recipes):
        for method in methods:
            keys = [(leg, trial_key(_at(leg.recipes[place], method, seed))) for leg in legs]
            if all(key in results for _, key in keys):
                found[recipe.name, method] = tuple((leg, results[key]) for leg, key in keys)
    brought = [trial_key(trial.recipe) for trial in trials if not trial.wanted]
    return Selected(found, tuple(results[key] for key in brought if key in results))


def selected_trials(
    legs: Sequence[Leg], methods: Sequence[MethodSettings], seeds: Sequence[int], root: Path, selected: Selected
) -> list[Trial]:
    """The trials that are reported; where a point has yet to be chosen, the first stands for it, without a run.

    Args:
        legs: Of the sweep.
        methods: What is compared.
        seeds: Those that are reported.
        root: Where runs are.
        selected: What is chosen so far.
    """
    wanted: list[Recipe] = []
    points: dict[str, str] = {}
    for seed in seeds:
        for place, recipe in enumerate(legs[0].recipes):
            for method in methods:
                known = (recipe.name, method) in selected.results
                leg = selected.leg((recipe.name, method)) if known else legs[0]
                if leg is not None:
                    wanted.append(leg.recipes[place].model_copy(update={"method": method, "seed": seed}))
                    points[trial_key(wanted[-1])] = leg.point.label if known else UNCHOSEN
    trials = [replace(trial, point=points.get(trial_key(trial.recipe), "")) for trial in trials_of(wanted, root)]
    return [replace(trial, run=None) if trial.point == UNCHOSEN else trial for trial in trials]


def selected_results(
    legs: Sequence[Leg],
    methods: Sequence[MethodSettings],
    seeds: Sequence[int],
    selected: Selected,
    runs: Mapping[str, Run],
) -> list[Result]:
    """By recipe, method and seed.

    Args:
        legs: Of the sweep.
        methods: What is compared.
        seeds: Those that are reported.
        selected: What was chosen.
        runs: By the trials' keys.
    """
    results = []
    for place, recipe in enumerate(legs[0].recipes):
        for method in methods:
            leg = selected.leg((recipe.name, method))
            for seed in seeds:
                if leg is None:
                    why = _why(selected, (recipe.name, method))
                    results.append(Result(recipe.name, label(method), seed, "missing", reason=why))
                    continue
                chosen = leg.recipes[place].model_copy(update={"method": method, "seed": seed})
                results.append(read_result(runs[trial_key(chosen)]))
    return results


def _at(recipe: Recipe, method: MethodSettings, seed: int) -> Recipe:
    return held_out(recipe, seed).model_copy(update={"method": method})


def _why(selected: Selected, key: Key) -> str:
    reasons = (result.reason for _, result in selected.results[key] if result.reason)
    why = next((f": {reason}" for reason in reasons), "")
    return f"no point of the sweep gave it a score{why}"
