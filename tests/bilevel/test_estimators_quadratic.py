"""The estimators against a closed form in float64, and planted faults that the same comparison must notice."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from autolora.bilevel import problem as bilevel_problem
from autolora.bilevel.estimators import central_difference, exact, first_order, forward_difference, one_level
from autolora.bilevel.inner import AdamStep, InnerStep, PlainStep
from tests.bilevel.quadratic import DIMENSION, Quadratic

XI = 0.05
TOLERANCE = {"exact": 1e-10, "central_difference": 1e-6, "forward_difference": 1e-6}
ESTIMATORS = {"exact": exact, "central_difference": central_difference, "forward_difference": forward_difference}


def _moments(t: int) -> tuple[list[Tensor], list[Tensor]]:
    rng = torch.Generator().manual_seed(9)
    m = torch.randn(DIMENSION, generator=rng, dtype=torch.float64) * 3
    v = torch.rand(DIMENSION, generator=rng, dtype=torch.float64) * 20 * (1 - 0.999**t) + 0.01
    return [m], [v]


def _adam(t: int = 7, xi: float = XI) -> AdamStep:
    return AdamStep(xi, lambda: _moments(t), t)


def _torch_adam_step(problem: Quadratic, t: int, xi: float) -> tuple[Tensor, Tensor]:
    """u(g) and u'(g) of Adam, by autograd through the textbook formula."""
    m, v = _moments(t)
    g = problem.g().requires_grad_()
    m_hat = (0.9 * m[0] + 0.1 * g) / (1 - 0.9**t)
    v_hat = (0.999 * v[0] + 0.001 * g**2) / (1 - 0.999**t)
    u = m_hat / (v_hat.sqrt() + 1e-8)
    (derivative,) = torch.autograd.grad(u.sum(), g)
    return u.detach(), derivative


def _truth(problem: Quadratic, inner: InnerStep) -> Tensor:
    if isinstance(inner, AdamStep):
        return problem.hypergradient(inner.xi, *_torch_adam_step(problem, inner.t, inner.xi))
    return problem.hypergradient(inner.xi, problem.g(), torch.ones(DIMENSION, dtype=torch.float64))


def _relative_error(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("inner", [PlainStep(XI), _adam()], ids=["plain", "adam"])
def test_an_estimator_gives_the_closed_form(name: str, inner: InnerStep) -> None:
    problem = Quadratic()
    result = ESTIMATORS[name].estimate(problem, inner)
    assert _relative_error(result.selection[0], _truth(problem, inner)) < TOLERANCE[name]
    assert torch.allclose(result.weights[0], problem.g(), rtol=1e-12)


@pytest.mark.parametrize("module", [*ESTIMATORS.values(), first_order, one_level])
def test_an_estimator_leaves_the_weights_bit_for_bit_as_they_were(module: ModuleType) -> None:
    problem = Quadratic()
    before = problem.weights[0].detach().clone()
    module.estimate(problem, _adam())
    assert torch.equal(problem.weights[0], before)


@pytest.mark.parametrize(
    ("module", "passes"), [(first_order, 2), (forward_difference, 3), (central_difference, 4), (one_level, 1)]
)
def test_an_estimator_takes_no_needless_pass(module: ModuleType, passes: int) -> None:
    problem = Quadratic()
    module.estimate(problem, PlainStep(XI))
    assert problem.passes == passes


def test_first_order_is_the_validation_gradient_at_the_stepped_weights() -> None:
    problem = Quadratic()
    assert torch.allclose(first_order.estimate(problem, PlainStep(XI)).selection[0], problem.p)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_second_order_term_is_proportional_to_the_inner_learning_rate(name: str) -> None:
    # At a fixed V' and v; with ξ itself V' moves too, so small ξ are compared.
    problem = Quadratic()
    terms = {}
    for xi in (1e-7, 2e-7, 10e-7):
        terms[xi] = ESTIMATORS[name].estimate(problem, PlainStep(xi)).selection[0] - problem.p
    assert _relative_error(terms[2e-7], 2 * terms[1e-7]) < 1e-4
    assert _relative_error(terms[10e-7], 10 * terms[1e-7]) < 1e-4


def test_a_step_of_torchs_adam_is_the_step_that_is_differentiated() -> None:
    problem, t = Quadratic(), 7
    parameter = torch.nn.Parameter(problem.weights[0].detach().clone())
    optimizer = torch.optim.Adam([parameter], lr=XI)
    m, v = _moments(t)
    optimizer.state[parameter] = {"step": torch.tensor(float(t - 1)), "exp_avg": m[0], "exp_avg_sq": v[0]}
    before = parameter.detach().clone()
    parameter.grad = problem.g()
    step = _adam(t).direction([problem.g()])[0]
    optimizer.step()
    assert torch.allclose(before - parameter, XI * step, rtol=1e-9)


def _no_learning_rate(direct: list[Tensor], xi: float, mixed: list[Tensor]) -> list[Tensor]:
    return [d - m for d, m in zip(direct, mixed, strict=True)]


FAULTS = {
    "sign": lambda direct, xi, mixed: [d + xi * m for d, m in zip(direct, mixed, strict=True)],
    "factor 1.1": lambda direct, xi, mixed: [d - 1.1 * xi * m for d, m in zip(direct, mixed, strict=True)],
    "missing inner learning rate": _no_learning_rate,
    "hypergradient scaled": lambda direct, xi, mixed: [10 * x for x in bilevel_problem.combine(direct, xi, mixed)],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_planted_fault_is_noticed(name: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, inner = Quadratic(), _adam()
    monkeypatch.setattr(ESTIMATORS[name], "combine", FAULTS[fault])
    found = ESTIMATORS[name].estimate(problem, inner).selection[0]
    assert _relative_error(found, _truth(problem, inner)) > 100 * TOLERANCE[name]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_missing_preconditioner_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, inner = Quadratic(), _adam()
    monkeypatch.setattr(AdamStep, "pull_back", lambda self, g, vector: list(vector))
    found = ESTIMATORS[name].estimate(problem, inner).selection[0]
    assert _relative_error(found, _truth(problem, inner)) > 100 * TOLERANCE[name]
