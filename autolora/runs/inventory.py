"""What the files of a run were when they were written: its manifest has the size and the SHA-256 of each.

    read_json(verified(folder, "metrics.json"))  # whoever reads a file asks for it here

They are listed at the end of a stage (`autolora.runs.seal`), and count once it has succeeded: before, and when it is
begun anew, they are being written. What is read of them in between says itself what it should be: checkpoints
(`autolora.training.checkpoint`), predictions in the making (`autolora.evaluation.part`), and states
(`autolora.files.write_state`), such as the manifest. Runs of earlier versions list nothing, and are read as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from autolora.errors import UserError
from autolora.files import file_hash, read_state
from autolora.runs.shapes import check_state

FORMAT = 3  # of a run's folder, in its manifest and status; the first have no number, those below 3 no SHA-256s
MANIFEST, STATUS, RECIPE = "manifest.json", "status.json", "recipe.yaml"
WHOLE = ""  # in place of a stage's name: files of the run as a whole
BESIDE = "beside"  # likewise: files that are made of the adapter on request, in no stage, and read by no command
HARNESS = "metrics-harness"  # the stem of the table of lm-evaluation-harness
_TABLE = (".md", ".csv", ".json")
_TOPS = {
    **{"search": "search", "retrain": "retrain", "adapter": "retrain", "predictions": "eval"},
    "submission": BESIDE,
}
_FILES = {
    **dict.fromkeys((RECIPE, "base.json", "labels.json"), WHOLE),
    **{f"metrics{ending}": "eval" for ending in _TABLE},
    **{f"{HARNESS}{ending}": BESIDE for ending in _TABLE},
}
_OWN = ("README.md",)  # which people edit
_STATES = ("grid.json", "rises.json", "checkpoint.safetensors")  # they say their own SHA-256
_DRAWN = ("curve.png",)  # by ``autolora ranks`` every time, at any time


@dataclass(frozen=True)
class Entry:
    """What a file was when it was written.

    Args:
        size: In bytes.
        sha256: Of its content, in hexadecimal.
    """

    size: int
    sha256: str


def stage_of(name: str) -> str | None:
    """The stage that a file belongs to, or `WHOLE` or `BESIDE`; None for what is not listed.

    Args:
        name: Its path from the run's folder.
    """
    top, _, below = name.partition("/")
    last = name.rpartition("/")[2]
    if last in (*_OWN, *_STATES, *_DRAWN) or last.endswith((".part", ".tmp")):
        return None
    return _TOPS.get(top) if below else _FILES.get(name)


def read_run_state(path: Path) -> dict[str, Any]:
    """The content of manifest.json or status.json.

    Args:
        path: The file.

    Raises:
        UserError: It is missing, damaged or not what was written.
    """
    try:
        content = read_state(path, since=FORMAT)
    except UserError as error:
        raise UserError(f"{error}; put it back as it was, or remove the run {path.parent}") from error
    check_state(path, content)
    return content


def verified(run: Path, name: str) -> Path:
    """A file of a run, which is what was written.

    Args:
        run: The run's folder.
        name: The file's path from there.

    Returns:
        The file's path; it need not be there if the run does not list it.

    Raises:
        UserError: It is not what was written, or is missing although its stage has ended.
    """
    entry = _settled(run).get(name)
    if entry is not None:
        _check_there(run, name, entry)
        if (found := file_hash(run / name)) != entry.sha256:
            raise UserError(
                f"{run / name} is not what was written: its SHA-256 is {found[:12]}, and should be "
                f"{entry.sha256[:12]}; {remedy(run, name)}"
            )
    return run / name


def verify_below(run: Path, folder: str) -> None:
    """Make sure of every file of a folder, as `verified` does.

    Args:
        run: The run's folder.
        folder: The path from there: ``adapter``.

    Raises:
        UserError: See `verified`.
    """
    for name in _settled(run):
        if name.startswith(f"{folder}/"):
            verified(run, name)


def check_there(run: Path, *stages: str) -> None:
    """Make sure that the files of stages that have ended are there, and as long as they were; reads none of them.

    Args:
        run: The run's folder.
        stages: Their names, or `WHOLE`; those that have not succeeded are left out.

    Raises:
        UserError: One is not.
    """
    for name, entry in _settled(run).items():
        if stage_of(name) in stages:
            _check_there(run, name, entry)


def remedy(run: Path, name: str) -> str:
    """What to do about a file that is missing or damaged.

    Args:
        run: The run's folder.
        name: The file's path from there.
    """
    stage = stage_of(name)
    if stage == "search" and Path(name).suffix in (".jsonl", ".safetensors") and "/adapter/" not in name:
        return f"put it back, or remove {run / 'search'} and search anew with: autolora search {run} --resume"
    if stage in ("search", "retrain", "eval"):
        resumed = " --resume" if stage == "search" else ""
        return f"put it back, or write it anew with: autolora {stage} {run}{resumed}"
    return f"put it back as it was, or remove the run {run}"


def listed_in(manifest: Mapping[str, Any], run: Path) -> dict[str, Entry]:
    """The files that a manifest lists, by their paths from the run's folder.

    Args:
        manifest: Its content.
        run: The run's folder.

    Raises:
        UserError: It lists something else than files of the run.
    """
    try:
        listed = {
            str(name): Entry(int(of["size"]), str(of["sha256"])) for name, of in manifest.get("files", {}).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run / MANIFEST} does not list files: {type(error).__name__}: {error}") from error
    for name in listed:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise UserError(f"{run / MANIFEST} lists {name!r}, which is no file of the run")
    return listed


def _settled(run: Path) -> Mapping[str, Entry]:
    """The entries that count: of the run as a whole, and of the stages that have succeeded."""
    states = [(run / name).stat() for name in (MANIFEST, STATUS) if (run / name).is_file()]
    if len(states) < 2:
        return {}
    return _settled_at(run, tuple((state.st_ino, state.st_mtime_ns, state.st_size) for state in states))


@lru_cache(maxsize=16)
def _settled_at(run: Path, states: object) -> Mapping[str, Entry]:
    """What `_settled` gives while both files are what they are: most commands ask more than once."""
    listed = listed_in(read_run_state(run / MANIFEST), run)
    stages = read_run_state(run / STATUS)["stages"] if listed else {}
    over = {WHOLE, *(name for name, stage in stages.items() if stage["state"] == "success")}
    return {name: entry for name, entry in listed.items() if stage_of(name) in over}


def _check_there(run: Path, name: str, entry: Entry) -> None:
    path, stage = run / name, stage_of(name)
    if not path.is_file():
        ended = f"although status.json says that its {stage} succeeded" if stage else "although manifest.json lists it"
        raise UserError(f"{path} is missing, {ended}; {remedy(run, name)}")
    if (size := path.stat().st_size) != entry.size:
        raise UserError(
            f"{path} is not what was written: it has {size} bytes, and should have {entry.size}; {remedy(run, name)}"
        )


def files_of(run: Path, stage: str) -> Iterator[str]:
    """The files of a stage that are there, by their paths from the run's folder.

    Args:
        run: The run's folder.
        stage: The stage's name, or `WHOLE` or `BESIDE`.
    """
    tops = [name for name in _FILES if _FILES[name] == stage] + [top for top in _TOPS if _TOPS[top] == stage]
    for path in sorted(found for top in tops for found in (run / top, *(run / top).rglob("*"))):
        name = path.relative_to(run).as_posix()
        if path.is_file() and stage_of(name) == stage:
            yield name
