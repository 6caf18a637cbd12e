"""From selection logits to ranks, against a plain loop and where rounding could decide."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from autolora.lora.allocation import default_threshold, kept_components
from autolora.lora.selection import SelectionLoRA, learned_ranks, selection_variables

MAX_RANK = 64


def _one(z: Tensor, constraint: str = "softmax", threshold: float | None = None) -> tuple[int, list[bool]]:
    """The rank that logits of shape (k,) give, and which of the k components are kept."""
    kept = kept_components(selection_variables({"layer": z}, constraint), constraint, threshold)["layer"]
    assert list(kept) == sorted(set(kept) & set(range(len(z))))
    return len(kept), [j in kept for j in range(len(z))]


def _layer(z: Tensor, constraint: str = "softmax") -> SelectionLoRA:
    """A layer of 5 to 7 features with these logits."""
    layer = SelectionLoRA(nn.Linear(5, 7), len(z), 16.0, 0.0, constraint)
    with torch.no_grad():
        layer.selection_logits.copy_(z)
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_all_equal_logits_keep_every_component(dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    for k in range(1, MAX_RANK + 1):
        for offset in [0.0, *(torch.randn(20, generator=rng) * 10).tolist()]:
            z = torch.full((k,), offset, dtype=dtype)
            assert _one(z)[0] == k, (k, offset)
            assert _one(z, "none")[0] == k, (k, offset)


def test_a_common_offset_changes_no_rank() -> None:
    rng = torch.Generator().manual_seed(1)
    for k in range(2, MAX_RANK + 1):
        z = torch.randint(-8, 9, (k,), generator=rng) / 8  # exact in float32, and so is the sum
        for offset in (-64.0, 0.0, 3.0, 512.0):
            assert _one((z + offset).float()) == _one(z.double()), (k, offset)


def test_ranks_are_those_of_a_plain_loop() -> None:
    rng = torch.Generator().manual_seed(2)
    for k in range(1, MAX_RANK + 1):
        z = (torch.randn(k, generator=rng) * 0.3).float()
        exponentials = [math.exp(v) for v in z.tolist()]
        softmax = [v / math.fsum(exponentials) for v in exponentials]
        sigmoid = [1 / (1 + math.exp(-v)) for v in z.tolist()]
        free = z.tolist()
        assert _one(z)[0] == sum(a >= 1 / k - 1e-12 for a in softmax)
        assert _one(z, "sigmoid")[0] == sum(a >= 0.5 for a in sigmoid)
        assert _one(z, "none")[0] == sum(a >= math.fsum(free) / k - 1e-12 for a in free)
        assert _one(z, threshold=1.1 / k)[0] == sum(a >= 1.1 / k for a in softmax)


def test_a_layer_keeps_at_least_one_component_at_the_default_threshold() -> None:
    rng = torch.Generator().manual_seed(3)
    for k in range(1, MAX_RANK + 1):
        for scale in (1e-6, 1.0, 50.0):
            z = (torch.randn(k, generator=rng) * scale).float()
            rank, keep = _one(z)
            assert rank >= 1
            assert keep[int(z.argmax())]


def test_ties_are_kept_or_dropped_together() -> None:
    assert _one(torch.tensor([1.0, 1.0, -1.0, -1.0]))[1] == [True, True, False, False]
    assert _one(torch.tensor([0.0, 0.0, 0.0, -1e-3]))[1] == [True, True, True, False]
    assert _one(torch.tensor([0.0, 0.0, 0.0, 2.0]))[1] == [False, False, False, True]


def test_a_component_a_float32_step_below_the_others_is_dropped() -> None:
    z = torch.full((8,), 0.1)
    z[3] = torch.nextafter(z[3], torch.tensor(-1.0))
    assert _one(z)[1] == [i != 3 for i in range(8)]


def test_a_selection_variable_on_the_threshold_is_kept() -> None:
    assert _one(torch.tensor([0.0, 1.0, -1.0]), "sigmoid")[1] == [True, True, False]
    assert _one(torch.tensor([0.2, 0.4, 0.3, 0.3]).double(), "none")[1] == [False, True, True, True]
    assert _one(torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)), threshold=0.3)[0] == 2


def test_a_threshold_of_ones_own_replaces_the_constraints() -> None:
    z = torch.tensor([0.0, 0.5, 1.0, 1.5])
    assert [_one(z, "none", level)[0] for level in (-1.0, 0.5, 1.2, 2.0)] == [4, 3, 1, 0]
    assert [_one(z, "sigmoid", level)[0] for level in (0.0, 0.6, 0.7, 1.0)] == [4, 3, 2, 0]
    assert [_one(z, "softmax", level)[0] for level in (0.0, 0.2, 0.25, 0.9)] == [4, 2, 2, 0]


def test_the_default_thresholds_are_the_papers() -> None:
    assert default_threshold("softmax", 8) == 0.125
    assert default_threshold("sigmoid", 8) == 0.5
    assert default_threshold("none", 8) is None  # the mean of each layer


def test_each_layer_is_judged_by_its_own_mean_without_a_constraint() -> None:
    logits = {"one": torch.tensor([0.0, 1.0]), "two": torch.tensor([5.0, 9.0])}
    assert kept_components(selection_variables(logits, "none"), "none") == {"one": (1,), "two": (1,)}


def test_the_selection_variables_are_reported_with_the_ranks() -> None:
    found = learned_ranks({"layer": _layer(torch.tensor([0.0, 1.0, 2.0]))})
    selection = found.rule["selection"]
    assert found.initial_rank == 3
    assert sum(selection["layer"]) == pytest.approx(1, abs=1e-12)
    assert selection["layer"] == pytest.approx(torch.tensor([0.0, 1.0, 2.0]).double().softmax(0).tolist())


@pytest.mark.parametrize("threshold", [None, 0.0, 0.4, 0.6])
@pytest.mark.parametrize("constraint", ["softmax", "sigmoid", "none"])
def test_the_ranks_of_layers_are_those_of_their_logits(constraint: str, threshold: float | None) -> None:
    logits = {"one": torch.tensor([0.0, 1.0, -2.0]), "two": torch.tensor([0.3, 0.4, 0.5])}
    found = learned_ranks({name: _layer(z, constraint) for name, z in logits.items()}, threshold)
    kept = kept_components(selection_variables(logits, constraint), constraint, threshold)
    assert found.kept == kept
    assert dict(found) == {name: len(indices) for name, indices in kept.items()}
    assert found.lora_alpha == 16.0
    assert found.shapes == dict.fromkeys(logits, (5, 7))
    assert (found.rule["constraint"], found.rule["threshold"]) == (constraint, threshold)
