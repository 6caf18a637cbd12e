"""Run directories: ``<root>/<recipe>/<time>-<seed>/``.

| file | what |
|---|---|
| recipe.yaml | the resolved recipe |
| manifest.json | what produced the run (see `autolora.runs.manifest`), with times, memory and parameters by stage |
| base.json | what pretrained model it was begun on (see `autolora.runs.base`) |
| status.json | running, success, failed or cancelled, by stage (see `autolora.runs.status`); a failure's traceback |
| search/ | log.jsonl, ranks.json, ranks.png, selection.png, adapter/ (the searched model itself); what its components |
| | are worth: evidence.safetensors, head.safetensors; of `autolora ranks`: rises.json, curve.png |
| retrain/ | log.jsonl |
| adapter/ | the product: a stock PEFT adapter |
| metrics.md, .csv, .json | the metrics table |
| predictions/ | one file per evaluation split |
| tracking/ | what trackers keep, and what was sent to each: TRACKER.jsonl (see `autolora.trackers`) |
| .lock, .lock.json | while a process is at the run (see `autolora.runs.lock`) |

What a comparison tries before it chooses a setting is in ``<root>/<recipe>/_tuning/``.

Files are written to a temporary name and renamed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.files import read_json, write_atomic, write_state
from autolora.lora.ranks import Ranks
from autolora.recipe.load import dump_recipe
from autolora.recipe.schema import Recipe
from autolora.runs.contained import beside, check_contained
from autolora.runs.folders import RANKS, is_run, lacking, new_folder, runs_inside
from autolora.runs.inventory import FORMAT, MANIFEST, RECIPE, STATUS, read_run_state, verified
from autolora.runs.key import is_signed, sign
from autolora.runs.lock import PATIENCE, HeldError, Holder, Lock
from autolora.runs.resolved import read_resolved
from autolora.runs.seal import listing
from autolora.runs.status import Status
from autolora.runs.watcher import Watcher


class Run:
    """One run directory.

    Args:
        path: The folder.
        recipe: The run's, as it is resolved.
        main: Whether this process writes (one does, of several).
    """

    def __init__(self, path: Path, recipe: Recipe, *, main: bool = True) -> None:
        self.path, self.recipe, self.main = path, recipe, main
        self._status, self._lock = Status(path, main=main), Lock(path / ".lock")
        self.watcher: Watcher | None = None

    @classmethod
    def create(cls, root: Path, recipe: Recipe, folder: str = "") -> Run:
        """A new run directory.

        Args:
            root: Where runs are; the folder is made in ``<root>/<recipe>/``.
            recipe: With its method and seed.
            folder: Of that one, where it belongs to a kind of its own, `runs.folders.TUNING` for instance.
        """
        from autolora.runs.manifest import environment

        now = datetime.now(UTC)
        run = cls(path := new_folder(root, recipe, now, folder), recipe)
        write_state(path / STATUS, {"format": FORMAT, "state": "running", "stages": {}})
        made = {"format": FORMAT, "created": now.isoformat(), "seed": recipe.seed}
        mark = sign(dump_recipe(recipe).encode())
        write_state(path / MANIFEST, {**made, **environment(), **({"made_here": [mark]} if mark else {})})
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
            raise UserError(f"{path} is not a run: it has no {' and '.join(lacking(path))}{runs_inside(path)}")
        check_contained(path)
        first = not (path / MANIFEST).exists() and "format" not in read_run_state(path / STATUS)
        found = 1 if first else read_run_state(path / MANIFEST).get("format", 1)
        if found not in range(1, FORMAT + 1):
            raise UserError(
                f"{path} is a run of format {found!r}, and this version of autolora knows formats up to {FORMAT}; "
                "open it with the version that made it, or a later one"
            )
        return cls(path, read_resolved(verified(path, RECIPE)))

    def save_recipe(self) -> None:
        """Write the recipe, with what the command line changed, once the stage has accepted it.

        It is marked as made here: what it names is by now what the user means.
        """
        if not self.main:
            return
        data, path = dump_recipe(self.recipe).encode(), self.path / RECIPE
        before = path.read_bytes() if path.is_file() else None
        self._mark_recipe(data, before)
        if data != before:
            with listing(self.path, RECIPE):
                write_atomic(path, data)

    def _mark_recipe(self, data: bytes, before: bytes | None) -> None:
        """Before it is written; the mark of what it replaces stays, for whoever is killed in between."""
        mark, marks = sign(data), self.marks()
        if mark is not None and mark not in marks:
            kept = [each for each in marks if before is not None and is_signed(before, [each])]
            write_state(self.path / MANIFEST, {**self.manifest(), "made_here": [*kept, mark]})

    def marks(self) -> list[str]:
        """What the manifest has of marks that recipe.yaml was made here; see `autolora.runs.reach`.

        Raises:
            UserError: It is damaged.
        """
        if not (self.path / MANIFEST).exists():  # of the first version
            return []
        return list(self.manifest().get("made_here", []))

    def status(self) -> dict[str, Any]:
        """What status.json says: "state" of the run, and "stages" by name.

        Raises:
            UserError: It is missing or damaged.
        """
        return self._status.read()

    def manifest(self) -> dict[str, Any]:
        """What manifest.json says: what made the run, its "files", and "stages" by name.

        Raises:
            UserError: It is missing or damaged.
        """
        return read_run_state(self.path / MANIFEST)

    def verified(self, name: str) -> Path:
        """A file of the run, which is what was written; see `autolora.runs.inventory.verified`.

        Args:
            name: Its path from the run's folder.
        """
        return verified(self.path, name)

    def stage_state(self, stage: str) -> str | None:
        """The state of a stage: running, success, failed, cancelled; None: not begun.

        Args:
            stage: One of `autolora.runs.status.STAGES`.
        """
        return self._status.stage(stage)

    def note(self, stage: str, **values: object) -> None:
        """Add to a stage's part of the manifest.

        Args:
            stage: One of `autolora.runs.status.STAGES`.
            values: JSON-able; what is there under the same name is replaced.
        """
        if self.main:
            manifest = self.manifest()
            manifest.setdefault("stages", {}).setdefault(stage, {}).update(values)
            write_state(self.path / MANIFEST, manifest)

    def note_data(self, record: Mapping[str, Any]) -> None:
        """Keep what was read of the data.

        Args:
            record: JSON-able; it replaces the one that is there.
        """
        if self.main:
            write_state(self.path / MANIFEST, {**self.manifest(), "data": record})

    def ranks(self) -> Ranks:
        """The ranks that the run is retrained at, with the retraining's scaling.

        Raises:
            UserError: There are none yet, or the file is damaged.
        """
        for name in RANKS:  # one that is listed must be there
            if (path := self.verified(name)).exists():
                break
        else:
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
        write_state(self.path / MANIFEST, manifest)

    @contextmanager
    def hold(self, patience: float = PATIENCE) -> Iterator[None]:
        """The run is this process's until the block ends; it may hold it already.

        Args:
            patience: How many seconds to wait for whoever is at it.

        Raises:
            HeldError: Another process is at it.
        """
        if not self.main:
            yield
            return
        try:
            self._lock.acquire(patience)
        except HeldError as error:
            raise self._held_by(error) from error
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Marks a stage as running, and then as success, failed (keeping the traceback) or cancelled.

        Args:
            name: One of `autolora.runs.status.STAGES`.

        Raises:
            HeldError: Another process is at the run.
        """
        with self.hold():
            with self._status.during(name):
                yield
            if self.watcher is not None:
                self.watcher.ended(name)

    def logged(self, log: str, record: Mapping[str, object]) -> None:
        """Tell whoever looks on of a record of a metric log.

        Args:
            log: Its folder, from the run's.
            record: With its "step".
        """
        if self.watcher is not None:
            self.watcher.logged(log, record)

    def mark(self, state: str, **values: object) -> None:
        """The state of the run as a whole, for what no stage can say: that it waits, or ended before one began.

        Args:
            state: running, failed, cancelled.
            values: JSON-able, such as an "error".
        """
        self._status.mark(state, **values)

    def live_process(self) -> Holder | None:
        """The other process that is at the run."""
        return self._lock.holder()

    def _held_by(self, error: HeldError) -> HeldError:
        """The same, with the run and the stage that it is at."""
        at = self._status.running()
        what = "it is in use" if at is None else f"its {at} is still running"
        said = f"{self.path}: {what} ({error.holder or 'another process'}); wait for it or stop it{error.remedy}"
        return HeldError(said, error.holder, error.remedy)
