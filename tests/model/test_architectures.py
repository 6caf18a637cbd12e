"""People's models, tried for real: every architecture of the table in every task family that it fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from torch import Tensor, nn

from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import run_stages
from autolora.experiment.preflight import load_recipe
from autolora.lora.exact import head_faults
from autolora.methods.base import method_of
from autolora.model.fit import takes_inputs
from autolora.recipe.load import read_recipe
from autolora.recipe.plain_yaml import dump, values
from autolora.runs.store import Run
from tests.model.architecture import FAMILIES, SEQUENCES, write_checkpoint
from tests.model.architectures import ARCHITECTURES
from tests.model.recipes import write_recipe
from tests.model.trained import SENTENCES

PAIRS = [(name, family) for name in ARCHITECTURES for family in FAMILIES]
FIT = [(name, family) for name, family in PAIRS if family in ARCHITECTURES[name].families]
REFUSED = [pair for pair in PAIRS if pair not in FIT]
FIRST = dict(reversed(FIT))
EVERY = ("BERT", "DeBERTa-v3", "GPT-2", "Llama 3", "T5")  # of these each family in the short suite, of others the first
SHORT_OF = [
    pair if pair[0] in EVERY or FIRST[pair[0]] == pair[1] else pytest.param(*pair, marks=pytest.mark.slow)
    for pair in FIT
]
SHORT = {"steps": 2, "batch_size": 4, "weights": {"learning_rate": 2e-2}}
Folders = Callable[[str], Path]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The model folder of an architecture, written once."""
    root = tmp_path_factory.mktemp("architectures")
    return cache(lambda name: write_checkpoint(root / name, ARCHITECTURES[name]))


def rows(family: str) -> list[dict[str, Any]]:
    if family == "tagging":
        words = [text.split() for text in SENTENCES]
        return [{"tokens": each, "label": ["B-X" if word.istitle() else "O" for word in each]} for each in words]
    if family == "generation":
        return [{"input": text, "output": " ".join(text.split()[::-1])} for text in SENTENCES]
    return [
        {"sentence": text, "label": float(i) if family == "regression" else "ab"[i % 2]}
        for i, text in enumerate(SENTENCES)
    ]


def recipe_of(folder: Path, family: str, model: Path, **more: Any) -> Path:
    """A recipe over the sentences; more: of its model section."""
    sections = {"search": SHORT, "retrain": SHORT, "data": {"max_length": 64}, "model": {"name": str(model), **more}}
    more = {"eval": {"generation": {"max_new_tokens": 3}}} if family == "generation" else {}
    path = write_recipe(folder, family, model, **sections, **more)
    for split, part in {"train": rows(family), "validation": rows(family)[:4]}.items():
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return path


def snippet(run: Run, model: Path) -> nn.Module:
    """README's code."""
    config = transformers.AutoConfig.from_pretrained(run.path / "adapter")
    kind = getattr(transformers, config.architectures[0])
    base = kind.from_pretrained(model, config=config, dtype=torch.float32)
    adapted: nn.Module = PeftModel.from_pretrained(base, run.path / "adapter").eval()
    return adapted


@torch.no_grad()
def logits(model: nn.Module, context: Context) -> Tensor:
    """Of all sentences, padded; an encoder-decoder's, of their outputs."""
    batch = context.task.collate(context.examples("train"), tokenizer=context.tokenizer)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    if context.family.auto_class == "AutoModelForSeq2SeqLM":
        inputs["decoder_input_ids"] = batch["labels"].clamp(min=0)
    found: Tensor = model(**takes_inputs(model, inputs)).logits
    return found


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize(("name", "family"), SHORT_OF)
def test_a_run_gives_an_adapter_with_the_same_logits_in_stock_peft(
    name: str, family: str, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture, model = ARCHITECTURES[name], folders(name)
    recipe = load_recipe(recipe_of(tmp_path, family, model))
    run, context = Run.create(tmp_path / "runs", recipe), Context(recipe)
    run_stages(run, context)
    ours = method_of(run).load(context.model(), context).eval()
    expected = logits(ours, context)
    stock = snippet(run, model)
    assert close(logits(stock, context), expected)
    assert close(logits(stock.merge_and_unload(), context), expected)  # type: ignore[operator]
    assert not close(logits(context.model().eval(), context), expected)
    assert run.manifest()["stages"]["eval"]["score"] is not None or family != "classification"

    base, said = context.model(), capsys.readouterr().err
    where = "PEFT's for" if architecture.listed else "every linear layer of the backbone"
    kind = "sequence" if family in SEQUENCES else family
    targets = [*architecture.targets, *(architecture.pooled if kind == "sequence" else ())]
    assert f"model.target_modules: {', '.join(targets)} ({where}" in said
    assert {layer.rpartition(".")[2] for layer in run.ranks()} == set(targets)
    assert tuple(context.head(base)) == architecture.head.get(kind, ())
    if family == "generation":
        assert bool(list(head_faults(context.skeleton, ["lm_head"]))) == architecture.tied


# DeBERTa's projections see, beside the examples, a table that all of them share.
QUICK = [("DeBERTa-v3", "classification"), ("OPT", "generation"), ("T5", "generation")]
LONG = [pytest.param(*pair, marks=pytest.mark.slow) for pair in FIT if pair not in QUICK]


@pytest.mark.parametrize(("name", "family"), [*QUICK, *LONG])
def test_every_linear_layer_is_squeezed(name: str, family: str, folders: Folders, tmp_path: Path) -> None:
    path = recipe_of(tmp_path, family, folders(name), target_modules="all-linear")
    squeezed = {
        "search": {"estimator": "none", "rank": 2},
        "ranks": {"score": "fisher", "rule": "budget", "budget": {"fraction": 0.5}},
        "retrain": {**SHORT, "steps": 4, "start": "searched"},
    }
    path.write_text(dump({**values(path.read_text()), **squeezed}))
    recipe = load_recipe(path)
    run, context = Run.create(tmp_path / "runs", recipe), Context(recipe, show=False)
    run_stages(run, context)
    ranks = run.ranks()
    assert 0 < sum(ranks.values()) <= 2 * len(ranks)
    ours = logits(method_of(run).load(context.model(), context).eval(), context)
    assert close(logits(snippet(run, folders(name)), context), ours)


@pytest.mark.parametrize(("name", "family"), REFUSED)
def test_a_task_that_it_does_not_fit_is_refused(name: str, family: str, folders: Folders, tmp_path: Path) -> None:
    path = recipe_of(tmp_path, family, folders(name))
    why = r"is an encoder, which sees the tokens that come later|transformers has no AutoModelFor\w+ of \w+ models"
    with pytest.raises(UserError, match=why):
        run_stages(Run.create(tmp_path / "runs", recipe := load_recipe(path)), Context(recipe, show=False))
    assert not list(tmp_path.rglob("log.jsonl"))


@pytest.mark.parametrize("name", ["BERT", "DeBERTa-v3", "ModernBERT", "XLM-R", "BLOOM", "Llama 3", "T5"])
def test_tagged_words_are_the_tokens_of_their_sentence(name: str, folders: Folders, tmp_path: Path) -> None:
    context = Context(load_recipe(recipe_of(tmp_path, "tagging", folders(name))), show=False)
    for example, text in zip(context.examples("train"), SENTENCES, strict=True):
        assert list(example["input_ids"]) == context.tokenizer(text)["input_ids"]


@pytest.mark.parametrize(("name", "target"), [(name, t) for name, a in ARCHITECTURES.items() for t in a.refused])
def test_a_parameter_of_all_experts_is_refused_by_name(
    name: str, target: str, folders: Folders, tmp_path: Path
) -> None:
    path = recipe_of(tmp_path, "generation", folders(name), target_modules=[target])
    with pytest.raises(UserError, match=f"{target}' is a parameter of 3 dimensions"):
        load_recipe(path)
    recipe = read_recipe(path)
    with pytest.raises(UserError, match=rf"target module '{target}' is the parameter .*\.experts\.{target}"):
        run_stages(Run.create(tmp_path / "runs", recipe), Context(recipe, show=False))
