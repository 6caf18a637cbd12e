"""All commands, each in a file of its own, which is imported when the command is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from autolora import safe
from autolora.cli.commands import MARKUP, Commands
from autolora.console import warn
from autolora.errors import UserError

ABOUT = {  # the first paragraph of each command's help, in the order of the page
    "data": "Show what is read of the data: rows, classes, lengths in tokens, examples, and what is doubtful "
    "about them.",
    "memory": "Compute the memory of search, squeeze and retraining from the model's config.json; no weights are "
    "needed.",
    "search": "Learn the selection variables and write a rank for every layer.",
    "ranks": "Read the ranks for other budgets off a finished search, and draw what they cost.",
    "retrain": "Train LoRA at the found ranks on all training data and write a PEFT adapter.",
    "eval": "Measure the adapter on the evaluation splits and write the metrics table; or score another system's "
    "outputs.",
    "predict": "Predict new rows, which need no labels: one record for each, in order.",
    "run": "Search, retrain and eval, one after the other.",
    "compare": "Compare methods over seeds: every trial is a run, done once and reused; the tables at the end.",
    "watch": "Show how far a run or a comparison is, until it ends or Ctrl-C; it is not disturbed by that.",
    "compress": "Make a trained PEFT adapter smaller: by its spectrum alone, or by what data say each component is "
    "worth.",
    "report": "Write one self-contained HTML page about runs, and the same in Markdown.",
    "export": "Print the ranks of a run as the configuration of another tool; what the tool cannot express is said.",
    "merge": "Put an adapter into the weights of its model, and write that model with its tokenizer.",
    "card": "Write the model card of a run: adapter/README.md.",
    "push": "Send a run's adapter, its model card, ranks and metrics to the Hugging Face hub.",
    "doctor": "Look at versions, devices, folders, models and extras, and say what is wrong or missing.",
    "runs": "List runs (also without the word list), show one, compare two, remove some.",
    "recipes": "List, show, copy, write and check recipes.",
}
NAMES = {"eval": "evaluate", "runs": "app", "recipes": "app"}  # in the command's module, where it is not the command's


class _Group(TyperGroup):
    """The commands; what is said about a wrong command line cannot act on the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.all = Commands(ABOUT, _load)
        self.all.update(self.commands)  # those that are no file's here
        self.commands = self.all

    @override
    def make_context(self, info_name: Any, args: list[str], *arguments: Any, **options: Any) -> Any:
        with _safe():
            return super().make_context(info_name, args, *arguments, **options)

    @override
    def invoke(self, ctx: Any) -> Any:
        with _safe(), _asked():
            return super().invoke(ctx)

    @override
    def format_help(self, ctx: Any, formatter: Any) -> None:
        TyperGroup.format_help(self._in_brief(), ctx, formatter)

    @override
    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        return TyperGroup.shell_complete(self._in_brief(), ctx, incomplete)

    def _in_brief(self) -> TyperGroup:
        """The group for what shows names and first lines only."""
        brief = copy(self)
        brief.commands = self.all.in_brief()
        return brief


def _load(command: str) -> Any:
    return getattr(import_module(f"autolora.cli.{command}"), NAMES.get(command, command))


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
    rich_markup_mode=MARKUP,
)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Print the version and nothing else."""
    if show:
        from autolora import __version__
        from autolora.console import say

        say(f"autolora {__version__}")
        raise typer.Exit
