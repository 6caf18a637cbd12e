"""The hidden states that a language model's output head gets in a pass, and the way from there to its logits.

    found = before_head(model, inputs)
    if isinstance(found, HiddenStates):
        logits = found.head.logits(found.hidden[0, :128])     # the model's own, of these positions only

The model's own forward pass is run, with a head that notes what it is given and answers for two positions instead of
all. What the model then does to these two answers is noted (see `autolora.tasks.output_head`), and in every pass it is
first done again on each of the two alone and compared with what the model itself made of them. A model that does
anything that does not come out the same is not taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from autolora.tasks.decoding import inner_model
from autolora.tasks.output_head import OutputHead, Rest
from autolora.training.seeds import kept_generators

PROBED = 2  # positions whose logits the model's own code makes in every pass
_WHOLE: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()  # models that cannot be taken apart, and why


@dataclass(frozen=True)
class HiddenStates:
    """What the head of a model gets in a pass.

    Args:
        hidden: (examples, positions, width), with their graph.
        head: What makes logits of them.
    """

    hidden: Tensor
    head: OutputHead


def before_head(model: nn.Module, inputs: Mapping[str, Any]) -> HiddenStates | str:
    """A pass of a model up to its output head.

    Args:
        model: A causal language model or an encoder-decoder, adapted or not.
        inputs: What it is called with.

    Returns:
        The hidden states; or why its logits can be made as a whole only, as the predicate of a sentence about it. Then
        torch's random numbers are as if there had been no pass.
    """
    inner = inner_model(model)
    module = _module(inner)
    if isinstance(module, str):
        return module
    if (known := _WHOLE.get(inner)) is not None:
        return known
    if reason := _watched(model, inner, module):
        return reason
    put_back = kept_generators()
    found = taken_apart(model, module, inputs)
    if isinstance(found, str):
        _WHOLE[inner] = found
        put_back()
    return found


def vocabulary(model: nn.Module) -> int:
    """How many logits a position has; 0 where the model does not say.

    Args:
        model: Adapted or not.
    """
    config = getattr(inner_model(model), "config", None)
    return int(getattr(config.get_text_config(decoder=True), "vocab_size", 0)) if config is not None else 0


def _module(inner: Any) -> nn.Module | str:
    module = inner.get_output_embeddings() if hasattr(inner, "get_output_embeddings") else None
    return module if isinstance(module, nn.Module) else "names no module that makes its logits"


def _watched(model: nn.Module, inner: nn.Module, module: nn.Module) -> str:
    """Why a head has to be called with all positions at once, or a model as a whole; else ""."""
    for part in module.modules():
        if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
            return "has hooks at its output head, which count on all positions at once"
    for outer in (model, inner, module):
        if outer._compiled_call_impl is not None or hasattr(outer, "_orig_mod"):
            return "is compiled as a whole, together with its output head"
    return ""


def taken_apart(
    model: nn.Module, module: nn.Module, inputs: Mapping[str, Any], *, checked: bool = True
) -> HiddenStates | str:
    """A pass up to a head, as `before_head`, which looks at the model first and remembers what it cannot be.

    Args:
        model: Adapted or not.
        module: Its output embeddings.
        inputs: What the model is called with.
        checked: Compare with what the model itself makes of a few positions; tensors of a shape only have no values.
    """
    probe = _Probe(module)
    with probe.in_place():
        output = model(**inputs)
    if probe.fault or probe.rest is None or probe.hidden is None:
        return probe.fault or "makes its logits without calling its output head"
    head, fault = probe.rest.head(module, output.logits)
    if head is None:
        return fault
    if checked and (fault := probe.check(head, output.logits)):
        return fault
    return HiddenStates(probe.hidden, head)


class _Probe:
    """In the place of a head's forward: keeps what it is given, and answers for a few positions.

    Args:
        module: The head.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.original: Callable[..., Tensor] = module.forward
        self.hidden: Tensor | None = None
        self.rest: Rest | None = None
        self.fault = ""
        self.answer = torch.empty(0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        own = vars(self.module).get("forward")
        self.module.forward = self
        try:
            yield
        finally:
            if own is None:
                del self.module.forward
            else:
                self.module.forward = own
            if self.rest is not None:
                self.rest.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.hidden is not None or self.fault:
            self.fault = "calls its output head several times in a pass"
        elif len(args) != 1 or kwargs or not isinstance(args[0], Tensor) or args[0].ndim != 3:
            self.fault = "gives its output head something else than (examples, positions, width)"
        if self.fault:
            return self.original(*args, **kwargs)
        self.hidden = args[0]
        answer = self._answered(self.hidden[:1, :PROBED].detach())
        self.answer = answer.clone()
        self.rest = Rest(answer)
        self.rest.__enter__()  # type: ignore[no-untyped-call]
        return answer

    def _answered(self, hidden: Tensor) -> Tensor:
        """Of the head's own forward, without graph and dropout, so that no random number is drawn."""
        active = [part for part in self.module.modules() if isinstance(part, nn.Dropout) and part.training]
        for part in active:
            part.training = False
        try:
            with torch.no_grad():
                return self.original(hidden)
        finally:
            for part in active:
                part.training = True

    def check(self, head: OutputHead, logits: Tensor) -> str:
        """Each probed position alone must come out as the model has it together with the others; why not, else ""."""
        assert self.hidden is not None
        if logits.shape[:2] != self.answer.shape[:2]:
            return "leaves out positions after its output head"
        wide = self.answer.dtype in (torch.float32, torch.float64)
        try:
            with torch.no_grad():
                for i in range(self.answer.shape[1]):
                    alone = self._answered(self.hidden[:1, i : i + 1].detach())
                    if not _close(alone, self.answer[:, i : i + 1], 1e-3 if wide else 2e-2):
                        return "has an output head that looks at other positions, too"
                    if not _close(head.after(self.answer[:, i : i + 1].clone()), logits[:, i : i + 1], 1e-6):
                        return "makes of its head's output what depends on other positions"
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            return f"makes of its head's output what cannot be made piece by piece ({str(error).splitlines()[0]})"
        return ""


def _close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Equal to this share of the largest; a product of another shape is summed in another order."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    finite = expected[expected.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(found, expected, rtol=0, atol=largest * tolerance, equal_nan=True)
