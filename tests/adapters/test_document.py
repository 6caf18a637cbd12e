"""docs/compress.md, typed line by line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from peft import LoraConfig

from autolora.adapters.settings import KNOWN, REFUSED
from tests.adapters.support import base, write_adapter
from tests.cli.conftest import call as call
from tests.cli.support import Call

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "compress.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_its_commands_and_its_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    monkeypatch.chdir(tmp_path)
    base("llama").save_pretrained("base-model")  # type: ignore[operator]
    write_adapter(Path("my-adapter"), base("llama"), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    commands = re.findall(r"^autolora (compress .*)$", PAGE, re.M)
    assert len(commands) == 3
    for command in commands:
        code, _, err = call(*shlex.split(command))
        assert code == 0, err
    found = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(found) == 2
    for block in found:
        exec(compile(block, "docs/compress.md", "exec"), {})


def test_every_setting_that_is_refused_or_kept_is_one_of_pefts() -> None:
    ours = {*KNOWN, *REFUSED}
    assert not LoraConfig.__dataclass_fields__.keys() - ours - {"_custom_modules"}
