"""What the sections search, ranks, retrain and method say that contradicts each other.

`check_pairs` is the check of a recipe; `contradictions` that of a recipe's sections with any method, for comparisons.
"""

from __future__ import annotations

from collections.abc import Callable

from autolora.errors import Fault, Found, faults_of
from autolora.recipe.method import BUDGETED, SEARCHED, SQUEEZES, beginning_share
from autolora.recipe.schema import MethodSettings
from autolora.recipe.stages import BUDGETS, OF_PAIRS, BudgetSettings, RankRule, Retrain, Search
from autolora.registry import METHODS

# With estimator: none the search is the beginning of the retraining; these say how, the others have no bearing.
OF_A_BEGINNING = ("rank", "lora_alpha", "lora_dropout", "estimator", "at")
ABOUT_SELECTION = (*SEARCHED, "shuffled")  # learn selection variables, or build on what has
ONE_OF = f"give one of {', '.join(BUDGETS)}"


def check_pairs(
    search: Search,
    ranks: RankRule,
    retrain: Retrain,
    method: MethodSettings,
    where: Callable[[str], str],
    task: str | None = None,
    limit: tuple[str, int] | None = None,
) -> list[Fault]:
    """What is wrong between the sections of a recipe.

    Args:
        search: The recipe's search section.
        ranks: Its ranks section.
        retrain: Its retrain section.
        method: Its method section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; it has no bearing on this check.
        limit: Of ranks; nor has it.
    """
    if not search.selects and method.name == "autolora":  # as the recipe has it in the end
        method = method.model_copy(update={"name": retrain.without_selection})
    found = [*contradictions(search, ranks, retrain, method), *_no_bearing(search, ranks, retrain, method)]
    return faults_of(found, where)


def contradictions(search: Search, ranks: RankRule, retrain: Retrain, method: MethodSettings) -> Found:
    """What makes a method impossible, or senseless, with a recipe's sections.

    Args:
        search: The recipe's search section.
        ranks: Its ranks section.
        retrain: Its retrain section.
        method: Any method, which need not be the recipe's own.
    """
    yield from _method(search, method)
    yield from _score(search, ranks, method)
    yield from _budget(search, ranks, method)
    if _goes_on(search, retrain, method) and retrain.scaling == "per_rank":
        said = f"per_rank would change what {_named(method)} goes on with: it was trained at lora_alpha / search.rank"
        yield "retrain.scaling", said, "take constant"
    yield from _beginning(search, retrain, method)
    if search.selects and search.weights.max_grad_norm is not None:
        said = "the search differentiates through its steps, which are not those of shortened gradients"
        yield "search.weights.max_grad_norm", said, "leave it out; retrain.weights.max_grad_norm is the retraining's"


def _method(search: Search, method: MethodSettings) -> Found:
    ours = method.name in METHODS.ours
    if not search.selects and method.name in ABOUT_SELECTION:
        said = f"none learns no selection variables, which {method.name} is about"
        yield "search.estimator", said, f"name an estimator, or take {SQUEEZES[0]}"
    if ours and method.at is not None and method.name not in SQUEEZES:
        yield "method.at", f"{method.name} squeezes nothing", f"leave it out, or take {SQUEEZES[0]}"
    if ours and method.ratio is not None and method.name != "lora-plus":
        yield "method.ratio", f"{method.name} trains A and B at one rate", "leave it out, or take lora-plus"
    if ours and method.budget.given and method.name not in BUDGETED:
        yield "method.budget", f"{method.name} has no budget", f"leave it out; these have one: {', '.join(BUDGETED)}"


def _score(search: Search, ranks: RankRule, method: MethodSettings) -> Found:
    """Of the ranks section's score and rule; the squeezes of a search with selection variables have their own."""
    if not search.selects and ranks.score in OF_PAIRS:
        said = f"{ranks.score} is of selection variables, which search.estimator: none does not learn"
        yield "ranks.score", said, "take fisher or spectrum"
    if not search.selects and ranks.rule == "threshold":
        said = "a threshold is one of selection variables, which search.estimator: none does not learn"
        yield "ranks.rule", said, "take budget"
    elif ranks.rule == "threshold" and ranks.score != "selection":
        yield "ranks.rule", f"a threshold is one of selection variables, and the score is {ranks.score}", "take budget"
    if search.selects and ranks.rule == "budget" and ranks.score == "selection":
        said = "selection variables of different layers cannot be compared, and one budget would compare them"
        yield "ranks.score", said, "take saliency, or rule: threshold"
    without = "search.meta_learning: false" if not search.meta_learning else "no-meta"
    if not search.meta_learning or method.name == "no-meta":
        if search.selects and ranks.score == "saliency":
            yield "ranks.score", f"saliency needs a validation loss, and {without} has none", "take fisher"
        if method.name == "autolora" and method.budget.given:
            yield "method.budget", f"is spent by saliency, and {without} has none", "leave it out"


def _budget(search: Search, ranks: RankRule, method: MethodSettings) -> Found:
    field, budget = _spent(ranks, method)
    spends = ranks.rule == "budget" or method.name in SQUEEZES
    if spends and not budget.given:
        needing = method.name if method.name in SQUEEZES else "ranks.rule: budget"
        yield "ranks.budget", f"missing, and {needing} needs it", ONE_OF
    k = method.size if method.name in SQUEEZES and method.size else search.rank
    chooses = method.name in SQUEEZES or (method.name in SEARCHED and (spends or method.budget.given))
    if chooses and budget.rank is not None and budget.rank > k:
        yield f"{field}.rank", f"{budget.rank} is above the rank {k} that {method.name} begins with", "lower it"
    if chooses and budget.fraction is not None and budget.fraction * search.rank > k:
        said = f"{budget.fraction:g} of rank {search.rank} is above the rank {k} that {method.name} begins with"
        yield f"{field}.fraction", said, "lower it"


def _beginning(search: Search, retrain: Retrain, method: MethodSettings) -> Found:
    """A beginning of no step, or of all, where the steps are said."""
    if method.name not in SQUEEZES or retrain.steps is None:
        return
    share = beginning_share(search, method)
    if not 0 < (begun := round(share * retrain.steps)) < retrain.steps:
        said = f"{share:g} of {retrain.steps} steps is {begun}, and what goes on and what it goes on from need a step"
        yield "search.at" if method.at is None else "method.at", said, "change it, or raise retrain.steps"


def _no_bearing(search: Search, ranks: RankRule, retrain: Retrain, method: MethodSettings) -> Found:
    """What says nothing about the one method of a recipe; in a comparison it may be for another one."""
    squeezes, (_, budget) = method.name in SQUEEZES, _spent(ranks, method)
    if search.selects and search.at != Search().at and not squeezes:
        said = "has no bearing on a search of selection variables"
        yield "search.at", said, "leave it out, or set estimator: none"
    for name in Search.model_fields if not search.selects else ():
        if name not in OF_A_BEGINNING and getattr(search, name) != getattr(Search(), name):
            said = "has no bearing with search.estimator: none: the search is the beginning of the retraining"
            yield f"search.{name}", said, "leave it out; retrain says how it trains"
    if search.selects and search.threshold is not None and ranks.rule == "budget":
        yield "search.threshold", "has no bearing with ranks.rule: budget", "leave it out"
    others = method.name in BUDGETED and method.name not in SEARCHED  # spend it whatever the search is read by
    if search.selects and (ranks.rule, ranks.score) == ("threshold", "selection") and ranks.budget.given and not others:
        yield "ranks.budget", "has no bearing with ranks.rule: threshold", "take rule: budget, or leave it out"
    if retrain.start == "searched" and retrain.scaling == "per_rank" and not _goes_on(search, retrain, method):
        yield "retrain.scaling", "per_rank cannot go with retrain.start: searched", "take constant"
    held_out = squeezes and budget.tolerance is not None
    if ranks.held_out != RankRule().held_out and budget.given and not held_out:
        said = "has no bearing: rows are held out for a tolerance, where a training is squeezed"
        yield "ranks.held_out", said, "leave it out; ranks.examples says how many rows are measured on"
    if ranks.examples != RankRule().examples and held_out:
        yield (
            "ranks.examples",
            "has no bearing with a tolerance: ranks.held_out says what is measured on",
            "leave it out",
        )


def _spent(ranks: RankRule, method: MethodSettings) -> tuple[str, BudgetSettings]:
    """The field of the budget that a method spends, and that budget."""
    return ("method.budget", method.budget) if method.budget.given else ("ranks.budget", ranks.budget)


def _goes_on(search: Search, retrain: Retrain, method: MethodSettings) -> bool:
    """Whether a method's retraining goes on from what its search has trained."""
    if method.name in SQUEEZES:
        return method.name != "fisher-scratch"
    return method.name in SEARCHED and retrain.start == "searched"


def _named(method: MethodSettings) -> str:
    return method.name if method.name in SQUEEZES else "retrain.start: searched"
