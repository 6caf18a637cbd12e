"""The contract of a method: how it finds ranks, what it trains, how that is saved and loaded again.

A method is built from a run, whose recipe names it (``method: {name: lora, size: 4}``):

    method = method_of(run)
    method.search(run, lab)                          # methods that find their ranks before training
    trained = method.adapt(model, head, lab, total)  # what the retraining trains
    method.save(trained, head, lab)
    model = method.load(lab.model(), lab)            # for the evaluation
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from autolora import registry
from autolora.errors import UserError
from autolora.files import write_json
from autolora.lab import Lab
from autolora.methods import METHODS
from autolora.model.load import base_name
from autolora.model.targets import input_output_features, target_modules
from autolora.recipe.method import label
from autolora.recipe.schema import Method as Settings
from autolora.recipe.schema import Recipe, Weights
from autolora.retrain.adapter import add_adapter, lora_config, save_adapter, uses_conv1d
from autolora.retrain.stage import Follower
from autolora.runs.store import Run, ranks_file
from autolora.stages.steps import trainable_parameters

AUTOLORA = Settings(name="autolora")


class Method(ABC):
    """One method on one run."""

    searches: ClassVar[bool] = True  # whether there is a search stage
    trains: ClassVar[bool] = True  # whether the retraining takes steps
    saves_model: ClassVar[bool] = False  # whether what is saved is as large as the model
    default_size: ClassVar[int | None] = None
    default_learning_rate: ClassVar[float | None] = None  # None: the recipe's

    penalty: Callable[[], Tensor] | None = None  # added to the mean training loss
    follower: Follower | None = None

    def __init__(self, run: Run) -> None:
        self.run, self.recipe, self.settings = run, run.recipe, run.recipe.method

    @classmethod
    def needs(cls, recipe: Recipe) -> tuple[Settings, ...]:
        """The methods whose runs, of the same recipe and seed, this one builds on."""
        return ()

    @classmethod  # noqa: B027  # most methods can do every recipe
    def check_recipe(cls, recipe: Recipe) -> None:
        """Raises UserError for a recipe that this method cannot do."""

    @classmethod
    def workload(cls, recipe: Recipe, examples: int) -> tuple[int, int]:
        """Search steps and plain training steps over a training split of so many examples, for estimates of time."""
        return 0, recipe.retrain.total_steps(examples) if cls.trains else 0

    @classmethod
    def size_in(cls, settings: Settings) -> int:
        """`method.size`, or the default of the method. Raises UserError where there is neither."""
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
        """Raises UserError where what the retraining needs is not there yet."""

    def search(self, run: Run, lab: Lab) -> dict[str, Any]:
        """Find the ranks; writes ``search/ranks.json`` and returns its content."""
        raise UserError(f"method {self.settings.name!r} searches for nothing; run: autolora retrain {run.path}")

    @abstractmethod
    def adapt(self, model: PreTrainedModel, head: Sequence[str], lab: Lab, total: int) -> nn.Module:
        """The model with whatever is trained requiring gradients, the head's modules among it.

        total: the steps that it will be trained for. Torch's generator is seeded.
        """

    def identity(self) -> list[Any]:
        """What the retraining depends on beside recipe, data and model; JSON-able, part of a checkpoint's identity."""
        return [self.settings.model_dump(mode="json")]

    def parameters(self, trained: nn.Module, head: Sequence[str]) -> dict[str, int]:
        """Trained parameters of what was saved, and how many of them are the head's, as manifest entries."""
        return trainable_parameters(trained, head)

    @abstractmethod
    def save(self, trained: nn.Module, head: Sequence[str], lab: Lab) -> None:
        """Write ``adapter/``."""

    @abstractmethod
    def load(self, base: PreTrainedModel, lab: Lab) -> nn.Module:
        """The pretrained model with what ``adapter/`` holds."""

    def source(self, settings: Settings) -> Run:
        """The run of another method that this one builds on. Raises UserError where there is none."""
        path = self.run.source(label(settings))
        if path is None:
            raise UserError(
                f"method {self.settings.name!r} builds on a run of {label(settings)} with the same recipe and seed, "
                f"which autolora compare brings along: autolora compare RECIPE --methods {label(self.settings)} "
                f"--seeds {self.recipe.seed}"
            )
        return Run.open(path)

    def learned(self) -> dict[str, int]:
        """AutoLoRA's ranks, of the same recipe and seed."""
        ranks: dict[str, int] = read_ranks(self.source(AUTOLORA))["ranks"]
        return ranks

    def budget(self) -> int:
        """The sum of AutoLoRA's ranks."""
        return sum(self.learned().values())


class PeftMethod(Method):
    """A method whose result is an adapter that PEFT reads."""

    def save(self, trained: nn.Module, head: Sequence[str], lab: Lab) -> None:
        assert isinstance(trained, PeftModel)
        save_adapter(trained, self.run.path / "adapter", *base_name(self.recipe.model))

    def load(self, base: PreTrainedModel, lab: Lab) -> nn.Module:
        adapter = self.run.path / "adapter"
        try:
            return cast(nn.Module, PeftModel.from_pretrained(base, adapter).to(lab.accelerator.device))
        except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"{adapter} cannot be loaded ({error}); write it anew with: autolora retrain {self.run.path}"
            ) from error


class RankedLora(PeftMethod):
    """LoRA at the ranks of ``search/ranks.json``, wherever they come from."""

    def check(self) -> None:
        read_ranks(self.run)

    def adapt(self, model: PreTrainedModel, head: Sequence[str], lab: Lab, total: int) -> nn.Module:
        return self.at_ranks(read_ranks(self.run), model, head, lab)

    def at_ranks(self, found: Mapping[str, Any], model: PreTrainedModel, head: Sequence[str], lab: Lab) -> nn.Module:
        """The model with LoRA at ranks; found: their "initial_rank" and "ranks", as ``ranks.json`` has them."""
        ranks, retrain, search = found["ranks"], self.recipe.retrain, self.recipe.search
        modules = dict(model.named_modules())
        if unknown := [name for name in ranks if name not in modules]:
            raise UserError(
                f"{self.run.path}: the model has no layer {unknown[0]}, which search/ranks.json gives a rank"
            )
        config = lora_config(
            ranks,
            initial_rank=found["initial_rank"],
            lora_alpha=retrain.lora_alpha or search.lora_alpha,
            scaling=retrain.scaling,
            dropout=lora_dropout(self.recipe),
            head=head,
            task_type=lab.task.peft_task_type,
            fan_in_fan_out=uses_conv1d(model, list(ranks)),
        )
        return cast(nn.Module, add_adapter(model, config, ranks))

    def identity(self) -> list[Any]:
        return [*super().identity(), read_ranks(self.run)["ranks"], lora_dropout(self.recipe)]


class GivenRanks(RankedLora):
    """Ranks that are not learned but given by a rule."""

    @abstractmethod
    def allocate(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """The rank of every target module; shapes: its (input, output) features."""

    def search(self, run: Run, lab: Lab) -> dict[str, Any]:
        modules = target_modules(lab.model(), self.recipe.model.target_modules)
        ranks = self.allocate({name: input_output_features(module) for name, module in modules.items()})
        record = {"initial_rank": self.recipe.search.rank, "lora_alpha": self.recipe.search.lora_alpha, "ranks": ranks}
        run.note("search", seconds=0.0, forward_passes=0, backward_passes=0)
        if lab.main:
            write_json(run.path / "search" / "ranks.json", record)
        return record


def method_of(run: Run) -> Method:
    """The method that a run's recipe names."""
    return method_class(run.recipe.method.name)(run)


def method_class(name: str) -> type[Method]:
    return registry.load(METHODS, name)  # type: ignore[no-any-return]


def lora_dropout(recipe: Recipe) -> float:
    """The retraining's dropout: its own, or the search's."""
    own = recipe.retrain.lora_dropout
    return recipe.search.lora_dropout if own is None else own


def read_ranks(run: Run) -> dict[str, Any]:
    """The content of a run's ``ranks.json``. Raises UserError before the ranks are there."""
    path = ranks_file(run.path)
    if not path.exists():
        raise UserError(f"{run.path} has no ranks yet; run: autolora search {run.path} --resume")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        counts = [content["initial_rank"], *content["ranks"].values()]
        if not all(isinstance(count, int) for count in counts):
            raise ValueError(f"ranks are whole numbers, not {counts}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} holds no ranks ({type(error).__name__}: {error}); remove it, and write it anew with: "
            f"autolora search {run.path} --resume"
        ) from error
    return content
