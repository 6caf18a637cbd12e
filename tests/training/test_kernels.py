"""How many compiled products are kept: said by whoever computes, unless it was said; and that memory follows it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from autolora.training.compute import Compute
from autolora.training.kernels import KEPT, VARIABLES

# 200 shapes, of which few are kept, or all: by how many MiB the process has grown.
GROWTH = """\
import sys, psutil, torch
from autolora.training import kernels
kernels.KEPT = int(sys.argv[1])
kernels.bound_kernels()
torch.set_num_threads(1)
product, weight, process = torch.ops.mkldnn._linear_pointwise, torch.randn(64, 64), psutil.Process()
for i in range(201):
    product(torch.randn(8 + i, 64), weight, None, "none", [], "")
    before = before if i else process.memory_info().rss
print((process.memory_info().rss - before) / 2**20)
"""


def test_who_computes_bounds_both_caches_and_leaves_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said, other = VARIABLES
    monkeypatch.setenv(said, "7")
    monkeypatch.setenv(other, "taken out again afterwards")
    monkeypatch.delenv(other)
    Compute("float32", cpu=True)
    assert (os.environ[said], os.environ[other]) == ("7", str(KEPT))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_memory_follows_the_bound_that_is_set_after_torch_is_imported() -> None:
    few, all_of_them = _growth(4), _growth(1024)
    assert few < 0.5 * all_of_them


def _growth(kept: int) -> float:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-c", GROWTH, str(kept)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
    return float(done.stdout)
