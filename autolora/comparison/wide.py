"""Methods as rows and tasks as columns, as the paper's tables have it: ``glue_wide(results)``, and ``layout(results)``.

GLUE's tasks (``glue/cola``, ``glue-mini/cola``: any folder that begins with glue) go first, in the paper's order and
by their usual names; other recipes follow in their own order under their own names. The average is there from two tasks
on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolora.comparison.groups import TaskScores, methods_of, scores_by_task
from autolora.comparison.statistics import mean, sd
from autolora.runs.results import Result
from autolora.tables import Cell, Row

GLUE_TITLES = {
    "mnli": "MNLI",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "cola": "CoLA",
    "qnli": "QNLI",
    "qqp": "QQP",
    "rte": "RTE",
    "stsb": "STS-B",
}
_PUBLISHED_NAMES = {"e2e": "nlg", "webnlg": "nlg", "jnlpba": "ner", "bionlp2004": "ner"}  # and the folder's beginning


@dataclass(frozen=True)
class Column:
    """One task, or the average.

    Args:
        title: Its heading.
        name: GLUE's short name, or e2e and such, "" for others.
        task_scores: What it shows.
    """

    title: str
    name: str
    task_scores: TaskScores

    def score(self, method: str) -> float | None:
        """The mean over seeds; None without a score.

        Args:
            method: Its label.
        """
        return mean(self._scores(method))

    def sd(self, method: str) -> float | None:
        """Over seeds, n − 1; None of one seed.

        Args:
            method: Its label.
        """
        return sd(self._scores(method))

    def lacks(self, method: str) -> str:
        """``4 of 5``, of the seeds that others have a score for; "" where none is missing.

        Args:
            method: Its label.
        """
        most = max((len(group.scores) for group in self.task_scores.groups.values()), default=0)
        here = len(self._scores(method))
        return f"{here} of {most}" if 0 < here < most else ""

    @property
    def metric(self) -> str:
        """That the methods are compared by, "" where nothing succeeded."""
        return next((group.metric for group in self.task_scores.groups.values() if group.metric), "")

    @property
    def values(self) -> list[float]:
        """All scores of the column."""
        return [score for group in self.task_scores.groups.values() for score in group.scores.values()]

    def _scores(self, method: str) -> list[float]:
        return list(self.task_scores.groups[method].scores.values()) if method in self.task_scores.groups else []


@dataclass(frozen=True)
class Layout:
    """What the table consists of.

    Args:
        methods: Labels, in order of first appearance.
        columns: The tasks, then the average.
        parameters: Mean adapter parameters by method over all cells with a score, whole; None where there is none.
    """

    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    parameters: Mapping[str, int | None]


def layout(results: Sequence[Result]) -> Layout:
    """Methods, columns and parameters.

    Args:
        results: Of every trial, successful or not.

    Raises:
        UserError: A recipe, method and seed come twice.
    """
    found = scores_by_task(results)
    columns = _columns([task_scores for task_scores in found if not task_scores.is_average])
    columns += [Column("average", "", task_scores) for task_scores in found if task_scores.is_average]
    methods = methods_of(results)
    parameters = {method: _parameters(method, found) for method in methods}
    return Layout(tuple(methods), tuple(columns), parameters)


def glue_wide(results: Sequence[Result]) -> list[Row]:
    """A row for each method: parameters, then a text for each task and the average, "0.1635 ± 0.0123" (mean ± sd).

    No ± with one seed; empty without a score; with "(4 of 5 seeds)" where others have more.
    """
    plan = layout(results)
    rows: list[Row] = []
    for method in plan.methods:
        row: dict[str, Cell] = {"method": method, "parameters": plan.parameters[method]}
        rows.append({**row, **{column.title: _text(column, method) for column in plan.columns}})
    return rows


def task_name(recipe: str) -> str:
    """The short name under which figures of a recipe's task are published; "" where it is none of those.

    >>> task_name("glue-mini/cola"), task_name("nlg/e2e"), task_name("mine/cola")
    ('cola', 'e2e', '')

    Args:
        recipe: Its name.
    """
    folder, _, name = recipe.rpartition("/")
    folder = folder.rpartition("/")[2]
    if name in GLUE_TITLES:
        return name if folder.startswith("glue") else ""
    return name if name in _PUBLISHED_NAMES and folder.startswith(_PUBLISHED_NAMES[name]) else ""


def _columns(tasks: Sequence[TaskScores]) -> list[Column]:
    """GLUE's first. A heading that two would have (glue/cola and glue-mini/cola) is the recipe's name instead."""
    order = list(GLUE_TITLES)
    names = {task_scores.task: task_name(task_scores.task) for task_scores in tasks}
    titles = {task: GLUE_TITLES.get(name, task) for task, name in names.items()}
    often = Counter([*titles.values(), "method", "parameters", "average"])
    glue = sorted((f for f in tasks if names[f.task] in GLUE_TITLES), key=lambda f: order.index(names[f.task]))
    others = [task_scores for task_scores in tasks if names[task_scores.task] not in GLUE_TITLES]
    columns = []
    for task_scores in (*glue, *others):
        title = titles[task_scores.task]
        if often[title] > 1:
            title = task_scores.task if title != task_scores.task else f"{task_scores.task} (task)"
        columns.append(Column(title, names[task_scores.task], task_scores))
    return columns


def _parameters(method: str, found: Sequence[TaskScores]) -> int | None:
    groups = [
        task_scores.groups[method]
        for task_scores in found
        if not task_scores.is_average and method in task_scores.groups
    ]
    numbers = [result.adapter_parameters for group in groups for result in group.scored]
    known = mean([float(number) for number in numbers if number is not None])
    return None if known is None else round(known)


def _text(column: Column, method: str) -> str | None:
    score, spread = column.score(method), column.sd(method)
    if score is None:
        return None
    text = f"{score:.4f}" if spread is None else f"{score:.4f} ± {spread:.4f}"
    return f"{text} ({lacks} seeds)" if (lacks := column.lacks(method)) else text
