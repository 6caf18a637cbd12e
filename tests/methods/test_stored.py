"""What is loaded is what was trained: an adapter that was changed since is refused, whatever was changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.evaluate import evaluate
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.runs.store import Run
from tests.laboratory import of_an_earlier_version, tiny_run
from tests.methods.linked import built_on, learned_run
from tests.methods.support import loaded, logits, write_generation_laboratory

LAYER = "bert.encoder.layer.1.attention.self.value"
WRAPPED = f"base_model.model.{LAYER}"
Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def made(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Context]:
    run, context = tiny_run(laboratory, tmp_path_factory.mktemp("runs"), "lora:2", "retrain.steps=2")
    search(run, context)
    retrain(run, context)
    return run, context


@pytest.fixture
def trained(made: tuple[Run, Context]) -> Iterator[tuple[Run, Context]]:
    """The run, of a version that listed no files: only what they hold counts. They are put back afterwards."""
    run, context = made
    of_an_earlier_version(run.path)
    files = [run.path / "adapter" / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    files += [run.path / "search" / "ranks.json", run.path / "recipe.yaml"]
    kept = {file: file.read_bytes() for file in files}
    yield Run.open(run.path), context
    for file, content in kept.items():
        file.write_bytes(content)


def edit(path: Path, change: Change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_tensors(run: Run, change: Change) -> None:
    file = run.path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def refusal(run: Run, context: Context) -> str:
    with pytest.raises(UserError) as error:
        evaluate(run, Context(run.recipe, show=False))
    assert str(error.value).endswith(f"write it anew with: autolora retrain {run.path}")
    return str(error.value)


def test_what_was_not_changed_is_loaded_as_peft_loads_it(trained: tuple[Run, Context]) -> None:
    run, context = trained
    stock = PeftModel.from_pretrained(context.model(), run.path / "adapter").eval()
    model = loaded(run, context)
    assert torch.equal(logits(model, context), logits(stock, context))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def narrowed(tensors: dict[str, Tensor]) -> None:
    tensors[f"{WRAPPED}.lora_A.weight"] = tensors[f"{WRAPPED}.lora_A.weight"][:1]
    tensors[f"{WRAPPED}.lora_B.weight"] = tensors[f"{WRAPPED}.lora_B.weight"][:, :1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(f"{WRAPPED}.lora_B.weight"), f"{WRAPPED}.lora_B.weight is missing"),
        (lambda t: t.pop(f"{WRAPPED}.lora_A.weight"), f"{WRAPPED}.lora_A.weight is missing"),
        (lambda t: [t.pop(name) for name in list(t) if "value" in name], "layer.0.attention.self.value.lora_A.weight"),
        (lambda t: t.pop("base_model.model.classifier.bias"), "classifier.bias is missing"),
        (lambda t: [t.pop(name) for name in list(t) if "classifier" in name], "classifier.bias is missing (and 1 f"),
        (lambda t: t.update(strange=torch.zeros(2)), "strange is not part of this adapter"),
        (
            lambda t: t.update({"base_model.model.bert.pooler.dense.bias": torch.zeros(32)}),
            "bert.pooler.dense.bias is not part of this adapter",
        ),
        (narrowed, f"{WRAPPED}.lora_A.weight has the shape (1, 32), but should have (2, 32)"),
        (lambda t: t.update({f"{WRAPPED}.lora_magnitude_vector": torch.ones(32)}), "lora_magnitude_vector is not part"),
    ],
)
def test_tensors_that_are_not_those_of_the_training_are_refused(
    trained: tuple[Run, Context], change: Change, said: str
) -> None:
    run, context = trained
    edit_tensors(run, change)
    message = refusal(run, context)
    assert said in message
    assert "adapter_model.safetensors is not what was trained" in message


def pattern(config: dict[str, Any], kind: str, value: float) -> None:
    """A configuration that says something else of one layer."""
    config[kind] = {f"^{re.escape(LAYER)}": value}


def without(config: dict[str, Any], layer: str) -> None:
    """A configuration that does not adapt one of its layers."""
    rest = config["target_modules"].replace(re.escape(layer), "none")
    assert rest != config["target_modules"]
    config["target_modules"] = rest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: pattern(c, "rank_pattern", 3), f"{LAYER} has the rank 3, but should have 2"),
        (lambda c: pattern(c, "alpha_pattern", 16), f"{LAYER} has the scaling 8, but should have 4"),
        (lambda c: c.update(r=4), "has the rank 4, but should have 2"),
        (lambda c: c.update(alpha_pattern={}, lora_alpha=4), "has the scaling 2, but should have 4"),
        (lambda c: without(c, LAYER), f"{LAYER} has the rank 0, but should have 2"),
        (lambda c: c.update(target_modules=["query"]), "value has the rank 0, but should have 2"),
        (
            lambda c: c.update(target_modules=["query", "value", "key"]),
            "bert.encoder.layer.0.attention.self.key is among the target_modules, but should not be",
        ),
        (lambda c: c.update(target_modules=".*self.(query|key|value)"), "self.key is among the target_modules"),
        (lambda c: c.update(modules_to_save=None), "classifier is not among the modules_to_save"),
        (lambda c: c.update(use_rslora=True), "use_rslora is True, but should be False"),
        (lambda c: c.update(use_dora=True), "use_dora is True, but should be False"),
        (lambda c: c.update(bias="all"), "bias is 'all', but should be 'none'"),
        (lambda c: c.update(init_lora_weights="pissa"), "init_lora_weights is 'pissa', but should be True"),
        (lambda c: c.update(layers_to_transform=[0]), "layers_to_transform is [0], but should be None"),
        (lambda c: c.update(exclude_modules=[LAYER]), "exclude_modules is"),
        (lambda c: c.update(task_type="TOKEN_CLS"), "task_type is 'TOKEN_CLS', but should be 'SEQ_CLS'"),
        (lambda c: c.update(peft_type="IA3"), "peft_type is 'IA3', but should be 'LORA'"),
        (lambda c: c.pop("target_modules"), "is no configuration of such an adapter (KeyError: 'target_modules')"),
        (lambda c: c.update(rank_pattern=[1]), "is no configuration of"),
    ],
)
def test_a_configuration_that_is_not_that_of_the_training_is_refused(
    trained: tuple[Run, Context], change: Change, said: str
) -> None:
    run, context = trained
    edit(run.path / "adapter" / "adapter_config.json", change)
    assert said in refusal(run, context)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["ranks"].update({LAYER: 1}), f"{LAYER} has the rank 2, but should have 1"),
        (lambda r: r["ranks"].update({LAYER: 0}), f"{LAYER} has the rank 2, but should have 0"),
        (lambda r: r["ranks"].update(dict.fromkeys(r["ranks"], 3)), "has the rank 2, but should have 3"),
    ],
)
def test_ranks_that_are_not_those_of_the_adapter_are_refused(
    trained: tuple[Run, Context], change: Change, said: str
) -> None:
    run, context = trained
    edit(run.path / "search" / "ranks.json", change)
    assert said in refusal(run, context)


def test_a_recipe_that_says_another_scaling_is_refused(trained: tuple[Run, Context]) -> None:
    run, context = trained
    run.recipe = run.recipe.model_copy(update={"retrain": run.recipe.retrain.model_copy(update={"lora_alpha": 2.0})})
    assert "has the scaling 4, but should have 0.5" in refusal(run, context)


def test_a_recipe_that_says_another_head_is_refused(trained: tuple[Run, Context]) -> None:
    run, context = trained
    head = ("bert.pooler", "classifier")
    run.recipe = run.recipe.model_copy(update={"model": run.recipe.model.model_copy(update={"head": head})})
    assert "bert.pooler" in refusal(run, context)


@pytest.fixture(scope="module")
def others(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Run, Context]]:
    """A run of each kind of method, trained."""
    output = tmp_path_factory.mktemp("others")
    learned, (uniform, context) = learned_run(laboratory, output), tiny_run(laboratory, output, "lora:4")
    search(uniform, context)
    retrain(uniform, context)
    decoder = write_generation_laboratory(output / "decoder", "gpt2")
    found = {
        "adalora": built_on(laboratory, output, "adalora", learned),
        "svd": built_on(laboratory, output, "svd", learned, uniform),
        "eva": built_on(laboratory, output, "eva", learned),
        "houlsby:2": tiny_run(laboratory, output, "houlsby:2"),
        "bitfit": tiny_run(laboratory, output, "bitfit"),
        "prefix:3": tiny_run(decoder, output / "runs", "prefix:3"),
    }
    for run, of_run in found.values():
        retrain(run, of_run)
    return found


@pytest.mark.parametrize("method", ["adalora", "svd", "eva", "houlsby:2", "bitfit", "prefix:3"])
def test_a_tensor_lost_added_or_of_another_shape_is_refused_whatever_the_method(
    others: dict[str, tuple[Run, Context]], method: str
) -> None:
    run, context = others[method]
    loaded(run, context)
    (file,) = (run.path / "adapter").glob("*.safetensors")
    kept, tensors = file.read_bytes(), load_file(file)
    name = sorted(tensors)[-1]
    changes = [
        {each: tensor for each, tensor in tensors.items() if each != name},
        {**tensors, "strange": torch.zeros(2)},
        {**tensors, name: tensors[name][:-1].contiguous()},
    ]
    for changed in changes:
        save_file(changed, file)
        with pytest.raises(UserError, match=rf"({name}|strange|prompt_embeddings)(?s:.*)autolora retrain {run.path}"):
            loaded(run, context)
    file.write_bytes(kept)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("adalora", lambda c: c.update(init_r=5)),
        ("adalora", lambda c: c.update(lora_alpha=5)),
        ("adalora", lambda c: next(iter(c["rank_pattern"].values())).reverse() or c["rank_pattern"].popitem()),
        ("adalora", lambda c: c.update(modules_to_save=[])),
        ("svd", lambda c: c.update(alpha_pattern={})),
        ("svd", lambda c: c.update(lora_alpha=1, alpha_pattern={})),
        ("eva", lambda c: c.update(alpha_pattern={}, lora_alpha=99)),
        ("prefix:3", lambda c: c.update(num_virtual_tokens=4)),
        ("prefix:3", lambda c: c.update(num_layers=1)),
        ("prefix:3", lambda c: c.update(token_dim=8)),
    ],
)
def test_a_setting_that_is_not_that_of_the_training_is_refused_whatever_the_method(
    others: dict[str, tuple[Run, Context]], method: str, change: Change
) -> None:
    run, context = others[method]
    path = run.path / "adapter" / "adapter_config.json"
    kept = path.read_bytes()
    edit(path, change)
    with pytest.raises(UserError, match=f"autolora retrain {run.path}"):
        loaded(run, context)
    path.write_bytes(kept)
