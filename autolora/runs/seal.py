"""Listing a run's files in its manifest, once they have reached the disk.

seal = Seal(folder, "search", ended=False)   # when the stage begins
seal.changed()                               # whether what later stages build on is another now
seal.close()                                 # when it ends, before its status says so
with listing(folder, "labels.json"): ...     # around what writes a file that is of no stage
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autolora.files import file_hash, sync, write_state
from autolora.runs.inventory import BESIDE, MANIFEST, WHOLE, Entry, files_of, listed_in, read_run_state, stage_of

Stat = tuple[int, int, int]
PRODUCT = (".json", ".safetensors")  # files of a stage that later ones read; the others are logs and figures


class Seal:
    """The files of a stage, from its beginning to its end.

    Args:
        run: The run's folder.
        stage: The stage's name.
        ended: Whether the stage has succeeded before: what it does not write again then stays as it was listed, so
            that damage is never taken for content.
    """

    def __init__(self, run: Path, stage: str, *, ended: bool) -> None:
        self.run, self.stage = run, stage
        self._built_on = self._product(ended)
        self._before = {name: _stat(run / name) for name in files_of(run, stage)} if ended else {}

    def _product(self, ended: bool) -> dict[str, str]:
        """SHA-256s by file of what later stages have read: as listed; what is not, of an earlier version, as it is."""
        manifest = read_run_state(self.run / MANIFEST) if (self.run / MANIFEST).exists() else {}
        listed = listed_in(manifest, self.run)
        found = {name: entry.sha256 for name, entry in listed.items() if stage_of(name) == self.stage}
        if ended and not found:
            found = {name: file_hash(self.run / name) for name in files_of(self.run, self.stage)}
        return {name: sha256 for name, sha256 in found.items() if Path(name).suffix in PRODUCT}

    def changed(self) -> bool:
        """Whether the stage's product is another than the one that it had when it began."""
        names = {name for name in files_of(self.run, self.stage) if Path(name).suffix in PRODUCT}
        known = {name for name in names if self._known(name)}
        if names != self._built_on.keys():
            return True
        return any(file_hash(self.run / name) != self._built_on[name] for name in names - known)

    def untouched(self) -> bool:
        """Whether every file of the stage is the one that was there when it began, and there is no other."""
        return set(files_of(self.run, self.stage)) == self._before.keys() and all(map(self._known, self._before))

    def _known(self, name: str) -> bool:
        """Whether a file is the one that was there before."""
        return name in self._before and _stat(self.run / name) == self._before[name]

    def close(self) -> None:
        """List them."""
        manifest = read_run_state(self.run / MANIFEST)
        listed = listed_in(manifest, self.run)
        known = {name for name in self._before if name in listed and self._known(name)}
        gone = {name: None for name in listed if stage_of(name) == self.stage}
        found = {name: None for stage in (self.stage, WHOLE) for name in files_of(self.run, stage)}
        known |= {name for name in listed if stage_of(name) == WHOLE}
        new = {name: _entry(self.run / name) for name in found if name not in known}
        for folder in {(self.run / name).parent for name in new}:
            sync(folder)
        kept = {name: listed[name] for name in known if name in found}
        _write(self.run, manifest, {**gone, **kept, **new})


def drop_beside(run: Path) -> list[str]:
    """Remove what was made, in no stage, of weights that have been replaced: it would be taken for the new ones'.

    Args:
        run: The run's folder.

    Returns:
        The paths of what there was, from there.
    """
    names = list(files_of(run, BESIDE))
    for name in names:
        (run / name).unlink()
    manifest = read_run_state(run / MANIFEST)
    if gone := [name for name in listed_in(manifest, run) if stage_of(name) == BESIDE]:
        _write(run, manifest, dict.fromkeys(gone))
    return names


@contextmanager
def listing(run: Path, *names: str) -> Iterator[None]:
    """While files are written that are of no stage, or outside it. Whoever is killed here leaves them unlisted.

    Args:
        run: The run's folder.
        names: Their paths from there.
    """
    manifest = read_run_state(run / MANIFEST)
    if listed_in(manifest, run).keys() & set(names):
        _write(run, manifest, dict.fromkeys(names))
    yield
    _write(run, read_run_state(run / MANIFEST), {name: _entry(run / name) for name in names})


def _write(run: Path, manifest: Mapping[str, Any], entries: Mapping[str, Entry | None]) -> None:
    """The manifest with these entries; None for what is not to be listed."""
    listed = {**listed_in(manifest, run), **entries}
    files = {name: asdict(entry) for name, entry in sorted(listed.items()) if entry is not None}
    write_state(run / MANIFEST, {**manifest, "files": files})


def _entry(path: Path) -> Entry:
    """A file as it is, which has reached the disk."""
    sync(path)
    return Entry(path.stat().st_size, file_hash(path))


def _stat(path: Path) -> Stat | None:
    """What is another when a file is written again: node, size, time; None where there is no file."""
    if not path.is_file():
        return None
    said = path.stat()
    return said.st_ino, said.st_size, said.st_mtime_ns
