"""Metrics and methods of another package, registered by entry points: used when named, refused when they clash."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import autolora, only_run, read, served

TOY = """\
import sys
from collections.abc import Mapping

from autolora import Metric, Output
from autolora.methods.peft import GivenRanks

print("toy was imported", file=sys.stderr)


def mistakes(predictions, references):
    return {"mistakes": float(sum(p != r for p, r in zip(predictions, references, strict=True)))}


MISTAKES = Metric("mistakes", mistakes, (Output("mistakes", higher_is_better=False, high=None),))


class Staircase(GivenRanks):
    "Ranks 0, 1, 2, 0, 1, 2, … over the layers."

    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        return {name: i % 3 for i, name in enumerate(shapes)}
"""
ENTRIES = {"metrics": {"mistakes": "toy:MISTAKES"}, "methods": {"staircase": "toy:Staircase"}}


def install(folder: Path, name: str, entries: dict[str, dict[str, str]]) -> None:
    """Lay out an installed package with entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    groups = [f"[autolora.{g}]\n" + "".join(f"{k} = {v}\n" for k, v in each.items()) for g, each in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder to be put on the path."""
    folder = tmp_path / "site"
    install(folder, "toy", ENTRIES)
    (folder / "toy.py").write_text(TOY, encoding="utf-8")
    return folder


def run(
    laboratory: Path,
    site: Path,
    output: Path,
    *settings: str,
    by: Callable[..., subprocess.CompletedProcess[str]] = served,
) -> tuple[int, str]:
    options = [part for setting in ("retrain.steps=2", *settings) for part in ("--set", setting)]
    path = ":".join([str(site), *filter(None, [environment_path()])])
    done = by("run", "tiny.yaml", "--output", output, *options, cwd=laboratory, PYTHONPATH=path)
    return done.returncode, done.stderr


def environment_path() -> str:
    import os

    return os.environ.get("PYTHONPATH", "")


def test_a_metric_and_a_method_of_another_package_are_used(laboratory: Path, toy: Path, tmp_path: Path) -> None:
    settings = ("method.name=staircase", "eval.metrics=[mistakes, accuracy]")
    code, err = run(laboratory, toy, tmp_path / "runs", *settings, by=autolora)
    assert code == 0, err
    assert "toy was imported" in err
    made = only_run(tmp_path / "runs")
    ranks = read(made / "search" / "ranks.json")["ranks"]
    assert list(ranks.values()) == [i % 3 for i in range(len(ranks))]
    (row,) = read(made / "metrics.json")
    assert row["mistakes"] == round((1 - row["accuracy"]) * row["examples"])
    evaluated = read(made / "manifest.json")["stages"]["eval"]
    assert (evaluated["metric"], evaluated["higher_is_better"]) == ("mistakes", False)


def test_it_is_not_imported_where_nothing_names_it(laboratory: Path, toy: Path, tmp_path: Path) -> None:
    code, err = run(laboratory, toy, tmp_path / "runs", "method={name: lora, size: 1}")
    assert code == 0, err
    assert "toy was imported" not in err


def test_a_misspelt_name_is_compared_with_those_of_other_packages(laboratory: Path, toy: Path, tmp_path: Path) -> None:
    code, err = run(laboratory, toy, tmp_path / "runs", "eval.metrics=[mistaks]")
    assert code == 2
    assert "did you mean 'mistakes'?" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("entries", "setting", "message"),
    [
        ({"metrics": {"accuracy": "toy:MISTAKES"}}, "eval.metrics=[accuracy]", "the metric 'accuracy' is registered 2"),
        ({"methods": {"staircase": "x:Y"}}, "method.name=staircase", "the method 'staircase' is registered 2 times"),
        ({"metrics": {"gone": "nowhere:M"}}, "eval.metrics=[gone]", "cannot be imported: ModuleNotFoundError"),
        ({"methods": {"metric": "toy:MISTAKES"}}, "method.name=metric", "must be a subclass of autolora.methods.base"),
        ({"metrics": {"method": "toy:Staircase"}}, "eval.metrics=[method]", "must be an instance of autolora.metrics"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    laboratory: Path, toy: Path, tmp_path: Path, entries: dict[str, dict[str, str]], setting: str, message: str
) -> None:
    install(toy, "second", entries)
    code, err = run(laboratory, toy, tmp_path / "runs", setting)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not list((tmp_path / "runs").rglob("search"))
