"""Data is read, mapped and encoded before anything is written; names of classes stay with the run and the adapter."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.evaluate import evaluate
from autolora.experiment.preflight import load_recipe
from autolora.experiment.prepare import prepare
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.recipe.schema import Recipe
from autolora.runs.results import read_result
from autolora.runs.store import Run
from tests import own_data
from tests.laboratory import of_an_earlier_version, write_named_laboratory

NAMES = ["bad", "good", "so-so"]


def rows(laboratory: Path, split: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (laboratory / "data" / f"{split}.jsonl").read_text().splitlines()]


def write(laboratory: Path, split: str, labelled: list[dict[str, object]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in labelled)
    (laboratory / "data" / f"{split}.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A laboratory whose sentences have one of three names."""
    return write_named_laboratory(tmp_path / "laboratory", NAMES)


def read(place: Path, *overrides: str) -> Recipe:
    return load_recipe(
        place / "tiny.yaml", ["search.steps=2", "retrain.steps=2", "eval.metrics=[accuracy]", *overrides]
    )


def trained(place: Path) -> Run:
    run = Run.create(place / "runs", read(place))
    context = Context(run.recipe, show=False)
    search(run, context)
    retrain(run, context)
    return run


def evaluated(run: Run, recipe: Recipe) -> list[str]:
    """The rows of the table, by a process that begins now."""
    run.recipe = recipe
    evaluate(run, Context(recipe, show=False))
    records = [json.loads(line) for line in (run.path / "predictions" / "validation.jsonl").read_text().splitlines()]
    return [NAMES[record["reference"]] for record in records]


def test_another_split_with_fewer_or_reordered_names_is_mapped_by_the_runs_names(place: Path) -> None:
    run = trained(place)
    assert json.loads((run.path / "labels.json").read_text()) == {"names": NAMES}
    # Both files are other ones now: neither says of itself which class is which.
    write(place, "train", [{**row, "label": ["so-so", "good"][i % 2]} for i, row in enumerate(rows(place, "train"))])
    left = [row for row in rows(place, "validation") if row["label"] != "bad"]
    write(place, "validation", left)
    assert evaluated(run, read(place)) == [row["label"] for row in left]


def test_an_unknown_name_is_refused_by_name(place: Path) -> None:
    run = trained(place)
    write(place, "validation", [*rows(place, "validation"), {"sentence": "the king", "label": "awful"}])
    with pytest.raises(UserError, match=r"validation\.jsonl:24: the label 'awful' is none of the 3 labels: bad"):
        evaluated(run, read(place))


def test_a_recipe_that_names_other_classes_than_the_run_is_refused(place: Path) -> None:
    run = trained(place)
    message = "data.labels: .* was trained with the classes bad, good, so-so, and the recipe names good, bad, so-so"
    with pytest.raises(UserError, match=message):
        evaluated(run, read(place, "data.labels=[good, bad, so-so]"))


def test_a_damaged_file_of_names_is_named(place: Path) -> None:
    run = trained(place)
    of_an_earlier_version(run.path)
    (run.path / "labels.json").write_text('{"names": "bad"}')
    with pytest.raises(UserError, match=r"labels\.json holds no names of classes; remove it"):
        evaluated(run, read(place))


def test_the_adapter_carries_the_names_for_transformers(place: Path) -> None:
    run = trained(place)
    config = AutoConfig.from_pretrained(run.path / "adapter")
    assert config.id2label == dict(enumerate(NAMES))
    assert config.label2id == {name: i for i, name in enumerate(NAMES)}
    base = AutoModelForSequenceClassification.from_pretrained(place / "model", config=config)
    model = PeftModel.from_pretrained(base, run.path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    found = pipeline("text-classification", model=model.merge_and_unload(), tokenizer=tokenizer)(
        "the king sees the cat"
    )
    assert found[0]["label"] in NAMES


def test_predictions_have_the_names_of_the_classes_beside_their_ids(place: Path) -> None:
    run = trained(place)
    evaluated(run, read(place))
    records = read_result(run).predictions("validation")
    assert [record["reference_name"] for record in records] == [row["label"] for row in rows(place, "validation")]
    assert all(record["prediction_name"] == NAMES[record["prediction"]] for record in records)
    assert all(record["reference_name"] == NAMES[record["reference"]] for record in records)


def test_a_split_without_labels_is_predicted_and_another_scored(place: Path) -> None:
    run = trained(place)
    write(place, "test.en", [{"sentence": "the king"}, {"sentence": "the cat sees"}])
    write(place, "test.de", rows(place, "validation")[:5])
    run.recipe = read(place, "data.splits.eval=[test.en, test.de]")
    table = evaluate(run, Context(run.recipe, show=False))
    assert [(row["split"], row["examples"], "accuracy" in row) for row in table] == [
        ("test.en", 2, False),
        ("test.de", 5, True),
    ]
    result = read_result(run)
    assert result.score == table[1]["accuracy"]
    assert [set(record) for record in result.predictions("test.en")] == [
        {"index", "prediction", "prediction_name", "logits"}
    ] * 2
    assert len(result.predictions("test.de")) == 5


def test_without_any_labels_there_is_no_score(place: Path) -> None:
    run = trained(place)
    write(place, "test", [{"sentence": "the king", "label": -1}])
    run.recipe = read(place, "data.splits.eval=[test]")
    (row,) = evaluate(run, Context(run.recipe, show=False))
    assert "accuracy" not in row
    result = read_result(run)
    assert (result.state, result.metric, result.score) == ("success", "accuracy", None)
    assert len(result.predictions("test")) == 1


def encodes_no_word(folder: Path, laboratory: Path, task: str, **row: object) -> Path:
    other = {**row, "label": ["O", "B-x"][: len(row["label"])] if isinstance(row["label"], list) else "y"}
    return own_data.write(
        folder, laboratory, {"train.jsonl": [row, other], "validation.jsonl": [row]}, task, columns=["text"]
    )


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("tagging", {"text": ["\u200b", "\u200c"], "label": ["O", "B-x"]}),
        ("classification", {"text": "\u200b", "label": "x"}),
    ],
)
def test_a_training_split_of_which_no_word_reaches_the_model_is_refused(
    tmp_path: Path, laboratory: Path, task: str, row: dict[str, object]
) -> None:
    recipe = load_recipe(encodes_no_word(tmp_path, laboratory, task, **row))
    with pytest.raises(
        UserError,
        match=r"the tokenizer of .* makes nothing of any of its texts|the tokenizer knows no token of the data",
    ):
        prepare(Context(recipe, show=False))


def test_a_batch_without_a_word_gives_no_nan(tmp_path: Path, laboratory: Path) -> None:
    rows = [
        {"text": ["\u200b", "\u200c"], "label": ["O", "B-x"]},
        {"text": ["the", "cat"], "label": ["O", "B-x"]},
        {"text": ["\u200b"], "label": ["O"]},
        {"text": ["a", "dog"], "label": ["O", "B-x"]},
    ]
    path = own_data.write(tmp_path, laboratory, {"train.jsonl": rows, "validation.jsonl": rows}, "tagging")
    steps = ["search.steps=4", "search.batch_size=1", "retrain.steps=4", "retrain.batch_size=1"]
    run = Run.create(tmp_path / "runs", load_recipe(path, [*steps, "retrain.log_every=1"]))
    context = Context(run.recipe, show=False)
    search(run, context)
    retrain(run, context)
    losses = [json.loads(line)["train_loss"] for line in (run.path / "retrain" / "log.jsonl").read_text().splitlines()]
    assert losses
    assert all(math.isfinite(loss) for loss in losses)


def test_numbers_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    place = write_named_laboratory(tmp_path / "laboratory", ["0.5", "1.5"])
    write(place, "train", [{**row, "label": 2.5} for row in rows(place, "train")])
    context = Context(read(place, "task=regression", "eval.metrics=[pearson]"), show=False)
    found = r"all 60 rows of split 'train' have the number 2\.5 in column 'label' \(first .*train\.jsonl:1\)"
    with pytest.raises(UserError, match=rf"^data\.label: {found}: there is nothing to learn"):
        prepare(context)
    prepare(Context(context.recipe, show=False), training=False)  # which may be evaluated on


def test_the_limits_that_leave_one_class_are_named(place: Path) -> None:
    found = rows(place, "train")
    write(place, "train", [{**row, "label": NAMES[max(0, i - 57)]} for i, row in enumerate(found)])
    context = Context(read(place, "data.limits.train=8"), show=False)
    match = (
        r"^data\.label: all 8 rows that data\.limits leaves of 60 of split 'train' have the class .* raise data\.limits"
    )
    with pytest.raises(UserError, match=match):
        prepare(context)


def test_entities_that_are_all_cut_off_are_refused(place: Path) -> None:
    row = {"tokens": ["cat"] * 20 + ["dog"], "label": ["O"] * 20 + ["B-x"]}
    for split in ("train", "validation"):
        write(place, split, [row] * 3)
    recipe = read(place, "task=tagging", "data.columns=[tokens]", "eval.metrics=[entities]", "data.max_length=8")
    match = r"^data\.label: all 3 rows of split 'train' have the tag 'O' for every word that the model sees in column"
    with pytest.raises(UserError, match=match):
        prepare(Context(recipe, show=False))


def test_texts_of_which_the_length_leaves_no_word_are_refused(place: Path) -> None:
    with pytest.raises(UserError, match=r"data\.max_length: 2 tokens leave nothing of a text"):
        read(place, "data.max_length=2")
