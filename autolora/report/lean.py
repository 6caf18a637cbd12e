"""Results as light as a report needs them: ``light = Lean()``, then ``light(read_result(run))`` run by run.

A result holds its run's whole manifest and its ranks with what gave them, which for a large model is a megabyte. Here
remain what tables and figures show of it, and what is equal in several runs is held once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from sys import intern
from typing import Any

from autolora.lora.ranks import Ranks
from autolora.runs.results import Result

_RUN = ("created", "autolora", "commit", "dirty", "python", "platform", "packages", "sources", "stages")
_STAGE = ("seconds", "device", "data", "model", "shared", "recovery", "kept")


class Lean:
    """Makes results light. One is used for all results of a report."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._ranks: dict[tuple[object, ...], Ranks] = {}

    def __call__(self, result: Result) -> Result:
        """The result without what a report does not show; what the search learned stays in the run's files.

        Args:
            result: Of a run.
        """
        ranks = None if result.ranks is None else self._shared_ranks(result.ranks)
        return replace(result, manifest=self._manifest(result.manifest), ranks=ranks)

    def _manifest(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        found = {name: manifest[name] for name in _RUN if name in manifest}
        stages = {
            name: {key: self._shared(stage[key]) for key in _STAGE if key in stage}
            for name, stage in found.get("stages", {}).items()
        }
        shared = {name: self._shared(value) for name, value in found.items() if name != "stages"}
        return {**shared, "stages": stages}

    def _shared(self, value: Any) -> Any:
        """The first that is equal to it, of texts and mappings."""
        if isinstance(value, str):
            return intern(value)
        return self._known.setdefault(json.dumps(value), value) if isinstance(value, Mapping) else value

    def _shared_ranks(self, ranks: Ranks) -> Ranks:
        """Ranks by module alone."""
        key = (ranks.initial_rank, tuple(map(intern, ranks)), tuple(ranks.values()))
        if key not in self._ranks:
            by_name = {intern(name): rank for name, rank in ranks.items()}
            self._ranks[key] = Ranks(by_name, initial_rank=ranks.initial_rank)
        return self._ranks[key]
