"""One seed governs everything: every random stream is a pure function of the recipe's seed and a label.

No generator's state has to be carried from step to step, which is why a resumed run equals an uninterrupted one:
``derive(seed, "search", "train", step)`` is the random state of that pass.
"""

from __future__ import annotations

import hashlib

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
    """Seed torch's generators of every device; no device is waited for.

    Args:
        seed: In [0, 2**63).
    """
    torch.manual_seed(seed)


def generator(seed: int) -> torch.Generator:
    """A CPU generator of its own.

    Args:
        seed: In [0, 2**63).
    """
    return torch.Generator().manual_seed(seed)
