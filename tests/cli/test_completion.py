"""What a shell completes, by typer's own mechanism; without torch, which would take seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autolora.cli import completion

BEGUN = """
import sys
from autolora.cli.app import app
sys.argv = ["autolora"]
try:
    app(prog_name="autolora")
finally:
    assert not {"torch", "transformers", "datasets"} & set(sys.modules), "it has to be quick"
"""


def completed(words: str, cwd: Path, shell: str = "bash") -> list[str]:
    """The words that a shell would offer for the last one."""
    given = words.split(" ")
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(given) - 1)}
    if shell == "zsh":
        variables = {"_TYPER_COMPLETE_ARGS": words}
    environment = {**os.environ, "_AUTOLORA_COMPLETE": f"complete_{shell}", **variables}
    command = [sys.executable, "-c", BEGUN]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert not done.stderr, done.stderr
    return done.stdout.split()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("runs/tiny/20260101-000000-0", "runs/tiny/20260102-000000-0", "runs/tiny/_tuning/20260103-000000-0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "recipe.yaml").touch()
    (tmp_path / "runs/comparisons/tiny").mkdir(parents=True)
    (tmp_path / "runs/comparisons/tiny/trials.json").touch()
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_in_bash_and_zsh(place: Path) -> None:
    assert completed("autolora compare --sweep search.ra", place) == ["search.rank="]
    assert any("glue-mini/cola" in word for word in completed("autolora run glue-mini/c", place, "zsh"))


def test_recipes_are_names_and_files(place: Path) -> None:
    assert completion.recipes("glue-mini/") == [f"glue-mini/{name}" for name in ("cola", "mrpc", "rte", "stsb")]
    assert completion.recipes("m") == ["mine.yaml"]


def test_runs_are_folders_the_newest_first_without_those_of_tuning(place: Path) -> None:
    found = completion.runs("runs/tiny/2")
    assert found[:2] == ["runs/tiny/20260102-000000-0", "runs/tiny/20260101-000000-0"]
    assert not any("_tuning" in word for word in found)
    assert completion.reported("runs/c") == ["runs/comparisons/tiny", "runs/comparisons/"]


def test_methods_are_a_list(place: Path) -> None:
    found = completion.methods("autolora,lora-m")
    assert found == ["autolora,lora-matched"]
    assert "autolora,autolora" not in completion.methods("autolora,a")


def test_fields_and_their_values(place: Path) -> None:
    assert completion.fields("search.est") == ["search.estimator="]
    assert completion.fields("search.estimator=c") == ["search.estimator=central_difference"]
    assert completion.fields("search.meta_learning=") == ["search.meta_learning=true", "search.meta_learning=false"]
    assert completion.varied("model.dtype=float32,b") == ["model.dtype=float32,bfloat16"]
    assert completion.fields("nothing.of=") == []


def test_nothing_is_said_where_something_is_wrong(place: Path) -> None:
    assert completion.recipes("no/such/folder/x") == []
