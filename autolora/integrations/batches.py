"""Examples of somebody's training data for a squeeze, without a trace in the training: ``training_batches(loader, …)``.

The loader itself is not iterated: that would draw from the generators that its next epoch is shuffled by, and a resumed
training would see other batches than an uninterrupted one. Only rows that it can give are taken: what its
sampler leaves out may be held out.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import SeedableRandomSampler
from accelerate.utils import send_to_device
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from autolora.errors import UserError
from autolora.training.seeds import derive, generator, unmoved

_INSTEAD = "give SqueezeCallback batches=, a list of batches as the model takes them"


def training_batches(
    loader: Any, *, examples: int, batch_size: int, seed: int, device: torch.device | str | None
) -> list[Any]:
    """Some of a loader's examples, put together as it does.

    Args:
        loader: A DataLoader, whose data set, sampler and collator are used. A data set with a length gives a sample of
            the rows that the sampler can give, a stream gives its first.
        examples: How many.
        batch_size: Examples a batch.
        seed: Of the sample, and of what the sampler and the collator draw.
        device: Where the tensors go; None: they stay where the collator puts them.

    Raises:
        UserError: It is no loader of a data set, which rows it gives cannot be told, or its data can be read only once.
    """
    dataset, collate = getattr(loader, "dataset", None), getattr(loader, "collate_fn", None)
    if dataset is None or collate is None:
        raise UserError(
            f"the training data are a {type(loader).__name__}, which has no data set and collator to take examples "
            f"from; {_INSTEAD}"
        )
    if isinstance(dataset, IterableDataset):
        _check_stream(dataset)
    else:
        dataset = Subset(dataset, _rows(loader, dataset, examples, seed))
    draws = generator(derive(seed, "integrations", "loader"))
    found: list[Any] = []
    with undisturbed(derive(seed, "integrations", "collator")):
        for batch in DataLoader(dataset, batch_size=batch_size, collate_fn=collate, generator=draws):
            found.append(batch if device is None else send_to_device(batch, device))
            if len(found) * batch_size >= examples:
                break
    if isinstance(loader.dataset, IterableDataset):
        _check_stream(loader.dataset)  # one that makes its iterator when it is read shows it now
    return found


def _rows(loader: Any, dataset: Any, examples: int, seed: int) -> list[Any]:
    """A sample of the rows that a loader can give, whichever it has given so far."""
    batches = getattr(loader, "batch_sampler", None)
    plain = batches is None or type(batches) is BatchSampler  # not one of the user's that puts batches together
    sampler = getattr(loader if batches is None else batches, "sampler", None) if plain else batches
    if sampler is None:
        raise UserError(
            f"the training data are a {type(loader).__name__}, which does not show the sampler that chooses its rows; "
            f"{_INSTEAD}"
        )
    rows = _every(sampler)
    if rows is None:
        with undisturbed(derive(seed, "integrations", "sampler")):
            rows = _drawn(sampler, dataset, plain, examples)
    order = torch.randperm(len(rows), generator=generator(derive(seed, "integrations", "sample")))
    return [rows[i] for i in order[:examples].tolist()]


def _every(sampler: Any) -> Sequence[Any] | None:
    """All rows that a sampler of a known class gives in the end; None for others (a subclass may choose rows)."""
    kind = type(sampler)
    if kind in (SequentialSampler, RandomSampler, SeedableRandomSampler):
        return range(len(sampler.data_source))
    if kind is LengthGroupedSampler:
        return range(len(sampler.lengths))
    return sampler.indices if kind is SubsetRandomSampler and len(sampler.indices) else None


def _drawn(sampler: Any, dataset: Any, plain: bool, examples: int) -> list[Any]:
    """The rows of one pass of a sampler, or of a part as long as the data set; a copy of it gives them.

    Sorted, so that samplers of the same rows give the same sample at any time.
    """
    # An endless one has to end, and a sampler may hold the data, which are not to be copied.
    limit = max(examples, len(dataset) if hasattr(dataset, "__len__") else 0)
    held = [each for each in getattr(sampler, "__dict__", {}).values() if isinstance(each, Dataset)]
    try:
        twin = copy.deepcopy(sampler, {id(each): each for each in (dataset, *held)})
        rows = sorted(islice(twin if plain else chain.from_iterable(twin), limit))
    except Exception as error:
        raise _untold(sampler, f"cannot be told ({type(error).__name__}: {error})") from error
    if not rows:
        raise _untold(sampler, "are none")
    if isinstance(rows[0], list):
        raise _untold(sampler, "come as lists, of which the data set makes whole batches (batch_size=None)")
    return rows


def _untold(sampler: Any, why: str) -> UserError:
    return UserError(
        f"the training loader: the rows that its sampler, a {type(sampler).__name__}, gives {why}; {_INSTEAD}"
    )


def _check_stream(dataset: Any) -> None:
    """Rows that come only once would be lost to the training."""
    for each in (dataset, getattr(dataset, "dataset", None)):  # wrapped, or not
        held = getattr(each, "__dict__", {}).values()
        # Two readers of one iterator take each other's rows: that of the data set, or one that it reads from.
        own = isinstance(each, Iterable) and iter(each) is iter(each)
        if own or any(isinstance(value, Iterator) for value in held):
            raise UserError(
                f"the training data: a {type(dataset).__name__} can be read only once, and the examples for the "
                f"squeeze would be missing in the training; {_INSTEAD}"
            )


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
