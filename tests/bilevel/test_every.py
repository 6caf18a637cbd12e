"""`search.selection.every`: selection variables stepped at every n-th step, and plain steps of the weights between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from autolora.bilevel.find import find_ranks
from autolora.bilevel.loop import BilevelSearch
from autolora.errors import UserError
from autolora.recipe.schema import Search
from autolora.training.log import MetricLog
from autolora.training.seeds import derive, seed_torch
from tests.bilevel.tiny_run import TOTAL, check_same, run
from tests.bilevel.tiny_saliency import check_saliency
from tests.bilevel.tiny_stage import flat, relative_error, through_the_step, tiny_stage
from tests.model.tiny import summed_loss

PASSES = {"first_order": 2, "forward_difference": 3, "central_difference": 4}


def _stage(every: int, **settings: Any) -> BilevelSearch:
    rates = {"weights": {"learning_rate": 1e-2}, "selection": {"learning_rate": 1e-2, "every": every}}
    options = {"total": TOTAL, "double_backward": settings.get("estimator") == "exact", **rates, **settings}
    return tiny_stage(**options)[1]


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("estimator", [*PASSES, "exact"])
def test_the_selection_variables_move_at_every_nth_step_only(estimator: str) -> None:
    stage = _stage(3, estimator=estimator, dropout=0.1)
    stepped = []
    for step in range(TOTAL):
        before, weights = _copy(stage.selection.named), _copy(stage.weights.named)
        losses = stage.advance(step)
        stepped.append(any(not torch.equal(before[name], z) for name, z in stage.selection.named.items()))
        assert all(not torch.equal(weights[name], each) for name, each in stage.weights.named.items())
        assert ("validation_loss" in losses) == stepped[-1]
    assert stepped == [False, False, True, False, False, True, False]


@pytest.mark.parametrize("estimator", PASSES)
def test_the_steps_between_take_one_pass(estimator: str) -> None:
    stage = _stage(3, estimator=estimator)
    for step in range(TOTAL):
        stage.advance(step)
    count = 5 + 2 * PASSES[estimator]
    assert stage.gradients.passes == [count, count]


def test_the_weights_take_torchs_own_adamw_steps_at_fixed_selection_variables() -> None:
    model, stage = tiny_stage(
        dropout=0.1,
        weights={"learning_rate": 1e-2, "weight_decay": 0.1, "schedule": "constant", "warmup": 0.0},
        selection={"every": 4},
    )
    weights = {name: p.detach().clone().requires_grad_() for name, p in stage.weights.named.items()}
    optimizer = torch.optim.AdamW(list(weights.values()), lr=1e-2, weight_decay=0.1)
    for step in range(3):
        batch = stage.train.at(step)
        seed_torch(derive(derive(derive(stage.seed, step), "train"), 0, 0))

        def call(**inputs: Any) -> Any:
            return functional_call(model, weights, (), inputs)

        loss = summed_loss(call, batch.micro[0]) / batch.units  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found = stage.advance(step)
        assert float(found["train_loss"]) == pytest.approx(float(loss.detach()), rel=1e-6)  # summed in float32
    assert relative_error(flat(list(stage.weights.named.values())), flat(list(weights.values()))) < 1e-12


@pytest.mark.parametrize("estimator", ["exact", "central_difference"])
def test_a_step_of_the_selection_variables_is_on_the_whole_hypergradient(estimator: str) -> None:
    model, stage = tiny_stage(estimator=estimator, dropout=0.1, selection={"every": 4})
    for step in range(3):
        stage.advance(step)
    truth = through_the_step(model, stage, 3)
    found = stage.estimate(stage.problem(3), stage.inner_step(3), 0.001)
    assert relative_error(flat(found.selection), truth) < (1e-9 if estimator == "exact" else 1e-4)


def test_the_stepped_weights_are_the_next_steps_up_to_weight_decay() -> None:
    # V' and V of the next step: the same point without weight decay, ξ times the decay times V apart with it.
    for decay in (0.0, 0.5):
        rates = {"learning_rate": 1e-2, "weight_decay": decay}
        _, stage = tiny_stage(weights=rates, selection={"every": 2})
        for step in range(2):
            inner, problem = stage.inner_step(step), stage.problem(step)
            before = [w.detach().clone() for w in problem.weights]
            direction = inner.direction(problem.train(problem.weights)[1])
            stage.advance(step)
            stepped = flat([v - inner.xi * u for v, u in zip(before, direction, strict=True)])
            apart = stepped - flat(problem.weights)
            assert torch.allclose(apart, inner.xi * decay * flat(before), rtol=1e-5, atol=1e-9)


def test_saliency_is_summed_over_the_steps_of_the_selection_variables() -> None:
    model, stage = tiny_stage(estimator="forward_difference", dropout=0.1, selection={"every": 2})
    check_saliency(model, stage, steps=5, stepped=(1, 3))


def test_all_of_the_validation_data_is_seen_in_turn() -> None:
    stage = _stage(3)
    for turn, step in enumerate((2, 5)):
        (found,), (truth,) = stage.problem(step).validation_batch.micro, stage.validation.at(turn).micro
        assert torch.equal(found["input_ids"], truth["input_ids"])


def test_micro_batches_change_nothing() -> None:
    whole, parts = _stage(2, gradient_accumulation=1), _stage(2, gradient_accumulation=4)
    for step in range(4):
        whole.advance(step), parts.advance(step)
    for one, other in ((whole.weights, parts.weights), (whole.selection, parts.selection)):
        assert relative_error(flat(list(one.named.values())), flat(list(other.named.values()))) < 1e-9


_run = partial(run, log_every=4, checkpoint_every=1)


@pytest.mark.parametrize(
    ("settings", "stops"), [({"estimator": "forward_difference"}, range(2, TOTAL)), ({"meta_learning": False}, [5])]
)
def test_a_resumed_search_is_an_uninterrupted_one_after_any_step(
    settings: dict[str, Any], stops: Sequence[int], tmp_path: Path
) -> None:
    settings = {"dropout": 0.1, "dtype": torch.float32, **settings}
    whole = _stage(3, **settings)
    log = _run(whole, tmp_path / "whole")
    for after in stops:  # the checkpoint is that of the step before
        with pytest.raises(KeyboardInterrupt):
            _run(_stage(3, **settings), tmp_path / str(after), after)
        torch.rand(3)
        resumed = _stage(3, **settings)
        assert _run(resumed, tmp_path / str(after)) == log
        check_same(resumed, whole)


def test_the_log_has_the_mean_of_the_validation_losses_there_were(tmp_path: Path) -> None:
    stage, losses = _stage(3), []
    for step in range(TOTAL):
        losses.append(stage.advance(step))
    _run(_stage(3), tmp_path)
    first, last = MetricLog(tmp_path / "log.jsonl").records()
    assert first["train_loss"] == pytest.approx(sum(float(each["train_loss"]) for each in losses[:4]) / 4)
    assert first["validation_loss"] == pytest.approx(float(losses[2]["validation_loss"]))
    assert last["validation_loss"] == pytest.approx(float(losses[5]["validation_loss"]))


def test_a_record_without_a_step_of_the_selection_variables_has_no_validation_loss(tmp_path: Path) -> None:
    _run(_stage(7), tmp_path)
    first, last = MetricLog(tmp_path / "log.jsonl").records()
    assert "validation_loss" not in first
    assert "validation_loss" in last


def test_one_is_the_search_of_recipes_that_say_nothing() -> None:
    said, silent = _stage(1), _stage(1, selection={"learning_rate": 1e-2})
    for step in range(3):
        said.advance(step), silent.advance(step)
    assert all(torch.equal(tensor, silent.state()[name]) for name, tensor in said.state().items())
    assert "every" not in Search(selection={"every": 1}).model_dump(mode="json")["selection"]  # type: ignore[arg-type]
    assert Search(selection={"every": 2}).model_dump(mode="json")["selection"]["every"] == 2  # type: ignore[arg-type]


def test_selection_variables_that_would_never_be_stepped_are_refused() -> None:
    with pytest.raises(UserError, match=r"search\.selection\.every: 8 is more than the 7 steps there are"):
        _stage(8)


def test_find_ranks_takes_a_validation_batch_for_each_step_of_the_selection_variables() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False))
    drawn: list[int] = []

    def validation() -> Any:
        for i in range(3):
            drawn.append(i)
            yield torch.eye(4)

    settings = Search(steps=6, rank=2, selection={"every": 2}, weights={"learning_rate": 1e-2})  # type: ignore[arg-type]

    def loss(model: Any, batch: Tensor) -> Tensor:
        return (model(batch) - batch).square().mean()

    seen: list[bool] = []
    find_ranks(
        model,
        [torch.eye(4)],
        validation(),
        loss,
        settings,
        target_modules=["0"],
        on_step=lambda step, losses: seen.append("validation_loss" in losses),
    )
    assert drawn == [0, 1, 2]
    assert seen == [False, True] * 3
