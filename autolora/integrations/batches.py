"""Examples of somebody's training data for a squeeze, without a trace in the training: ``training_batches(loader, …)``.

The loader itself is not iterated: that would draw from the generators that its next epoch is shuffled by, and a resumed
training would see other batches than an uninterrupted one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader, IterableDataset, Subset

from autolora.errors import UserError
from autolora.training.seeds import derive, generator, unmoved


def training_batches(
    loader: Any, *, examples: int, batch_size: int, seed: int, device: torch.device | str
) -> list[Any]:
    """Some of a loader's examples, put together as it does.

    Args:
        loader: A DataLoader, whose data set and collator are used. A data set with a length gives a sample, one
            without gives its first.
        examples: How many.
        batch_size: Examples a batch.
        seed: Of the sample, and of what the collator draws.
        device: Where the tensors go.

    Raises:
        UserError: It is no loader of a data set.
    """
    dataset, collate = getattr(loader, "dataset", None), getattr(loader, "collate_fn", None)
    if dataset is None or collate is None:
        raise UserError(
            f"the training data are a {type(loader).__name__}, which has no data set and collator to take examples "
            "from; give SqueezeCallback batches=, a list of batches as the model takes them"
        )
    if not isinstance(dataset, IterableDataset):
        order = torch.randperm(len(dataset), generator=generator(derive(seed, "integrations", "sample")))
        dataset = Subset(dataset, order[:examples].tolist())
    draws = generator(derive(seed, "integrations", "loader"))
    found: list[Any] = []
    with undisturbed(derive(seed, "integrations", "collator")):
        for batch in DataLoader(dataset, batch_size=batch_size, collate_fn=collate, generator=draws):
            found.append(send_to_device(batch, device))
            if len(found) * batch_size >= examples:
                break
    return found


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Inside, the generators of Python, NumPy and torch are seeded; afterwards they go on as if nothing had been drawn.

    Args:
        seed: In [0, 2**63).
    """
    with unmoved(range(torch.cuda.device_count())):  # collators draw from all of them
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        yield
