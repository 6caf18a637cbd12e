"""Trainings that take turns in one process, a block of steps each: for ratios on a machine that is never quite idle.

    found = in_turns({"ours": ours, "theirs": theirs}, block=10, warmup=1, blocks=5)

Each training is a function that is given `step`, which it calls after every one of its steps, and takes
``steps_in_all(block, warmup, blocks)`` of them. It runs in a thread of its own, of which one at a time is let go on: a
library's training loop can so be stopped between two steps without touching it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Training = Callable[[Callable[[], None]], None]


def steps_in_all(block: int, warmup: int, blocks: int) -> int:
    """Steps that each training takes: those of all blocks."""
    return block * (warmup + blocks)


@dataclass
class _Contender:
    """A training, and who has the turn: the semaphores are of the training, and of whoever lets it go on."""

    train: Training
    block: int
    settle: Callable[[], None]
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    back: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    error: BaseException | None = None
    ended: bool = False
    steps: int = 0
    begun: float = 0.0
    seconds: list[float] = field(default_factory=list)

    def run(self) -> None:
        self.turn.acquire()
        self.begun = time.perf_counter()
        try:
            self.train(self.step)
        except BaseException as error:  # raised again where it is seen
            self.error = error
        self.ended = True
        self.back.release()

    def step(self) -> None:
        """After every step; at the end of a block the others have their turn."""
        self.steps += 1
        if self.steps % self.block == 0:
            self.settle()
            self.seconds.append(time.perf_counter() - self.begun)
            self.back.release()
            self.turn.acquire()
            self.begun = time.perf_counter()

    def go_on(self) -> None:
        """Give it the turn, until its block is at an end; one that has ended needs none."""
        if self.ended:
            return
        self.turn.release()
        self.back.acquire()
        if self.error is not None:
            raise self.error


def in_turns(
    trainings: Mapping[str, Training],
    *,
    block: int,
    warmup: int,
    blocks: int,
    settle: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each training's blocks.

    Args:
        trainings: By name.
        block: Steps of a turn.
        warmup: Blocks before those that count.
        blocks: Those that count.
        settle: Waits at a block's end for what a device still has to do.

    Returns:
        By name, one number a block.

    Raises:
        ValueError: A training takes fewer or more steps.
        BaseException: Whatever a training has raised.
    """
    contenders = {name: _Contender(train, block, settle) for name, train in trainings.items()}
    threads = [threading.Thread(target=each.run, daemon=True) for each in contenders.values()]
    for thread in threads:
        thread.start()
    order = list(contenders.values())
    for number in range(warmup + blocks):
        for place in range(len(order)):
            order[(place + number) % len(order)].go_on()  # nobody always goes first
    for each in order:  # past their last step, to their end
        each.go_on()
    wanted = steps_in_all(block, warmup, blocks)
    if other := [name for name, each in contenders.items() if not each.ended or each.steps != wanted]:
        raise ValueError(f"{', '.join(other)} did not take {wanted} steps")
    for thread in threads:
        thread.join()
    return {name: each.seconds[warmup:] for name, each in contenders.items()}
