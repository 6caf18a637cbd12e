"""Parcels on their way through a Ray cluster: ``RayPost(ray.remote(Mailbox).remote(), key)``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from autolora.comparison.carried import Parcel

LONGEST = 60.0  # seconds that a mailbox may take to answer


class Mailbox:
    """Parcels that wait to be collected, by who they are for; an actor of the cluster."""

    def __init__(self) -> None:
        self._parcels: dict[str, dict[int, Parcel]] = {}  # with their numbers
        self._put: Counter[str] = Counter()

    def put(self, key: str, parcel: Parcel) -> None:
        """Leave a parcel.

        Args:
            key: Who it is for.
            parcel: It.
        """
        self._put[key] += 1
        self._parcels.setdefault(key, {})[self._put[key]] = parcel

    def take(self, key: str, came: int) -> dict[int, Parcel]:
        """All that are here, by their numbers, in their order; they stay until they are known to have come.

        Args:
            key: Who they are for.
            came: The number of the last one that has come.
        """
        here = {number: parcel for number, parcel in self._parcels.get(key, {}).items() if number > came}
        self._parcels[key] = here
        return here


class RayPost:
    """A `autolora.comparison.carrying.Post` through a mailbox.

    Args:
        mailbox: The actor's handle.
        key: Of one trial, begun once: what a lost node may still send is nobody's then.
    """

    def __init__(self, mailbox: Any, key: str) -> None:
        self._mailbox, self._key, self._came = mailbox, key, 0

    def send(self, parcel: Parcel) -> None:
        """See `Post.send`.

        Args:
            parcel: See there.
        """
        self._mailbox.put.remote(self._key, parcel)

    def deliver(self, parcel: Parcel) -> None:
        """See `Post.deliver`.

        Args:
            parcel: See there.

        Raises:
            RayError: It does not come.
        """
        import ray

        ray.get(self._mailbox.put.remote(self._key, parcel), timeout=LONGEST)

    def collect(self) -> list[Parcel]:
        """See `Post.collect`; what does not come now comes the next time."""
        import ray

        try:
            found: dict[int, Parcel] = ray.get(self._mailbox.take.remote(self._key, self._came), timeout=LONGEST)
        except ray.exceptions.RayError:
            return []
        self._came = max(found, default=self._came)
        return list(found.values())
