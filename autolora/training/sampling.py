"""The loss of targets that are drawn from a model's own prediction, for the Fisher information of its weights.

| symbol | meaning | shape |
|---|---|---|
| f | logits, or the mean of a normal distribution of variance 1 | (..., classes), (...) |
| ŷ | target drawn from p(. | x), a constant for autograd | (...) |

Draws take their random numbers from the generator that is given, on the CPU: the same on every device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Sampled(NamedTuple):
    """The loss of a batch at targets that were drawn.

    Args:
        loss: Σ -log p(ŷ | x) over the batch's units, a scalar with its graph.
        units: What a mean loss is averaged over: examples, or labelled positions.
        scale: What a nat is in the units of the training loss; 2 where that is (f - y)² instead of half of it.
    """

    loss: Tensor
    units: int
    scale: float = 1.0


def sampled_categorical(logits: Tensor, draws: torch.Generator, counts: Tensor | None = None) -> Tensor:
    """The summed negative log-likelihood Σ -log softmax(f)[ŷ], ŷ ~ softmax(f), drawn independently.

    Args:
        logits: f, of shape (..., classes).
        draws: A CPU generator.
        counts: Which units count, booleans of shape (...); None: all.

    Returns:
        A scalar with its graph.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    if counts is not None:
        flat = flat[counts.reshape(-1)]
    return F.cross_entropy(flat, drawn(flat.detach(), uniform_numbers(len(flat), draws)), reduction="sum")


def sampled_gaussian(mean: Tensor, draws: torch.Generator) -> Tensor:
    """The summed negative log-likelihood Σ (f - ŷ)² / 2 (without its constant), ŷ = f + e, e standard normal.

    Args:
        mean: f, of any shape.
        draws: A CPU generator.

    Returns:
        A scalar with its graph.
    """
    noise = torch.randn(mean.shape, generator=draws, dtype=torch.float64).to(mean.dtype).to(mean.device)
    return (mean - (mean.detach() + noise)).square().sum() / 2


def uniform_numbers(units: int, draws: torch.Generator) -> Tensor:
    """What a class is drawn by, of shape (units, 1), float64 on the CPU.

    Args:
        units: How many classes are to be drawn.
        draws: A CPU generator.
    """
    return torch.rand(units, 1, generator=draws, dtype=torch.float64)


def drawn(logits: Tensor, uniform: Tensor) -> Tensor:
    """One class for every row, by inverting the distribution function at a uniform number.

    Args:
        logits: f, of shape (units, classes).
        uniform: One of `uniform_numbers` for each unit.
    """
    numbers = uniform.to(logits.dtype).to(logits.device)
    below = logits.softmax(-1).cumsum(-1)
    found = torch.searchsorted(below, numbers * below[:, -1:], right=True)
    return found.clamp_max(logits.shape[-1] - 1).squeeze(-1)
