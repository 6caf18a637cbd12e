"""Squeeze to the size that it finds by itself: what it is measured on, and that it is the smallest that is allowed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.allocation.budget import by_layer, in_order
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.line import retrain, search
from autolora.lora.adapter import set_factors
from autolora.methods.base import method_of
from autolora.methods.squeeze import Squeeze
from autolora.registry import SCORES
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning
from tests.methods.linked import reopened
from tests.methods.squeezed import TOLERANT, evidence_of, searched, squeezed, write_learner

TRAIN, HELD_OUT = 60, 18
WORD = "squeeze:budget=tolerance=0.05"


def test_rows_are_held_out_until_the_squeeze_and_joined_after_it(
    learner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, context = squeezed(learner, tmp_path, WORD, *TOLERANT)
    method = method_of(run)
    assert isinstance(method, Squeeze)
    trained, held_out = method.shared(context)
    everything = context.examples("train")
    assert (len(trained), len(held_out)) == (TRAIN - HELD_OUT, HELD_OUT)
    assert {id(each) for each in (*trained, *held_out)} == {id(each) for each in everything}
    seen: dict[str, list[Any]] = {}
    advance = Finetuning.advance

    def watched(stage: Finetuning, step: int) -> Any:
        seen["begun" if step < 20 else "gone on"] = list(stage.train.examples)  # type: ignore[attr-defined]
        return advance(stage, step)

    monkeypatch.setattr(Finetuning, "advance", watched)
    for name in ("autolora.methods.squeeze.measured_gates", "autolora.methods.autolora.rises_of"):
        monkeypatch.setattr(name, noting(name, seen))
    search(run, context)
    retrain(run, context)
    ids = {name: [id(each) for each in found] for name, found in seen.items()}
    assert ids.pop("begun") == [id(each) for each in trained]
    assert ids.pop("gone on") == [id(each) for each in everything]
    assert list(ids.values()) == [[id(each) for each in held_out]] * 2


def noting(name: str, seen: dict[str, list[Any]]) -> Any:
    """A function of `autolora.methods.measure`, that notes the examples that it is given."""
    import autolora.methods.measure as module

    original = getattr(module, name.rpartition(".")[2])

    def noted(*arguments: Any) -> Any:
        seen[name] = list(next(each for each in arguments if isinstance(each, list)))
        return original(*arguments)

    return noted


def loss_at(run: Run, context: Context, kept: dict[str, tuple[int, ...]], examples: Sequence[Any]) -> float:
    """The mean loss of the squeezed model, built from scratch with these components only."""
    method = method_of(run)
    assert isinstance(method, Squeeze)
    evidence, ranks = evidence_of(run), run.ranks()
    every = method.given(dict.fromkeys(ranks, 4), ranks.shapes)
    adapted, _ = method.filled(every, context.model(), context, evidence)  # the head's state, too
    for name, each in evidence.components.items():
        a, b = torch.zeros(4, len(each.v)), torch.zeros(len(each.u), 4)
        for i in kept[name]:  # s B A = 4 B A
            a[i], b[:, i] = each.v[:, i].float(), (each.sigma[i] * each.u[:, i] / 4).float()
        set_factors(adapted, name, a, b)
    batch = context.task.collate(examples, context.tokenizer)
    with torch.no_grad():
        return float(context.task.loss(adapted.eval(), batch)) / len(examples)


@pytest.mark.parametrize("tolerance", [0.02, 0.2, 0.6])
def test_the_size_is_the_smallest_that_the_measured_rise_allows(
    learner: Path, tmp_path: Path, tolerance: float
) -> None:
    run, ranks = searched(learner, tmp_path, f"squeeze:budget=tolerance={tolerance}", *TOLERANT)
    run, context = reopened(run)
    method = method_of(run)
    assert isinstance(method, Squeeze)
    examples, evidence = method.shared(context)[1], evidence_of(run)
    costs = {name: each.cost for name, each in evidence.components.items()}
    order = in_order(SCORES.load("fisher")(evidence), costs)
    losses = [loss_at(run, context, by_layer(order[:n], costs), examples) for n in range(len(order) + 1)]
    gain = losses[0] - losses[-1]
    assert gain > 0.01
    allowed = [loss - losses[-1] <= tolerance * gain for loss in losses]
    assert allowed[ranks.total]
    assert not allowed[ranks.total - 1]
    if sorted(allowed) == allowed:  # one crossing
        assert ranks.total == allowed.index(True)
    assert ranks == {name: len(each) for name, each in by_layer(order[: ranks.total], costs).items()}
    assert ranks.rule["measured_rise"] == pytest.approx(losses[ranks.total] - losses[-1], abs=2e-6)
    assert 0 < ranks.total < len(order)


def test_more_tolerance_takes_less_and_the_evaluation_split_is_never_looked_at(learner: Path, tmp_path: Path) -> None:
    changed = write_learner(tmp_path)
    path = changed / "data" / "validation.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text(
        "".join(json.dumps({"sentence": f"{row['sentence']} again", "label": 1 - row["label"]}) + "\n" for row in rows)
    )
    totals = []
    for tolerance in (0.01, 0.6):
        word = f"squeeze:budget=tolerance={tolerance}"
        run, ranks = searched(learner, tmp_path / "one", word, *TOLERANT)
        other, found = searched(changed, tmp_path / "other", word, *TOLERANT)
        assert found == ranks
        assert evidence_of(other).gates.derivatives.equal(evidence_of(run).gates.derivatives)  # type: ignore[union-attr]
        totals.append(ranks.total)
    assert totals[0] > totals[1]


def test_nothing_to_measure_on_is_refused_before_anything_is_trained(learner: Path, tmp_path: Path) -> None:
    run, context = squeezed(learner, tmp_path, WORD, "ranks.held_out=0.001")
    with pytest.raises(UserError, match=r"ranks\.held_out: 0\.001 of 60 training examples leaves 60 to train on and 0"):
        search(run, context)
    assert not (run.path / "search" / "checkpoint.safetensors").exists()
