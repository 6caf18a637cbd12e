"""Keeping finished trials: what is left counts as done, and says nothing of where it was made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autolora.comparison.plan import trials_of
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_method
from autolora.runs.results import read_result
from autolora.runs.store import Run
from benchmarks.keep import finished, keep
from tests.laboratory import tiny_run


def test_a_kept_trial_is_done_and_says_the_same(laboratory: Path, tmp_path: Path) -> None:
    data = tmp_path / "far"
    shutil.copytree(laboratory / "data", data / "data")
    recipe = load_recipe(laboratory / "tiny.yaml", ["retrain.steps=4"], data_root=data, seed=3)
    run = Run.create(tmp_path / "made", recipe.model_copy(update={"method": parse_method("lora:2")}))
    run_stages(run, Context(run.recipe, show=False))
    unfinished, _ = tiny_run(laboratory, tmp_path / "made", "lora:4", "retrain.steps=4", seed=3)
    assert [each.path for each in finished(tmp_path / "made")] == [run.path]
    kept = Run.open(keep(run, tmp_path / "kept"))
    assert read_result(kept).scores == read_result(run).scores
    assert read_result(kept).trainable_parameters == read_result(run).trainable_parameters
    done, begun = trials_of([run.recipe, unfinished.recipe], tmp_path / "kept")
    assert (done.done, begun.done) == (True, False)
    assert not list(kept.path.rglob("*.safetensors"))
    text = "".join(path.read_text(encoding="utf-8") for path in kept.path.rglob("*") if path.is_file())
    assert str(data) not in text
    assert not {"data", "platform"} & kept.manifest().keys()


def test_what_names_the_datas_place_is_not_kept(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path / "made", "lora:2", "retrain.steps=4", seed=3)
    run_stages(run, context)  # of a model that lies beside the data
    with pytest.raises(UserError, match=r"recipe\.yaml names .*; it is not to be kept"):
        keep(run, tmp_path / "kept")
    assert not list((tmp_path / "kept").rglob("recipe.yaml"))
