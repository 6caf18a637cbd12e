"""Whether runs that are taken as done were made of the rows that are there now: ``check_rows_of(trials)``.

A recipe says where its data lies and not what is in it: labels are corrected, a folder has another project's files, and
``--data-root`` names another one. A run that has begun is checked when it goes on (`autolora.context.identity`); one
that has ended would stand in a table, and be paired, with runs on other rows. Rows of the hub have a revision instead.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr

from autolora.comparison.plan import Trial
from autolora.context.rows import hashes_of, rows_of
from autolora.data.files import is_local
from autolora.errors import UserError
from autolora.recipe.schema import Recipe
from autolora.registry import TASKS


def check_rows_of(trials: Sequence[Trial]) -> None:
    """Read the rows again, once for all trials of the same, and compare them with what the manifests say.

    Args:
        trials: Planned; those that are not done have nothing to be compared.

    Raises:
        UserError: A run was made of others; the message has the run, the split and how many such runs there are. Or
            the rows cannot be read.
    """
    known: dict[str, Mapping[str, str]] = {}
    others: list[tuple[Trial, str]] = []
    for trial in trials:
        if not is_local(trial.recipe.data) or not (recorded := _recorded(trial)):
            continue
        if (key := _key(trial.recipe)) not in known:
            known[key] = _hashes(trial.recipe)
        now = known[key]
        others += [(trial, split) for split in recorded if split in now and now[split] != recorded[split]][:1]
    if not others:
        return
    trial, split = others[0]
    assert trial.run is not None
    more = f", and so were {len(others) - 1} others" if len(others) > 1 else ""
    raise UserError(
        f"{trial.run.path} was made of other rows of split {split!r} than {trial.recipe.name} has now{more}: in one "
        "table they would be compared; give another --output, put the data back, or remove what is of the old with: "
        f"autolora runs rm {trial.run.path}"
    )


def _recorded(trial: Trial) -> Mapping[str, str]:
    """The hashes of the rows that a run was made of, by split; none where it is not done, or of an early version."""
    if trial.run is None or not trial.done:
        return {}
    stages = trial.run.manifest().get("stages", {})
    return {**stages.get("retrain", {}).get("data", {}), **stages.get("eval", {}).get("data", {})}


def _key(recipe: Recipe) -> str:
    """What recipes with the same rows have in common: without parts that are drawn, the seed has no say."""
    drawn = (recipe.data.limits.train, recipe.data.limits.eval, recipe.data.splits.held_out, recipe.retrain.kept_out)
    seed = recipe.seed if any(each is not None for each in drawn) else None
    return f"{recipe.name} {recipe.task} {seed} {recipe.retrain.kept_out} {recipe.data.model_dump_json()}"


def _hashes(recipe: Recipe) -> Mapping[str, str]:
    """Of the rows now."""
    with redirect_stderr(io.StringIO()):  # what is doubtful about them is said when a trial begins
        return hashes_of(rows_of(recipe, TASKS.load(recipe.task))[0])
