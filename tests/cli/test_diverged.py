"""A run that diverges, as a person sees it: exit code 3, one message, and a run that says so."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.support import Call, autolora, only_run, settings

HOT = settings(search__weights__learning_rate=1e30, search__steps=6, retrain__steps=2)


def test_a_diverged_run_ends_with_3_and_fails_again_when_it_is_gone_on_with(
    laboratory: Path, tmp_path: Path, call: Call
) -> None:
    done = autolora("run", "tiny.yaml", *HOT, "--output", tmp_path / "runs", cwd=laboratory)
    assert done.returncode == 3, done.stderr
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("autolora: ")]
    assert message.startswith(
        "autolora: the run failed: search, step 1: the validation loss is nan (the last finite loss"
    )
    assert "; lower search.weights.learning_rate (it is 1e+30)" in message
    assert "Traceback" not in done.stderr
    run = only_run(tmp_path / "runs")
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "failed"
    assert f"autolora: the run failed: {status['stages']['search']['error']}" == message
    assert not (run / "search" / "ranks.json").exists()
    code, _, err = call("run", laboratory / "tiny.yaml", *HOT, "--output", tmp_path / "runs", "--resume")
    assert (code, message in err) == (3, True)
