"""What `training_batches` takes of a loader: rows that it can give, and nothing that the training would miss."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import datasets
import pytest
import torch
from accelerate import Accelerator
from accelerate.data_loader import SeedableRandomSampler
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from autolora.errors import UserError
from autolora.integrations.batches import training_batches

ROWS = 40
HALF = list(range(1, ROWS, 2))


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, i: int) -> int:
        return int(i)


def taken(loader: Any, examples: int = ROWS) -> list[int]:
    found = training_batches(loader, examples=examples, batch_size=4, seed=0, device="cpu")
    return [int(i) for i in torch.cat(found)]


class Half(Sampler[int]):
    """A sampler of the user's own, with a generator of its own and draws of the global ones."""

    def __init__(self) -> None:
        self.draws = torch.Generator().manual_seed(7)
        self.passes = 0

    def __iter__(self) -> Iterator[int]:
        self.passes += 1
        random.random()
        yield from (HALF[i] for i in torch.randperm(len(HALF), generator=self.draws).tolist())
        torch.rand(1)


class HalfInBatches(Sampler[list[int]]):
    def __iter__(self) -> Iterator[list[int]]:
        yield from (HALF[i : i + 3] for i in range(0, len(HALF), 3))


class Endless(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield from HALF


def weights() -> list[float]:
    return [float(i in HALF) for i in range(ROWS)]


PARTS: dict[str, dict[str, Any]] = {
    "subset": {"sampler": SubsetRandomSampler(HALF)},
    "in batches": {"batch_sampler": BatchSampler(SubsetRandomSampler(HALF), 4, drop_last=True)},
    "weighted": {"sampler": WeightedRandomSampler(weights(), ROWS)},
    "own": {"sampler": Half()},
    "own batches": {"batch_sampler": HalfInBatches()},
    "endless": {"sampler": Endless()},
    "list": {"sampler": HALF},
    "a share": {"sampler": DistributedSampler(Numbers(), 2, 1, shuffle=False)},
}


@pytest.mark.parametrize("name", PARTS)
def test_only_rows_that_the_loader_gives_are_taken(name: str) -> None:
    found = taken(DataLoader(Numbers(), **PARTS[name]))
    assert set(found) <= set(HALF)
    assert len(set(found)) > len(HALF) / 2


def test_only_rows_that_a_prepared_loader_gives_are_taken() -> None:
    loader = DataLoader(Numbers(), batch_size=4, sampler=SubsetRandomSampler(HALF))
    assert set(taken(Accelerator(cpu=True).prepare(loader))) == set(HALF)


def test_a_sampler_of_fewer_rows_than_the_data_set_is_kept_to() -> None:
    assert set(taken(DataLoader(Numbers(), sampler=RandomSampler(range(10))))) == set(range(10))


@pytest.mark.parametrize(
    "sampler",
    [
        SequentialSampler(Numbers()),
        RandomSampler(Numbers(), num_samples=3),
        RandomSampler(Numbers(), replacement=True, num_samples=3),
        SeedableRandomSampler(Numbers()),
        DistributedSampler(Numbers(), 1, 0),
        LengthGroupedSampler(4, lengths=list(range(ROWS))),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_samplers_of_the_whole_data_set_give_one_sample_of_it(sampler: Any) -> None:
    found = taken(DataLoader(Numbers(), batch_size=4, sampler=sampler), examples=12)
    assert found == taken(DataLoader(Numbers(), batch_size=4), examples=12)
    assert set(found) - {0, 1, 2, 3} > set()  # not its first


def test_neither_the_sampler_nor_a_generator_moves() -> None:
    sampler = Half()
    before = torch.get_rng_state(), random.getstate(), sampler.draws.get_state()
    taken(DataLoader(Numbers(), sampler=sampler))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert torch.equal(sampler.draws.get_state(), before[2])
    assert sampler.passes == 0


class Broken(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("not yet")


class Uncopied(Sampler[int]):
    def __init__(self) -> None:
        self.rows = (i for i in HALF)

    def __iter__(self) -> Iterator[int]:
        return self.rows


@pytest.mark.parametrize("sampler", [Broken(), Uncopied(), BatchSampler(SequentialSampler(Numbers()), 4, False), []])
def test_a_sampler_whose_rows_cannot_be_told_is_refused(sampler: Any) -> None:
    kind = type(sampler).__name__
    size = None if isinstance(sampler, BatchSampler) else 4
    with pytest.raises(UserError, match=f"rows that its sampler, a {kind}, gives .*give SqueezeCallback batches="):
        taken(DataLoader(Numbers(), batch_size=size, sampler=sampler))


def test_a_loader_that_shows_no_sampler_is_refused() -> None:
    class Bare:
        dataset, collate_fn = Numbers(), staticmethod(torch.tensor)

    with pytest.raises(UserError, match=r"Bare, .*give SqueezeCallback batches="):
        taken(Bare())


class Itself(IterableDataset[int]):
    """A stream that is its own iterator."""

    def __init__(self) -> None:
        self.at = -1

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.at += 1
        if self.at >= ROWS:
            raise StopIteration
        return self.at


class Held(IterableDataset[int]):
    """A stream over a generator that it holds."""

    def __init__(self) -> None:
        self.source = iter(i for i in range(ROWS))

    def __iter__(self) -> Iterator[int]:
        yield from self.source


class Lazy(IterableDataset[int]):
    """A stream that keeps one place for all of its readers, which are to go on from it."""

    source: Iterator[int] | None = None

    def __iter__(self) -> Iterator[int]:
        self.source = self.source or iter(range(ROWS))
        while True:
            yield next(self.source)


class Wrapped(IterableDataset[int]):
    def __init__(self) -> None:
        self.dataset = Held()

    def __iter__(self) -> Iterator[int]:
        yield from self.dataset


@pytest.mark.parametrize("stream", [Itself, Held, Wrapped])
def test_a_stream_that_can_be_read_once_is_refused_and_not_read(stream: type[IterableDataset[int]]) -> None:
    dataset = stream()
    with pytest.raises(UserError, match=f"{stream.__name__} can be read only once.*give SqueezeCallback batches="):
        taken(DataLoader(dataset, batch_size=4))
    assert next(iter(dataset)) == 0


def test_a_stream_that_keeps_its_place_is_refused_at_the_first_reading() -> None:
    with pytest.raises(UserError, match="Lazy can be read only once"):
        taken(DataLoader(Lazy(), batch_size=4), examples=1)


def test_a_stream_that_begins_anew_gives_its_first_rows() -> None:
    class Anew(IterableDataset[Tensor]):
        def __iter__(self) -> Iterator[Tensor]:
            return (torch.tensor(i) for i in range(ROWS))

    streamed = datasets.IterableDataset.from_generator(lambda: ({"i": i} for i in range(ROWS))).map(lambda row: row)
    for dataset in (Anew(), streamed):
        collate = None if dataset is not streamed else lambda rows: torch.tensor([row["i"] for row in rows])
        loader: Any = DataLoader(dataset, batch_size=4, collate_fn=collate)
        for _ in range(2):
            assert taken(loader, examples=8) == list(range(8))
