"""Commands are imported when they are given; the page of help says of each what its own help begins with."""

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperCommand

from autolora.cli.app import ABOUT, app
from autolora.cli.commands import Commands
from tests.cli.support import autolora


@pytest.mark.parametrize("name", ABOUT)
def test_what_is_said_of_a_command_is_the_beginning_of_its_help(name: str) -> None:
    group: Any = typer.main.get_command(app)
    assert ABOUT[name] == inspect.cleandoc(group.commands[name].help).split("\n\n")[0]


def test_the_page_of_help_imports_no_command(tmp_path: Path) -> None:
    done = autolora("--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    there = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "autolora.cli.app" in there
    assert (
        there & {"autolora.cli.run", "autolora.runs", "autolora.recipe", "rich.progress", "yaml", "pydantic"} == set()
    )
    assert [name for name in ABOUT if f" {name} " not in done.stdout] == []


def test_another_command_may_be_registered_besides() -> None:
    mine = copy.copy(app)
    mine.registered_commands = []

    def extra() -> None:
        """One more."""

    mine.command("extra")(extra)
    group: Any = typer.main.get_command(mine)
    assert [*group.commands] == [*ABOUT, "extra"]
    assert group.commands["extra"].help == "One more."


def test_a_command_is_loaded_once_and_only_when_it_is_got() -> None:
    loaded = []

    def load(name: str) -> Any:
        loaded.append(name)
        return lambda: None

    commands = Commands({"one": "The first.", "two": "The second."}, load)
    assert [*commands] == ["one", "two"]
    assert {name: each.help for name, each in commands.in_brief().items()} == commands.about
    assert loaded == []
    assert isinstance(commands["two"], TyperCommand)
    assert commands["two"] is commands["two"] is commands.get("two")
    assert loaded == ["two"]
    assert commands.get("three") is None
