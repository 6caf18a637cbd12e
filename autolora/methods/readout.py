"""Ranks off the evidence of a search, as the recipe's ranks section says: ``read_out(evidence, recipe, …)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from autolora.allocation.budget import Budget, Kept, choose, smallest
from autolora.allocation.compress import ranks_of
from autolora.allocation.evidence import Evidence
from autolora.allocation.rises import LossRises
from autolora.errors import UserError
from autolora.lora.allocation import kept_components
from autolora.lora.idle import without_idle
from autolora.lora.ranks import Ranks
from autolora.recipe.method import budget_of, shortest
from autolora.recipe.schema import Recipe
from autolora.registry import SCORES

Rearrange = Callable[[Kept, Mapping[str, Tensor], Evidence], Kept]
"""What a control makes of the components that were chosen, of the same size: of them, their scores, the evidence."""


def read_out(
    evidence: Evidence,
    recipe: Recipe,
    measure: Callable[[], LossRises],
    rearrange: Rearrange = lambda kept, values, evidence: kept,
) -> Ranks:
    """The ranks, with the kept components.

    Args:
        evidence: Of the search.
        recipe: As the method changes it.
        measure: Gives what measures the rise of the loss; called for a tolerance only.
        rearrange: Of a control.

    Raises:
        UserError: The evidence lacks what the score needs, or the budget keeps nothing.
    """
    if recipe.ranks.rule == "threshold":
        return by_threshold(evidence, recipe)
    return by_budget(evidence, recipe, measure, rearrange)


def by_threshold(evidence: Evidence, recipe: Recipe) -> Ranks:
    """Each layer's components at or above λ (paper, section 3.3); none of a layer that the loss never reached.

    Args:
        evidence: With selection variables.
        recipe: With the search's constraint and threshold.
    """
    search = recipe.search
    kept = kept_components(evidence.selection, search.constraint, search.threshold)
    rule: dict[str, object] = {
        "constraint": search.constraint,
        "threshold": search.threshold,
        "selection": {name: list(a) for name, a in evidence.selection.items()},
    }
    if evidence.saliency:
        rule["saliency"] = {name: list(s) for name, s in evidence.saliency.items()}
    found = Ranks(
        {name: len(indices) for name, indices in kept.items()},
        initial_rank=search.rank,
        lora_alpha=search.lora_alpha,
        shapes={name: each.shape for name, each in evidence.pairs.items()},
        kept=kept,
        rule=rule,
    )
    return without_idle(found, [name for name, each in evidence.pairs.items() if not each.sigma.any()])


def by_budget(evidence: Evidence, recipe: Recipe, measure: Callable[[], LossRises], rearrange: Rearrange) -> Ranks:
    """One budget of parameters over all layers, the best score per parameter first.

    Args:
        evidence: With what the score needs.
        recipe: With score and budget.
        measure: See `read_out`.
        rearrange: See `read_out`.

    Raises:
        UserError: As `read_out`.
    """
    score, budget = recipe.ranks.score, Budget.of(budget_of(recipe).given)
    components = evidence.of(score)
    values = SCORES.load(score)(evidence)
    costs = {name: each.cost for name, each in components.items()}
    rule: dict[str, object] = {"score": score, "budget": budget_of(recipe).given}
    rises = measure() if budget.tolerance is not None else None
    if rises is not None and budget.tolerance is not None:
        kept = smallest(values, costs, budget.tolerance * rises.gain(), rises)
    else:
        kept = choose(values, costs, budget.limit(costs, recipe.search.rank * sum(costs.values())))
    kept = rearrange(kept, values, evidence)
    if not any(kept.values()):
        said = ", ".join(f"{name} {shortest(value)}" for name, value in budget_of(recipe).given.items())
        raise UserError(
            f"the budget ({said}) is smaller than one component of any layer, the smallest of which has "
            f"{min(costs.values())} parameters; raise it"
        )
    if rises is not None:
        rule["measured_rise"] = rises(kept)
    if (gates := evidence.gates_of(score)) is not None:
        rule["predicted_rise"] = gates.rise(kept)
    return ranks_of(components, kept, **rule)
