"""What an adapter would train, against what a recipe says: LoRA on the targets, the head's modules, and nothing else.

PEFT matches the modules that it trains in full by the end of their names, and for some families adds names of its own
(``classifier``, ``score``): with a head ``classifier`` it trains DistilBERT's ``pre_classifier`` too. So the adapter is
built beforehand, without weights, and looked at:

    faults = adapter_faults(model, targets, head, "SEQ_CLS")
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from peft import get_peft_model
from torch import nn
from transformers import PreTrainedModel

from autolora.lora.adapter import base_name, lora_layers, uses_conv1d
from autolora.lora.config import exact_type, lora_config
from autolora.lora.parameters import in_head, trainable_parameters
from autolora.lora.ranks import Ranks
from autolora.lora.targets import in_modules


def head_faults(model: nn.Module, head: Sequence[str]) -> Iterator[str]:
    """What is wrong with a head: a module of it lies in another one, or shares its weights with something else.

    Args:
        model: The pretrained model with its task head.
        head: Full names of the head's modules.
    """
    for name in head:
        for outer in head:
            if name != outer and in_modules(name, [outer]):
                yield f"model.head: {name} lies in {outer}, which is trained as a whole; leave {name} out"
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for module in head:
        shared = [other for tied in names.values() if any(in_modules(n, [module]) for n in tied) for other in tied]
        if others := [name for name in shared if not in_modules(name, [module])]:
            yield (
                f"model.head: {module} is tied to {', '.join(others)}, which would be trained along; leave {module} "
                "out (LoRA needs no head here), or take a model whose weights are not tied"
            )


def target_faults(targets: Sequence[str], head: Sequence[str]) -> Iterator[str]:
    """What is wrong with the layers that get LoRA: one lies in the head, which is trained in full.

    Args:
        targets: Full names of the layers.
        head: Full names of the head's modules.
    """
    if inside := [name for name in targets if in_modules(name, head)]:
        yield (
            f"model.target_modules: {', '.join(inside)} {'lies' if len(inside) == 1 else 'lie'} in the head "
            f"({', '.join(head)}), which is trained in full; name the layers by more of their names, or change "
            "model.head"
        )


def rank_faults(shapes: Mapping[str, tuple[int, int]], field: str, rank: int) -> Iterator[str]:
    """What is wrong with a rank: a layer has fewer inputs or outputs.

    Args:
        shapes: (input, output) features of the layers by full name.
        field: Where the recipe says the rank.
        rank: It.
    """
    if small := {name: min(shape) for name, shape in shapes.items() if min(shape) < rank}:
        name, side = min(small.items(), key=lambda item: item[1])
        more = f" and {len(small) - 1} more" if len(small) > 1 else ""
        yield f"{field}: rank {rank} is above the smaller side of {name} ({side}){more}; lower it to {side} or less"


def adapter_faults(
    model: PreTrainedModel, targets: Sequence[str], head: Sequence[str], task_type: str | None
) -> Iterator[str]:
    """What an adapter of these layers and this head would train beside them, or leave out. The model stays as it is.

    Args:
        model: The pretrained model with its task head.
        targets: Full names of the layers.
        head: Full names of the head's modules.
        task_type: PEFT's name of the task family.
    """
    ranks = Ranks(dict.fromkeys(targets, 1), 1, 1.0)
    transposed = uses_conv1d(model, targets)
    config = lora_config(ranks, head=head, task_type=task_type, fan_in_fan_out=transposed)
    exact_type(model, config)
    with torch.random.fork_rng(devices=[]):  # the search draws the same numbers whether this was asked or not
        try:
            adapted = get_peft_model(without_weights(model), config)
        except ValueError as error:
            yield f"model.target_modules: PEFT makes no adapter of them: {error}"
            return
    yield from trained_faults(adapted, targets, head)


def trained_faults(adapted: nn.Module, targets: Sequence[str], head: Sequence[str]) -> Iterator[str]:
    """What an adapted model trains beside LoRA on the targets and the head, or leaves out.

    Args:
        adapted: In PEFT's wrapping.
        targets: Full names of the layers.
        head: Full names of the head's modules.
    """
    found = set(lora_layers(adapted))
    if missing := [name for name in targets if name not in found]:
        yield f"model.target_modules: PEFT would leave out {', '.join(missing)}; leave them out, or name the head anew"
    beside = dict.fromkeys(_owner(name) for name, p in adapted.named_parameters() if p.requires_grad)
    if extra := [name for name in beside if name not in targets and not in_head(f"{name}.", head)]:
        yield (
            f"model.head: PEFT, which matches names by their ends, would train {', '.join(extra)} too, beside "
            f"{', '.join(head) or 'no head'}; name exactly what is to be trained: "
            f"model.head: [{', '.join((*extra, *head))}]"
        )
    trained = {base_name(name).split(".modules_to_save.")[0] for name in _trained(adapted)}
    if frozen := [name for name in head if not any(in_modules(t, [name]) for t in trained)]:
        yield f"model.head: PEFT would not train {', '.join(frozen)}; leave it out, or name the modules in it"


def factors_cost(rank: int, inputs: int, outputs: int) -> int:
    """Parameters of a layer's factors A and B.

    Args:
        rank: Of the layer.
        inputs: Its features.
        outputs: Likewise.
    """
    return rank * (inputs + outputs)


def counted_parameters(
    adapted: nn.Module, ranks: Ranks, head: Sequence[str], cost: Callable[[int, int, int], int] = factors_cost
) -> dict[str, int]:
    """How many parameters an adapter trains, counted from its tensors, which must be those that the ranks give.

    Args:
        adapted: In PEFT's wrapping, after its training.
        ranks: That it was made for.
        head: Full names of the head's modules.
        cost: What is trained of a layer, by its rank, inputs and outputs.

    Returns:
        As `trainable_parameters`.

    Raises:
        RuntimeError: Something else was trained.
    """
    counts = trainable_parameters(adapted, head)
    faults = list(trained_faults(adapted, ranks.targets, head))
    layers: dict[str, Any] = {**lora_layers(adapted)}
    wanted = sum(cost(ranks[name], layer.in_features, layer.out_features) for name, layer in layers.items())
    if (found := counts["trainable_parameters"] - counts["head_parameters"]) != wanted:
        faults.append(f"{found} LoRA parameters were trained, where the ranks give {wanted}")
    if faults:
        raise RuntimeError("; ".join(faults))
    return counts


def _trained(adapted: nn.Module) -> list[str]:
    return [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]


def _owner(parameter: str) -> str:
    """The full name, in the model itself, of the module that a trained parameter was made for."""
    name = re.split(r"\.lora_|\.modules_to_save\.", base_name(parameter))
    return name[0] if len(name) > 1 else name[0].rpartition(".")[0]


def without_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a model on torch's meta device: its modules and shapes, its ties, no weights.

    Args:
        model: It stays as it is.
    """
    memo: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    made = copy.deepcopy(model, memo)
    for name, module in list(made.named_modules()):  # bitsandbytes' packs carry what an empty tensor does not
        if isinstance(module, nn.Linear) and not module.weight.is_floating_point():
            plain = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
            made.set_submodule(name, plain)
    return made
