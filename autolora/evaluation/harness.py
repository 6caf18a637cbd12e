"""Tasks of lm-evaluation-harness with a model that is loaded already: ``harness_rows(model, tokenizer, settings)``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autolora.errors import UserError
from autolora.evaluation.harness_tasks import check_task_folder
from autolora.tables import Cell, Row
from autolora.words import did_you_mean

INSTALL = 'pip install "autolora[harness]", or pip install "lm-eval>=0.4.9"'


@dataclass(frozen=True)
class HarnessSettings:
    """What is measured.

    Args:
        tasks: Names of tasks, groups or tags.
        folder: With task files of the user's own, which come before those of the harness; None for none.
        limit: Of examples, the first of each task; None for all.
        few_shot: Examples before each question; None: as the task says.
        batch_size: Examples of a pass.
        chat: Whether questions are put through the tokenizer's chat template.
        seed: Of the choice of few-shot examples and of the bootstrap.
        trusted: Whether code that comes with the folder may run.
    """

    tasks: tuple[str, ...]
    folder: Path | None = None
    limit: int | None = None
    few_shot: int | None = None
    batch_size: int = 1
    chat: bool = False
    seed: int = 0
    trusted: bool = False


def check_harness(settings: HarnessSettings) -> None:
    """What can be said before a model is loaded.

    Args:
        settings: What shall be measured.

    Raises:
        UserError: The harness is not installed; no task is named; a number is out of range; or the folder is refused.
    """
    if find_spec("lm_eval") is None:
        raise UserError(f"--harness needs lm-evaluation-harness, which is not installed; install it: {INSTALL}")
    if not all(settings.tasks) or not settings.tasks:
        raise UserError("--harness: name one task or several, with commas between: --harness arc_easy,hellaswag")
    least = {"limit": (settings.limit, 1), "batch-size": (settings.batch_size, 1), "few-shot": (settings.few_shot, 0)}
    for name, (value, low) in least.items():
        if value is not None and value < low:
            raise UserError(f"--harness-{name}: must be {low} or more, got {value}")
    if settings.folder is not None:
        check_task_folder(settings.folder, trusted=settings.trusted)


def harness_rows(model: Any, tokenizer: Any, settings: HarnessSettings) -> list[Row]:
    """A row for each metric of each task.

    Args:
        model: Transformers', or PEFT's around it, on its device.
        tokenizer: Its own.
        settings: See `check_harness`.

    Raises:
        UserError: There is no such task, or its data is not here and cannot be fetched.
    """
    check_harness(settings)
    if settings.chat and not tokenizer.chat_template:
        raise UserError(f"--harness-chat: the tokenizer of {tokenizer.name_or_path} has no chat template; leave it out")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    with _sandboxed(unless=settings.trusted or settings.folder is None):
        manager = _manager(settings)
        tasks = list(_tasks(manager, settings))
        kind = "seq2seq" if model.config.is_encoder_decoder else "causal"
        wrapped = HFLM(pretrained=model.eval(), tokenizer=tokenizer, backend=kind, batch_size=settings.batch_size)
        found = simple_evaluate(
            model=wrapped,
            tasks=tasks,
            num_fewshot=settings.few_shot,
            limit=settings.limit,
            batch_size=settings.batch_size,
            apply_chat_template=settings.chat,
            task_manager=manager,
            log_samples=False,
            random_seed=settings.seed,
            numpy_random_seed=settings.seed,
            torch_random_seed=settings.seed,
            fewshot_random_seed=settings.seed,
        )
    return list(_rows(found))


def _manager(settings: HarnessSettings) -> Any:
    from lm_eval.tasks import TaskManager

    include = None if settings.folder is None else str(settings.folder)
    manager = TaskManager(include_path=include, include_defaults=False) if include else TaskManager()
    if include and not set(settings.tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=include)  # all of the harness's own, which takes seconds to read
    return manager


def _of_template(error: Exception) -> UserError:
    return UserError(f"--harness: a task's template cannot be rendered ({' '.join(str(error).split())}); mend it")


def _tasks(manager: Any, settings: HarnessSettings) -> Iterator[str]:
    """The names, each of which can be loaded, data and all."""
    from jinja2 import TemplateError

    for name in settings.tasks:
        if name not in manager.all_tasks:
            near = did_you_mean(name, manager.all_tasks)
            raise UserError(
                f"--harness: lm-evaluation-harness has no task {name!r}{f'; {near}' if near else ''}; list them: "
                "lm-eval ls tasks"
            )
        try:
            manager.load([name])
        except TemplateError as error:
            raise _of_template(error) from error
        except Exception as error:  # whatever a task file, its data or the hub's client raise
            wanted = _data_set(manager, name)
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise UserError(
                f"--harness {name}: its data{wanted} could not be loaded ({said}); fetch it where there is a network, "
                "or write a task file with local data and name its folder with --harness-tasks-dir"
            ) from error
        yield name


def _data_set(manager: Any, name: str) -> str:
    """What a task would have fetched, as far as its file says it."""
    entry = manager.task_index.get(name)
    config = (getattr(entry, "cfg", None) or {}) if entry is not None else {}
    if not (path := config.get("dataset_path")):
        return ""
    part = f", configuration {config['dataset_name']!r}" if config.get("dataset_name") else ""
    if path in ("json", "csv", "parquet", "text"):
        return f" ({config.get('dataset_kwargs', {}).get('data_files', path)})"
    return f", the data set {path!r} of the Hugging Face hub{part},"


def _rows(found: Mapping[str, Any]) -> Iterator[Row]:
    for task, values in found["results"].items():
        better = found.get("higher_is_better", {}).get(task) or {}
        for key, value in values.items():
            metric, _, how = key.partition(",")
            if not how or metric.endswith("_stderr"):
                continue
            error = values.get(f"{metric}_stderr,{how}")
            row: dict[str, Cell] = {
                "task": task,
                "version": str(found.get("versions", {}).get(task, "")),
                "examples": found.get("n-samples", {}).get(task, {}).get("effective"),
                "few-shot": found.get("n-shot", {}).get(task),
                "filter": how,
                "metric": metric,
                "value": _cell(value),
                "standard error": _cell(error),
                "better": {True: "higher", False: "lower"}.get(better[metric], "") if metric in better else "",
                "lm-eval": version("lm_eval"),
            }
            yield row


def _cell(value: Any) -> Cell:
    """A number or a text of the harness, which writes N/A for what it has not."""
    return value if isinstance(value, int | float | str) and value != "N/A" else None


@contextmanager
def _sandboxed(*, unless: bool) -> Iterator[None]:
    """Task files' templates are rendered in jinja's sandbox, where they reach nothing but their example."""
    if unless:
        yield
        return
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils

    before = utils.env
    utils.env = ImmutableSandboxedEnvironment(undefined=before.undefined, keep_trailing_newline=True)
    utils.env.filters.update(before.filters)
    try:
        yield
    finally:
        utils.env = before
