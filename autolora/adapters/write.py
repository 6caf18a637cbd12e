"""A stored adapter written anew with the components that stay, as stock PEFT loads it.

    write_adapter(adapter, kept, Path("small"), rule={"score": "spectrum"})

A module keeps its scaling s, so its alpha is s r. One that keeps all of its components keeps its tensors to the byte;
one that keeps none leaves the targets. Everything else in the file, and the small files beside it, are carried over.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autolora.adapters.derived_card import smaller_card
from autolora.adapters.folder import beside
from autolora.adapters.output import WRITTEN, foreign, mark
from autolora.adapters.stored import BASE, Module, StoredAdapter
from autolora.adapters.tensors import DTYPES, Part, to_bytes, write_tensors
from autolora.allocation.compress import ranks_of
from autolora.errors import UserError
from autolora.files import replace_folder, write_json
from autolora.lora.config import anchored, target_expression
from autolora.lora.ranks import Ranks
from autolora.lora.stored import CONFIG, TENSORS, WRAPPED

RANKS = "ranks.json"


@dataclass(frozen=True)
class Cut:
    """What a module becomes.

    Args:
        module: As it was.
        kept: Indices of its components that stay.
        rank: That it is written at; above their number it is padded with zeros.
        scaling: Likewise.
    """

    module: Module
    kept: tuple[int, ...]
    rank: int
    scaling: float

    @property
    def alpha(self) -> float:
        """What PEFT divides by the rank."""
        return _plain(self.scaling * self.rank)

    @property
    def whole(self) -> bool:
        """Whether its factors can stay as they are, but for zeros behind them."""
        return len(self.kept) == self.module.rank and self.scaling == self.module.scaling


def check_output(adapter: StoredAdapter, output: Path) -> None:
    """Make sure that nothing is lost where an adapter is to be written.

    Args:
        adapter: That it is made of.
        output: The folder.

    Raises:
        UserError: It is there and was not written here, or it is the adapter's own.
    """
    own, there = adapter.folder.resolve(), output.resolve()
    if own == there or own.is_relative_to(there) or there.is_relative_to(own):
        raise UserError(f"--output: {output} is, holds or lies in the adapter's own folder; name another")
    for sibling in (output.with_name(output.name + ".new"), output.with_name(output.name + ".old")):
        if sibling.exists() or sibling.is_symlink():
            raise UserError(f"--output: {sibling} is in the way of writing {output}; move it, or name another folder")
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise UserError(f"--output: {output} is no folder; name another")
    if output.is_dir() and (why := foreign(output, WRITTEN)):
        raise UserError(
            f"--output: {output} is there, and was not written by autolora compress as it is now ({why}): nothing in "
            "it is replaced; name another folder"
        )


def write_adapter(
    adapter: StoredAdapter,
    kept: Mapping[str, Sequence[int]],
    output: Path,
    *,
    uniform: bool = False,
    rule: Mapping[str, Any],
) -> Ranks:
    """Write what stays of an adapter; the folder is whole, or not there.

    Args:
        adapter: As it is stored; it stays.
        kept: Indices of the singular components that stay, by module.
        output: The folder, which is replaced if it was written here and is as it was.
        uniform: Give every kept module one rank and one scaling, and no patterns.
        rule: What gave the ranks, JSON-able.

    Returns:
        The ranks without padding.

    Raises:
        UserError: The output is in the way or cannot be written, or one scaling cannot say what the adapter has.
    """
    check_output(adapter, output)
    cuts = cut(adapter, kept, uniform=uniform)
    padded = {"uniform": next(iter(cuts.values())).rank} if uniform else {}
    ranks = ranks_of(adapter.modules, kept, **rule, **padded)
    carried, _ = beside(adapter.folder)
    try:
        with replace_folder(output) as fresh:
            for path in carried:
                shutil.copyfile(path, fresh / path.name)
            write_tensors(fresh / TENSORS, _parts(adapter, cuts), {**adapter.file.metadata, "format": "pt"})
            write_json(fresh / CONFIG, config_of(adapter, cuts, uniform=uniform))
            ranks.save(fresh / RANKS)
            before = sum(module.rank * module.cost for module in adapter.modules.values())
            smaller_card(adapter.folder, fresh, ranks, (before, parameters_of(cuts)), {})
            mark(fresh, WRITTEN, {})
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written: {error}") from error
    return ranks


def cut(adapter: StoredAdapter, kept: Mapping[str, Sequence[int]], *, uniform: bool = False) -> dict[str, Cut]:
    """What each module becomes that keeps something, by full name.

    Args:
        adapter: As it is stored.
        kept: Indices of components by module.
        uniform: See `write_adapter`.

    Raises:
        UserError: One scaling cannot say what the adapter has.
    """
    stay = {name: tuple(kept[name]) for name in adapter.modules if kept[name]}
    if not uniform:
        return {
            name: Cut(adapter.modules[name], each, len(each), adapter.modules[name].scaling)
            for name, each in stay.items()
        }
    rank = max(len(each) for each in stay.values())
    scaling = max(adapter.modules[name].scaling for name in stay)
    cuts = {name: Cut(adapter.modules[name], each, rank, scaling) for name, each in stay.items()}
    other = [name for name, each in cuts.items() if not math.isclose(each.module.scaling, scaling, rel_tol=1e-12)]
    if biased := [name for name in other if f"{WRAPPED}{name}.lora_B.bias" in adapter.file.entries]:
        raise UserError(
            f"--uniform: {biased[0]} has a bias of its LoRA (lora_bias) that is scaled by another number than those of "
            "other modules; leave --uniform out"
        )
    return cuts


def config_of(adapter: StoredAdapter, cuts: Mapping[str, Cut], *, uniform: bool = False) -> dict[str, Any]:
    """The content of adapter_config.json.

    Args:
        adapter: As it is stored.
        cuts: What each kept module becomes.
        uniform: See `write_adapter`.
    """
    largest = max(cuts.values(), key=lambda each: each.rank)
    config = {
        **adapter.config,
        "r": largest.rank,
        "lora_alpha": largest.alpha,
        "use_rslora": False,  # alpha / rank is the scaling that each module has
        "rank_pattern": {} if uniform else {anchored(name): each.rank for name, each in cuts.items()},
        "alpha_pattern": {} if uniform else {anchored(name): each.alpha for name, each in cuts.items()},
        "init_lora_weights": True,  # others are for a beginning, and some take certain ranks only
        "loftq_config": {},
        **{key: None for key in ("eva_config", "corda_config", "lora_ga_config") if key in adapter.config},
    }
    if len(cuts) < len(adapter.modules):
        config["target_modules"] = list(cuts) if uniform else target_expression(list(cuts))
        config |= {"exclude_modules": None, "layers_to_transform": None, "layers_pattern": None}
    return config


def parameters_of(cuts: Mapping[str, Cut]) -> int:
    """Of all factors as they are written, zeros among them.

    Args:
        cuts: What each kept module becomes.
    """
    return sum(each.rank * each.module.cost for each in cuts.values())


def _parts(adapter: StoredAdapter, cuts: Mapping[str, Cut]) -> Iterator[Part]:
    """Every tensor of the new file."""
    file, factors = adapter.file, _Factors(adapter)
    for cut in cuts.values():
        for i, name in enumerate((cut.module.a, cut.module.b)):
            entry = file.entries[name]
            shape = (cut.rank, *entry.shape[1:]) if i == 0 else (entry.shape[0], cut.rank, *entry.shape[2:])
            width = entry.size // entry.numbers
            yield Part(name, entry.dtype, shape, width * math.prod(shape), partial(factors.bytes, cut, i))
    gone = adapter.modules.keys() - cuts.keys()
    for name in adapter.others:
        entry = file.entries[name]
        yield Part(_unwrapped(name, gone), entry.dtype, entry.shape, entry.size, partial(file.raw, name))


def _unwrapped(tensor: str, gone: set[str]) -> str:
    """A tensor's name where its module is no longer one with LoRA."""
    before, found, after = tensor.rpartition(f".{BASE}")
    return f"{before}.{after}" if found and before.removeprefix(WRAPPED) in gone else tensor


class _Factors:
    """The new factors of one module at a time: A and B come of the same decomposition."""

    def __init__(self, adapter: StoredAdapter) -> None:
        self.adapter = adapter
        self.last: tuple[str, tuple[Tensor, Tensor]] | None = None

    def bytes(self, cut: Cut, i: int) -> bytes:
        name = cut.module.name
        if self.last is None or self.last[0] != name:
            self.last = name, self._made(cut)
        values = self.last[1][i]
        dtype = DTYPES[self.adapter.file.entries[(cut.module.a, cut.module.b)[i]].dtype]
        written = values.to(dtype)
        if not written.isfinite().all():
            raise UserError(f"{name}: its factors are too large for {dtype}; nothing is written")
        return to_bytes(written)

    def _made(self, cut: Cut) -> tuple[Tensor, Tensor]:
        """A (rank, n) and B (m, rank)."""
        name = cut.module.name
        if cut.whole:
            stored = self.adapter.factors(name)
            a, b = stored.a, stored.b
        else:
            found = self.adapter.components(name)
            a, b = found.rescaled(cut.scaling).factors([i for i in cut.kept if i < len(found)])
        more = cut.rank - len(a)
        return torch.cat([a, a.new_zeros(more, a.shape[1])]), torch.cat([b, b.new_zeros(len(b), more)], 1)


def _plain(number: float) -> float:
    return int(number) if float(number).is_integer() else number
