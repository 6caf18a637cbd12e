"""One rank for all layers, for tools that know no other, and what is said about it."""

from __future__ import annotations

import math

from autolora.export.base import Allocation


def nearest_uniform_rank(found: Allocation) -> int:
    """The mean rank of the layers that get LoRA, rounded (a half upwards).

    Args:
        found: What is exported.

    Raises:
        UserError: Every rank is 0.
    """
    targets = found.target_modules
    return math.floor(sum(found.ranks[name] for name in targets) / len(targets) + 0.5)


def uniform_notes(tool: str, key: str, found: Allocation, rank: int, *, instead: str, targets: str = "") -> list[str]:
    """What one rank for all layers cannot express, and what can; nothing where it is the rank of all.

    Args:
        tool: What the configuration is for.
        key: Its setting of the rank.
        found: What is exported.
        rank: From `nearest_uniform_rank`.
        instead: How the tool comes to the ranks themselves.
        targets: Its setting of the layers, where it can name them.
    """
    ranks = [found.ranks[name] for name in found.target_modules]
    if set(ranks) == {rank}:
        return []
    left_out = f" Layers of rank 0 are left out of {targets}." if targets else ""
    return [
        f"{tool} has one {key} for all layers and cannot express a rank per layer: this configuration has "
        f"the nearest uniform rank, {rank} in {len(ranks)} layers (sum {rank * len(ranks)}), instead of ranks from "
        f"{min(ranks)} to {max(ranks)} (sum {sum(ranks)}).{left_out}",
        instead,
    ]


def rounded_note(tool: str, key: str, wanted: float, alpha: int, rank: int) -> list[str]:
    """What a whole number as alpha changes; nothing where it is one.

    Args:
        tool: What the configuration is for.
        key: Its setting of alpha.
        wanted: The alpha that gives the run's scaling.
        alpha: The one that is written.
        rank: Of the layers.
    """
    if math.isclose(wanted, alpha):
        return []
    return [
        f"{tool} takes a whole number as {key}: {wanted:.4g} is rounded to {alpha}, which makes the "
        f"scaling {alpha / rank:.4g} instead of {wanted / rank:.4g}."
    ]
