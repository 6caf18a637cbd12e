"""A run of somebody else's: what its recipe names on this machine is read only if the user says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import autolora
from tests.cli.support import Call, read
from tests.laboratory import of_an_earlier_version


@pytest.fixture
def theirs(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run that another user has made."""
    monkeypatch.setenv("AUTOLORA_STATE", str(tmp_path / "mine"))
    (copied / "search" / "rises.json").unlink(missing_ok=True)
    return copied


def given(laboratory: Path) -> tuple[str | Path, ...]:
    return "--data-root", laboratory, "--model", laboratory / "model"


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--resume"),
        ("search", "--resume"),
        ("retrain",),
        ("retrain", "--resume"),
        ("eval",),
        ("eval", "--submission"),
        ("data",),
        ("ranks", "--measure"),
    ],
    ids=" ".join,
)
def test_no_command_follows_its_paths(theirs: Path, laboratory: Path, call: Call, command: tuple[str, ...]) -> None:
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    code, out, err = call(command[0], theirs, *command[1:])
    assert (code, out) == (2, "")
    assert f"{theirs} does not count as made here" in err
    assert f"data.root: {laboratory} and model.name: {laboratory / 'model'}; give --data-root DIR --model PATH" in err
    assert {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()} == before
    code, _, err = call(command[0], theirs, *command[1:], "--data-root", laboratory)
    assert code == 2
    assert f"unless you say so: model.name: {laboratory / 'model'}; give --model PATH" in err


def test_nor_is_it_asked_whether_they_are_there(theirs: Path, laboratory: Path, call: Call) -> None:
    of_an_earlier_version(theirs)
    text = (theirs / "recipe.yaml").read_text(encoding="utf-8")
    (theirs / "recipe.yaml").write_text(text.replace(str(laboratory), "/not/there"), encoding="utf-8")
    code, _, err = call("eval", theirs)
    assert code == 2
    assert "unless you say so: data.root: /not/there and model.name: /not/there/model;" in err
    assert "no data folder" not in err
    assert "no model folder" not in err


def test_what_the_user_gives_is_read_and_said_once(theirs: Path, laboratory: Path, call: Call) -> None:
    assert call("eval", theirs, *given(laboratory))[0] == 0
    assert call("eval", theirs)[0] == 0


def test_other_ranks_are_measured_on_what_the_user_gives(theirs: Path, laboratory: Path, call: Call) -> None:
    code, _, err = call("ranks", theirs, "--measure", *given(laboratory))
    assert code == 0, err
    (theirs / "search" / "rises.json").unlink()
    with pytest.raises(autolora.UserError, match="does not count as made here"):
        autolora.other_ranks(theirs, measure=True, data_root=laboratory)


def test_what_reads_the_folder_only_needs_no_word(theirs: Path, call: Call, tmp_path: Path) -> None:
    for command in (
        ("ranks", theirs),
        ("export", theirs),
        ("report", theirs, "--output", tmp_path / "report.html"),
    ):
        code, _, err = call(*command)
        assert code == 0, err


def test_the_users_own_recipe_is_their_own_word(
    theirs: Path, laboratory: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(laboratory)
    root = theirs.parents[1]
    for command in (
        ("compare", "tiny.yaml", "--methods", "autolora", "--seeds", "3-3"),
        ("run", "tiny.yaml", "--seed", "3", "--resume"),
    ):
        code, _, err = call(*command, "--output", root)
        assert code == 0, err
    assert [path.name for path in theirs.parent.iterdir() if path.is_dir()] == [theirs.name]


def test_a_run_that_is_found_by_its_recipe(
    theirs: Path, laboratory: Path, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The newest of that name may have been made of another recipe, with other paths in it."""
    monkeypatch.chdir(laboratory)
    assert call("eval", "tiny.yaml", "--output", theirs.parents[1])[0] == 0
    shutil.copytree(laboratory / "data", tmp_path / "other" / "data")
    of_an_earlier_version(theirs)
    text = (theirs / "recipe.yaml").read_text(encoding="utf-8").replace(f"root: {laboratory}", f"root: {tmp_path}")
    (theirs / "recipe.yaml").write_text(text, encoding="utf-8")
    for target in (("tiny.yaml",), ()):
        code, _, err = call("eval", *target, "--output", theirs.parents[1])
        assert code == 2
        assert f"data.root: {tmp_path}" in err


def test_the_copy_of_a_run_is_made_here_as_the_run_is(copied: Path, call: Call) -> None:
    assert len(read(copied / "manifest.json")["made_here"]) == 1
    assert call("data", copied)[0] == 0
