"""A laboratory of its own: a tiny random model, a small data set, a recipe for them, and runs of it without the CLI.

run, context = tiny_run(laboratory, tmp_path / "runs", "lora:2", "retrain.steps=5")
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from autolora.context.base import Context
from autolora.experiment.preflight import load_recipe
from autolora.files import write_state
from autolora.recipe.method import parse_method
from autolora.runs.store import Run

TINY_RECIPE = """\
task: classification
model:
  name: ./model
  dtype: float32
data:
  path: data
  columns: [sentence]
search:
  steps: 30
  batch_size: 6
  rank: 4
  log_every: 7
  checkpoint_every: 4
  estimator: central_difference
  weights: {learning_rate: 5e-3}
  selection: {learning_rate: 2e-2}
retrain:
  steps: 30
  batch_size: 6
  log_every: 7
  checkpoint_every: 4
  weights: {learning_rate: 5e-3}
eval:
  metrics: [accuracy, matthews]
  batch_size: 4
"""
SUBJECTS = ["cat", "dog", "bird", "child", "teacher", "author", "pilot", "king"]
VERBS = ["sees", "hears", "likes", "finds", "calls", "helps"]
EXTRAS = ["again", "in the garden", "today", "with great care on a very long day"]


def write_laboratory(folder: Path) -> None:
    """tiny.yaml, model/ (random BERT) and data/ (train: 60 sentences, validation: 23)."""
    _write_data(folder / "data")
    _write_model(folder / "model")
    (folder / "tiny.yaml").write_text(TINY_RECIPE, encoding="utf-8")


def write_named_laboratory(folder: Path, names: Sequence[str]) -> Path:
    """The same in a folder of its own, with sentences that have these names in turn for labels."""
    folder.mkdir()
    write_laboratory(folder)
    for file in (folder / "data").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        named = [{**row, "label": names[i % len(names)]} for i, row in enumerate(rows)]
        file.write_text("".join(json.dumps(row) + "\n" for row in named), encoding="utf-8")
    return folder


def tiny_run(
    laboratory: Path, output: Path, method: str = "autolora", *overrides: str, seed: int = 3
) -> tuple[Run, Context]:
    """A new run of tiny.yaml by a method, with nothing done yet, and its context."""
    recipe = load_recipe(laboratory / "tiny.yaml", overrides, seed=seed)
    recipe = recipe.model_copy(update={"method": parse_method(method)})
    return Run.create(output, recipe), Context(recipe, show=False)


def of_an_earlier_version(run: Path) -> None:
    """Make a run one of a version that listed no files: whatever they hold, it is read as it is."""
    for name in ("manifest.json", "status.json"):
        content = json.loads((run / name).read_text(encoding="utf-8"))
        kept = {key: value for key, value in content.items() if key not in ("format", "sha256", "files")}
        (run / name).write_text(json.dumps(kept), encoding="utf-8")


def change_state(path: Path, **changes: object) -> None:
    """Change what manifest.json or status.json says, as if it had been written so."""
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["sha256"]
    write_state(path, {**content, **changes})


def flip_bit(path: Path, place: float = 0.5, bit: int = 0) -> None:
    """Turn over one bit of a file, so far from its beginning (0) to its end (1)."""
    data = bytearray(path.read_bytes())
    data[round(place * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)


def _write_data(folder: Path) -> None:
    rng = random.Random(0)
    folder.mkdir()
    for split, count in {"train": 60, "validation": 23}.items():
        rows = []
        for i in range(count):
            words = ["the", rng.choice(SUBJECTS), rng.choice(VERBS), "the", rng.choice(SUBJECTS), rng.choice(EXTRAS)]
            if i % 2:
                words[0], words[1] = words[1], words[0]
            rows.append({"sentence": " ".join(words), "label": 1 - i % 2})
        rng.shuffle(rows)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")


def _write_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = {word for text in (*SUBJECTS, *VERBS, *EXTRAS, "the") for word in text.split()}
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(words)])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    tokenizer.post_processor = TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **size)).save_pretrained(folder)
