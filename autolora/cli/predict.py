"""``autolora predict RUN FILE|-``: what a run's trained model says to new rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from autolora.cli.options import RUNS, ModelOption, Options, SetOption, TrustOption
from autolora.console import StageProgress, hush, line, screen, warn
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.data.reading.records import Record
    from autolora.experiment.predict import Predictor
    from autolora.runs.store import Run

RunArgument = Annotated[str, typer.Argument(metavar="RUN|RECIPE", help="A run directory, or a recipe: its newest run.")]
RowsArgument = Annotated[
    str, typer.Argument(metavar="FILE|-", help="The rows (jsonl, json, csv, tsv, parquet, conll); -: standard input.")
]
FileOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write there instead of standard output.")
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="jsonl|tsv|csv", help="Of the answers.", show_default="by FILE's name, or jsonl"),
]
InputFormatOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of the rows.", show_default="by the file's name; jsonl on standard input"),
]
ScoresOption = Annotated[bool, typer.Option("--scores", help="Add the probability of each class.")]
KeepOption = Annotated[
    str | None, typer.Option(metavar="COL,…", help="Pass these columns of the rows on, in front of the answers.")
]
KeepAllOption = Annotated[bool, typer.Option("--keep-all", help="Pass all columns on.")]
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where runs are.")]


def predict(
    target: RunArgument,
    rows: RowsArgument,
    output: FileOption = None,
    format: FormatOption = None,  # the option's name
    input_format: InputFormatOption = None,
    scores: ScoresOption = False,
    keep: KeepOption = None,
    keep_all: KeepAllOption = False,
    set_: SetOption = None,
    model: ModelOption = None,
    runs: RunsOption = RUNS,
    trust_remote_code: TrustOption = False,
) -> None:
    """Predict new rows, which need no labels: one record for each, in order."""
    kept = None if keep_all else [name.strip() for name in (keep or "").split(",") if name.strip()]
    if keep_all and keep is not None:
        raise UserError("--keep names columns, and --keep-all means all of them; leave one out")
    kind = _format(format, output)
    source = None if rows == "-" else Path(rows)
    output = _checked_paths(source, output)
    predictor = _predictor(target, Options.given(set_, None, model, None, runs, trust_remote_code), scores)
    with _quiet_end():
        _predict(predictor, source, input_format, output, kind, kept)


def _format(said: str | None, output: Path | None) -> str:
    from autolora.data.reading.formats import READERS
    from autolora.data.reading.source import COMPRESSED
    from autolora.evaluation.answers import FORMATS

    if said is not None and said not in FORMATS:
        raise UserError(f"--format: must be one of {', '.join(FORMATS)}, got {said!r}")
    ending = output.suffix.lower() if output else ""
    own = ending.removeprefix(".")
    packed = ending in (*COMPRESSED, ".zip")
    if packed or (own not in FORMATS and said is None and ending in (*READERS, ".xlsx", ".arrow")):
        raise UserError(
            f"-o: {output} ends as a file of another format does, and the answers are written as {', '.join(FORMATS)}"
            f"{' as they are' if packed else ''}; name it so{'' if packed else ', or say which by --format'}"
        )
    return said or (own if own in FORMATS else FORMATS[0])


def _checked_paths(source: Path | None, output: Path | None) -> Path | None:
    """Where the answers go, which are not where the rows come from."""
    from autolora.cli.output_file import output_file

    if source is not None and not source.exists():
        raise UserError(f"there is no file {source} to predict the rows of; check the path, or give - to read a pipe")
    if source is not None and source.is_dir():
        raise UserError(f"{source} is a folder; name one file of rows")
    if output is None:
        return None
    place = output_file(output, "-o")
    with suppress(OSError):  # there is no standard input
        if place.exists() and os.path.samestat(place.stat(), os.fstat(0) if source is None else source.stat()):
            raise UserError(f"-o: {output} holds the rows, which the answers would replace; name another file")
    return place


def _predictor(target: str, options: Options, scores: bool) -> Predictor:
    """The model of the run that is meant, not loaded yet. The run's data is not looked at, and need not be there."""
    from autolora.cli.target import named

    run = named(target, options.runs)
    _apply(run, options)
    hush()
    from autolora.experiment.predict import Predictor

    return Predictor(run, scores=scores, trust_remote_code=options.trust)


def _apply(run: Run, options: Options) -> None:
    from autolora.runs.changes import check_unchanged
    from autolora.runs.reach import check_reach

    recipe = options.read_unchecked(run.path / "recipe.yaml")
    check_reach(run, recipe, {*options.said, "data.root"})
    check_unchanged(run, recipe, anew=True)  # nothing of it is written down
    run.recipe = recipe


def _predict(
    predictor: Predictor,
    source: Path | None,
    input_format: str | None,
    output: Path | None,
    kind: str,
    kept: Sequence[str] | None,
) -> None:
    from autolora.data.reading.records import STREAMED
    from autolora.evaluation.answers import AnswerWriter

    streamed = source is None or not source.is_file()  # a pipe can be read once
    if streamed and (input_format or STREAMED[0]) not in STREAMED:
        raise UserError(f"--input-format: a pipe holds {', '.join(STREAMED)}, got {input_format!r}")
    opened = _stream(predictor, source, input_format) if streamed else _file(predictor, source, input_format, kept)
    count, chunks = opened
    predictor.load()
    done = 0
    with (
        _opened(output) as stream,
        StageProgress(
            "predict", show=count is not None and (output is not None or not sys.stdout.isatty())
        ) as progress,
    ):
        progress.start(0, count or 0)
        writer = AnswerWriter(stream, kind)

        def flushed() -> Iterator[Sequence[Record]]:
            for chunk in chunks:
                yield chunk
                stream.flush()
                progress.step(done)

        try:
            for record, answer in predictor.answers(flushed()):
                writer.write(record.place, _kept(record, kept), answer)
                done += 1
        finally:
            stream.flush()
    _say_end(predictor, done, output)


def _kept(record: Record, names: Sequence[str] | None) -> dict[str, Any]:
    if names is None:
        return dict(record.cells)
    return {name: record.cells.get(name) for name in names}


def _file(
    predictor: Predictor, source: Path | None, input_format: str | None, kept: Sequence[str] | None
) -> tuple[int, Iterator[Sequence[Record]]]:
    """How many rows a file has, all of which can be predicted, and the rows."""
    from autolora.data.reading.records import file_records
    from autolora.data.reading.source import Source
    from autolora.experiment.predict import chunks

    assert source is not None
    file = Source(source, predictor.run.recipe.data.encoding)
    wanted = None if kept is None else [*predictor.rows.wanted, *kept]

    def records() -> Iterator[Record]:
        return file_records(file, input_format, wanted)

    count = predictor.check(_checked(records(), kept))
    return count, chunks(records(), predictor.chunk)


def _checked(records: Iterator[Record], kept: Sequence[str] | None) -> Iterator[Record]:
    """The rows, the first of which has the columns that are passed on."""
    from autolora.data.reading.table import require

    for i, record in enumerate(records):
        if i == 0:
            require(list(record.cells), kept or (), record.place)
        yield record


def _stream(
    predictor: Predictor, source: Path | None, input_format: str | None
) -> tuple[None, Iterator[Sequence[Record]]]:
    """The rows of standard input, or of a pipe, in chunks of what has arrived."""
    from autolora.data.reading.arriving import arriving
    from autolora.data.reading.records import Stream, standard_input, stream_records

    encoding = predictor.run.recipe.data.encoding
    if source is None:
        # A buffer of its own: a thread may still be reading from it when the process ends.
        made = standard_input(open(0, "rb", closefd=False), encoding)  # noqa: SIM115
    else:
        made = Stream(source, encoding, binary=source.open("rb"))
    return None, arriving(stream_records(made, input_format or "jsonl"), predictor.chunk)


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """Where the answers go: a file that is whole or not there, or standard output."""
    from autolora.files import writing

    if output is None:
        yield sys.stdout.buffer
        return
    with writing(output) as file:
        yield file


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Whoever reads the answers has had enough when the pipe is closed: that is no failure."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_end(predictor: Predictor, done: int, output: Path | None) -> None:
    if predictor.cut_off:
        longest = predictor.run.recipe.data.max_length
        warn(f"{predictor.cut_off} of {done} rows have more than data.max_length, {longest} tokens, and were cut off")
    if output is not None:
        line(screen(), f"wrote {output}: {done} answers")
