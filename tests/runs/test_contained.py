"""Run folders of strangers: they are read, or refused, and reach nothing outside themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.errors import UserError
from autolora.runs import contained
from autolora.runs.results import read_result
from autolora.runs.store import Run
from tests.export.runs import make_run
from tests.laboratory import change_state


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "secret.json").write_text('{"key": "secret"}', encoding="utf-8")
    return make_run(tmp_path / "runs")


def _link(path: Path, to: Path | str) -> None:
    if path.is_file():
        path.unlink()
    path.symlink_to(to)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run, secret: _link(run / "labels.json", secret),
        lambda run, secret: _link(run / "search" / "log.jsonl", Path("..", "..", "..", "..", "secret.json")),
        lambda run, secret: _link(run / "predictions", secret.parent),
        lambda run, secret: _link(run / "manifest.json", secret),
        lambda run, secret: _link(run / "adapter", "adapter"),
        lambda run, secret: _link(run / "x", "not there"),
        lambda run, secret: os.mkfifo(run / "base.json"),
    ],
    ids=["file", "relative", "folder", "manifest", "circle", "nowhere", "pipe"],
)
def test_what_leads_out_of_a_run_is_refused(run: Path, tmp_path: Path, spoil: Callable[[Path, Path], None]) -> None:
    spoil(run, tmp_path / "secret.json")
    with pytest.raises(UserError, match=r"leads out of the run's folder|is neither file nor folder"):
        Run.open(run)


def test_a_link_inside_a_run_and_a_link_to_one_are_fine(run: Path, tmp_path: Path) -> None:
    (run / "again.json").symlink_to("manifest.json")
    (tmp_path / "mine").symlink_to(run)
    assert read_result(Run.open(tmp_path / "mine")).state == "running"


def test_a_state_file_that_is_too_large_is_not_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contained, "LARGEST", 10)
    with pytest.raises(UserError, match="MiB, and may have"):
        Run.open(run)


@pytest.mark.parametrize("path", ["../../../other", "/etc", "../../../../../../etc", "../../other-recipe/run"])
def test_a_run_builds_on_runs_beside_it_only(run: Path, path: str) -> None:
    change_state(run / "manifest.json", sources={"lora:4": path})
    opened = Run.open(run)
    with pytest.raises(UserError, match=r"sources\.lora:4: .* leads out of"):
        opened.base_run("lora:4")
    with pytest.raises(UserError, match="leads out of"):
        opened.base_runs()


def test_the_runs_beside_it_are_found(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "runs")
    opened = Run.open(run)
    opened.add_base_run("lora:4", Run.open(other))
    assert opened.base_run("lora:4") == other.resolve()


def test_a_run_beside_it_that_is_a_link_elsewhere_is_not_one(run: Path, tmp_path: Path) -> None:
    elsewhere = make_run(tmp_path / "elsewhere")
    (run.parent / "other").symlink_to(elsewhere)
    change_state(run / "manifest.json", sources={"lora:4": "../other"})
    with pytest.raises(UserError, match="leads out of"):
        Run.open(run).base_run("lora:4")


@pytest.mark.parametrize(
    "manifest",
    [
        {"sources": ["../x"]},
        {"sources": {"lora:4": 1}},
        {"stages": []},
        {"stages": {"eval": {"score": "high"}}},
        {"stages": {"search": {"peak_memory_mib": 5}}},
        {"packages": "all"},
    ],
)
def test_a_manifest_of_another_shape_is_refused_by_name(run: Path, manifest: dict[str, object]) -> None:
    change_state(run / "manifest.json", **manifest)
    with pytest.raises(UserError, match=r"manifest\.json is not what autolora writes: (sources|stages|packages)"):
        read_result(Run.open(run))


@pytest.mark.parametrize("status", [{"state": None}, {"stages": None}, {"stages": {"eval": {}}}, {"stages": {"x": 1}}])
def test_a_status_of_another_shape_is_refused_by_name(run: Path, status: dict[str, object]) -> None:
    change_state(run / "status.json", **status)
    with pytest.raises(UserError, match=r"status\.json is not what autolora writes: sta"):
        read_result(Run.open(run))
