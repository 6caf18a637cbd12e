"""Evidence in a file, so that other ranks are read off a finished search: `save_evidence`, `load_evidence`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from autolora.allocation.components import Components
from autolora.allocation.evidence import Evidence
from autolora.allocation.gates import Gates
from autolora.errors import UserError
from autolora.training.checkpoint import load_checkpoint, read_record, save_checkpoint

FORMAT = 1
_PAIRS = "#pair:"


def save_evidence(evidence: Evidence, path: Path, identity: str = "") -> None:
    """Write it; the file is whole or not there.

    Args:
        evidence: Of any kind.
        path: A safetensors file.
        identity: What it belongs to.
    """
    components, layers = _packed(evidence.components, "")
    columns, columned = _packed(evidence.pairs, _PAIRS)
    tensors = {**components, **columns}
    record: dict[str, Any] = {
        "format": FORMAT,
        "identity": identity,
        "layers": layers,
        "pairs": columned,
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


def _packed(components: Mapping[str, Components], prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    for name, each in components.items():
        key = prefix + name
        tensors |= {f"{key}#u": each.u, f"{key}#sigma": each.sigma, f"{key}#v": each.v}
    return tensors, {name: {"scaling": each.scaling, "rank": each.rank} for name, each in components.items()}


def _unpacked(tensors: Mapping[str, Tensor], layers: Mapping[str, Any], prefix: str) -> dict[str, Components]:
    found = {}
    for name, more in layers.items():
        key = prefix + name
        found[name] = Components(tensors[f"{key}#u"], tensors[f"{key}#sigma"], tensors[f"{key}#v"], **more)
    return found


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
    try:
        return _evidence(tensors, record)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path} is no evidence of a search ({type(error).__name__}: {error}); put it back, or search anew"
        ) from error


def _evidence(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Evidence:
    components, pairs = _unpacked(tensors, record["layers"], ""), _unpacked(tensors, record["pairs"], _PAIRS)
    gates = Gates(tensors["#gates"], **record["gates"]) if "gates" in record else None
    return Evidence(components, gates, record["selection"], record["saliency"], pairs)


def evidence_identity(path: Path) -> str | None:
    """What a file that `save_evidence` wrote belongs to; None where there is no file, or it does not say.

    Args:
        path: The file.

    Raises:
        UserError: It is damaged.
    """
    if not path.is_file():
        return None
    identity = read_record(path).get("identity")
    return None if identity is None else str(identity)
