"""The documents say what is so: their Python runs, and their lists are the source's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from autolora import registry
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from tests.laboratory import tiny_run, write_laboratory
from tests.methods.support import loaded, logits, write_generation_laboratory
from tests.model.checkpoints import edit_config
from tests.test_architecture import ROOMS

ROOT = Path(__file__).resolve().parents[1]
FENCED = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def blocks(name: str) -> list[str]:
    """The Python of a document."""
    return FENCED.findall((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.usefixtures("minilm")
def test_the_python_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks("docs/python-api.md")
    assert len(found) == 7
    names = {"__name__": "page"}  # the comparison is not begun; tests/test_api.py runs one
    for block in found:
        exec(compile(block, "docs/python-api.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("{'0': ")
    assert printed[1].startswith("matthews_correlation ")
    assert str(Path("trained", "quickstart")) in printed[3]
    assert names["EXACT"].scores([1, 2], [1, 3])[0].value == 0.5  # type: ignore[attr-defined]


def test_the_page_on_integrations_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("lightning", reason="pip install 'autolora[lightning]' brings it")
    found = blocks("docs/integrations.md")
    assert len(found) == 4
    names: dict[str, Any] = {"__name__": "page"}
    for block in found:
        exec(compile(block, "docs/integrations.md", "exec"), names)
    whole = names["get_peft_model"](names["base"](), names["lora"])
    half = sum(p.numel() for name, p in whole.named_parameters() if "lora_" in name) / 2
    sizes = [int(line) for line in capsys.readouterr().out.splitlines() if line.isdigit()]
    assert len(sizes) == 2
    assert all(0 < size <= half for size in [*sizes, names["ranks"].parameters])
    assert all(
        (tmp_path / "trained" / name / "adapter_config.json").is_file()
        for name in ("adapter", "lightning", "accelerate")
    )


TAGGING = """\
task: tagging
model: {name: ./model}
data: {path: data, columns: [tokens], label: tags, max_length: 32}
search: {steps: 2, batch_size: 6, rank: 4}
retrain: {steps: 4, batch_size: 6, weights: {learning_rate: 5e-2}}
eval: {metrics: [entities]}
"""


def write_tagging_laboratory(folder: Path) -> Path:
    """The laboratory with its sentences tagged: every third word begins an entity."""
    folder.mkdir(parents=True)
    write_laboratory(folder)
    for split in ("train", "validation"):
        file = folder / "data" / f"{split}.jsonl"
        words = [json.loads(line)["sentence"].split() for line in file.read_text().splitlines()]
        rows = [{"tokens": each, "tags": ["B-x" if i % 3 == 1 else "O" for i, _ in enumerate(each)]} for each in words]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tiny.yaml").write_text(TAGGING)
    return folder


def in_bfloat16(model: Path) -> None:
    """The checkpoint as many are stored; its configuration says so."""
    file = model / "model.safetensors"
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    edit_config(model, dtype="bfloat16")


@pytest.mark.parametrize("task", ["classification", "tagging", "generation"])
def test_the_readmes_loading_gives_autoloras_logits_on_a_bfloat16_base(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "laboratory"
    if task == "generation":
        write_generation_laboratory(place, "llama")
    elif task == "tagging":
        write_tagging_laboratory(place)
    else:
        place.mkdir()
        write_laboratory(place)
    in_bfloat16(place / "model")
    run, context = tiny_run(place, tmp_path / "made", "lora:2", "retrain.steps=4")
    search(run, context)
    retrain(run, context)
    # The names that the README has, where the code is run.
    (block,) = [block for block in blocks("README.md") if "PeftModel" in block]
    adapter, base = (Path(name) for name in re.findall(r'"(runs/.*?|FacebookAI/.*?)"', block))
    for name, found in ((adapter, run.path / "adapter"), (base, place / "model")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).symlink_to(found)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec"), names)
    ours, theirs = logits(loaded(run, context), context), logits(names["model"], context)
    assert torch.equal(ours, theirs)
    assert not torch.allclose(ours, logits(context.model().eval(), context), atol=1e-3)
    if task != "generation":
        assert list(names["model"].config.id2label.values()) == list(context.task.names)


def test_the_groups_of_entry_points_are_named() -> None:
    text = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
    tables = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    assert len(tables) == 8
    assert all(f"`{table.group}`" in text for table in tables)


def test_the_drawing_lists_the_rooms_in_their_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = text.partition("From the top:")[2].partition("`tests/test_architecture.py`")[0]
    listed = re.findall(r"^    (\w+(?:, \w+)*)  ", drawing, re.M)
    rooms = [room for line in listed for room in line.split(", ")]
    assert rooms == [room for room in reversed(ROOMS) if room != "__main__"]


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", "docs/equations.md", "docs/architecture.md", "docs/integrations.md"],
)
def test_files_that_a_document_names_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:autolora|tests|docs|recipes|benchmarks)/[\w./-]+)`", text))
    assert named or name == "docs/architecture.md"
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]
