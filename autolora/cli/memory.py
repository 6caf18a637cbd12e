"""``autolora memory RECIPE``: what its stages take, part by part, and what fits a card; no weights are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autolora.cli.options import ModelOption, Options, RecipeArgument, SeedOption, SetOption, TrustOption
from autolora.console import json_document, line, screen
from autolora.errors import UserError

if TYPE_CHECKING:
    from autolora.experiment.memory_recipe import RecipeMemory

MIB, GIB = 2**20, 2**30
DeviceOption = Annotated[
    str | None,
    typer.Option("--device-memory", metavar="SIZE", help="Say what fits a card of this size, 24GB for instance."),
]
CardsOption = Annotated[
    int, typer.Option("--cards", metavar="N", min=1, max=1024, help="On so many cards, which share batches and base.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON, in bytes.")]


def memory(
    recipe: RecipeArgument,
    set_: SetOption = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    device_memory: DeviceOption = None,
    cards: CardsOption = 1,
    as_json: JsonOption = False,
    trust_remote_code: TrustOption = False,
) -> None:
    """Compute the memory of search, squeeze and retraining from the model's config.json; no weights are needed."""
    from autolora.console import hush
    from autolora.recipe.shipped import find_recipe
    from autolora.runs.folders import is_run

    path = Path(recipe) / "recipe.yaml" if is_run(Path(recipe)) else find_recipe(recipe)
    read = Options.given(set_, None, model, seed, None, trust_remote_code).read_unchecked(path)
    hush()
    from autolora.experiment.memory_recipe import recipe_memory

    device = None if device_memory is None else parse_bytes(device_memory)
    found = recipe_memory(read, device, cards=cards, trust_remote_code=trust_remote_code)
    if as_json:
        json_document(found.record())
        return
    _show(screen(), found)


def parse_bytes(text: str) -> int:
    """The bytes that ``24GB`` means (24 · 2³⁰, as cards are sold), or ``512MB``.

    Args:
        text: A number with GB, GiB, MB or MiB behind it.

    Raises:
        UserError: It is something else.
    """
    units: Sequence[tuple[str, int]] = (("gib", 30), ("gb", 30), ("mib", 20), ("mb", 20))
    word = text.strip().lower()
    for unit, power in units:
        if word.endswith(unit):
            try:
                value = float(word.removesuffix(unit))
            except ValueError:
                break
            if 0 < value < 1e6:
                return round(value * (1 << power))
    raise UserError(f"--device-memory: must be a size such as 24GB or 512MB, got {text!r}")


def _show(console: Console, found: RecipeMemory) -> None:
    settings = found.settings
    line(console, f"{found.model}: rank {settings.rank}, examples of {settings.tokens} tokens")
    line(console, f"base in {settings.base}, passes in {settings.precision}; MiB at the fullest moment")
    console.print(_table(found))
    for note in _notes(found):
        line(console, note)


def _table(found: RecipeMemory) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    table.add_column("")
    for name in found.stages:
        table.add_column(name, justify="right")
    for part in dict.fromkeys(part for stage in found.stages.values() for part in stage.parts):
        table.add_row(Text(part), *(_mib(stage.parts.get(part)) for stage in found.stages.values()))
    table.add_section()
    table.add_row("together", *(_mib(stage.total) for stage in found.stages.values()))
    return table


def _mib(size: int | None) -> str:
    if size is None:
        return "-"
    return f"{size / MIB:.0f}" if size >= 10 * MIB else f"{size / MIB:.2f}"


def _notes(found: RecipeMemory) -> Iterator[str]:
    settings = found.settings
    searching = f"{settings.search_examples} in the search, " if "search" in found.stages else ""
    yield f"examples at a time: {searching}{settings.retrain_examples}{' later' if searching else ''}"
    if settings.cards > 1:
        has = "a share of the base (--use_fsdp)" if settings.shared else "the whole base (quantised)"
        yield f"of each of {settings.cards} cards, which has {has}"
    yield "squeeze: while it measures Fisher information; it trains as retrain does"
    if host := max(stage.host for stage in found.stages.values()):
        yield f"on the host, beside the process: {_mib(host)} MiB of derivatives and singular vectors"
    if found.device is None:
        return
    from autolora.experiment.memory import needed

    for name, stage in found.stages.items():
        size = needed(stage)
        word = "fits" if size <= found.device else "does not fit"
        yield f"{name}: {word} {found.device / GIB:.4g} GiB; it needs {size / GIB:.2f}, the device's own share counted"
    if found.lighter:
        yield "what would lower it, each alone, and what the largest stage needs then:"
    for each in found.lighter:
        size = max(each.needed.values())
        yield f"- {each.change}: {size / GIB:.2f} GiB{', which fits' if size <= found.device else ''}"
