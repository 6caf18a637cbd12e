"""From selection variables to ranks (paper, section 3.3).

    rank_l = #{ j : a_l[j] >= λ }

λ is 1/k for the softmax, 0.5 for the sigmoid, and the layer's mean of a_l where there is no constraint. Selection
variables are computed from the logits in float64, and a component that lies on the threshold up to rounding is kept:
rounding never decides, and all-equal variables keep all k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autolora.model.selection import CONSTRAINTS

_ROUNDING = 1e-9  # relative to the largest |a|; float64 softmax errs by about 1e-16, and float32 logits differ by more


@dataclass(frozen=True)
class RankMap:
    """What a search found, keyed by full module name.

    ranks: kept components of every layer; 0 where a layer needs no LoRA.
    selection: the selection variables a_l, k floats.
    keep: which of the k components are kept.
    """

    initial_rank: int
    ranks: dict[str, int]
    selection: dict[str, list[float]]
    keep: dict[str, list[bool]]


def default_threshold(constraint: str, rank: int) -> float | None:
    """λ of the constraint; None: the mean of each layer."""
    return {"softmax": 1 / rank, "sigmoid": 0.5, "none": None}[constraint]


def select(logits: Mapping[str, Tensor], constraint: str = "softmax", threshold: float | None = None) -> RankMap:
    """Ranks from logits z_l, shape (k,) each. threshold None: the constraint's own."""
    selection, keep = {}, {}
    initial_rank = 0
    for name, z in logits.items():
        a = CONSTRAINTS[constraint](z.detach().double().cpu())
        initial_rank = len(a)
        level = threshold if threshold is not None else default_threshold(constraint, len(a))
        bound = torch.as_tensor(level, dtype=a.dtype) if level is not None else a.mean()
        keep[name] = [bool(kept) for kept in a >= bound - _ROUNDING * a.abs().max()]
        selection[name] = [float(value) for value in a]
    return RankMap(initial_rank, {name: sum(kept) for name, kept in keep.items()}, selection, keep)
