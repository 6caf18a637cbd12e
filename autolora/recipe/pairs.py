"""What the sections search, ranks and retrain say that contradicts each other: `check_pairs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from autolora.errors import Fault
from autolora.recipe.method import BUDGETED, SEARCHED, SQUEEZES
from autolora.recipe.schema import MethodSettings
from autolora.recipe.stages import BUDGETS, RankRule, Retrain, Search
from autolora.registry import METHODS

# With estimator: none the search is the beginning of the retraining; these say how, the others have no bearing.
OF_A_BEGINNING = ("rank", "lora_alpha", "lora_dropout", "estimator", "at")
OF_PAIRS = ("selection", "saliency")  # scores that selection variables give

Found = Iterator[tuple[str, str, str]]
"""The dotted field, what is wrong with it, and what to do."""


def check_pairs(
    search: Search,
    ranks: RankRule,
    retrain: Retrain,
    method: MethodSettings,
    where: Callable[[str], str],
    task: str | None = None,
    limit: tuple[str, int] | None = None,
) -> list[Fault]:
    """What is wrong between the sections.

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
        method = method.model_copy(update={"name": "squeeze"})
    found = [*_search(search, method), *_ranks(search, ranks), *_start(retrain), *_method(search, ranks, method)]
    return [Fault(where(field), field, message, hint) for field, message, hint in found]


def _search(search: Search, method: MethodSettings) -> Found:
    if search.selects:
        if search.at != Search().at:
            yield (
                "search.at",
                "has no bearing on a search of selection variables",
                "leave it out, or set estimator: none",
            )
        return
    for name in Search.model_fields:
        if name not in OF_A_BEGINNING and getattr(search, name) != getattr(Search(), name):
            said = "has no bearing with search.estimator: none: the search is the beginning of the retraining"
            yield f"search.{name}", said, "leave it out; retrain says how it trains"
    if method.name in SEARCHED and method.name != "autolora":
        yield (
            "search.estimator",
            f"none learns no selection variables, which {method.name} is about",
            "name an estimator",
        )


def _ranks(search: Search, ranks: RankRule) -> Found:
    if not search.selects and ranks.score in OF_PAIRS:
        said = f"{ranks.score} is of selection variables, which search.estimator: none does not learn"
        yield "ranks.score", said, "take fisher or spectrum"
    if ranks.score == "saliency" and not search.meta_learning:
        yield "ranks.score", "saliency needs a validation loss, and search.meta_learning: false has none", "take fisher"
    if ranks.rule == "threshold":
        if ranks.score != "selection":
            yield (
                "ranks.rule",
                f"a threshold is one of selection variables, and the score is {ranks.score}",
                "take budget",
            )
        if ranks.budget.given:
            yield "ranks.budget", "has no bearing with ranks.rule: threshold", "take rule: budget, or leave it out"
    else:
        if not ranks.budget.given:
            yield "ranks.budget", "missing, and ranks.rule: budget needs it", f"give one of {', '.join(BUDGETS)}"
        if search.threshold is not None:
            yield "search.threshold", "has no bearing with ranks.rule: budget", "leave it out"
        if ranks.score == "selection":
            said = "selection variables of different layers cannot be compared, and one budget would compare them"
            yield "ranks.score", said, "take saliency, or rule: threshold"


def _start(retrain: Retrain) -> Found:
    if retrain.start == "searched" and retrain.scaling == "per_rank":
        said = "per_rank would change what retrain.start: searched goes on with: it was trained at lora_alpha / k"
        yield "retrain.scaling", said, "take constant"


def _method(search: Search, ranks: RankRule, method: MethodSettings) -> Found:
    ours = method.name in METHODS.ours
    if ours and method.at is not None and method.name not in SQUEEZES:
        yield "method.at", f"{method.name} squeezes nothing", f"leave it out, or take {SQUEEZES[0]}"
    if ours and method.budget.given and method.name not in BUDGETED:
        yield "method.budget", f"{method.name} has no budget", f"leave it out; these have one: {', '.join(BUDGETED)}"
    if method.name in SQUEEZES and not (method.budget.given or ranks.budget.given):
        yield "ranks.budget", f"missing, and {method.name} needs it", f"give one of {', '.join(BUDGETS)}"
    if method.name == "autolora" and method.budget.given and not search.meta_learning:
        yield "method.budget", "is spent by saliency, and search.meta_learning: false has none", "leave it out"
