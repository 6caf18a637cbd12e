"""Files written a tensor at a time are what the library reads, and what it writes is read."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from autolora.adapters.tensors import Part, TensorFile, to_bytes, write_tensors

TENSORS = {
    "a byte": torch.tensor([1], dtype=torch.uint8),
    "odd": torch.arange(3, dtype=torch.int8),
    "half": torch.randn(3, 5).half(),
    "wide": torch.randn(2, 3, dtype=torch.float64),
    "scalar": torch.tensor(0.5),
    "none": torch.zeros(0, 4),
    "brain ü": torch.randn(7).bfloat16(),
    "yes": torch.tensor([True, False]),
}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"format": "pt"})
    file = TensorFile(tmp_path / "x.safetensors")
    assert file.metadata == {"format": "pt"}
    assert file.entries.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert bytes(file.raw(name)) == to_bytes(tensor)
        if tensor.is_floating_point():
            assert torch.equal(file.read(name), tensor)


def test_what_is_written_is_what_the_library_reads(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors")
    file = TensorFile(tmp_path / "x.safetensors")
    parts = [
        Part(name, entry.dtype, entry.shape, entry.size, lambda name=name: file.raw(name))
        for name, entry in sorted(file.entries.items())
    ]
    write_tensors(tmp_path / "y.safetensors", parts, {"format": "pt"})
    found = load_file(tmp_path / "y.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    with safe_open(tmp_path / "y.safetensors", "pt") as again:
        assert again.metadata() == {"format": "pt"}


def test_every_tensor_lies_where_its_type_may(tmp_path: Path) -> None:
    parts = [
        Part(str(i), dtype, (3,), 3 * width, lambda width=width: bytes(3 * width))
        for i, (dtype, width) in enumerate([("U8", 1), ("F16", 2), ("F64", 8), ("F32", 4), ("BF16", 2)])
    ]
    write_tensors(tmp_path / "x.safetensors", parts, {})
    file = TensorFile(tmp_path / "x.safetensors")
    assert all(entry.begin % (entry.size // 3) == 0 for entry in file.entries.values())
