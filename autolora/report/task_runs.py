"""The runs of one task as its sections of a report see them: ``task_runs(results, drawings)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolora.comparison.groups import methods_of, tasks_of
from autolora.lora.ranks import Ranks
from autolora.plots.figures import Style
from autolora.report.blocks import Figure, Heading
from autolora.report.drawings import Drawings
from autolora.report.run_files import searched_ranks
from autolora.runs.results import Result


@dataclass(frozen=True)
class TaskRuns:
    """One task: its successful runs by method, in order of seed, and where its figures go."""

    name: str
    methods: Mapping[str, tuple[Result, ...]]
    drawings: Drawings
    searches: Mapping[Path, Ranks]

    def searched(self, result: Result) -> Ranks | None:
        """What the search found; None where the run is gone or had no search."""
        return None if result.run is None else self.searches.get(result.run)

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


def task_runs(results: Sequence[Result], drawings: Drawings) -> list[TaskRuns]:
    """One for each task, in order of first appearance. Runs that did not succeed are left out."""
    found = []
    for task in tasks_of(results):
        methods = _by_method([each for each in results if each.recipe == task])
        found.append(TaskRuns(task, methods, drawings, _searches(methods)))
    return found


def _by_method(results: Sequence[Result]) -> dict[str, tuple[Result, ...]]:
    done = sorted((each for each in results if each.state == "success"), key=lambda each: each.seed)
    by_method = {method: tuple(each for each in done if each.method == method) for method in methods_of(results)}
    return {method: runs for method, runs in by_method.items() if runs}


def _searches(methods: Mapping[str, Sequence[Result]]) -> dict[Path, Ranks]:
    paths = [each.run for runs in methods.values() for each in runs if each.run is not None]
    found = {path: searched_ranks(path) for path in paths}
    return {path: ranks for path, ranks in found.items() if ranks is not None}
