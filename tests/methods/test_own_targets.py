"""A method that names the layers that it adapts, beside a recipe that names others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autolora.comparison.plan import check_plan, plan
from autolora.context.base import Context
from autolora.errors import RecipeError, UserError
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import check_recipe, load_recipe
from autolora.lora.ranks import Ranks
from autolora.lora.stored import rank_in, read_config
from autolora.recipe.method import parse_method
from autolora.recipe.schema import Recipe
from autolora.runs.store import Run
from tests.laboratory import of_an_earlier_version, tiny_run
from tests.methods.linked import LAYERS, RANKS, built_on, learned_run, spent

KEYS = [f"bert.encoder.layer.{i}.attention.self.key" for i in range(2)]


def of_two(laboratory: Path, *overrides: Any) -> Recipe:
    return load_recipe(laboratory / "tiny.yaml", ["model.target_modules=[query, value]", *overrides])


@pytest.mark.parametrize(
    ("word", "count", "first"),
    [("key", 2, KEYS[0]), ("all-linear", 13, LAYERS[0]), ("0.attention.self.key", 1, KEYS[0])],
)
def test_a_whole_run_trains_stores_and_evaluates_them(
    laboratory: Path, tmp_path: Path, word: str, count: int, first: str
) -> None:
    run, context = tiny_run(
        laboratory, tmp_path, f"lora:2:targets={word}", "model.target_modules=[query, value]", "retrain.steps=5"
    )
    assert "-lora-2-targets-" in run.path.name
    run_stages(run, context)
    assert dict(run.ranks()) == dict.fromkeys(run.ranks(), 2)
    assert (len(run.ranks()), next(iter(run.ranks()))) == (count, first)
    stored = read_config(run.path / "adapter")
    assert {name for name in [*LAYERS, *KEYS] if rank_in(stored, name)} == {*LAYERS, *KEYS} & set(run.ranks())
    assert run.stage_state("eval") == "success"
    assert run.recipe.model.target_modules == ("query", "value")
    noted = spent(run, "retrain")["target_modules"]
    assert noted == ([word] if word != "all-linear" else list(run.ranks()))


def test_a_search_is_over_them(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "autolora:targets=key", "search.steps=2", "retrain.steps=2")
    run_stages(run, context)
    assert list(run.ranks()) == KEYS


def test_autoloras_budget_may_go_to_other_layers(laboratory: Path, tmp_path: Path) -> None:
    learned = learned_run(laboratory, tmp_path)  # 7 components of query and value
    Ranks(RANKS, initial_rank=4, shapes=dict.fromkeys(RANKS, (32, 32))).save(learned.path / "search" / "ranks.json")
    run, context = built_on(
        laboratory, tmp_path, "lora-matched:targets=key+query", learned, overrides=("retrain.steps=2",)
    )
    run_stages(run, context)
    assert [name.rpartition(".")[2] for name in run.ranks()] == ["query", "key", "query", "key"]
    assert run.ranks().total == 7


def test_the_uniform_lora_that_is_compressed_is_on_them(laboratory: Path, tmp_path: Path) -> None:
    recipe = of_two(laboratory)
    trials = [trial.recipe.method for trial in plan([recipe], [parse_method("svd:4:targets=key")], [0], tmp_path)]
    assert trials[-2:] == [parse_method("lora:4:targets=key"), parse_method("svd:4:targets=key")]
    assert trials[0] == parse_method("autolora")


@pytest.mark.parametrize("method", ["full", "head", "houlsby", "prefix", "bitfit"])
def test_methods_that_adapt_no_layers_are_refused_before_anything_is_run(laboratory: Path, method: str) -> None:
    said = f"method '{method}' puts LoRA on no layers, so there are none to choose for it; leave targets out"
    settings = parse_method(f"{method}:targets=query")
    with pytest.raises(UserError, match=said):
        check_plan([of_two(laboratory)], [settings])
    with pytest.raises(RecipeError, match=f"--set method.targets=.*: method.targets: {said}"):
        of_two(laboratory, f"method.name={method}", "method.targets=[query]")
    with pytest.raises(RecipeError, match=f"recipe: method.targets: {said}"):
        check_recipe(of_two(laboratory).model_copy(update={"method": settings}))


@pytest.mark.parametrize("method", ["shuffled", "random"])
def test_controls_that_permute_autoloras_ranks_keep_its_layers(laboratory: Path, method: str) -> None:
    with pytest.raises(UserError, match=f"method '{method}' gives AutoLoRA's own layers other ranks"):
        check_plan([of_two(laboratory)], [parse_method(f"{method}:targets=key")])


def test_names_and_ranks_of_a_recipes_own_method_are_checked_against_the_models_files(laboratory: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"method.targets: 'kye' matches no layer of the model \(did you mean 'key'\?"
    ):
        of_two(laboratory, "method.name=lora", "method.size=2", "method.targets=[query, kye]")
    for targets in ("[key]", "all-linear"):
        with pytest.raises(RecipeError, match=r"method.size: rank 33 is above the smaller side of .*\(32\)") as error:
            of_two(laboratory, "method.name=lora", "method.size=33", f"method.targets={targets}")
        assert len(error.value.faults) == 1
    both = of_two(laboratory, "method.name=lora", "method.size=32", "method.targets=[key]", "model.target_modules=null")
    assert both.method.targets == ("key",)


def test_what_does_not_fit_the_model_is_said_of_the_methods_setting(laboratory: Path, tmp_path: Path) -> None:
    run, context = tiny_run(laboratory, tmp_path, "lora:2:targets=classifier")
    with pytest.raises(UserError, match=r"^method.targets: classifier lies in the head"):
        run_stages(run, context)
    assert not list(run.path.rglob("log.jsonl"))


def test_a_recipe_without_such_layers_is_checked_without_torch(laboratory: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from autolora.experiment.preflight import load_recipe; "
        f"load_recipe(Path({str(laboratory / 'tiny.yaml')!r}), ['model.target_modules=all-linear']); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_run_of_before_is_the_trial_that_it_was(laboratory: Path, tmp_path: Path) -> None:
    """Recipes that were written without the setting are those that leave it out."""
    run, _ = tiny_run(laboratory, tmp_path, "lora:2")
    of_an_earlier_version(run.path)
    path = run.path / "recipe.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text("".join(line for line in text.splitlines(True) if "targets:" not in line), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    found = plan([Run.open(run.path).recipe], [parse_method("lora:2")], [3], tmp_path)
    assert [trial.run.path for trial in found if trial.run is not None] == [run.path]
    assert Context(Run.open(run.path).recipe, show=False).recipe.method.targets is None


def test_many_names_still_make_a_folder(laboratory: Path, tmp_path: Path) -> None:
    names = [f"bert.encoder.layer.{i}.attention.self.{kind}" for i in range(2) for kind in ("query", "key", "value")]
    run, _ = tiny_run(laboratory, tmp_path, f"lora:2:targets={'+'.join(names)}")
    assert run.path.is_dir()
    assert Run.open(run.path).recipe.method.targets == tuple(names)
