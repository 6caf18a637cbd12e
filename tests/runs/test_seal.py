"""A run's files are listed when their stage ends, and what is damaged by then is never taken for content."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.files import write_atomic, write_json
from autolora.runs import status
from autolora.runs.inventory import check_there, verified, verify_below
from autolora.runs.lock import Lock
from autolora.runs.seal import listing
from autolora.runs.store import Run
from tests.export.runs import make_run
from tests.laboratory import change_state, flip_bit, of_an_earlier_version

LOG = "search/log.jsonl"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose search has ended."""
    found = Run.open(make_run(tmp_path))
    with found.stage("search"):
        write_atomic(found.path / LOG, '{"step": 1}\n')
    return found


def test_what_a_stage_has_written_is_checked_once_it_has_ended(run: Run) -> None:
    assert set(run.manifest()["files"]) == {"recipe.yaml", LOG, "search/ranks.json"}
    assert verified(run.path, LOG) == run.path / LOG
    flip_bit(run.path / LOG)
    with pytest.raises(
        UserError, match=rf"{LOG} is not what was written: its SHA-256 is .* search anew with: autolora s"
    ):
        verified(run.path, LOG)
    check_there(run.path, "search")  # which looks at no content
    write_atomic(run.path / LOG, "")
    with pytest.raises(UserError, match=rf"{LOG} is not what was written: it has 0 bytes, and should have 12; "):
        check_there(run.path, "search")
    (run.path / LOG).unlink()
    for look in (lambda: check_there(run.path, "search"), lambda: verify_below(run.path, "search")):
        with pytest.raises(
            UserError, match=rf"{LOG} is missing, although status\.json says that its search succeeded; "
        ):
            look()
    check_there(run.path, "retrain", "eval")


@pytest.mark.parametrize("ending", ["running", "failed", "cancelled"])
def test_while_a_stage_is_made_anew_its_files_are_what_they_are(run: Run, ending: str) -> None:
    change_state(run.path / "status.json", stages={"search": {"state": ending}})
    write_atomic(run.path / LOG, "another\n")
    assert verified(run.path, LOG).read_text() == "another\n"
    with run.stage("search"):
        pass
    flip_bit(run.path / LOG)
    with pytest.raises(UserError, match="is not what was written"):
        verified(run.path, LOG)


def test_damage_is_not_taken_for_content_when_a_stage_is_done_again(run: Run) -> None:
    flip_bit(run.path / LOG)
    with run.stage("search"):
        write_json(run.path / "search" / "ranks.json", {"written": "anew"})
    assert verified(run.path, "search/ranks.json")
    with pytest.raises(UserError, match=f"{LOG} is not what was written"):
        verified(run.path, LOG)
    with run.stage("search"):
        write_atomic(run.path / LOG, '{"step": 1}\n')
    assert verified(run.path, LOG)


def test_a_file_that_a_stage_no_longer_writes_is_forgotten(run: Run) -> None:
    with run.stage("search"):
        (run.path / LOG).unlink()
    check_there(run.path, "search")


def test_the_files_have_reached_the_disk_before_the_status_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order: content, manifest, status."""
    synced: list[str] = []
    sync, write = os.fsync, status.write_state

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()).removeprefix(str(run.path.resolve())))
        sync(descriptor)

    def written(path: Path, value: dict[str, object]) -> None:
        synced.append(f"{path.name} {value['state']}")
        write(path, value)

    if not Path("/proc/self/fd").exists():
        pytest.skip("the system does not say what a descriptor is of")
    with run.stage("search"):
        (run.path / "search" / "plain.bin").write_bytes(b"by someone who syncs nothing")
        monkeypatch.setattr(os, "fsync", note)
        monkeypatch.setattr(status, "write_state", written)
    end = synced.index("status.json success")
    assert {"/search/plain.bin", "/search"} <= set(synced[:end])


def test_what_is_killed_while_it_writes_a_file_of_no_stage_leaves_no_contradiction(run: Run) -> None:
    with listing(run.path, "labels.json"):
        write_json(run.path / "labels.json", {"names": ["a", "b"]})

    def killed() -> None:
        with listing(run.path, "labels.json"):
            write_json(run.path / "labels.json", {"names": ["b", "a"]})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert verified(run.path, "labels.json").exists()
    with run.stage("retrain"):
        pass
    flip_bit(run.path / "labels.json")
    with pytest.raises(UserError, match=r"labels\.json is not what was written"):
        verified(run.path, "labels.json")


def test_what_was_made_of_weights_that_are_replaced_goes_with_them(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = ("submission/CoLA.tsv", "metrics-harness.json", "metrics-harness.md", "metrics-harness.csv")
    adapter = run.path / "adapter" / "adapter_model.safetensors"
    with run.stage("retrain"):
        write_atomic(adapter, "weights")
    with listing(run.path, *beside):
        for name in beside:
            write_atomic(run.path / name, "1\n")
    with run.stage("retrain"):
        write_atomic(adapter, "weights")  # the same
    with run.stage("eval"):
        write_json(run.path / "metrics.json", [])
    assert all((run.path / name).is_file() for name in beside)
    assert set(beside) <= set(run.manifest()["files"])
    assert not capsys.readouterr().err
    with run.stage("retrain"):
        write_atomic(adapter, "others")
    assert not any((run.path / name).exists() for name in beside)
    assert not set(beside) & set(run.manifest()["files"])
    said = capsys.readouterr().err
    assert all(name in said for name in beside)
    assert f"write anew with: autolora eval {run.path} --submission" in said


def test_a_recipe_of_a_run_is_written_again_only_where_it_is_another(run: Run) -> None:
    before = (run.path / "recipe.yaml").stat().st_mtime_ns
    run.save_recipe()
    assert (run.path / "recipe.yaml").stat().st_mtime_ns == before
    run.recipe = run.recipe.model_copy(update={"seed": 5})
    run.save_recipe()
    assert Run.open(run.path).recipe.seed == 5


@pytest.mark.parametrize("name", ["manifest.json", "status.json"])
def test_every_bit_of_the_state_counts(run: Run, name: str) -> None:
    """Whichever is turned over: what is said is refused, or is what it was."""
    path, kept = run.path / name, (run.path / name).read_bytes()
    before, refused = (run.status(), run.manifest()), list[str]()
    places = range(0, len(kept), 1 + len(kept) // 150)
    for place in places:
        for bit in (0, 2, 5):
            data = bytearray(kept)
            data[place] ^= 1 << bit
            path.write_bytes(data)
            try:
                opened = Run.open(run.path)
                assert (opened.status(), opened.manifest()) == before, (place, bit)
            except UserError as error:
                refused.append(str(error))
    path.write_bytes(kept)
    assert len(refused) > 2 * len(places)
    assert all(str(path) in message for message in refused)


def test_a_run_of_an_earlier_version_is_read_as_it_is(run: Run) -> None:
    of_an_earlier_version(run.path)
    flip_bit(run.path / LOG)
    verified(run.path, LOG)
    (run.path / LOG).unlink()
    check_there(run.path, "search")
    with Run.open(run.path).stage("retrain"):
        write_atomic(run.path / "retrain" / "log.jsonl", "{}\n")
    flip_bit(run.path / "retrain" / "log.jsonl")
    with pytest.raises(UserError, match="is not what was written"):
        verified(run.path, "retrain/log.jsonl")


def test_a_run_whose_manifest_is_gone_is_refused(run: Run) -> None:
    (run.path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json cannot be read: .*; put it back as it was, or remove the run"):
        Run.open(run.path)


def test_what_a_killed_process_left_is_removed_when_the_next_stage_begins(run: Run) -> None:
    leftovers = [
        run.path / f".status.json.{'0a' * 16}.tmp",
        run.path / "search" / f".ranks.json.{'f1' * 16}.tmp",
        run.path / "adapter.new" / "adapter_config.json",
        run.path / "adapter.old" / "adapter_config.json",
    ]
    ours = [run.path / "adapter" / "README.md", run.path / "notes.tmp", run.path / "data.new"]
    for path in (*leftovers, *ours):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    change_state(run.path / "status.json", stages={"search": {"state": "running"}})
    other = Lock(run.path / ".lock")
    other.acquire()
    with pytest.raises(UserError, match="is still running"), run.stage("retrain"):
        pass
    other.release()
    assert all(path.exists() for path in leftovers), "whoever is at it still writes them"
    change_state(run.path / "status.json", stages={"search": {"state": "cancelled"}})
    with run.stage("retrain"):
        assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in ours)


def test_the_old_one_of_two_folders_is_kept_where_the_new_one_was_not_yet_in_its_place(run: Run) -> None:
    old = run.path / "adapter.old"
    old.mkdir()
    (old / "weights").write_text("the only ones")
    with run.stage("eval"):
        pass
    assert (run.path / "adapter" / "weights").read_text() == "the only ones"
    shutil.rmtree(run.path / "adapter")


@pytest.mark.parametrize(
    "files",
    [{"search/../../../x": {"size": 1, "sha256": ""}}, {"/x": {"size": 1, "sha256": ""}}, {"a": []}, {"a": {}}, 3],
)
def test_a_manifest_that_lists_something_else_is_refused(run: Run, files: object) -> None:
    change_state(run.path / "manifest.json", files=files)
    with pytest.raises(
        UserError, match=r"manifest\.json (does not list files|lists '.*', which is no file of the run)"
    ):
        verified(run.path, LOG)
