"""The index of runs: it spares reading them, and says the same as they do whatever happens to them or to it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autolora.runs import index, store
from autolora.runs.index import NAME, summaries
from autolora.runs.listing import newest, runs, same_runs
from autolora.runs.store import Run
from autolora.runs.summary import Summary, summarise
from tests.export.runs import make_run
from tests.laboratory import change_state, of_an_earlier_version
from tests.runs.many import many_runs, opened_below, settled
from tests.runs.test_lock import Elsewhere


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A searched run, which lies elsewhere."""
    made = Run.open(make_run(tmp_path / "one"))
    with made.stage("search"):
        pass
    (made.path / "retrain").mkdir()
    (made.path / "retrain" / "log.jsonl").write_text('{"step": 1, "train_loss": 0.5}\n')
    return made


@pytest.fixture
def root(tmp_path: Path, run: Run) -> Path:
    """Five runs, listed once."""
    many_runs(run.path, tmp_path / "runs", 5)
    summaries(tmp_path / "runs")
    return tmp_path / "runs"


def truth(root: Path) -> list[Summary]:
    """What the folders say, without an index."""
    (root / NAME).unlink(missing_ok=True)
    return summaries(root)


def test_of_2000_runs_the_second_listing_opens_the_index_alone_and_the_third_what_has_changed(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "read_resolved", lambda path: run.recipe)  # the first time would take 15 seconds
    monkeypatch.setattr(store, "check_contained", lambda path: None)
    root = tmp_path / "runs"
    made = many_runs(run.path, root, 2000)
    with opened_below(root) as first:
        listed = summaries(root)
    assert len({each.path for each in listed}) == 2000
    assert len(first) > 2000
    with opened_below(root) as second:
        assert summaries(root) == listed
    assert second == [Path(NAME)]
    change_state(made[1234] / "status.json", state="failed", error="out of luck")
    with opened_below(root) as third:
        (changed,) = set_difference(summaries(root), listed)
    assert (changed.path, changed.state, changed.reason) == ("tiny/run-1234", "failed", "out of luck")
    assert {path.parts[:2] for path in third if NAME not in path.name} - {(".",), ()} == {("tiny", "run-1234")}


def set_difference(one: list[Summary], two: list[Summary]) -> list[Summary]:
    return [each for each in one if each not in two]


def test_a_line_says_what_the_runs_files_say(run: Run) -> None:
    path = run.path
    change_state(path / "manifest.json", created="2026-01-02T03:04:05+00:00")
    run.note("retrain", trainable_parameters=120, head_parameters=20, seconds=2.0)
    run.note("search", seconds=1.5)
    found = summarise(path, "tiny/x")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert found == Summary(
        "tiny/x",
        "partial",
        run.recipe.name,
        "autolora",
        run.recipe.seed,
        stage="search",
        stages={"search": "success"},
        parameters=100,
        size=size,
        created="2026-01-02T03:04:05+00:00",
        seconds=3.5,
    )
    run.note("eval", metric="loss", score=0.25, scores=[{"name": "loss", "value": 0.25, "higher_is_better": False}])
    with run.stage("eval"):
        pass
    ended = summarise(path, "tiny/x")
    assert (ended.state, ended.metric, ended.score, ended.higher_is_better) == ("finished", "loss", 0.25, False)


def cancelled(run: Path) -> None:
    change_state(run / "status.json", state="cancelled")


def begun_and_gone(run: Path) -> None:
    change_state(run / "status.json", state="running", stages={"search": {"state": "running"}})


def failed(run: Path) -> None:
    change_state(run / "status.json", state="failed", stages={"search": {"state": "failed", "error": "no\nmemory"}})


def cut_short(run: Path) -> None:
    data = (run / "manifest.json").read_bytes()
    (run / "manifest.json").unlink()
    (run / "manifest.json").write_bytes(data[: len(data) // 2])


def of_a_later_version(run: Path) -> None:
    change_state(run / "manifest.json", format=99)


@pytest.mark.parametrize(
    ("spoil", "state", "reason"),
    [
        (cancelled, "interrupted", None),
        (begun_and_gone, "interrupted", None),
        (failed, "failed", "no memory"),
        (cut_short, "unreadable", "manifest.json cannot be read"),
        (of_a_later_version, "unreadable", "is a run of format 99"),
        (of_an_earlier_version, "partial", None),
    ],
)
def test_the_state_is_what_a_user_has_to_know(
    spoil: Callable[[Path], None], state: str, reason: str | None, root: Path
) -> None:
    folder = root / "tiny" / "run-0003"
    for name in ("status.json", "manifest.json"):  # no links any more, as some write in place
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(data)
    spoil(folder)
    (found,) = (each for each in summaries(root) if each.path == "tiny/run-0003")
    assert found.state == state
    assert found.reason is None if reason is None else reason in (found.reason or "")


def test_whoever_is_at_a_run_is_seen_at_once_and_so_is_that_they_have_gone(root: Path) -> None:
    folder = root / "tiny" / "run-0002"
    there = Elsewhere(folder / ".lock")
    try:
        assert {each.path: each.state for each in summaries(root)}["tiny/run-0002"] == "running"
    finally:
        there.kill()
    assert {each.state for each in summaries(root)} == {"partial"}


def removed(root: Path) -> None:
    shutil.rmtree(root / "tiny" / "run-0000")


def copied_in(root: Path) -> None:
    shutil.copytree(root / "tiny" / "run-0000", root / "other" / "place" / "run-0000")


def renamed(root: Path) -> None:
    (root / "tiny" / "run-0000").rename(root / "tiny" / "mine")


def in_another_ones_place(root: Path) -> None:
    first, second = root / "tiny" / "run-0000", root / "tiny" / "run-0001"
    change_state(first / "status.json", state="failed")
    first.rename(root / "aside")
    second.rename(first)
    (root / "aside").rename(second)


def edited_in_place(root: Path) -> None:
    path = root / "tiny" / "run-0004" / "recipe.yaml"
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace("seed: 0", "seed: 7"))


def its_checkpoint_gone(root: Path) -> None:
    (root / "tiny" / "run-0001" / "search" / "ranks.json").unlink()


@pytest.mark.parametrize(
    "change", [removed, copied_in, renamed, in_another_ones_place, edited_in_place, its_checkpoint_gone]
)
def test_what_happens_to_folders_is_noticed(change: Callable[[Path], None], root: Path) -> None:
    before = summaries(root)
    change(root)
    after = summaries(root)
    assert after != before
    assert after == truth(root)


def test_what_was_just_written_is_read_again_as_times_are_coarse(root: Path) -> None:
    folder = root / "tiny" / "run-0000"
    change_state(folder / "status.json", state="failed", error="one")
    assert {each.reason for each in summaries(root)} == {None, "one"}
    said = (folder / "status.json").stat()
    change_state(folder / "status.json", state="failed", error="two")
    (folder / "status.json").rename(folder / "other")
    shutil.copyfile(folder / "other", folder / "status.json")
    (folder / "other").unlink()
    os.utime(folder / "status.json", ns=(said.st_atime_ns, said.st_mtime_ns))
    assert {each.reason for each in summaries(root)} == {None, "two"}
    settled(folder)
    summaries(root)
    with opened_below(root) as opened:
        summaries(root)
    assert opened == [Path(NAME)]


def lines_of(root: Path) -> list[bytes]:
    return (root / NAME).read_bytes().splitlines(keepends=True)


def with_lines(root: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the index, with a head that fits."""
    body = b"".join(map(change, lines_of(root)[1:]))
    (root / NAME).write_bytes(json.dumps(index._head(body)).encode() + b"\n" + body)


def test_the_index_is_believed_where_it_is_whole(root: Path) -> None:
    with_lines(root, lambda line: line.replace(b'"partial"', b'"failed"'))
    assert {each.state for each in summaries(root)} == {"failed"}  # so that the next tests prove something


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: (root / NAME).unlink(),
        lambda root: (root / NAME).write_bytes(b""),
        lambda root: (root / NAME).write_bytes(b"\x80\x04\x95nonsense\n" * 9),
        lambda root: (root / NAME).write_bytes(b"".join(lines_of(root)[:-1])),
        lambda root: (root / NAME).write_bytes((root / NAME).read_bytes().replace(b'"partial"', b'"failed"')),
        lambda root: (root / NAME).write_bytes(
            (root / NAME).read_bytes().replace(b'"format": 1', b'"format": 2', 1).replace(b'"partial"', b'"failed"')
        ),
        lambda root: with_lines(root, lambda line: line.replace(b'"autolora"', b"[1]")),
        lambda root: with_lines(root, lambda line: line.replace(b'"size"', b'"sizes"')),
        lambda root: with_lines(root, lambda line: b"[]\n"),
        lambda root: with_lines(root, lambda line: b"[" * 100_000 + b"\n"),
        lambda root: ((root / NAME).unlink(), (root / NAME).mkdir()),
    ],
    ids=["gone", "empty", "nonsense", "cut", "edited", "later", "types", "names", "lists", "deep", "folder"],
)
def test_a_damaged_index_is_as_good_as_none(spoil: Callable[[Path], object], root: Path) -> None:
    before = summaries(root)
    spoil(root)
    assert summaries(root) == before
    assert summaries(root) == before


def test_the_index_of_another_version_is_as_good_as_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = summaries(root)
    with_lines(root, lambda line: line.replace(b'"partial"', b'"failed"'))
    monkeypatch.setattr(index.autolora, "__version__", "99.0")
    assert summaries(root) == before


def test_where_the_index_cannot_be_written_runs_are_listed_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = truth(root)
    (root / NAME).unlink()

    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(index, "write_atomic", refuse)
    assert summaries(root) == before
    assert not (root / NAME).exists()


def test_readers_and_writers_at_one_time_see_the_same_runs(root: Path) -> None:
    before = truth(root)

    def list_anew(i: int) -> list[Summary]:
        if i % 3 == 0:
            (root / NAME).unlink(missing_ok=True)
        return summaries(root)

    with ThreadPoolExecutor(4) as pool:
        assert all(found == before for found in pool.map(list_anew, range(16)))
    assert summaries(root) == before


def test_the_runs_of_one_recipe_leave_the_others_in_the_index(root: Path, run: Run) -> None:
    shutil.copytree(run.path, root / "other" / "one")
    settled(root / "other" / "one")
    both = summaries(root)
    shutil.rmtree(root / "tiny" / "run-0000")
    assert [each.path for each in summaries(root, "tiny")] == [f"tiny/run-{i:04}" for i in range(1, 5)]
    with opened_below(root) as opened:
        assert len(summaries(root)) == len(both) - 1
    assert opened == [Path(NAME)]


def test_same_runs_and_the_newest_open_no_other_run(root: Path, run: Run) -> None:
    other = root / "tiny" / "run-0002"
    (other / "recipe.yaml").unlink()
    text = (run.path / "recipe.yaml").read_text()
    (other / "recipe.yaml").write_text(text.replace("seed: 0", "seed: 7"))
    change_state(other / "manifest.json", created="2126-01-01T00:00:00+00:00", files={})
    settled(other)
    summaries(root)
    with opened_below(root / "tiny") as opened:
        (found,) = same_runs(root, run.recipe.model_copy(update={"seed": 7}))
    assert found.path == other
    assert {path.parts[0] for path in opened} == {"run-0002"}
    with opened_below(root / "tiny") as opened:
        last, count = newest(root) or (None, 0)
    assert (last and last.path, count) == (other, 5)
    assert {path.parts[0] for path in opened} == {"run-0002"}
    assert [each.path for each in runs(root)][-1] == other


def test_runs_that_try_a_setting_are_marked_and_left_out_of_those_that_are_opened(root: Path, run: Run) -> None:
    shutil.copytree(run.path, root / "tiny" / "_tuning" / "one")
    found = {each.path: each.tuning for each in summaries(root)}
    assert found.pop("tiny/_tuning/one")
    assert not any(found.values())
    assert len(runs(root)) == 5
    assert [each.path.name for each in runs(root, "tiny/_tuning")] == ["one"]
