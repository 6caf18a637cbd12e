"""``autolora report`` and ``autolora export`` on a run that is there."""

import json
import shutil
from pathlib import Path

import pytest

from autolora.cli.report import _each_once
from autolora.comparison.arms import Arm, Arms
from autolora.comparison.outcome import outcome
from autolora.errors import UserError
from tests.cli.support import Call, autolora, imported, read, said, succeed
from tests.comparison.support import cell
from tests.laboratory import of_an_earlier_version

pytestmark = pytest.mark.usefixtures("small_pictures")


def test_a_page_about_one_run_is_written_into_its_folder(call: Call, copied: Path) -> None:
    code, out, err = call("report", copied, "--title", "One run")
    assert (code, out) == (0, f"wrote {copied}/report.html\nwrote {copied}/report.md\n"), err
    page = (copied / "report.html").read_text(encoding="utf-8")
    assert "<title>One run</title>" in page
    assert f"{read(copied / 'metrics.json')[0]['accuracy']:.4f}" in page


def test_a_page_needs_no_torch(copied: Path) -> None:
    """Which would be most of the memory that a report over many runs takes."""
    done = autolora("report", str(copied), cwd=copied.parent, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, said(done.stderr)
    assert imported(done.stderr) & {"torch", "transformers", "datasets", "peft"} == set()


def test_a_folder_of_runs_gives_one_page_wherever_it_is_asked_for(call: Call, copied: Path, tmp_path: Path) -> None:
    code, _, err = call("report", copied.parents[1], "--output", tmp_path / "page")
    assert code == 0, err
    assert {path.name for path in (tmp_path / "page").iterdir()} >= {"report.html", "report.md", "figures"}
    assert not (copied.parents[1] / "report.html").exists()


@pytest.mark.parametrize("name", ["status.json", "recipe.yaml"])
@pytest.mark.parametrize("folder", [False, True])
def test_a_run_that_lacks_a_file_is_not_left_out(
    call: Call, copied: Path, tmp_path: Path, name: str, folder: bool
) -> None:
    shutil.copytree(copied, other := copied.with_name(f"{copied.name}-2"))
    (other / name).unlink()
    if folder:
        (other / name).mkdir()
    code, out, err = call("report", copied.parents[1], "--output", tmp_path / "page")
    assert (code, out) == (2, "")
    assert f"{other} is not a run: it has no {name}" in err
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("name", ["trials.json", "cells.json"])
def test_a_comparison_lists_its_runs_under_todays_name_and_under_the_earlier_one(
    call: Call, copied: Path, name: str
) -> None:
    folder = copied.parents[1] / "comparisons" / "tiny"
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps([{"run": f"../../tiny/{copied.name}"}]))
    code, out, err = call("report", folder)
    assert (code, out) == (0, f"wrote {folder}/report.html\nwrote {folder}/report.md\n"), err
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "1 run: 1 task, 1 method, 1 seed." in page


def test_a_run_that_was_trained_otherwise_since_is_not_reported_as_the_trial(call: Call, copied: Path) -> None:
    """Its metrics are as good as any, of another recipe."""
    other = Path(shutil.copytree(copied, copied.with_name("20261101-000000-4")))
    for name, old, new in (("recipe.yaml", "seed: 3", "seed: 4"), ("recipe.yaml", "steps: 30", "steps: 31")):
        text = (other / name).read_text(encoding="utf-8")
        assert old in text
        (other / name).write_text(text.replace(old, new, 1), encoding="utf-8")
        of_an_earlier_version(other)  # which lists no files
        folder = copied.parents[1] / "comparisons" / "tiny"
        folder.mkdir(parents=True, exist_ok=True)
        listed = [{"run": f"../../tiny/{run.name}"} for run in (copied, other)]
        (folder / "trials.json").write_text(json.dumps(listed))
        for target in (folder, copied.parent):
            code, _, err = call("report", target, "--output", folder.parent / "page")
            assert code == (0 if "seed" in old else 2), err
    assert all(run.name in err for run in (copied, other))
    assert "cannot stand in one table: their search.steps is " in err


def test_a_report_over_a_sweep_takes_no_baseline() -> None:
    results = [cell("tiny", f"lora:4 search.rank={rank}", 0, 0.5) for rank in (4, 8)]
    arms = Arms({each.method: Arm(each.method, "lora:4", {"search.rank": each.method[-1]}) for each in results})
    with pytest.raises(UserError, match="--baseline: a sweep compares every setting with the recipe's own"):
        outcome(results, "lora:4", arms=arms)
    with pytest.raises(UserError, match="interval"):
        outcome(results[:1], None, "bootstap")


def test_todays_list_of_a_comparison_wins_over_an_earlier_one(call: Call, copied: Path) -> None:
    folder = copied.parents[1] / "comparisons" / "tiny"
    folder.mkdir(parents=True)
    (folder / "trials.json").write_text(json.dumps([{"run": f"../../tiny/{copied.name}"}]))
    (folder / "cells.json").write_text(json.dumps([{"run": "gone"}]))
    code, _, err = call("report", folder)
    assert code == 0, err


@pytest.mark.parametrize("name", ["trials.json", "cells.json"])
@pytest.mark.parametrize("content", ["", "[", "{}", "[]", "[3]", '[{"run": "gone"}]'])
def test_what_holds_no_runs_is_refused(call: Call, tmp_path: Path, content: str, name: str) -> None:
    folder = tmp_path / "comparison"
    folder.mkdir()
    if content:
        (folder / name).write_text(content)
    code, _, err = call("report", folder)
    assert code == 2
    assert "Traceback" not in err
    assert str(folder) in err
    assert not (folder / "report.html").exists()


def test_export_prints_the_ranks_and_nothing_else_on_standard_output(finished: Path, laboratory: Path) -> None:
    done = succeed("export", finished, "--format", "peft", cwd=laboratory)
    config = json.loads(done.stdout)
    ranks = read(finished / "search" / "ranks.json")["ranks"]
    assert config["rank_pattern"] == {f"^{name.replace('.', chr(92) + '.')}": r for name, r in ranks.items() if r}


def test_a_format_that_there_is_not_is_answered_with_the_nearest(call: Call, finished: Path) -> None:
    code, out, err = call("export", finished, "--format", "llamafactory")
    assert (code, out) == (2, "")
    assert "did you mean 'llama-factory'?" in err


def test_a_run_that_is_named_again_by_its_folder_or_another_comparison_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    again = tmp_path / "b" / ".." / "a"
    (tmp_path / "b").mkdir()
    named = [
        cell("tiny", "lora:2", 0, 0.5, run=tmp_path / "a"),
        cell("tiny", "lora:2", 0, 0.5, run=again),
        cell("tiny", "lora:2 search.rank=4", 0, 0.5, run=again),  # of a sweep
        cell("tiny", "lora:2", 0, 0.5, run=tmp_path / "b"),
        cell("tiny", "svd", 0, None, run=None),
        cell("tiny", "svd", 1, None, run=None),
    ]
    assert list(_each_once(named)) == [named[0], *named[2:]]
