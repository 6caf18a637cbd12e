"""How near the hypergradients of cheaper searches are to exact ones, over real searches: ``make bench-search``.

Model, head and layers of `glue-mini/cola`; CoLA where it is at hand, as in `benchmarks.estimators`, with that recipe's
rates. Each search is made as a recipe would make it. On its way, at every --apart-th step or the next one at which the
selection variables are stepped, every estimator is asked for the hypergradient at the same V, z, batches, dropout masks
and moments of Adam, and compared with the exact one. The step that the search takes is that of its own setting.

Two lines show what the batch itself does: the same hypergradient on half of the validation batch, and on another one.

At the end, what the searches have found is compared: Spearman's correlation of the saliencies of all components, and
of the selection variables, with those of the search that steps z at every step; and as a scale for it, the same search
under another order of the batches and other dropout masks.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor

from autolora.bilevel.loop import BatchProblem, BilevelSearch
from autolora.context.base import Context
from autolora.lora.selection import add_selection
from autolora.recipe.schema import Search
from autolora.registry import ESTIMATORS
from autolora.runs.manifest import device_record
from autolora.tables import to_markdown
from autolora.training.batches import Batch, BatchStream
from autolora.training.gradients import Gradients
from benchmarks.estimators import DROPOUT, laboratory

COMPARED = ("first_order", "forward_difference", "central_difference")
HALF, OTHER = "exact, half of the validation batch", "exact, another validation batch"


@dataclass(frozen=True)
class Setting:
    """A search: an estimator, and at every which step it is asked."""

    estimator: str
    every: int = 1
    order: int = 0  # of the batches, and of the dropout masks

    def __str__(self) -> str:
        return f"{self.estimator}, every {self.every}{', other batches' if self.order else ''}"


@dataclass
class Found:
    """What a search has shown."""

    passes: float  # forward passes a step
    cosines: dict[str, list[float]] = field(default_factory=dict)
    saliency: list[float] = field(default_factory=list)
    selection: list[float] = field(default_factory=list)


SETTINGS = (
    Setting("forward_difference"),
    Setting("forward_difference", 4),
    Setting("central_difference", 6),
    Setting("forward_difference", order=1),
)


def main() -> None:
    options = arguments()
    warnings.filterwarnings("ignore", category=FutureWarning)
    begun = time.monotonic()
    context, data = laboratory(options.data_root, options.batch_size)
    found: dict[Setting, Found] = {}
    for setting in SETTINGS:
        found[setting] = searched(context, setting, options.steps, options.apart)
        print(f"{setting}: {time.monotonic() - begun:.0f} s", flush=True)
    print(f"\nMiniLM, {data}, {options.steps} steps, batch {options.batch_size}, cosine to exact at the same state\n")
    print(to_markdown([row for setting in SETTINGS[:-1] for row in cosine_rows(setting, found[setting])]))
    print(f"Spearman's correlation with {SETTINGS[0]}\n")
    print(to_markdown([agreement_row(each, found[each], found[SETTINGS[0]]) for each in SETTINGS[1:]]))
    device = device_record(context.compute.device, "float32")
    print(f"{device['name']}, {device.get('threads', 'no')} CPU threads, torch {torch.__version__}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Cosine of cheaper hypergradients to the exact one, over searches.")
    parser.add_argument("--steps", type=int, default=100, help="of each search")
    parser.add_argument("--apart", type=int, default=10, help="steps between two comparisons, at least")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--data-root", type=Path, help="folder with glue/cola/train.jsonl")
    return parser.parse_args()


def searched(context: Context, setting: Setting, steps: int, apart: int) -> Found:
    """A whole search, with comparisons on its way."""
    stage, exact = search_of(context, setting, steps)
    cosines: dict[str, list[float]] = {}
    due = 0
    for step in range(steps):
        if step >= due and stage.selects_at(step) and not setting.order:
            for name, cosine in compare(stage, exact, step).items():
                cosines.setdefault(name, []).append(cosine)
            due = step - step % apart + apart
        stage.advance(step)
    rule = stage.ranks().rule
    return Found(
        stage.gradients.passes[0] / steps,
        cosines,
        [value for values in rule["saliency"].values() for value in values],
        [value for values in rule["selection"].values() for value in values],
    )


def search_of(context: Context, setting: Setting, steps: int) -> tuple[BilevelSearch, Gradients]:
    """The stage, and what differentiates its losses twice."""
    recipe, model = context.recipe, context.model()
    layers = add_selection(model, context.targets(model), rank=8, lora_alpha=16.0, dropout=DROPOUT)
    for module in context.head(model):
        model.get_submodule(module).requires_grad_(True)
    loss = partial(context.task.loss, model.train())
    examples = context.examples(recipe.data.splits.train)
    train = context.stream(examples[::2], recipe.search, f"train {setting.order}")
    validation = context.stream(examples[1::2], recipe.search, f"validation {setting.order}")
    selection = recipe.search.selection.model_copy(update={"every": setting.every})
    settings = recipe.search.model_copy(update={"estimator": setting.estimator, "selection": selection})
    assert isinstance(settings, Search)
    stage = BilevelSearch(model, layers, Gradients(loss), train, validation, settings, total=steps, seed=setting.order)
    return stage, Gradients(loss, double_backward=True)


def compare(stage: BilevelSearch, gradients: Gradients, step: int) -> Mapping[str, float]:
    """The cosine of every estimator to exact at the present state, which stays as it is."""
    stream = stage.validation
    assert isinstance(stream, BatchStream)
    turn = step // stage.settings.selection.every
    whole, other = stream.at(turn), stream.at(turn + 1)
    truth = hypergradient(stage, gradients, step, whole, "exact")
    found = {name: hypergradient(stage, gradients, step, whole, name) for name in COMPARED}
    found[HALF] = hypergradient(stage, gradients, step, half_of(whole), "exact")
    found[OTHER] = hypergradient(stage, gradients, step, other, "exact")
    return {name: float(torch.nn.functional.cosine_similarity(each, truth, dim=0)) for name, each in found.items()}


def hypergradient(stage: BilevelSearch, gradients: Gradients, step: int, validation: Batch, name: str) -> Tensor:
    """An estimator's at the present state, as one vector."""
    mine = stage.problem(step)
    problem = BatchProblem(gradients, mine.train_batch, validation, mine.weights, mine.selection, 0)
    problem.train_seed, problem.validation_seed = mine.train_seed, mine.validation_seed
    found = ESTIMATORS.load(name)(problem, stage.inner_step(step), stage.settings.epsilon)
    return torch.cat([each.reshape(-1) for each in found.selection])


def half_of(batch: Batch) -> Batch:
    """Its first rows."""
    count = batch.units // 2
    return Batch(tuple({name: tensor[:count] for name, tensor in micro.items()} for micro in batch.micro), count)


def cosine_rows(setting: Setting, found: Found) -> list[dict[str, str | int | float | None]]:
    return [
        {
            "search": str(setting) if name == setting.estimator else "",
            "passes a step": f"{found.passes:.2f}" if name == setting.estimator else "",
            "hypergradient": name,
            "mean": f"{statistics.fmean(values):.5f}",
            "least": f"{min(values):.5f}",
            "at": f"{len(values)} steps",
        }
        for name, values in found.cosines.items()
    ]


def agreement_row(setting: Setting, found: Found, usual: Found) -> dict[str, str | int | float | None]:
    return {
        "search": str(setting),
        "saliency": f"{spearmanr(found.saliency, usual.saliency).statistic:.2f}",
        "selection variables": f"{spearmanr(found.selection, usual.selection).statistic:.2f}",
    }


if __name__ == "__main__":
    main()
