"""What the tests of methods share: a laboratory of a decoder model, finished and interrupted runs, logits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autolora.context.base import Context
from autolora.experiment.line import retrain
from autolora.methods.base import method_of
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning
from tests.laboratory import tiny_run

GENERATION_RECIPE = """\
task: generation
model:
  name: ./model
  dtype: float32
  target_modules: [{target}]
data:
  path: data
  columns: [input]
  label: output
  max_length: 16
retrain:
  steps: 12
  batch_size: 4
  log_every: 5
  checkpoint_every: 4
  weights: {{learning_rate: 5e-3}}
eval:
  metrics: [bleu]
  batch_size: 3
  generation: {{beams: 2, max_new_tokens: 5}}
"""
WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "b", "c", "d", "e", "f", "g", "h"]
INTERRUPTED_AT = 6  # after the checkpoint at step 4


def write_generation_laboratory(folder: Path, kind: str) -> Path:
    """tiny.yaml, data/ and model/: a random GPT-2 or Llama with tied embeddings, the latter with grouped queries."""
    (folder / "data").mkdir(parents=True)
    rows = [{"input": f"a {x}" if x in "bcd" else f"a {x} b c", "output": f"{x} {x} e"} for x in "bcdefgh"]
    for split, part in {"train": rows, "validation": rows[1:6]}.items():
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / "data" / f"{split}.jsonl").write_text(text, encoding="utf-8")
    recipe = GENERATION_RECIPE.format(target="c_attn" if kind == "gpt2" else "q_proj")
    (folder / "tiny.yaml").write_text(recipe, encoding="utf-8")
    _write_decoder(folder / "model", kind)
    return folder


def _write_decoder(folder: Path, kind: str) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    common: dict[str, Any] = {"vocab_size": len(WORDS), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    common |= {"initializer_range": 0.5, "tie_word_embeddings": True}
    config: Any
    if kind == "gpt2":
        config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=40, **common)
    else:
        size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "max_position_embeddings": 40}
        config = LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **size, **common)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def trained_run(laboratory: Path, output: Path, method: str, *overrides: str) -> tuple[Run, Context]:
    """A run of tiny.yaml whose training has ended."""
    run, context = tiny_run(laboratory, output, method, *overrides)
    retrain(run, context)
    return run, context


def interrupted_run(
    laboratory: Path, output: Path, method: str, monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> Run:
    """A run whose training was interrupted between two checkpoints."""
    run, context = tiny_run(laboratory, output, method, *overrides)
    advance = Finetuning.advance

    def interrupted(stage: Finetuning, step: int) -> dict[str, Tensor]:
        if step == INTERRUPTED_AT:
            raise KeyboardInterrupt
        return advance(stage, step)

    with monkeypatch.context() as patch:
        patch.setattr(Finetuning, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            retrain(run, context)
    assert run.stage_state("retrain") == "cancelled"
    assert not (run.path / "adapter").exists()
    return run


def resumed_run(
    laboratory: Path, output: Path, method: str, monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> tuple[Run, Context]:
    """The same, gone on with as a new process would."""
    again = Run.open(interrupted_run(laboratory, output, method, monkeypatch, *overrides).path)
    context = Context(again.recipe, show=False)
    retrain(again, context)
    return again, context


def adapted(run: Run, context: Context) -> nn.Module:
    """The model of a run as it is before its training."""
    model = context.model()
    torch.manual_seed(0)
    return method_of(run).adapt(model, context.head(model), context, 12).model.eval()


def loaded(run: Run, context: Context) -> nn.Module:
    """The model of a run as it is for the evaluation."""
    return method_of(run).load(context.model(), context).eval()


@torch.no_grad()
def logits(model: nn.Module, context: Context, split: str = "validation") -> Tensor:
    """Of a split's first examples, padded."""
    batch = context.task.collate(context.examples(split)[:5], tokenizer=context.tokenizer)
    found: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return found


def trained_and_loaded_logits(run: Run, context: Context, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """Train a run: the logits of the model that was trained, and those of what was saved of it."""
    kind, kept = type(method_of(run)), []
    save = kind.save
    monkeypatch.setattr(kind, "save", lambda self, trained, *rest: (kept.append(trained), save(self, trained, *rest)))
    retrain(run, context)
    return logits(kept[0].eval(), context), logits(loaded(run, context), context)


def changed(before: nn.Module, after: nn.Module, added: Sequence[str] = ()) -> set[str]:
    """Names of the parameters whose values differ. added: parts of a name that are not the pretrained model's.

    What `after` has more must have one of these parts in its name and is not among the result.
    """
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    names = {name: name.replace(".base.", ".") for name in new if not any(part in name for part in added)}
    assert sorted(names.values()) == sorted(old)
    return {original for name, original in names.items() if not torch.equal(new[name], old[original])}
