"""Gradients of mean losses: micro-batches and processes add up, nothing is left behind, precision is as asked for."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from autolora.training.batches import Batch, BatchStream
from autolora.training.compute import Compute
from autolora.training.gradients import Gradients
from tests.model.tiny import collate, summed_loss, tiny_examples, tiny_searched


def _model(dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, list[Tensor], list[Tensor]]:
    """A model, its V and its z."""
    model, layers, _ = tiny_searched("bert", dropout=dropout, dtype=dtype)
    selection: list[Tensor] = [layer.selection_logits for layer in layers.values()]
    weights = [p for n, p in model.named_parameters() if p.requires_grad and not n.endswith("selection_logits")]
    return model, weights, selection


def _batch(pieces: int, process: int = 0, processes: int = 1, count: int = 8) -> Batch:
    return BatchStream(
        tiny_examples(count),
        collate,
        batch_size=8,
        seed=0,
        gradient_accumulation=pieces,
        process=process,
        processes=processes,
    ).at(0)


def _close(found: list[Tensor], truth: list[Tensor], tolerance: float = 1e-12) -> bool:
    return all(torch.allclose(f, t, rtol=1e-9, atol=tolerance) for f, t in zip(found, truth, strict=True))


def test_a_gradient_is_the_plain_gradient_of_the_mean_loss() -> None:
    model, weights, selection = _model()
    batch = _batch(1)
    loss, found = Gradients(partial(summed_loss, model)).of(batch, [*weights, *selection], 0)
    mean = summed_loss(model, batch.micro[0]) / 8
    assert float(loss) == pytest.approx(float(mean.detach()), rel=1e-6)
    assert _close(found, list(torch.autograd.grad(mean, [*weights, *selection])))
    assert not loss.requires_grad


@pytest.mark.parametrize("pieces", [2, 3, 5, 8])
@pytest.mark.parametrize("count", [8, 7])
def test_one_batch_in_one_piece_is_the_batch_in_many(pieces: int, count: int) -> None:
    model, weights, selection = _model()
    gradients = Gradients(partial(summed_loss, model))
    truth = gradients.of(_batch(1, count=count), [*weights, *selection], 0)
    found = gradients.of(_batch(pieces, count=count), [*weights, *selection], 0)
    assert float(found[0]) == pytest.approx(float(truth[0]), rel=1e-6)
    assert _close(found[1], truth[1])


@pytest.mark.parametrize("count", [8, 7, 1])
def test_the_gradients_of_two_processes_add_up(count: int) -> None:
    model, weights, _ = _model()
    gradients = Gradients(partial(summed_loss, model))
    loss, truth = gradients.of(_batch(1, count=count), weights, 0)
    shares = [gradients.of(_batch(2, process, 2, count), weights, 0) for process in range(2)]
    assert float(shares[0][0] + shares[1][0]) == pytest.approx(float(loss), rel=1e-6)
    assert _close([a + b for a, b in zip(shares[0][1], shares[1][1], strict=True)], truth)


def test_mixed_products_add_up_over_micro_batches() -> None:
    model, weights, selection = _model()
    gradients = Gradients(partial(summed_loss, model), double_backward=True)
    torch.manual_seed(0)
    vector = [torch.randn_like(w) for w in weights]
    once = gradients.mixed_product(_batch(1), weights, vector, selection, 0)
    assert float(once[0].norm()) > 0
    assert _close(gradients.mixed_product(_batch(8), weights, vector, selection, 0), once)


def test_a_mixed_product_is_the_difference_of_gradients_along_the_vector() -> None:
    model, weights, selection = _model()
    gradients = Gradients(partial(summed_loss, model), double_backward=True)
    torch.manual_seed(0)
    vector = [torch.randn_like(w) for w in weights]
    found = gradients.mixed_product(_batch(1), weights, vector, selection, 0)
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            torch._foreach_add_(weights, vector, alpha=sign * 1e-5)
        sides.append(gradients.of(_batch(1), selection, 0)[1])
        with torch.no_grad():
            torch._foreach_add_(weights, vector, alpha=-sign * 1e-5)
    truth = [(p - m) / 2e-5 for p, m in zip(*sides, strict=True)]
    assert all(float((f - t).norm() / t.norm()) < 1e-5 for f, t in zip(found, truth, strict=True))


def test_the_seed_alone_decides_the_dropout_masks() -> None:
    model, weights, _ = _model(dropout=0.3)
    gradients = Gradients(partial(summed_loss, model))
    first, again, other = (gradients.of(_batch(2), weights, seed)[1] for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_nothing_is_left_in_grad() -> None:
    model, weights, _ = _model()
    Gradients(partial(summed_loss, model)).of(_batch(2), weights, 0)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_unused_tensor_gets_zeros() -> None:
    model, weights, _ = _model()
    unused = torch.ones(3, dtype=torch.float64, requires_grad=True)
    found = Gradients(partial(summed_loss, model)).of(_batch(1), [weights[0], unused], 0)[1]
    assert torch.equal(found[1], torch.zeros(3, dtype=torch.float64))


def test_the_compute_gives_the_precision_and_full_precision_takes_it_back() -> None:
    model, weights, _ = _model(dtype=torch.float32)
    truth = Gradients(partial(summed_loss, model)).of(_batch(1), weights, 0)[1]
    bf16 = Compute("bfloat16", cpu=True)
    half = Gradients(partial(summed_loss, model), bf16)
    low, full = (half.of(_batch(1), weights, 0, full_precision=full)[1] for full in (False, True))
    assert all(torch.equal(f, t) for f, t in zip(full, truth, strict=True))
    distance = torch.cat([(g - t).flatten() for g, t in zip(low, truth, strict=True)]).norm()
    assert 1e-4 < float(distance / torch.cat([t.flatten() for t in truth]).norm()) < 0.1
    assert {g.dtype for g in low} == {torch.float32}
