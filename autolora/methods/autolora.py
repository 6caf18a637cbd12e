"""AutoLoRA itself (``autolora``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.allocation.budget import Kept
from autolora.allocation.components import components_of, factors_of, pairs
from autolora.allocation.evidence import Evidence
from autolora.allocation.rises import Rises
from autolora.allocation.store import evidence_identity
from autolora.context.base import Context
from autolora.context.fit import check_fit
from autolora.context.steps import run_in, timed
from autolora.errors import UserError
from autolora.lora.adapter import save_adapter
from autolora.lora.parameters import trainable_parameters
from autolora.lora.ranks import Ranks, threshold_of
from autolora.methods.bilevel import bilevel_search, divide, validation_examples
from autolora.methods.measure import measured_gates, rises_of, sample, steps_to_measure, with_measuring
from autolora.methods.peft import RankedLora
from autolora.methods.readout import read_out
from autolora.methods.searched import EVIDENCE, belong_to, fill, head_state, keep, kept_evidence, kept_head
from autolora.methods.sharing import note_found, taken_over
from autolora.model.load import base_name, weights_hash
from autolora.plots import rank_map, selection
from autolora.recipe.method import budget_of
from autolora.recipe.schema import Recipe
from autolora.runs.manifest import device_record
from autolora.training.batches import Example
from autolora.training.finetune import Training
from autolora.training.log import MetricLog

LOSSES = 13  # that a tolerance measures, roughly: log2 of a thousand components, and three


class AutoLora(RankedLora):
    """Ranks by bilevel search (paper, section 3), as the recipe's search and ranks sections say.

    With a budget of the method's own, its components are chosen by their saliency.
    """

    shards = True

    @classmethod
    @override
    def effective(cls, recipe: Recipe) -> Recipe:
        if not recipe.method.budget.given:
            return recipe
        rule = {"score": "saliency", "rule": "budget", "budget": recipe.method.budget}
        return recipe.model_copy(update={"ranks": recipe.ranks.model_copy(update=rule)})

    @classmethod
    @override
    def search_workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        recipe, measured = cls.effective(recipe), cls.measured_examples(recipe, examples)
        steps = recipe.search.total_steps(examples - validation_examples(recipe, examples))
        return steps, steps_to_measure(measured, recipe)

    @classmethod
    @override
    def measured_examples(cls, recipe: Recipe, examples: int) -> int:
        recipe = cls.effective(recipe)
        measured = min(validation_examples(recipe, examples) or examples, recipe.ranks.examples)
        return measured if recipe.ranks.score == "fisher" else 0

    @classmethod
    @override
    def measured_losses(cls, recipe: Recipe) -> int:
        return LOSSES if budget_of(cls.effective(recipe)).tolerance is not None else 0

    @classmethod
    @override
    def workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        searched, measured = cls.search_workload(recipe, examples)
        return searched, measured + recipe.retrain.total_steps(examples)

    @override
    def search(self, context: Context) -> Ranks:
        folder, identity = self.run.path / "search", self.search_identity(context)
        if not belong_to(folder, identity) and not taken_over(self.run, context, identity):
            found, head = self.find(context)
            note_found(self.run)
            if context.main:
                keep(folder, found, head, identity)
            context.compute.wait()
        evidence = self.evidence(context)  # as the file has it, whoever made it
        with timed(self.run, "search"):
            ranks = read_out(evidence, self.recipe, lambda: self.rises(context, evidence), self.rearrange)
        if context.main:
            ranks.save(folder / "ranks.json")
            _figures(folder, ranks, MetricLog(folder / "log.jsonl").records())
        if ranks.targets and (context.main or context.compute.sharded):  # a shared base takes all to load
            adapted, _ = self.filled(ranks, context.model(), context, evidence)
            if context.main:
                save_adapter(adapted, folder / "adapter", *base_name(context.pretrained))
        return ranks

    def search_identity(self, context: Context) -> str:
        """A hash of what the evidence depends on, and ranks that are read off it do not.

        Args:
            context: Of the run.
        """
        parts = self.search_parts(self.run.recipe)
        assert parts is not None
        return context.identity(*parts)

    @classmethod
    @override
    def search_parts(cls, recipe: Recipe) -> list[object] | None:
        recipe = cls.effective(recipe)
        measured = recipe.ranks.examples if recipe.ranks.score == "fisher" else 0
        return ["search", recipe.search.model_dump(mode="json", exclude={"threshold"}), measured]

    def find(self, context: Context) -> tuple[Evidence, Mapping[str, Tensor]]:
        """Learn the selection variables; what is known of the components afterwards, and the head's tensors.

        Args:
            context: Of the run.
        """
        model, head = self._begun(context)
        stage, total = bilevel_search(context, model, head, self.recipe.search)
        layers = stage.layers
        run_in(self.run, context, "search", stage, self.recipe.search, total)
        counts = trainable_parameters(model, head)
        wanted = sum(sum(p.numel() for p in layer.trained()) for layer in layers.values())
        if counts["trainable_parameters"] - counts["head_parameters"] != wanted:
            raise RuntimeError(f"the search trained {counts}, where its selection layers have {wanted} parameters")
        passes = stage.gradients.counted()
        rule, components = stage.ranks().rule, components_of(layers)
        gates = None
        if self.recipe.ranks.score == "fisher":
            with timed(self.run, "search"):
                measured = self.measured(context)
                gates = measured_gates(context, model, layers, components, measured, self.recipe)
                passes = with_measuring(passes, len(measured), self.recipe)
        self.run.note("search", **counts, steps=total, **passes)
        columns = {name: pairs(factors_of(name, layer)) for name, layer in layers.items()}
        evidence = Evidence(components, gates, rule["selection"], rule.get("saliency", {}), columns)
        return evidence, head_state(model, head)

    def measured(self, context: Context) -> list[Example]:
        """The training examples that Fisher information and rises are measured on: some that V is not trained on.

        Args:
            context: Of the run.
        """
        examples = context.examples(self.recipe.data.splits.train)
        _, validation = divide(examples, self.recipe.search, self.recipe.seed)
        return sample(validation, self.recipe)

    def rearrange(self, kept: Kept, values: Mapping[str, Tensor], evidence: Evidence) -> Kept:
        """What a control makes of the components that were chosen, of the same size.

        Args:
            kept: Their indices by layer.
            values: The components' scores.
            evidence: Of the search.
        """
        return kept

    def _begun(self, context: Context) -> tuple[PreTrainedModel, list[str]]:
        """The pretrained model, checked and noted, and its head."""
        model = context.model()
        check_fit(context, model, context.examples(self.recipe.data.splits.train))
        head = context.head(model)
        self.run.note(
            "search",
            data=context.hashes,
            model=weights_hash(model, head),
            device=device_record(context.compute.device, context.compute.precision),
            target_modules=context.targets(model),
        )
        return model, head

    def rises(self, context: Context, evidence: Evidence) -> Rises:
        """What measures the rise of the loss, on the model with all components that the score values.

        Args:
            context: Of the run.
            evidence: Of the search.
        """
        components = evidence.of(self.recipe.ranks.score)
        ranks = self.given(
            {name: max(1, len(each)) for name, each in components.items()},
            {name: each.shape for name, each in components.items()},
        )
        adapted, _ = self.filled(ranks, context.model(), context, evidence)
        return rises_of(context, adapted, components, self.measured(context), self.recipe)

    def filled(
        self, ranks: Ranks, model: PreTrainedModel, context: Context, evidence: Evidence
    ) -> tuple[PeftModel, Mapping[str, Tensor]]:
        """The model with what the search has trained of the kept components, and the head's state.

        Args:
            ranks: With the kept components, or without: all of them.
            model: Its layers are replaced in place.
            context: Of the run.
            evidence: Of the search.
        """
        modules, head = context.head(model), kept_head(self.run.path / "search")
        adapted = self.at_ranks(ranks, model, modules, context)
        fill(adapted, ranks, evidence.of(self.recipe.ranks.score), head, modules)
        return adapted, head

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        if self.recipe.retrain.start == "scratch":
            return super().adapt(model, head, context, total)
        adapted, _ = self.filled(self.run.ranks(), model, context, self.evidence(context))
        return Training(adapted)

    def evidence(self, context: Context) -> Evidence:
        """The search's, which must have been made.

        Args:
            context: Of the run.

        Raises:
            UserError: It is not there, or it is another search's.
        """
        found = kept_evidence(self.run.path / "search", self.search_identity(context))
        if found is None:
            raise UserError(
                f"{self.run.path / 'search'} holds no search of these settings, data and model to go on from; "
                f"run: autolora search {self.run.path} --resume"
            )
        return found

    @override
    def identity(self) -> list[object]:
        if self.recipe.retrain.start == "scratch":
            return super().identity()
        searched = evidence_identity(self.run.path / "search" / EVIDENCE)  # what it goes on from
        return [*super().identity(), "searched", searched, self.run.ranks().to_json()["kept"]]


def _figures(folder: Path, ranks: Ranks, log: Sequence[Mapping[str, Any]]) -> None:
    rank_map.save_png(ranks, ranks.initial_rank, folder / "ranks.png")
    if log and "selection" in log[-1]:
        selection.save_png(log, folder / "selection.png", threshold=threshold_of(ranks))
