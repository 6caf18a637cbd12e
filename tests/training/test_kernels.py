"""How many compiled products are kept: said where autolora's own processes begin; and that memory follows it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch

from autolora import cli
from autolora.comparison import worker
from autolora.runs.lock import HeldError
from autolora.training.compute import Compute
from autolora.training.kernels import KEPT, VARIABLES, bound_kernels

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


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "taken out again afterwards")
        monkeypatch.delenv(name)


def bounds() -> list[str | None]:
    return [os.environ.get(name) for name in VARIABLES]


@pytest.mark.usefixtures("nothing_said")
def test_what_was_said_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[0], "7")
    bound_kernels()
    assert bounds() == ["7", str(KEPT)]


@pytest.mark.usefixtures("nothing_said")
def test_a_process_of_somebody_elses_is_left_as_it_is() -> None:
    Compute("float32", cpu=True)
    assert bounds() == [None, None]


@pytest.mark.usefixtures("nothing_said")
def test_a_command_bounds_both_caches_before_anything_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    seen: list[list[str | None]] = []
    monkeypatch.setattr(cli, "_run", lambda _: seen.append(bounds()))
    cli.main([])
    assert seen == [[str(KEPT)] * 2]


@pytest.mark.usefixtures("nothing_said")
def test_the_process_of_a_trial_does_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    seen: list[list[str | None]] = []

    class Busy:
        def __init__(self, *_: object) -> None: ...

        def hold(self, _: float) -> None:
            seen.append(bounds())
            raise HeldError("another process is at it", None)

    monkeypatch.setattr(worker, "Run", Busy)
    with pytest.raises(SystemExit) as ended:
        worker.work("run", None, "float32", None, False)  # type: ignore[arg-type]  # the recipe is not looked at
    assert ended.value.code == worker.BUSY
    assert seen == [[str(KEPT)] * 2]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_memory_follows_the_bound_that_is_set_after_torch_is_imported() -> None:
    few, all_of_them = _growth(4), _growth(1024)
    assert few < 0.5 * all_of_them


def _growth(kept: int) -> float:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-c", GROWTH, str(kept)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
    return float(done.stdout)
