"""``autolora export``: the ranks of a run as another tool's configuration, on standard output.

Standard output holds the configuration and nothing else; what there is to say about it goes to standard error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autolora.cli.options import RUNS, TargetArgument
from autolora.console import document, warn
from autolora.errors import UserError

FormatOption = Annotated[
    str,
    typer.Option("--format", metavar="NAME", help="peft, axolotl, llama-factory, ms-swift, trl, torchtune or yaml."),
]
ConfigurationOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write to FILE instead of standard output.")
]
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where runs are.")]


def export(
    target: TargetArgument = None,
    format_: FormatOption = "peft",
    output: ConfigurationOption = None,
    runs: RunsOption = RUNS,
) -> None:
    """Print the ranks of a run as the configuration of another tool; what the tool cannot express is said."""
    from autolora.cli.output_file import output_file
    from autolora.cli.target import named
    from autolora.export.read import read_allocation
    from autolora.files import write_atomic
    from autolora.registry import EXPORT_FORMATS
    from autolora.words import did_you_mean

    if format_ not in EXPORT_FORMATS:
        near = did_you_mean(format_, EXPORT_FORMATS)
        raise UserError(
            f"--format: {format_!r} is not one of: {', '.join(EXPORT_FORMATS)}{f'; {near}' if near else ''}"
        )
    output = None if output is None else output_file(output, "--output", _file_name(format_))
    exported = EXPORT_FORMATS.load(format_)(read_allocation(named(target, runs)))
    for note in exported.notes:
        warn(f"note: {note}")
    if output is None:
        document(exported.text)
        return
    try:
        write_atomic(output, exported.text)
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written: {error}") from error
    warn(f"wrote {output}")


def _file_name(format_: str) -> str:
    return "adapter_config.json" if format_ == "peft" else f"{format_}.yaml"
