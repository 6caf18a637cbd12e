"""Precision belongs to a compute, not to the process: several can be used one after the other."""

from __future__ import annotations

import pytest
import torch

from autolora.training.compute import Compute, default_device, precision


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
def test_float32_and_auto_autocast_nothing_on_a_cpu_without_bfloat16(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu(monkeypatch, architecture="x86_64", avx512_f=True)
    compute = Compute(dtype, cpu=True)
    assert compute.device == torch.device("cpu")
    assert not compute.bfloat16
    with compute.autocast():
        assert not torch.is_autocast_enabled("cpu")
    assert product(compute).dtype == torch.float32


def cpu(monkeypatch: pytest.MonkeyPatch, **capabilities: object) -> None:
    """A CPU that has these, as torch's public function tells it."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)


@pytest.mark.parametrize(
    ("capabilities", "half"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "arm64", "bf16": True}, True),
        ({"architecture": "arm64", "sve_bf16": True}, True),
        ({"architecture": "arm64", "neon": True, "bf16": False}, False),
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False, "amx_tile": False}, False),
        ({}, False),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_that_multiplies_it(
    capabilities: dict[str, object], half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu(monkeypatch, **capabilities)
    compute = Compute("auto", cpu=True)
    assert (compute.bfloat16, compute.precision) == (half, "bfloat16" if half else "float32")
    assert product(compute).dtype == (torch.bfloat16 if half else torch.float32)
    assert Compute("float32", cpu=True).precision == "float32"
    assert Compute("bfloat16", cpu=True).precision == "bfloat16"
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # nothing would use the units
    assert Compute("auto", cpu=True).precision == "float32"


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("amx", [False, True])
def test_a_torch_without_the_public_function_is_asked_by_its_others(
    bf16: bool, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu(monkeypatch)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr("autolora.training.compute.platform.machine", lambda: "x86_64")
    assert Compute("auto", cpu=True).bfloat16 == (bf16 or amx)


def test_a_torch_that_tells_nothing_of_the_cpu_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu(monkeypatch)
    for name in ("get_capabilities", "_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    monkeypatch.setattr("autolora.training.compute.platform.machine", lambda: "x86_64")
    assert Compute("auto", cpu=True).precision == "float32"


def test_auto_is_what_this_cpu_has_and_is_decided_alike_without_a_state() -> None:
    found = Compute("auto")
    assert default_device().type == found.device.type
    assert precision("auto", default_device()) == found.precision


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
