"""A recipe for an adapter and a file of data, without one being written: ``data_recipe(adapter, Path("mine.csv"))``.

The task and the base model are the adapter's, the columns those that are named, or that the file has by one of their
usual names. What neither says is refused: nothing is guessed. All else is as in a recipe that leaves it out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autolora.data.files import column_names
from autolora.data.reading.formats import ENDINGS
from autolora.errors import RecipeError, UserError
from autolora.experiment.columns import find_columns
from autolora.experiment.preflight import check_recipe
from autolora.experiment.stored_adapter import Stored
from autolora.experiment.usual_columns import INPUTS, LABELS
from autolora.files import read_json
from autolora.lora.stored import CONFIG
from autolora.recipe.data import HELD_OUT
from autolora.recipe.load import override_recipe
from autolora.recipe.messages import validation_faults
from autolora.recipe.schema import Recipe

SHARE = 0.2  # of the file's rows that are scored and not measured on, where there is no file of their own
TASKS = {"TOKEN_CLS": "tagging", "CAUSAL_LM": "generation", "SEQ_2_SEQ_LM": "generation"}  # by PEFT's task_type
_OUTPUTS = re.compile(r"(?:^|\.)(?:classifier|score|out_proj)\.weight$")  # of a sequence classifier's last layer


def data_recipe(
    stored: Stored,
    file: Path,
    *,
    evaluation: Path | None = None,
    columns: Sequence[str] = (),
    label: str | None = None,
    task: str | None = None,
    model: str | None = None,
    seed: int | None = None,
    overrides: Sequence[str] = (),
) -> Recipe:
    """The recipe, checked against its files.

    Args:
        stored: The adapter.
        file: The data: components are valued on its rows, and healing trains on them.
        evaluation: The file that is scored before and after; None: a fifth of the rows of `file`, which is then used
            for nothing else.
        columns: Of the input; none: those that the file has by a usual name.
        label: The column of what is predicted; None: likewise.
        task: The task family; None: the adapter's.
        model: Where the base model is; None: what the adapter calls it.
        seed: Instead of the schema's default.
        overrides: ``retrain.weights.learning_rate=1e-3``, as after ``--set``.

    Raises:
        UserError: A file is not there, or neither the adapter nor the file nor who calls says what is needed.
    """
    for option, path in (("--data", file), ("--eval-data", evaluation)):
        if path is not None and not path.is_file():
            raise UserError(f"{option}: {path} is no file; name one that ends in {', '.join(ENDINGS[:6])}, …")
    family = task or _task(stored)
    found = _named(columns, label) if family == "chat" else _columns(file, family, columns, label)
    values: dict[str, Any] = {
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", file.name.split(".")[0]).strip("-._") or "data",
        "task": family,
        "model": {"name": _model(stored, model)},
        "data": {**_files(file, evaluation), **found},
    }
    if faults := [*find_columns(values, lambda field: "--data"), *validation_faults(values, lambda field: "--data")]:
        raise RecipeError(faults)
    recipe = override_recipe(Recipe.model_validate(values), overrides, seed=seed)
    check_recipe(recipe)
    return recipe


def _files(file: Path, evaluation: Path | None) -> dict[str, Any]:
    """Of the data section: the folder, and the splits by the names of files in it."""
    parents = [path.resolve().parent for path in (file, evaluation) if path is not None]
    root = Path(os.path.commonpath(parents))
    train = file.resolve().relative_to(root).as_posix()
    if evaluation is None:
        return {"root": str(root), "path": ".", "splits": {"train": train, "eval": [HELD_OUT], "held_out": SHARE}}
    other = evaluation.resolve().relative_to(root).as_posix()
    return {"root": str(root), "path": ".", "splits": {"train": train, "eval": [other]}}


def _model(stored: Stored, model: str | None) -> str:
    own = model or stored.config.get("base_model_name_or_path")
    if not own:
        raise UserError(f"{stored.folder / CONFIG} names no base model; give it with --model NAME_OR_PATH")
    return str(Path(own).resolve()) if Path(own).is_dir() else str(own)


def _task(stored: Stored) -> str:
    """The task family that the adapter was trained for."""
    kind = stored.config.get("task_type")
    if kind in TASKS:
        return TASKS[kind]
    if kind != "SEQ_CLS":
        raise UserError(
            f"{stored.folder / CONFIG}: task_type is {kind!r}, which does not say what the data is for; name the task "
            f"with --task: {', '.join(INPUTS)}"
        )
    path = stored.folder / "config.json"
    if path.is_file() and read_json(path).get("problem_type") == "multi_label_classification":
        raise UserError(f"{path}: problem_type is multi_label_classification, which no task family here is")
    ends = {shape[0] for name, shape in stored.shapes.items() if _OUTPUTS.search(name) and ".lora_" not in name}
    if len(ends) != 1:
        raise UserError(
            f"{stored.folder}: its head ({', '.join(stored.saved) or 'none'}) does not show whether it predicts "
            "classes or a number; say --task classification or --task regression"
        )
    return "regression" if ends == {1} else "classification"


def _named(columns: Sequence[str], label: str | None) -> dict[str, Any]:
    """Of the data section: what is named, and the rest is found as that of a recipe is."""
    return {**({"columns": list(columns)} if columns else {}), **({"label": label} if label else {})}


def _columns(file: Path, task: str, columns: Sequence[str], label: str | None) -> dict[str, Any]:
    """Of the data section: the columns, and the label's."""
    there = column_names(file)
    if not columns:
        sets = INPUTS.get(task, ())
        fit = [names for names in sets if set(names) <= set(there)]
        columns = _only(fit, "--columns", sets, file, task, there)
    if label is None:
        names = LABELS.get(task, ())
        (label,) = _only(
            [(name,) for name in names if name in there and name not in columns],
            "--label",
            [(name,) for name in names],
            file,
            task,
            there,
        )
    return {"columns": list(columns), "label": label}


def _only(
    fit: Sequence[tuple[str, ...]],
    option: str,
    usual: Sequence[tuple[str, ...]],
    file: Path,
    task: str,
    there: Sequence[str],
) -> tuple[str, ...]:
    """The one that fits, where there is one."""
    if len(fit) == 1:
        return fit[0]
    listed = ", ".join("+".join(names) for names in (fit or usual))
    what = (
        f"several columns that are usual for {task} ({listed})" if fit else f"none that is usual for {task} ({listed})"
    )
    raise UserError(f"{option}: {file} has {what}; name what is meant, of: {', '.join(there)}")
