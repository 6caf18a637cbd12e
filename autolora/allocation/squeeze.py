"""A trained LoRA of one rank cut down to the components that are worth their parameters: ``autolora.squeeze(…)``.

    model = peft.get_peft_model(base, peft.LoraConfig(r=8, …))
    …                                                            # half of the training
    ranks = autolora.squeeze(model, batches, budget=0.25, optimizer=optimizer)
    …                                                            # the other half

Each singular component of each layer's update is valued by the Fisher information of a gate on it
(`autolora.allocation.gates`), and one budget of parameters is spent over all layers (`autolora.allocation.budget`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from autolora.allocation.budget import Budget, choose, smallest
from autolora.allocation.components import Components, adapter_of, components_of
from autolora.allocation.compress import check_config, compress, ranks_of
from autolora.allocation.evidence import Evidence
from autolora.allocation.gates import MEASURING, SampledLoss, measure_gates
from autolora.allocation.likelihood import Likelihood, Predictive
from autolora.allocation.passes import check_differentiable, evaluating, runs_exactly
from autolora.allocation.rises import Rises
from autolora.allocation.rows import Rows, apart, rows_of
from autolora.allocation.told import untold
from autolora.causes import loaded
from autolora.errors import UserError
from autolora.lora.adapter import lora_layers, lora_parameters
from autolora.lora.ranks import Ranks
from autolora.lora.targets import check_bare
from autolora.registry import SCORES
from autolora.training.batches import counts_nothing, load_of_batch
from autolora.training.optimizers import check_held, mend
from autolora.training.seeds import generator

Loss = Callable[[Any, Any], Tensor]
"""``loss(model, batch)``: the mean loss of a batch, a scalar."""


@torch.inference_mode(False)  # what is made in it could not be trained
def squeeze(
    model: PeftModel,
    batches: Iterable[Any],
    budget: Budget | float | Mapping[str, float] = 0.5,
    *,
    likelihood: Likelihood | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    score: str = "fisher",
    loss: Loss | None = None,
    examples: int = 250,
    seed: int = 0,
) -> Ranks:
    """Keep the best components of a LoRA within a budget, in place; training goes on from there, or ends.

    Layers get ranks of their own, those that keep nothing lose their LoRA, and ``peft_config`` says so: saving and
    loading, merging and unloading work as before. A, B are new parameters: an optimiser that is not given here has to
    be made anew. What else is trained (a head) stays, with its state.

    Args:
        model: With one LoRA adapter on linear layers, not merged; on its device.
        batches: Of training data, on the model's device: tensors, tuples of them (as many as ``forward`` takes by
            position) or mappings of them; labels are not needed. A list or a DataLoader. Only the first `examples` are
            used.
        budget: A fraction of the LoRA's parameters, or ``{"fraction": .25}``, ``{"parameters": N}``, ``{"rank": r}``
            (as many as rank r everywhere) or ``{"tolerance": .1}``: the smallest for which the loss on `batches`
            rises by no more than this share of what the LoRA has gained.
        likelihood: What the prediction (the output tensor, or its ``.logits``) means: "categorical", "gaussian", or a
            function of it that gives a `torch.distributions.Distribution`, or the summed loss of targets that it
            draws. None: that of one of transformers' heads.
        optimizer: Whose groups get the new parameters in the places of the old ones, without state. Ten steps of
            warm-up do it good.
        score: A name in `autolora.registry.SCORES`.
        loss: ``loss(model, batch)``, a batch's mean loss; a tolerance needs it, unless the batches have ``labels``.
        examples: 100 to 250 are enough.
        seed: Of the targets that are drawn.

    Returns:
        The ranks by full module name, 0 where a layer keeps nothing. Their `rule` has the score, the budget and the
        predicted rise of the mean loss in nats; with a tolerance the measured rise, too.

    Raises:
        UserError: The model has no plain LoRA, nothing is trained yet, the budget keeps nothing, the likelihood cannot
            be inferred, a batch does not fit, the optimiser does not hold what is trained of the LoRA, or the model
            is of several precisions and runs under autocast only, which is not on.
    """
    bound, examples = Budget.of(budget), checked_count(examples)
    check_bare(model)
    components = _components(model)
    if optimizer is not None:
        check_held(
            optimizer, lora_parameters(model), "leave optimizer= out, and make a new optimizer after the squeeze"
        )
    layers = cast("dict[str, nn.Module]", lora_layers(model))
    predictive = Predictive(model, model.get_base_model(), likelihood)
    used = _first(batches, examples)
    loss = loss or own_loss
    exact = _exact(model, predictive, used, None if bound.tolerance is None else loss)
    told = _told(model, layers, components, used, predictive.sampled, exact)
    gates = measure_gates(model, layers, components, told, predictive.sampled, seed=seed, exact=exact)
    values = SCORES.load(score)(Evidence(components, gates))
    costs = {name: each.cost for name, each in components.items()}
    rule: dict[str, object] = {
        "score": score,
        "budget": bound.given,
    }
    if bound.tolerance is None:
        full = sum(each.rank * each.cost for each in components.values())
        kept = choose(values, costs, bound.limit(costs, full))
    else:
        rises = Rises(layers, components, _mean_loss(model, [batch for batch, _ in used], loss, exact))
        kept = smallest(values, costs, bound.tolerance * rises.gain(), rises)
        rule["measured_rise"] = rises(kept)
    rule["predicted_rise"] = gates.rise(kept)
    ranks = ranks_of(components, kept, **rule)
    replaced = compress(model, components, kept)
    if optimizer is not None:
        mend(optimizer, replaced)
    return ranks


def checked_count(examples: object) -> int:
    """How many examples the components are valued on.

    Args:
        examples: As the caller has it.

    Raises:
        UserError: It is no number from 1.
    """
    if isinstance(examples, bool) or not isinstance(examples, Integral) or int(examples) < 1:
        raise UserError(f"examples: must be a whole number from 1, got {examples!r}")
    return int(examples)


def _components(model: PeftModel) -> dict[str, Components]:
    if not isinstance(model, PeftModel):
        raise UserError(f"squeeze takes a model with LoRA, from peft.get_peft_model; got a {type(model).__name__}")
    check_bare(model.get_base_model())
    check_differentiable(model)
    layers = lora_layers(model)
    if not layers:
        raise UserError("the model has no LoRA layer to squeeze")
    for adapter in {adapter_of(name, layer) for name, layer in layers.items()}:
        check_config(cast(LoraConfig, model.peft_config[adapter]))
    found = components_of(cast("dict[str, nn.Module]", layers))
    if not any(len(each) for each in found.values()):
        raise UserError("every update is zero, nothing has been trained yet: squeeze after some of the training")
    return found


def _first(batches: Iterable[Any], examples: int) -> list[tuple[Any, Rows]]:
    """The first batches with at least so many examples, and their rows."""
    if isinstance(batches, Tensor | Mapping):
        raise UserError(f"batches: must be a list of batches, or a DataLoader, got one {type(batches).__name__}")
    found: list[tuple[Any, Rows]] = []
    count = 0
    for batch in batches:
        if not (rows := rows_of(batch)).count:
            continue
        found.append((batch, rows))
        count += rows.count
        if count >= examples:
            break
    if not count:
        raise UserError("batches has no batch in it")
    return found


def _told(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    components: Mapping[str, Components],
    batches: list[tuple[Any, Rows]],
    loss: SampledLoss,
    exact: bool,
) -> list[tuple[Any, Rows]]:
    """The batches, in parts of one example where otherwise a layer's rows could not be told apart by example."""
    largest = max(batches, key=lambda each: each[1].count)
    why = untold(model, layers, components, *largest, loss, exact=exact)
    if why is None:
        return batches
    found: list[tuple[Any, Rows]] = []
    for batch, rows in batches:
        parts = [batch] if rows.count == 1 else apart(batch, rows)
        if parts is None:
            raise why
        found += [(part, rows_of(part)) for part in parts]
    return found


def _exact(model: nn.Module, predictive: Predictive, used: list[tuple[Any, Rows]], loss: Loss | None) -> bool:
    """Whether the passes are without autocast, which the smallest batch tells."""
    batch, _ = min(used, key=lambda each: each[1].count)
    with loaded({"done": MEASURING, **load_of_batch(batch)}):
        return runs_exactly(model, lambda: tried(model, predictive, batch, loss))


def tried(model: nn.Module, predictive: Predictive, batch: Any, loss: Loss | None) -> None:
    """Make the passes of a squeeze on a batch, for what they raise.

    Args:
        model: With LoRA.
        predictive: Of it.
        batch: As the model takes it.
        loss: What a tolerance is measured by; None: there is none.

    Raises:
        UserError: The batch, the prediction and the likelihood don't fit, or the loss is no number.
    """
    predictive.sampled(batch, generator(0))
    if loss is not None:
        _number(loss(model, batch))


def _mean_loss(model: nn.Module, batches: Sequence[Any], loss: Loss, exact: bool = True) -> Callable[[], float]:
    """The mean loss over the examples of some batches, each batch weighted by how many it has.

    Those without a single label that counts have none.
    """
    batches = [batch for batch in batches if (nothing := counts_nothing(batch)) is None or not bool(nothing)]
    counts = [rows_of(batch).count for batch in batches]

    @torch.no_grad()
    def mean() -> float:
        with evaluating(model, exact=exact):
            losses = [_number(loss(model, batch)) for batch in batches]
        return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)

    return mean


def _number(loss: object) -> float:
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return float(loss)
    if isinstance(loss, int | float):
        return float(loss)
    shape = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
    raise UserError(f"loss= must give a batch's mean loss, one number; got a {type(loss).__name__} {shape}".rstrip())


def own_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss that one of transformers' models gives itself.

    Args:
        model: It, with LoRA.
        batch: With ``labels``.

    Raises:
        UserError: It gives none.
    """
    found = model(**batch).loss if isinstance(batch, Mapping) and "labels" in batch else None
    if not isinstance(found, Tensor):
        raise UserError(
            "a tolerance needs the loss measured: give batches with 'labels' to a model of transformers, or "
            "loss=, a function of model and batch"
        )
    return found
