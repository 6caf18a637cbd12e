"""Saliency against autograd with respect to the selection variables themselves, at V'."""

from __future__ import annotations

import pytest

from tests.bilevel.tiny_saliency import check_saliency
from tests.bilevel.tiny_stage import tiny_stage

ESTIMATORS = ["first_order", "forward_difference", "central_difference", "exact"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_is_minus_a_times_the_gradient_of_a_at_the_step(estimator: str) -> None:
    model, stage = tiny_stage(estimator=estimator, dropout=0.1)
    check_saliency(model, stage, steps=3)


def test_a_resumed_search_goes_on_with_it() -> None:
    whole, resumed = tiny_stage()[1], tiny_stage()[1]
    for step in range(4):
        whole.advance(step)
    first = tiny_stage()[1]
    for step in range(2):
        first.advance(step)
    resumed.load({name: tensor.clone() for name, tensor in first.state().items()})
    for step in range(2, 4):
        resumed.advance(step)
    assert resumed.ranks().rule["saliency"] == whole.ranks().rule["saliency"]


def test_one_level_has_none() -> None:
    stage = tiny_stage(meta_learning=False)[1]
    stage.advance(0)
    assert "saliency" not in stage.ranks().rule
