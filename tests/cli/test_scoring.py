"""`autolora eval --task e2e --predictions FILE`: outputs of another system, in every form they may come in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.support import Call, autolora, read

ROWS = [
    ("name[Aromi], area[riverside]", "Aromi is by the river."),
    ("name[Aromi], area[riverside]", "By the riverside there is Aromi."),
    ("name[Zizzi], eatType[pub]", "Zizzi is a pub."),
    ("name[The Mill]", "There is The Mill."),
]
OUTPUTS = {
    "name[The Mill]": "There is The Mill.",
    "name[Aromi], area[riverside]": "Aromi is by the river.",
    "name[Zizzi], eatType[pub]": "Zizzi is a bar.",
}
ORDER = ["name[Aromi], area[riverside]", "name[Zizzi], eatType[pub]", "name[The Mill]"]
JAVALESS = ("--set", "eval.metrics=[bleu, nist]")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "e2e"
    folder.mkdir(parents=True)
    lines = [json.dumps({"meaning_representation": mr, "human_reference": text}) for mr, text in ROWS]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "data"


def table(path: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("MR", "output")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *rows])
    return path


def forms(folder: Path) -> list[Path]:
    records = [json.dumps({"input": mr, "prediction": text}) for mr, text in OUTPUTS.items()]
    (folder / "c.jsonl").write_text("\n".join(records), encoding="utf-8")
    (folder / "d.txt").write_text("".join(OUTPUTS[mr] + "\n" for mr in ORDER), encoding="utf-8")
    made = [table(folder / "a.tsv", [*OUTPUTS.items()]), table(folder / "b.csv", [*OUTPUTS.items()])]
    return [*made, folder / "c.jsonl", folder / "d.txt"]


def test_every_form_of_the_same_outputs_gives_the_same_scores(call: Call, data: Path, tmp_path: Path) -> None:
    tables = []
    for path in forms(tmp_path):
        output = tmp_path / path.suffix
        options = ("--data-root", data, "--output", output, *JAVALESS)
        code, out, err = call("eval", "--task", "e2e", "--predictions", path, *options)
        assert code == 0, err
        (row,) = read(output / "metrics.json")
        assert f"{row['bleu']:.4f}" in out
        tables.append((output / "metrics.json").read_bytes())
        lines = (output / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["input"] for line in lines] == ORDER
        assert json.loads(lines[0])["references"] == [ROWS[0][1], ROWS[1][1]]
    assert len(set(tables)) == 1
    assert row["examples"] == 3
    again = ("--data-root", data, "--output", tmp_path / "again", *JAVALESS)
    call("eval", "--task", "e2e", "--predictions", output / "predictions" / "test.jsonl", *again)
    assert (tmp_path / "again" / "metrics.json").read_bytes() == tables[0]


@pytest.mark.parametrize(
    ("options", "folder"),
    [((), "runs/predictions/e2e-a-*"), (("--output", "runs"), "runs"), (("--output", "mine"), "mine")],
    ids=["not given", "the usual folder of runs", "another"],
)
def test_the_table_goes_where_output_says_whatever_folder_that_is(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "a.tsv", [*OUTPUTS.items()])
    code, out, err = call("eval", "--task", "e2e", "--predictions", "a.tsv", "--data-root", data, *JAVALESS, *options)
    assert code == 0, err
    (written,) = tmp_path.rglob("metrics.json")
    assert written.parent.relative_to(tmp_path).match(folder)
    assert f"wrote {written.relative_to(tmp_path).as_posix()}" in out
    assert (written.parent / "predictions" / "test.jsonl").is_file()


def test_two_files_of_one_name_have_their_scores_apart(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    worse = dict.fromkeys(OUTPUTS, "nothing of the kind")
    for folder, outputs in (("one", OUTPUTS), ("two", worse), ("one", OUTPUTS)):
        (tmp_path / folder).mkdir(exist_ok=True)
        table(tmp_path / folder / "out.tsv", [*outputs.items()])
        path = f"{folder}/out.tsv"
        code, _, err = call("eval", "--task", "e2e", "--predictions", path, "--data-root", data, *JAVALESS)
        assert code == 0, err
    found = sorted(read(path)[0]["bleu"] for path in tmp_path.rglob("metrics.json"))
    assert len(found) == 2
    assert found[0] < found[1]


def test_an_empty_output_is_scored_and_counted(call: Call, data: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "a.tsv", [*{**OUTPUTS, "name[The Mill]": ""}.items()])
    options = ("--data-root", data, "--output", tmp_path / "o", *JAVALESS)
    code, _, err = call("eval", "--task", "e2e", "--predictions", path, *options)
    assert code == 0, err
    (row,) = read(tmp_path / "o" / "metrics.json")
    assert (row["examples"], row["empty outputs"]) == (3, 1)


def test_the_published_scores_come_out_of_the_command(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "e2e_challenge" / "tgen.tsv"
    options = ("--predictions", file, "--data-root", shared_data, *JAVALESS)
    done = autolora("eval", "--task", "e2e", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0.6593" in done.stdout
    assert "8.6094" in done.stdout
    (row,) = read(next((tmp_path / "runs" / "predictions").glob("e2e-tgen-*")) / "metrics.json")
    assert row["examples"] == 630


PAIRS = [*OUTPUTS.items()]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "MR\toutput\nname[The Mill]\tx\n", "no output for 2 of the 3 inputs of split 'test'"),
        ("a.tsv", "MR\toutput\nname[The Mall]\tx\n", "a.tsv:2: split 'test' has no input 'name[The Mall]'"),
        ("a.tsv", "MR\toutput\nname[The Mill]\tx\nname[The Mill]\ty\n", "a.tsv:3: line 2 has the input 'name[The"),
        ("a.tsv", "MR\ttext\nname[The Mill]\tx\n", "a.tsv:1: the header must name a column of inputs"),
        ("a.tsv", "MR\toutput\nname[The Mill]\n", "a.tsv:2: the row has 1 columns, but the header 2"),
        ("a.jsonl", '{"input": "name[The Mill]"}\n', "a.jsonl:1: the object must have one of output, prediction"),
        ("a.jsonl", '{"input": "name[The Mill]", "output": 3}\n', "a.jsonl:1: 'output' must be text, got 3"),
        ("a.jsonl", '{"output": "x"\n', "a.jsonl:1: the line is no JSON"),
        ("a.txt", "x\ny\n", "has 2 lines, but split 'test' has 3 distinct inputs"),
        ("a.txt", "\n", "the file is empty"),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_are_named(
    call: Call, data: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    options = ("--data-root", data, "--output", tmp_path / "o", *JAVALESS)
    code, _, err = call("eval", "--task", "e2e", "--predictions", tmp_path / name, *options)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "e2e"), "--task needs --predictions, too"),
        (("--predictions", "x.tsv"), "--predictions needs --task, too"),
        (("--task", "e2e", "--predictions", "x.tsv"), "--predictions: there is no file x.tsv"),
        (("run", "--task", "e2e", "--predictions", "x.tsv"), "leave out 'run'"),
        (("--task", "e2f", "--predictions", "x.tsv"), "no recipe 'e2f'"),
        (("--task", "quickstart", "--predictions", "x.tsv"), "can be scored for generation tasks only"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "quickstart" in arguments:
        Path("x.tsv").write_text("MR\toutput\na\tb\n")
    code, _, err = call("eval", *arguments)
    assert code == 2
    assert message in err


def test_the_scores_of_a_run_are_not_replaced(call: Call, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("recipe.yaml", "status.json", "manifest.json", "metrics.json"):
        (run / name).write_text("{}")
    path = table(tmp_path / "a.tsv", [*OUTPUTS.items()])
    for output in (run, run / "scores"):
        options = ("--data-root", data, "--output", output, *JAVALESS)
        code, _, err = call("eval", "--task", "e2e", "--predictions", path, *options)
        assert (code, f"--output: {output} lies in the run {run}, whose files are its own" in err) == (2, True), err
    assert {path.name: path.read_text() for path in run.iterdir()}["metrics.json"] == "{}"
    assert len([*run.iterdir()]) == 4
