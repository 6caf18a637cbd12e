"""Damaged run folders: a command refuses one, or does what it does with the whole folder. A refusal spoils nothing.

Every family of methods has a finished run, which one comparison makes; the comparison's own folder is damaged, too, and
runs that were killed while they retrained.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

from benchmarks.fuzz.cases import Case, Ended, Outcome, command, contents, describe
from benchmarks.fuzz.mutate import TEXTS, bytes_of, deep, tree
from benchmarks.processes import start, stop, wait_for

METHODS = "autolora,squeeze:budget=rank=1,lora:2,adalora,svd,eva,houlsby,pfeiffer,bitfit,full,head"
KILLED = {"autolora": (), "squeeze": ("--set", "method.name=squeeze", "--set", "method.budget.rank=1")}
SHORT = ("--set", "search.steps=8", "--set", "retrain.steps=12")
# What people may edit: a command may do as it says.
EDITED = ("adapter/README.md",)
OURS = (".lock", ".lock.json")  # say who is at the run, and are written anew by whoever is
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("report", "RUN", "--output", "page"),
    ("eval", "RUN"),
    ("ranks", "RUN"),
    ("export", "RUN"),
    ("export", "RUN", "--format", "axolotl"),
    ("data", "RUN"),
    ("retrain", "RUN", "--resume"),
    ("run", "RUN", "--resume"),
)


class RunFolders:
    """See the module.

    Args:
        methods: Whose runs are made.
        killed: Whether there are runs that were killed, too.
    """

    def __init__(self, methods: str = METHODS, *, killed: bool = True) -> None:
        self.methods, self.killed = methods, killed

    def prepare(self, base: Path) -> None:
        if (base / "made").exists():
            return
        from tests.laboratory import write_laboratory

        laboratory = base / "laboratory"
        shutil.rmtree(base, ignore_errors=True)
        laboratory.mkdir(parents=True)
        write_laboratory(laboratory)
        recipe, folder = laboratory / "tiny.yaml", base / "finished"
        words = ("compare", recipe, "--methods", self.methods, "--seeds", "3", "--output", folder, *SHORT)
        log = base / "log"
        if start(*words, cwd=base, log=log).wait():
            raise RuntimeError(f"the runs could not be made: {log.read_text(encoding='utf-8')}")
        for name, more in KILLED.items() if self.killed else ():
            _kill(recipe, base / "killed" / name, more)
        (base / "made").touch()

    def warm(self) -> None:
        import autolora.experiment.evaluate
        import autolora.report.document  # noqa: F401

    def run(self, case: Case, base: Path, scratch: Path, *, debug: bool = False) -> Outcome:
        rng = case.rng("run")
        source, words = _chosen(base, rng)
        run = scratch / "run"
        shutil.copytree(source, run, symlinks=True)
        count = rng.choice([1, 1, 1, 2, 3])
        changed = {_mutate(run, each) for _, each in case.mutations(count)}
        before = contents(run)
        ended = command(*(str(run) if word == "RUN" else word for word in words), debug=debug)
        what = f"{words[0]} with {', '.join(sorted(changed))}"
        detail = f"{' '.join(words)} on a copy of {source.relative_to(base)}, changed: {', '.join(sorted(changed))}\n"
        if outcome := ended.finding():
            return Outcome("finding", f"{words[0]}: {outcome.what}", detail + outcome.detail, count)
        if ended.code == 2:
            return _refused(before, contents(run), ended, what, detail, count)
        return _same(ended, scratch, _whole(source, words, scratch), changed, before, (what, detail, count))

    def keep(self, case: Case, base: Path, folder: Path) -> None:
        (folder / "case.txt").write_text(f"{case}\n", encoding="utf-8")

    def replay(self, folder: Path, base: Path, scratch: Path) -> Outcome:
        case = Case.named((folder / "case.txt").read_text(encoding="utf-8").strip())
        return self.run(case, base, scratch, debug=True)


def _kill(recipe: Path, output: Path, more: tuple[str, ...]) -> None:
    """A run that was killed when it had made a checkpoint of its retraining."""
    log = output.with_suffix(".log")
    output.mkdir(parents=True)
    process = start("run", recipe, "--output", output, *more, cwd=output, log=log)
    reached = wait_for(process, lambda: bool(list(output.glob("tiny/*/retrain/checkpoint.safetensors"))))
    stop(process, signal.SIGKILL)
    if not reached:
        raise RuntimeError(f"a run ended before it could be killed: {log.read_text(encoding='utf-8')}")


def _chosen(base: Path, rng: Random) -> tuple[Path, tuple[str, ...]]:
    """What is damaged, and what is done with it."""
    finished = sorted(path.parent for path in (base / "finished" / "tiny").glob("*/status.json"))
    killed = sorted(path.parent for path in (base / "killed").glob("*/tiny/*/status.json"))
    kind = rng.random()
    if killed and kind < 0.3:
        return rng.choice(killed), rng.choice(COMMANDS[-2:])
    if kind < 0.4:
        return base / "finished", COMMANDS[0]
    return rng.choice(finished), rng.choice(COMMANDS)


def _mutate(run: Path, rng: Random) -> str:
    """Damage one file; its path."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return "nothing"
    named = [path for path in files if path.suffix in (".json", ".yaml", ".safetensors")]
    path = rng.choice(named if named and rng.random() < 0.6 else files)
    rng.choice(_CHANGES)(path, files, rng)
    return path.relative_to(run).as_posix()


def _damage(path: Path, files: list[Path], rng: Random) -> None:
    path.write_bytes(bytes_of(path.read_bytes(), rng))


def _other_value(path: Path, files: list[Path], rng: Random) -> None:
    """Of JSON and JSON Lines: something in it; other files are damaged."""
    if path.suffix not in (".json", ".jsonl"):
        return _damage(path, files, rng)
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")]
        place = rng.randrange(len(lines))
        lines[place] = json.dumps(tree(json.loads(lines[place]), rng))
    except (ValueError, RecursionError):
        return _damage(path, files, rng)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return None


def _other_file(path: Path, files: list[Path], rng: Random) -> None:
    shutil.copyfile(rng.choice(files), path) if (other := rng.choice(files)) == path else shutil.copyfile(other, path)


def _exchange(path: Path, files: list[Path], rng: Random) -> None:
    other = rng.choice([file for file in files if file.suffix == path.suffix])
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def _deep(path: Path, files: list[Path], rng: Random) -> None:
    path.write_bytes(deep(rng))


def _remove(path: Path, files: list[Path], rng: Random) -> None:
    path.unlink()


def _folder(path: Path, files: list[Path], rng: Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, files: list[Path], rng: Random) -> None:
    path.unlink()
    path.symlink_to(rng.choice([path.name, "nowhere", "/dev/null", "/dev/zero", "/etc/hostname", "..", str(files[0])]))


def _pipe(path: Path, files: list[Path], rng: Random) -> None:
    path.unlink()
    os.mkfifo(path) if hasattr(os, "mkfifo") else path.mkdir()


def _header(path: Path, files: list[Path], rng: Random) -> None:
    """Of safetensors: another length of the header, or another header."""
    data = path.read_bytes()
    if path.suffix != ".safetensors" or len(data) < 9:
        return _damage(path, files, rng)
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.3:
        lied = rng.choice([0, 1, length - 1, length + 1, 2**31, 2**63, len(data)])
        path.write_bytes(lied.to_bytes(8, "little") + data[8:])
        return None
    try:
        header = json.dumps(tree(json.loads(data[8 : 8 + length]), rng)).encode()
    except (ValueError, RecursionError):
        return _damage(path, files, rng)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    return None


def _text(path: Path, files: list[Path], rng: Random) -> None:
    path.write_bytes(rng.choice(TEXTS).encode(rng.choice(["utf-8", "utf-16"])))


_CHANGES: list[Callable[[Path, list[Path], Random], None]] = [
    *(_damage, _damage, _damage, _other_value, _other_value, _other_value, _header, _other_file, _exchange),
    *(_deep, _remove, _folder, _link, _pipe, _text),
]


def _refused(
    before: dict[str, bytes], after: dict[str, bytes], ended: Ended, what: str, detail: str, count: int
) -> Outcome:
    """Exit code 2: with a message, and nothing of the folder lost."""
    if not ended.err.strip():
        return Outcome("finding", f"refused without a word: {what}", detail, count)
    if lost := sorted(name for name, data in before.items() if after.get(name) != data and name not in OURS):
        return Outcome("finding", f"refused, and changed: {lost[0]}", detail + f"{lost}\n{ended.err}", count)
    return Outcome("refused", mutations=count)


def _same(
    ended: Ended,
    scratch: Path,
    whole: tuple[str, dict[str, bytes]],
    changed: set[str],
    before: dict[str, bytes],
    said: tuple[str, str, int],
) -> Outcome:
    """Exit code 0: what the command says and writes is what it says and writes of the whole folder."""
    what, detail, count = said
    out, files = whole
    after = contents(scratch)
    left = {f"run/{name}" for name, data in before.items() if after.get(f"run/{name}") == data}  # as it was
    differing = sorted(
        name
        for name in {*files, *after}
        if files.get(name) != after.get(name) and not (name in left or name.removeprefix("run/") in changed)
    )
    if ended.out == out and not differing:
        return Outcome("right", mutations=count)
    if all(Path(name).name in {Path(each).name for each in EDITED} for name in changed):
        return Outcome("edited", mutations=count)
    kinds = ", ".join(sorted({_kind(name) for name in changed}))
    first = differing[0] if differing else f"output: {describe([ended.out[-300:], out[-300:]])}"
    named = f"{what.split(' ')[0]}: other results, and no word, with another {kinds}"
    return Outcome("finding", named, f"{detail}differs: {first}", count)


def _kind(name: str) -> str:
    return name if len(Path(name).parts) < 3 else f"…/{'/'.join(Path(name).parts[-2:])}"


def _whole(source: Path, words: tuple[str, ...], scratch: Path) -> tuple[str, dict[str, bytes]]:
    """Output and files of the command on the whole folder, at the same path."""
    return _done(source, words, str(scratch))


@cache
def _done(source: Path, words: tuple[str, ...], scratch: str) -> tuple[str, dict[str, bytes]]:
    here = Path(scratch)
    aside = here.with_name(f"{here.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    here.rename(aside)
    here.mkdir()
    os.chdir(here)
    try:
        run = here / "run"
        shutil.copytree(source, run, symlinks=True)
        ended = command(*(str(run) if word == "RUN" else word for word in words))
        if ended.code == 1:
            raise RuntimeError(f"{words} fails on a whole folder: {ended.err}")
        return ended.out, contents(here)
    finally:
        shutil.rmtree(here)
        aside.rename(here)
        os.chdir(here)
