"""Every command that a document shows is run, or says what it needs; and is one that there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from typer.main import get_command

from autolora.cli.app import app
from tests.adapters.support import base, write_adapter
from tests.cli.support import Call
from tests.documented import ROOT, Block, blocks, blocks_of

ALL = list(blocks())
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([\w-]+):(?!=)", MAKEFILE, re.M))
REVIEWS = {"good": "I like it , it works well", "bad": "it broke on day"}


def write_reviews(folder: Path) -> None:
    """What docs/own-data.md says is there: its own recipe, and two files of reviews."""
    (recipe,) = re.findall(
        r"^```yaml\n(.*?)^```$", (ROOT / "docs/own-data.md").read_text(encoding="utf-8"), re.M | re.S
    )
    (folder / "reviews.yaml").write_text(recipe, encoding="utf-8")
    (folder / "reviews").mkdir()
    for split, count in {"train": 48, "validation": 12}.items():
        rows = [
            f'"{text} {i}, {split}",{stars}\n' for i in range(count // len(REVIEWS)) for stars, text in REVIEWS.items()
        ]
        (folder / "reviews" / f"{split}.csv").write_text("text,stars\n" + "".join(rows), encoding="utf-8")


def write_my_adapter(folder: Path) -> None:
    """An adapter of stock PEFT's, on a model that is not here."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    write_adapter(folder / "my-adapter", base("llama"), config)


PLACES: dict[str, Callable[[Path], None]] = {"reviews": write_reviews, "adapter": write_my_adapter}


def test_every_block_of_commands_is_run_or_says_what_it_needs() -> None:
    assert len(ALL) > 30
    assert not [
        f"{block}: <!-- run in: … -->, <!-- run by: … --> or <!-- needs: … -->" for block in ALL if not block.kind
    ]


@pytest.mark.parametrize("document", sorted({block.document for block in ALL if block.kind == "run in"}))
def test_what_is_run_here_ends_well(
    document: str, call: Call, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a document one after the other; each place is made once, as the reader has it."""
    monkeypatch.chdir(tmp_path)
    mine = [block for block in ALL if block.document == document and block.kind == "run in"]
    for place in dict.fromkeys(block.what for block in mine):
        PLACES[place](tmp_path)
    for block in mine:
        for command in block.commands():
            assert command[0] == "autolora", f"{block}: {command[0]} is not run in a test"
            code, _, err = call(*command[1:])
            assert code == 0, f"{block}: {command}\n{err}"


@pytest.mark.parametrize("block", [each for each in ALL if each.kind == "run by"], ids=str)
def test_the_test_that_runs_it_is_there(block: Block) -> None:
    file, _, name = block.what.partition("::")
    source = (ROOT / file).read_text(encoding="utf-8")
    assert name in {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    for command in block.commands():
        wanted = Path(command[1]).stem if command[0] == "python" else command[1]  # a script, a command or a target
        assert wanted in source


@pytest.mark.parametrize("block", ALL, ids=str)
def test_commands_and_options_are_those_that_there_are(block: Block) -> None:
    assert not list(unknown(block))


def unknown(block: Block) -> list[str]:
    """The commands, options and targets of a block that there are not."""
    found = []
    for words in block.commands():
        bare = [word.strip("[]") for word in words]
        if bare[0] == "make":
            found += [word for word in bare[1:] if "=" not in word and word not in TARGETS]
        if bare[0] == "accelerate" and "autolora" in bare:
            bare = bare[bare.index("autolora") :]
        if bare[0] == "autolora":
            found += unknown_to(get_command(app), bare[1:])
    return found


def unknown_to(command: Any, words: list[str]) -> list[str]:
    if hasattr(command, "commands"):
        name, rest = (words[0] if words else ""), words[1:]
        if (not name and not command.no_args_is_help) or name.startswith("--"):
            return unknown_options(command, words)
        if name not in command.commands:
            return [name]
        if "|" in rest:  # autolora recipes list | show NAME | …
            parts = " ".join(rest).split(" | ")
            return [fault for part in parts for fault in unknown_to(command.commands[name], part.split())]
        return unknown_to(command.commands[name], rest)
    return unknown_options(command, words)


def unknown_options(command: Any, words: list[str]) -> list[str]:
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    known |= {"--help", "--debug"}
    return [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("```bash\nautolora run x.yaml\n```\n", ""),
        ("<!-- needs: a GPU -->\n```bash\nautolora run x.yaml\n```\n", "needs"),
        ("<!-- needs: a GPU -->\n\nWords between.\n\n```bash\nautolora run x.yaml\n```\n", ""),
        ("Words:\n\n    $ make test\n    12 passed\n\nMore.\n", ""),
        ("<!-- run in: reviews -->\n\n    autolora eval\n\n", "run in"),
        ("```text\n$ autolora recipes list\nto begin with\n```\n", ""),
    ],
)
def test_blocks_are_found_with_what_is_said_above_them(text: str, kind: str) -> None:
    (block,) = blocks_of("page.md", text)
    assert block.kind == kind


@pytest.mark.parametrize(
    "text",
    [
        "```python\nimport autolora\n```\n",
        "```text\nautolora 0.1.0\n```\n",
        "```\nsearch: step 0 of 3\n```\n",
        "make it so\n",
    ],
)
def test_what_is_no_command_is_left_alone(text: str) -> None:
    assert not list(blocks_of("page.md", text))


@pytest.mark.parametrize(
    "line", ["autolora rnu x.yaml", "autolora run x.yaml --sed 3", "make tset", "autolora recipes lst"]
)
def test_what_there_is_not_is_found(line: str) -> None:
    (block,) = blocks_of("page.md", f"```\n{line}\n```\n")
    assert unknown(block)
