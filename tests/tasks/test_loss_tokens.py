"""``loss.tokens: all``: inputs are learned with the outputs, as transformers' own loss over all labels has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.plain_yaml import dump
from autolora.recipe.schema import Data, Eval, Loss
from autolora.tasks.encoder_decoder import EncoderDecoderGeneration
from tests.chat_tokenizers import save_model, tiny_llama, tokenizer_of
from tests.own_data import text_of

ROWS = [{"query": "What is 2 + 2?", "response": "It is 4."}, {"query": "And 3?", "response": "No more than 3, so 3."}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"), "llama-3")


def context(folder: Path, model: Path, task: str, tokens: str, **data: Any) -> Context:
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text(text_of(ROWS))
    own = {"path": ".", "columns": ["query"], "label": "response", "max_length": 400, **data}
    (folder / "own.yaml").write_text(
        dump({"task": task, "model": {"name": str(model)}, "data": own, "loss": {"tokens": tokens}})
    )
    return Context(load_recipe(folder / "own.yaml"), show=False)


@pytest.mark.parametrize(("task", "data"), [("generation", {}), ("chat", {}), ("chat", {"packing": True})])
def test_the_loss_is_that_of_all_tokens_but_the_first(
    task: str, data: dict[str, Any], tmp_path: Path, model: Path
) -> None:
    found = context(tmp_path, model, task, "all", **data)
    examples = found.examples("train")
    net = tiny_llama(len(tokenizer_of("llama-3")))
    wanted = 0.0
    for example in examples:
        ids = torch.tensor([example["input_ids"]])
        wanted += net(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
    loss = found.task.loss(net, found.task.collate(examples, found.tokenizer))
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    assert found.task.units(examples) == sum(len(example["input_ids"]) - 1 for example in examples)
    few = context(tmp_path, model, task, "outputs", **data)
    assert few.task.units(few.examples("train")) < found.task.units(examples)


@pytest.mark.parametrize("task", ["generation", "chat"])
def test_it_is_the_purpose_that_decides_and_not_the_name_of_the_split(task: str, tmp_path: Path, model: Path) -> None:
    """Rows to learn from are learned whole wherever they come from; what is scored is the output alone."""
    found, few = (context(tmp_path, model, task, tokens) for tokens in ("all", "outputs"))
    whole = found.task.units(found.examples("train"))
    rows = found.splits["validation"]  # the same rows as those of training
    assert found.task.units(found.task.encode(rows, found.tokenizer, "held out of training", "train")) == whole
    for split in ("train", "validation"):
        sequences, _ = found.task.teacher_forced(found.splits[split], found.tokenizer, split)
        assert found.task.units(sequences) == few.task.units(few.examples("train")) < whole


def test_what_has_no_tokens_to_learn_refuses_it(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UserError, match=r"loss\.tokens: has no bearing: classification learns no tokens"):
        context(tmp_path, model, "classification", "all")
    data = Data(path="x", columns=("query",), label="response")
    with pytest.raises(UserError, match=r"loss\.tokens: all is for decoders"):
        EncoderDecoderGeneration(data, Eval(metrics=("bleu",)), {}, Loss(tokens="all"))
