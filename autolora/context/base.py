"""What the stages of one run share: ``Context(recipe)`` has the device, data, tokenizer, task, model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.console import warn
from autolora.context.identity import identity_of
from autolora.context.rows import hashes_of, rows_of
from autolora.context.sharding import placed, sharding_faults
from autolora.data.splits import Splits
from autolora.errors import UserError
from autolora.lora.targets import all_linear, default_targets, head_modules
from autolora.model.identity import architecture, tokenizer_hash
from autolora.model.kept import Kept, kept_as
from autolora.model.load import (
    Loaded,
    is_encoder_decoder,
    load_model,
    load_skeleton,
    load_tokenizer,
    weights_hash,
)
from autolora.model.remote_code import allow_code
from autolora.planted.kinds import seeded
from autolora.recipe.schema import Model, Recipe, Steps
from autolora.registry import ESTIMATORS, METHODS, METRICS, SCORES, TASKS
from autolora.runs.base import Base
from autolora.tasks.base import Purpose, Task, TeacherForced
from autolora.tasks.encoder_decoder import family_of
from autolora.tasks.encoding import seldom_collecting
from autolora.training.batches import BatchStream, Example
from autolora.training.compiled import CompiledPasses
from autolora.training.compute import Compute
from autolora.training.gradients import Gradients
from autolora.training.seeds import derive, seed_torch

if TYPE_CHECKING:
    from datasets import Dataset

    from autolora.experiment.keeping import HeldOut


class Context:
    """What the stages of one recipe share: device, data, tokenizer, task. Everything is made when first used.

    Args:
        recipe: With its method and seed.
        compute: The device, precision and processes; None: what the recipe says and the machine has.
        show: Whether stages show their progress.
        trust_remote_code: Whether who runs the recipe lets code run that comes with its model, if it wants that.
        announce: Whether it is said which code that is; False where it has been said.
        told: Whether what is doubtful about the data has been said.

    Raises:
        UserError: The recipe's model has code of its own, which is not let run;
            or what another package registers for the recipe cannot be loaded.
    """

    def __init__(
        self,
        recipe: Recipe,
        compute: Compute | None = None,
        *,
        show: bool = True,
        trust_remote_code: bool = False,
        announce: bool = True,
        told: bool = False,
    ) -> None:
        said = allow_code(recipe.model, allowed=trust_remote_code)
        self.recipe, self.show, self.told = recipe, show, told
        self.compute = compute or Compute(recipe.model.dtype)
        self.kept_labels: Sequence[str] | None = None  # what the run was trained with, for a task that is made later
        self.announced: set[tuple[str, str]] = set()  # of which run and split the data has been described
        self.fitting: set[str] = set()  # splits that the model was found to fit, before its weights are loaded
        self.on_base: Callable[[Base], None] | None = None  # told once of the pretrained model that is loaded next
        self._said: set[str] = set()
        self._kept_out: Dataset | None = None
        self.chosen_by: HeldOut | None = None  # what weights are chosen by, once it is made
        if said and announce and self.main:
            warn(said)
        self._examples: dict[str, list[Example]] = {}
        self._forced: dict[str, TeacherForced] = {}
        TASKS.ensure(recipe.task)
        METHODS.ensure(recipe.method.name)
        if recipe.search.selects:
            ESTIMATORS.ensure(recipe.search.estimator)
        SCORES.ensure(recipe.ranks.score)
        for name in recipe.eval.metrics:
            METRICS.ensure(name)

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return self.compute.main

    @cached_property
    def pretrained(self) -> Model:
        """The recipe's model section as it is loaded: a planted model's name has the recipe's seed in it."""
        return seeded(self.recipe.model, self.recipe.seed)

    @cached_property
    def splits(self) -> Splits:
        """Raw rows of the training split and the evaluation splits, by name, and how they were read."""
        found, self._kept_out = rows_of(self.recipe, self.family)
        return found

    @property
    def kept_out(self) -> Dataset | None:
        """The rows of the training split by which weights are chosen; None where none are."""
        _ = self.splits
        return self._kept_out

    @cached_property
    def hashes(self) -> dict[str, str]:
        """A hash of the rows of each split, by name."""
        return hashes_of(self.splits)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, loaded as the family needs it."""
        return load_tokenizer(self.pretrained, **self.family.tokenizer_options)

    @cached_property
    def family(self) -> type[Task]:
        """The task family that the recipe names, as it is on the recipe's model."""
        family = TASKS.load(self.recipe.task)
        if not family.decodes:
            return family
        return family_of(self.recipe.task, encoder_decoder=is_encoder_decoder(self.pretrained))

    @cached_property
    def task(self) -> Task:
        """The family on the recipe's data."""
        return self.family(self.recipe.data, self.recipe.eval, self.splits, self.recipe.loss, self.kept_labels)

    def examples(self, split: str) -> list[Example]:
        """The encoded examples of a split, which are kept.

        Args:
            split: As the recipe names it.
        """
        if split not in self._examples:
            purpose: Purpose = "train" if split == self.recipe.data.splits.train else "eval"
            rows, tokenizer = self.splits[split], self.tokenizer
            with seldom_collecting():
                self._examples[split] = self.task.encode(rows, tokenizer, split, purpose)
        return self._examples[split]

    def teacher_forced(self, split: str) -> TeacherForced:
        """The references of an evaluation split as sequences to score tokens of, which are kept.

        Args:
            split: As the recipe names it; it has labels.
        """
        if split not in self._forced:
            self._forced[split] = self.task.teacher_forced(self.splits[split], self.tokenizer, split)
        return self._forced[split]

    @cached_property
    def skeleton(self) -> PreTrainedModel:
        """The pretrained model with its head, without weights."""
        return load_skeleton(self.pretrained, self.task.auto_class, self.task.head_config(), self.head)

    @property
    def encoded(self) -> Mapping[str, Sequence[Example]]:
        """The splits that `examples` was asked for."""
        return self._examples

    @cached_property
    def kept(self) -> Kept:
        """How the frozen base is kept."""
        trained = METHODS.load(self.recipe.method.name).trains_base
        return kept_as(self.pretrained, self.compute.precision, trained=trained)

    def model(self) -> PreTrainedModel:
        """The pretrained model with a new head, the same one every time, on the device.

        Where the base is shared out over processes, all of them ask at once. One after the other loads it, and keeps
        its share, so that a machine's memory holds one whole model at a time, and no device ever does.
        """
        if faults := list(sharding_faults(self.recipe, self.compute)):
            raise UserError("\n".join(faults))
        with self.compute.in_turns() if self.compute.sharded else nullcontext():
            loaded = self._loaded()
            found = self._base(loaded) if self.on_base is not None else None
            model = placed(loaded.model, self.head, self.compute)
        if loaded.remark and self.main and loaded.remark not in self._said:
            self._said.add(loaded.remark)
            warn(f"{self.recipe.model.name}: {loaded.remark}")
        if self.on_base is not None and found is not None:
            tell, self.on_base = self.on_base, None
            tell(found)
        return model

    def _loaded(self) -> Loaded:
        seed_torch(derive(self.recipe.seed, "model"))
        return load_model(
            self.pretrained,
            self.task.auto_class,
            self.task.head_config(),
            self.tokenizer.pad_token_id,
            self.head,
            self.kept,
            self.compute.device,
        )

    def _base(self, loaded: Loaded) -> Base:
        """What the pretrained model is, wherever it lies."""
        weights = weights_hash(loaded.model, loaded.drawn)
        return Base(weights, tokenizer_hash(self.tokenizer), architecture(loaded.model.config))

    def head(self, model: PreTrainedModel) -> list[str]:
        """Full names of the modules that are the task head; none where the family adds none and the recipe names none.

        Args:
            model: As `model` gives it.
        """
        head = self.recipe.model.head
        if head == "auto":
            return head_modules(model, None) if self.family.new_head else []
        return head_modules(model, head)

    def targets(self, model: PreTrainedModel) -> list[str]:
        """The layers that get LoRA: names for `autolora.lora.targets.target_modules`.

        What `method.targets` says, else `model.target_modules`; where neither says anything, the default of the
        architecture, which is said once.

        Args:
            model: As `model` gives it.
        """
        recipe = self.recipe
        named = recipe.model.target_modules if recipe.method.targets is None else recipe.method.targets
        if named == "all-linear":
            return all_linear(model, self.head(model))
        if named is not None:
            return list(named)
        names, source = default_targets(model, self.head(model))
        if self.main and self.show and source not in self._said:
            ends = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in names))
            warn(f"model.target_modules: {ends} ({source})")
        self._said.add(source)
        return names

    def stream(
        self,
        examples: Sequence[Example],
        settings: Steps,
        label: str,
        batch_size: int | None = None,
        *,
        padded: bool = False,
    ) -> BatchStream:
        """Batches for a stage, on the device.

        Args:
            examples: Of the training split, or of a part of it.
            settings: The stage's, with batch size and gradient accumulation.
            label: What the order of the batches is drawn for: the same label gives the same order.
            batch_size: Instead of the one in `settings`.
            padded: Whether each example has a row of its own, whatever the recipe says of packing.
        """
        return BatchStream(
            examples,
            partial(self.task.padded if padded else self.task.collate, tokenizer=self.tokenizer),
            batch_size=batch_size or settings.batch_size,
            seed=derive(self.recipe.seed, label),
            units=self.task.units,
            gradient_accumulation=settings.gradient_accumulation,
            device=self.compute.device,
            process=self.compute.process,
            processes=self.compute.processes,
            in_step=self.compute.sharded,
        )

    def gradients(
        self, model: nn.Module, *, double_backward: bool = False, penalty: Callable[[], Tensor] | None = None
    ) -> Gradients:
        """What computes losses of the recipe's task and their gradients.

        Args:
            model: With the family's head, adapted or not.
            double_backward: See `Gradients`.
            penalty: See `Gradients`.
        """
        return Gradients(
            partial(self.task.loss, model),
            self.compute,
            double_backward=double_backward,
            penalty=penalty,
            around=CompiledPasses(model) if self.recipe.model.torch_compile else nullcontext,
        )

    def identity(self, *parts: object) -> str:
        """A hash of what a checkpoint depends on: task, seed, model, data, loss, and the parts.

        Args:
            parts: What else it depends on, JSON-able.
        """
        more = [self.task.depends_on(self.tokenizer)] if self.family.converses else []
        return identity_of(self.recipe, self.hashes, *parts, *more)
