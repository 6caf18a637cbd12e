"""YAML 1.2 as plain values, without what surprises or grows: ``parse(text)``, ``values(text)``, ``dump(values)``.

PyYAML follows YAML 1.1, by which ``010`` is 8, ``1:30`` is 90, ``no`` is false, ``1e-3`` is text and ``2001-01-01`` a
date. Here the core schema of YAML 1.2 holds (https://yaml.org/spec/1.2.2/#103-core-schema): true and false, null and ~,
whole numbers (``010`` is 10; ``0o10`` and ``0x10`` are 8 and 16), numbers with a point or an exponent, and text.

A recipe has no use for the rest, and each is refused at its line: anchors and aliases (a few lines of them stand for
more values than any memory holds), tags, merge keys, keys that are no text, numbers of more digits than any field
takes, and line breaks that editors don't count. Size, depth and number of values have limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1 << 20  # of a recipe; the longest that is shipped has 2 KiB
MAX_NODES = 50_000  # keys, values and entries; all class names that a recipe may have, twice over
MAX_DEPTH = 20  # of lists and sections in each other; a recipe has 5
MAX_DIGITS = 20  # of a whole number; the largest that a field takes has 13
MAX_REFUSED = 100  # messages are for people to read
WIDTH = 1 << 30  # a dumped text stays on one line
CORE = "tag:yaml.org,2002:"
BREAKS = re.compile("[\x85\u2028\u2029]")  # line breaks of YAML 1.1, but neither of 1.2 nor of editors
NOT_PLAIN = re.compile("[^\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")
_CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class LimitError(yaml.MarkedYAMLError):
    """A document that is larger than any recipe."""


@dataclass(frozen=True)
class Refused:
    """What YAML has and a recipe has not.

    Args:
        line: Of the text, from 1.
        key: The key that it is about, or "".
        message: What it is.
        hint: What to write instead.
    """

    line: int
    key: str
    message: str
    hint: str


@dataclass(frozen=True)
class Parsed:
    """One YAML document.

    Args:
        root: The tree, for the lines; None where the document is empty.
        values: The same as plain values; None where something was refused.
        refused: What is not read.
    """

    root: yaml.Node | None
    values: Any = None
    refused: list[Refused] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """Reads the core schema of YAML 1.2, and takes note of what a recipe may not have."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own, filled below

    def __init__(self, text: str) -> None:
        if found := BREAKS.search(text):
            problem = "line breaks of this kind are read by few programs"
            raise yaml.reader.ReaderError("recipe", found.start(), ord(found[0]), "unicode", problem)
        super().__init__(text)
        self.refused: list[Refused] = []
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark: yaml.Mark = event.start_mark
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise LimitError(problem=f"more than {MAX_NODES} values", problem_mark=mark)
        if self._depth > MAX_DEPTH:
            raise LimitError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=mark)
        if self.check_event(yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self._refuse(mark, f"*{event.anchor}: a recipe has no aliases", "write the value once more")
            return yaml.ScalarNode(f"{CORE}null", "", mark, mark)
        if event.anchor is not None:
            self._refuse(mark, f"&{event.anchor}: a recipe has no anchors", "leave it out")
        if event.tag is not None:
            tag = event.tag.replace(CORE, "!!")
            self._refuse(mark, f"{tag}: a recipe has no tags", "leave it out, and put text in quotes")
        self._depth += 1
        try:
            node = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        if isinstance(node, yaml.MappingNode):
            for key, _ in node.value:
                self._check_key(key)
        elif isinstance(node, yaml.ScalarNode) and node.tag == f"{CORE}int":
            self._check_digits(node)
        return node

    def _check_key(self, key: yaml.Node) -> None:
        if not isinstance(key, yaml.ScalarNode):
            kind = "list" if isinstance(key, yaml.SequenceNode) else "section"
            self._refuse(key.start_mark, f"a key must be text, got a {kind}", "write key: value")
        elif key.tag != f"{CORE}str":
            self._refuse(key.start_mark, f"a key must be text, got {key.value or 'nothing'}", "", key.value)
        elif key.value == "<<" and key.style is None:
            self._refuse(key.start_mark, "a recipe has no merge keys", "write the keys out", key.value)

    def _check_digits(self, node: yaml.ScalarNode) -> None:
        if len(node.value) > MAX_DIGITS:
            message = f"a whole number of {len(node.value)} digits, which no field takes"
            self._refuse(node.start_mark, message, "if it is text, put it in quotes")

    def _refuse(self, mark: yaml.Mark, message: str, hint: str, key: str = "") -> None:
        if len(self.refused) == MAX_REFUSED:
            raise LimitError(problem=f"{message}, as {MAX_REFUSED} times before", problem_mark=mark)
        self.refused.append(Refused(mark.line + 1, key, message, hint))


class _Dumper(yaml.SafeDumper):
    """Puts text in quotes that YAML 1.1 or 1.2 would read as anything else, and repeats instead of using aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def parse(text: str) -> Parsed:
    """The tree and the plain values of one YAML document.

    Args:
        text: The document.

    Raises:
        yaml.YAMLError: It is no YAML, or larger than any recipe.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None or loader.refused:
            return Parsed(root, refused=loader.refused)
        return Parsed(root, loader.construct_document(root))
    finally:
        loader.dispose()


def values(text: str) -> Any:
    """The plain values of one YAML document.

    Args:
        text: The document.

    Raises:
        ValueError: It is no YAML, larger than any recipe, or has what recipes have not; with line.
    """
    try:
        found = parse(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(f"line {line}: control character #x{error.character:04x}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "broken"
        raise ValueError(f"line {mark.line + 1 if mark else 1}: {problem}") from None
    for refused in found.refused:
        raise ValueError(f"line {refused.line}: {refused.message}")
    for name, line, earlier in keys(found.root):
        if earlier is not None:
            raise ValueError(f"line {line}: {name} is given twice")
    return found.values


def keys(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int, int | None]]:
    """(dotted path, line, line of the same key's earlier use) of every key and list entry.

    Args:
        node: Of a parsed document.
        prefix: Of the paths, with its point.
    """
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield f"{prefix}{index}", item.start_mark.line + 1, None
            yield from keys(item, f"{prefix}{index}.")
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            yield f"{prefix}{name}", line, seen.get(name)
            yield from keys(value, f"{prefix}{name}.")
            seen.setdefault(name, line)


def dump(values: Any) -> str:
    """Plain values as YAML, from which `values` makes equal ones.

    Args:
        values: Mappings, lists, text, numbers, true, false and null.
    """
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH))


def _bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(node.value).lower() == "true"


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _text(dumper: _Dumper, data: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(f"{CORE}str", data, style='"' if NOT_PLAIN.search(data) else None)


for _name, _pattern, _first in _CORE_SCHEMA:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{CORE}{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor(f"{CORE}bool", _bool)
_Loader.add_constructor(f"{CORE}int", _int)
_Loader.add_constructor(f"{CORE}float", _float)
_Dumper.add_representer(str, _text)
