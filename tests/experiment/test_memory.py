"""What is computed of a run's memory is what its passes take, and moves as it should with every setting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

from autolora.errors import UserError
from autolora.experiment.memory import Passes, estimate, needed
from autolora.experiment.memory_passes import Work, _run, at_depth, depth_of, pass_bytes, row_of
from autolora.experiment.memory_settings import MemorySettings, lighter
from autolora.experiment.memory_sizes import NF4, base_bytes, sizes
from autolora.lora.adapter import add_adapter
from autolora.lora.config import lora_config
from autolora.lora.ranks import Ranks
from autolora.lora.targets import target_shapes
from autolora.tasks.token_loss import Pass, token_loss
from autolora.training.live import LiveBytes
from autolora.training.recompute import recompute_layers
from tests.allocation.models import BUILD

CAUSAL = "AutoModelForCausalLM"
CONFIG = LlamaConfig(
    vocab_size=500,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=2,
)
SETTINGS = MemorySettings(("q_proj", "down_proj"), rank=4, tokens=48, search_examples=2, retrain_examples=2)
WORK = Work(2, 48, ("q_proj", "down_proj"), 4)


def measured(*, dropout: float = 0.0, autocast: bool = False, checkpointing: bool = False) -> tuple[int, int]:
    """(kept, peak) of a pass of a real model with PEFT's LoRA, by the task's own loss."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(CONFIG)
    shapes = target_shapes(model, ["q_proj", "down_proj"])
    ranks = Ranks(dict.fromkeys(shapes, 4), initial_rank=4, lora_alpha=8, shapes=shapes)
    adapted = add_adapter(model, ranks, lora_config(ranks, dropout=dropout, task_type="CAUSAL_LM")).train()
    if checkpointing:
        recompute_layers(model)
    ids = torch.randint(0, 500, (2, 48))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    with LiveBytes(adapted) as live:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = token_loss(adapted, Pass(inputs, slice(0, None)), ids)
        torch.autograd.grad(loss, trained)
    return live.peak, sum(parameter.numel() for parameter in trained)


@pytest.mark.parametrize(
    "options", [{}, {"dropout": 0.1}, {"autocast": True}, {"checkpointing": True}], ids=["plain", *"dac"]
)
def test_the_bytes_of_a_pass_are_those_of_the_real_one(options: dict[str, Any]) -> None:
    peak, _ = measured(**options)
    work = replace(
        WORK,
        dropout=options.get("dropout", 0.0),
        autocast=options.get("autocast", False),
        gradient_checkpointing=options.get("checkpointing", False),
    )
    found = pass_bytes(CONFIG, CAUSAL, work)
    assert peak / 1.25 < found.peak < 1.25 * peak
    assert 0 < found.kept < found.peak


@pytest.mark.parametrize("kind", ["regression", "opt", "llama"])  # LoRA at a pooler, flattened positions, neither
def test_measuring_gates_is_counted_whatever_a_layer_sees_of_the_examples(kind: str) -> None:
    build, targets = BUILD[kind]
    model = build()
    auto_class = CAUSAL if kind != "regression" else "AutoModelForSequenceClassification"
    work = Work(4, 7, tuple(targets), 3, gates=True)
    found = pass_bytes(model.config, auto_class, work)
    assert 0 < found.kept < found.peak
    assert found.peak > pass_bytes(model.config, auto_class, replace(work, examples=2)).peak


def test_a_model_that_asks_for_values_is_one_message(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    torch._logging.set_logs()  # as it is on the command line
    monkeypatch.setattr("autolora.experiment.memory_passes._counted", lambda *_: torch.ones(3) * torch.ones(2))
    with pytest.raises(UserError, match="the passes of llama cannot be counted without its weights"):
        pass_bytes(CONFIG, CAUSAL, WORK)
    assert "Traceback" not in capfd.readouterr().err


def test_a_deep_model_is_counted_from_two_shallow_ones() -> None:
    assert depth_of(CONFIG) == 6
    assert at_depth(CONFIG, 2).num_hidden_layers == 2
    assert CONFIG.num_hidden_layers == 6
    one, two, three = (pass_bytes(at_depth(CONFIG, depth), CAUSAL, WORK) for depth in (1, 2, 3))
    assert three.kept - two.kept == two.kept - one.kept > 0  # from one and two blocks, and so
    assert three == _run(at_depth(CONFIG, 3), CAUSAL, WORK)


def test_blocks_of_several_kinds_are_counted_in_rows() -> None:
    config = Gemma3TextConfig(num_hidden_layers=14)
    assert row_of(config) == 6  # five that look back a little, and one that looks back all the way
    assert len(at_depth(config, 6).layer_types) == 6
    assert row_of(CONFIG) == 1


def test_what_stays_is_counted_by_its_formulas() -> None:
    of = sizes(CONFIG, CAUSAL, SETTINGS)
    model: Any = AutoModelForCausalLM.from_config(CONFIG)
    assert of.base == sum(parameter.numel() for parameter in model.parameters())
    assert measured()[1] == of.lora == 6 * 4 * (64 + 64 + 160 + 64)
    assert of.components == 6 * 2 * 4
    assert of.quantised == of.base - 2 * 500 * 64 - 13 * 64  # but embeddings, both, and norms
    assert base_bytes(of, "float32") == 2 * base_bytes(of, "bfloat16") == 4 * of.base
    rest = 2 * (of.base - of.quantised)
    assert base_bytes(of, "nf4") == rest + round(NF4 * of.quantised)
    assert base_bytes(of, "int8") == rest + of.quantised + 4 * of.rows


def test_stages_hold_what_they_hold() -> None:
    found = estimate(at_depth(CONFIG, 1), CAUSAL, SETTINGS)
    of = sizes(at_depth(CONFIG, 1), CAUSAL, SETTINGS)
    assert found["retrain"].parts["optimiser states"] == 8 * of.lora
    assert found["search"].parts["optimiser states"] == 8 * (of.lora + of.components)
    assert found["search"].parts["copies (g, V', v, w)"] == 4 * 4 * of.lora
    assert found["squeeze"].host == 8 * of.components * 250 + 8 * of.lora
    assert found["search"].total > found["retrain"].total
    assert needed(found["search"]) > found["search"].total


def test_every_lighter_setting_takes_less() -> None:
    config = at_depth(CONFIG, 1)
    passes = Passes(config, CAUSAL)
    before = max(stage.total for stage in estimate(config, CAUSAL, SETTINGS, passes).values())
    changes = dict(lighter(SETTINGS))
    assert len(changes) == 6
    for change in ("model.quantization: nf4", "data.max_length: 24"):
        assert max(stage.total for stage in estimate(config, CAUSAL, changes[change], passes).values()) < before


def test_checkpointing_makes_measuring_smaller_too() -> None:
    plain, less = (replace(SETTINGS, gradient_checkpointing=each) for each in (False, True))
    stages = [estimate(CONFIG, CAUSAL, each) for each in (plain, less)]
    assert stages[1]["squeeze"].total < stages[0]["squeeze"].total
    assert stages[1]["retrain"].total < stages[0]["retrain"].total


@pytest.mark.parametrize("base", ["float32", "bfloat16"])
def test_cards_share_the_base_and_gather_three_blocks_and_what_no_block_has(base: Any) -> None:
    settings = replace(SETTINGS, base=base)
    alone, shared = (estimate(CONFIG, CAUSAL, each) for each in (settings, replace(settings, cards=4)))
    size = 4 if base == "float32" else 2
    block = 64 * (64 + 64 + 32 + 32) + 3 * 64 * 160 + 2 * 64
    outside = 500 * 64 + 64  # output embeddings and the last norm; the input embeddings are gathered on their own
    for name, stage in shared.items():
        parts = dict(stage.parts)
        assert parts.pop("base weights, a share") == -(-alone[name].parts["base weights"] // 4)
        assert parts.pop("base weights, gathered") == size * (3 * block + outside)
        assert parts == {part: found for part, found in alone[name].parts.items() if part != "base weights"}


def test_a_quantised_base_is_whole_on_every_card() -> None:
    settings = replace(SETTINGS, base="nf4")
    assert estimate(CONFIG, CAUSAL, replace(settings, cards=4)) == estimate(CONFIG, CAUSAL, settings)
