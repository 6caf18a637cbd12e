"""The executor that a comparison asks for: ``executor_for(Resources(jobs=2), root, ray=None)``."""

from __future__ import annotations

from pathlib import Path

from autolora.comparison.executor import Executor, Resources
from autolora.comparison.processes import Processes


def executor_for(resources: Resources, root: Path, ray: str | None = None) -> Executor:
    """What runs the trials; whoever asks for it closes it.

    Args:
        resources: What trials may take.
        root: Where runs go; where nodes of a cluster do not see it, runs are carried.
        ray: The address of a Ray cluster, see `autolora.comparison.ray_tasks`; None for processes of this machine.

    Raises:
        UserError: There are no such resources, or there is no such cluster.
    """
    if ray is None:
        return Processes(resources)
    from autolora.comparison.ray_tasks import RayTasks

    return RayTasks(ray, root, resources)
