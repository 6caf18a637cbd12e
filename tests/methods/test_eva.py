"""EVA: it is PEFT's, its budget is AutoLoRA's, its cost is paid, and stock PEFT loads what it saves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import EvaConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.eva import initialize_lora_eva_weights
from safetensors.torch import load_file
from torch import nn

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain
from autolora.lora.config import matched
from autolora.lora.ranks import Ranks
from autolora.methods import eva
from autolora.methods.base import method_of
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning
from tests.laboratory import tiny_run
from tests.methods.eva_models import skewed, stream_of
from tests.methods.linked import BUDGET, LAYERS, built_on, interrupting, layer_of, learned_run, reopened, spent
from tests.methods.support import loaded, logits

STRONG = ("retrain.weights.learning_rate=5e-2",)  # so that the adapter matters to the tiny model's outputs


class Made(NamedTuple):
    """A run that has been trained, its model right after training, and the model's calls in its initialisation."""

    run: Run
    context: Context
    trained: nn.Module
    calls: int


@pytest.fixture(scope="module")
def made(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    output = tmp_path_factory.mktemp("eva")
    run, context = built_on(laboratory, output, "eva", learned_run(laboratory, output), overrides=STRONG)
    calls, models = [], []
    found, save = eva.components, eva.Eva.save

    def slow(model: Any, *more: Any) -> Any:
        handle = model.register_forward_hook(lambda *_: calls.append(1))
        time.sleep(1)
        result = found(model, *more)
        handle.remove()
        return result

    def spied_save(method: eva.Eva, trained: nn.Module, *more: Any) -> None:
        models.append(trained)
        save(method, trained, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eva, "components", slow)
        patch.setattr(eva.Eva, "save", spied_save)
        retrain(run, context)
    return Made(run, context, models[0].eval(), len(calls))


def ranks_of(run: Run) -> Ranks:
    return Ranks.load(run.path / "retrain" / "ranks.json")


@pytest.mark.filterwarnings("ignore:.*EVA.*")
def test_it_is_pefts_own_initialisation(laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks, components and scaling, as PEFT has them where it puts its components into an adapter itself."""
    new = Context.model
    monkeypatch.setattr(Context, "model", lambda context: skewed(new(context)))
    run, context = built_on(laboratory, tmp_path, "eva", learned_run(laboratory, tmp_path, dict.fromkeys(LAYERS, 1)))
    start, alphas = dict.fromkeys(LAYERS, 1), dict.fromkeys(LAYERS, 16.0 / 4)
    config = LoraConfig(r=4, lora_alpha=16, rank_pattern=start, alpha_pattern=alphas, target_modules=LAYERS)
    config.init_lora_weights, config.eva_config = "eva", EvaConfig(rho=2.0)
    theirs, stream = get_peft_model(context.model(), config), stream_of(context, 6)
    batches = [{k: v for k, v in stream.at(i).micro[0].items() if k != "labels"} for i in range(60)]
    initialize_lora_eva_weights(theirs, batches, show_progress_bar=False)
    model = context.model()
    ours = method_of(run).adapt(model, context.head(model), context, 30).model
    assert list(ranks_of(run).values()) == [2, 2, 0, 0]
    for name, rank in ranks_of(run).items():
        one, other = layer_of(ours, name), layer_of(theirs, name)
        if rank:
            assert torch.equal(one.lora_A["default"].weight, other.lora_A["default"].weight)
            assert not one.lora_B["default"].weight.any()
            assert one.scaling["default"] == other.scaling["default"] == 4.0
        else:
            assert type(one) is type(other) is nn.Linear


def test_the_ranks_have_autoloras_sum_and_every_layer_the_common_scaling(made: Made) -> None:
    ranks = Ranks.load(made.run.path / "retrain" / "ranks.json")
    assert (ranks.initial_rank, ranks.rule["budget"]) == (4, BUDGET)
    assert list(ranks) == LAYERS
    assert ranks.total == BUDGET
    for model in (made.trained, loaded(made.run, made.context)):
        for name, rank in ranks.items():
            layer = layer_of(model, name)
            assert layer.lora_A["default"].weight.shape[0] == layer.r["default"] == rank
            assert layer.scaling["default"] == 16.0 / 4
    (row,) = evaluate(made.run, made.context)
    assert (row["total rank"], row["LoRA parameters"]) == (BUDGET, BUDGET * (32 + 32))


def test_stock_peft_loads_the_adapter_without_eva_and_computes_the_same(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peft.tuners.lora.eva._get_eva_state_dict", lambda *_, **__: pytest.fail("EVA was run again"))
    config = json.loads((made.run.path / "adapter" / "adapter_config.json").read_text())
    assert config["init_lora_weights"] is True
    assert config["eva_config"] is None
    stock = PeftModel.from_pretrained(made.context.model(), made.run.path / "adapter").eval()
    before = logits(made.trained, made.context)
    assert torch.equal(logits(stock, made.context), before)
    with torch.no_grad():
        for name in LAYERS:
            layer_of(stock, name).lora_B["default"].weight.zero_()
    assert float((logits(stock, made.context) - before).abs().max()) > 1e-2


def test_its_passes_and_seconds_are_on_the_retrainings_bill(made: Made) -> None:
    paid = spent(made.run, "retrain")
    assert made.calls >= 4  # one that compares inputs, and three that compare components
    assert paid["initialisation_passes"] == made.calls
    assert paid["forward_passes"] == 30 + made.calls
    assert paid["backward_passes"] == paid["steps"] == 30
    assert paid["seconds"] > 1


@pytest.mark.parametrize("call", [1, 7])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    made: Made, laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    run, context = built_on(laboratory, tmp_path, "eva", learned_run(laboratory, tmp_path), overrides=STRONG)
    with interrupting(monkeypatch, Finetuning, "advance", call):
        retrain(run, context)
    monkeypatch.setattr(eva, "components", lambda *_: pytest.fail("the components were computed again"))
    retrain(*reopened(run))
    for name in ("adapter/adapter_model.safetensors", "retrain/ranks.json", "retrain/log.jsonl"):
        assert (run.path / name).read_bytes() == (made.run.path / name).read_bytes()
    for count in ("forward_passes", "backward_passes", "initialisation_passes"):
        assert spent(run, "retrain")[count] == spent(made.run, "retrain")[count]


def test_components_that_were_kept_are_only_used_for_what_they_were_made_for(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = built_on(laboratory, tmp_path, "eva", learned_run(laboratory, tmp_path))
    with interrupting(monkeypatch, Finetuning, "advance", 1):
        retrain(run, context)
    kept = run.path / "retrain" / "eva" / "checkpoint.safetensors"
    before = kept.read_bytes()
    other = learned_run(laboratory, tmp_path, dict.fromkeys(LAYERS, 1))
    run.add_base_run("autolora", other)
    retrain(*reopened(run))
    assert kept.read_bytes() != before
    assert sum(ranks_of(run).values()) == 4


@pytest.mark.parametrize("budget", [1, 2, 4])
def test_layers_without_a_component_are_left_out(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    """Those that begin without one, where the budget is less than the number of layers, and those that lose theirs."""
    new = Context.model
    monkeypatch.setattr(Context, "model", lambda context: skewed(new(context)))
    few = dict(zip(LAYERS, [1] * budget + [0] * (4 - budget), strict=True))
    learned = learned_run(laboratory, tmp_path, few)
    run, context = built_on(laboratory, tmp_path, "eva", learned, overrides=("retrain.steps=2",))
    retrain(run, context)
    ranks = ranks_of(run)
    assert list(ranks) == LAYERS
    assert sum(ranks.values()) == budget
    assert 0 in ranks.values()
    config = json.loads((run.path / "adapter" / "adapter_config.json").read_text())
    assert matched(config["target_modules"], LAYERS) == [name for name, rank in ranks.items() if rank]
    weights = load_file(run.path / "adapter" / "adapter_model.safetensors")
    shapes = {name: tensor.shape[0] for name, tensor in weights.items() if ".lora_A." in name}
    assert sorted(shapes.values()) == sorted(rank for rank in ranks.values() if rank)
    (row,) = evaluate(run, context)
    assert row["total rank"] == budget


def test_a_run_without_autoloras_is_refused(laboratory: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="method 'eva' builds on a run of autolora with the same recipe and seed"):
        retrain(*tiny_run(laboratory, tmp_path, "eva"))
