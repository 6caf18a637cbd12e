"""What is known of planted models without any library is what the models are; what recipes may not say of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolora.errors import RecipeError, UserError
from autolora.experiment.preflight import load_recipe
from autolora.lora.targets import target_shapes
from autolora.planted.kinds import KINDS, PROJECTIONS, Kind, Size, kind_and_seed, layer_shapes, seeded
from autolora.planted.ranks import planted_ranks
from autolora.planted.truth import plant, true_ranks
from autolora.recipe.schema import Model
from autolora.recipe.shipped import find_recipe
from tests.cli.support import autolora, imported, said


@pytest.mark.parametrize("size", [Size(), Size(layers=2, hidden=16, intermediate=24)], ids=["default", "small"])
def test_the_layers_are_the_models_in_its_order(size: Size) -> None:
    truth = plant("mixed", 0, size)
    assert layer_shapes(size) == truth.shapes
    assert list(layer_shapes(size).items()) == list(target_shapes(truth.base, PROJECTIONS).items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_ranks_of_a_recipe_are_those_that_are_planted_at_its_seed(kind: Kind) -> None:
    for seed in (0, 4):
        recipe = load_recipe(find_recipe(f"planted/{kind}"), seed=seed)
        found, truth = planted_ranks(recipe), plant(kind, seed)
        assert dict(found) == truth.ranks == true_ranks(kind, seed)
        assert found.parameters == truth.parameters
        assert (found.initial_rank, found.lora_alpha) == (8, 16.0)


def test_a_seed_goes_into_the_name_and_comes_out_again() -> None:
    assert seeded(Model(name="planted:flat"), 7).name == "planted:flat@7"
    assert kind_and_seed("planted:flat@7") == ("flat", 7)
    assert seeded(Model(name="a/b"), 7).name == "a/b"
    for name in ("planted:flat", "a/b", "flat@7"):
        with pytest.raises(UserError, match="a planted model is named planted:KIND@SEED"):
            kind_and_seed(name)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.name", "planted:mixd", "no planted truth 'mixd'; there is: sparse, mixed, flat; did you mean 'mixed'?"),
        ("model.name", "planted:mixed@3", "the truth's seed is the recipe's"),
        ("model.name", "a/b", "planted data is what a planted model's teacher says, and the model is 'a/b'"),
        ("data.generated", "acceptability", "planted:mixed knows the words of its own teacher only"),
        ("data.columns", ["sentence"], "'sentence'"),
        ("model.target_modules", ["quary"], "did you mean 'query'?"),
        ("model.target_modules", ["query", "classifer"], "did you mean 'classifier'?"),
        ("model.head", ["pooler"], "'pooler' matches no module"),
        ("search.rank", 33, "rank 33 is above the smaller side of bert.encoder.layer.0"),
        ("eval.metrics", ["accuracy"], "'accuracy' is a metric of classes, and the task's outputs are vectors"),
    ],
)
def test_what_cannot_be_is_a_fault_of_the_recipe(field: str, value: object, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(find_recipe("planted/mixed"), {field: value})
    assert message in str(caught.value)


def test_planted_recipes_are_validated_without_a_heavy_import(tmp_path: Path) -> None:
    names = [f"planted/{kind}" for kind in KINDS]
    done = autolora("recipes", "validate", *names, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert (done.returncode, done.stdout.count(": ok")) == (0, 3), said(done.stderr)
    assert imported(done.stderr) & {"torch", "transformers", "datasets", "peft"} == set()
