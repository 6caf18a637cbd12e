"""What a search stored, read off again: the same evidence, and ranks for a row of budgets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autolora.allocation.curve import curve
from autolora.allocation.evidence import Evidence
from autolora.allocation.gates import measure_gates
from autolora.allocation.likelihood import Predictive
from autolora.allocation.rows import rows_of
from autolora.allocation.store import load_evidence, save_evidence
from autolora.errors import UserError
from autolora.registry import SCORES
from autolora.training.checkpoint import save_checkpoint
from tests.allocation.models import adapted, measured_layers, token_batch


def measured() -> Evidence:
    model, batch = adapted("gpt2"), token_batch()
    layers, components = measured_layers(model)
    loss = Predictive(model, model.get_base_model()).sampled
    gates = measure_gates(model, layers, components, [(batch, rows_of(batch))], loss)
    return Evidence(components, gates, {"x": [0.25, 0.75]}, {"x": [1.0, -2.0]})


def test_evidence_is_stored_as_it_is(tmp_path: Path) -> None:
    evidence, path = measured(), tmp_path / "evidence.safetensors"
    save_evidence(evidence, path)
    read = load_evidence(path)
    assert list(read.components) == list(evidence.components)
    assert (read.selection, read.saliency) == (evidence.selection, evidence.saliency)
    for score in SCORES.ours:
        one, other = SCORES.load(score)(evidence), SCORES.load(score)(read)
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert read.gates is not None
    kept = dict.fromkeys(evidence.components, (0,))
    assert read.gates.rise(kept) == evidence.gates.rise(kept)  # type: ignore[union-attr]
    first, again = (next(iter(each.components.values())).factors((0, 1)) for each in (evidence, read))
    assert torch.equal(first[0], again[0])


def test_a_row_of_budgets() -> None:
    evidence = measured()
    costs = {name: each.cost for name, each in evidence.components.items()}
    full = sum(len(each) * each.cost for each in evidence.components.values())
    points = list(curve(evidence, "fisher", costs, [full // 4, full // 2, full], lambda kept: 1.5))
    assert [point.parameters <= limit for point, limit in zip(points, (full // 4, full // 2, full), strict=True)]
    sizes = [point.parameters for point in points]
    rises = [point.predicted_rise for point in points]
    assert sizes == sorted(sizes)
    assert sizes[-1] == full
    assert rises == sorted(rises, reverse=True)  # type: ignore[type-var]
    assert rises[-1] == 0.0
    assert points[0].measured_rise == 1.5
    assert sum(points[0].ranks[name] * costs[name] for name in costs) == sizes[0]
    (pairs,) = curve(evidence, "saliency", {"x": 3}, [3])
    assert (pairs.kept, pairs.predicted_rise) == ({"x": (0,)}, None)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evidence does not exist: the search has not stored"):
        load_evidence(tmp_path / "evidence")
    save_checkpoint(tmp_path / "later", {"a": torch.ones(1)}, {"format": 9})
    with pytest.raises(UserError, match=r"later is of format 9, and this version of autolora knows 1$"):
        load_evidence(tmp_path / "later")
