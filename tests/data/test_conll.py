"""CoNLL files."""

from pathlib import Path

import pytest

from autolora.data.files import column_names
from autolora.data.load import load_splits
from autolora.data.reading.conll import open_conll
from autolora.data.reading.source import Source
from autolora.errors import UserError
from autolora.recipe.schema import Data
from autolora.tasks.tagging import Tagging

TEXT = """-DOCSTART- -X- -X- O

U.N. NNP I-NP B-ORG
official NN I-NP O
# SYM I-NP O


Peter\tNNP\tI-NP\tB-PER
"""


def read(path: Path, *columns: str) -> list[list[list[str]]]:
    return [list(cells) for _, cells in open_conll(Source(path)).rows(columns or ("tokens", "ner_tags"))]


def test_sentences_are_read_with_their_first_and_last_column(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / f"{split}.conll").write_text(TEXT, encoding="utf-8")
    assert read(tmp_path / "train.conll") == [
        [["U.N.", "official", "#"], ["B-ORG", "O", "O"]],
        [["Peter"], ["B-PER"]],
    ]
    assert read(tmp_path / "train.conll", "1") == [[["NNP", "NN", "SYM"]], [["NNP"]]]
    assert column_names(tmp_path / "train.conll") == ["tokens", "ner_tags", "0", "1", "2", "3"]
    data = Data(path=".", root=str(tmp_path), columns=("tokens",), label="ner_tags")
    assert load_splits(data, 0, Tagging)["train"]["ner_tags"][1] == ["B-PER"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a B-x\nb\n", "train.conll:2: the line must have 2 columns, as the lines before, got 'b'"),
        ("a\n", "train.conll:1: the line must have a word and its tag, at least, got 'a'"),
        ("a NN O\n\nb O\n", "train.conll:3: the line must have 3 columns, as the lines before, got 'b O'"),
        ("\n\n", "the file has no words"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "train.conll"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read(path)
    assert message in str(error.value)
