"""What a family declares of its metrics, and what a recipe may not say of it; F1 by the task's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sklearn.metrics import f1_score

from autolora.errors import RecipeError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.load import dump_recipe, read_recipe
from autolora.registry import TASKS
from tests.own_data import context, write

ROWS: dict[str, list[dict[str, Any]]] = {
    "chat": [{"text": [{"role": "user", "content": "the a"}, {"role": "assistant", "content": "one"}]}],
    "classification": [{"text": "the a", "label": "no"}, {"text": "the b", "label": "yes"}],
    "regression": [{"text": "the a", "label": 1}, {"text": "the b", "label": 2}],
    "tagging": [{"text": ["the", "cat"], "label": ["O", "B-x"]}],
    "generation": [{"text": "the a", "label": "one"}],
    "imitation": [{"text": ["the", "cat"], "label": ["0.5 1", "-2 0"], "base": ["0 0", "0 0"]}],
}
DEFAULTS = {
    "chat": ("rouge_l", "bleu", "chrf"),
    "classification": ("accuracy",),
    "regression": ("pearson", "spearman"),
    "tagging": ("entities",),
    "generation": ("bleu", "nist", "chrf"),
    "imitation": ("relative_error",),
}


def recipe(tmp_path: Path, laboratory: Path, task: str, evaluation: Any = None, **data: Any) -> Path:
    made = write(tmp_path, laboratory, {"train.jsonl": ROWS[task], "validation.jsonl": ROWS[task]}, task, **data)
    if evaluation is not None:
        made.write_text(yaml.safe_dump({**yaml.safe_load(made.read_text()), "eval": evaluation}))
    return made


def faults(path: Path) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return [str(fault) for fault in caught.value.faults if fault.field != "model.name"]  # BERT generates nothing


@pytest.mark.parametrize("task", TASKS.ours)
def test_a_recipe_without_metrics_has_its_familys(tmp_path: Path, laboratory: Path, task: str) -> None:
    read = read_recipe(recipe(tmp_path, laboratory, task))
    assert read.eval.metrics == DEFAULTS[task]
    (tmp_path / "dumped.yaml").write_text(dump_recipe(read))
    assert read_recipe(tmp_path / "dumped.yaml") == read


@pytest.mark.parametrize(
    ("task", "metric", "message"),
    [
        ("classification", "pearson", "'pearson' is a metric of numbers, and the task's outputs are classes"),
        ("classification", "bleu", "'bleu' is a metric of texts, and the task's outputs are classes"),
        ("regression", "accuracy", "'accuracy' is a metric of classes, and the task's outputs are numbers"),
        ("tagging", "f1", "'f1' is a metric of classes, and the task's outputs are tags"),
        ("imitation", "pearson", "'pearson' is a metric of numbers, and the task's outputs are vectors"),
        ("generation", "entities", "'entities' is a metric of tags, and the task's outputs are texts"),
    ],
)
def test_a_metric_of_another_family_is_a_fault_of_the_recipe(
    tmp_path: Path, laboratory: Path, task: str, metric: str, message: str
) -> None:
    made = recipe(tmp_path, laboratory, task, {"metrics": [DEFAULTS[task][0], metric]})
    (fault,) = faults(made)
    assert f"eval.metrics: {message} (choose from: " in fault
    assert DEFAULTS[task][0] in fault


@pytest.mark.parametrize("task", ["tagging", "generation", "imitation"])
def test_families_of_one_column_refuse_two(tmp_path: Path, laboratory: Path, task: str) -> None:
    rows = [{**row, "other": row["text"]} for row in ROWS[task]]
    made = write(tmp_path, laboratory, {"train.jsonl": rows, "validation.jsonl": rows}, task, columns=["text", "other"])
    (fault,) = faults(made)
    assert "data.columns:" in fault
    assert "got text, other (name one)" in fault


@pytest.mark.parametrize(
    ("evaluation", "data", "message"),
    [
        ({"positive": "yes"}, {}, "eval.positive: no metric is about one class, got 'yes'"),
        ({"metrics": ["f1"], "positive": "ja"}, {"labels": ["no", "yes"]}, "eval.positive: must be one of the classes"),
        (
            {"metrics": ["f1"], "positive": "yes"},
            {"labels": ["no", "yes", "so"]},
            "eval.positive: only one of two classes can be the positive one, and there are 3, got 'yes'",
        ),
    ],
)
def test_a_positive_class_that_cannot_be_is_a_fault(
    tmp_path: Path, laboratory: Path, evaluation: Any, data: Any, message: str
) -> None:
    (fault,) = faults(recipe(tmp_path, laboratory, "classification", evaluation, **data))
    assert message in fault


def scores(made: Path, predictions: list[int]) -> tuple[float | None, list[int], str | None]:
    """F1 on the validation split, its references, and the class that F1 is about."""
    prepared = context(made)
    examples = prepared.examples("validation")
    records = [{"prediction": found} for found in predictions]
    (scored,) = prepared.task.metrics(records, examples)
    return scored.scores[0].value, [example["label"] for example in examples], prepared.task.positive


def test_f1_is_macro_where_the_task_has_three_classes_whichever_a_split_holds(tmp_path: Path, laboratory: Path) -> None:
    train = [{"text": f"the {name}", "label": name} for name in ("a", "b", "c")]
    validation = [{"text": "the a", "label": name} for name in ("a", "b")]
    made = write(tmp_path, laboratory, {"train.jsonl": train, "validation.jsonl": validation})
    made.write_text(yaml.safe_dump({**yaml.safe_load(made.read_text()), "eval": {"metrics": ["f1"]}}))
    found, references, positive = scores(made, [1, 1])
    assert references == [0, 1]
    assert found == pytest.approx(1 / 3)
    assert found == pytest.approx(f1_score(references, [1, 1], average="macro", zero_division=0))
    assert positive is None


@pytest.mark.parametrize(("given", "about"), [(None, "yes"), ("yes", "yes"), ("no", "no")])
def test_f1_is_that_of_the_positive_class_where_the_task_has_two(
    tmp_path: Path, laboratory: Path, given: str | None, about: str
) -> None:
    rows = [{"text": "the a", "label": name} for name in ("no", "yes", "yes", "yes")]
    evaluation = {"metrics": ["f1"], **({"positive": given} if given else {})}
    made = write(tmp_path, laboratory, {"train.jsonl": rows, "validation.jsonl": rows})
    made.write_text(yaml.safe_dump({**yaml.safe_load(made.read_text()), "eval": evaluation}))
    found, references, positive = scores(made, [0, 0, 1, 1])
    assert positive == about
    assert found == pytest.approx(f1_score(references, [0, 0, 1, 1], pos_label=["no", "yes"].index(about)))


def test_a_positive_class_that_the_data_does_not_have_is_refused(tmp_path: Path, laboratory: Path) -> None:
    made = recipe(tmp_path, laboratory, "classification", {"metrics": ["f1"], "positive": "maybe"})
    with pytest.raises(
        Exception, match=r"eval.positive: must be one of the classes, got 'maybe'; choose from: no, yes"
    ):
        _ = context(made).task
