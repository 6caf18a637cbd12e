"""Which GPU each trial on one machine has, by the numbers and names of a machine that is made up."""

from __future__ import annotations

import os
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch

from autolora.comparison import processes
from autolora.comparison.devices import VISIBLE, Slots, visible
from autolora.comparison.executor import Resources, Task
from autolora.comparison.plan import Trial
from autolora.comparison.processes import Processes
from autolora.errors import UserError
from autolora.trackers.follow import UNTRACKED
from tests.comparison import workers
from tests.laboratory import tiny_run

UUIDS = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1f0ba8a1-0e4b-4f3c-8b5c-000000000000"
MIGS = "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-11111111-42e4-5de3-91c7-45d71c87eb3f"


@pytest.mark.parametrize(
    ("given", "count", "names"),
    [
        (None, 3, ["0", "1", "2"]),
        (None, 0, []),
        ("2,3", 2, ["2", "3"]),
        (" 3 , 1 ", 2, ["3", "1"]),
        (",".join(UUIDS), 2, [*UUIDS]),
        (",".join(MIGS), 1, [*MIGS]),  # torch sees the first
        (MIGS[0], 0, []),  # and none where there are none
        ("", 0, []),
        ("0,7,1", 1, ["0"]),  # what is behind a GPU that there is not is not seen, either
    ],
)
def test_what_the_user_leaves_out_is_given_to_nobody(given: str | None, count: int, names: list[str]) -> None:
    environ = {} if given is None else {VISIBLE: given}
    assert visible(environ, lambda: count) == names


@pytest.mark.parametrize(
    ("devices", "jobs", "share", "size", "taken"),
    [
        ([], 3, None, 3, [None, None, None]),
        (["0", "1"], 1, None, 1, ["0"]),
        (["0", "1"], 2, None, 2, ["0", "1"]),
        (["0", "1"], 4, None, 4, ["0", "1", "0", "1"]),
        (["0", "1"], 3, 1.0, 2, ["0", "1"]),
        (["0", "1"], 9, 0.5, 4, ["0", "1", "0", "1"]),
        (["0"], 9, 0.1, 9, ["0"] * 9),
        (["0"], 99, 0.1, 10, ["0"] * 10),
        (["0"], 9, 0.7, 1, ["0"]),
        (["0"], 99, 1 / 3, 3, ["0"] * 3),
    ],
)
def test_every_trial_has_the_gpu_with_the_fewest(
    devices: list[str], jobs: int, share: float | None, size: int, taken: list[str | None]
) -> None:
    slots = Slots(devices, jobs, share)
    assert slots.size == size
    assert [slots.take() for _ in range(size)] == taken


def test_a_gpu_that_was_given_back_is_given_next() -> None:
    slots = Slots(["a", "b", "c"], 3, 1.0)
    assert [slots.take() for _ in range(3)] == ["a", "b", "c"]
    slots.free("b")
    assert slots.take() == "b"


def test_the_process_of_a_trial_sees_its_own_gpu_and_no_other(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that says that it has two, in processes that only say what they were given."""
    processes.process_context()
    forkserver.ensure_running()  # it keeps the environment that it is begun in, for all tests of this process
    monkeypatch.setattr(processes, "work", workers.say_device)
    monkeypatch.setattr(processes, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv(VISIBLE, "5,7")
    executor = Processes(Resources(jobs=4, gpus=1.0, cpus=3))
    assert executor.size == 2
    jobs = []
    for number in range(2):
        run, _ = tiny_run(laboratory, tmp_path / str(number), "lora:2")
        jobs.append(executor.start(Task(Trial(run.recipe, True, run), run, "float32", False, UNTRACKED)))
    for job in jobs:
        job.join()
        assert job.ending() is not None
    assert [(job.run.path / "device").read_text() for job in jobs] == ["5 3", "7 3"]
    assert os.environ[VISIBLE] == "5,7"
    assert executor._slots.take() == "5", "it was given back"


def test_a_worker_sets_its_gpu_before_it_touches_any(laboratory: Path, tmp_path: Path) -> None:
    run, _ = tiny_run(laboratory, tmp_path, "lora:2", "retrain.steps=1")
    process = processes.process_context().Process(target=workers.visible_in_a_worker, args=(str(run.path), "7"))
    processes.start(process)
    process.join()
    assert (run.path / "device").read_text() == "7"


@pytest.mark.parametrize("gpus", [0.0, -1.0, 1.5, 2.0, float("nan"), float("inf")])
def test_a_trial_has_one_gpu_or_a_part_of_it(gpus: float) -> None:
    with pytest.raises(UserError, match=r"--gpus-per-cell: .* is not above 0 and up to 1"):
        Resources(gpus=gpus)


def test_gpus_that_are_not_there_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "default_device", lambda: torch.device("cpu"))
    with pytest.raises(UserError, match="no GPU is seen here"):
        Processes(Resources(gpus=1.0))
