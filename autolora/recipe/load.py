"""From a YAML file to a `Recipe`: ``read_recipe(path, ["search.steps=200"], model="bert-base-uncased", seed=1)``.

Overrides go through the same check as the file. All faults of a recipe (keys, types, values) are raised together as
one RecipeError, each with its line or with the option that it came from. What only data and model files can show is
added by `checks`: `autolora.experiment.preflight.load_recipe` is this function with all of them.

Relative paths count from where they are written: the recipe's folder for those in the file, the working directory for
those on the command line. The returned recipe has absolute paths only; `dump_recipe` writes it as YAML.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolora.errors import Fault, RecipeError
from autolora.files import is_path
from autolora.recipe.document import Document, read_document
from autolora.recipe.fields import WHOLE
from autolora.recipe.messages import dotted_names, section_at, show, unknown_key_hint, validation_faults
from autolora.recipe.method import target_limit
from autolora.recipe.plain_yaml import dump
from autolora.recipe.plain_yaml import values as values_of
from autolora.recipe.schema import MethodSettings, Recipe, Search
from autolora.recipe.stages import BUDGETS

Where = Callable[[str], str]  # the place (file and line, or option) of a dotted field path
Limit = tuple[str, int] | None  # the field that says the highest rank of a layer, and that rank
# Of one or more sections; then a Where, the recipe's task, if it has one, and the highest rank, if one is said.
Check = Callable[..., list[Fault]]
Find = Callable[[dict[str, Any], Where], list[Fault]]  # of a recipe's values, which it changes

RECIPE_FOLDERS = ("recipes", "_recipes")  # a recipe below one of these is named by its path from there
# Giving the first makes the others meaningless.
DISPLACES: dict[str, tuple[str, ...]] = {
    "search.steps": ("search.epochs",),
    "search.epochs": ("search.steps",),
    "retrain.steps": ("retrain.epochs",),
    "retrain.epochs": ("retrain.steps",),
    "model.name": ("model.revision",),
    **{
        f"{section}.budget.{name}": tuple(f"{section}.budget.{other}" for other in BUDGETS if other != name)
        for section in ("ranks", "method")
        for name in BUDGETS
    },
}
UNCHECKED = {"model.dtype", "data.labels", "data.limits", "data.max_length"}  # fields that no file says anything about


@dataclass(frozen=True)
class _Override:
    """One value from the command line. where: the option as it was typed."""

    where: str
    path: str
    value: object


def read_recipe(
    path: Path,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    data_root: Path | None = None,
    model: str | None = None,
    seed: int | None = None,
    checks: Mapping[str, Check] | None = None,
    find: Find | None = None,
) -> Recipe:
    """The recipe in a file.

    Args:
        path: The YAML file.
        overrides: ``search.steps=200``, as after ``--set``; or values by dotted name.
        data_root: Instead of ``data.root``, relative to the working directory.
        model: Instead of ``model.name``.
        seed: Instead of ``seed``.
        checks: By section (``data``), or by several with blanks between, what the schema cannot say of them: what
            compares them with files, for instance. Only sections that are right are checked.
        find: Fills in what the recipe leaves to the data files to say, and gives what is wrong with that.

    Raises:
        RecipeError: With every fault.
    """
    source = read_document(path)
    given = _options(data_root, model, seed)
    faults = source.faults
    parsed, override_faults = _parse_overrides(overrides)
    faults += [*override_faults, *_said_twice(parsed, given)]
    where = _Places(source, [*parsed, *given])
    values = _apply(source.values, [*parsed, *given])
    _complete(values, path)
    faults += find(values, where) if find else []
    faults += validation_faults(values, where)
    faults += _file_faults(values, faults, where, checks or {})
    if faults:
        raise RecipeError(sorted(faults, key=where.order))
    return Recipe.model_validate(values)


def override_recipe(
    recipe: Recipe,
    overrides: Sequence[str] | Mapping[str, Any],
    *,
    data_root: Path | None = None,
    model: str | None = None,
    seed: int | None = None,
) -> Recipe:
    """A recipe with other values in it, checked as one that is read; for the arguments see `read_recipe`.

    Raises:
        RecipeError: With every fault.
    """
    values = recipe.model_dump(mode="json")
    parsed, faults = _parse_overrides(overrides)
    options = _options(data_root, model, seed)
    faults += _said_twice(parsed, options)
    given = [*parsed, *options]
    where = _Places(Document("recipe", values), given)
    values = _apply(values, given)
    faults += validation_faults(values, where)
    if faults:
        raise RecipeError(sorted(faults, key=where.order))
    return Recipe.model_validate(values)


def _options(data_root: Path | None, model: str | None, seed: int | None) -> list[_Override]:
    """What has an option of its own on the command line."""
    options = {"--model": ("model.name", model), "--seed": ("seed", seed)}
    given = [
        _Override(f"{option} {value}", *field) for option, field in options.items() if (value := field[1]) is not None
    ]
    if data_root is not None:
        given.append(_Override(f"--data-root {data_root}", "data.root", str(data_root)))
    return given


def _said_twice(overrides: Sequence[_Override], options: Sequence[_Override]) -> Iterator[Fault]:
    """A field that its own option sets, and --set to something else: whoever says both means one of the two."""
    for override in overrides:
        for option in options:
            if option.path == override.path and option.value != override.value:
                yield Fault(override.where, override.path, f"{option.where} says something else", "leave one out")


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out; it reads back to an equal recipe."""
    return dump(recipe.model_dump(mode="json", context=WHOLE))


class _Places:
    """Where the value of a dotted path was written: the option if it came from one, else file and line."""

    def __init__(self, source: Document, overrides: Sequence[_Override]) -> None:
        self._label = source.label
        self._places = {path: f"{source.label}:{line}" for path, line in source.lines.items()}
        for override in overrides:
            below = f"{override.path}."
            self._places = {path: place for path, place in self._places.items() if not path.startswith(below)}
            self._places[override.path] = override.where

    def __call__(self, field: str) -> str:
        while field:
            if field in self._places:
                return self._places[field]
            field = field.rpartition(".")[0]
        return f"{self._label}:1"

    def order(self, fault: Fault) -> tuple[int, int]:
        """The file's faults by line, then those of the command line."""
        found = re.fullmatch(rf"{re.escape(self._label)}(?::(\d+))?", fault.where)
        return (0, int(found[1] or 0)) if found else (1, 0)


def _parse_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> tuple[list[_Override], list[Fault]]:
    """``a.b=value`` texts as paths and YAML values, and the faults of those that are none."""
    parsed: list[_Override] = []
    faults: list[Fault] = []
    known = dotted_names()
    if isinstance(overrides, Mapping):
        parsed = [_Override(path, path, value) for path, value in overrides.items() if path in known]
        unknown = [path for path in overrides if path not in known]
        return parsed, [Fault(path, path, "unknown key", nearest_path(path, known)) for path in unknown]
    for text in overrides:
        where = f"--set {text}"
        path, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            faults.append(Fault(where, "", "must be key=value", f"write for instance {_example(path, known)}"))
        elif path not in known:
            faults.append(Fault(where, path, "unknown key", nearest_path(path, known)))
        else:
            try:
                parsed.append(_Override(where, path, values_of(value)))
            except ValueError as error:
                said = f"the value is no YAML ({error}), got {show(value)}"
                faults.append(Fault(where, path, said, "put text in quotes"))
    return parsed, faults


def _example(path: str, known: Sequence[str]) -> str:
    return f"{path}=…" if path in known else "search.steps=200"


def nearest_path(path: str, known: Sequence[str]) -> str:
    """The nearest key of the section that is meant, with its section in front; else the nearest dotted name."""
    section, dot, key = path.rpartition(".")
    if section in known:
        keys = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == section]
        near = difflib.get_close_matches(key, keys, 1)
        return f"did you mean '{section}{dot}{near[0]}'?" if near else unknown_key_hint(tuple(path.split(".")))
    return unknown_key_hint((path,))


def _apply(values: Mapping[str, Any], overrides: Sequence[_Override]) -> dict[str, Any]:
    """The file's values with the overrides put in, and without what they displace."""
    changed = copy.deepcopy(dict(values))
    given = {override.path for override in overrides}
    for override in overrides:
        _put(changed, override.path, _anchored(override.path, override.value))
        if override.value is not None:
            for displaced in set(DISPLACES.get(override.path, ())) - given:
                _drop(changed, displaced)
    return changed


def _put(values: dict[str, Any], path: str, value: object) -> None:
    *sections, key = path.split(".")
    for section in sections:
        if values.get(section) is None:  # left out, or null: a dump has sections so that a recipe need not have
            values[section] = {}
        inner = values[section]
        if not isinstance(inner, dict):  # the section itself is a fault, reported as such
            return
        values = inner
    values[key] = value


def _drop(values: dict[str, Any], path: str) -> None:
    *sections, key = path.split(".")
    here: Any = values
    for section in sections:
        here = here.get(section) if isinstance(here, dict) else None
    if isinstance(here, dict):
        here.pop(key, None)


def _anchored(field: str, value: object) -> object:
    """Paths from the command line count from the working directory, also those in a section that is given whole."""
    if isinstance(value, Mapping):
        return {key: _anchored(f"{field}.{key}", inner) for key, inner in value.items()}
    if not isinstance(value, str) or not value:
        return value
    if field == "data.root" or (field == "model.name" and (is_path(value) or Path(value).is_dir())):
        return _absolute(value, Path.cwd())
    return value


def _absolute(path: str, folder: Path) -> str:
    try:
        return str((folder / Path(path).expanduser()).resolve())
    except RuntimeError:  # ~user of nobody: leave it, and the check will say that it is not there
        return str(folder / path)


def _complete(values: dict[str, Any], path: Path) -> None:
    """Fills in what depends on where the file lies: the name, the data's root and a local model's folder."""
    values.setdefault("name", _default_name(path))
    folder = path.resolve().parent
    model, data = values.get("model"), values.get("data")
    if isinstance(model, dict) and isinstance(name := model.get("name"), str) and is_path(name):
        model["name"] = _absolute(name, folder)
    if isinstance(data, dict):
        root = data.get("root")
        if data.get("generated") is not None and isinstance(root, str):
            root = None  # nothing is read from files, whatever --data-root says for other recipes
        elif root is None and data.get("hub") is None and data.get("generated") is None:
            root = str(folder)
        data["root"] = _absolute(root, folder) if isinstance(root, str) else root


def _default_name(path: Path) -> str:
    """``glue-mini/cola`` for recipes/glue-mini/cola.yaml, else the file's stem, in characters a folder may have."""
    parts = list(path.resolve().with_suffix("").parts)
    anchors = [index for index, part in enumerate(parts[:-1]) if part in RECIPE_FOLDERS]
    named = parts[anchors[-1] + 1 :] if anchors else parts[-1:]
    return "/".join(re.sub(r"[^A-Za-z0-9._-]+", "-", part).lstrip("._-") or "recipe" for part in named)


def _file_faults(
    values: Mapping[str, Any], faults: Sequence[Fault], where: _Places, checks: Mapping[str, Check]
) -> Iterator[Fault]:
    """What only files can show, for the sections that are right in what these checks look at."""
    wrong = {fault.field for fault in faults}
    task = None if "task" in wrong else values.get("task")
    limit = _limit(values, wrong)
    for names, check in checks.items():
        found = [(section_at((name,)), _checkable(name, values, wrong)) for name in names.split()]
        sections = [cls.model_validate(mine) for cls, mine in found if cls is not None and mine is not None]
        if len(sections) == len(found):
            yield from check(*sections, where, task, limit)


def _limit(values: Mapping[str, Any], wrong: set[str]) -> Limit:
    """The highest rank of a layer, where the sections that say it are right."""
    if any(field.split(".")[0] in ("search", "method") for field in wrong):
        return None
    method, search = values.get("method") or {}, values.get("search") or {}
    return target_limit(MethodSettings.model_validate(method), Search.model_validate(search))


def _checkable(section: str, values: Mapping[str, Any], wrong: set[str]) -> dict[str, Any] | None:
    """The section without wrong fields that the files say nothing about; None where another field is wrong."""
    mine = {field for field in wrong if field.split(".")[0] == section}
    keys = {".".join(field.split(".")[:2]) for field in mine}
    if not keys <= UNCHECKED:
        return None
    return {key: value for key, value in (values.get(section) or {}).items() if f"{section}.{key}" not in keys}
