"""Settings of search, ranks, retrain and method that contradict each other, in recipes and in comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from autolora.comparison.plan import check_plan
from autolora.errors import RecipeError, UserError
from autolora.experiment.preflight import check_recipe
from autolora.recipe.load import read_recipe
from autolora.recipe.method import parse_method, parse_methods
from autolora.recipe.pairs import check_pairs
from autolora.recipe.schema import MethodSettings, Recipe, Search
from autolora.recipe.stages import RankRule, Retrain
from tests.cli.support import autolora, served

NONE = {"search": {"estimator": "none"}}
FISHER: dict[str, Any] = {"score": "fisher", "rule": "budget", "budget": {"rank": 1}}
SQUEEZE = {**NONE, "ranks": FISHER, "retrain": {"start": "searched"}}


def fields(sections: Mapping[str, Any], word: str | None = None) -> list[str]:
    """The fields that are found wrong, in order."""
    found = check_pairs(
        Search(**sections.get("search", {})),
        RankRule(**sections.get("ranks", {})),
        Retrain(**sections.get("retrain", {})),
        MethodSettings(**sections.get("method", {})) if word is None else parse_method(word),
        lambda field: "here",
    )
    assert all(fault.hint and fault.where == "here" for fault in found)
    return [fault.field for fault in found]


@pytest.mark.parametrize(
    ("sections", "word"),
    [
        ({}, "autolora"),
        ({"search": {"threshold": 0.2}, "retrain": {"scaling": "per_rank"}}, "autolora"),
        ({"retrain": {"start": "searched"}}, "autolora"),
        ({}, "autolora:budget=rank=1"),
        ({"ranks": {**FISHER, "examples": 9}}, "autolora"),
        ({"ranks": {**FISHER, "score": "spectrum", "budget": {"fraction": 1.0}}}, "sigmoid"),
        ({"ranks": {**FISHER, "score": "saliency", "budget": {"tolerance": 0.1}}}, "autolora"),
        (SQUEEZE, "autolora"),  # which it is not any more
        (SQUEEZE, "squeeze:k=2:at=0.25"),
        ({**SQUEEZE, "ranks": {**FISHER, "score": "spectrum"}}, "squeeze-uniform"),
        ({**NONE, "ranks": {"score": "fisher", "rule": "budget"}}, "squeeze:budget=0.5"),
        ({**SQUEEZE, "ranks": {**FISHER, "budget": {"tolerance": 0.1}, "held_out": 0.1}}, "squeeze"),
        ({"search": {"at": 0.25}}, "squeeze:budget=tolerance=0.1"),
        ({"ranks": {"budget": {"rank": 1}}}, "squeeze"),  # it is what squeeze spends; the threshold is AutoLoRA's
        ({"ranks": {"budget": {"rank": 16}}}, "lora-matched"),
        ({"retrain": {"scaling": "per_rank"}}, "fisher-scratch:budget=rank=1"),
        ({"retrain": {"steps": 2}}, "squeeze:budget=rank=1"),
        ({"search": {"meta_learning": False}, "ranks": FISHER}, "autolora"),
    ],
)
def test_what_goes_together_is_taken(sections: Mapping[str, Any], word: str) -> None:
    assert fields(sections, word) == []


@pytest.mark.parametrize(
    ("sections", "word", "wrong"),
    [
        (NONE, "autolora", ["ranks.score", "ranks.rule", "ranks.budget"]),
        ({**NONE, "ranks": {"score": "fisher"}}, "squeeze", ["ranks.rule", "ranks.budget"]),
        ({**NONE, "ranks": {**FISHER, "score": "saliency"}}, "squeeze", ["ranks.score"]),
        *(({**SQUEEZE}, word, ["search.estimator"]) for word in ("sigmoid", "no-constraint", "no-meta", "shuffled")),
        (
            {
                **SQUEEZE,
                "search": {
                    **NONE["search"],
                    **{"steps": 9, "batch_size": 4, "validation_fraction": 0.3, "weights": {"learning_rate": 1e-3}},
                },
            },
            "squeeze",
            ["search.steps", "search.batch_size", "search.validation_fraction", "search.weights"],
        ),
        ({"search": {"at": 0.25}}, "autolora", ["search.at"]),
        ({"ranks": {"score": "fisher"}}, "autolora", ["ranks.rule"]),
        ({"ranks": {"rule": "budget"}}, "autolora", ["ranks.score", "ranks.budget"]),
        ({"ranks": {"budget": {"rank": 1}}}, "autolora", ["ranks.budget"]),
        ({"ranks": {"budget": {"rank": 1}}}, "lora:4", ["ranks.budget"]),
        ({"ranks": FISHER, "search": {"threshold": 0.2}}, "autolora", ["search.threshold"]),
        ({"ranks": {**FISHER, "budget": {"rank": 9}}}, "autolora", ["ranks.budget.rank"]),
        ({}, "squeeze:k=2:budget=rank=3", ["method.budget.rank"]),
        ({}, "autolora:budget=rank=9", ["method.budget.rank"]),
        ({"ranks": {**FISHER, "score": "saliency"}, "search": {"meta_learning": False}}, "autolora", ["ranks.score"]),
        ({"ranks": {**FISHER, "score": "saliency"}}, "no-meta", ["ranks.score"]),
        ({"search": {"meta_learning": False}}, "autolora:budget=rank=1", ["method.budget"]),
        ({"retrain": {"start": "searched", "scaling": "per_rank"}}, "autolora", ["retrain.scaling"]),
        ({"retrain": {"start": "searched", "scaling": "per_rank"}}, "lora:4", ["retrain.scaling"]),
        ({"search": {"weights": {"max_grad_norm": 1.0}}}, "autolora", ["search.weights.max_grad_norm"]),
        ({"retrain": {"scaling": "per_rank"}}, "squeeze:budget=rank=1", ["retrain.scaling"]),
        ({}, "squeeze", ["ranks.budget"]),
        ({}, "lora:4:at=0.5", ["method.at"]),
        ({}, "lora:4:budget=rank=1", ["method.budget"]),
        ({}, "sigmoid:at=0.5:budget=rank=1", ["method.at", "method.budget"]),
        ({"retrain": {"steps": 1}}, "squeeze:budget=rank=1", ["search.at"]),
        ({"retrain": {"steps": 10}}, "squeeze:at=0.04:budget=rank=1", ["method.at"]),
        ({**SQUEEZE, "ranks": {**FISHER, "held_out": 0.2}}, "squeeze", ["ranks.held_out"]),
        ({"ranks": {"examples": 9}}, "squeeze:budget=tolerance=0.1", ["ranks.examples"]),
    ],
)
def test_what_does_not_is_found(sections: Mapping[str, Any], word: str, wrong: list[str]) -> None:
    assert fields(sections, word) == wrong


def test_validate_gives_all_of_them_with_their_lines(laboratory: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(
        f"""\
task: classification
model: {{name: {laboratory / "model"}}}
data: {{path: data, root: {laboratory}, columns: [sentence]}}
search:
  estimator: none
  steps: 30
ranks:
  score: saliency
  budget: {{rank: 1}}
retrain:
  start: searched
  scaling: per_rank
  steps: 1
""",
        encoding="utf-8",
    )
    done = autolora("recipes", "validate", path, cwd=tmp_path)
    assert done.returncode == 2
    said = [line.removeprefix("error: ").strip() for line in (done.stdout + done.stderr).splitlines()]
    places = [line.partition(" ")[0] + " " + line.split(" ")[1] for line in said if "wrong.yaml:" in line.split(" ")[0]]
    assert [place.rpartition("/")[2] for place in places] == [
        "wrong.yaml:4: search.at:",
        "wrong.yaml:6: search.steps:",
        "wrong.yaml:7: ranks.rule:",
        "wrong.yaml:8: ranks.score:",
        "wrong.yaml:12: retrain.scaling:",
    ]


def tiny(laboratory: Path, **sections: Any) -> Recipe:
    values = yaml.safe_load((laboratory / "tiny.yaml").read_text(encoding="utf-8"))
    flat = {f"{name}.{key}": value for name, each in sections.items() for key, value in each.items()}
    if sections.get("search", {}).get("estimator") == "none":
        flat = {**{f"search.{key}": None for key in ("steps",)}, **flat}
        flat |= {f"search.{key}": getattr(Search(), key) for key in values["search"] if f"search.{key}" not in flat}
    return read_recipe(laboratory / "tiny.yaml", flat)


def test_recipes_in_python_are_checked_too(laboratory: Path) -> None:
    recipe = tiny(laboratory).model_copy(update={"ranks": RankRule(score="fisher")})
    with pytest.raises(RecipeError, match=r"recipe: ranks\.rule: a threshold is one of selection variables"):
        check_recipe(recipe)


@pytest.mark.parametrize(
    ("sections", "words", "said"),
    [
        ({}, "lora:4,squeeze", r"tiny, method squeeze: ranks\.budget: missing, and squeeze needs it"),
        (
            {"retrain": {"scaling": "per_rank"}},
            "squeeze:budget=rank=1",
            r"method squeeze:budget=rank=1: retrain\.scaling: per_rank would change what squeeze goes on with",
        ),
        ({}, "lora:4:at=0.5", r"method lora:4:at=0\.5: method\.at: lora squeezes nothing"),
        ({}, "lora:4:budget=0.5", r"method\.budget: lora has no budget"),
        ({}, "lora", r"needs a size"),
        (SQUEEZE, "squeeze,autolora", r"method autolora: search\.estimator: none learns no selection variables"),
        (SQUEEZE, "shuffled", r"search\.estimator: none learns no selection variables, which shuffled is about"),
        ({}, "squeeze:k=2:budget=rank=4", r"method\.budget\.rank: 4 is above the rank 2 that squeeze begins with"),
    ],
)
def test_comparisons_refuse_methods_that_cannot_do_a_recipe(
    laboratory: Path, sections: Mapping[str, Any], words: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        check_plan([tiny(laboratory, **sections)], parse_methods(words))


def test_all_that_is_wrong_with_a_comparison_is_said_at_once(laboratory: Path) -> None:
    words = "squeeze,lora:4:at=0.5,lora,sigmoid:budget=rank=1,lora:2"
    with pytest.raises(UserError) as caught:
        check_plan([tiny(laboratory)], parse_methods(words))
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            SQUEEZE,
            "squeeze,squeeze:k=2:at=0.25,squeeze-uniform,squeeze-shuffled,fisher-scratch,lora:4,lora-matched,svd",
        ),
        ({"search": {"at": 0.25}, "method": {"name": "squeeze"}, "ranks": {"budget": {"rank": 1}}}, "autolora,squeeze"),
        ({}, "autolora,autolora:budget=rank=1,squeeze:budget=rank=1,shuffled,sigmoid,random:budget=0.5"),
    ],
)
def test_what_has_no_bearing_on_one_method_may_be_for_another(
    laboratory: Path, sections: Mapping[str, Any], words: str
) -> None:
    check_plan([tiny(laboratory, **sections)], parse_methods(words))


def test_the_command_line_refuses_before_anything_is_run(laboratory: Path, tmp_path: Path) -> None:
    done = served(
        "compare", laboratory / "tiny.yaml", "--methods", "lora:4,squeeze", "--seeds", "0", "--output", tmp_path / "r",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "tiny, method squeeze: ranks.budget: missing, and squeeze needs it" in done.stderr
    assert not (tmp_path / "r").exists()
