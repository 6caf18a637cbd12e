"""The search as a stage: resuming, its log, the ablations, and that it does not wait for the device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.bilevel.estimators import central_difference, exact, forward_difference
from autolora.bilevel.inner import AdamStep, PlainStep
from autolora.bilevel.loop import BatchProblem, BilevelSearch
from autolora.registry import ESTIMATORS
from autolora.training.compute import Compute
from autolora.training.log import MetricLog
from tests.bilevel.tiny_run import TOTAL, check_same, run
from tests.bilevel.tiny_stage import cosine, flat, relative_error, second_order, tiny_stage


def _stage(**settings: Any) -> BilevelSearch:
    defaults = {"dropout": 0.1, "dtype": torch.float32, "total": TOTAL, "weights": {"learning_rate": 1e-2}}
    _, stage = tiny_stage(**{**defaults, "double_backward": settings.get("estimator") == "exact", **settings})
    return stage


@pytest.mark.parametrize("after", [1, 4, 5, 6])
@pytest.mark.parametrize("estimator", ["forward_difference", "exact"])
def test_a_resumed_search_is_an_uninterrupted_one_bit_for_bit(estimator: str, after: int, tmp_path: Path) -> None:
    whole = _stage(estimator=estimator)
    log = run(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(_stage(estimator=estimator), tmp_path / "parts", after)
    torch.rand(3)  # another process has another random state
    resumed = _stage(estimator=estimator)
    assert run(resumed, tmp_path / "parts") == log
    check_same(resumed, whole)


def test_a_finished_search_is_not_trained_further(tmp_path: Path) -> None:
    log = run(_stage(), tmp_path)
    again = _stage()
    assert run(again, tmp_path) == log
    assert float(next(iter(again.weights.optimizer.state.values()))["step"]) == TOTAL


@pytest.mark.parametrize("estimator", ["forward_difference", "central_difference", "first_order", "exact"])
@pytest.mark.parametrize("inner_step", ["plain", "adam"])
def test_a_step_reads_nothing_from_the_device(estimator: str, inner_step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = _stage(estimator=estimator, inner_step=inner_step)
    stage.advance(0)
    stage.train.at(1), stage.validation.at(1)  # the order of an epoch is drawn once, on the CPU
    reads: list[str] = []
    for method in ("item", "tolist", "__float__", "__int__", "__index__", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, method, _counted(method, getattr(Tensor, method), reads))
    monkeypatch.setattr(Tensor, "__bool__", _counted_losses(reads))
    losses = stage.advance(1)
    assert reads == []
    assert set(losses) == {"train_loss", "validation_loss"}
    float(losses["train_loss"])
    assert reads == ["__float__"]  # it would have been noticed


def _counted(name: str, original: Any, reads: list[str]) -> Any:
    def method(self: Tensor, *args: Any, **options: Any) -> Any:
        reads.append(name)
        return original(self, *args, **options)

    return method


def _counted_losses(reads: list[str]) -> Any:
    original = Tensor.__bool__

    def method(self: Tensor) -> bool:
        if self.is_floating_point():  # transformers itself asks of the mask whether it hides anything
            reads.append("__bool__")
        return original(self)

    return method


def test_the_log_tells_losses_learning_rates_ranks_and_selection(tmp_path: Path) -> None:
    stage = _stage()
    run(stage, tmp_path)
    records = MetricLog(tmp_path / "log.jsonl").records()
    assert [record["step"] for record in records] == [2, 4, 6, 7]
    assert set(records[0]) == {
        *("step", "train_loss", "validation_loss", "ranks", "selection"),
        *("weights_learning_rate", "selection_learning_rate"),
    }
    assert records[-1]["ranks"] == dict(stage.ranks())
    assert all(sum(values) == pytest.approx(1, abs=1e-5) for values in records[-1]["selection"].values())
    assert records[-1]["weights_learning_rate"] == stage.weights.learning_rate(TOTAL - 1)


def test_logged_losses_are_means_since_the_last_record(tmp_path: Path) -> None:
    stage = _stage()
    losses = [float(stage.advance(step)["train_loss"]) for step in range(TOTAL)]
    run(_stage(), tmp_path)
    logged = [record["train_loss"] for record in MetricLog(tmp_path / "log.jsonl").records()]
    assert logged == pytest.approx([sum(losses[i : i + 2]) / len(losses[i : i + 2]) for i in range(0, TOTAL, 2)])


@pytest.mark.parametrize("constraint", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_works_with_every_constraint(estimator: str, constraint: str) -> None:
    stage = _stage(estimator=estimator, constraint=constraint)
    before = {name: tensor.clone() for name, tensor in stage.state().items()}
    for step in range(3):
        losses = stage.advance(step)
        assert all(torch.isfinite(loss) for loss in losses.values())
    moved = [name for name, tensor in before.items() if not torch.equal(tensor, stage.state()[name])]
    assert moved == list(before)
    assert all(0 <= rank <= 4 for rank in stage.ranks().values())


@pytest.mark.parametrize("name", ["roberta", "deberta-v2", "gpt2", "llama"])
def test_a_search_from_fresh_factors_runs_on_every_architecture(name: str) -> None:
    stage = _stage(name=name, randomised=False)
    for step in range(3):
        stage.advance(step)
    assert all(tensor.isfinite().all() for tensor in stage.state().values())


def test_a_search_lowers_the_training_loss() -> None:
    stage = _stage(dropout=0.0, total=30, estimator="first_order", weights={"learning_rate": 5e-2})
    seen = [{name: float(loss) for name, loss in stage.advance(step).items()} for step in range(30)]
    # Labels are random: what the training examples teach does not carry over to the validation examples.
    assert sum(s["train_loss"] for s in seen[-6:]) < 0.8 * sum(s["train_loss"] for s in seen[:6])


def test_without_meta_learning_both_variables_learn_from_the_same_batch() -> None:
    stage = _stage(meta_learning=False)
    problem = stage.problem(0)
    _, truth = problem.train([*problem.selection, *problem.weights])
    result = stage.estimate(problem, stage.inner_step(0), 0.01)
    assert all(torch.equal(f, t) for f, t in zip([*result.selection, *result.weights], truth, strict=True))
    assert all(
        torch.equal(one["input_ids"], other["input_ids"])
        for one, other in zip(problem.train_batch.micro, problem.validation_batch.micro, strict=True)
    )
    losses = stage.advance(0)
    assert torch.equal(losses["train_loss"], losses["validation_loss"])


def test_the_inner_learning_rate_is_the_recipes_or_that_of_the_step() -> None:
    followed = _stage(weights={"learning_rate": 1e-2, "schedule": "linear", "warmup": 0.0})
    assert [followed.inner_step(s).xi for s in (0, 3)] == pytest.approx([1e-2, 1e-2 * 4 / 7])
    given = _stage(inner_learning_rate=0.3, inner_step="plain").inner_step(5)
    assert isinstance(given, PlainStep)
    assert given.xi == 0.3


def test_the_inner_step_is_the_one_that_the_weights_take() -> None:
    stage = _stage(dropout=0.0, dtype=torch.float64, estimator="first_order")
    for step in range(3):
        inner, problem = stage.inner_step(step), stage.problem(step)
        assert isinstance(inner, AdamStep)
        direction = inner.direction(problem.train(problem.weights)[1])
        before = [w.detach().clone() for w in problem.weights]
        stage.advance(step)
        taken = flat([b - w for b, w in zip(before, problem.weights, strict=True)])
        assert relative_error(taken, inner.xi * flat(direction)) < 1e-6


DIFFERENCES = [central_difference, forward_difference]


@pytest.mark.parametrize("module", DIFFERENCES)
def test_in_bfloat16_differences_are_those_of_float32(module: Any) -> None:
    found, truth = _bfloat16_and_exact(module)
    assert relative_error(found, truth) < 0.03
    assert cosine(found, truth) > 0.999


@pytest.mark.parametrize("module", DIFFERENCES)
def test_differences_of_bfloat16_passes_would_be_noticed(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchProblem, "train", _low_precision_train)
    assert relative_error(*_bfloat16_and_exact(module)) > 0.15


def _low_precision_train(
    self: BatchProblem, wrt: Sequence[Tensor], *, difference: bool = False
) -> tuple[Tensor, list[Tensor]]:
    return self.gradients.of(self.train_batch, wrt, self.train_seed)


def _bfloat16_and_exact(module: Any) -> tuple[Tensor, Tensor]:
    """The second-order term by a difference in a bfloat16 search, and the exact one in float32."""
    settings: dict[str, Any] = {"inner_step": "plain", "inner_learning_rate": 0.1, "dropout": 0.1}
    full = _stage(estimator="exact", **settings)
    problem, inner = full.problem(0), full.inner_step(0)
    truth = second_order(problem, inner, exact.estimate(problem, inner))
    bf16 = Compute("bfloat16", cpu=True)
    problem = _stage(compute=bf16, **settings).problem(0)
    return second_order(problem, inner, module.estimate(problem, inner, 0.01)), truth
