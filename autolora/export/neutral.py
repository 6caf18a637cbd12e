"""``--format yaml``: the ranks for any other tool, as plain YAML. Layers of rank 0 are listed, too."""

from __future__ import annotations

from autolora.export.base import Allocation, Exported, as_yaml, number

_SCALING = {
    "constant": "The update of every layer is multiplied by lora_alpha / initial_rank.",
    "per_rank": "The update of a layer is multiplied by lora_alpha / its rank.",
    "rank_stabilised": "The update of a layer is multiplied by lora_alpha / the square root of its rank.",
}


def export(found: Allocation) -> Exported:
    """The ranks of all layers, and the scaling in words.

    Args:
        found: What is exported.
    """
    values = {
        "model": found.model,
        "revision": found.revision,
        "task_type": found.task_type,
        "initial_rank": found.ranks.initial_rank,
        "lora_alpha": number(found.ranks.lora_alpha),
        "lora_dropout": found.dropout,
        "scaling": found.ranks.scaling,
        "head": list(found.head) or None,
        "ranks": dict(found.ranks),
    }
    written = as_yaml(found, values, [_SCALING[found.ranks.scaling]])
    return Exported(written.text, found.remarks)  # what scaling means is no warning
