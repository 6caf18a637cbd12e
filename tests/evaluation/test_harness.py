"""lm-evaluation-harness with a run's model: local tasks, nobody's code, results beside the run's own."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from autolora.errors import UserError
from autolora.evaluation import harness as module
from autolora.evaluation.harness import HarnessSettings, check_harness
from autolora.evaluation.harness_tasks import check_task_folder
from autolora.experiment.harness import measure_with_harness
from autolora.experiment.retrain import retrain
from tests.cli.support import autolora
from tests.laboratory import tiny_run
from tests.methods.support import write_generation_laboratory

needs_harness = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm-eval")
TASK = """\
task: letters
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["b", "c", "d"]
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""
GENERATED = """\
task: said
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "b"
generation_kwargs: {{until: ["e"], max_gen_toks: 4}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Task files over local data."""
    found = tmp_path / "tasks"
    found.mkdir()
    rows = [{"question": f"a {word}", "answer": i % 3} for i, word in enumerate("bcdbcd")]
    data = found / "letters.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (found / "letters.yaml").write_text(TASK.format(data=data.as_posix()), encoding="utf-8")
    (found / "said.yaml").write_text(GENERATED.format(data=data.as_posix()), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    place = tmp_path_factory.mktemp("harness")
    run, context = tiny_run(
        write_generation_laboratory(place / "laboratory", "llama"), place / "runs", "full", "retrain.steps=1"
    )
    retrain(run, context)
    return run, context


@needs_harness
def test_local_tasks_are_measured_and_the_table_stands_beside_the_runs(trained: tuple[Any, Any], folder: Path) -> None:
    run, context = trained
    rows = measure_with_harness(run, context, HarnessSettings(("letters", "said"), folder, batch_size=4, seed=3))
    by_task = {row["task"]: row for row in rows}
    assert by_task["letters"]["metric"] == "acc"
    assert 0 <= by_task["letters"]["value"] <= 1
    assert (by_task["letters"]["examples"], by_task["letters"]["better"]) == (6, "higher")
    assert by_task["said"]["metric"] == "exact_match"
    assert json.loads((run.path / "metrics-harness.json").read_text()) == rows
    assert "| letters" in (run.path / "metrics-harness.md").read_text()
    again = measure_with_harness(run, context, HarnessSettings(("letters",), folder, batch_size=1, seed=3))
    assert again[0]["value"] == by_task["letters"]["value"]  # whatever the batch
    (limited,) = measure_with_harness(run, context, HarnessSettings(("letters",), folder, limit=2, seed=3))
    assert limited["examples"] == 2


@needs_harness
def test_a_task_that_there_is_not_and_data_that_is_not_here_are_named(
    trained: tuple[Any, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = trained
    hub = (folder / "letters.yaml").read_text().replace("dataset_path: json", "dataset_path: nobody/letters")
    (folder / "hub.yaml").write_text(hub.replace("task: letters", "task: hub"), encoding="utf-8")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with pytest.raises(UserError, match=r"--harness hub: its data, the data set 'nobody/letters' of the .* hub"):
        measure_with_harness(run, context, HarnessSettings(("hub",), folder))
    with pytest.raises(UserError, match=r"has no chat template; leave it out"):
        measure_with_harness(run, context, HarnessSettings(("letters",), folder, chat=True))


@needs_harness
def test_a_template_reaches_nothing_but_its_example(trained: tuple[Any, Any], folder: Path) -> None:
    run, context = trained
    text = (folder / "letters.yaml").read_text()
    hostile = "{{ question.__class__.__mro__[1].__subclasses__() }}"
    (folder / "letters.yaml").write_text(text.replace("{{question}}", hostile), encoding="utf-8")
    with pytest.raises(UserError, match=r"template cannot be rendered .*unsafe"):
        measure_with_harness(run, context, HarnessSettings(("letters",), folder))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("process_docs: !function utils.process", "!function utils.process, which is code"),
        ("x: [{y: !!python/object/apply:os.system [ls]}]", "tag:yaml.org,2002:python/object/apply:os.system"),
        ("class: somewhere.Task", "class: somewhere.Task, a Python class"),
        ("metric_list: [{metric: bleu, hf_evaluate: true}]", "hf_evaluate: true, a metric that is fetched and run"),
        ("include: ../../other.yaml", "include: ../../other.yaml, a file that is no task file of this folder"),
        ("include: [letters.yaml, utils.py]", "include: utils.py, a file that is no task file"),
    ],
)
def test_a_task_file_that_brings_code_is_refused_unless_it_is_trusted(folder: Path, line: str, said: str) -> None:
    (folder / "deep").mkdir()
    file = folder / "deep" / "mine.yaml"
    file.write_text(f"task: mine\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        check_task_folder(folder, trusted=False)
    assert f"{file}: names " in str(caught.value)
    assert said in str(caught.value)
    assert "--trust-remote-code" in str(caught.value)
    check_task_folder(folder, trusted=True)


def test_plain_task_files_are_taken_and_what_is_no_folder_of_them_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "more.yaml").write_text("include: letters.yaml\ntask: more\n", encoding="utf-8")
    check_task_folder(folder, trusted=False)
    (tmp_path / "empty").mkdir()
    for place, said in ((tmp_path / "none", "there is no folder"), (tmp_path / "empty", "there is no task file")):
        with pytest.raises(UserError, match=f"--harness-tasks-dir: {said}"):
            check_task_folder(place, trusted=True)


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'--harness needs lm-evaluation-harness.*pip install "autolora\[harness\]"'):
        check_harness(HarnessSettings(("gsm8k",)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": ("",)}, "--harness: name one task"),
        ({"limit": 0}, "--harness-limit: must be 1 or more, got 0"),
        ({"batch_size": 0}, "--harness-batch-size: must be 1 or more, got 0"),
        ({"few_shot": -1}, "--harness-few-shot: must be 0 or more, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: sys)
    with pytest.raises(UserError, match=said):
        check_harness(HarnessSettings(**{"tasks": ("a",), **settings}))


def test_the_options_of_the_harness_need_it_and_exclude_the_others(tmp_path: Path) -> None:
    done = autolora("eval", "--harness-limit", "3", cwd=tmp_path)
    assert (done.returncode, "belong to --harness TASKS" in done.stderr) == (2, True)
