"""The formats of TRL, ms-swift and torchtune, read back as these tools do, or by themselves where they install."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from peft import LoraConfig, get_peft_model

from autolora.errors import UserError
from autolora.export import ms_swift, torchtune, trl
from autolora.export.base import Allocation, Exported
from autolora.lora.ranks import Ranks
from autolora.registry import EXPORT_FORMATS
from tests.export.runs import ALPHA, LAYERS, RANKS, K
from tests.export.test_formats import ENDS, Nested, _adapted, _export, _found
from tests.model.tiny import tiny_model

UNIFORM = {name: (3, ALPHA / K) for name, rank in RANKS.items() if rank}  # 8 / 3, rounded
DECODER = {f"model.layers.{i}.self_attn.{kind}_proj": 2 for i in range(2) for kind in "qo"}


def values(name: str, found: Allocation) -> tuple[dict[str, Any], Exported]:
    exported = _export(name, found)
    return yaml.safe_load(exported.text), exported


def as_trl_does(given: dict[str, Any]) -> LoraConfig:
    """ModelConfig's own change (trl/trainer/model_config.py) and get_peft_config (trl/trainer/utils.py)."""
    targets = given["lora_target_modules"]
    return LoraConfig(
        r=given["lora_r"],
        lora_alpha=given["lora_alpha"],
        lora_dropout=given["lora_dropout"],
        target_modules=targets[0] if len(targets) == 1 else targets,
        modules_to_save=given.get("lora_modules_to_save"),
    )


def test_trl_gets_exactly_the_layers_and_the_nearest_uniform_rank() -> None:
    given, exported = values("trl", _found(head=("classifier",), revision="v1", dropout=0.1))
    assert set(given) <= set(trl.KEYS)
    assert (given["model_name_or_path"], given["model_revision"]) == ("owner/base", "v1")
    assert (given["use_peft"], given["lora_task_type"]) == (True, "CAUSAL_LM")
    assert type(given["lora_alpha"]) is int
    assert _adapted(get_peft_model(tiny_model(), as_trl_does(given))) == UNIFORM
    cannot, instead = exported.notes
    assert "TRL's command line has one lora_r for all layers and cannot express a rank per layer" in cannot
    assert "peft_config=LoraConfig.from_pretrained" in instead


def test_trl_adapts_no_layer_whose_name_ends_in_anothers() -> None:
    given, _ = values("trl", _found(ENDS))
    assert list(_adapted(get_peft_model(Nested(), as_trl_does(given)))) == ["proj"]


def test_trl_reads_its_file_itself(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="pip install trl")
    from trl import ModelConfig, TrlParser, get_peft_config

    file = tmp_path / "trl.yaml"
    found = _found(head=("classifier",), dropout=0.1, scaling="per_rank", revision="v1")
    file.write_text(_export("trl", found).text, encoding="utf-8")
    (read,) = TrlParser([ModelConfig]).parse_args_and_config(["--config", str(file)])  # unknown keys are refused
    config = get_peft_config(read)
    assert config is not None
    assert (config.lora_dropout, config.task_type, config.modules_to_save) == (0.1, "CAUSAL_LM", ["classifier"])
    assert (read.model_name_or_path, read.model_revision) == ("owner/base", "v1")
    config.task_type = None  # the tiny model is a classifier
    assert _adapted(get_peft_model(tiny_model(), config)) == {name: (3, pytest.approx(ALPHA / 3)) for name in UNIFORM}


def test_trl_says_what_is_rounded_and_which_task_it_has_not() -> None:
    _, exported = values("trl", _found(dict.fromkeys(LAYERS, 1), initial_rank=6, task_type="TOKEN_CLS"))
    rounded, task = exported.notes
    assert "2.667 is rounded to 3" in rounded
    assert "PEFT's task type TOKEN_CLS" in task


def as_swift_does(given: dict[str, Any]) -> LoraConfig:
    """TunerArguments (swift/arguments/tuner_args.py) and prepare_adapter (swift/pipelines/train/tuner.py)."""
    return LoraConfig(
        r=given["lora_rank"],
        lora_alpha=given["lora_alpha"],
        lora_dropout=given["lora_dropout"],
        target_modules=given["target_regex"],
        modules_to_save=given.get("modules_to_save"),
    )


def test_ms_swift_gets_exactly_the_layers_the_scaling_and_the_nearest_uniform_rank() -> None:
    given, exported = values("ms-swift", _found(initial_rank=6, head=("classifier",), dropout=0.1))
    assert set(given) <= set(ms_swift.KEYS)
    assert (given["model"], given["tuner_type"], given["task_type"]) == ("owner/base", "lora", "causal_lm")
    wanted = {name: (3, pytest.approx(ALPHA / 6)) for name in UNIFORM}
    assert _adapted(get_peft_model(tiny_model(), as_swift_does(given))) == wanted
    cannot, instead, hub = exported.notes
    assert "ms-swift has one lora_rank for all layers" in cannot
    assert "adapters: DIR" in instead
    assert "use_hf: true" in hub
    assert list(_adapted(get_peft_model(Nested(), as_swift_does(values("ms-swift", _found(ENDS))[0])))) == ["proj"]


def test_ms_swift_says_what_a_classifier_needs_and_which_task_it_has_not() -> None:
    given, exported = values("ms-swift", _found(dict.fromkeys(LAYERS, 2), task_type="SEQ_CLS", model="/models/base"))
    assert given["task_type"] == "seq_cls"
    assert "num_labels" in exported.notes[0]
    given, exported = values("ms-swift", _found(dict.fromkeys(LAYERS, 2), task_type="TOKEN_CLS", model="/models/base"))
    assert "task_type" not in given
    assert "no task like this run's" in exported.notes[0]


def test_ms_swifts_own_arguments_have_every_key() -> None:
    arguments = pytest.importorskip("swift.arguments", reason="pip install ms-swift", exc_type=ImportError)
    fields = {field.name for field in dataclasses.fields(arguments.SftArguments)}
    assert set(ms_swift.KEYS) <= fields


def decoder(ranks: dict[str, int], **more: Any) -> Allocation:
    return Allocation("runs/tiny/1-0", "owner/base", Ranks(ranks, K, ALPHA), task_type="CAUSAL_LM", **more)


def test_torchtune_gets_the_kinds_of_layers_that_it_can_name() -> None:
    given, exported = values("torchtune", decoder(DECODER, dropout=0.1))
    assert given == {
        "model": {
            "lora_attn_modules": ["q_proj", "output_proj"],
            "apply_lora_to_mlp": False,
            "apply_lora_to_output": False,
            "lora_rank": 2,
            "lora_alpha": 8,
            "lora_dropout": 0.1,
        }
    }
    assert set(given["model"]) == set(torchtune.KEYS)
    (place,) = exported.notes
    assert "model section" in place
    assert "_component_" in place


def test_torchtune_says_what_it_cannot_express() -> None:
    ranks = {**DECODER, "model.layers.1.self_attn.q_proj": 0, "model.layers.0.mlp.up_proj": 5, "lm_head": 1}
    given, exported = values("torchtune", decoder(ranks, head=("model.norm",)))
    assert given["model"]["apply_lora_to_mlp"] is True
    assert given["model"]["apply_lora_to_output"] is True
    text = "\n".join(exported.notes)
    assert "trains no module in full beside LoRA (model.norm)" in text
    assert "one lora_rank for all layers" in text
    assert "1 layers of rank 0 get LoRA, too (model.layers.1.self_attn.q_proj)" in text
    assert "the MLP as a whole, gate_proj, down_proj among it" in text


@pytest.mark.parametrize(
    ("ranks", "match"),
    [
        (RANKS, "which have no layers query, value; use --format peft"),
        ({"model.layers.0.mlp.up_proj": 2, "model.layers.0.self_attn.q_proj": 0}, "LoRA in some attention layers"),
    ],
)
def test_torchtune_refuses_what_its_models_have_not(ranks: dict[str, int], match: str) -> None:
    with pytest.raises(UserError, match=match):
        values("torchtune", decoder(ranks))


def test_torchtunes_own_builder_has_every_argument() -> None:
    models = pytest.importorskip("torchtune.models.llama3_2", reason="pip install torchtune", exc_type=ImportError)
    assert set(torchtune.KEYS) <= set(inspect.signature(models.lora_llama3_2_1b).parameters)


@pytest.mark.parametrize("name", ["trl", "ms-swift", "torchtune"])
def test_ranks_that_are_all_zero_are_refused(name: str) -> None:
    assert name in EXPORT_FORMATS
    with pytest.raises(UserError, match="all ranks are 0"):
        _export(name, _found(dict.fromkeys(LAYERS, 0)))
