"""``autolora search RECIPE``."""

from __future__ import annotations

from autolora.cli.options import (
    DataRootOption,
    ModelOption,
    Options,
    OutputOption,
    RecipeArgument,
    ResumeOption,
    SeedOption,
    SetOption,
    TrackOption,
    TrustOption,
)


def search(
    recipe: RecipeArgument,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    track: TrackOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Learn the selection variables and write a rank for every layer."""
    from autolora.cli.show import show_stage
    from autolora.cli.target import begin
    from autolora.cli.tracking import tracked
    from autolora.trackers.names import parse_trackers

    trackers = parse_trackers(track)
    options = Options.given(set_, data_root, model, seed, output, trust_remote_code)
    run, context = begin(recipe, options, resume=resume, last="search")
    from autolora.experiment.search import search as search_ranks

    with tracked(run, trackers):
        ranks = search_ranks(run, context)
    show_stage(run, context, "search", ranks)
