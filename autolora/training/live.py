"""Bytes of the tensors that are alive, counted as they are made and freed: ``with LiveBytes(model) as live: …``.

It counts storages, on any device, also of tensors that have a shape only (fake ones, and those on the meta device).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary
from typing_extensions import override


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is made inside.

    Args:
        model: Whose parameters and buffers are not counted.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._known = WeakIdKeyDictionary()
        for tensor in (*model.parameters(), *model.buffers()):
            self._known[tensor.untyped_storage()] = 0

    @override
    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, Tensor):
                self._note(each)
        self.peak = max(self.peak, self.now)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            size = storage.nbytes()
            self._known[storage] = size
            self.now += size
            weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size
