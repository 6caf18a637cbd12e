"""Which components of a stored adapter stay: one budget over all layers, by the spectrum alone.

| symbol | meaning |
|---|---|
| σ_li | singular value i of module l's update s B A |
| share | Σ of kept σ² over Σ of all σ², the share of the updates' energy (their squared Frobenius norms) that stays |

    readings = Choice.of(adapter)
    kept = readings.within("keep=0.99").kept

Without data nothing better is known of a component than its energy. Components are taken in the order of σ² / (n + m),
which `autolora.allocation.budget` has, so that a size keeps the most energy, up to one component.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autolora.adapters.stored import StoredAdapter
from autolora.allocation.budget import Budget, Kept, by_layer, choose, in_order, size
from autolora.errors import UserError
from autolora.recipe.plain_yaml import values
from autolora.words import did_you_mean

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)  # of the parameters: the curve
SHARES = (0.9, 0.99, 0.999)  # of the energy: likewise
KINDS = ("fraction", "parameters", "rank", "keep")
Given = Budget | float | str | Mapping[str, float]


@dataclass(frozen=True)
class Reading:
    """What a budget keeps.

    Args:
        budget: Its value by its kind.
        kept: Indices of components by module.
        parameters: Of what is kept, Σ r (n + m).
        share: Of the energy.
    """

    budget: Mapping[str, float]
    kept: Kept
    parameters: int
    share: float

    @property
    def ranks(self) -> dict[str, int]:
        """How many components are kept, by module."""
        return {name: len(each) for name, each in self.kept.items()}


@dataclass(frozen=True)
class Choice:
    """What the components of an adapter are worth.

    Args:
        adapter: It.
        energies: σ² by module, in descending order.
    """

    adapter: StoredAdapter
    energies: Mapping[str, Tensor]
    values: Mapping[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        found = {name: self._value(name, each) for name, each in self.energies.items()}
        object.__setattr__(self, "values", found)

    @classmethod
    def of(cls, adapter: StoredAdapter) -> Choice:
        """Decompose every module, one after the other, and note the singular values.

        Args:
            adapter: It.

        Raises:
            UserError: A value is not finite, or every update is zero.
        """
        energies = {name: adapter.spectrum(name).square() for name in adapter.modules}
        total = float(sum(each.sum() for each in energies.values()))
        if not math.isfinite(total):
            raise UserError(f"{adapter.file.path}: its updates are too large for numbers")
        if not total:
            raise UserError(f"{adapter.file.path}: every update is zero, nothing has been trained; nothing to compress")
        return cls(adapter, energies)

    @property
    def total(self) -> float:
        """Σ σ²."""
        return math.fsum(value for each in self.energies.values() for value in each.tolist())

    def within(self, given: Given) -> Reading:
        """What a budget keeps.

        Args:
            given: A fraction of the parameters, ``"keep=0.99"``, ``{"rank": 4}``, …

        Raises:
            UserError: There is no such budget, or it keeps nothing.
        """
        budget = read_budget(given)
        if "keep" in budget:
            kept = self._keeping(budget["keep"])
        else:
            bound = Budget.of(budget)
            kept = choose(self.values, self.adapter.costs, bound.limit(self.adapter.costs, self.adapter.parameters))
        self._check(kept, budget)
        share = math.fsum(self._energy(name, i) for name, each in kept.items() for i in each) / self.total
        return Reading(budget, kept, size(kept, self.adapter.costs), share)

    def row(self) -> list[Reading]:
        """The curve of size against the share kept, of the budgets that keep something; the smallest first."""
        found = []
        for budget in ({kind: each} for kind, row in (("fraction", FRACTIONS), ("keep", SHARES)) for each in row):
            try:
                found.append(self.within(budget))
            except UserError:  # it does not buy a component
                continue
        return sorted(found, key=lambda reading: reading.parameters)

    def _value(self, name: str, energies: Tensor) -> Tensor:
        """The energies; infinite for what stays at any price."""
        if not self.adapter.modules[name].pinned:
            return energies
        return torch.cat([energies.new_tensor([math.inf]), energies[1:]])

    def _energy(self, name: str, i: int) -> float:
        return float(self.energies[name][i]) if i < len(self.energies[name]) else 0.0

    def _keeping(self, share: float) -> Kept:
        """The shortest beginning of the order that has the share: what is behind it has at most 1 - share."""
        order = in_order(self.values, self.adapter.costs)
        allowed, left = (1 - share) * self.total, 0.0
        while order and math.isfinite(float(self.values[order[-1][0]][order[-1][1]])):
            left += self._energy(*order[-1])
            if left > allowed:
                break
            order.pop()
        return by_layer(order, self.values)

    def _check(self, kept: Kept, budget: Mapping[str, float]) -> None:
        said = ", ".join(f"{kind}={value:g}" for kind, value in budget.items())
        if lost := [name for name, each in kept.items() if self.adapter.modules[name].pinned and not each]:
            raise UserError(
                f"budget {said} is too small: {lost[0]} must keep a component, as the adapter has more than LoRA on it "
                f"(DoRA's magnitudes, a bias, trained tokens); the {self._pinned} such modules need parameters="
                f"{sum(each.cost for each in self.adapter.modules.values() if each.pinned)}"
            )
        if not any(kept.values()):
            least = min(self.adapter.costs.values())
            raise UserError(f"budget {said} keeps nothing: a component has {least} parameters at least; raise it")

    @property
    def _pinned(self) -> int:
        return sum(each.pinned for each in self.adapter.modules.values())


def read_budget(given: Given) -> dict[str, float]:
    """A budget as it is written, by its kind.

    Args:
        given: ``0.5`` (a fraction), ``"rank=4"``, ``{"keep": 0.99}``, a `Budget`.

    Raises:
        UserError: There is no such kind, or its value is out of its range.
    """
    found = _by_kind(given)
    if "tolerance" in found:
        raise UserError(
            "budget tolerance is the rise of a loss, which takes data to measure; without data take keep=0.99, the "
            "share of the updates' energy that stays"
        )
    if unknown := [kind for kind in found if kind not in KINDS]:
        near = did_you_mean(str(unknown[0]), KINDS)
        raise UserError(
            f"budget: there is no kind {str(unknown[0])[:80]!r}{f'; {near}' if near else ''}; write 0.5 (a fraction of "
            "the parameters), parameters=100000, rank=4 or keep=0.99"
        )
    if "keep" not in found:
        return dict(Budget.of(found).given)
    share = found["keep"]
    if len(found) > 1 or isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise UserError(f"budget keep: must be a number above 0 and up to 1, alone, got {str(given)[:80]!r}")
    return {"keep": float(share)}


def _by_kind(given: Given) -> dict[str, float]:
    if isinstance(given, Budget):
        return dict(given.given)
    if isinstance(given, Mapping):
        return dict(given)
    if not isinstance(given, str):
        return {"fraction": given}
    kind, equals, number = given.partition("=")
    kind, number = (kind.strip(), number) if equals else ("fraction", given)
    try:
        return {kind: values(number)}
    except ValueError:
        return {kind: number}  # type: ignore[dict-item]  # whoever checks it says so
