"""The contract of a method: how it finds ranks, what it trains, how that is saved and loaded again.

A method is built from a run, whose recipe names it (``method: {name: lora, size: 4}``):

    method = method_of(run)
    method.search(context)                                # methods that find their ranks before training
    training = method.adapt(model, head, context, total)  # what the retraining trains
    method.save(training.model, head, context)
    model = method.load(context.model(), context)            # for the evaluation
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel
from typing_extensions import override

from autolora.context.base import Context
from autolora.context.fit import check_fit
from autolora.errors import UserError
from autolora.lora.adapter import add_adapter, save_adapter, uses_conv1d
from autolora.lora.config import lora_config
from autolora.lora.exact import counted_parameters
from autolora.lora.loading import adapter_shapes, check_tensors, load_adapter, peft_shapes
from autolora.lora.parameters import trainable_parameters
from autolora.lora.ranks import Ranks
from autolora.lora.targets import target_shapes
from autolora.methods.faults import explained
from autolora.model.load import base_name
from autolora.recipe.method import label
from autolora.recipe.schema import MethodSettings, Recipe, Weights
from autolora.registry import METHODS
from autolora.runs.store import Run
from autolora.training.finetune import Training

AUTOLORA = MethodSettings(name="autolora")


class Method(ABC):
    """One method on one run.

    Args:
        run: The run, whose recipe names the method.
    """

    searches: ClassVar[bool] = True  # whether there is a search stage
    trains: ClassVar[bool] = True  # whether the retraining takes steps
    adapts_layers: ClassVar[bool] = False  # whether the recipe's target modules get LoRA
    saves_model: ClassVar[bool] = False  # whether what is saved is as large as the model
    default_size: ClassVar[int | None] = None
    default_learning_rate: ClassVar[float | None] = None  # None: the recipe's

    def __init__(self, run: Run) -> None:
        self.run, self.recipe, self.settings = run, run.recipe, run.recipe.method

    @classmethod
    def needs(cls, recipe: Recipe) -> tuple[MethodSettings, ...]:
        """The methods whose runs, of the same recipe and seed, this one builds on; a comparison brings them along.

        Args:
            recipe: With this method in it.
        """
        return ()

    @classmethod  # noqa: B027  # most methods can do every recipe
    def check_recipe(cls, recipe: Recipe) -> None:
        """Make sure that this method can do a recipe; called before anything is run.

        Args:
            recipe: With this method in it.

        Raises:
            UserError: It cannot.
        """

    @classmethod
    def workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        """How many steps the method takes, for estimates of time.

        Args:
            recipe: With this method in it.
            examples: Of the training split.

        Returns:
            Search steps, and plain training steps.
        """
        return 0, recipe.retrain.total_steps(examples) if cls.trains else 0

    @classmethod
    def size_in(cls, settings: MethodSettings) -> int:
        """`method.size`, or the default of the method.

        Args:
            settings: A recipe's method section.

        Raises:
            UserError: There is neither.
        """
        size = settings.size or cls.default_size
        if size is None:
            raise UserError(f"method {settings.name!r} needs a size: {settings.name}:4, or method.size in a recipe")
        return size

    @property
    def size(self) -> int:
        """See `size_in`."""
        return self.size_in(self.settings)

    def weights(self) -> Weights:
        """The optimiser's settings of the retraining: the recipe's, at the method's own learning rate if it has one."""
        rate = self.settings.learning_rate or self.default_learning_rate
        weights = self.recipe.retrain.weights
        return weights if rate is None else weights.model_copy(update={"learning_rate": rate})

    def check(self) -> None:  # noqa: B027  # most methods need nothing
        """Make sure that what the retraining needs is there; called before it begins.

        Raises:
            UserError: Something is missing.
        """

    def search(self, context: Context) -> Ranks:
        """Find the ranks, and write them to ``search/ranks.json``.

        Args:
            context: Of the run.

        Raises:
            UserError: The method searches for nothing.
        """
        raise UserError(f"method {self.settings.name!r} searches for nothing; run: autolora retrain {self.run.path}")

    @abstractmethod
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        """The model with whatever is trained requiring gradients, the head's modules among it.

        Torch's generator is seeded.

        Args:
            model: The pretrained model, which may be changed in place.
            head: Full names of the head's modules.
            context: Of the run.
            total: The steps that it will be trained for.
        """

    def identity(self) -> list[object]:
        """What the retraining depends on beside recipe, data and model; JSON-able, part of a checkpoint's identity."""
        return [self.settings.model_dump(mode="json")]

    def parameters(self, trained: nn.Module, head: Sequence[str]) -> dict[str, int]:
        """Trained parameters of what was saved, and how many of them are the head's.

        Args:
            trained: The model that `adapt` gave, after its training.
            head: Full names of the head's modules.

        Returns:
            Manifest entries, "trainable_parameters" and "head_parameters" among them.
        """
        return trainable_parameters(trained, head)

    @abstractmethod
    def save(self, trained: nn.Module, head: Sequence[str], context: Context) -> None:
        """Write ``adapter/``; only the main process does.

        Args:
            trained: The model that `adapt` gave, after its training.
            head: Full names of the head's modules.
            context: Of the run.
        """

    @abstractmethod
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        """The pretrained model with what ``adapter/`` holds, to predict with.

        Args:
            base: The pretrained model with its new head, which may be changed in place.
            context: Of the run.

        Raises:
            UserError: What is there cannot be loaded, or does not fit.
        """

    def base_run(self, settings: MethodSettings) -> Run:
        """The run of another method that this one builds on.

        Args:
            settings: That method's, as `needs` gives them.

        Raises:
            UserError: There is none.
        """
        path = self.run.base_run(label(settings))
        if path is None:
            raise UserError(
                f"method {self.settings.name!r} builds on a run of {label(settings)} with the same recipe and seed, "
                f"which autolora compare brings along: autolora compare RECIPE --methods {label(self.settings)} "
                f"--seeds {self.recipe.seed}"
            )
        return Run.open(path)

    def learned(self) -> Ranks:
        """AutoLoRA's ranks, of the same recipe and seed."""
        return self.base_run(AUTOLORA).ranks()

    def budget(self) -> int:
        """The sum of AutoLoRA's ranks."""
        return self.learned().total


class PeftMethod(Method):
    """A method whose result is an adapter that PEFT reads."""

    @override
    def save(self, trained: nn.Module, head: Sequence[str], context: Context) -> None:
        assert isinstance(trained, PeftModel)
        save_adapter(trained, self.run.path / "adapter", *base_name(context.pretrained))

    @override
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        with explained(self.run):
            loaded = PeftModel.from_pretrained(base, self.run.path / "adapter").to(context.compute.device)
            check_tensors(self.run.path / "adapter", peft_shapes(loaded))
            return loaded

    def at_ranks(self, ranks: Ranks, model: PreTrainedModel, head: Sequence[str], context: Context) -> PeftModel:
        """The model with LoRA at these ranks, and the head's modules trained in full.

        Args:
            ranks: With the scaling that it is trained with.
            model: Its layers are replaced in place.
            head: Full names of the head's modules.
            context: Of the run.

        Raises:
            UserError: The model lacks a layer that has a rank.
        """
        modules = dict(model.named_modules())
        if unknown := [name for name in ranks if name not in modules]:
            raise UserError(
                f"{self.run.path}: the model has no layer {unknown[0]}, which search/ranks.json gives a rank"
            )
        config = lora_config(
            ranks,
            dropout=self.recipe.retrain_dropout if self.trains else 0.0,
            head=head,
            task_type=context.task.peft_task_type,
            fan_in_fan_out=uses_conv1d(model, list(ranks)),
        )
        return add_adapter(model, ranks, config)

    def load_at(self, ranks: Ranks, base: PreTrainedModel, context: Context) -> nn.Module:
        """As `load`: the adapter must have these ranks and scalings, and the head.

        Args:
            ranks: With the scaling that it was trained with.
            base: As in `load`, and so is the context.
            context: See `load`.

        Raises:
            UserError: It is another adapter.
        """
        head = context.head(base)
        with explained(self.run):
            wanted = adapter_shapes(base, ranks, head)
            adapted = self.at_ranks(ranks, base, head, context)
            load_adapter(adapted, self.run.path / "adapter", wanted, ranks, head)
            return adapted.to(context.compute.device)


class RankedLora(PeftMethod):
    """LoRA at the ranks of ``search/ranks.json``, wherever they come from."""

    adapts_layers = True

    @override
    def check(self) -> None:
        self.run.ranks()

    @override
    def adapt(self, model: PreTrainedModel, head: Sequence[str], context: Context, total: int) -> Training:
        return Training(self.at_ranks(self.run.ranks(), model, head, context))

    @override
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        return self.load_at(self.run.ranks(), base, context)

    @override
    def parameters(self, trained: nn.Module, head: Sequence[str]) -> dict[str, int]:
        return counted_parameters(trained, self.run.ranks(), head)

    def given(self, by_name: Mapping[str, int], shapes: Mapping[str, tuple[int, int]], **rule: object) -> Ranks:
        """Ranks that are given by a rule, at the scaling of the search: lora_alpha / k.

        Args:
            by_name: The rank by full module name.
            shapes: (input, output) features by the same names.
            rule: What gave the ranks, JSON-able.
        """
        search = self.recipe.search
        return Ranks(by_name, initial_rank=search.rank, lora_alpha=search.lora_alpha, shapes=shapes, rule=rule)

    @override
    def identity(self) -> list[object]:
        return [*super().identity(), dict(self.run.ranks()), self.recipe.retrain_dropout]


class GivenRanks(RankedLora):
    """Ranks that are not learned but given by a rule."""

    @abstractmethod
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """The rank of every target module.

        Args:
            shapes: (input, output) features by full module name, in the model's order.
        """

    @override
    def search(self, context: Context) -> Ranks:
        model = context.model()
        check_fit(context, model, context.examples(self.recipe.data.splits.train))
        shapes = target_shapes(model, context.targets(model))
        ranks = self.given(self.allocate(shapes), shapes)
        self.run.note("search", seconds=0.0, forward_passes=0, backward_passes=0)
        if context.main:
            ranks.save(self.run.path / "search" / "ranks.json")
        return ranks


def method_of(run: Run) -> Method:
    """The method that a run's recipe names.

    Raises:
        UserError: There is no such method.
    """
    return method_class(run.recipe.method.name)(run)


def method_class(name: str) -> type[Method]:
    """The class of a method, ours or one that another package brings.

    Args:
        name: Of the method, without its size: ``lora``.

    Raises:
        UserError: There is no such method.
    """
    return METHODS.load(name)
