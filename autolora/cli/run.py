"""``autolora run RECIPE``."""

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


def run(
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
    """Search, retrain and eval, one after the other."""
    from autolora.cli.show import show_stage
    from autolora.cli.target import begin
    from autolora.cli.tracking import tracked
    from autolora.trackers.names import parse_trackers

    trackers = parse_trackers(track)
    options = Options.given(set_, data_root, model, seed, output, trust_remote_code)
    run, context = begin(recipe, options, resume=resume, last="eval")
    from autolora.experiment.line import run_stages

    with tracked(run, trackers):
        run_stages(run, context, lambda name, result: show_stage(run, context, name, result))
