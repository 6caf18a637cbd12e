"""Generation: what is learned from, what is generated, how references are grouped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from autolora.data.linearise import e2e, none, triples
from autolora.errors import UserError
from autolora.evaluation.predict import predict
from autolora.recipe.schema import Data, Eval, Loss
from autolora.tasks.generation import Generation
from autolora.training.compute import Compute

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "b", "c", "d", "e", "name", ":", "|"]
ROWS = {"input": ["a", "a", "b c"], "output": ["d e", "e", "d"]}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def task(rows: dict[str, list[Any]] = ROWS, smoothing: float = 0.0, evaluation: Any = None, **data: Any) -> Generation:
    settings = {"path": "x", "columns": ["input"], "label": "output", "max_length": 12, **data}
    splits = {"train": Dataset.from_dict(rows), "test": Dataset.from_dict(rows)}
    found = Eval.model_validate({"metrics": ["bleu"], **(evaluation or {})})
    return Generation(Data.model_validate(settings), found, splits, Loss(label_smoothing=smoothing))


def place(row: int) -> str:
    return f"test, row {row + 1}"


def model(kind: str) -> Any:
    torch.manual_seed(0)
    common = {
        "vocab_size": len(WORDS),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.5,
    }
    if kind == "gpt2":
        config: Any = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=40, **common)
    else:
        config = LlamaConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=40,
            **common,
        )
    return AutoModelForCausalLM.from_config(config).eval()


def test_a_pair_is_input_separator_output_and_end(tokenizer: Any) -> None:
    found = task().encode(Dataset.from_dict(ROWS), tokenizer, "train", "train")
    assert found == [
        {"input_ids": [4, 1, 7, 8, 2], "prompt": 2},
        {"input_ids": [4, 1, 8, 2], "prompt": 2},
        {"input_ids": [5, 6, 1, 7, 2], "prompt": 3},
    ]
    assert task().units(found) == 3 + 2 + 2


def test_several_references_of_one_input_are_one_example_of_an_evaluation_split(tokenizer: Any) -> None:
    found = task().encode(Dataset.from_dict(ROWS), tokenizer, "test", "eval")
    assert [(e["input"], e["references"], e["input_ids"]) for e in found] == [
        ("a", ["d e", "e"], [4, 1]),
        ("b c", ["d"], [5, 6, 1]),
    ]
    rows = {"input": ["a"], "output": [["d", "e e"]]}
    assert [e["references"] for e in task(rows).encode(Dataset.from_dict(rows), tokenizer, "test", "eval")] == [
        ["d", "e e"]
    ]
    assert len(task(rows).encode(Dataset.from_dict(rows), tokenizer, "train", "train")) == 2


def test_training_pads_right_and_evaluation_left(tokenizer: Any) -> None:
    made = task()
    train = made.collate(made.encode(Dataset.from_dict(ROWS), tokenizer, "train", "train"), tokenizer)
    assert train["input_ids"].tolist() == [[4, 1, 7, 8, 2], [4, 1, 8, 2, 0], [5, 6, 1, 7, 2]]
    assert train["labels"].tolist() == [[7, 8, 2], [8, 2, -100], [-100, 7, 2]]
    test = made.collate(made.encode(Dataset.from_dict(ROWS), tokenizer, "test", "eval"), tokenizer)
    assert test["input_ids"].tolist() == [[0, 4, 1], [5, 6, 1]]
    assert test["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_loss_is_that_of_the_output_tokens_alone(tokenizer: Any, kind: str, smoothing: float) -> None:
    made, net = task(smoothing=smoothing), model(kind)
    examples = made.encode(Dataset.from_dict(ROWS), tokenizer, "train", "train")
    found = made.loss(net, made.collate(examples, tokenizer)).item()
    truth = 0.0
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        losses = -F.log_softmax(net(input_ids=ids).logits[0, example["prompt"] - 1 : -1], dim=-1)
        target = ids[0, example["prompt"] :, None]
        truth += ((1 - smoothing) * losses.gather(1, target).sum() + smoothing * losses.mean(1).sum()).item()
    assert found == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_padding_does_not_change_what_is_generated(tokenizer: Any, kind: str, beams: int) -> None:
    rows = {"input": ["a", "b c d", "a b c d e a", "e"], "output": ["d", "d", "d", "d"]}
    made = task(rows, evaluation={"generation": {"beams": beams, "max_new_tokens": 6}})
    net, examples = model(kind), made.encode(Dataset.from_dict(rows), tokenizer, "test", "eval")

    def outputs(batch_size: int) -> list[str]:
        cpu = Compute("float32", cpu=True)
        settings = {"tokenizer": tokenizer, "batch_size": batch_size, "compute": cpu}
        records = predict(net, made, examples, lambda e: made.collate(e, tokenizer), **settings)
        return [record["prediction"] for record in records]

    assert outputs(1) == outputs(4)
    assert any(outputs(4))


def test_an_output_that_is_too_long_loses_its_end_and_an_input_is_refused(
    tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    short = task(max_length=4)
    assert next(e["input_ids"] for e in short.encode(Dataset.from_dict(ROWS), tokenizer, "train", "train")) == [
        4,
        1,
        7,
        8,
    ]
    assert "2 of 3 training outputs lose their end at data.max_length 4" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"split 'test': the input 'b c'… has 3 tokens, .* data.max_length 3 "):
        task(max_length=3).encode(Dataset.from_dict(ROWS), tokenizer, "test", "eval")


def test_categories_are_scored_apart_by_whether_training_has_them(tokenizer: Any) -> None:
    train = {"input": ["a"], "output": ["d"], "category": ["Airport"]}
    test = {
        "input": ["b", "c", "e"],
        "output": ["d e a b", "a b c d", "e e e e"],
        "category": ["Airport", "New", "New"],
    }
    data = Data(path="x", columns=("input",), label="output", category="category", max_length=12)
    made = Generation(
        data, Eval(metrics=("bleu",)), {"train": Dataset.from_dict(train), "test": Dataset.from_dict(test)}
    )
    examples = made.encode(Dataset.from_dict(test), tokenizer, "test", "eval")
    records = [{"prediction": text} for text in ("d e a b", "d d d d", "")]
    rows = [scored.row() for scored in made.metrics(records, examples)]
    assert [(row["categories"], row["examples"], row["empty outputs"]) for row in rows] == [
        ("seen", 1, 0),
        ("unseen", 2, 1),
        ("all", 3, 1),
    ]
    assert rows[0]["bleu"] == pytest.approx(1.0)
    assert 0 < rows[2]["bleu"] < 1


def test_structured_inputs_become_a_line_of_text() -> None:
    assert e2e("name[Blue Spice], eatType[coffee shop], priceRange[£20-25]", "w") == (
        "name : Blue Spice | eatType : coffee shop | priceRange : £20-25"
    )
    assert triples(["A_b | leader | C, D", "A_b | area | 1 | 2"][:1], "w") == "A_b : leader : C, D"


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        (e2e, "name[Blue Spice", "w must be like name"),
        (e2e, "", "w must be text that is not empty"),
        (triples, [], "w must be a list of triples"),
        (triples, ["a | b"], "w: a triple must be 'subject | predicate | object', got 'a | b'"),
        (none, ["a | b | c"], "set data.linearise to triples"),
    ],
)
def test_a_malformed_input_is_named(function: Any, value: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        function(value, "w")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"input": ["a", "b"], "output": ["c", " "]}, "test, row 2: 'output' must be text that is not empty"),
        ({"input": ["a", " "], "output": ["c", "d"]}, "test, row 2: 'input' must be text that is not empty"),
        ({"input": ["a"], "output": [[]]}, "test, row 1: 'output' holds no reference"),
    ],
)
def test_an_empty_input_or_reference_is_named(rows: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Generation.check_rows(Dataset.from_dict(rows), Data(path="x", columns=("input",), label="output"), place)
    assert message in str(error.value)
