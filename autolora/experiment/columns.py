"""The columns of a recipe that names none, where its task's data has usual ones: ``find_columns(values, where)``.

For chat, a file's columns show which form its conversations have, mostly. What they leave open is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from autolora.data.files import column_names, data_folder, is_local, split_files
from autolora.errors import Fault, UserError
from autolora.recipe.load import Where
from autolora.recipe.schema import Data
from autolora.registry import TASKS
from autolora.tasks.conversations import USUAL, usual

FORMS = ", ".join(f"{'+'.join(columns)} and {label}" for columns, label in USUAL if label not in columns)


def find_columns(values: dict[str, Any], where: Where) -> list[Fault]:
    """Fill in `data.columns` and `data.label` of a chat recipe that leaves them out.

    Args:
        values: The recipe's, which are changed.
        where: Gives the place of a dotted field.

    Returns:
        What is wrong where the files do not show it; the columns are then some that there are.
    """
    data, task = values.get("data"), values.get("task")
    if not isinstance(data, dict) or task not in TASKS.ours or not TASKS.load(str(task)).converses:
        return []
    columns, label = data.get("columns"), data.get("label")
    if columns is not None:
        if label is None and isinstance(columns, list) and len(columns) == 1:
            data["label"] = columns[0]  # whole conversations
        return []
    there = _columns(data)
    if isinstance(there, str):  # whatever is wrong with the files is said by another check
        data |= {"columns": ["messages"], "label": label or "messages"}
        hint = "write columns: [messages], for instance"
        return [Fault(where("data"), "data.columns", there, hint)] if there else []
    fit = [(names, answer) for names, answer in usual(there) if label in (None, answer)]
    if len(fit) == 1:
        data |= {"columns": list(fit[0][0]), "label": fit[0][1]}
        return []
    data |= {"columns": [there[0]], "label": there[0]}
    return [Fault(where("data"), "data.columns", _said(fit, there), "name data.columns, and data.label for answers")]


def _columns(data: dict[str, Any]) -> list[str] | str:
    """Of the first file of the training split; or why there is none to look at, "" where others say that."""
    try:
        section = Data.model_validate(data)
        if not is_local(section):
            return "missing: the columns of a data set that is not here are not known"
        if not data_folder(section).is_dir():
            return ""
        return column_names(split_files(section, section.splits.train)[0], section.encoding)
    except (ValidationError, UserError):
        return ""


def _said(fit: Sequence[tuple[tuple[str, ...], str]], there: Sequence[str]) -> str:
    if fit:
        forms = " or ".join("+".join(dict.fromkeys((*columns, label))) for columns, label in fit)
        return f"the conversations may stand in {forms}, and the recipe does not say where"
    return f"none of the file's columns ({', '.join(there)}) has a usual name: messages, conversations; {FORMS}"
