"""A commented recipe from a data file: ``guess(Path("reviews.csv"))`` looks at it, ``recipe_text(…)`` writes it.

What the file shows is a guess, and said to be one: who calls shows it to the user, who confirms or changes it. Only the
first rows are looked at. Nothing is guessed where the file leaves it open: that part of the guess is then empty.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from autolora.data.files import read_table
from autolora.data.reading.formats import BY_NUMBER, READERS
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.experiment.usual_columns import INPUTS, LABELS
from autolora.files import write_atomic
from autolora.model.bundled import bundled_folder
from autolora.recipe.data import GLOB, HELD_OUT, JOIN
from autolora.recipe.schema import Data
from autolora.recipe.sweeping import written
from autolora.tasks.conversations import usual
from autolora.words import did_you_mean

ROWS = 500  # that are looked at
CLASSES = 50  # more different values are no classes
SHARE = 0.2  # of the rows that is scored on, where there is no file for it
FAMILIES = ("classification", "regression", "tagging", "generation", "chat")
MINILM, ENCODER = "all-MiniLM-L6-v2", "FacebookAI/roberta-base"  # bundled, and of the hub where that is not installed
SMOLLM, DECODER = "SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"
_LENGTHS = {"generation": 256, "chat": 1024}
_LARGE = ("generation", "chat")  # tasks of language models, whose passes are larger


@dataclass(frozen=True)
class Guess:
    """What a data file seems to be for.

    Args:
        there: The file's columns.
        task: A task family; "" where the file leaves it open.
        columns: Of the input; empty where the file leaves it open.
        label: The column that is learned; "" where the file leaves it open.
        why: What the guess of the task rests on.
        named: Of the columns those that are shown: CoNLL's have a name and a number each.
    """

    there: tuple[str, ...]
    task: str
    columns: tuple[str, ...]
    label: str
    why: str
    named: tuple[str, ...] = ()


def guess(
    file: Path,
    *,
    encoding: str = "utf-8",
    task: str | None = None,
    label: str | None = None,
    columns: Sequence[str] = (),
) -> Guess:
    """Look at the first rows of a file.

    Args:
        file: The data.
        encoding: Of a text file.
        task: The task family, where it is known.
        label: The column that is learned, where it is known.
        columns: Of the input, where they are known.

    Raises:
        UserError: The file is not there or cannot be read, or has no such column.
    """
    if not file.is_file():
        beside = [path.name for path in file.parent.iterdir()] if file.parent.is_dir() else []
        near = did_you_mean(file.name, beside) or f"name one that ends in {', '.join(READERS)}"
        raise UserError(f"--data: {file} is no file; {near}")
    table = read_table(file, Data(path=".", encoding=encoding))
    there = tuple(dict.fromkeys(table.columns))
    if unknown := [name for name in (*columns, *([label] if label else [])) if name not in there]:
        raise UserError(f"there is no column {unknown[0]!r} in {file}; it has: {', '.join(there)}")
    rows = [cells for _, cells in islice(table.rows(list(there)), ROWS)]
    if not rows:
        raise UserError(f"{file}: the file has no rows")
    found = {name: [row[place] for row in rows if row[place] is not None] for place, name in enumerate(there)}
    by_number = any(suffix in file.suffixes for suffix in BY_NUMBER)
    family, why = (task, "") if task else _family(found, label, by_number=by_number)
    answer = label or _label(found, family)
    named = tuple(name for name in there if not (by_number and name.isdigit())) or there
    return Guess(there, family, tuple(columns) or _inputs(found, family, answer), answer, why, named)


def default_model(task: str) -> str:
    """A small model for a task: one that is installed, or one of the hub.

    Args:
        task: A task family.
    """
    here, hub = (SMOLLM, DECODER) if task in _LARGE else (MINILM, ENCODER)
    try:
        bundled_folder(here)
    except UserError:  # it is not installed
        return hub
    return f"bundled:{here}"


def write_recipe(
    target: Path, file: Path, found: Guess, model: str, *, evaluation: Path | None = None, encoding: str = "utf-8"
) -> None:
    """Write the recipe, as one that is right.

    Args:
        target: The new file.
        file: The data.
        found: What was confirmed.
        model: Its name.
        evaluation: The rows to score on; None: a part of the data is held out.
        encoding: Of text files.

    Raises:
        UserError: The file exists, or the recipe would be faulty (a RecipeError); nothing is left then.
    """
    if target.exists():
        raise UserError(f"{target} exists already; name another file")
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {target.parent} to write to; make it first")
    text = recipe_text(target, file, found, model, evaluation=evaluation, encoding=encoding)
    write_atomic(target, text)
    try:
        load_recipe(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def recipe_text(
    target: Path, file: Path, found: Guess, model: str, *, evaluation: Path | None = None, encoding: str = "utf-8"
) -> str:
    """The recipe; for the arguments see `write_recipe`."""
    large = found.task in _LARGE
    head = {"classification": "[classifier, bert.pooler]", "regression": "[classifier, bert.pooler]"}
    lines = [
        "# yaml-language-server: $schema=recipe.schema.json",
        f"# Written for {_comment(file.name)}. Look at what is read of it, then run it:",
        f"#   autolora data {_comment(target.name)}",
        f"#   autolora run {_comment(target.name)}",
        "# Every field: autolora recipes schema --markdown. What editors complete from, as the first line says:",
        "#   autolora recipes schema > recipe.schema.json",
        f"task: {found.task}",
        "model:",
        f"  name: {written(_model(model, target))}",
        "  target_modules: all-linear  # every linear layer of the backbone gets LoRA",
    ]
    if model == f"bundled:{MINILM}" and found.task in head:
        lines.append(
            f"  head: {head[found.task]}  # this checkpoint was trained with mean pooling: its pooler is to learn"
        )
    lines += ["data:", *(f"  {line}" for line in _data(target, file, found, evaluation, encoding))]
    rank, start = (8, 32) if large else (1, 8)
    lines += [
        "search:",
        "  estimator: none  # the search is the first half of the training, at the same rank everywhere",
        f"  rank: {start}",
        "  at: 0.5",
        "ranks:",
        "  score: fisher  # what a component is worth, by the gradients of the training rows",
        "  rule: budget",
        f"  budget: {{rank: {rank}}}  # as many parameters as this rank everywhere has, shared out over the layers",
        "retrain:",
        "  start: searched  # goes on with the components that are kept",
        "  epochs: 3",
        f"  batch_size: {16 if large else 32}",
        f"  weights: {{learning_rate: {'2e-4' if large else '1e-3'}}}  # choose it: autolora compare … --tune",
    ]
    if large:
        lines += ["eval:", "  batch_size: 16", "  generation: {max_new_tokens: 128}  # tokens of an output"]
    return "\n".join(lines) + "\n"


def _data(target: Path, file: Path, found: Guess, evaluation: Path | None, encoding: str) -> list[str]:
    folder = target.resolve().parent
    files = [path.resolve() for path in (file, evaluation) if path is not None]
    root = Path(os.path.commonpath([path.parent for path in files]))
    lines = [f"path: {written(os.path.relpath(root, folder).replace(os.sep, '/'))}  # from the recipe's folder"]
    if not root.is_relative_to(folder):
        lines = [f"root: {written(str(root))}", "path: .  # below root"]
    splits = [path.relative_to(root).as_posix() for path in files]
    if wrong := next((name for name in splits if JOIN in name or name.startswith(GLOB)), None):
        raise UserError(f"{wrong!r} reads as several files, or as a pattern, in a recipe; rename the file")
    lines += [f"columns: [{', '.join(map(_item, found.columns))}]", f"label: {written(found.label)}"]
    if encoding != "utf-8":
        lines.append(f"encoding: {written(encoding)}")
    lines.append(f"max_length: {_LENGTHS.get(found.task, 128)}  # tokens; autolora data says how many are longer")
    if evaluation is None:
        lines += [
            "splits:",
            f"  train: {written(splits[0])}",
            f"  eval: [{HELD_OUT}]",
            f"  held_out: {SHARE}  # of the rows, which are scored on and not trained on",
        ]
    else:
        lines += ["splits:", f"  train: {written(splits[0])}", f"  eval: [{_item(splits[1])}]"]
    return lines


def _item(text: str) -> str:
    """Of a list: what a comma or a colon would cut in two is in quotes."""
    return written(text)


def _model(name: str, target: Path) -> str:
    """A folder counts from the recipe's."""
    path = Path(name).expanduser()
    if not path.is_dir():
        return name
    near = os.path.relpath(path.resolve(), target.resolve().parent).replace(os.sep, "/")
    return str(path.resolve()) if near.startswith("..") else f"./{near}"


def _comment(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _family(found: Mapping[str, Sequence[Any]], label: str | None, *, by_number: bool) -> tuple[str, str]:
    there = list(found)
    if by_number:
        return "tagging", "the file has a word and its tag in each line"
    for name in ("messages", "conversations"):
        if name in found and label in (None, name):
            return "chat", f"{name} holds conversations"
    if label is None and any("instruction" in columns for columns, _ in usual(there)):
        return "chat", "instruction and its output are a conversation of two turns"
    answer = label or _label(found, "")
    cells = found.get(answer, ())
    if not cells:
        return "", ""
    if all(isinstance(cell, list) for cell in cells):
        return "tagging", f"{answer} holds lists of tags"
    numbers = [_number(cell) for cell in cells]
    different = len({str(cell) for cell in cells})
    if all(number is not None for number in numbers):
        whole = all(number is not None and number.is_integer() for number in numbers)
        if not whole or different > CLASSES:
            return "regression", f"{answer} holds numbers, {different} different ones in {len(cells)} rows"
    if different <= CLASSES and different < max(3, len(cells) // 2):
        return "classification", f"{answer} holds {different} different values in {len(cells)} rows"
    return "generation", f"{answer} holds {different} different texts in {len(cells)} rows"


def _label(found: Mapping[str, Sequence[Any]], task: str) -> str:
    """The column by a usual name, the only one where there are several; "" where the file leaves it open."""
    if task == "chat":
        known = usual(list(found))
        return known[0][1] if len(known) == 1 else ""
    names = LABELS.get(task) or tuple(dict.fromkeys(name for each in LABELS.values() for name in each))
    fit = [name for name in names if name in found]
    return fit[0] if len(fit) == 1 else ""


def _inputs(found: Mapping[str, Sequence[Any]], task: str, label: str) -> tuple[str, ...]:
    """Those with usual names; else the only column of text beside the label; () where the file leaves it open."""
    if task == "chat":
        known = [columns for columns, answer in usual(list(found)) if answer == label]
        return tuple(known[0]) if len(known) == 1 else ()
    fit = [names for names in INPUTS.get(task, ()) if set(names) <= set(found)]
    if len(fit) == 1:
        return fit[0]
    others = [name for name, cells in found.items() if name != label and _fits(cells, task)]
    return (others[0],) if len(others) == 1 else ()


def _fits(cells: Sequence[Any], task: str) -> bool:
    if task == "tagging":
        return bool(cells) and all(isinstance(cell, list) for cell in cells)
    texts = [cell for cell in cells if isinstance(cell, str)]
    return bool(texts) and any(" " in text.strip() for text in texts)


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
