"""A squeeze in the middle of a training by transformers' ``Trainer`` or TRL's ``SFTTrainer``.

    trainer = Trainer(model=peft_model, args=…, callbacks=[SqueezeCallback(budget=0.5)])
    trainer.train()                      # the second half is trained with half of the LoRA's parameters

After the step ``round(at × max_steps)`` the model's LoRA is cut down in place (`autolora.squeeze`), the optimiser gets
the new factors in the places of the old ones, and the training goes on: schedule, accumulation, clipping and saving are
the trainer's own, and what is trained beside the LoRA keeps its optimiser state.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MethodType
from typing import Any, cast
from weakref import WeakSet, ref

import torch
from accelerate.utils import send_to_device
from peft import LoraConfig, PeftConfig, PeftModel
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from autolora.allocation.budget import Budget
from autolora.allocation.likelihood import Likelihood
from autolora.allocation.squeeze import Loss, squeeze
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
from autolora.integrations.reshape import reshape
from autolora.lora.ranks import Ranks
from autolora.registry import SCORES
from autolora.training.seeds import derive

MARK = "squeeze"  # of the entry in the trainer state's log history, which checkpoints carry
STATE = "trainer_state.json"
RATE = "squeeze_lr"  # in an optimiser's group while a warm-up has lowered its rate: the schedule's
_log = logging.getLogger(__name__)
_squeezed: WeakSet[PeftModel] = WeakSet()


class SqueezeCallback(TrainerCallback):
    """Squeezes the model's LoRA once, at a share of the training's steps.

    Args:
        budget: As of `autolora.squeeze`: a fraction of the LoRA's parameters, ``{"parameters": N}``, ``{"rank": r}`` or
            ``{"tolerance": .1}``.
        at: After which share of the optimiser steps, in (0, 1].
        score: A name in `autolora.registry.SCORES`.
        examples: How many training examples the components are valued on.
        batches: Batches as the model takes them, with or without labels; None: a sample of the trainer's training data.
        batch_size: Examples a pass; None: the training's, per device, or 1 under gradient checkpointing, as these
            passes keep all activations.
        likelihood: What a prediction means, where it is none of transformers' heads.
        loss: ``loss(model, batch)``, for a tolerance on batches without labels.
        warmup: Steps after the squeeze over which the schedule's learning rate is × 1/warmup, 2/warmup, … 1; 0: none.
            The logged rate is the schedule's.
        seed: Of the sample and of the draws; None: the training's.

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
        batch_size: int | None = None,
        likelihood: Likelihood | None = None,
        loss: Loss | None = None,
        warmup: int = 10,
        seed: int | None = None,
    ) -> None:
        self.budget, self.at = Budget.of(budget), checked_share(at)
        SCORES.load(score)
        for name, value, low in (("examples", examples, 1), ("batch_size", batch_size, 1), ("warmup", warmup, 0)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
                raise UserError(f"{name}: must be a whole number from {low}, got {value!r}")
        self.score, self.examples, self.batches, self.batch_size = score, examples, checked_batches(batches), batch_size
        self.likelihood, self.loss, self.warmup, self.seed = likelihood, loss, warmup, seed
        self.ranks: Ranks | None = None  # what the squeeze found, or what a checkpoint says that it had found
        self._step, self._done_at = 0, -1  # optimiser steps: when it is due (0: never), and after which it was
        self._cut: ref[PeftModel] | None = None
        self._failed = ""

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let the model load checkpoints from after a squeeze."""
        if isinstance(kwargs.get("model"), PeftModel):
            loads_squeezed(kwargs["model"])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the step, and refuse what the squeeze would fail at.

        Raises:
            UserError: One message about it, before any step.
        """
        _check_arguments(args)
        model = check(kwargs["model"], self.budget, self.likelihood)
        check_optimizer(model, kwargs["optimizer"])
        loads_squeezed(model)
        self._step, self._done_at, self._failed = step_of(self.at, state.max_steps), -1, ""
        for entry in state.log_history:
            if MARK in entry and entry.get("squeeze_at") == self.at:
                self._done_at, self.ranks = int(entry["step"]), Ranks.from_json(entry[MARK])
        if self._done_at < 0 and self._cut is not None and self._cut() is model:
            _log.warning("this model has been squeezed by this callback in an earlier train(), and stays as it is")
            self._step = 0
        if self._done_at < 0 and self._step > 0:
            # The first batch of the squeeze: of a whole batch's size, as models may treat a single row otherwise.
            batch = self._batches(args, kwargs, examples=self._size(args))[0]
            check_passes(model, self.budget, batch, self.likelihood, self.loss)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Lower the learning rates of a warm-up step."""
        since = state.global_step - self._done_at
        if self._done_at >= 0 and since < self.warmup:
            for group in kwargs["optimizer"].param_groups:
                group.setdefault(RATE, group["lr"])  # another callback may be in its warm-up, too
                group["lr"] = group["lr"] * ((since + 1) / self.warmup)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Give the schedule its learning rates back."""
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = group.pop(RATE, group["lr"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Squeeze when it is time; what is evaluated and saved after this step is the squeezed model.

        What the weights of this moment make impossible (nothing is trained yet) is logged as an error, here and at the
        end, and the training goes on.

        Raises:
            RunError: The training has diverged.
        """
        if self._step <= 0 or self._done_at >= 0 or state.global_step < self._step:
            return
        model = cast(PeftModel, kwargs["model"])
        before = _size(model)
        try:
            self.ranks = self._squeezed(args, kwargs)
        except UserError as error:
            # Such as an update of zero everywhere. An end here would cost the user the training so far.
            self._step, self._failed = 0, f"{error} (after step {state.global_step})"
            _log.error("the LoRA was not squeezed, and the training goes on at its full size: %s", self._failed)
            return
        self._done_at, self._cut = state.global_step, ref(model)
        _squeezed.add(model)
        # The best so far was of another size: of the squeezed ones the best is to be found.
        state.best_metric = state.best_model_checkpoint = state.best_global_step = None
        sizes = {"parameters_before": before, "parameters_after": _size(model)}
        mark: dict[str, Any] = {MARK: self.ranks.to_json(), "squeeze_at": self.at, **sizes}
        state.log_history.append({"step": state.global_step, **mark})
        _log.info("squeezed after step %d: %s", state.global_step, sizes)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say so when the training ended without the squeeze."""
        say_end(_log, self._failed, state.global_step, self._step if self._done_at < 0 else 0)

    def _squeezed(self, args: TrainingArguments, given: Mapping[str, Any]) -> Ranks:
        seed = self._seed(args)
        with undisturbed(derive(seed, "integrations", "squeeze")):
            return squeeze(
                given["model"],
                self._batches(args, given),
                self.budget,
                likelihood=self.likelihood,
                optimizer=given["optimizer"],
                score=self.score,
                loss=self.loss,
                examples=self.examples,
                seed=seed,
            )

    def _seed(self, args: TrainingArguments) -> int:
        return args.seed if self.seed is None else self.seed

    def _batches(self, args: TrainingArguments, given: Mapping[str, Any], examples: int | None = None) -> list[Any]:
        device = next(given["model"].parameters()).device
        if self.batches is not None:
            found = [send_to_device(batch, device) for batch in self.batches]
            if not found:
                raise UserError("batches has no batch in it")
            return found
        return training_batches(
            given["train_dataloader"],
            examples=examples or self.examples,
            batch_size=self._size(args),
            seed=self._seed(args),
            device=device,
        )

    def _size(self, args: TrainingArguments) -> int:
        """Examples a pass."""
        checkpointing = getattr(args, "gradient_checkpointing", False) or getattr(args, "activation_checkpointing", 0)
        return self.batch_size or (1 if checkpointing else args.per_device_train_batch_size)


def loads_squeezed(model: PeftModel) -> None:
    """Let a model's ``load_adapter`` take a Trainer's checkpoint from after a squeeze, whose ranks are others.

    `SqueezeCallback` does this for the model of a Trainer that it is given to by ``callbacks=``. It is needed where the
    callback cannot: a model that ``model_init`` makes, or a callback that ``add_callback`` adds.

    Args:
        model: With one LoRA adapter; changed in place.
    """
    model.load_adapter = MethodType(_load_adapter, model)  # type: ignore[method-assign]


def _load_adapter(self: PeftModel, model_id: Any, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
    folder = Path(model_id)
    if adapter_name in self.peft_config and (self in _squeezed or _has_mark(folder, adapter_name)):
        config = PeftConfig.from_pretrained(str(folder))
        reshape(self, adapter_name, cast(LoraConfig, config))
        _squeezed.add(self)
    return type(self).load_adapter(self, model_id, adapter_name, *args, **kwargs)


def _has_mark(folder: Path, adapter: str) -> bool:
    """Whether the folder of an adapter is of a Trainer's checkpoint from after a squeeze.

    PEFT writes an adapter of any name but "default" to a folder of that name, within the checkpoint's.
    """
    file = (folder.parent if folder.name == adapter else folder) / STATE
    if not file.is_file():
        return False
    history = json.loads(file.read_text(encoding="utf-8")).get("log_history", [])
    return any(MARK in entry for entry in history)


def _check_arguments(args: TrainingArguments) -> None:
    """Refuse what keeps the parameters, or copies of them, where a callback cannot replace them."""
    reasons = {
        f"{args.world_size} processes": args.world_size > 1,
        "FSDP": bool(args.fsdp),
        "DeepSpeed": args.deepspeed is not None,
    }
    for found in (name for name, there in reasons.items() if there):
        raise UserError(
            f"SqueezeCallback does not work with {found}: the wrapper around the model (DistributedDataParallel's "
            "buckets, shards) holds the factors that the squeeze replaces. Train on one process; or train the first "
            "part without the callback, then resume its checkpoint on one process with it"
        )
    if args.torch_compile:
        raise UserError(
            "SqueezeCallback does not work with torch_compile, which traced the layers that the squeeze replaces; "
            "leave torch_compile out"
        )


def _size(model: nn.Module) -> int:
    """Parameters of the LoRA."""
    return sum(p.numel() for name, p in model.named_parameters() if "lora_" in name and isinstance(p, torch.Tensor))
