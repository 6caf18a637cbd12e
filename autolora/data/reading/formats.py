"""Which reader reads which file: ``open_table(Source(Path("train.csv.gz")))``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autolora.data.reading.conll import open_conll
from autolora.data.reading.json_array import open_json
from autolora.data.reading.json_lines import open_json_lines
from autolora.data.reading.parquet import open_parquet
from autolora.data.reading.source import COMPRESSED, Source
from autolora.data.reading.table import Table
from autolora.data.reading.tables import open_csv, open_tsv
from autolora.errors import UserError

READERS: Mapping[str, Callable[[Source], Table]] = {
    ".jsonl": open_json_lines,
    ".json": open_json,
    ".csv": open_csv,
    ".tsv": open_tsv,
    ".parquet": open_parquet,
    ".conll": open_conll,
    ".conllu": open_conll,
}
BY_NUMBER = (".conll", ".conllu")  # formats whose columns are called by number
ENDINGS = tuple(suffix + packed for suffix in READERS for packed in ("", *COMPRESSED))


def open_table(source: Source) -> Table:
    """Read the beginning of a file.

    Raises:
        UserError: The file is none of its format; the message names file and line.
    """
    if source.path.stat().st_size == 0:
        raise UserError(f"{source.path}: the file is empty")
    return READERS[source.suffix](source)
