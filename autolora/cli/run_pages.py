"""One run in full, and two side by side, on a terminal: what ``autolora runs show`` and ``runs diff`` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autolora import safe
from autolora.cli.run_table import STYLES, amount, count
from autolora.console import line
from autolora.runs.details import peak_of

_MANY = 12  # layers whose ranks are listed one by one


def page(console: Console, found: Mapping[str, Any]) -> None:
    """A run.

    Args:
        console: Of `autolora.console.screen`.
        found: Of `autolora.runs.details.details`.
    """
    head = Text(safe.one_line(f"{found['run']}  "), style="bold")
    head.append(found["state"], style=STYLES.get(found["state"], ""))
    console.print(head, soft_wrap=True)
    facts = {
        "state": found["state_means"],
        "why": found["reason"],
        "damaged": found["damage"],
        "recipe": f"{found['recipe']} ({found['task']})",
        "method": f"{found['method']}, seed {found['seed']}",
        "model": found["model"],
        "made": found["created"],
        "trained": _trained(found),
        "ranks": _ranks(found["ranks"]),
        "builds on": ", ".join(f"{name}: {path}" for name, path in found["builds_on"].items()),
        "on disk": amount(found["disk_bytes"]),
        "device": _device(found["device"]),
        "versions": ", ".join(
            f"{name} {_value(value)}" for name, value in found["versions"].items() if value is not None
        ),
        "files": ", ".join(found["files"]),
    }
    _facts(console, facts)
    if found["scores"]:
        _section(console, "Scores")
        _facts(console, {name: _value(value) for name, value in found["scores"].items()})
    if found["stages"]:
        _section(console, "Stages")
        console.print(_stages(found["stages"]))


def side_by_side(console: Console, found: Mapping[str, Any]) -> None:
    """Two runs.

    Args:
        console: Of `autolora.console.screen`.
        found: Of `autolora.runs.details.differences`.
    """
    for letter, path, state in zip("AB", found["runs"], found["states"], strict=True):
        line(console, f"{letter}: {path} ({state})")
    _pairs(console, "Recipe", found["recipe"], "The recipes are the same.")
    _pairs(console, "Made of", found["made_of"], "Nothing says that the base model or the rows are others.")
    _pairs(console, "Scores", found["scores"], "Neither has a score.", difference=True)
    ranks = {"sum": found["rank_totals"]} if any(total is not None for total in found["rank_totals"]) else {}
    unlike = dict(list(found["ranks"].items())[:_MANY])
    _pairs(console, "Ranks", {**ranks, **unlike}, "Neither has ranks.", difference=True)
    if (more := len(found["ranks"]) - len(unlike)) > 0:
        line(console, f"  and {more} more layers whose ranks differ (--json has all)")
    _pairs(console, "Cost", found["cost"], "Neither has taken anything.", difference=True)
    _pairs(console, "Versions", found["versions"], "The versions are the same.")


def _facts(console: Console, facts: Mapping[str, str | None]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(_text(name), _text(value))
    console.print(table)


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("stage", "state", "ended", "seconds", "steps", "passes", "memory"):
        table.add_column(name, justify="left" if name in ("stage", "state", "ended") else "right", overflow="fold")
    for name, stage in stages.items():
        passes = [str(stage[each]) for each in ("forward_passes", "backward_passes") if each in stage]
        peak = peak_of(stage)
        cells = (
            name,
            stage["state"],
            "" if stage["state"] == "running" else str(stage["at"] or "")[:19].replace("T", " "),
            _value(stage["seconds"], places=1),
            _value(stage.get("steps")),
            " + ".join(passes),
            "" if peak is None else f"{peak:.0f} MiB",
        )
        table.add_row(*map(_text, cells))
    return table


def _pairs(
    console: Console, title: str, pairs: Mapping[str, Sequence[Any]], none: str, *, difference: bool = False
) -> None:
    _section(console, title)
    if not pairs:
        line(console, none)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", style="dim")
    for name in ("A", "B", *(["B - A"] if difference else [])):
        table.add_column(name, justify="right" if difference else "left", overflow="fold")
    for name, (one, two) in pairs.items():
        numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (one, two))
        more = [_signed(two - one) if numbers else ""] if difference else []
        table.add_row(*map(_text, (name, _value(one), _value(two), *more)))
    console.print(table)


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold"))


def _text(cell: str) -> Text:
    return Text(safe.one_line(cell))


def _value(value: Any, places: int = 4) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{places}f}" if abs(value) >= 10**-places or value == 0 else f"{value:g}"
    return str(value)


def _signed(difference: float) -> str:
    text = _value(difference)
    return text if text.startswith("-") else f"+{text}"


def _trained(found: Mapping[str, Any]) -> str | None:
    own, whole = found["adapter_parameters"], found["trainable_parameters"]
    return None if own is None else f"{own} parameters ({count(own)}), with the head {whole}"


def _ranks(ranks: Mapping[str, Any] | None) -> str | None:
    if ranks is None:
        return None
    held = ", ".join(f"{number} at {rank}" for rank, number in ranks["modules_by_rank"].items())
    return f"sum {ranks['total']} of {ranks['initial'] * ranks['modules']}, {ranks['modules']} modules: {held}"


def _device(device: Mapping[str, Any] | None) -> str | None:
    if device is None:
        return None
    return ", ".join(f"{value} threads" if name == "threads" else str(value) for name, value in device.items() if value)
