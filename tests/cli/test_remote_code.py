"""Code that comes with a model runs only where recipe and command line both say so, and is named beforehand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import autolora as library
from autolora.errors import UserError
from autolora.model.remote_code import allow_code
from autolora.recipe.schema import Model
from tests.cli.support import Call, autolora, read, settings

CODE = """\
from transformers import BertConfig, BertForSequenceClassification

open({marker!r}, "a").write("ran")


class OwnConfig(BertConfig):
    model_type = "own"


class OwnModel(BertForSequenceClassification):
    config_class = OwnConfig
"""


@pytest.fixture
def model(laboratory: Path, tmp_path: Path) -> Path:
    """The laboratory's model, which brings code that leaves a mark."""
    folder = Path(shutil.copytree(laboratory / "model", tmp_path / "model"))
    (folder / "own_code.py").write_text(CODE.format(marker=str(tmp_path / "ran.txt")), encoding="utf-8")
    classes = {"AutoConfig": "own_code.OwnConfig", "AutoModelForSequenceClassification": "own_code.OwnModel"}
    config = read(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": classes}), encoding="utf-8")
    return folder


@pytest.fixture
def options(model: Path, laboratory: Path, tmp_path: Path) -> list[str]:
    """Of every command; the recipe is the laboratory's."""
    return ["--model", str(model), *settings(model__trust_remote_code="true", search__steps=1, retrain__steps=1)]


@pytest.mark.parametrize("command", ["data", "search", "run", "compare"])
def test_a_recipe_alone_runs_no_code(
    call: Call, command: str, options: list[str], laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(laboratory)
    output = [] if command == "data" else ["--output", str(tmp_path / "runs")]
    code, _, err = call(command, "tiny.yaml", *options, *output)
    assert code == 2
    assert "own_code.py (SHA-256 " in err
    assert "add --trust-remote-code" in err
    assert not (tmp_path / "ran.txt").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments", [("search", "--resume"), ("retrain",), ("eval",), ("run", "--resume"), ("data",)], ids=" ".join
)
def test_nor_does_the_recipe_of_a_run(
    call: Call,
    arguments: tuple[str, ...],
    options: list[str],
    copied: Path,
    tmp_path: Path,
    laboratory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(laboratory)
    code, _, err = call(arguments[0], copied, *arguments[1:], *options[:4])
    assert code == 2
    assert "add --trust-remote-code" in err
    assert not (tmp_path / "ran.txt").exists()


def test_nor_do_the_functions_for_python(model: Path, laboratory: Path, tmp_path: Path) -> None:
    given = {"model": str(model), "output": tmp_path / "runs", "model__trust_remote_code": True}
    with pytest.raises(UserError, match=r"trust_remote_code=True"):
        library.run(laboratory / "tiny.yaml", **given)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"trust_remote_code=True"):
        library.search(laboratory / "tiny.yaml", **given)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"trust_remote_code=True"):
        library.compare(laboratory / "tiny.yaml", "lora:1", "0-0", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "ran.txt").exists()


def test_where_both_say_so_it_is_named_and_run(options: list[str], laboratory: Path, tmp_path: Path) -> None:
    given = [*options, "--output", str(tmp_path / "runs"), "--trust-remote-code"]
    done = autolora("search", "tiny.yaml", *given, cwd=laboratory, HF_MODULES_CACHE=str(tmp_path / "modules"))
    assert done.returncode == 0, done.stderr
    assert "runs code that comes with the model: the folder" in done.stderr
    assert "own_code.py (SHA-256 " in done.stderr
    assert (tmp_path / "ran.txt").exists()


def test_the_command_line_alone_runs_none(call: Call, model: Path, laboratory: Path, tmp_path: Path) -> None:
    code, _, err = call("data", laboratory / "tiny.yaml", "--model", model, "--trust-remote-code")
    assert code == 0, err
    assert "runs code" not in err
    assert not (tmp_path / "ran.txt").exists()


def test_another_repository_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "their/code--modeling.Model"}}')
    with pytest.raises(UserError, match="of the repositories their/code"):
        allow_code(Model(name=str(tmp_path), trust_remote_code=True), allowed=False)


def test_a_model_of_the_hub_is_named_with_its_revision() -> None:
    with pytest.raises(UserError, match=r"the repository some/model \(revision main, whatever that is"):
        allow_code(Model(name="some/model", trust_remote_code=True), allowed=False)
    with pytest.raises(UserError, match=r"the repository some/model \(revision abc\)"):
        allow_code(Model(name="some/model", revision="abc", trust_remote_code=True), allowed=False)


def test_a_folder_that_is_called_as_a_model_of_the_hub_is_not_taken_for_it(
    call: Call, laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(laboratory / "model", tmp_path / "some" / "model")
    text = (laboratory / "tiny.yaml").read_text(encoding="utf-8").replace("./model", "some/model")
    (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, _, err = call("data", "tiny.yaml", "--data-root", laboratory)
    assert code == 2
    assert "write ./some/model if that is meant" in err
