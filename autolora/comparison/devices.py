"""Which GPU each of several trials on one machine has, and which share of its cores.

    Slots(visible(os.environ), jobs=4, share=1.0)
    share_of_cores(4)

A GPU is called as CUDA_VISIBLE_DEVICES calls it, by number, UUID or name of a MIG instance, and a trial's process is
told of its own alone. What the user's own CUDA_VISIBLE_DEVICES leaves out is given to nobody.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible(environ: Mapping[str, str], count: Callable[[], int]) -> list[str]:
    """The names of the GPUs that this process sees.

    Args:
        environ: Of the process.
        count: How many there are, by torch.
    """
    found = count()
    given = environ.get(VISIBLE)
    if given is None:
        return [str(number) for number in range(found)]
    names = [name.strip() for name in given.split(",") if name.strip()]
    # A process sees one MIG instance, whatever it is given: all that are named are there if one is.
    return names if found and all(name.startswith("MIG-") for name in names) else names[:found]


def cores() -> int:
    """How many CPU cores this process may use: of a batch system's node often fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_of_cores(jobs: int) -> int | None:
    """The threads of each of several trials at a time; None for one, which torch gives what there is.

    Args:
        jobs: How many run at a time.
    """
    return max(1, cores() // jobs) if jobs > 1 else None


class Slots:
    """The GPUs of a machine, handed out to trials: the one with the fewest trials first.

    Args:
        devices: Their names; none where trials run on the CPU.
        jobs: How many trials may run at a time.
        share: What a trial takes of a GPU; None to share them out evenly among the jobs.
    """

    def __init__(self, devices: Sequence[str], jobs: int, share: float | None = None) -> None:
        each = math.ceil(jobs / len(devices)) if devices else 0
        if share is not None:
            each = math.floor(1 / share + 1e-9)
        self.size = min(jobs, each * len(devices)) if devices else jobs
        self._used = dict.fromkeys(devices, 0)

    def take(self) -> str | None:
        """The GPU of a trial that begins; None where there are none."""
        if not self._used:
            return None
        device = min(self._used, key=lambda name: self._used[name])
        self._used[device] += 1
        return device

    def free(self, device: str | None) -> None:
        """Give back what a trial had.

        Args:
            device: From `take`.
        """
        if device is not None:
            self._used[device] -= 1
