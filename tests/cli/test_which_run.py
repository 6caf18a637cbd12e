"""Which run a command is about, by the screen: --resume takes an unfinished one before a newer finished one."""

import shutil
from pathlib import Path

import pytest

from tests.cli.support import Call, contents, read, stage_states, unfinish
from tests.laboratory import change_state


@pytest.fixture
def older(copied: Path) -> Path:
    """The same run once more, made earlier, and killed before its retraining ended."""
    path = Path(shutil.copytree(copied, copied.with_name("20200101-000000-3")))
    change_state(path / "manifest.json", created="2020-01-01T00:00:00+00:00")
    unfinish(path, "retrain")
    return path


def resumed(call: Call, laboratory: Path, copied: Path) -> tuple[int, str]:
    code, _, err = call("run", laboratory / "tiny.yaml", "--resume", "--seed", "3", "--output", copied.parents[1])
    return code, err


def test_an_older_unfinished_run_is_gone_on_with(call: Call, laboratory: Path, copied: Path, older: Path) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    code, err = resumed(call, laboratory, copied)
    assert code == 0, err
    assert f"run {older}\n" in err
    assert stage_states(older)["eval"] == "success"
    assert contents(older) == contents(copied)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_of_several_unfinished_the_newest_is_gone_on_with_and_the_others_are_named(
    call: Call, laboratory: Path, copied: Path, older: Path
) -> None:
    unfinish(copied, "retrain")
    code, err = resumed(call, laboratory, copied)
    assert f"run {copied}\nthe newest unfinished run of this recipe is gone on with; unfinished, too: {older}\n" in err
    assert stage_states(older) == {"search": "success"}
    assert (code, stage_states(copied)["eval"]) == (0, "success"), err


def test_where_all_are_finished_the_newest_is_named_and_left_as_it_is(
    call: Call, laboratory: Path, copied: Path
) -> None:
    before = contents(copied)
    code, err = resumed(call, laboratory, copied)
    assert code == 0, err
    assert f"no run of this recipe is unfinished, and the newest that is finished is taken: {copied}\n" in err
    assert contents(copied) == before


def test_retraining_goes_on_where_one_was_begun(call: Call, laboratory: Path, copied: Path, older: Path) -> None:
    stages = read(older / "status.json")["stages"]
    change_state(older / "status.json", stages={**stages, "retrain": {"state": "running"}})
    code, _, err = call("retrain", "--resume", "--output", copied.parents[1])
    assert code == 0, err
    assert f"run {older}\n" in err
    assert (older / "adapter" / "adapter_model.safetensors").read_bytes() == (
        copied / "adapter" / "adapter_model.safetensors"
    ).read_bytes()


def test_the_newest_of_several_says_so(call: Call, laboratory: Path, copied: Path, older: Path) -> None:
    output = copied.parents[1]
    said = f"run {copied}, the newest of 2 runs below {output}\n"
    for target in ((), (laboratory / "tiny.yaml",)):
        code, out, err = call("export", *target, "--format", "peft", "--runs", output)
        assert (code, err.startswith(said), "run " in out) == (0, True, False), err
    code, _, err = call("eval", "--output", output)
    assert code == 0, err
    assert f"run {copied}\nthe newest of 2 runs below {output}\n" in err


def test_a_run_of_another_recipe_of_the_same_name_is_said_to_be_one(
    call: Call, copied: Path, laboratory: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(laboratory / "data", tmp_path / "other" / "data")).parent
    shutil.copytree(laboratory / "model", other / "model")
    shutil.copy(laboratory / "tiny.yaml", other)
    output, own, theirs = copied.parents[1], str(laboratory / "model"), str(other / "model")
    said = f"it was made of another recipe of this name: its model.name is {own!r}, and {other / 'tiny.yaml'} has "
    for command in (("eval", "--output", output), ("export", "--runs", output)):
        code, _, err = call(command[0], other / "tiny.yaml", *command[1:])
        assert (code, f"{said}{theirs!r}\n" in err) == (0, True), err
        assert "another recipe" not in call(command[0], laboratory / "tiny.yaml", *command[1:])[2]


@pytest.mark.parametrize("command", [("retrain",), ("eval",), ("run", "--resume")])
def test_a_run_is_not_written_elsewhere(call: Call, copied: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    code, _, err = call(*command, copied, "--output", tmp_path / "results")
    assert code == 2
    assert f"--output: says where new runs are, and {copied} is one already" in err
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
