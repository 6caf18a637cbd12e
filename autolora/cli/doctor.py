"""``autolora doctor``: what this machine has that autolora needs or could use, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autolora import safe
from autolora.cli.options import RUNS
from autolora.console import hush, json_document, line, screen
from autolora.errors import FAULT

if TYPE_CHECKING:
    from autolora.doctor.finding import Finding

MARKS = {"ok": ("ok", "green"), "note": ("--", "yellow"), "wrong": ("WRONG", "bold red")}
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where runs are.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def doctor(runs: RunsOption = RUNS, as_json: JsonOption = False) -> None:
    """Look at versions, devices, folders, models and extras, and say what is wrong or missing."""
    hush()
    from autolora.doctor.examine import examine

    found: dict[str, Sequence[Finding]] = {}
    console = screen()
    for title, findings in examine(runs):
        found[title] = findings
        if not as_json:
            _show(console, title, findings)
    wrong = sum(finding.state == "wrong" for findings in found.values() for finding in findings)
    if as_json:
        record = {title: [finding.record() for finding in findings] for title, findings in found.items()}
        json_document({"usable": not wrong, **record})
    elif wrong:
        line(console, f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong: see the lines with WRONG")
    else:
        line(console, "autolora can be used; -- marks what is not there, and what it would be for")
    if wrong:
        raise typer.Exit(FAULT)


def _show(console: Console, title: str, findings: Sequence[Finding]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(width=5)
    table.add_column(overflow="fold", max_width=32)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = MARKS[finding.state]
        text = f"{finding.text}\n{finding.remedy}" if finding.remedy else finding.text
        table.add_row(Text(mark, style=style), Text(safe.terminal(finding.what)), Text(safe.terminal(text)))
    console.print(table)
    line(console, "")
