"""``autolora recipes new``: asks for what a recipe needs, and writes one from a data file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autolora.console import say, warn
from autolora.errors import RecipeError, UserError
from autolora.words import did_you_mean

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

    asks = not yes and sys.stdin.isatty()
    if task is not None and task not in FAMILIES:
        raise UserError(
            f"--task: one of {', '.join(FAMILIES)}, got {task!r}; {did_you_mean(task, FAMILIES)}".rstrip("; ")
        )
    if data is None and not asks:
        raise UserError("recipes new: --data FILE is missing, and nobody is asked: standard input is no terminal")
    if eval_data is not None and not eval_data.is_file():
        raise UserError(f"--eval-data: {eval_data} is no file")
    look = partial(guess, encoding=encoding, task=task, label=label, columns=tuple(column or ()))
    file, found = (data, look(data)) if data is not None else _looked_at(look)
    if asks:
        found = _confirmed(partial(guess, file, encoding=encoding), found, task, label, column or [])
    missing = _missing(found, task, label, column, model, output, yes=yes or asks)
    if missing and not asks:
        raise UserError(_said(missing, found, yes=yes))
    write = partial(write_recipe, file=file, found=found, evaluation=eval_data, encoding=encoding)
    chosen, target = _written(write, model, output, default_model(found.task), Path(f"{_stem(file)}.yaml"), asks=asks)
    both = "" if found.columns == (found.label,) else f" to {found.label}"
    warn(f"{found.task}: {', '.join(found.columns)}{both}, with {chosen}")
    if eval_data is None:
        warn("a fifth of the rows is held out to score on; --eval-data FILE names others")
    say(f"wrote {target}; look at the data with: autolora data {target}; run it with: autolora run {target}")


def _looked_at(look: Callable[[Path], Guess]) -> tuple[Path, Guess]:
    """A file that can be read, and what it shows."""
    while True:
        file = Path(_ask("data file", ""))
        try:
            return file, look(file)
        except UserError as wrong:
            warn(str(wrong).removeprefix("--data: "))


def _written(
    write: Callable[..., None], model: str | None, output: Path | None, small: str, near: Path, *, asks: bool
) -> tuple[str, Path]:
    """The model and the file that are settled on, once the recipe is written; what cannot be is asked for again."""
    chosen = model or (_ask("model, of the hub, bundled:NAME or a folder", small) if asks else small)
    target = output or (Path(_ask("write to", str(near))) if asks else near)
    while True:
        try:
            write(target, model=chosen)
        except RecipeError as wrong:
            if not asks or model or not all(fault.field.startswith("model") for fault in wrong.faults):
                raise
            for fault in wrong.faults:
                warn(f"{fault.message}; {fault.hint}".rstrip("; "))
            chosen = _ask("model", small)
        except UserError as wrong:
            if not asks or output:
                raise
            warn(str(wrong))
            target = Path(_ask("write to", ""))
        else:
            return chosen, target


def _confirmed(
    look: Callable[..., Guess], found: Guess, task: str | None, label: str | None, columns: list[str]
) -> Guess:
    """What the user says to each guess; a changed task or label is guessed anew from there."""
    from autolora.experiment.new_recipe import FAMILIES

    warn(f"columns: {', '.join(found.named)}")
    if label is None and not found.task:  # the task is then seen by what is learned
        label = _ask("column that is learned", found.label, found.there)
        found = look(task=task, label=label, columns=columns)
    if task is None:
        if found.why:
            warn(f"task: a guess: {found.why}")
        task = _ask(f"task ({', '.join(FAMILIES)})", found.task, FAMILIES)
        found = look(task=task, label=label, columns=columns)
    if label is None:
        label = _ask("column that is learned", found.label, found.there)
        found = look(task=task, label=label, columns=columns)
    if not columns and found.columns != (label,):  # whole conversations are both
        columns = _columns(found)
    return replace(found, columns=tuple(columns) or found.columns)


def _columns(found: Guess) -> list[str]:
    """One or two columns, each by its name; a comma is between two unless a column has it in its name."""
    while True:
        text = _ask("column of the input, or two with a comma between", ", ".join(found.columns))
        names = [text] if text in found.there else [part.strip() for part in text.split(",")]
        if all(name in found.there for name in names) and 1 <= len(names) <= 2:
            return names
        warn(f"one or two of: {', '.join(found.named)}, got {text!r}")


def _ask(what: str, default: str, among: tuple[str, ...] = ()) -> str:
    while True:
        answer = str(typer.prompt(what, default=default, show_default=bool(default), err=True)).strip()
        if answer in among or (answer and not among):
            return answer
        near = did_you_mean(answer, among) if answer else ""
        warn(
            "; ".join(
                filter(None, [f"one of: {', '.join(among)}, got {answer!r}" if among else "it must be said", near])
            )
        )


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
    there = f"the file's columns are: {', '.join(found.named)}"
    if yes:
        give = "it" if len(missing) == 1 else "them"
        return f"recipes new: the file does not show {' and '.join(missing)}; give {give}: {there}"
    known = {"--task": found.task, "--label": found.label, "--column": ", ".join(found.columns)}
    guesses = [f"{option} {known[option]}" for option in missing if known.get(option)]
    hint = f"; --yes takes what the file shows ({', '.join(guesses)}) and a small model" if guesses else ""
    return f"recipes new: standard input is no terminal, so {', '.join(missing)} must be given{hint}; {there}"


def _stem(data: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", data.name.split(".")[0]).strip("-._") or "recipe"
