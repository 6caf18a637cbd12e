"""One seed governs everything: every random stream is a pure function of the recipe's seed and a label.

No generator's state has to be carried from step to step, which is why a resumed run equals an uninterrupted one:
``derive(seed, "search", "train", step)`` is the random state of that pass.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *labels: str | int) -> int:
    """A seed in [0, 2**63) for the stream that `labels` name.

    Args:
        seed: The recipe's, or one that was derived from it.
        labels: What the stream is for, in order.
    """
    text = "/".join(str(part) for part in (seed, *labels))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_torch(seed: int) -> None:
    """Seed the generators that a pass may draw from: torch's of every device, Python's and NumPy's.

    SpecAugment's masks are NumPy's, and a loss of the user's own may draw from any. No device is waited for.

    Args:
        seed: In [0, 2**63).
    """
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def generator(seed: int) -> torch.Generator:
    """A CPU generator of its own.

    Args:
        seed: In [0, 2**63).
    """
    return torch.Generator().manual_seed(seed)


def kept_generators(cuda: Iterable[int] | None = None) -> Callable[[], None]:
    """Notes the state of torch's own generators.

    Args:
        cuda: Numbers of the GPUs whose generators are meant; None for the present one, if there is one.

    Returns:
        What puts all of them back: the CPU's, those GPUs' and that of an Apple GPU.
    """
    numbers = [torch.cuda.current_device()] if cuda is None and torch.cuda.is_available() else list(cuda or ())
    states = {number: torch.cuda.get_rng_state(number) for number in numbers}
    cpu = torch.get_rng_state()
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def put_back() -> None:
        torch.set_rng_state(cpu)
        for number, state in states.items():
            torch.cuda.set_rng_state(state, number)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return put_back


@contextmanager
def unmoved(cuda: Iterable[int] = ()) -> Iterator[None]:
    """Whatever is drawn inside, the generators of Python, NumPy and torch go on afterwards as if nothing had been.

    Args:
        cuda: Numbers of the GPUs whose generators are meant, too; asking for the state of one waits for it.
    """
    python, numpy, put_back = random.getstate(), np.random.get_state(), kept_generators(cuda)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        put_back()
