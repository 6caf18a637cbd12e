"""Precision belongs to a compute, not to the process: several can be used one after the other."""

from __future__ import annotations

import pytest
import torch

from autolora.training.compute import Compute


def product(compute: Compute) -> torch.Tensor:
    """A matrix product as this compute autocasts it, on the CPU."""
    one, other = torch.rand(3, 4), torch.rand(4, 2)
    with compute.autocast():
        return one @ other


def test_computes_of_different_precision_work_one_after_the_other_in_one_process() -> None:
    computes = [Compute(dtype, cpu=True) for dtype in ("bfloat16", "float32", "bfloat16")]
    expected = [torch.bfloat16, torch.float32, torch.bfloat16]
    assert [product(compute).dtype for compute in computes] == expected
    assert [product(compute).dtype for compute in reversed(computes)] == expected[::-1]  # in any order, more than once


def test_autocast_ends_with_its_block() -> None:
    with Compute("bfloat16", cpu=True).autocast():
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_float32_and_auto_autocast_nothing_on_the_cpu(dtype: str) -> None:
    compute = Compute(dtype, cpu=True)
    assert compute.device == torch.device("cpu")
    assert not compute.bfloat16
    with compute.autocast():
        assert not torch.is_autocast_enabled("cpu")
    assert product(compute).dtype == torch.float32


def test_auto_is_bfloat16_where_the_device_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autolora.training.compute._computes_in_bfloat16", lambda device: True)
    found = {dtype: Compute(dtype, cpu=True).bfloat16 for dtype in ("auto", "float32", "bfloat16")}
    assert found == {"auto": True, "float32": False, "bfloat16": True}


def test_one_process_writes_and_has_all_there_is() -> None:
    compute, tensor = Compute("float32", cpu=True), torch.rand(2, 3)
    assert (compute.main, compute.process, compute.processes) == (True, 0, 1)
    assert torch.equal(compute.sum(tensor), tensor)
    assert compute.gather(["a", "b"]) == ["a", "b"]
    assert compute.from_main({"a": 1}) == {"a": 1}
    compute.wait()
