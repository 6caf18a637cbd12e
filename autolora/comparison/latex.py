"""The table of a paper, in LaTeX: ``latex(results, published_rows(["cola"]))`` is a tabular that needs booktabs.

A line for each method, a column for each task (see `autolora.comparison.wide`). Cells are the mean over seeds with the
sample standard deviation as a subscript: in percent, one decimal; NIST, CIDEr and what exceeds 1 as they are, two
decimals. The best mean of a column is bold, as are those that look the same; one over fewer seeds than others have is
marked, and never bold. Published rows come after a rule, each
marked "(published)"; none of their figures is bold.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolora.comparison.published import AS_THEY_ARE, PublishedRow
from autolora.comparison.wide import Column, Layout, layout
from autolora.runs.results import Result
from autolora.safe import latex as escape
from autolora.safe import latex_comment


def latex(results: Sequence[Result], published: Sequence[PublishedRow] = ()) -> str:
    """The tabular, with comments that say each column's metric and each published row's source.

    A published average over other tasks than the table's says so in its cell; a published row without a cell in this
    table is left out.

    Args:
        results: Of every trial, successful or not.
        published: From `published_rows`.

    Raises:
        UserError: A recipe, method and seed come twice.
    """
    plan = layout(results)
    heading = ["Method", "Parameters", *(escape(_title(column)) for column in plan.columns)]
    best = [_best(column, plan) for column in plan.columns]
    lines = [_line([escape(method), _parameters(plan, method), *_cells(plan, method, best)]) for method in plan.methods]
    shown = [(row, _published_cells(plan, row)) for row in published]
    shown = [(row, cells) for row, cells in shown if any(cells)]
    others = [_line([escape(row.label), "", *cells]) for row, cells in shown]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            *(f"% {latex_comment(_describe(column))}" for column in plan.columns),
            *(["% $^{1/5}$: one seed of five has a score"] if any("^{" in line for line in lines) else []),
            *(f"% {latex_comment(_source(row))}" for row, _ in shown),
            rf"\begin{{tabular}}{{lr{'c' * len(plan.columns)}}}",
            r"\toprule",
            _line(heading),
            r"\midrule",
            *lines,
            *([r"\midrule", *others] if others else []),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _title(column: Column) -> str:
    return "Average" if column.task_scores.is_average else column.title


def _parameters(plan: Layout, method: str) -> str:
    number = plan.parameters[method]
    return "" if number is None else f"{number:,}"


def _cells(plan: Layout, method: str, best: Sequence[str | None]) -> list[str]:
    return [_cell(column, method, top, plan) for column, top in zip(plan.columns, best, strict=True)]


def _cell(column: Column, method: str, best: str | None, plan: Layout) -> str:
    score, spread = column.score(method), column.sd(method)
    if score is None:
        return ""
    text, lacks = _number(score, column, plan), column.lacks(method)
    mean = rf"\textbf{{{text}}}" if text == best and not lacks else text
    over = f"^{{{lacks.replace(' of ', '/')}}}" if lacks else ""
    under = "" if spread is None else rf"_{{\pm {_number(spread, column, plan)}}}"
    return f"{mean}${under}{over}$" if under or over else mean


def _best(column: Column, plan: Layout) -> str | None:
    """The text of the best mean; None where fewer than two methods have one. Of fewer seeds than others', none is."""
    whole = [method for method in plan.methods if not column.lacks(method)]
    scores = [score for score in map(column.score, whole) if score is not None]
    best = max if column.task_scores.higher_is_better else min
    return _number(best(scores), column, plan) if len(scores) > 1 else None


def _number(value: float, column: Column, plan: Layout) -> str:
    text = f"{100 * value:.1f}" if _in_percent(column, plan) else f"{value:.2f}"
    return text if text.strip("-0.") else text.lstrip("-")  # no -0.0


def _in_percent(column: Column, plan: Layout) -> bool:
    """Of an average: whether all its tasks are."""
    if column.task_scores.is_average:
        return all(_in_percent(task, plan) for task in plan.columns if not task.task_scores.is_average)
    return column.metric not in AS_THEY_ARE and all(abs(value) <= 1 for value in column.values)


def _describe(column: Column) -> str:
    return f"{_title(column)}: {column.metric or 'no score'}"


def _published_cells(plan: Layout, row: PublishedRow) -> list[str]:
    return [
        _published_average(plan, row) if c.task_scores.is_average else _published_score(c, row) for c in plan.columns
    ]


def _published_score(column: Column, row: PublishedRow) -> str:
    return row.figure(column.name, column.metric) or ""


def _published_average(plan: Layout, row: PublishedRow) -> str:
    if row.average is None:
        return ""
    text = f"{row.average:.2f}".removesuffix("0")
    here = sorted(column.name for column in plan.columns if not column.task_scores.is_average)
    if row.averaged is None:
        return f"{text} (GLUE)"
    return text if here == sorted(row.tasks) and len(here) == row.averaged else f"{text} (of {row.averaged} tasks)"


def _source(row: PublishedRow) -> str:
    return f"{row.label}: {row.source}{'; ' + row.note if row.note else ''}"
