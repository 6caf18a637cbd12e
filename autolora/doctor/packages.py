"""Versions of what is installed, and what each extra would give that is not.

The lists are those of the installed package's metadata or, where autolora runs from its source tree, of pyproject.toml.
"""

from __future__ import annotations

import platform
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any

import autolora
from autolora.doctor.finding import Finding

SHOWN = ("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "huggingface_hub", "safetensors")
GIVES = {  # in words; what another extra gives is told by its packages
    "bundled": "the pretrained models that need no hub: bundled:all-MiniLM-L6-v2, bundled:SmolLM2-135M-Instruct",
    "quantised": "bases in 4 or 8 bits, AdamW in 8 bits",
    "trl": "squeeze inside TRL's SFTTrainer",
    "lightning": "squeeze inside Lightning",
    "harness": "autolora eval --harness",
    "trackers": "autolora run --track",
    "optuna": "searches over rates",
    "ray": "comparisons on many machines: autolora compare --ray",
    "docs": "building the documentation",
    "dev": "running autolora's own tests",
}
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def versions() -> Iterator[Finding]:
    """Python, autolora, and what it cannot do without."""
    here = Path(autolora.__file__).resolve().parent
    yield Finding("autolora", "ok", f"{autolora.__version__}, in {here}")
    yield Finding("python", "ok", f"{platform.python_version()}, {sys.executable}, {platform.platform()}")
    needed = requirements()[""]
    faults = {name: fault for line in needed if (fault := _fault(line)) for name in [_name(line)]}
    known = ", ".join(f"{name} {found}" for name in SHOWN if (found := _installed(name)))
    yield Finding("packages", "ok", known)
    for name, fault in faults.items():
        yield Finding(name, "wrong", fault, f"pip install '{next(r for r in needed if _name(r) == name)}'")


def extras() -> Iterator[Finding]:
    """Each extra: whether its packages are there, what it gives, and how it is installed."""
    for name, needed in requirements().items():
        if not name:
            continue
        gives = GIVES.get(name) or ", ".join(map(_name, needed))
        missing = [fault for line in needed if (fault := _fault(line))]
        if missing:
            yield Finding(f"[{name}]", "note", f"for {gives}: {'; '.join(missing)}", f"pip install 'autolora[{name}]'")
        else:
            yield Finding(f"[{name}]", "ok", f"for {gives}")


def requirements() -> Mapping[str, Sequence[str]]:
    """Requirements by extra; those of autolora itself by "".

    Raises:
        PackageNotFoundError: autolora is neither installed nor run from its source tree.
    """
    project = Path(autolora.__file__).resolve().parent.parent / "pyproject.toml"
    if project.is_file():
        content: dict[str, Any] = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if content.get("name") == "autolora":
            return {"": content.get("dependencies", []), **content.get("optional-dependencies", {})}
    found: dict[str, list[str]] = {"": []}
    found.update({name: [] for name in metadata("autolora").get_all("Provides-Extra") or []})
    for line in requires("autolora") or []:
        of = _EXTRA.search(line)
        found.setdefault(of[1] if of else "", []).append(line.partition(";")[0].strip())
    return found


def _fault(requirement: str) -> str:
    """Why a requirement is not met; "" where it is."""
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return ""
    found = _installed(wanted.name)
    if found is None:
        return f"{wanted.name} is not installed"
    if not wanted.specifier.contains(found, prereleases=True):
        return f"{wanted.name} is {found}, and should be {wanted.specifier}"
    return ""


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return found[0] if found else requirement
