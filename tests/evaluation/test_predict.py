"""Predictions of a whole split: each example's once, whatever the batches, interruptions and processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from autolora.evaluation.part import Part
from autolora.evaluation.predict import predict
from autolora.recipe.schema import Data, Eval
from autolora.tasks.classification import Classification
from autolora.training.compute import Compute
from tests.model.tiny import LABELS, collate, tiny_examples, tiny_model

ROWS = Dataset.from_dict({"sentence": ["a"] * LABELS, "label": list(map(str, range(LABELS)))})


def task(kind: type[Classification] = Classification) -> Classification:
    return kind(Data(path="somewhere"), Eval(), {"train": ROWS})


def settings(**more: Any) -> dict[str, Any]:
    return {"tokenizer": None, "batch_size": 3, "compute": Compute("float32", cpu=True), **more}


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_example_is_predicted_once_in_order(batch_size: int) -> None:
    model, examples = tiny_model("bert", dropout=0.3), tiny_examples(10)
    found = predict(model, task(), examples, collate, **settings(batch_size=batch_size))
    with torch.no_grad():
        for record, example in zip(found, examples, strict=True):
            alone = collate([example])
            truth = model(input_ids=alone["input_ids"], attention_mask=alone["attention_mask"]).logits[0]
            assert record["logits"] == pytest.approx(truth.tolist(), abs=1e-5)


def test_predicting_goes_on_after_the_last_whole_batch(tmp_path: Path) -> None:
    seen: list[int] = []

    class Counting(Classification):
        def predict(self, model: Any, batch: Any, tokenizer: Any) -> list[dict[str, Any]]:
            if len(seen) == 2:
                raise KeyboardInterrupt
            seen.append(len(batch["labels"]))
            return super().predict(model, batch, tokenizer)

    model, examples = tiny_model("bert").eval(), tiny_examples(10)
    part = Part(tmp_path / "p" / "test.part", "these settings")
    whole = predict(model, task(), examples, collate, **settings())
    with pytest.raises(KeyboardInterrupt):
        predict(model, task(Counting), examples, collate, part=part, **settings())
    assert len(list(part.records())) == 6
    with part.path.open("a") as file:
        file.write('[[7, {"predic')  # cut off while it was written
    seen.clear()
    seen.append(0)
    seen.append(0)
    with pytest.raises(KeyboardInterrupt):  # a third batch is wanted, not the first again
        predict(model, task(Counting), examples, collate, part=part, **settings())
    assert predict(model, task(), examples, collate, part=part, **settings()) == whole
    assert list(Part(part.path, "other settings").records()) == []


def test_progress_counts_what_was_there_before(tmp_path: Path) -> None:
    model, examples = tiny_model("bert"), tiny_examples(7)
    part, told = Part(tmp_path / "test.part", "x"), list[int]()
    predict(model, task(), examples, collate, part=part, **settings(on_batch=told.append))
    assert told == [0, 3, 6, 7]
    predict(model, task(), examples, collate, part=part, **settings(on_batch=told.append))
    assert told[4:] == [7]
    part.remove()
    assert not part.path.exists()
    part.remove()


def test_two_processes_share_the_examples_and_each_has_all_predictions() -> None:
    model, examples = tiny_model("bert"), tiny_examples(10)
    shares: list[list[Any]] = []

    def of_process(number: int, others: list[Any]) -> Any:
        def gather(items: list[Any]) -> list[Any]:
            shares.append(items)
            return [*items, *others]

        compute = Compute("float32", cpu=True)
        compute.process, compute.processes = number, 2
        compute.gather = gather  # type: ignore[method-assign]  # the others are not there
        return compute

    for number in (0, 1):
        with pytest.raises(RuntimeError, match=r"\d predictions for 10 examples"):
            predict(model, task(), examples, collate, **settings(compute=of_process(number, [])))
    first, second = shares
    assert sorted(index for index, _ in first + second) == list(range(10))
    assert first
    assert second
    found = predict(model, task(), examples, collate, **settings(compute=of_process(0, second)))
    assert found == predict(model, task(), examples, collate, **settings())
