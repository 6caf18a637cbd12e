"""Layers that the loss never reaches: an unused pooler, a tower for images where there are texts only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autolora.console import warn
from autolora.errors import UserError
from autolora.lora.ranks import Ranks


def without_idle(ranks: Ranks, idle: Sequence[str]) -> Ranks:
    """No rank for layers that the loss never reached: nothing was learned of their components, which stayed equal.

    Args:
        ranks: By a threshold.
        idle: Names of those layers, whose update is still zero.

    Raises:
        UserError: There are no others.
    """
    if not idle:
        return ranks
    if len(idle) == len(ranks):
        raise UserError(f"the loss depends on none of the {len(ranks)} layers, the first of which is {idle[0]}")
    shown = ", ".join(idle[:8]) + (", …" if len(idle) > 8 else "")
    warn(f"{len(idle)} of {len(ranks)} layers get no rank, since the loss does not depend on them: {shown}")
    return replace(
        ranks,
        by_name={name: 0 if name in idle else rank for name, rank in ranks.items()},
        kept={name: () if name in idle else kept for name, kept in ranks.kept.items()},
        rule={**ranks.rule, "idle": list(idle)},
    )
