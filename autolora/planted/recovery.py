"""How well ranks that were found agree with ranks that were planted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autolora.lora.ranks import Ranks


@dataclass(frozen=True)
class Recovery:
    """Of the ranks that a run was trained at.

    Args:
        auc: See `module_auc`.
        correlation: See `rank_correlation`.
        parameters: What the planted ranks cost.
    """

    auc: float | None
    correlation: float | None
    parameters: int

    def row(self) -> dict[str, float | None]:
        """Cells of a table."""
        return {"module AUC": self.auc, "rank Spearman": self.correlation}


def recovery(found: Mapping[str, int], planted: Ranks) -> Recovery:
    """How well planted ranks were recovered.

    Args:
        found: Ranks by full module name; a layer that is not there has none.
        planted: Of all layers, with their shapes.
    """
    known = {name: found.get(name, 0) for name in planted}
    return Recovery(module_auc(known, planted), rank_correlation(known, planted), planted.parameters)


def module_auc(found: Mapping[str, int], planted: Mapping[str, int]) -> float | None:
    """The probability that a layer with a planted update got more rank than one without; ties count half.

    0.5 is chance. (The area under the ROC curve of the ranks, Mann and Whitney's U / (n⁺ n⁻).)

    Args:
        found: Ranks by full module name.
        planted: Likewise, of the same layers.

    Returns:
        None where all layers have a planted update, or none has.
    """
    needed = np.array([found[name] for name, rank in planted.items() if rank])
    others = np.array([found[name] for name, rank in planted.items() if not rank])
    if not len(needed) or not len(others):
        return None
    return float((np.sign(needed[:, None] - others[None, :]) + 1).mean() / 2)


def rank_correlation(found: Mapping[str, int], planted: Mapping[str, int]) -> float | None:
    """Spearman's correlation of found and planted ranks over the layers.

    Args:
        found: Ranks by full module name.
        planted: Likewise, of the same layers.

    Returns:
        None where one of them is the same everywhere.
    """
    from scipy.stats import spearmanr  # slow to import

    pairs = [(found[name], rank) for name, rank in planted.items()]
    one, other = zip(*pairs, strict=True)
    return None if len(set(one)) < 2 or len(set(other)) < 2 else float(spearmanr(one, other).statistic)


def gap_closed(error: float, uniform: float, oracle: float) -> float | None:
    """The share of the distance from uniform to true ranks that is covered, (uniform - error) / (uniform - oracle).

    Args:
        error: Of the method.
        uniform: Of uniform ranks of the same size.
        oracle: Of the true ranks.

    Returns:
        Below 0 where it is worse than uniform; None where true ranks are no better.
    """
    return (uniform - error) / (uniform - oracle) if oracle < uniform else None
