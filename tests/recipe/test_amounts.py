"""Numbers that are right one by one and contradict each other, the model or the task: refused together, with lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autolora.errors import Fault, RecipeError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.plain_yaml import dump

HEAD: dict[str, Any] = {"model": {"name": "a/b"}, "data": {"hub": "a/b"}}
DECAYED = {"learning_rate": 0.1, "weight_decay": 10.0}


@pytest.fixture(autouse=True)
def _without_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def found(folder: Path, made: dict[str, Any]) -> dict[str, str]:
    """Message by field of the faults of a recipe, which all have a line of the file and what to do."""
    (path := folder / "r.yaml").write_text(dump(made), encoding="utf-8")
    faults: list[Fault] = []
    try:
        load_recipe(path)
    except RecipeError as error:
        faults = list(error.faults)
    assert all(fault.where.startswith(f"{path}:") and (fault.hint or fault.field == "model.name") for fault in faults)
    return {fault.field: fault.message for fault in faults}


def _recipe(task: str, sections: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"task": task, **HEAD}
    for name, section in sections.items():
        made[name] = {**made.get(name, {}), **section}
    return made


@pytest.mark.parametrize(
    ("task", "sections", "wrong"),
    [
        ("classification", {"retrain": {"batch_size": 4, "gradient_accumulation": 8}}, "retrain.gradient_accumulation"),
        ("classification", {"search": {"gradient_accumulation": 17}}, "search.gradient_accumulation"),
        ("classification", {"search": {"steps": 10**9, "batch_size": 2000}}, "search.steps"),
        ("classification", {"retrain": {"steps": 10**9, "batch_size": 2000}}, "retrain.steps"),
        ("classification", {"retrain": {"weights": DECAYED}}, "retrain.weights.weight_decay"),
        ("classification", {"search": {"selection": DECAYED}}, "search.selection.weight_decay"),
        ("classification", {"search": {"steps": 9, "selection": {"every": 10}}}, "search.selection.every"),
        ("classification", {"search": {"threshold": -1.0}}, "search.threshold"),
        ("classification", {"search": {"threshold": 1.0}}, "search.threshold"),
        ("classification", {"search": {"threshold": 2.0, "constraint": "sigmoid"}}, "search.threshold"),
        ("classification", {"data": {"limits": {"train": 20}}, "search": {"batch_size": 64}}, "search.batch_size"),
        ("classification", {"data": {"limits": {"train": 20}}, "retrain": {"batch_size": 64}}, "retrain.batch_size"),
        ("classification", {"data": {"limits": {"train": 10**9}}, "retrain": {"epochs": 1e6}}, "retrain.epochs"),
        ("classification", {"data": {"limits": {"train": 1}}}, "data.limits.train"),
        ("classification", {"eval": {"generation": {"beams": 4}}}, "eval.generation"),
        ("classification", {"data": {"linearise": "e2e"}}, "data.linearise"),
        ("classification", {"eval": {"metrics": ["bleu"]}}, "eval.metrics"),
        ("regression", {"data": {"labels": ["a", "b"]}}, "data.labels"),
        ("regression", {"loss": {"label_smoothing": 0.1}}, "loss.label_smoothing"),
        ("regression", {"eval": {"positive": "a"}}, "eval.positive"),
        ("tagging", {"eval": {"submission": {"files": {"a": "test"}}}}, "eval.submission"),
        ("generation", {"data": {"labels": ["a", "b"]}}, "data.labels"),
        ("generation", {"eval": {"positive": "a"}}, "eval.positive"),
        ("regression", {"eval": {"submission": {"files": {"a": "test"}, "range": [5.0, 0.0]}}}, "eval.submission"),
    ],
)  # fmt: skip
def test_what_contradicts_each_other_is_refused(
    tmp_path: Path, task: str, sections: dict[str, Any], wrong: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(dump(_recipe(task, sections)), encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert [fault.field for fault in error.value.faults] == [wrong]
    assert error.value.faults[0].where.startswith(f"{path}:")


@pytest.mark.parametrize(
    ("task", "sections"),
    [
        ("classification", {"retrain": {"batch_size": 8, "gradient_accumulation": 8}}),
        ("classification", {"search": {"threshold": 0.0}}),
        ("classification", {"search": {"threshold": -1.0, "constraint": "none"}}),
        ("classification", {"data": {"limits": {"train": 8}}}),  # the default batch may be larger than what is tried
        ("classification", {"eval": {"positive": "a", "metrics": ["f1"]}, "data": {"labels": ["a", "b"]}}),
        ("generation", {"eval": {"generation": {"beams": 4}}, "data": {"columns": ["mr"], "linearise": "e2e"}}),
        ("generation", {"loss": {"label_smoothing": 0.1}}),
        ("regression", {"eval": {"submission": {"files": {"a": "test"}, "prediction": "score"}}}),
        ("tagging", {"data": {"columns": ["tokens"], "labels": ["O", "B-x", "I-x"]}, "loss": {"label_smoothing": 0.1}}),
    ],
)
def test_what_goes_together_is_taken(tmp_path: Path, task: str, sections: dict[str, Any]) -> None:
    assert found(tmp_path, _recipe(task, sections)) == {}


def test_all_of_it_is_said_at_once(tmp_path: Path) -> None:
    sections = {
        "search": {"threshold": -1.0},
        "retrain": {
            "batch_size": 2,
            "gradient_accumulation": 4,
            "weights": {"weight_decay": 100.0, "learning_rate": 1.0},
        },
        "eval": {"generation": {"beams": 2}},
        "model": {"name": "planted:mixed", "revision": "main"},
        "seed": 2,
    }
    made = _recipe("classification", {name: each for name, each in sections.items() if isinstance(each, dict)})
    assert set(found(tmp_path, {**made, "data": {"hub": "a/b", "max_length": 1}})) == {
        *("search.threshold", "retrain.gradient_accumulation", "retrain.weights.weight_decay"),
        *("model.revision", "model.name", "data.max_length", "eval.generation"),
    }


@pytest.mark.parametrize("name", ["planted:mixed", "bundled:all-MiniLM-L6-v2", "folder"])
def test_only_models_of_the_hub_have_revisions(tmp_path: Path, name: str, minilm: Path) -> None:
    name = str(tmp_path) if name == "folder" else name  # which is a fault itself
    made = _recipe("classification", {"model": {"name": name, "revision": "main"}})
    assert "revisions are of models on the hub" in found(tmp_path, made)["model.revision"]
    made["model"]["revision"] = "../x"
    assert "model.revision" in found(tmp_path, made)


def test_a_rank_above_the_sides_of_the_layers_is_refused_where_no_layers_are_named(
    tmp_path: Path, minilm: Path
) -> None:
    made = _recipe("classification", {"model": {"name": "bundled:all-MiniLM-L6-v2"}, "search": {"rank": 5000}})
    assert "rank 5000 is above the smaller side of" in found(tmp_path, made)["search.rank"]
    assert "(384)" in found(tmp_path, made)["search.rank"]
    made["search"]["rank"] = 384
    assert found(tmp_path, made) == {}


def test_a_rank_is_held_against_the_sides_of_a_gguf_models_layers(tmp_path: Path, smollm2: Path) -> None:
    made = _recipe("generation", {"model": {"name": "bundled:SmolLM2-135M-Instruct"}, "search": {"rank": 193}})
    assert "(192)" in found(tmp_path, made)["search.rank"]  # of the values' projection: 3 heads of 64
    made["search"]["rank"] = 192
    assert found(tmp_path, made) == {}


def test_lengths_are_held_against_the_models_positions(tmp_path: Path, minilm: Path) -> None:
    made = _recipe("classification", {"model": {"name": "bundled:all-MiniLM-L6-v2"}, "data": {"max_length": 513}})
    assert found(tmp_path, made) == {"data.max_length": "513 is above the model's 512 positions"}
    made["data"]["max_length"] = 512
    assert found(tmp_path, made) == {}
    made["method"] = {"name": "prefix", "size": 512}
    assert set(found(tmp_path, made)) == {"method.size"}


def test_an_encoder_needs_room_for_a_word_between_its_special_tokens(tmp_path: Path, minilm: Path) -> None:
    made = _recipe("classification", {"model": {"name": "bundled:all-MiniLM-L6-v2"}, "data": {"max_length": 2}})
    assert set(found(tmp_path, made)) == {"data.max_length"}
    made["data"] |= {"max_length": 4, "columns": ["a", "b"]}
    assert set(found(tmp_path, made)) == {"data.max_length"}
    made["data"]["max_length"] = 5
    assert found(tmp_path, made) == {}
