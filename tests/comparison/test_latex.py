"""The LaTeX table, read back with a small parser, and the published figures."""

from __future__ import annotations

import re

import pytest

from autolora.comparison.latex import escape, latex
from autolora.comparison.outcome import outcome
from autolora.comparison.published import GLUE, PUBLISHED, PublishedRow, published_rows
from tests.comparison.support import TWO, cell, cells


def parse(text: str) -> list[list[str]]:
    """The lines of a tabular as cells, a rule as an empty list. Fails where LaTeX would."""
    body = [line for line in text.splitlines() if not line.startswith("%")]
    begin = re.fullmatch(r"\\begin\{tabular\}\{([lrc]+)\}", body[0])
    assert begin
    assert body[-1] == r"\end{tabular}"
    assert body[1] == r"\toprule"
    assert body[-2] == r"\bottomrule"
    lines = []
    for line in body[2:-2]:
        if line == r"\midrule":
            lines.append([])
            continue
        assert line.endswith(r" \\")
        found = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
        assert len(found) == len(begin[1])
        for text_of_cell in found:
            bare = re.sub(r"\\[&%$#_{}]", "", text_of_cell)
            assert bare.count("{") == bare.count("}")
            assert bare.count("$") % 2 == 0
            assert not re.search(r"[%#~^<>|]", re.sub(r"\$[^$]*\$", "", bare))
            assert "_" not in re.sub(r"\$[^$]*\$", "", bare)
            assert not re.match(r"\s*[\[*]", bare)
        lines.append([found_cell.strip() for found_cell in found])
    return lines


def test_the_table_is_as_worked_by_hand() -> None:
    assert latex([*TWO, cell("glue-mini/rte", "full_x", 0, 0.65, adapter_parameters=33024)]) == (
        "% needs \\usepackage{booktabs}\n"
        "% MRPC: accuracy\n"
        "% RTE: accuracy\n"
        "% Average: mean of 2 tasks\n"
        "% $^{1/5}$: one seed of five has a score\n"
        "\\begin{tabular}{lrccc}\n"
        "\\toprule\n"
        "Method & Parameters & MRPC & RTE & Average \\\\\n"
        "\\midrule\n"
        "lora:4 &  & 85.0$_{\\pm 7.1}^{2/3}$ & 60.0$_{\\pm 10.0}$ & 72.5$_{\\pm 10.6}^{2/3}$ \\\\\n"
        "autolora &  & 78.3$_{\\pm 7.6}$ & \\textbf{62.0}$_{\\pm 9.2}$ & 70.2$_{\\pm 8.4}$ \\\\\n"
        "full\\_x & 33,024 &  & 65.0$^{1/3}$ &  \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_the_layout_is_the_papers_with_other_recipes_after_glue() -> None:
    shuffled = ["nlg/e2e", *(f"glue/{name}" for name in reversed(GLUE)), "my_task"]
    lines = parse(latex(cells({(name, "lora"): [0.5] for name in shuffled})))
    glue = ["MNLI", "SST-2", "MRPC", "CoLA", "QNLI", "QQP", "RTE", "STS-B"]
    assert lines[0] == ["Method", "Parameters", *glue, "nlg/e2e", r"my\_task", "Average"]


def test_special_characters_are_escaped_on_one_line() -> None:
    method = "a_b & 50% #1 {x} $y$ ~z^2 \\bold <c> | [d] *\nnext -- end"
    lines = parse(latex([cell("x_&\ny", "[1]*", 0, 0.5), cell("x_&\ny", method, 0, 0.25)]))
    assert [line[0] for line in lines if line] == ["Method", "{[}1]{*}", escape(method)]
    assert escape("\\_^") == r"\textbackslash{}\_\textasciicircum{}"
    assert escape("a--b") == "a-{}-b"


def test_a_comment_cannot_be_left_by_a_line_break() -> None:
    text = latex([cell("x\n\\input{y}", "m", 0, 0.5)])
    assert [line for line in text.splitlines() if line.startswith("%")][1] == r"% x \input{y}: accuracy"
    parse(text)


def test_scores_that_are_no_fractions_stay_as_they_are() -> None:
    results = [cell("nlg/e2e", "lora", s, score, metric="nist") for s, score in enumerate((0.5, 0.7))]
    results += [cell("mine", "lora", s, 12.5, metric="points") for s in range(2)]
    lines = parse(latex([*results, cell("b", "lora", 0, -0.25, metric="matthews_correlation")]))
    assert lines[2][2:5] == [r"0.60$_{\pm 0.14}$", r"12.50$_{\pm 0.00}$", "-25.0"]


def test_means_that_look_the_same_are_bold_together_and_a_lone_method_is_not() -> None:
    scores: dict[tuple[str, str], list[float | None]] = {
        ("a", "x"): [0.50001],
        ("a", "y"): [0.50002],
        ("a", "z"): [0.4],
    }
    assert [line[2] for line in parse(latex(cells(scores)))[2:]] == [r"\textbf{50.0}", r"\textbf{50.0}", "40.0"]
    assert parse(latex(cells({("a", "x"): [0.5]})))[2][2] == "50.0"


def test_failed_cells_are_empty() -> None:
    assert parse(latex(cells({("a", "x"): [None], ("a", "y"): [0.5]})))[2:] == [["x", "", ""], ["y", "", "50.0"]]


def test_published_rows_come_after_a_rule_and_are_marked_and_never_bold() -> None:
    text = latex(TWO, published_rows(["mrpc", "rte"]))
    lines = parse(text)
    assert lines[1] == lines[4] == []
    own, others = lines[2:4], lines[5:]
    assert not any("published" in line[0] for line in own)
    assert all(line[0].endswith("(published)") and "textbf" not in "".join(line) for line in others)
    by_label = {line[0]: line[1:] for line in others}
    assert by_label["AutoLoRA, RoBERTa-base (published)"] == ["", "", "", "85.5 (of 8 tasks)"]
    assert by_label["LoRA r=8, RoBERTa-base (published)"] == ["", "89.7", "86.6", "87.24 (of 8 tasks)"]
    assert by_label["PiSSA, DeBERTa-v3-base (published)"] == ["", "", "", "89.83 (GLUE)"]
    assert "% LoRA r=8, RoBERTa-base (published): microsoft/LoRA README; MRPC, RTE and STS-B start from" in text


def test_a_published_average_over_the_tables_tasks_needs_no_note() -> None:
    results = cells({(f"glue/{name}", "lora"): [0.5] for name in GLUE})
    rows = {line[0]: line[-1] for line in parse(latex(results, published_rows(GLUE))) if line}
    assert rows["AutoLoRA, RoBERTa-base (published)"] == "85.5"
    assert rows["AdaLoRA, RoBERTa-base (published)"] == "85.0 (of 6 tasks)"
    more = cells({("glue-mini/rte", "lora"): [0.5]})
    assert "85.5 (of 8 tasks)" in latex([*results, *more], published_rows(GLUE))


def test_published_rows_without_a_cell_in_the_table_are_left_out() -> None:
    lines = parse(latex(cells({("glue/cola", "lora"): [0.5]}, metric="matthews_correlation"), PUBLISHED))
    assert [(line[0], line[2]) for line in lines[4:]] == [
        ("LoRA r=8, RoBERTa-base (published)", "63.4"),
        ("LoRA, RoBERTa-base (published)", "63.3"),
        ("AdaLoRA, RoBERTa-base (published)", "62.0"),
    ]
    assert "published" not in latex(cells({("mine/cola", "lora"): [0.5]}), PUBLISHED)


@pytest.mark.parametrize(
    ("task", "metric", "figure"),
    [
        ("glue/cola", "matthews_correlation", "63.4"),
        ("glue/stsb", "pearson", "91.5"),
        ("glue/stsb", "spearman", "91.3"),
        ("glue/mrpc", "accuracy", "89.7"),
        ("nlg/e2e", "bleu", "70.4"),
        ("nlg/e2e", "nist", "8.85"),
        ("nlg/e2e", "cider", "2.53"),
    ],
)
def test_published_figures_are_of_ones_own_metric(task: str, metric: str, figure: str) -> None:
    lines = parse(latex(cells({(task, "lora"): [0.5]}, metric=metric), PUBLISHED))
    assert figure in [line[2] for line in lines[4:] if line[0].startswith("LoRA") and "users" not in line[0]]


@pytest.mark.parametrize(("task", "metric"), [("glue/mrpc", "f1"), ("glue/cola", "accuracy"), ("nlg/e2e", "ter")])
def test_figures_of_another_metric_do_not_stand_in_ones_column(task: str, metric: str) -> None:
    results = cells({(task, "lora"): [0.5]}, metric=metric)
    assert not any(line[2] for line in parse(latex(results, PUBLISHED))[4:] if line)
    rows = [row for table in outcome(results, published=True) if table.stem == "published" for row in table.rows]
    assert not any(row[task.partition("/")[2]] for row in rows)


def test_published_rows_are_those_of_the_tasks() -> None:
    assert {row.model for row in published_rows(["e2e"])} == {"GPT-2 medium"}
    assert [row.scores["e2e"] for row in published_rows(["e2e"])] == [68.2, 70.4, 68.7]
    assert [(row.label, row.scores) for row in published_rows(["jnlpba"])] == [
        ("PubMedBERT (published)", {"jnlpba": 74.9}),
        ("BioBERT (published)", {"jnlpba": 77.5}),
    ]
    assert published_rows(["bionlp2004", "mine"]) == published_rows([]) == []
    assert published_rows(GLUE) == [row for row in PUBLISHED if row.tasks[0] in GLUE]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.label)
def test_every_published_row_has_a_source_and_figures_that_agree(row: PublishedRow) -> None:
    assert row.source
    assert set(row.scores) <= set(row.tasks)
    assert set(row.others) <= set(row.scores)
    if row.scores and row.average is not None:
        assert len(row.scores) == row.averaged
        assert sum(row.scores.values()) / len(row.scores) == pytest.approx(row.average, abs=0.05)
