"""Where a model of the hub lies in its cache: one weight file, or several with an index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from autolora.model.folder import model_folder
from autolora.model.kept import kept_as
from autolora.recipe.schema import Model

NAME = "owner/large"


def _cached(root: Path, shards: int) -> Path:
    """A model of the hub in its cache, as far as it is fetched: so many of its two weight files."""
    repository = root / "models--owner--large"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text(json.dumps({"model_type": "bert"}))
    files = {f"{part}.weight": f"model-0000{part}-of-00002.safetensors" for part in (1, 2)}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    for name, file in list(files.items())[:shards]:
        save_file({name: torch.zeros(2, 2, dtype=torch.bfloat16)}, snapshot / file)
    return snapshot


def test_a_model_in_several_files_is_found_and_kept_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = _cached(tmp_path, shards=2)
    assert model_folder(NAME) == snapshot
    assert kept_as(Model(name=NAME), "bfloat16").dtype is torch.bfloat16


def test_a_model_that_is_not_fetched_whole_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    _cached(tmp_path, shards=1)
    assert model_folder(NAME) is None
