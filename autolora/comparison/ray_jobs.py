"""A trial that is a task of Ray: how it ended, and how it is told to."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from autolora.comparison import ray_node
from autolora.comparison.executor import LONGEST_END, Ending, Job, Task


class RayJob(Job):
    """A trial that is a task.

    Args:
        task: The trial.
        ray: The module.
        end: What Ray gives for the task's result.
    """

    def __init__(self, task: Task, ray: Any, end: Any) -> None:
        super().__init__(task)
        self.ray, self.end = ray, end

    @override
    def ending(self) -> Ending | None:
        if not self.ray.wait([self.end], timeout=0)[0]:
            return None
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        try:
            code = self.ray.get(self.end)
        except TaskCancelledError:
            return Ending(clean=False, reason="its task was cancelled")
        except RayTaskError as error:
            return Ending(clean=False, reason=str(error.cause))
        except RayError as error:  # of the worker, its node, its memory or its owner
            what = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            said = f"{self.trial.name}: its worker or node died"
            return Ending(
                False, False, f"{said}, and it is gone on with from its last checkpoint: {what}", f"{said}: {what}"
            )
        return Ending(code == 0, code == ray_node.BUSY, reason=f"its task ended with exit code {code}")

    @override
    def cancel(self) -> None:
        self.ray.cancel(self.end)

    @override
    def join(self) -> None:
        if not self.ray.wait([self.end], timeout=LONGEST_END)[0]:
            self.ray.cancel(self.end, force=True)
