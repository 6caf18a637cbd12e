"""``autolora runs``: list, show, compare and remove runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from autolora.cli.options import RUNS
from autolora.console import document, json_document, line, say, screen, warn
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.runs.removal import Users
    from autolora.runs.summary import Summary


class _Group(TyperGroup):
    """``autolora runs --state failed`` is ``autolora runs list --state failed``."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=False,
    help="List runs (also without the word list), show one, compare two, remove some.",
)

RunsOption = Annotated[Path, typer.Option("--runs", "--output", metavar="DIR", help="Where runs are.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, with everything in full.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, its path below --runs, or its id.")]


@app.command("list")
def list_runs(
    runs: RunsOption = RUNS,
    recipe: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Of these recipes: glue-mini/cola, 'glue-mini/*'.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Of these methods: lora (any rank), lora:8, 'squeeze*'.")
    ] = None,
    seed: Annotated[str | None, typer.Option(metavar="N-M", help="Of these seeds.")] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="finished, running, failed, interrupted, partial or unreadable."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Made since: 2026-11-28, or 12h, 3d, 2w ago.")
    ] = None,
    at_least: Annotated[float | None, typer.Option(metavar="SCORE", help="With a score of at least this.")] = None,
    at_most: Annotated[float | None, typer.Option(metavar="SCORE", help="With a score of at most this.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="With those that only try a setting for --tune.")] = False,
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN[:asc|desc]",
            help="By run, state, recipe, method, seed, stage, metric, score, size, disk, seconds or age.",
        ),
    ] = "age",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    json: JsonOption = False,
) -> None:
    """List runs, newest first; into a pipe as tab-separated values."""
    from datetime import UTC, datetime

    from autolora.recipe.method import parse_seeds
    from autolora.runs.choosing import Wanted, choose, moment, record, states
    from autolora.runs.naming import short_names

    now = datetime.now(UTC)
    wanted = Wanted(
        tuple(recipe or ()),
        tuple(method or ()),
        frozenset(parse_seeds(seed, "--seed") if seed is not None else ()),
        states(state or ()),
        None if since is None else moment(since, now),
        at_least,
        at_most,
        all_,
    )
    choose([], wanted, sort, limit)  # what is wrong with it is said before anything is read
    found = _all(runs)
    shown = choose(found, wanted, sort, limit)
    names = short_names([each.path for each in found])
    records = [{"id": names[each.path], **record(each, now)} for each in shown]
    if json:
        json_document(records)
    elif sys.stdout.isatty():
        _show_list(shown, found, names, now, runs)
    else:
        from autolora.cli.run_table import tab_separated

        document(tab_separated(records))


@app.command()
def show(run: RunArgument, runs: RunsOption = RUNS, json: JsonOption = False) -> None:
    """Show everything of one run: stages with times and cost, scores, ranks in short, versions, files."""
    from autolora.cli.run_pages import page
    from autolora.runs.details import details
    from autolora.runs.naming import find

    folder = find(run, runs)
    found = details(folder, _state(folder))
    if json:
        json_document(found)
        return
    page(screen(), found)


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A run, as in autolora runs show.")],
    two: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    runs: RunsOption = RUNS,
    json: JsonOption = False,
) -> None:
    """Show two runs side by side: what differs in their recipes, scores, ranks, cost and versions."""
    from autolora.cli.run_pages import side_by_side
    from autolora.runs.details import differences
    from autolora.runs.naming import find

    folders = find(one, runs), find(two, runs)
    found = differences(*folders, (_state(folders[0]), _state(folders[1])))
    if json:
        json_document(found)
        return
    side_by_side(screen(), found)


@app.command("rm")
def remove(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, as in autolora runs show.")],
    runs: RunsOption = RUNS,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs, after asking; never one that a process is at, and nothing that is no run."""
    from datetime import UTC, datetime

    from autolora.cli.run_table import amount
    from autolora.runs import removal
    from autolora.runs.naming import find
    from autolora.runs.summary import size_of

    folders = list(dict.fromkeys(find(word, runs).absolute() for word in run))
    for folder in folders:
        removal.check_removable(folder)
    found = {folder: removal.users(folder) for folder in folders}
    console = screen(stderr=True)
    for folder in folders:
        line(console, f"{_shown(folder)}: {_state(folder)}, {amount(size_of(folder))}")
        for said in _used(found[folder], folders):
            line(console, f"  {said}")
    if not yes:
        _confirm(len(folders))
    freed = 0
    for folder in folders:
        size = removal.remove(folder)
        freed += size
        say(f"removed {_shown(folder)} ({size} bytes)")
        for comparison in found[folder].comparisons:
            removal.tell(comparison, folder, datetime.now(UTC).isoformat(timespec="seconds"))
    if len(folders) > 1:
        say(f"freed {freed} bytes ({amount(freed)})")


def _confirm(number: int) -> None:
    """Raises what ends the command unless the user says yes."""
    what = "this run" if number == 1 else f"these {number} runs"
    if not sys.stdin.isatty():
        raise UserError(f"standard input is no terminal, so that nobody can be asked; to remove {what}, add --yes")
    typer.confirm(f"Remove {what}?", abort=True, err=True)


def _used(users: Users, removed: Sequence[Path]) -> list[str]:
    """What else has to do with a run that is to be removed, beside what goes with it."""
    tables = [f"{_shown(path)} has it in its tables, which stay; its report will miss it" for path in users.comparisons]
    left = [path for path in users.runs if path.absolute() not in removed]
    return [*tables, *(f"{_shown(path)} builds on it, and cannot be trained anew without" for path in left)]


def _shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _all(root: Path) -> list[Summary]:
    from autolora.runs.index import summaries

    if not root.is_dir():
        raise UserError(f"there is no folder {root}; name the one that runs are in: --runs DIR")
    return summaries(root)


def _state(folder: Path) -> str:
    """The state of one run, as of now."""
    from autolora.runs.summary import current

    return current(folder).state


def _show_list(
    shown: Sequence[Summary], found: Sequence[Summary], names: Mapping[str, str], now: Any, root: Path
) -> None:
    from autolora.cli.run_table import table

    console = screen()
    if not found:
        line(console, f"there is no run below {root}; start one with: autolora run RECIPE")
        return
    if shown:
        console.print(table(shown, names, now, console.width))
    tuning = sum(each.tuning for each in found) - sum(each.tuning for each in shown)
    more = f", {tuning} that only try a setting not among them (--all)" if tuning else ""
    line(console, f"{len(shown)} of {len(found)} runs below {root}{more}")
    for each in [each for each in shown if each.state == "unreadable"][:3]:
        warn(f"note: {each.path}: {each.reason}")
