"""A model that does not fit its task or its data is refused before the first step, with everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.recipe.load import read_recipe
from autolora.runs.store import Run
from tests.model.folders import edit_json, write_model
from tests.model.recipes import made, write_recipe

CLASSIFIER = "AutoModelForSequenceClassification"


def refusal(folder: Path, task: str, model: Path, /, **sections: Any) -> str:
    """What a run is refused with before its first step, whatever its folder shows beforehand."""
    recipe = read_recipe(write_recipe(folder, task, model, **sections))
    run = Run.create(folder / "runs", recipe)
    with pytest.raises(UserError) as error:
        run_stages(run, Context(recipe, show=False))
    assert not list(run.path.rglob("log.jsonl"))
    return str(error.value)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "xlnet"])
def test_an_encoder_that_sees_later_tokens_is_refused_as_a_generator(kind: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, "generation", write_model(tmp_path / "model", kind, "AutoModelForCausalLM"))
    assert "sees the tokens that come later" in message
    assert "take a decoder" in message


def test_a_generator_whose_positions_begin_elsewhere_in_decoding_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "roberta", "AutoModelForCausalLM", is_decoder=True)
    assert "where its positions begin" in refusal(tmp_path, "generation", model)


def test_an_encoder_that_was_made_a_decoder_generates(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert", "AutoModelForCausalLM", is_decoder=True)
    recipe = load_recipe(write_recipe(tmp_path, "generation", model))
    run_stages(Run.create(tmp_path / "runs", recipe), Context(recipe, show=False))


def test_a_model_whose_results_depend_on_the_padding_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "classification", write_model(tmp_path / "model", "xlnet", CLASSIFIER))
    assert "depends on the padding" in message


def test_texts_as_long_as_the_model_allows_are_taken(tmp_path: Path) -> None:
    longest = write_model(tmp_path / "model", "bert", CLASSIFIER, max_position_embeddings=9)
    recipe = load_recipe(write_recipe(tmp_path, "classification", longest, data={"max_length": 9}))
    rows = [{"sentence": "b c d e f g h a b", "label": label} for label in "abab"]
    (tmp_path / "data/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_stages(Run.create(tmp_path / "runs", recipe), Context(recipe, show=False))


def test_a_token_without_an_embedding_is_refused_with_its_id(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert", CLASSIFIER, vocab_size=10)
    assert "gives the token id 11 (the largest in the data), and the model has embeddings for 10" in refusal(
        tmp_path, "classification", model
    )


def test_a_padding_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "gpt2", CLASSIFIER, tokenizer={"pad_token": "[PAD]"})
    assert "gives the token id 12 (its padding token's)" in refusal(tmp_path, "classification", model)


def test_a_token_type_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    model = write_model(tmp_path / "model", "bert", CLASSIFIER, tokenizer=names, pair=True, type_vocab_size=1)
    assert "token types up to 1, and the model knows 1 (0 to 0)" in refusal(tmp_path, "pairs", model)


def test_a_model_without_token_types_is_given_none(tmp_path: Path) -> None:
    plain = made(tmp_path / "a", "pairs", write_model(tmp_path / "a/model", "distilbert", CLASSIFIER, pair=True))
    names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    typed_model = write_model(tmp_path / "b/model", "distilbert", CLASSIFIER, pair=True, tokenizer=names)
    typed = made(tmp_path / "b", "pairs", typed_model)
    assert "token_type_ids" in typed.examples("train")[0]
    logits = [
        own.task.logits(own.model().eval(), own.task.collate(own.examples("train"), own.tokenizer))  # type: ignore[attr-defined]
        for own in (plain, typed)
    ]
    assert torch.equal(*logits)


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"search": {"rank": 17}}, "search.rank: rank 17"),
        ({"method": {"name": "lora", "size": 17}}, "method.size: rank 17"),
        ({"method": {"name": "lora-grid", "size": 20}}, "method.size: rank 20"),
    ],
)
def test_a_rank_above_a_layers_smaller_side_is_refused(sections: dict[str, Any], field: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert", CLASSIFIER)
    path = write_recipe(tmp_path, "classification", model, **{"method": {"name": "autolora"}, **sections})

    def run() -> None:
        recipe = load_recipe(path)
        run_stages(Run.create(tmp_path / "runs", recipe), Context(recipe, show=False))

    with pytest.raises(UserError) as error:
        run()
    assert f"{field} is above the smaller side of bert.encoder.layer.0.attention.self.query (16)" in str(error.value)


def test_a_tokenizer_whose_files_are_missing_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert", CLASSIFIER)
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()
    assert "the tokenizer knows no token of the data" in refusal(tmp_path, "classification", model)


def test_everything_that_does_not_fit_is_said_together(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "roberta", CLASSIFIER, vocab_size=11, max_position_embeddings=8)
    message = refusal(tmp_path, "classification", model, model={"name": str(model), "head": ["classifier", "out_proj"]})
    assert "token id 11" in message
    assert "longer than the model's maximum of 7" in message
    assert "classifier.out_proj lies in classifier" in message


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_two_pairs_are_different_tokens_without_a_pair_template(kind: str, tmp_path: Path) -> None:
    own = made(tmp_path, "pairs", write_model(tmp_path / "model", kind, CLASSIFIER))
    rows = {"sentence": ["a b", "a"], "other": ["c", "b c"], "label": ["a", "b"]}
    first, second = (list(e["input_ids"]) for e in own.task.encode(rows, own.tokenizer, "train", "train"))
    assert (first, second) == ([4, 5, 2, 6], [4, 2, 5, 6])


def test_a_pair_template_stays_as_it_is(tmp_path: Path) -> None:
    own = made(tmp_path, "pairs", write_model(tmp_path / "model", "bert", CLASSIFIER, pair=True))
    rows = {"sentence": ["a b"], "other": ["c"], "label": ["a"]}
    stock = own.tokenizer("a b", "c")["input_ids"]
    assert list(own.task.encode(rows, own.tokenizer, "train", "train")[0]["input_ids"]) == stock == [1, 4, 5, 2, 6, 2]


def test_a_pair_without_anything_to_part_it_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert", CLASSIFIER, tokenizer={"eos_token": None, "bos_token": None})
    assert "neither a separator nor an end-of-sequence token" in refusal(tmp_path, "pairs", model)


def test_an_adapter_that_is_named_as_the_model_says_what_to_write(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert", CLASSIFIER)
    for config in (True, False):  # ours have a config.json beside the adapter's
        (model / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "owner/base"}))
        if not config:
            (model / "config.json").unlink()
        with pytest.raises(UserError) as error:
            load_recipe(write_recipe(tmp_path, "classification", model))
        assert f"{model} is a LoRA adapter of owner/base" in str(error.value)
        assert "write model.name: owner/base" in str(error.value)


def test_pickled_weights_that_cannot_be_read_safely_say_how_to_convert_them(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert", CLASSIFIER)
    state: dict[str, Any] = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save({**state, "more": Path("/")}, model / "pytorch_model.bin")
    message = refusal(tmp_path, "classification", model)
    assert "convert them to safetensors" in message
    assert "weights_only" not in message
    assert "could not be found" not in message


def test_pickled_weights_that_hold_tensors_only_are_read_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "model", "bert", CLASSIFIER)
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    recipe = load_recipe(write_recipe(tmp_path, "classification", model))
    run_stages(Run.create(tmp_path / "runs", recipe), Context(recipe))
    assert "convert them" not in capsys.readouterr().err
    (model / "model.safetensors").unlink()
    run_stages(Run.create(tmp_path / "runs", recipe), Context(recipe))
    assert "convert them to safetensors" in capsys.readouterr().err


def test_a_model_that_is_there_is_not_said_to_be_missing(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "bert", CLASSIFIER)
    edit_json(model / "config.json", lambda config: config.update(model_type="nonsense"))
    message = refusal(tmp_path, "classification", model)
    assert "does not recognize this architecture" in message
    assert "could not be found" not in message
    assert "hub failed" not in message
