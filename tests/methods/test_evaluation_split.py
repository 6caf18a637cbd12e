"""The evaluation split is for evaluation: nothing that is learned, found or chosen depends on what it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autolora.context.base import Context
from autolora.experiment.line import evaluate, retrain, search
from autolora.experiment.preflight import load_recipe
from autolora.methods.base import method_class
from autolora.recipe.method import label, parse_method
from autolora.recipe.schema import Recipe
from autolora.runs.store import Run
from autolora.training.batches import Example
from tests.laboratory import write_laboratory

# With how many files of what is learned.
METHODS = {"autolora": 5, "lora:4": 3, "lora-grid:2": 6, "lora-matched": 3, "adalora": 3, "svd": 2, "eva": 3}
EVALUATED, D_VAL = 23, 30
SETTINGS = ("search.steps=8", "retrain.steps=12", "retrain.weights.learning_rate=3e-2", f"eval.batch_size={EVALUATED}")
LEARNED = ("search/ranks.json", "retrain/ranks.json", "adapter/adapter_model.safetensors", "*log.jsonl", "*grid.json")


@pytest.fixture(scope="module")
def changed_laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model and training split; in the evaluation split other sentences and wrong labels, and more of them."""
    folder = tmp_path_factory.mktemp("changed") / "laboratory"
    folder.mkdir()
    write_laboratory(folder)
    split = folder / "data" / "validation.jsonl"
    rows = [json.loads(line) for line in split.read_text().splitlines()]
    other = [{"sentence": f"king {row['sentence']} again", "label": 1 - row["label"]} for row in rows + rows[:4]]
    split.write_text("".join(json.dumps(row) + "\n" for row in other))
    return folder


class Watched(Context):
    """A context that notes what is encoded and predicted, and which of the run's stages had begun or ended by then."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.recipe, show=False)
        self.run, self.events = run, list[tuple[str, Any, dict[str, str]]]()
        encode, predict = self.task.encode, self.task.predict
        self.task.encode = lambda rows, *more: (self.note("encoded", more[1]), encode(rows, *more))[1]  # type: ignore
        self.task.predict = lambda model, batch, *more: (  # type: ignore
            self.note("predicted", len(batch["input_ids"])),
            predict(model, batch, *more),
        )[1]

    def examples(self, split: str) -> list[Example]:
        self.note("taken", split)
        return super().examples(split)

    def note(self, what: str, which: Any) -> None:
        stages = {name: stage["state"] for name, stage in self.run.status()["stages"].items()}
        self.events.append((what, which, stages))


def all_runs(laboratory: Path, output: Path) -> dict[str, Watched]:
    """A run of every method, all stages of it, on the runs made before that it builds on."""
    made: dict[str, Watched] = {}
    for method in METHODS:
        recipe = tiny_recipe(laboratory, method)
        run = Run.create(output, recipe)
        for needed in method_class(recipe.method.name).needs(recipe):
            run.add_base_run(label(needed), made[label(needed)].run)
        made[method] = Watched(run)
        if method_class(recipe.method.name).searches:
            search(run, made[method])
        retrain(run, made[method])
        evaluate(run, made[method])
    return made


def tiny_recipe(laboratory: Path, method: str) -> Recipe:
    recipe = load_recipe(laboratory / "tiny.yaml", SETTINGS, seed=3)
    return recipe.model_copy(update={"method": parse_method(method)})


def learned(run: Run) -> dict[str, bytes]:
    files = {path for pattern in LEARNED for path in run.path.rglob(pattern)}
    found = {path.relative_to(run.path).as_posix(): path.read_bytes() for path in files}
    return {name: without_identity(data) if name.endswith("grid.json") else data for name, data in found.items()}


def without_identity(grid: bytes) -> bytes:
    """A grid's scores and counts; its identity is there to notice any change, in whatever split."""
    return json.dumps(json.loads(grid)["ranks"]).encode()


@pytest.fixture(scope="module")
def one(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    return all_runs(laboratory, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def other(changed_laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    return all_runs(changed_laboratory, tmp_path_factory.mktemp("other"))


@pytest.mark.parametrize("method", METHODS)
def test_another_evaluation_split_leaves_every_byte_that_is_learned(
    one: dict[str, Watched], other: dict[str, Watched], method: str
) -> None:
    found = learned(one[method].run)
    assert found == learned(other[method].run)
    assert len(found) == METHODS[method]
    assert "adapter/adapter_model.safetensors" in found


@pytest.mark.parametrize("method", METHODS)
def test_the_two_evaluation_splits_are_told_apart(
    one: dict[str, Watched], other: dict[str, Watched], method: str
) -> None:
    rows = [json.loads((runs[method].run.path / "metrics.json").read_text())[0] for runs in (one, other)]
    assert [row["examples"] for row in rows] == [EVALUATED, EVALUATED + 4]
    assert rows[0]["accuracy"] != rows[1]["accuracy"]


@pytest.mark.parametrize("method", METHODS)
def test_the_evaluation_split_is_encoded_once_beforehand_and_predicted_once_when_all_is_learned(
    one: dict[str, Watched], method: str
) -> None:
    events = one[method].events
    on_split = [event for event in events if event[1] == "validation"]
    predicted = [event for event in events if event[0] == "predicted" and "eval" in event[2]]
    assert [stages for what, _, stages in on_split if what == "encoded"] == [{}]  # faulty data is refused at once
    assert [count for _, count, _ in predicted] == [EVALUATED]  # the batch is as large as the split
    for _, _, stages in on_split:  # between the stages, or in its own
        assert {name for name, state in stages.items() if state == "running"} <= {"eval"}
    for _, _, stages in predicted:
        assert (stages["retrain"], stages["eval"]) == ("success", "running")
        assert stages.get("search", "success") == "success"
    before = [count for what, count, stages in events if what == "predicted" and "eval" not in stages]
    assert before == (2 * [EVALUATED, D_VAL - EVALUATED] if method == "lora-grid:2" else [])
