"""Evidence in a file, so that other ranks are read off a finished search: `save_evidence`, `load_evidence`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from autolora.allocation.components import Components
from autolora.allocation.evidence import Evidence
from autolora.allocation.gates import Gates
from autolora.errors import UserError
from autolora.training.checkpoint import load_checkpoint, save_checkpoint

FORMAT = 1


def save_evidence(evidence: Evidence, path: Path) -> None:
    """Write it; the file is whole or not there.

    Args:
        evidence: Of any kind.
        path: A safetensors file.
    """
    tensors: dict[str, Tensor] = {}
    layers: dict[str, Any] = {}
    for name, each in evidence.components.items():
        tensors |= {f"{name}#u": each.u, f"{name}#sigma": each.sigma, f"{name}#v": each.v}
        layers[name] = {"scaling": each.scaling, "rank": each.rank}
    record: dict[str, Any] = {
        "format": FORMAT,
        "layers": layers,
        "selection": {name: list(a) for name, a in evidence.selection.items()},
        "saliency": {name: list(s) for name, s in evidence.saliency.items()},
    }
    if evidence.gates is not None:
        tensors["#gates"] = evidence.gates.derivatives
        record["gates"] = {
            "sizes": dict(evidence.gates.sizes),
            "units": evidence.gates.units,
            "scale": evidence.gates.scale,
        }
    save_checkpoint(path, tensors, record)


def load_evidence(path: Path) -> Evidence:
    """Read a file that `save_evidence` wrote.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be read, or a later version wrote it.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: the search has not stored what its components are worth")
    tensors, record = load_checkpoint(path)
    if record.get("format") != FORMAT:
        raise UserError(f"{path} is of format {record.get('format')!r}, and this version of autolora knows {FORMAT}")
    components = {
        name: Components(tensors[f"{name}#u"], tensors[f"{name}#sigma"], tensors[f"{name}#v"], **more)
        for name, more in record["layers"].items()
    }
    gates = Gates(tensors["#gates"], **record["gates"]) if "gates" in record else None
    return Evidence(components, gates, record["selection"], record["saliency"])
