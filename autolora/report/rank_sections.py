"""The sections of a report that are about ranks: the rank maps, their agreement, the selection variables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from autolora.comparison.agreement import (
    DRAWS,
    Agreement,
    Kept,
    Measure,
    agreement,
    component_agreement,
)
from autolora.lora.ranks import Ranks, threshold_of
from autolora.plots import rank_spread, selection
from autolora.report.blocks import Block, Details, Figure, Gallery, Items, Table, Text
from autolora.report.run_files import count_records, damaged, records
from autolora.report.task_runs import MOST_SEEDS, TaskRuns
from autolora.runs.results import Result
from autolora.tables import Cell, Row

AGREEMENT = "Agreement of the ranks between seeds"
COMPONENTS = "Jaccard of the kept components between methods of the same seed"
HOW_TO_READ = (
    "Each number is a mean over pairs of seeds. Spearman: the rank correlation over the modules. Jaccard, above the "
    "mean: of the sets of modules whose rank is above their run's mean. Overlap: Σ min / Σ max of the two ranks over "
    "the modules.",
    f"chance: the mean over {DRAWS} random permutations of each run's ranks over the modules; 95 %: their 95 % "
    "quantile; p: the share of them that agree at least as well. Within projections only the layers are permuted: do "
    "seeds agree on more than which projection gets more?",
    "There is no Jaccard over component indices between seeds: A is initialised anew for each seed, so component 3 of "
    "one seed has nothing in common with component 3 of another. The overlap is that Jaccard under the renaming of "
    "components that suits it best.",
    "Ranks given by a rule that ignores the seed agree by construction; shuffled or random ones should be at chance.",
)

SAME_START = (
    "Methods with the same seed start from the same A, so here a component is the same component. Chance: the kept "
    "components of each module drawn at random, as many as its rank."
)


def rank_map_section(task: TaskRuns) -> list[Block]:
    """A map for each method whose ranks differ between modules; the others in words."""
    figures, said = [], []
    for method, runs in task.methods.items():
        ranks = task.ranks(runs)
        if not ranks:
            said.append(f"{method}: no ranks.")
        elif not set.intersection(*map(set, ranks)):
            said.append(f"{method}: its runs have no module in common.")
        elif uniform := _uniform(ranks):
            said.append(f"{method}: {uniform}.")
        else:
            figures.append(_map(task, method, runs, ranks))
    return [task.heading("Rank maps"), *_gallery(figures), *_items(said)]


def agreement_section(task: TaskRuns) -> list[Block]:
    """Agreement between seeds, and between methods of the same seed over components."""
    rows, left_out, more = [], [], False
    for method, runs in task.methods.items():
        ranks, more = task.ranks(runs[:MOST_SEEDS]), more or len(runs) > MOST_SEEDS
        agreed = agreement(ranks)
        if agreed is not None:
            rows += _agreement_rows(method, agreed)
        elif ranks:
            left_out.append(method)
    blocks: list[Block] = [task.heading("Ranks over seeds")]
    if rows:
        said = f"{AGREEMENT}: {task.name}"
        few = [f"Of each method the first {MOST_SEEDS} seeds."] if more else []
        blocks.append(Details(said, (Table(said, tuple(rows), said=True), Items((*few, *HOW_TO_READ)))))
    if left_out:
        said = "fewer than two seeds with ranks that differ between modules, so nothing to compare"
        blocks.append(Text(f"{', '.join(left_out)}: {said}."))
    if components := _component_rows(task):
        said, note = f"{COMPONENTS}: {task.name}", Text(SAME_START)
        blocks.append(Details(said, (Table(said, tuple(components), said=True), note)))
    return blocks if len(blocks) > 1 else []


def selection_section(task: TaskRuns) -> list[Block]:
    """The selection variables of each searching method's first seed."""
    figures, more = [], False
    for method, runs in task.methods.items():
        searched = ((run, ranks) for run in runs if (ranks := task.searched(run)) and "selection" in ranks.rule)
        drawn = next((figure for run, ranks in searched if (figure := _selection(task, method, run, ranks))), None)
        if drawn is not None:
            figures.append(drawn)
            more = more or next(searched, None) is not None
    if not figures:
        said = "No selection variables: none of these runs has the log of a search that learns them."
        return [task.heading("Selection variables"), Text(said)]
    note = (
        [Text("One seed of each method; those of the others are in search/selection.png of their runs.")]
        if more
        else []
    )
    return [task.heading("Selection variables"), *note, *_gallery(figures)]


def _uniform(ranks: Sequence[Ranks]) -> str | None:
    """In words, where every run has one rank everywhere."""
    values = [sorted(set(each.values())) for each in ranks]
    if any(len(each) != 1 for each in values):
        return None
    found = sorted({each[0] for each in values})
    return f"rank {' or '.join(map(str, found))} in all {len(ranks[0])} modules"


def _map(task: TaskRuns, method: str, runs: tuple[Result, ...], ranks: Sequence[Ranks]) -> Figure:
    path = task.place(method, "ranks")
    seeds = [run.seed for run in runs if task.ranks([run])]
    rank_spread.save_png(ranks, task.initial_rank(runs), path)
    of = f"seed {seeds[0]}" if len(seeds) == 1 else f"mean and standard deviation over {len(seeds)} seeds"
    totals = [sum(each.values()) for each in ranks]
    mean = sum(totals) / len(totals)
    alt = f"heat map of the ranks of {method} by layer and projection, {of}; mean total rank {mean:g}"
    return task.figure(path, f"{method}, {of}", alt)


def _agreement_rows(method: str, found: Agreement) -> list[Row]:
    measures = {
        "Spearman": found.spearman,
        "Spearman, within projections": found.spearman_in_projection,
        "Jaccard, above the mean": found.jaccard,
        "overlap": found.overlap,
    }
    counts = {"seeds": found.runs, "modules": found.modules}
    return [{"method": method, "measure": name, **_cells(measure), **counts} for name, measure in measures.items()]


def _cells(found: Measure) -> dict[str, Cell]:
    return {"agreement": found.value, "chance": found.chance, "chance 95 %": found.high, "p": found.p}


def _component_rows(task: TaskRuns) -> list[Row]:
    """A row for each pair of methods that learned selection variables from the same initialisation."""
    kept: dict[str, dict[int, tuple[int, Kept]]] = {}
    for method, runs in task.methods.items():
        for run in runs[:MOST_SEEDS]:
            ranks = task.searched(run)
            if ranks is not None and ranks.kept:
                kept.setdefault(method, {})[run.seed] = (ranks.initial_rank, ranks.kept)
    rows: list[Row] = []
    for first, second in combinations(kept, 2):
        seeds = [seed for seed in kept[first] if seed in kept[second]]
        pairs = [(kept[first][seed], kept[second][seed]) for seed in seeds]
        sizes = {size for pair in pairs for size, _ in pair}
        if len(sizes) == 1:  # with another k, A is another too
            agreed = component_agreement([(one, two) for (_, one), (_, two) in pairs], sizes.pop())
            if agreed is not None:
                rows.append({"method": first, "and": second, **_cells(agreed), "seeds": len(seeds)})
    return rows


def _selection(task: TaskRuns, method: str, run: Result, ranks: Ranks) -> Figure | None:
    assert run.run is not None
    chosen = selection.thinned(count_records(run.run, "search"))
    if not chosen:
        return None
    lines = list(records(run.run, "search", frozenset(chosen)))
    path = task.place(method, "selection")
    try:
        selection.save_png(lines, path, threshold=threshold_of(ranks))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise damaged(run.run / "search" / "log.jsonl", error) from error
    alt = f"selection variables of every module over the search of {method}, seed {run.seed}"
    return task.figure(path, f"{method}, seed {run.seed}", alt)


def _gallery(figures: list[Figure]) -> list[Block]:
    return [Gallery(tuple(figures))] if figures else []


def _items(said: list[str]) -> list[Block]:
    return [Items(tuple(said))] if said else []
