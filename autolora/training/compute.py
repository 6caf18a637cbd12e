"""Where passes run and in which precision: ``Compute("bfloat16")`` has the device, autocast and the other processes.

Only what is a fact about the process as a whole, its device and its number among several, is shared between computes
(accelerate finds it). Precision is not: runs of different precision can follow each other in one process.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env, reduce
from torch import Tensor

T = TypeVar("T")


class Compute:
    """The device, the precision of a pass, and the processes that share the work.

    Args:
        dtype: "float32"; "bfloat16", by autocast; or "auto": bfloat16 on a GPU that computes in it, else float32.
        cpu: Stay on the CPU even where there is a GPU.
    """

    def __init__(self, dtype: str = "auto", *, cpu: bool = False) -> None:
        state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # which it does not read by itself
        self.device: torch.device = torch.device("cpu") if cpu else state.device
        self.bfloat16 = dtype == "bfloat16" or (dtype == "auto" and _computes_in_bfloat16(self.device))
        self.process, self.processes = int(state.process_index), int(state.num_processes)
        self._state = state

    @property
    def main(self) -> bool:
        """Whether this process writes: one does, of several."""
        return bool(self._state.is_main_process)

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a forward pass has this precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bfloat16 else nullcontext()

    def wait(self) -> None:
        """Wait until every process is here."""
        self._state.wait_for_everyone()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on each of them.

        Args:
            tensor: On the device, of the same shape on every process.
        """
        summed: Tensor = reduce(tensor, reduction="sum") if self.processes > 1 else tensor
        return summed

    def gather(self, items: list[T]) -> list[T]:
        """The items of all processes, on each of them.

        Args:
            items: This process's; they can be pickled.

        Returns:
            Process by process, in the order of their numbers.
        """
        gathered: list[T] = gather_object(items) if self.processes > 1 else items
        return gathered

    def from_main(self, item: T) -> T:
        """What the main process has, on every process.

        Args:
            item: The main process's; what others pass is ignored. It can be pickled.
        """
        items = [item]
        if self.processes > 1:
            broadcast_object_list(items)
        return items[0]


def _computes_in_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
