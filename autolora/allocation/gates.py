"""The derivative of the log-likelihood to a gate on every component, example by example.

| symbol | meaning | shape |
|---|---|---|
| g | gates; the model is that of g = 1 | (examples, components) |
| σ_i, u_i, v_i | component i of a layer, see `autolora.allocation.components` | |
| x_t, δ_t | the layer's input, and the gradient of the loss at its output, at position t | (n,), (m,) |
| c | ∂/∂g of -log p(ŷ | x), ŷ drawn from p(. | x): c_i = σ_i Σ_t (v_i · x_t)(u_i · δ_t) | (examples, components) |
| F_i | Fisher information of gate i, Σ c_i² over examples / units | (components,) |

A hook adds Σ_i (g_i - 1) σ_i u_i (v_i · x_t) to the layer's output, at g = 1 exactly zero, and autograd gives ∂/∂g: the
calls of a module that is called several times are summed before anything is squared, and a hook that gradient
checkpointing calls twice counts once. The same hook closes gates (g = 0) without a change of any weight.

Closing a set D of gates raises the loss per unit by about Σ_examples (Σ_{i in D} c_i)² / (2 units), with cross terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autolora.allocation.components import Components
from autolora.allocation.passes import evaluating
from autolora.allocation.rows import Rows
from autolora.causes import loaded
from autolora.errors import RunError, UserError
from autolora.training.batches import load_of_batch
from autolora.training.sampling import Sampled
from autolora.training.seeds import derive, generator

MEASURING = "Fisher information was measured"  # what is being done, should memory be short


class SampledLoss(Protocol):
    """The loss of a batch at targets drawn from the model's own prediction."""

    def __call__(self, batch: Any, draws: torch.Generator) -> Sampled:
        """Σ -log p(ŷ | x) over the batch's units, ŷ ~ p(. | x).

        Args:
            batch: Whatever the model takes.
            draws: A CPU generator.
        """


@dataclass(frozen=True)
class Gates:
    """What was measured.

    Args:
        derivatives: c, (examples, components), float64 on the CPU; components in the order of the layers.
        sizes: Number of components by layer.
        units: What the loss is averaged over, in these examples: examples, or labelled positions.
        scale: What a nat is in the units of the training loss; 2 where it is (f - y)² instead of half of that.
    """

    derivatives: Tensor
    sizes: Mapping[str, int]
    units: int
    scale: float = 1.0

    def fisher(self) -> dict[str, Tensor]:
        """F of every layer's components, (q,) each."""
        found = self.derivatives.square().sum(0) / self.units
        return dict(zip(self.sizes, torch.split(found, list(self.sizes.values())), strict=True))

    def rise(self, kept: Mapping[str, Sequence[int]]) -> float:
        """By how much the mean loss is predicted to rise when all other components are dropped.

        Args:
            kept: Indices of components by layer.
        """
        dropped = torch.ones(self.derivatives.shape[1], dtype=torch.bool)
        begin = 0
        for name, size in self.sizes.items():
            dropped[[begin + i for i in kept[name]]] = False
            begin += size
        sums = self.derivatives[:, dropped].sum(1)
        return self.scale * float(sums.square().sum()) / (2 * self.units)


def measure_gates(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    components: Mapping[str, Components],
    batches: Iterable[tuple[Any, Rows]],
    loss: SampledLoss,
    *,
    seed: int = 0,
    exact: bool = True,
) -> Gates:
    """The derivatives of every example; the model's weights, gradients and mode are as before afterwards.

    The passes are in evaluation mode, without dropout.

    Args:
        model: Whatever the loss calls, on its device.
        layers: The LoRA layers by full module name.
        components: Of these layers, by the same names.
        batches: Each with what its rows are.
        loss: The summed sampled loss of a batch.
        seed: Of the draws.
        exact: As of `autolora.allocation.passes.evaluating`.

    Raises:
        UserError: There is no batch, a layer's inputs cannot be told apart by example, or nothing depends on the gates.
        RunError: A loss or a derivative is not finite.
    """
    found: list[Tensor] = []
    units, scale = 0, 1.0
    with evaluating(model, exact=exact):
        for i, (batch, rows) in enumerate(batches):
            draws = generator(derive(seed, "gates", i))
            with loaded({"done": MEASURING, **load_of_batch(batch)}):
                derivatives, sampled = _derivatives(layers, components, batch, rows, partial(loss, draws=draws))
            found.append(derivatives)
            units, scale = units + sampled.units, sampled.scale
    if not units:
        raise UserError("there is no example to measure the components on")
    if sum(map(len, components.values())) and not any(bool(each.any()) for each in found):
        raise UserError(
            "the prediction depends on none of the components: every derivative to their gates is zero, and nothing "
            "can be chosen by that; make sure that the model calls its LoRA layers (nn.MultiheadAttention takes the "
            "weights of its out_proj, and leaves the layer out), and that its prediction is what the likelihood says"
        )
    return Gates(torch.cat(found), {name: len(each) for name, each in components.items()}, units, scale)


def _derivatives(
    layers: Mapping[str, nn.Module],
    components: Mapping[str, Components],
    batch: Any,
    rows: Rows,
    sampled_loss: Callable[[Any], Sampled],
) -> tuple[Tensor, Sampled]:
    """(examples, components) of one batch, and its loss."""
    gates = {
        name: torch.ones(rows.count, len(components[name]), dtype=_dtype(layer), device=_weight(layer).device)
        for name, layer in layers.items()
    }
    for gate in gates.values():
        gate.requires_grad_()
    with gated(layers, components, gates, rows), torch.enable_grad():
        sampled = sampled_loss(batch)
        if not sampled.loss.isfinite():
            raise RunError("the loss of the model's own prediction is not finite: the training has diverged")
        # A layer that this batch does not reach, an expert's for instance, has a derivative of zero.
        grads = [torch.zeros_like(gate) for gate in gates.values()]
        if sampled.loss.requires_grad:
            with torch.autocast(sampled.loss.device.type, enabled=False):  # which is for the pass forward, torch says
                grads = list(torch.autograd.grad(sampled.loss, list(gates.values()), materialize_grads=True))
    found = torch.cat([grad.cpu().double() for grad in grads], dim=1)
    if not found.isfinite().all():
        raise RunError("a derivative of the model's own prediction is not finite: the training has diverged")
    return found, sampled


@contextmanager
def gated(
    layers: Mapping[str, nn.Module],
    components: Mapping[str, Components],
    gates: Mapping[str, Tensor],
    rows: Rows | None = None,
) -> Iterator[None]:
    """Inside, every component of these layers is multiplied by its gate.

    Args:
        layers: By full module name.
        components: By the same names.
        gates: (examples, q) by the same names; (q,) without `rows`: the same for all.
        rows: Which example a row of the layers' inputs belongs to.
    """
    with ExitStack() as stack:
        for name, layer in layers.items():
            if len(components[name]):
                hook = _hook(name, layer, components[name], gates[name], rows)
                stack.callback(layer.register_forward_hook(hook).remove)
        yield


@contextmanager
def closed(
    layers: Mapping[str, nn.Module], components: Mapping[str, Components], kept: Mapping[str, Sequence[int]]
) -> Iterator[None]:
    """Inside, the model is as if every other component had been dropped.

    Args:
        layers: By full module name.
        components: By the same names.
        kept: Indices of the components that stay, by the same names.
    """
    gates = {}
    for name, layer in layers.items():
        gates[name] = torch.zeros(len(components[name]), dtype=_dtype(layer), device=_weight(layer).device)
        gates[name][list(kept[name])] = 1.0
    with gated(layers, components, gates):
        yield


def _hook(
    name: str, layer: nn.Module, components: Components, gate: Tensor, rows: Rows | None
) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    v = components.v.T.to(gate)  # (q, n)
    scaled = (components.u * components.sigma).to(gate)  # (m, q), σ in it

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        x = inputs[0]
        by_row = gate if rows is None else rows.spread(gate, x.shape[:-1], name)
        with torch.autocast(x.device.type, enabled=False):  # where the model needs it, the gates don't
            update = F.linear((by_row - 1) * F.linear(x.to(v.dtype), v), scaled)
        return output + update.to(output.dtype)

    return hook


def _weight(layer: nn.Module) -> Tensor:
    """A tensor of the layer's own, for its device and precision."""
    return next(parameter for name, parameter in layer.named_parameters() if "lora_A" in name)


def _dtype(layer: nn.Module) -> torch.dtype:
    return torch.promote_types(_weight(layer).dtype, torch.float32)
