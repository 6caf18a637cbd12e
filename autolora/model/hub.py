"""Whether the Hugging Face hub answers: without a network its client tries a file again for 20 seconds and more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_answered: set[str] = set()  # addresses that did, in this process; one that did not may do so later


@contextmanager
def hub_or_cache() -> Iterator[bool]:
    """Inside, the cache alone is read if the hub does not answer, as HF_HUB_OFFLINE=1 has it.

    Where it answers, its client tries again what fails, as ever.

    Yields:
        Whether it answers, or need not.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or answers(constants.ENDPOINT):
        yield True
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield False
    finally:
        constants.HF_HUB_OFFLINE = False


def answers(endpoint: str) -> bool:
    """Whether anything does at an address, tried once, for as long as HF_HUB_ETAG_TIMEOUT has it (10 s).

    Args:
        endpoint: The hub's.
    """
    if endpoint in _answered:
        return True
    from huggingface_hub import constants, get_session

    try:
        get_session().head(endpoint, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception:  # of httpx, by whatever name huggingface_hub has it: no name, no route, no proxy, too late, …
        return False
    _answered.add(endpoint)
    return True
