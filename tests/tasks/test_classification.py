"""Classification and regression: labels, losses and predictions, against plain formulas."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from autolora.errors import UserError
from autolora.recipe.schema import Data, Eval, Loss
from autolora.tasks.base import Task
from autolora.tasks.classification import Classification, Regression

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d"]


def _data(**more: Any) -> Data:
    return Data.model_validate({"path": "somewhere", **more})


def _task(values: list[Any], kind: type[Task] = Classification, **data: Any) -> Any:
    rows = Dataset.from_dict({"sentence": ["a b"] * len(values), "label": values})
    return kind(_data(**data), Eval(), {"train": rows})


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")


def test_names_are_the_recipes_the_data_sets_or_the_labels_themselves() -> None:
    assert _task(["no", "yes", "no"]).names == ["no", "yes"]
    assert _task(["10", "9", "-1"]).names == ["-1", "9", "10"]
    assert _task(["10", "09"]).names == ["09", "10"]
    assert _task(["10", "9", "x"]).names == ["10", "9", "x"]
    assert _task(["0", "1"], labels=["bad", "good"]).names == ["bad", "good"]


def test_labels_of_one_class_are_the_users_to_mend() -> None:
    with pytest.raises(UserError, match=r"column 'label': all labels of the training split are 'a'; there must be two"):
        _task(["a", "a"])


def test_whole_numbers_are_ids_where_no_name_of_the_recipe_is_one() -> None:
    task = _task(["0", "1"], labels=["bad", "good"])
    assert [task.label(value, "here") for value in ("0", "1", "bad", "good")] == [0, 1, 0, 1]
    assert _task(["2", "1"], labels=["2", "1"]).label("1", "here") == 1
    with pytest.raises(UserError, match=r"split 'train', row 1: the label '0' is none of the 2 labels: 1, 2"):
        _task(["0", "1"], labels=["1", "2"])


def test_the_head_has_one_output_a_class() -> None:
    config = _task(["no", "yes", "maybe"]).head_config()
    assert config["num_labels"] == 3
    assert config["id2label"] == {0: "maybe", 1: "no", 2: "yes"}
    assert config["label2id"] == {"maybe": 0, "no": 1, "yes": 2}
    assert _task(["0.5"], Regression).head_config() == {"num_labels": 1, "problem_type": "regression"}


def test_rows_are_encoded_in_order_with_their_labels(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = Dataset.from_dict({"sentence": ["a b c", "d"], "label": ["yes", "no"]})
    task = Classification(_data(), Eval(), {"train": rows})
    encoded = task.encode(rows, tokenizer, "train", "train")
    assert [e["input_ids"] for e in encoded] == [[2, 4, 5, 6, 3], [2, 7, 3]]
    assert [e["label"] for e in encoded] == [1, 0]


def test_pairs_are_encoded_as_pairs_and_cut_to_the_maximum(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = Dataset.from_dict({"one": ["a b"], "two": ["c d"], "label": [1.5]})
    task = Regression(_data(columns=["one", "two"]), Eval(), {"train": rows})
    assert task.encode(rows, tokenizer, "train", "train")[0]["input_ids"] == [2, 4, 5, 3, 6, 7, 3]
    short = Regression(_data(columns=["one", "two"], max_length=5), Eval(), {"train": rows})
    assert len(short.encode(rows, tokenizer, "train", "train")[0]["input_ids"]) == 5


@pytest.mark.parametrize("value", ["perhaps", "2", "-1"])
def test_a_label_outside_the_classes_names_its_row(value: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    task = _task(["no", "yes"])
    rows = {"sentence": ["a", "b", "c"], "label": ["no", "yes", value]}
    with pytest.raises(UserError, match=r"split validation, row 3"):
        task.encode(rows, tokenizer, "validation", "eval")


@pytest.mark.parametrize("value", ["high", None, float("nan"), float("inf")])
def test_a_target_that_is_no_number_names_its_row(value: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    task = _task(["0.5"], Regression)
    with pytest.raises(UserError, match=r"split train, row 2: label .* is not"):
        task.encode({"sentence": ["a", "b"], "label": [1.0, value]}, tokenizer, "train", "train")


def test_a_batch_is_padded_and_masked(tokenizer: PreTrainedTokenizerFast) -> None:
    task = _task(["no", "yes"])
    rows = Dataset.from_dict({"sentence": ["a b c", "d"], "label": ["yes", "no"]})
    batch = task.collate(task.encode(rows, tokenizer, "train", "train"), tokenizer)
    assert batch["input_ids"].tolist() == [[2, 4, 5, 6, 3], [2, 7, 3, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]


def _stub(logits: torch.Tensor) -> Any:
    """A model that gives these logits whatever it reads."""
    return lambda **inputs: SimpleNamespace(logits=logits)


def test_the_loss_is_the_summed_cross_entropy() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    found = _task(["0", "1", "2"]).loss(_stub(logits), {"labels": labels})
    truth = -sum(float(logits[i].log_softmax(0)[label]) for i, label in enumerate(labels))
    assert float(found) == pytest.approx(truth, rel=1e-6)


def test_the_loss_of_regression_is_the_summed_squared_error() -> None:
    logits, labels = torch.randn(4, 1), torch.tensor([0.5, 2.0, 1.0, 4.0])
    found = _task(["0.5"], Regression).loss(_stub(logits), {"labels": labels})
    assert float(found) == pytest.approx(float(((logits[:, 0] - labels) ** 2).sum()), rel=1e-6)
    assert torch.isfinite(_task(["0.5"], Regression).loss(_stub(logits[:1]), {"labels": labels[:1]}))


def test_losses_of_bfloat16_logits_are_float32() -> None:
    logits = torch.randn(4, 3).bfloat16()
    found = _task(["0", "1", "2"]).loss(_stub(logits), {"labels": torch.tensor([0, 2, 1, 1])})
    assert found.dtype == torch.float32
    assert torch.equal(found, F.cross_entropy(logits.float(), torch.tensor([0, 2, 1, 1]), reduction="sum"))


def test_predictions_are_the_largest_logit_or_the_value() -> None:
    found = _task(["0", "1", "2"]).predict(_stub(torch.tensor([[0.0, 1.0, 0.5], [3.0, 1.0, 2.0]])), {}, None)
    assert [record["prediction"] for record in found] == [1, 0]
    assert found[0]["logits"] == [0.0, 1.0, 0.5]
    assert _task(["0.5"], Regression).predict(_stub(torch.tensor([[0.5], [-2.0]])), {}, None) == [
        {"prediction": 0.5},
        {"prediction": -2.0},
    ]


def test_label_smoothing_mixes_in_the_mean_over_the_labels() -> None:
    rows = Dataset.from_dict({"sentence": ["a b"] * 3, "label": ["0", "1", "2"]})
    task = Classification(_data(), Eval(), {"train": rows}, Loss(label_smoothing=0.1))
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    losses = -logits.log_softmax(1)
    truth = 0.9 * losses.gather(1, labels[:, None]).sum() + 0.1 * losses.mean(1).sum()
    assert float(task.loss(_stub(logits), {"labels": labels})) == pytest.approx(float(truth), rel=1e-6)
