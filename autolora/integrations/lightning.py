"""A squeeze in the middle of a training by Lightning: ``Trainer(callbacks=[SqueezeCallback(budget=0.5)])``.

The LightningModule holds a PEFT model. After the step ``round(at × steps)`` its LoRA is cut down in place
(`autolora.squeeze`), and the optimisers get the new factors in the places of the old ones. A checkpoint from after the
squeeze is loaded into a module as it was before: the callback gives its LoRA the checkpoint's ranks first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from peft import PeftModel
from torch import Tensor, nn

from autolora.allocation.budget import Budget
from autolora.allocation.likelihood import Likelihood
from autolora.allocation.squeeze import Loss, checked_count, squeeze
from autolora.errors import UserError
from autolora.integrations.batches import training_batches, undisturbed
from autolora.integrations.checks import check, check_labels, check_optimizer, checked_share, step_of
from autolora.integrations.reshape import of_ranks, reshape
from autolora.lora.adapter import PREFIX, lora_layers
from autolora.lora.ranks import Ranks
from autolora.registry import SCORES
from autolora.training.seeds import derive

_log = logging.getLogger(__name__)


class SqueezeCallback(Callback):
    """Squeezes a LightningModule's LoRA once, at a share of the training's steps.

    Args:
        budget: As of `autolora.squeeze`.
        at: After which share of the optimiser steps, in (0, 1].
        score: A name in `autolora.registry.SCORES`.
        examples: How many training examples the components are valued on.
        batches: Batches as the PEFT model takes them; None: a sample of the trainer's training data.
        inputs: Makes of a batch of the training data one that the PEFT model takes; None: it is one.
        batch_size: Examples a pass; None: the training loader's.
        likelihood: What a prediction means, where it is none of transformers' heads.
        loss: ``loss(model, batch)``, for a tolerance on batches without labels.
        seed: Of the sample and of the draws.

    Raises:
        UserError: One of them is not what it must be.
    """

    def __init__(
        self,
        budget: Budget | float | Mapping[str, float] = 0.5,
        at: float = 0.5,
        *,
        score: str = "fisher",
        examples: int = 250,
        batches: Iterable[Any] | None = None,
        inputs: Callable[[Any], Any] | None = None,
        batch_size: int | None = None,
        likelihood: Likelihood | None = None,
        loss: Loss | None = None,
        seed: int = 0,
    ) -> None:
        self.budget, self.at = Budget.of(budget), checked_share(at)
        SCORES.load(score)
        self.score, self.examples, self.batches, self.inputs = score, checked_count(examples), batches, inputs
        self.batch_size, self.likelihood, self.loss, self.seed = batch_size, likelihood, loss, seed
        self.ranks: Ranks | None = None
        self._step, self._done = 0, False

    @property
    def state_key(self) -> str:
        """Several callbacks of other shares are told apart in a checkpoint."""
        return f"{type(self).__qualname__}[at={self.at}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the module load checkpoints from after a squeeze."""
        model = _peft_model(pl_module)
        if model is not None and not getattr(model, "_autolora_loads", False):
            model._autolora_loads = True  # type: ignore[assignment]
            model.register_load_state_dict_pre_hook(_fit)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the step, and refuse what the squeeze would fail at.

        Raises:
            UserError: One message about it, before any step.
        """
        if trainer.world_size > 1:
            raise UserError(
                f"SqueezeCallback does not work with {trainer.world_size} processes: the wrapper around the module "
                "(DistributedDataParallel's buckets, shards) holds the factors that the squeeze replaces; train on "
                "one device"
            )
        total = trainer.estimated_stepping_batches
        if total == float("inf") or total < 1:
            raise UserError("the training has no end to take a share of: give the Trainer max_steps or max_epochs")
        model = check(_peft_model(pl_module), self.budget, self.likelihood)
        for optimizer in trainer.optimizers[:1]:
            check_optimizer(model, optimizer)
        self._step = step_of(self.at, int(total))
        if not self._done:
            check_labels(self.budget, self._batches(trainer, pl_module, 1)[0], self.loss is not None)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Squeeze when it is time.

        Raises:
            RunError: The training has diverged.
        """
        if self._done or trainer.global_step < self._step:
            return
        model = cast(PeftModel, _peft_model(pl_module))
        self._done = True
        try:
            with undisturbed(derive(self.seed, "integrations", "squeeze")):
                self.ranks = squeeze(
                    model,
                    self._batches(trainer, pl_module, self.examples),
                    self.budget,
                    likelihood=self.likelihood,
                    optimizer=trainer.optimizers[0],
                    score=self.score,
                    loss=self.loss,
                    examples=self.examples,
                    seed=self.seed,
                )
        except UserError as error:  # an end here would cost the user the training so far
            _log.error("the LoRA was not squeezed after step %d, and stays as large: %s", trainer.global_step, error)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the callback."""
        return {"done": self._done, "ranks": None if self.ranks is None else self.ranks.to_json()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._done = bool(state_dict["done"])
        self.ranks = None if state_dict["ranks"] is None else Ranks.from_json(state_dict["ranks"])

    def _batches(self, trainer: Trainer, module: LightningModule, examples: int) -> list[Any]:
        if self.batches is not None:
            found = list(self.batches)
        else:
            loader = trainer.train_dataloader
            size = self.batch_size or getattr(loader, "batch_size", None) or 1
            found = training_batches(loader, examples=examples, batch_size=size, seed=self.seed, device=module.device)
            found = found if self.inputs is None else [self.inputs(batch) for batch in found]
        if not found:
            raise UserError("batches has no batch in it")
        return found


def _peft_model(module: nn.Module) -> PeftModel | None:
    """The PEFT model that a module holds."""
    return next((each for each in module.modules() if isinstance(each, PeftModel)), None)


def _fit(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: Any) -> None:
    """Before values are loaded: layers of other ranks, or none, in these get those ranks, at the scaling they have."""
    model = cast(PeftModel, module)
    now = {name: layer.r for name, layer in lora_layers(model).items()}
    if not now:
        return
    (adapter,) = model.peft_config
    keys = {name: f"{prefix}{PREFIX}{name}.lora_A.{adapter}.weight" for name in now}
    ranks = {name: len(state[key]) for name, key in keys.items() if key in state}
    if ranks and ranks != {name: each[adapter] for name, each in now.items()}:
        reshape(model, adapter, of_ranks(model, adapter, ranks))
