"""Every command once through its entry point, and what its options do."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml

from autolora import __version__
from autolora.cli.app import app
from tests.cli.support import (
    Call,
    autolora,
    contents,
    imported,
    lines,
    only_run,
    read,
    served,
    stage_states,
    succeed,
)
from tests.laboratory import change_state

HEAVY = {"torch", "transformers", "datasets", "peft", "accelerate", "evaluate"}


def commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups of commands and the program itself among them."""
    yield above
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name)


COMMANDS = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "autolora")
def test_help_imports_no_heavy_library(command: tuple[str, ...], tmp_path: Path) -> None:
    done = autolora(*command, "--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert "Usage: autolora" in done.stdout
    assert imported(done.stderr) & HEAVY == set()
    assert "typer" in imported(done.stderr)


def test_help_lists_every_command(tmp_path: Path) -> None:
    found = {command[0] for command in COMMANDS if command}
    assert found >= {"search", "retrain", "eval", "run", "compare", "compress", "report", "export", "ranks", "recipes"}
    shown = succeed("--help", cwd=tmp_path).stdout
    assert [command for command in sorted(found) if f" {command} " not in shown] == []


def test_help_of_recipes_lists_its_commands(tmp_path: Path) -> None:
    found = [command[1] for command in COMMANDS if command[:1] == ("recipes",) and len(command) == 2]
    assert set(found) >= {"list", "show", "copy", "validate"}
    shown = succeed("recipes", "--help", cwd=tmp_path).stdout
    assert [command for command in found if f" {command} " not in shown] == []


def test_the_last_line_of_help_tells_of_debug(tmp_path: Path) -> None:
    shown = succeed("--help", cwd=tmp_path).stdout
    assert shown.strip().splitlines()[-1].strip() == "--debug, anywhere on the line, shows the traceback of an error."


def test_version_is_the_packages_own(tmp_path: Path) -> None:
    assert succeed("--version", cwd=tmp_path).stdout == f"autolora {__version__}\n"


def test_recipes_are_listed_shown_copied_and_validated(tmp_path: Path, minilm: Path) -> None:
    assert "glue-mini/mrpc" in succeed("recipes", "list", cwd=tmp_path).stdout
    shown = succeed("recipes", "show", "quickstart", cwd=tmp_path).stdout
    assert yaml.safe_load(shown)["data"]["generated"] == "acceptability"
    copied = succeed("recipes", "copy", "quickstart", "mine.yaml", cwd=tmp_path).stdout
    assert copied.splitlines()[0] == "wrote mine.yaml; run it with: autolora run mine.yaml"
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == shown
    again = autolora("recipes", "copy", "quickstart", "mine.yaml", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert "autolora: mine.yaml exists already; pass --force to overwrite it" in again.stderr
    assert succeed("recipes", "validate", "mine.yaml", cwd=tmp_path).stdout == "mine.yaml: ok\n"


def test_validate_says_how_many_recipes_are_faulty(tmp_path: Path, minilm: Path) -> None:
    succeed("recipes", "copy", "quickstart", "good.yaml", cwd=tmp_path)
    (tmp_path / "bad.yaml").write_text((tmp_path / "good.yaml").read_text().replace("task: ", "seed: -2\ntask: "))
    done = autolora("recipes", "validate", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "good.yaml: ok\n")
    assert "seed: must be at least 0, got -2" in done.stderr
    assert done.stderr.endswith("1 faulty recipe\n")


def test_run_leaves_everything_that_a_run_consists_of(finished: Path) -> None:
    top = {
        "adapter",
        "base.json",
        "labels.json",
        "manifest.json",
        "metrics.csv",
        "metrics.json",
        "metrics.md",
        "predictions",
    }
    assert {path.name for path in finished.iterdir()} == top | {"recipe.yaml", "retrain", "search", "status.json"}
    assert read(finished / "metrics.json")[0].items() >= {"split": "validation", "examples": 23}.items()
    assert [line["index"] for line in lines(finished / "predictions" / "validation.jsonl")] == list(range(23))
    found = read(finished / "search" / "ranks.json")["ranks"]
    layers = [f"bert.encoder.layer.{i}.attention.self.{name}" for i in range(2) for name in ("query", "value")]
    assert list(found) == layers
    manifest = read(finished / "manifest.json")
    assert set(manifest["stages"]) == {"search", "retrain", "eval"}
    assert manifest["seed"] == 3
    assert manifest["autolora"] == __version__


def test_search_takes_another_seed_settings_model_and_data_from_the_command_line(
    laboratory: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(laboratory / "model", tmp_path / "elsewhere" / "model")
    shutil.copytree(laboratory / "data", tmp_path / "elsewhere" / "root" / "data")
    shutil.copyfile(laboratory / "tiny.yaml", tmp_path / "tiny.yaml")
    places = ("--model", "elsewhere/model", "--data-root", "elsewhere/root", "--output", "here")
    settings = ("--seed", "4", "--set", "search.log_every=10", *places)
    done = succeed("search", "tiny.yaml", *settings, cwd=tmp_path, by=served)
    run = only_run(tmp_path / "here")
    assert run.name.endswith("-4")
    resolved = yaml.safe_load((run / "recipe.yaml").read_text())
    assert resolved["model"]["name"] == str(tmp_path / "elsewhere" / "model")
    assert resolved["data"]["root"] == str(tmp_path / "elsewhere" / "root")
    assert (resolved["seed"], resolved["search"]["log_every"]) == (4, 10)
    log = lines(run / "search" / "log.jsonl")
    assert [record["step"] for record in log] == [10, 20, 30]
    other = lines(finished / "search" / "log.jsonl")
    assert log[-1]["selection"] != other[-1]["selection"]
    assert f"wrote {run.relative_to(tmp_path)}/search/ranks.json\n" in done.stdout
    assert "search: step 30 of 30" in done.stderr
    assert not (run / "adapter").exists()


def test_retrain_and_eval_without_a_target_take_the_newest_run(
    call: Call, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.parents[2])
    older = copied.with_name("an-older-run-with-a-later-name")
    shutil.copytree(copied, older)
    change_state(older / "manifest.json", created="2020-01-01T00:00:00+00:00")
    before = contents(older)
    shutil.rmtree(copied / "adapter")
    for name in ("metrics.json", "metrics.md", "metrics.csv"):
        (copied / name).unlink()
    code, out, err = call("retrain", "--set", "retrain.steps=2")
    assert (code, f"wrote {copied.relative_to(Path.cwd())}/adapter\n" in out) == (0, True), err
    assert read(copied / "manifest.json")["stages"]["retrain"]["steps"] == 2
    assert stage_states(copied) == {"search": "success", "retrain": "success"}  # what was measured is another adapter
    code, out, err = call("eval", "--set", "eval.metrics=[f1]")
    assert (code, f"wrote {copied.relative_to(Path.cwd())}/metrics.md\n" in out) == (0, True), err
    assert "f1" in read(copied / "metrics.json")[0]
    assert contents(older) == before


def test_one_damaged_run_does_not_stand_in_the_way_of_the_newest(call: Call, copied: Path) -> None:
    damaged = copied.with_name("damaged")
    shutil.copytree(copied, damaged)
    (damaged / "recipe.yaml").write_text("task: no-such-task-any-more\n")
    (damaged / "manifest.json").write_text(json.dumps({"created": "2020-01-01T00:00:00+00:00"}))
    code, _, err = call("eval", "--output", copied.parents[1])
    assert (code, f"run {copied}" in err) == (0, True), err


def test_stock_peft_and_its_merged_model_give_the_logits_of_the_run(laboratory: Path, finished: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = AutoModelForSequenceClassification.from_pretrained(laboratory / "model", num_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(laboratory / "model")
    rows = [row["sentence"] for row in lines(laboratory / "data" / "validation.jsonl")]
    batch = tokenizer(rows, padding=True, return_tensors="pt")
    predictions = lines(finished / "predictions" / "validation.jsonl")
    expected = torch.tensor([line["logits"] for line in predictions])
    adapted = PeftModel.from_pretrained(base, finished / "adapter").eval()
    with torch.inference_mode():
        loaded = adapted(**batch).logits
        with adapted.disable_adapter():
            without = adapted(**batch).logits
        merged = adapted.merge_and_unload().eval()(**batch).logits
    torch.testing.assert_close(loaded, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-5)
    assert [line["prediction"] for line in predictions] == loaded.argmax(-1).tolist()
    assert (without - expected).abs().max() > 1e-3
