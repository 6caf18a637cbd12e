"""The command: which run, where the configuration goes, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from autolora.cli.export import export
from autolora.errors import UserError
from tests.export.runs import RANKS, adapter_of, make_run, write


def test_standard_output_is_the_configuration_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    export(str(run), "peft", None, tmp_path)
    out, err = capsys.readouterr()
    assert json.loads(out)["r"] == 4
    assert err.startswith("note: The run has no adapter yet")


def test_the_newest_run_is_meant_where_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)
    newest = make_run(tmp_path, dict.fromkeys(RANKS, 2))
    write(newest / "adapter" / "adapter_config.json", adapter_of(dict.fromkeys(RANKS, 2)))
    export(None, "yaml", None, tmp_path)
    out, err = capsys.readouterr()
    assert set(yaml.safe_load(out)["ranks"].values()) == {2}
    assert err == f"run {newest}, the newest of 2 runs below {tmp_path}\n"


def test_a_recipes_name_means_its_newest_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)
    (tmp_path / "tiny.yaml").write_text(
        "task: classification\nmodel: {name: owner/base}\ndata: {path: data}\n", encoding="utf-8"
    )
    export(str(tmp_path / "tiny.yaml"), "yaml", None, tmp_path)
    assert yaml.safe_load(capsys.readouterr().out)["ranks"] == RANKS


def test_output_writes_the_file_and_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, file = make_run(tmp_path), tmp_path / "new" / "axolotl.yaml"
    export(str(run), "axolotl", file, tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"wrote {file}"
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["lora_r"] == 4
    assert os.listdir(file.parent) == ["axolotl.yaml"]  # noqa: PTH208


def test_an_unknown_format_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'axolot' is not one of: peft, axolotl, .*did you mean 'axolotl'"):
        export(None, "axolot", None, tmp_path)


def test_no_run_at_all_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no run below .*autolora search RECIPE"):
        export(None, "peft", None, tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run: it has no recipe\.yaml and status\.json"):
        export(str(tmp_path), "peft", None, tmp_path)


def test_an_output_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(UserError, match=r"--output: .* is a folder; name a file in it, .*adapter_config\.json"):
        export(str(run), "peft", tmp_path, tmp_path)


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        export(str(run), "peft", tmp_path / "file" / "peft.json", tmp_path)
