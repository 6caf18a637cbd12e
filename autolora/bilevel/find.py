"""Ranks for a model and batches of one's own, without a recipe or a run's folder: ``find_ranks(model, …)``.

    ranks = autolora.find_ranks(model, train, validation, loss, autolora.Search(steps=200), target_modules=["query"])
    config = ranks.to_lora_config(task_type="SEQ_CLS")    # a stock peft.LoraConfig

The search is that of a recipe (`autolora.bilevel.loop`), on whatever batches the loss takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from autolora.allocation.passes import check_differentiable
from autolora.bilevel.loop import BilevelSearch
from autolora.errors import RunError, UserError
from autolora.lora.idle import without_idle
from autolora.lora.ranks import Ranks
from autolora.lora.selection import SelectionLoRA, add_selection
from autolora.lora.targets import check_bare
from autolora.recipe.schema import Search
from autolora.training.batches import IGNORED, Batch, counts_nothing
from autolora.training.compute import Compute
from autolora.training.finite import Watch
from autolora.training.gradients import Gradients
from autolora.training.seeds import derive, seed_torch, unmoved

BATCH_FIELDS = ("batch_size", "gradient_accumulation", "validation_batch_size", "validation_fraction")

ADVICE = "lower Search.weights.learning_rate or Search.selection.learning_rate, or compute in float32"

Loss = Callable[[Any, Any], Tensor]
"""``loss(model, batch)``: the mean loss of a batch, a scalar."""


@torch.inference_mode(False)
@torch.enable_grad()
def find_ranks(
    model: nn.Module,
    train_batches: Iterable[Any],
    validation_batches: Iterable[Any],
    loss: Loss,
    settings: Search | None = None,
    *,
    target_modules: Sequence[str] = ("query", "value"),
    trainable: Sequence[str] = (),
    seed: int = 0,
    compute: Compute | None = None,
    on_step: Callable[[int, Mapping[str, Tensor]], None] = lambda step, losses: None,
) -> Ranks:
    """Search the ranks of a model's layers by bilevel optimisation (paper, section 3).

    The model is given back as it was: its layers, weights and buffers, their gradients, which of them require any, and
    its mode.
    So are the generators of Python, NumPy and torch.

    Args:
        model: Any module with linear layers (nn.Linear or transformers' Conv1D), on its device.
        train_batches: Batches of D_tr, whatever `loss` takes, on the model's device. A list or a DataLoader; something
            that can be iterated once only must be long enough.
        validation_batches: Batches of D_val, likewise.
        loss: ``loss(model, batch)``, the mean loss of a batch, a scalar.
        settings: Of the search; its steps, rank, estimator and rates. What it says about batches does not apply. With
            `epochs` (3 unless it is said) instead of `steps`, `train_batches` must have a length.
        target_modules: Names of the layers, in full or a dotted end of them.
        trainable: Full names of the modules that are trained along, such as a new head.
        seed: Of dropout and the initial factors.
        compute: Precision and processes; None for float32 in one process.
        on_step: Told of every step done (from 1) and its losses, scalars on the device.

    Raises:
        UserError: A name matches no layer, the model has an adapter of PEFT's or was made in inference mode, the
            batches end too early, the loss is no scalar, or the settings speak of batches or shortened gradients.
        RunError: A loss, a gradient or what is trained is not finite.
    """
    settings = settings or Search()
    check_bare(model)
    _check_plain(model)
    _check_names(target_modules=target_modules, trainable=trainable)
    _check_settings(settings)
    total = _total_steps(settings, train_batches)
    train, validation = _Batches(train_batches, "train"), _Batches(validation_batches, "validation")
    with unmoved(range(torch.cuda.device_count())), _given_back(model, trainable) as layers:
        seed_torch(derive(seed, "model"))
        layers |= add_selection(
            model,
            target_modules,
            rank=settings.rank,
            lora_alpha=settings.lora_alpha,
            dropout=settings.lora_dropout,
            constraint=settings.constraint,
        )
        for name in trainable:
            model.get_submodule(name).requires_grad_(True)
        model.train()
        exact = settings.meta_learning and settings.estimator == "exact"
        gradients = Gradients(partial(_scalar, loss, model), compute, double_backward=exact)
        search = BilevelSearch(model, layers, gradients, train, validation, settings, total=total, seed=seed)
        watch = Watch("find_ranks", ADVICE)
        for step in range(total):
            losses = search.advance(step)
            with _explained(train, validation):
                watch.add({**losses, **search.watched()})
            on_step(step + 1, losses)
        with _explained(train, validation):
            watch.look()
        # B begins at zero, and gets a gradient in the first step that its layer takes part in.
        return without_idle(search.ranks(), [name for name, layer in layers.items() if not layer.lora_B.any()])


@contextmanager
def _explained(*batches: _Batches) -> Iterator[None]:
    """Says so where a mean over nothing is the reason for a loss that is no number, and not the training."""
    try:
        yield
    except RunError as error:
        for each in batches:
            if each.uncounted is not None and bool(each.uncounted):
                raise UserError(
                    f"{each.name}_batches: the labels of a batch are all {IGNORED}, so that its mean loss is over "
                    "nothing; leave such batches out"
                ) from error
        raise


def _scalar(loss: Loss, model: nn.Module, batch: Any) -> Tensor:
    found: object = loss(model, batch)
    if isinstance(found, Tensor) and found.ndim == 0:
        return found
    got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
    raise UserError(f"loss must give a batch's mean loss, a scalar tensor; got {got}")


class _Batches:
    """Batches of the user's by step, again from the beginning where they end."""

    def __init__(self, batches: Iterable[Any], name: str) -> None:
        self.batches, self.name = batches, name
        self.uncounted: Tensor | None = None  # whether a batch so far has labels, and none that counts
        self._left: Iterator[Any] = iter(())
        self._step, self._begun, self._last = -1, 0, Batch((), 1)

    def at(self, step: int) -> Batch:
        """The batch of a step (0-based); steps are asked for in their order."""
        while self._step < step:
            self._last = Batch((self._next(),), units=1)  # the loss is a mean already
            if (nothing := counts_nothing(self._last.micro[0])) is not None:
                self.uncounted = nothing if self.uncounted is None else self.uncounted | nothing
            self._step += 1
        return self._last

    def _next(self) -> Any:
        for batch in self._left:
            return batch
        if self._begun and iter(self.batches) is self.batches:
            raise UserError(
                f"{self.name}_batches ended after {self._step + 1} steps and cannot be iterated again; "
                "pass a list or a DataLoader, or lower Search.steps"
            )
        self._begun += 1
        self._left = iter(self.batches)
        for batch in self._left:
            return batch
        raise UserError(f"{self.name}_batches has no batch in it")


@contextmanager
def _given_back(model: nn.Module, trainable: Sequence[str]) -> Iterator[dict[str, SelectionLoRA]]:
    """Gives an empty mapping for the layers that are put into the model, and puts everything back afterwards."""
    known = dict(model.named_modules())
    if unknown := [name for name in trainable if name not in known]:
        raise UserError(f"trainable: the model has no module {unknown[0]!r}")
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    gradients = {parameter: parameter.grad for parameter in required}
    modes = {module: module.training for module in model.modules()}
    values = {p: p.detach().clone() for name in trainable for p in known[name].parameters()}
    # Running means and such move in training mode, wherever they are.
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in modes
        for name, buffer in module.named_buffers(recurse=False)
    ]
    layers: dict[str, SelectionLoRA] = {}
    try:
        yield layers
    finally:
        for name, layer in layers.items():
            model.set_submodule(name, layer.base)
        for parameter, flag in required.items():
            parameter.requires_grad_(flag)
            parameter.grad = gradients[parameter]
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for parameter, value in values.items():
                parameter.copy_(value)
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer.copy_(value)


def _check_plain(model: nn.Module) -> None:
    """The model's layers are its own, and can be trained."""
    if isinstance(model, PeftModel) or any(isinstance(each, BaseTunerLayer) for each in model.modules()):
        raise UserError(
            f"the model ({type(model).__name__}) has an adapter of PEFT's, and find_ranks takes one without, whose "
            "layers' names the ranks are for; pass what peft_model.unload() gives, or peft_model.merge_and_unload(), "
            "which keeps what the adapter has learned"
        )
    check_differentiable(model)


def _check_names(**given: Sequence[str]) -> None:
    """A string is a sequence, too, of its letters, which may be names of modules."""
    for what, names in given.items():
        if isinstance(names, str):
            raise UserError(f"{what}: must be a list of names, got the string {names!r}; write [{names!r}]")


def _check_settings(settings: Search) -> None:
    if not settings.selects:
        raise UserError("find_ranks learns selection variables, and Search.estimator 'none' has none; see squeeze")
    said = [field for field in BATCH_FIELDS if field in settings.model_fields_set]
    if said:
        raise UserError(f"Search.{said[0]} does not apply here: the batches are given as they are; leave it out")
    if settings.weights.max_grad_norm is not None:
        raise UserError(
            "Search.weights.max_grad_norm: the search differentiates through its steps, which are not those of "
            "shortened gradients; leave it out"
        )


def _total_steps(settings: Search, batches: Iterable[Any]) -> int:
    if settings.steps is not None:
        return settings.steps
    if not isinstance(batches, Sized):
        raise UserError("train_batches has no length; give Search(steps=…) instead of epochs")
    return max(1, round((settings.epochs or 3.0) * len(batches)))
