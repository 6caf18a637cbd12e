"""What ``autolora watch`` shows, in a terminal and as a page: one set of facts and tables for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autolora import safe, tables
from autolora.cli.run_table import STYLES, span
from autolora.runs.progress import POINTS, Progress
from autolora.tables import Row

if TYPE_CHECKING:
    from autolora.comparison.underway import Trial, Underway

BARS = "▁▂▃▄▅▆▇█"
_FAILED_SHOWN = 5


@dataclass(frozen=True)
class View:
    """A moment.

    Args:
        title: The run or comparison.
        state: In a word or two.
        running: Whether it goes on.
        done: Steps or trials.
        total: Of them; None where that is not known.
        facts: Names and texts.
        tables: With their titles.
        notes: Sentences below.
    """

    title: str
    state: str
    running: bool
    done: int
    total: int | None
    facts: dict[str, str]
    tables: tuple[tuple[str, tuple[Row, ...]], ...] = ()
    notes: tuple[str, ...] = ()


def of_run(folder: Path, now: Progress) -> View:
    """A run's view.

    Args:
        folder: The run's, as the user says it.
        now: How far it is.
    """
    summary = now.summary
    facts = {
        "recipe": f"{summary.recipe}, {summary.method}, seed {summary.seed}" if summary.recipe else "",
        "stages": ", ".join(f"{name} {state}" for name, state in now.stages.items()),
        "at it": "" if now.holder is None else str(now.holder),
        "step": "" if now.step is None else f"{now.step} of {now.total or '?'}{_of_part(now)}",
        "loss": ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in now.losses.items()),
        "curve": sparkline(now.curve),
        "held out": _held_out(now),
        "rate": ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in now.rates.items()),
        "speed": "" if now.speed is None else f"{now.speed:.3g} steps/s",
        "left": "" if now.left is None else f"about {span(now.left)} of this stage",
        "since": "" if now.seconds is None or not now.running else f"{span(now.seconds)} in this stage",
        "ranks": _ranks(now),
        "selection": _selection(now),
        "memory": "" if now.memory_mib is None else f"{now.memory_mib:.0f} MiB",
        "score": "" if summary.score is None else f"{summary.metric} {summary.score:.4f}",
        "took": "" if now.running or not summary.seconds else span(summary.seconds),
        "why": summary.reason or "",
    }
    return View(
        str(folder),
        summary.state,
        now.running,
        now.step or 0,
        now.total,
        {n: text for n, text in facts.items() if text},
    )


def of_comparison(folder: Path, now: Underway) -> View:
    """A comparison's view.

    Args:
        folder: The comparison's, as the user says it.
        now: How far it is.
    """
    counts = {state: now.count(state) for state in ("done", "running", "waiting", "failed")}
    facts = {
        "trials": ", ".join(f"{number} {state}" for state, number in counts.items()) + f" of {len(now.trials)}",
        "left": "" if now.left is None or not now.running else f"about {span(now.left)}",
    }
    methods: list[Row] = [
        {
            "task": each.recipe,
            "method": each.arm,
            **{state: each.states[state] for state in counts},
            "metric": each.metric,
            "mean so far": each.shown or None,
        }
        for each in now.means()
    ]
    running: list[Row] = [_running(each) for each in now.trials if each.state == "running"]
    failed = [each for each in now.trials if each.state == "failed"]
    notes = [f"{_name(each)}: {_why(each)}" for each in failed[:_FAILED_SHOWN]]
    if len(failed) > _FAILED_SHOWN:
        notes.append(f"and {len(failed) - _FAILED_SHOWN} more that failed")
    state = "running" if now.running else "finished" if counts["done"] == len(now.trials) else "ended"
    shown = (("Methods", tuple(methods)), ("Running", tuple(running)))
    return View(
        str(folder),
        state,
        now.running,
        counts["done"],
        len(now.trials),
        {name: text for name, text in facts.items() if text},
        tuple((title, rows) for title, rows in shown if rows),
        tuple(notes),
    )


def terminal(view: View, width: int) -> RenderableType:
    """The view for a rich console.

    Args:
        view: Of a moment.
        width: Characters of a line.
    """
    head = Text(safe.one_line(view.title), style="bold")
    head.append(f"  {view.state}", style=STYLES.get(view.state, ""))
    parts: list[RenderableType] = [head]
    if view.total:
        bar = Table.grid()  # which ends its line
        bar.add_row(ProgressBar(total=view.total, completed=min(view.done, view.total), width=min(60, width)))
        parts.append(bar)
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True, style="dim")
    facts.add_column(overflow="fold")
    for name, text in view.facts.items():
        facts.add_row(Text(name), Text(safe.one_line(text)))
    parts.append(facts)
    parts += [_table(rows) for _, rows in view.tables]
    parts += [Text(safe.one_line(note)) for note in view.notes]
    return Group(*parts)


def _table(rows: Sequence[Row]) -> Table:
    """Rows below a head, in what room there is: numbers in full, names cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in tables.column_names(rows):
        number = tables.is_numeric(rows, name) or name in ("mean so far", "step", "left")
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=True, overflow="ellipsis")
        table.columns[-1].min_width = 8 if not number else max(len(tables.show(row.get(name))) for row in rows)
    for row in rows:
        table.add_row(*(Text(safe.one_line(tables.show(row.get(name)))) for name in tables.column_names(rows)))
    return table


def html(view: View, every: float | None, now: datetime) -> str:
    """The view as a page in one file, which loads itself anew while the run or comparison goes on.

    Args:
        view: Of a moment.
        every: Seconds until then; None: nobody writes it any more.
        now: When that is.
    """
    from autolora.report import html as report_html
    from autolora.report.blocks import Block, Heading, Items, Lead, Table, Text

    part = "" if not view.total else f", {view.done} of {view.total}"
    moment = now.replace(tzinfo=None).isoformat(" ", "seconds")
    blocks: list[Block] = [
        Lead(f"{view.state}{part}, as of {moment} UTC"),
        Items(tuple(f"{name}: {text}" for name, text in view.facts.items())),
    ]
    for place, (title, rows) in enumerate(view.tables):
        blocks += [Heading(2, title, f"table-{place}"), Table(title, rows)]
    blocks += [Text(note) for note in view.notes]
    if not view.running:
        blocks.append(Text(f"It has ended. A whole report: autolora report {view.title}"))
    elif every is None:
        blocks.append(Text(f"Nobody watches it any more, so this page stays as it is: autolora watch {view.title}"))
    page = report_html.page(view.title, blocks)
    goes_on = every is not None and view.running
    refresh = f'<meta http-equiv="refresh" content="{max(1, round(every or 0))}">\n' if goes_on else ""
    return page.replace('<meta charset="utf-8">\n', f'<meta charset="utf-8">\n{refresh}', 1)


def sparkline(values: Sequence[float]) -> str:
    """A curve in a line of characters; "" of fewer than two finite values.

    Args:
        values: From left to right.
    """
    known = [value for value in values if value == value and abs(value) != float("inf")]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in known)


def _of_part(now: Progress) -> str:
    """Where a stage has several trainings, which one it is."""
    return f" ({now.part})" if now.part is not None and now.part != now.stage else ""


def _ranks(now: Progress) -> str:
    if not now.ranks:
        return ""
    held = Counter(now.ranks.values())
    shown = ", ".join(f"{held[rank]} at {rank}" for rank in sorted(held))
    return f"sum {sum(now.ranks.values())}, {len(now.ranks)} modules: {shown}"


def _held_out(now: Progress) -> str:
    """The curve of the rows by which weights are chosen, its best step, and the one that is kept."""
    if (held := now.held_out) is None:
        return ""
    name = held.name.removeprefix("held_out_")
    curve = sparkline([value for _, value in held.points[-POINTS:]])
    kept = "" if held.kept is None else f"; the weights of step {held.kept} are kept"
    return " ".join(filter(None, [curve, f"best {name} {held.best[1]:.4f} at step {held.best[0]}{kept}"]))


def _selection(now: Progress) -> str:
    found = now.quantiles()
    return "" if found is None else "least {:.3f}, median {:.3f}, greatest {:.3f}".format(*found)


def _running(trial: Trial) -> Row:
    now = trial.progress
    return {
        "trial": _name(trial),
        "stage": None if now is None else now.stage,
        "step": None if now is None or now.step is None else f"{now.step}/{now.total or '?'}",
        "loss": None if now is None else now.losses.get("train_loss"),
        "left": None if now is None or now.left is None else span(now.left),
    }


def _name(trial: Trial) -> str:
    cell = trial.cell
    return f"{cell.recipe} {cell.arm} {'tuning ' if cell.tuning else ''}seed {cell.seed}"


def _why(trial: Trial) -> str:
    if trial.summary is None:
        return "it has no run"
    return trial.summary.reason or f"its run is {trial.summary.state}"
