"""Data files of every format, whole and damaged: refused, or read as a plain reader of the format reads them.

The plain readers are Python's own csv and json, pyarrow's Parquet and a loop over CoNLL's lines.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.cases import Case, Outcome, describe, ended
from benchmarks.fuzz.mutate import TEXTS, bytes_of, deep, tree

TEXT, LABEL = "text", "target"
Rows = list[tuple[Any, Any]]
WORDS = ["a", "cat", "naïve", "数据", "😀", "it's", '"', "a,b", "1", "1.0", "-5", "=1", "<b>", "\\", "#", "O", "B-X"]
PACKED: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "": (bytes, bytes),
    ".gz": (gzip.compress, gzip.decompress),
    ".bz2": (bz2.compress, bz2.decompress),
    ".xz": (lzma.compress, lzma.decompress),
}


class DataFiles:
    """See the module."""

    def prepare(self, base: Path) -> None:
        base.mkdir(parents=True, exist_ok=True)

    def warm(self) -> None:
        import autolora.data.load
        import autolora.tasks.generation  # noqa: F401

    def run(self, case: Case, base: Path, scratch: Path, *, debug: bool = False) -> Outcome:
        path, count, plain = self._write(case, scratch)
        return _check(path, count, plain=plain and not count)

    def keep(self, case: Case, base: Path, folder: Path) -> None:
        self._write(case, folder)

    def replay(self, folder: Path, base: Path, scratch: Path) -> Outcome:
        (file,) = folder.glob("train.*")
        shutil.copyfile(file, scratch / file.name)
        return _check(scratch / file.name, 0, plain=False)

    def _write(self, case: Case, folder: Path) -> tuple[Path, int, bool]:
        """The file; how many mutations it has had, and whether it was good before."""
        rng = case.rng("data")
        suffix = rng.choice(list(WRITERS))
        packed = "" if suffix == ".parquet" else rng.choice(["", "", "", *PACKED])
        rows = [(_words(rng), _words(rng)) for _ in range(rng.choice([1, 2, 5, 20, 300]))]
        plain = True
        if suffix in (".json", ".jsonl") and rng.random() < 0.3:
            rows, plain = tree([list(row) for row in rows], rng), False
        content = WRITERS[suffix](rows, rng)
        count = rng.choice([0, 0, 1, 1, 1, 2, 3])
        outside = packed and rng.random() < 0.5  # of what is compressed, or of the file
        content = content if outside else _mutated(content, case, count)
        content = PACKED[packed][0](content)
        content = _mutated(content, case, count) if outside else content
        path = folder / f"train{suffix}{packed}"
        path.write_bytes(content)
        return path, count, plain


def _alike(rows: Rows) -> Rows:
    """With texts as lists of one in a column that has lists: several references, or one."""
    lists = [any(isinstance(cell, list) for cell in column) for column in zip(*rows, strict=True)]

    def made(cell: Any, of: bool) -> Any:
        return [cell] if of and isinstance(cell, str) else cell

    return [(made(text, lists[0]), made(label, lists[1])) for text, label in rows]


def _mutated(content: bytes, case: Case, count: int) -> bytes:
    for _, rng in case.mutations(count):
        content = deep(rng) if rng.random() < 0.05 else bytes_of(content, rng)
    return content


def _words(rng: Random) -> str:
    text = " ".join(rng.choice(WORDS) for _ in range(rng.choice([1, 2, 5])))
    return rng.choice(TEXTS[:30]).strip() or "x" if rng.random() < 0.02 else text


def _check(path: Path, count: int, *, plain: bool) -> Outcome:
    found: Rows = []
    made = ended(lambda: found.extend(_read(path)))
    if outcome := made.finding():
        return Outcome("finding", f"{_kind(path)}: {outcome.what}", outcome.detail, count)
    if made.code == 2:
        said = made.err.partition(": ")[2]
        if plain:
            return Outcome("finding", f"{_kind(path)}: a good file is refused", said, count)
        if str(path.parent) not in said:
            return Outcome("finding", f"{_kind(path)}: a refusal does not name the file", said, count)
        return Outcome("refused", mutations=count)
    try:
        wanted = _alike(_plainly(path))
    except Exception as error:
        what = f"{_kind(path)}: read, although a plain reader refuses it ({type(error).__name__})"
        return Outcome("finding", what, f"{error}: {describe(found[:3])}", count)
    if found != wanted:
        first = next((pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]), None)
        detail = f"{len(found)} rows, plainly {len(wanted)}; the first that differ: {describe(first)}"
        return Outcome("finding", f"{_kind(path)}: other rows than those of the file", detail, count)
    return Outcome("right", mutations=count)


def _kind(path: Path) -> str:
    return "".join(path.suffixes)


def _read(path: Path) -> Rows:
    """As a run reads them."""
    from autolora.data.load import load_splits
    from autolora.recipe.schema import Data
    from autolora.registry import TASKS

    tagged = path.name.startswith("train.conll")
    columns, label = (("tokens",), "ner_tags") if tagged else ((TEXT,), LABEL)
    data = Data(path=path.parent.name, root=str(path.parent.parent), columns=columns, label=label)
    family: Any = TASKS.load("tagging" if tagged else "generation")
    rows = load_splits(data, 0, family, only=["train"])["train"]
    return list(zip(rows[columns[0]][:], rows[label][:], strict=True))


def _plainly(path: Path) -> Rows:
    """As nothing but the format says."""
    content = path.read_bytes()
    packed = path.suffix if path.suffix in PACKED else ""
    content = PACKED[packed][1](content)
    suffix = path.suffixes[0]
    if suffix == ".parquet":
        from pyarrow import parquet

        return [(row[TEXT], row[LABEL]) for row in parquet.read_table(path).to_pylist()]
    return READERS[suffix](content.decode("utf-8-sig"))


def _write_csv(rows: Any, rng: Random) -> bytes:
    text = io.StringIO()
    end, whole = rng.choice(["\n", "\r\n"]), rng.random() < 0.5
    writer = csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL if whole else csv.QUOTE_MINIMAL)
    writer.writerows([(TEXT, LABEL), *rows])
    return _marked(text.getvalue(), rng)


def _write_tsv(rows: Any, rng: Random) -> bytes:
    end = rng.choice(["\n", "\r\n"])
    cells = [[" ".join(cell.split()) or "x" for cell in row] for row in rows]
    return _marked("".join(f"{a}\t{b}{end}" for a, b in [[TEXT, LABEL], *cells]), rng)


def _write_json_lines(rows: Any, rng: Random) -> bytes:
    return _marked("".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) + "\n" for row in _objects(rows)), rng)


def _write_json(rows: Any, rng: Random) -> bytes:
    value = rng.choice([_objects(rows), {"data": _objects(rows)}, {"version": 1, "data": _objects(rows)}])
    return _marked(json.dumps(value, indent=rng.choice([None, 1])), rng)


def _objects(rows: Any) -> list[Any]:
    """Objects of rows that are pairs; what is none stays as it is."""
    pairs = rows if isinstance(rows, list) else [rows]
    return [{TEXT: row[0], LABEL: row[1]} if isinstance(row, list | tuple) and len(row) == 2 else row for row in pairs]


def _write_conll(rows: Any, rng: Random) -> bytes:
    gap = rng.choice(["\t", " "])
    blocks = []
    for a, b in rows:
        words = [word for word in "".join(c if c.isprintable() else "?" for c in a).split() if word != "#"] or ["x"]
        tags = ["O" if "O" in b else "B-X" for _ in words]
        blocks.append("".join(f"{word}{gap}{tag}\n" for word, tag in zip(words, tags, strict=True)))
    return _marked(rng.choice(["", "-DOCSTART- O\n\n" if gap == " " else ""]) + "\n".join(blocks), rng)


def _write_parquet(rows: Any, rng: Random) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({TEXT: [row[0] for row in rows], LABEL: [row[1] for row in rows]})
    sink = io.BytesIO()
    parquet.write_table(
        table, sink, compression=rng.choice(["none", "snappy", "zstd"]), row_group_size=rng.choice([1, 50])
    )
    return sink.getvalue()


def _marked(text: str, rng: Random) -> bytes:
    mark = b"\xef\xbb\xbf" if rng.random() < 0.1 else b""
    return mark + text.encode("utf-8", "surrogatepass")


def _read_csv(text: str) -> Rows:
    csv.field_size_limit(2**31 - 1)
    header, *rows = [row for row in csv.reader(io.StringIO(text, newline="\n"), strict=True) if row]
    places = header.index(TEXT), header.index(LABEL)
    assert all(len(row) == len(header) for row in rows), "a row has another number of fields than the header"
    return [(row[places[0]], row[places[1]]) for row in rows]


def _read_tsv(text: str) -> Rows:
    header, *rows = [line.removesuffix("\r").split("\t") for line in text.split("\n") if line.removesuffix("\r")]
    assert all(len(row) == len(header) for row in rows), "a row has another number of fields than the header"
    return [(row[header.index(TEXT)], row[header.index(LABEL)]) for row in rows]


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=_Number, parse_int=_Number, parse_constant=_Number)


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def _read_json_lines(text: str) -> Rows:
    return _cells([_loads(line) for line in text.split("\n") if line.strip(" \t\r\n")])


def _read_json(text: str) -> Rows:
    try:
        value = _loads(text)
    except ValueError:
        return _read_json_lines(text)
    if isinstance(value, dict) and "data" not in value:
        return _read_json_lines(text)
    return _cells(value["data"] if isinstance(value, dict) else value)


def _cells(rows: list[Any]) -> Rows:
    return [(_cell(row[TEXT]), _cell(row[LABEL])) for row in rows]


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return [_cell(item) for item in value]
    return json.dumps(value) if isinstance(value, bool) else None if value is None else str(value)


def _read_conll(text: str) -> Rows:
    sentences: list[tuple[list[str], list[str]]] = []
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    words = [line for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))]
    tabs = "\t" in words[0]
    begun = False
    for line in lines:
        fields = [field.strip(" ") for field in line.split("\t")] if tabs else [f for f in line.split(" ") if f]
        if not line.strip() or fields[0] == "-DOCSTART-" or (not begun and line.startswith("#")):
            begun = False
            continue
        if not begun:
            sentences.append(([], []))
        begun = True
        sentences[-1][0].append(fields[0])
        sentences[-1][1].append(fields[-1])
    return list(sentences)


WRITERS: dict[str, Callable[[Any, Random], bytes]] = {
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".jsonl": _write_json_lines,
    ".json": _write_json,
    ".conll": _write_conll,
    ".parquet": _write_parquet,
}
READERS: dict[str, Callable[[str], Rows]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".conll": _read_conll,
}
