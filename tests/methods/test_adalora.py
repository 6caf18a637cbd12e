"""AdaLoRA: PEFT's allocator is called as it should be, its penalty is in the loss, and the budget is met."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import torch
from peft import AdaLoraModel, PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import evaluate, retrain
from autolora.lora.adapter import save_adapter
from autolora.lora.ranks import Ranks
from autolora.methods.adalora import AdaLora, orthogonality
from autolora.methods.base import method_of
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning, Training
from tests.methods.linked import (
    BUDGET,
    LAYERS,
    built_on,
    interrupting,
    layer_of,
    learned_run,
    reopened,
    spent,
)
from tests.methods.support import loaded, logits

TOTAL = 30
START = 3  # 1.5 times 7 over 4 layers, rounded up


class Made(NamedTuple):
    """A run that has been trained, its model right after training, and the steps the allocator was called with."""

    run: Run
    context: Context
    trained: nn.Module
    steps: list[int]


@pytest.fixture(scope="module")
def made(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    output = tmp_path_factory.mktemp("adalora")
    run, context = built_on(laboratory, output, "adalora", learned_run(laboratory, output))
    steps, models = [], []
    allocate, save = AdaLoraModel.update_and_allocate, AdaLora.save

    def spied_allocate(model: Any, step: int) -> None:
        gradients = [p.grad for n, p in model.named_parameters() if ".lora_E." in n]
        assert all(gradient is not None for gradient in gradients)
        steps.append(step)
        allocate(model, step)

    def spied_save(method: AdaLora, trained: nn.Module, *more: Any) -> None:
        models.append(trained)
        save(method, trained, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdaLoraModel, "update_and_allocate", spied_allocate)
        patch.setattr(AdaLora, "save", spied_save)
        retrain(run, context)
    return Made(run, context, models[0].eval(), steps)


@pytest.fixture
def adapted(laboratory: Path, tmp_path: Path) -> tuple[PeftModel, Training, Context]:
    """A model before its training, with factors that are anything but orthogonal, and what is to be trained."""
    run, context = built_on(laboratory, tmp_path, "adalora", learned_run(laboratory, tmp_path))
    method, model = method_of(run), context.model()
    assert isinstance(method, AdaLora)
    training = method.adapt(model, context.head(model), context, TOTAL)
    found = training.model
    assert isinstance(found, PeftModel)
    torch.manual_seed(5)
    with torch.no_grad():
        for factor in factors(found):
            factor.normal_(std=0.7)
    return found, training, context


def factors(model: nn.Module) -> list[Tensor]:
    return [p for n, p in model.named_parameters() if ".lora_A." in n or ".lora_B." in n]


def test_the_final_ranks_have_autoloras_sum(made: Made) -> None:
    ranks = Ranks.load(made.run.path / "retrain" / "ranks.json")
    assert sorted(ranks) == sorted(LAYERS)
    assert ranks.total == BUDGET
    assert ranks.initial_rank == START
    assert all(0 <= rank <= START for rank in ranks.values())
    (row,) = evaluate(made.run, made.context)
    assert row["total rank"] == BUDGET


def test_the_components_that_were_dropped_are_gone_from_the_model(made: Made) -> None:
    ranks = Ranks.load(made.run.path / "retrain" / "ranks.json")
    for name, rank in ranks.items():
        singular = layer_of(made.trained, name).lora_E["default"]
        assert len(singular) == START
        assert int((singular != 0).sum()) == rank


def test_the_allocator_is_called_once_for_every_step_while_there_are_gradients(made: Made) -> None:
    assert made.steps == list(range(1, TOTAL + 1))


def test_the_saved_adapter_computes_what_the_trained_model_does(made: Made) -> None:
    found, ranks = loaded(made.run, made.context), made.run.path / "retrain" / "ranks.json"
    assert torch.allclose(logits(made.trained, made.context), logits(found, made.context), rtol=0, atol=1e-7)
    for name, rank in Ranks.load(ranks).items():
        before, after = (layer_of(model, name).get_delta_weight("default").detach() for model in (made.trained, found))
        assert torch.allclose(before, after, rtol=1e-5, atol=1e-5 * float(before.abs().max()))
        assert int(torch.linalg.matrix_rank(after)) == rank


def test_layers_that_nothing_is_left_of_are_saved_without_a_warning(made: Made, tmp_path: Path) -> None:
    """PEFT would say that shards had not been gathered, and that the adapter is incomplete."""
    trained = cast(PeftModel, made.trained)
    pattern = trained.peft_config["default"].rank_pattern
    first = next(iter(pattern))
    with warnings.catch_warnings(record=True) as said, pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("always")
        patch.setitem(pattern, first, [False] * len(pattern[first]))
        save_adapter(trained, tmp_path / "adapter", "base", None)
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any(".lora_A" in name and not tensor.numel() for name, tensor in tensors.items())
    assert not [each for each in said if "invalid shape" in str(each.message)]


def test_every_layer_is_scaled_as_everywhere(made: Made) -> None:
    for model in (made.trained, loaded(made.run, made.context)):
        layers = [layer_of(model, name) for name in LAYERS]
        factors = {layer.scaling["default"] / float(layer.ranknum["default"]) for layer in layers if layer.r["default"]}
        assert factors == {16.0 / 4}


def test_the_parameters_are_those_of_the_final_ranks(made: Made) -> None:
    counts, head = spent(made.run, "retrain"), 32 * 2 + 2
    assert counts["head_parameters"] == head
    assert counts["trainable_parameters"] == BUDGET * (32 + 32 + 1) + head
    assert counts["parameters_in_training"] == START * len(LAYERS) * (32 + 32 + 1) + head


def test_the_penalty_is_the_one_that_peft_adds_to_a_models_own_loss(
    adapted: tuple[PeftModel, Training, Context],
) -> None:
    model, training, context = adapted
    assert training.penalty is not None
    batch = context.task.collate(context.examples("train")[:4], tokenizer=context.tokenizer)
    model.eval()
    with torch.no_grad():
        plain, both = (part(**batch).loss for part in (model.base_model.model, model.base_model))
        assert float(training.penalty()) == pytest.approx(float(both - plain), rel=1e-4)
        assert float(training.penalty()) > 0.1


def test_the_penalty_by_hand() -> None:
    a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])  # A A^T - I = diag(0, 3)
    b = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])  # B^T B - I = [[0, 1], [1, 1]]
    assert float(orthogonality([(a, True)])) == pytest.approx(3.0)
    assert float(orthogonality([(b, False)])) == pytest.approx(3**0.5)
    assert float(orthogonality([(a, True), (b, False)])) == pytest.approx((3 + 3**0.5) / 2)


def test_the_penaltys_gradient_reaches_every_factor(adapted: tuple[PeftModel, Training, Context]) -> None:
    model, training, context = adapted
    wrt, settings = factors(model), context.recipe.retrain
    batch = context.stream(context.examples("train"), settings, "retrain").at(0)
    with_it, without = context.gradients(model, penalty=training.penalty), context.gradients(model)
    loss, found = with_it.of(batch, wrt, 0)
    same, plain = without.of(batch, wrt, 0)
    assert torch.equal(loss, same)  # the log has the task's loss alone
    for factor, both, one in zip(wrt, found, plain, strict=True):
        gram = factor @ factor.T if len(factor) == START else factor.T @ factor
        off = gram - torch.eye(START)
        slope = 2 * off / off.norm()
        by_hand = 0.5 / len(wrt) * (slope @ factor if len(factor) == START else factor @ slope)
        assert torch.allclose(both - one, by_hand, rtol=1e-3, atol=1e-6)


def test_training_counts_the_penalty_in(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it the trained factors are others."""
    run, context = built_on(lab_folder(made), tmp_path, "adalora", learned_run(lab_folder(made), tmp_path))
    monkeypatch.setattr("autolora.methods.adalora.orthogonality", lambda found: 0 * orthogonality(found))
    retrain(run, context)
    assert weights(run) != weights(made.run)


def lab_folder(made: Made) -> Path:
    return Path(made.run.recipe.model.name).parent


def weights(run: Run) -> bytes:
    return (run.path / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("call", [6, 19, 27])  # while components are counted, while they are dropped, and after
def test_an_interrupted_run_ends_in_the_bytes_of_an_uninterrupted_one(
    laboratory: Path, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    run, context = built_on(laboratory, tmp_path, "adalora", learned_run(laboratory, tmp_path))
    with interrupting(monkeypatch, Finetuning, "advance", call):
        retrain(run, context)
    assert not (run.path / "adapter").exists()
    retrain(*reopened(run))
    for name in ("adapter/adapter_model.safetensors", "retrain/ranks.json", "retrain/log.jsonl"):
        assert (run.path / name).read_bytes() == (made.run.path / name).read_bytes()
    configs = [json.loads((each.path / "adapter" / "adapter_config.json").read_text()) for each in (run, made.run)]
    assert configs[0] == configs[1]
    assert spent(run, "retrain")["forward_passes"] == spent(made.run, "retrain")["forward_passes"] == TOTAL


def test_too_few_steps_for_the_schedule_are_refused(laboratory: Path, tmp_path: Path) -> None:
    run, context = built_on(
        laboratory, tmp_path, "adalora", learned_run(laboratory, tmp_path), overrides=("retrain.steps=1",)
    )
    with pytest.raises(UserError, match=r"adalora: 1 steps are too few for its schedule; raise retrain\.steps"):
        retrain(run, context)
