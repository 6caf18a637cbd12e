"""Squeeze: one training that is cut down on its way. What it shares with uniform LoRA, and how it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain, search
from autolora.methods.base import method_of
from autolora.recipe.schema import Weights
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning
from autolora.training.optimizers import ScheduledOptimizer
from tests.cli.support import contents
from tests.laboratory import of_an_earlier_version, tiny_run
from tests.methods.linked import LAYERS, PREFIX, interrupting, layer_of, reopened, spent
from tests.methods.squeezed import (
    BEGUN,
    FULL,
    STEPS,
    TOLERANT,
    checkpoint,
    done,
    evidence_of,
    same,
    searched,
    squeezed,
    stopped_at,
)
from tests.methods.support import logits, write_generation_laboratory

PLAIN = "retrain.lora_dropout=0"


@pytest.mark.parametrize(
    ("k", "overrides"),
    [
        (4, [PLAIN]),
        (4, ["retrain.lora_dropout=0.3"]),
        (2, []),
        (4, ["retrain.lora_alpha=5", "retrain.gradient_accumulation=2"]),
        (4, ["model.dtype=bfloat16"]),
    ],
)
def test_the_first_share_is_uniform_loras_training_bit_for_bit(
    learner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int, overrides: list[str]
) -> None:
    more = [*overrides, "retrain.checkpoint_every=5"]
    run, _ = searched(learner, tmp_path, f"squeeze:k={k}:budget=0.25", *more)
    uniform, context = squeezed(learner, tmp_path, f"lora:{k}", *more)
    search(uniform, context)
    theirs = stopped_at(monkeypatch, uniform, context, retrain, BEGUN)
    mine = checkpoint(run, "search")
    assert same(mine, theirs)
    moved = [tensor for name, tensor in mine.items() if name.endswith("lora_B.default.weight")]
    assert len(moved) == 6
    assert min(float(tensor.abs().max()) for tensor in moved) > 1e-3  # it has learned something


def test_so_it_is_for_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory = write_generation_laboratory(tmp_path / "laboratory", "gpt2")
    more = ["retrain.checkpoint_every=3", "search.rank=4", "model.target_modules=[c_attn,c_proj]"]
    run, context = tiny_run(laboratory, tmp_path / "runs", "squeeze:budget=0.25", *more)
    search(run, context)
    uniform, context = tiny_run(laboratory, tmp_path / "runs", "lora:4", *more)
    search(uniform, context)
    with interrupting(monkeypatch, Finetuning, "advance", 7):
        retrain(uniform, context)
    assert same(checkpoint(run, "search"), checkpoint(uniform, "retrain"))


@pytest.mark.parametrize(("k", "alpha"), [(4, 16.0), (2, 16.0), (2, 6.0)])
def test_the_scaling_is_that_of_uniform_lora_before_and_after(
    learner: Path, tmp_path: Path, k: int, alpha: float
) -> None:
    run, context = squeezed(learner, tmp_path, f"squeeze:k={k}:budget=rank=1", f"retrain.lora_alpha={alpha:g}")
    search(run, context)
    uniform, other = squeezed(learner, tmp_path, f"lora:{k}", f"retrain.lora_alpha={alpha:g}")
    search(uniform, other)
    scaling = uniform.ranks().scale(LAYERS[0])
    assert scaling == alpha / 4  # search.rank
    assert {each.scaling for each in evidence_of(run).components.values()} == {scaling}
    assert {run.ranks().scale(name) for name in run.ranks().targets} == {scaling}
    begun = started(run, context)
    assert {layer_of(begun, name).scaling["default"] for name in run.ranks().targets} == {scaling}


def started(run: Run, context: Context) -> Any:
    """The model as its retraining begins."""
    model = context.model()
    return method_of(run).adapt(model, context.head(model), context, STEPS).model.eval()


def uniform_at(learner: Path, output: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Tensor:
    """The logits of uniform LoRA after the first share of its training."""
    uniform, context = squeezed(learner, output, "lora:4", *overrides, "retrain.checkpoint_every=5")
    search(uniform, context)
    tensors = stopped_at(monkeypatch, uniform, context, retrain, BEGUN)
    model = started(uniform, context)
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in named.items():
            if parameter.requires_grad:
                parameter.copy_(tensors[name])
    return logits(model, context)


@pytest.mark.parametrize("budget", ["1", "rank=4", f"parameters={FULL}"])
def test_nothing_changes_where_nothing_is_dropped(
    learner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    before = uniform_at(learner, tmp_path, monkeypatch)
    run, context = squeezed(learner, tmp_path, f"squeeze:budget={budget}")
    assert set(search(run, context).values()) == {4}
    after = logits(started(*reopened(run)), context)
    assert (after - before).abs().max() < 1e-5 * before.abs().max()
    untrained = logits(context.model().eval(), context)
    assert (untrained - before).abs().max() > 0.1 * before.abs().max()
    assert run.ranks().rule["predicted_rise"] == 0


def test_what_is_dropped_is_missing_and_nothing_else(learner: Path, tmp_path: Path) -> None:
    run, context = squeezed(learner, tmp_path, "squeeze:budget=0.25")
    ranks = search(run, context)
    model, components = started(run, context), evidence_of(run).components
    assert len(ranks.targets) > 0
    assert set(ranks.values()) != {1}
    for name in ranks.targets:
        layer, each, kept = layer_of(model, name), components[name], list(ranks.kept[name])
        a, b = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
        wanted = each.u[:, kept] * each.sigma[kept] @ each.v[:, kept].T
        assert torch.allclose(layer.scaling["default"] * b @ a, wanted, atol=1e-6)
        assert torch.allclose(a.norm(dim=1), b.norm(dim=0), rtol=1e-5)  # balanced
    for name in set(ranks) - set(ranks.targets):
        assert not hasattr(layer_of(model, name), "lora_A")


def test_the_factors_begin_without_a_state_and_the_head_keeps_its_own(
    learner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = squeezed(learner, tmp_path, "squeeze:budget=0.25", "retrain.weights.schedule=cosine")
    search(run, context)
    before, states = checkpoint(run, "search"), dict[int, dict[str, Tensor]]()
    advance = Finetuning.advance

    def watched(stage: Finetuning, step: int) -> dict[str, Tensor]:
        states[step] = {name: tensor.clone() for name, tensor in stage.weights.state().items()}
        return advance(stage, step)

    monkeypatch.setattr(Finetuning, "advance", watched)
    retrain(run, context)
    assert list(states) == list(range(BEGUN, STEPS))
    head = [name for name in before if "#" in name and "modules_to_save" in name]
    assert len(head) == 3 * len([name for name in head if name.endswith("#step")]) > 0
    for name in head:
        assert torch.equal(states[BEGUN][name], before[name])
    assert all(float(before[name]) == BEGUN for name in head if name.endswith("#step"))
    assert [name for name in states[BEGUN] if "#" in name and "lora_" in name] == []
    after = states[BEGUN + 1]
    assert all(float(after[name]) == BEGUN + 1 for name in head if name.endswith("#step"))
    assert {float(value) for name, value in after.items() if "lora_" in name and name.endswith("#step")} == {1}
    for name in before:  # the head itself goes on as it is
        if "modules_to_save" in name and "#" not in name:
            assert torch.equal(states[BEGUN][name], before[name])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_schedule_goes_on_under_ten_steps_of_warm_up(learner: Path, tmp_path: Path, schedule: str) -> None:
    more = [f"retrain.weights.schedule={schedule}", "retrain.log_every=1", "retrain.steps=26"]
    run, _ = done(learner, tmp_path, "squeeze:budget=0.25:learning_rate=0.004", *more)
    settings = Weights(learning_rate=0.004, schedule=schedule)  # type: ignore[arg-type]
    whole = ScheduledOptimizer({"p": torch.zeros(1, requires_grad=True)}, settings, 26)
    rates = {
        record["step"]: record["weights_learning_rate"]
        for stage in ("search", "retrain")
        for record in map(json.loads, (run.path / stage / "log.jsonl").read_text().splitlines())
    }
    assert list(rates) == list(range(1, 27))
    for step, rate in rates.items():  # counted from 1; 13 of 26 come before
        ramp = 1.0 if step <= 13 else min(1.0, (step - 13) / 10)
        assert rate == pytest.approx(whole.learning_rate(step - 1) * ramp, rel=1e-12)
    assert rates[14] == pytest.approx(0.1 * whole.learning_rate(13))


STOPS: dict[str, list[tuple[Any, str, int]]] = {
    "search": [(Finetuning, "advance", 7)],
    "between": [("autolora.methods.squeeze", "measured_gates", 1)],
    "ranks": [("autolora.methods.autolora", "read_out", 1)],
    "retrain": [(Finetuning, "advance", BEGUN + 7)],
    "all": [
        (Finetuning, "advance", 4),
        ("autolora.methods.autolora", "keep", 1),
        (Finetuning, "advance", 7),
        ("autolora.experiment.retrain", "run_in", 1),
    ],
}


@pytest.mark.parametrize(
    ("where", "budget"), [*((where, "0.25") for where in STOPS), ("retrain", "tolerance"), ("all", "tolerance")]
)
def test_a_run_that_is_interrupted_ends_as_any_other(
    learner: Path,
    kept_run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    budget: str,
) -> None:
    import importlib

    word = "squeeze:budget=tolerance=0.05" if budget == "tolerance" else f"squeeze:budget={budget}"
    more, begun = (TOLERANT, 20) if budget == "tolerance" else ((), BEGUN)
    whole = kept_run(word, *more)
    run, context = squeezed(learner, tmp_path / "parts", word, *more)
    for owner, name, call in STOPS[where]:
        there = importlib.import_module(owner) if isinstance(owner, str) else owner
        with interrupting(monkeypatch, there, name, call + (begun - BEGUN if call > BEGUN else 0)):
            left(run, context)
        run, context = reopened(run)
    left(run, context)
    found, wanted = contents(run.path), contents(whole.path)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name] and not name.endswith(".png")] == []
    assert {"adapter/adapter_model.safetensors", "search/ranks.json", "retrain/log.jsonl"} <= wanted.keys()


def left(run: Run, context: Context) -> None:
    for name, stage in {"search": search, "retrain": retrain, "eval": evaluate}.items():
        if run.stage_state(name) != "success":
            stage(run, context)


def test_the_cost_is_that_of_one_training(learner: Path, tmp_path: Path) -> None:
    run, context = done(learner, tmp_path, "squeeze:budget=0.25")
    examples = len(context.examples("train"))
    measuring = -(-min(examples, run.recipe.ranks.examples) // run.recipe.retrain.batch_size)
    assert spent(run, "search")["steps"] == BEGUN
    assert spent(run, "search")["backward_passes"] == spent(run, "search")["forward_passes"] == BEGUN + measuring
    assert spent(run, "retrain")["steps"] == spent(run, "retrain")["backward_passes"] == STEPS - BEGUN
    assert method_of(run).workload(run.recipe, examples) == (0, STEPS + measuring)
    assert spent(run, "retrain")["trainable_parameters"] - spent(run, "retrain")["head_parameters"] <= FULL / 4


def test_the_share_may_be_another(learner: Path, tmp_path: Path) -> None:
    run, _ = done(learner, tmp_path, "squeeze:at=0.25:budget=0.25", "retrain.steps=null", "retrain.epochs=2")
    assert (spent(run, "search")["steps"], spent(run, "retrain")["steps"]) == (5, 15)


def test_a_search_of_other_settings_is_not_gone_on_from(learner: Path, tmp_path: Path) -> None:
    run, context = squeezed(learner, tmp_path, "squeeze:budget=0.25")
    search(run, context)
    changed = run.recipe.model_copy(update={"seed": 4})
    with pytest.raises(UserError, match=r"holds no search of these settings, data and model to go on from; run: auto"):
        retrain(Run(run.path, changed), Context(changed, show=False))


def test_a_head_of_another_search_is_not_taken(learner: Path, tmp_path: Path) -> None:
    run, context = squeezed(learner, tmp_path, "squeeze:budget=0.25")
    search(run, context)
    other, ranks = searched(learner, tmp_path / "other", "squeeze:budget=0.25", "retrain.weights.weight_decay=0.1")
    assert ranks.targets
    of_an_earlier_version(run.path)
    head = Path("search") / "head.safetensors"
    (run.path / head).write_bytes((other.path / head).read_bytes())
    with pytest.raises(UserError, match=r"head\.safetensors is of another search than evidence\.safetensors beside it"):
        retrain(*reopened(run))


def test_names_of_layers_are_the_models_own(learner: Path, tmp_path: Path) -> None:
    run, ranks = searched(learner, tmp_path, "squeeze:budget=0.25")
    assert all(not name.startswith(PREFIX) for name in ranks)
    assert set(LAYERS) < set(ranks) == set(evidence_of(run).components)
