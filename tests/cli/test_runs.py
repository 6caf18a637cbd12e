"""``autolora runs``: what it lists, shows, compares and removes, and that it takes nothing heavy."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from autolora.cli import runs as command
from autolora.cli.run_table import table
from autolora.console import screen
from autolora.files import write_json
from autolora.runs.index import summaries
from autolora.runs.naming import short_names
from tests.cli.support import Call, autolora, imported
from tests.cli.test_commands import HEAVY
from tests.laboratory import change_state


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A finished run, one that failed, and one of another recipe whose search ended."""
    root = tmp_path / "runs"
    for name, seed in (("tiny/good", 3), ("tiny/bad", 4), ("other/task/half", 5)):
        folder = shutil.copytree(finished, root / name)
        text = (folder / "recipe.yaml").read_text()
        recipe = "tiny" if name.startswith("tiny") else "other/task"
        (folder / "recipe.yaml").write_text(
            text.replace("seed: 3", f"seed: {seed}").replace("name: tiny", f"name: {recipe}")
        )
        change_state(folder / "manifest.json", files={}, created=f"2026-01-0{seed}T00:00:00+00:00")
    change_state(root / "tiny" / "bad" / "status.json", state="failed", error="no room", stages={})
    stages = {"search": {"state": "success", "at": "2026-01-01T00:00:00+00:00"}}
    change_state(root / "other" / "task" / "half" / "status.json", stages=stages)
    return root


def listed(call: Call, root: Path, *options: str) -> list[str]:
    code, out, err = call("runs", "--runs", root, "--json", *options)
    assert (code, err) == (0, "")
    return [each["run"].rpartition("/")[2] for each in json.loads(out)]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["half", "bad", "good"]),
        (("--sort", "age:desc"), ["good", "bad", "half"]),
        (("--sort", "seed"), ["good", "bad", "half"]),
        (("--sort", "score"), ["good", "half", "bad"]),
        (("--sort", "score:desc", "--limit", "1"), ["good"]),
        (("--recipe", "tiny"), ["bad", "good"]),
        (("--recipe", "other/*"), ["half"]),
        (("--method", "auto*", "--seed", "3-4"), ["bad", "good"]),
        (("--method", "lora"), []),
        (("--state", "failed,partial"), ["half", "bad"]),
        (("--since", "2026-01-04"), ["half", "bad"]),
        (("--at-least", "0.0"), ["good"]),
        (("--at-most", "-2"), []),
    ],
)
def test_runs_are_filtered_and_sorted(options: tuple[str, ...], found: list[str], call: Call, root: Path) -> None:
    assert listed(call, root, *options) == found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--sort", "scor"), "did you mean 'score'?"),
        (("--sort", "score:up"), "a direction is asc or desc"),
        (("--state", "finishd"), "did you mean 'finished'?"),
        (("--since", "yesterday"), "expected a day, a time or an age"),
        (("--seed", "x"), "--seed: expected whole numbers"),
        (("--runs", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_a_wrong_option_is_said(options: tuple[str, ...], said: str, call: Call, root: Path) -> None:
    code, out, err = call("runs", "--runs", root, *options)
    assert (code, out) == (2, "")
    assert said in err


def test_a_pipe_gets_a_line_for_each_run_with_everything_in_full(call: Call, root: Path) -> None:
    code, out, _ = call("runs", "list", "--output", root)
    head, *lines = (line.split("\t") for line in out.splitlines())
    assert code == 0
    assert [dict(zip(head, line, strict=True))["run"] for line in lines] == ["other/task/half", "tiny/bad", "tiny/good"]
    assert dict(zip(head, lines[1], strict=True))["reason"] == "no room"


def test_the_list_has_80_columns_whatever_runs_are_called_and_no_id_is_cut(root: Path) -> None:
    long = "a-benchmark-of-a-very-long-name/and-a-task-of-one"
    folder = shutil.copytree(root / "tiny" / "good", root / long / "x")
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("name: tiny", f"name: {long}"))
    runs = summaries(root)
    names = short_names([each.path for each in runs])
    console = screen()
    console.width = 80
    from datetime import UTC, datetime

    with console.capture() as captured:
        console.print(table(runs, names, datetime.now(UTC), 80))
    lines = captured.get().rstrip("\n").split("\n")
    assert len(lines) == 1 + len(runs)
    assert all(len(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines[1:]] == [names[each.path] for each in runs]
    assert any("…" in line and "of-one" in line for line in lines)


def test_a_run_is_shown_by_path_id_and_the_end_of_its_path(call: Call, root: Path) -> None:
    name = short_names([each.path for each in summaries(root)])["tiny/good"]
    shown = [call("runs", "show", word, "--runs", root) for word in (root / "tiny" / "good", "tiny/good", "good", name)]
    assert len(set(shown)) == 1
    code, out, _ = shown[0]
    assert code == 0
    for word in ("finished", "seed 3", "accuracy", "search", "retrain", "eval", "torch", "adapter", "ranks"):
        assert word in out
    _, out, _ = call("runs", "show", "good", "--runs", root, "--json")
    found = json.loads(out)
    assert found["scores"]["accuracy"] is not None
    assert found["damage"] is None
    assert found["ranks"]["modules"] == sum(found["ranks"]["modules_by_rank"].values())
    code, _, err = call("runs", "show", "god", "--runs", root)
    assert (code, "there is no run 'god'" in err) == (2, True)


def test_of_a_damaged_result_what_there_is_is_shown_and_the_damage_said(call: Call, root: Path) -> None:
    (root / "tiny" / "good" / "metrics.json").write_text("[")
    code, out, _ = call("runs", "show", "good", "--runs", root)
    assert code == 0
    assert "damaged" in out


def test_two_runs_are_compared_and_only_what_differs_in_their_recipes_is_shown(call: Call, root: Path) -> None:
    code, out, _ = call("runs", "diff", "good", "half", "--runs", root, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["recipe"] == {"name": ["tiny", "other/task"], "seed": [3, 5]}
    assert found["scores"]["accuracy"][0] is not None
    assert found["scores"]["accuracy"][1] is None
    assert found["ranks"] == {}
    code, out, _ = call("runs", "diff", "good", "good", "--runs", root)
    assert code == 0
    assert "The recipes are the same." in out


def test_removing_asks_first_and_tells_of_comparisons(call: Call, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(root / "comparisons" / "tiny" / "trials.json", [{"run": "../../tiny/good"}])
    code, out, err = call("runs", "rm", "good", "--runs", root)
    assert (code, out) == (2, "")
    assert "to remove this run, add --yes" in err
    asked: list[int] = []
    monkeypatch.setattr(command, "_confirm", asked.append)
    size = sum(path.stat().st_size for path in (root / "tiny" / "good").rglob("*") if path.is_file())
    code, out, err = call("runs", "rm", "good", "--runs", root)
    assert (code, asked) == (0, [1])
    assert f"({size} bytes)" in out
    assert "comparisons/tiny has it in its tables" in err
    assert not (root / "tiny" / "good").exists()
    assert "removed" in json.loads((root / "comparisons" / "tiny" / "trials.json").read_text())[0]


def test_no_removes_nothing_and_is_no_fault_of_ours(call: Call, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = io.StringIO("n\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", answers)
    code, _, err = call("runs", "rm", "good", "--runs", root)
    assert (code, err.splitlines()[-1]) == (2, "autolora: the answer was no: nothing was done")
    assert (root / "tiny" / "good").exists()


def test_of_several_nothing_is_removed_where_one_is_no_run(call: Call, root: Path) -> None:
    code, _, err = call("runs", "rm", "--yes", "good", root / "tiny", "--runs", root)
    assert code == 2
    assert "is no run" in err
    assert (root / "tiny" / "good").is_dir()
    code, out, _ = call("runs", "rm", "--yes", "good", "bad", "--runs", root)
    assert (code, out.splitlines()[-1].startswith("freed ")) == (0, True)
    assert [each.path for each in summaries(root)] == ["other/task/half"]


def test_listing_and_watching_import_nothing_heavy(root: Path) -> None:
    for words in (("runs", "--runs", root), ("watch", "good", "--runs", root)):
        done = autolora(*words, cwd=root, PYTHONPROFILEIMPORTTIME="1")
        assert done.returncode == 0
        assert imported(done.stderr) & HEAVY == set()
