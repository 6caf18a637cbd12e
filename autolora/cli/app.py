"""All commands, each in a file of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from autolora import safe
from autolora.cli.card import card
from autolora.cli.compare import compare
from autolora.cli.compress import compress
from autolora.cli.data import data
from autolora.cli.doctor import doctor
from autolora.cli.eval import evaluate
from autolora.cli.export import export
from autolora.cli.memory import memory
from autolora.cli.merge import merge
from autolora.cli.placing import with_ray_address
from autolora.cli.predict import predict
from autolora.cli.push import push
from autolora.cli.ranks import ranks
from autolora.cli.recipes import app as recipes_app
from autolora.cli.report import report
from autolora.cli.retrain import retrain
from autolora.cli.run import run
from autolora.cli.runs import app as runs_app
from autolora.cli.search import search
from autolora.cli.watch import watch
from autolora.console import warn
from autolora.errors import UserError


class _Group(TyperGroup):
    """The commands; what is said about a wrong command line cannot act on the terminal."""

    @override
    def make_context(self, info_name: Any, args: list[str], *arguments: Any, **options: Any) -> Any:
        with _safe():
            return super().make_context(info_name, with_ray_address(args), *arguments, **options)

    @override
    def invoke(self, ctx: Any) -> Any:
        with _safe(), _asked():
            return super().invoke(ctx)


@contextmanager
def _safe() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and isinstance(said := getattr(error, "message", None), str):
            vars(error)["message"] = safe.terminal(said)
        raise


@contextmanager
def _asked() -> Iterator[None]:
    """A question that is not answered, or answered with no, ends a command before it has done anything."""
    try:
        yield
    except typer.Abort as end:
        warn("")  # the question's line is open
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        ended = isinstance(end.__context__, EOFError)
        raise UserError(
            f"{'a question was not answered' if ended else 'the answer was no'}: nothing was done"
        ) from None


app = typer.Typer(
    cls=_Group,
    name="autolora",
    help="Find a LoRA rank for every layer by meta-learning, retrain LoRA at those ranks, and measure it.",
    epilog="--debug, anywhere on the line, shows the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("data")(data)
app.command("memory")(memory)
app.command("search")(search)
app.command("ranks")(ranks)
app.command("retrain")(retrain)
app.command("eval")(evaluate)
app.command("predict")(predict)
app.command("run")(run)
app.command("compare")(compare)
app.command("watch")(watch)
app.command("compress")(compress)
app.command("report")(report)
app.command("export")(export)
app.command("merge")(merge)
app.add_typer(runs_app, name="runs")
app.command("card")(card)
app.command("push")(push)
app.command("doctor")(doctor)
app.add_typer(recipes_app, name="recipes")


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Print the version and nothing else."""
    if show:
        from autolora import __version__
        from autolora.console import say

        say(f"autolora {__version__}")
        raise typer.Exit
