"""A tiny Llama that learns to write, and a recipe for it: runs of a whole line in one process.

recipe = write_llama(tmp_path / "own")
run = line(recipe, tmp_path / "runs", "squeeze:budget=0.5", "model.quantization=nf4")
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from autolora.context.base import Context
from autolora.experiment.evaluate import evaluate
from autolora.experiment.preflight import load_recipe
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.methods.base import method_class
from autolora.recipe.method import parse_method
from autolora.runs.store import Run
from tests.model.folders import write_model

RECIPE = """\
task: generation
model:
  name: ./model
  dtype: float32
  target_modules: all-linear
data:
  path: data
  columns: [input]
  label: output
  max_length: 16
search:
  steps: 4
  batch_size: 4
  rank: 4
  lora_dropout: 0.1
  checkpoint_every: 2
  log_every: 1
  weights: {learning_rate: 5e-3}
retrain:
  steps: 6
  batch_size: 4
  checkpoint_every: 2
  log_every: 1
  weights: {learning_rate: 5e-3}
ranks: {examples: 8}
eval:
  metrics: [bleu]
  batch_size: 8
  generation: {max_new_tokens: 4}
"""
LETTERS = "abcdefgh"


def write_llama(folder: Path) -> Path:
    """own.yaml, model/ and data/ in a folder; the recipe's path. The checkpoint is in bfloat16."""
    write_model(
        folder / "model",
        "llama",
        "AutoModelForCausalLM",
        hidden_size=64,
        intermediate_size=128,
        initializer_range=0.1,
    )
    AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16).save_pretrained(folder / "model")
    rng = random.Random(0)
    (folder / "data").mkdir()
    for split, count in {"train": 40, "validation": 8}.items():
        inputs = [" ".join(rng.sample(LETTERS, 3)) for _ in range(count)]
        rows = [{"input": text, "output": " ".join(reversed(text.split()))} for text in inputs]
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "own.yaml").write_text(RECIPE)
    return folder / "own.yaml"


def made(recipe: Path, output: Path, method: str, *overrides: str) -> tuple[Run, Context]:
    """A new run with nothing done yet."""
    read = load_recipe(recipe, overrides, seed=3)
    read = read.model_copy(update={"method": parse_method(method)})
    return Run.create(output, read), Context(read, show=False)


def line(recipe: Path, output: Path, method: str, *overrides: str) -> Run:
    """A run whose stages have all been done."""
    run, context = made(recipe, output, method, *overrides)
    if method_class(run.recipe.method.name).searches:
        search(run, context)
    retrain(run, context)
    evaluate(run, context)
    return run
