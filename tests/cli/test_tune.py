"""Rates that are chosen on a held-out part of the training split, by the command line."""

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest
import yaml

import autolora
from tests.cli.support import Call, finish, freeze_when, read, start, succeed, succeed_here

pytestmark = pytest.mark.usefixtures("small_pictures")

SHORT = ("--set", "search.steps=4", "--set", "retrain.steps=12")
RATES = "learning_rate=1e-5,2e-2"
FIXED = ("comparison.md", "scores.csv", "table.tex")


def options(output: Path, methods: str = "lora:2,lora:1:learning_rate=1e-2", seeds: str = "0-1") -> list[str | Path]:
    return ["--methods", methods, "--seeds", seeds, "--tune", RATES, "--output", output, *SHORT]


def tuning_runs(output: Path) -> list[Path]:
    return sorted((output / "tiny" / "_tuning").iterdir())


def reported_runs(output: Path) -> list[Path]:
    return sorted(path for path in (output / "tiny").iterdir() if path.name != "_tuning")


def tables(output: Path) -> dict[str, bytes]:
    return {name: (output / "comparisons" / "tiny" / name).read_bytes() for name in FIXED}


def choices(output: Path) -> list[dict[str, str]]:
    """The rows of the tuning table without what it took."""
    rows = csv.DictReader((output / "comparisons" / "tiny" / "tuning.csv").open())
    return [{name: cell for name, cell in row.items() if name != "tuning s"} for row in rows]


@pytest.fixture(scope="module")
def tuned(laboratory: Path) -> Path:
    """The output folder of a tuned comparison that nothing interrupted. To be read only."""
    output = laboratory / "tuned"
    succeed_here("compare", "tiny.yaml", *options(output), cwd=laboratory)
    return output


def test_the_reported_trials_have_the_best_rate_under_the_methods_plain_word(tuned: Path) -> None:
    (row,) = choices(tuned)
    assert (row["method"], row["metric"], row["seed"]) == ("lora:2", "accuracy", str(2**32 - 1))
    scores = {rate: float(row[rate]) for rate in ("1e-05", "0.02")}
    assert row["chosen"] == max(sorted(scores, key=float), key=lambda rate: scores[rate])
    folder = tuned / "comparisons" / "tiny"
    trials = read(folder / "trials.json")
    assert [(each["method"], each["seed"]) for each in trials] == [
        (method, seed) for method in ("lora:2", "lora:1:learning_rate=0.01") for seed in (0, 1)
    ]
    for each in trials[:2]:
        recipe = yaml.safe_load((folder / each["run"] / "recipe.yaml").read_text())
        given = {"name": "lora", "size": 2, "learning_rate": float(row["chosen"])}
        assert recipe["method"].items() >= given.items()
        assert recipe["data"]["splits"] == {"train": "train", "eval": ["validation"], "held_out": None}
    text = (folder / "comparison.md").read_text()
    end = "smallest" if row["chosen"] == "1e-05" else "largest"
    assert f"tiny, lora:2: the best rate is the {end} of the grid, {row['chosen']}: widen it." in text
    assert "tiny: the training loss of lora:2 has too few finite records" in text


def test_tuning_trials_are_runs_of_their_own_that_no_table_has(tuned: Path) -> None:
    found = tuning_runs(tuned)
    assert len(found) == 2
    for run in found:
        assert [row["split"] for row in read(run / "metrics.json")] == ["held-out"]
        assert {path.name for path in (run / "predictions").iterdir()} == {"held-out.jsonl"}
        assert set(read(run / "manifest.json")["stages"]["eval"]["data"]) == {"train", "held-out"}
    assert len(reported_runs(tuned)) == 4
    cost = sum(read(run / "manifest.json")["stages"]["retrain"]["seconds"] for run in found)
    (row,) = csv.DictReader((tuned / "comparisons" / "tiny" / "tuning.csv").open())
    assert float(row["tuning s"]) == pytest.approx(cost, abs=0.5)


def test_the_same_again_runs_nothing_and_more_seeds_are_not_tuned_anew(
    call: Call, laboratory: Path, tuned: Path, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(tuned, tmp_path / "runs"))
    before = {path: path.read_bytes() for path in output.glob("tiny/**/manifest.json")}
    code, out, err = call("compare", laboratory / "tiny.yaml", *options(output))
    assert code == 0, err
    assert "[1 of" not in err
    assert "Choosing the learning rates took" in out
    assert tables(output) == tables(tuned)
    code, _, err = call("compare", laboratory / "tiny.yaml", *options(output, "lora:2", "0-2"))
    assert code == 0, err
    assert {path: path.read_bytes() for path in before} == before
    assert len(tuning_runs(output)) == 2
    assert len(reported_runs(output)) == 5


@pytest.mark.slow
def test_a_comparison_killed_while_it_tunes_gives_the_same_tables(laboratory: Path, tuned: Path) -> None:
    output = laboratory / "tuned-killed"
    process = start("compare", "tiny.yaml", *options(output), cwd=laboratory)
    freeze_when(process, lambda: len(list(output.glob("tiny/_tuning/*/metrics.json"))) >= 1)
    finish(process, signal.SIGKILL)
    assert reported_runs(output) == []
    succeed("compare", "tiny.yaml", *options(output), cwd=laboratory)
    assert tables(output) == tables(tuned)
    assert choices(output) == choices(tuned)
    assert len(tuning_runs(output)) == 2


@pytest.mark.slow
def test_the_evaluation_split_has_no_part_in_the_choice(laboratory: Path, tuned: Path, tmp_path: Path) -> None:
    """Other rows to evaluate on, with every label turned round: the same scores of the grid, other ones reported."""
    place = tmp_path / "laboratory"
    shutil.copytree(laboratory / "data", place / "data")
    (place / "model").symlink_to(laboratory / "model")
    shutil.copy(laboratory / "tiny.yaml", place)
    file = place / "data" / "validation.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, "label": 1 - row["label"]}) + "\n" for row in rows[:15]))
    output = tmp_path / "runs"
    succeed("compare", "tiny.yaml", *options(output, seeds="0"), cwd=place)
    assert choices(output) == choices(tuned)
    for ours, theirs in zip(tuning_runs(output), tuning_runs(tuned), strict=True):
        for name in ("metrics.json", "predictions/held-out.jsonl", "adapter/adapter_model.safetensors"):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert tables(output)["scores.csv"] != tables(tuned)["scores.csv"]


def test_a_dry_run_shows_the_trials_of_tuning_and_counts_them(
    call: Call, laboratory: Path, tuned: Path, tmp_path: Path
) -> None:
    output = tmp_path / "runs"
    code, _, err = call("compare", laboratory / "tiny.yaml", *options(output, "lora:2,lora-matched", "0"), "--dry-run")
    assert code == 0, err
    for said in (
        "to run: tiny lora:2:learning_rate=1e-05 tuning seed 4294967295",
        "to run: tiny lora-matched:learning_rate=0.02 tuning seed 4294967295",
        "to run: tiny autolora tuning seed 4294967295 (built on by others)",
        "to run: tiny lora-matched seed 0 at the rate that tuning chooses",
        "to run: tiny autolora seed 0 (built on by others)",
        "5 of the 8 trials are for tuning, and are not reported",
        " 96 ",  # training steps: 12 for each of the eight trials
    ):
        assert said in err
    assert not output.exists()
    code, _, err = call("compare", laboratory / "tiny.yaml", *options(tuned, "lora:2", "0"), "--dry-run")
    (chosen,) = {row["chosen"] for row in choices(tuned)}
    assert f"done: tiny lora:2:learning_rate={chosen} seed 0: " in err


def test_a_report_of_the_comparison_or_of_all_runs_has_no_trial_of_tuning(
    call: Call, tuned: Path, tmp_path: Path
) -> None:
    code, _, err = call("report", tuned / "comparisons" / "tiny", "--output", tmp_path / "one")
    assert code == 0, err
    text = (tmp_path / "one" / "report.md").read_text()
    assert "| lora:2 " in text
    assert "lora:2:learning" not in text, "the word that it was asked for by"
    assert "Learning rates: scores of the grid, and which was chosen" in text
    code, _, err = call("report", tuned / "tiny", "--output", tmp_path / "all")
    assert code == 0, err
    assert str(2**32 - 1) not in (tmp_path / "all" / "report.md").read_text()


def test_a_method_none_of_whose_rates_gives_a_score_is_refused_and_the_others_go_on(
    call: Call, laboratory: Path, tmp_path: Path
) -> None:
    """Two steps are too few for AdaLoRA, at any rate."""
    arguments = options(tmp_path, "adalora,lora:1:learning_rate=1e-2", "0")
    code, _, err = call("compare", laboratory / "tiny.yaml", *arguments, "--set", "retrain.steps=2")
    assert code == 3
    assert "Traceback" not in err
    folder = tmp_path / "comparisons" / "tiny"
    assert [(each["method"], each["state"]) for each in read(folder / "trials.json")] == [
        ("adalora", "missing"),
        ("lora:1:learning_rate=0.01", "success"),
    ]
    (failed,) = csv.DictReader((folder / "failures.csv").open())
    assert failed["reason"].startswith("no learning rate of the grid (1e-05, 0.02) gave it a score: ")
    assert "2 steps are too few for its schedule" in failed["reason"]
    refused, built_on = choices(tmp_path)
    assert (refused["method"], refused["1e-05"], refused["0.02"], refused["chosen"]) == ("adalora", *["failed"] * 2, "")
    assert (built_on["method"], built_on["chosen"]) == ("autolora (built on)", "")
    code, _, err = call("report", folder)
    assert code == 0, err
    assert "adalora, seed 0: missing: no learning rate of the grid" in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tune", "lr=1e-3,1e-4"), "--tune: what is tuned is learning_rate, got 'lr'"),
        (("--tune", "learning_rate=1e-3"), "--tune: a grid has two different rates or more, got 1"),
        (("--tune", RATES, "--methods", "lora:2:learning_rate=1e-3"), "every method has a learning rate in its word"),
        (("--tune", RATES, "--set", "data.splits.held_out=0.2"), "tiny holds out a part of its training split already"),
    ],
)
def test_a_grid_that_cannot_be_tried_is_one_message(
    call: Call, laboratory: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = call("compare", laboratory / "tiny.yaml", "--output", tmp_path / "runs", *arguments)
    assert (code, message in err) == (2, True), err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_python_takes_the_grid_too(laboratory: Path, tuned: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(tuned, tmp_path / "runs"))
    tune = {"learning_rate": [2e-2, 1e-5]}
    short = {"search__steps": 4, "retrain__steps": 12}
    found = autolora.compare(laboratory / "tiny.yaml", "lora:2", [0, 1], output=output, tune=tune, **short)
    assert [(result.method, result.state) for result in found.results] == [("lora:2", "success")] * 2
    (row,) = found.rows("tuning")
    assert {name: str(cell) for name, cell in row.items() if name != "tuning s"} == choices(tuned)[0]
    assert len(reported_runs(output)) == 4, "nothing is run that was run before"
