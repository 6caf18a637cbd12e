"""Optimisers, their learning rates as a pure function of the step, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW
from transformers import get_scheduler

from autolora.errors import UserError
from autolora.recipe.schema import Schedule, Weights
from autolora.training.bits import bits_optimizer, load_state
from autolora.training.finite import norm

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


class ScheduledOptimizer:
    """Adam or AdamW over named parameters, driven by gradients that are handed to it.

    Args:
        named: Parameters by name; the names are the checkpoint's.
        settings: Learning rate, weight decay and schedule.
        total: Steps of the stage, for the schedule.
        decoupled: Whether weight decay is decoupled (AdamW), or part of the gradient (Adam).
        factors: What the learning rate of a parameter is multiplied by, by name; 1 where nothing is said.
    """

    def __init__(
        self,
        named: Mapping[str, Tensor],
        settings: Schedule,
        total: int,
        *,
        decoupled: bool = True,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        self.named = dict(named)
        self.optimizer = _optimizer(_groups(self.named, factors or {}), settings, decoupled)
        self.base = settings.learning_rate
        self.max_norm = settings.max_grad_norm if isinstance(settings, Weights) else None
        self.norms: tuple[Tensor, Tensor] | None = None  # of the last gradients, and of the parameters after them
        self.multiplier = _multiplier(self.optimizer, settings, total)

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step.

        Args:
            step: From 0.
        """
        return self.base * self.multiplier(step)

    def apply(self, gradients: Sequence[Tensor], step: int, before_zero: Callable[[], None] = lambda: None) -> None:
        """Take one optimiser step.

        Args:
            gradients: Shaped like the parameters, in their order.
            step: From 0.
            before_zero: Called after it, while the parameters still have their gradients.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step) * group["factor"]
        length = norm(gradients)
        if self.max_norm is not None:
            gradients = _shortened(gradients, length, self.max_norm)
        for parameter, gradient in zip(self.named.values(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.norms = length, norm([parameter.detach() for parameter in self.named.values()])
        before_zero()
        self.optimizer.zero_grad(set_to_none=True)

    def moments(self) -> tuple[list[Tensor], list[Tensor]]:
        """First and second moments before bias correction, shaped like the parameters; zero before the first step."""
        states = [self.optimizer.state.get(p, {}) for p in self.named.values()]
        first = [s.get("exp_avg", torch.zeros_like(p)) for s, p in zip(states, self.named.values(), strict=True)]
        second = [s.get("exp_avg_sq", torch.zeros_like(p)) for s, p in zip(states, self.named.values(), strict=True)]
        return first, second

    def renew(self, named: Mapping[str, Tensor], step: int, warmup: int = 10) -> None:
        """Go on with other parameters, some of which are new: those have no state, and count their steps from 0.

        The schedule goes on to its end, under a warm-up of its own: × min(1, (t - step + 1) / warmup) from `step` on.

        Args:
            named: All parameters from now on, by name.
            step: The next one, from 0.
            warmup: Steps.
        """
        self.named = dict(named)
        (group,) = self.optimizer.param_groups  # those who renew have one rate for all
        group["params"] = list(self.named.values())
        present = set(self.named.values())
        for parameter in [p for p in self.optimizer.state if p not in present]:
            del self.optimizer.state[parameter]
        before = self.multiplier
        self.multiplier = lambda t: before(t) * min(1.0, max(0, t - step + 1) / warmup)

    def state(self) -> dict[str, Tensor]:
        """Parameters and optimiser state by name."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.named.items():
            tensors[name] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{name}#{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `state`.

        Args:
            tensors: A checkpoint's, on any device; those of others may be among them.
        """
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(tensors[name])
                start = f"{name}#"
                state = {key.removeprefix(start): each for key, each in tensors.items() if key.startswith(start)}
                if state and not isinstance(self.optimizer, Adam):  # AdamW is one of these
                    load_state(self.optimizer, parameter, state)
                elif state:
                    self.optimizer.state[parameter] = {k: v.to(parameter.device).clone() for k, v in state.items()}


def _shortened(gradients: Sequence[Tensor], length: Tensor, most: float) -> Sequence[Tensor]:
    """Gradients of this common 2-norm at `most`, where it is longer: as `torch.nn.utils.clip_grad_norm_` does it."""
    return torch._foreach_mul(list(gradients), (most / (length + 1e-6)).clamp(max=1.0))


def _groups(named: Mapping[str, Tensor], factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """The parameters by what multiplies their learning rate."""
    found: dict[float, list[Tensor]] = {}
    for name, parameter in named.items():
        found.setdefault(factors.get(name, 1.0), []).append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in found.items()]


def _optimizer(groups: list[dict[str, Any]], settings: Schedule, decoupled: bool) -> torch.optim.Optimizer:
    rates: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if isinstance(settings, Weights) and settings.optimizer != "adamw":
        return bits_optimizer(settings.optimizer, groups, **rates)
    return (AdamW if decoupled else Adam)(groups, fused=True, **rates)


def norms_of(optimizer: ScheduledOptimizer, gradients: str, parameters: str) -> dict[str, Tensor]:
    """What has to be finite of an optimiser's last step, by what it is called: scalars on the device.

    Args:
        optimizer: Which may have taken none yet.
        gradients: What its gradients are called.
        parameters: What its parameters are.
    """
    names = (f"norm of the {gradients}", f"norm of the {parameters}")
    return dict(zip(names, optimizer.norms or (), strict=False))


def _multiplier(optimizer: torch.optim.Optimizer, settings: Schedule, total: int) -> Callable[[int], float]:
    warmup = round(settings.warmup * total)
    scheduler = get_scheduler(_SCHEDULES[settings.schedule], optimizer, warmup, total)
    multiplier: Callable[[int], float] = scheduler.lr_lambdas[0]
    # The libraries' schedules give 0 in the first warm-up step, which would waste it: steps count from 1 there. (And
    # where nothing comes after the warm-up, they give 0 in its last.)
    return lambda step: (step + 1) / warmup if step < warmup else multiplier(step)


def check_held(optimizer: Any, named: Mapping[str, nn.Parameter], advice: str) -> None:
    """Make sure that an optimiser has parameters in its groups, where `mend` can replace them.

    Args:
        optimizer: As the caller has it.
        named: The parameters by name.
        advice: What to do otherwise, a phrase.

    Raises:
        UserError: It is none, lacks some of them, or cannot have them replaced.
    """
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "state"):
        raise UserError(f"optimizer: must be one of torch's, got a {type(optimizer).__name__}; {advice}")
    if isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.LBFGS):
        raise UserError(
            "the optimizer is an LBFGS, whose history is of all its parameters together, so a squeeze could not hand "
            f"it some new ones; {advice}"
        )
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    if missing := [name for name, each in named.items() if id(each) not in held]:
        raise UserError(
            f"the optimizer ({type(optimizer).__name__}) does not hold {missing[0]} among its param_groups"
            f"{f' (nor {len(missing) - 1} others)' if len(missing) > 1 else ''}, so a squeeze could not hand it the "
            f"new factors: give the optimizer all that requires gradients, or {advice}"
        )


def mend(optimizer: torch.optim.Optimizer, replaced: Mapping[nn.Parameter, nn.Parameter | None]) -> None:
    """Put new parameters where the old ones were in an optimiser's groups, and forget the state of the old ones.

    Args:
        optimizer: That `check_held` takes: torch's, or a wrapper with ``param_groups`` and ``state``; changed in place.
        replaced: New parameters by old ones; None where one is gone. What it does not name keeps its state.
    """
    for group in optimizer.param_groups:
        names = group.get("param_names")
        kept = [i for i, parameter in enumerate(group["params"]) if replaced.get(parameter, parameter) is not None]
        group["params"][:] = [replaced.get(group["params"][i], group["params"][i]) for i in kept]  # some keep the list
        if names is not None:
            group["param_names"] = [names[i] for i in kept]
    for parameter in replaced:
        optimizer.state.pop(parameter, None)
