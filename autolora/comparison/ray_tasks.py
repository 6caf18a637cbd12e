"""Trials as tasks of a Ray cluster: ``RayTasks("auto", root, Resources(gpus=1))``.

Ray says which node a trial runs on; whose trial it is, and what came of it, is `autolora.comparison.execute`'s as it is
on one machine. A trial whose node or process dies is gone on with by another from its last checkpoint. Whether nodes
see the runs' folder and locks on it, and whether they have this version of autolora, is looked at on every node before
anything is run: where one does not see the folder, runs are carried (`autolora.comparison.carrying`).

An address is "auto" (the cluster that this machine belongs to, or RAY_ADDRESS), "local" (begun for this comparison, on
this machine), HOST:PORT, or ray://HOST:PORT.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import override

from autolora.comparison import ray_node
from autolora.comparison.carrying import EVERY, CarriedJob
from autolora.comparison.executor import Executor, Job, Resources, Task
from autolora.comparison.ray_jobs import RayJob
from autolora.comparison.ray_node import Seen
from autolora.comparison.ray_post import Mailbox, RayPost
from autolora.console import warn
from autolora.errors import UserError
from autolora.runs.lock import Lock
from autolora.trackers.follow import Tracking
from autolora.training.compute import Precision

INSTALL = "--ray: Ray is not installed: pip install 'autolora[ray]'"
PASSED_ON = ("HF_", "TRANSFORMERS_", "TOKENIZERS_", "ACCELERATE_", "MLFLOW_", "WANDB_", "TRACKIO_", "AUTOLORA_")
AT_ONCE = {"num_cpus": 0, "num_gpus": 0}  # of a task that only looks


class RayTasks(Executor):
    """A Ray cluster that this process is connected to.

    Args:
        address: See above.
        root: Where runs go.
        resources: Of each trial; its GPU is left to Ray, and is a whole one where any node has some.

    Raises:
        UserError: Ray or the cluster is not there, has no room for a trial, or nodes do not see what this machine sees.
    """

    losses = 3

    def __init__(self, address: str, root: Path, resources: Resources) -> None:
        self._jobs, self._cpus, self._root = resources.jobs, resources.cpus or 1, root
        self._ray, self._kept = connect(address)
        try:
            has_gpus = any(node["Resources"].get("GPU") for node in self._nodes())
            self._gpus = resources.gpus or (1.0 if has_gpus else 0.0)
            if self._jobs is None and not self._capacity():
                raise UserError(self._no_room())
            apart = self._check_nodes()
            # A process of its own for each, whose peak of memory is the trial's; what is begun again is ours to say.
            trial = ray_node.run_trial_apart if apart else ray_node.run_trial
            self._trial = self._ray.remote(max_retries=0, max_calls=1, **self._needed)(trial)
            self._mailbox = self._mailbox_here() if apart else None
        except BaseException:
            self.close()
            raise

    @property
    @override
    def size(self) -> int:
        """What the nodes have room for now, of which others may have taken a part: Ray lets the rest wait."""
        return self._jobs or max(1, self._capacity())

    @property
    @override
    def threads(self) -> int:
        return self._cpus

    @override
    def precision(self) -> Precision:
        found: dict[str, Precision] = self._on_each(ray_node.precision_here, self._needed)
        if len(set(found.values())) > 1:
            said = ", ".join(f"{host} takes {dtype}" for host, dtype in sorted(found.items()))
            raise UserError(
                f"model.dtype: auto means different things on the nodes: {said}; say which (--set model.dtype)"
            )
        return next(iter(found.values()))

    @override
    def start(self, task: Task) -> Job:
        folder, given = str(Path.cwd()), (task.trial.recipe, task.precision, self._cpus)
        if self._mailbox is None:
            path = str(task.run.path.absolute())
            return RayJob(task, self._ray, self._trial.remote(folder, path, *given, task.tracking))
        post = RayPost(self._mailbox, uuid.uuid4().hex)
        begin = partial(self._trial.remote, folder)
        return CarriedJob(task, post, lambda *needed: RayJob(task, self._ray, begin(*needed, *given, post, EVERY)))

    @override
    def check_tracking(self, tracking: Tracking) -> None:
        if self._mailbox is not None and tracking.names:
            raise UserError(
                f"--track: nodes do not see {self._root.absolute()}, where {', '.join(tracking.names)} would follow "
                "the trials; leave it out, or compare in a folder that all nodes see"
            )

    @override
    def wait(self, jobs: list[Job], longest: float) -> None:
        tasks = [job.job if isinstance(job, CarriedJob) else job for job in jobs]
        ends = [task.end for task in tasks if isinstance(task, RayJob)]
        if ends:
            self._ray.wait(ends, timeout=longest)
        else:
            time.sleep(longest)

    @override
    def close(self) -> None:
        if not self._kept:
            self._ray.shutdown()

    @property
    def _needed(self) -> dict[str, float]:
        return {"num_cpus": self._cpus, "num_gpus": self._gpus}

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _room(self, node: Mapping[str, Any]) -> int:
        has = node["Resources"]
        by_cpus = int(has.get("CPU", 0) // self._cpus)
        return min(by_cpus, _by_gpus(has.get("GPU", 0), self._gpus)) if self._gpus else by_cpus

    def _capacity(self) -> int:
        return sum(map(self._room, self._nodes()))

    def _no_room(self) -> str:
        has = (
            f"{node['NodeManagerHostname']} has {node['Resources'].get('CPU', 0):g} CPUs and "
            f"{node['Resources'].get('GPU', 0):g} GPUs"
            for node in self._nodes()
        )
        return (
            f"--ray: no node has room for a trial of {self._cpus} CPUs and {self._gpus:g} GPUs: {'; '.join(has)}; "
            "ask for less (--cpus-per-cell, --gpus-per-cell), or where the cluster grows on demand, "
            "say how many to queue (--jobs)"
        )

    def _mailbox_here(self) -> Any:
        """An actor on this machine, or on the one that this one asks: it is there for as long as what is asked."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=True)
        return self._ray.remote(scheduling_strategy=here, **AT_ONCE)(Mailbox).remote()

    def _check_nodes(self) -> bool:
        """Make sure that all nodes have the same code; whether one does not see the runs' folder."""
        made = _make(self._root)
        lock = Lock(self._root.absolute() / f".nodes-{uuid.uuid4().hex[:12]}")
        try:
            lock.acquire()
            try:
                mine = ray_node.look(str(Path.cwd()), str(lock.path))
                found = self._on_each(ray_node.look, AT_ONCE, str(Path.cwd()), str(lock.path))
            finally:
                lock.release()
            if faults := [fault for host, seen in sorted(found.items()) for fault in _faults(host, seen, mine)]:
                raise UserError("\n".join(f"--ray: {fault}" for fault in dict.fromkeys(faults)))
        except BaseException:
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
            raise
        apart = [host for host, seen in sorted(found.items()) if not seen.shared]
        if apart:
            warn(
                f"{self._root}: not seen by {', '.join(apart)}: runs are carried to the nodes and brought back, every "
                f"{EVERY:g} seconds what has changed"
            )
        elif any(not seen.locked for seen in found.values()):
            warn(
                f"{self._root}: nodes do not see each other's locks (flock) there; no other comparison may use this "
                "folder at the same time"
            )
        return bool(apart)

    def _on_each(self, function: Any, needed: Mapping[str, float], *given: str) -> dict[str, Any]:
        """What a function says on each node that has room for a trial, by the node's name."""
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in self._nodes() if self._room(node)]
        remote = self._ray.remote(max_retries=1, max_calls=1, **needed)(function)
        asked = {
            f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})": remote.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(*given)
            for node in nodes
        }
        found = {}
        for host, answer in asked.items():
            try:
                found[host] = self._ray.get(answer)
            except RayError as error:
                said = str(error).strip().splitlines()
                raise UserError(
                    f"--ray: the node {host} fails: {said[-1] if said else type(error).__name__}; install "
                    "the same on every node, or in a folder that all of them see"
                ) from error
        return found


def connect(address: str) -> tuple[Any, bool]:
    """The module, connected, and whether it was before; signals take the ways that they took.

    Args:
        address: See above.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise UserError(INSTALL) from error
    if ray.is_initialized():
        return ray, True
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    environment = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, logging_level="ERROR", runtime_env={"env_vars": environment}, **own)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise UserError(
            f"--ray {address}: no cluster: {' '.join(str(error).split())[:300]}; begin one (ray start --head), "
            "or take --ray local"
        ) from error
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return ray, False


def _by_gpus(gpus: float, share: float) -> int:
    """How many trials find a GPU: parts of different ones are no GPU."""
    return int(gpus) * int(1 / share + 1e-9)


def _make(folder: Path) -> list[Path]:
    """Make a folder; those that were not there, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _faults(host: str, seen: Seen, mine: Seen) -> list[str]:
    found = []
    if not seen.folder:
        found.append(f"the node {host} has no folder {Path.cwd()}, which relative paths of recipes start from")
    differing = [name for name in mine.versions if seen.versions.get(name) != mine.versions[name]]
    found += [
        f"the node {host} has {name} {seen.versions.get(name)}, and this machine {mine.versions[name]}"
        for name in differing
    ]
    return found
