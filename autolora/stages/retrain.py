"""The retraining stage: what the recipe's method trains, on D_tr and D_val together, with the recipe's schedule.

Data, order of the batches, schedule, head and dropout seeds are the same for every method of a recipe and seed.
"""

from __future__ import annotations

from pathlib import Path

from autolora.lab import Lab
from autolora.methods.base import method_of
from autolora.model.load import check_length, weights_hash
from autolora.retrain.stage import RetrainStage
from autolora.runs.manifest import device_record
from autolora.runs.store import Run
from autolora.stages.steps import forget_seconds, run_in
from autolora.training.seeds import derive, seed_torch


def retrain(run: Run, lab: Lab) -> Path:
    """Train by the recipe's method; writes ``adapter/`` and returns its path."""
    method, settings = method_of(run), run.recipe.retrain
    method.check()
    forget_seconds(run, "retrain")
    with run.stage("retrain"):
        examples = lab.examples(run.recipe.data.splits.train)
        model = lab.model()
        check_length(model, lab.task.longest(examples))
        head = lab.head(model)
        run.note(
            "retrain", data=lab.hashes, model=weights_hash(model, head), device=device_record(lab.accelerator.device)
        )
        total = settings.total_steps(len(examples)) if method.trains else 0
        seed_torch(derive(run.recipe.seed, "adapter"))
        trained = method.adapt(model, head, lab, total).train()
        if method.trains:
            stage = RetrainStage(
                trained,
                lab.gradients(trained, penalty=method.penalty),
                lab.stream(examples, settings, "retrain"),
                method.weights(),
                total=total,
                seed=run.recipe.seed,
                identity=lab.identity("retrain", settings.model_dump(mode="json"), *method.identity()),
                follower=method.follower,
            )
            run_in(run, lab, "retrain", stage, settings, total)
            run.note("retrain", steps=total, **stage.gradients.counted())
        if lab.main:
            method.save(trained, head, lab)
            run.note("retrain", **method.parameters(trained, head))
        lab.accelerator.wait_for_everyone()
    return run.path / "adapter"
