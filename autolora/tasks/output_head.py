"""An output head, and what a model does after it, to be done again on other positions.

    rest = Rest(answer)                   # what the head gave for a few positions
    with rest:
        ...                               # the model's own code makes its logits of it
    head, fault = rest.head(module, logits)
    logits = head.logits(hidden)          # the same of other positions

Operations are noted as torch sees them: a soft cap, a scale, a mask, a bias. Control flow is not; what looks at values
is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from typing_extensions import override

from autolora.tasks.logits import full_precision

ATTRIBUTES = ("size", "dim", "numel", "stride", "is_floating_point", "is_contiguous", "__len__", "element_size")


@dataclass(frozen=True)
class _Value:
    """Stands in an operation's arguments for what an earlier one gave; 0 is what the head gave."""

    index: int


@dataclass(frozen=True)
class _Operation:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class OutputHead:
    """A model's way from hidden states to logits, position by position.

    Args:
        module: Its output embeddings, with whatever adapts them.
        rest: What the model does afterwards.
        result: Which of the values of `rest` the logits are.
    """

    module: nn.Module
    rest: tuple[_Operation, ...] = ()
    result: int = 0

    def logits(self, hidden: Tensor) -> Tensor:
        """The model's logits, float32 where the pass is in half precision.

        Args:
            hidden: Of any positions, (positions, width).

        Returns:
            (positions, vocabulary), with their graph.
        """
        return full_precision(self.after(self.module(hidden.unsqueeze(0))).squeeze(0))

    def after(self, output: Tensor) -> Tensor:
        """What the model makes of its head's output.

        Args:
            output: (1, positions, vocabulary).
        """
        values: list[Any] = [output]

        def filled(each: Any) -> Any:
            return values[each.index] if isinstance(each, _Value) else each

        for operation in self.rest:
            args, kwargs = tree_map(filled, (operation.args, dict(operation.kwargs)))
            values.append(operation.function(*args, **kwargs))
        found: Tensor = values[self.result]
        return found


class Rest(TorchFunctionMode):
    """Notes what is done with a tensor, and with all that is made of it.

    Args:
        start: The tensor.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.tensors: list[Any] = [start]  # kept, so that no other one gets their identity
        self.operations: list[_Operation] = []
        self.fault = ""

    def head(self, module: nn.Module, logits: object) -> tuple[OutputHead | None, str]:
        """What was noted up to the logits; or why there is none of that."""
        if self.fault:
            return None, self.fault
        found = self._index(logits)
        if found is None:
            return None, "makes its logits of something else than its head's output"
        return OutputHead(module, tuple(self.operations), found), ""

    @override
    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        marked = tree_map(self._marked, (args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if not any(isinstance(leaf, _Value) for leaf in tree_leaves(marked)):
            return result
        name = getattr(func, "__name__", str(func))
        if isinstance(result, Tensor) or name == "__setitem__":
            self.operations.append(_Operation(func, *marked))
            self.tensors.append(result)
        elif name != "__get__" and name not in ATTRIBUTES:
            self.fault = f"looks at the values of its logits ({name})"
        return result

    def _index(self, each: object) -> int | None:
        """Of the latest value that this tensor is: one that is changed in place is several."""
        for i in range(len(self.tensors) - 1, -1, -1):
            if self.tensors[i] is each and each is not None:
                return i
        return None

    def _marked(self, each: Any) -> Any:
        index = self._index(each) if isinstance(each, Tensor) else None
        return each if index is None else _Value(index)
