"""A small SFT with TRL: a LoRA of SFTTrainer's own, squeezed to half of its size in the middle of the training.

    python examples/trl_sft.py                                          # a tiny Llama, made in place: half a minute
    python examples/trl_sft.py --model HuggingFaceTB/SmolLM2-135M --data mine.jsonl --steps 500

Nothing is fetched without --model. A file has a JSON object a line, with "prompt" and "completion"; without one, the
examples are facts about restaurants and the sentences that tell them.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

from autolora.integrations.transformers import SqueezeCallback


def options(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a hub id or a folder; a tiny random Llama without it")
    parser.add_argument("--data", type=Path, help="a .jsonl file with prompt and completion")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    parser.add_argument("--budget", type=float, default=0.5, help="share of the LoRA's parameters that is kept")
    parser.add_argument("--at", type=float, default=0.5, help="share of the steps after which it is squeezed")
    parser.add_argument("--output", type=Path, default=Path("runs/trl_sft"))
    return parser.parse_args(given)


def load_rows(file: Path | None) -> list[dict[str, str]]:
    if file is not None:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    draws = random.Random(0)
    names, foods = ["Aromi", "Bibimbap House", "Clowns", "Cotto", "Giraffe"], ["Italian", "French", "Indian", "Thai"]
    prices, areas = ["cheap", "fair", "high"], ["by the river", "in the centre"]
    rows = []
    for _ in range(600):
        name, food, price, area = (draws.choice(each) for each in (names, foods, prices, areas))
        prompt = f"name {name} food {food} price {price} area {area} => "
        rows.append({"prompt": prompt, "completion": f"{name} serves {food} food at {price} prices {area} ."})
    return rows


def tiny(rows: Sequence[dict[str, str]]) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    words = sorted({word for row in rows for word in "".join(row.values()).split()})
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<eos>", "<unk>", *words])}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=128
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.1,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config), tokenizer


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)


class Before(TrainerCallback):
    """Prints the LoRA's size and the perplexity at one step; those that follow in the list see the squeezed model."""

    when = "before the squeeze"

    def __init__(self, step: int, rows: Sequence[dict[str, str]], tokenizer: Any) -> None:
        self.step, self.rows, self.tokenizer = step, rows, tokenizer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.show(kwargs["model"])

    def show(self, model: torch.nn.Module) -> None:
        print(f"{self.when}: {size(model):,} parameters, perplexity {self.perplexity(model):.2f}")

    @torch.no_grad()
    def perplexity(self, model: Any) -> float:
        """Of the completions, on rows that are not trained on."""
        training = model.training
        model.eval()
        total, count = 0.0, 0
        for row in self.rows:
            prompt = self.tokenizer(row["prompt"])["input_ids"]
            ids = torch.tensor([self.tokenizer(row["prompt"] + row["completion"])["input_ids"]], device=model.device)
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            told = int((labels != -100).sum())
            total, count = total + float(model(input_ids=ids, labels=labels).loss) * told, count + told
        model.train(training)
        return math.exp(total / count)


class After(Before):
    when = "after the squeeze"


def main(given: Sequence[str] | None = None) -> None:
    args = options(given)
    rows = load_rows(args.data)
    held, training = rows[:50], rows[50:]
    if args.model is None:
        model, tokenizer = tiny(rows)
    else:
        model, tokenizer = AutoModelForCausalLM.from_pretrained(args.model), AutoTokenizer.from_pretrained(args.model)
    step = max(1, round(args.at * args.steps))
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(args.output),
            max_steps=args.steps,
            per_device_train_batch_size=8,
            learning_rate=args.learning_rate,
            save_strategy="no",
            report_to="none",
            logging_steps=50,
            disable_tqdm=True,
            bf16=torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=Dataset.from_list(training),  # prompt and completion: the loss is on the completions
        processing_class=tokenizer,
        peft_config=LoraConfig(r=args.rank, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[
            Before(step, held, tokenizer),
            SqueezeCallback(args.budget, at=args.at),
            After(step, held, tokenizer),
        ],
    )
    trainer.train()
    last = After(0, held, tokenizer)
    last.when = "at the end"
    last.show(trainer.model)
    trainer.save_model(str(args.output / "adapter"))
    print(f"{args.output / 'adapter'}: a stock adapter, which peft.PeftModel.from_pretrained loads")


if __name__ == "__main__":
    main()
