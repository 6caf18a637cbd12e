"""Dropout in the search: all passes of one iteration over the training batch see the same masks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from autolora.bilevel.estimators import central_difference, exact, forward_difference
from autolora.bilevel.inner import InnerStep
from autolora.bilevel.loop import BatchProblem, BilevelSearch
from autolora.training.seeds import derive
from tests.bilevel.tiny_stage import cosine, relative_error, second_order, through_the_step, tiny_stage
from tests.model.tiny import ARCHITECTURES

DROPOUT = 0.2
DIFFERENCES = {"central_difference": central_difference, "forward_difference": forward_difference}


class OtherMasks(BatchProblem):
    """The planted fault: every pass over the training batch draws masks of its own."""

    passes = 0

    def train(self, wrt: Sequence[Tensor], *, difference: bool = False) -> tuple[Tensor, list[Tensor]]:
        self.passes += 1
        self.train_seed = derive(self.train_seed, self.passes)
        return super().train(wrt, difference=difference)


def _dropped_out(name: str = "bert", inner_step: str = "plain") -> tuple[nn.Module, BilevelSearch, InnerStep]:
    model, stage = tiny_stage(name, dropout=DROPOUT, inner_step=inner_step, inner_learning_rate=0.05)
    return model, stage, stage.inner_step(0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_differences_agree_with_exact_under_dropout(name: str) -> None:
    _, stage, inner = _dropped_out(name)
    problem = stage.problem(0)
    truth = second_order(problem, inner, exact.estimate(problem, inner))
    for estimator, module in DIFFERENCES.items():
        found = second_order(problem, inner, module.estimate(problem, inner, 0.001))
        assert relative_error(found, truth) < 0.02, estimator
        assert cosine(found, truth) > 0.999, estimator


def test_exact_under_dropout_is_autograd_through_the_step() -> None:
    model, stage, inner = _dropped_out()
    problem = stage.problem(0)
    result = exact.estimate(problem, inner)
    truth = through_the_step(model, stage, 0)
    found = torch.cat(result.selection)
    assert float((found - truth).norm() / second_order(problem, inner, result).norm()) < 1e-8


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("estimator", DIFFERENCES)
def test_different_masks_would_be_noticed(estimator: str, name: str) -> None:
    _, stage, inner = _dropped_out(name)
    problem = stage.problem(0)
    truth = second_order(problem, inner, exact.estimate(problem, inner))
    faulty = OtherMasks(
        stage.gradients, problem.train_batch, problem.validation_batch, problem.weights, problem.selection, 0
    )
    faulty.train_seed, faulty.validation_seed = problem.train_seed, problem.validation_seed
    found = second_order(problem, inner, DIFFERENCES[estimator].estimate(faulty, inner, 0.001))
    assert relative_error(found, truth) > 3
    assert cosine(found, truth) < 0.9


def test_the_masks_of_an_iteration_are_its_own() -> None:
    _, stage, _ = _dropped_out()
    per_epoch = stage.train.batches_per_epoch
    problems = [stage.problem(step) for step in (0, 1, per_epoch)]
    seeds = {seed for p in problems for seed in (p.train_seed, p.validation_seed)}
    assert len(seeds) == 6


def test_the_masks_depend_on_the_seed_alone() -> None:
    _, stage, _ = _dropped_out()
    problem = stage.problem(0)
    first, _ = problem.train(problem.selection)
    torch.rand(17)
    again, _ = problem.train(problem.selection)
    other, _ = stage.gradients.of(problem.train_batch, problem.selection, problem.train_seed + 1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_micro_batches_of_one_batch_have_different_masks() -> None:
    _, stage, _ = _dropped_out()
    problem = stage.problem(0)
    twice = type(problem.train_batch)(problem.train_batch.micro * 2, problem.train_batch.units)
    once, _ = stage.gradients.of(problem.train_batch, problem.selection, 0)
    both, _ = stage.gradients.of(twice, problem.selection, 0)
    assert not torch.isclose(both, 2 * once, rtol=1e-3)
