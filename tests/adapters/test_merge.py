"""Merged models against stock PEFT: every kind of LoRA, other adapters, and what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import autolora
from autolora.errors import UserError
from tests.adapters.merged import assert_same, logits, made, randomise, reloaded
from tests.model.folders import edit_json, write_model

CAUSAL = "AutoModelForCausalLM"
LINEAR = {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", LINEAR),
    "rslora": ("llama", {**LINEAR, "use_rslora": True}),
    "patterns": (
        "llama",
        {**LINEAR, "rank_pattern": {"^model.layers.0.self_attn.q_proj": 5}, "alpha_pattern": {"down_proj": 11}},
    ),
    "layers": ("llama", {**LINEAR, "layers_to_transform": [1]}),
    "excluded": ("llama", {**LINEAR, "exclude_modules": ["model.layers.0.mlp.down_proj"]}),
    "dora": ("llama", {**LINEAR, "use_dora": True}),
    "bias": ("opt", {**LINEAR, "target_modules": ["q_proj", "fc2"], "bias": "all"}),
    "lora_bias": ("opt", {**LINEAR, "target_modules": ["q_proj", "fc2"], "lora_bias": True}),
    "saved head": ("llama", {**LINEAR, "modules_to_save": ["lm_head"]}),
    "conv1d": ("gpt2", {**LINEAR, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "conv1d dora": ("gpt2", {**LINEAR, "target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True}),
    "embeddings": ("llama", {**LINEAR, "target_modules": ["embed_tokens", "v_proj"]}),
    "head": ("llama", {**LINEAR, "target_modules": ["lm_head", "v_proj"]}),
    "tokens": ("llama", {**LINEAR, "trainable_token_indices": [4, 5]}),
    "experts": ("mixtral", {**LINEAR, "target_modules": ["q_proj"], "target_parameters": ["mlp.experts.down_proj"]}),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_merged_model_computes_what_base_and_adapter_do(name: str, tmp_path: Path) -> None:
    kind, config = KINDS[name]
    case = made(tmp_path, kind, CAUSAL, LoraConfig(**config))
    found = autolora.merge(case.adapter, tmp_path / "merged")
    model = assert_same(case, found)
    assert found.dtype == "float32"
    assert model.config.architectures == [found.model_class]
    base = getattr(transformers, CAUSAL).from_pretrained(case.base)
    assert not torch.allclose(logits(base), case.logits, atol=1e-2), "the adapter does something"


@pytest.mark.parametrize("tied", ["embed_tokens", "lm_head", "both", "saved", "tokens"])
def test_an_update_of_tied_embeddings_stays_where_it_belongs(tied: str, tmp_path: Path) -> None:
    targets: dict[str, dict[str, Any]] = {
        "embed_tokens": {"target_modules": ["embed_tokens"]},
        "lm_head": {"target_modules": ["lm_head", "q_proj"]},
        "both": {"target_modules": ["embed_tokens", "lm_head"]},
        "saved": {"modules_to_save": ["embed_tokens"]},
        "tokens": {"trainable_token_indices": [4, 5]},
    }
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**{**LINEAR, **targets[tied]}), tie_word_embeddings=True)
    found = autolora.merge(case.adapter, tmp_path / "merged")
    model = assert_same(case, found)
    assert model.config.tie_word_embeddings is (tied == "tokens")
    assert any("share a weight" in note for note in found.notes) is (tied != "tokens")


def test_tied_embeddings_that_the_adapter_leaves_alone_stay_tied(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR), tie_word_embeddings=True)
    found = autolora.merge(case.adapter, tmp_path / "merged")
    assert assert_same(case, found).config.tie_word_embeddings is True
    assert found.notes == ()
    with safe_open(str(found.path / "model.safetensors"), "pt") as tensors:
        assert "lm_head.weight" not in tensors.keys()  # noqa: SIM118


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoder_decoders(kind: str, tmp_path: Path) -> None:
    targets = ["q", "wo"] if kind == "t5" else ["q_proj", "fc2"]
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=targets, r=2, lora_alpha=8)
    smaller = {"initializer_factor": 1.0} if kind == "t5" else {}
    case = made(tmp_path, kind, "AutoModelForSeq2SeqLM", config, **smaller)
    assert_same(case, autolora.merge(case.adapter, tmp_path / "merged"))


@pytest.mark.parametrize("target", ["lm_head", "encoder.embed_tokens"])
def test_one_of_several_that_share_a_weight(target: str, tmp_path: Path) -> None:
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=[target], r=2, lora_alpha=8)
    case = made(tmp_path, "bart", "AutoModelForSeq2SeqLM", config)
    model = assert_same(case, autolora.merge(case.adapter, tmp_path / "merged"))
    assert model.config.tie_word_embeddings is False


@pytest.mark.parametrize("target", ["lm_head", "encoder.embed_tokens"])
def test_a_weight_that_an_architecture_always_shares_is_refused(target: str, tmp_path: Path) -> None:
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=[target], r=2, lora_alpha=8)
    case = made(tmp_path, "t5", "AutoModelForSeq2SeqLM", config)
    refused(case.adapter, tmp_path / "merged", rf"always shares {target}\.weight with shared\.weight")


@pytest.mark.parametrize(
    "config",
    [
        peft.AdaLoraConfig(target_modules=["q_proj"], init_r=4, target_r=2, total_step=10, tfinal=2, tinit=2),
        peft.LoHaConfig(target_modules=["q_proj"], r=2),
        peft.LoKrConfig(target_modules=["q_proj"], r=2),
        peft.IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ],
    ids=lambda config: str(config.peft_type.value),
)
def test_other_adapters_that_change_weights(config: Any, tmp_path: Path) -> None:
    config.task_type = "CAUSAL_LM"
    case = made(tmp_path, "llama", CAUSAL, config)
    assert_same(case, autolora.merge(case.adapter, tmp_path / "merged"))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS"])
def test_a_classifiers_head_goes_along_and_its_size_is_the_adapters(task: str, kind: str, tmp_path: Path) -> None:
    auto = "AutoModelForSequenceClassification" if task == "SEQ_CLS" else "AutoModelForTokenClassification"
    targets = {"bert": ["query", "value"], "gpt2": ["c_attn"], "llama": ["q_proj"]}[kind]
    config = LoraConfig(task_type=task, target_modules=targets, fan_in_fan_out=kind == "gpt2", r=2)
    if task == "SEQ_CLS" and kind == "bert":
        config.modules_to_save = ["classifier", "pooler"]
    case = made(tmp_path, kind, "AutoModel", config, adapted_class=auto, options={"num_labels": 5})
    found = autolora.merge(case.adapter, tmp_path / "merged")
    assert assert_same(case, found).config.num_labels == 5
    assert any("no names for them: they are LABEL_0" in note for note in found.notes)


def test_the_names_of_classes_beside_the_adapter_go_along(tmp_path: Path) -> None:
    names = {0: "bad", 1: "good", 2: "odd"}
    config = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2)
    options = {"num_labels": 3, "id2label": names, "ignore_mismatched_sizes": True}
    kind = "AutoModelForSequenceClassification"
    case = made(tmp_path, "bert", kind, config, options=options)
    model = getattr(transformers, kind).from_pretrained(case.base, **options)
    model.config.save_pretrained(case.adapter)
    found = autolora.merge(case.adapter, tmp_path / "merged")
    assert assert_same(case, found).config.id2label == names
    assert found.notes == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_precision_stays_the_bases_and_is_rounded_once(dtype: torch.dtype, tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR), dtype=dtype)
    found = autolora.merge(case.adapter, tmp_path / "merged")
    exact = autolora.merge(case.adapter, tmp_path / "exact", dtype="float32")
    assert (found.dtype, exact.dtype) == (str(dtype)[6:], "float32")
    assert_same(case, exact)
    rounded, full = load_file(found.path / "model.safetensors"), load_file(exact.path / "model.safetensors")
    assert {tensor.dtype for tensor in rounded.values()} == {dtype}
    assert all(torch.equal(rounded[name], full[name].to(dtype)) for name in full)
    assert reloaded(found, CAUSAL).dtype == dtype


def test_a_float32_model_is_made_smaller_where_that_is_asked_for(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    found = autolora.merge(case.adapter, tmp_path / "merged", dtype="bfloat16")
    assert reloaded(found, CAUSAL).dtype == torch.bfloat16
    whole = autolora.merge(case.adapter, tmp_path / "whole")
    assert found.size < 0.6 * whole.size


def test_shards_are_indexed(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    found = autolora.merge(case.adapter, tmp_path / "merged", shard_size="8KB")
    index = json.loads((found.path / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in found.path.glob("*.safetensors"))
    assert len(files) > 2
    assert sorted(set(index["weight_map"].values())) == files
    assert_same(case, found)


def test_tokens_that_were_added_go_along(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama", CAUSAL)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["new"])
    tokenizer.chat_template = "{{ messages }}"
    model.resize_token_embeddings(len(tokenizer))
    adapted = get_peft_model(model, LoraConfig(**LINEAR))
    randomise(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    found = autolora.merge(tmp_path / "adapter", tmp_path / "merged")
    merged = reloaded(found, CAUSAL)
    assert merged.config.vocab_size == len(tokenizer) == 13
    torch.testing.assert_close(logits(merged), logits(adapted.eval()), rtol=0, atol=1e-4)
    again = transformers.AutoTokenizer.from_pretrained(found.path)
    assert again("new")["input_ids"] == [12]
    assert again.chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({"modules_to_save": ["embed_tokens", "lm_head"]}, False),
        ({"modules_to_save": ["embed_tokens"]}, True),
        ({"trainable_token_indices": [12, 13]}, False),
        ({"target_modules": ["embed_tokens", "lm_head"]}, False),
        ({"target_modules": ["embed_tokens", "q_proj"], "modules_to_save": ["lm_head"]}, False),
    ],
    ids=["saved", "saved and tied", "tokens", "adapted", "both"],
)
def test_embeddings_of_added_tokens_are_what_was_trained(config: dict[str, Any], tied: bool, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama", CAUSAL, tie_word_embeddings=tied)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(15)
    adapted = get_peft_model(model, LoraConfig(**{**LINEAR, **config}))
    randomise(adapted)
    adapted.save_pretrained(tmp_path / "adapter")
    merged = reloaded(autolora.merge(tmp_path / "adapter", tmp_path / "merged"), CAUSAL)
    ids = torch.tensor([[12, 13, 14, 4], [5, 14, 12, 6]])
    with torch.no_grad():
        expected, found = (each(input_ids=ids).logits for each in (adapted.eval(), merged))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_added_tokens_without_their_output_embeddings_are_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama", CAUSAL)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(15)
    adapted = get_peft_model(model, LoraConfig(**{**LINEAR, "target_modules": ["embed_tokens"]}))
    adapted.save_pretrained(tmp_path / "adapter")  # PEFT leaves the rows of lm_head out
    refused(tmp_path / "adapter", tmp_path / "merged", "15 embeddings.*rows of lm_head for the added tokens are in no")


def test_a_copy_that_says_something_else_is_refused(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "llama", CAUSAL)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(15)
    adapted = get_peft_model(model, LoraConfig(**{**LINEAR, "modules_to_save": ["embed_tokens", "lm_head"]}))
    adapted.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.model.lm_head.modules_to_save.weight"] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    refused(tmp_path / "adapter", tmp_path / "merged", "lm_head.modules_to_save.weight has no place in the model")


@pytest.mark.parametrize("named", [True, False])
def test_classes_that_keep_the_base_models_names_are_said(named: bool, tmp_path: Path) -> None:
    names = {0: "entailment", 1: "neutral", 2: "contradiction"} if named else {i: f"LABEL_{i}" for i in range(3)}
    config = LoraConfig(**{**LINEAR, "task_type": "SEQ_CLS"})
    kind = "AutoModelForSequenceClassification"
    case = made(tmp_path, "llama", kind, config, id2label=names, label2id={name: i for i, name in names.items()})
    found = autolora.merge(case.adapter, tmp_path / "merged")
    assert reloaded(found, kind).config.id2label == names
    said = "keep those of the base model's: entailment, neutral, contradiction; if they are others, put a config.json"
    assert any(said in note for note in found.notes) == named


def test_what_a_model_generates_with_goes_along(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    settings = {"do_sample": True, "temperature": 0.3, "eos_token_id": [2, 7], "transformers_version": "5.17.0"}
    (case.base / "generation_config.json").write_text(json.dumps(settings))
    found = autolora.merge(case.adapter, tmp_path / "merged")
    kept = json.loads((found.path / "generation_config.json").read_text())
    assert (kept["temperature"], kept["eos_token_id"]) == (0.3, [2, 7])


def refused(case_or_folder: Path, output: Path, match: str, **options: Any) -> None:
    """The user's to mend, and nothing is written."""
    before = sorted(path.name for path in output.parent.iterdir())
    with pytest.raises(UserError, match=match):
        autolora.merge(case_or_folder, output, **options)
    assert sorted(path.name for path in output.parent.iterdir()) == before


def edited(tmp_path: Path, **changes: Any) -> Path:
    """An adapter whose configuration says something else."""
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    edit_json(case.adapter / "adapter_config.json", lambda content: content.update(changes))
    return case.adapter


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"layer_replication": [[0, 2], [1, 2]]}, r"uses layers of the model several times \(layer_replication\)"),
        ({"alora_invocation_tokens": [4]}, r"acts only after certain tokens \(alora_invocation_tokens\)"),
        ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING is learned embeddings"),
        ({"base_model_name_or_path": None}, r"names no base model; name it: --model"),
        ({"base_model_name_or_path": "./away"}, r"\./away, is not there; say where it lies: --model"),
        ({"megatron_config": {}}, "megatron_config makes PEFT import modules"),
        ({"rank_pattern": {"q_proj": 7}}, "cannot be merged into LlamaForCausalLM: .*size"),
        ({"target_modules": ["q_proj"]}, r"does not fit LlamaForCausalLM: .*down_proj.* has no place in the model"),
        ({"target_modules": ["q_proj", "down_proj", "v_proj"]}, r"lacks weights: .*v_proj.* is not in its file"),
        ({"modules_to_save": ["lm_head"]}, r"cannot be merged into LlamaForCausalLM: .*lm_head.* is missing"),
        ({"task_type": "SEQ_CLS"}, r"lacks 1 of .* drawn at random.*score"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_merged_is_refused_by_name(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    refused(edited(tmp_path, **changes), tmp_path / "merged", match)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    file = case.adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, file, metadata={"format": "pt"})
    refused(case.adapter, tmp_path / "merged", "NaN")


def test_folders_that_are_no_adapter_are_refused(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    out = tmp_path / "merged"
    refused(tmp_path / "none", out, "there is no adapter")
    refused(case.base, out, "is no LoRA that is known here")
    refused(tmp_path, out, r"has \d+ adapters? in folders of (its|their) own: .*adapter")
    (case.adapter / "adapter_model.safetensors").rename(case.adapter / "adapter_model.bin")
    refused(case.adapter, out, r"adapter_model\.bin is a pickle")


def test_another_model_than_the_adapters_is_refused(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    wide = write_model(tmp_path / "wide", "llama", CAUSAL, hidden_size=32)
    refused(case.adapter, tmp_path / "merged", "size", model=str(wide))
    other = write_model(tmp_path / "other", "gpt2", CAUSAL)
    refused(case.adapter, tmp_path / "merged", "Target modules", model=str(other))


def test_a_base_that_is_quantised_in_a_way_that_cannot_be_undone_is_refused(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    said = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    edit_json(case.base / "config.json", lambda content: content.update(said))
    refused(case.adapter, tmp_path / "merged", "quantised by gptq, .* --model")


def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    said = {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    edit_json(case.base / "config.json", lambda content: content.update(said))
    refused(case.adapter, tmp_path / "merged", "code of its own")


def test_only_a_folder_of_its_own_is_replaced(tmp_path: Path) -> None:
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    out = tmp_path / "merged"
    again = partial(autolora.merge, case.adapter, out)
    out.mkdir()
    again()
    first = (out / "model.safetensors").read_bytes()
    again()
    assert (out / "model.safetensors").read_bytes() == first
    (out / "notes.txt").write_text("mine")
    refused(case.adapter, out, "holds files that are no merged model of autolora's")
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    again()
    edit_json(out / "config.json", lambda content: content.update(mine=True))  # trained further in place, say
    refused(case.adapter, out, "as it was written: config.json has been changed; name a new folder")
    refused(case.adapter, case.base, "are in one another")
    refused(case.adapter, case.adapter / "merged", "are in one another")
    (tmp_path / "new.new").mkdir()
    refused(case.adapter, tmp_path / "new", r"new\.new, which would be used meanwhile, is there")


def test_peft_loads_the_same_adapter_on_the_merged_model_no_more(tmp_path: Path) -> None:
    """A merged folder is no adapter, and says of what it was made."""
    case = made(tmp_path, "llama", CAUSAL, LoraConfig(**LINEAR))
    found = autolora.merge(case.adapter, tmp_path / "merged")
    record = json.loads((found.path / "merged.json").read_text())
    assert record["base_model"] == str(case.base)
    assert record["adapter"] == str(case.adapter)
    twice = PeftModel.from_pretrained(reloaded(found, CAUSAL), case.adapter)
    assert not torch.allclose(logits(twice), case.logits, atol=1e-2)
