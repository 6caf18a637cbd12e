"""Squeeze in every task family: it runs to its end, and stock PEFT loads what it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from torch import Tensor, nn

from autolora.context.base import Context
from autolora.experiment.line import run_stages
from autolora.methods.base import method_of
from autolora.model.fit import takes_inputs
from autolora.runs.store import Run
from tests.methods.linked import spent
from tests.methods.squeezed import evidence_of
from tests.model.folders import write_model
from tests.model.recipes import made

SEQUENCES, CAUSAL, SEQ2SEQ = "AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
# Model, what its checkpoint is of, targets.
MODELS: dict[str, tuple[str, str, list[str]]] = {
    "classification": ("bert", SEQUENCES, ["query", "intermediate.dense"]),
    "regression": ("bert", SEQUENCES, ["value", "output.dense"]),
    "tagging": ("bert", SEQUENCES, ["query", "value"]),
    "gpt2": ("gpt2", CAUSAL, ["c_attn", "mlp.c_proj"]),
    "llama": ("llama", CAUSAL, ["q_proj", "v_proj", "down_proj"]),
    "t5": ("t5", SEQ2SEQ, ["q", "EncDecAttention.v", "wo"]),
}
LENGTH = {"steps": 8, "batch_size": 4, "weights": {"learning_rate": 2e-2}}
SETTINGS = [("float32", 1), ("bfloat16", 1), ("float32", 2)]


def ended(folder: Path, name: str, method: dict[str, Any], dtype: str = "float32", micro: int = 1) -> tuple[Run, Any]:
    """A run that has ended, and the model's folder."""
    kind, auto_class, targets = MODELS[name]
    model = write_model(folder / "model", kind, auto_class, eos=kind == "t5", pair=kind == "bert")
    context = made(
        folder,
        name if kind == "bert" else "generation",
        model,
        model={"name": str(model), "target_modules": targets, "dtype": dtype},
        search={"rank": 4, "steps": 6},
        retrain={**LENGTH, "gradient_accumulation": micro},
        method=method,
    )
    run = Run.create(folder / "runs", context.recipe)
    run_stages(run, context)
    return run, context


def stock(run: Run, context: Context) -> nn.Module:
    """The adapter as people load it."""
    config = transformers.AutoConfig.from_pretrained(run.path / "adapter")
    kind = getattr(transformers, config.architectures[0])
    base = kind.from_pretrained(context.recipe.model.name, config=config, dtype=torch.float32)
    found: nn.Module = PeftModel.from_pretrained(base, run.path / "adapter").eval()
    return found


@torch.no_grad()
def logits(model: nn.Module, context: Context) -> Tensor:
    """Of the training split, padded; an encoder-decoder's, of its outputs."""
    batch = context.task.collate(context.examples("train"), tokenizer=context.tokenizer)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    if context.family.auto_class == SEQ2SEQ:
        inputs["decoder_input_ids"] = batch["labels"].clamp(min=0)
    found: Tensor = model(**takes_inputs(model, inputs)).logits
    return found


@pytest.mark.parametrize(("dtype", "micro"), SETTINGS)
@pytest.mark.parametrize("name", MODELS)
def test_it_runs_to_its_end_and_stock_peft_loads_it(name: str, dtype: str, micro: int, tmp_path: Path) -> None:
    run, context = ended(tmp_path, name, {"name": "squeeze", "budget": {"fraction": 0.4}}, dtype, micro)
    ranks = run.ranks()
    full = sum(4 * sum(shape) for shape in ranks.shapes.values())
    assert 0 < ranks.parameters <= 0.4 * full
    assert len(set(ranks.values())) > 1
    assert spent(run, "search")["steps"] == spent(run, "retrain")["steps"] == 4
    ours, theirs = (
        logits(method_of(run).load(context.model(), context).eval(), context),
        logits(stock(run, context), context),
    )
    assert (ours - theirs).abs().max() <= 1e-5 * ours.abs().max()
    plain = logits(context.model().eval(), context)
    assert (ours - plain).abs().max() > 1e-3 * ours.abs().max()
    gates = evidence_of(run).gates
    assert gates is not None
    examples = context.examples("train")
    assert (len(gates.derivatives), gates.units) == (len(examples), context.task.units(examples))
    assert gates.scale == (2.0 if name == "regression" else 1.0)
    assert run.manifest()["stages"]["eval"]["state"] == "success" if "state" in spent(run, "eval") else True


@pytest.mark.parametrize("name", ["regression", "tagging", "gpt2", "t5"])
def test_the_size_is_found_in_every_family(name: str, tmp_path: Path) -> None:
    budget = {"tolerance": 0.3}
    kind, auto_class, targets = MODELS[name]
    model = write_model(tmp_path / "model", kind, auto_class, eos=kind == "t5", pair=kind == "bert")
    family = name if kind == "bert" else "generation"
    sections: dict[str, Any] = {
        "model": {"name": str(model), "target_modules": targets, "dtype": "float32"},
        "search": {"rank": 4},
        "retrain": {**LENGTH, "steps": 30, "lora_dropout": 0.0},
        "ranks": {"held_out": 0.5},
        "method": {"name": "squeeze", "budget": budget},
    }
    context = made(tmp_path, family, model, **sections)
    run = Run.create(tmp_path / "runs", context.recipe)
    run_stages(run, context)
    ranks = run.ranks()
    assert ranks.rule["budget"] == budget
    assert 0 < ranks.total <= sum(len(each) for each in evidence_of(run).components.values())
