"""An adapter trains LoRA on the targets and exactly the head, or the recipe is refused with the names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor, nn

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import run_stages
from autolora.lora.adapter import add_adapter
from autolora.lora.exact import adapter_faults, head_faults, without_weights
from autolora.recipe.load import read_recipe
from autolora.runs.store import Run
from tests.model.folders import HIDDEN, write_model
from tests.model.recipes import write_recipe

AUTO = "AutoModelForSequenceClassification"


def run_of(folder: Path, kind: str, task: str = "classification", auto: str = AUTO, **model: object) -> Run:
    """A new run over a tiny model, whatever its folder shows; `config` among the arguments is the model's."""
    config = model.pop("config", {})
    made = write_model(folder / "model", kind, auto, **config)  # type: ignore[arg-type]
    recipe = read_recipe(write_recipe(folder, task, made, model={"name": str(made), **model}))
    return Run.create(folder / "runs", recipe)


def done(run: Run) -> Run:
    run_stages(run, Context(run.recipe, show=False))
    return run


def refusal(run: Run) -> str:
    """What a run is refused with before its first step."""
    with pytest.raises(UserError) as error:
        run_stages(run, Context(run.recipe, show=False))
    assert not list(run.path.rglob("log.jsonl"))
    return str(error.value)


def saved(folder: Path) -> set[str]:
    """Modules in an adapter's file, without PEFT's prefix."""
    with safe_open(str(folder / "adapter_model.safetensors"), "pt") as file:
        names = [name.removeprefix("base_model.model.") for name in file.keys()]  # noqa: SIM118
    return {name.split(".lora_")[0] if ".lora_" in name else name.rpartition(".")[0] for name in names}


@torch.no_grad()
def stock_equals_ours(run: Run, folder: str) -> bool:
    """Logits of an adapter in stock PEFT on the base, and of ours."""
    from autolora.methods.base import method_of

    context = Context(run.recipe, show=False)
    batch = context.task.collate(context.examples("validation"), tokenizer=context.tokenizer)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    stock: Tensor = PeftModel.from_pretrained(context.model(), run.path / folder).eval()(**inputs).logits
    ours: Tensor = method_of(run).load(context.model(), context).eval()(**inputs).logits
    return bool(torch.allclose(stock, ours, atol=1e-5))


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("bert", ["classifier"]),
        ("bert", ["bert.pooler", "classifier"]),
        ("bert", ["bert.pooler"]),  # PEFT alone would train the classifier too
        ("roberta", ["classifier"]),
        ("roberta", ["classifier.out_proj"]),  # PEFT alone would train the classifier's other layer too
        ("distilbert", ["pre_classifier", "classifier"]),
        ("distilbert", ["pre_classifier"]),
        ("gpt2", ["score"]),
    ],
)
def test_what_is_trained_saved_and_counted_is_the_targets_and_the_head(
    kind: str, head: list[str], tmp_path: Path
) -> None:
    names = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}  # so its own head is kept
    run = done(run_of(tmp_path, kind, head=head, config=names))
    ranks = run.ranks()
    base = Context(run.recipe, show=False).model()
    of_head = sum(p.numel() for name in head for p in base.get_submodule(name).parameters())
    parents = {name for name in saved(run.path / "adapter") if name not in ranks}
    assert all(any(f"{name}.".startswith(f"{module}.") for module in head) for name in parents)
    assert saved(run.path / "adapter") >= set(ranks.targets)
    stage = run.manifest()["stages"]["retrain"]
    assert stage["head_parameters"] == of_head
    assert stage["trainable_parameters"] - of_head == sum(r * sum(ranks.shapes[n]) for n, r in ranks.items())
    assert stock_equals_ours(run, "adapter")
    assert saved(run.path / "search" / "adapter") == saved(run.path / "adapter")


def test_a_head_that_peft_would_widen_is_refused_with_what_it_would_train(tmp_path: Path) -> None:
    message = refusal(run_of(tmp_path, "distilbert", head=["classifier"]))
    assert "would train pre_classifier too" in message
    assert "model.head: [pre_classifier, classifier]" in message


def test_a_target_inside_the_head_is_refused_with_its_name(tmp_path: Path) -> None:
    message = refusal(run_of(tmp_path, "roberta", target_modules=["dense"]))
    assert "model.target_modules: classifier.dense lies in the head (classifier)" in message


def test_a_target_that_is_the_head_is_refused(tmp_path: Path) -> None:
    assert "score lies in the head" in refusal(run_of(tmp_path, "gpt2", target_modules=["c_attn", "score"]))


def test_a_head_inside_a_head_is_refused_with_both_names(tmp_path: Path) -> None:
    message = refusal(run_of(tmp_path, "roberta", head=["classifier", "out_proj"]))
    assert "model.head: classifier.out_proj lies in classifier" in message


def test_all_faults_are_said_together(tmp_path: Path) -> None:
    run = run_of(tmp_path, "roberta", head=["classifier", "out_proj"], target_modules=["dense", "value"])
    message = refusal(run)
    assert "classifier.out_proj lies in classifier" in message
    assert "classifier.dense lies in the head" in message


@pytest.mark.parametrize(("kind", "embeddings"), [("gpt2", "transformer.wte"), ("llama", "model.embed_tokens")])
def test_a_tied_head_is_refused_with_what_it_is_tied_to(kind: str, embeddings: str, tmp_path: Path) -> None:
    tied = {"tie_word_embeddings": True}
    run = run_of(tmp_path, kind, "generation", "AutoModelForCausalLM", head=["lm_head"], config=tied)
    with pytest.raises(UserError, match=r"lm_head .*tied"):
        done(run)
    fault = next(iter(head_faults(Context(run.recipe).model(), ["lm_head"])))
    assert fault.startswith(f"model.head: lm_head is tied to {embeddings}.weight")


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_untied_head_of_a_generator_is_trained_and_saved(kind: str, tmp_path: Path) -> None:
    untied = {"tie_word_embeddings": False}
    run = done(run_of(tmp_path, kind, "generation", "AutoModelForCausalLM", head=["lm_head"], config=untied))
    assert "lm_head" in saved(run.path / "adapter")
    assert run.manifest()["stages"]["retrain"]["head_parameters"] == 12 * HIDDEN
    assert stock_equals_ours(run, "adapter")


def test_a_stage_that_trained_something_else_fails_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def also(model: nn.Module, *rest: object) -> nn.Module:
        adapted = add_adapter(model, *rest)  # type: ignore[arg-type]
        adapted.get_submodule("base_model.model.bert.pooler").requires_grad_(True)
        return adapted

    monkeypatch.setattr("autolora.methods.peft.add_adapter", also)
    with pytest.raises(RuntimeError, match=r"would train bert.pooler.dense too"):
        done(run_of(tmp_path, "bert"))


def test_building_the_adapter_beforehand_changes_neither_the_model_nor_what_is_drawn(tmp_path: Path) -> None:
    run = run_of(tmp_path, "bert")
    model = Context(run.recipe, show=False).model()
    names, before = [name for name, _ in model.named_modules()], torch.get_rng_state()
    values = [parameter.clone() for parameter in model.parameters()]
    targets = [name for name in names if name.endswith(".query")]
    assert list(adapter_faults(model, targets, ["classifier"], "SEQ_CLS")) == []
    assert [name for name, _ in model.named_modules()] == names
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, values, model.parameters()))
    assert all(parameter.is_meta for parameter in without_weights(model).parameters())
    assert json.loads((run.path / "status.json").read_text())["stages"] == {}
