"""The plan of a comparison for schedulers, by the command line: its tasks come to what one command comes to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from autolora.cli.placing import with_ray_address
from autolora.comparison.engines import executor_for
from autolora.comparison.executor import Resources
from autolora.comparison.processes import Processes
from tests.cli.support import Call

METHODS = "lora-matched,autolora,lora:2"
STEPS = ("--set", "search.steps=4", "--set", "retrain.steps=6")
FIXED = ("comparison.md", "scores.csv", "differences.csv", "table.tex")
SLURM = "SLURM_ARRAY_TASK_ID"


def said_by(script: Path, task: int, folder: Path) -> list[str]:
    """The command that a task of the script comes to, by bash: where it is run, and its words."""
    (folder / "autolora").write_text('#!/bin/bash\nprintf "%s\\0" "$PWD" "$@"\n')
    (folder / "autolora").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", SLURM: str(task)}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def run_tasks(script: Path, order: Sequence[int], folder: Path, call: Call) -> None:
    for task in order:
        where, *words = said_by(script, task, folder)
        assert Path(where) == Path.cwd()
        code, _, err = call(*words)
        assert code == 0, err


@pytest.mark.parametrize("backwards", [False, True])
def test_the_tasks_of_the_array_job_come_to_the_tables_of_one_comparison(
    call: Call, laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    monkeypatch.chdir(laboratory)
    output = tmp_path / 'it\'s a $(folder) with "quotes"'
    words = ["compare", "tiny.yaml", "--methods", METHODS, "--seeds", "0", *STEPS, "--output", str(output)]
    code, out, err = call(*words, "--dry-run", "--format", "slurm")
    assert code == 0, err
    script = tmp_path / "job.sh"
    script.write_text(out)
    count = out.count("  # tiny ")
    assert f"#SBATCH --array=0-{count}\n" in out
    order = list(range(count + 1))
    run_tasks(script, order[::-1] if backwards else order, tmp_path, call)
    assert len(list((output / "tiny").iterdir())) == count, "each trial once"
    whole = in_one(call, laboratory)
    for name in FIXED:
        found, expected = (each / "comparisons" / "tiny" / name for each in (output, whole))
        assert found.read_bytes() == expected.read_bytes(), name


def in_one(call: Call, laboratory: Path) -> Path:
    """The output folder of the comparison as one command, made once. To be read only; the laboratory is current."""
    output = laboratory / "in-one"
    if not (output / "comparisons").exists():
        code, _, err = call("compare", "tiny.yaml", "--methods", METHODS, "--seeds", "0", *STEPS, "--output", output)
        assert code == 0, err
    return output


def test_the_plan_as_json_has_the_command_of_every_trial(
    call: Call, laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(laboratory)
    words = ["compare", "tiny.yaml", "--methods", METHODS, "--seeds", "0", "--output", str(tmp_path), *STEPS]
    code, out, _ = call(*words, "--baseline", "lora:2", "--dry-run", "--format", "json")
    plan = json.loads(out)
    assert code == 0
    assert plan["folder"] == str(Path.cwd())
    assert plan["tables"][-2:] == ["--baseline", "lora:2"]
    assert [trial["name"] for trial in plan["trials"]] == [
        f"tiny {m} seed 0" for m in ("autolora", "lora:2", "lora-matched")
    ]
    first, _, last = plan["trials"]
    assert last["needs"] == [first["id"]]
    assert last["command"][:3] == ["autolora", "compare", "tiny.yaml"]
    assert last["command"][-2:] == ["--trial", last["id"]]
    assert (last["done"], last["run"], last["stage"]) == (False, None, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "json"], "--format json is the form of a plan: add --dry-run"),
        (["--format", "yaml", "--dry-run"], "'yaml' is none of text, json, slurm"),
        (["--trial", "x", "--dry-run"], "leave one out"),
        (["--dry-run", "--format", "slurm", "--gpus-per-cell", "0.5"], "a whole GPU"),
        (["--gpus-per-cell", "2"], "up to 1"),
        (["--ray", "--methods", "lora:1"], "--ray"),
    ],
)
def test_options_that_contradict_each_other_are_one_message(
    call: Call, laboratory: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(laboratory)
    if "--ray" in words:
        monkeypatch.setitem(sys.modules, "ray", None)
        message = "pip install 'autolora[ray]'"
    code, _, err = call("compare", "tiny.yaml", "--seeds", "0", *words)
    assert code == 2
    assert message in " ".join(err.split())


def test_the_place_of_a_bare_ray_is_the_running_cluster() -> None:
    assert with_ray_address(["compare", "a.yaml", "--ray"]) == ["compare", "a.yaml", "--ray", "auto"]
    assert with_ray_address(["compare", "--ray", "a.yaml"]) == ["compare", "--ray", "auto", "a.yaml"]
    assert with_ray_address(["compare", "--ray", "--jobs", "2"]) == ["compare", "--ray", "auto", "--jobs", "2"]
    for address in ("auto", "local", "10.0.0.1:6379", "ray://head:10001"):
        assert with_ray_address(["compare", "--ray", address, "x"]) == ["compare", "--ray", address, "x"]
    assert with_ray_address(["compare", "--", "--ray"]) == ["compare", "--", "--ray"]


def test_the_words_of_other_commands_are_left_as_they_are(call: Call) -> None:
    code, _, err = call("recipes", "show", "--", "--ray")
    assert code == 2
    assert "--ray" in err
    assert "auto" not in err.replace("autolora", "")


def test_processes_are_what_runs_where_no_cluster_is_named(tmp_path: Path) -> None:
    assert isinstance(executor_for(Resources(), tmp_path), Processes)
