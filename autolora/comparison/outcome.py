"""The tables of a comparison: ``outcome(results, baseline)``, and ``write_outcome(…, folder)`` for the files.

What the same runs always give (scores, ranks, parameters, passes, statistics) is apart from what depends on the machine
(seconds, memory), so that the former are the same files however often the comparison was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autolora import safe
from autolora.comparison.arms import FILE, Arms, best_note, sweep_rows
from autolora.comparison.flatness import flatness_notes
from autolora.comparison.groups import methods_of, tasks_of
from autolora.comparison.latex import latex
from autolora.comparison.published import PublishedRow, published_rows
from autolora.comparison.recovered import CAPTION, recovery
from autolora.comparison.statistics import check_interval
from autolora.comparison.summary import as_json, differences, failures, summary
from autolora.comparison.wide import glue_wide, task_name
from autolora.errors import UserError
from autolora.files import write_atomic, write_json
from autolora.recipe.method import label, parse_method
from autolora.runs.folders import TRIALS
from autolora.runs.results import Result
from autolora.tables import Row, to_markdown, write_table

COSTS = ("search s", "retrain s", "total s", "memory MiB")
DIFFERENCES = "differences"
SWEEP = "settings"  # the table of differences of a sweep
SELECTION = "selection"
TUNING_COST = "tuning s"
# Tables that not every comparison of the same recipes has, and the list of a sweep's settings.
OPTIONAL = frozenset({DIFFERENCES, "published", "failures", "tuning", "recovery", SELECTION, SWEEP, Path(FILE).stem})
PASSES = ("forward passes", "backward passes")
OF_A_SWEEP = "--baseline: a sweep compares every setting with the recipe's own, method by method; leave it out"
OURS = ("autolora", "squeeze")  # what is compared with the others, and with each other where there are none


@dataclass(frozen=True)
class Captioned:
    """One table.

    Args:
        stem: The name of its files.
        caption: What stands above it.
        rows: Of one kind, see `autolora.tables`.
        aside: Columns that a terminal has no room for.
        notes: Sentences that stand below it.
        measured: Columns that depend on the machine.
    """

    stem: str
    caption: str
    rows: Sequence[Row]
    aside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()

    @property
    def narrow(self) -> list[Row]:
        """The rows without the columns that are left aside."""
        return [_without(row, self.aside) for row in self.rows]

    @property
    def markdown(self) -> str:
        """Caption, rows and notes, without what depends on the machine."""
        notes = "".join(f"\n{safe.markdown(note)}\n" for note in self.notes)
        table = to_markdown([_without(row, self.measured) for row in self.rows])
        return f"## {safe.markdown(self.caption)}\n\n{table}{notes}"


def default_baseline(methods: Sequence[str]) -> str | None:
    """What methods are compared with unless it is said: lora-matched, a uniform LoRA, whatever is neither of ours.

    Of several with one name, which differ in their size, it is the first: the table says which.

    Args:
        methods: Labels; of a single one there is nothing to compare it with.
    """
    if len(methods) < 2:
        return None
    named: dict[str, str] = {}
    for method in methods:
        named.setdefault(method.split(":")[0], method)
    others = [name for name in named if name not in OURS]
    return next((named[name] for name in ("lora-matched", "lora", *others, *OURS) if name in named), None)


def spelt(method: str, labels: Sequence[str]) -> str:
    """A method's label, however the user has spelt the method; what is none of the labels is left as it is.

    >>> spelt("lora:4:learning_rate=3e-4", ["autolora", "lora:4:learning_rate=0.0003"])
    'lora:4:learning_rate=0.0003'

    Args:
        method: As the user has written it.
        labels: Of the methods that are compared.
    """
    try:
        found = method if method in labels else label(parse_method(method))
    except UserError:
        return method
    return found if found in labels else method


def outcome(
    results: Sequence[Result],
    baseline: str | None = None,
    interval: str = "t",
    *,
    published: bool = False,
    tuning: Captioned | None = None,
    arms: Arms | None = None,
) -> list[Captioned]:
    """All tables that these results give, the shortest first.

    Args:
        results: Of every trial, successful or not.
        baseline: One of the methods, see `spelt`; None for `default_baseline`.
        interval: "t" or "bootstrap".
        published: Add the figures that others published for these tasks.
        tuning: How the methods' learning rates, or the settings of a sweep, were chosen, where they were.
        arms: Of a sweep, whose tables have a column for each setting; the baseline is each method's own.

    Raises:
        UserError: There is no such baseline or interval, a sweep is given one, a log is damaged, or as
            `autolora.comparison.groups.scores_by_task`.
    """
    check_interval(interval)
    if baseline and arms is not None:
        raise UserError(OF_A_SWEEP)
    methods, tasks = methods_of(results), tasks_of(results)
    baseline = spelt(baseline, methods) if baseline else default_baseline(methods)
    baseline = None if arms is not None else baseline
    rows = [_rounded(row) for row in summary(results)]
    tables = []
    if len(tasks) > 1:
        tables.append(Captioned("by_task", "Mean ± standard deviation over seeds, by task", glue_wide(results)))
    scores = [_without(row, COSTS) for row in rows]
    notes = (*flatness_notes(results), *(best_note(scores, arms) if arms is not None else ()))
    tables.append(Captioned("scores", "Scores, and what was trained", scores, (*PASSES, "other metrics"), notes))
    if baseline is not None:
        test = "t intervals, paired t-tests" if interval == "t" else "bootstrap intervals, sign-flip tests"
        caption = f"Differences to {baseline}, paired by seed (95 % {test}, Holm's correction within a task)"
        tables.append(Captioned(DIFFERENCES, caption, differences(results, baseline, interval), ("baseline", "p")))
    if arms is not None:
        tables.append(_swept(results, arms, interval))
    kept = {"task", "method", "seeds", *COSTS, *PASSES}
    costs = [{name: cell for name, cell in row.items() if name in kept} for row in rows]
    beside: tuple[str, ...] = ()
    if tuning is not None:
        tables.append(tuning)
        took = sum(float(row[TUNING_COST] or 0) for row in tuning.rows)
        what = "settings" if tuning.stem == SELECTION else "learning rates"
        beside = (f"Choosing the {what} took {took:.0f} s of search and retraining beside this.",)
    tables.append(Captioned("costs", "Costs: means over seeds; memory is the largest", costs, PASSES, beside))
    if recovered := recovery(results):
        tables.append(Captioned("recovery", CAPTION, recovered))
    if published and (found := _published(results)):
        caption = "Published figures (of others, with other settings; not measured), in percent"
        tables.append(Captioned("published", caption, found, ("source",)))
    if failed := failures(results):
        tables.append(Captioned("failures", "Trials without a score", failed))
    if arms is not None:
        aside = (*(["task"] if len(tasks) == 1 else []), *(["method"] if len(arms.methods) == 1 else []))
        spread = ([arms.spread(row) for row in table.rows] for table in tables)
        tables = [
            replace(table, rows=rows, aside=(*table.aside, *(aside if table.stem != "tuning" else ())))
            for table, rows in zip(tables, spread, strict=True)
        ]
    return tables


def _swept(results: Sequence[Result], arms: Arms, interval: str) -> Captioned:
    """The differences within each method of a sweep."""
    test = "t intervals, paired t-tests" if interval == "t" else "bootstrap intervals, sign-flip tests"
    caption = (
        "Differences to the recipe's own values, or to the first, paired by seed "
        f"(95 % {test}, Holm's correction within a task and method)"
    )
    return Captioned(SWEEP, caption, sweep_rows(results, arms, interval), ("p", "p (Holm)", "seeds"))


def write_outcome(
    tables: Sequence[Captioned],
    results: Sequence[Result],
    folder: Path,
    *,
    published: bool = False,
    arms: Arms | None = None,
) -> list[Path]:
    """Write the tables, and everything that they are made of.

    Each table as Markdown, CSV and JSON, all together as comparison.md, the paper's layout as table.tex, and
    trials.json, which has everything, with the runs by their paths from there.

    Args:
        tables: From `outcome`.
        results: What they are made of.
        folder: Where the files go.
        published: Whether table.tex has published figures, too.
        arms: Of a sweep, for sweep.json.

    Returns:
        What was written.
    """
    written = []
    for table in tables:
        written += write_table(table.rows, folder, table.stem)
    for stale in OPTIONAL - {table.stem for table in tables}:  # of an earlier time
        for path in folder.glob(f"{stale}.*"):
            path.unlink()
    fixed = [table for table in tables if table.stem != "costs"]
    write_atomic(folder / "comparison.md", "\n".join(table.markdown for table in fixed))
    rows = _published_rows(results) if published else []
    write_atomic(folder / "table.tex", latex(results, rows))
    here = folder.resolve()
    trials = [replace(each, run=each.run and Path(os.path.relpath(each.run.resolve(), here))) for each in results]
    write_json(folder / TRIALS, as_json(trials))
    if arms is not None:
        write_json(folder / FILE, arms.as_json())
    return [*written, folder / "comparison.md", folder / "table.tex", folder / TRIALS]


def _rounded(row: Row) -> Row:
    """Seconds, mebibytes, ranks and passes to what they are worth: whole numbers, or text with one decimal."""
    cells = dict(row)
    for name in COSTS:
        value = cells.get(name)
        cells[name] = None if value is None else round(float(value))
    for name in ("total rank", *PASSES):
        value = cells.get(name)
        cells[name] = f"{value:.1f}" if isinstance(value, float) else value
    return cells


def _without(row: Row, names: Sequence[str]) -> Row:
    return {name: cell for name, cell in row.items() if name not in names}


def _published_rows(results: Sequence[Result]) -> list[PublishedRow]:
    return published_rows([name for name in map(task_name, tasks_of(results)) if name])


def _published(results: Sequence[Result]) -> list[Row]:
    metrics = {name: "" for name in map(task_name, tasks_of(results)) if name}
    metrics |= {name: str(r.metric) for r in results if r.metric and (name := task_name(r.recipe))}
    rows: list[Row] = []
    for row in published_rows(metrics):
        scores = {task: row.figure(task, metric) for task, metric in metrics.items()}
        average = None if row.average is None else f"{row.average:g}"
        note = f"{row.source}; {row.note}" if row.note else row.source
        rows.append({"method": row.label, **scores, "average": average, "of tasks": row.averaged, "source": note})
    return rows
