"""A stored adapter made smaller with data: ``compress_with_data(adapter, recipe, 0.25, output)``.

Its singular components are valued by the Fisher information of their gates (`autolora.allocation.gates`) on rows of
the recipe's training split, the best within the budget are kept, and what is kept may be trained on (`heal`). The
evaluation splits are looked at for the scores before and after, and for nothing else.

| file in the output folder | what |
|---|---|
| adapter_config.json, adapter_model.safetensors, config.json | a stock PEFT adapter, each module at its own rank |
| ranks.json | the ranks, with the kept components (`Ranks.save`) |
| compressed.json | where it comes from, and what it came to (`Compressed.record`) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from peft import PeftModel
from torch import nn

from autolora.adapters.derived_card import smaller_card
from autolora.allocation.budget import Budget, choose, smallest
from autolora.allocation.components import Components, components_of
from autolora.allocation.compress import compress, ranks_of
from autolora.allocation.evidence import Evidence
from autolora.causes import plainly
from autolora.console import StageProgress
from autolora.context.base import Context
from autolora.context.predictions import predictions_of
from autolora.errors import UserError
from autolora.experiment.adapter_fit import check_built, check_classes, check_family, fitting, load_stored
from autolora.experiment.base import settle_base
from autolora.experiment.compressed import RANKS, RECORD, Compressed
from autolora.experiment.prepare import prepare
from autolora.experiment.stored_adapter import Stored, read_stored
from autolora.files import replace_folder, write_json
from autolora.lora.adapter import lora_layers, save_adapter
from autolora.lora.ranks import Ranks
from autolora.methods.base import method_class
from autolora.methods.measure import held_out, measured_gates, rises_of, sample
from autolora.metrics.base import Score
from autolora.model.load import base_name
from autolora.recipe.schema import Recipe
from autolora.recipe.stages import OF_PAIRS
from autolora.registry import SCORES
from autolora.runs.folders import run_of
from autolora.runs.inventory import WHOLE, check_there, verify_below
from autolora.runs.store import Run
from autolora.tasks.scored import Scored, over_splits
from autolora.training.batches import Example
from autolora.training.finetune import Finetuning
from autolora.training.finite import Watch
from autolora.training.loop import run_steps
from autolora.training.seeds import derive


@plainly()
def compress_with_data(
    adapter: str | Path,
    recipe: Recipe,
    budget: Budget | float | Mapping[str, float],
    output: str | Path,
    *,
    score: str = "fisher",
    heal: int = 0,
    measure: bool = True,
    elsewhere: bool = False,
    show: bool = False,
    trust_remote_code: bool = False,
) -> Compressed:
    """Keep the best components of a stored LoRA within a budget, and write a stock PEFT adapter of them.

    Args:
        adapter: Its folder, from PEFT, a Trainer or a run; or the run's folder.
        recipe: With the task, data and base model that the adapter is for, and the settings that it is trained on with
            (`retrain`). Its `ranks.examples`, or `ranks.held_out` for a tolerance, says how many training rows are
            measured on.
        budget: A fraction of the adapter's parameters, or a `Budget` by its kind.
        output: A folder that is not there yet.
        score: "fisher", or "spectrum" to compare with.
        heal: Optimiser steps of further training, of the head too where the adapter has one.
        measure: Score the evaluation splits before and after.
        elsewhere: The recipe's model is the adapter's base, whatever either of them calls it.
        show: Show the progress, on standard error.
        trust_remote_code: Let code run that comes with the model, where the recipe wants it.

    Raises:
        UserError: Adapter and recipe do not fit, the adapter is of a kind that has no components, the budget keeps
            nothing, or the output is there. All of that is found before the first pass.
        RunError: A value is not finite; nothing is written.
    """
    bound, folder = Budget.of(budget), Path(output)
    _check_asked(folder, score, heal)
    run = run_of(Path(adapter))
    stored = read_stored(Path(adapter) if run is None else _product(run))
    context = Context(fitting(recipe, stored, elsewhere=elsewhere), show=show, trust_remote_code=trust_remote_code)
    check_family(stored, context)
    check_classes(context)
    check_built(stored, context)
    if context.compute.sharded:
        raise UserError("an adapter is compressed on a whole base; launch without --use_fsdp")
    prepare(context)
    labelled = _labelled(context) if measure else []
    if run is not None:
        settle_base(Run(run, context.recipe, main=False), context)
    adapted = load_stored(stored, context)
    components = _components(adapted, bound)
    before = _scores(context, adapted, labelled, "before")
    rows = _rows(context, bound)
    ranks = _squeeze(context, adapted, components, rows, bound, score)
    squeezed = _scores(context, adapted, labelled, "squeezed")
    healed: tuple[Score, ...] = ()
    if heal:
        _heal(context, adapted, heal)
        healed = _scores(context, adapted, labelled, "healed")
    found = Compressed(
        output=folder,
        source=stored.hashes,
        recipe=recipe.name,
        seed=recipe.seed,
        ranks=ranks,
        parameters=(sum(each.rank * each.cost for each in components.values()), ranks.parameters),
        examples=len(rows),
        heal=heal,
        before=before,
        squeezed=squeezed,
        healed=healed,
    )
    if context.main:
        _write(adapted, stored, context, found)
    context.compute.wait()
    return found


def _product(run: Path) -> Path:
    """The adapter of a run, whose files are what was written."""
    check_there(run, WHOLE, "retrain")
    if not (run / "adapter").is_dir():
        raise UserError(f"{run} has no adapter yet; run: autolora retrain {run}")
    verify_below(run, "adapter")
    return run / "adapter"


def _check_asked(output: Path, score: str, heal: int) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output: {output} is there already; name a folder that is not, or remove it")
    if score in OF_PAIRS:
        raise UserError(f"--score: {score} is what a search leaves, and an adapter has none; take fisher or spectrum")
    SCORES.load(score)
    if isinstance(heal, bool) or not isinstance(heal, int) or heal < 0:
        raise UserError(f"--heal: must be a whole number of steps, 0 for none, got {heal!r}")


def _labelled(context: Context) -> list[str]:
    """The evaluation splits that can be scored."""
    splits = context.recipe.data.splits.eval
    found = [split for split in splits if context.splits.reports[split].labelled]
    if not found:
        raise UserError(
            f"data.splits.eval: no row of {', '.join(splits)} has a label, so nothing can be scored before and after; "
            "name a split that has some, or leave the scores out with --no-measure"
        )
    return found


def _components(adapted: PeftModel, budget: Budget) -> dict[str, Components]:
    """The singular components of every layer, of which the budget buys at least one."""
    layers = {name: layer for name, layer in lora_layers(adapted).items() if isinstance(layer, nn.Module)}
    found = components_of(layers)
    costs = {name: each.cost for name, each in found.items()}
    alive = [costs[name] for name, each in found.items() if len(each)]
    if not alive:
        raise UserError("every update of the adapter is zero: it was never trained, and there is nothing to keep")
    full = sum(each.rank * each.cost for each in found.values())
    if budget.tolerance is None and (limit := budget.limit(costs, full)) < min(alive):
        raise UserError(
            f"the budget ({_said(budget)}) is {limit} of {full} parameters, and the smallest component of any layer "
            f"has {min(alive)}; raise it"
        )
    return found


def _said(budget: Budget) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in budget.given.items())


def _rows(context: Context, budget: Budget) -> list[Example]:
    """The training rows that are measured on, which are those that squeeze would measure on."""
    recipe = context.recipe
    examples = context.examples(recipe.data.splits.train)
    return sample(examples, recipe) if budget.tolerance is None else held_out(examples, recipe)[1]


def _squeeze(
    context: Context,
    adapted: PeftModel,
    components: Mapping[str, Components],
    rows: Sequence[Example],
    budget: Budget,
    score: str,
) -> Ranks:
    """Cut the model down to what the budget keeps, in place; the ranks, with the rises of the mean loss."""
    layers = {name: layer for name, layer in lora_layers(adapted).items() if isinstance(layer, nn.Module)}
    gates = measured_gates(context, adapted, layers, components, rows, context.recipe)
    values = SCORES.load(score)(Evidence(components, gates))
    costs = {name: each.cost for name, each in components.items()}
    rule: dict[str, object] = {"score": score, "budget": budget.given}
    if budget.tolerance is None:
        full = sum(each.rank * each.cost for each in components.values())
        kept = choose(values, costs, budget.limit(costs, full))
    else:
        rises = rises_of(context, adapted, components, rows, context.recipe)
        kept = smallest(values, costs, budget.tolerance * rises.gain(), rises)
        rule["measured_rise"] = rises(kept)
    ranks = ranks_of(components, kept, **rule, predicted_rise=gates.rise(kept))
    compress(adapted, components, kept)
    return ranks


def _heal(context: Context, adapted: PeftModel, steps: int) -> None:
    """Train on what is kept, and the head where the adapter has one, by the recipe's settings of a retraining."""
    recipe = context.recipe
    settings, weights = recipe.retrain, method_class(recipe.method.name).weights_in(recipe)
    stage = Finetuning(
        adapted.train(),
        context.gradients(adapted),
        context.stream(context.examples(recipe.data.splits.train), settings, "heal"),
        weights,
        total=steps,
        seed=derive(recipe.seed, "heal"),
    )
    watch = Watch("heal", f"lower retrain.weights.learning_rate (it is {weights.learning_rate:g})")
    with StageProgress("heal", examples=settings.batch_size, show=context.show and context.main) as progress:
        run_steps(
            stage,
            total=steps,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            observer=progress,
            main_process=context.main,
            watch=watch,
        )
    watch.check(stage.state())


def _scores(context: Context, adapted: PeftModel, splits: Sequence[str], when: str) -> tuple[Score, ...]:
    """Of the evaluation splits, averaged over them."""
    scored: list[Scored] = []
    for split in splits:
        examples = context.examples(split)
        scored += context.task.metrics(predictions_of(context, adapted, examples, f"{when}, {split}"), examples)
    return over_splits(scored)


def _write(adapted: PeftModel, stored: Stored, context: Context, found: Compressed) -> None:
    """All files, or none."""
    own = stored.config.get("base_model_name_or_path")
    base = (str(own), stored.config.get("revision")) if own else base_name(context.pretrained)
    with replace_folder(found.output) as fresh:
        save_adapter(adapted, fresh, *base)
        found.ranks.save(fresh / RANKS)
        write_json(fresh / RECORD, found.record())
        scores = {"before": found.before, "squeezed": found.squeezed, "healed": found.healed}
        smaller_card(stored.folder, fresh, found.ranks, found.parameters, scores)
