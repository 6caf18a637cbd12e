"""How what a method has trained is put into a pretrained model by hand, as a model card shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Loading:
    """Python that puts what a method has trained into a pretrained model, with ``adapter`` and ``model`` there.

    Args:
        library: What the hub is told to load it with.
        base: An expression for the name of the pretrained model.
        lines: That change ``model``.
        imports: Lines.
        begin: Lines before anything is loaded.
    """

    library: str
    base: str
    lines: tuple[str, ...]
    imports: tuple[str, ...] = ()
    begin: tuple[str, ...] = ()
