"""Predictions for new rows, by a run's trained model: ``for answer in predict("runs/…", rows): …``.

They are those that the evaluation makes of the same rows. Rows go through some batches at a time, so that memory does
not grow with their number; the rows of such a chunk are sorted by length into batches, as the evaluation sorts a split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from autolora.causes import plainly
from autolora.context.base import Context
from autolora.context.device import check_device
from autolora.data.cells import Cell
from autolora.data.reading.records import Record
from autolora.errors import RunError, UserError
from autolora.evaluation.predict import predict as predict_examples
from autolora.experiment.base import check_base
from autolora.experiment.evaluate import adapter_of
from autolora.experiment.new_rows import NewRows
from autolora.methods.base import method_of
from autolora.model.fit import input_faults
from autolora.recipe.schema import Recipe
from autolora.registry import METHODS, TASKS
from autolora.runs.base import read_base
from autolora.runs.labels import read_labels
from autolora.runs.results import Result
from autolora.runs.store import Run
from autolora.tasks.base import Task
from autolora.training.batches import Example

BATCHES = 16  # of a chunk
ROWS = "rows"  # what they are called where a split has its name
Answer = dict[str, Any]


@plainly()
def predict(
    run: str | Path | Result,
    rows: Iterable[Mapping[str, Any]],
    *,
    scores: bool = False,
    model: str | None = None,
    show: bool = False,
    trust_remote_code: bool = False,
) -> Iterator[Answer]:
    """What a run's trained model says to new rows, as ``autolora predict`` does.

    Args:
        run: The run's folder, or what `autolora.run` gave.
        rows: Any number, by column; the recipe's input columns are read of each, and no label. They are taken a chunk
            at a time, as answers are asked for.
        scores: Whether each answer has the classes' probabilities, of a classification.
        model: The pretrained model, where it does not lie where the recipe says.
        show: Show warnings, on standard error.
        trust_remote_code: Let code run that comes with the model, where the recipe wants it.

    Returns:
        An answer for each row, in order: "prediction" is a class's name, a number, a text, or a list of tags; beside it
        are "scores" (probabilities by class), or "entities" and "cut_off" (tagging).

    Raises:
        UserError: The run has no trained model, or a damaged one; or, when its answer is asked for, a row lacks what is
            needed.
        RunError: The model's logits are not finite.
    """
    if isinstance(run, Result):
        if run.run is None:
            raise UserError(f"the run of {run.recipe} was never begun, and has no model")
        run = run.run
    opened = Run.open(Path(run))
    if model is not None:
        opened.recipe = _on_model(opened.recipe, model)
    predictor = Predictor(opened, scores=scores, show=show, trust_remote_code=trust_remote_code)
    predictor.load()
    records = (Record(f"row {number}", row) for number, row in enumerate(rows, 1))
    return _plain(predictor.answers(chunks(records, predictor.chunk)))


def _on_model(recipe: Recipe, model: str) -> Recipe:
    name = str(Path(model).expanduser().absolute()) if Path(model).is_dir() else model
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": name})})


def _plain(answers: Iterator[tuple[Record, Answer]]) -> Iterator[Answer]:
    with plainly("eval"):
        for _, answer in answers:
            yield answer


def chunks(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    """So many rows at a time; those before one that cannot be read come before it is said.

    Args:
        records: The rows.
        size: Of a chunk.
    """
    while True:
        chunk: list[Record] = []
        try:
            for record in islice(records, size):
                chunk.append(record)
        except UserError:
            if chunk:
                yield chunk
            raise
        if not chunk:
            return
        yield chunk


@dataclass(frozen=True)
class Encoded:
    """Rows as the model takes them.

    Args:
        examples: Those there are.
        owners: Which of them each row is.
        fault: What is wrong with the row after the last, where the chunk ends there.
    """

    examples: Sequence[Example]
    owners: Sequence[int]
    fault: UserError | None = None


class Predictor:
    """The trained model of a run, for rows.

    Args:
        run: After its retraining; nothing is written into it.
        scores: See `predict`.
        show: See `predict`.
        trust_remote_code: See `predict`.

    Raises:
        UserError: The run has no trained model, a damaged one, or one without probabilities where they are wanted.
    """

    def __init__(self, run: Run, *, scores: bool = False, show: bool = True, trust_remote_code: bool = False) -> None:
        if (state := run.stage_state("retrain")) not in (None, "success"):
            raise UserError(
                f"{run.path}: its training is not finished ({state}); go on with it: autolora retrain {run.path} "
                "--resume"
            )
        adapter_of(run)
        read_base(run.path)
        self.run, self.scores = run, scores
        self.context = Context(run.recipe, show=show, trust_remote_code=trust_remote_code)
        if self.context.compute.processes > 1:
            raise UserError("rows are predicted by one process; start the command without a launcher")
        METHODS.load((recipe := run.recipe).method.name).check_recipe(recipe)
        check_device(self.context)
        self.method = method_of(run)
        self.rows = NewRows(recipe.data, self.context.family)
        if scores and not self.context.family.gives_scores:
            raise UserError(f"scores are probabilities of classes, and the task {recipe.task} has none; leave them out")
        self.task = self.context.task = self._task()
        self.model: nn.Module | None = None
        self.base: Any = self.context.skeleton  # has all that rows are checked against
        self.cut_off = 0  # rows that lost tokens to data.max_length, of those that were predicted

    @property
    def chunk(self) -> int:
        """Rows that go through together."""
        return BATCHES * self.run.recipe.eval.batch_size

    def _task(self) -> Task:
        """The task without splits; where a run does not say its classes, from its data, as evaluation does."""
        recipe, context = self.run.recipe, self.context
        names = read_labels(self.run.path)
        if names is None and context.family.named_labels:
            names = list(context.task.names)
        splits = {} if recipe.task in TASKS.ours else context.splits
        return context.family(self.rows.unlabelled, recipe.eval, splits, recipe.loss, names)

    def load(self) -> None:
        """Load the model, before the first row is predicted.

        Raises:
            UserError: It cannot be loaded, or is another than the run was begun on.
        """
        self.context.on_base = partial(check_base, self.run)
        self.base = self.context.model()
        self.model = self.method.load(self.base, self.context)

    def check(self, records: Iterator[Record], on_rows: Callable[[int], None] = lambda done: None) -> int:
        """Read and encode all rows, and keep none.

        Args:
            records: The rows.
            on_rows: Told how many were read.

        Returns:
            How many there are.

        Raises:
            UserError: One cannot be predicted; the message has its place.
        """
        count = 0
        for chunk in chunks(records, self.chunk):
            if (fault := self.encode(chunk).fault) is not None:
                raise fault
            count += len(chunk)
            on_rows(count)
        return count

    def answers(self, parts: Iterable[Sequence[Record]]) -> Iterator[tuple[Record, Answer]]:
        """Every row with its answer, in order.

        Args:
            parts: The rows, a chunk at a time.

        Raises:
            UserError: A row cannot be predicted; those before it were given.
            RunError: The model's logits are not finite.
        """
        for chunk in parts:
            encoded = self.encode(chunk)
            if encoded.owners:
                self.cut_off += self.task.cut_off.get(ROWS, 0)
                found = self._predictions(encoded.examples, chunk)
                for record, owner in zip(chunk, encoded.owners, strict=False):
                    yield record, found[owner]
            if encoded.fault is not None:
                raise encoded.fault

    def _predictions(self, examples: Sequence[Example], chunk: Sequence[Record]) -> list[Answer]:
        assert self.model is not None, "load() comes first"
        context = self.context
        try:
            records = predict_examples(
                self.model,
                self.task,
                examples,
                partial(self.task.padded, tokenizer=context.tokenizer),
                tokenizer=context.tokenizer,
                batch_size=self.run.recipe.eval.batch_size,
                compute=context.compute,
            )
        except RunError as error:
            raise RunError(f"{chunk[0].place} to {chunk[-1].place}: {error}") from error
        return [
            self.task.answer(record, example, scores=self.scores)
            for record, example in zip(records, examples, strict=True)
        ]

    def encode(self, chunk: Sequence[Record]) -> Encoded:
        """Rows as the model takes them, up to the first that it cannot take.

        Args:
            chunk: The rows.
        """
        read: list[dict[str, Cell]] = []
        fault: UserError | None = None
        for record in chunk:
            try:
                read.append(self.rows.read(record))
            except UserError as error:
                fault = error
                break
        try:
            return Encoded(*self._encoded(read, chunk), fault)
        except UserError:
            pass  # in which row? they are taken one by one
        for i, row in enumerate(read):
            try:
                self._encoded([row], chunk[i : i + 1])
            except UserError as error:
                return Encoded(*self._encoded(read[:i], chunk), UserError(_placed(str(error), chunk[i].place)))
        raise RuntimeError("rows cannot be encoded together that can be one by one")

    def _encoded(self, rows: Sequence[Mapping[str, Cell]], chunk: Sequence[Record]) -> tuple[list[Example], list[int]]:
        """The examples, and which of them each row is."""
        if not rows:
            return [], []
        columns, data = self.rows.columns(rows), self.rows.unlabelled
        self.task.check_rows(columns, data, lambda row: chunk[row].place)
        groups = self.task.groups(columns, data)
        examples = self.task.encode(columns, self.context.tokenizer, ROWS, "eval")
        pad = int(self.context.tokenizer.pad_token_id)
        longest = self.task.longest(examples) + self.method.positions
        if faults := input_faults(self.base, examples, pad, longest):
            raise UserError("\n".join(dict.fromkeys(faults)))
        return examples, list(range(len(rows)) if groups is None else groups)


def _placed(message: str, place: str) -> str:
    """A message about one row, with its place instead of its number in a split."""
    for said in (f"split {ROWS!r}, row 1 of those used", f"split {ROWS!r}, row 1", f"split {ROWS}, row 1"):
        message = message.replace(said, place)
    message = message.replace(f"split {ROWS!r}", place)
    return message if place in message else f"{place}: {message}"
