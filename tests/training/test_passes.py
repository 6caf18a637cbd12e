"""The passes that the bill says: what an estimator really takes, whatever the micro-batches, resumed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.recipe.schema import Weights
from autolora.training.finetune import Finetuning
from autolora.training.gradients import Gradients
from autolora.training.loop import run_steps
from tests.bilevel.tiny_stage import tiny_stage

# Forward and backward passes over a batch, by the estimators' own docstrings. The mixed product of the exact one is a
# forward pass, a backward pass, and a backward pass through that.
PASSES: dict[str, tuple[int, int]] = {
    "first_order": (2, 2),
    "forward_difference": (3, 3),
    "central_difference": (4, 4),
    "exact": (3, 4),
    "one level": (1, 1),
}
STEPS = 5


def stage_of(name: str, **settings: Any) -> Any:
    chosen = {"meta_learning": False} if name == "one level" else {"estimator": name}
    return tiny_stage(**chosen, **settings)[1]


def counts(stage: Any) -> tuple[int, int]:
    found = stage.gradients.counted()
    assert list(found) == ["forward_passes", "backward_passes"]
    return found["forward_passes"], found["backward_passes"]


def run(stage: Any, total: int, folder: Path | None = None) -> None:
    checkpoint = folder / "checkpoint.safetensors" if folder else None
    run_steps(stage, total=total, log_every=2, checkpoint_every=2, checkpoint=checkpoint)


@pytest.mark.parametrize("name", PASSES)
def test_the_count_is_that_of_the_estimator(name: str) -> None:
    stage = stage_of(name)
    assert counts(stage) == (0, 0)
    run(stage, STEPS)
    assert counts(stage) == (STEPS * PASSES[name][0], STEPS * PASSES[name][1])


@pytest.mark.parametrize("name", PASSES)
def test_the_count_is_what_was_really_done(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, forward, backward = stage_of(name), [], []
    loss, grad = stage.gradients.loss, torch.autograd.grad
    stage.gradients.loss = lambda batch: (forward.append(1), loss(batch))[1]
    monkeypatch.setattr(torch.autograd, "grad", lambda *given, **how: (backward.append(1), grad(*given, **how))[1])
    run(stage, 2)
    assert counts(stage) == (len(forward), len(backward))


@pytest.mark.parametrize("name", PASSES)
def test_micro_batches_are_not_passes(name: str) -> None:
    stage = stage_of(name, gradient_accumulation=4)
    run(stage, 2)
    assert counts(stage) == (2 * PASSES[name][0], 2 * PASSES[name][1])


@pytest.mark.parametrize("name", PASSES)
def test_a_resumed_stage_counts_on_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    """What was done after the last checkpoint is done again, and counted once."""
    first, stop = stage_of(name), 3
    advance = first.advance

    def interrupted(step: int) -> Any:
        if step == stop:
            raise KeyboardInterrupt
        return advance(step)

    first.advance = interrupted
    with pytest.raises(KeyboardInterrupt):
        run(first, STEPS, tmp_path)
    assert counts(first) == (stop * PASSES[name][0], stop * PASSES[name][1])
    again = stage_of(name)
    run(again, STEPS, tmp_path)
    assert counts(again) == (STEPS * PASSES[name][0], STEPS * PASSES[name][1])
    over = stage_of(name)
    run(over, STEPS, tmp_path)  # nothing is left to do
    assert counts(over) == counts(again)


def test_plain_training_takes_one_pass_each_way_a_step_and_counts_on(tmp_path: Path) -> None:
    def stage() -> Finetuning:
        model, search = tiny_stage()
        return Finetuning(model, search.gradients, search.train, Weights(), total=STEPS, seed=0)

    first = stage()
    run(first, 4, tmp_path)
    assert counts(first) == (4, 4)
    again = stage()
    assert counts(again) == (0, 0)
    run(again, STEPS, tmp_path)
    assert counts(again) == (STEPS, STEPS)


def test_a_penalty_is_no_pass() -> None:
    model, search = tiny_stage()
    weights = [p for p in model.parameters() if p.requires_grad]
    gradients = Gradients(search.gradients.loss, penalty=lambda: weights[0].square().sum())
    gradients.of(search.train.at(0), weights, 0)
    assert gradients.counted() == {"forward_passes": 1, "backward_passes": 1}
