"""A sweep by the command line, killed in the middle and given again."""

import csv
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.support import Call, finish, freeze_when, start

SWEEP = ("--methods", "lora:2", "--seeds", "0-1", "--sweep", "retrain.steps=3,4", "--set", "retrain.log_every=1")


def tables(folder: Path) -> dict[str, object]:
    """What the tables hold beside what the trials took."""
    found: dict[str, object] = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found[path.name] = [{name: cell for name, cell in row.items() if measured(name)} for row in rows]
    return found


def measured(column: str) -> bool:
    return not column.endswith((" s", "seconds", "MiB", "hours"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing can be stopped and killed there")
def test_a_sweep_that_is_killed_and_given_again_ends_with_the_same_tables(
    call: Call, laboratory: Path, tmp_path: Path
) -> None:
    whole, killed, name = tmp_path / "whole", tmp_path / "killed", "comparisons/tiny-by-retrain.steps"
    code, _, err = call("compare", laboratory / "tiny.yaml", *SWEEP, "--output", whole)
    assert code == 0, err
    process = start("compare", "tiny.yaml", *SWEEP, "--output", killed, cwd=laboratory)
    freeze_when(process, lambda: bool(list(killed.glob("tiny/*/metrics.json"))))
    finish(process, signal.SIGKILL)
    there = {path: path.read_bytes() for path in killed.glob("tiny/*/metrics.json")}
    assert 0 < len(there) < 4
    assert not list((killed / name).glob("*.csv"))
    code, _, err = call("compare", laboratory / "tiny.yaml", *SWEEP, "--output", killed)
    assert code == 0, err
    assert tables(killed / name) == tables(whole / name)
    assert "scores.csv" in tables(killed / name)
    assert {path: path.read_bytes() for path in there} == there
    assert len([path for path in (killed / "tiny").iterdir() if path.is_dir()]) == 4
