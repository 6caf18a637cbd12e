"""What a pass takes beside weights, found without any: ``pass_bytes(config, auto_class, work)``.

The architecture's own code is run, forward and backward, on tensors that have shapes and no values, and the bytes that
are alive are counted. So whatever an architecture, an attention kernel, autocast, dropout or gradient checkpointing
keeps is in it. Blocks recur: a deep model is run with the shortest row of them that has every kind, and with two such
rows, and the difference is that of a row.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from autolora.allocation.rows import Rows
from autolora.errors import UserError
from autolora.lora.frozen import narrow
from autolora.lora.selection import SelectionLoRA, add_selection
from autolora.lora.targets import head_modules, matches
from autolora.tasks.hidden_states import HiddenStates, taken_apart
from autolora.tasks.logits import full_precision
from autolora.tasks.token_loss import WHOLE, Labelled, chunk_rows, summed
from autolora.training.gradients import twice_differentiable_attention
from autolora.training.live import LiveBytes
from autolora.training.recompute import recompute_layers

DEPTH = ("num_hidden_layers", "num_layers", "n_layer", "num_decoder_layers", "encoder_layers", "decoder_layers")


@dataclass(frozen=True)
class Work:
    """What is run.

    Args:
        examples: Of a micro-batch.
        tokens: Of an example.
        targets: The layers with LoRA, names for `target_modules`, or for all linear ones of the backbone None.
        rank: k.
        dropout: Of LoRA's input.
        weights: "float32" or "bfloat16", what the base is computed from.
        autocast: Whether the pass is in bfloat16.
        gradient_checkpointing: Whether blocks are run again in the backward pass.
        new_head: Whether the task's head is trained.
        gates: Whether the derivatives of gates are measured, example by example, in evaluation mode.
        twice: Whether the gradient has a graph, too, for a second derivative.
        chunked: Whether large logits are made a chunk at a time.
        forward_only: Whether nothing is trained: one pass without gradients, in evaluation mode.
    """

    examples: int
    tokens: int
    targets: tuple[str, ...]
    rank: int
    dropout: float = 0.0
    weights: str = "float32"
    autocast: bool = False
    gradient_checkpointing: bool = False
    new_head: bool = False
    gates: bool = False
    twice: bool = False
    chunked: bool = True
    forward_only: bool = False


@dataclass(frozen=True)
class PassBytes:
    """What is alive of a pass beside the model.

    Args:
        kept: What the forward pass keeps for the backward pass, logits left out.
        peak: The most at any time, gradients among it.
    """

    kept: int
    peak: int


def pass_bytes(config: Any, auto_class: str, work: Work) -> PassBytes:
    """A forward and a backward pass of a model with LoRA.

    Args:
        config: Transformers', of the model.
        auto_class: Of transformers, with the task's head.
        work: What is run.

    Raises:
        UserError: The model's code cannot be run without values.
    """
    depth, row = depth_of(config), row_of(config)
    if depth is None or depth <= 2 * row:
        return _run(config, auto_class, work)
    one, two = (_run(at_depth(config, each), auto_class, work) for each in (row, 2 * row))
    more = (depth - 2 * row) / row
    return PassBytes(round(two.kept + more * (two.kept - one.kept)), round(two.peak + more * (two.peak - one.peak)))


def row_of(config: Any) -> int:
    """How many blocks, from the first on, have every kind of block that there is.

    Args:
        config: Transformers'.
    """
    kinds = list(getattr(config, "layer_types", None) or [None])
    return max(kinds.index(kind) for kind in set(kinds)) + 1


def depth_of(config: Any) -> int | None:
    """How many blocks a model has; None where its configuration does not say it as others do, or means two numbers.

    Args:
        config: Transformers'.
    """
    given = {name: value for name in DEPTH if isinstance(value := getattr(config, name, None), int)}
    return next(iter(given.values())) if len(set(given.values())) == 1 else None


def at_depth(config: Any, depth: int) -> Any:
    """A configuration of as many blocks; the first ones where they differ.

    Args:
        config: Transformers'; it stays as it is.
        depth: How many.
    """
    made = copy.deepcopy(config)
    for name in DEPTH:
        if isinstance(getattr(made, name, None), int):
            setattr(made, name, depth)
    for name, value in list(vars(made).items()):
        if isinstance(value, list | tuple) and len(value) == depth_of(config):  # the kind of every block
            setattr(made, name, value[:depth])
    return made


def _run(config: Any, auto_class: str, work: Work) -> PassBytes:
    try:
        with torch.random.fork_rng(devices=[]), FakeTensorMode(), _unlogged():
            model = _built(config, auto_class, work)
            return _counted(model, work)
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise UserError(
            f"the passes of {config.model_type} cannot be counted without its weights: its code asks for values "
            f"({str(error).splitlines()[0][:200]})"
        ) from error


@contextmanager
def _unlogged() -> Iterator[None]:
    """Inside, torch writes no traceback of its own of what the error says, too."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


def _built(config: Any, auto_class: str, work: Work) -> Any:
    model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32)
    if work.weights != "float32":  # as the base is kept, see `autolora.model.kept`
        narrow(model, getattr(torch, work.weights), head_modules(model, None) if work.new_head else [])
    modules = [name for name, _ in model.named_modules()]
    targets = [name for name in work.targets if any(matches(module, name) for module in modules)]  # it may be cut short
    layers = add_selection(model, targets, rank=work.rank, dropout=0 if work.gates else work.dropout, constraint="none")
    if work.new_head:
        for name in head_modules(model, None):
            model.get_submodule(name).requires_grad_(True)
    if work.gradient_checkpointing:
        recompute_layers(model)
    model.train(not work.gates and not work.forward_only)
    return _gated(model, layers, work) if work.gates else model


def _gated(model: Any, layers: dict[str, SelectionLoRA], work: Work) -> Any:
    """As `autolora.allocation.gates` measures: hooks with a gate for every example and component."""
    model.gates = []
    rows = Rows(work.examples, work.examples, frozenset({work.tokens}))
    for name, layer in layers.items():
        for parameter in layer.trained():
            parameter.requires_grad_(False)
        gate = torch.ones(work.examples, work.rank, requires_grad=True)
        n, m = layer.shape
        model.gates.append((gate, torch.ones(work.rank, n), torch.ones(m, work.rank)))
        layer.register_forward_hook(_hook(name, rows, *model.gates[-1]))
    return model


def _hook(name: str, rows: Rows, gate: Tensor, v: Tensor, scaled: Tensor) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        by_row = rows.spread(gate, inputs[0].shape[:-1], name)  # a pooler sees (examples, features)
        return output + F.linear((by_row - 1) * F.linear(inputs[0].to(v.dtype), v), scaled).to(output.dtype)

    return hook


def _counted(model: Any, work: Work) -> PassBytes:
    ids = torch.ones(work.examples, work.tokens, dtype=torch.long)
    if work.forward_only:
        return _forward(model, ids)
    wrt = [p for p in model.parameters() if p.requires_grad]
    wrt = [gate for gate, _, _ in model.gates] if work.gates else wrt
    attention = twice_differentiable_attention() if work.twice else nullcontext()
    with LiveBytes(model) as live:
        with _autocast(work), attention:
            loss, kept = _loss(model, ids, work, live)
        gradients = torch.autograd.grad(loss, wrt, create_graph=work.twice, materialize_grads=True)
        if work.twice:
            torch.autograd.grad(torch.stack([each.sum() for each in gradients]).sum(), wrt, materialize_grads=True)
    return PassBytes(kept, live.peak)


def _forward(model: Any, ids: Tensor) -> PassBytes:
    """The hidden states of all blocks, and logits where the model has a head of its own; of what generates, none."""
    body = model.get_decoder() if model.get_output_embeddings() is not None else model
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        body, inputs["decoder_input_ids"] = model, ids
    with LiveBytes(model) as live, torch.no_grad():
        body(**inputs)
    return PassBytes(0, live.peak)


def _autocast(work: Work) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if work.autocast and not work.gates else nullcontext()


def _loss(model: Any, ids: Tensor, work: Work, live: LiveBytes) -> tuple[Tensor, int]:
    """The loss with all positions labelled, and the bytes alive before there are logits."""
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    module = model.get_output_embeddings()
    if module is None:
        logits = full_precision(model(**inputs).logits)
        kept = live.now
        return logits.logsumexp(-1).sum(), kept
    found = taken_apart(model, module, {**inputs, "use_cache": False}, checked=False)
    if not isinstance(found, HiddenStates):
        raise UserError(f"{type(model).__name__} {found}, so that the memory of its passes is not known")
    kept, targets = live.now, ids.flatten()
    classes = model.config.get_text_config(decoder=True).vocab_size
    hidden = found.hidden.flatten(0, 1)
    if work.chunked and 4 * targets.numel() * classes > WHOLE:
        labelled = Labelled(hidden, found.head, chunk_rows(classes))
        return summed(labelled, lambda logits, of: F.cross_entropy(logits, targets[of], reduction="sum")), kept
    return F.cross_entropy(found.head.logits(hidden), targets, reduction="sum"), kept
