"""Memory and seconds of `autolora report` by the number of runs: ``make bench-report``.

The runs are copies of one real run, each with a method, a seed and a score of its own and everything else as it is: its
logs, ranks and manifest. The report is written by a process of its own, whose peak resident size is the kernel's
(`ru_maxrss`), beside that of a process that only imports what the command does. What counts is the ratio of memory to
the number of runs: in bounded memory ten times the runs take hardly more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from autolora.files import read_state, write_state
from autolora.recipe.load import dump_recipe
from autolora.recipe.method import parse_method
from autolora.recipe.schema import Recipe
from autolora.runs.inventory import FORMAT
from autolora.runs.store import Run
from autolora.tables import Row, to_markdown

COUNTS = (50, 300, 2000)
METHODS = 2
SAMPLE = Path("runs/reference/allocation/glue-mini/stsb")
IMPORTS = "import autolora.cli.report, autolora.report.document, autolora.comparison.outcome, matplotlib.figure"


def copy_run(source: Path, folder: Path, method: str, seed: int) -> None:
    """A run like `source`, whole, of another method and seed and with another score.

    Args:
        source: A run that succeeded.
        folder: To write.
        method: Its label.
        seed: Of its recipe.
    """
    shutil.copytree(source, folder)
    recipe = _recipe(source).model_copy(update={"method": parse_method(method), "seed": seed})
    manifest = read_state(folder / "manifest.json", since=FORMAT)
    manifest.pop("sha256", None)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    manifest["files"]["recipe.yaml"] = _entry(folder / "recipe.yaml")
    manifest["seed"] = seed
    evaluated = manifest["stages"]["eval"]
    draw = int(hashlib.sha256(f"{method} {seed}".encode()).hexdigest()[:8], 16) / 2**32
    evaluated["score"] += 0.02 * (draw - 0.5)
    write_state(folder / "manifest.json", manifest)


def methods(count: int) -> list[str]:
    """Labels of `count` methods.

    Args:
        count: One or more.
    """
    return ["lora:8", *(f"autolora:budget=parameters={9216 * (i + 1)}" for i in range(count - 1))]


def write_runs(source: Path, folder: Path, count: int, kinds: int) -> None:
    """`count` runs of `kinds` methods, seed after seed.

    Args:
        source: What they are copies of.
        folder: To write.
        count: How many.
        kinds: Of methods.
    """
    names = methods(kinds)
    for i in range(count):
        copy_run(source, folder / f"{i:05}", names[i % kinds], i // kinds)


def measure(arguments: list[str]) -> tuple[float, float]:
    """Peak resident size in MiB and seconds of a Python process.

    Args:
        arguments: Of the interpreter.
    """
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1024, time.monotonic() - began


def rows(source: Path, counts: list[int], kinds: int, root: Path) -> list[Row]:
    """A row for each number of runs.

    Args:
        source: What the runs are copies of.
        counts: How many.
        kinds: Of methods.
        root: A folder for the runs.
    """
    imports, _ = measure(["-c", IMPORTS])
    found: list[dict[str, Any]] = []
    for count in counts:
        write_runs(source, root / str(count), count, kinds)
        page = root / f"page-{count}"
        memory, seconds = measure(["-m", "autolora", "report", str(root / str(count)), "--output", str(page)])
        found.append(
            {
                "runs": count,
                "peak MiB": round(memory),
                "beside imports": f"{memory / imports:.2f}",
                "KiB a run above imports": round((memory - imports) * 1024 / count),
                "seconds": round(seconds),
                "report.html MB": f"{(page / 'report.html').stat().st_size / 1e6:.2f}",
            }
        )
        print(found[-1], file=sys.stderr, flush=True)
        shutil.rmtree(root / str(count))
    return [{**row, "beside the first": f"{row['peak MiB'] / found[0]['peak MiB']:.2f}"} for row in found]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=list(COUNTS), help="numbers of runs")
    parser.add_argument("--methods", type=int, default=METHODS, help="over which they are spread")
    parser.add_argument("--run", type=Path, help="what they are copies of; default: one of runs/reference")
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    given = parser.parse_args()
    source = given.run or min(path.parents[1] for path in SAMPLE.glob("*/search/log.jsonl"))
    with tempfile.TemporaryDirectory() as root:
        found = rows(source, given.counts, given.methods, Path(root))
    print(json.dumps(found, indent=2) if given.json else to_markdown(found), end="")


@cache
def _recipe(source: Path) -> Recipe:
    return Run.open(source).recipe


def _entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


if __name__ == "__main__":
    main()
