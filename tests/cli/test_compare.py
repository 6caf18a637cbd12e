"""Comparisons by the command line: cells are runs, done once; what is interrupted, fails or comes later."""

import csv
import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from autolora.comparison.defaults import PAPER
from tests.cli.support import Call, finish, freeze_when, lines, read, served, stage_states, start, succeed, succeed_here
from tests.model.checkpoints import edit_weights

METHODS = "autolora,lora:2,lora-matched,shuffled,svd"
SHORT = ("--set", "search.steps=6", "--set", "retrain.steps=12")
FIXED = ("comparison.md", "scores.csv", "scores.md", "differences.csv", "differences.json", "table.tex")


def options(output: Path, methods: str = METHODS, seeds: str = "0-1") -> list[str | Path]:
    return ["--methods", methods, "--seeds", seeds, "--output", output, *SHORT]


def tables(output: Path) -> dict[str, bytes]:
    """What must not depend on when or how often interrupted it was made."""
    return {name: (output / "comparisons" / "tiny" / name).read_bytes() for name in FIXED}


def cells(output: Path) -> dict[tuple[str, int], dict[str, object]]:
    folder = output / "comparisons" / "tiny"
    found = read(folder / "trials.json")
    return {(c["method"], c["seed"]): {**c, "run": (folder / c["run"]).resolve()} for c in found}


def run_folders(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "tiny").iterdir())


@pytest.fixture(scope="module")
def compared(laboratory: Path) -> Path:
    """The output folder of a comparison that nothing interrupted. To be read only."""
    output = laboratory / "compared"
    succeed_here("compare", "tiny.yaml", *options(output), "--jobs", "2", cwd=laboratory)
    return output


def test_a_finished_run_on_other_rows_is_no_trial_of_these(
    call: Call, copied: Path, laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(laboratory)
    data = Path(shutil.copytree(laboratory / "data", tmp_path / "elsewhere" / "data"))
    asked = ("compare", "tiny.yaml", "--methods", "autolora", "--seeds", "3", "--output", copied.parents[1])
    there = ("--data-root", data.parent)
    assert call(*asked, *there)[0] == 0, "the same rows, wherever they lie"
    assert run_folders(copied.parents[1]) == [copied.name]
    rows = (data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    (data / "train.jsonl").write_text("\n".join(reversed(rows)) + "\n", encoding="utf-8")
    for more in ((), ("--dry-run",)):
        code, out, err = call(*asked, *there, *more)
        assert (code, out) == (2, "")
        assert f"{copied} was made of other rows of split 'train' than tiny has now: in one table" in err


def test_runs_on_other_weights_stand_in_no_table_of_these(
    call: Call, laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(shutil.copytree(laboratory, tmp_path / "place", ignore=shutil.ignore_patterns("runs", "compared")))
    monkeypatch.chdir(place)
    asked = ("compare", "tiny.yaml", "--seeds", "0", "--output", tmp_path / "out", *SHORT)
    assert call(*asked, "--methods", "lora:2")[0] == 0
    edit_weights(place / "model", lambda ts: {n: t * 1.5 if "self.key.weight" in n else t for n, t in ts.items()})
    tables = {path: path.read_bytes() for path in (tmp_path / "out" / "comparisons").rglob("*.md")}
    for _ in range(2):  # when the second method has been run, and from then on before anything is
        code, _, err = call(*asked, "--methods", "lora:2,lora:1")
        assert (code, "was begun on another pretrained model, by the weights (their hash is " in err) == (2, True), err
    assert {path: path.read_bytes() for path in tables} == tables
    code, _, err = call("report", tmp_path / "out" / "comparisons" / "tiny")
    assert code == 0, err  # its own runs are of one model


def test_every_cell_is_a_run_of_its_own_with_its_method_and_seed(compared: Path) -> None:
    found = cells(compared)
    assert list(found) == [(method, seed) for method in METHODS.split(",") for seed in (0, 1)]
    assert {cell["state"] for cell in found.values()} == {"success"}
    for (method, seed), cell in found.items():
        run = Path(str(cell["run"]))
        manifest = read(run / "manifest.json")
        assert (run / "adapter" / "adapter_model.safetensors").exists()
        assert manifest["seed"] == seed
        assert read(run / "metrics.json")[0]["accuracy"] == cell["score"]
        assert not list(run.rglob("checkpoint.safetensors")), "a whole run needs no checkpoint"
        assert method == "autolora" or method.replace(":", "-") in run.name
    # svd builds on a uniform LoRA of rank k, which nobody asked for: a run, but no line of the table.
    assert len(run_folders(compared)) == len(found) + 2


def test_the_budget_of_a_seed_is_autoloras_of_that_seed(compared: Path) -> None:
    found = cells(compared)
    for seed in (0, 1):
        learned = found["autolora", seed]
        for method in ("lora-matched", "shuffled", "svd"):
            cell = found[method, seed]
            assert (cell["total_rank"], cell["adapter_parameters"]) == (
                learned["total_rank"],
                learned["adapter_parameters"],
            )
        assert sorted(found["shuffled", seed]["ranks"].values()) == sorted(learned["ranks"].values())  # type: ignore[attr-defined]


def test_costs_are_on_the_bill(compared: Path) -> None:
    for (method, _), cell in cells(compared).items():
        searched = 6 * 4 if method == "autolora" else 0  # central difference: four passes
        assert (cell["forward_passes"], cell["backward_passes"]) == (searched + 12, searched + 12)
        assert (float(str(cell["search_seconds"])) > 0) == (method == "autolora")
        assert float(str(cell["retrain_seconds"])) > 0
        assert float(str(cell["peak_memory_mib"])) > 50


def test_every_method_trains_on_the_same_batches(compared: Path) -> None:
    """The first training loss is the pretrained model's on the first batch, whatever the method and its ranks."""
    for seed in (0, 1):
        runs = [Path(str(c["run"])) for (m, s), c in cells(compared).items() if s == seed and m != "svd"]
        first = [lines(run / "retrain" / "log.jsonl")[0]["step"] for run in runs]
        assert set(first) == {7}
        data = {json.dumps(read(run / "manifest.json")["stages"]["retrain"]["data"]) for run in runs}
        assert len(data) == 1


@pytest.mark.slow
def test_a_comparison_killed_in_the_middle_and_started_again_gives_the_same_tables(
    laboratory: Path, compared: Path
) -> None:
    output = laboratory / "killed"
    process = start("compare", "tiny.yaml", *options(output), cwd=laboratory)
    freeze_when(process, lambda: len(list(output.glob("tiny/*/metrics.json"))) >= 2)
    finish(process, signal.SIGKILL)
    whole = {path.parent for path in output.glob("tiny/*/metrics.json")}
    before = {path: (path / "manifest.json").read_bytes() for path in whole}
    assert not list((output / "comparisons").rglob("trials.json")), "no tables yet: what is planned is all there is"
    succeed("compare", "tiny.yaml", *options(output), "--jobs", "2", cwd=laboratory)
    assert tables(output) == tables(compared)
    assert {path: (path / "manifest.json").read_bytes() for path in whole} == before, "done once, and reused"
    assert len(run_folders(output)) == len(run_folders(compared))


def test_a_later_comparison_adds_methods_and_seeds_and_runs_nothing_twice(
    call: Call, laboratory: Path, compared: Path, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(compared, tmp_path / "runs"))
    before = {path: path.read_bytes() for path in output.glob("tiny/*/manifest.json")}
    recipe = laboratory / "tiny.yaml"
    code, _, err = call("compare", recipe, *options(output, "autolora,lora:2,random", "0-2"))
    assert code == 0, err
    assert {path: path.read_bytes() for path in before} == before
    assert list(cells(output)) == [(m, s) for m in ("autolora", "lora:2", "random") for s in (0, 1, 2)]
    assert len(list(output.glob("tiny/*/manifest.json"))) == len(before) + 5


def test_a_cell_that_fails_is_reported_with_its_reason_while_the_others_go_on(
    call: Call, laboratory: Path, tmp_path: Path
) -> None:
    arguments = ("--set", "retrain.steps=2", "--methods", "adalora,lora:2,lora-matched", "--seeds", "0")
    code, _, err = call(
        "compare", laboratory / "tiny.yaml", *arguments, "--output", tmp_path, "--set", "search.steps=2"
    )
    assert code == 3
    reason = "adalora: 2 steps are too few for its schedule; raise retrain.steps or retrain.epochs"
    assert reason in err
    assert "Traceback" not in err
    found = cells(tmp_path)
    assert [cell["state"] for cell in found.values()] == ["failed", "success", "success"]
    assert str(found["adalora", 0]["reason"]).endswith(reason)
    (failed,) = csv.DictReader((tmp_path / "comparisons" / "tiny" / "failures.csv").open())
    assert (failed["method"], failed["seed"], failed["state"]) == ("adalora", "0", "failed")
    status = read(Path(str(found["adalora", 0]["run"])) / "status.json")
    assert "Traceback" in status["traceback"]


def test_what_is_doubtful_about_the_data_is_said_once_and_kept_with_every_run(laboratory: Path, tmp_path: Path) -> None:
    for name in ("tiny.yaml", "model", "data"):
        (shutil.copytree if (laboratory / name).is_dir() else shutil.copy)(laboratory / name, tmp_path / name)
    train = tmp_path / "data" / "train.jsonl"
    row = json.loads(train.read_text().splitlines()[0])
    labels = {json.loads(line)["label"] for line in train.read_text().splitlines()}
    train.write_text(train.read_text() + json.dumps({**row, "label": min(labels - {row["label"]})}) + "\n")
    short = ("--set", "search.steps=2", "--set", "retrain.steps=2")
    done = succeed("compare", "tiny.yaml", "--methods", "lora:2", "--seeds", "0-2", *short, cwd=tmp_path, by=served)
    assert done.stderr.count("contradict each other") == 1
    for manifest in (tmp_path / "runs" / "tiny").glob("*/manifest.json"):
        assert any("contradict each other" in text for text in read(manifest)["data"]["warnings"])


def test_a_dry_run_prints_the_plan_and_runs_nothing(call: Call, laboratory: Path, tmp_path: Path) -> None:
    code, _, err = call("compare", laboratory / "tiny.yaml", *options(tmp_path), "--dry-run")
    assert code == 0
    assert "to run: tiny shuffled seed 1" in err
    assert "to run: tiny lora:4 seed 1 (built on by others)" in err
    assert "Time, one trial after the other" in err
    assert re.search(r"^about \d+ s and \d+ MiB$", err, re.M)
    # 12 cells: two searches of 6 steps, and 12 steps for every training; svd trains nothing itself
    assert [cell for cell in ("12", "120") if cell not in err] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "lorra:4"), "there is no method 'lorra'; did you mean 'lora'?"),
        (("--methods", "lora:0"), "--methods: 'lora:0': size: "),
        (("--methods", "lora"), "method 'lora' needs a size: lora:4"),
        (("--methods", "lora:four"), "write NAME:SIZE, as in lora:4"),
        (("--seeds", "4-0"), "--seeds: expected whole numbers and ranges, as in 0-4 or 0,3,7-9, got '4-0'"),
        (("--baseline", "lora:3"), "--baseline: 'lora:3' is not one of the methods compared: autolora, lora:4"),
        (("--interval", "normal"), "an interval is one of t, bootstrap; there is no 'normal'"),
        (("--set", "cola:search.steps=3"), "none of the recipes is called 'cola'; they are: tiny"),
        (("--set", "search.stepz=3"), "search.stepz"),
    ],
)
def test_bad_input_is_one_message_before_anything_is_run(
    call: Call, laboratory: Path, tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    code, _, err = call("compare", laboratory / "tiny.yaml", "--output", tmp_path / "runs", *arguments)
    assert (code, message in err) == (2, True), err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_a_method_that_builds_on_another_says_so_when_run_alone(call: Call, laboratory: Path, tmp_path: Path) -> None:
    code, _, err = call(
        "run", laboratory / "tiny.yaml", "--set", "method.name=shuffled", "--output", tmp_path, "--seed", "5"
    )
    assert code == 2
    assert "autolora compare RECIPE --methods shuffled --seeds 5" in err


def test_what_builds_on_a_cell_that_failed_is_not_begun_and_says_so(
    call: Call, laboratory: Path, tmp_path: Path
) -> None:
    arguments = ("--methods", "shuffled,lora:2", "--seeds", "0", "--output", tmp_path, "--set", "retrain.steps=2")
    # a threshold of nearly 1 keeps no component: AutoLoRA has nothing to retrain
    code, _, err = call("compare", laboratory / "tiny.yaml", *arguments, *SHORT[:2], "--set", "search.threshold=0.999")
    assert code == 3, err
    found = cells(tmp_path)
    assert [cell["state"] for cell in found.values()] == ["failed", "success"]
    assert found["shuffled", 0]["reason"] == "it builds on autolora, which did not succeed"
    assert read(Path(str(found["shuffled", 0]["run"])) / "status.json")["stages"] == {}


@pytest.mark.slow
def test_a_cell_that_another_comparison_is_at_is_waited_for_and_gone_on_with(laboratory: Path, tmp_path: Path) -> None:
    arguments = ("--methods", "lora:2", "--seeds", "0", "--output", tmp_path, "--set", "retrain.steps=100")
    first = start("compare", laboratory / "tiny.yaml", *arguments, cwd=laboratory)
    while not (checkpoints := list(tmp_path.glob("tiny/*/retrain/checkpoint.safetensors"))):
        assert first.poll() is None, first.communicate()
        time.sleep(0.002)
    run = checkpoints[0].parents[1]
    worker = read(run / ".lock.json")["pid"]
    os.kill(worker, signal.SIGSTOP)
    second = start("compare", laboratory / "tiny.yaml", *arguments, cwd=laboratory)
    assert second.stderr is not None
    said = next((said for said in second.stderr if "is waited for" in said), "")
    assert said == (
        f"tiny lora:2 seed 0: process {first.pid} on {socket.gethostname()} since "
        f"{said.partition(' since ')[2].partition(' ')[0]} is at it, and is waited for\n"
    )
    first.send_signal(signal.SIGTERM)
    os.kill(worker, signal.SIGCONT)
    code, err = finish(first)
    assert (code, err.splitlines()[-1]) == (
        130,
        "autolora: cancelled; the same command goes on from the last checkpoint",
    )
    code, err = finish(second)
    assert code == 0, err
    assert list((tmp_path / "tiny").iterdir()) == [run]
    assert set(stage_states(run).values()) == {"success"}
    assert not list(run.glob(".lock*"))


SQUEEZING = (
    *("--set", "search={estimator: none, rank: 4}", "--set", "retrain.start=searched", "--set", "retrain.steps=12"),
    *("--set", "ranks={score: fisher, rule: budget, budget: {rank: 1}}"),
)


def test_a_recipe_that_squeezes_is_compared_with_what_squeezing_is_measured_by(
    call: Call, laboratory: Path, tmp_path: Path
) -> None:
    recipe, output = laboratory / "tiny.yaml", ("--seeds", "0", "--output", tmp_path)
    code, _, err = call("compare", recipe, *output, *SQUEEZING, "--dry-run")
    assert code == 0, err
    planned = [line for line in err.splitlines() if line.startswith("to run: ")]
    methods = ("squeeze", "squeeze-uniform", "lora-matched", "lora:4")
    assert planned == [f"to run: tiny {method} seed 0" for method in methods]
    # 6 steps and 10 for the Fisher information once, 6 twice, and 12 twice
    assert " 52 " in err
    code, _, err = call("compare", recipe, *output, *SQUEEZING, "--methods", "squeeze,autolora")
    assert code == 2
    assert "tiny, method autolora: search.estimator: none learns no selection variables" in err
    code, _, err = call("compare", recipe, *output, *SQUEEZING, "--methods", "squeeze,shuffled")
    assert code == 2
    assert "tiny, method shuffled: search.estimator: none learns no selection variables" in err
    assert list(tmp_path.iterdir()) == []


def test_the_help_says_the_default_methods(call: Call) -> None:
    code, out, _ = call("compare", "--help")
    assert code == 0
    said = "".join(out.replace("│", " ").split())
    assert f"default:{PAPER};" in said
    assert "recipesthatsqueeze:squeeze,squeeze-uniform,lora-matched,lora:k" in said
