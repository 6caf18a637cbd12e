"""Headers of safetensors files, read with and without the library."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from autolora.errors import UserError
from autolora.model.tensors import _by_library, _plain, header

TENSORS = {
    "b.weight": torch.zeros(2, 3),
    "a.bias": torch.zeros(5, dtype=torch.bfloat16),
    "scalar": torch.tensor(1, dtype=torch.int64),
    "none": torch.zeros(0, 4),
}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def written(file: Path, table: Any, data: bytes) -> Path:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return file


def test_a_whole_file_is_read_without_the_library_and_as_it_does(whole: Path) -> None:
    found = _plain(whole)
    assert found == {name: (list(tensor.shape), found[name][1]) for name, tensor in TENSORS.items()}  # type: ignore[index]
    assert found == _by_library(whole) == header(whole)
    assert list(found or {}) == list(_by_library(whole))


def test_a_real_models_header_is_the_librarys(minilm: Path) -> None:
    file = minilm / "model.safetensors"
    assert _plain(file) == _by_library(file)
    assert len(header(file)) > 100


FOUR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("table", "data"),
    [
        (b"", b""),
        (b"[1]", b""),
        (b"{", b""),
        (b"\xff", b""),
        ({"a": FOUR}, b"123"),
        ({"a": FOUR}, b"12345"),
        ({"a": FOUR | {"shape": [2]}}, b"1234"),
        ({"a": FOUR | {"data_offsets": [1, 5]}}, b"12345"),
        ({"a": FOUR | {"dtype": "F33"}}, b"1234"),
        ({"a": FOUR, "b": FOUR}, b"1234"),
        ({"a": {"dtype": "F32"}}, b"1234"),
        ({"a": FOUR | {"shape": [-1], "data_offsets": [0, -4]}}, b"1234"),
    ],
)
def test_what_is_no_whole_file_is_left_to_the_library(table: Any, data: bytes, tmp_path: Path) -> None:
    file = written(tmp_path / "model.safetensors", table, data)
    assert _plain(file) is None
    with pytest.raises(UserError, match="is no whole safetensors file"):
        header(file)


def test_a_file_cut_off_anywhere_is_no_whole_one(whole: Path) -> None:
    text = whole.read_bytes()
    for end in range(0, len(text), 7):
        whole.write_bytes(text[:end])
        assert _plain(whole) is None
