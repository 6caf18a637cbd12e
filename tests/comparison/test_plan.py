"""Which runs a comparison takes for its own, and where its tables lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolora.comparison.compare import comparison_folder
from autolora.comparison.plan import check_plan, plan
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_method, parse_methods
from autolora.recipe.schema import Recipe
from autolora.runs.store import Run

LORA = parse_method("lora:2")


def called(recipe: Recipe, *names: str) -> list[Recipe]:
    return [recipe.model_copy(update={"name": name}) for name in names]


def test_a_run_whose_card_says_something_else_is_not_made_again(laboratory: Path, tmp_path: Path) -> None:
    plain = load_recipe(laboratory / "tiny.yaml").model_copy(update={"method": LORA})
    run = Run.create(tmp_path, plain)
    run.recipe = load_recipe(laboratory / "tiny.yaml", ["card.license=mit", "card.language=[en]"])
    run.recipe = run.recipe.model_copy(update={"method": LORA})
    run.save_recipe()  # as autolora card --set does
    (trial,) = plan([plain], [LORA], [0], tmp_path)
    assert trial.run is not None
    assert trial.run.path == run.path


def test_no_two_sets_of_recipes_have_their_tables_in_one_folder(laboratory: Path, tmp_path: Path) -> None:
    recipe = load_recipe(laboratory / "tiny.yaml")
    sets = (
        ("x/a", "x/b"),
        ("x/a-b",),
        ("x/a-b", "x/c"),
        ("x/a", "x/b-c"),
        ("glue/cola", "nlg/e2e"),
        ("glue-mini/cola", "nlg/e2e"),
        ("glue/cola", "glue-mini/rte"),
        ("glue-mini/cola", "glue/rte"),
    )
    folders = [comparison_folder(tmp_path, called(recipe, *names)) for names in sets]
    assert len(set(folders)) == len(sets)
    assert folders[:2] == [tmp_path / "comparisons/x/a+b", tmp_path / "comparisons/x/a-b"]
    turned = [comparison_folder(tmp_path, called(recipe, *reversed(names))) for names in sets]
    assert turned == folders


def test_many_recipes_have_a_folder_that_every_file_system_takes(laboratory: Path, tmp_path: Path) -> None:
    recipe = load_recipe(laboratory / "tiny.yaml")
    many = [f"glue/task-number-{i}" for i in range(40)]
    fields = ["retrain.weights.learning_rate", "search.weights.learning_rate", "search.rank"]
    sets = ((many, []), (many[:-1], []), (many, fields), (["x" * 200], fields), (["x" * 200], fields[1:]))
    folders = [comparison_folder(tmp_path, called(recipe, *names), by) for names, by in sets]
    assert len(set(folders)) == len(sets)
    for folder in folders:
        folder.mkdir(parents=True)


@pytest.mark.parametrize(
    "words",
    [
        "lora-grid,lora-grid:16",
        "squeeze:budget=rank=1,squeeze:k=4:budget=rank=1",  # the recipe's search.rank
        "squeeze:budget=rank=1,squeeze:at=0.5:budget=rank=1",
        "lora-matched:budget=rank=1,lora-matched:budget=rank=1:targets=key+query",
        "lora:2,lora:2:learning_rate=0.005",
        "full,full:learning_rate=2e-5",
        "lora-plus:2,lora-plus:2:ratio=16",
        "svd,svd:4",
    ],
)
def test_one_method_in_two_spellings_is_refused(laboratory: Path, words: str) -> None:
    """It would count twice in every correction."""
    changes = ["search.rank=4", "retrain.weights.learning_rate=5e-3", "model.target_modules=[query,key]"]
    recipe, two = load_recipe(laboratory / "tiny.yaml", changes), parse_methods(words)
    with pytest.raises(UserError, match="are one method here; leave one of them out"):
        check_plan([recipe], two)
    for one in two:
        check_plan([recipe], [one, one])  # of a grid of rates, say


def test_methods_that_are_the_same_for_one_recipe_of_two_are_compared(laboratory: Path) -> None:
    recipes = [load_recipe(laboratory / "tiny.yaml", [f"search.rank={rank}", f"name=tiny{rank}"]) for rank in (4, 8)]
    check_plan(recipes, parse_methods("squeeze:budget=rank=1,squeeze:k=4:budget=rank=1,squeeze:k=2:budget=rank=1"))
