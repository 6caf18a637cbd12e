"""No search at all: uniform LoRA, cut down after its training by its spectrum (``svd``).

Every layer's update is decomposed on its k x k core, and the components with the largest squared singular value per
parameter are kept, all layers together, within one budget: the recipe's, or AutoLoRA's, of the same recipe and seed.
`size` is the rank before; it is k where none is given. Nothing is trained afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import cast

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.allocation.budget import choose
from autolora.allocation.components import components_of
from autolora.allocation.compress import ranks_of
from autolora.allocation.evidence import Evidence
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.lora.adapter import lora_layers
from autolora.methods.base import method_of
from autolora.methods.budgets import Budgeted
from autolora.methods.peft import RankedLora
from autolora.methods.searched import fill, head_state
from autolora.recipe.schema import MethodSettings, Recipe
from autolora.registry import SCORES
from autolora.runs.store import Run
from autolora.training.finetune import Training

SCORE = "spectrum"


class Svd(Budgeted, RankedLora):
    """A uniform LoRA's own training, and its cost, with the ranks found afterwards."""

    searches, trains = False, False

    @classmethod
    @override
    def needs(cls, recipe: Recipe) -> tuple[MethodSettings, ...]:
        return *super().needs(recipe), _uniform(recipe)

    @override
    def check(self) -> None:
        for settings in self.needs(self.recipe):
            self.base_run(settings)

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        uniform = self.base_run(_uniform(self.recipe))
        begun = time.monotonic()
        trained = method_of(uniform).load(context.model(), context)
        components = components_of(cast("Mapping[str, nn.Module]", lora_layers(trained)))
        values: dict[str, Tensor] = SCORES.load(SCORE)(Evidence(components))
        shapes = {name: each.shape for name, each in components.items()}
        costs, budget = {name: each.cost for name, each in components.items()}, self.parameter_budget(shapes)
        kept = choose(values, costs, budget)
        if not any(kept.values()):
            raise UserError(
                f"svd: the budget of {budget} parameters is smaller than one component of any layer; raise it"
            )
        ranks = ranks_of(components, kept, score=SCORE, budget={"parameters": budget})
        adapted = self.at_ranks(ranks, model, head, context)
        fill(adapted, ranks, components, head_state(cast(PeftModel, trained), head), head)
        self._add_cost(uniform, time.monotonic() - begun)
        ranks.save(self.run.path / "retrain" / "ranks.json")
        return Training(adapted)

    def _add_cost(self, uniform: Run, seconds: float) -> None:
        """What the uniform LoRA's training took is this method's cost too."""
        spent = uniform.manifest()["stages"]["retrain"]
        kept = ("steps", "forward_passes", "backward_passes", "peak_memory_mib")
        self.run.note(
            "retrain", seconds=round(spent["seconds"] + seconds, 2), **{key: spent[key] for key in kept if key in spent}
        )


def _uniform(recipe: Recipe) -> MethodSettings:
    """The uniform LoRA that is cut down."""
    rate = recipe.method.learning_rate if recipe.method.name == "svd" else None
    size = recipe.method.size if recipe.method.name == "svd" else None
    targets = recipe.method.targets if recipe.method.name == "svd" else None
    return MethodSettings(name="lora", size=size or recipe.search.rank, learning_rate=rate, targets=targets)
