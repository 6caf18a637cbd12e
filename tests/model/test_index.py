"""The index of a model's weight files names files of its own folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.model.weight_files import checkpoint_shapes


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/secret.safetensors", "a/b.safetensors", "..", 3])
def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: object) -> None:
    (tmp_path / "secret.safetensors").write_bytes(b"secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a.weight": name}}))
    with pytest.raises(UserError, match=r"index\.json names .*, which is no file of its folder"):
        checkpoint_shapes(folder)
