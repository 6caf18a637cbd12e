"""What a recipe says of how its base is kept and computed, against itself: combinations that cannot work."""

from __future__ import annotations

from collections.abc import Iterator

from autolora.errors import Fault
from autolora.experiment.model_faults import fault_at
from autolora.model.bundled import bundled
from autolora.recipe.load import Limit, Where
from autolora.recipe.schema import MethodSettings, Model, Search

DIFFERENCES = ("central_difference", "forward_difference")
BILEVEL = ("autolora", "no-constraint", "sigmoid")  # the methods that search on two levels
TWICE = "exact"  # the estimator that differentiates twice


def check_base(
    model: Model, search: Search, method: MethodSettings, where: Where, task: str | None = None, limit: Limit = None
) -> list[Fault]:
    """What excludes each other among the model's options, the method and the estimator.

    Args:
        model: The recipe's model section.
        search: Its search section.
        method: Its method section.
        where: Gives the place of a dotted field.
        task: The recipe's task family; it has no bearing on this check.
        limit: Of ranks; nor has it.
    """
    return [*_quantisation_faults(model, where), *_estimator_faults(model, method, search, where)]


def _quantisation_faults(model: Model, where: Where) -> Iterator[Fault]:
    known = bundled(model.name)
    if model.quantization is not None and known is not None and known.gguf:
        message = f"{model.name} is a GGUF file, whose weights are quantised already; they would be rounded twice"
        yield fault_at("model.quantization", message, where, "leave it out, or name the model that it was made from")


def _estimator_faults(model: Model, method: MethodSettings, search: Search, where: Where) -> Iterator[Fault]:
    if not search.selects or not search.meta_learning or method.name not in BILEVEL:
        return
    if search.weights.optimizer != "adamw" and search.inner_step == "adam":
        message = f"search.inner_step is adam, whose moments {search.weights.optimizer} does not keep in float32"
        yield fault_at("search.weights.optimizer", message, where, "write adamw, or search.inner_step: plain")
    if model.torch_compile and search.estimator == TWICE:
        message = "compiled passes cannot be differentiated twice, which search.estimator exact does"
        yield fault_at("model.torch_compile", message, where, "take another estimator")
    attention = model.attn_implementation
    if attention.startswith("flash") and search.estimator in (*DIFFERENCES, TWICE):
        why = "has no second derivative" if search.estimator == TWICE else "computes in 16 bits what is subtracted"
        message = f"{attention} {why} in search.estimator {search.estimator}"
        yield fault_at("model.attn_implementation", message, where, "write sdpa, or search.estimator: first_order")
    elif attention == "flex_attention" and search.estimator == TWICE:
        message = "flex_attention has no second derivative, which search.estimator exact takes"
        yield fault_at("model.attn_implementation", message, where, "write sdpa")
