"""What a recipe says against what is on disk: ``load_recipe(path)`` raises all that is wrong with it, together.

Reads first lines and headers only, and imports neither torch nor the data library, so that a whole validation stays
well under three seconds. `where` gives the place (file and line, or option) of a dotted field path.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autolora.data.files import column_names, data_folder, is_local, leaves_folder, no_folder, split_files
from autolora.data.reading.table import column_fault
from autolora.errors import Fault, RecipeError, UserError
from autolora.experiment.base_faults import check_base
from autolora.experiment.columns import find_columns
from autolora.experiment.keep_faults import check_keep
from autolora.experiment.model_faults import check_method, check_model, fault_at
from autolora.experiment.size_faults import check_bearing, check_sizes
from autolora.planted.kinds import GENERATED, KINDS, PREFIX, is_planted
from autolora.recipe.amounts import check_amounts, check_retrain, check_search
from autolora.recipe.data import HELD_OUT
from autolora.recipe.load import Check, Limit, Where, read_recipe
from autolora.recipe.method import target_limit
from autolora.recipe.pairs import check_pairs
from autolora.recipe.schema import Data, Eval, Model, Recipe
from autolora.registry import TASKS
from autolora.words import did_you_mean

GENERATED_SPLITS = ("train", "validation")
GENERATED_COLUMNS = {  # by `data.generated`
    "acceptability": ("sentence", "label", "phenomenon", "pair"),
    "facts": ("person", "town"),
    GENERATED: ("words", "label", "base"),
}


def load_recipe(
    path: Path,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    data_root: Path | None = None,
    model: str | None = None,
    seed: int | None = None,
) -> Recipe:
    """The recipe in a file, checked against the files that it names; a model that has yet to be fetched is not.

    Args:
        path: The YAML file.
        overrides: ``search.steps=200``, as after ``--set``; or values by dotted name.
        data_root: Instead of ``data.root``, relative to the working directory.
        model: Instead of ``model.name``.
        seed: Instead of ``seed``.

    Raises:
        RecipeError: With every fault.
    """
    return read_recipe(path, overrides, data_root=data_root, model=model, seed=seed, checks=CHECKS, find=find_columns)


def check_recipe(recipe: Recipe) -> None:
    """The same for a recipe that was not read from a file.

    Args:
        recipe: With its method and seed.

    Raises:
        RecipeError: With every fault that its files show.
    """
    if faults := [
        fault
        for names, check in CHECKS.items()
        for fault in check(
            *(getattr(recipe, name) for name in names.split()),
            _in_python,
            recipe.task,
            target_limit(recipe.method, recipe.search),
        )
    ]:
        raise RecipeError(faults)


def _in_python(field: str) -> str:
    return "recipe"


def check_data(data: Data, where: Where, task: str | None = None, limit: Limit = None) -> list[Fault]:
    """What is wrong with folder, splits and columns.

    Args:
        data: The recipe's data section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; it has no bearing on this check.
        limit: Of ranks; nor has it.
    """
    faults = _path_faults(data, where)
    if data.evaluation is not None:
        faults += [_elsewhere(fault, where) for fault in _path_faults(data.source_of(""), where)]
    if not faults:
        faults = _same_split(data, where)
        if data.generated is not None:
            faults += _generated_faults(data, where)
        else:
            faults += _files_faults(data, where)
    return faults


def _elsewhere(fault: Fault, where: Where) -> Fault:
    """The same fault, of data.evaluation."""
    field = fault.field
    if field == "data.label" or field.startswith(("data.path", "data.columns")):
        field = f"data.evaluation{field.removeprefix('data')}"
    return replace(fault, field=field, where=where(field))


def _path_faults(data: Data, where: Where) -> list[Fault]:
    if data.path is None or not leaves_folder(data.path):
        return []
    if Path(data.path).is_absolute():
        message, hint = f"must be relative, got {data.path!r}", "put the absolute part into data.root"
    else:
        message, hint = f"must stay below data.root, got {data.path!r}", "set data.root to the folder above"
    return [Fault(where("data.path"), "data.path", message, hint)]


def _splits(data: Data) -> list[tuple[str, str]]:
    """(dotted field, split) of the train split and each eval split that the data has."""
    evals = [(f"data.splits.eval.{index}", split) for index, split in enumerate(data.splits.eval)]
    if data.splits.held_out is not None:  # a part of the training split, which no file needs to have
        evals = [(field, split) for field, split in evals if split != HELD_OUT]
    return [("data.splits.train", data.splits.train), *evals]


def _same_split(data: Data, where: Where) -> list[Fault]:
    if data.splits.held_out is not None and data.splits.train == HELD_OUT:
        return [fault_at("data.splits.train", f"{HELD_OUT!r} is what data.splits.held_out makes of it", where)]
    return [
        fault_at(field, f"{split!r} is the training split too; evaluate on held-out examples", where)
        for field, split in _splits(data)[1:]
        if split == data.splits.train
    ]


def _generated_faults(data: Data, where: Where) -> list[Fault]:
    faults = [
        fault_at(field, f"no split {split!r} in generated data; it has: {', '.join(GENERATED_SPLITS)}", where)
        for field, split in _splits(data)
        if split not in GENERATED_SPLITS
    ]
    return faults + _column_faults(data, {Path("the generated data"): GENERATED_COLUMNS[str(data.generated)]}, where)


def _files_faults(data: Data, where: Where) -> list[Fault]:
    """Of the splits that lie in files; those of data.evaluation may lie elsewhere, and others on the hub."""
    faults: list[Fault] = []
    train: Sequence[Path] = ()
    for source in (data, *([data.source_of("")] if data.evaluation else [])):
        if not is_local(source):
            continue
        splits = [(field, split) for field, split in _splits(data) if data.source_of(split) == source]
        named = source is not data and data.evaluation is not None and data.evaluation.label is not None
        found, files = _local_faults(source, splits, train, where, labelled=named)
        train = train or files
        faults += found if source is data else [_elsewhere(fault, where) for fault in found]
    return faults


def _local_faults(
    data: Data, splits: Sequence[tuple[str, str]], train: Sequence[Path], where: Where, *, labelled: bool
) -> tuple[list[Fault], Sequence[Path]]:
    """What is wrong with splits in one folder, and the training split's files, where it is among them.

    Evaluation splits may have no labels, unless it is said that they have.
    """
    folder = data_folder(data)
    if not folder.is_dir():
        return [_folder_fault(data, folder, where)], train
    faults: list[Fault] = []
    found: dict[Path, list[str]] = {}
    unlabelled: set[Path] = set()  # files of evaluation splits that have no labels at all
    for field, split in splits:
        if field != "data.splits.train" and split == data.splits.train:
            continue  # a fault already
        try:
            files = split_files(data, split)
            columns = {file: column_names(file, data.encoding) for file in files}
        except UserError as error:
            faults.append(fault_at(field, str(error), where))
            continue
        found |= columns
        if field == "data.splits.train":
            train = files
            continue
        names = {name for each in columns.values() for name in each}
        if not labelled and data.label not in names and not did_you_mean(data.label, names):
            unlabelled.update(files)
        if shared := next((mine for file in files for mine in train if file.samefile(mine)), None):
            faults.append(fault_at(field, f"{split!r} is the training split's file, {shared.name}", where))
    return faults + _column_faults(data, found, where, unlabelled), train


def _folder_fault(data: Data, folder: Path, where: Where) -> Fault:
    field = "data.root" if data.root is not None and not Path(data.root).is_dir() else "data.path"
    hint = "" if where("data.root").startswith("--") else "point to the data with --data-root"
    return Fault(where(field), field, no_folder(folder), hint)


def lacks_only_data(error: RecipeError) -> bool:
    """Whether all that is wrong with a recipe is that its data is no data set of the hub, and not here.

    Args:
        error: What `load_recipe` raised.
    """
    return all(
        fault.field == "data.path" and fault.message.startswith("there is no data folder") for fault in error.faults
    )


def _column_faults(
    data: Data, found: Mapping[Path, Sequence[str]], where: Where, unlabelled: Collection[Path] = ()
) -> list[Fault]:
    """For each column that is used, the first file that lacks it."""
    wanted = [(f"data.columns.{index}", name) for index, name in enumerate(data.columns)] + [("data.label", data.label)]
    if data.category:
        wanted.append(("data.category", data.category))
    faults = []
    for field, name in wanted:
        for source, columns in found.items():
            if field == "data.label" and source in unlabelled:
                continue
            if wrong := column_fault(columns, name, str(source)):
                faults.append(fault_at(field, wrong[0], where, wrong[1]))
                break
    return faults


def check_family(
    data: Data, evaluation: Eval, where: Where, task: str | None = None, limit: Limit = None
) -> list[Fault]:
    """What the sections say that the task's family cannot do, its metrics for instance.

    Args:
        data: The recipe's data section.
        evaluation: The recipe's eval section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; None where the recipe names none that there is.
        limit: The highest rank of a layer; it has no bearing on this check.
    """
    if task is None:
        return []
    try:
        family = TASKS.load(task)
        found = list(family.faults(data, family.with_metrics(evaluation)))
    except UserError as error:  # another package's, which cannot be imported
        return [Fault(where("task"), "task", str(error))]
    return [fault_at(field, message, where, hint) for field, message, hint in found]


def check_planted(data: Data, model: Model, where: Where, task: str | None = None, limit: Limit = None) -> list[Fault]:
    """Whether a planted model learns from its own teacher, and no other model from it.

    Args:
        data: The recipe's data section.
        model: The recipe's model section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; it has no bearing on this check.
        limit: Of ranks; nor has it.
    """
    if is_planted(model.name) == (data.generated == GENERATED):
        return []
    if is_planted(model.name):
        message = f"{model.name} knows the words of its own teacher only, and the data is another's"
        return [Fault(where("model.name"), "model.name", message, f"write data.generated: {GENERATED}")]
    message = f"planted data is what a planted model's teacher says, and the model is {model.name!r}"
    hint = f"write model.name: {PREFIX}{KINDS[1]}, or another of {', '.join(KINDS)}"
    return [Fault(where("data.generated"), "data.generated", message, hint)]


CHECKS: Mapping[str, Check] = {
    "data": check_data,
    "data eval": check_family,
    "data eval loss": check_bearing,
    "data eval retrain": check_keep,
    "model": check_model,
    "data model method eval": check_sizes,
    "search": check_search,
    "retrain": check_retrain,
    "data search retrain": check_amounts,
    "search ranks retrain method": check_pairs,
    "model method search": check_method,
    "data model": check_planted,
    "model search method": check_base,
}
