"""What the user can mend: exit code 2 and one message that says where, which rule and which value; no traceback."""

import shutil
from pathlib import Path

import pytest

from tests.cli.support import Call, autolora, imported, read, said
from tests.laboratory import of_an_earlier_version

VALID = """\
task: classification
model:
  name: bundled:all-MiniLM-L6-v2
  target_modules: [query, value]
data:
  path: words
  columns: [sentence]
"""


@pytest.fixture
def folder(tmp_path: Path, laboratory: Path, minilm: Path) -> Path:
    """An empty folder with the data of the recipe above."""
    shutil.copytree(laboratory / "data", tmp_path / "words")
    return tmp_path


def rejected(folder: Path, *arguments: str, command: str = "run") -> str:
    """What the command says; it must end with 2, import nothing heavy and write nothing."""
    before = sorted(folder.rglob("*"))
    done = autolora(command, *arguments, cwd=folder, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert imported(done.stderr) & {"torch", "transformers", "datasets"} == set()
    assert sorted(folder.rglob("*")) == before
    message = said(done.stderr)
    assert "Traceback" not in message
    return message


def faults(*lines: str) -> str:
    return f"autolora: the recipe has {len(lines)} fault{'s' * (len(lines) > 1)}:\n" + "".join(
        f"  {x}\n" for x in lines
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            VALID + "search:\n  epochz: 3\n",
            "bad.yaml:9: search.epochz: unknown key (did you mean 'epochs'?)",
            id="unknown key",
        ),
        pytest.param(
            VALID + "search:\n  epochs: many\n",
            "bad.yaml:9: search.epochs: must be a number, got 'many'",
            id="wrong type",
        ),
        pytest.param(
            VALID + "retrain:\n  batch_size: -4\n",
            "bad.yaml:9: retrain.batch_size: must be at least 1, got -4 "
            "(from 1 to 1048576: the examples of a step are in memory at once)",
            id="negative batch size",
        ),
        pytest.param(
            VALID + "search:\n  rank: 0\n",
            "bad.yaml:9: search.rank: must be at least 1, got 0 "
            "(from 1 to 65536: no layer of any model has a larger smaller side)",
            id="rank 0",
        ),
        pytest.param(
            VALID + "search:\n  validation_fraction: 1.2\n",
            "bad.yaml:9: search.validation_fraction: must be less than 1, got 1.2 "
            "(above 0 and below 1: both parts need something)",
            id="validation fraction above 1",
        ),
        pytest.param(
            VALID + "  splits: {eval: [test]}\n",
            "bad.yaml:8: data.splits.eval: no split 'test' in {folder}/words; it has: train, validation",
            id="no such split",
        ),
        pytest.param(
            VALID + "  label: labl\n",
            "bad.yaml:8: data.label: no column 'labl' in {folder}/words/train.jsonl; it has: sentence, label "
            "(did you mean 'label'?)",
            id="no label column",
        ),
        pytest.param(
            VALID.replace("value", "valeu"),
            "bad.yaml:4: model.target_modules: 'valeu' matches no layer of the model (did you mean 'value'?)",
            id="target module that matches no layer",
        ),
        pytest.param(
            VALID.replace("path: words", "path: wards"),
            "bad.yaml:6: data.path: there is no data folder {folder}/wards; did you mean 'words'? "
            "(point to the data with --data-root)",
            id="no data folder",
        ),
        pytest.param(
            VALID + "search:\n\trank: 4\n",
            "bad.yaml:9: a tab; YAML forbids tabs for indentation (use spaces)",
            id="tab",
        ),
        pytest.param("", "bad.yaml: the file is empty (a recipe needs at least task, model and data)", id="empty"),
        pytest.param(
            "task: [classification\nmodel: x\n",
            "bad.yaml:2: the file is no YAML: while parsing a flow sequence, expected ',' or ']', but got ':'",
            id="no YAML",
        ),
    ],
)
def test_a_faulty_recipe_is_rejected_with_its_line_rule_and_value(folder: Path, text: str, message: str) -> None:
    (folder / "bad.yaml").write_text(text, encoding="utf-8")
    assert rejected(folder, "bad.yaml") == faults(message.replace("{folder}", str(folder)))


@pytest.mark.parametrize("command", ["search", "retrain", "eval", "run", "compare"])
def test_a_fault_that_only_the_model_shows_is_found_before_anything_heavy_is_imported(
    folder: Path, command: str
) -> None:
    (folder / "bad.yaml").write_text(VALID.replace("value", "valeu"), encoding="utf-8")
    message = "bad.yaml:4: model.target_modules: 'valeu' matches no layer of the model (did you mean 'value'?)"
    assert rejected(folder, "bad.yaml", command=command) == faults(message)


@pytest.mark.parametrize(
    "arguments",
    [("compare", "bad.yaml"), ("export", "bad.yaml"), ("eval", "--task", "bad.yaml", "--predictions", "x.txt")],
    ids=["compare", "export", "eval --predictions"],
)
def test_an_unknown_key_is_refused_by_whatever_reads_a_recipe(folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "bad.yaml").write_text(VALID + "search:\n  epochz: 3\n", encoding="utf-8")
    command, *others = arguments
    message = "bad.yaml:9: search.epochz: unknown key (did you mean 'epochs'?)"
    assert rejected(folder, *others, command=command) == faults(message)


def test_the_faults_of_file_and_command_line_are_reported_together(folder: Path) -> None:
    (folder / "bad.yaml").write_text(VALID + "search:\n  rank: 0\n", encoding="utf-8")
    said = rejected(
        folder, "bad.yaml", "--set", "search.stepz=3", "--seed=-1", "--data-root", "nowhere", command="search"
    )
    assert said == faults(
        "bad.yaml:9: search.rank: must be at least 1, got 0 "
        "(from 1 to 65536: no layer of any model has a larger smaller side)",
        "--set search.stepz=3: search.stepz: unknown key (did you mean 'search.steps'?)",
        "--seed -1: seed: must be at least 0, got -1 (from 0 to 4294967295: generators take 32 bits)",
        f"--data-root nowhere: data.root: there is no data folder {folder}/nowhere/words; {folder} has no 'nowhere'",
    )


def test_a_missing_recipe_is_rejected_with_the_nearest_name(folder: Path) -> None:
    (folder / "mine.yaml").write_text(VALID, encoding="utf-8")
    assert rejected(folder, "mime.yaml") == (
        "autolora: no recipe 'mime.yaml': neither a file nor a shipped recipe; did you mean 'mine.yaml'?\n"
    )


@pytest.mark.parametrize("command", ["retrain", "eval"])
def test_without_any_run_there_is_nothing_to_take(folder: Path, command: str) -> None:
    assert rejected(folder, command=command) == "autolora: there is no run below runs; run: autolora search RECIPE\n"


def test_a_folder_that_is_no_run_is_no_target(folder: Path) -> None:
    assert rejected(folder, "words", command="eval") == "autolora: words is a folder, not a recipe\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VALID.replace("bundled:all-MiniLM-L6-v2", "some/model"), "model.name: 'some/model' could not be loaded: "),
        (VALID.replace("path: words", "hub: some/set"), "cannot fetch data set 'some/set' of the Hugging Face hub: "),
    ],
    ids=["model", "data set"],
)
def test_without_a_network_it_says_what_would_have_been_fetched(folder: Path, text: str, message: str) -> None:
    (folder / "hub.yaml").write_text(text, encoding="utf-8")
    done = autolora("search", "hub.yaml", cwd=folder)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"autolora: {message}")
    assert ("--model DIR" if "model" in message else "--data-root DIR") in done.stderr


def test_a_broken_checkpoint_is_refused_by_name(call: Call, copied: Path) -> None:
    checkpoint = copied / "retrain" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    code, _, err = call("retrain", copied, "--resume")
    assert code == 2
    assert f"autolora: {checkpoint} is not a checkpoint of autolora (" in err
    assert "remove it to start the stage anew" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"initial_rank": 4, "ranks":', "cannot be read: "),
        ("[]", "holds no ranks: it is no JSON object"),
        ('{"ranks": {}}', "holds no ranks: 'initial_rank' is missing"),
        (
            '{"initial_rank": 4, "ranks": {"a": "b"}}',
            "holds no ranks: a rank is a whole number from 0; that of a is 'b'",
        ),
    ],
)
def test_ranks_that_are_none_are_refused_by_name(call: Call, copied: Path, content: str, message: str) -> None:
    of_an_earlier_version(copied)
    (copied / "search" / "ranks.json").write_text(content)
    code, _, err = call("retrain", copied)
    assert code == 2
    assert f"autolora: {copied / 'search' / 'ranks.json'} {message}" in err
    assert f"autolora search {copied} --resume" in err
    assert "Traceback" not in err


def test_ranks_of_another_model_are_refused(call: Call, copied: Path) -> None:
    ranks = copied / "search" / "ranks.json"
    of_an_earlier_version(copied)
    ranks.write_text(ranks.read_text().replace("bert.encoder.layer.1.attention.self.query", "bert.h.1.q"))
    code, _, err = call("retrain", copied)
    assert code == 2
    assert "bert.h.1.q" in err
    assert "Traceback" not in err


def test_a_broken_adapter_is_refused_by_name(call: Call, copied: Path) -> None:
    (copied / "adapter" / "adapter_model.safetensors").write_bytes(b"none")
    code, _, err = call("eval", copied)
    assert code == 2
    assert f"{copied / 'adapter'}" in err
    assert "Traceback" not in err


def test_eval_before_retrain_says_what_to_run(call: Call, copied: Path) -> None:
    of_an_earlier_version(copied)
    shutil.rmtree(copied / "adapter")
    code, _, err = call("eval", copied)
    assert (code, err.splitlines()[-1]) == (2, f"autolora: {copied} has no adapter yet; run: autolora retrain {copied}")


def test_a_run_is_not_searched_again_unless_it_is_resumed(call: Call, copied: Path) -> None:
    status = read(copied / "status.json")
    code, _, err = call("search", copied)
    assert (code, err) == (
        2,
        f"autolora: {copied} is a run; add --resume to go on with it, or name a recipe to start a new one\n",
    )
    assert read(copied / "status.json") == status


@pytest.mark.parametrize(
    "arguments",
    [("run", "nothing.yaml", "--debug"), ("--debug", "run", "nothing.yaml"), ("run", "--debug", "nothing.yaml")],
    ids=["at the end", "at the beginning", "in between"],
)
def test_debug_shows_the_traceback(folder: Path, arguments: tuple[str, ...]) -> None:
    done = autolora(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert "autolora.errors.UserError: no recipe 'nothing.yaml'" in done.stderr
