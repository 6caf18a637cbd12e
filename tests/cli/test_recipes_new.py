"""``autolora recipes new`` at a terminal: what is asked, and that what is written for the answers is right."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from autolora.experiment.preflight import load_recipe
from tests.cli.support import Call

TURNS = [{"role": "user", "content": "Where is Rome?"}, {"role": "assistant", "content": "In Italy."}]


class Terminal(io.StringIO):
    """Standard input with somebody who has typed these lines; nobody after them."""

    def isatty(self) -> bool:
        return True


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("".join(f"{line}\n" for line in lines)))


def write(folder: Path) -> None:
    """Files as people have them; the queues' columns have names of their own."""
    tickets = [f"Printer {i} is out of paper,hardware\nI cannot log in to {i},accounts\n" for i in range(20)]
    (folder / "tickets.csv").write_text("ticket,queue\n" + "".join(tickets), encoding="utf-8")
    pairs = "".join(f"a cat on mat {i}\ta dog on mat {i}\t{i / 7:.2f}\n" for i in range(20))
    (folder / "pairs.tsv").write_text("sentence1\tsentence2\tscore\n" + pairs, encoding="utf-8")
    (folder / "ner.conll").write_text("Anna\tB-PER\nlives\tO\n\n" * 20, encoding="utf-8")
    (folder / "chats.jsonl").write_text(f"{json.dumps({'messages': TURNS})}\n" * 20, encoding="utf-8")
    facts = [json.dumps({"prompt": f"The capital of land {i}", "completion": f"is town {i}"}) for i in range(20)]
    (folder / "facts.jsonl").write_text("\n".join(facts), encoding="utf-8")


ASKED = [  # the file, the answers, and the recipe's task, columns and label
    ("tickets.csv", ("queue", "", "", "", ""), ("classification", ("ticket",), "queue")),
    ("pairs.tsv", ("", "", "", "", ""), ("regression", ("sentence1", "sentence2"), "score")),
    ("ner.conll", ("", "", "", "", ""), ("tagging", ("tokens",), "ner_tags")),
    ("chats.jsonl", ("", "", "", ""), ("chat", ("messages",), "messages")),
    ("facts.jsonl", ("", "", "", "", ""), ("generation", ("prompt",), "completion")),
    ("facts.jsonl", ("chat", "", "", "", ""), ("chat", ("prompt",), "completion")),
]


@pytest.mark.parametrize(("name", "answers", "right"), ASKED)
def test_return_takes_every_guess(
    name: str,
    answers: tuple[str, ...],
    right: tuple[str, tuple[str, ...], str],
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    answer(monkeypatch, name, *answers)
    code, out, err = call("recipes", "new")
    assert code == 0, err
    target = Path(name).with_suffix(".yaml")
    assert f"wrote {target}" in out
    recipe = load_recipe(target)
    assert (recipe.task, recipe.data.columns, recipe.data.label) == right


def test_what_cannot_be_is_said_and_asked_for_again(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    (tmp_path / "tickets.yaml").write_text("mine", encoding="utf-8")
    wrong = ["ticket.csv", "tickets.csv", "", "quue", "queue", "classifikation", "classification"]
    answer(monkeypatch, *wrong, "tickett", "ticket", "no model!", "", "other.yaml", "bundled:all-MiniLM-L6-v2")
    code, _, err = call("recipes", "new")
    assert code == 0, err
    said = [
        "ticket.csv is no file; did you mean 'tickets.csv'?",
        "one of: ticket, queue, got ''",
        "got 'quue'; did you mean 'queue'?",
        "did you mean 'classification'?",
        "one or two of: ticket, queue, got 'tickett'",
        "tickets.yaml exists already",
        "'no model!' is neither a hub id",
    ]
    places = [err.find(text) for text in said]
    assert places == sorted(places), err
    assert -1 not in places, err
    assert (tmp_path / "tickets.yaml").read_text(encoding="utf-8") == "mine"
    assert load_recipe(tmp_path / "other.yaml").data.label == "queue"


def test_without_a_terminal_options_say_what_the_file_does_not_show(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, _, err = call("recipes", "new", "--data", "tickets.csv", "--yes")
    assert code == 2
    assert "the file does not show --task and --label; give them: the file's columns are: ticket, queue" in err
    code, out, err = call("recipes", "new", "--data", "tickets.csv", "--label", "queue", "--yes")
    assert code == 0, err
    assert "wrote tickets.yaml" in out
    code, _, err = call("recipes", "new", "--data", "tables.txt", "--yes")
    assert (code, "name one that ends in .jsonl, .json, .csv, .tsv" in err) == (2, True)


def test_the_choices_are_shown_and_columns_by_name(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    answer(monkeypatch, "", "", "", "", str(tmp_path / "out.yaml"))
    code, _, err = call("recipes", "new", "--data", tmp_path / "ner.conll")
    assert code == 0, err
    assert "columns: tokens, ner_tags\n" in err
    assert "task (classification, regression, tagging, generation, chat) [tagging]:" in err
    assert "a fifth of the rows is held out to score on" in err


def test_an_end_at_a_question_is_no_fault_of_ours_and_leaves_nothing(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    before = sorted(tmp_path.iterdir())
    answer(monkeypatch, "tickets.csv", "queue")
    code, _, err = call("recipes", "new")
    assert (code, err.splitlines()[-1]) == (2, "autolora: a question was not answered: nothing was done")
    terminal = Terminal()
    monkeypatch.setattr(terminal, "readline", interrupt)
    monkeypatch.setattr("sys.stdin", terminal)
    code, _, err = call("recipes", "new")
    assert (code, err.splitlines()[-1]) == (130, "autolora: cancelled")
    assert sorted(tmp_path.iterdir()) == before


def interrupt(*_: object) -> str:
    """Somebody presses Ctrl-C."""
    raise KeyboardInterrupt
