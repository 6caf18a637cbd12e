"""Methods as rows and tasks as columns, as the paper's tables have it: ``glue_wide(results)``, and ``layout(results)``.

GLUE's tasks (``glue/cola``, ``glue-mini/cola``: any folder that begins with glue) go first, in the paper's order and
by their usual names; other recipes follow in their own order under their own names. The average is there from two tasks
on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolora.compare.groups import Family, families, methods_of
from autolora.compare.results import Result
from autolora.compare.statistics import mean, sd
from autolora.report.tables import Cell, Row

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
    """One task, or the average. title: its heading. name: GLUE's short name, or e2e and such, "" for others."""

    title: str
    name: str
    family: Family

    def score(self, method: str) -> float | None:
        """The mean over seeds."""
        return mean(self._scores(method))

    def sd(self, method: str) -> float | None:
        """Over seeds, n − 1; None of one seed."""
        return sd(self._scores(method))

    @property
    def metric(self) -> str:
        """That the methods are compared by, "" where nothing succeeded."""
        return next((group.metric for group in self.family.groups.values() if group.metric), "")

    @property
    def values(self) -> list[float]:
        """All scores of the column."""
        return [score for group in self.family.groups.values() for score in group.scores.values()]

    def _scores(self, method: str) -> list[float]:
        return list(self.family.groups[method].scores.values()) if method in self.family.groups else []


@dataclass(frozen=True)
class Layout:
    """parameters: mean adapter parameters by method over all cells with a score, whole; None where there is none."""

    methods: tuple[str, ...]
    columns: tuple[Column, ...]
    parameters: Mapping[str, int | None]


def layout(results: Sequence[Result]) -> Layout:
    """Methods, columns and parameters. Raises UserError where a recipe, method and seed come twice."""
    found = families(results)
    columns = _columns([family for family in found if not family.is_average])
    columns += [Column("average", "", family) for family in found if family.is_average]
    methods = methods_of(results)
    parameters = {method: _parameters(method, found) for method in methods}
    return Layout(tuple(methods), tuple(columns), parameters)


def glue_wide(results: Sequence[Result]) -> list[Row]:
    """A row for each method: parameters, then a text for each task and the average, "0.1635 ± 0.0123" (mean ± sd).

    No ± with one seed; empty without a score.
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
    """
    folder, _, name = recipe.rpartition("/")
    folder = folder.rpartition("/")[2]
    if name in GLUE_TITLES:
        return name if folder.startswith("glue") else ""
    return name if name in _PUBLISHED_NAMES and folder.startswith(_PUBLISHED_NAMES[name]) else ""


def _columns(tasks: Sequence[Family]) -> list[Column]:
    """GLUE's first. A heading that two would have (glue/cola and glue-mini/cola) is the recipe's name instead."""
    order = list(GLUE_TITLES)
    names = {family.task: task_name(family.task) for family in tasks}
    titles = {task: GLUE_TITLES.get(name, task) for task, name in names.items()}
    often = Counter([*titles.values(), "method", "parameters", "average"])
    glue = sorted((f for f in tasks if names[f.task] in GLUE_TITLES), key=lambda f: order.index(names[f.task]))
    others = [family for family in tasks if names[family.task] not in GLUE_TITLES]
    columns = []
    for family in (*glue, *others):
        title = titles[family.task]
        if often[title] > 1:
            title = family.task if title != family.task else f"{family.task} (task)"
        columns.append(Column(title, names[family.task], family))
    return columns


def _parameters(method: str, found: Sequence[Family]) -> int | None:
    groups = [family.groups[method] for family in found if not family.is_average and method in family.groups]
    numbers = [cell.adapter_parameters for group in groups for cell in group.scored]
    known = mean([float(number) for number in numbers if number is not None])
    return None if known is None else round(known)


def _text(column: Column, method: str) -> str | None:
    score, spread = column.score(method), column.sd(method)
    if score is None:
        return None
    return f"{score:.4f}" if spread is None else f"{score:.4f} ± {spread:.4f}"
