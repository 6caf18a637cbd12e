"""How long listing 2000 runs takes beside listing ten: ``python -m benchmarks.listing RUN``.

Copies of one run are listed three times: without an index, with one, and with one after ten runs have changed. Seconds
are those of `autolora.runs.index.summaries`, and, of the second, of the whole command in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from autolora.console import say
from autolora.runs.index import summaries

FILES = ("recipe.yaml", "status.json", "manifest.json", "search", "retrain")
LONG_AGO = 1_700_000_000


def main() -> None:
    """Print a line for each number of runs, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a run's folder, of which the copies are made")
    parser.add_argument("--counts", type=int, nargs=2, default=(10, 2000), metavar="N")
    parser.add_argument("--repeats", type=int, default=3, help="of which the quickest counts")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = [_times(given.run, Path(place) / str(count), count, given.repeats) for count in given.counts]
    say("runs  without index  with index  ten changed  command")
    for count, times in zip(given.counts, found, strict=True):
        say(f"{count:4}  {times[0]:11.3f} s  {times[1]:8.3f} s  {times[2]:9.3f} s  {times[3]:5.2f} s")
    ratios = [many / few for few, many in zip(*found, strict=True)]
    say(f"ratio {ratios[0]:11.1f}    {ratios[1]:8.1f}    {ratios[2]:9.1f}    {ratios[3]:5.2f}")


def _times(run: Path, root: Path, count: int, repeats: int) -> tuple[float, float, float, float]:
    """Seconds without an index, with one, with ten runs changed, and of the whole command."""
    folders = [_copy(run, root / "copies" / f"run-{i:05}") for i in range(count)]
    cold = _seconds(lambda: summaries(root))
    warm = min(_seconds(lambda: summaries(root)) for _ in range(repeats))
    for folder in folders[:10]:
        (folder / "status.json").touch()
    changed = _seconds(lambda: summaries(root))
    for folder in folders[:10]:
        os.utime(folder / "status.json", (LONG_AGO, LONG_AGO))
    summaries(root)  # so that the index is whole again
    command = [sys.executable, "-m", "autolora", "runs", "--runs", str(root), "--limit", "20"]
    whole = min(_seconds(lambda: subprocess.run(command, capture_output=True, check=True)) for _ in range(repeats))
    return cold, warm, changed, whole


def _copy(run: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in FILES:
        if (run / name).is_dir():
            shutil.copytree(run / name, folder / name, ignore=shutil.ignore_patterns("*.safetensors", "*.png"))
        else:
            shutil.copyfile(run / name, folder / name)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return folder


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
