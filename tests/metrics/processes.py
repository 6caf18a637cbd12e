"""Python in a process of its own, to see what it imports and writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import autolora


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` with warnings as errors, on the package that is tested here."""
    source = str(Path(autolora.__file__).parents[1])
    settings = {**os.environ, "PYTHONPATH": source, **environment}
    strict = ("-W", "error", "-W", "ignore:Implicitly cleaning up:ResourceWarning")  # which torch 2.6 causes at its end
    return subprocess.run([sys.executable, *strict, "-c", code], env=settings, capture_output=True, text=True)
