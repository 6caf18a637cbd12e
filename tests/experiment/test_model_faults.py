"""What a model's folder shows against a recipe is said at once, all of it, without loading the weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolora.errors import RecipeError
from autolora.experiment.model_faults import check_model
from autolora.experiment.preflight import load_recipe
from autolora.recipe.schema import Model
from tests.model.folders import write_model
from tests.model.recipes import write_recipe


def where(field: str) -> str:
    return "a.yaml"


def messages(folder: Path | str, task: str, limit: tuple[str, int] | None = None, **model: object) -> list[str]:
    made = Model(name=str(folder), **model)  # type: ignore[arg-type]
    return [str(fault).removeprefix("a.yaml: ") for fault in check_model(made, where, task, limit)]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_score_and_lm_head_are_names_of_a_decoders_head(kind: str, tied: bool, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", kind, "AutoModelForCausalLM", tie_word_embeddings=tied)
    assert messages(folder, "classification", head=["score"]) == []
    found = messages(folder, "generation", head=["lm_head"])
    assert found == (
        ["model.head: 'lm_head' is tied to the input embeddings, which would be trained along "
         "(leave it out; LoRA needs no head here)"] if tied else []
    )  # fmt: skip


def test_they_are_of_a_gguf_model_too(smollm2: Path) -> None:
    name = "bundled:SmolLM2-135M-Instruct"
    assert messages(name, "classification", head=["score"]) == []
    (tied,) = messages(name, "generation", head=["lm_head"])
    assert "tied to the input embeddings" in tied
    (wrong,) = messages(name, "classification", head=["scor"])
    assert wrong == "model.head: 'scor' matches no module of the model (did you mean 'score'?)"


def test_no_name_is_recommended_instead_of_itself(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "bert", "AutoModelForSequenceClassification")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")  # never read
    (wrong,) = messages(folder, "classification", head=["score"])
    assert "'score' matches no module of the model" in wrong
    assert "did you mean 'score'" not in wrong


def test_an_encoder_is_no_generator(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "bert", "AutoModelForMaskedLM")
    (fault,) = messages(folder, "generation")
    assert fault.startswith("model.name: bert is an encoder, which sees the tokens that come later")
    decoder = write_model(tmp_path / "decoder", "bert", "AutoModelForCausalLM", is_decoder=True)
    assert messages(decoder, "generation") == []


def test_all_faults_of_model_against_recipe_are_said_together(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "roberta", "AutoModelForSequenceClassification")
    changes = {"name": str(folder), "head": ["classifier", "out_proj"], "target_modules": ["dense", "valeu", "value"]}
    path = write_recipe(tmp_path, "classification", folder, **{"model": changes, "search": {"rank": 20}})
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    text = str(error.value)
    assert "model.head: 'out_proj' lies in 'classifier'" in text
    assert "model.target_modules: 'dense' matches classifier.dense in the head" in text
    assert "model.target_modules: 'valeu' matches no layer of the model (did you mean 'value'?)" in text
    assert "search.rank: rank 20 is above the smaller side of" in text


@pytest.mark.parametrize("task", ["classification", "generation"])
def test_experts_are_refused_by_name(task: str, tmp_path: Path) -> None:
    auto = "AutoModelForCausalLM" if task == "generation" else "AutoModelForSequenceClassification"
    folder = write_model(tmp_path / "model", "mixtral", auto)
    (fault,) = messages(folder, task, target_modules=["q_proj", "gate_up_proj"])
    assert fault.startswith("model.target_modules: 'gate_up_proj' is a parameter of 3 dimensions")
    assert messages(folder, task, target_modules=["q_proj", "v_proj"]) == []


def test_the_modules_of_an_encoder_decoder_are_known_without_safetensors(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "t5", "AutoModelForSeq2SeqLM")
    assert messages(folder, "generation", target_modules=["q", "EncDecAttention.v", "wi_0"]) == []
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")  # never read
    assert messages(folder, "generation", target_modules=["q", "EncDecAttention.v", "wi_0"]) == []
