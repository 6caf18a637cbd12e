"""A comparison whose trials run in folders that are not its own: the same runs, also where one was killed.

Ray's part in it (tests/comparison/test_ray_tasks.py, slow) is played by processes of this machine and a queue.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from typing_extensions import override

from autolora.comparison.carried import Parcel
from autolora.comparison.carrying import CarriedJob, needed
from autolora.comparison.execute import execute
from autolora.comparison.executor import Ending, Executor, Job, Task
from autolora.comparison.plan import plan
from autolora.comparison.processes import process_context, start
from autolora.comparison.ray_node import run_trial_apart
from autolora.comparison.ray_post import Mailbox
from autolora.experiment.preflight import load_recipe
from autolora.methods.sharing import offer
from autolora.recipe.method import parse_methods
from autolora.runs.folders import TUNING
from autolora.runs.store import Run
from autolora.training.compute import Precision
from tests.comparison.workers import QueuePost
from tests.laboratory import tiny_run

METHODS = "autolora,autolora:budget=rank=1"
SAME = ("adapter/adapter_model.safetensors", "search/ranks.json", "metrics.json", "retrain/log.jsonl")


class Elsewhere(Job):
    """A process that is told nothing of the run's folder."""

    def __init__(self, task: Task, process: multiprocessing.process.BaseProcess) -> None:
        super().__init__(task)
        self.process = process

    @override
    def ending(self) -> Ending | None:
        if self.process.is_alive():
            return None
        self.process.join()
        killed = self.process.exitcode == -signal.SIGKILL
        return Ending(clean=self.process.exitcode == 0, lost="a machine is gone" if killed else "")

    @override
    def cancel(self) -> None:
        self.process.terminate()

    @override
    def join(self) -> None:
        self.process.join()


class Machines(Executor):
    """One trial at a time; the first is killed once a checkpoint of its retraining has been brought back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.context, self.begun = folder, process_context(), list[Path]()
        self.brought: bytes | None = None  # the checkpoint that the killed one had sent

    @property
    @override
    def size(self) -> int:
        return 1

    @override
    def precision(self) -> Precision:
        return "float32"

    @override
    def start(self, task: Task) -> Job:
        post = QueuePost(self.context.Queue())

        def begin(*carried: object) -> Job:
            given = (str(self.folder), *carried, task.trial.recipe, task.precision, 1, post, 0.05)
            process = self.context.Process(target=run_trial_apart, args=given)
            start(process)
            return Elsewhere(task, process)

        self.begun.append(task.run.path)
        return CarriedJob(task, post, begin)

    @override
    def wait(self, jobs: list[Job], longest: float) -> None:
        time.sleep(0.02)
        checkpoint = self.begun[0] / "retrain" / "checkpoint.safetensors"
        if self.brought is None and checkpoint.exists():
            self.brought = checkpoint.read_bytes()
            (job,) = jobs
            assert isinstance(job, CarriedJob)
            assert isinstance(job.job, Elsewhere)
            assert job.job.process.pid is not None
            assert job.run.stage_state("search") == "success", "what came says how far the run is"
            os.kill(job.job.process.pid, signal.SIGKILL)


def test_runs_that_are_carried_are_those_of_one_folder(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(laboratory)
    recipe = load_recipe(laboratory / "tiny.yaml", ("search.steps=10", "retrain.steps=150"))
    found: dict[str, list[Run]] = {}
    notices: list[str] = []
    machines = Machines(laboratory)
    for name, executor in (("here", None), ("carried", machines)):
        trials = plan([recipe], parse_methods(METHODS), [0], tmp_path / name)
        found[name] = execute(trials, tmp_path / name, executor, on_notice=notices.append)
    assert notices == ["a machine is gone"]
    assert len(machines.begun) == 3, "the one that was killed was begun again"
    for here, carried in zip(found["here"], found["carried"], strict=True):
        assert carried.stage_state("eval") == "success"
        assert not list(carried.path.glob("*/checkpoint.safetensors")), "and what is removed there, here"
        assert carried.live_process() is None
        for file in SAME:
            assert (carried.path / file).read_bytes() == (here.path / file).read_bytes(), file
    first, second = found["carried"]
    assert second.manifest()["stages"]["search"]["shared"] == f"../{first.path.name}", "the search went with it"


def test_what_a_run_needs_is_all_that_it_builds_on_and_what_that_does(laboratory: Path, tmp_path: Path) -> None:
    runs = [tiny_run(laboratory, tmp_path, method)[0] for method in ("lora:1", "lora:2", "lora:3", "autolora")]
    first, second, third, searched = runs
    tried = Run.create(tmp_path, first.recipe, TUNING)
    tried.add_base_run("lora:2", second)
    second.add_base_run("lora:3", third)
    offer(second, searched)
    parcels, name = needed(tried)
    assert name == f"{TUNING}/{tried.path.name}"
    assert set(parcels) == {name, second.path.name, third.path.name, searched.path.name}
    assert set(parcels[name].files) == {"recipe.yaml", "manifest.json", "status.json"}


def test_a_mailbox_keeps_what_is_not_known_to_have_come() -> None:
    box = Mailbox()
    parcels = [Parcel({str(i): b""}) for i in range(3)]
    for parcel in parcels[:2]:
        box.put("a", parcel)
    box.put("b", Parcel())
    assert box.take("a", 0) == {1: parcels[0], 2: parcels[1]}
    assert box.take("a", 0) == {1: parcels[0], 2: parcels[1]}, "its answer was lost on the way"
    box.put("a", parcels[2])
    assert box.take("a", 2) == {3: parcels[2]}
    assert box.take("a", 3) == {}
    assert box.take("c", 0) == {}
