"""What a search leaves for whoever reads ranks off it or trains on from it: evidence, and the trained head.

| file | what |
|---|---|
| search/evidence.safetensors | components, and what is known of them (`autolora.allocation.evidence`) |
| search/head.safetensors | the head's tensors, with their optimiser's state where the same training goes on |

Both are whole once the first is there, which is written last. It carries the identity of the search: settings, data,
model and seed in one hash. A search of the same identity is not made again, wherever its files come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor, nn

from autolora.allocation.components import Components
from autolora.allocation.evidence import Evidence
from autolora.allocation.store import evidence_identity, load_evidence, save_evidence
from autolora.errors import UserError
from autolora.lora.adapter import PREFIX, in_adapter, set_factors
from autolora.lora.ranks import Ranks
from autolora.training.checkpoint import load_checkpoint, save_checkpoint
from autolora.training.optimizers import ScheduledOptimizer

EVIDENCE, HEAD = "evidence.safetensors", "head.safetensors"
_SAVED = "modules_to_save.default"  # where PEFT keeps what is trained in full


def keep(folder: Path, evidence: Evidence, head: Mapping[str, Tensor], identity: str) -> None:
    """Write both files.

    Args:
        folder: ``search/`` of a run.
        evidence: Of the search.
        head: From `head_state`.
        identity: Of the search.
    """
    save_checkpoint(folder / HEAD, head, {"identity": identity})
    save_evidence(evidence, folder / EVIDENCE, identity)


def kept_evidence(folder: Path, identity: str) -> Evidence | None:
    """The evidence of a search that has been made; None where it is of another one, or there is none.

    Args:
        folder: ``search/`` of a run.
        identity: Of the search.
    """
    path = folder / EVIDENCE
    return load_evidence(path) if path.exists() and evidence_identity(path) == identity else None


def belong_to(folder: Path, identity: str) -> bool:
    """Whether both files are there and of this search.

    Args:
        folder: ``search/`` of a run.
        identity: Of the search.
    """
    return all(evidence_identity(folder / name) == identity for name in (HEAD, EVIDENCE))


def kept_head(folder: Path) -> dict[str, Tensor]:
    """The head's tensors, on the CPU.

    Args:
        folder: ``search/`` of a run.

    Raises:
        UserError: There are none, or they are of another search than the evidence.
    """
    if not (folder / HEAD).exists():
        raise UserError(f"{folder / HEAD} does not exist: run autolora search {folder.parent} --resume")
    tensors, record = load_checkpoint(folder / HEAD)
    if record.get("identity") != evidence_identity(folder / EVIDENCE):
        raise UserError(
            f"{folder / HEAD} is of another search than {EVIDENCE} beside it; remove both, and run: "
            f"autolora search {folder.parent} --resume"
        )
    return tensors


def head_state(
    trained: nn.Module, head: Sequence[str], optimizer: ScheduledOptimizer | None = None
) -> dict[str, Tensor]:
    """The head's parameters and buffers by their names in the model itself.

    Args:
        trained: The model, in PEFT's wrapping or not.
        head: Full names of the head's modules.
        optimizer: Whose state of them is kept, too; it has the names that the trained model has.
    """
    wrapped = isinstance(trained, PeftModel)
    state = optimizer.state() if optimizer else {}
    found: dict[str, Tensor] = {}
    for module in head:
        inner = in_adapter(trained, module).modules_to_save["default"] if wrapped else trained.get_submodule(module)
        found |= {f"{module}.{name}": tensor for name, tensor in inner.state_dict().items()}
        there = f"{PREFIX}{module}.{_SAVED}." if wrapped else f"{module}."
        moments = {name.removeprefix(there): value for name, value in state.items() if name.startswith(there)}
        found |= {f"{module}.{name}": value for name, value in moments.items() if "#" in name}
    return found


@torch.no_grad()
def fill(
    adapted: PeftModel,
    ranks: Ranks,
    components: Mapping[str, Components],
    head: Mapping[str, Tensor],
    modules: Sequence[str],
) -> None:
    """Put kept components and the trained head into an adapter, whatever the scaling of either.

    Args:
        adapted: At these ranks.
        ranks: With the kept components, or without: all of them; what a layer lacks is zero.
        components: Of every layer.
        head: From `head_state`.
        modules: Full names of the head's modules.
    """
    for name in ranks.targets:
        each = components[name]
        kept = ranks.kept[name] if ranks.kept else tuple(range(len(each)))
        a, b = each.rescaled(ranks.scale(name)).factors(kept)
        lacking = ranks[name] - len(kept)
        set_factors(adapted, name, nn.functional.pad(a, (0, 0, 0, lacking)), nn.functional.pad(b, (0, lacking)))
    for module in modules:
        state = in_adapter(adapted, module).modules_to_save["default"].state_dict()
        for name, tensor in state.items():
            tensor.copy_(head[f"{module}.{name}"])


def restore(optimizer: ScheduledOptimizer, head: Mapping[str, Tensor], modules: Sequence[str], step: int) -> None:
    """Give an optimiser the head's state, and its warm-up from `step` on; LoRA's factors begin without any.

    Args:
        optimizer: Of an adapted model that `fill` has filled.
        head: From `head_state`, with an optimiser's state.
        modules: Full names of the head's modules.
        step: The next one, from 0.
    """
    found = dict(optimizer.state())
    for module in modules:
        there = f"{PREFIX}{module}.{_SAVED}."
        for name, value in head.items():
            if "#" in name and name.startswith(f"{module}."):
                found[there + name.removeprefix(f"{module}.")] = value
    optimizer.load(found)
    optimizer.renew(optimizer.named, step)
