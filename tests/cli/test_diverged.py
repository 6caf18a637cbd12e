"""A run that diverges, as a person sees it: exit code 3, one message, and a run that says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.support import Call, only_run, served, settings

REGRESSION = ("--set", "task=regression", "--set", "eval.metrics=[pearson]")
HOT = (*settings(search__steps=6, retrain__steps=2), *REGRESSION)


def test_a_diverged_run_ends_with_3_and_fails_again_when_it_is_gone_on_with(
    laboratory: Path, tmp_path: Path, call: Call
) -> None:
    """Targets whose squares are beyond float32: finite numbers, of which no loss is."""
    place = Path(shutil.copytree(laboratory, tmp_path / "laboratory"))
    for file in (place / "data").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        huge = [{**row, "label": (i % 7) * 1e25} for i, row in enumerate(rows)]
        file.write_text("".join(json.dumps(row) + "\n" for row in huge), encoding="utf-8")
    done = served("run", "tiny.yaml", *HOT, "--output", tmp_path / "runs", cwd=place)
    assert done.returncode == 3, done.stderr
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("autolora: ")]
    assert message.startswith("autolora: the run failed: search, step 1: the ")
    assert " is inf (" in message
    assert "; lower search.weights.learning_rate (it is 0.005)" in message
    assert "Traceback" not in done.stderr
    run = only_run(tmp_path / "runs")
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "failed"
    assert f"autolora: the run failed: {status['stages']['search']['error']}" == message
    assert not (run / "search" / "ranks.json").exists()
    code, _, err = call("run", place / "tiny.yaml", *HOT, "--output", tmp_path / "runs", "--resume")
    assert (code, message in err) == (3, True)
