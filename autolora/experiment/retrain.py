"""The retraining stage: what the recipe's method trains, on D_tr and D_val together, with the recipe's schedule.

Data, order of the batches, schedule, head and dropout seeds are the same for every method of a recipe and seed.
"""

from __future__ import annotations

from pathlib import Path

from autolora.cards.card import card_at_the_end
from autolora.context.base import Context
from autolora.context.fit import check_fit
from autolora.context.steps import forget_seconds, run_in
from autolora.experiment.announcement import announce
from autolora.experiment.base import settle_base
from autolora.experiment.prepare import keep_labels, prepare
from autolora.methods.base import method_of
from autolora.model.load import weights_hash
from autolora.runs.lock import alone
from autolora.runs.manifest import device_record
from autolora.runs.store import Run
from autolora.training.finetune import Finetuning
from autolora.training.seeds import derive, seed_torch


@alone
def retrain(run: Run, context: Context, *, anew: bool = False) -> Path:
    """Train by the recipe's method; writes ``adapter/`` and returns its path.

    Args:
        run: The run, whose ranks are there if the method needs some.
        context: Of its recipe.
        anew: Begin at the first step, whatever checkpoint there is.

    Raises:
        UserError: Something that the method needs is missing, or a checkpoint belongs to other settings, data or model.
    """
    method, settings = method_of(run), run.recipe.retrain
    if anew and context.main:
        (run.path / "retrain" / "checkpoint.safetensors").unlink(missing_ok=True)
    context.compute.wait()
    method.check()
    prepare(context, run)
    forget_seconds(run, "retrain")
    with run.stage("retrain"):
        keep_labels(run, context)
        settle_base(run, context)
        announce(run, context)
        examples = context.examples(run.recipe.data.splits.train)
        model = context.model()
        check_fit(context, model, examples, lora=method.adapts_layers)
        head = context.head(model)
        run.note(
            "retrain",
            data=context.hashes,
            model=weights_hash(model, head),
            device=device_record(context.compute.device, context.compute.precision),
            **({"target_modules": context.targets(model)} if method.adapts_layers else {}),
        )
        total = settings.total_steps(len(examples)) if method.trains else 0
        seed_torch(derive(run.recipe.seed, "adapter"))
        training = method.adapt(model, head, context, total)
        trained = training.model.train()
        if method.trains:
            steps = Finetuning(
                trained,
                context.gradients(trained, penalty=training.penalty),
                context.stream(examples, settings, "retrain"),
                method.weights(),
                total=total,
                seed=run.recipe.seed,
                identity=context.identity("retrain", settings.model_dump(mode="json"), *method.identity()),
                callback=training.callback,
                factors=training.factors,
            )
            if training.prepare:
                training.prepare(steps.weights)
            run_in(run, context, "retrain", steps, settings, total, begin=training.begin)
            counted = steps.gradients.counted()
            if training.initial_passes:
                counted["forward_passes"] += training.initial_passes
                counted["initialisation_passes"] = training.initial_passes
            run.note("retrain", steps=total - training.begin, **counted)
        if context.main:
            method.save(trained, head, context)
            run.note("retrain", **method.parameters(trained, head))
            card_at_the_end(run, context, evaluated=False)
        context.compute.wait()
    return run.path / "adapter"
