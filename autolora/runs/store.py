"""Run directories: ``<root>/<recipe>/<time>-<seed>/``.

| file | what |
|---|---|
| recipe.yaml | the resolved recipe |
| manifest.json | what produced the run (see `autolora.runs.manifest`), with times, memory and parameters by stage |
| base.json | what pretrained model it was begun on (see `autolora.runs.base`) |
| status.json | running, success, failed or cancelled, by stage; a failure's traceback |
| search/ | log.jsonl, ranks.json, ranks.png, selection.png, adapter/ (the searched model itself); what its components |
| | are worth: evidence.safetensors, head.safetensors; of `autolora ranks`: rises.json, curve.png |
| retrain/ | log.jsonl |
| adapter/ | the product: a stock PEFT adapter |
| metrics.md, .csv, .json | the metrics table |
| predictions/ | one file per evaluation split |

What a comparison tries before it chooses a setting is in ``<root>/<recipe>/_tuning/``.

Files are written to a temporary name and renamed.
"""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from autolora.causes import explained
from autolora.errors import UserError, keep
from autolora.files import read_json, write_atomic, write_json
from autolora.lora.ranks import Ranks
from autolora.recipe.load import dump_recipe
from autolora.recipe.method import label
from autolora.recipe.schema import Recipe
from autolora.runs.contained import beside, check_contained
from autolora.runs.shapes import check_manifest, check_status

STAGES = ("search", "retrain", "eval")
TUNING = "_tuning"  # in a recipe's folder, those of its runs that try a setting and are reported nowhere
LONGEST = 80  # characters of a method's label in the name of a folder
FORMAT = 2  # of a run's folder, in its manifest; runs without a number are of the first, and are read as they are


class Run:
    """One run directory.

    Args:
        path: The folder.
        recipe: The run's, as it is resolved.
        main: Whether this process writes (one does, of several).
    """

    def __init__(self, path: Path, recipe: Recipe, *, main: bool = True) -> None:
        self.path, self.recipe, self.main = path, recipe, main

    @classmethod
    def create(cls, root: Path, recipe: Recipe, folder: str = "") -> Run:
        """A new run directory.

        Args:
            root: Where runs are; the folder is made in ``<root>/<recipe>/``.
            recipe: With its method and seed.
            folder: Of that one, where it belongs to a kind of its own, `TUNING` for instance.
        """
        from autolora.runs.manifest import environment

        now = datetime.now(UTC)
        word = re.sub(r"[^A-Za-z0-9.]+", "-", label(recipe.method))[:LONGEST].rstrip("-.")
        stem = f"{now:%Y%m%d-%H%M%S}-{'' if word == 'autolora' else word + '-'}{recipe.seed}"
        path = _new_folder(root / recipe.name / folder, stem)
        run = cls(path, recipe)
        write_json(path / "status.json", {"state": "running", "stages": {}})
        made = {"format": FORMAT, "created": now.isoformat(), "seed": recipe.seed}
        write_json(path / "manifest.json", {**made, **environment()})
        run.save_recipe()
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run.

        Args:
            path: The run's folder.

        Raises:
            UserError: The folder is no run, a damaged one, or one of a later version.
        """
        if not is_run(path):
            raise UserError(f"{path} is not a run: it has no recipe.yaml and status.json")
        check_contained(path)
        run = cls(path, read_resolved(path / "recipe.yaml"))
        found = run.manifest().get("format", 1) if (path / "manifest.json").exists() else 1
        if found not in range(1, FORMAT + 1):
            raise UserError(
                f"{path} is a run of format {found!r}, and this version of autolora knows formats up to {FORMAT}; "
                "open it with the version that made it, or a later one"
            )
        return run

    def save_recipe(self) -> None:
        """Write the recipe, with what the command line changed, once the stage has accepted it."""
        if self.main:
            write_atomic(self.path / "recipe.yaml", dump_recipe(self.recipe))

    def status(self) -> dict[str, Any]:
        """What status.json says: "state" of the run, and "stages" by name.

        Raises:
            UserError: It is missing or damaged.
        """
        found = _read(self.path / "status.json")
        check_status(self.path / "status.json", found)
        return found

    def manifest(self) -> dict[str, Any]:
        """What manifest.json says: what made the run, and "stages" by name.

        Raises:
            UserError: It is missing or damaged.
        """
        found = _read(self.path / "manifest.json")
        check_manifest(self.path / "manifest.json", found)
        return found

    def stage_state(self, stage: str) -> str | None:
        """The state of a stage: running, success, failed, cancelled; None: not begun.

        Args:
            stage: One of `STAGES`.
        """
        state = self.status()["stages"].get(stage, {}).get("state")
        return None if state is None else str(state)

    def note(self, stage: str, **values: object) -> None:
        """Add to a stage's part of the manifest.

        Args:
            stage: One of `STAGES`.
            values: JSON-able; what is there under the same name is replaced.
        """
        if self.main:
            manifest = self.manifest()
            manifest.setdefault("stages", {}).setdefault(stage, {}).update(values)
            write_json(self.path / "manifest.json", manifest)

    def note_data(self, record: Mapping[str, Any]) -> None:
        """Keep what was read of the data.

        Args:
            record: JSON-able; it replaces the one that is there.
        """
        if self.main:
            write_json(self.path / "manifest.json", {**self.manifest(), "data": record})

    def ranks(self) -> Ranks:
        """The ranks that the run is retrained at, with the retraining's scaling.

        Raises:
            UserError: There are none yet, or the file is damaged.
        """
        path = ranks_file(self.path)
        if not path.exists():
            raise UserError(f"{self.path} has no ranks yet; run: autolora search {self.path} --resume")
        stage = path.parent.name
        try:
            found = Ranks.load(path)
        except UserError as error:
            again = f"autolora {stage} {self.path}{' --resume' if stage == 'search' else ''}"
            raise UserError(f"{error}; remove it, and write it anew with: {again}") from error
        if stage == "retrain" and "format" in read_json(path):  # with the scaling that they were trained with
            return found
        return found.scaled(self.recipe.retrain_alpha, self.recipe.retrain.scaling, rank=self.recipe.search.rank)

    def base_run(self, method: str) -> Path | None:
        """The run of another method that this one builds on; None where none was noted.

        Args:
            method: That method's label; see `add_base_run`.
        """
        path = self.manifest().get("sources", {}).get(method)
        return None if path is None else beside(self.path, path, f"manifest.json, sources.{method}")

    def base_runs(self) -> list[Path]:
        """The runs of other methods that this one builds on."""
        sources = self.manifest().get("sources", {})
        return [beside(self.path, path, f"manifest.json, sources.{method}") for method, path in sources.items()]

    def add_base_run(self, method: str, run: Run) -> None:
        """Note the run of another method that this one builds on, by its path from here: runs move together.

        Args:
            method: That method's label.
            run: Its run.
        """
        manifest = self.manifest()
        path = os.path.relpath(run.path.resolve(), self.path.resolve())
        manifest.setdefault("sources", {})[method] = Path(path).as_posix()
        write_json(self.path / "manifest.json", manifest)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Marks a stage as running, and then as success, failed (keeping the traceback) or cancelled.

        Args:
            name: One of `STAGES`.

        Raises:
            UserError: Another process is at the run.
        """
        self._refuse_if_alive()
        self._mark(name, "running", pid=os.getpid())
        begun = time.monotonic()
        try:
            yield
        except KeyboardInterrupt:
            self._mark(name, "cancelled")
            raise
        except BaseException as error:
            told = explained(error, name) or error
            self._mark(name, "failed", error=str(told), traceback=traceback.format_exc())
            keep(told, self.path / "status.json")
            if told is error:
                raise
            raise told from error
        self._mark(name, "success", seconds=round(time.monotonic() - begun, 2))

    def _mark(self, stage: str, state: str, **values: object) -> None:
        if self.main:
            status = self.status()
            status["state"] = state
            status["stages"][stage] = {"state": state, "at": datetime.now(UTC).isoformat(), **values}
            write_json(self.path / "status.json", status)

    def mark(self, state: str, **values: object) -> None:
        """The state of the run as a whole, for what no stage can say: that it waits, or ended before one began.

        Args:
            state: running, failed, cancelled.
            values: JSON-able, such as an "error".
        """
        if self.main:
            status = {"state": state, "stages": self.status()["stages"], **values}
            write_json(self.path / "status.json", status)

    def live_process(self) -> tuple[str, int] | None:
        """The stage that another process is at, and that process."""
        for name, stage in self.status()["stages"].items():
            pid = stage.get("pid")
            if stage["state"] == "running" and pid not in (None, os.getpid()) and _alive(pid):
                return name, pid
        return None

    def _refuse_if_alive(self) -> None:
        """Two processes must not write one run."""
        if self.main and (live := self.live_process()) is not None:
            raise UserError(f"{self.path}: its {live[0]} is still running (process {live[1]}); wait for it or stop it")


def read_resolved(path: Path) -> Recipe:
    """A run's own recipe, as it was resolved; its files are not checked again.

    Args:
        path: The run's recipe.yaml.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not the resolved recipe of a run: {error}") from error


def ranks_file(path: Path) -> Path:
    """Where the ranks of a run are that it was retrained at: found in training or after it, or before it.

    Args:
        path: The run's folder.
    """
    trained = path / "retrain" / "ranks.json"
    return trained if trained.exists() else path / "search" / "ranks.json"


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, of whatever state.

    Args:
        path: A folder, which need not be there.
    """
    return (path / "recipe.yaml").is_file() and (path / "status.json").is_file()


def is_tuning(path: Path, root: Path) -> bool:
    """Whether a run was made to try a setting, and is reported nowhere.

    Args:
        path: Its folder.
        root: Below which it was found; what is above does not count.
    """
    return TUNING in path.relative_to(root).parts


def runs(root: Path, recipe_name: str | None = None) -> list[Run]:
    """All runs below `root`, oldest first; a damaged one is left out, and so is what only tries a setting.

    Args:
        root: Where runs are.
        recipe_name: Only runs of this recipe (``NAME/_tuning``: those that try a setting for it); None for all.

    Raises:
        UserError: The newest run is damaged.
    """
    found = []
    for status in root.rglob("status.json") if recipe_name is None else root.glob(f"{recipe_name}/*/status.json"):
        path = status.parent
        if is_run(path) and not (recipe_name is None and is_tuning(path, root)):
            found.append((_created(path), path))
    opened = []
    for _, path in sorted(found):
        try:
            opened.append(Run.open(path))
        except UserError:
            if path == max(found)[1]:
                raise
    return opened


def same_runs(root: Path, recipe: Recipe) -> list[Run]:
    """The runs below `root` of exactly this resolved recipe, oldest first.

    Args:
        root: Where runs are.
        recipe: With its method and seed.
    """
    return [run for run in runs(root, recipe.name) if run.recipe == recipe]


def _created(path: Path) -> str:
    """When a run was made; "" where its manifest does not say."""
    try:
        return str(_read(path / "manifest.json").get("created", ""))
    except UserError:
        return ""


def _new_folder(parent: Path, stem: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for i in range(1, 1000):
        path = parent / (stem if i == 1 else f"{stem}-{i}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
    raise UserError(f"{parent / stem} and 999 names like it exist already")


def _read(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object")
    return value


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
