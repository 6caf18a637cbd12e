"""The retraining stage: what the recipe's method trains, on D_tr and D_val together, with the recipe's schedule.

Data, order of the batches, schedule, head and dropout seeds are the same for every method of a recipe and seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autolora.cards.card import card_at_the_end
from autolora.console import warn
from autolora.context.base import Context
from autolora.context.fit import check_fit
from autolora.context.steps import forget_seconds, run_in
from autolora.experiment.announcement import announce
from autolora.experiment.base import settle_base
from autolora.experiment.keeping import held_out
from autolora.experiment.prepare import keep_labels, prepare
from autolora.experiment.short_memory import sized
from autolora.lora.cast import cast_once
from autolora.methods.base import Method, method_of
from autolora.model.load import weights_hash
from autolora.runs.lock import alone
from autolora.runs.manifest import device_record
from autolora.runs.store import Run
from autolora.training.batches import Example
from autolora.training.finetune import Finetuning, Training
from autolora.training.keeping import Keeping
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
    method.check()
    prepare(context, run)
    forget_seconds(run, "retrain")
    with run.stage("retrain"), sized(run, context, "retrain"):
        keep_labels(run, context)
        settle_base(run, context)
        announce(run, context)
        examples = context.examples(run.recipe.data.splits.train)
        model = context.model()
        check_fit(context, model, examples, lora=method.adapts_layers)
        if anew and context.main:  # not before: what is refused loses nothing
            (run.path / "retrain" / "checkpoint.safetensors").unlink(missing_ok=True)
        context.compute.wait()
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
            steps = finetuning(context, method, training, examples, total)
            if training.prepare:
                training.prepare(steps.weights)
            held = held_out(context)
            keeping = held.keeping(context, training, steps.weights.named, total) if held else None
            done = run_in(run, context, "retrain", steps, settings, total, begin=training.begin, keeping=keeping)
            counted = steps.gradients.counted()
            if held and keeping:
                keeping.restore()
                counted["forward_passes"] += keeping.evaluations * held.passes(context)
                _say_kept(run, context, keeping, len(held.examples), (done, total))
            if training.initial_passes:
                counted["forward_passes"] += training.initial_passes
                counted["initialisation_passes"] = training.initial_passes
            run.note("retrain", steps=done - training.begin, **counted)
        if context.main:
            method.save(trained, head, context)
            run.note("retrain", **method.parameters(trained, head))
            card_at_the_end(run, context, evaluated=False)
        context.compute.wait()
    return run.path / "adapter"


def finetuning(
    context: Context, method: Method, training: Training, examples: Sequence[Example], total: int
) -> Finetuning:
    """The steps of a retraining: its passes, batches and optimiser, as recipe and method say.

    Args:
        context: Of the recipe.
        method: Of the run.
        training: What the method gave to be trained, in training mode.
        examples: Of the training split.
        total: Number of steps.
    """
    settings, model = context.recipe.retrain, context.recipe.model
    whole = context.compute.processes == 1 and not model.gradient_checkpointing
    if context.compute.bfloat16 and whole and not model.torch_compile:  # which fuses casts with what they are for
        cast_once(training.model)
    return Finetuning(
        training.model,
        context.gradients(training.model, penalty=training.penalty),
        context.stream(examples, settings, "retrain"),
        method.weights(),
        total=total,
        seed=context.recipe.seed,
        identity=context.identity("retrain", settings.model_dump(mode="json"), *method.identity()),
        callback=training.callback,
        factors=training.factors,
    )


def _say_kept(run: Run, context: Context, keeping: Keeping, examples: int, steps: tuple[int, int]) -> None:
    """Note and show which step's weights are written, and why."""
    done, total = steps
    step = keeping.step if keeping.best else done
    value = keeping.value if keeping.best else None
    run.note(
        "retrain",
        kept={
            "step": step,
            "of": done,
            "best_step": keeping.step,
            "by": keeping.name,
            "value": keeping.value,
            "higher_is_better": keeping.higher_is_better,
            "held_out_examples": examples,
            "evaluations": keeping.evaluations,
            "stopped_early": done < total,
        },
    )
    if context.main and context.show:
        shown = "" if value is None else f", {keeping.name} {value:.4f}"
        stopped = f"; stopped after {done} of {total}: no better one in {keeping.since} evaluations"
        warn(f"retrain: the weights of step {step} are kept{shown}{stopped if done < total else ''}")
