"""The files of a run are what was written: one bit that is not is refused by every command that reads it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.experiment.line import run_stages
from autolora.runs.inventory import stage_of, verified
from tests.cli.support import Call, contents, read
from tests.laboratory import change_state, flip_bit, tiny_run

METHODS = ("squeeze:budget=0.5", "bitfit", "lora-grid:2")
STEPS = ("search.steps=6", "retrain.steps=6", "search.log_every=2", "retrain.log_every=2")
UNREAD = (".png", ".md", ".csv")  # by us; people look at them
STATES = ("manifest.json", "status.json", "search/grid.json", "checkpoint.safetensors")


@pytest.fixture(scope="module")
def whole(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each method. To be read only."""
    found = {}
    for method in METHODS:
        run, context = tiny_run(laboratory, tmp_path_factory.mktemp("whole"), method, *STEPS)
        run_stages(run, context)
        found[method] = run.path
    return found


@pytest.fixture(params=METHODS[:2])
def run(request: pytest.FixtureRequest, whole: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of one of them, to be spoilt; with a README that somebody has written something into."""
    copy = Path(shutil.copytree(whole[request.param], tmp_path / "runs" / "tiny" / "copy"))
    (copy / "adapter" / "README.md").write_text("An adapter, as I found it.\n")
    return copy


def files(run: Path) -> Iterator[str]:
    for path in sorted(run.rglob("*")):
        if path.is_file() and path.name != "README.md":
            yield path.relative_to(run).as_posix()


def reader(run: Path, name: str) -> tuple[str | Path, ...]:
    """The command that reads a file."""
    if name == "search/checkpoint.safetensors" or name.startswith("search/grid"):
        return "search", run, "--resume"
    if name == "search/head.safetensors":
        return "search", run, "--resume"
    if name == "search/evidence.safetensors":
        return "ranks", run, "--json"
    if name == "retrain/checkpoint.safetensors":
        return "retrain", run, "--resume"
    if name.startswith(("adapter/", "base.json", "labels.json")):
        return "eval", run
    if name.startswith("search/adapter/"):
        return "export", run, "--format", "peft", "--output", run.parent / "exported"
    return "report", run, "--output", run.parent / "report"


def test_every_file_is_listed_or_says_itself_what_it_should_be(run: Path) -> None:
    listed = read(run / "manifest.json")["files"]
    assert listed.keys() == {name for name in files(run) if not name.endswith(STATES)}
    assert all((run / name).stat().st_size == entry["size"] for name, entry in listed.items())
    assert "README" not in str(sorted(listed))


def test_one_bit_in_any_file_is_refused_by_the_command_that_reads_it(run: Path, call: Call) -> None:
    looked = set()
    for name in files(run):
        if name.endswith((*UNREAD, "checkpoint.safetensors")) or name.startswith(("predictions/", "search/grid")):
            continue  # see below
        path, kept = run / name, (run / name).read_bytes()
        status = (run / "status.json").read_bytes()
        for place in (0.2, 0.75) if path.suffix == ".json" and "/" not in name else (0.6,):
            flip_bit(path, place)
            code, _, err = call(*reader(run, name))
            assert (code, str(path) in err, "Traceback" in err) == (2, True, False), (name, place, code, err)
            path.write_bytes(kept)
            if name.startswith("search/"):  # the search itself was asked for, and has failed
                (run / "status.json").write_bytes(status)
            assert (run / "status.json").read_bytes() == status
        looked.add(name.partition("/")[0])
    assert looked >= {"adapter", "manifest.json", "status.json", "recipe.yaml", "base.json", "labels.json", "retrain"}
    code, _, err = call("report", run, "--output", run.parent / "report")
    assert code == 0, err


def test_what_is_left_out_above_is_refused_when_it_is_looked_at(run: Path) -> None:
    for name in files(run):
        if stage_of(name) is not None:
            kept = (run / name).read_bytes()
            flip_bit(run / name, 0.5, 3)
            with pytest.raises(
                UserError, match=r"is not what was written: its SHA-256 is \w{12}, and should be \w{12}; "
            ):
                verified(run, name)
            (run / name).write_bytes(kept)
            verified(run, name)


@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_one_bit_in_a_checkpoint_is_refused_when_its_stage_is_gone_on_with(
    whole: dict[str, Path], tmp_path: Path, call: Call, stage: str
) -> None:
    run = Path(shutil.copytree(whole[METHODS[0]], tmp_path / "tiny" / "copy"))
    path = run / stage / "checkpoint.safetensors"
    if stage == "search":
        (run / "search" / "evidence.safetensors").unlink()
    change_state(run / "status.json", stages={stage: {"state": "failed"}} | ({"search": {"state": "failed"}}))
    kept = path.read_bytes()
    size = int.from_bytes(kept[:8], "little") + 8
    for place in (9, 40, size // 2, size - 3, size + 5, (size + len(kept)) // 2, len(kept) - 1):
        path.write_bytes(kept)
        flip_bit(path, place / (len(kept) - 1), 1)
        code, _, err = call(stage, run, "--resume")
        assert (code, str(path) in err, "Traceback" in err) == (2, True, False), (place, size, err)
        assert "to start the stage anew" in err


def test_one_bit_in_what_a_grid_search_has_done_is_refused(whole: dict[str, Path], tmp_path: Path, call: Call) -> None:
    run = Path(shutil.copytree(whole[METHODS[2]], tmp_path / "tiny" / "copy"))
    change_state(run / "status.json", stages={"search": {"state": "cancelled"}})
    flip_bit(run / "search" / "grid.json")
    code, _, err = call("search", run, "--resume")
    assert code == 2
    assert f"{run / 'search' / 'grid.json'} is not what was written: " in err
    assert "remove it to search anew" in err


def test_one_bit_in_what_was_measured_is_refused(whole: dict[str, Path], tmp_path: Path, call: Call) -> None:
    run = Path(shutil.copytree(whole[METHODS[0]], tmp_path / "tiny" / "copy"))
    assert call("ranks", run, "--measure", "--json")[0] == 0
    flip_bit(run / "search" / "rises.json")
    code, _, err = call("ranks", run, "--json")
    assert code == 2
    assert f"{run / 'search' / 'rises.json'} is not what was written: " in err


def test_a_stage_that_has_ended_and_lacks_a_file_is_not_passed_over(
    whole: dict[str, Path], tmp_path: Path, call: Call
) -> None:
    run = Path(shutil.copytree(whole[METHODS[0]], tmp_path / "tiny" / "copy"))
    before = contents(run)
    (run / "adapter" / "adapter_model.safetensors").unlink()
    for command in (("run", run, "--resume"), ("eval", run), ("export", run, "--format", "peft"), ("report", run)):
        code, _, err = call(*command)
        assert code == 2, command
        assert "adapter_model.safetensors is missing, although status.json says that its retrain succeeded; " in err
        assert f"autolora retrain {run}" in err
    assert call("retrain", run)[0] == 0
    assert call("eval", run)[0] == 0  # the card says what is measured again
    assert contents(run) == before
