"""Imitation: numbers for every word, by squared error, with the model's own head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.own_data import context, encoded, refusal, write

ROWS = [
    {"text": ["the", "cat"], "label": ["0.5 -1.25", "0 2e-1"], "base": ["0 0", "0 1"]},
    {"text": ["cat"], "label": ["3 4"], "base": ["3 2"]},
]


def made(tmp_path: Path, laboratory: Path, rows: list[dict[str, Any]], **data: Any) -> Path:
    return write(tmp_path, laboratory, {"train.jsonl": rows, "validation.jsonl": rows}, "imitation", **data)


def test_numbers_stand_at_the_first_piece_of_their_word(tmp_path: Path, laboratory: Path) -> None:
    prepared = context(made(tmp_path, laboratory, ROWS))
    examples = prepared.examples("train")
    assert [example["label"] for example in examples] == [[[0.5, -1.25], [0.0, 0.2]], [[3.0, 4.0]]]
    batch = prepared.task.collate(examples, prepared.tokenizer)
    assert batch["words"].sum(1).tolist() == [2, 1]
    assert batch["labels"][batch["words"]].tolist() == [[0.5, -1.25], [0.0, pytest.approx(0.2)], [3.0, 4.0]]
    assert not batch["labels"][~batch["words"]].any()
    assert prepared.task.units(examples) == 6
    assert prepared.task.head_config() == {"num_labels": 2}


def test_the_loss_is_the_squared_error_of_the_words_alone(tmp_path: Path, laboratory: Path) -> None:
    prepared = context(made(tmp_path, laboratory, ROWS))
    examples = prepared.examples("train")
    batch = prepared.task.collate(examples, prepared.tokenizer)
    outputs = torch.randn(*batch["input_ids"].shape, 2, generator=torch.Generator().manual_seed(0))

    class Stub(torch.nn.Module):
        def forward(self, **inputs: Any) -> Any:
            return type("Output", (), {"logits": outputs})()

    wanted = sum(
        (outputs[row, position] - torch.tensor(example["label"][word])).square().sum()
        for row, example in enumerate(examples)
        for position, word in example["first"]
    )
    assert torch.allclose(prepared.task.loss(Stub(), batch), torch.as_tensor(wanted))
    records = prepared.task.predict(Stub(), batch, prepared.tokenizer)
    assert [len(record["prediction"]) for record in records] == [2, 1]
    (scored,) = prepared.task.metrics(records, examples)
    assert scored.scores[0].value == pytest.approx(float(wanted) / 6.4525)  # the untrained model's squared error


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": ["the"], "label": ["1 2", "3 4"]}, "1 words but numbers for 2 in 'label'"),
        ({"text": ["the"], "label": ["1 2 3"]}, "3 numbers for a word in 'label', and 2 before"),
        ({"text": ["the"], "label": ["1 two"]}, "must be finite numbers with blanks between, got '1 two'"),
        ({"text": ["the"], "label": ["1 nan"]}, "must be finite numbers"),
        ({"text": ["the"], "label": ["1_0 2"]}, "must be finite numbers"),
        ({"text": ["the"], "label": "1 2"}, "must be a list"),
        ({"text": ["the"] * 30, "label": ["1 2"] * 30}, "tokens are more than data.max_length"),
    ],
)
def test_rows_that_cannot_be_are_refused(tmp_path: Path, laboratory: Path, row: dict[str, Any], message: str) -> None:
    rows = [{key: cell for key, cell in ROWS[0].items() if key != "base"}, row]
    said = refusal(made(tmp_path, laboratory, rows, max_length=16))
    assert any(part in said for part in message.split("|")), said


def test_an_evaluation_split_needs_what_the_untrained_model_says(tmp_path: Path, laboratory: Path) -> None:
    rows = [{key: cell for key, cell in row.items() if key != "base"} for row in ROWS]
    said = refusal(made(tmp_path, laboratory, rows))
    assert "split 'validation': errors are measured in that of the untrained model, and there is no " in said


def test_a_split_without_labels_is_predicted(tmp_path: Path, laboratory: Path) -> None:
    bare = [{"text": row["text"]} for row in ROWS]
    path = write(tmp_path, laboratory, {"train.jsonl": ROWS, "validation.jsonl": bare}, "imitation")
    assert set(encoded(path)["validation"][0]) == {"input_ids", "first", "words"}
