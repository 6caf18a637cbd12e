"""A LoRA in a training loop of one's own, squeezed to half of its size in the middle: `autolora.squeeze`.

    python examples/plain_loop.py

A network of one's own learns a function, then by a LoRA another one. Nothing is fetched.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F

import autolora


def options(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--budget", type=float, default=0.5, help="share of the LoRA's parameters that is kept")
    parser.add_argument("--output", type=Path, default=Path("runs/plain_loop"))
    return parser.parse_args(given)


def batch(draws: torch.Generator, count: int, shift: float) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 8, generator=draws)
    return x, torch.sin(x[:, :1] + shift) + x[:, 1:2] * x[:, 2:3] * shift


def size(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)


def main(given: Sequence[str] | None = None) -> None:
    args = options(given)
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(1)
    wide = nn.Linear(args.width, args.width)
    network = nn.Sequential(nn.Linear(8, args.width), nn.Tanh(), wide, nn.Tanh(), nn.Linear(args.width, 1))
    train(network, torch.optim.AdamW(network.parameters(), lr=1e-2), args.steps, draws, shift=0.0)

    model = get_peft_model(network, LoraConfig(r=args.rank, lora_alpha=16, target_modules=["0", "2", "4"]))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    held = batch(torch.Generator().manual_seed(2), 1000, shift=1.0)

    def show(when: str) -> None:
        with torch.no_grad():
            error = float(F.mse_loss(model(held[0]), held[1]))
        print(f"{when}: {size(model):,} parameters, squared error {error:.4f}")

    train(model, optimizer, args.steps // 2, draws, shift=1.0)
    show("before the squeeze")
    examples = [batch(draws, 50, shift=1.0)[0] for _ in range(5)]
    ranks = autolora.squeeze(model, examples, args.budget, likelihood="gaussian", optimizer=optimizer)
    show("after the squeeze")
    train(model, optimizer, args.steps - args.steps // 2, draws, shift=1.0)
    show("at the end")
    print("ranks", dict(ranks))
    model.save_pretrained(str(args.output / "adapter"))
    print(f"{args.output / 'adapter'}: a stock adapter, which peft.PeftModel.from_pretrained loads")


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, draws: torch.Generator, shift: float) -> None:
    for _ in range(steps):
        x, y = batch(draws, 32, shift)
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
