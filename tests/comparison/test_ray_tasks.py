"""Trials on Ray: a cluster of two nodes on this machine, one of which is killed in the middle of a comparison."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autolora.comparison import ray_node, ray_tasks
from autolora.comparison.compare import compare
from autolora.comparison.executor import Resources
from autolora.comparison.plan import Trial
from autolora.comparison.ray_tasks import RayTasks
from autolora.errors import UserError
from autolora.experiment.preflight import load_recipe
from autolora.recipe.method import parse_methods
from autolora.runs.store import Run
from autolora.trackers.follow import Tracking

pytestmark = pytest.mark.slow
FIXED = ("comparison.md", "scores.csv", "differences.csv", "table.tex")
METHODS = "lora:1,lora:2,lora:3,autolora,lora-matched"
LOOK = ray_node.look  # before a test puts another in its place
LONG = ("search.steps=30", "retrain.steps=200")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, laboratory: Path) -> Iterator[Any]:
    """A head that runs nothing, and two nodes of one CPU."""
    pytest.importorskip("ray", reason="pip install 'autolora[ray]' brings it")
    from ray.cluster_utils import Cluster

    monkeypatch.chdir(laboratory)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    found.workers = [found.add_node(num_cpus=1) for _ in range(2)]
    yield found
    found.shutdown()


def run(laboratory: Path, root: Path, executor: RayTasks | None, **told: Any) -> dict[str, bytes]:
    recipe = load_recipe(laboratory / "tiny.yaml", LONG)
    found = compare([recipe], parse_methods(METHODS), [0], root, executor=executor, **told)
    assert found.failed == 0
    return {name: (found.folder / name).read_bytes() for name in FIXED}


@pytest.mark.parametrize("seen", [True, False], ids=["shared", "carried"])
def test_a_node_that_is_killed_in_the_middle_changes_no_table(
    cluster: Any, laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    if not seen:
        monkeypatch.setattr(ray_node, "look", blind)
        monkeypatch.setattr(ray_tasks, "EVERY", 0.3)
    expected = run(laboratory, tmp_path / "alone", None)
    begun: list[Run] = []
    notices: list[str] = []

    def kill() -> None:
        while len(begun) < 2 or not all((each.path / "retrain" / "log.jsonl").exists() for each in begun[:2]):
            time.sleep(0.05)
        cluster.remove_node(cluster.workers[1], allow_graceful=False)

    def begin(trial: Trial, run: Run) -> None:
        begun.append(run)

    executor = RayTasks(cluster.address, tmp_path / "ray", Resources())
    assert executor.size == 2
    assert (executor._mailbox is None) == seen
    threading.Thread(target=kill, daemon=True).start()
    try:
        found = run(laboratory, tmp_path / "ray", executor, on_begin=begin, on_notice=notices.append)
        assert executor.size == 1
    finally:
        executor.close()
    assert found == expected
    assert len(begun) > len({each.path for each in begun}), "what was lost was begun again"
    assert any("its worker or node died, and it is gone on with" in notice for notice in notices)
    assert not list((tmp_path / "ray").glob(".nodes-*"))


def test_an_interruption_cancels_the_tasks_and_their_runs(cluster: Any, laboratory: Path, tmp_path: Path) -> None:
    begun: list[Run] = []

    def begin(trial: Trial, run: Run) -> None:
        begun.append(run)
        if len(begun) == 2:
            while not (begun[0].path / "retrain" / "log.jsonl").exists():
                time.sleep(0.05)
            raise KeyboardInterrupt

    executor = RayTasks(cluster.address, tmp_path, Resources())
    try:
        with pytest.raises(KeyboardInterrupt):
            run(laboratory, tmp_path, executor, on_begin=begin)
    finally:
        executor.close()
    assert [each.status()["state"] for each in begun] == ["cancelled", "cancelled"]
    assert all(each.live_process() is None for each in begun)


def test_what_the_nodes_cannot_do_is_said_before_anything_is_run(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_node, "look", blind)
    executor = RayTasks(cluster.address, tmp_path / "new" / "runs", Resources())
    with pytest.raises(UserError, match=r"--track: nodes do not see .*/new/runs, where tensorboard would follow"):
        executor.check_tracking(Tracking(("tensorboard",)))
    executor.close()
    monkeypatch.setattr(ray_node, "look", elsewhere)
    with pytest.raises(UserError, match="has no folder"):
        RayTasks(cluster.address, tmp_path / "newer" / "runs", Resources())
    assert not (tmp_path / "newer").exists()
    with pytest.raises(UserError, match="no node has room for a trial of 64 CPUs"):
        RayTasks(cluster.address, tmp_path, Resources(cpus=64))


def blind(folder: str, lock: str) -> ray_node.Seen:
    """What a node sees that has a disk of its own."""
    return replace(LOOK(folder, lock), shared=False, locked=False)


def elsewhere(folder: str, lock: str) -> ray_node.Seen:
    """The same, without the working folder."""
    return replace(blind(folder, lock), folder=False)
