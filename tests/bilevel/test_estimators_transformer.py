"""The estimators on tiny float64 transformers, against autograd through the inner step itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autolora.bilevel.estimators import central_difference, exact, first_order, forward_difference
from autolora.bilevel.inner import AdamStep, PlainStep
from autolora.bilevel.loop import BilevelSearch
from tests.bilevel.tiny_stage import cosine, flat, relative_error, second_order, through_the_step, tiny_stage
from tests.model.tiny import ARCHITECTURES

STEPS = 3  # real optimiser steps before the estimate, so that Adam's moments are those of a search
XI = 0.1
DIFFERENCES = {"central_difference": central_difference, "forward_difference": forward_difference}
# The default epsilon, and a smaller one. Errors are of the second-order term alone.
TOLERANCE = {
    ("central_difference", 0.01): 2e-3,
    ("central_difference", 0.001): 1e-4,
    ("forward_difference", 0.01): 0.1,
    ("forward_difference", 0.001): 0.01,
}


def _searched(name: str, inner_step: str, **settings: float) -> tuple[nn.Module, BilevelSearch]:
    xi = XI if inner_step == "plain" else 1e-2
    model, stage = tiny_stage(
        name, inner_step=inner_step, inner_learning_rate=xi, estimator="first_order", weights={"learning_rate": 1e-2}
    )
    for step in range(STEPS):
        stage.advance(step)
    return model, stage


def _exact_error(model: nn.Module, stage: BilevelSearch) -> float:
    """Error of `exact`, relative to the second-order term: a fault in it cannot hide behind the direct term."""
    problem, inner = stage.problem(STEPS), stage.inner_step(STEPS)
    truth = through_the_step(model, stage, STEPS)
    direct = flat(first_order.estimate(problem, inner).selection)
    assert float((truth - direct).norm() / truth.norm()) > 0.01  # there is something to get wrong
    return float((flat(exact.estimate(problem, inner).selection) - truth).norm() / (truth - direct).norm())


@pytest.mark.parametrize("inner_step", ["plain", "adam"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exact_is_autograd_through_the_inner_step(name: str, inner_step: str) -> None:
    # Llama's norms compute in float32 whatever the model's precision.
    assert _exact_error(*_searched(name, inner_step)) < (1e-6 if name == "llama" else 1e-8)


@pytest.mark.parametrize("inner_step", ["plain", "adam"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_differences_agree_with_exact(name: str, inner_step: str) -> None:
    _, stage = _searched(name, inner_step)
    problem, inner = stage.problem(STEPS), stage.inner_step(STEPS)
    truth = second_order(problem, inner, exact.estimate(problem, inner))
    for (estimator, epsilon), tolerance in TOLERANCE.items():
        found = second_order(problem, inner, DIFFERENCES[estimator].estimate(problem, inner, epsilon))
        assert relative_error(found, truth) < tolerance, (estimator, epsilon)
        assert cosine(found, truth) > 1 - tolerance**2, (estimator, epsilon)
        assert 1 - tolerance < float(found.norm() / truth.norm()) < 1 + tolerance, (estimator, epsilon)


@pytest.mark.parametrize(("estimator", "order"), [("central_difference", 2), ("forward_difference", 1)])
def test_the_error_of_a_difference_falls_with_epsilon_at_its_order(estimator: str, order: int) -> None:
    _, stage = _searched("bert", "plain")
    problem, inner = stage.problem(STEPS), stage.inner_step(STEPS)
    truth = second_order(problem, inner, exact.estimate(problem, inner))
    coarse, fine = (
        relative_error(second_order(problem, inner, DIFFERENCES[estimator].estimate(problem, inner, e)), truth)
        for e in (0.02, 0.01)
    )
    assert coarse / fine == pytest.approx(2**order, rel=0.1)


@pytest.mark.parametrize("estimator", [*DIFFERENCES.values(), exact])
def test_the_second_order_term_is_proportional_to_the_inner_learning_rate(estimator: object) -> None:
    _, stage = _searched("bert", "plain")
    problem = stage.problem(STEPS)

    def term(xi: float) -> Tensor:
        inner = PlainStep(xi)
        return second_order(problem, inner, estimator.estimate(problem, inner))  # type: ignore[attr-defined]

    # V' and the vector v move with ξ too, in proportion to it: small ones are compared.
    unit = term(1e-5)
    assert float(unit.norm()) > 0
    assert relative_error(term(2e-5), 2 * unit) < 1e-3
    assert relative_error(term(10e-5), 10 * unit) < 1e-3


def test_without_an_inner_learning_rate_every_estimator_is_first_order() -> None:
    _, stage = _searched("bert", "plain")
    problem, inner = stage.problem(STEPS), PlainStep(0.0)
    truth = flat(first_order.estimate(problem, inner).selection)
    for estimator in (exact, *DIFFERENCES.values()):
        assert torch.equal(flat(estimator.estimate(problem, inner).selection), truth)


@pytest.mark.parametrize("estimator", ["exact", "central_difference", "forward_difference"])
def test_micro_batches_change_nothing(estimator: str) -> None:
    def found(pieces: int) -> Tensor:
        _, stage = tiny_stage(inner_learning_rate=XI, inner_step="plain", gradient_accumulation=pieces)
        module = {"exact": exact, **DIFFERENCES}[estimator]
        return flat(module.estimate(stage.problem(0), stage.inner_step(0)).selection)

    assert relative_error(found(4), found(1)) < 1e-9


def _scaled(factor: float) -> object:
    return lambda direct, xi, mixed: [d - factor * xi * m for d, m in zip(direct, mixed, strict=True)]


@pytest.mark.parametrize("factor", [-1.0, 1.1, 0.9, 1 / XI], ids=["sign", "1.1", "0.9", "missing learning rate"])
def test_a_planted_factor_is_noticed(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "combine", _scaled(factor))
    assert _exact_error(*_searched("bert", "plain")) > 0.09


def test_a_missing_preconditioner_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdamStep, "pull_back", lambda self, g, vector: list(vector))
    assert _exact_error(*_searched("bert", "adam")) > 0.5


def test_a_preconditioner_taken_as_constant_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def frozen(self: AdamStep, g: list[Tensor], vector: list[Tensor]) -> list[Tensor]:
        _, root = self._corrected(g)
        c1 = (1 - self.betas[0]) / (1 - self.betas[0] ** self.t)
        return [c1 * v / (r + self.eps) for v, r in zip(vector, root, strict=True)]

    monkeypatch.setattr(AdamStep, "pull_back", frozen)
    assert _exact_error(*_searched("bert", "adam")) > 0.05
