"""Whether a loss was flat at the end, on curves whose last fall is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autolora.comparison.flatness import flatness, flatness_notes
from autolora.comparison.outcome import outcome
from autolora.errors import UserError
from tests.comparison.support import cell

Record = dict[str, float | None]


def log(loss: Callable[[float], float], noise: float = 0.0, seed: int = 0, records: int = 100) -> list[Record]:
    """`loss` of the share of the training that is done, with normal noise, at the middle of each record."""
    draws = np.random.default_rng(seed).normal(scale=noise, size=records)
    return [{"step": 10 * (i + 1), "train_loss": loss((i + 0.5) / records) + float(draws[i])} for i in range(records)]


def line(share: float) -> float:
    return 2.0 - share


def level(share: float) -> float:
    return 0.5 + math.exp(-20 * share)


def test_a_line_falls_by_a_ninth_of_the_fall_between_the_first_and_the_last_tenth() -> None:
    found = flatness([log(line)])
    assert found is not None
    assert found.share == pytest.approx(1 / 9, abs=1e-12)  # 0.1 of the 0.9 between the tenths' middles
    assert found.verdict == "falling"


def test_the_standard_error_is_that_of_two_means() -> None:
    records = log(level, noise=0.1)
    found = flatness([records])
    assert found is not None
    losses = np.array([record["train_loss"] for record in records])
    before, last, first = losses[80:90], losses[90:], losses[:10]
    fall = first.mean() - last.mean()
    assert found.share == pytest.approx((before.mean() - last.mean()) / fall, abs=1e-12)
    assert found.error == pytest.approx(math.sqrt((before.var(ddof=1) + last.var(ddof=1)) / 10) / fall, abs=1e-12)


def test_a_level_end_is_flat_and_one_in_noise_is_unclear() -> None:
    assert [found.verdict for noise in (0.0, 0.01, 0.3) if (found := flatness([log(level, noise)]))] == [
        "flat",
        "flat",
        "unclear",
    ]


def test_seeds_are_pooled_and_their_spread_counts() -> None:
    noisy = [log(line, noise=0.2, seed=seed) for seed in range(20)]
    alone, together = flatness(noisy[:1]), flatness(noisy)
    assert alone is not None
    assert together is not None
    assert together.error < 0.5 * alone.error
    assert together.share == pytest.approx(1 / 9, abs=3 * together.error)
    apart = [log(lambda share, slope=slope: 2 - slope * share) for slope in (0.5, 1.0, 1.5)]
    spread = flatness(apart)
    assert spread is not None
    assert spread.error == pytest.approx(0.05 / math.sqrt(3) / 0.9, abs=1e-12)  # sd of .05, .1, .15 over the fall


def test_records_of_unequal_length_are_weighted() -> None:
    """1000 steps and 1 more: the last record is of one step, and hardly counts."""
    records = [*log(level), {"step": 1001, "train_loss": 5.0}]
    found = flatness([records])
    assert found is not None
    rise = (5.0 - 0.5) / 101
    assert found.share == pytest.approx(-rise / ((1 - math.exp(-2)) / 2 - rise), rel=0.03)


@pytest.mark.parametrize(
    "records",
    [
        log(line, records=10),
        [],
        [*log(line)[:-1], {"step": 1000, "train_loss": None}],
        log(lambda share: 1 + share),
    ],
)
def test_too_few_or_infinite_records_and_a_loss_that_rose_say_nothing(records: list[Record]) -> None:
    assert flatness([records]) is None


def write(folder: Path, records: list[Record]) -> Path:
    (folder / "retrain").mkdir(parents=True)
    (folder / "retrain" / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_the_note_is_on_the_highest_uniform_rank_of_each_task(tmp_path: Path) -> None:
    results = [
        cell("a", "lora:8", 0, 0.5, run=write(tmp_path / "0", log(line))),
        cell("a", "lora:2", 0, 0.5, run=write(tmp_path / "1", log(level))),
        cell("a", "lora-grid:16", 0, 0.5, run=write(tmp_path / "2", log(level))),
        cell("b", "lora:4:learning_rate=0.001", 0, 0.5, run=write(tmp_path / "3", log(level))),
        cell("c", "full", 0, 0.5, run=write(tmp_path / "4", log(line))),
        cell("d", "lora:8", 0, 0.5, run=write(tmp_path / "5", log(line, records=3))),
    ]
    found = flatness_notes(results)
    assert found == [
        "a: the training loss of lora:8 still fell by 11.1 % ± 1.5 % of its whole fall in the last tenth of the steps: "
        "more steps may change the order of the methods.",
        "b: the training loss of lora:4:learning_rate=0.001 was flat at the end: it fell by 0.0 % ± 0.0 % of its whole "
        "fall in the last tenth of the steps.",
        "d: the training loss of lora:8 has too few finite records in its log to say whether it was flat at the end.",
    ]
    scores = next(table for table in outcome(results) if table.stem == "scores")
    assert list(scores.notes) == found
    assert all(note in scores.markdown for note in found)


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    run = write(tmp_path / "0", log(line))
    (run / "retrain" / "log.jsonl").write_text("{\n")
    with pytest.raises(UserError, match=r"log\.jsonl is damaged"):
        flatness_notes([cell("a", "lora:8", 0, 0.5, run=run)])
