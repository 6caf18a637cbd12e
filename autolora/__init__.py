"""autolora: a LoRA rank for every layer, found by meta-learning (AutoLoRA, NAACL 2024).

    import autolora

    result = autolora.run("quickstart")                   # search, retrain and evaluate a recipe
    ranks = autolora.find_ranks(model, train, validation, loss, autolora.Search(steps=200))
    ranks = autolora.squeeze(peft_model, batches, budget=0.5)    # of a LoRA in training, in place
    ranks = autolora.compress("adapter", 0.5, "smaller")  # of one on disk, without its model and without data
    found = autolora.compare("quickstart", "autolora,lora:4", seeds=range(3))
    answers = autolora.predict(result, [{"sentence": "A new one."}])
    autolora.merge("my-adapter", "merged")    # base model and adapter as one, for transformers alone

What is named here is imported when it is used: importing autolora itself imports nothing.
"""

TYPE_CHECKING = False  # as typing's, whose import would cost more than all of this module
if TYPE_CHECKING:
    from typing import Any

    from autolora.adapters.compress import compress
    from autolora.allocation.squeeze import squeeze
    from autolora.bilevel.find import find_ranks
    from autolora.comparison.api import compare
    from autolora.comparison.compare import Comparison
    from autolora.errors import RecipeError, RunError, UserError
    from autolora.experiment.api import run, search
    from autolora.experiment.merge import merge
    from autolora.experiment.predict import predict
    from autolora.experiment.preflight import load_recipe
    from autolora.experiment.ranks import other_ranks
    from autolora.lora.ranks import Ranks
    from autolora.metrics.base import Metric, Output, Score
    from autolora.recipe.schema import Recipe, Search
    from autolora.runs.results import Result

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "Metric",
    "Output",
    "Ranks",
    "Recipe",
    "RecipeError",
    "Result",
    "RunError",
    "Score",
    "Search",
    "UserError",
    "compare",
    "compress",
    "find_ranks",
    "load_recipe",
    "merge",
    "other_ranks",
    "predict",
    "run",
    "search",
    "squeeze",
]

_PLACES = {
    "Comparison": "autolora.comparison.compare",
    "Metric": "autolora.metrics.base",
    "Output": "autolora.metrics.base",
    "Ranks": "autolora.lora.ranks",
    "Recipe": "autolora.recipe.schema",
    "RecipeError": "autolora.errors",
    "Result": "autolora.runs.results",
    "RunError": "autolora.errors",
    "Score": "autolora.metrics.base",
    "Search": "autolora.recipe.schema",
    "UserError": "autolora.errors",
    "compare": "autolora.comparison.api",
    "compress": "autolora.adapters.compress",
    "find_ranks": "autolora.bilevel.find",
    "load_recipe": "autolora.experiment.preflight",
    "merge": "autolora.experiment.merge",
    "other_ranks": "autolora.experiment.ranks",
    "predict": "autolora.experiment.predict",
    "run": "autolora.experiment.api",
    "search": "autolora.experiment.api",
    "squeeze": "autolora.allocation.squeeze",
}


def __getattr__(name: str) -> "Any":
    if name not in _PLACES:
        raise AttributeError(f"module 'autolora' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
