"""Each file of a finished run spoilt in several ways: what reads it ends well, or says so with exit code 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tests.cli.support import Call

WAYS: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "null": lambda content: b"null",
    "list": lambda content: b'[{"a": 1}, 2]',
    "half": lambda content: content[: len(content) // 2],
    "UTF-16": lambda content: content.decode("latin-1").encode("utf-16"),
    "NULs": lambda content: b"\0" * len(content),
    "deep": lambda content: b"[" * 100_000,
    "digits": lambda content: b'{"state": ' + b"9" * 6000 + b"}",
    "other tensors": lambda content: save({"x": torch.zeros(3)}),
}
FILES = (  # that the two commands read, which need neither data nor model
    *("status.json", "manifest.json", "recipe.yaml", "metrics.json", "search/ranks.json", "search/log.jsonl"),
    *("retrain/log.jsonl", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
)


@pytest.mark.parametrize("file", FILES)
def test_every_damage_is_the_users_to_mend(call: Call, copied: Path, file: str) -> None:
    path = copied / file
    whole = path.read_bytes()
    for way, spoil in WAYS.items():
        path.write_bytes(spoil(whole))
        code, _, err = call("export", copied)
        assert code in (0, 2), f"{way}: {err}"
        assert code == 0 or err.startswith("autolora: "), f"{way}: {err}"
        assert "Traceback" not in err
    path.unlink()
    path.mkdir()
    code, _, err = call("export", copied)
    assert code in (0, 2), f"a folder: {err}"


@pytest.mark.parametrize("file", ["status.json", "manifest.json", "metrics.json", "search/ranks.json"])
@pytest.mark.parametrize("way", ["null", "list", "UTF-16", "deep"])
def test_a_report_names_what_is_damaged(call: Call, copied: Path, tmp_path: Path, file: str, way: str) -> None:
    path = copied / file
    path.write_bytes(WAYS[way](path.read_bytes()))
    code, _, err = call("report", copied, "--output", tmp_path / "report")
    assert code == 2, err
    assert str(path) in err
