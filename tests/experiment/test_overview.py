"""What is said of a recipe's data: counts by hand, lengths against untruncated tokenisation, what is doubtful."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, ByT5Tokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from autolora.context.base import Context
from autolora.experiment.evaluate import evaluate
from autolora.experiment.overview import Overview, overview
from autolora.experiment.preflight import load_recipe
from autolora.experiment.retrain import retrain
from autolora.experiment.search import search
from autolora.recipe.schema import Data, Eval
from autolora.runs.store import Run
from autolora.tasks.classification import Regression
from tests.laboratory import EXTRAS, SUBJECTS, VERBS, tiny_run
from tests.own_data import Content, context, text_of, write

TRAIN = [
    {"text": "the cat", "label": "cat"},
    {"text": "the dog sees the cat", "label": "dog"},
    {"text": "the dog", "label": "dog"},
    {"text": "the cat sees the dog today", "label": "cat"},
    {"text": "bird", "label": "dog"},
]
VALIDATION = [{"text": "the king", "label": "cat"}, {"text": "a king", "label": "dog"}]


def looked_at(
    folder: Path, laboratory: Path, files: dict[str, Content], task: str = "classification", **data: Any
) -> Overview:
    """The overview of a recipe over these files, all splits encoded."""
    made = context(write(folder, laboratory, files, task, **data))
    return overview(made, made.splits)


def of_rows(folder: Path, laboratory: Path, train: list[Any], validation: list[Any], **data: Any) -> Overview:
    files: dict[str, Content] = {"train.jsonl": train, "validation.jsonl": validation}
    return looked_at(folder, laboratory, files, **data)


def labelled(*labels: str) -> list[dict[str, str]]:
    """A row of a text of its own for each."""
    return [{"text": f"row {i}", "label": label} for i, label in enumerate(labels)]


def test_texts_that_spell_a_control_token_are_counted(tmp_path: Path, laboratory: Path) -> None:
    rows = [*TRAIN, {"text": "the cat [SEP] the dog", "label": "cat"}, {"text": "the [PAD]", "label": "dog"}]
    said = [each for each in of_rows(tmp_path, laboratory, rows, VALIDATION).warnings if "control token" in each]
    (only,) = said
    assert only.startswith("2 rows of split 'train' have a text that the tokenizer reads as a control token of its own")
    assert only.endswith("train.jsonl:6")
    assert "such as '[SEP]'" in only


def test_rows_labels_and_lengths_are_counted(tmp_path: Path, laboratory: Path) -> None:
    found = of_rows(tmp_path, laboratory, TRAIN, VALIDATION, max_length=6)
    train, validation = found.splits.values()
    assert (train.rows, train.dropped, train.used, train.inputs) == (5, 0, 5, 5)
    assert dict(train.labels) == {"cat": 2, "dog": 3}
    assert dict(validation.labels) == {"cat": 1, "dog": 1}
    # With [CLS] and [SEP] they have 4, 7, 4, 8 and 3 tokens, and 6 is the most.
    assert train.tokens is not None
    assert (train.tokens.median, train.tokens.percentile_95, train.tokens.longest) == (4, 6, 6)
    assert (train.tokens.examples, train.tokens.max_length, train.tokens.cut_off) == (5, 6, 2)
    assert validation.tokens is not None
    assert (validation.tokens.longest, validation.tokens.cut_off) == (4, 0)
    assert [sample.row for sample in train.samples] == TRAIN[:3]
    assert train.samples[1].tokens == ["[CLS]", "the", "dog", "sees", "the", "[SEP]"]
    assert found.warnings == []


def test_a_compressed_file_with_dropped_rows(tmp_path: Path, laboratory: Path) -> None:
    rows: list[Any] = [
        *TRAIN,
        {"text": "", "label": "cat"},
        {"text": "the", "label": None},
        {"text": "king", "label": "cat"},
    ]
    files: dict[str, Content] = {
        "train.jsonl.gz": gzip.compress(text_of(rows).encode()),
        "validation.jsonl": VALIDATION,
    }
    train = looked_at(tmp_path, laboratory, files, missing="drop").splits["train"]
    assert (train.rows, train.dropped, dict(train.labels)) == (6, 2, {"cat": 3, "dog": 3})
    assert train.first_dropped.endswith("train.jsonl.gz:6")


def test_labels_written_as_ids_and_as_names_are_counted_together(tmp_path: Path, laboratory: Path) -> None:
    rows = [{"text": "one", "label": 0}, {"text": "two", "label": "dog"}, {"text": "two", "label": 1}]
    found = of_rows(tmp_path, laboratory, rows, VALIDATION, labels=["cat", "dog"])
    assert dict(found.splits["train"].labels) == {"cat": 1, "dog": 2}
    assert found.warnings == []  # the two rows of "two" agree
    assert [sample.row["label"] for sample in found.splits["train"].samples] == ["cat", "dog", "dog"]


def test_whole_splits_are_counted_whatever_the_limits_are(tmp_path: Path, laboratory: Path) -> None:
    train = labelled(*["a"] * 30, *["b"] * 30, "c", "c", "c", "c")
    again = [{"text": f"row {i}", "label": "a"} for i in range(20)]
    data = {"labels": ["a", "b", "c"], "limits": {"train": 3, "eval": 2}}
    found = of_rows(tmp_path, laboratory, train, again, **data)
    split = found.splits["train"]
    assert (split.rows, split.used, dict(split.labels)) == (64, 3, {"a": 30, "b": 30, "c": 4})
    assert split.tokens is not None
    assert split.tokens.examples == 3
    assert any(
        "20 of 20 rows of split 'validation' have the same text as a training row; " in w for w in found.warnings
    )
    assert any(w.endswith("in no row of the 3 rows that data.limits leaves of split 'train'") for w in found.warnings)


def texts(tokens: int, count: int = 60) -> list[str]:
    """Some short, some about so many tokens, some far longer than a tokenizer is given at once."""
    rng = random.Random(0)
    words = [*SUBJECTS, *VERBS, *" ".join(EXTRAS).split(), "unheard-of"]
    lengths = [1, tokens - 3, tokens - 2, tokens - 1, tokens, tokens + 1, 40 * tokens, 200 * tokens]
    return [" ".join(rng.choices(words, k=rng.choice(lengths))) for _ in range(count)]


@pytest.mark.parametrize("columns", [["text"], ["text", "other"]], ids=["text", "pair"])
def test_just_those_are_cut_off_whose_untruncated_tokens_are_too_many(
    tmp_path: Path, laboratory: Path, columns: list[str]
) -> None:
    rows = [
        {"text": one, "other": two, "label": i % 2}
        for i, (one, two) in enumerate(zip(texts(16), reversed(texts(8)), strict=True))
    ]
    rows += [{"text": " ".join(["cat"] * 7), "other": " ".join(["dog"] * n), "label": "0"} for n in (5, 6, 7)]
    found = of_rows(tmp_path, laboratory, rows, rows[:20], columns=columns, max_length=16)
    tokenizer = AutoTokenizer.from_pretrained(laboratory / "model")
    lengths = [len(tokenizer(*(row[name] for name in columns))["input_ids"]) for row in rows]
    true = [sum(length > 16 for length in some) for some in (lengths, lengths[:20])]
    assert 0 < true[1] < 20
    assert 16 in lengths
    assert [split.tokens and split.tokens.cut_off for split in found.splits.values()] == true


@pytest.mark.parametrize("pair", [False, True], ids=["text", "pair"])
def test_a_tokenizer_in_python_cuts_off_as_many(pair: bool) -> None:
    tokenizer: PreTrainedTokenizerBase = ByT5Tokenizer()  # a token a byte, and one at the end of each text
    columns = {"a": ["x" * n for n in (1, 6, 7, 8, 900)], **({"b": ["y", "y", "", "yyyy", "z"]} if pair else {})}
    data = Data.model_validate({"path": "x", "columns": list(columns), "max_length": 8})
    task = Regression(data, Eval(metrics=("pearson",)), {})
    task.encode(Dataset.from_dict({**columns, "label": ["1"] * 5}), tokenizer, "train", "train")
    lengths = [len(tokenizer(*cells)["input_ids"]) for cells in zip(*columns.values(), strict=True)]
    assert task.cut_off["train"] == sum(length > 8 for length in lengths) == (4 if pair else 2)


def test_tags_are_counted_by_words_and_so_is_what_is_cut_off(tmp_path: Path, laboratory: Path) -> None:
    train = [
        {"words": ["the", "cat", "sees", "the", "dog"], "tags": ["O", "B-A", "O", "O", "B-A"]},
        {"words": ["king"], "tags": ["B-A"]},
        {"words": ["the", "teacher", "again"], "tags": ["O", "B-A", "I-A"]},
    ]
    validation = [{"words": ["the", "king"], "tags": ["O", "B-A"]}]
    data = {"task": "tagging", "columns": ["words"], "label": "tags", "max_length": 5}
    found = of_rows(tmp_path, laboratory, train, validation, **data)
    split = found.splits["train"]
    assert dict(split.labels) == {"O": 4, "B-A": 4, "I-A": 1}
    assert split.tokens is not None
    assert (split.tokens.longest, split.tokens.cut_off, dict(split.tokens.lost)) == (5, 1, {"words": 2})
    assert split.samples[1].row == {"words": ["king"], "tags": ["B-A"]}
    assert found.warnings == ["the class 'I-A' is in no row of split 'validation'"]


def test_numbers_have_a_lowest_a_mean_and_a_highest(tmp_path: Path, laboratory: Path) -> None:
    train = [{"text": "a", "label": 1}, {"text": "b", "label": "2.5"}, {"text": "b", "label": 2.50}]
    validation = [{"text": "b", "label": -4}, {"text": "c", "label": 0}]
    found = of_rows(tmp_path, laboratory, train, validation, task="regression")
    assert dict(found.splits["train"].targets) == {"lowest": 1, "mean": 2, "highest": 2.5}
    assert dict(found.splits["validation"].targets) == {"lowest": -4, "mean": -2, "highest": 0}
    assert found.splits["train"].labels == {}
    place = tmp_path / "data"
    assert found.warnings == [
        "1 of 2 rows of split 'validation' has the same text as a training row, with another label; first "
        f"{place}/validation.jsonl:1 and {place}/train.jsonl:2"
    ]


@pytest.fixture
def decoder(tmp_path: Path, laboratory: Path) -> Path:
    """A folder with a decoder, whose tokenizer is the laboratory's and can end an output."""
    folder = tmp_path / "decoder"
    tokenizer = AutoTokenizer.from_pretrained(laboratory / "model")
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=len(tokenizer), n_positions=100)
    GPT2LMHeadModel(config).save_pretrained(folder / "model")
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(folder / "model")
    return folder


def test_inputs_and_references_are_counted_and_outputs_that_lose_their_end(
    tmp_path: Path, decoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [
        {"text": "the cat", "label": ["the dog", "the king sees the dog"]},
        {"text": "the cat", "label": ["today"]},
        {"text": "bird", "label": ["again"]},
        {"text": "king", "label": ["again"]},
    ]
    validation = [{"text": "king", "label": x} for x in ("a", "b")] + [{"text": "dog", "label": "c"}]
    found = of_rows(tmp_path, decoder, train, validation, task="generation", max_length=8)
    split, other = found.splits["train"], found.splits["validation"]
    assert (split.rows, split.inputs, dict(split.targets)) == (4, 3, {"references": 5})
    assert (other.rows, other.inputs, dict(other.targets)) == (3, 2, {"references": 3})
    assert split.tokens is not None
    assert (split.tokens.examples, split.tokens.longest, split.tokens.cut_off) == (5, 8, 1)
    assert other.tokens is not None
    assert (other.tokens.examples, other.tokens.longest, other.tokens.cut_off) == (2, 2, 0)
    assert [sample.row["text"] for sample in split.samples] == ["the cat", "the cat", "bird"]
    assert split.samples[1].tokens == ["the", "cat", "[SEP]", "today", "[SEP]"]
    assert [sample.row["text"] for sample in other.samples] == ["king", "dog"]
    assert [warning.split(";")[0] for warning in found.warnings] == [
        "2 of 3 rows of split 'validation' have the same text as a training row"
    ]
    assert capsys.readouterr().err == "1 of 5 training outputs lose their end at data.max_length 8\n"


def test_rows_that_are_trained_and_evaluated_on_are_counted_with_their_places(tmp_path: Path, laboratory: Path) -> None:
    train = [{"text": x, "label": y} for x, y in (("a", "0"), ("b", "1"), ("c", "0"), ("c", "1"), ("d", "1"))]
    validation = [{"text": x, "label": y} for x, y in (("x", "1"), ("b", "1"), ("a", "1"), ("c", "0"), ("b", "0"))]
    found = of_rows(tmp_path, laboratory, train, validation)
    place = tmp_path / "data"
    assert found.warnings == [
        "2 rows of split 'train' contradict each other: the same text, another label (1 input); first "
        f"{place}/train.jsonl:3 and {place}/train.jsonl:4",
        "4 of 5 rows of split 'validation' have the same text as a training row, 2 of them with another label; first "
        f"{place}/validation.jsonl:2 and {place}/train.jsonl:2",
    ]
    assert found.splits["train"].inputs == 4


def test_a_pair_is_the_same_only_if_both_texts_are(tmp_path: Path, laboratory: Path) -> None:
    train = [{"text": "a", "other": "b", "label": "0"}, {"text": "c", "other": "d", "label": "1"}]
    validation = [{"text": "a", "other": "d", "label": "0"}, {"text": "ab", "other": "", "label": "1"}]
    validation[1]["other"] = "x"
    assert of_rows(tmp_path, laboratory, train, validation, columns=["text", "other"]).warnings == []


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 20 + ["b"] * 2, "'a' has 20 of 22 rows (91%), and 'b' has 2"),
        (["a"] * 19 + ["b"] * 2, "'a' has 19 of 21 rows (90%), and 'b' has 2"),
        (["a"] * 10 + ["b"] * 10 + ["c"], "'a' has 10 of 21 rows (48%), and 'c' has 1"),
        (["a"] * 17 + ["b"] * 2, None),
        (["a"] * 9 + ["b"] * 9 + ["c"], None),
    ],
    ids=["ten times", "nine of ten", "ten times, not nine of ten", "less than both", "less than ten times"],
)
def test_imbalanced_classes_are_told(tmp_path: Path, laboratory: Path, labels: list[str], message: str | None) -> None:
    validation = [{"text": f"other {x}", "label": x} for x in sorted(set(labels))]
    found = of_rows(tmp_path, laboratory, labelled(*labels), validation)
    assert found.warnings == ([] if message is None else [f"the classes of split 'train' are imbalanced: {message}"])


def test_a_class_that_a_split_lacks_is_told(tmp_path: Path, laboratory: Path) -> None:
    validation = [{"text": "x", "label": "b"}]
    found = of_rows(tmp_path, laboratory, labelled("a", "b"), validation, labels=["a", "b", "c"])
    assert found.warnings == [
        "the class 'c' is in no row of split 'train'",
        "2 classes are in no row of split 'validation': a, c",
    ]


def test_nearly_the_same_names_are_told_once(
    tmp_path: Path, laboratory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = of_rows(tmp_path, laboratory, labelled("yes", "Yes"), [{"text": "x", "label": x} for x in ("yes", "Yes")])
    assert "the labels 'Yes' and 'yes' are two classes" in capsys.readouterr().err
    assert found.warnings[1:] == []
    assert found.record()["warnings"][0] == "the names of the classes 'Yes' and 'yes' are nearly the same"


def test_an_evaluation_split_may_have_no_labels(tmp_path: Path, laboratory: Path) -> None:
    made = context(
        write(
            tmp_path, laboratory, {"train.jsonl": TRAIN, "validation.jsonl": [*VALIDATION, TRAIN[0] | {"label": "dog"}]}
        )
    )
    assert made.task.names
    rows, report = made.splits["validation"].remove_columns("label"), made.splits.reports["validation"]
    made.splits["validation"], report.all_rows, report.labels = rows, rows, {}
    found = overview(made, ["train"])
    split = found.splits["validation"]
    assert (split.rows, split.labelled, split.labels, split.targets) == (3, False, {}, {})
    assert len(found.warnings) == 1
    assert "1 of 3 rows of split 'validation' has the same text as a training row; first" in found.warnings[0]


def manifest(run: Run) -> dict[str, Any]:
    return dict(json.loads((run.path / "manifest.json").read_text())["data"])


def test_the_record_is_kept_with_the_run_without_a_text(
    tmp_path: Path, laboratory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, made = tiny_run(laboratory, tmp_path, "autolora", "search.steps=2", "retrain.steps=2", "data.max_length=9")
    made.show = True
    search(run, made)
    first = capsys.readouterr().err.splitlines()
    retrain(run, made)
    record = manifest(run)
    train, validation = record["splits"]["train"], record["splits"]["validation"]
    assert (train["rows"], train["labels"]) == (60, {"0": 30, "1": 30})
    assert (validation["rows"], validation["labels"]) == (23, {"0": 11, "1": 12})
    assert validation["tokens"]["examples"] == 23
    assert train["tokens"]["examples"] == 60
    assert 0 < train["tokens"]["cut_off"] < 60
    assert "data: train 60 rows (label: 0 30, 1 30), validation 23 rows (label: 0 11, 1 12)" in first
    cut, median = train["tokens"]["cut_off"], train["tokens"]["median"]
    said = (
        f"data: train has {median:g} tokens at the median, 9 at most of max_length 9; {cut} of 60 examples are cut off"
    )
    assert said in first
    assert [line for line in first if line.startswith("data: validation has ")]
    assert "data: " not in capsys.readouterr().err  # once in a process
    text = (run.path / "manifest.json").read_text()
    assert not [word for word in ("garden", "teacher", "today") if word in text]
    assert json.loads(text)["stages"]["retrain"]["data"] == made.hashes


def test_another_process_says_it_again_and_other_data_replaces_it(
    tmp_path: Path, laboratory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, made = tiny_run(laboratory, tmp_path, "lora:2", "retrain.steps=2")
    search(run, made)
    retrain(run, made)
    before = manifest(run)
    assert "data: " not in capsys.readouterr().err  # its progress is not shown
    evaluate(run, Context(run.recipe, show=True))
    assert capsys.readouterr().err.startswith("data: train 60 rows (label: 0 30, 1 30), validation 23 rows")
    assert manifest(run)["splits"]["train"] == before["splits"]["train"]
    run.recipe = load_recipe(laboratory / "tiny.yaml", ["data.limits.eval=5"], seed=3)
    evaluate(run, Context(run.recipe, show=True))
    assert "validation 5 of 23 rows" in capsys.readouterr().err
    assert manifest(run)["splits"]["validation"]["used"] == 5
