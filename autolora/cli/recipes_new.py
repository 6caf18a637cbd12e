"""``autolora recipes new``: asks for what a recipe needs, and writes one from a data file."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolora.console import line, say, screen
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.experiment.new_recipe import Guess

DataOption = Annotated[Path | None, typer.Option("--data", metavar="FILE", help="The rows to train on.")]
EvalOption = Annotated[
    Path | None,
    typer.Option("--eval-data", metavar="FILE", help="The rows to score on; default: a fifth of the data, held out."),
]
ColumnOption = Annotated[
    list[str] | None, typer.Option("--column", metavar="COL", help="A column of the input; twice for two.")
]
LabelOption = Annotated[str | None, typer.Option(metavar="COL", help="The column that is learned.")]
TaskOption = Annotated[
    str | None, typer.Option(metavar="TASK", help="classification, regression, tagging, generation or chat.")
]
NewModelOption = Annotated[str | None, typer.Option(metavar="NAME_OR_PATH", help="The pretrained model.")]
EncodingOption = Annotated[str, typer.Option(help="Of a text file.")]
WriteOption = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="The recipe to write.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Take every guess, and ask nothing.")]


def new(
    data: DataOption = None,
    eval_data: EvalOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    task: TaskOption = None,
    model: NewModelOption = None,
    output: WriteOption = None,
    encoding: EncodingOption = "utf-8",
    yes: YesOption = False,
) -> None:
    """Write a recipe for a data file: asks for task, columns and model, with what the file shows as a guess."""
    from autolora.experiment.new_recipe import FAMILIES, default_model, guess, write_recipe
    from autolora.words import did_you_mean

    asks = not yes and sys.stdin.isatty()
    if task is not None and task not in FAMILIES:
        raise UserError(
            f"--task: one of {', '.join(FAMILIES)}, got {task!r}; {did_you_mean(task, FAMILIES)}".rstrip("; ")
        )
    if data is None:
        if not asks:
            raise UserError("recipes new: --data FILE is missing, and nobody is asked: standard input is no terminal")
        data = Path(typer.prompt("data file"))
    if eval_data is not None and not eval_data.is_file():
        raise UserError(f"--eval-data: {eval_data} is no file")
    found = guess(data, encoding=encoding, task=task, label=label, columns=column or ())
    if asks:
        found = _confirmed(data, found, encoding, task, label, column or [])
    missing = _missing(found, task, label, column, model, output, yes=yes or asks)
    if missing and not asks:
        raise UserError(_said(missing, found, yes=yes))
    chosen = model or (_ask("model", default_model(found.task)) if asks else default_model(found.task))
    default = Path(f"{_stem(data)}.yaml")
    target = output or (Path(_ask("write to", str(default))) if asks else default)
    write_recipe(target, data, found, chosen, evaluation=eval_data, encoding=encoding)
    console = screen(stderr=True)
    line(console, f"{found.task}: {', '.join(found.columns)} to {found.label}, with {chosen}")
    say(f"wrote {target}; look at the data with: autolora data {target}; run it with: autolora run {target}")


def _confirmed(
    data: Path, found: Guess, encoding: str, task: str | None, label: str | None, columns: list[str]
) -> Guess:
    """What the user says to each guess; a changed task or label is guessed anew from there."""
    from autolora.experiment.new_recipe import FAMILIES, guess

    line(screen(stderr=True), f"columns: {', '.join(found.there)}")
    if task is None:
        if found.why:
            line(screen(stderr=True), f"task: a guess: {found.why}")
        task = _ask("task", found.task, FAMILIES)
        found = guess(data, encoding=encoding, task=task, label=label, columns=columns)
    if label is None:
        label = _ask("column that is learned", found.label, found.there)
        found = guess(data, encoding=encoding, task=task, label=label, columns=columns)
    if not columns:
        columns = _columns(found)
    return replace(found, columns=tuple(columns))


def _columns(found: Guess) -> list[str]:
    """One or two columns, each by its name; a comma is between two unless a column has it in its name."""
    while True:
        text = _ask("column of the input, or two with a comma between", ", ".join(found.columns))
        names = [text] if text in found.there else [part.strip() for part in text.split(",")]
        if all(name in found.there for name in names) and 1 <= len(names) <= 2:
            return names
        line(screen(stderr=True), f"one or two of: {', '.join(found.there)}")


def _ask(what: str, default: str, among: tuple[str, ...] = ()) -> str:
    while True:
        answer = str(typer.prompt(what, default=default or None, err=True)).strip()
        if not among or answer in among:
            return answer
        line(screen(stderr=True), f"one of: {', '.join(among)}")


def _missing(
    found: Guess,
    task: str | None,
    label: str | None,
    columns: list[str] | None,
    model: str | None,
    output: Path | None,
    *,
    yes: bool,
) -> list[str]:
    """The options that have to be given: what nobody says, and, where guesses are not taken, what is a guess."""
    guesses = {
        "--task": (task, found.task),
        "--label": (label, found.label),
        "--column": (columns, found.columns),
        "--model": (model, True),
        "--output": (output, True),
    }
    return [option for option, (given, guessed) in guesses.items() if not given and not (yes and guessed)]


def _said(missing: list[str], found: Guess, *, yes: bool) -> str:
    there = f"the file's columns are: {', '.join(found.there)}"
    if yes:
        give = "it" if len(missing) == 1 else "them"
        return f"recipes new: the file does not show {' and '.join(missing)}; give {give}: {there}"
    known = {"--task": found.task, "--label": found.label, "--column": ", ".join(found.columns)}
    guesses = [f"{option} {known[option]}" for option in missing if known.get(option)]
    hint = f"; --yes takes what the file shows ({', '.join(guesses)}) and a small model" if guesses else ""
    return f"recipes new: standard input is no terminal, so {', '.join(missing)} must be given{hint}; {there}"


def _stem(data: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", data.name.split(".")[0]).strip("-._") or "recipe"
