"""Every format, parsed back by what reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from autolora.errors import UserError
from autolora.export import axolotl, llama_factory
from autolora.export.base import Allocation, Exported
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks, Scaling
from autolora.registry import EXPORT_FORMATS
from tests.export.runs import ALPHA, LAYERS, RANKS, K
from tests.model.tiny import tiny_model


def _found(
    ranks: Mapping[str, int] = RANKS, *, initial_rank: int = K, scaling: Scaling = "constant", **more: Any
) -> Allocation:
    whole = Ranks(ranks, initial_rank, ALPHA, scaling)
    return Allocation(
        **{"source": "runs/tiny/1-0", "model": "owner/base", "ranks": whole, "task_type": "CAUSAL_LM", **more}
    )


def _export(name: str, found: Allocation) -> Exported:
    exported: Exported = EXPORT_FORMATS.load(name)(found)
    return exported


def _adapted(model: nn.Module) -> dict[str, tuple[int, float]]:
    """Rank (from the weights) and scaling of every layer with LoRA."""
    return {
        name.removeprefix("base_model.model."): (
            layer.lora_A["default"].weight.shape[0],  # type: ignore[union-attr, index]
            layer.scaling["default"],
        )
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }


def _wanted(scaling: str, ranks: dict[str, int] = RANKS, k: int = K) -> dict[str, tuple[int, float]]:
    return {name: (r, pytest.approx(ALPHA / (k if scaling == "constant" else r))) for name, r in ranks.items() if r}


@pytest.mark.parametrize("scaling", ["constant", "per_rank"])
def test_peft_gives_a_model_exactly_the_ranks_and_scalings(scaling: Scaling) -> None:
    found = _found(scaling=scaling, task_type="SEQ_CLS", head=("classifier", "bert.pooler"), dropout=0.1)
    config = LoraConfig(**json.loads(_export("peft", found).text))
    model = get_peft_model(tiny_model(), config)
    assert _adapted(model) == _wanted(scaling)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("bert.pooler.modules_to_save" in name for name in trained)
    assert any("classifier.modules_to_save" in name for name in trained)
    assert config.lora_dropout == 0.1


@pytest.mark.parametrize("scaling", ["constant", "per_rank"])
def test_peft_is_what_autolora_itself_retrains_with(scaling: Scaling) -> None:
    found = _found(scaling=scaling, task_type="SEQ_CLS", head=("classifier",), dropout=0.1, initial_rank=6)
    given = LoraConfig(**json.loads(_export("peft", found).text)).to_dict()
    ranks = Ranks(RANKS, initial_rank=6, lora_alpha=ALPHA, scaling=scaling)
    own = lora_config(ranks, dropout=0.1, head=["classifier"], task_type="SEQ_CLS").to_dict()
    assert given["base_model_name_or_path"] == "owner/base"
    own["base_model_name_or_path"] = "owner/base"
    assert given == own


def test_peft_reads_the_file_and_an_adapter_that_it_makes_of_it_starts_at_the_ranks(tmp_path: Path) -> None:
    """What the notes recommend to users of tools that load adapters only."""
    (tmp_path / "adapter_config.json").write_text(_export("peft", _found(task_type=None)).text, encoding="utf-8")
    get_peft_model(tiny_model(), LoraConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny_model(), tmp_path, is_trainable=True)
    assert _adapted(loaded) == _wanted("constant")


def test_axolotl_gives_peft_the_ranks_and_scalings() -> None:
    """Its loader's calls (src/axolotl/loaders/adapter.py), on what its YAML says."""
    found = _found(revision="v1", head=("lm_head",), dropout=0.1)
    exported = _export("axolotl", found)
    cfg = yaml.safe_load(exported.text)
    assert set(cfg) <= set(axolotl.KEYS)
    assert (cfg["base_model"], cfg["revision_of_model"], cfg["adapter"]) == ("owner/base", "v1", "lora")
    assert cfg["lora_modules_to_save"] == ["lm_head"]
    assert cfg["lora_target_linear"] is False
    assert all(type(n) is int and n > 0 for key in ("rank", "alpha") for n in cfg[f"lora_{key}_pattern"].values())
    config = LoraConfig(
        r=cfg["lora_r"],
        lora_alpha=cfg["lora_alpha"],
        target_modules=cfg["lora_target_modules"],
        lora_dropout=cfg["lora_dropout"],
        rank_pattern=cfg["lora_rank_pattern"],
        alpha_pattern=cfg["lora_alpha_pattern"],
    )
    assert _adapted(get_peft_model(tiny_model(), config)) == _wanted("constant")
    assert len(exported.notes) == 1  # which version of axolotl it takes
    assert "3673" in exported.notes[0]


class Nested(nn.Module):
    """Layers proj and inner.proj."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.inner = nn.ModuleDict({"proj": nn.Linear(4, 4)})


ENDS = {"proj": 2, "inner.proj": 0}


def test_a_layer_whose_name_ends_in_anothers_stays_without_lora_in_every_format() -> None:
    config = LoraConfig(**json.loads(_export("peft", _found(ENDS, task_type=None)).text))
    assert _adapted(get_peft_model(Nested(), config)) == _wanted("constant", ENDS)  # type: ignore[arg-type]
    cfg = yaml.safe_load(_export("axolotl", _found(ENDS)).text)
    config = LoraConfig(
        r=cfg["lora_r"],
        lora_alpha=cfg["lora_alpha"],
        target_modules=cfg["lora_target_modules"],
        rank_pattern=cfg["lora_rank_pattern"],
        alpha_pattern=cfg["lora_alpha_pattern"],
    )
    assert _adapted(get_peft_model(Nested(), config)) == _wanted("constant", ENDS)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"matches by their ends; .* would adapt inner.proj too, which has rank 0"):
        _export("llama-factory", _found(ENDS))


@pytest.mark.parametrize("ranks", [{"proj": 2, "inner.proj": 1}, {"proj": 0, "inner.proj": 1}])
def test_a_list_is_kept_where_it_means_exactly_the_layers_with_lora(ranks: dict[str, int]) -> None:
    kept = [name for name, rank in ranks.items() if rank]
    assert yaml.safe_load(_export("axolotl", _found(ranks)).text)["lora_target_modules"] == kept
    assert yaml.safe_load(_export("llama-factory", _found(ranks)).text)["lora_target"] == ", ".join(kept)


def test_axolotl_says_where_a_scaling_needs_a_fraction() -> None:
    exported = _export("axolotl", _found(initial_rank=6, adapter="runs/tiny/1-0/adapter"))
    cfg = yaml.safe_load(exported.text)
    assert list(cfg["lora_rank_pattern"].values()) == [3, 1, 4]
    assert list(cfg["lora_alpha_pattern"].values()) == [8, 3, 11]  # 8, 2.667, 10.667
    (note,) = [note for note in exported.notes if "whole numbers" in note]
    assert "2 of 3 layers" in note
    assert f"{LAYERS[2]}) from 2.667 to 3, which makes the scaling 3 instead of 2.667" in note
    assert "lora_model_dir: runs/tiny/1-0/adapter" in note
    assert not any(
        "whole numbers" in note for note in _export("axolotl", _found(initial_rank=6, scaling="per_rank")).notes
    )


def test_axolotl_is_told_of_transposed_weights() -> None:
    assert yaml.safe_load(_export("axolotl", _found(fan_in_fan_out=True)).text)["lora_fan_in_fan_out"] is True
    assert "lora_fan_in_fan_out" not in yaml.safe_load(_export("axolotl", _found()).text)


def test_llama_factory_gets_the_nearest_uniform_rank_and_the_way_to_the_true_ones() -> None:
    """Its reading of the arguments (hparams/finetuning_args.py), and its loader's call (model/adapter.py)."""
    exported = _export("llama-factory", _found(head=("lm_head", "score"), revision="v1", dropout=0.1))
    arguments = yaml.safe_load(exported.text)
    assert set(arguments) <= set(llama_factory.KEYS)
    assert (arguments["model_name_or_path"], arguments["model_revision"]) == ("owner/base", "v1")
    assert arguments["finetuning_type"] == "lora"
    split = {key: [n.strip() for n in arguments[key].split(",")] for key in ("lora_target", "additional_target")}
    assert split["additional_target"] == ["lm_head", "score"]
    assert type(arguments["lora_alpha"]) is int
    config = LoraConfig(
        r=arguments["lora_rank"], lora_alpha=arguments["lora_alpha"], target_modules=split["lora_target"]
    )
    assert _adapted(get_peft_model(tiny_model(), config)) == {  # 8 / 3, rounded
        name: (3, ALPHA / K) for name, rank in RANKS.items() if rank
    }
    cannot, instead = exported.notes
    assert "cannot express a rank per layer" in cannot
    assert "3 in 3 layers (sum 9), instead of ranks from 1 to 4 (sum 8)" in cannot
    assert "adapter_name_or_path: DIR" in instead
    assert "create_new_adapter" in instead


def test_llama_factory_says_nothing_of_ranks_that_are_uniform() -> None:
    exported = _export("llama-factory", _found(ranks=dict.fromkeys(LAYERS, 2)))
    assert yaml.safe_load(exported.text)["lora_rank"] == 2
    assert yaml.safe_load(exported.text)["lora_alpha"] == 8
    assert exported.notes == ()


def test_llama_factory_keeps_the_scaling_as_well_as_a_whole_alpha_can() -> None:
    per_rank = _export("llama-factory", _found(scaling="per_rank"))
    assert yaml.safe_load(per_rank.text)["lora_alpha"] == 16
    fraction = _export("llama-factory", _found(ranks=dict.fromkeys(LAYERS, 1), initial_rank=6))
    assert yaml.safe_load(fraction.text)["lora_alpha"] == 3
    assert "2.667 is rounded to 3, which makes the scaling 3 instead of 2.667" in fraction.notes[0]


def test_the_neutral_yaml_lists_every_layer_of_any_rank() -> None:
    exported = _export("yaml", _found(revision="v1", head=("classifier",), task_type="SEQ_CLS", dropout=0.1))
    assert yaml.safe_load(exported.text) == {
        "model": "owner/base",
        "revision": "v1",
        "task_type": "SEQ_CLS",
        "initial_rank": K,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "scaling": "constant",
        "head": ["classifier"],
        "ranks": RANKS,
    }
    assert exported.notes == ()
    assert "lora_alpha / its rank" in _export("yaml", _found(scaling="per_rank")).text


@pytest.mark.parametrize("name", ["axolotl", "llama-factory"])
def test_tools_for_language_models_say_so_of_a_classifier(name: str) -> None:
    notes = _export(name, _found(task_type="SEQ_CLS")).notes
    assert [note for note in notes if "SEQ_CLS" in note and "--format peft fits it" in note]
    assert not [note for note in _export(name, _found()).notes if "--format peft fits it" in note]


@pytest.mark.parametrize("name", ["axolotl", "llama-factory", "yaml"])
def test_whatever_is_noted_stands_in_the_comments(name: str) -> None:
    exported = _export(name, _found(initial_rank=6, remarks=("A remark on the run.",)))
    comments = [line.removeprefix("# ") for line in exported.text.splitlines() if line.startswith("#")]
    assert exported.notes[0] == "A remark on the run."
    for note in exported.notes:
        assert note in " ".join(comments)
    assert "sum 8 of 24 in 4 layers; 1 without LoRA" in " ".join(comments)
    assert all(len(line) <= 120 for line in exported.text.splitlines() if line.startswith("#"))


@pytest.mark.parametrize("name", ["peft", "axolotl", "llama-factory"])
def test_layers_of_rank_0_are_in_no_configuration(name: str) -> None:
    (left_out,) = [layer for layer, rank in RANKS.items() if rank == 0]
    text = _export(name, _found()).text.replace("\\", "")
    assert left_out not in text
    assert all(layer in text for layer in RANKS if layer != left_out)


@pytest.mark.parametrize("name", ["peft", "axolotl", "llama-factory"])
def test_ranks_that_are_all_0_are_no_configuration(name: str) -> None:
    with pytest.raises(UserError, match=r"all ranks are 0.*search\.threshold"):
        _export(name, _found(ranks=dict.fromkeys(LAYERS, 0)))
