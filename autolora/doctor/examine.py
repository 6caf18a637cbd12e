"""All probes: ``examine(Path("runs"))``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from autolora.doctor import machine, network, packages
from autolora.doctor.finding import Finding, Probe, probed


def probes(runs: Path) -> Mapping[str, Mapping[str, Probe]]:
    """By the title that they stand under, and their names.

    Args:
        runs: Where runs are.
    """
    return {
        "software": {"versions": packages.versions},
        "machine": {
            "device": machine.devices,
            "memory": machine.memory,
            "java": machine.java,
            "git": machine.git,
            "terminal": machine.terminal,
        },
        "folders": {
            "runs": partial(machine.disk, runs),
            "hub cache": machine.cache,
            "gguf cache": machine.converted,
        },
        "models": {"bundled models": network.bundled, "hub": network.hub},
        "extras": {"extras": packages.extras},
    }


def examine(runs: Path) -> Iterator[tuple[str, Sequence[Finding]]]:
    """What there is, title by title; no failure of one probe ends the others.

    Args:
        runs: Where runs are.
    """
    for title, named in probes(runs).items():
        yield title, [finding for name, probe in named.items() for finding in probed(name, probe)]
