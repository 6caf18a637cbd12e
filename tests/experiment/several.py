"""What two processes do in one launch: ``python -m torch.distributed.run … several.py RECIPE OUTPUT``, see `launch`.

Each line is made with a whole base on every process (DDP), and with a base that is shared out (FSDP2); of the latter
one more is interrupted in each of its stages, and resumed. The first gradients of a search are written beside them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SQUEEZE = "squeeze:budget=0.5"
LINES = {
    "autolora": ("autolora", ("ranks.score=fisher", "ranks.rule=budget", "ranks.budget.fraction=0.5")),
    "squeeze": (SQUEEZE, ("retrain.keep=best", "retrain.held_out=0.25", "retrain.evaluate_every=2", "retrain.by=loss")),
}
# Batches of 5 that two processes cannot share evenly, in micro-batches of which one process has more than the other.
SAME = (
    "search.lora_dropout=0",
    "search.batch_size=5",
    "search.gradient_accumulation=3",
    "retrain.batch_size=5",
    "retrain.gradient_accumulation=3",
    "model.base_dtype=bfloat16",
    "model.gradient_checkpointing=true",
)
GRADIENTS = "gradients.safetensors"


def launch(recipe: Path, output: Path) -> None:
    """Make all of it; a child's last words are in the error."""
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(Path(__file__)), str(recipe), str(output)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]


def made(recipe: Path, folder: Path, name: str) -> tuple[Any, Any]:
    """A new run of a line, which one of the processes makes, and its context."""
    from autolora.context.base import Context
    from autolora.experiment.preflight import load_recipe
    from autolora.recipe.method import parse_method
    from autolora.runs.store import Run

    method, more = LINES[name]
    read = load_recipe(recipe, (*SAME, *more), seed=3)
    read = read.model_copy(update={"method": parse_method(method)})
    context = Context(read, show=False)
    path = str(Run.create(folder / name, read).path) if context.main else ""
    return Run(Path(context.compute.from_main(path)), read, main=context.main), context


def line(run: Any, context: Any) -> None:
    """All stages."""
    from autolora.experiment.evaluate import evaluate
    from autolora.experiment.retrain import retrain
    from autolora.experiment.search import search

    search(run, context)
    retrain(run, context)
    evaluate(run, context)


def first_gradients(context: Any) -> dict[str, Any]:
    """Of V and of z, and the losses, at a search's second step: B is not zero any more."""
    from autolora.methods.bilevel import bilevel_search

    model = context.model()
    stage, _ = bilevel_search(context, model, context.head(model), context.recipe.search)
    stage.advance(0)
    found = stage.estimate(stage.problem(1), stage.inner_step(1), stage.settings.epsilon)
    named = {f"weights {name}": g for name, g in zip(stage.weights.named, found.weights, strict=True)}
    named |= {f"selection {name}": g for name, g in zip(stage.selection.named, found.selection, strict=True)}
    return {**named, "train loss": found.train_loss, "validation loss": found.validation_loss}


def resumed(recipe: Path, folder: Path, name: str) -> None:
    """A line that is interrupted in its search and in its retraining, and gone on with by new contexts."""
    from autolora.bilevel.loop import BilevelSearch
    from autolora.context.base import Context
    from autolora.runs.store import Run
    from autolora.training.finetune import Finetuning
    from tests.methods.linked import interrupting

    run, context = made(recipe, folder, name)
    for owner, call in ((BilevelSearch, 4), (Finetuning, 4)):
        with interrupting(pytest.MonkeyPatch(), owner, "advance", call):
            line(run, context)
        context.compute.wait()
        run = Run(run.path, run.recipe, main=context.main)
        context = Context(run.recipe, show=False)
    line(run, context)


def main(recipe: Path, output: Path) -> None:
    """Everything, on each of the processes."""
    from safetensors.torch import save_file

    for kind, flag in (("whole", "false"), ("shared", "true")):
        os.environ |= {"ACCELERATE_USE_FSDP": flag, "FSDP_VERSION": "2"}
        for name in LINES:
            run, context = made(recipe, output / kind, name)
            assert context.compute.sharded == (kind == "shared")
            line(run, context)
        found = first_gradients(made(recipe, output / "gradients" / kind, "autolora")[1])
        if context.main:
            save_file({name: tensor.contiguous() for name, tensor in found.items()}, output / kind / GRADIENTS)
    resumed(recipe, output / "resumed", "autolora")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
