"""A recipe whose description, labels, texts and files carry hostile text, from the data's overview to the report."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from autolora.safe import from_csv, printable
from tests.cli.support import Call, only_run, settings
from tests.laboratory import write_laboratory

ESC = "\x1b]0;owned\x07\x1b[31m"
LABELS = [f"=HYPERLINK(1)|{ESC}", "<img src=x onerror=alert(1)>[red]\u202e[/]"]
COLUMN = "[bold]@SUM(A1)|</td>"  # a recipe may have no control characters, data may
FOLDER = "=run <b>[red] |"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The laboratory, where what can be hostile is; its recipe is in a folder of a hostile name."""
    folder = tmp_path_factory.mktemp("hostile") / FOLDER
    folder.mkdir()
    write_laboratory(folder)
    for file in (folder / "data").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        named = [{COLUMN: f"{row['sentence']} {ESC}", "label": LABELS[row["label"]]} for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in named), encoding="utf-8")
    recipe = (folder / "tiny.yaml").read_text(encoding="utf-8")
    recipe = recipe.replace("columns: [sentence]", f"columns: [{json.dumps(COLUMN)}]")
    recipe = f"description: {json.dumps('<b>[blink]|')}\n" + recipe.replace("steps: 30", "steps: 2")
    recipe += "  submission: {files: {Tiny: validation}, prediction: name}\n"
    (folder / "tiny.yaml").write_text(recipe, encoding="utf-8")
    return folder


@pytest.mark.usefixtures("small_pictures")
def test_no_output_acts_on_terminal_browser_or_spreadsheet(call: Call, hostile: Path, tmp_path: Path) -> None:
    output = tmp_path / FOLDER
    for command in (
        ("recipes", "validate", hostile / "tiny.yaml"),
        ("data", hostile / "tiny.yaml"),
        ("data", hostile / "tiny.yaml", "--json"),
        ("run", hostile / "tiny.yaml", "--output", output),
    ):
        code, out, err = call(*command)
        assert code == 0, err
        assert _acting(out + err) == []
    run = only_run(output)
    target = "compare", hostile / "tiny.yaml", "--methods", "autolora,lora:2", "--seeds", "0", "--output", output
    for command in (
        ("eval", run),
        ("ranks", run),
        ("export", run, "--format", "yaml"),
        target,
        ("report", output, "--title", f"{ESC}<script>"),
    ):
        code, out, err = call(*command)
        assert code in (0, 2), err
        assert _acting(out + err) == []
    assert (output / "report.html").is_file()

    code, out, err = call("eval", run, "--submission")  # a label with control characters is nothing for that file
    assert code == 2
    assert "cannot stand in a TSV file" in err
    assert not (run / "submission").exists()
    _check_files(output)


def test_errors_show_what_they_cite_and_do_nothing_else(call: Call, hostile: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "faulty.yaml"
    recipe.write_text('task: "\\e[31m"\n"\\e]0;x\\a": 1\n', encoding="utf-8")
    for command in (
        ("run", recipe),
        ("recipes", "validate", recipe),
        ("run", hostile / "tiny.yaml", *settings(**{f"data__columns=[{json.dumps(ESC)}]": ""})),
        ("report", hostile / "none"),
        ("run", f"{ESC}.yaml"),
        ("eval", ESC),
        (ESC,),
        ("run", f"--{ESC}"),
        ("eval", hostile / "tiny.yaml", "--seed", ESC),
    ):
        code, out, err = call(*command)
        assert code == 2, (command, out, err)
        assert err.strip()
        assert _acting(out + err) == []


def _acting(text: str) -> list[str]:
    """The lines that would act on a terminal."""
    return [line for line in text.split("\n") if printable(line, keep="\t") != line]


def _check_files(folder: Path) -> None:
    """Texts of pages and tables, the record of a run apart, which is JSON and YAML for programs."""
    tables = 0
    for file in _written(folder, ".md", ".html", ".tex", ".csv", ".tsv", ".txt"):
        text = file.read_text(encoding="utf-8")
        assert _acting(text) == [], file
        if file.suffix in (".md", ".html"):
            shown = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)  # a card's code has the classes' names
            assert "<img src=x" not in (text if file.suffix == ".html" else shown), file
            scripts = re.findall(r"<script.{0,2}", text, re.S)  # a page's own has no attributes
            assert scripts == ["<script>\n"] * (file.name == "report.html"), file
        if file.suffix == ".csv":
            tables += 1
            with file.open(encoding="utf-8", newline="") as source:
                cells = [cell for row in csv.reader(source) for cell in row]
            assert [cell for cell in cells if from_csv(cell) == cell and re.match(r"[=+@\t]|-\D", cell)] == []
    assert tables >= 4
    for file in _written(folder, ".json", ".jsonl", ".yaml"):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", file.read_text(encoding="utf-8")), file


def _written(folder: Path, *suffixes: str) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in suffixes)
