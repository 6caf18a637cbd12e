"""How predictions are written into submission files."""

import pytest
from datasets import Dataset

from autolora.data.splits import Places, Report
from autolora.errors import UserError
from autolora.evaluation.submission import check_rows, submission_lines
from autolora.recipe.schema import Submission

ROWS = Dataset.from_dict({"sentence": ["a", "b"], "idx": [0, 4]})


def test_ids_names_and_scores() -> None:
    names = ["entailment", "not_entailment"]
    records = [{"prediction": 1}, {"prediction": 0}]
    files = {"RTE": "test"}
    assert submission_lines(ROWS, records, names, Submission(files=files)) == "index\tprediction\n0\t1\n4\t0\n"
    by_name = submission_lines(ROWS, records, names, Submission(files=files, prediction="name"))
    assert by_name == "index\tprediction\n0\tnot_entailment\n4\tentailment\n"
    scores = [{"prediction": 5.2}, {"prediction": 3.14159}]
    by_score = submission_lines(ROWS, scores, (), Submission(files=files, prediction="score"))
    assert by_score == "index\tprediction\n0\t5.000\n4\t3.142\n"


def test_a_split_of_which_rows_are_missing_or_have_no_index_is_refused() -> None:
    places = Places()
    places.begin(lambda number: f"test.jsonl:{number}")
    for number in (1, 3):
        places.add(number)
    check_rows(ROWS, Report(2, places=places), "test")
    with pytest.raises(
        UserError, match=r"1 rows of split 'test' lack a cell, the first test\.jsonl:2, and the benchmark"
    ):
        check_rows(ROWS, Report(2, 1, "test.jsonl:2", places=places), "test")
    some = Dataset.from_dict({"sentence": ["a", "b"], "idx": ["0", None]})
    with pytest.raises(UserError, match=r"test\.jsonl:3: 'idx' is missing, which other rows have"):
        check_rows(some, Report(2, places=places), "test")
