"""``autolora watch RUN|COMPARISON``: how far it is, live, from its files alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolora.cli.options import RUNS
from autolora.console import line, screen, warn
from autolora.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from autolora.cli.watch_views import View

WatchedArgument = Annotated[
    str | None,
    typer.Argument(metavar="[RUN|COMPARISON]", help="Its folder, or a run's id; the newest run that is running, else."),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Keep a page of it, too, which loads itself anew.")
]
QUIET = 2  # looks in a row at which nobody is at it before it has ended: between two stages nobody may be


def watch(
    target: WatchedArgument = None,
    once: Annotated[bool, typer.Option("--once", help="Show it as it is, and end.")] = False,
    every: Annotated[float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="Between two looks.")] = 2.0,
    html: HtmlOption = None,
    runs: Annotated[Path, typer.Option("--runs", "--output", metavar="DIR", help="Where runs are.")] = RUNS,
) -> None:
    """Show how far a run or a comparison is, until it ends or Ctrl-C; it is not disturbed by that.

    The page of --html is its report when it has ended.
    """
    if html is not None and html.is_dir():
        raise UserError(f"--html: {html} is a folder; name a file in it, such as {html / 'watch.html'}")
    folder: Path | None = None
    try:
        folder, look = _looker(target, runs)
        console = screen()
        view = _follow(look, console, once, every, html)
        if not console.is_terminal or once:
            _print(console, view)
        if html is not None and not view.running:
            _whole_page(html, folder)
    except KeyboardInterrupt:  # at any moment: nothing is lost by that
        if html is None or folder is None:
            return
        _page(html, look(), None)
    if html is not None:
        line(screen(stderr=True), f"wrote {html}")


def _looker(target: str | None, runs: Path) -> tuple[Path, Callable[[], View]]:
    """Which run or comparison is meant, and what gives a view of it."""
    from datetime import UTC, datetime

    from autolora.cli.watch_views import of_comparison, of_run
    from autolora.comparison.underway import Watched, is_comparison
    from autolora.runs.folders import held_run
    from autolora.runs.naming import find
    from autolora.runs.progress import progress

    named = None if target is None else Path(target)
    if named is not None and not held_run(named) and (is_comparison(named) or named.is_dir()):
        comparison = Watched(named)
        return named, lambda: of_comparison(named, comparison.look(datetime.now(UTC)))
    folder = _newest(runs) if target is None else find(target, runs)
    return folder, lambda: of_run(folder, progress(folder, datetime.now(UTC)))


def _newest(root: Path) -> Path:
    """The newest run that is running, or the newest of all."""
    from autolora.runs.index import summaries

    found = summaries(root)
    if not found:
        raise UserError(f"there is no run below {root}; name a run or a comparison's folder")
    return root / ([each for each in found if each.state == "running"] or found)[-1].path


def _follow(look: Callable[[], View], console: Console, once: bool, every: float, html: Path | None) -> View:
    """Show views until it has ended; the last one."""
    from rich.live import Live

    from autolora.cli.watch_views import terminal

    view = look()
    _page(html, view, None if once else every)
    if once or (not console.is_terminal and html is None):
        return view
    quiet = 0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            if console.is_terminal:
                live.update(terminal(view, console.width), refresh=True)
            quiet = 0 if view.running else quiet + 1
            if quiet == QUIET or view.state == "finished":
                _page(html, view, every)
                return view
            time.sleep(every)
            view = look()
            _page(html, view, every)


def _page(path: Path | None, view: View, every: float | None) -> None:
    """Write the page in one step, if one is wanted; without seconds to the next one it loads itself no more."""
    if path is None:
        return
    from datetime import UTC, datetime

    from autolora.cli.watch_views import html
    from autolora.files import write_atomic

    try:
        write_atomic(path, html(view, every, datetime.now(UTC)))
    except OSError as error:
        raise UserError(f"--html: {path} cannot be written: {error.strerror or error}") from error


def _whole_page(path: Path, folder: Path) -> None:
    """Put the report in the page's place; where there can be none, it stays as it is."""
    import tempfile

    from autolora.cli.report import write_pages
    from autolora.files import write_atomic

    with tempfile.TemporaryDirectory() as drawn:
        try:
            page, *_ = write_pages([folder], Path(drawn))
            write_atomic(path, page.read_text(encoding="utf-8"))
        except UserError as error:
            warn(f"{path} is no report: {error}")


def _print(console: Console, view: View) -> None:
    from autolora.cli.watch_views import terminal

    console.print(terminal(view, console.width))
