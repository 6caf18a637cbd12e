"""EVA's components: the principal directions of the layers' inputs at their tokens, and the ranks that follow."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from autolora.errors import UserError
from autolora.lora.targets import target_modules
from autolora.methods import eva
from autolora.methods.eva import components
from autolora.recipe.schema import Data, Eval
from autolora.tasks.base import Task
from autolora.tasks.tagging import Tagging
from autolora.training.batches import BatchStream, TensorBatch
from tests.laboratory import tiny_run
from tests.methods.eva_models import skewed, stream_of
from tests.methods.linked import BUDGET, LAYERS
from tests.methods.support import write_generation_laboratory
from tests.model.tiny import ARCHITECTURES, collate, tiny_examples, tiny_model

START = dict(zip(LAYERS, (1, 2, 2, 2), strict=True))  # as even as 7 goes


def inputs_of(model: Any, batch: TensorBatch, names: list[str]) -> dict[str, NDArray[np.float64]]:
    """What the layers get to see at the tokens of a batch, token by token, in evaluation mode."""
    seen: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
        for name in names
    ]
    with torch.no_grad():
        model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    for hook in hooks:
        hook.remove()
    places = [(i, j) for i, row in enumerate(batch["attention_mask"].tolist()) for j, on in enumerate(row) if on]
    return {name: np.array([x[i, j].numpy() for i, j in places], dtype=np.float64) for name, x in seen.items()}


def assert_principal(found: dict[str, Tensor], inputs: dict[str, NDArray[np.float64]]) -> None:
    """The components are the leading right singular vectors of the centred inputs, in order, but for their signs."""
    for name, a in found.items():
        x = inputs[name] - inputs[name].mean(axis=0)
        directions = np.linalg.svd(x, full_matrices=False)[2][: len(a)]
        assert np.abs((a.numpy() * directions).sum(axis=1)) == pytest.approx(1, abs=1e-4)
        assert np.allclose(a.numpy() @ a.numpy().T, np.eye(len(a)), atol=1e-5)


def shares_of(inputs: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """By layer, the share of variance that each of its directions explains."""
    values = {name: np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2 for name, x in inputs.items()}
    return {name: each / each.sum() for name, each in values.items()}


def test_the_components_are_the_principal_directions_of_the_layers_inputs(laboratory: Path, tmp_path: Path) -> None:
    """All examples are one batch, with much padding: then the truth is a plain singular value decomposition."""
    _, context = tiny_run(laboratory, tmp_path, "eva")
    model, stream = context.model(), stream_of(context, 60)
    found, _ = components(model.train(), stream, START)
    assert model.training
    (batch,) = stream.at(0).micro
    assert float((batch["attention_mask"] == 0).double().mean()) > 0.2
    assert_principal(found, inputs_of(model, batch, LAYERS))


def test_a_decoders_prompts_and_outputs_count_and_its_padding_does_not(tmp_path: Path) -> None:
    laboratory = write_generation_laboratory(tmp_path / "context", "gpt2")
    _, context = tiny_run(laboratory, tmp_path / "runs", "eva")
    model, stream = context.model(), stream_of(context, 7)
    start = dict.fromkeys(target_modules(model, context.recipe.model.target_modules), 2)
    found, _ = components(model, stream, start)
    (batch,) = stream.at(0).micro
    assert (batch["attention_mask"] == 0).any()
    assert "labels" in batch
    assert_principal(found, inputs_of(model, batch, list(start)))


def test_the_ranks_go_to_what_explains_most_variance(laboratory: Path, tmp_path: Path) -> None:
    """Truth: every layer's directions, up to twice the largest start of those that share an input, the best seven."""
    _, context = tiny_run(laboratory, tmp_path, "eva")
    model, stream = skewed(context.model()), stream_of(context, 60)
    found, _ = components(model, stream, START)
    shares = shares_of(inputs_of(model, stream.at(0).micro[0], LAYERS))
    best = sorted(((share, name) for name in LAYERS for share in shares[name][:4]), reverse=True)[:BUDGET]
    wanted = [sum(name in LAYERS[i : i + 2] for _, name in best) for i in (0, 2)]
    ranks = {name: len(a) for name, a in found.items()}
    assert [ranks[LAYERS[i]] + ranks[LAYERS[i + 1]] for i in (0, 2)] == wanted  # query and value tie
    assert wanted == [4, 3]  # of 3 and 4 to begin with


def test_micro_batches_change_nothing(laboratory: Path, tmp_path: Path) -> None:
    found = []
    for pieces in (1, 3):
        _, context = tiny_run(laboratory, tmp_path, "eva", f"retrain.gradient_accumulation={pieces}")
        found.append(components(context.model(), stream_of(context, 6), START)[0])
    assert all(torch.equal(found[0][name], found[1][name]) for name in LAYERS)


def test_batches_of_fewer_tokens_than_components_are_joined(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT skips them, and would go on for ever."""
    _, context = tiny_run(laboratory, tmp_path, "eva")
    monkeypatch.setattr(eva, "LIMIT", 300)
    stream = stream_of(context, 1)
    assert max(stream.lengths) < 16
    found, passes = components(context.model(), stream, dict.fromkeys(LAYERS, 8))
    assert sum(map(len, found.values())) == 32
    assert 3 < passes < 150


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_goes(name: str) -> None:
    model = tiny_model(name)
    start = dict.fromkeys(target_modules(model, ARCHITECTURES[name].targets), 2)
    found, passes = components(model, BatchStream(tiny_examples(60), collate, batch_size=8, seed=0), start)
    assert sum(map(len, found.values())) == sum(start.values())
    assert 4 <= passes < 100
    assert {a.dtype for a in found.values()} == {torch.float32}


def test_what_the_forward_does_not_take_is_not_fed(laboratory: Path, tmp_path: Path) -> None:
    _, context = tiny_run(laboratory, tmp_path, "eva")
    model = context.model()
    fed: list[set[str]] = []
    model.register_forward_pre_hook(lambda _, args, kwargs: fed.append(set(kwargs)), with_kwargs=True)
    rows = Dataset.from_dict({"tokens": [["the", "cat"], ["dog"]] * 10, "tags": [["O", "B-X"], ["B-X"]] * 10})
    data = Data(path="x", columns=("tokens",), label="tags", labels=("O", "B-X"))
    task: Task = Tagging(data, Eval(), {"train": rows})
    examples = task.encode(rows, context.tokenizer, "train", "train")
    assert {"labels", "words", "counts"} < set(task.collate(examples[:2], context.tokenizer))
    stream = BatchStream(examples, partial(task.collate, tokenizer=context.tokenizer), batch_size=10, seed=0)
    components(model, stream, dict.fromkeys(LAYERS, 1))
    assert set.union(*fed) <= set(inspect.signature(model.forward).parameters) - {"labels"}
    assert {"input_ids", "attention_mask"} <= set.intersection(*fed)


def test_layers_too_narrow_for_the_components_are_refused(laboratory: Path, tmp_path: Path) -> None:
    _, context = tiny_run(laboratory, tmp_path, "eva")
    with pytest.raises(UserError, match=r"query has 32 inputs, too few to choose up to 34 components .* lower search"):
        components(context.model(), stream_of(context, 6), dict.fromkeys(LAYERS, 17))


def test_a_layer_that_does_not_see_tokens_is_refused(laboratory: Path, tmp_path: Path) -> None:
    _, context = tiny_run(laboratory, tmp_path, "eva")
    with pytest.raises(UserError, match=r"inputs of bert\.pooler\.dense have the shape \(6, 32\), which does not fit"):
        components(context.model(), stream_of(context, 6), {"bert.pooler.dense": 2})


def test_components_that_do_not_converge_are_said(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, context = tiny_run(laboratory, tmp_path, "eva")
    monkeypatch.setattr(eva, "LIMIT", 2)
    with pytest.raises(UserError, match=r"have not converged after 2 batches; raise retrain\.batch_size"):
        components(context.model(), stream_of(context, 6), START)
