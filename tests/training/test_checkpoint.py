"""Checkpoints: what is saved comes back, and a file that is none is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from autolora.errors import UserError
from autolora.training.checkpoint import load_checkpoint, read_record, save_checkpoint

TENSORS = {
    "float": torch.randn(2, 3),
    "double": torch.randn(4).double(),
    "bfloat": torch.randn(2).bfloat16(),
    "scalar": torch.tensor(7.0),
    "integers": torch.arange(3),
    "empty": torch.zeros(0, 2),
    "transposed": torch.randn(2, 3).T,
}
RECORD = {"identity": "ü", "step": 3, "log_bytes": 1234, "nested": {"list": [1, 2.5, None, True]}}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "checkpoint.safetensors"
    path.parent.mkdir()
    save_checkpoint(path, TENSORS, RECORD)
    tensors, record = load_checkpoint(path)
    assert record == RECORD
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_parameters_are_saved_without_their_graph(tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.randn(3))
    save_checkpoint(tmp_path / "file", {"p": parameter, "square": parameter**2}, {})
    tensors, _ = load_checkpoint(tmp_path / "file")
    assert torch.equal(tensors["square"], parameter.detach() ** 2)


CORRUPT = {
    "empty": lambda data: b"",
    "cut in the header": lambda data: data[:20],
    "cut in the tensors": lambda data: data[:-5],
    "text": lambda data: b"step: 3\n" * 20,
    "zeros": lambda data: b"\0" * len(data),
    "the header's length is wrong": lambda data: b"\xff" * 8 + data[8:],
}


@pytest.mark.parametrize("fault", CORRUPT)
def test_a_file_that_is_no_checkpoint_is_the_users_to_mend(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, TENSORS, RECORD)
    path.write_bytes(CORRUPT[fault](path.read_bytes()))
    with pytest.raises(UserError, match=r"is not a checkpoint of autolora .*; remove it to start the stage anew"):
        load_checkpoint(path)


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for metadata in (None, {"format": "pt"}, {"record": "no JSON"}):
        save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors", metadata=metadata)
        with pytest.raises(UserError, match=r"is not a checkpoint of autolora"):
            load_checkpoint(tmp_path / "model.safetensors")


def test_a_kill_while_writing_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1)}, {"step": 1})

    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, {"a": torch.ones(1)}, {"step": 2})
    assert load_checkpoint(path)[1] == {"step": 1}
    save_checkpoint(path, {"a": torch.ones(1)}, {"step": 3})
    assert load_checkpoint(path)[1] == {"step": 3}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_one_file_in_anothers_place_is_refused(tmp_path: Path) -> None:
    mine, other = tmp_path / "search" / "head.safetensors", tmp_path / "search" / "evidence.safetensors"
    later = tmp_path / "retrain" / "head.safetensors"
    for path in (mine, other, later):
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(path, {path.name: torch.ones(1)}, RECORD)
    for path in (other, later):
        data = mine.read_bytes()
        mine.write_bytes(path.read_bytes())
        for read in (load_checkpoint, read_record):
            with pytest.raises(UserError, match=rf"in another file's place: it was written as {path.parent.name}/"):
                read(mine)
        mine.write_bytes(data)
    (tmp_path / "search").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(tmp_path / "search")
    assert load_checkpoint(mine)[1] == RECORD


def test_files_of_earlier_versions_say_no_place(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from autolora.training.checkpoint import _hash_of, _hash_with

    tensors, text = {"a": torch.ones(2)}, json.dumps({"step": 3})
    hashed = _hash_of(tensors)
    path = tmp_path / "checkpoint.safetensors"
    save_file(tensors, path, metadata={"checked": json.dumps([text, hashed, _hash_with(text, hashed)])})
    assert load_checkpoint(path)[1] == {"step": 3}
