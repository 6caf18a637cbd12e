"""Checkpoints as people have them: another task's, renamed, or with a configuration that is not theirs.

folder = checkpoint(laboratory, tmp_path, BertForMaskedLM)
recipe = recipe_of(laboratory, folder, "model.head=[pooler, classifier]")
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, PreTrainedModel

from autolora.context.base import Context
from autolora.experiment.preflight import load_recipe
from autolora.recipe.schema import Recipe

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def checkpoint(laboratory: Path, folder: Path, kind: type[PreTrainedModel], **config: Any) -> Path:
    """A random BERT of a class, with the laboratory's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(laboratory / "model")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    sizes = {**SIZE, "vocab_size": len(tokenizer), "max_position_embeddings": 64, **config}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        kind(BertConfig(**sizes)).save_pretrained(folder)
    return folder


def copied(source: Path, folder: Path, **config: Any) -> Path:
    """A copy of a model's folder whose config.json says something else."""
    shutil.copytree(source, folder)
    edit_config(folder, **config)
    return folder


def edit_config(folder: Path, **config: Any) -> None:
    """Change entries of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Write the weights as `change` gives them."""
    file = folder / "model.safetensors"
    save_file({name: t.contiguous() for name, t in change(load_file(file)).items()}, file, metadata={"format": "pt"})


def recipe_of(laboratory: Path, model: Path, *overrides: str) -> Recipe:
    """The laboratory's recipe with another model; what is on disk is not checked."""
    recipe = load_recipe(laboratory / "tiny.yaml", ["search.steps=2", "retrain.steps=2", *overrides])
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": str(model)})})


def loaded(recipe: Recipe) -> PreTrainedModel:
    """The model as every stage gets it."""
    return Context(recipe, show=False).model()
