"""What produced a run: versions, commit, device, hashes, seeds, times. See `Run` for where it is written."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import autolora
from autolora.programs import program

if TYPE_CHECKING:
    import torch

_PACKAGES = (
    "torch",
    "transformers",
    "datasets",
    "peft",
    "accelerate",
    "evaluate",
    "scikit-learn",
    "scipy",
    "tokenizers",
)


def environment() -> dict[str, object]:
    """Version, commit and packages."""
    commit, dirty = _commit()
    return {
        "autolora": autolora.__version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def device_record(device: torch.device, precision: str) -> dict[str, str | int | None]:
    """The device that a stage ran on and the precision of its passes, as a manifest entry.

    Args:
        device: Torch's.
        precision: "float32" or "bfloat16".
    """
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return {"type": "cuda", "name": name, "cuda": torch.version.cuda, "precision": precision}
    return {"type": device.type, "name": _processor(), "threads": torch.get_num_threads(), "precision": precision}


def recorded_precision(record: Mapping[str, object]) -> str:
    """The precision in a manifest entry; earlier versions computed in bfloat16 on GPUs only, and did not say it.

    Args:
        record: From `device_record`, of this version or an earlier one.
    """
    return str(record.get("precision", "bfloat16" if record.get("type") == "cuda" else "float32"))


def peak_memory_mib(device: torch.device) -> dict[str, float]:
    """The peak of memory since the process began, in MiB.

    Args:
        device: Torch's.

    Returns:
        Resident memory of the "process" and, on a GPU, memory allocated on the "device".
    """
    import torch

    resident = _peak_resident_bytes()
    peak = {"process": round(resident / 1024**2, 1)} if resident is not None else {}
    if device.type == "cuda":
        peak["device"] = round(torch.cuda.max_memory_allocated(device) / 1024**2, 1)
    return peak


def _peak_resident_bytes() -> int | None:
    """The largest memory that the process has had; None where the system does not say it."""
    try:
        import resource
    except ImportError:  # Windows
        from psutil import Process

        return getattr(Process().memory_info(), "peak_wset", None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _commit() -> tuple[str | None, bool | None]:
    """Commit of the source tree that autolora runs from, and whether it was changed since; None when installed."""
    root = Path(autolora.__file__).resolve().parent.parent
    git = program("git")
    if git is None or not (root / ".git").exists():
        return None, None
    try:
        commit = _said([git, "rev-parse", "HEAD"], root).decode("ascii").strip()
        return commit, bool(_said([git, "status", "--porcelain"], root).strip())
    except (OSError, subprocess.SubprocessError):
        return None, None


def _said(command: list[str], folder: Path) -> bytes:
    return subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=10).stdout


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    with suppress(OSError):  # there is none but on Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
