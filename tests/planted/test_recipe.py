"""Planted truth through a recipe: one seed for everything, the oracle, and how well ranks were recovered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.comparison.outcome import outcome
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.api import run
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.experiment.prepare import prepare
from autolora.planted.truth import plant
from autolora.recipe.method import parse_method
from autolora.recipe.schema import Recipe
from autolora.recipe.shipped import find_recipe
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning
from tests.cli.support import contents, only_run, read, served, settings, succeed
from tests.laboratory import tiny_run
from tests.methods.linked import interrupting

SHORT = {"retrain.steps": 12, "retrain.checkpoint_every": 4, "search.steps": 3, "data.limits.eval": 50}
INTERRUPTED_AT = 6  # after the checkpoint at step 4


def recipe_of(method: str, seed: int = 0, **overrides: Any) -> Recipe:
    values = {**SHORT, **{name.replace("__", "."): value for name, value in overrides.items()}}
    recipe = load_recipe(find_recipe("planted/mixed"), values, seed=seed)
    return recipe.model_copy(update={"method": parse_method(method)})


def finished(folder: Path, recipe: Recipe) -> Run:
    made = Run.create(folder, recipe)
    run_stages(made, Context(recipe, show=False))
    return made


def test_the_recipes_seed_makes_model_and_data_the_same_for_every_method() -> None:
    one, other = (Context(recipe_of("lora:2", seed=seed), show=False) for seed in (1, 2))
    again = Context(recipe_of("oracle", seed=1), show=False)
    assert one.hashes == again.hashes
    assert set(one.hashes.values()).isdisjoint(other.hashes.values())
    base = plant("mixed", seed=1).base.state_dict()
    for context in (one, again):
        loaded = context.model().state_dict()
        assert loaded.keys() == base.keys()
        assert all(torch.equal(loaded[name], base[name]) for name in base)
        assert context.head(context.model()) == []
    assert not all(torch.equal(value, base[name]) for name, value in other.model().state_dict().items())


def test_the_rows_are_the_teachers_and_the_bases_outputs_whatever_the_number_of_threads() -> None:
    truth, context = plant("mixed", seed=1), Context(recipe_of("oracle", seed=1), show=False)
    inputs, outputs = truth.data(1024, "train")
    examples = context.examples("train")
    assert torch.equal(torch.tensor([example["input_ids"] for example in examples]), inputs)
    assert torch.allclose(torch.tensor([example["label"] for example in examples]), outputs, atol=1e-5)
    with torch.no_grad():
        base = truth.base(input_ids=inputs).logits
    assert torch.allclose(torch.tensor([example["base"] for example in examples]), base, atol=1e-5)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert Context(recipe_of("oracle", seed=1), show=False).hashes == context.hashes
    finally:
        torch.set_num_threads(threads)


def test_an_untrained_model_has_the_error_of_one(tmp_path: Path) -> None:
    recipe = recipe_of("lora:1", retrain__weights__learning_rate=1e-12, data__limits__eval=None)
    made = finished(tmp_path, recipe)
    assert read(made.path / "metrics.json")[0]["relative_error"] == pytest.approx(1.0, abs=1e-4)
    assert read(made.path / "adapter" / "adapter_config.json")["base_model_name_or_path"] == "planted:mixed@0"


def test_the_true_ranks_beat_uniform_ones_of_their_size_and_are_recovered(tmp_path: Path) -> None:
    results = [
        run("planted/mixed", output=tmp_path, method__name=name, retrain__steps=120)
        for name in ("oracle", "oracle-uniform")
    ]
    oracle, uniform = results
    assert oracle.score is not None
    assert uniform.score is not None
    assert oracle.score < 0.95 * uniform.score < 0.3
    truth = plant("mixed", seed=0)
    assert oracle.adapter_parameters == truth.parameters
    assert uniform.adapter_parameters is not None
    assert 0.95 * truth.parameters < uniform.adapter_parameters <= truth.parameters
    assert oracle.manifest["stages"]["eval"]["recovery"] == {
        "auc": 1.0,
        "correlation": pytest.approx(1.0),
        "parameters": truth.parameters,
    }
    assert oracle.rows[0]["module AUC"] == 1.0
    assert oracle.rows[0]["rank Spearman"] == pytest.approx(1.0)
    (table,) = [table for table in outcome(results) if table.stem == "recovery"]
    assert [(row["method"], row["size"], row["gap closed"]) for row in table.rows] == [
        ("oracle", "1.00", "100%"),
        ("oracle-uniform", "1.00", "0%"),
    ]


@pytest.mark.parametrize("method", ["autolora", "oracle"])
def test_a_seed_gives_equal_files_twice_also_when_it_is_resumed(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = finished(tmp_path / "a", recipe_of(method))
    recipe = recipe_of(method)
    begun = Run.create(tmp_path / "b", recipe)
    with interrupting(monkeypatch, Finetuning, "advance", INTERRUPTED_AT + 1):
        run_stages(begun, Context(recipe, show=False))
    again = Run.open(begun.path)
    run_stages(again, Context(again.recipe, show=False))
    mine, theirs = contents(first.path), contents(again.path)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []


@pytest.mark.parametrize("method", ["oracle", "oracle-uniform"])
def test_the_oracle_knows_planted_models_only(laboratory: Path, tmp_path: Path, method: str) -> None:
    _, context = tiny_run(laboratory, tmp_path, method)
    with pytest.raises(UserError) as caught:
        prepare(context)
    assert f"method {method!r}: the true ranks are known of planted models only (planted:sparse, " in str(caught.value)


def test_layers_that_are_no_targets_get_nothing(tmp_path: Path) -> None:
    made = finished(tmp_path, recipe_of("oracle", model__target_modules=["query", "value"]))
    planted, found = plant("mixed", seed=0).ranks, made.ranks()
    assert dict(found) == {name: rank for name, rank in planted.items() if name.endswith(("query", "value"))}
    wanted = read(made.path / "manifest.json")["stages"]["eval"]["recovery"]
    assert 0.5 < wanted["auc"] < 1.0


@pytest.mark.slow
def test_the_command_shows_the_recovery_and_compares(tmp_path: Path) -> None:
    short = settings(retrain__steps=4, search__steps=2, data__limits__eval=20)
    done = succeed("run", "planted/sparse", "--set", "method.name=oracle", *short, cwd=tmp_path)
    assert "module AUC" in done.stdout
    assert read(only_run(tmp_path / "runs", "planted/sparse") / "metrics.json")[0]["module AUC"] == 1.0
    methods = "oracle,oracle-uniform,full"
    done = succeed("compare", "planted/flat", "--methods", methods, "--seeds", "0", *short, cwd=tmp_path)
    assert "Planted ranks: how well they were recovered" in done.stdout
    rows = json.loads((tmp_path / "runs/comparisons/planted/flat/recovery.json").read_text())
    assert [(row["method"], row["module AUC"], row["rank Spearman"]) for row in rows] == [
        ("oracle", None, None),  # every layer has the same
        ("oracle-uniform", None, None),
        ("full", None, None),
    ]
    assert [row["size"] for row in rows[:2]] == ["1.00", "1.00"]


def test_the_command_refuses_the_oracle_elsewhere_before_a_run_is_made(laboratory: Path, tmp_path: Path) -> None:
    done = served("run", laboratory / "tiny.yaml", "--set", "method.name=oracle", cwd=tmp_path)
    assert done.returncode == 2
    assert "the true ranks are known of planted models only" in done.stderr
    assert not (tmp_path / "runs").exists()
