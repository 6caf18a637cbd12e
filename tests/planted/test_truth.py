"""What is planted is there, from a seed, and measures of recovery mean what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score

from autolora.errors import UserError
from autolora.planted.kinds import Size
from autolora.planted.recovery import gap_closed, module_auc, rank_correlation
from autolora.planted.truth import plant

KINDS: list[Any] = ["sparse", "mixed", "flat"]


@pytest.mark.parametrize(("kind", "ranks"), [("sparse", [4] * 6), ("mixed", None), ("flat", [1] * 24)])
def test_the_teacher_differs_by_updates_of_the_planted_ranks(kind: Any, ranks: list[int] | None) -> None:
    truth = plant(kind, seed=3)
    assert len(truth.ranks) == 24
    planted = sorted(rank for rank in truth.ranks.values() if rank)
    assert planted == ranks if ranks else len(planted) == 12
    base, teacher = truth.base.state_dict(), truth.teacher.state_dict()
    for name, value in teacher.items():
        rank = truth.ranks.get(name.removesuffix(".weight"), 0) if name.endswith(".weight") else 0
        assert (
            int(torch.linalg.matrix_rank((value - base[name]).double(), rtol=1e-4)) == rank
            if rank
            else (torch.equal(value, base[name]))
        )
    assert truth.parameters == sum(rank * sum(truth.shapes[name]) for name, rank in truth.ranks.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_truth_and_data(kind: Any) -> None:
    one, again, other = plant(kind, seed=1), plant(kind, seed=1), plant(kind, seed=2)
    assert one.ranks == again.ranks
    assert kind == "flat" or one.ranks != other.ranks
    (tokens, outputs), (same_tokens, same_outputs) = one.data(6, "train"), again.data(6, "train")
    assert torch.equal(tokens, same_tokens)
    assert torch.equal(outputs, same_outputs)
    assert not torch.equal(tokens, one.data(6, "test")[0])
    assert int(tokens.min()) > 0  # no padding
    assert outputs.shape == (6, one.size.length, one.size.outputs)


def test_the_process_s_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    plant("mixed").data(3, "train")
    assert torch.equal(torch.get_rng_state(), before)


def test_every_planted_layer_matters() -> None:
    truth = plant("flat", seed=0)
    inputs, outputs = truth.data(64, "test")
    for name in truth.ranks:
        student = truth.student()
        student.load_state_dict(truth.teacher.state_dict())
        student.get_submodule(name).load_state_dict(truth.base.get_submodule(name).state_dict())
        with torch.no_grad():
            assert float((student(input_ids=inputs).logits - outputs).square().mean()) > 1e-4


def test_another_size_has_the_same_shares() -> None:
    truth = plant("mixed", size=Size(layers=2))
    assert len(truth.ranks) == 12
    assert sum(rank > 0 for rank in truth.ranks.values()) == 6


def test_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"^no planted truth 'dense'; there is: sparse, mixed, flat$"):
        plant("dense")  # type: ignore[arg-type]


def test_auc_is_scikit_learns() -> None:
    planted = {"a": 2, "b": 0, "c": 1, "d": 0, "e": 0}
    for seed in range(20):
        draws = torch.Generator().manual_seed(seed)
        found = dict(zip(planted, torch.randint(0, 4, (5,), generator=draws).tolist(), strict=True))
        wanted = roc_auc_score([rank > 0 for rank in planted.values()], list(found.values()))
        assert module_auc(found, planted) == pytest.approx(wanted)
    assert module_auc(planted, dict.fromkeys(planted, 1)) is None


def test_correlation_and_gap() -> None:
    planted = {"a": 3, "b": 0, "c": 1}
    assert rank_correlation({"a": 7, "b": 1, "c": 2}, planted) == pytest.approx(1.0)
    assert rank_correlation({"a": 1, "b": 3, "c": 2}, planted) == pytest.approx(-1.0)
    assert rank_correlation(dict.fromkeys(planted, 2), planted) is None
    assert gap_closed(0.2, 0.3, 0.1) == pytest.approx(0.5)
    assert gap_closed(0.4, 0.3, 0.1) == pytest.approx(-0.5)
    assert gap_closed(0.2, 0.1, 0.1) is None
