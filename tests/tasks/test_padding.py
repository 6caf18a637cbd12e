"""Predictions depend neither on the batch size nor on the side that a tokenizer pads on (float32, to 1e-5)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.context.base import Context
from autolora.evaluation.predict import predict
from tests.model.folders import edit_json, write_model
from tests.model.recipes import made

KINDS = ("bert", "roberta", "electra", "distilbert", "gpt2", "llama", "opt", "bloom")
DECODERS = ("gpt2", "llama", "opt", "bloom")
ENCODERS = ("bert", "roberta", "electra", "distilbert")
CLASS = {"classification": "SequenceClassification", "regression": "SequenceClassification"}
CLASS |= {"tagging": "TokenClassification", "generation": "CausalLM"}


def context(folder: Path, task: str, kind: str, side: str = "right", **changes: Any) -> Context:
    model = write_model(folder / side / "model", kind, f"AutoModelFor{CLASS[task]}", tokenizer={"padding_side": side})
    for key, value in changes.items():
        edit_json(model / "config.json", lambda config, key=key, value=value: config.update({key: value}))
    return made(folder / side, task, model)


def predictions(context: Context, batch_size: int, split: str = "train") -> list[dict[str, Any]]:
    rows, tokenizer = context.splits[split], context.tokenizer
    examples = context.task.encode(rows, tokenizer, split, "eval")
    collate = partial(context.task.collate, tokenizer=tokenizer)
    settings: dict[str, Any] = {"tokenizer": tokenizer, "batch_size": batch_size, "compute": context.compute}
    return predict(context.model(), context.task, examples, collate, **settings)


def close(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    pairs = [
        [record.get("logits", record["prediction"]) for record in both] for both in zip(found, expected, strict=True)
    ]
    if "cut_off" in found[0]:  # tags
        return all(a == b for a, b in pairs)
    return all(torch.allclose(torch.tensor(a), torch.tensor(b), rtol=0, atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_is_scored_the_same_alone_and_in_any_batch(task: str, kind: str, tmp_path: Path) -> None:
    alone = predictions(context(tmp_path, task, kind), 1)
    for side in ("right", "left"):
        for size in (3, 8):
            assert close(predictions(context(tmp_path, task, kind, side), size), alone), (side, size)


@pytest.mark.parametrize("kind", KINDS)
def test_a_padding_id_in_the_config_that_is_not_the_tokenizers_does_not_matter(kind: str, tmp_path: Path) -> None:
    right = context(tmp_path / "right", "classification", kind)
    # RoBERTa counts its positions from the padding id that it was built with: there the config has to be right.
    other = context(tmp_path / "other", "classification", kind, **{} if kind == "roberta" else {"pad_token_id": 7})
    assert other.model().config.pad_token_id == right.tokenizer.pad_token_id == 0
    assert close(predictions(other, 4), predictions(right, 1))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "opt"])
def test_padding_with_the_end_of_sequence_inside_a_text(kind: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"pad_token": None}
    model = write_model(tmp_path / "model", kind, "AutoModelForSequenceClassification", tokenizer=changes, eos=True)
    own = made(tmp_path, "classification", model)
    assert own.tokenizer.pad_token_id == own.model().config.pad_token_id == 2
    found = predictions(own, 8)
    assert close(found, predictions(own, 1))
    with torch.no_grad():  # stock: the last token that is not the padding one
        for record, text in zip(found, own.splits["train"]["sentence"], strict=True):
            ids = own.tokenizer(text, return_tensors="pt")["input_ids"]
            assert ids[0, -1] == 2
            assert torch.allclose(own.model().eval()(ids).logits[0], torch.tensor(record["logits"]), atol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", [*ENCODERS, "gpt2", "llama"])
def test_tags_are_written_and_read_at_their_words(kind: str, side: str, tmp_path: Path) -> None:
    made_ = context(tmp_path, "tagging", kind, side)
    examples = made_.examples("train")
    model = made_.model().eval()
    assert close(predictions(made_, 8), predictions(made_, 1))
    for padding_side in ("right", "left"):  # whatever becomes of the tokenizer afterwards
        made_.tokenizer.padding_side = padding_side
        batch = made_.task.collate(examples, made_.tokenizer)
        with torch.no_grad():
            together = made_.task.logits(model, batch)  # type: ignore[attr-defined]
            for row, example in enumerate(examples):
                ids = torch.tensor([example["input_ids"]])
                at = batch["words"][row] >= 0
                assert torch.allclose(together[row][at], model(ids).logits[0], atol=1e-5)
                tags = [made_.task.names[label] for label in batch["labels"][row][at].tolist()]
                assert tags == example["tags"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("decoding", [{"beams": 1}, {"beams": 3, "no_repeat_ngram": 2}, {"no_repeat_ngram": 1}])
def test_a_text_is_generated_the_same_alone_and_in_any_batch(
    kind: str, side: str, decoding: dict[str, Any], tmp_path: Path
) -> None:
    # Padding, separator and end are one token, as in GPT-2's recipes.
    changes: dict[str, Any] = {"padding_side": side, "pad_token": None, "bos_token": None}
    model = write_model(tmp_path / "model", kind, "AutoModelForCausalLM", tokenizer=changes)
    own = made(tmp_path, "generation", model, eval={"generation": {"max_new_tokens": 6, **decoding}})
    alone = predictions(own, 1)
    assert len({record["prediction"] for record in alone}) > 1
    assert predictions(own, 3) == predictions(own, 8) == alone
    assert alone == [{"prediction": text} for text in by_hand(own, decoding)]


def by_hand(own: Context, decoding: dict[str, Any]) -> list[str]:
    """Stock generation, row by row, without any padding."""
    model, tokenizer, texts = own.model().eval(), own.tokenizer, []
    for text in dict.fromkeys(own.splits["train"]["input"]):
        ids = torch.tensor([[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]])
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=decoding.get("beams", 1),
            no_repeat_ngram_size=decoding.get("no_repeat_ngram", 0),
            max_new_tokens=6,
            pad_token_id=2,
            eos_token_id=2,
        )
        texts.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("kind", DECODERS)
def test_the_loss_of_a_generated_text_does_not_depend_on_its_batch(kind: str, tmp_path: Path) -> None:
    own = context(tmp_path, "generation", kind, "left")
    model, examples = own.model().eval(), own.examples("train")

    def loss(*chosen: Any) -> Tensor:
        return own.task.loss(model, own.task.collate(chosen, tokenizer=own.tokenizer))

    with torch.no_grad():
        assert torch.allclose(loss(*examples), sum(map(loss, examples), torch.zeros(())), atol=1e-4)
