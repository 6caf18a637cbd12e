"""Divide the training split at random into D_tr, on which V learns, and D_val, on which z learns."""

from __future__ import annotations

import torch

from autolora.errors import UserError
from autolora.training.seeds import derive, generator


def split_train(count: int, validation_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Positions of D_tr and of D_val, each in the data's order.

    Args:
        count: Examples in all.
        validation_fraction: Share of D_val, between 0 and 1.
        seed: The recipe's.

    Raises:
        UserError: One of them would be empty.
    """
    validation = round(count * validation_fraction)
    if not 0 < validation < count:
        raise UserError(
            f"search.validation_fraction: {validation_fraction} of {count} training examples leaves D_tr with "
            f"{count - validation} and D_val with {validation}; both need at least one"
        )
    order = torch.randperm(count, generator=generator(derive(seed, "split"))).tolist()
    return sorted(order[validation:]), sorted(order[:validation])
