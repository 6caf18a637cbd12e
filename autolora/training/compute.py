"""Where passes run and in which precision: ``Compute("bfloat16")`` has the device, autocast and the other processes.

Only what is a fact about the process as a whole, its device and its number among several, is shared between computes
(accelerate finds it). Precision is not: runs of different precision can follow each other in one process.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env, reduce
from torch import Tensor

T = TypeVar("T")
Precision = Literal["float32", "bfloat16"]

# What `torch.cpu.get_capabilities` calls units that multiply bfloat16: of x86 (AVX-512, AMX), and of Arm.
UNITS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


class Compute:
    """The device, the precision of a pass, and the processes that share the work.

    Args:
        dtype: "float32"; "bfloat16", by autocast; or "auto": bfloat16 where the GPU or CPU computes in it.
        cpu: Stay on the CPU even where there is a GPU.
    """

    def __init__(self, dtype: str = "auto", *, cpu: bool = False) -> None:
        state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # which it does not read by itself
        self.device: torch.device = torch.device("cpu") if cpu else state.device
        self.precision = precision(dtype, self.device)
        self.process, self.processes = int(state.process_index), int(state.num_processes)
        self._state = state

    @property
    def main(self) -> bool:
        """Whether this process writes: one does, of several."""
        return bool(self._state.is_main_process)

    @property
    def sharded(self) -> bool:
        """Whether the frozen base is shared out over the processes, see `autolora.training.sharding`."""
        return self.processes > 1 and bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))

    @property
    def exact_device(self) -> torch.device:
        """Where sums are kept in float64: the device, or the CPU where that knows none (Apple's GPUs)."""
        return torch.device("cpu") if self.device.type == "mps" else self.device

    @property
    def bfloat16(self) -> bool:
        """Whether passes are in bfloat16."""
        return self.precision == "bfloat16"

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a forward pass has this precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bfloat16 else nullcontext()

    def without_gradients(self) -> AbstractContextManager[object]:
        """The context of passes that nothing is learned from.

        Weights that are gathered in inference mode could not be used by a training pass later.
        """
        return torch.no_grad() if self.sharded else torch.inference_mode()

    @contextmanager
    def in_turns(self) -> Iterator[None]:
        """Inside is one process of a machine after the other; afterwards all have been there."""
        turn = int(self._state.local_process_index)
        turns = max(self.gather([turn])) + 1
        for _ in range(turn):
            self.wait()
        try:
            yield
        finally:
            for _ in range(turns - turn):
                self.wait()

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


def default_device() -> torch.device:
    """The device that `Compute` takes, found without a state of the process: for one that only starts others."""
    if parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available():
        return torch.device("cpu")
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def precision(dtype: str, device: torch.device) -> Precision:
    """The precision of passes on a device.

    Args:
        dtype: A recipe's `model.dtype`.
        device: What they run on.
    """
    half = dtype == "bfloat16" or (dtype == "auto" and _computes_in_bfloat16(device))
    return "bfloat16" if half else "float32"


def _computes_in_bfloat16(device: torch.device) -> bool:
    """Whether it has units for it, and does not only emulate it."""
    if device.type == "cpu":
        return _cpu_computes_in_bfloat16()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_computes_in_bfloat16() -> bool:
    """Torch knows the CPU's units, by a public function or, before there was one, by others; oneDNN uses them."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if (capabilities := getattr(torch.cpu, "get_capabilities", None)) is not None:
        found = capabilities()
        return any(bool(found.get(unit, False)) for unit in UNITS)
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    if any(bool(ask()) for ask in asked if ask is not None):  # every CPU with AMX tiles multiplies bfloat16 in them
        return True
    # On x86 this is true of all with AVX-512, where it is slower than float32.
    return platform.machine().lower() in ("aarch64", "arm64") and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
