"""How predictions are written into submission files."""

from datasets import Dataset

from autolora.evaluation.submission import submission_lines
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
