"""``autolora retrain [RUN|RECIPE]``."""

from __future__ import annotations

from autolora.cli.options import (
    DataRootOption,
    ModelOption,
    Options,
    OutputOption,
    ResumeOption,
    SeedOption,
    SetOption,
    TargetArgument,
    TrackOption,
    TrustOption,
)


def retrain(
    target: TargetArgument = None,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    output: OutputOption = None,
    resume: ResumeOption = False,
    track: TrackOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Train LoRA at the found ranks on all training data and write a PEFT adapter."""
    from autolora.cli.show import show_stage
    from autolora.cli.target import existing
    from autolora.cli.tracking import tracked
    from autolora.trackers.names import parse_trackers

    trackers = parse_trackers(track)
    options = Options.given(set_, data_root, model, seed, output, trust_remote_code)
    run, context = existing(target, options, begun="retrain" if resume else None, anew=not resume)
    from autolora.experiment.retrain import retrain as train_adapter

    with tracked(run, trackers):
        adapter = train_adapter(run, context, anew=not resume)
    show_stage(run, context, "retrain", adapter)
