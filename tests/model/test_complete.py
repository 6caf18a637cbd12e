"""A checkpoint fills the model, but for the head that is trained; else it is refused, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
)

from autolora.errors import UserError
from autolora.experiment.api import run
from autolora.recipe.schema import Recipe
from tests.laboratory import tiny_run
from tests.methods.support import write_generation_laboratory
from tests.model.checkpoints import checkpoint, copied, edit_weights, loaded, recipe_of


def refusal(recipe: Recipe) -> str:
    with pytest.raises(UserError) as error:
        loaded(recipe)
    return str(error.value)


def test_a_pooler_that_the_checkpoint_lacks_is_refused_with_what_to_do(laboratory: Path, tmp_path: Path) -> None:
    folder = checkpoint(laboratory, tmp_path / "mlm", BertForMaskedLM)
    message = refusal(recipe_of(laboratory, folder))
    assert "lacks 2 of the 41 tensors" in message
    assert "bert.pooler.dense.bias, bert.pooler.dense.weight" in message
    assert "model.head: [pooler, classifier]" in message


def test_what_the_message_says_makes_it_run(laboratory: Path, tmp_path: Path) -> None:
    folder = checkpoint(laboratory, tmp_path / "mlm", BertForMaskedLM)
    model = loaded(recipe_of(laboratory, folder, "model.head=[pooler, classifier]"))
    theirs = BertForMaskedLM.from_pretrained(folder).bert.encoder.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.bert.encoder.state_dict().items())


@pytest.mark.parametrize("kind", [BertModel, BertForPreTraining, BertForSequenceClassification])
def test_another_tasks_head_is_left_out(laboratory: Path, tmp_path: Path, kind: type) -> None:
    folder = checkpoint(laboratory, tmp_path / "model", kind, num_labels=5)
    model = loaded(recipe_of(laboratory, folder))
    theirs = BertModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.bert.state_dict().items())


def test_the_head_is_drawn_as_transformers_draws_it(laboratory: Path, tmp_path: Path) -> None:
    from autolora.training.seeds import derive, seed_torch

    run, context = tiny_run(laboratory, tmp_path)
    model = context.model()
    seed_torch(derive(run.recipe.seed, "model"))
    stock = AutoModelForSequenceClassification.from_pretrained(laboratory / "model", num_labels=2)
    assert torch.equal(model.classifier.weight, stock.classifier.weight)


@pytest.mark.parametrize("part", ["_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module."])
def test_names_with_a_wrappers_name_are_refused_and_the_message_mends_them(
    laboratory: Path, tmp_path: Path, part: str
) -> None:
    folder = copied(laboratory / "model", tmp_path / "model")
    edit_weights(folder, lambda tensors: {part + name: tensor for name, tensor in tensors.items()})
    message = refusal(recipe_of(laboratory, folder))
    assert f"39 tensors have {part!r} in them" in message
    exec(message.partition("rename them: ")[2])  # as the message has it
    model, whole = loaded(recipe_of(laboratory, folder)), loaded(recipe_of(laboratory, laboratory / "model"))
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_wrappers_name_in_the_middle_is_seen(laboratory: Path, tmp_path: Path) -> None:
    folder = checkpoint(laboratory, tmp_path / "model", BertForSequenceClassification)
    edit_weights(folder, lambda tensors: {n.replace("bert.", "bert._orig_mod."): t for n, t in tensors.items()})
    assert "'_orig_mod.' in them, which torch.compile puts there" in refusal(recipe_of(laboratory, folder))


def test_an_adapter_that_was_not_merged_is_refused(laboratory: Path, tmp_path: Path) -> None:
    folder = copied(laboratory / "model", tmp_path / "model")
    edit_weights(folder, lambda ts: {n.replace("query.", "query.base_layer."): t for n, t in ts.items()})
    assert "was not merged" in refusal(recipe_of(laboratory, folder))


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("vocab_size", 50, "bert.embeddings.word_embeddings.weight is 31 × 32, and should be 50 × 32"),
        ("hidden_size", 64, "37 of its tensors in other shapes than its config.json says"),
        ("intermediate_size", 32, "bert.encoder.layer.0.intermediate.dense.bias is 64, and should be 32"),
        ("max_position_embeddings", 80, "position_embeddings.weight is 64 × 32, and should be 80 × 32"),
        ("type_vocab_size", 1, "token_type_embeddings.weight is 2 × 32, and should be 1 × 32"),
        ("num_hidden_layers", 3, "lacks 16 of the 57 tensors"),
        ("num_hidden_layers", 1, "has 16 tensors for which its config.json has no place: encoder.layer.1."),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    laboratory: Path, tmp_path: Path, entry: str, value: int, said: str
) -> None:
    message = refusal(recipe_of(laboratory, copied(laboratory / "model", tmp_path / "model", **{entry: value})))
    assert said in message
    assert "take the config.json that belongs to these weights" in message
    assert "model.head" not in message


@pytest.mark.parametrize("lost", ["encoder.layer.1.attention.self.key.bias", "embeddings.word_embeddings.weight"])
def test_a_tensor_that_is_lost_is_named(laboratory: Path, tmp_path: Path, lost: str) -> None:
    folder = copied(laboratory / "model", tmp_path / "model")
    edit_weights(folder, lambda tensors: {name: t for name, t in tensors.items() if name != lost})
    message = refusal(recipe_of(laboratory, folder))
    assert (
        "lacks 1 of the 41 tensors of BertForSequenceClassification, which would be drawn at random, not trained"
        in message
    )
    assert f"bert.{lost}" in message


def generator(tmp_path: Path, kind: type, **config: bool) -> Recipe:
    """The recipe of a generator with a GPT-2 that was saved as a class."""
    place = write_generation_laboratory(tmp_path / "laboratory", "gpt2")
    with torch.random.fork_rng():
        size = {"vocab_size": 12, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}
        kind(GPT2Config(**size, **config)).save_pretrained(place / "model")
    return tiny_run(place, tmp_path / "runs")[0].recipe


def test_a_generator_without_its_output_layer_is_refused(tmp_path: Path) -> None:
    message = refusal(generator(tmp_path, GPT2Model, tie_word_embeddings=False))
    assert "lacks 1 of the 29 tensors of GPT2LMHeadModel" in message
    assert "lm_head.weight" in message
    assert "model.head: [lm_head]" in message


@pytest.mark.parametrize(("kind", "tied"), [(GPT2Model, True), (GPT2LMHeadModel, True), (GPT2LMHeadModel, False)])
def test_tied_and_whole_generators_are_taken(tmp_path: Path, kind: type, tied: bool) -> None:
    recipe = generator(tmp_path, kind, tie_word_embeddings=tied)
    model = loaded(recipe)
    theirs = GPT2LMHeadModel.from_pretrained(recipe.model.name).state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.state_dict().items())


def test_an_encoder_without_what_predicts_words_is_no_generator(laboratory: Path, tmp_path: Path) -> None:
    place = write_generation_laboratory(tmp_path / "laboratory", "gpt2")
    recipe = tiny_run(place, tmp_path / "runs")[0].recipe
    model = recipe.model.model_copy(update={"name": str(laboratory / "model")})
    assert "cls.predictions" in refusal(recipe.model_copy(update={"model": model}))


def test_what_is_not_filled_is_refused_before_a_run_has_a_folder(laboratory: Path, tmp_path: Path) -> None:
    folder = checkpoint(laboratory, tmp_path / "mlm", BertForMaskedLM)
    recipe = recipe_of(laboratory, folder)
    with pytest.raises(UserError, match=r"model.head: \[pooler, classifier\]"):
        run(recipe, output=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
