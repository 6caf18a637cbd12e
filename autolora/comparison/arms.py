"""What a sweep compares: methods at settings, an arm each, and the tables that have a column for each setting.

In `Result` an arm stands where a method's label stands: ``lora:4 search.rank=8``. Arms are compared with that of the
same method at the recipe's own values; where those are not among the points, with its first arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autolora.comparison.groups import scores_by_task, tasks_of
from autolora.comparison.summary import differences
from autolora.errors import UserError
from autolora.files import read_json
from autolora.recipe.sweeping import Point
from autolora.runs.results import Result
from autolora.tables import Row

FILE = "sweep.json"
OWN = "the recipe's own"
FIRST = "the first"
CAUTION = (
    "These are scores of the evaluation split. Who takes the best setting of them has chosen on that split, and its "
    "score is too good; --select chooses on a held-out part of the training split instead."
)


@dataclass(frozen=True)
class Arm:
    """A method at a point of a sweep.

    Args:
        label: ``lora:4 search.rank=8``.
        method: Its label.
        settings: Texts by dotted field.
        own: The names of the recipes whose own values these are.
    """

    label: str
    method: str
    settings: Mapping[str, str]
    own: tuple[str, ...] = ()

    @property
    def point(self) -> Point:
        """Its settings."""
        return Point(tuple(self.settings.items()))


@dataclass(frozen=True)
class Arms:
    """All of a sweep, by label, in the order of its tables."""

    arms: Mapping[str, Arm]

    @property
    def fields(self) -> tuple[str, ...]:
        """What is swept."""
        return tuple(dict.fromkeys(field for arm in self.arms.values() for field in arm.settings))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods' labels."""
        return tuple(dict.fromkeys(arm.method for arm in self.arms.values()))

    def of(self, method: str) -> list[Arm]:
        """The arms of a method.

        Args:
            method: Its label.
        """
        return [arm for arm in self.arms.values() if arm.method == method]

    def reference(self, method: str, tasks: Sequence[str]) -> Arm:
        """What the other arms of a method are compared with.

        Args:
            method: Its label.
            tasks: The recipes' names: one, or those of an average.
        """
        mine = self.of(method)
        return next((arm for arm in mine if set(tasks) <= set(arm.own)), mine[0])

    def spread(self, row: Row) -> Row:
        """A row of a table with a column for each setting behind the method's.

        Args:
            row: Whose method is an arm's label.
        """
        arm = self.arms.get(str(row.get("method")))
        if arm is None:
            return row
        cells: dict[str, Any] = {}
        for name, cell in row.items():
            cells[name] = arm.method if name == "method" else cell
            if name == "method":
                cells |= {field: arm.settings.get(field) for field in self.fields}
        return cells

    def as_json(self) -> list[dict[str, Any]]:
        """For `read_arms`."""
        return [asdict(arm) for arm in self.arms.values()]


def read_arms(folder: Path) -> Arms | None:
    """What a sweep's folder says of its arms; None where the folder is none of a sweep.

    Args:
        folder: Of a comparison.

    Raises:
        UserError: The file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        found = [Arm(**{**each, "own": tuple(each["own"])}) for each in read_json(file)]
        for arm in found:
            arm.point.values  # noqa: B018 (what it raises is the point)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is not the list of a sweep's settings; run autolora compare again") from error
    return Arms({arm.label: arm for arm in found})


def sweep_rows(results: Sequence[Result], arms: Arms, interval: str) -> list[Row]:
    """Each arm against its method's own: mean, sd, and the paired differences, by task and method.

    Args:
        results: Of all arms.
        arms: They.
        interval: "t" or "bootstrap".
    """
    rows: list[Row] = []
    tasks = tasks_of(results)
    for task in scores_by_task(results):
        among = tasks if task.is_average else [task.task]
        for method in arms.methods:
            reference = arms.reference(method, among)
            labels = {arm.label for arm in arms.of(method)}
            mine = [each for each in results if each.method in labels and each.recipe in among]
            if not any(each.method == reference.label for each in mine):
                continue
            found = {
                str(row["method"]): row
                for row in differences(mine, reference.label, interval)
                if row["task"] == task.task
            }
            what = OWN if set(among) <= set(reference.own) else FIRST
            for arm in arms.of(method):
                if arm.label == reference.label:
                    rows.append(arms.spread({"task": task.task, "method": arm.label, "verdict": what}))
                elif arm.label in found:
                    row = {name: cell for name, cell in found[arm.label].items() if name != "baseline"}
                    rows.append(arms.spread(row))
    return _ordered(rows)


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """With the same columns in each, those of the fullest row."""
    names = max((list(row) for row in rows), key=len, default=[])
    return [{name: row.get(name) for name in names} for row in rows]


def best_note(rows: Sequence[Row], arms: Arms) -> tuple[str, ...]:
    """The caution below the scores, where there is more than one point to choose from.

    Args:
        rows: Of the table.
        arms: The sweep's.
    """
    return (CAUTION,) if len(rows) > len(arms.methods) else ()
