"""Batches: a pure function of the step, every example once an epoch, little padding, shares that add up."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from autolora.training.batches import BatchStream
from tests.model.tiny import collate, tiny_examples


def _stream(count: int = 23, **more: int) -> BatchStream:
    return BatchStream(tiny_examples(count, longest=30), collate, **{"batch_size": 4, "seed": 7, **more})


def _rows(stream: BatchStream, step: int) -> list[list[int]]:
    """The token ids of a step's examples, without padding, over its micro-batches."""
    return [
        row[mask.bool()].tolist()
        for micro in stream.at(step).micro
        for row, mask in zip(micro["input_ids"], micro["attention_mask"], strict=True)
    ]


def test_a_batch_depends_on_the_step_alone() -> None:
    forwards, backwards, once = _stream(), _stream(), _stream()
    steps = range(3 * forwards.batches_per_epoch)
    found = {step: forwards.indices(step) for step in steps}
    assert found == {step: backwards.indices(step) for step in reversed(steps)}
    assert once.indices(11) == found[11]
    assert torch.equal(forwards.at(11).micro[0]["input_ids"], once.at(11).micro[0]["input_ids"])


def test_another_seed_gives_another_order() -> None:
    assert [_stream().indices(s) for s in range(6)] != [_stream(seed=8).indices(s) for s in range(6)]


@pytest.mark.parametrize(("count", "size"), [(23, 4), (24, 4), (3, 4), (1, 4), (5, 1), (300, 2)])
def test_every_example_comes_once_an_epoch(count: int, size: int) -> None:
    stream = _stream(count, batch_size=size)
    orders = []
    for epoch in range(3):
        steps = range(epoch * stream.batches_per_epoch, (epoch + 1) * stream.batches_per_epoch)
        batches = [stream.indices(step) for step in steps]
        assert sorted(i for batch in batches for i in batch) == list(range(count))
        assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)  # one odd batch at most
        orders.append(batches)
    assert count < 5 or orders[0] != orders[1]


def test_buckets_pad_less_than_random_batches() -> None:
    stream = _stream(400, batch_size=16)

    def padding(batches: list[list[int]]) -> int:
        return sum(max(stream.lengths[i] for i in b) * len(b) - sum(stream.lengths[i] for i in b) for b in batches)

    bucketed = padding([stream.indices(step) for step in range(stream.batches_per_epoch)])
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0)).tolist()
    random = padding([order[i : i + 16] for i in range(0, 400, 16)])
    assert bucketed < random / 3


def test_a_batch_is_padded_to_its_own_longest_member() -> None:
    stream = _stream()
    for step in range(stream.batches_per_epoch):
        longest = max(stream.lengths[i] for i in stream.indices(step))
        assert stream.at(step).micro[0]["input_ids"].shape == (len(stream.indices(step)), longest)


def test_long_and_short_batches_are_mixed_over_the_epoch() -> None:
    stream = _stream(400, batch_size=8)
    lengths = [max(stream.lengths[i] for i in stream.indices(step)) for step in range(50)]
    assert lengths != sorted(lengths, reverse=True)
    descents = sum(one > other for one, other in pairwise(lengths))
    assert 10 < descents < 40


@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_shares_and_micro_batches_are_the_batch(processes: int, pieces: int) -> None:
    for step in range(6):  # 23 examples by fours: the odd batch is among them
        shares = [
            _stream(processes=processes, process=process, gradient_accumulation=pieces) for process in range(processes)
        ]
        whole = _stream()
        rows = [row for stream in shares for row in _rows(stream, step)]
        assert sorted(rows) == sorted(_rows(whole, step))
        assert {stream.at(step).units for stream in shares} == {len(whole.indices(step))}
        assert all(len(stream.at(step).micro) <= pieces for stream in shares)


def test_a_process_without_a_share_has_an_empty_batch() -> None:
    share = _stream(3, processes=5, process=4).at(0)
    assert share.micro == ()
    assert share.units == 3


def test_units_are_counted_over_the_whole_batch() -> None:
    stream = BatchStream(
        tiny_examples(8), collate, batch_size=4, seed=1, processes=2, units=lambda es: sum(e["label"] for e in es)
    )
    assert stream.at(0).units == sum(stream.examples[i]["label"] for i in stream.indices(0))


def test_no_examples_are_an_error() -> None:
    with pytest.raises(ValueError, match="a stream of batches needs at least one example, got none"):
        BatchStream([], collate, batch_size=4, seed=0)


@pytest.mark.parametrize(("size", "accumulation"), [(5, 3), (1, 2), (4, 1), (7, 4)])
def test_processes_in_step_make_as_many_passes_of_the_same_examples(size: int, accumulation: int) -> None:
    given = {"batch_size": size, "gradient_accumulation": accumulation, "processes": 2}
    for step in range(3):
        apart = [_stream(process=i, **given).at(step) for i in range(2)]
        together = [_stream(process=i, in_step=True, **given).at(step) for i in range(2)]
        assert {len(batch.micro) + len(batch.idle) for batch in together} == {max(len(batch.micro) for batch in apart)}
        for batch, other in zip(together, apart, strict=True):
            assert not other.idle
            assert batch.units == other.units
            for mine, its in zip(batch.micro, other.micro, strict=True):
                assert torch.equal(mine["input_ids"], its["input_ids"])


def test_some_process_is_idle_where_shares_differ() -> None:
    idle = [len(_stream(batch_size=1, processes=2, process=i, in_step=True).at(0).idle) for i in range(2)]
    assert idle == [0, 1]
