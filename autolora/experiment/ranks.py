"""Other ranks off a finished search, and the curve of size against the rise of the loss: `other_ranks`.

    found = other_ranks("runs/tiny/20261124-101500-squeeze-0", [0.25, {"rank": 1}])
    found.asked[0].ranks                       # as the search would have given them with that budget
    found.row                                  # the same for a row of fractions: the curve's points

What is predicted is read off the search's files. What is measured needs data and model, and is kept in the run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property, partial
from pathlib import Path

from autolora.allocation.budget import Budget
from autolora.allocation.curve import curve
from autolora.allocation.evidence import Evidence
from autolora.allocation.rises import Rises
from autolora.allocation.store import evidence_identity, load_evidence
from autolora.causes import plainly
from autolora.console import hush
from autolora.context.base import Context
from autolora.errors import UserError
from autolora.experiment.base import settle_base
from autolora.experiment.preflight import load_recipe
from autolora.experiment.prepare import prepare
from autolora.experiment.readings import OtherRanks, Reading
from autolora.experiment.rises import RisesFile, StoredRises
from autolora.lora.ranks import Ranks
from autolora.methods.autolora import AutoLora
from autolora.methods.base import method_class
from autolora.methods.readout import by_budget
from autolora.methods.searched import EVIDENCE
from autolora.recipe.load import read_recipe
from autolora.recipe.method import SEARCHED, SQUEEZES, label
from autolora.recipe.stages import OF_PAIRS, BudgetSettings
from autolora.registry import SCORES
from autolora.runs.reach import check_reach
from autolora.runs.store import Run

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""Of the parameters of LoRA at `search.rank` everywhere, as a budget's are: the row of budgets, as far as it goes."""
RISES = "rises.json"
_LINE_POINTS = 48


@plainly()
def other_ranks(
    run: Run | str | Path,
    budgets: Sequence[Budget | float | Mapping[str, float]] = (),
    *,
    score: str | None = None,
    measure: bool = False,
    data_root: str | Path | None = None,
    model: str | None = None,
    show: bool = False,
    trust_remote_code: bool = False,
) -> OtherRanks:
    """The ranks that a finished search gives for other budgets, with the rises of the loss.

    Args:
        run: A run of AutoLoRA or squeeze, or its folder.
        budgets: Fractions, or ``{"rank": 1}``, ``{"parameters": 1000}``, ``{"tolerance": 0.1}``; see `Budget`.
        score: What components are chosen by, in `autolora.registry.SCORES`; None: as the run has it, and where that is
            the paper's threshold, saliency.
        measure: Measure the rises that have not been measured yet, which loads data and model; a tolerance needs it.
        data_root: Read the recipe's data from local files below this folder, to measure on.
        model: Instead of the recipe's, which must be the same one in another place.
        show: Show the progress, on standard error.
        trust_remote_code: Let code run that comes with the model, where the run's recipe wants it.

    Raises:
        UserError: The run holds no search of this kind, a budget is none or buys nothing, or the score lacks something;
            where something is measured, data, model or settings are not those of the search.
    """
    reader = _Reader(
        run if isinstance(run, Run) else Run.open(Path(run)),
        score,
        measure,
        None if data_root is None else Path(data_root),
        model,
        show=show,
        trust=trust_remote_code,
    )
    asked = [Budget.of(budget) for budget in budgets]  # all are looked at before anything is measured
    return reader.read([budget.given for budget in asked])


class _Reader:
    """What is shared by the ranks that are read off one search."""

    def __init__(
        self,
        run: Run,
        score: str | None,
        measure: bool,
        data_root: Path | None,
        model: str | None,
        *,
        show: bool,
        trust: bool,
    ) -> None:
        self.run, self.measures, self.data_root, self.model = run, measure, data_root, model
        self.show, self.trust = show, trust
        self.method, self.evidence = _searched(run), load_evidence(run.path / "search" / EVIDENCE)
        self.score = _score(self.method, self.evidence, score)
        self.components = self.evidence.of(self.score)
        self.costs = {name: each.cost for name, each in self.components.items()}
        self.full = self.method.recipe.search.rank * sum(self.costs.values())
        self.all = sum(each.rank * each.cost for each in self.components.values())  # less or more, after another k
        folder = run.path / "search"
        self.file = RisesFile(folder / RISES, evidence_identity(folder / EVIDENCE))
        self._rises = cache(self._stored)

    def read(self, budgets: Sequence[Mapping[str, float]]) -> OtherRanks:
        """Everything, the budgets that were asked for first."""
        row = self.row()
        readings = [self.reading(budget) for budget in (*budgets, *row)]
        own = self.own()
        remarks = []
        rises, gain = self._rises_of(self.score), None
        try:
            gain = rises.gain() if self.measures else rises.known_gain()
        except UserError as error:
            remarks.append(f"{error}.")
        if self.score in OF_PAIRS:
            remarks.append(f"{self.score} values pairs of columns, for which no rise of the loss is predicted.")
        elif self.evidence.gates is None:
            remarks.append("The search has not measured what a rise of the loss is predicted from (score: fisher).")
        return OtherRanks(
            run=self.run.path,
            score=self.score,
            full=self.full,
            own=own,
            asked=tuple(readings[: len(budgets)]),
            row=tuple(readings[len(budgets) :]),
            predicted=tuple(self.line()),
            gain=gain,
            loss=self.file.content["losses"].get(rises.basis),
            examples=self.file.examples,
            remarks=tuple(remarks),
        )

    def reading(self, budget: Mapping[str, float]) -> Reading:
        """What one budget buys; with the recipe that would have asked for it, so that the ranks are the same."""
        method = self._asking(budget)
        ranks = by_budget(self.evidence, method.recipe, lambda: self._rises_of(self.score), method.rearrange)
        return self._reading(budget, ranks, self.score)

    def row(self) -> list[dict[str, float]]:
        """`FRACTIONS` that buy a component, up to the one that buys them all."""
        whole = min(1.0, self.all / self.full)
        fractions = [*(each for each in FRACTIONS if each < whole), whole]
        return [{"fraction": each} for each in fractions if math.floor(each * self.full) >= min(self.costs.values())]

    def own(self) -> Reading:
        """What the run itself has found."""
        ranks = Ranks.load(self.run.verified("search/ranks.json"))
        return self._reading(ranks.rule.get("budget"), ranks, str(ranks.rule.get("score", "selection")))

    def line(self) -> list[tuple[int, float]]:
        """The predicted rise over sizes from one component to all, evenly on a logarithmic axis."""
        if self.evidence.gates_of(self.score) is None:
            return []
        low, high = math.log(min(self.costs.values())), math.log(self.all)
        steps = (math.exp(low + (high - low) * i / (_LINE_POINTS - 1)) for i in range(_LINE_POINTS))
        limits = sorted({round(step) for step in steps})
        rearrange = self._asking(self.row()[-1]).rearrange
        points = curve(self.evidence, self.score, self.costs, limits, rearrange=rearrange)
        found = {each.parameters: each.predicted_rise for each in points if each.parameters}
        return [(size, rise) for size, rise in sorted(found.items()) if rise is not None]

    def _asking(self, budget: Mapping[str, float]) -> AutoLora:
        """The method as it would be with this budget in its recipe."""
        method, recipe = copy.copy(self.method), self.method.recipe
        own = recipe.method.model_copy(update={"budget": BudgetSettings()})
        given = {"score": self.score, "rule": "budget", "budget": BudgetSettings.model_validate(budget)}
        method.recipe = recipe.model_copy(update={"method": own, "ranks": recipe.ranks.model_copy(update=given)})
        return method

    def _reading(self, budget: Mapping[str, float] | None, ranks: Ranks, score: str) -> Reading:
        gates, rises = self.evidence.gates_of(score), self._rises_of(score)
        predicted = None if gates is None else gates.rise(ranks.kept)
        measured = rises(ranks.kept) if self.measures else rises.known(ranks.kept)
        return Reading(budget, ranks, predicted, ranks.rule.get("measured_rise") if measured is None else measured)

    def _rises_of(self, score: str) -> StoredRises:
        return self._rises("pairs" if score in OF_PAIRS else "components")

    def _stored(self, basis: str) -> StoredRises:
        layers = self.evidence.pairs if basis == "pairs" else self.evidence.components
        measure = partial(self._measurer, basis) if self.measures else None
        return StoredRises(self.file, basis, list(layers), measure)

    def _measurer(self, basis: str) -> tuple[Rises, int]:
        """The model with all components, on the rows that the search would have measured on."""
        context, method = self._laboratory
        at = copy.copy(method)
        rule = method.recipe.ranks.model_copy(update={"score": "selection" if basis == "pairs" else "spectrum"})
        at.recipe = method.recipe.model_copy(update={"ranks": rule})
        self.file.write = context.main
        return at.rises(context, self.evidence), len(method.measured(context))

    @cached_property
    def _laboratory(self) -> tuple[Context, AutoLora]:
        """Data and model, which must be those of the search."""
        hush()
        file, root, model = self.run.path / "recipe.yaml", self.data_root, self.model
        said = {"data.root": root, "model.name": model}
        own = [field for field, value in said.items() if value is not None]
        check_reach(self.run, read_recipe(file, data_root=root, model=model), own)
        recipe = load_recipe(file, data_root=root, model=model)
        context = Context(recipe, show=self.show, trust_remote_code=self.trust)
        run = Run(self.run.path, recipe, main=context.main)
        prepare(context, run)
        settle_base(run, context)
        method = _searched(run)
        method.evidence(context)
        return context, method


def _searched(run: Run) -> AutoLora:
    """The method of a run, which has left what its components are worth."""
    word, kind = label(run.recipe.method), method_class(run.recipe.method.name)
    if not issubclass(kind, AutoLora):
        raise UserError(
            f"{run.path} holds no search to read other ranks off: {word} values no components; "
            f"name a run of one of: {', '.join((*SEARCHED, *SQUEEZES))}"
        )
    if run.stage_state("search") != "success":
        raise UserError(
            f"{run.path} holds no finished search to read other ranks off; run: autolora search {run.path} --resume"
        )
    if not (run.path / "search" / EVIDENCE).exists():
        raise UserError(
            f"{run.path / 'search'} holds no {EVIDENCE}, which other ranks are read off: an earlier version "
            "of autolora made this search, or the file was removed; start a new run with: autolora search"
        )
    return kind(run)


def _score(method: AutoLora, evidence: Evidence, asked: str | None) -> str:
    """The score that is asked for, or the run's own; it has all that it needs."""
    rule = method.recipe.ranks
    instead = "saliency" if evidence.saliency else "spectrum" if evidence.gates is None else "fisher"
    score = asked or (rule.score if rule.rule == "budget" else instead)
    try:
        if score == "selection":
            raise UserError(
                "score selection: selection variables of different layers cannot be compared, and one budget would "
                "compare them"
            )
        SCORES.load(score)(evidence)
    except UserError as error:
        if score not in SCORES:
            raise
        able = [name for name in SCORES.ours if name != "selection" and _computes(name, evidence)]
        raise UserError(f"{error}; {method.run.path} has: {', '.join(able)}") from error
    return score


def _computes(score: str, evidence: Evidence) -> bool:
    try:
        return bool(SCORES.load(score)(evidence))
    except UserError:
        return False
