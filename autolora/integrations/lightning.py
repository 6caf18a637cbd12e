"""A squeeze in the middle of a training by Lightning: ``Trainer(callbacks=[SqueezeCallback(budget=0.5)])``.

The LightningModule holds a PEFT model. After the step ``round(at × steps)`` its LoRA is cut down in place
(`autolora.squeeze`), and the optimisers get the new factors in the places of the old ones. A checkpoint from after the
squeeze is loaded into a module as it was before: the callback gives its LoRA the checkpoint's ranks first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast
from weakref import ref

import torch
from accelerate.utils import send_to_device
from lightning.pytorch import Callback, LightningModule, Trainer, callbacks
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from peft import PeftModel
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from autolora.allocation.budget import Budget
from autolora.allocation.likelihood import Likelihood
from autolora.allocation.squeeze import Loss, checked_count, squeeze
from autolora.errors import UserError
from autolora.integrations.batches import training_batches, undisturbed
from autolora.integrations.checks import (
    check,
    check_optimizer,
    check_passes,
    checked_batches,
    checked_share,
    say_end,
    step_of,
)
from autolora.integrations.reshape import of_ranks, reshape
from autolora.lora.adapter import PREFIX, lora_layers
from autolora.lora.ranks import Ranks
from autolora.registry import SCORES
from autolora.training.seeds import derive

_log = logging.getLogger(__name__)
_AVERAGES = (callbacks.StochasticWeightAveraging, callbacks.WeightAveraging)


class SqueezeCallback(Callback):
    """Squeezes a LightningModule's LoRA once, at a share of the training's steps.

    Args:
        budget: As of `autolora.squeeze`.
        at: After which share of the optimiser steps, in (0, 1].
        score: A name in `autolora.registry.SCORES`.
        examples: How many training examples the components are valued on.
        batches: Batches as the PEFT model takes them; None: a sample of the trainer's training data.
        inputs: Makes of a batch, as ``training_step`` gets it, one that the PEFT model takes; None: it is one.
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
        self.score, self.examples, self.inputs = score, checked_count(examples), inputs
        self.batches = checked_batches(batches)
        self.batch_size, self.likelihood, self.loss, self.seed = batch_size, likelihood, loss, seed
        self.ranks: Ranks | None = None  # what the squeeze found, or what a checkpoint says that it had found
        self._step, self._done = 0, False  # after which optimiser step it is due (0: it is not), and whether it was
        self._cut: ref[PeftModel] | None = None
        self._restored, self._failed = False, ""  # whether a checkpoint says the above; why there was no squeeze

    @property
    def state_key(self) -> str:
        """Several callbacks of other shares are told apart in a checkpoint."""
        return f"{type(self).__qualname__}[at={self.at}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the module load checkpoints from after a squeeze."""
        self._restored = False
        model = _peft_model(pl_module)
        if model is not None and not getattr(model, "_autolora_loads", False):
            model._autolora_loads = True  # type: ignore[assignment]
            model.register_load_state_dict_pre_hook(_fit)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the step, and refuse what the squeeze would fail at.

        Raises:
            UserError: One message about it, before any step.
        """
        total = _checked_steps(trainer)
        model = check(_peft_model(pl_module), self.budget, self.likelihood)
        check_optimizer(model, trainer.optimizers[0])
        self._step, self._failed = step_of(self.at, total), ""
        if not self._restored and self._cut is not None and self._cut() is model:
            _log.warning("this model has been squeezed by this callback in an earlier fit(), and stays as it is")
            self._step = 0
            return
        _check_averages(trainer)
        if not self._restored:  # what is known is of another model
            self._done, self.ranks = False, None
        self._cut = ref(model) if self._done else None
        if not self._done:
            batch = self._batches(trainer, pl_module, None)[0]
            with trainer.precision_plugin.forward_context():
                check_passes(model, self.budget, batch, self.likelihood, self.loss)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Squeeze when it is time; what is validated and saved after this step is the squeezed model.

        What the weights of this moment make impossible (nothing is trained yet) is logged as an error, here and at the
        end, and the training goes on.

        Raises:
            RunError: The training has diverged.
        """
        if self._done or self._step <= 0 or trainer.global_step < self._step:
            return
        model = cast(PeftModel, _peft_model(pl_module))
        try:
            self.ranks = self._squeezed(trainer, pl_module, model)
        except UserError as error:  # an end here would cost the user the training so far
            self._step, self._failed = 0, f"{error} (after step {trainer.global_step})"
            _log.error("the LoRA was not squeezed, and the training goes on at its full size: %s", self._failed)
            return
        self._done, self._cut = True, ref(model)
        _forget_best(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so when the training ended without the squeeze."""
        say_end(_log, self._failed, trainer.global_step, 0 if self._done else self._step)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the callback."""
        return {"done": self._done, "ranks": None if self.ranks is None else self.ranks.to_json()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._restored, self._done = True, bool(state_dict["done"])
        self.ranks = None if state_dict["ranks"] is None else Ranks.from_json(state_dict["ranks"])

    def _squeezed(self, trainer: Trainer, module: LightningModule, model: PeftModel) -> Ranks:
        with undisturbed(derive(self.seed, "integrations", "squeeze")), trainer.precision_plugin.forward_context():
            return squeeze(
                model,
                self._batches(trainer, module, self.examples),
                self.budget,
                likelihood=self.likelihood,
                optimizer=trainer.optimizers[0],
                score=self.score,
                loss=self.loss,
                examples=self.examples,
                seed=self.seed,
            )

    def _batches(self, trainer: Trainer, module: LightningModule, examples: int | None) -> list[Any]:
        """Batches as the PEFT model takes them, of so many examples; None: at least one batch."""
        if self.batches is not None:
            found = [send_to_device(batch, module.device) for batch in self.batches]
        else:
            loader = trainer.train_dataloader
            size = self.batch_size or getattr(loader, "batch_size", None) or 1
            drawn = training_batches(loader, examples=examples or size, batch_size=size, seed=self.seed, device=None)
            with undisturbed(derive(self.seed, "integrations", "hooks")):  # augmentations are hooks
                found = [_as_trained_on(trainer, module, batch) for batch in drawn]
                found = found if self.inputs is None else [self.inputs(batch) for batch in found]
        if not found:
            raise UserError("batches has no batch in it")
        return found


def _as_trained_on(trainer: Trainer, module: LightningModule, batch: Any) -> Any:
    """A loader's batch as ``training_step`` gets it: what Lightning's training loop does, in its order."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = module._on_before_batch_transfer(batch, dataloader_idx=0)  # the module's hook, or its data module's
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def _checked_steps(trainer: Trainer) -> int:
    """The optimiser steps of a training that a squeeze can be in."""
    if trainer.world_size > 1:
        raise UserError(
            f"SqueezeCallback does not work with {trainer.world_size} processes: the wrapper around the module "
            "(DistributedDataParallel's buckets, shards) holds the factors that the squeeze replaces; train on "
            "one device"
        )
    if (count := len(trainer.optimizers)) != 1:
        raise UserError(
            f"SqueezeCallback does not work with what configure_optimizers gives, {count} optimizers: it counts the "
            "steps of one, and puts the new factors into it; make one, with a parameter group for each of them"
        )
    total = trainer.estimated_stepping_batches
    if total == float("inf") or total < 1:
        raise UserError("the training has no end to take a share of: give the Trainer max_steps or max_epochs")
    return int(total)


def _callbacks(trainer: Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]


def _check_averages(trainer: Trainer) -> None:
    """Refuse callbacks that hold a copy of the weights, whose shapes the squeeze would part from."""
    for each in _callbacks(trainer):
        if isinstance(each, _AVERAGES) or any(isinstance(value, AveragedModel) for value in vars(each).values()):
            raise UserError(
                f"SqueezeCallback does not work with {type(each).__name__}, whose average of the weights begins before "
                "the squeeze and keeps their shapes; leave it out, or average in a second fit(), of the squeezed module"
            )


def _forget_best(trainer: Trainer) -> None:
    """The best so far was of another size: of the squeezed ones the best is to be found."""
    for each in _callbacks(trainer):
        if isinstance(each, ModelCheckpoint) and each.monitor is not None:  # else its best is its latest
            each.best_k_models, each.kth_best_model_path, each.kth_value = {}, "", _worst(each.mode)
            each.best_model_path, each.best_model_score = "", None
        elif isinstance(each, EarlyStopping):
            each.best_score = _worst(each.mode)


def _worst(mode: str) -> Tensor:
    return torch.tensor(float("inf" if mode == "min" else "-inf"))


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
    ranks = _stored_ranks(state, f"{prefix}{PREFIX}", f".lora_A.{adapter}.weight")
    if missing := sorted(ranks.keys() - now.keys()):
        raise UserError(
            f"{prefix.rstrip('.') or 'the module'}: the checkpoint has LoRA on {missing[0]} (and {len(missing) - 1} "
            "other layers), where this model has none: it is from before the squeeze, which took that LoRA; load it "
            "into a module built anew"
        )
    if ranks and ranks != {name: each[adapter] for name, each in now.items()}:
        reshape(model, adapter, of_ranks(model, adapter, ranks))


def _stored_ranks(state: Mapping[str, Tensor], before: str, after: str) -> dict[str, int]:
    """By the names of the layers, which stand between these two in the keys."""
    return {
        key.removeprefix(before).removesuffix(after): len(value)
        for key, value in state.items()
        if key.startswith(before) and key.endswith(after)
    }
