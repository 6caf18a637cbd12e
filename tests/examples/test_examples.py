"""Every example runs as it is shown, with short settings, and prints size and quality before and after."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig
from safetensors.torch import load_file

FOLDER = Path(__file__).resolve().parents[2] / "examples"
LINE = re.compile(r"^(before the squeeze|after the squeeze|at the end): ([\d,]+) parameters, .* [\d.]+$", re.M)

SHORT = {
    "plain_loop.py": ["--steps", "40"],
    "trainer_text_classifier.py": ["--steps", "4", "--rows", "64", "--held", "16", "--batch-size", "4"],
    "trl_sft.py": ["--steps", "6"],
}


def sizes(printed: str) -> list[int]:
    found = LINE.findall(printed)
    assert [when for when, _ in found] == ["before the squeeze", "after the squeeze", "at the end"]
    return [int(size.replace(",", "")) for _, size in found]


def test_every_example_is_run_here() -> None:
    assert {file.name for file in FOLDER.glob("*.py")} == set(SHORT)
    assert [file.name for file in FOLDER.glob("*.ipynb")] == ["notebook.ipynb"]


@pytest.mark.usefixtures("minilm")
@pytest.mark.parametrize("name", SHORT)
def test_an_example_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "trl_sft.py":
        pytest.importorskip("trl", reason="pip install 'autolora[trl]' brings it")
    main: Any = runpy.run_path(str(FOLDER / name))["main"]
    main([*SHORT[name], "--output", str(tmp_path)])
    before, after, end = sizes(capsys.readouterr().out)
    assert 0 < after == end <= before / 2
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert sum(value.numel() for key, value in stored.items() if "lora_" in key) == end
    assert PeftConfig.from_pretrained(tmp_path / "adapter").rank_pattern


def test_an_example_takes_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trl", reason="pip install 'autolora[trl]' brings it")
    rows = [{"prompt": f"{i} + 1 = ", "completion": str(i + 1)} for i in range(80)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    main: Any = runpy.run_path(str(FOLDER / "trl_sft.py"))["main"]
    main(["--data", str(tmp_path / "sums.jsonl"), "--steps", "4", "--output", str(tmp_path)])
    assert len(sizes(capsys.readouterr().out)) == 3


@pytest.mark.usefixtures("minilm")
def test_the_notebook_runs(capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((FOLDER / "notebook.ipynb").read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"]), "outputs are not kept in the repository"
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            text = "".join(cell["source"]).replace("STEPS, BATCH = 80, 16", "STEPS, BATCH = 6, 8")
            exec(compile(text, cell["id"], "exec"), names)
    before, after, end = sizes(capsys.readouterr().out)
    assert 0 < after == end <= before / 2
    assert names["STEPS"] == 6


def test_the_readme_names_every_example() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{file.name}`" in text for file in FOLDER.iterdir() if file.suffix in (".py", ".ipynb"))
