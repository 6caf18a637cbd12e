"""What tuning came to: the scores of each rate of the grid, the rate that is chosen, and what it cost (`Tuning`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolora.comparison.groups import has_score
from autolora.comparison.outcome import SELECTION, TUNING_COST, Captioned
from autolora.recipe.method import label, shortest
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.recipe.tuning import FIELD, RateRange, parse_tune
from autolora.runs.results import Result
from autolora.tables import Cell, Row

SHARE = 0.1  # of the training split that a rate is scored on
STEM = "tuning"
_FELL_OUT = ("failed", "cancelled", "running", "partial", "missing")  # cells of trials that say nothing of their rates

Key = tuple[str, MethodSettings]  # a recipe's name, and a method without a rate


@dataclass(frozen=True)
class Choice:
    """What the rates of a grid came to, for one recipe and method.

    Args:
        recipe: Its name.
        method: Without a rate.
        results: Of the trials, by rate, ascending; of a search, in the order in which they were tried.
        searched: The range, where there is no grid.
    """

    recipe: str
    method: MethodSettings
    results: Mapping[float, Result]
    searched: RateRange | None = None

    @property
    def rate(self) -> float | None:
        """The best rate; None where no trial has a score."""
        scores = {rate: result.score for rate, result in self.results.items() if has_score(result)}
        if not scores:
            return None
        up = all(result.higher_is_better for result in self.results.values() if has_score(result))
        known = [score for score in scores.values() if score is not None]
        best = max(known) if up else min(known)
        return min(rate for rate, score in scores.items() if score == best)

    def row(self) -> Row:
        """Of the table: a score for each rate, the rate that was chosen, and what it cost.

        Of a search: how many were tried, the best score, and the range.
        """
        found = self.results.values()
        scores: dict[str, Cell] = {shortest(rate): shown_score(result) for rate, result in self.results.items()}
        if self.searched is not None:
            best = None if self.rate is None else shown_score(self.results[self.rate])
            scores = {"range": self.searched.label, "tried": len(self.results), "best score": best}
        return {
            "task": self.recipe,
            "method": label(self.method),
            "metric": next((result.metric for result in found if result.metric), None),
            "seed": next(iter(found)).seed,
            **scores,
            "chosen": None if self.rate is None else shortest(self.rate),
            TUNING_COST: round(sum(map(cost_of, found))),
        }


@dataclass(frozen=True)
class Tuning:
    """What is chosen so far.

    Args:
        choices: By recipe and method; those whose trials are not all done are left out.
        brought: Results of what the methods' trials built on.
    """

    choices: Mapping[Key, Choice]
    brought: tuple[Result, ...] = ()

    def method(self, recipe: Recipe, method: MethodSettings) -> MethodSettings | None:
        """The method at the rate that it is reported at; None where none of the grid's had a score.

        Args:
            recipe: On which.
            method: As it was asked for.

        Raises:
            KeyError: Its rate has yet to be chosen.
        """
        if method.learning_rate is not None:
            return method
        rate = self.choices[recipe.name, method].rate
        return None if rate is None else method.model_copy(update={"learning_rate": rate})

    def rows(self) -> list[Row]:
        """A row for each choice, then one for each method that was only built on, which has a cost alone."""
        rows = [choice.row() for choice in self.choices.values()]
        for task, method in dict.fromkeys((result.recipe, result.method) for result in self.brought):
            seconds = sum(cost_of(each) for each in self.brought if (each.recipe, each.method) == (task, method))
            rows.append({"task": task, "method": f"{method} (built on)", TUNING_COST: round(seconds)})
        return rows


def selection_table(rows: Sequence[Row]) -> Captioned:
    """The table of a sweep's choice, with what it is of below it.

    Args:
        rows: From `autolora.comparison.select.Selected`, or as selection.json has them.
    """
    title, notes = "Settings: scores of each, and which was chosen", (_held_out_note(rows),)
    return Captioned(SELECTION, title, rows, ("seed",), notes, (TUNING_COST,))


def _held_out_note(rows: Sequence[Row]) -> str:
    """What such scores are of."""
    seeds = list(dict.fromkeys(row["seed"] for row in rows if row.get("seed") is not None))
    return (
        f"Scores on {SHARE:.0%} of the training split, held out, with seed {', '.join(map(str, seeds))}, which is not "
        "reported; no evaluation split has a part in them."
    )


def tuning_table(rows: Sequence[Row]) -> Captioned:
    """The table, with what there is to warn of below it.

    Args:
        rows: From `Tuning.rows`, or as tuning.json has them.
    """
    notes = [_held_out_note(rows)]
    lacking: dict[tuple[Cell, str], list[str]] = {}
    for row in rows:
        for rate in (name for name in row if _is_rate(name) and row[name] in _FELL_OUT):
            lacking.setdefault((row["task"], rate), []).append(str(row["method"]))
    notes += [
        f"{task}, {', '.join(methods)}: not chosen among, as its trial failed: {rate}."
        for (task, rate), methods in lacking.items()
    ]
    at_end: dict[tuple[Cell, str], list[str]] = {}
    for row in rows:
        if said := _near_an_end(row) if row.get("range") else _at_an_end(row):
            at_end.setdefault((row["task"], said), []).append(str(row["method"]))
    notes += [f"{task}, {', '.join(methods)}: {said}: widen it." for (task, said), methods in at_end.items()]
    searched = any(row.get("range") for row in rows)
    caption = f"Learning rates: {'what was searched' if searched else 'scores of the grid'}, and which was chosen"
    return Captioned(STEM, caption, rows, ("seed",), tuple(notes), (TUNING_COST,))


def _at_an_end(row: Row) -> str:
    """What is to be said of a grid whose best rate is its smallest or its largest; "" for nothing."""
    grid = sorted((name for name in row if _is_rate(name)), key=float)
    if row.get("chosen") not in (grid[:1] + grid[-1:]) or any(row[name] in _FELL_OUT for name in grid):
        return ""
    return f"the best rate is the {'smallest' if row['chosen'] == grid[0] else 'largest'} of the grid, {row['chosen']}"


def _near_an_end(row: Row) -> str:
    """What is to be said of a search whose best rate lies in the outer twentieth of its range; "" for nothing."""
    if row.get("chosen") is None:
        return ""
    of_it = parse_tune(f"{FIELD}={row['range']}")
    assert isinstance(of_it, RateRange)
    low, high, chosen = (math.log(x) if of_it.log else x for x in (of_it.low, of_it.high, float(row["chosen"] or 0)))
    share = (chosen - low) / (high - low)
    if 0.05 <= share <= 0.95:
        return ""
    return f"the best rate, {row['chosen']}, is near the {'smallest' if share < 0.5 else 'largest'} of the range"


def shown_score(result: Result) -> Cell:
    """The score of a trial, or why it has none.

    Args:
        result: Of a trial of tuning.
    """
    if has_score(result):
        return result.score
    if result.state == "success":
        return "no score"
    return result.state if fell_out(result) else "diverged"


def fell_out(result: Result) -> bool:
    """Whether a trial says nothing of its setting: it failed for another reason than that its training diverged.

    Args:
        result: Of a trial of tuning.
    """
    return result.state != "success" and "diverged" not in (result.reason or "")


def cost_of(result: Result) -> float:
    """Seconds of search and retraining, as far as they went.

    Args:
        result: Of a trial of tuning.
    """
    stages = result.manifest.get("stages", {})
    return float(sum(stages.get(name, {}).get("seconds", 0.0) for name in ("search", "retrain")))


def _is_rate(column: str) -> bool:
    return column[0].isdecimal()
