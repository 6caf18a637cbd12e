"""Learning rates as a function of the step, and an optimiser that goes on where it stopped."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autolora.errors import UserError
from autolora.recipe.schema import Schedule, Weights
from autolora.training.optimizers import ScheduledOptimizer, check_held, mend

TOTAL = 100


def _optimizer(total: int = TOTAL, *, decoupled: bool = True, **settings: float | str) -> ScheduledOptimizer:
    rng = torch.Generator().manual_seed(0)
    named = {name: torch.nn.Parameter(torch.randn(3, generator=rng)) for name in ("a", "b")}
    schedule = Schedule.model_validate({"learning_rate": 0.5, **settings})
    return ScheduledOptimizer(named, schedule, total, decoupled=decoupled)


def _gradients(step: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(100 + step)
    return [torch.randn(3, generator=rng) for _ in range(2)]


def _rates(optimizer: ScheduledOptimizer) -> list[float]:
    return [optimizer.learning_rate(step) for step in range(TOTAL)]


def test_warm_up_rises_to_the_peak_and_wastes_no_step() -> None:
    rates = _rates(_optimizer(schedule="linear", warmup=0.1))
    assert rates[:10] == pytest.approx([0.5 * (step + 1) / 10 for step in range(10)])
    assert max(rates) == 0.5


def test_linear_falls_to_zero_after_the_last_step() -> None:
    optimizer = _optimizer(schedule="linear", warmup=0.1)
    rates = _rates(optimizer)
    assert rates[10:] == pytest.approx([0.5 * (TOTAL - step) / 90 for step in range(10, TOTAL)])
    assert rates[-1] > 0
    assert optimizer.learning_rate(TOTAL) == 0


def test_constant_stays() -> None:
    assert _rates(_optimizer(schedule="constant", warmup=0.0)) == [0.5] * TOTAL


def test_cosine_falls_along_half_a_wave() -> None:
    rates = _rates(_optimizer(schedule="cosine", warmup=0.0))
    assert rates == pytest.approx([0.25 * (1 + math.cos(math.pi * step / TOTAL)) for step in range(TOTAL)])


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_stage_of_one_step_learns(schedule: str) -> None:
    assert _optimizer(1, schedule=schedule, warmup=0.06).learning_rate(0) == 0.5


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("total", [1, 2, 9])
def test_where_nothing_comes_after_the_warm_up_its_last_step_is_at_the_peak(schedule: str, total: int) -> None:
    optimizer = _optimizer(total, schedule=schedule, warmup=0.97)
    assert [optimizer.learning_rate(step) for step in range(total)] == [0.5 * (i + 1) / total for i in range(total)]


@pytest.mark.parametrize(("decoupled", "kind"), [(True, torch.optim.AdamW), (False, torch.optim.Adam)])
def test_steps_are_those_of_torchs_optimiser(decoupled: bool, kind: type[torch.optim.Adam]) -> None:
    ours = _optimizer(schedule="linear", warmup=0.1, weight_decay=0.1, decoupled=decoupled)
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours.named.values()]
    reference = kind(theirs, lr=0.5, weight_decay=0.1)
    for step in range(5):
        ours.apply(_gradients(step), step)
        for parameter, gradient in zip(theirs, _gradients(step), strict=True):
            parameter.grad = gradient
        reference.param_groups[0]["lr"] = ours.learning_rate(step)
        reference.step()
    for mine, other in zip(ours.named.values(), theirs, strict=True):
        assert torch.allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("most", [0.5, 100.0])
def test_long_gradients_are_shortened_together_as_torch_does_it(most: float) -> None:
    rng = torch.Generator().manual_seed(0)
    named = {name: torch.nn.Parameter(torch.randn(3, generator=rng)) for name in ("a", "b")}
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in named.values()]
    ours = ScheduledOptimizer(named, Weights(learning_rate=0.5, schedule="constant", max_grad_norm=most), TOTAL)
    reference = torch.optim.AdamW(theirs, lr=0.5, weight_decay=0.0)
    for step in range(5):
        ours.apply(_gradients(step), step)
        for parameter, gradient in zip(theirs, _gradients(step), strict=True):
            parameter.grad = gradient
        length = torch.nn.utils.clip_grad_norm_(theirs, most)
        assert ours.norms is not None
        torch.testing.assert_close(ours.norms[0], length)  # what is watched is the whole gradient
        reference.param_groups[0]["lr"] = ours.learning_rate(step)
        reference.step()
    for mine, other in zip(ours.named.values(), theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_moments_are_zero_before_the_first_step_and_torchs_after_it() -> None:
    optimizer = _optimizer()
    assert all(torch.equal(m, torch.zeros(3)) for moments in optimizer.moments() for m in moments)
    optimizer.apply(_gradients(0), 0)
    first, second = optimizer.moments()
    for m, v, g in zip(first, second, _gradients(0), strict=True):
        assert torch.allclose(m, 0.1 * g)
        assert torch.allclose(v, 0.001 * g**2)


@pytest.mark.parametrize("done", [0, 1, 4])
def test_a_loaded_optimiser_goes_on_bit_for_bit(done: int) -> None:
    whole, first = _optimizer(weight_decay=0.1), _optimizer(weight_decay=0.1)
    for step in range(8):
        whole.apply(_gradients(step), step)
    for step in range(done):
        first.apply(_gradients(step), step)
    saved = {name: tensor.clone() for name, tensor in first.state().items()}
    second = _optimizer(weight_decay=0.1)
    for parameter in second.named.values():
        parameter.data.zero_()
    second.load(saved)
    for step in range(done, 8):
        second.apply(_gradients(step), step)
    assert whole.state().keys() == second.state().keys()
    assert all(torch.equal(tensor, second.state()[name]) for name, tensor in whole.state().items())


def test_loading_copies() -> None:
    optimizer = _optimizer()
    optimizer.apply(_gradients(0), 0)
    saved = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    kept = {name: tensor.clone() for name, tensor in saved.items()}
    optimizer.load(saved)
    optimizer.apply(_gradients(1), 1)
    assert all(torch.equal(saved[name], kept[name]) for name in kept)


def test_no_gradient_is_left_behind() -> None:
    optimizer = _optimizer()
    optimizer.apply(_gradients(0), 0)
    assert all(parameter.grad is None for parameter in optimizer.named.values())


def test_new_parameters_begin_without_state_under_a_warm_up() -> None:
    optimizer = _optimizer(schedule="linear", warmup=0.1)
    before = _rates(_optimizer(schedule="linear", warmup=0.1))
    for step in range(30):
        optimizer.apply(_gradients(step), step)
    old, new = optimizer.named["b"], torch.nn.Parameter(torch.ones(2, 2))
    moments = {key: value.clone() for key, value in optimizer.optimizer.state[old].items()}
    optimizer.renew({"a": new, "b": old}, 30)
    assert list(optimizer.optimizer.state) == [old]
    assert all(torch.equal(value, moments[key]) for key, value in optimizer.optimizer.state[old].items())
    rates = [optimizer.learning_rate(step) for step in range(30, TOTAL)]
    factors = [min(1.0, (i + 1) / 10) for i in range(TOTAL - 30)]
    assert rates == pytest.approx([rate * factor for rate, factor in zip(before[30:], factors, strict=True)])
    optimizer.apply([torch.ones(2, 2), torch.ones(3)], 30)
    assert int(optimizer.optimizer.state[new]["step"]) == 1
    assert int(optimizer.optimizer.state[old]["step"]) == 31
    assert torch.allclose(new, 1 - torch.tensor(rates[0]), atol=0.02)  # Adam's first step, weight decay apart
    assert set(optimizer.state()) == {
        f"{name}{key}" for name in "ab" for key in ("", "#step", "#exp_avg", "#exp_avg_sq")
    }


def test_an_optimizer_is_mended_in_its_groups() -> None:
    first, second, third = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    groups = [{"params": [("first", first), ("second", second)]}, {"params": [("third", third)], "lr": 0.2}]
    optimizer = torch.optim.Adam(groups, lr=0.1)
    (first.sum() + second.sum() + third.sum()).backward()
    optimizer.step()
    new = torch.nn.Parameter(torch.ones(3))
    mend(optimizer, {first: new, second: None})
    assert [group["params"] for group in optimizer.param_groups] == [[new], [third]]
    assert [group["param_names"] for group in optimizer.param_groups] == [["first"], ["third"]]
    assert list(optimizer.state) == [third]
    optimizer.zero_grad()
    new.sum().backward()
    optimizer.step()
    assert torch.allclose(new, torch.tensor(0.9))


def test_an_optimiser_that_cannot_be_mended_is_refused() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    check_held(torch.optim.SGD([weight], lr=0.1), {"a": weight}, "make a new one")
    with pytest.raises(UserError, match=r"^the optimizer is an LBFGS, whose history .*; make a new one$"):
        check_held(torch.optim.LBFGS([weight]), {"a": weight}, "make a new one")


def test_who_keeps_the_list_of_a_group_sees_what_is_mended() -> None:
    old, new = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = torch.optim.SGD([old], lr=0.1)
    kept = optimizer.param_groups[0]["params"]
    mend(optimizer, {old: new})
    assert kept[0] is new
