"""A YAML file as plain values, with the line of every key: ``read_document(path)``.

Everything that can be wrong before the first key is looked at (no such file, a folder, bytes that are no text, tabs,
broken syntax, what `autolora.recipe.plain_yaml` refuses) raises RecipeError with the line. Keys given twice are faults
of the `Document`, so that they are reported together with the faults of the values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autolora.errors import Fault, RecipeError
from autolora.recipe.plain_yaml import MAX_BYTES, LimitError, keys, parse
from autolora.words import did_you_mean

SUFFIXES = (".yaml", ".yml")


@dataclass
class Document:
    """What a YAML file says.

    label: what the file is called in messages.
    lines: line of each key and list entry, by dotted path (``search.rank``, ``eval.metrics.0``).
    """

    label: str
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read_document(path: Path) -> Document:
    """The values of a YAML file whose top level is a mapping.

    Args:
        path: The file.

    Raises:
        RecipeError: It cannot be read, is no YAML, or no mapping.
    """
    label = file_label(path)
    text = file_text(path)
    try:
        parsed = parse(text)
    except yaml.YAMLError as error:
        raise RecipeError(_syntax_faults(error, text, label)) from None
    if parsed.refused:
        raise RecipeError([Fault(f"{label}:{r.line}", r.key, r.message, r.hint) for r in parsed.refused])
    values = parsed.values
    if values is None:
        raise RecipeError([Fault(label, "", "the file is empty", "a recipe needs at least task, model and data")])
    if not isinstance(values, dict):
        message = (
            f"a recipe must be a mapping (key: value), got a {'list' if isinstance(values, list) else 'single value'}"
        )
        raise RecipeError([Fault(f"{label}:1", "", message)])
    source = Document(label, values)
    for dotted, line, earlier in keys(parsed.root):
        if earlier is not None:
            source.faults.append(Fault(f"{label}:{line}", dotted, f"given twice, first in line {earlier}"))
        source.lines[dotted] = line
    return source


def file_label(path: Path) -> str:
    """The path as short as it stays clear: relative where it is below the working directory."""
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)


def file_text(path: Path) -> str:
    """The text of a YAML file, without a byte order mark.

    Args:
        path: The file.

    Raises:
        RecipeError: It cannot be read, is no UTF-8, or larger than any recipe.
    """
    label = file_label(path)
    if path.is_dir():
        inside = sorted(child.name for child in path.iterdir() if child.suffix in SUFFIXES)
        hint = f"it holds: {', '.join(inside)}" if inside else "it holds no .yaml file"
        raise RecipeError([Fault(label, "", "this is a folder, not a recipe", hint)])
    try:
        with path.open("rb") as file:
            found = file.read(MAX_BYTES + 1)
        if len(found) > MAX_BYTES:
            raise RecipeError([Fault(label, "", f"the file has more than {MAX_BYTES} bytes, which no recipe needs")])
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = f"the file is not UTF-8 text: byte 0x{error.object[error.start]:02x}"
        raise RecipeError([Fault(f"{label}:{line}", "", message, "save it as UTF-8")]) from None
    except FileNotFoundError:
        raise RecipeError([Fault(label, "", "no such file", _nearest_file(path))]) from None
    except OSError as error:
        raise RecipeError([Fault(label, "", f"the file cannot be read: {error.strerror}")]) from None


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    near = did_you_mean(path.name, [child.name for child in path.parent.iterdir() if child.suffix in SUFFIXES])
    return near or "the shipped recipes are listed by: autolora recipes list"


def _syntax_faults(error: Exception, text: str, label: str) -> list[Fault]:
    if "'\\t'" in str(getattr(error, "problem", "")):
        return _tab_faults(error, text, label)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        message = f"the file is no YAML: control character #x{error.character:04x}"
        return [Fault(f"{label}:{line}", "", message, r'take it out, or write "\u…" for it, in double quotes')]
    if isinstance(error, LimitError):
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        return [Fault(f"{label}:{line}", "", f"the file is no recipe: {error.problem}")]
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = min(mark.line + 1, max(1, len(text.splitlines()))) if mark else 1
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        return [Fault(f"{label}:{line}", "", f"the file is no YAML: {problem}", _syntax_hint(problem))]
    return [Fault(label, "", f"the file is no YAML: {error}")]


def _syntax_hint(problem: str) -> str:
    return "put text that contains ': ' in quotes" if problem.startswith("mapping values are not allowed") else ""


def _tab_faults(error: Exception, text: str, label: str) -> list[Fault]:
    """Every line that is indented with a tab; where there is none, the line at which YAML gave up."""
    message = "a tab; YAML forbids tabs for indentation"
    lines = [n for n, line in enumerate(text.splitlines(), 1) if "\t" in line[: len(line) - len(line.lstrip())]]
    mark = getattr(error, "problem_mark", None)
    if mark is not None and mark.line + 1 not in lines:
        lines, message = [mark.line + 1], "a tab where YAML wants spaces"
    return [Fault(f"{label}:{line}", "", message, "use spaces") for line in lines]
