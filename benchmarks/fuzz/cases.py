"""Cases, which a name brings back (``recipes:0:17``), what they come to, and commands that run in this process."""

from __future__ import annotations

import io
import json
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Protocol


@dataclass(frozen=True)
class Case:
    """One thing to try.

    Args:
        kind: recipes, runs or data.
        seed: Of the whole round.
        index: Its number in the round.
        only: Of its mutations, those that are made, by number; None for all.
    """

    kind: str
    seed: int
    index: int
    only: tuple[int, ...] | None = None

    @classmethod
    def named(cls, name: str) -> Case:
        """The case of a name such as ``runs:0:17`` or ``runs:0:17/0.2``."""
        found = re.fullmatch(r"(\w+):(\d+):(\d+)(?:/([\d.]+))?", name)
        if not found:
            raise ValueError(f"a case is called KIND:SEED:INDEX, such as recipes:0:17, got {name!r}")
        only = None if found[4] is None else tuple(map(int, found[4].split(".")))
        return cls(found[1], int(found[2]), int(found[3]), only)

    def __str__(self) -> str:
        only = "" if self.only is None else f"/{'.'.join(map(str, self.only))}"
        return f"{self.kind}:{self.seed}:{self.index}{only}"

    def rng(self, *words: object) -> Random:
        """Random numbers of this case alone, others for other words; those of a mutation don't hang on the others."""
        return Random(f"{self.kind}:{self.seed}:{self.index}:{words}")

    def mutations(self, count: int) -> list[tuple[int, Random]]:
        """The number and the random numbers of every mutation, of `count`, that is made."""
        return [(i, self.rng("mutation", i)) for i in range(count) if self.only is None or i in self.only]

    def with_only(self, only: Sequence[int]) -> Case:
        return replace(self, only=tuple(only))


@dataclass(frozen=True)
class Outcome:
    """What a case came to.

    Args:
        verdict: right, refused, edited (a file without a checksum says something else, and so does the command: not
            wrong), or finding.
        what: Of a finding, what kind it is; those of one kind are listed together.
        detail: For whoever looks into it.
        mutations: How many the case has.
    """

    verdict: str
    what: str = ""
    detail: str = ""
    mutations: int = 0


class Fuzzer(Protocol):
    """A kind of cases."""

    def prepare(self, base: Path) -> None:
        """Make once what all cases begin with."""

    def run(self, case: Case, base: Path, scratch: Path, *, debug: bool = False) -> Outcome:
        """Try one, in an empty folder. debug: with the traceback of what is no refusal."""

    def keep(self, case: Case, base: Path, folder: Path) -> None:
        """Write what the case reads into a folder of the tests."""

    def replay(self, folder: Path, base: Path, scratch: Path) -> Outcome:
        """Try what was kept there."""


@dataclass(frozen=True)
class Ended:
    """How a command ended. code: its exit code; trace: the type of an exception and the last line of ours in it."""

    code: int
    out: str
    err: str
    trace: str = ""

    def finding(self) -> Outcome | None:
        """None where it went well or was refused."""
        if self.code in (0, 2):
            return None
        said = next((line for line in self.err.splitlines() if line.startswith("autolora:")), self.err[-300:])
        what = self.trace.split("\n", 1)[0] or re.sub(r"\S*/\S*|\d+|'[^']*'", "…", said)[:160]
        return Outcome("finding", f"exit {self.code}: {what}", f"{said}\n{self.trace}")


def command(*arguments: str | Path, debug: bool = False) -> Ended:
    """``autolora …`` in this process."""
    from autolora.cli import main

    return ended(lambda: main([*map(str, arguments), *(["--debug"] if debug else [])]))


def ended(call: Callable[[], Any]) -> Ended:
    """How a call ends, as if a command had made it."""
    from autolora.errors import FAILED, FAULT, RunError, UserError

    out, err = io.StringIO(), io.StringIO()
    code, said = 0, ""
    with redirect_stdout(out), redirect_stderr(err):
        try:
            call()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except UserError as error:
            code = FAULT
            print(f"autolora: {error}", file=err)
        except RunError as error:
            code = FAILED
            print(f"autolora: {error}", file=err)
        except BaseException as error:
            code, said = 1, trace(error)
    return Ended(code, out.getvalue(), err.getvalue(), said)


def trace(error: BaseException) -> str:
    """The type of an exception and the last function of ours in it; below that, the end of its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "autolora" in Path(frame.filename).parts]
    last = ours[-1] if ours else frames[-1]
    place = "/".join(Path(last.filename).parts[-2:])
    head = f"{type(error).__name__} in {last.name} ({place})"
    return f"{head}\n{''.join(traceback.format_exception(error)[-6:])}"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its path, links as what they point to; as the tests compare runs."""
    timed = {"status.json", "manifest.json"}
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name not in timed and (path.is_symlink() or path.is_file()):
            found[path.relative_to(folder).as_posix()] = (
                f"-> {path.readlink()}".encode() if path.is_symlink() else path.read_bytes()
            )
    return found


def describe(value: object) -> str:
    """A value for a detail, on one line and not too long."""
    return json.dumps(value, ensure_ascii=True, default=repr)[:400]


def say(text: str = "") -> None:
    print(text, flush=True)


def root() -> str:
    """How the benchmark is started."""
    return f"{Path(sys.executable).name} -m benchmarks.fuzz"
