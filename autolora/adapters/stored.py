"""An adapter as it lies on disk, without its model, read one layer at a time: ``StoredAdapter.open(path)``.

| symbol | meaning | shape |
|---|---|---|
| A, B | factors of a module; what a convolution or an embedding has is brought into these shapes | (k, n), (m, k) |
| k | its rank | int |
| s | its scaling, α / k, or α / √k of a rank-stabilised LoRA | float |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from autolora.adapters.folder import find_adapter
from autolora.adapters.settings import check_settings
from autolora.adapters.tensors import Entry, TensorFile
from autolora.allocation.components import Components, Factors, decompose, spectrum
from autolora.errors import RunError, UserError
from autolora.lora.stored import CONFIG, TENSORS, WRAPPED, in_pattern, read_config, scaling_of

# The ends of a module's two factors in PEFT's file.
KINDS = {"linear": (".lora_A.weight", ".lora_B.weight"), "embedding": (".lora_embedding_A", ".lora_embedding_B")}
BESIDE_FACTORS = (".lora_magnitude_vector", ".lora_B.bias")  # of DoRA, of lora_bias
T = TypeVar("T")
BASE = "base_layer."  # in front of what a module has of its own, as long as it is wrapped


@dataclass(frozen=True)
class Module:
    """A module with LoRA.

    Args:
        name: Its full name in the model.
        kind: "linear" (Conv1D, and convolutions, too) or "embedding".
        a: A's name in the file.
        b: B's.
        rank: k.
        scaling: s.
        shape: (n, m).
        pinned: Whether it has something that only a module with LoRA may have, so that it must keep a component.
    """

    name: str
    kind: str
    a: str
    b: str
    rank: int
    scaling: float
    shape: tuple[int, int]
    pinned: bool

    @property
    def cost(self) -> int:
        """Parameters of one component, n + m."""
        return sum(self.shape)


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter in PEFT's format.

    Args:
        folder: Its own.
        config: The content of adapter_config.json.
        file: Its tensors.
        modules: Those with LoRA by full name, in the file's order.
        others: Names of all other tensors.
    """

    folder: Path
    config: Mapping[str, Any]
    file: TensorFile
    modules: Mapping[str, Module]
    others: tuple[str, ...]

    @classmethod
    def open(cls, path: str | Path) -> StoredAdapter:
        """The adapter in a folder, or of a run.

        Args:
            path: A folder with adapter_config.json, or a run's.

        Raises:
            UserError: There is none, it is damaged, or of a kind that cannot be read without its model.
        """
        folder = find_adapter(Path(path))
        config = read_config(folder)
        check_settings(folder / CONFIG, config)
        file = TensorFile(folder / TENSORS)
        others = tuple(name for name in file.entries if _kind(name) is None)
        modules = {each.name: each for each in _modules(config, file, others)}
        if not modules:
            raise UserError(f"{file.path} has no LoRA in it: there is nothing to compress")
        _check_ties(folder, config, modules)
        return cls(folder, config, file, modules, others)

    @property
    def parameters(self) -> int:
        """Of all factors, Σ k (n + m)."""
        return sum(each.rank * each.cost for each in self.modules.values())

    @property
    def costs(self) -> dict[str, int]:
        """Parameters of one component, n + m, by module."""
        return {name: each.cost for name, each in self.modules.items()}

    def factors(self, name: str) -> Factors:
        """What a module adds to its frozen weight, as it is stored.

        Args:
            name: The module's full name.
        """
        module = self.modules[name]
        a, b = self.file.read(module.a), self.file.read(module.b)
        return Factors(_flat(a), b.reshape(len(b), -1), module.scaling)

    def components(self, name: str) -> Components:
        """The singular components of a module's update.

        Args:
            name: The module's full name.

        Raises:
            UserError: It has values that are not finite.
        """
        return self._decomposed(name, decompose)

    def spectrum(self, name: str) -> Tensor:
        """Their singular values alone, σ.

        Args:
            name: The module's full name.

        Raises:
            UserError: It has values that are not finite.
        """
        return self._decomposed(name, spectrum)

    def _decomposed(self, name: str, by: Callable[[Factors], T]) -> T:
        try:
            return by(self.factors(name))
        except RunError:
            raise UserError(
                f"{self.file.path}: {name} has values that are not finite; the training that made it has diverged"
            ) from None


def _flat(a: Tensor) -> Tensor:
    return a.reshape(len(a), -1)


def _kind(tensor: str) -> str | None:
    """What kind of module a tensor is a factor of; None: it is none."""
    return next((kind for kind, ends in KINDS.items() if tensor.endswith(ends)), None)


def _modules(config: Mapping[str, Any], file: TensorFile, others: tuple[str, ...]) -> Iterator[Module]:
    rank_of = in_pattern(config, "rank_pattern", config["r"])
    alpha_of = in_pattern(config, "alpha_pattern", config["lora_alpha"])
    names = dict.fromkeys(_module_name(tensor, file.path) for tensor in file.entries if _kind(tensor))
    pinned = _owners(others, names, file.path, lora_only=config.get("bias") == "lora_only")
    for name in names:
        kind, a, b = _factor_names(name, file)
        rank, shape = _sizes(name, file.entries[a], file.entries[b], file.path)
        said = rank_of(name)
        if said != rank:
            raise UserError(
                f"{file.path}: {name} has rank {rank}, and {CONFIG} says {str(said)[:40]}; have it sent anew"
            )
        scaling = scaling_of(config, rank, alpha_of(name))
        yield Module(name, kind, a, b, rank, scaling, shape, name in pinned)


def _module_name(tensor: str, path: Path) -> str:
    if not tensor.startswith(WRAPPED):
        raise UserError(
            f"{path}: {tensor} is no name of PEFT's, which all begin with {WRAPPED}; save it with PEFT anew"
        )
    kind = _kind(tensor)
    name = tensor.removeprefix(WRAPPED)
    for end in KINDS[str(kind)]:
        name = name.removesuffix(end)
    if ".experts." in f".{name}." or f".{BASE}" in f"{name}.":
        raise UserError(
            f"{path}: {name} is LoRA on experts, whose weights transformers stacks, so that all of them must keep one "
            "rank; this cannot be compressed; merge it into its model with PEFT's merge_and_unload() and go on from "
            "there"
        )
    return name


def _factor_names(name: str, file: TensorFile) -> tuple[str, str, str]:
    found = [
        (kind, WRAPPED + name + a, WRAPPED + name + b)
        for kind, (a, b) in KINDS.items()
        if {WRAPPED + name + a, WRAPPED + name + b} & file.entries.keys()
    ]
    if len(found) != 1 or not set(found[0][1:]) <= file.entries.keys():
        raise UserError(f"{file.path}: {name} has not both of its factors, lora_A and lora_B; have it sent anew")
    return found[0]


def _sizes(name: str, a: Entry, b: Entry, path: Path) -> tuple[int, tuple[int, int]]:
    """The rank and (n, m)."""
    plain = len(a.shape) >= 2 and len(b.shape) == len(a.shape) and math.prod(b.shape[2:]) == 1
    if not plain or a.shape[0] < 1 or not a.numbers or not b.numbers:
        raise UserError(f"{path}: {name} has factors of the shapes {a.shape} and {b.shape}, which are those of no LoRA")
    if b.shape[1] != a.shape[0]:
        raise UserError(
            f"{path}: {name} has factors of the shapes {a.shape} and {b.shape}: those of a convolution in groups, or "
            "damaged; this cannot be compressed"
        )
    return a.shape[0], (a.numbers // a.shape[0], b.shape[0])


def _owners(others: tuple[str, ...], names: Mapping[str, None], path: Path, *, lora_only: bool) -> set[str]:
    """The modules with LoRA that other tensors belong to, so that they have to stay such modules."""
    found = set()
    for tensor in others:
        if ".lora_" in tensor and not tensor.endswith(BESIDE_FACTORS):
            raise UserError(
                f"{path}: {tensor} is of a kind that this version of autolora does not know; save the adapter with "
                "PEFT's save_pretrained(…), or leave it as it is"
            )
        owner = _owner(tensor.removeprefix(WRAPPED), names)
        if owner is not None and (lora_only or not tensor.removeprefix(f"{WRAPPED}{owner}.").startswith(BASE)):
            found.add(owner)
    return found


def _owner(tensor: str, names: Mapping[str, None]) -> str | None:
    parts = tensor.split(".")
    return next((name for i in range(len(parts) - 1, 0, -1) if (name := ".".join(parts[:i])) in names), None)


def _check_ties(folder: Path, config: Mapping[str, Any], modules: Mapping[str, Module]) -> None:
    embedded = [each.name for each in modules.values() if each.kind == "embedding"]
    if config.get("ensure_weight_tying") and embedded:
        raise UserError(
            f"{folder / CONFIG}: ensure_weight_tying makes PEFT give the output layer the factors of {embedded[0]}; "
            "the two would be cut down apart; this cannot be compressed"
        )
