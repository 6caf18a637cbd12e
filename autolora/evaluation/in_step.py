"""As many passes on every process, where a pass takes all of them: ``for batch, counts in in_step(mine, compute)``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autolora.training.compute import Compute


def in_step(
    mine: Sequence[Sequence[int]], compute: Compute, spare: Sequence[int]
) -> Iterator[tuple[Sequence[int], bool]]:
    """This process's batches; where the base is shared out, then others, until each process has had as many.

    Args:
        mine: Each the positions of its examples.
        compute: The processes.
        spare: A batch to make passes with that count for nothing.

    Yields:
        A batch, and whether it counts.
    """
    most = max(compute.gather([len(mine)])) if compute.sharded else len(mine)  # asked before anyone makes a pass
    for indices in mine:
        yield indices, True
    for _ in range(most - len(mine)):
        yield spare, False
