"""The runs of one task as its sections of a report see them: ``task_runs(results, drawings)``.

Nothing of the runs' files is held here: a section reads what it shows of one run after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolora.comparison.groups import by_task, has_score, methods_of
from autolora.comparison.statistics import mean
from autolora.lora.ranks import Ranks
from autolora.plots.figures import Style
from autolora.report.blocks import Figure, Heading
from autolora.report.drawings import Drawings
from autolora.report.run_files import searched_ranks
from autolora.runs.results import Result

MOST_METHODS = 20  # of a task, that are drawn; the tables have them all
MOST_SEEDS = 10  # of a method, between which ranks are compared: pairs grow as their square


@dataclass(frozen=True)
class TaskRuns:
    """One task: its successful runs by method, in order of seed, and where its figures go.

    Args:
        name: Of the task.
        methods: Those that are drawn, at most `MOST_METHODS`: the best by their mean score.
        left_out: How many there are besides.
        drawings: Where the figures go.
    """

    name: str
    methods: Mapping[str, tuple[Result, ...]]
    left_out: int
    drawings: Drawings

    def searched(self, result: Result) -> Ranks | None:
        """What the search found; None where the run is gone or had no search."""
        return None if result.run is None else searched_ranks(result.run)

    def ranks(self, runs: Sequence[Result]) -> list[Ranks]:
        """The final ranks of the runs that have some; of one that has only searched so far, those it found."""
        found = (run.ranks if run.ranks is not None else self.searched(run) for run in runs)
        return [ranks for ranks in found if ranks is not None]

    def initial_rank(self, runs: Sequence[Result]) -> int:
        """What the ranks are out of; their largest where that is not known, or smaller."""
        found = self.ranks(runs)
        return max([1, *(ranks.initial_rank for ranks in found), *(r for ranks in found for r in ranks.values())])

    @property
    def looks(self) -> Mapping[str, Style]:
        """The style of each method, the same in the whole document."""
        return self.drawings.looks

    def heading(self, text: str) -> Heading:
        """A heading within the task."""
        return Heading(3, text, self.drawings.names.new(self.name, text))

    def place(self, *words: str) -> Path:
        """The path of a new figure."""
        return self.drawings.place(self.name, *words)

    def figure(self, path: Path, caption: str, alt: str) -> Figure:
        """The figure that was written to `path`."""
        return self.drawings.figure(path, caption, f"{self.name}: {alt}")


def task_runs(results: Sequence[Result], drawings: Drawings) -> Iterator[TaskRuns]:
    """One for each task, in order of first appearance. Runs that did not succeed are left out.

    Args:
        results: Of every trial.
        drawings: Where the figures go.
    """
    for task, mine in by_task(results).items():
        methods = _by_method(mine)
        best = _best(methods)
        yield TaskRuns(task, {name: methods[name] for name in best}, len(methods) - len(best), drawings)


def _by_method(results: Sequence[Result]) -> dict[str, tuple[Result, ...]]:
    found: dict[str, list[Result]] = {method: [] for method in methods_of(results)}
    for result in sorted((each for each in results if each.state == "success"), key=lambda each: each.seed):
        found[result.method].append(result)
    return {method: tuple(runs) for method, runs in found.items() if runs}


def _best(methods: Mapping[str, Sequence[Result]]) -> list[str]:
    """The methods that are drawn, in their order: all, or the best `MOST_METHODS` by their mean score."""
    if len(methods) <= MOST_METHODS:
        return list(methods)
    kept = set(sorted(methods, key=lambda method: _rank(methods[method]))[:MOST_METHODS])
    return [method for method in methods if method in kept]


def _rank(runs: Sequence[Result]) -> tuple[bool, float]:
    """Smaller is better; those without a score come last."""
    scores = [run.score for run in runs if has_score(run) and run.score is not None]
    found = mean(scores)
    return found is None, 0.0 if found is None else -found if runs[0].higher_is_better else found
