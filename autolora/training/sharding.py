"""The frozen base shared out over the processes (FSDP2): ``shard(model, whole, compute)``, before adapters are put on.

| symbol | meaning |
|---|---|
| N | processes |
| P | parameters of the base |
| V, z | what is trained: A, B, the head; selection logits |

Each process keeps a share of every frozen tensor, P / N values in all. A block's tensors are gathered before its pass
and let go after it, and once more in the backward pass; what no block has (norms, a language model's output
embeddings) is gathered for the whole of both. V and z are not shared out: every process has all of them, as where the
base is whole. So a search that moves V to V' or to V ± εv moves the same plain tensors in place, by the same numbers,
and puts them back exactly; nothing of the base is moved. Gathering copies bits: a pass computes what it computes with
the whole base.

A pass takes all processes: each must make as many as the others, see `autolora.training.batches.Batch.idle` and
`autolora.evaluation.in_step`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from autolora.errors import UserError

NEEDS = (2, 7)  # torch, in which single parameters can be left whole


def launch_faults() -> Iterator[str]:
    """What was asked of accelerate that is not done, each with what to write instead; its launcher sets variables."""
    for flag, name in (("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM")):
        if parse_flag_from_env(flag):
            yield f"accelerate: {name} is not supported; share the base out with --use_fsdp --fsdp_version 2"
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return
    if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        yield f"accelerate: FSDP version {version} is not supported; add --fsdp_version 2 (fsdp_version: 2 in its file)"
    for flag, option, instead in (
        ("FSDP_OFFLOAD_PARAMS", "--fsdp_offload_params", "leave it out, and take more processes"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "--fsdp_activation_checkpointing", "set model.gradient_checkpointing: true"),
    ):
        if parse_flag_from_env(flag):
            yield f"accelerate: {option} is not supported; {instead}"
    if (policy := os.environ.get("FSDP_AUTO_WRAP_POLICY", "")) not in ("", "TRANSFORMER_BASED_WRAP"):
        yield f"accelerate: FSDP's {policy} is not supported; leave it out: blocks are shared out one by one"
    if os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP") or os.environ.get("FSDP_IGNORED_MODULES"):
        yield "accelerate: which modules FSDP shares out is not to be chosen here; leave it out: it is every block"
    if parse_flag_from_env("PARALLELISM_CONFIG_ENABLED") or parse_flag_from_env("ACCELERATE_USE_PARALLELISM_CONFIG"):
        yield "accelerate: a parallelism config is not supported; FSDP2 over all processes is; leave it out"
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < NEEDS:
        yield f"accelerate: FSDP2 needs torch {NEEDS[0]}.{NEEDS[1]}, and this is {torch.__version__}"


def shard(model: nn.Module, whole: Collection[str], device: torch.device, processes: int) -> None:
    """Share a frozen model out over the processes and put it on the device, in place; all of them call it at once.

    Its blocks are moved one at a time: the device never holds more than the shares and one of them.

    Args:
        model: On the CPU, without adapters; what is trained of it is named in `whole`, the rest is frozen from now on.
        whole: Full names of modules that every process keeps, the task's head.
        device: This process's.
        processes: How many there are.

    Raises:
        UserError: It has no blocks that are known as such.
    """
    from torch.distributed.device_mesh import init_device_mesh

    blocks = blocks_of(model)
    if not blocks:
        raise UserError(
            f"accelerate: {type(model).__name__} has no blocks that FSDP could share out; train it without --use_fsdp"
        )
    heads = [model.get_submodule(name) for name in whole]
    kept = {parameter for head in heads for parameter in head.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in kept and parameter.requires_grad)
    kept |= {parameter for parameter in model.parameters() if parameter.ndim == 0}  # nothing to share out
    for head in heads:
        head.to(device)
    mesh = init_device_mesh(device.type, (processes,))
    let_go = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() not in ("false", "no_reshard")
    for block in [*blocks, *own_embeddings(model)]:
        _fully_shard(block, mesh=mesh, ignored_params=kept, reshard_after_forward=let_go)
    _fully_shard(model, mesh=mesh, ignored_params=kept)


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor of a model as it is without shares; of one that is shared out, all processes ask at once.

    Args:
        tensor: A parameter or buffer.
    """
    gather = getattr(tensor, "full_tensor", None)
    found: Tensor = tensor if gather is None else gather()
    return found


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The layers that transformers can checkpoint, and none inside another.

    Args:
        model: Of transformers, without adapters.
    """
    found = {name: each for name, each in model.named_modules() if isinstance(each, GradientCheckpointingLayer)}
    inner = {name for name in found for other in found if name.startswith(f"{other}.")}
    return [each for name, each in found.items() if name not in inner]


def own_embeddings(model: Any) -> list[nn.Module]:
    """The input embeddings where nothing else has their weight: they need not be there in the backward pass.

    Args:
        model: Of transformers.

    Returns:
        One module or none.
    """
    module = model.get_input_embeddings()
    weight = getattr(module, "weight", None)
    owners = [each for each in model.modules() if any(p is weight for p in each._parameters.values())]
    return [module] if isinstance(weight, nn.Parameter) and owners == [module] else []


def _fully_shard(module: nn.Module, **settings: Any) -> None:
    """As torch's, but the module's class keeps its name: adapters say of which class their model is."""
    from torch.distributed.fsdp import fully_shard

    own: Any = type(module)
    fully_shard(module, **settings)
    kind: Any = type(module)
    kind.__name__, kind.__qualname__, kind.__module__ = own.__name__, own.__qualname__, own.__module__
