"""Kills commands at random moments, and fills the disk under them; whatever was killed goes on to the same bytes.

    python -m benchmarks.torture                      100 signals in about 60 cases, 20 full disks
    python -m benchmarks.torture --kills 6 --disks 2  a short version
    python -m benchmarks.torture --only squeeze       the cases of one kind; --seed and --first choose others
    python -m benchmarks.torture --case kill:0:17     one case

A case is one command on a tiny model: search, squeeze, retrain, eval or compare. It is killed (KILL, TERM or INT) up to
three times, most often after its run has begun, and is then gone on with until it ends. Every file but the record of
times must equal that of a command that nothing stopped.

The full disk is a small tmpfs in a user namespace of its own, which needs no rights (Linux); where there is none, files
are limited in size (RLIMIT_FSIZE). The command must end with exit code 2, and with room again go on to the same bytes.
The exit code is 1 if a case did not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.processes import WITHOUT, start, stop, wait_for

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# To a shell both are 130: Python itself ends by SIGINT where the interrupt met code that an extension had begun to run.
INTERRUPTED = {130, -signal.SIGINT}
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
SECONDS = 300  # of one command
SQUEEZE = ("--set", "method.name=squeeze", "--set", "method.budget.rank=1")
KINDS: Mapping[str, tuple[str, ...]] = {  # the words that follow RECIPE or RUN, and --output
    "search": ("run",),
    "squeeze": ("run", *SQUEEZE),
    "retrain": ("retrain",),
    "eval": ("eval",),
    "compare": ("compare", "--methods", "autolora,lora:2", "--seeds", "0-1"),
}
TIMED = {"status.json", "manifest.json"}  # whose content is when and how often, and the names of whose folders are


@dataclass(frozen=True)
class Whole:
    """What a command makes that nothing stops.

    Args:
        seconds: That it takes.
        begins: After how many of them its run has begun.
        files: What there is in the end.
        size: Bytes of it.
    """

    seconds: float
    begins: float
    files: Mapping[str, bytes]
    size: int


@dataclass
class Bench:
    """Where commands run. laboratory: with tiny.yaml; half: a run by what it is still to do."""

    folder: Path
    laboratory: Path
    half: dict[str, Path]
    wholes: dict[str, Whole]

    def words(self, kind: str, output: Path) -> tuple[str | Path, ...]:
        """The command that begins, or goes on with, what is below `output`."""
        first, *more = KINDS[kind]
        if kind == "compare":
            return first, self.laboratory / "tiny.yaml", *more, "--output", output
        run = next(iter(sorted(output.glob("tiny/*/status.json"))), None)
        if kind == "eval":
            return first, run.parent if run else output
        if run is not None and (run.parent / "recipe.yaml").exists():
            return first, run.parent, "--resume"
        return first, self.laboratory / "tiny.yaml", *more, "--output", output

    def begin(self, kind: str, output: Path) -> None:
        """Put what the command begins with below `output`."""
        shutil.rmtree(output, ignore_errors=True)
        if kind in self.half:
            shutil.copytree(self.half[kind], output)
        else:
            output.mkdir(parents=True)


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    if given.inside:
        return _inside(Path(given.inside), given.kind, given.free, json.loads(given.words))
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        bench = Bench(Path(folder), Path(folder) / "laboratory", {}, {})
        cases = [("kill", i) for i in range(given.first, given.first + given.kills)]
        cases += [("disk", i) for i in range(given.first, given.first + given.disks)]
        if given.case:
            how, seed, index = given.case.split(":")
            given.seed, cases = int(seed), [(how, int(index))]
        _prepare(bench, list(dict.fromkeys(_kind(index, given) for _, index in cases)))
        return _all(bench, cases, given)


def _kind(index: int, given: argparse.Namespace) -> str:
    """Which command a case is."""
    return str(given.only or list(KINDS)[index % len(KINDS)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="signals, of which a case has up to three")
    parser.add_argument("--disks", type=int, default=20, help="full disks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", choices=[*KINDS])
    parser.add_argument("--case", help="kill:SEED:INDEX or disk:SEED:INDEX")
    for name in ("--inside", "--kind", "--words"):  # what runs in the namespace
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--free", type=int, help=argparse.SUPPRESS)
    return parser


def _all(bench: Bench, cases: Sequence[tuple[str, int]], given: argparse.Namespace) -> int:
    """Every case in turn; 1 if one failed."""
    begun, kills, failed = time.monotonic(), 0, 0
    for how, index in cases:
        rng = Random(f"{how}:{given.seed}:{index}")
        kind = _kind(index, given)
        if how == "kill" and kills >= given.kills:
            continue
        output = bench.folder / "case"
        try:
            said = _kill(bench, kind, output, rng) if how == "kill" else _full(bench, kind, output, rng)
            kills += said.count("SIG")
        except (AssertionError, TimeoutError) as error:
            failed += 1
            only = f" --only {given.only}" if given.only else ""
            _say(f"FAILED {how}:{given.seed}:{index} ({kind}): {error}")
            _say(f"    {Path(sys.executable).name} -m benchmarks.torture --case {how}:{given.seed}:{index}{only}")
        else:
            _say(f"{how}:{given.seed}:{index} {kind}: {said}")
    _say(f"{len(cases)} cases, {kills} signals, {time.monotonic() - begun:.0f} s: {failed} failed")
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, flush=True)


def _prepare(bench: Bench, kinds: Sequence[str]) -> None:
    """The laboratory, what retrain and eval begin with, and every command once without a stop."""
    from tests.laboratory import write_laboratory

    bench.laboratory.mkdir()
    write_laboratory(bench.laboratory)
    for kind, before in {"retrain": "search", "eval": "run"}.items():
        if kind not in kinds:
            continue
        half = bench.folder / f"for-{kind}"
        _finish([before, bench.laboratory / "tiny.yaml", "--output", half], bench.folder)
        bench.half[kind] = half
    for kind in kinds:
        output = bench.folder / "whole"
        bench.begin(kind, output)
        clock = time.monotonic()
        process = start(*bench.words(kind, output), cwd=bench.folder, log=bench.folder / "log")
        wait_for(process, lambda: _begun(bench), SECONDS)
        begins = time.monotonic() - clock
        _check(process.wait(SECONDS) == 0, "a command that nothing stops ends well", bench.folder)
        seconds, files = time.monotonic() - clock, _contents(output)
        bench.wholes[kind] = Whole(seconds, begins, files, sum(map(len, files.values())))
        _say(f"{kind}: {seconds:.1f} s, {begins:.1f} s of them before it begins, {len(files)} files")


def _begun(bench: Bench) -> bool:
    return re.search(rb"(step \d+ of|^run |: step)", (bench.folder / "log").read_bytes(), re.MULTILINE) is not None


def _kill(bench: Bench, kind: str, output: Path, rng: Random) -> str:
    """Kill a command, and what goes on with it, and let it end; what was done.

    Raises:
        AssertionError: It ended otherwise than it should, or in other bytes.
    """
    bench.begin(kind, output)
    whole, done = bench.wholes[kind], []
    for _ in range(rng.choice([1, 2, 3])):
        how, moment = rng.choice(SIGNALS), rng.random()
        early = rng.random() < 0.1  # before its run has begun
        process = start(*bench.words(kind, output), cwd=bench.folder, log=bench.folder / "log")
        going = early or wait_for(process, lambda: _begun(bench), SECONDS)
        if going:
            time.sleep(moment * (whole.begins if early else max(whole.seconds - whole.begins, 0.1)))
        code = stop(process, how)
        if code == 0:  # it was quicker
            break
        done.append(f"{how.name} after {moment:.2f} of {'the start' if early else 'the run'}")
        # Before it listens, and when it has done its work, a signal ends it as the system has it.
        deaf = early or _over(bench, output)
        expected = {-how} if how is signal.SIGKILL else INTERRUPTED | {-how} if deaf else INTERRUPTED
        _check(code in expected, f"exit code {code} after {how.name}", bench.folder)
    _end(bench, kind, output)
    return "; ".join(done) or "ended before it could be stopped"


def _over(bench: Bench, output: Path) -> bool:
    """Whether a command had done its work: it says what it wrote, or its run has ended well."""
    states = [json.loads(path.read_bytes())["state"] for path in output.glob("tiny/*/status.json")]
    return states == ["success"] or b"wrote " in (bench.folder / "log").read_bytes()


def _end(bench: Bench, kind: str, output: Path) -> None:
    _finish(bench.words(kind, output), bench.folder)
    _compare(bench.wholes[kind], output)


def _compare(whole: Whole, output: Path) -> None:
    found = _contents(output)
    extra, missing = sorted(found.keys() - whole.files.keys()), sorted(whole.files.keys() - found.keys())
    assert not missing, f"it lacks {missing}"
    assert not extra, f"it has {extra} beside"
    differing = sorted(name for name, data in whole.files.items() if found[name] != data)
    assert not differing, f"other bytes in {differing}"


def _finish(words: Sequence[str | Path], folder: Path) -> None:
    process = start(*words, cwd=folder, log=folder / "log")
    _check(process.wait(SECONDS) == 0, f"exit code {process.returncode} of {' '.join(map(str, words))}", folder)


def _check(fine: bool, what: str, folder: Path) -> None:
    assert fine, f"{what}: {(folder / 'log').read_text(encoding='utf-8', errors='replace')[-800:]}"


def _contents(output: Path) -> dict[str, bytes]:
    """Files by path, runs by their order and method instead of the time that they are named after.

    Seconds and memory of a comparison's tables, and the paths in them, are left out.
    """
    found: dict[str, bytes] = {}
    for path in sorted(output.rglob("*")):
        name = re.sub(r"\d{8}-\d{6}(-\d+)?", "TIME", path.relative_to(output).as_posix())
        if path.is_dir() or path.name in TIMED or path.name.startswith(("costs.", "trials.json", "tuning.")):
            continue
        data = path.read_bytes()
        found[name] = re.sub(rb"\d{8}-\d{6}", b"TIME", data) if path.suffix in (".json", ".md", ".yaml") else data
    return found


def _full(bench: Bench, kind: str, output: Path, rng: Random) -> str:
    """Run a command on a disk that becomes full, then with room; what was done.

    Raises:
        AssertionError: It ended otherwise than it should, or in other bytes.
    """
    bench.begin(kind, output)
    before = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    free = int(rng.random() * max(bench.wholes[kind].size - before, 20_000))
    if _can_mount():
        code = _in_namespace(bench, kind, output, free)
        how = f"{free} bytes free"
    else:
        how, code = _limited(bench, kind, output, rng)
    log = bench.folder / "log"
    if code:  # else what it wrote took less than that
        wanted = (2, 3) if kind == "compare" else (2,)  # 3: trials failed, and there was room to say which
        _check(code in wanted, f"exit code {code} with {how}", bench.folder)
        said = log.read_text(encoding="utf-8", errors="replace")
        _check("Traceback" not in said, f"a traceback with {how}", bench.folder)
    _end(bench, kind, output)
    return f"{how}, exit code {code}"


def _can_mount() -> bool:
    words = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )


def _in_namespace(bench: Bench, kind: str, output: Path, free: int) -> int:
    """The command's exit code, its output on a tmpfs with so many bytes free; `output` then holds what that held."""
    words = [*NAMESPACE, sys.executable, "-m", "benchmarks.torture"]
    command = json.dumps([str(word) for word in bench.words(kind, output)])
    more = ["--inside", str(output), "--kind", str(bench.folder), "--free", str(free), "--words", command]
    done = subprocess.run([*words, *more], check=False, timeout=SECONDS)
    return done.returncode


def _inside(output: Path, folder: str, free: int, words: list[str]) -> int:
    """In the namespace: mount, fill, run, and copy what is there to where it stays."""
    held = output.with_name("held")
    shutil.rmtree(held, ignore_errors=True)
    shutil.copytree(output, held)
    used = sum(-(-path.stat().st_size // 4096) + 1 for path in held.rglob("*")) * 4096
    room = -(-free // 4096) * 4096
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={used + room + 4096}", "tmpfs", str(output)], check=True)
    shutil.copytree(held, output, dirs_exist_ok=True)
    code = start(*words, cwd=Path(folder), log=Path(folder) / "log").wait(SECONDS)
    shutil.rmtree(held)
    shutil.copytree(output, held, symlinks=True)
    subprocess.run(["umount", str(output)], check=True)
    shutil.rmtree(output)
    held.rename(output)
    return code


def _limited(bench: Bench, kind: str, output: Path, rng: Random) -> tuple[str, int]:
    """The command with no file longer than so many bytes."""
    sizes = sorted(map(len, bench.wholes[kind].files.values()))
    most = int(sizes[-1] * rng.random())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    with (bench.folder / "log").open("wb") as log:
        words = [sys.executable, "-m", "autolora", *map(str, bench.words(kind, output))]
        done = subprocess.run(
            words,
            cwd=bench.folder,
            env={**os.environ, **WITHOUT},
            stdout=log,
            stderr=log,
            preexec_fn=limit,
            check=False,
        )
    return f"no file longer than {most} bytes", done.returncode


if __name__ == "__main__":
    sys.exit(main())
