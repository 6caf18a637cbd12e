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
from collections.abc import Sequence
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from autolora.context.base import Context
from autolora.context.identity import identity_of
from autolora.errors import UserError
from autolora.lora.parameters import trainable_parameters
from autolora.lora.ranks import Ranks
from autolora.methods.loading import Loading
from autolora.recipe.method import label
from autolora.recipe.schema import MethodSettings, Recipe, Weights
from autolora.registry import METHODS
from autolora.runs.inventory import WHOLE, check_there, verify_below
from autolora.runs.status import STAGES
from autolora.runs.store import Run
from autolora.training.finetune import Training


class Method(ABC):
    """One method on one run.

    Args:
        run: The run, whose recipe names the method.
    """

    searches: ClassVar[bool] = True  # whether there is a search stage
    trains: ClassVar[bool] = True  # whether the retraining takes steps
    adapts_layers: ClassVar[bool] = False  # whether the recipe's target modules get LoRA
    trains_base: ClassVar[bool] = False  # whether matrices of the model itself are trained
    shards: ClassVar[bool] = False  # whether it can do with a base that is shared out over processes
    saves_model: ClassVar[bool] = False  # whether what is saved is as large as the model
    default_size: ClassVar[int | None] = None
    default_learning_rate: ClassVar[float | None] = None  # None: the recipe's

    def __init__(self, run: Run) -> None:
        self.run, self.recipe, self.settings = run, self.effective(run.recipe), run.recipe.method

    @classmethod
    def effective(cls, recipe: Recipe) -> Recipe:
        """The recipe as this method changes it; what is not its own stays.

        Args:
            recipe: With this method in it.
        """
        return recipe

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
        """How many steps the method takes in all, for estimates of time.

        Args:
            recipe: With this method in it.
            examples: Of the training split.

        Returns:
            Search steps, and plain training steps.
        """
        return 0, recipe.retrain.total_steps(examples) if cls.trains else 0

    @classmethod
    def search_workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        """How many of these are taken in the search that runs of the same `search_key` share.

        Args:
            recipe: See `workload`.
            examples: See `workload`.
        """
        return 0, 0

    @classmethod
    def measured_examples(cls, recipe: Recipe, examples: int) -> int:
        """On how many examples the plain steps of `search_workload` measure Fisher information, and train nothing.

        Args:
            recipe: See `workload`.
            examples: See `workload`.
        """
        return 0

    @classmethod
    def measured_losses(cls, recipe: Recipe) -> int:
        """How often the mean loss of these examples is measured to find a size.

        Args:
            recipe: See `workload`.
        """
        return 0

    @classmethod
    def search_parts(cls, recipe: Recipe) -> list[object] | None:
        """What the search depends on beside seed, task, model, data and loss, JSON-able; None: it is not shared.

        Args:
            recipe: With this method in it.
        """
        return None

    @classmethod
    def search_key(cls, recipe: Recipe) -> str | None:
        """What recipes whose searches are the same have in common, as far as that is known without data and model.

        Args:
            recipe: With this method in it.

        Returns:
            A hash; None where the search is not shared.
        """
        parts = cls.search_parts(recipe)
        return None if parts is None else identity_of(recipe, recipe.data.splits.model_dump(mode="json"), *parts)

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

    @classmethod
    def weights_in(cls, recipe: Recipe) -> Weights:
        """The optimiser's settings of the retraining: the recipe's, at the method's own learning rate if it has one.

        Args:
            recipe: With this method in it.
        """
        rate = recipe.method.learning_rate or cls.default_learning_rate
        weights = recipe.retrain.weights
        return weights if rate is None else weights.model_copy(update={"learning_rate": rate})

    def weights(self) -> Weights:
        """See `weights_in`."""
        return self.weights_in(self.recipe)

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

    @classmethod
    def loading(cls, settings: MethodSettings) -> Loading | None:
        """Python that puts what `save` wrote into the pretrained model, for a model card; None: there is none to show.

        Args:
            settings: A recipe's method section.
        """
        return None

    @abstractmethod
    def load(self, base: PreTrainedModel, context: Context) -> nn.Module:
        """The pretrained model with what ``adapter/`` holds, to predict with.

        Args:
            base: The pretrained model with its new head, which may be changed in place.
            context: Of the run.

        Raises:
            UserError: What is there cannot be loaded, or does not fit.
        """

    @property
    def positions(self) -> int:
        """Positions that what is trained takes in front of every sequence: of a prefix, for instance."""
        return 0

    def base_run(self, settings: MethodSettings) -> Run:
        """The run of another method that this one builds on.

        Args:
            settings: That method's, as `needs` gives them.

        Raises:
            UserError: There is none, or its files are not what was written.
        """
        path = self.run.base_run(label(settings))
        if path is None:
            raise UserError(
                f"method {self.settings.name!r} builds on a run of {label(settings)} with the same recipe and seed, "
                f"which autolora compare brings along: autolora compare RECIPE --methods {label(self.settings)} "
                f"--seeds {self.recipe.seed}"
            )
        check_there(path, WHOLE, *STAGES)
        verify_below(path, "adapter")
        return Run.open(path)


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
