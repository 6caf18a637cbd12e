"""How many components, and which: one budget of parameters over all layers.

| symbol | meaning |
|---|---|
| n_l, m_l | input and output features of layer l; a component of it has n_l + m_l parameters |
| r_l | components kept of layer l |
| value | a component's score |

Components are taken in the order of value / (n_l + m_l), all layers together, each that still fits, until
Σ r_l (n_l + m_l) can grow no more within the budget. With a tolerance the budget is found: the least number of
components in that order for which the loss, measured, rises by no more than allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from autolora.errors import RunError, UserError

Kept = dict[str, tuple[int, ...]]
"""Indices of the components that stay, ascending, by layer; every layer is in it."""


@dataclass(frozen=True)
class Budget:
    """One of four ways to say how large the result may be.

    Args:
        fraction: Of the parameters that there are, in (0, 1].
        parameters: Of all factors together, from 1.
        rank: As many parameters as this rank everywhere has: r Σ (n_l + m_l), from 1.
        tolerance: The rise of the loss that is accepted, as a share of what the LoRA has gained, above 0.

    Raises:
        UserError: None or several of them are given, or one is out of its range.
    """

    fraction: float | None = None
    parameters: int | None = None
    rank: int | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if len(self.given) != 1:
            names = ", ".join(each.name for each in fields(self))
            raise UserError(f"a budget is one of {names}, got {self.given or 'none'}")
        value: Any
        ((name, value),) = self.given.items()
        whole = name in ("parameters", "rank")
        right = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if not right or not math.isfinite(value) or not value > 0 or (name == "fraction" and value > 1):
            rule = {"fraction": "a number above 0 and up to 1", "tolerance": "a number above 0"}
            raise UserError(f"budget {name}: must be {rule.get(name, 'a whole number from 1')}, got {value!r}")
        if type(value) not in (int, float):  # NumPy's, which JSON does not know
            object.__setattr__(self, name, int(value) if whole else float(value))

    @property
    def given(self) -> dict[str, float]:
        """What it is, by the name of its kind."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}

    @classmethod
    def of(cls, given: Budget | float | Mapping[str, float]) -> Budget:
        """A budget as it is written: itself, a fraction, or ``{"rank": 1}``.

        Raises:
            UserError: It is something else.
        """
        if isinstance(given, Budget):
            return given
        if isinstance(given, Mapping):
            if unknown := [name for name in given if name not in {each.name for each in fields(cls)}]:
                raise UserError(
                    f"a budget is one of {', '.join(each.name for each in fields(cls))}, got {unknown[0]!r}"
                )
            return cls(**given)  # type: ignore[arg-type]  # checked above and there
        return cls(fraction=given)

    def limit(self, costs: Mapping[str, int], full: int) -> int:
        """Parameters that the result may have.

        Args:
            costs: n_l + m_l by layer.
            full: Parameters that there are now.

        Raises:
            UserError: It is a tolerance, whose size has to be found.
        """
        if self.fraction is not None:
            return math.floor(self.fraction * full + 1e-9)  # 0.1 of 30 is 3, whatever floats say
        if self.parameters is not None:
            return self.parameters
        if self.rank is not None:
            return self.rank * sum(costs.values())
        raise UserError("the size within a tolerance is found by measuring; it has no limit beforehand")


def in_order(values: Mapping[str, Tensor], costs: Mapping[str, int]) -> list[tuple[str, int]]:
    """(layer, index) of every component, the one with the largest value per parameter first.

    Args:
        values: (components,) by layer.
        costs: Parameters of one component, by layer.

    Raises:
        RunError: A value is not a number; an infinite one says that a component stays.
    """
    worth = {name: [value / costs[name] for value in each.tolist()] for name, each in values.items()}
    if wrong := [name for name, each in worth.items() if any(math.isnan(value) for value in each)]:
        raise RunError(f"{wrong[0]}: a component's score is not a number: the training has diverged")
    every = [(name, i) for name, each in worth.items() for i in range(len(each))]
    return sorted(every, key=lambda place: -worth[place[0]][place[1]])  # stable: ties in the model's order


def choose(values: Mapping[str, Tensor], costs: Mapping[str, int], limit: int) -> Kept:
    """The components that the budget buys, greedily by value per parameter, skipping what no longer fits.

    Args:
        values: (components,) by layer.
        costs: Parameters of one component, by layer.
        limit: Parameters in all.
    """
    left, taken = limit, []
    for name, i in in_order(values, costs):
        if costs[name] <= left:
            taken.append((name, i))
            left -= costs[name]
    return by_layer(taken, values)


def by_layer(taken: Sequence[tuple[str, int]], layers: Mapping[str, object]) -> Kept:
    """Indices by layer, ascending.

    Args:
        taken: (layer, index).
        layers: All of them, in the model's order.
    """
    found: dict[str, list[int]] = {name: [] for name in layers}
    for name, i in taken:
        found[name].append(i)
    return {name: tuple(sorted(each)) for name, each in found.items()}


def size(kept: Mapping[str, Sequence[int]], costs: Mapping[str, int]) -> int:
    """Parameters of the kept components, Σ r_l (n_l + m_l).

    Args:
        kept: Indices by layer.
        costs: Parameters of one component, by layer.
    """
    return sum(len(each) * costs[name] for name, each in kept.items())


def smallest(
    values: Mapping[str, Tensor], costs: Mapping[str, int], allowed: float, rise: Callable[[Kept], float]
) -> Kept:
    """The smallest beginning of the order that the loss allows, by bisection (log2 of the components' number of calls).

    The rise is taken to fall with every component that is added; where it does not quite, the result is a beginning
    that is allowed, next to one that is not.

    Args:
        values: (components,) by layer.
        costs: Parameters of one component, by layer.
        allowed: Rise of the loss that is accepted, in its own units.
        rise: Measures it for kept components.

    Returns:
        At least one component.
    """
    order = in_order(values, costs)
    low, high = 0, len(order)  # nothing is not enough, everything is
    while high - low > 1:
        middle = (low + high) // 2
        if rise(by_layer(order[:middle], values)) <= allowed:
            high = middle
        else:
            low = middle
    return by_layer(order[:high], values)
