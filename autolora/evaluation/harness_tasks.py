"""Task files of lm-evaluation-harness in a folder, looked at before the harness reads them: no code runs unasked.

A task file may name Python functions (``!function``), a class, metrics that are fetched and run (``hf_evaluate``), or
include a file from elsewhere. That is somebody's code, and is refused unless the user trusts it. Templates are rendered
in jinja's sandbox then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from autolora.errors import UserError

_PLAIN = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge", "timestamp")
)
_CODE = {"class": "a Python class", "hf_evaluate": "a metric that is fetched and run", "unsafe_code": "code to run"}


def check_task_folder(folder: Path, *, trusted: bool) -> None:
    """Make sure that the task files of a folder bring no code, unless it is trusted.

    Args:
        folder: With task files (YAML) at any depth.
        trusted: Whether code that comes with them may run.

    Raises:
        UserError: There is no such folder, no task file in it, or one brings code.
    """
    if not folder.is_dir():
        raise UserError(f"--harness-tasks-dir: there is no folder {folder}")
    files = sorted(folder.rglob("*.yaml"))
    if not files:
        raise UserError(f"--harness-tasks-dir: there is no task file (*.yaml) below {folder}")
    if trusted:
        return
    for file in files:
        for what in _code_in(file, folder.resolve()):
            raise UserError(
                f"{file}: names {what}; look at it, and let it run with --trust-remote-code if you trust it, or take "
                "it out"
            )


def _code_in(file: Path, folder: Path) -> Iterator[str]:
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{file}: is no YAML: {' '.join(str(error).split())}") from error
    yield from _code_below(root, file, folder, set())


def _code_below(node: yaml.Node | None, file: Path, folder: Path, seen: set[int]) -> Iterator[str]:
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if node.tag not in _PLAIN:
        value = f" {node.value}" if isinstance(node, yaml.ScalarNode) else ""
        yield f"{node.tag}{value}, which is code"
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _code_below(each, file, folder, seen)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value)
            if name in _CODE and str(value.value).lower() not in ("false", "no", "null", ""):
                yield f"{name}: {value.value}, {_CODE[name]}"
            if name == "include":
                yield from _includes(value, file, folder)
            yield from _code_below(value, file, folder, seen)


def _includes(node: yaml.Node, file: Path, folder: Path) -> Iterator[str]:
    for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        place = (file.parent / str(each.value)).resolve()
        if not place.is_relative_to(folder) or place.suffix != ".yaml":
            yield f"include: {each.value}, a file that is no task file of this folder"
